"""Largest singular values of stored matrices, which are read over and over and are never whole."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from txinspect.commands.params import SpectralRecord
from txinspect.measure.parameters import Measured
from txinspect.measure.pieces import CHUNK, Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STEPS = 300
"""Lanczos steps at most: far more than a matrix of random numbers takes."""

TOLERANCE = 1e-8
"""Residual of the largest eigenvalue, relative to it, at which it is taken as found; its error is about the square."""


def spectrum(tensor: Tensor, measured: Measured) -> SpectralRecord | None:
    """The largest singular value and stable rank of a stored matrix; None for what is no matrix.

    Lanczos' method on WᵀW, with every vector kept orthogonal to all before it; a step reads the matrix once.
    """
    stats = measured.stats
    if len(tensor.shape) != 2 or not tensor.numel:
        return None
    if stats.nan or stats.posinf or stats.neginf:
        return SpectralRecord(norm=None, stable_rank=None)
    if not stats.l2 or not stats.abs_max:
        return SpectralRecord(norm=0.0, stable_rank=None)
    norm = min(stats.l2, stats.abs_max * math.sqrt(_largest_eigenvalue(tensor, stats.abs_max)))
    return SpectralRecord(norm=norm, stable_rank=(stats.l2 / norm) ** 2)


def _largest_eigenvalue(tensor: Tensor, scale: float) -> float:
    """The largest eigenvalue of WᵀW, a singular value's square, of a stored matrix divided by `scale`."""
    import numpy as np

    columns = tensor.row
    steps = min(STEPS, columns, tensor.shape[0] + 1)
    vector = np.random.default_rng(0).standard_normal(columns)
    vector /= np.linalg.norm(vector)
    basis = [vector]
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        image = _gram_times(tensor, basis[-1], scale)
        diagonal.append(float(image @ basis[-1]))
        kept = np.array(basis)
        for _ in range(2):
            image -= kept.T @ (kept @ image)
        rest = float(np.linalg.norm(image))
        values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
        largest = float(values[-1])
        if rest * abs(float(vectors[-1, -1])) <= TOLERANCE * largest or len(diagonal) == steps:
            return largest
        beside.append(rest)
        basis.append(image / rest)


def _gram_times(tensor: Tensor, vector: NDArray[np.float64], scale: float) -> NDArray[Any]:
    """WᵀW times a vector, for singular values of a stored matrix divided by `scale`, reading whole rows."""
    import numpy as np

    columns = tensor.row
    step = max(1, 8 * CHUNK // columns) * columns
    total = np.zeros(columns)
    for start in range(0, tensor.numel, step):
        rows = tensor.read(start, min(start + step, tensor.numel)).reshape(-1, columns)
        total += (rows @ vector / scale) @ rows / scale
    return total
