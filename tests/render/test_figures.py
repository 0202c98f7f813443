"""Figures for a paper: their numbers are the report's, their words are words, and they fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.text import Text
from msgspec import structs

from tests.making import reports
from txinspect import AttnQuery, DiffQuery, HeadsQuery, LensQuery, LogitsQuery, ParamsQuery, inspect
from txinspect.commands.attn import AttnReport, AttnView
from txinspect.commands.heads import HeadsReport
from txinspect.commands.lens import LensReport
from txinspect.model_choice import ModelChoice
from txinspect.records import Report
from txinspect.render import figures
from txinspect.render.figures import paper
from txinspect.render.figures.paper import COLUMN, PAGE, TALLEST

pytestmark = pytest.mark.screens

MADE: dict[str, Callable[[], Report]] = {
    "attn": reports.attention_report,
    "cross": reports.cross_report,
    "heads": reports.heads_report,
    "lens": reports.lens_report,
    "logits": reports.logits_report,
    "masked": reports.masked_report,
    "labels": reports.labels_report,
    "diff": reports.diff_report,
    "params": lambda: reports.params_report([reports.measured("layers.0.fc1.weight", 4, 4)]),
    "flawed": reports.flawed_params,
    "many": reports.many_params,
    "compared": reports.compared_params,
}


def meshes(figure: Figure) -> list[QuadMesh]:
    """The maps of a figure, without the colour bar."""
    found = [each for axes in figure.axes for each in axes.collections if isinstance(each, QuadMesh)]
    return [each for each in found if each.axes is not None and each.axes.get_label() != "<colorbar>"]


def numbers(mesh: QuadMesh) -> np.ndarray[Any, Any]:
    """A map's numbers; NaN where it is blank."""
    return np.ma.filled(np.ma.asarray(mesh.get_array(), dtype=float), np.nan)


def words(figure: Figure) -> list[str]:
    """What a figure says."""
    return [each.get_text() for each in figure.findobj(Text) if each.get_text() and each.get_visible()]


def test_a_command_that_has_a_figure_has_a_file_for_it() -> None:
    files = {path.stem for path in Path(figures.__file__).parent.glob("*.py")}
    assert files == {*figures.FIGURES, "paper", "__init__"}


def check_it_fits(figure: Figure) -> None:
    """Hold that nothing reaches over the edges of a figure, and that all can be read."""
    width, height = figure.get_size_inches()
    assert width in (COLUMN, PAGE)
    assert height <= TALLEST
    with paper.style():
        figure.draw_without_rendering()
        drawn = figure.get_tightbbox()  # in inches
    assert min(drawn.x0, drawn.y0, width - drawn.x1, height - drawn.y1) > -0.02
    assert min(float(each.get_fontsize()) for each in figure.findobj(Text) if isinstance(each, Text)) >= 6


@pytest.mark.parametrize("name", MADE)
def test_it_fits(name: str) -> None:
    check_it_fits(figures.drawn(MADE[name]()))


def many_heads(layers: int, heads: int) -> HeadsReport:
    report = reports.heads_report()
    made = [
        structs.replace(report.heads[0], layer=layer, head=head) for layer in range(layers) for head in range(heads)
    ]
    return structs.replace(report, heads=made)


def deep_lens(layers: int, count: int) -> LensReport:
    report = reports.lens_report()
    input = reports.text_input([f" w{number}" for number in range(1, count)])
    cells = [structs.replace(report.rows[0].cells[0], position=position) for position in range(count)]
    rows = [structs.replace(report.rows[0], layer=layer, cells=cells) for layer in range(-1, layers)]
    positions = [structs.replace(report.positions[0], position=position) for position in range(count)]
    return structs.replace(report, input=input, rows=rows, positions=positions)


def all_layers(layers: int, heads: int, words: int) -> AttnReport:
    report = reports.attention_report(reports.text_input([f" w{number}" for number in range(1, words)]), heads=heads)
    made = [structs.replace(head, layer=layer, labels=["first"]) for layer in range(layers) for head in report.heads]
    return structs.replace(report, heads=made, layers=list(range(layers)))


