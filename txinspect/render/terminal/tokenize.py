"""The table of `tokenize`."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.tokenize import TokenizeReport
from txinspect.records import InputRecord, TokenRecord
from txinspect.render.terminal.frame import frame
from txinspect.render.terminal.glyphs import plain, token_text
from txinspect.render.terminal.heading import beside, said
from txinspect.wording import counted

ENDS = 5_000
"""Tokens that are listed of each end of a text that is longer than two."""


def draw(report: TokenizeReport, console: Console) -> RenderableType:
    """One row per token, then the shapes and the characters per token."""
    table = frame()
    for name in ("index", "id"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("token")
    table.add_column("text")
    table.add_column("characters", justify="right", no_wrap=True)
    table.add_column("special", no_wrap=True)
    facts = _beside(report.input)
    for name in facts:
        table.add_column(name, no_wrap=True)
    tokens = report.input.tokens
    left_out = len(tokens) - 2 * ENDS if len(tokens) > 2 * ENDS else 0
    for token in (*tokens[:ENDS], *tokens[ENDS + left_out :]) if left_out else tokens:
        if left_out and token.index == ENDS + left_out:
            table.add_line(Text(f"… {counted(left_out, 'token')} in between; --json has all", style="yellow"))
        table.add_row(
            str(token.index),
            str(token.id),
            plain(token.token),
            Text(token_text(token), style="magenta" if token.text is None else "" if token.special else "green"),
            _span(token),
            "yes" if token.special else "",
            *(values[token.index] for values in facts.values()),
            style="dim" if token.special else "",
        )
    return Group(*_conversation(report.input), Text(), table, Text(), _summary(report.input))


def _conversation(input: InputRecord) -> list[RenderableType]:
    """The text that a template made of messages, line by line, who says it beside."""
    lines = [
        (role if index == 0 else "", line)
        for role, text in said(input)
        for index, line in enumerate(text.removesuffix("\n").split("\n"))
    ]
    return [Text(), beside(lines, ENDS, "line")] if lines else []


def _beside(input: InputRecord) -> dict[str, list[str]]:
    """What else is known of each token, by the column's name: its segment, who says it."""
    found = {}
    if input.segments is not None:
        found["segment"] = [str(segment) for segment in input.segments[0]]
    if input.roles is not None:
        found["role"] = [
            next((role.role for role in input.roles if role.start <= token.index < role.end), "")
            for token in input.tokens
        ]
    return found


def _span(token: TokenRecord) -> str:
    if token.start is None or token.end is None:
        return "–"
    return f"{token.start}–{token.end} ({token.end - token.start})"


def _summary(input: InputRecord) -> Text:
    """Shapes, and how much text a token holds; what a special token stands for in the text is not text."""
    shape = f"[{len(input.input_ids)}, {len(input.tokens)}]"
    content = sum(not token.special for token in input.tokens)
    spans = [(token.start, token.end) for token in input.tokens if token.special]
    length = len(input.text) - sum(end - start for start, end in spans if start is not None and end is not None)
    each = f", {length / content:.2f} per token" if content else ""
    characters, tokens = counted(length, "character"), counted(content, "token")
    return Text(f"input_ids {shape} · attention_mask {shape} · {characters} in {tokens} of text{each}")
