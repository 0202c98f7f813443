"""The table of `tokenize`."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.tokenize import TokenizeReport
from txinspect.records import InputRecord, TokenRecord
from txinspect.render.terminal.frame import frame
from txinspect.render.terminal.glyphs import plain, visible


def draw(report: TokenizeReport, console: Console) -> RenderableType:
    """One row per token, then the shapes and the characters per token."""
    input = report.input
    table = frame()
    for name in ("index", "id"):
        table.add_column(name, justify="right")
    table.add_column("token", overflow="fold")
    table.add_column("text", overflow="fold")
    table.add_column("characters", justify="right", no_wrap=True)
    table.add_column("special")
    for token in input.tokens:
        style = "dim" if token.special else ""
        table.add_row(
            str(token.index),
            str(token.id),
            plain(token.token),
            _text(token),
            _span(token),
            "yes" if token.special else "",
            style=style,
        )
    return Group(table, _summary(input))


def _text(token: TokenRecord) -> Text:
    """The decoded text with its spaces visible, or the bytes of a part of a character."""
    if token.text is None:
        return Text(f"bytes {token.bytes}", style="magenta")
    return Text(visible(token.text, spaces=True), style="" if token.special else "green")


def _span(token: TokenRecord) -> str:
    if token.start is None or token.end is None:
        return "–"
    return f"{token.start}–{token.end} ({token.end - token.start})"


def _summary(input: InputRecord) -> Text:
    shape = f"[{len(input.input_ids)}, {len(input.tokens)}]"
    content = sum(not token.special for token in input.tokens)
    each = f", {len(input.text) / content:.2f} characters per token" if content else ""
    return Text(
        f"input_ids {shape} · attention_mask {shape} · {len(input.text)} characters in {content} tokens of text{each}"
    )
