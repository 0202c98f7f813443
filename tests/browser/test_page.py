"""Pages in headless Chromium with the network off: what is drawn is what plain transformers computes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

from tests.making import kinds, pages
from tests.making.browser import Browser, started
from tests.making.models import save_tiny
from txinspect import AttnQuery, ModelChoice, PageQuery
from txinspect.inspecting import inspect_for_page
from txinspect.render.page import Asked, page

pytestmark = pytest.mark.browser

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
    content = page(getattr(report, "reports", [report]), packed, Asked("as asked", report.command))
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
    """A page of two queries of two of a llama's heads, with queries that share keys."""
    folder = tmp_path_factory.mktemp("llama")
    save_tiny("llama", folder / "model")
    query = AttnQuery(
        model=ModelChoice(name=str(folder / "model")), text=pages.HOSTILE, layer=1, heads=(1, 2), queries=(7, -1)
    )
    return made(folder, AutoModelForCausalLM, query)


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
                if max(len(rows), len(columns)) <= FOLDED:
                    hold(browser.thumb(place, len(rows), len(columns)), expected, ends)
                place += 1
        assert place == len(browser.all(".thumb"))


def hold(steps: pages.Array, expected: pages.Array, ends: pages.Array) -> None:
    """Steps of a scale are the weights within half a step; what is blank has none, and is beyond the query."""
    assert not expected[steps < 0].any()
    assert (np.abs(np.maximum(steps, 0) / 255 * ends - expected) <= ends / 510 + FLOAT).all()
    ahead = np.triu(np.ones(steps.shape, bool), 1)
    blank = bool((steps < 0).any())
    assert not blank or ((steps < 0) <= ahead).all() or steps.shape[0] != steps.shape[1]
    assert blank or expected[ahead[: expected.shape[0]]].any() or steps.shape[0] != steps.shape[1]


def head(page: Made, place: int = 0, layer: int = 0) -> tuple[Any, pages.Array, pages.Array]:
    """An attention of a page, the plain weights of one of its heads, and the ends of its scales."""
    each = page.data["attentions"][layer]
    return each, page.plain[0][layer][each["maps"]["heads"][place]], pages.ends(each["maps"])[place][0]


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
        "return [...document.querySelectorAll('#view-lines line')].filter((each) => each.getAttribute('stroke-width') > 1)"
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
        assert (
            browser.one("#view-pair svg")
            .get_attribute("aria-label")
            .endswith(said.split("the sum is ")[1].split(",")[0])
        )


def test_tokens_are_letters(browser: Browser, tmp_path: Path) -> None:
    """Words of a vocabulary, and a model's name, that would end a script, run one, or turn what is written around."""
    from transformers import AutoTokenizer

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
