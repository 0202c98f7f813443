"""What stands above and below the tables of every report: the model, what it reads, notes, what was read and saved."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

from txinspect.records import InputRecord, LoadingRecord, ModelRecord, SentenceRecord
from txinspect.render.spelling import known_bytes, visible
from txinspect.render.tables import Column, Line, Row, Table, Words, cell, line
from txinspect.wording import counted, short_bytes, short_count

TURNS = 3
"""Messages of each end of a conversation that are shown above numbers."""

_NAMELESS = re.compile(r"/|model|snapshots|[0-9a-f]{40}|[0-9a-f]{64}")
"""Parts of a path that say nothing of the model in it: a root, a folder for any model, a commit."""

LONGEST = 200
"""Characters of a text that are shown above numbers."""


def model(record: ModelRecord) -> Line:
    """The heading's line about the model: name, class, size, type, device, attention backend."""
    parameters = None if record.num_parameters is None else f"{short_count(record.num_parameters)} parameters"
    layers = None if record.num_hidden_layers is None else counted(record.num_hidden_layers, "layer")
    if layers is not None and record.num_encoder_layers is not None:
        layers = f"{record.num_encoder_layers} + {layers}"
    place = None if record.device in (None, "meta") else f"on {record.device}"
    facts = [
        record.revision and record.revision[:8],
        record.class_ or record.model_type,
        layers,
        parameters,
        " ".join(part for part in (record.quantization, record.dtype, place) if part),
        record.attn_implementation if place else None,
    ]
    name = record.name if record.revision else folder_name(record.name)  # a model on the Hub has a commit
    return Line([Words(visible(name), "strong"), *(Words(f" · {visible(fact)}", "dim") for fact in facts if fact)])


def folder_name(path: str) -> str:
    """A local model as the heading calls it: the last part of its path that says something."""
    for part in reversed(PurePath(path).parts):
        if not _NAMELESS.fullmatch(part):
            cached = part.removeprefix("models--")  # the Hub's cache
            return part if cached == part else cached.replace("--", "/")
    return PurePath(path).name or path


def against(record: ModelRecord) -> Line:
    """The heading's line about the model on the other side."""
    return Line([Words("against ", "strong"), *model(record).words])


def conversation(input: InputRecord) -> Table | None:
    """The messages that the model reads, if it reads any, in the heading: who says them beside."""
    turns = [(role, _shortened(text)) for role, text in said(input)]
    return None if input.roles is None else beside(turns, TURNS, "message")


def texts(input: InputRecord) -> list[Line]:
    """What the model reads, in the heading: the text, what is joined to it after a bar, and the decoder's under it."""
    if input.roles is not None:
        return [line(counted(len(input.tokens), "token"), "dim")]
    joined = input.text if input.pair is None else f"{input.text} | {input.pair}"
    read = input.decoder  # a start token alone is none of its text
    return [_text(joined, input), *([_text(read.text, read, "→ ")] if read and len(read.tokens) > 1 else [])]


def _text(text: str, input: SentenceRecord, before: str = "") -> Line:
    """The heading's line about a text, and how many tokens it is."""
    count = counted(len(input.tokens), "token")
    return Line([Words(before), Words(_shortened(visible(text)), "text"), Words(f"  {count}", "dim")])


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def said(input: InputRecord) -> list[tuple[str, str]]:
    """The conversation in the heading as it was rendered: who says what, one after the other."""
    tokens, turns = input.tokens, []
    for role in input.roles or ():
        own = tokens[role.start : role.end]
        placed = [token for token in own if token.start is not None and token.end is not None]
        text = input.text[placed[0].start : placed[-1].end] if placed else "".join(token.text or "" for token in own)
        turns.append((role.role, text))
    return turns


def beside(turns: Sequence[tuple[str, str]], most: int, what: str) -> Table:
    """A table of texts in the heading, who says them beside; of more than twice `most` both ends, `what` in between."""
    rows = [Row([cell(visible(role), "dim"), cell(visible(text), "text")]) for role, text in turns]
    if left_out := max(0, len(rows) - 2 * most):
        rows[most:-most] = [Row([cell(""), cell(f"… {counted(left_out, what)} in between", "dim")])]
    return Table([Column(""), Column("")], rows, rule=False)


def loading(record: LoadingRecord) -> Line:
    """The line under a report about loading: what was read of weights."""
    size = sum(file.bytes or 0 for file in record.files)
    files = PurePath(record.files[0].path).name if len(record.files) == 1 else f"{len(record.files)} files"
    kept = ", mapped" if record.mapped else f" · {short_bytes(record.memory_bytes)} of weights in memory"
    read = f"read {known_bytes(record.disk_bytes)} of {short_bytes(size)} in {files}{kept}"
    return line(visible(read), "dim")


def saved(file: str, *, replaced: bool) -> Line:
    """The line under a report about the file that was saved to."""
    over = ", over the file that was there" if replaced else ""
    return line(f"saved to {visible(file)}{over}", "good")


def file_beside(what: str, file: str) -> Line:
    """The file that a picture of the drawing, or its rows, were written to, said below it."""
    return line(f"{what} in {visible(file)}", "good")
