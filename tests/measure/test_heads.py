"""What each head does, against numpy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from txinspect.measure.heads import head_records


def causal(heads: int, count: int) -> torch.Tensor:
    """Random attention weights: (1, head, query, key)."""
    scores = torch.randn(1, heads, count, count, generator=torch.Generator().manual_seed(0))
    return scores.masked_fill(~torch.ones(count, count).tril().bool(), -torch.inf).softmax(-1)


@pytest.mark.parametrize("count", [5, 64, 65, 200])
@pytest.mark.parametrize("step", [7, 1000])
@pytest.mark.parametrize("size", [8, 64, 300])
def test_maps_and_strongest_keys(count: int, step: int, size: int) -> None:
    weights = causal(3, count)
    records = head_records(
        lambda: iter(weights.split(step, dim=2)), tuple(weights.shape), {}, layer=2, run=1, map_size=size
    )
    exact = weights[0].double().numpy()
    for head, record in enumerate(records):
        assert (record.layer, record.head, record.run) == (2, head, 1)
        mean = exact[head].mean(axis=0)
        order = np.argsort(-mean)[:4]
        assert [key.index for key in record.strongest] == order.tolist()
        assert [key.weight for key in record.strongest] == pytest.approx(mean[order].tolist(), rel=1e-9)
        assert len(record.map.keys) <= max(size, 1)
        assert len(record.map.queries) <= 64
        assert [key for first, last in record.map.keys for key in range(first, last + 1)] == list(range(count))
        assert [query for first, last in record.map.queries for query in range(first, last + 1)] == list(range(count))
        for row, (top, bottom) in enumerate(record.map.queries):
            for column, (first, last) in enumerate(record.map.keys):
                block = exact[head, top : bottom + 1, first : last + 1]
                assert record.map.weights[row][column] == block.max()
        if count > size:
            singles = {first for first, last in record.map.keys if first == last}
            assert {0, int(order[0])} <= singles
            assert record.map.keys == records[0].map.keys


def test_a_block_with_nan_is_nan() -> None:
    weights = causal(1, 100)
    weights[0, 0, 50, 20] = torch.nan
    (record,) = head_records(lambda: iter(weights.split(30, dim=2)), tuple(weights.shape), {}, 0, 1, 10)
    found = np.array(record.map.weights, dtype=float)
    assert np.isnan(found).sum() == 1


def test_one_query_has_the_same_columns_for_all_heads() -> None:
    weights = causal(4, 150)[:, :, 120:121]
    records = head_records(lambda: iter((weights,)), tuple(weights.shape), {"query": [120]}, 0, 1, 30)
    assert len({tuple(record.map.keys) for record in records}) == 1
    assert records[0].map.queries == [(120, 120)]
    assert records[0].map.keys[-1][1] == 120  # what comes after the query is masked
