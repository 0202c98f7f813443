"""The drawing of the module tree: rows add up, equal neighbours fold."""

from __future__ import annotations

import re

import pytest

from tests.making.reports import (
    drawn,
    tree_report,
)
from txinspect.commands.tree import TreeView


def rows_of(shown: str) -> list[tuple[int, str, int]]:
    """The rows of a tree of one line per row: indent, name, parameters."""
    lines = shown.splitlines()
    rule = next(index for index, line in enumerate(lines) if set(line.strip()) == {"─"})
    classes = lines[rule - 1].index("class")
    rows = []
    for line in lines[rule + 1 :]:
        match = re.match(r" ?(?P<indent>[ │├└]*)(?P<name>\S+(?: ×\d+)?)(?P<rest>.*)$", line)
        if not match or match.start("name") >= classes or "parameters, tied" in line or "as stored" in line:
            continue
        count = re.search(r" (\d+)  *[\d.]+%", match["rest"])
        rows.append((len(match["indent"]), match["name"], int(count[1]) if count else 0))
    return rows


@pytest.mark.parametrize("expand", [False, True], ids=["folded", "expanded"])
def test_every_parent_is_the_sum_of_its_rows(expand: bool) -> None:
    report = tree_report()
    rows = rows_of(drawn(report, 140, view=TreeView(expand=expand, params=True)))
    assert (
        rows[0][2]
        == report.totals.numel
        == sum(each.numel for module in report.modules for each in module.parameters if each.tied_to is None)
    )
    assert len({indent for indent, *_ in rows}) > 4
    for index, (indent, name, count) in enumerate(rows):
        inside = []
        for deeper in rows[index + 1 :]:
            if deeper[0] <= indent:
                break
            inside.append(deeper)
        if not inside:
            continue
        step = min(deeper[0] for deeper in inside)
        assert count == sum(each for at, _, each in inside if at == step), name


def test_shares_add_up_to_the_whole() -> None:
    shown = drawn(tree_report(), 140, view=TreeView(depth=1))
    shares = [float(share) for share in re.findall(r"([\d.]+)%", shown)]
    assert shares[0] == 100.0
    assert sum(shares[1:]) == 100.0


def test_equal_neighbours_are_folded_and_others_are_not() -> None:
    folded, expanded = drawn(tree_report(), 140), drawn(tree_report(), 140, view=TreeView(expand=True))
    assert "0–1 ×2" in folded
    assert re.search(r"^[ │]*└ 2 +OPTDecoderLayer", folded, re.MULTILINE)
    assert folded.count("fc1") == 2
    assert "×" not in expanded
    assert expanded.count("fc1") == 3


@pytest.mark.parametrize(("depth", "names"), [(0, 1), (1, 3), (2, 6), (3, 8)])
def test_depth_counts_levels(depth: int, names: int) -> None:
    assert len(rows_of(drawn(tree_report(), 140, view=TreeView(depth=depth)))) == names


@pytest.mark.parametrize("width", [80, 140])
def test_params_shows_each_parameter_with_its_shape(width: int) -> None:
    shown = drawn(tree_report(), width, view=TreeView(params=True))
    assert shown.count("[8, 4]") == 1
    assert shown.count("[12, 4]") == 3
    assert "tied to model.embed_tokens.weight" in " ".join(shown.split())


def test_totals_name_every_size() -> None:
    shown = drawn("tree", 80)
    assert all(words in shown for words in ("tied ones once", "float16", "as stored", "800 B with --8bit"))
    assert "600 B with --4bit (6 linear layers)" in shown


def test_a_guide_leads_from_every_row_to_its_parent() -> None:
    """Of a row, what stands above its own corner is a guide's line, its parent's name, or a sibling's corner."""
    lines = drawn(tree_report(), 140, view=TreeView(expand=True, params=True)).splitlines()
    rule = next(index for index, line in enumerate(lines) if set(line.strip()) == {"─"})
    rows = lines[rule + 2 : lines.index("", rule)]
    assert len(rows) > 30
    for number, row in enumerate(rows, rule + 2):
        corner = max(row.find("├ "), row.find("└ "))
        assert corner >= 0, row
        above = lines[number - 1]
        assert above[corner] in "│├" or above[corner].isalnum(), (above, row)
        below = lines[number + 1][corner : corner + 1]
        assert (below in "│├└" and below != "") == (row[corner] == "├"), (row, lines[number + 1])
