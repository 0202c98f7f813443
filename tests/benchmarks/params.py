"""Time and peak memory of `params` beside the same statistics in plain safetensors and torch.

    python -m tests.benchmarks.params [--runs 3] [--small]

Files of 250 MB and 2.6 GB of random float32, and of 2.6 GB of bfloat16, are written to a temporary folder, and so are
in the page cache as far as they fit. Each side runs in turn as a process of its own; seconds are counted after the
imports, and so is their ratio; memory is the process's peak, imports included. Torch takes one tensor at a time, in
float64.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

SIZES = {
    "250 MB float32": ("F32", 15),
    "2.6 GB float32": ("F32", 155),
    "2.6 GB bfloat16": ("BF16", 310),
}
"""A type, and how many matrices of 2048 by 2048."""

SIDE = 2048

REPORT = """
peak = open("/proc/self/status").read().split("VmHWM:")[1].split()[0]
print(json.dumps([time.perf_counter() - started, int(peak) / 1024]))
"""

OURS = (
    """
import json, sys, time
import numpy, ml_dtypes, gguf, safetensors
import txinspect, txinspect.answers.params
query = txinspect.ParamsQuery(model=txinspect.ModelChoice(name=sys.argv[1]))
started = time.perf_counter()
txinspect.inspect(query)
"""
    + REPORT
)

THEIRS = (
    """
import json, sys, time
import torch
from safetensors import safe_open
started = time.perf_counter()
with safe_open(sys.argv[1] + "/model.safetensors", "pt") as file:
    for name in file.keys():
        x = file.get_tensor(name).double()
        finite = x[torch.isfinite(x)]
        mean, std = finite.mean(), finite.std(correction=0)
        deviations = finite - mean
        kurtosis = (deviations ** 4).mean() / std ** 4 - 3
        counts = x.isnan().sum(), x.isposinf().sum(), x.isneginf().sum(), (x == 0).sum()
        finite.min(), finite.max(), finite.abs().max(), finite.norm()
        outliers = (deviations.abs() > 6 * std).sum()
        dead = (x == 0).all(dim=1).sum()
"""
    + REPORT
)


def write(folder: Path, dtype: str, count: int) -> None:
    """A safetensors file of random matrices, written one at a time."""
    import numpy as np

    size = (4 if dtype == "F32" else 2) * SIDE * SIDE
    header = json.dumps(
        {
            f"layers.{index}.weight": {
                "dtype": dtype,
                "shape": [SIDE, SIDE],
                "data_offsets": [index * size, (index + 1) * size],
            }
            for index in range(count)
        }
    ).encode()
    random = np.random.default_rng(0)
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        for _ in range(count):
            values = random.standard_normal((SIDE, SIDE), dtype=np.float32) * np.float32(0.02)
            stream.write((values if dtype == "F32" else (values.view(np.uint32) >> 16).astype(np.uint16)).tobytes())


def measure(program: str, folder: Path) -> tuple[float, float]:
    """Seconds and megabytes of a program. Raises CalledProcessError if it fails."""
    done = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True)
    seconds, megabytes = json.loads(done.stdout)
    return seconds, megabytes


def main() -> None:
    """Print a table of the comparisons."""
    parser = argparse.ArgumentParser(description="Time and peak memory of params beside plain torch.")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="the smallest file alone")
    options = parser.parse_args()
    table = Table("file", "params, s", "torch, s", "ratio", "params, MB", "torch, MB")
    for name, (dtype, count) in list(SIZES.items())[: 1 if options.small else None]:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            write(folder, dtype, count)
            runs = [(measure(OURS, folder), measure(THEIRS, folder)) for _ in range(options.runs)]
            medians = [[statistics.median(run[side][unit] for run in runs) for side in (0, 1)] for unit in (0, 1)]
            table.add_row(
                name,
                *(f"{each:.2f}" for each in (*medians[0], medians[0][0] / medians[0][1])),
                *(f"{each:.0f}" for each in medians[1]),
            )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
