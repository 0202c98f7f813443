"""What operators make on the meta device, remembered by the layout of what they read."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_leaves

from txinspect.forward.remembered import Remembered, _layout

ATEN = torch.ops.aten


def of(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(*shape, dtype=dtype, device="meta")


CALLS: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any]]] = {
    "a sum": (ATEN.add.Tensor, (of(2, 3), of(3)), {}),
    "a sum of other types": (ATEN.add.Tensor, (of(2, 3, dtype=torch.bfloat16), of(3)), {}),
    "a sum of other strides": (ATEN.add.Tensor, (of(3, 2).t(), of(3, 2).t()), {}),
    "a product with one": (ATEN.mul.Tensor, (of(4, dtype=torch.int64), 1), {}),
    "a product with 1.0": (ATEN.mul.Tensor, (of(4, dtype=torch.int64), 1.0), {}),
    "a product with true": (ATEN.mul.Tensor, (of(4, dtype=torch.bool), True), {}),
    "a product of matrices": (ATEN.mm.default, (of(2, 3), of(5, 3).t()), {}),
    "another type": (ATEN._to_copy.default, (of(2, 3),), {"dtype": torch.float16}),
    "a sum over an axis": (ATEN.mean.dim, (of(2, 3), [-1], True), {}),
    "several tensors": (ATEN.topk.default, (of(2, 9), 4), {}),
    "tensors joined": (ATEN.cat.default, ([of(2, 3), of(4, 3)],), {}),
    "a view": (ATEN.view.default, (of(2, 3), [6]), {}),
    "a view by no name": (ATEN._unsafe_view.default, (of(2, 3), [6]), {}),
    "complex numbers": (ATEN.mul.Tensor, (of(2, dtype=torch.complex64), of(2, dtype=torch.complex64)), {}),
}


def layouts(result: Any) -> list[Any]:
    return [(each.shape, each.stride(), each.dtype, each.device.type) for each in tree_leaves(result)]


@pytest.mark.parametrize("turn", [1, -1])
def test_what_is_remembered_is_what_the_operator_makes(turn: int) -> None:
    remembered = Remembered()
    for _ in range(2):
        for operator, args, options in list(CALLS.values())[::turn]:
            own, found = operator(*args, **options), remembered.run(operator, args, options)
            assert layouts(found) == layouts(own)
            assert len(tree_leaves(found)) == len(tree_leaves(own))


def test_an_operator_is_run_once_for_a_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def noting(result: Any) -> Any:
        made.append(result)
        return _layout(result)

    monkeypatch.setattr("txinspect.forward.remembered._layout", noting)
    remembered = Remembered()
    first, second = (remembered.run(ATEN.add.Tensor, (of(2, 3), of(3)), {}) for _ in range(2))
    assert len(made) == 1
    assert first is not second
    assert first.untyped_storage()._cdata != second.untyped_storage()._cdata


def test_a_view_stays_a_view_and_what_writes_writes() -> None:
    remembered, tensor = Remembered(), of(2, 3)
    for _ in range(2):
        view = remembered.run(ATEN.view.default, (tensor, [6]), {})
        assert view.untyped_storage()._cdata == tensor.untyped_storage()._cdata
        assert remembered.run(ATEN.add_.Tensor, (tensor, 1), {}) is tensor
