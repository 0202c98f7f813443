"""The table of architectures, golden/architectures.md: the modules that txinspect finds in every registered type.

    python -m tests.making.architectures

prints it. Nothing runs: the models are built on the meta device from the tiny configs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedModel, initialization

from tests.making.models import (
    AUTO_CLASS,
    BUILT_FROM_PART,
    MASKED_NOT_RUN,
    NOT_RUN,
    NOT_TEXT,
    Task,
    buildable_types,
    missing_package,
    registered_types,
    tiny_config,
    tiny_model,
)
from txinspect.anatomy import architecture, locating
from txinspect.anatomy.architecture import Supply
from txinspect.anatomy.families import NO_SOFTMAX
from txinspect.forward.attention.recorder import uses_backend
from txinspect.stage_names import StageName
from txinspect.version import NEWEST_TRANSFORMERS


@dataclass(frozen=True)
class Row:
    """What one type has."""

    model_type: str
    layers: int
    attention: str
    positions: str
    mixer: str
    router: str
    absent: tuple[str, ...]
    """Stages that a part of a pass has and this model does not supply, with the reason."""


def skeleton(model_type: str, task: Task = "causal-lm") -> PreTrainedModel:
    """The tiny model on the meta device."""
    if model_type in BUILT_FROM_PART:
        return tiny_model(model_type)
    with torch.device("meta"), initialization.meta_device_safe_creation_ops():
        model: PreTrainedModel = AUTO_CLASS[task].from_config(tiny_config(model_type, task))
    return model


def row(model_type: str) -> Row:
    """What txinspect finds in a type."""
    model = skeleton(model_type)
    locating.settle(model, 10)
    found = locating.locate(model)
    supplies = found.supplies()
    return Row(
        model_type=model_type,
        layers=len(found.layers),
        attention=_attention(model, found),
        positions=_positions(supplies),
        mixer=", ".join(sorted({found.class_names[path] for layer in found.layers for path in layer.mixers})) or "–",
        router="yes" if any(layer.routers for layer in found.layers) else "–",
        absent=tuple(_absent(supplies)),
    )


def _attention(model: PreTrainedModel, found: architecture.Architecture) -> str:
    if not any(layer.attentions for layer in found.layers):
        return "none"
    recordable = [
        [path for path in layer.attentions if found.class_names[path] not in NO_SOFTMAX] for layer in found.layers
    ]
    paths = [path for layer in recordable for path in layer]
    if not paths:
        return "not recordable"
    kinds = {"backend" if uses_backend(model.get_submodule(path)) else "own softmax" for path in paths}
    return " and ".join(sorted(kinds)) + ("" if all(recordable) else ", some layers")


def _positions(supplies: list[Supply]) -> str:
    found = [supply for supply in supplies if supply.name.startswith("position_embeddings")]
    note = found[0].note or ""
    if not found[0].available:
        return "none"
    if note.startswith("buckets"):
        return "relative buckets" + (", added to the embeddings" if len(found) > 2 else "")
    if note.startswith("a bias") or (found[0].axes or ())[1:2] == ("head",):
        return "relative bias"
    for kind in ("ALiBi", "rotary"):
        if note.startswith(kind):
            return kind
    return "relative sinusoids" if note.startswith("sinusoids") else "added to the embeddings"


def _absent(supplies: Iterable[Supply]) -> Iterable[str]:
    """Missing stages that a reader would expect: an embedding, a norm, an MLP's sum, weights that cannot be had."""
    seen = set()
    for supply in supplies:
        part = supply.name.split(".", 2)[-1] if supply.name.startswith("layers.") else supply.name
        expected = part in ("token_embeddings", "final_norm", "mlp.output", "attention.weights", "mlp.router.experts")
        reason = supply.reason or ""
        ordinary = "has no attention" in reason or "is dense" in reason or "has no MLP" in reason
        if expected and reason and not ordinary and part not in seen:
            seen.add(part)
            yield part


def rows() -> list[Row]:
    """Every registered type that can be built here."""
    return [row(name) for name in buildable_types()]


