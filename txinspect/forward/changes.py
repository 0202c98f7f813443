"""Edits → what becomes of a stage's tensor: the part that is meant is set, scaled, moved; all else keeps its bits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from txinspect.anatomy.architecture import Supply
from txinspect.edits import HEADS_OUTPUT, Edit
from txinspect.errors import StageError
from txinspect.indices import from_start

if TYPE_CHECKING:
    from torch import Tensor

POSITION = "position"
"""What an edit calls the axis of tokens, whatever the stage calls it."""

UNNAMED = ("batch", "seq", "feature")
"""Axes of what a module passes on that is no stage; where there are two, texts are joined."""


def check_axes(edit: Edit, supply: Supply) -> None:
    """Raise StageError for an axis that a stage to be changed does not have, as far as its own name tells."""
    own = supply.axes or UNNAMED
    for axis in edit.axes:
        if _own_name(axis, own) in own and axis != "batch":
            continue
        if axis == "head" and supply.part == "output":
            wrong, hint = HEADS_OUTPUT
            raise StageError(f"{str(edit)!r}: {supply.name!r} has no heads: {wrong}", hint)
        if axis == "head" and "kv_head" in own:
            raise StageError(
                f"{str(edit)!r}: {supply.name!r} has key–value heads, each of which may serve several heads",
                "name them by kv_head",
            )
        known = ", ".join(POSITION if each == "seq" else each for each in own if each != "batch")
        raise StageError(f"{str(edit)!r}: {supply.name!r} has no axis {axis!r}", f"it has {known}")
    if edit.source == "mean" and "seq" not in own:
        raise StageError(
            f"{str(edit)!r}: a mean is over tokens, and {supply.name!r} has an axis of queries and one of keys",
            "set it to 0, or to another text's",
        )


def change_of(edit: Edit, supply: Supply, value: Tensor | None, special: Collection[int]) -> Callable[[Tensor], Tensor]:
    """What an edit makes of a stage's tensor. `value` is what is set or added, and None where that is a number or the
    mean of the text's own tokens; `special` are the tokens that a mean neither counts nor replaces.

    Raises StageError, as the pass comes by, for positions that are not there and for a value of another shape.
    """

    def change(own: Tensor) -> Tensor:
        import torch

        axes = supply.axes if supply.axes and len(supply.axes) == own.ndim else UNNAMED[-own.ndim :]
        meant = _meant(edit, supply, axes, own)
        if edit.source == "mean":
            meant = meant & _ordinary(own, axes.index("seq"), special)
        return torch.where(meant, _made(edit, supply, axes, own, value, special).to(own.dtype), own)

    return change


def _meant(edit: Edit, supply: Supply, axes: Sequence[str], own: Tensor) -> Tensor:
    """Which numbers of a stage's tensor an edit is about, in its shape or one that broadcasts to it."""
    import torch

    meant = torch.ones((1,) * own.ndim, dtype=torch.bool, device=own.device)
    for axis, positions in edit.axes.items():
        if _own_name(axis, axes) not in axes:
            raise StageError(
                f"{str(edit)!r}: {supply.name!r} has no axis {axis!r} here: its shape is {list(own.shape)}"
            )
        place = axes.index(_own_name(axis, axes))
        size = own.shape[place]

        def wrong(position: int, axis: str = axis, size: int = size) -> StageError:
            return StageError(
                f"{str(edit)!r}: {axis} {position} is out of range: {supply.name!r} has {size} of them, 0 to {size - 1}"
            )

        chosen = torch.zeros(size, dtype=torch.bool, device=own.device)
        chosen[list(from_start(positions, size, wrong))] = True
        meant = meant & _along(chosen, place, own.ndim)
    return meant


