"""Other scores or weights in the place of an attention's own, whatever kernel computed its context.

A kernel reads neither, so the context is moved by the difference that they make: (new - own)·v. Where nothing differs,
not a bit of it changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from txinspect.forward.attention.calls import BackendCall
from txinspect.forward.values import laid_out
from txinspect.forward.wants import Selection

if TYPE_CHECKING:
    from torch import Tensor


def reweighed(call: BackendCall, change: Callable[[str, Tensor], Tensor | None]) -> BackendCall:
    """An attention with what `change` makes of its scores and weights, each None where they stay as they are."""
    scores = _changed(call, change, "scores")
    if scores is not None:
        own, new = scores
        weights = call.part("weights", Selection())[0].whole()
        call = replace(_with_weights(call, weights, _shifted(weights, own, new)), scored=new)
    found = _changed(call, change, "weights")
    return call if found is None else _with_weights(call, *found)


def _changed(
    call: BackendCall, change: Callable[[str, Tensor], Tensor | None], part: str
) -> tuple[Tensor, Tensor] | None:
    """An attention's own scores or weights, and what becomes of them; None where nothing is to."""
    if not getattr(change, "parts", {}).get(part):
        return None
    own = call.part(part, Selection())[0].whole()
    new = change(part, own)
    return None if new is None else (own, laid_out(new, own))


def _with_weights(call: BackendCall, own: Tensor, new: Tensor) -> BackendCall:
    """An attention with other weights: (batch, head, query, key)."""
    import torch

    values = call.value.repeat_interleave(call.query.shape[1] // call.value.shape[1], dim=1)
    exact = torch.promote_types(call.output.dtype, torch.float32)
    moved = ((new.to(exact) - own.to(exact)) @ values.to(exact)).transpose(1, 2)  # (batch, query, head, head_dim)
    output = torch.where(moved == 0, call.output, (call.output.to(exact) + moved).to(call.output.dtype))
    return replace(call, output=laid_out(output, call.output), reported=new)


def _shifted(weights: Tensor, own: Tensor, new: Tensor) -> Tensor:
    """The softmax of other scores, from the weights of an attention's own: whatever is masked stays so.

    Of weights that sum to less than one, the rest is of sinks, whose scores stay as they are.
    """
    import torch

    exact = weights.to(torch.promote_types(weights.dtype, torch.float32))
    shift = torch.where(new == own, 0.0, (new.to(exact.dtype) - own.to(exact.dtype)))
    high = shift.amax(-1, keepdim=True).clamp(min=0.0)  # no exponential overflows
    sinks = (1 - exact.sum(-1, keepdim=True)).clamp(min=0.0)
    sinks = torch.where(sinks < 1e-3, 0.0, sinks)  # rounding
    parts = exact * torch.exp(shift - high)
    total = parts.sum(-1, keepdim=True) + sinks * torch.exp(-high)
    made = (parts / total.clamp(min=torch.finfo(exact.dtype).tiny)).to(weights.dtype)
    return torch.where((new == own).all(-1, keepdim=True), weights, made)
