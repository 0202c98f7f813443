"""Statistics and histograms against numpy in float64, over types, sizes and every kind of odd number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from txinspect.measure import stats
from txinspect.records import HistogramRecord, StatsRecord

pytestmark = pytest.mark.half

NAN, INF = math.nan, math.inf
CHUNK = 1 << 20

DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int8", "bool", "complex64")

ODD: dict[str, list[float]] = {
    "nan_and_infinities": [1.5, NAN, -2.0, INF, 0.0, -INF, INF, NAN, NAN, 3.25],
    "all_nan": [NAN] * 5,
    "all_infinite": [INF, -INF, INF],
    "one_finite": [NAN, 7.0, INF],
    "constant": [0.1] * 1000,
    "negative_constant": [-3.0] * 7,
    "all_zero": [0.0, -0.0, 0.0],
    "negative_zero": [-0.0, 1.0, 0.0, -1.0],
    "one_value": [-4.5],
    "squares_overflow": [1e200, -3e200, 2e180, 0.0],
    "sum_overflows": [1.5e308, 1.7e308, 1.6e308, 1.7e308],
    "range_overflows": [-1.7e308, 1.7e308, 0.0, 1e300],
    "squares_underflow": [1e-200, -3e-200, 2e-180],
    "subnormal": [5e-324, 1e-310, -2e-308],
    "large_offset": [1e9 + step for step in range(100)],
}


def measured(*blocks: Tensor) -> tuple[StatsRecord, HistogramRecord | None]:
    return stats.measure(lambda: iter(blocks))


def as_float64(tensor: Tensor) -> np.ndarray:
    if tensor.is_complex():
        array = tensor.numpy().ravel()
        return np.concatenate([array.real, array.imag]).astype(np.float64)
    return tensor.double().numpy().ravel()


def expected(values: np.ndarray) -> dict[str, Any]:
    """Every statistic; sums are exact (fsum) on values scaled by a power of two, so that nothing overflows."""
    finite = values[np.isfinite(values)]
    counts = {
        "numel": values.size,
        "zeros": int((finite == 0).sum()),
        "nan": int(np.isnan(values).sum()),
        "posinf": int((values == INF).sum()),
        "neginf": int((values == -INF).sum()),
    }
    if not finite.size:
        return counts | dict.fromkeys(("mean", "std", "min", "max", "abs_max", "l2"))
    abs_max = float(np.abs(finite).max())
    exponent = math.frexp(abs_max)[1]
    scaled = [math.ldexp(value, -exponent) for value in finite.tolist()]
    mean = math.fsum(scaled) / len(scaled)
    return counts | {
        "mean": math.ldexp(mean, exponent),
        "std": math.ldexp(math.sqrt(math.fsum((value - mean) ** 2 for value in scaled) / len(scaled)), exponent),
        "min": float(finite.min()),
        "max": float(finite.max()),
        "abs_max": abs_max,
        "l2": _unscaled(math.sqrt(math.fsum(value**2 for value in scaled)), exponent),
    }


def _unscaled(value: float, exponent: int) -> float:
    """A norm may lie beyond float64: then it is infinite (and null in the JSON)."""
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return INF


def assert_stats(found: StatsRecord, wanted: dict[str, Any]) -> None:
    """Counts and extremes exactly, sums to rounding."""
    tiny = 1e-12 * (wanted["abs_max"] or 0.0)
    for name, value in wanted.items():
        if name in ("mean", "std", "l2") and value is not None:
            assert getattr(found, name) == pytest.approx(value, rel=1e-12, abs=tiny), name
        else:
            assert getattr(found, name) == value, name


def sample(dtype: str, size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    numbers = 3 * torch.randn(size, generator=generator, dtype=torch.float64)
    if dtype == "bool":
        return numbers > 1
    if dtype == "complex64":
        return torch.complex(numbers.float(), numbers.flip(0).float())
    return (numbers * (20 if dtype.startswith("int") else 1)).to(getattr(torch, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 999])
def test_every_dtype(dtype: str, size: int) -> None:
    tensor = sample(dtype, size)
    assert_stats(measured(tensor)[0], expected(as_float64(tensor)))


@pytest.mark.parametrize("dtype", ["float32", "int64", "complex64"])
def test_beyond_one_chunk(dtype: str) -> None:
    tensor = sample(dtype, CHUNK + 77)
    tensor[3], tensor[-1] = 0, tensor[-2]
    found, histogram = measured(tensor)
    assert_stats(found, expected(as_float64(tensor)))
    assert histogram is not None
    assert sum(histogram.counts) == found.numel


def test_odd_numbers_in_every_chunk() -> None:
    tensor = sample("float32", 2 * CHUNK + 5)
    tensor[:: CHUNK // 2] = NAN
    tensor[1 :: CHUNK // 2] = INF
    tensor[2::CHUNK] = -INF
    found, histogram = measured(tensor)
    assert_stats(found, expected(as_float64(tensor)))
    assert found.nan == found.posinf == 5
    assert found.neginf == 3
    assert histogram is not None
    assert sum(histogram.counts) == found.numel - 13


@pytest.mark.parametrize("name", ODD)
def test_odd_numbers(name: str) -> None:
    tensor = torch.tensor(ODD[name], dtype=torch.float64)
    assert_stats(measured(tensor)[0], expected(tensor.numpy()))


@pytest.mark.parametrize("name", ODD)
def test_histogram_of_odd_numbers_counts_every_finite_one(name: str) -> None:
    values = np.array(ODD[name])
    finite = values[np.isfinite(values)]
    _, histogram = measured(torch.from_numpy(values))
    if not finite.size:
        assert histogram is None
        return
    assert histogram is not None
    assert (histogram.low, histogram.high) == (finite.min(), finite.max())
    assert sum(histogram.counts) == finite.size
    assert all(type(count) is int and count >= 0 for count in histogram.counts)
    if finite.min() < finite.max():
        assert histogram.counts[0] > 0, "the smallest value is in the first bin"
        assert histogram.counts[-1] > 0, "the largest value is in the last bin"


@pytest.mark.parametrize("shape", [(0,), (1, 0, 8)])
def test_empty_tensor(shape: tuple[int, ...]) -> None:
    found, histogram = measured(torch.zeros(shape))
    assert_stats(found, expected(np.zeros(0)))
    assert histogram is None


def test_no_block_at_all() -> None:
    found, histogram = measured()
    assert (found.numel, found.mean, histogram) == (0, None, None)


@pytest.mark.parametrize("dtype", DTYPES)
def test_histogram_is_numpys(dtype: str) -> None:
    tensor = sample(dtype, 4001, seed=1)
    values = as_float64(tensor)
    _, histogram = measured(tensor)
    assert histogram is not None
    counts, edges = np.histogram(values, bins=stats.BINS)
    assert histogram.counts == counts.tolist()
    assert (histogram.low, histogram.high) == (edges[0], edges[-1])


@pytest.mark.parametrize("step", [1, 7, 64, 500])
def test_blocks_measure_as_the_whole(step: int) -> None:
    whole = sample("float32", 1200).reshape(1, 3, 200, 2)
    whole[0, 1, 5:9, 0] = torch.tensor([NAN, INF, -INF, 0.0])
    found, histogram = measured(*whole.split(step, dim=2))
    assert_stats(found, expected(as_float64(whole)))
    assert histogram == measured(whole)[1]


def test_blocks_that_are_chunks_measure_identically() -> None:
    whole = sample("float32", 2 * CHUNK + 9)
    assert measured(*whole.split(CHUNK)) == measured(whole)


def test_a_block_without_finite_values_changes_only_counts() -> None:
    whole = sample("float64", 50)
    alone, with_nan = measured(whole)[0], measured(torch.full((3,), NAN), whole)[0]
    assert with_nan.nan == 3
    assert (with_nan.mean, with_nan.std, with_nan.l2) == (alone.mean, alone.std, alone.l2)


def test_strides_and_gradients_do_not_matter() -> None:
    tensor = sample("float64", 600).reshape(20, 30)
    view = tensor.t()[::3].requires_grad_()
    assert_stats(measured(view)[0], expected(view.detach().numpy().ravel()))


def test_measuring_leaves_the_tensor_alone() -> None:
    tensor = torch.tensor([1.0, NAN, -INF])
    before = tensor.clone()
    measured(tensor)
    torch.testing.assert_close(tensor, before, equal_nan=True, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_rows_are_each_tokens_statistics(dtype: str) -> None:
    vectors = sample(dtype, 60).reshape(5, 12)
    vectors[2] = 0
    vectors[3, 4] = NAN
    vectors[4] = INF
    rows = stats.measure_rows(vectors)
    assert [row.index for row in rows] == [0, 1, 2, 3, 4]
    for row, vector in zip(rows, vectors, strict=True):
        wanted = expected(as_float64(vector))
        for name in ("l2", "mean", "std"):
            value = getattr(row, name)
            assert value == (wanted[name] if wanted[name] is None else pytest.approx(wanted[name], abs=1e-12)), name