def _made(
    edit: Edit, supply: Supply, axes: Sequence[str], own: Tensor, value: Tensor | None, special: Collection[int]
) -> Tensor:
    """What an edit would make of all of a stage's tensor."""
    import torch

    if edit.op == "*":
        return own * edit.amount
    if edit.source == "number":
        if isfinite(edit.amount) and abs(edit.amount) > torch.finfo(own.dtype).max:
            kind = str(own.dtype).removeprefix("torch.")
            raise StageError(f"{str(edit)!r}: {edit.value} is too large for {kind}", "give less, or inf")
        return torch.full_like(own, edit.amount)
    if value is None:
        return mean_over_tokens(own, axes.index("seq"), special)
    given = _fitted(edit, supply, own, value)
    if edit.op == "=":
        return given
    exact = own.to(torch.promote_types(own.dtype, torch.float32))
    if edit.op == "- proj":
        unit = given / given.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(exact.dtype).tiny)
        moved = -(exact * unit).sum(-1, keepdim=True) * unit
    elif edit.in_norms:
        unit = given / given.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(exact.dtype).tiny)
        moved = edit.amount * exact.norm(dim=-1, keepdim=True) * unit
    else:
        moved = edit.amount * given
    return torch.where(moved == 0, exact, exact + moved)  # adding zero would make plus of a minus zero


def put(
    supply: Supply, value: Tensor, *, head: int | None = None, at: Sequence[tuple[int, int]] | None = None
) -> Callable[[Tensor], Tensor]:
    """What gives a stage's tensor the value that it has on another text, (1, …): of a head, or of all of them.

    `at` are positions to be given one, each with that in the other text; None for all, of texts of one length.
    """

    def change(own: Tensor) -> Tensor:
        axes = supply.axes or ()
        if len(axes) != own.ndim or value.ndim != own.ndim:
            raise StageError(f"{supply.name!r} has no axes {', '.join(axes)} here: its shape is {list(own.shape)}")
        to, source = list[Any]([slice(None)] * own.ndim), list[Any]([slice(None)] * own.ndim)
        if head is not None:
            to[axes.index("head")] = source[axes.index("head")] = slice(head, head + 1)
        if at is not None:
            place = axes.index("seq")
            to[place], source[place] = ([pair[side] for pair in at] for side in range(2))
            if max(to[place]) >= own.shape[place] or max(source[place]) >= value.shape[place]:
                raise StageError(f"{supply.name!r} has no place for each token: its shape is {list(own.shape)}")
        new = own.clone()
        new[tuple(to)] = value[tuple(source)].to(own)
        return new

    return change


def mean_over_tokens(own: Tensor, place: int, special: Collection[int]) -> Tensor:
    """The mean of a stage's tensor over its ordinary tokens, in float64: with one position on that axis."""
    kept = [index for index in range(own.shape[place]) if index not in special]
    if not kept:
        raise StageError("a mean is over a text's ordinary tokens, and it has none but special ones")
    import torch

    chosen = own.index_select(place, torch.tensor(kept, device=own.device))
    return chosen.double().mean(dim=place, keepdim=True)


def _fitted(edit: Edit, supply: Supply, own: Tensor, value: Tensor) -> Tensor:
    """A value as an edit sets or adds it: on the tensor's device, in a shape that broadcasts to the tensor's."""
    import torch

    given = value.to(own.device, torch.promote_types(own.dtype, torch.float32))
    try:
        torch.broadcast_shapes(given.shape, own.shape)
    except RuntimeError:
        fits = False
    else:
        fits = all(each in (1, here) for each, here in zip(given.shape[::-1], own.shape[::-1], strict=False))
        fits = fits and given.ndim <= own.ndim
    if not fits:
        hint = "give a text of as many tokens" if edit.source == "text" else "give a tensor of that shape, or a vector"
        raise StageError(
            f"{str(edit)!r}: {supply.name!r} has the shape {list(own.shape)} here, and the value {list(given.shape)}",
            hint,
        )
    return given


def _ordinary(own: Tensor, place: int, special: Collection[int]) -> Tensor:
    """Which numbers of a stage's tensor are of ordinary tokens, which a mean takes the place of."""
    import torch

    chosen = torch.tensor([index not in special for index in range(own.shape[place])], device=own.device)
    return _along(chosen, place, own.ndim)


def _along(chosen: Tensor, place: int, dimensions: int) -> Tensor:
    return chosen.view([-1 if each == place else 1 for each in range(dimensions)])


def _own_name(axis: str, axes: Sequence[str]) -> str:
    """What a stage calls an axis that an edit names: tokens are positions everywhere."""
    return "seq" if axis == POSITION and "seq" in axes else axis
