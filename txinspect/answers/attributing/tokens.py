"""How much each token matters to a logit: knocked out of attention, or by integrated gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from txinspect.anatomy.architecture import Stack, Supply
from txinspect.answers import sweeping
from txinspect.answers.running import Running
from txinspect.commands.attribute import TokenEffectRecord, TokensRecord, Ways
from txinspect.errors import InspectError, PassError, StageError, spelled
from txinspect.forward import taps
from txinspect.forward.integrated import Path
from txinspect.forward.wants import Plan
from txinspect.guards.quiet import quiet
from txinspect.records import InputRecord
from txinspect.stage_names import DECODER, ENCODER

if TYPE_CHECKING:
    from torch import Tensor

Value = Callable[["Tensor"], "Tensor"]
"""What is followed of the logits, (batch, seq, vocab): (batch)."""

FIRST, MOST = 32, 2048
"""Steps of the integral, at first and at most."""

GAP = 0.01
"""By how much the shares of tokens may miss the change that they are of."""


def by_token(how: Ways, running: Running, text: InputRecord, logits: Plan, value: Value) -> TokensRecord:
    """How much each token of a text matters to a value of the logits. Raises InspectError where that cannot be had."""
    if how == "gradients":
        return _integrated(running, text, value)
    effects = _knocked_out(running, text, logits, value)
    return TokensRecord(how=how, tokens=effects, steps=None, gap=None)


@dataclass(frozen=True)
class _Token:
    """A token of a stack's text."""

    stack: str
    index: int


def _tokens(running: Running, text: InputRecord) -> list[_Token]:
    return [
        _Token(stack.prefix, token.index)
        for stack in running.subject.architecture.stacks
        for token in text.read_by(stack.prefix).tokens
    ]


def _record(token: _Token, text: InputRecord, value: float) -> TokenEffectRecord:
    whose: dict[str, Literal["encoder", "decoder"]] = {ENCODER: "encoder", DECODER: "decoder"}
    word = text.read_by(token.stack).words[token.index]
    return TokenEffectRecord(index=token.index, token=word, stack=whose.get(token.stack), value=value)


def _knocked_out(running: Running, text: InputRecord, logits: Plan, value: Value) -> list[TokenEffectRecord]:
    """What is lost of a value where no other token attends to each one, beside the text as it is in the same batch."""
    tokens, swept = _tokens(running, text), sweeping.Sweep(logits)
    scores = [each for stack in running.subject.architecture.stacks for each in _scores(running, stack)]
    batches = [tokens[begin : begin + sweeping.ROWS] for begin in range(0, len(tokens), sweeping.ROWS)]
    found: list[TokenEffectRecord] = []
    for batch in running.counted("knocking tokens out", batches):
        blocked = [[(each, _blocked(each, token)) for each in scores if _reads(each) == token.stack] for token in batch]
        plain, *rows = (float(value(row.double())[0]) for row in swept.rows(running, text, [[], *blocked]))
        found += [_record(token, text, plain - row) for token, row in zip(batch, rows, strict=True)]
    return found


def _scores(running: Running, stack: Stack) -> Iterator[Supply]:
    """The scores of every attention of a stack. Raises StageError where tokens reach others by another way, too."""
    name = running.subject.source.name
    for index, layer in enumerate(stack.layers):
        if layer.mixers or not layer.attentions:
            raise StageError(
                f"{spelled('tokens', 'knockout')} is about tokens that others attend to, and layer {index} of {name!r} "
                f"mixes them another way",
                f"give {spelled('tokens', 'gradients')}",
            )
    for supply in stack.supplies():
        if not supply.within.endswith("attention.scores") or supply.module is None:
            continue
        if reason := taps.refusal(running.subject.as_configured, supply):
            raise StageError(
                f"{spelled('tokens', 'knockout')}: {supply.name!r} cannot be changed: {reason}",
                f"give {spelled('tokens', 'gradients')}",
            )
        yield supply


def _reads(supply: Supply) -> str:
    """The stack whose tokens the keys of scores are of."""
    return ENCODER if supply.within.startswith("cross_attention") else supply.stack


def _blocked(supply: Supply, token: _Token) -> Callable[[Tensor], Tensor]:
    """What keeps every other token from attending to one, in scores of (1, head, query, key)."""
    crosses = supply.within.startswith("cross_attention")

    def block(own: Tensor) -> Tensor:
        if own.shape[-1] == 1 and crosses:
            raise StageError(f"{spelled('tokens', 'knockout')}: the encoder's text is one token, and nothing is left")
        new = own.clone()
        new[..., token.index] = float("-inf")
        if not crosses:
            new[..., token.index, token.index] = own[..., token.index, token.index]
        return new

    return block


def _integrated(running: Running, text: InputRecord, value: Value) -> TokensRecord:
    """The share of each token's embedding in a value, with steps doubled until they miss its change by less than GAP.

    Raises InspectError where the model's embeddings cannot be scaled, or the steps would be too many.
    """
    subject = running.subject
    supplies = [
        each for each in subject.architecture.supplies() if each.within == "token_embeddings" and each.tap == "output"
    ]
    if not supplies or not all(each.available for each in supplies):
        raise StageError(f"{spelled('tokens', 'gradients')}: {subject.source.name!r} has no token embeddings to scale")
    path = Path(running.model, running.inputs(text), running.writes, supplies, value)
    try:
        with quiet():
            return _converged(path, _tokens(running, text), text)
    except PassError as error:
        raise InspectError(f"{subject.source.name!r} has no gradients: its {error}") from error


def _converged(path: Path, tokens: Sequence[_Token], text: InputRecord) -> TokensRecord:
    import torch

    start, end = path.ends()
    steps = FIRST
    while True:
        shares = torch.cat(path.shares(steps)).tolist()
        gap = abs(sum(shares) - (end - start)) / abs(end - start) if end != start else abs(sum(shares))
        if gap < GAP or steps >= MOST:
            break
        steps *= 2
    effects = [_record(token, text, share) for token, share in zip(tokens, shares, strict=True)]
    return TokensRecord(how="gradients", tokens=effects, steps=steps, gap=gap)
