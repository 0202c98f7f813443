"""The line about the model above every table, and the notes below it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from msgspec import structs
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from txinspect.records import InputRecord, ModelRecord, SentenceRecord
from txinspect.render.spelling import visible
from txinspect.wording import counted, short_count


def model_line(model: ModelRecord) -> Text:
    """The model in a line: name, class, size, type, device, attention backend."""
    parameters = None if model.num_parameters is None else f"{short_count(model.num_parameters)} parameters"
    layers = None if model.num_hidden_layers is None else counted(model.num_hidden_layers, "layer")
    if layers is not None and model.num_encoder_layers is not None:
        layers = f"{model.num_encoder_layers} + {layers}"
    place = None if model.device in (None, "meta") else f"on {model.device}"
    facts = [
        model.revision and model.revision[:8],
        model.class_ or model.model_type,
        layers,
        parameters,
        " ".join(part for part in (model.quantization, model.dtype, place) if part),
        model.attn_implementation if place else None,
    ]
    # A model on the Hub has a commit; the path of any other says no more than its last part.
    name = model.name if model.revision else PurePath(model.name).name or model.name
    line = Text(visible(name), style="bold")
    for fact in facts:
        if fact:
            line.append(f" · {visible(fact)}", style="not bold dim")
    return line


def input_lines(input: InputRecord) -> list[RenderableType]:
    """What the model reads: the text, what is joined to it behind a bar, and the decoder's under it."""
    read = input.decoder  # a start token alone is none of its text
    if input.roles is not None:
        turns = [(role, text if len(text) <= 200 else text[:199] + "…") for role, text in said(input)]
        return [beside(turns, TURNS, "message"), Text(counted(len(input.tokens), "token"), style="dim")]
    joined = input if input.pair is None else structs.replace(input, text=f"{input.text} | {input.pair}")
    return [_sentence(joined), *([_sentence(read, "→ ")] if read and len(read.tokens) > 1 else [])]


def said(input: InputRecord) -> list[tuple[str, str]]:
    """A conversation as it was rendered: who says what, one after the other."""
    tokens, turns = input.tokens, []
    for role in input.roles or ():
        own = tokens[role.start : role.end]
        placed = [token for token in own if token.start is not None and token.end is not None]
        text = input.text[placed[0].start : placed[-1].end] if placed else "".join(token.text or "" for token in own)
        turns.append((role.role, text))
    return turns


TURNS = 3
"""Messages of each end of a conversation that are shown above numbers."""


def beside(rows: Sequence[tuple[str, str]], most: int, what: str) -> Table:
    """Texts, who says them beside; of more than twice `most` both ends, and how many of `what` are in between."""
    grid = Table.grid("", "", padding=(0, 2))
    left_out = max(0, len(rows) - 2 * most)
    for index, (role, text) in enumerate(rows):
        if left_out and index == most:
            grid.add_row("", Text(f"… {counted(left_out, what)} in between", style="dim"))
        if not left_out or not most <= index < most + left_out:
            grid.add_row(Text(visible(role), style="dim"), Text(visible(text), style="italic"))
    return grid


def _sentence(input: SentenceRecord, before: str = "") -> Text:
    """A text in a line, and how many tokens it is."""
    shown = visible(input.text)
    line = Text(before).append(shown if len(shown) <= 200 else shown[:199] + "…", style="italic")
    return line.append(f"  {counted(len(input.tokens), 'token')}", style="not italic dim")


def finding(sentence: str, style: str) -> Text:
    """What was found in the numbers, above them."""
    return Text(visible(sentence), style=style)


def note(sentence: str) -> Text:
    """A note under a table."""
    return Text(visible(sentence), style="yellow")


def saved(report: Any) -> Text:
    """The file that a report with `saved` and `replaced` tells of."""
    over = ", over the file that was there" if report.replaced else ""
    return Text(f"saved to {visible(report.saved)}{over}", style="green")
