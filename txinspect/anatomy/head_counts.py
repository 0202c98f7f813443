"""How many heads an attention has, and what for keys and values: read off the shapes of its products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from txinspect.anatomy.traced import ATTENTION, SAME_VALUES, Operation, Traced

_PRODUCTS = ("bmm", "baddbmm", "matmul")


@dataclass(frozen=True)
class HeadCounts:
    """The heads of one attention."""

    heads: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None


def head_counts(traced: Traced, calls: Sequence[int], within: int) -> HeadCounts:
    """The heads of the attention that some calls, or one that is opened, are; none where there is no softmax."""
    spans = [
        (traced.calls[call].begin, traced.calls[call].end) for call in (*calls, *([within] if within >= 0 else []))
    ]
    for begin, end in spans:
        for index in range(begin, end):
            operation = traced.operations[index]
            if operation.name == ATTENTION and len(operation.shape) == 4 and len(operation.inputs) > 2:
                return _of_products(traced.operations, *operation.inputs[:2], heads=operation.shape[1])
            if operation.name.endswith("softmax") and len(operation.shape) == 4:
                return _of_softmax(traced.operations, index)
    return HeadCounts()


def _of_softmax(operations: Sequence[Operation], index: int) -> HeadCounts:
    """The heads of the attention that a softmax is in."""
    heads = operations[index].shape[1]
    product = _product_before(operations, index)
    if product is None:
        return HeadCounts(heads)
    return _of_products(operations, *operations[product].inputs[-2:], heads=heads)


def _of_products(operations: Sequence[Operation], query: int, key: int, *, heads: int) -> HeadCounts:
    """The heads of the attention of which these are queries and keys."""
    shape = operations[key].shape
    shared = shape[1] if len(shape) == 4 and shape[1] < heads and heads % shape[1] == 0 else None
    return HeadCounts(heads, shared or _fewest(operations, key, heads), operations[query].shape[-1])


def _product_before(operations: Sequence[Operation], index: int) -> int | None:
    """The product of queries and keys that leads to a softmax."""
    todo, seen = [index], set[int]()
    while todo:
        each = todo.pop(0)
        if operations[each].name in _PRODUCTS and len(operations[each].inputs) >= 2:
            return each
        todo += [other for other in operations[each].inputs if other not in seen]
        seen.update(operations[each].inputs)
    return None


def _fewest(operations: Sequence[Operation], key: int, heads: int) -> int:
    """The number of heads that keys have before they are repeated for groups of queries."""
    while True:
        operation = operations[key]
        repeats = operation.name in SAME_VALUES or operation.factor is not None
        if not repeats or len(operation.inputs) != 1:
            return heads
        before = operations[operation.inputs[0]].shape
        is_repeated = operation.name == "expand" and len(operation.shape) == 5 and before[2:3] == (1,)
        if is_repeated and operation.shape[2] > 1 and operation.shape[1] * operation.shape[2] == heads:
            return operation.shape[1]
        key = operation.inputs[0]