LARGE: dict[str, Callable[[], Report]] = {
    "heads of 12 × 12": lambda: many_heads(12, 12),
    "heads of 48 × 32": lambda: many_heads(48, 32),
    "heads of 80 × 64": lambda: many_heads(80, 64),
    "lens of 80 × 9": lambda: deep_lens(80, 9),
    "lens of 12 × 60": lambda: deep_lens(12, 60),
    "attn of 12 × 12": lambda: all_layers(12, 12, 20),
    "attn of 32 × 32": lambda: all_layers(32, 32, 12),
    "attn of 16 heads": lambda: reports.attention_report(reports.text_input([" word"] * 30), heads=16),
    "attn of long words": lambda: reports.attention_report(
        reports.text_input([" 我爱北京我爱北京", " w" * 40]), heads=3
    ),
}


@pytest.mark.screens
@pytest.mark.parametrize("name", LARGE)
def test_what_is_large_fits(name: str) -> None:
    report = LARGE[name]()
    check_it_fits(figures.drawn(report))
    assert len(figures.figure(report, "pdf")) < 5_000_000


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("kind", ["pdf", "svg", "png"])
def test_the_same_bytes_twice(name: str, kind: figures.Kind) -> None:
    report = MADE[name]()
    before = dict(matplotlib.rcParams)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = figures.figure(report, kind)
    assert made == figures.figure(report, kind)
    assert dict(matplotlib.rcParams) == before


def test_a_persons_own_style_changes_nothing() -> None:
    report = reports.heads_report()
    made = figures.figure(report, "svg")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "text.usetex": True, "svg.fonttype": "path"}):
        assert figures.figure(report, "svg") == made


def test_an_svg_says_its_words_and_names_no_server() -> None:
    made = figures.figure(reports.attention_report(), "svg").decode()
    said = {"".join(each.itertext()) for each in ElementTree.fromstring(made).iter() if each.tag.endswith("text")}
    assert {"␣quick", "layer 0 head 0", "attention weight"} <= said
    addresses = {part.split('"')[0] for part in made.split("http")[1:]}
    assert addresses == {"://www.w3.org/2000/svg", "://www.w3.org/1999/xlink"}


def test_a_pdf_has_letters_and_no_date() -> None:
    made = figures.figure(reports.attention_report(), "pdf")
    assert b"/FontFile2" in made  # TrueType, and not outlines
    assert b"/ToUnicode" in made
    assert b"/Type3" not in made
    assert b"Date" not in made
    assert b"/Creator (txinspect)" in made


ODD = ("$x$", r"$\frac{", "\u202eab", "\x1b[31m", "中", "\U0001f600", "w" * 300, "_^{", "ﷺ", "")


@pytest.mark.parametrize("kind", ["pdf", "svg", "png"])
def test_odd_tokens(kind: figures.Kind, capfd: pytest.CaptureFixture[str]) -> None:
    report = reports.attention_report(reports.text_input(ODD))
    figure = figures.drawn(report, kind)
    said = " ".join(words(figure))
    assert "$x$" in said
    assert not {"\u202e", "\x1b"} & {*said}
    assert ("中" in said) == (kind == "svg")
    assert kind == "svg" or r"\u{4e2d}" in said
    assert max(map(len, said.split())) < 120
    assert figures.figure(report, kind)
    assert capfd.readouterr().err == ""


# Numbers


def test_weights_are_the_reports() -> None:
    report = reports.attention_report()
    for head, mesh in zip(report.heads, meshes(figures.drawn(report)), strict=True):
        wanted = np.array(head.map.weights, dtype=float)
        future = np.triu(np.ones_like(wanted), 1) == 1
        np.testing.assert_array_equal(numbers(mesh), np.where(future, np.nan, wanted))


def test_nothing_is_masked_where_a_query_sees_all() -> None:
    report = reports.cross_report()
    for head, mesh in zip(report.heads, meshes(figures.drawn(report)), strict=True):
        np.testing.assert_array_equal(numbers(mesh), np.array(head.map.weights, dtype=float))


