"""What statistics cost: per number, of all stages of a pass, and of every layer's attention weights.

    python -m tests.benchmarks.statistics [--model PATH] [--runs 3] [--threads N] [--only numbers,stages,weights]

Numbers are measured beside the rule of float64 copies that this package had before. A pass is measured in one process
with the model loaded: plain, with all stages recorded, and with their statistics, in turn; the ratios are over the
plain pass. All weights are a command beside plain transformers with eager attention, each a process of its own; ratios
are of what both medians are above the floor's, a process that imports and loads. Other ratios are the medians of each
round's. The model is a GGUF file or a folder; if none is given, a llama of SmolLM2-135M's
shape with random weights.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from tests.benchmarks.lesson import above, measure
from txinspect import ModelChoice, RunQuery
from txinspect.answers import preparing, run, tensors
from txinspect.answers.running import Running
from txinspect.answers.session import Session
from txinspect.forward.capture import CaughtTensor
from txinspect.loading.weights import partial
from txinspect.measure import stats
from txinspect.records import TensorRecord

LOADING = """
import sys, torch
from pathlib import Path
from transformers import AutoModelForCausalLM, AutoTokenizer
path, text = Path(sys.argv[1]), Path(sys.argv[2]).read_text()
where = (path.parent, {"gguf_file": path.name}) if path.is_file() else (path, {})
tokenizer = AutoTokenizer.from_pretrained(where[0], **where[1])
model = AutoModelForCausalLM.from_pretrained(where[0], attn_implementation="eager", dtype=torch.float32, **where[1])
ids = tokenizer(text, return_tensors="pt")
"""
"""Plain transformers: imports and loading."""

PLAIN = (
    LOADING
    + """
def reduced(x):
    finite = x[torch.isfinite(x)] if not torch.isfinite(x.sum()) else x
    low, high = torch.aminmax(finite)
    mean = finite.sum(dtype=torch.float64) / finite.numel()
    norm = torch.linalg.vector_norm(finite, dtype=torch.float64)
    std = (norm**2 / finite.numel() - mean**2).clamp_(0).sqrt()
    return low, high, mean, norm, std, finite.numel() - finite.count_nonzero(), torch.histc(finite, 16, low, high)
with torch.no_grad():
    output = model(**ids, use_cache=False, output_attentions=True)
    print([reduced(weights) for weights in output.attentions])
"""
)
"""A pass with eager attention, all weights and their statistics."""


STAGES = {
    "stages": ("token_embeddings", "position_embeddings.*", "layers.**", "final_norm", "logits"),
    "stages and modules": ("**",),
}
"""What is asked for; modules' outputs are most stages once more."""

LENGTHS = (64, 512)
"""Tokens of a pass."""

WEIGHTS = (1024, 2048)
"""Tokens, about, of the texts whose attention weights are measured."""


def by_copies(tensor: Tensor) -> Tensor:
    """The rule before: float64 copies of a million numbers at a time, in two rounds."""
    pieces = tensor.reshape(-1).split(1 << 20)
    total, zeros, low, high = 0.0, 0, float("inf"), -float("inf")
    for piece in pieces:
        wide = piece.to(torch.float64)
        total += float(wide.sum())
        zeros += int((wide == 0).sum())
        lowest, highest = torch.aminmax(wide)
        low, high = min(low, float(lowest)), max(high, float(highest))
    mean, scale, found = total / tensor.numel(), max(abs(low), abs(high)), torch.zeros(stats.BINS)
    for piece in pieces:
        wide = piece.to(torch.float64) / scale
        (wide - mean / scale).square().sum(), wide.square().sum()
        places = ((wide - low / scale) / ((high - low) / scale) * stats.BINS).long().clamp_(0, stats.BINS - 1)
        found += torch.bincount(places, minlength=stats.BINS)
    return found


def nanoseconds(call: Callable[[], object], count: int, runs: int) -> float:
    """The best time of some runs, per number."""
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times) / count * 1e9


def numbers(runs: int) -> None:
    """Print what a number of each type costs."""
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        tensor = torch.randn(9, 512, 512, generator=torch.Generator().manual_seed(0)).to(dtype)
        before = nanoseconds(lambda tensor=tensor: by_copies(tensor), tensor.numel(), runs)  # type: ignore[misc]
        ours = nanoseconds(
            lambda tensor=tensor: stats.measure(lambda: iter((tensor,))),  # type: ignore[misc]
            tensor.numel(),
            runs,
        )
        name = str(dtype).removeprefix("torch.")
        print(f"{name}: {ours:.1f} ns a number, {before:.1f} by float64 copies: {ours / before:.2f} x", flush=True)