def table() -> str:
    """The page: counts, exceptions by name, and all types."""
    found = rows()
    lines = ["# Architectures", "", _intro(found), ""]
    for title, values in (
        ("attention", [each.attention for each in found]),
        ("positions", [each.positions for each in found]),
        (
            "recurrent or convolutional mixers",
            ["some or all layers" if each.mixer != "–" else "none" for each in found],
        ),
        ("mixture-of-experts router", [each.router.replace("–", "none") for each in found]),
    ):
        counts = ", ".join(f"{kind} {count}" for kind, count in Counter(values).most_common())
        lines.append(f"- **{title}**: {counts}")
    lines += ["", "Stages that a type does not have, or not truthfully, beyond what its kind implies:", ""]
    for part in sorted({part for each in found for part in each.absent}):
        names = [each.model_type for each in found if part in each.absent]
        lines.append(f"- `{part}`: {', '.join(names)}")
    lines += [f"- not run: {name}: {reason}" for name, reason in sorted(NOT_RUN.items())]
    needing = [(name, missing_package(name)) for name in registered_types()]
    lines += [f"- not built here: {name}, which needs the package {package}" for name, package in needing if package]
    lines += ["", "| type | attention | positions | mixer | router | absent |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {each.model_type} | {each.attention} | {each.positions} | {each.mixer} | {each.router} "
        f"| {', '.join(each.absent) or '–'} |"
        for each in found
    ]
    return "\n".join([*lines, "", *_encoders(), ""])


@dataclass(frozen=True)
class EncoderRow:
    """What one type of encoder, or of encoder–decoder, has."""

    model_type: str
    class_name: str
    attention: str
    cross: str
    positions: str
    absent: str


def encoder_row(model_type: str, task: Task) -> EncoderRow:
    """What txinspect finds in a type."""
    model = skeleton(model_type, task)
    locating.settle(model, 10)
    found = locating.locate(model)
    layers = [layer for _, _, layer in found.numbered_layers()]
    cross = {found.class_names[path] for layer in layers for path in layer.cross_attentions}
    recordable = all(
        path and found.class_names[path] not in NO_SOFTMAX
        for layer in layers
        for path in (layer.attentions or ("",))
        if path or not layer.mixers
    )
    attention = ", ".join(sorted({found.class_names[path] for layer in layers for path in layer.attentions})) or "none"
    places = dict.fromkeys(_positions(_of(found, stack.prefix)) for stack in found.stacks)
    expected = ("token_embeddings", "final_norm", "mlp.output", "attention.weights")
    lacking = {StageName.of(each.name).part: each for each in found.supplies() if each.reason}
    return EncoderRow(
        model_type=model_type,
        class_name=type(model).__name__,
        attention=attention + ("" if recordable else ", not all recordable"),
        cross=", ".join(sorted(cross)) or "–",
        positions=", ".join(places),
        absent=", ".join(part for part in expected if part in lacking) or "–",
    )


def _of(found: architecture.Architecture, prefix: str) -> list[Supply]:
    """The supplies of a stack, by their names without its prefix."""
    return [replace(each, name=each.name.removeprefix(prefix)) for each in found.supplies() if each.stack == prefix]


def _encoders() -> Iterable[str]:
    """The part of the page about the other two kinds."""
    kinds: tuple[tuple[Task, str, dict[str, str]], ...] = (
        ("masked-lm", "Encoders", MASKED_NOT_RUN),
        ("seq2seq-lm", "Encoder–decoders", NOT_TEXT),
    )
    for task, title, left_out in kinds:
        types = buildable_types(task)
        lists = "MODEL_FOR_MASKED_LM" if task == "masked-lm" else "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM"
        yield f"## {title}"
        yield ""
        yield (
            f"{len(types)} types of the list {lists}_MAPPING_NAMES are held against plain transformers in the same "
            f"way: modules bit for bit, weights equal to eager's within 1e-5, rows that sum to 1, padding without "
            f"weight."
        )
        yield ""
        yield from (f"- left out: {name}: {reason}" for name, reason in sorted(left_out.items()))
        yield from (
            "",
            "| type | class | attention | cross-attention | positions | absent |",
            "|---|---|---|---|---|---|",
        )
        for each in (encoder_row(name, task) for name in types):
            yield (
                f"| {each.model_type} | {each.class_name} | {each.attention} | {each.cross} | {each.positions} "
                f"| {each.absent} |"
            )
        yield ""


def _intro(found: list[Row]) -> str:
    import transformers

    return (
        f"Of the {len(registered_types())} causal-LM types that transformers {transformers.__version__} registers, "
        f"{len(found)} are built here as tiny random checkpoints and held against plain transformers: every module's "
        f"tensor equal bit for bit, attention weights equal to eager's within 1e-5, logits unchanged by recording."
    )


def is_newest_tested() -> bool:
    """Whether the installed transformers is the newest that the project was tested with."""
    import transformers

    return ".".join(transformers.__version__.split(".")[:2]) == NEWEST_TRANSFORMERS


if __name__ == "__main__":
    print(table(), end="")