def test_of_a_row_the_largest_is_brightest() -> None:
    for mesh in meshes(figures.drawn(reports.attention_report(), view=AttnView(scale="row"))):
        assert np.nanmax(numbers(mesh), axis=1).tolist() == [1.0] * 5


def test_a_weight_that_is_no_number_is_marked() -> None:
    figure = figures.drawn(reports.attention_report(heads=1, weight=lambda *_: None))
    assert words(figure).count("?") == 15


def test_many_heads_have_small_maps() -> None:
    report = reports.attention_report(heads=20)
    found = meshes(figures.drawn(report))
    assert len(found) == 20
    wanted = np.array(report.heads[7].map.weights, dtype=float)
    np.testing.assert_array_equal(np.nan_to_num(numbers(found[7])), wanted)
    assert "␣quick" not in words(figures.drawn(report))


def test_of_one_query_heads_are_rows() -> None:
    report = reports.attention_report(queries=[3])
    (mesh,) = meshes(figures.drawn(report))
    np.testing.assert_array_equal(numbers(mesh), [head.map.weights[0] for head in report.heads])


def test_kinds_are_the_reports() -> None:
    report = reports.heads_report()
    figure = figures.drawn(report)
    shown = {axes.get_title().partition(" ")[0]: axes for axes in figure.axes if axes.get_title()}
    assert [*shown] == ["induction", "duplicate", "previous", "self", "first", "broad"]
    fields = {"induction": "induction", "previous": "previous", "self": "self_token", "broad": "relative_entropy"}
    for kind, field in fields.items():
        (mesh,) = [each for each in shown[kind].collections if isinstance(each, QuadMesh)]
        wanted = np.array([getattr(head, field) for head in report.heads], dtype=float).reshape(3, 4)
        np.testing.assert_array_equal(numbers(mesh), wanted)
        (dots,) = [each for each in shown[kind].collections if isinstance(each, PathCollection)]
        own = [(head.head + 0.5, head.layer + 0.5) for head in report.heads if kind in head.labels]
        assert [tuple(each) for each in np.asarray(dots.get_offsets())] == own


def test_likeliest_tokens_are_the_reports() -> None:
    report = reports.lens_report()
    figure = figures.drawn(report)
    (mesh,) = meshes(figure)
    wanted = [[cell.top[0].prob for cell in row.cells] for row in report.rows]
    np.testing.assert_array_equal(numbers(mesh), np.array(wanted, dtype=float))
    inside = [text.get_text() for text in figure.axes[0].texts]
    assert inside == [(cell.top[0].text or "").replace(" ", "␣") for row in report.rows for cell in row.cells]


def test_bars_are_the_reports() -> None:
    report = reports.logits_report()
    standing, lying, *_ = figures.drawn(report).axes
    heights = [each.get_height() for each in standing.patches]  # type: ignore[attr-defined]
    known = {each.position + 1: each.surprisal for each in report.predictions if each.next is not None}
    np.testing.assert_array_equal(heights, [known.get(each, np.nan) for each in range(len(heights))])
    (asked,) = [each for each in report.predictions if each.top][-1:]
    listed = [*asked.top, *(each for each in asked.targets if each.id not in {one.id for one in asked.top})]
    lengths = [each.get_width() for each in lying.patches]  # type: ignore[attr-defined]
    assert lengths == [each.prob or 0.0 for each in listed]


def test_distances_are_the_reports() -> None:
    report = reports.diff_report()
    figure = figures.drawn(report)
    lines = {str(line.get_label()): line for line in figure.axes[0].get_lines()}
    wanted = [each.rel_l2 for each in report.stages if each.name.endswith(".output")]
    found = np.asarray(lines["output"].get_ydata(), dtype=float)
    np.testing.assert_array_equal(found, [each or np.nan for each in wanted])
    assert np.asarray(lines["tolerance"].get_ydata()).tolist() == [report.tolerance] * 2
    assert figure.axes[0].get_yscale() == "log"


