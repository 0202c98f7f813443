"""Statistics of stored parameters beside NumPy in float64, whole tensors at once; of every type, at every border."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gguf
import ml_dtypes
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from txinspect.measure import parameter_differences, parameters, pieces, spectra
from txinspect.measure.parameters import Measured
from txinspect.measure.pieces import CHUNK, PIECE, Tensor
from txinspect.sources.headers import stored
from txinspect.sources.tensors import TensorReader, is_readable

pytestmark = pytest.mark.slow

Array = NDArray[Any]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with pieces.threads() as pool:
        yield pool


def held(values: Array) -> Tensor:
    """A tensor in memory."""
    flat = values.reshape(-1).astype(np.float64)
    return Tensor(values.shape, lambda start, stop: flat[start:stop])


def measured(values: Array, pool: ThreadPoolExecutor) -> Measured:
    (found,) = parameters.measure([held(values)], pool)
    return found


def same(found: float | None, expected: Any, tolerance: float = 1e-10) -> bool:
    return found is not None and math.isclose(found, float(expected), rel_tol=tolerance, abs_tol=1e-14)


def agrees(found: Measured, values: Array) -> None:
    """A tensor's statistics are those of NumPy in long doubles, two passes over the whole."""
    whole = values.astype(np.longdouble).reshape(-1)
    finite = whole[np.isfinite(whole)]
    stats = found.stats
    assert (stats.numel, stats.zeros) == (whole.size, int((whole == 0).sum()))
    assert stats.nan == int(np.isnan(whole).sum())
    assert (stats.posinf, stats.neginf) == (int((whole == np.inf).sum()), int((whole == -np.inf).sum()))
    if not finite.size:
        assert (stats.mean, stats.std, stats.min, stats.max, stats.abs_max, stats.l2, found.kurtosis) == (None,) * 7
        return
    mean = finite.mean()
    deviations = finite - mean
    variance = (deviations**2).mean()
    assert (stats.min, stats.max) == (float(finite.min()), float(finite.max()))
    assert stats.abs_max == float(np.abs(finite).max())
    assert same(stats.mean, mean)
    assert same(stats.std, np.sqrt(variance))
    assert same(stats.l2, np.sqrt((finite**2).sum()))
    assert found.outliers == int((np.abs(deviations) > 6 * np.sqrt(variance)).sum())
    if variance:
        assert same(found.kurtosis, (deviations**4).mean() / variance**2 - 3, 1e-8)
    else:
        assert found.kurtosis is None
    if values.ndim > 1:
        assert found.dead_rows == int((values.astype(np.float64).reshape(-1, values.shape[-1]) == 0).all(axis=1).sum())
    else:
        assert found.dead_rows is None


def heavy(*shape: int, seed: int = 0) -> Array:
    """Numbers with a long tail, so that some are beyond 6 standard deviations."""
    return np.random.default_rng(seed).standard_t(3, shape)


# Every type, from a file


TYPES = {
    **{name: getattr(torch, name) for name in ("float64", "float32", "float16", "bfloat16")},
    **{name: getattr(torch, name) for name in ("float8_e4m3fn", "float8_e5m2")},
    **{name: getattr(torch, name) for name in ("int64", "int32", "int16", "int8", "uint8", "bool")},
}


