"""What is said around the maps of `attn`."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Protocol

from txinspect.blocks import Block
from txinspect.commands.attn import AttnReport, HeadRecord
from txinspect.records import TensorRecord
from txinspect.render.spelling import visible
from txinspect.render.tables import Line, Words, line
from txinspect.wording import ranges

Weights = Sequence[Sequence[float | None]]


class Weighed(Protocol):
    """A map of weights, by blocks of queries and of keys."""

    @property
    def queries(self) -> Sequence[Block]:
        """The first and the last query of each row."""

    @property
    def keys(self) -> Sequence[Block]:
        """The first and the last key of each column."""

    @property
    def weights(self) -> Weights:
        """Axes: query, key."""


def title(report: AttnReport, layer: int, own: Sequence[TensorRecord]) -> Line:
    """The title over the maps of `attn`: the layer, the module that computes its attention, what was kept of axes."""
    cross = " to the source" if report.attention == "cross" else ""
    kept = dict.fromkeys(
        f"{axis} {ranges(positions)}" for tensor in own for axis, positions in (tensor.coordinates or {}).items()
    )
    words = [Words(f"{report.stack or ''} layer {layer}{cross}".strip(), "strong")]
    if of_one_module(own):
        kind = "" if cross else f" ({own[0].class_})"  # one line, of eighty columns, is enough
        words.append(Words(visible(f" · {own[0].module}{kind}"), "dim"))
    return Line([*words, Words(visible("".join(f" · {each}" for each in kept)), "dim")])


def of_one_module(own: Sequence[TensorRecord]) -> bool:
    """Whether one module supplies all of these tensors of `attn`, which the title then names."""
    return len({(tensor.module, tensor.class_) for tensor in own}) == 1


def is_chosen(own: Sequence[TensorRecord], axis: str) -> bool:
    """Whether a part of an axis, heads or queries, was asked of `attn`."""
    return any(axis in (tensor.coordinates or {}) for tensor in own)


def tries(report: AttnReport, *, everything: bool) -> Line:
    """The line under the maps of `attn`: what to try next; all there is on the screen where `everything` is."""
    options = [] if not report.heads or is_chosen(report.tensors, "head") else ["--head 1"]
    options += [] if not report.heads or is_chosen(report.tensors, "query") else ["--query -1 (the last token)"]
    options += ["--layer all"] if len(report.layers) < (report.model.num_hidden_layers or 1) else []
    if report.heads and not everything and not is_chosen(report.tensors, "head"):
        options.append("--table (q, k, v, …)")
    return line(f"try {', '.join(options or ['txinspect run --stage logits'])}", "dim")


def letter(head: HeadRecord) -> str:
    """The letter of a head's kind in the overview of `attn`; a dot where it is of none."""
    return head.labels[0][0] if head.labels else "·"


def letters(report: AttnReport) -> Line | None:
    """The line about the letters in the overview of `attn`; None where no head has a kind."""
    kinds = dict.fromkeys(head.labels[0] for head in report.heads if head.labels)
    said = ", ".join(f"{kind[0]} {kind}" for kind in kinds)
    return line(f"before each the kind of head: {said}; · none", "dim") if said else None


def largest(queries: Sequence[Block], keys: Sequence[Block], weights: Weights) -> float:
    """The top of a map's own scale, for the weights of a head.

    The first key is left out, on which many heads rest, and so are the first queries, whose few keys get large weights
    whatever the head does; a head that looks nowhere else is not drawn as if it did. Of one query nothing is left out.
    """
    if len(queries) == 1:
        return max((each for each in weights[0] if each is not None and isfinite(each)), default=0.0) or 1.0
    count = keys[-1][1] + 1
    late = [row for row, (first, _) in enumerate(queries) if first >= count // 4] or range(len(queries))
    seen = [
        weight
        for row in late
        for (_, last), weight in zip(keys, weights[row], strict=True)
        if last > 0 and weight is not None and isfinite(weight)
    ]
    return min(1.0, max(max(seen, default=0.0), 4 / count))


def looks_ahead(drawn: Weighed) -> bool:
    """Whether a map has a weight on a key after its query, so that nothing is masked there."""
    return any(
        weight and key[0] > query[1]
        for query, row in zip(drawn.queries, drawn.weights, strict=True)
        for key, weight in zip(drawn.keys, row, strict=True)
    )