def test_statistics_are_the_reports() -> None:
    report = inspect(ParamsQuery())
    figure = figures.drawn(report)
    layers, outside = meshes(figure)
    std = {each.name: each.stats.std for each in report.tensors}
    assert layers.axes is not None
    names = [label.get_text() for label in layers.axes.get_yticklabels()]
    for name, row in zip(names, numbers(layers), strict=True):
        end = name.removeprefix("…")
        own = [value for tensor, value in std.items() if ".layers." in tensor and tensor.endswith(f".{end}")]
        own = own or [value for tensor, value in std.items() if ".layers." in tensor and tensor.endswith(end)]
        np.testing.assert_array_equal(row, own)
    assert numbers(outside).ravel().tolist() == [std[name] for name in sorted(std) if ".layers." not in name]


@pytest.mark.parametrize("key", ["mean", "kurtosis"])
def test_signed_numbers_have_a_diverging_scale(key: Any) -> None:
    mesh = meshes(figures.drawn(inspect(ParamsQuery(sort=key))))[0]
    assert mesh.get_cmap().name == "RdBu_r"
    assert mesh.get_clim()[0] == -np.float64(mesh.get_clim()[1])
    np.testing.assert_allclose(mesh.to_rgba(np.zeros(1))[0, :3], 0.97, atol=0.02)


def test_parts_stand_in_the_order_of_layers() -> None:
    report = inspect(ParamsQuery())
    shuffled = structs.replace(report, tensors=report.tensors[::-1])
    for this, other in zip(meshes(figures.drawn(report)), meshes(figures.drawn(shuffled)), strict=True):
        np.testing.assert_array_equal(numbers(this), numbers(other))


def test_a_report_without_numbers_says_so() -> None:
    assert words(figures.drawn(reports.params_report([])))[0].startswith("no tensor")
    attention = structs.replace(reports.attention_report(), heads=[])
    assert words(figures.drawn(attention)) == ["no attention weights"]


# Models


@pytest.mark.screens
@pytest.mark.parametrize("name", ["opt-mini", "transformer-mini", "bert"])
def test_figures_of_models(name: str, tmp_path: Path) -> None:
    from tests.making.kinds import encoder_in

    folder = tmp_path / "bert"
    folder.mkdir()
    model = ModelChoice(name=str(encoder_in(folder)) if name == "bert" else name)
    text = "a bad [MASK] face" if name == "bert" else "the quick brown fox"
    asked: list[Any] = [
        AttnQuery(model=model, text=text, layer=0),
        AttnQuery(model=model, text=text, layer=None),
        AttnQuery(model=model, text=text, layer=0, queries=(-1,)),
        HeadsQuery(model=model, text=text),
        LensQuery(model=model, text=text),
        LogitsQuery(model=model, text=text),
        DiffQuery(model=model, text=text, against_dtype="bfloat16"),
        DiffQuery(model=model, text=text, against_attn="eager"),
        ParamsQuery(model=model),
        ParamsQuery(model=model, diff=model.name),
    ]
    if name == "transformer-mini":
        asked += [
            AttnQuery(model=model, text=text, layer=1, cross=True),
            HeadsQuery(model=model, text=text, encoder=True),
        ]
    for query in asked:
        report: Report = inspect(query)
        made = figures.figure(report, "svg")
        assert ElementTree.fromstring(made).tag.endswith("svg")
        check_it_fits(figures.drawn(report))
        for mesh in meshes(figures.drawn(report)):
            assert np.isfinite(numbers(mesh)).any()


@pytest.mark.screens
def test_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    code = "from hashlib import sha256; from txinspect.render.figures import figure\n"
    code += "from tests.making.reports import attention_report as made\n"
    code += "print([sha256(figure(made(), kind)).hexdigest() for kind in ('pdf', 'svg')])"
    said = []
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "MPLCONFIGDIR": str(tmp_path / seed)}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True, env=environment
        )
        assert done.stderr == ""
        said.append(json.loads(done.stdout.replace("'", '"')))
    assert all(this == other for this, other in pairwise(said))
