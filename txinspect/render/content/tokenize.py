"""What stands in the table of `tokenize`."""

from __future__ import annotations

from collections.abc import Iterator

from txinspect.records import InputRecord, TokenRecord
from txinspect.render.content import heading
from txinspect.render.spelling import or_dash, token_text
from txinspect.render.tables import Cell, Column, Line, Row, Table, cell, line, numbers
from txinspect.wording import counted

ENDS = 5_000
"""Tokens that are listed of each end of a text that is longer than two."""


def conversation(input: InputRecord) -> Table | None:
    """The text that `tokenize` shows of messages under a template, line by line, who says it beside."""
    lines = [
        (role if index == 0 else "", text)
        for role, said in heading.said(input)
        for index, text in enumerate(said.removesuffix("\n").split("\n"))
    ]
    return heading.beside(lines, ENDS, "line") if lines else None


def table(input: InputRecord) -> Table:
    """The table of tokens, a row each; of a long text those of both ends."""
    facts = _beside(input)
    columns = [*numbers("index", "id"), Column("token"), Column("text"), *numbers("characters")]
    columns += [Column(name, whole=True) for name in ("special", *facts)]
    return Table(columns, list(_rows(input.tokens, facts)))


def _rows(tokens: list[TokenRecord], facts: dict[str, list[str]]) -> Iterator[Row | Line]:
    left_out = max(0, len(tokens) - 2 * ENDS)
    for token in (*tokens[:ENDS], *tokens[ENDS + left_out :]) if left_out else tokens:
        if left_out and token.index == ENDS + left_out:
            yield line(f"… {counted(left_out, 'token')} in between; --json has all", "warning")
        further = [cell(values[token.index]) for values in facts.values()]
        yield Row([*_cells(token), *further], "dim" if token.special else "plain")


def _cells(token: TokenRecord) -> list[Cell]:
    return [
        cell(str(token.index), value=token.index),
        cell(str(token.id), value=token.id),
        cell(or_dash(token.token)),
        cell(token_text(token), "marked" if token.text is None else "plain" if token.special else "token"),
        cell(_span(token)),
        cell("yes" if token.special else ""),
    ]


def _beside(input: InputRecord) -> dict[str, list[str]]:
    """What else the table of tokens has, by the column's name: each one's segment, who says it."""
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


def summary(input: InputRecord) -> Line:
    """The line of `tokenize` about shapes, and how much text a token holds; special tokens are not text."""
    shape = f"[{len(input.input_ids)}, {len(input.tokens)}]"
    content = sum(not token.special for token in input.tokens)
    spans = [(token.start, token.end) for token in input.tokens if token.special]
    length = len(input.text) - sum(end - start for start, end in spans if start is not None and end is not None)
    each = f", {length / content:.2f} per token" if content else ""
    characters, tokens = counted(length, "character"), counted(content, "token")
    return line(f"input_ids {shape} · attention_mask {shape} · {characters} in {tokens} of text{each}")
