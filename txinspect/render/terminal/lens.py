"""What each layer would predict: in a line, as a grid of layers and tokens, and layer by layer for the last token."""

from __future__ import annotations

from math import isnan

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.command import Theme, Themed
from txinspect.commands.lens import CellRecord, LensReport, LensRowRecord
from txinspect.render.terminal import colours, tensors
from txinspect.render.terminal.frame import Frame, frame
from txinspect.render.terminal.glyphs import fitted, number, plain, token_text, word
from txinspect.render.terminal.heading import input_lines
from txinspect.render.terminal.logits import percent, rank
from txinspect.wording import counted

CELL = 10
"""Columns of a terminal for a cell of the grid."""

LABEL = 7
"""Columns for a layer's name and a blank."""

LAYERS = 26
"""Layers in the grid at most."""

FOLLOWED = 2
"""Tokens that are followed in the table of the last token."""


def draw(report: LensReport, console: Console, view: Themed = Themed()) -> RenderableType:
    """The finding, the grid, the last token."""
    theme = view.theme if colours.has_colours(console) else None
    parts: list[RenderableType] = [*input_lines(report.input), _finding(report)]
    if len(report.positions) > 1:
        parts += [Text(), *_grid(report, console.width, theme)]
    return Group(*parts, Text(), _last(report), *tensors.extras(report, console.width))


def _layer(layer: int) -> str:
    return "enters" if layer < 0 else str(layer)


def _where(report: LensReport) -> str:
    """Where a prediction belongs: a model that fills masks predicts the token at its place."""
    return "at" if report.model.task == "masked-lm" else "after"


def _finding(report: LensReport) -> Text:
    """When the prediction after the last token was there."""
    last = report.positions[-1]
    final = report.rows[-1].cells[-1].top[0]
    line = Text(
        f"{_where(report)} {last.position} {token_text(report.input.main.tokens[last.position])}: ", style="bold"
    )
    if final.prob is not None and isnan(final.prob):
        return line.append("nothing: not all of its logits are numbers", style="bold red")
    line.append(word(final), style="bold green")
    places = ["the input" if each < 0 else f"layer {each}" for each in (last.first_at, last.decided_at)]
    read = sum(row.layer >= 0 for row in report.rows)
    among = "" if read == report.model.num_hidden_layers else f", of the {counted(read, 'layer')} that were read"
    return line.append(f": first at {places[0]}, decided at {places[1]}{among}", style="bold")


def _grid(report: LensReport, width: int, theme: Theme | None) -> list[RenderableType]:
    """Layers × tokens: the likeliest token of each, coloured by its probability; the last ones are always there."""
    columns = min(len(report.positions), max(1, (width - LABEL) // CELL))
    step = -(-len(report.rows) // LAYERS)
    rows = report.rows[(len(report.rows) - 1) % step :: step]
    head = Text("layer".ljust(LABEL), style="bold cyan", no_wrap=True, overflow="crop")
    for each in report.positions[-columns:]:
        name = f"{each.position} {token_text(report.input.main.tokens[each.position])}"
        head.append(fitted(name, CELL - 1) + " ", style="not bold dim")
    parts: list[RenderableType] = [_legend(report, columns, len(rows), theme), head]
    return [*parts, *(_line(row, columns, theme) for row in rows)]


def _legend(report: LensReport, columns: int, rows: int, theme: Theme | None) -> Text:
    line = Text(f"likeliest token {_where(report)} each, by its probability  ", style="dim").append_text(
        colours.legend(theme)
    )
    left_out = []
    if columns < len(report.positions):
        left_out.append(f"the last {columns} of {len(report.positions)} tokens")
    if rows < len(report.rows):
        left_out.append(f"{rows} of {len(report.rows)} layers")
    return line.append(f"\n{' and '.join(left_out)}; --json has all" if left_out else "", style="dim")


def _line(row: LensRowRecord, columns: int, theme: Theme | None) -> Text:
    line = Text(_layer(row.layer).rjust(LABEL - 1) + " ", style="bold", no_wrap=True, overflow="crop")
    for cell in row.cells[-columns:]:
        line.append_text(_cell(cell, theme)).append(" ")
    return line


def _cell(cell: CellRecord, theme: Theme | None) -> Text:
    """A token on the colour of its probability; without colours, with the shade before it."""
    top = cell.top[0]
    part = top.prob if top.prob is not None and top.prob == top.prob else 0.0
    if theme is None:
        return Text(colours.shade(part) + fitted(word(top), CELL - 2), style="not bold")
    return colours.on_colour(fitted(word(top), CELL - 1), part, theme)


def _last(report: LensReport) -> Frame:
    """Layer by layer, what comes after the last token that was asked for."""
    position = report.positions[-1]
    followed = report.rows[-1].cells[-1].targets[:FOLLOWED]
    table = frame(f"{_where(report)} {position.position} {token_text(report.input.main.tokens[position.position])}")
    table.add_column("layer", justify="right", no_wrap=True)
    table.add_column("likeliest")
    for name in ("probability", "entropy", "KL"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in followed:
        table.add_column(f"rank of {word(each)}", justify="right")
    for row in report.rows:
        cell = row.cells[-1]
        ranks = {each.id: rank(each.rank) for each in cell.targets}
        table.add_row(
            _layer(row.layer),
            plain(", ".join(map(word, cell.top)), "green"),
            percent(cell.top[0].prob),
            number(cell.entropy, 3),
            number(cell.kl, 3),
            *(ranks.get(each.id, "") for each in followed),
        )
    return table
