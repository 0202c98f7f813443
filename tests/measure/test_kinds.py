"""What kind of head: planted patterns with known numbers, and numpy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from txinspect.commands.heads import KindRecord
from txinspect.measure import kinds

COUNT, COPY = 21, 10
"""A special token, then ten tokens twice."""


def planted() -> torch.Tensor:
    """Heads that look at the token before, the first, themselves, the same one earlier, the next to it, all."""
    weights = torch.zeros(1, 6, COUNT, COUNT)
    for query in range(COUNT):
        later = query >= 1 + COPY
        for head, key in enumerate(
            (max(0, query - 1), 0, query, query - COPY if later else 0, query - COPY + 1 if later else 0)
        ):
            weights[0, head, query, key] = 1.0
        weights[0, 5, query, : query + 1] = 1 / (query + 1)
    return weights


def measured(weights: torch.Tensor, step: int = COUNT, **options: object) -> list[KindRecord]:
    return kinds.measure(lambda: iter(weights.split(step, dim=2)), 3, 1, **options).heads  # type: ignore[arg-type]


@pytest.mark.parametrize("step", [1, 4, COUNT])
def test_planted_patterns(step: int) -> None:
    heads = measured(planted(), step, special=[0], copy=COPY, skipped=1)
    assert [head.labels[0] for head in heads] == ["previous", "first", "self", "duplicate", "induction", "broad"]
    assert (heads[0].previous, heads[1].first_token, heads[2].self_token) == (1.0, 1.0, 1.0)
    assert (heads[3].duplicate, heads[4].induction) == (1.0, 1.0)
    assert heads[5].relative_entropy == pytest.approx(1.0)
    assert heads[1].special == 1.0
    assert [head.entropy for head in heads[:5]] == [0.0] * 5
    assert {(head.layer, head.run) for head in heads} == {(3, 1)}


@pytest.mark.parametrize("step", [1, 5, 64])
def test_numbers_against_numpy(step: int) -> None:
    scores = torch.randn(1, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    weights = scores.masked_fill(~torch.ones(16, 16).tril().bool(), -torch.inf).softmax(-1)
    exact = weights[0].double().numpy()
    places = np.arange(16)
    for head, record in zip(exact, measured(weights, step, special=[0, 7], copy=5, skipped=2), strict=True):
        with np.errstate(divide="ignore", invalid="ignore"):
            entropy = -np.nansum(np.where(head > 0, head * np.log(head), 0), axis=1)
        assert record.entropy == pytest.approx(entropy.mean())
        assert record.relative_entropy == pytest.approx((entropy[1:] / np.log(places[1:] + 1)).mean())
        assert record.distance == pytest.approx((head * np.abs(places[:, None] - places)).sum(1).mean())
        assert record.previous == pytest.approx(np.mean([head[t, t - 1] for t in range(1, 16)]))
        assert record.duplicate == pytest.approx(np.mean([head[t, t - 5] for t in range(7, 16)]))
        assert record.induction == pytest.approx(np.mean([head[t, t - 4] for t in range(7, 16)]))
        assert record.special == pytest.approx(head[:, [0, 7]].sum(1).mean())
    on_keys = kinds.measure(lambda: iter((weights,)), 0, 1).on_keys
    for head, means in zip(exact, on_keys, strict=True):
        assert means == pytest.approx([head[k:, k].mean() for k in range(16)])


def test_sinks_are_shares_of_heads() -> None:
    found = kinds.sinks([[0.9, 0.31], [0.5, 0.1], [0.3, 0.31], [0.1, 0.0]])
    assert [(sink.key, sink.share) for sink in found] == [(0, 0.5), (1, 0.5)]


def test_weights_are_shares_of_what_is_moved() -> None:
    weights = torch.full((1, 1, 2, 2), 0.5)
    (head,) = measured(weights, scale=torch.tensor([[1.0, 3.0]]))
    assert (head.first_token, head.self_token) == (0.25, 0.75)


def test_one_token() -> None:
    (head,) = measured(torch.ones(1, 1, 1, 1))
    assert (head.previous, head.first_token, head.entropy, head.labels) == (None, None, 0.0, [])
