"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const at = (id) => document.getElementById(id);
  const data = JSON.parse(at("data").textContent);
  document.documentElement.classList.add("scripted");

  // What stands on the page: made of text nodes alone, since tokens may hold anything.

  const made = (name, attributes = {}, ...inside) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...inside);
    return element;
  };
  const drawn = (name, attributes = {}, text = null) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== null) element.textContent = text;
    return element;
  };
  const isolated = (text) => made("bdi", {}, text);
  const digits = (value) => (value === 0 ? "0" : value >= 0.001 ? value.toFixed(3) : value.toExponential(1));

  // Arrow keys move among things of which one can be reached by Tab.

  const roving = (items, columns, moved) => {
    const go = (to) => {
      if (!items[to]) return;
      items.forEach((item) => (item.tabIndex = -1));
      items[to].tabIndex = 0;
      items[to].focus();
    };
    items.forEach((item, place) => {
      item.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
        const end = { Home: 0, End: items.length - 1 }[event.key];
        if (step === undefined && end === undefined) return;
        event.preventDefault();
        go(end ?? place + step);
      });
      item.addEventListener("focus", () => moved(item));
      item.addEventListener("mouseenter", () => moved(item));
    });
  };

  // Tokens and the lens: what is likely there.

  const say = (readout, item) => {
    if (!readout) return;
    readout.replaceChildren(made("strong", {}, isolated(item.dataset.what)));
    for (const [token, probability] of JSON.parse(item.dataset.top)) {
      readout.append("  ", made("span", { class: "token" }, isolated(token)), ` ${probability}`);
    }
  };
  const tokens = [...document.querySelectorAll(".tokens .peek")];
  document.querySelectorAll(".tokens").forEach((list) => {
    const own = [...list.querySelectorAll(".peek")];
    roving(own, 1, (item) => say(at("after"), item));
  });
  document.querySelectorAll(".grid").forEach((grid) => {
    const cells = [...grid.querySelectorAll(".peek")];
    roving(cells, grid.querySelectorAll("thead th").length - 1, (item) => say(at("lens-readout"), item));
  });

  if (!data.attentions) return;

  // Weights: bytes between 0 and the end of their scale, of which the first column has its own.

  const bytesOf = async (text) => {
    const packed = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };
  const blocks = (given) => (Array.isArray(given) ? given : Array.from({ length: given }, (_, place) => [place, place]));
  const ready = async (maps) => {
    if (!maps.bytes) {
      maps.bytes ??= bytesOf(maps.values);
      maps.rows = blocks(maps.queries);
      maps.columns = blocks(maps.keys);
    }
    const bytes = await maps.bytes;
    maps.steps ??= maps.causal ? spread(maps, bytes) : bytes;
    return maps;
  };
  const ahead = (maps, row, column) => maps.causal && maps.columns[column][0] > maps.rows[row][1];
  const spread = (maps, bytes) => {
    const [heads, rows, columns] = [maps.heads.length, maps.rows.length, maps.columns.length];
    const steps = new Uint8Array(heads * rows * columns);
    let from = 0;
    for (let column = 0; column < heads * columns; column++)
      for (let row = 0; row < rows; row++)
        if (!ahead(maps, row, column % columns)) steps[column * rows + row] = bytes[from++];
    return steps;
  };
  const signed = async (vectors) => {
    vectors.steps ??= new Int8Array((await bytesOf(vectors.values)).buffer);
    return vectors;
  };

  const state = { attention: null, head: 0, row: 0, column: null, view: "matrix" };

  // One head as it is shown: which weights, and what is hidden or weighed of them.

  const shown = async () => {
    const attention = state.attention;
    await ready(attention.maps);
    const whole = attention.whole && attention.whole.heads[0] === attention.maps.heads[state.head];
    const maps = whole ? await ready(attention.whole) : attention.maps;
    const head = whole ? 0 : state.head;
    const [rows, columns] = [maps.rows.length, maps.columns.length];
    const special = new Set(data.texts[attention.texts[1]].special);
    const pooled = maps.columns.some(([first, last]) => first !== last);
    const hidden = maps.columns.map(
      ([first, last]) =>
        (at("hide-first").checked && first === 0) ||
        (at("hide-special").checked && first === last && special.has(first)),
    );
    at("valued").disabled = pooled || !attention.lengths.length || attention.shared[state.head] < 0;
    const lengths = at("valued").checked && !at("valued").disabled ? attention.lengths[attention.shared[state.head]] : null;
    const begin = head * rows * columns;
    const steps = maps.steps.subarray(begin, begin + rows * columns);
    const weight = (row, column) => {
      const weight = (steps[column * rows + row] / 255) * (column === 0 ? maps.first[head] : maps.rest[head]);
      return lengths ? weight * lengths[maps.columns[column][0]] : weight;
    };
    const ends = [maps.first[head], maps.rest[head]];
    if (lengths) {
      ends.fill(0);
      for (let row = 0; row < rows; row++)
        for (let column = 0; column < columns; column++)
          if (!hidden[column]) ends[column ? 1 : 0] = Math.max(ends[column ? 1 : 0], weight(row, column));
    }
    return { attention, maps, rows, columns, hidden, weight, lengths, ends };
  };

  // Colours: viridis by its own points, even between them; 256 different ones, so that a pixel tells its step: the fifth
  // point is one off for that.

  const POINTS = [
    [68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [37, 131, 142],
    [31, 158, 137], [53, 183, 121], [109, 205, 89], [180, 222, 44], [253, 231, 37],
  ];
  const COLOURS = Array.from({ length: 256 }, (_, step) => {
    const place = (step / 255) * (POINTS.length - 1);
    const low = Math.min(Math.floor(place), POINTS.length - 2);
    return POINTS[low].map((value, part) => Math.round(value + (POINTS[low + 1][part] - value) * (place - low)));
  });
  const stepOf = (value, end, scale) => {
    if (!end) return 0;
    const part = scale === "log" ? 1 + Math.log(Math.max(value / end, 1 / 255)) / Math.log(255) : value / end;
    return Math.round(Math.min(1, Math.max(0, part)) * 255);
  };

  const paint = (canvas, rows, columns, size, colour) => {
    canvas.width = columns * size;
    canvas.height = rows * size;
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    for (let row = 0; row < rows; row++)
      for (let column = 0; column < columns; column++) {
        const found = colour(row, column);
        if (!found) continue;
        for (let y = row * size; y < (row + 1) * size; y++)
          for (let x = column * size; x < (column + 1) * size; x++) {
            const place = 4 * (y * canvas.width + x);
            image.data.set(found, place);
            image.data[place + 3] = 255;
          }
      }
    context.putImageData(image, 0, 0);
  };

  const colouring = (seen) => {
    const scale = at("scale").value;
    const most = Math.max(...seen.ends);
    const ends = scale === "own" ? seen.ends : seen.lengths ? [most, most] : [1, 1];
    return (row, column) => {
      if (seen.hidden[column] || ahead(seen.maps, row, column)) return null;
      return COLOURS[stepOf(seen.weight(row, column), ends[column ? 1 : 0], scale)];
    };
  };

  // Names of rows and columns.

  const name = (attention, side, [first, last]) => {
    const own = data.texts[attention.texts[side]].tokens;
    if (first !== last) return `${first}–${last}`;
    return first < own.length ? `${first} ${own[first]}` : `${first}`;
  };
  const cut = (text, most) => ([...text].length > most ? [...text].slice(0, most - 1).join("") + "…" : text);

  // The readout: the weight, or what the query looks at most.

  const readout = (seen) => {
    const [row, column] = [state.row, state.column];
    const query = name(seen.attention, 0, seen.maps.rows[row]);
    const line = [made("strong", {}, "query ", isolated(query))];
    if (column !== null) {
      const key = name(seen.attention, 1, seen.maps.columns[column]);
      line.push(" → key ", isolated(key), `: ${digits(seen.weight(row, column))}`);
      if (seen.lengths) line.push(" × its value's length");
    }
    const order = Array.from({ length: seen.columns }, (_, place) => place)
      .filter((place) => !seen.hidden[place] && seen.weight(row, place) > 0)
      .sort((one, other) => seen.weight(row, other) - seen.weight(row, one));
    line.push(made("span", { class: "dim" }, "   strongest: "));
    for (const place of order.slice(0, 4)) {
      line.push(isolated(name(seen.attention, 1, seen.maps.columns[place])), ` ${digits(seen.weight(row, place))}  `);
    }
    at("readout").replaceChildren(...line);
    for (const token of tokens) {
      const [text, index] = [Number(token.dataset.text), Number(token.dataset.token)];
      const within = ([first, last], side) => text === seen.attention.texts[side] && first <= index && index <= last;
      token.classList.toggle(
        "on",
        within(seen.maps.rows[row], 0) || (column !== null && within(seen.maps.columns[column], 1)),
      );
    }
  };

  // The matrix.

  const drawMatrix = (seen) => {
    const size = Math.max(1, Math.min(26, Math.floor(620 / Math.max(seen.rows, seen.columns))));
    const named = size >= 11;
    const canvas = made("canvas", { tabindex: "0", role: "img", "aria-describedby": "readout" });
    canvas.setAttribute("aria-label", `${at("head-title").textContent}: ${seen.rows} by ${seen.columns} weights; arrow keys move`);
    paint(canvas, seen.rows, seen.columns, size, colouring(seen));
    const over = drawn("svg", { width: canvas.width, height: canvas.height, "aria-hidden": "true" });
    const ring = drawn("rect", { width: size, height: size });
    over.append(ring);
    const [side, height] = named ? [130, 96] : [0, 0];
    const top = drawn("svg", { width: canvas.width + 70, height, "aria-hidden": "true" });
    const left = drawn("svg", { width: side, height: canvas.height, "aria-hidden": "true" });
    const label = (place) => (place + 0.5) * size + 4;
    const columnNames = named ? seen.maps.columns.map((block, place) => {
      const turn = `translate(${label(place)} ${height - 4}) rotate(-55)`;
      return drawn("text", { transform: turn }, cut(name(seen.attention, 1, block), 14));
    }) : [];
    const rowNames = named ? seen.maps.rows.map((block, place) =>
      drawn("text", { x: side - 6, y: label(place), "text-anchor": "end" }, cut(name(seen.attention, 0, block), 16)),
    ) : [];
    top.append(...columnNames);
    left.append(...rowNames);
    const mark = () => {
      ring.setAttribute("x", (state.column ?? 0) * size);
      ring.setAttribute("y", state.row * size);
      ring.setAttribute("width", state.column === null ? canvas.width : size);
      rowNames.forEach((each, place) => each.classList.toggle("on", place === state.row));
      columnNames.forEach((each, place) => each.classList.toggle("on", place === state.column));
      readout(seen);
    };
    const move = (row, column) => {
      state.row = Math.max(0, Math.min(seen.rows - 1, row));
      state.column = Math.max(0, Math.min(seen.columns - 1, column));
      mark();
    };
    canvas.addEventListener("mousemove", (event) => move(Math.floor(event.offsetY / size), Math.floor(event.offsetX / size)));
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      move(state.row + step[0], state.column === null ? 0 : state.column + step[1]);
    });
    const cells = made("div", { class: "cells" }, canvas, over);
    at("view-matrix").replaceChildren(
      made("div", { class: "matrix" }, made("div"), top, left, cells),
      legend(seen),
    );
    mark();
  };

  const legend = (seen) => {
    const scale = at("scale").value;
    const strip = made("canvas", { class: "scale", role: "img", "aria-label": "colours from 0 to the most" });
    paint(strip, 1, 256, 1, (_, column) => COLOURS[column]);
    const most = Math.max(...seen.ends);
    const what = seen.lengths ? "weight × length of the value" : "weight";
    const ends = scale === "own"
      ? `${what}, 0 to ${digits(seen.ends[1])}; in the first column 0 to ${digits(seen.ends[0])}`
      : `${what}, ${scale === "log" ? "logarithmic from 1/255 of it" : "0"} to ${seen.lengths ? digits(most) : 1}`;
    return made("p", { class: "dim" }, strip, ` ${ends}`);
  };

  // Lines between two columns of words.

  const LINES = 96; // queries beyond which only the one that is pointed at has lines

  const drawLines = (seen) => {
    const [width, height] = [560, 20];
    const count = Math.max(seen.rows, seen.columns);
    const svg = drawn("svg", { width, height: count * height + 8, role: "img" });
    svg.setAttribute("aria-label", `${at("head-title").textContent}: lines from queries on the left to keys on the right; arrow keys move`);
    const links = drawn("g");
    const y = (place) => place * height + 16;
    const queries = seen.maps.rows.map((block, place) =>
      drawn("text", { x: 200, y: y(place), "text-anchor": "end" }, cut(name(seen.attention, 0, block), 22)),
    );
    const keys = seen.maps.columns.map((block, place) =>
      drawn("text", { x: 360, y: y(place), class: seen.hidden[place] ? "faint" : "" }, cut(name(seen.attention, 1, block), 22)),
    );
    const mark = () => {
      const lines = [];
      for (let row = 0; row < seen.rows; row++) {
        if (row !== state.row && state.column === null && count > LINES) continue;
        for (let column = 0; column < seen.columns; column++) {
          const part = seen.hidden[column] ? 0 : seen.weight(row, column) / (seen.lengths ? Math.max(...seen.ends) : 1);
          const chosen = state.column === null ? row === state.row : column === state.column;
          if (part < 0.02 || (count > LINES && !chosen)) continue;
          const opacity = chosen ? Math.max(0.15, part) : part * 0.25;
          lines.push(drawn("line", {
            x1: 206, y1: y(row) - 4, x2: 354, y2: y(column) - 4,
            "stroke-opacity": opacity.toFixed(3), "stroke-width": chosen ? 2 : 1,
          }));
        }
      }
      links.replaceChildren(...lines);
      queries.forEach((each, place) => each.classList.toggle("on", state.column === null && place === state.row));
      keys.forEach((each, place) => each.classList.toggle("on", place === state.column));
      readout(seen);
    };
    const listen = (text, change) => text.addEventListener("mouseenter", () => (change(), mark()));
    queries.forEach((each, place) => listen(each, () => ([state.row, state.column] = [place, null])));
    keys.forEach((each, place) => listen(each, () => (state.column = place)));
    svg.append(links, ...queries, ...keys);
    svg.setAttribute("tabindex", "0");
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowUp: -1, ArrowDown: 1, ArrowLeft: 0, ArrowRight: 0 }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      if (event.key === "ArrowLeft") state.column = null;
      else if (event.key === "ArrowRight") state.column ??= Math.min(state.row, seen.columns - 1);
      else if (state.column === null) state.row = Math.max(0, Math.min(seen.rows - 1, state.row + step));
      else state.column = Math.max(0, Math.min(seen.columns - 1, state.column + step));
      mark();
    });
    at("view-lines").replaceChildren(svg);
    mark();
  };

  // A query and a key, number by number.

  const vector = (vectors, head, position) => {
    const length = vectors.steps.length / vectors.heads.length;
    const begin = head * length + position * vectors.size;
    const end = vectors.largest[head] / 127;
    return Array.from(vectors.steps.subarray(begin, begin + vectors.size), (step) => step * end);
  };

  const drawPair = async (seen) => {
    const { q, k, shared, maps } = seen.attention;
    const place = q ? q.heads.indexOf(maps.heads[state.head]) : -1;
    const [row, column] = [state.row, state.column ?? state.row];
    const [query, key] = [seen.maps.rows[row], seen.maps.columns[Math.min(column, seen.columns - 1)]];
    const missing = place < 0 || !k || shared[state.head] < 0 || shared[state.head] >= k.heads.length;
    if (missing || query[0] !== query[1] || key[0] !== key[1]) {
      at("view-pair").replaceChildren(made("p", { class: "dim" }, missing
        ? `The queries and keys of this head are not on this page: ask for it by --layer ${seen.attention.layer} --head ${maps.heads[state.head]}.`
        : "Each point here stands for several queries or keys: ask for fewer tokens, by --max-tokens."));
      readout(seen);
      return;
    }
    await Promise.all([signed(q), signed(k)]);
    const products = vector(q, place, query[0]).map((value, index) => value * vector(k, shared[state.head], key[0])[index]);
    const most = Math.max(...products.map(Math.abs), 1e-30);
    const [bar, half] = [Math.max(3, Math.min(12, Math.floor(760 / products.length))), 70];
    const svg = drawn("svg", { class: "dims", width: products.length * bar + 8, height: 2 * half + 24, role: "img" });
    const sum = products.reduce((one, other) => one + other, 0);
    svg.setAttribute("aria-label", `products of a query and a key by dimension; their sum is ${sum.toFixed(3)}`);
    svg.append(drawn("line", { x1: 0, x2: products.length * bar, y1: half, y2: half }));
    products.forEach((value, index) => {
      const tall = (Math.abs(value) / most) * (half - 4);
      const rect = drawn("rect", {
        x: index * bar, width: bar - 1, y: value < 0 ? half : half - tall, height: tall, class: value < 0 ? "minus" : "",
      });
      rect.append(drawn("title", {}, `dimension ${index}: ${value.toFixed(3)}`));
      svg.append(rect);
    });
    svg.append(drawn("text", { x: 0, y: 2 * half + 18, class: "faint" }, "dimension →"));
    at("view-pair").replaceChildren(
      made("p", {}, "q of ", isolated(name(seen.attention, 0, query)), " times k of ", isolated(name(seen.attention, 1, key)),
        `, dimension by dimension; the sum is ${sum.toFixed(3)}, before it is scaled and masked`),
      svg,
      made("p", { class: "dim" }, "Point at another pair in the matrix."),
    );
    readout(seen);
  };

  // What changes redraws the head.

  const draw = async () => {
    const { attention, head } = state;
    const labels = attention.labels[head].join(", ");
    const ran = attention.run > 1 ? ` run ${attention.run}` : "";
    at("head-title").textContent = `layer ${attention.layer}${ran}, head ${attention.maps.heads[head]}${labels ? `: ${labels}` : ""}`;
    const seen = await shown();
    if (attention !== state.attention || head !== state.head) return;
    state.row = Math.min(state.row, seen.rows - 1);
    if (state.column !== null) state.column = Math.min(state.column, seen.columns - 1);
    await { matrix: drawMatrix, lines: drawLines, pair: drawPair }[state.view](seen);
  };

  // Thumbnails: the largest of each square, drawn when they come into sight.

  const MOST = 44;
  const drawThumbs = async (attention, canvases) => {
    const maps = await ready(attention.maps);
    const [rows, columns] = [maps.rows.length, maps.columns.length];
    const fold = Math.max(1, Math.ceil(Math.max(rows, columns) / MOST));
    const [high, wide] = [Math.ceil(rows / fold), Math.ceil(columns / fold)];
    canvases.forEach((canvas, head) => {
      const begin = head * rows * columns;
      paint(canvas, high, wide, 1, (y, x) => {
        let most = -1;
        for (let row = y * fold; row < Math.min(rows, (y + 1) * fold); row++)
          for (let column = x * fold; column < Math.min(columns, (x + 1) * fold); column++)
            if (!ahead(maps, row, column))
              most = Math.max(most, maps.steps[begin + column * rows + row]);
        return most < 0 ? null : COLOURS[most];
      });
    });
  };

  const drawHeads = () => {
    const group = Number(at("group").value);
    const own = data.attentions.filter((attention) => attention.group === group);
    const waiting = new Map();
    const seen = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting || !waiting.has(entry.target)) continue;
        waiting.get(entry.target)();
        waiting.delete(entry.target);
      }
    }, { root: at("heads"), rootMargin: "200px" });
    const table = made("table");
    const buttons = [];
    const wide = Math.max(...own.map((attention) => attention.maps.heads.length));
    for (const attention of own) {
      const row = made("tr", {}, made("th", { scope: "row" }, `${attention.layer}${attention.run > 1 ? `#${attention.run}` : ""}`));
      const canvases = attention.maps.heads.map((number, head) => {
        const labels = attention.labels[head];
        const canvas = made("canvas", { "aria-hidden": "true", width: 1, height: 1 });
        const title = `layer ${attention.layer} head ${number}${labels.length ? `, ${labels.join(", ")}` : ""}`;
        const button = made("button", { type: "button", class: "thumb", title, "aria-label": title, "aria-pressed": "false", tabindex: "-1" },
          canvas, `${number}${labels.length ? ` ${labels[0][0]}` : ""}`);
        button.addEventListener("click", () => choose(attention, head, button, buttons));
        row.append(made("td", {}, button));
        buttons.push(button);
        return canvas;
      });
      waiting.set(row, () => drawThumbs(attention, canvases));
      seen.observe(row);
      table.append(row);
    }
    at("heads").replaceChildren(table);
    roving(buttons, wide, () => {});
    choose(own[0], 0, buttons[0], buttons);
  };

  const choose = (attention, head, button, buttons) => {
    buttons.forEach((each) => ((each.tabIndex = -1), each.setAttribute("aria-pressed", "false")));
    button.tabIndex = 0;
    button.setAttribute("aria-pressed", "true");
    if (state.attention?.group !== attention.group) [state.row, state.column] = [Infinity, null];
    Object.assign(state, { attention, head });
    draw();
  };

  // Tabs.

  const views = ["matrix", "lines", "pair"];
  const tabs = views.map((view) => at(`tab-${view}`));
  tabs.forEach((tab, place) => {
    const choose = (to) => {
      state.view = views[to];
      tabs.forEach((each, other) => {
        each.setAttribute("aria-selected", other === to);
        each.tabIndex = other === to ? 0 : -1;
        at(`view-${views[other]}`).hidden = other !== to;
      });
      tabs[to].focus();
      draw();
    };
    tab.addEventListener("click", () => choose(place));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: views.length - 1 }[event.key];
      if (step) choose((place + step) % views.length);
    });
  });
  at("group").addEventListener("change", drawHeads);
  for (const id of ["scale", "hide-first", "hide-special", "valued"]) at(id).addEventListener("change", draw);
  tokens.forEach((token) =>
    token.addEventListener("click", () => {
      if (Number(token.dataset.text) !== state.attention.texts[0]) return;
      const index = Number(token.dataset.token);
      const row = state.attention.maps.rows.findIndex(([first, last]) => first <= index && index <= last);
      if (row >= 0) [state.row, state.column] = [row, null];
      draw();
    }),
  );
  drawHeads();
})();
