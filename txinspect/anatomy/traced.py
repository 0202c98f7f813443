"""What a traced pass was made of: operations, each with what it reads, and the modules' calls around them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

SAME_VALUES = frozenset(
    """
    view reshape _unsafe_view _reshape_alias transpose permute t clone contiguous _to_copy to alias detach expand
    unsqueeze squeeze flatten unflatten lift_fresh dropout native_dropout slice split split_with_sizes unsafe_split
    chunk select unbind unsafe_chunk movedim view_as copy_ copy
    """.split()  # noqa: SIM905 - a list of so many strings is no easier to read
)
"""Operations that pass on what they read, in another shape or type; as long as nothing is left out."""

SUMS = frozenset(["add", "add_"])

ATTENTION = "scaled_dot_product_attention"
"""A fused attention, which reads queries, keys and values."""

PART = "part"
"""One of the several tensors that an operation makes."""

PRODUCTS = frozenset(["mul", "mul_", "div", "div_"])


@dataclass(frozen=True)
class Operation:
    """One operation of a pass."""

    name: str
    inputs: tuple[int, ...]
    """The operations whose results it reads, of those that weights have to do with."""
    weights: tuple[str, ...]
    """The parameters and buffers that it reads itself, by name."""
    shape: tuple[int, ...]
    call: int
    """The innermost call that it is in."""
    factor: float | None = None
    """Of a product with a number: that number; of a sum with nothing but zeros 1."""
    alpha: float = 1.0
    """Of a sum: what its second operand is multiplied with."""
    of_text: bool = True
    """Whether the text has to do with it: not where it is made of weights and positions alone."""
    parts: int = 1
    """How many tensors it makes: each of several is an operation of its own, which reads this one."""
    spread: int = 0
    """How many numbers the largest of its weights has."""

    @property
    def numel(self) -> int:
        """How many numbers an operation's result has."""
        return prod(self.shape)


@dataclass(frozen=True)
class Call:
    """One call of a module."""

    path: str
    run: int
    parent: int
    """The call around it; of the model's own -1."""
    begin: int
    end: int
    """Its operations are those from begin up to end."""
    outputs: tuple[int | None, ...] = ()
    """The operations that made the tensors that it passes on; None for one that weights have nothing to do with."""
    shapes: tuple[tuple[int, ...], ...] = ()
    """The shapes of these tensors."""


@dataclass(frozen=True)
class Traced:
    """A pass as it ran."""

    operations: tuple[Operation, ...]
    calls: tuple[Call, ...]

    def around(self, call: int) -> list[int]:
        """A call and those around it, the outermost first."""
        found = []
        while call >= 0:
            found.append(call)
            call = self.calls[call].parent
        return found[::-1]