@pytest.mark.parametrize("name", TYPES)
def test_every_type_of_safetensors(name: str, tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    values = torch.from_numpy(heavy(300, 257) * 9)
    values[17] = 0
    values[:, 3] = 0
    tensor = values.to(TYPES[name])
    save_file({"odd": torch.ones(3, dtype=torch.uint8), "x": tensor}, tmp_path / "model.safetensors")
    (found,) = [each for each in stored([tmp_path / "model.safetensors"]) if each.name == "x"]
    assert (found.dtype, found.shape) == (name, (300, 257))
    with TensorReader() as reader:
        (one,) = parameters.measure([Tensor(found.shape, reader.reading(found))], pool)
    agrees(one, tensor.to(torch.float64).numpy())


KINDS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q5_1")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_gguf(kind: str, tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    values = heavy(40, 2048).astype(np.float32)
    values[5] = 0
    quantized = gguf.GGMLQuantizationType[kind]
    raw = gguf.quants.quantize(values, quantized)
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_block_count(2)
    writer.add_array("tokenizer.ggml.tokens", ["a", "naïve", "c"])
    writer.add_array("some.numbers", [1, 2, 3])
    writer.add_tensor("first", np.ones(5, np.float32))
    writer.add_tensor("x", raw, raw_dtype=quantized)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (found,) = [each for each in stored([tmp_path / "x.gguf"]) if each.name == "x"]
    assert found.shape == (40, 2048)
    with TensorReader() as reader:
        (one,) = parameters.measure([Tensor(found.shape, reader.reading(found))], pool)
    agrees(one, gguf.quants.dequantize(raw, quantized).reshape(40, 2048))


def test_a_type_of_half_a_byte_cannot_be_read() -> None:
    from txinspect.sources.headers import StoredTensor

    assert not is_readable(StoredTensor("x", Path("x"), "f4", (2,), 1, 0))


# Borders and odd values


@pytest.mark.parametrize(
    "numel", [0, 1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7, PIECE, PIECE + 1, 2 * PIECE + 5]
)
def test_vectors_around_the_borders(numel: int, pool: ThreadPoolExecutor) -> None:
    values = heavy(numel)
    agrees(measured(values, pool), values)


@pytest.mark.parametrize(
    "shape",
    [
        *((), (1, 1), (0, 4), (4, 0), (7, CHUNK), (3, CHUNK + 1), (3, 2 * CHUNK), (CHUNK + 1, 3), (5, 7, 11)),
        *((2, PIECE + 3), (PIECE // 4 + 1, 5), (300, 9001)),
    ],
    ids=str,
)
def test_matrices_around_the_borders(shape: tuple[int, ...], pool: ThreadPoolExecutor) -> None:
    values = np.array(heavy(*shape))
    if values.ndim > 1 and values.size:
        rows = values.reshape(-1, shape[-1])
        rows[0] = rows[-1] = rows[len(rows) // 2] = 0
        if len(rows) > 1 and shape[-1] > 1:
            rows[1, -1], rows[1, :-1] = 1, 0  # all zero but for its end
    agrees(measured(values, pool), values)


def test_nan_and_infinities_are_counted_and_left_out(pool: ThreadPoolExecutor) -> None:
    values = heavy(500, 701)
    values[3, 5] = values[499, 700] = np.nan
    values[7, :3], values[8, 1] = np.inf, -np.inf
    values[9] = np.nan
    values[10] = 0
    agrees(measured(values, pool), values)


@pytest.mark.parametrize("value", [0.0, 0.1, -3e38, np.nan, np.inf])
def test_a_constant(value: float, pool: ThreadPoolExecutor) -> None:
    values = np.full((50, 2000), value)
    found = measured(values, pool)
    if math.isfinite(value):
        assert (found.stats.mean, found.stats.std, found.outliers, found.kurtosis) == (value, 0.0, 0, None)
        assert same(found.stats.l2, abs(value) * math.sqrt(100_000))
    else:
        agrees(found, values)


@pytest.mark.parametrize("scale", [1e-300, 1e-120, 1e120, 1e300])
def test_magnitudes_whose_fourth_powers_leave_the_range(scale: float, pool: ThreadPoolExecutor) -> None:
    values = heavy(200, 333)
    values[4] = 0
    found, plain = measured(values * scale, pool), measured(values, pool)
    assert same(found.kurtosis, plain.kurtosis, 1e-8)
    assert (found.outliers, found.dead_rows, found.stats.zeros) == (plain.outliers, 1, plain.stats.zeros)
    assert plain.stats.std
    assert plain.stats.l2
    assert found.stats.std == pytest.approx(plain.stats.std * scale, rel=1e-10)
    assert found.stats.l2 == pytest.approx(plain.stats.l2 * scale, rel=1e-10)


def test_a_mean_far_from_zero_costs_no_digits(pool: ThreadPoolExecutor) -> None:
    values = heavy(100, 5000) + 1e6
    agrees(measured(values, pool), values)


def test_numbers_do_not_depend_on_the_number_of_threads() -> None:
    values = heavy(700, 4099)
    found = []
    for threads in (1, 2, 5):
        with ThreadPoolExecutor(threads) as pool:
            found.append(measured(values, pool))
    assert found[0] == found[1] == found[2]


def test_many_tensors_come_in_order(pool: ThreadPoolExecutor) -> None:
    arrays = [heavy(3 + index, 11, seed=index) for index in range(100)]
    for found, values in zip(parameters.measure([held(each) for each in arrays], pool), arrays, strict=True):
        agrees(found, values)


# Two tensors


def test_two_tensors_beside_numpy(pool: ThreadPoolExecutor) -> None:
    here, noise, base = heavy(300, 901), heavy(300, 901, seed=1), heavy(300, 901, seed=2)
    there = here + 0.1 * noise
    base[:, :100] = here[:, :100]  # not changed by the first
    (found,) = parameter_differences.compare([(held(here), held(there), held(base))], pool)
    assert same(found.cosine, (here * there).sum() / np.linalg.norm(here) / np.linalg.norm(there))
    assert same(found.rel_l2, np.linalg.norm(there - here) / np.linalg.norm(here))
    assert found.max_abs == np.abs(there - here).max()
    assert not found.equal
    both = (here != base) & (there != base)
    assert same(found.sign_agreement, (np.sign(here - base) == np.sign(there - base))[both].mean())


def test_equal_tensors_and_nothing_to_compare(pool: ThreadPoolExecutor) -> None:
    values = heavy(30, 40)
    values[0, 0] = np.nan
    zeros = np.zeros((30, 40))
    pairs = [(held(values), held(values.copy()), held(values)), (held(zeros), held(values), None)]
    equal, from_zero = parameter_differences.compare(pairs, pool)
    assert (equal.equal, equal.rel_l2, equal.max_abs, equal.sign_agreement) == (True, 0.0, 0.0, None)
    assert same(equal.cosine, 1.0)
    assert (from_zero.cosine, from_zero.rel_l2, from_zero.equal, from_zero.sign_agreement) == (None, None, False, None)


def test_what_is_not_finite_in_either_is_left_out(pool: ThreadPoolExecutor) -> None:
    here, there = heavy(20, 30), heavy(20, 30, seed=1)
    here[1], there[2, 3] = np.inf, np.nan
    (found,) = parameter_differences.compare([(held(here), held(there), None)], pool)
    kept = np.isfinite(here) & np.isfinite(there)
    assert same(found.rel_l2, np.linalg.norm((there - here)[kept]) / np.linalg.norm(here[kept]))
    assert not found.equal


# Spectra


def spectrum(values: Array, pool: ThreadPoolExecutor) -> tuple[float | None, float | None]:
    found = spectra.spectrum(held(values), measured(values, pool))
    assert found is not None
    return found.norm, found.stable_rank


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (64, 64), (300, 100), (100, 300), (3, 70_000)], ids=str)
def test_a_spectrum_beside_numpys_svd(shape: tuple[int, int], pool: ThreadPoolExecutor) -> None:
    for values in (heavy(*shape), np.random.default_rng(3).standard_normal(shape), np.ones(shape)):
        singular = np.linalg.svd(values, compute_uv=False)
        norm, rank = spectrum(values, pool)
        assert same(norm, singular[0], 1e-9)
        assert same(rank, (singular**2).sum() / singular[0] ** 2, 1e-9)


def test_an_orthogonal_matrix_and_two_equal_directions(pool: ThreadPoolExecutor) -> None:
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((80, 80)))[0]
    norm, rank = spectrum(rotation * 1e200, pool)
    assert same(norm, 1e200, 1e-9)
    assert same(rank, 80, 1e-9)


def test_what_has_no_spectrum(pool: ThreadPoolExecutor) -> None:
    assert spectra.spectrum(held(np.ones(5)), measured(np.ones(5), pool)) is None
    assert spectra.spectrum(held(np.ones((2, 2, 2))), measured(np.ones((2, 2, 2)), pool)) is None
    assert spectrum(np.zeros((3, 4)), pool) == (0.0, None)
    assert spectrum(np.array([[1.0, np.nan]]), pool) == (None, None)


def test_ml_dtypes_and_torch_mean_the_same_numbers() -> None:
    codes = torch.arange(256, dtype=torch.uint8)
    for name in ("float8_e4m3fn", "float8_e5m2"):
        theirs = codes.view(getattr(torch, name)).to(torch.float64).numpy()
        with np.errstate(invalid="ignore"):
            ours = codes.numpy().view(getattr(ml_dtypes, name)).astype(np.float64)
        assert np.array_equal(ours, theirs, equal_nan=True)
