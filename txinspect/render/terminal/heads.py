"""What kind of head each one is: the strongest of each kind, a grid of layers and heads, sinks."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.command import Theme, Themed
from txinspect.commands.heads import NUMBERS, HeadsReport, Kind, KindRecord
from txinspect.records import SentenceRecord
from txinspect.render.terminal import colours, tensors
from txinspect.render.terminal.frame import Frame, frame
from txinspect.render.terminal.glyphs import fitted, number, token_text
from txinspect.render.terminal.heading import input_lines

WHERE: dict[Kind, str] = {
    "induction": "the token after the same one earlier",
    "duplicate": "the same token earlier",
    "previous": "the token before",
    "next": "the token after",
    "self": "its own token",
    "first": "the first token",
    "broad": "all tokens, nearly evenly",
}
"""Where the heads of each kind look."""

SHOWN = 4
"""Heads of a kind that are named."""

CELL = 11
"""Columns of a terminal for a head in the grid."""

GIVING_WAY = ("special", "even", "distance", "self", "dupl", "entropy", "first", "next", "prev", "induct")
"""What is left out of the numbers, in this order, where the terminal is too narrow."""


def draw(report: HeadsReport, console: Console, view: Themed = Themed()) -> RenderableType:
    """The finding, the grid, a line per head where they are few."""
    theme = view.theme if colours.has_colours(console) else None
    parts: list[RenderableType] = [*input_lines(report.input)]
    if report.heads:
        parts += [_strongest(report), Text(), *_grid(report, console.width, theme), *_sinks(report)]
        parts += [Text(), _table(report, console.width)]
    return Group(*parts, *tensors.extras(report, console.width))


def _name(head: KindRecord) -> str:
    return f"{head.layer}.{head.head}" + (f"#{head.run}" if head.run > 1 else "")


def _value(head: KindRecord, kind: Kind) -> float:
    return float(getattr(head, NUMBERS[kind]) or 0.0)


def _strongest(report: HeadsReport) -> Frame:
    """Of each kind the heads with the largest numbers; of a kind without any, the largest of all."""
    table = Frame(rule=False)
    table.add_column("kind")
    table.add_column("heads, as layer.head")
    table.add_column("look at")
    for kind, where in WHERE.items():
        known = [head for head in report.heads if getattr(head, NUMBERS[kind]) is not None]
        if not known:
            continue
        ranked = sorted(known, key=lambda head: -_value(head, kind))
        own = [head for head in ranked if kind in head.labels]
        cell = Text()
        for head in own[:SHOWN] or ranked[:1]:
            cell.append("  " if cell else "").append(_name(head), "bold" if own else "dim")
            cell.append(f" {_value(head, kind):.2f}", "cyan" if own else "dim")
        cell.append(f"  and {len(own) - SHOWN} more" if len(own) > SHOWN else "" if own else "  at most", "dim")
        table.add_row(Text(kind, "bold" if own else "dim"), cell, Text(where, "dim"))
    return table


def _grid(report: HeadsReport, width: int, theme: Theme | None) -> Iterator[RenderableType]:
    """Layers × heads: the first kind of each, coloured by its number."""
    layers = list(dict.fromkeys(head.layer for head in report.heads))
    most = max(head.head for head in report.heads) + 1
    cell = max(3, min(CELL, (width - 6) // most))
    across = max(1, (width - 6) // cell)
    for start in range(0, most, across):
        heads = range(start, min(most, start + across))
        head_line = Text("layer".ljust(6), style="bold cyan", no_wrap=True, overflow="crop")
        head_line.append("".join(fitted(f"h{head}", cell - 1) + " " for head in heads), style="not bold dim")
        yield head_line
        for layer in layers:
            line = Text(f"{layer:>5} ", style="bold", no_wrap=True, overflow="crop")
            for head in heads:
                own = [each for each in report.heads if (each.layer, each.head, each.run) == (layer, head, 1)]
                line.append_text(_cell(own[0], cell - 1, theme) if own else Text(" " * (cell - 1))).append(" ")
            yield line


def _cell(head: KindRecord, width: int, theme: Theme | None) -> Text:
    kind = head.labels[0] if head.labels else None
    if kind is None:
        return Text(fitted("·", width), style="not bold dim")
    if theme is None:
        return Text(fitted(kind, width), style="not bold")
    return colours.on_colour(fitted(kind, width), _value(head, kind), theme)


def _sentence(report: HeadsReport) -> SentenceRecord:
    """The text that the heads read."""
    return report.input if report.stack == "encoder" else report.input.main


def _sinks(report: HeadsReport) -> Iterator[Text]:
    if report.sinks:
        named = [
            f"{sink.key} {token_text(_sentence(report).tokens[sink.key])} {sink.share:.0%}"
            for sink in report.sinks[:SHOWN]
        ]
        yield Text(f"sinks (share of heads that rest on a key): {', '.join(named)}")


def _table(report: HeadsReport, width: int) -> Frame:
    """The numbers of every head that has a label; of all where they are few."""
    heads = report.heads if len(report.heads) <= 40 else [head for head in report.heads if head.labels]
    title = "" if len(heads) == len(report.heads) else f"the {len(heads)} of {len(report.heads)} heads with a label"
    columns = {
        "induct": "induction",
        "dupl": "duplicate",
        "prev": "previous",
        "next": "next_token",
        "first": "first_token",
        "self": "self_token",
        "entropy": "entropy",
        "even": "relative_entropy",
        "distance": "distance",
        "special": "special",
    }
    if report.copies is None:
        del columns["induct"], columns["dupl"]
    if all(head.next_token is None for head in report.heads):
        del columns["next"]
    for name in ("", *GIVING_WAY):
        columns.pop(name, None)
        table = frame(title or None)
        table.add_column("head", no_wrap=True)
        for each in columns:
            table.add_column(each, justify="right", no_wrap=True)
        table.add_column("labels", no_wrap=True)
        for head in heads:
            numbers = [number(getattr(head, field), 3) for field in columns.values()]
            table.add_row(Text(_name(head), "bold"), *numbers, ", ".join(head.labels))
        if table.natural_width <= width:
            break
    return table
