"""The table of architectures, golden/architectures.md: the modules that txinspect finds in every registered type.

    python -m tests.making.architectures

prints it. Nothing runs: the models are built on the meta device from the tiny configs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, initialization

from tests.making.models import (
    BUILT_FROM_PART,
    NOT_RUN,
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


def skeleton(model_type: str) -> PreTrainedModel:
    """The tiny model on the meta device."""
    if model_type in BUILT_FROM_PART:
        return tiny_model(model_type)
    with torch.device("meta"), initialization.meta_device_safe_creation_ops():
        model: PreTrainedModel = AutoModelForCausalLM.from_config(tiny_config(model_type))
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
    return "\n".join([*lines, ""])


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