def seconds(call: Callable[[], object]) -> float:
    """How long something takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def passes(model: Path, what: str, count: int, runs: int) -> None:
    """Print what recording all stages of so many tokens costs beside a plain pass, and what their statistics cost."""
    ids = tuple(index % 251 for index in range(count))
    query = RunQuery(model=ModelChoice(name=str(model), dtype="float32"), ids=ids, stages=STAGES[what])
    prepared = preparing.prepare(run.Stages(query), Session())
    subject, text, plan = prepared.subject, prepared.text, prepared.plan
    running = Running(subject, partial.load(subject, query.model, prepared.uses.modules).model)
    numbers: list[int] = []

    def plain() -> None:
        with torch.no_grad():
            running.model(**running.inputs(text), use_cache=False)

    def recorded() -> None:
        running.run(text, plan, lambda caught: numbers.append(math.prod(caught.tensor.shape)))

    def measured() -> None:
        running.run(text, plan, lambda caught: numbers.append(record(caught).stats.numel))

    def record(caught: CaughtTensor) -> TensorRecord:
        return tensors.tensor_record(caught, subject, text, values=False, token_rows=False)

    recorded()
    total = sum(numbers)
    rounds = [[seconds(side) for side in (plain, recorded, measured)] for _ in range(runs + 1)][1:]  # one warms up
    shown = [statistics.median(side) for side in zip(*rounds, strict=True)]
    ratios = [statistics.median(each[side] / each[0] for each in rounds) for side in (1, 2)]
    rate = statistics.median((each[2] - each[1]) / total for each in rounds) * 1e9
    print(
        f"all {what}, {count} tokens: plain pass {shown[0]:.2f} s, recorded {shown[1]:.2f} s ({ratios[0]:.2f} x), "
        f"with statistics {shown[2]:.2f} s ({ratios[1]:.2f} x); {total:,} numbers, {rate:.1f} ns each",
        flush=True,
    )


def taken(command: list[str]) -> dict[str, float]:
    """What a process took; processor time tells more where other processes run beside it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    cost = measure(command)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": cost.seconds, "processor seconds": processor, "megabytes": cost.megabytes}


def compare(name: str, ours: list[str], plain: list[str], floor: list[str], runs: int) -> None:
    """Print time, processor time and peak memory of a command beside plain transformers, all above a floor.

    The floor is a process that does what both must, imports and loading, and no more; it runs in turn with them.
    """
    costs = [(taken(ours), taken(plain), taken(floor)) for _ in range(runs)]
    said = []
    for unit, digits in (("seconds", 1), ("processor seconds", 1), ("megabytes", 0)):
        first, second, least = (statistics.median(each[side][unit] for each in costs) for side in range(3))
        shown = f"{first:.{digits}f} against {second:.{digits}f} {unit}, floor {least:.{digits}f}"
        said.append(f"{shown}: {above(least, first, second)} x")
    print(f"{name}: {'; '.join(said)}", flush=True)


def all_weights(model: Path, runs: int) -> None:
    """Print what all layers' weights cost."""
    with tempfile.TemporaryDirectory() as folder:
        for count in WEIGHTS:
            text = Path(folder) / f"{count}.txt"
            text.write_text("the cat sat on " * (count // 4), encoding="utf-8")
            stages = ["-s", "layers.*.attention.weights"]
            ours = ["run", *stages, "-m", str(model), "--file", str(text), "--dtype", "float32", "--json"]
            plain, floor = (["-c", script, str(model), str(text)] for script in (PLAIN, LOADING))
            sides = ([sys.executable, "-m", "txinspect", *ours], [sys.executable, *plain], [sys.executable, *floor])
            compare(f"all weights, {count} tokens", *sides, runs)


def write_checkpoint(folder: Path) -> None:
    """A llama of SmolLM2-135M's shape with random weights and opt-mini's tokenizer."""
    import shutil

    from transformers import LlamaConfig, LlamaForCausalLM

    from txinspect.sources.bundled_models import BUNDLED

    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED / "opt-mini" / name, folder)


def main() -> None:
    """Print the comparisons."""
    parser = argparse.ArgumentParser(description="What statistics cost, beside plain transformers.")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, help="threads of torch, here and in all processes")
    parser.add_argument("--only", default="numbers,stages,stages and modules,weights")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
    only = options.only.split(",")
    if "numbers" in only:
        numbers(2 * options.runs + 1)
    with tempfile.TemporaryDirectory() as temporary:
        model = options.model or Path(temporary)
        if not options.model:
            write_checkpoint(model)
        for what in STAGES:
            for count in LENGTHS if what in only else ():
                passes(model, what, count, options.runs)
        if "weights" in only:
            all_weights(model, options.runs)


if __name__ == "__main__":
    main()
