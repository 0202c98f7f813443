"""How often blocks are computed for their statistics, and what pieces, types and memory layouts do not change."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.measure.test_heads import causal
from tests.measure.test_stats import ODD, as_float64, assert_stats, expected, measured, sample
from txinspect.measure import heads, stats

pytestmark = pytest.mark.half

PIECE = 1 << 15


class Computed:
    """Blocks that are computed anew in each round, and how many were."""

    def __init__(self, *blocks: Tensor) -> None:
        self.made = blocks
        self.count = 0

    def blocks(self) -> Iterator[Tensor]:
        for block in self.made:
            self.count += 1
            yield block.clone()


def old_bins(values: np.ndarray) -> list[int]:
    """The rule of the bins, word for word: every step in float64, on values divided by the largest magnitude."""
    scale = max(abs(values.min()), abs(values.max())) or 1.0
    low, high = values.min() / scale, values.max() / scale
    if high == low:
        return [len(values)] + [0] * (stats.BINS - 1)
    places = ((values / scale - low) / (high - low) * stats.BINS).astype(np.int64).clip(0, stats.BINS - 1)
    counts: list[int] = np.bincount(places, minlength=stats.BINS).tolist()
    return counts


def test_causal_weights_are_computed_once() -> None:
    weights = Computed(*causal(3, 200).split(30, dim=2))
    found, histogram = stats.measure(weights.blocks)
    assert weights.count == 7
    whole = torch.cat(weights.made, dim=2)
    assert_stats(found, expected(as_float64(whole)))
    assert histogram is not None
    assert histogram.counts == old_bins(as_float64(whole))


@pytest.mark.parametrize(("widest", "computed"), [(0, 5), (1, 6), (3, 8), (4, 9)])
def test_only_blocks_before_the_range_grew_are_counted_again(widest: int, computed: int) -> None:
    values = [sample("float64", 100, seed) for seed in range(5)]
    values[widest][:2] = torch.tensor([-50.0, 60.0])
    blocks = Computed(*values)
    _, histogram = stats.measure(blocks.blocks)
    assert histogram is not None
    assert histogram.counts == old_bins(as_float64(torch.cat(values)))
    assert blocks.count == computed


@pytest.mark.parametrize("size", [PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 5])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "int64", "bool", "complex64"])
def test_borders_of_pieces(size: int, dtype: str) -> None:
    tensor = sample(dtype, size, seed=2)
    found, histogram = stats.measure(lambda: iter((tensor,)))
    assert_stats(found, expected(as_float64(tensor)))
    assert histogram is not None
    assert histogram.counts == old_bins(as_float64(tensor))


@pytest.mark.parametrize("name", [name for name in ODD if any(map(math.isfinite, ODD[name]))])
def test_bins_of_odd_numbers(name: str) -> None:
    values = np.array(ODD[name])
    _, histogram = stats.measure(lambda: iter((torch.from_numpy(values),)))
    assert histogram is not None
    with np.errstate(all="ignore"):
        assert histogram.counts == old_bins(values[np.isfinite(values)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ends", [(-1.0, 1.0), (0.0, 1.0), (-4.25, 4.5), (1e6, 1e6 + 3), (-1e-30, 3e20), (0.0, 1e-44)])
def test_numbers_beside_the_edges(ends: tuple[float, float], dtype: type[np.floating]) -> None:
    borders = np.linspace(*ends, stats.BINS + 1).astype(dtype)
    beside = [np.nextafter(borders, dtype(away)) for away in (-math.inf, math.inf)]
    values = np.concatenate([borders, *beside]).clip(borders[0], borders[-1])
    _, histogram = stats.measure(lambda: iter((torch.from_numpy(values),)))
    assert histogram is not None
    assert histogram.counts == old_bins(values.astype(np.float64))


def test_several_threads_at_once() -> None:
    tensors = [sample("bfloat16", 9 * PIECE + 3, seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(measured, tensors))
    assert found == list(map(measured, tensors))


@pytest.mark.parametrize("scale", [1e-320, 1e-200, 1e-100, 1e100, 1e200, 1e307])
def test_magnitudes_whose_squares_do_not_fit(scale: float) -> None:
    values = (sample("float64", 2 * PIECE + 9, seed=3) / 3 + 2) * scale
    values = values[values.abs() < 1e308]
    blocks = values.split(PIECE // 2)
    assert_stats(stats.measure(lambda: iter(blocks))[0], expected(as_float64(values)))


@pytest.mark.parametrize("offset", [1e6, -1e9])
def test_deviations_beside_a_large_mean(offset: float) -> None:
    values = sample("float64", 5 * PIECE) + offset
    assert_stats(stats.measure(lambda: iter((values,)))[0], expected(as_float64(values)))


def test_pieces_with_and_without_finite_values() -> None:
    values = sample("float32", 4 * PIECE)
    values[PIECE : 2 * PIECE] = math.nan
    values[2 * PIECE + 5] = math.inf
    found, histogram = stats.measure(lambda: iter((values,)))
    exact = as_float64(values)
    assert_stats(found, expected(exact))
    assert histogram is not None
    assert histogram.counts == old_bins(exact[np.isfinite(exact)])


@pytest.mark.parametrize(
    "change", [Tensor.t, lambda tensor: tensor[::2, 1:], lambda tensor: tensor[:, :1].expand(-1, 9)]
)
def test_layouts(change: Callable[[Tensor], Tensor]) -> None:
    view = change(sample("float32", 400 * 300).reshape(400, 300))
    before = view.clone()
    assert_stats(stats.measure(lambda: iter((view,)))[0], expected(as_float64(before)))
    assert torch.equal(view, before), "what is measured is left alone"


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "complex64", "int64"])
def test_rows_over_several_pieces(dtype: str) -> None:
    vectors = sample(dtype, 90 * 1000).reshape(90, 1000)
    if dtype == "float64":
        vectors[1] *= 1e200
        vectors[2] *= 1e-200
        vectors[3] = 1e9
        vectors[4, ::3] = math.nan
        vectors[5, 0] = -math.inf
    rows = stats.measure_rows(vectors)
    assert [row.index for row in rows] == list(range(90))
    for row, vector in zip(rows, vectors, strict=True):
        wanted = expected(as_float64(vector))
        for name in ("l2", "mean", "std"):
            exact = pytest.approx(wanted[name], rel=1e-12, abs=1e-12 * wanted["abs_max"])
            assert getattr(row, name) == exact, (name, row.index)


def test_rows_without_features_or_tokens() -> None:
    assert [(row.l2, row.mean, row.std) for row in stats.measure_rows(torch.zeros(2, 0))] == [(None, None, None)] * 2
    assert stats.measure_rows(torch.zeros(0, 5)) == []


@pytest.mark.parametrize("coordinates", [{}, {"query": [90, 91, 92]}])
def test_heads_take_one_round(coordinates: dict[str, list[int]]) -> None:
    weights = causal(2, 200)[:, :, coordinates.get("query", range(200))]
    blocks = Computed(*weights.split(2, dim=2))
    records = heads.head_records(blocks.blocks, tuple(weights.shape), coordinates, 0, 1)
    assert blocks.count == len(blocks.made)
    exact = weights[0].double().numpy()
    for head, record in enumerate(records):
        assert record.window.weights == exact[head, -64:, record.window.keys].T.tolist()
        for row, query in enumerate(record.queries):
            order = np.argsort(-exact[head, row])[:5]
            assert [key.weight for key in query.keys] == exact[head, row, order][exact[head, row, order] > 0].tolist()
