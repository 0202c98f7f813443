"""The drawing of attention heads: maps that fit, pooled maps, an overview, one query; scales."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from msgspec import structs

from tests.making.reports import ESCAPE, attention_report, drawn, heat_lines, text_input
from txinspect.commands.attn import AttnReport, AttnView
from txinspect.commands.command import Theme
from txinspect.records import InputRecord
from txinspect.render.content.attn import largest, looks_ahead
from txinspect.render.terminal import colours
from txinspect.render.terminal.maps import Map, pooled

WHOLE = AttnView(table=True)
"""Maps as large as the terminal lets them be, and the tensors."""


def words(count: int) -> InputRecord:
    return text_input([f" w{number}" for number in range(1, count)])


# Maps that fit


def test_shades_grow_with_the_weight() -> None:
    shades = (0.0, 0.04, 0.05, 0.2, 0.25, 0.5, 0.75, 1.0)
    report = attention_report(words(8), heads=1, weight=lambda _, query, key: shades[key] if query == 7 else 0.0)
    assert heat_lines(drawn(report, 80))[7][14:30] == "····░░░░▒▒▓▓████"


def test_the_future_is_blank_and_zero_is_not() -> None:
    report = attention_report(words(6), heads=1, weight=lambda _, query, key: float(query == key))
    for index, line in enumerate(heat_lines(drawn(report, 80))):
        assert line[14:].rstrip() == "··" * index + "██"


def test_a_weight_that_is_no_number_is_marked() -> None:
    for value in (None, float("nan")):
        report = attention_report(words(3), heads=1, weight=lambda *_, value=value: value)
        for colour in (False, True):
            lines = heat_lines(ESCAPE.sub("", drawn(report, 80, colour=colour)))
            assert lines[2][14:20] == "??????"


def test_what_fits_is_not_pooled() -> None:
    shown = drawn(attention_report(words(33), heads=1), 80, view=WHOLE)
    assert len(heat_lines(shown)) == 33
    assert "to a column" not in shown


def test_chosen_queries_are_the_rows() -> None:
    shown = drawn(attention_report(words(10), heads=1, queries=[2, 5]), 80, view=WHOLE)
    assert [line.split()[0] for line in heat_lines(shown)] == ["2", "5"]


@pytest.mark.parametrize(
    ("width", "heads", "bands", "cell"), [(80, 4, 1, 1), (80, 2, 1, 2), (120, 4, 1, 2), (60, 4, 1, 1), (200, 8, 1, 2)]
)
def test_heads_stand_in_as_few_bands_as_can_be_and_as_wide(width: int, heads: int, bands: int, cell: int) -> None:
    shown = drawn(attention_report(words(10), heads=heads, weight=lambda *_: 1.0), width, view=WHOLE)
    maps = shown.split("queries ↓")[1].split("layers.0.attention")[0].splitlines()
    assert len([line for line in maps if "head " in line and "×" not in line]) == bands
    assert all(f"head {index}" in shown for index in range(heads))
    assert heat_lines(shown)[0][14:].startswith("█" * cell + " ")


def test_the_first_command_shows_its_maps_on_one_screen() -> None:
    """An 80 × 24 terminal keeps the last 23 lines, the prompt below them: from the titles of the heads on."""
    lines = drawn(attention_report(words(10), heads=4), 80).splitlines()
    tensors_of_attn = 8 - 2  # that this report does not have
    seen = lines[-(23 - tensors_of_attn) :]
    assert any("head 0" in line and "head 3" in line for line in seen)


# Maps that do not fit


@pytest.mark.parametrize("width", [40, 60, 80, 100])
@pytest.mark.parametrize("count", [100, 196])
def test_a_map_that_does_not_fit_covers_the_whole_text_in_blocks(width: int, count: int) -> None:
    report = attention_report(words(count), heads=1, weight=lambda _, query, key: float(key == query or key == 131))
    shown = drawn(report, width, view=WHOLE)
    keys = re.search(r"all (\d+) keys, at most (\d+) to a column", " ".join(shown.split()))
    assert keys is not None
    assert int(keys[1]) == count
    lines = heat_lines(shown)
    firsts = [int(re.match(r" *(\d+)", line)[1]) for line in lines]  # type: ignore[index]
    assert firsts[0] == 0
    assert f"–{count - 1}" in lines[-1][:14] or lines[-1].split()[0] == str(count - 1)
    assert all("█" in line for line in lines)  # each block of the diagonal has its 1
    assert max(len(line.rstrip()) for line in lines) > width * 0.75


def test_strong_keys_keep_columns_of_their_own() -> None:
    weights = np.zeros((200, 200))
    single = [(i, i) for i in range(200)]
    small = pooled(Map("head 0", "0", single, single, weights.tolist(), [0, 131], 1.0), 20, 10)
    assert (0, 0) in small.keys
    assert (131, 131) in small.keys
    assert sum(first == last for first, last in small.keys) <= 4


@pytest.mark.parametrize(("columns", "rows"), [(7, 5), (20, 20), (33, 1), (200, 3)])
def test_pooled_is_the_largest_of_each_block(columns: int, rows: int) -> None:
    weights = np.random.default_rng(0).random((50, 70))
    weights[13, 17] = np.nan
    whole = Map("", "", [(i, i) for i in range(50)], [(i, i) for i in range(70)], weights.tolist(), [0, 40], 1.0)
    small = pooled(whole, columns, rows)
    assert len(small.keys) <= columns
    assert len(small.queries) <= rows
    for row, (top, bottom) in enumerate(small.queries):
        for column, (first, last) in enumerate(small.keys):
            expected = weights[top : bottom + 1, first : last + 1].max()
            found = small.weights[row][column]
            assert (found is None) == bool(np.isnan(expected))
            assert found is None or found == expected
    again = pooled(pooled(whole, 50, 25), columns, rows)
    assert (again.keys[-1][1], again.queries[-1][1]) == (69, 49)


def test_many_heads_are_an_overview() -> None:
    shown = drawn(attention_report(words(10), heads=32), 80, view=WHOLE)
    maps = shown.split("queries ↓")[1].split("layers.0.attention")[0].splitlines()
    assert "32 heads" in shown
    assert all(re.search(rf"(^|  ){index}( ×2.5|  |$)", "\n".join(maps), re.MULTILINE) for index in range(32))
    assert len(maps) <= 24
    coloured = ESCAPE.sub("", drawn(attention_report(words(10), heads=32), 80, colour=True, view=WHOLE))
    assert "▀" in coloured
    assert len(coloured.split("queries ↓")[1].split("layers.0.attention")[0].splitlines()) <= 24


def test_heads_that_were_chosen_are_shown_whole() -> None:
    report = attention_report(words(10), heads=32)
    weights, output = report.tensors
    chosen = structs.replace(weights, coordinates={"head": list(range(32))})
    shown = drawn(structs.replace(report, tensors=[chosen, output]), 80)
    assert len(heat_lines(shown.split("strongest keys")[0])) > 60


def test_one_query_is_one_map_of_heads_and_keys() -> None:
    shown = drawn(attention_report(words(10), heads=12, queries=[9]), 80)
    lines = [line for line in shown.splitlines() if re.match(r"head \d+ ", line) and ("█" in line or "▒" in line)]
    assert len(lines) == 12
    assert lines[1].startswith("head 1 ")
    assert lines[1][14:].rstrip() == "··" * 9 + "██"


@pytest.mark.parametrize("where", ["head 0", "head 1"])
def test_of_one_query_the_largest_weight_is_brightest(where: str) -> None:
    """The first key is a key like others there: a head that rests on it is not drawn as if it looked elsewhere."""
    weights = {"head 0": [0.7, 0.2, 0.1], "head 1": [0.1, 0.2, 0.7]}
    report = attention_report(
        words(10), heads=2, queries=[9], weight=lambda head, _, key: [*weights[f"head {head}"], *[0.0] * 7][key]
    )
    (line,) = (each for each in drawn(report, 80).splitlines() if each.startswith(f"{where} ×1.4"))
    assert line[14:].rstrip() == {"head 0": "██▒▒░░", "head 1": "░░▒▒██"}[where] + "··" * 7


def test_zero_is_a_hole_only_where_keys_are_masked() -> None:
    each = [(0, 0), (1, 1)]
    ahead = Map("head 0", "0", each, each, [[0.5, 0.5], [0.0, 1.0]], [], 1.0)
    causal = Map("head 0", "0", each, each, [[1.0, 0.0], [0.0, 1.0]], [], 1.0)
    assert looks_ahead(ahead)
    assert not looks_ahead(causal)
    assert causal.part(0, 1) is None
    assert replace(causal, is_causal=False).part(0, 1) == causal.part(1, 0) == 0.0


# Scales


def test_a_scale_leaves_out_the_first_key_and_the_first_queries() -> None:
    count = 40
    weights = np.tril(np.full((count, count), 0.001))
    weights[:, 0] = 0.9
    weights[1, 1] = 0.5
    weights[30, 20] = 0.3
    blocks = [(i, i) for i in range(count)]
    assert largest(blocks, blocks, weights.tolist()) == 0.3
    weights[30, 20] = 0.001
    assert largest(blocks, blocks, weights.tolist()) == 4 / count  # a head that looks at the first key alone stays dark
    assert largest(blocks[:1], blocks[:1], [[1.0]]) == 1.0


@pytest.mark.parametrize(
    ("scale", "title", "line"), [("head", "head 0 ×2.5", "██"), ("0-1", "head 0", "▒▒"), ("row", "head 0", "██")]
)
def test_scales(scale: str, title: str, line: str) -> None:
    report = attention_report(words(10), heads=1, weight=lambda _, query, key: 0.4 if key == 5 else 0.01)
    shown = drawn(report, 80, view=AttnView(scale=scale))  # type: ignore[arg-type]
    assert re.search(rf"^ +{title}$", shown, re.MULTILINE)
    assert heat_lines(shown)[9][14 + 10 : 14 + 12] == line


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_colours_are_evenly_lighter_or_darker(theme: Theme) -> None:
    lightness = [sum(colours.colour(step / 10, theme).triplet or ()) for step in range(11)]
    assert lightness == sorted(lightness, reverse=theme == "light")
    assert abs(lightness[0] - (0 if theme == "dark" else 765)) > 40  # zero differs from the background
    assert abs(lightness[-1] - lightness[0]) > 500


# Strongest keys


def test_strongest_keys_are_listed_where_they_are_asked_for() -> None:
    report = attention_report(words(30), heads=1)
    assert "strongest" not in drawn(report, 80)
    listed = drawn(report, 80, view=AttnView(keys=True)).split("strongest keys of each query")[1]
    assert all(re.search(rf"^ *{index} ␣w{index}\b", listed, re.MULTILINE) for index in range(1, 30))
    chosen = drawn(attention_report(words(30), heads=1, queries=list(range(30))), 80)
    assert "strongest keys of the last 12 of 30 queries" in chosen
    assert not re.search(r"^ *17 ␣w17", chosen.split("strongest keys")[1], re.MULTILINE)
    assert re.search(r"^ *18 ␣w18", chosen.split("strongest keys")[1], re.MULTILINE)


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_letters_on_colours_are_black_or_white(theme: Theme) -> None:
    """Not what a terminal calls so: white is grey in many palettes."""
    letters = {colours.on_colour("a", step / 20, theme).style.color for step in range(21)}  # type: ignore[union-attr]
    assert {each.name for each in letters if each is not None} == {"#000000", "#ffffff"}


# All layers


def several(layers: int, heads: int) -> AttnReport:
    """A report of several layers, whose heads rest on the first token in layer 0, and in others on their own."""
    one = attention_report(words(10), heads=heads, weight=lambda _, query, key: float(query == key))
    first = attention_report(words(10), heads=heads, weight=lambda _, query, key: float(key == 0))
    records = [
        structs.replace(head, layer=layer, labels=["first"] if layer == 0 else ["self"] if layer == 1 else [])
        for layer in range(layers)
        for head in (first if layer == 0 else one).heads
    ]
    tensors = [
        structs.replace(each, name=each.name.replace("layers.0", f"layers.{layer}"))
        for layer in range(layers)
        for each in one.tensors
    ]
    return structs.replace(one, layers=list(range(layers)), heads=records, tensors=tensors)


@pytest.mark.parametrize(("layers", "heads", "width", "most"), [(3, 4, 80, 22), (30, 9, 120, 80), (12, 12, 80, 40)])
def test_all_layers_are_one_overview(layers: int, heads: int, width: int, most: int) -> None:
    for colour in (False, True):
        shown = ESCAPE.sub("", drawn(several(layers, heads), width, colour=colour))
        assert len(shown.splitlines()) <= most
        assert "f first, s self; · none" in shown
        named = [line for line in shown.splitlines() if re.match(r" *\d+ [fs·]", line)]
        assert [int(line.split()[0]) for line in named] == list(range(layers))
        assert [line[4] for line in named] == ["f", "s", *"·" * (layers - 2)]


def test_the_maps_of_an_overview_are_the_weights() -> None:
    lines = drawn(several(2, 2), 80).splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("  0 f"))
    first, second = lines[start : start + 5], lines[start + 5 : start + 10]
    assert [line[5:15].rstrip() for line in first] == ["█·", "█···", "█·····", "█·······", "█·········"]
    assert [line[5:15].rstrip() for line in second] == [
        "██",
        "··██",
        "····██",
        "······██",
        "········██",
    ]
    assert [line[17:27].rstrip() for line in first] == [line[5:15].rstrip() for line in first]


def test_what_was_chosen_is_no_overview() -> None:
    report = several(3, 4)
    assert "layer 2" in drawn(report, 80, view=AttnView(table=True))
    assert "layer 2" in drawn(report, 80, view=AttnView(keys=True))
