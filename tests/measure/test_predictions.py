"""What logits predict, against numpy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from txinspect.measure import predictions


def reference(row: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Logits and log-probabilities in float64."""
    exact = row.double().numpy()
    top = exact.max()
    return exact, exact - top - np.log(np.exp(exact - top).sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("chunk", [1, 50, 1 << 21])
def test_ranks_probabilities_and_entropies(dtype: torch.dtype, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "CHUNK", chunk)
    logits = (torch.randn(7, 300, generator=torch.Generator().manual_seed(0)) * 5).to(dtype)
    following = [int(each) for each in torch.randint(300, (6,), generator=torch.Generator().manual_seed(1))]
    found = predictions.after_each(logits, [*following, None])
    assert [each is None for _, each in found] == [False] * 6 + [True]
    for row, token_id, (entropy, scored) in zip(logits, [*following, 0], found, strict=True):
        exact, logprobs = reference(row)
        assert entropy == pytest.approx(-(np.exp(logprobs) * logprobs).sum(), rel=1e-10)
        if scored is not None:
            assert (scored.id, scored.logit) == (token_id, exact[token_id])
            assert scored.logprob == pytest.approx(logprobs[token_id], abs=1e-10)
            assert scored.rank == 1 + (exact > exact[token_id]).sum()
            assert scored.ties == (exact == exact[token_id]).sum() - 1


def test_equal_logits_are_listed_by_id() -> None:
    logits = torch.tensor([1.0, 3.0, 2.0, 3.0, 2.0, 2.0])
    assert predictions.likeliest(logits, 4) == [1, 3, 2, 4]
    top = predictions.top(logits, 4)
    assert [(each.id, each.rank, each.ties) for each in top] == [(1, 1, 1), (3, 1, 1), (2, 3, 2), (4, 3, 2)]


def test_infinite_logits() -> None:
    logits = torch.tensor([[0.0, 0.0, -torch.inf]])
    ((entropy, scored),) = predictions.after_each(logits, [2])
    assert entropy == pytest.approx(np.log(2))
    assert scored is not None
    assert (scored.prob, scored.rank) == (0.0, 3)
    ((_, divergence),) = predictions.compared(torch.tensor([[1.0, 1.0, 5.0]]), logits)
    assert divergence > 0


def test_divergence() -> None:
    left, right = torch.randn(2, 5, 40, generator=torch.Generator().manual_seed(0)).unbind()
    for row, other, (_, divergence) in zip(left, right, predictions.compared(right, left), strict=True):
        p, q = reference(row)[1], reference(other)[1]
        assert divergence == pytest.approx((np.exp(p) * (p - q)).sum(), rel=1e-9)
    assert [each for _, each in predictions.compared(left, left)] == [0.0] * 5
