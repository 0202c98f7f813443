"""The line about the model above every table, and the notes below it."""

from __future__ import annotations

from rich.text import Text

from txinspect.records import InputRecord, ModelRecord
from txinspect.render.terminal.glyphs import visible


def model_line(model: ModelRecord) -> Text:
    """The model in a line: name, class, size, type, device, attention backend."""
    parameters = None if model.num_parameters is None else f"{model.num_parameters:,} parameters"
    layers = None if model.num_hidden_layers is None else f"{model.num_hidden_layers} layers"
    place = None if model.device in (None, "meta") else f"on {model.device}"
    facts = [
        model.revision and model.revision[:8],
        model.class_ or model.model_type,
        layers,
        parameters,
        " ".join(part for part in (model.quantization, model.dtype, place) if part),
        model.attn_implementation if place else None,
    ]
    line = Text(visible(model.name), style="bold")
    for fact in facts:
        if fact:
            line.append(f" · {visible(fact)}", style="not bold dim")
    return line


def input_line(input: InputRecord) -> Text:
    """The text in a line, and how many tokens it is."""
    shown = visible(input.text)
    line = Text(shown if len(shown) <= 200 else shown[:199] + "…", style="italic")
    return line.append(f"  {len(input.tokens)} tokens", style="not italic dim")


def note(sentence: str) -> Text:
    """A note under a table."""
    return Text(visible(sentence), style="yellow")
