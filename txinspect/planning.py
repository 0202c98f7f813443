"""What one forward pass records for a query: stage names, globs and module paths → wants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from txinspect.errors import InspectError, StageError
from txinspect.queries import AttnQuery, EmbedQuery, PosQuery, RunQuery, TensorQuery
from txinspect.stages import ATTENTION_PARTS, BY_PART, is_glob, matching, nearest

if TYPE_CHECKING:
    from txinspect.architecture import Layer, Supply
    from txinspect.capture import Want
    from txinspect.records import InputRecord
    from txinspect.subject import Subject


SKIPPED = "--skip-norm: the attention was fed the layer's input, which it reads anyway where no norm stands in between."


@dataclass(frozen=True)
class Plan:
    """What one forward pass records."""

    wants: list[Want]
    skip_norm: Layer | None = None
    notes: tuple[str, ...] = ()


def plan(subject: Subject, query: TensorQuery) -> Plan:
    """What a query records. Raises StageError for a stage that the model does not have."""
    match query:
        case AttnQuery():
            return attention(subject, query)
        case EmbedQuery():
            return named(subject, ["token_embeddings"])
        case PosQuery():
            return named(subject, ["position_embeddings"])
        case RunQuery():
            return named(subject, query.stages)
    raise TypeError(f"{type(query).__name__} records nothing")


def named(subject: Subject, patterns: Sequence[str]) -> Plan:
    """The stages and modules that names and globs pick."""
    from txinspect.capture import Want

    chosen: dict[Supply, Want] = {}
    for pattern in sorted(patterns, key=is_glob):
        supplies = _supplies(subject, pattern)
        # Of several modules that can supply a stage, such as rotary tables of two kinds, not all need to run.
        may_be_idle = is_glob(pattern) or len({supply.module for supply in supplies}) > 1
        for supply in supplies:
            chosen.setdefault(supply, Want(supply, by_glob=may_be_idle))
    notes = dict.fromkeys(supply.note for supply in chosen if supply.note and supply.name.startswith("position_"))
    return Plan(list(chosen.values()), notes=tuple(f"Positions: {note}." for note in notes if note))


def _supplies(subject: Subject, pattern: str) -> list[Supply]:
    """What one name or glob picks. Raises StageError where the model has nothing of the kind."""
    known: dict[str, list[Supply]] = {}
    for supply in subject.architecture.supplies() + subject.architecture.module_supplies():
        known.setdefault(supply.name, []).append(supply)
    if is_glob(pattern):
        picked = [supply for name in matching(pattern, known) for supply in known[name]]
    else:
        parts = [supply for name in known if name.startswith(pattern + ".") for supply in known[name]]
        picked = known.get(pattern) or (parts if pattern in BY_PART else [])
    available = [supply for supply in picked if supply.available]
    if available:
        return available
    if picked:
        raise StageError(f"{subject.source.name!r} has no stage {pattern!r}: {picked[0].reason}")
    _check_layer_in_name(subject, pattern)
    near = nearest(pattern, list(known))
    hint = f"did you mean {' or '.join(near)}?" if near else "'txinspect stages' and 'txinspect tree' list the names"
    raise StageError(f"{subject.source.name!r} has no stage or module {pattern!r}: {hint}")


def attention(subject: Subject, query: AttnQuery) -> Plan:
    """Everything about one layer's attention."""
    from txinspect.attention import Selection
    from txinspect.capture import Want

    _check_layer(subject, query.layer)
    names = [f"layers.{query.layer}.attention.{part}" for part in ATTENTION_PARTS]
    selection = Selection(query.heads, query.queries)
    supplies = [supply for supply in subject.architecture.supplies() if supply.name in names]
    reasons = tuple(dict.fromkeys(supply.reason for supply in supplies if supply.reason is not None))
    if not any(supply.available for supply in supplies):
        raise StageError(f"{subject.source.name!r}: {reasons[0]}")
    wants = [Want(supply, selection) for supply in supplies if supply.available]
    if not query.skip_norm:
        return Plan(wants, notes=reasons)
    return Plan(wants, subject.architecture.layers[query.layer], (SKIPPED, *reasons))


def until(subject: Subject, plan: Plan) -> str | None:
    """The module before whose start the pass may not stop: tables of positions may be made once per kind of layer."""
    if subject.architecture.loops:
        return None
    in_layers = subject.architecture.rotaries and ".layers." in subject.architecture.rotaries[0] + "."
    positions = [want for want in plan.wants if want.supply.name.startswith("position_embeddings.")]
    return subject.architecture.first_layer() if positions and not in_layers else ""


def listed(supplies: Sequence[Supply]) -> list[Supply]:
    """The stages to list: without those of other kinds of model, such as routers where no layer has experts."""

    def part(supply: Supply) -> str:
        return supply.name.split(".", 2)[2] if supply.name.startswith("layers.") else supply.name

    present = {part(supply) for supply in supplies if supply.available}
    return [s for s in supplies if part(s) in present or part(s) not in BY_PART or not BY_PART[part(s)].optional]


def _check_layer(subject: Subject, layer: int) -> None:
    count = len(subject.architecture.layers)
    if not count:
        raise StageError(f"layer {layer} is out of range: {subject.source.name!r} has no layers")
    if layer >= count:
        raise StageError(f"layer {layer} is out of range: {subject.source.name!r} has layers 0 to {count - 1}")


def _check_layer_in_name(subject: Subject, name: str) -> None:
    """A name such as layers.99.output is best answered with the layers there are."""
    first, _, rest = name.partition(".")
    number = rest.partition(".")[0]
    if first == "layers" and number.isdecimal():
        _check_layer(subject, int(number))


def check_length(subject: Subject, text: InputRecord, query: TensorQuery) -> None:
    """Raise InspectError for a text, or a query index, beyond what the model and the text have."""
    count, limit = len(text.tokens), subject.architecture.max_positions
    if limit is not None and count > limit:
        raise InspectError(
            f"the text is {count} tokens long and {subject.source.name!r} has {limit} positions: shorten the text"
        )
    rows = getattr(subject.skeleton.get_input_embeddings(), "num_embeddings", None)
    largest = max(text.tokens, key=lambda token: token.id)
    if rows is not None and largest.id >= rows:
        raise InspectError(
            f"the tokenizer of {subject.source.name!r} gives token id {largest.id}, and its embedding table has {rows} "
            f"rows: the tokenizer does not belong to these weights"
        )
    queries = (query.queries if isinstance(query, AttnQuery) else None) or ()
    beyond = [index for index in queries if index >= count]
    if beyond:
        raise InspectError(f"query {beyond[0]} is out of range: the text has tokens 0 to {count - 1}")
