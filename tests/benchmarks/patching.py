"""Time and peak memory of patching every head, beside plain transformers with a hook and a pass for each.

    python -m tests.benchmarks.patching [--runs 1] [--tokens 15] [--threads 1]

The model has OPT-125m's shape with random weights: 12 layers of 12 heads, 144 in all. Both sides have the model loaded
and have run a short text; what is compared is the sweep alone. Memory is the peak of a process that does one of them,
all it holds. On a machine that is shared, more threads than idle cores make both sides many times as slow.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, OPTConfig, OPTForCausalLM

import txinspect
from tests.making.models import byte_tokenizer

HEADS = 12


def write_checkpoint(folder: Path) -> None:
    """Write the model, with a tokenizer of bytes."""
    config = OPTConfig(vocab_size=50272, hidden_size=768, ffn_dim=3072, num_hidden_layers=12, num_attention_heads=HEADS)
    torch.manual_seed(0)
    OPTForCausalLM(config).save_pretrained(folder)
    byte_tokenizer(config).save_pretrained(folder)


def texts(tokens: int) -> tuple[str, str]:
    """Two texts of so many tokens, the special one counted."""
    clean = ("abcdefgh" * tokens)[: tokens - 1]
    return clean, f"{clean[:2]}x{clean[3:]}"


def plain(folder: Path, tokens: int) -> Callable[[], Any]:
    """A sweep in plain transformers: what each head reads in one text is put into a pass of the other."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    model(torch.tensor([[2, 3]]))
    tokenizer = txinspect.load(str(folder)).tokenize
    clean, corrupt = (torch.tensor(tokenizer(text).report.input.input_ids) for text in texts(tokens))
    projections = [layer.self_attn.out_proj for layer in model.model.decoder.layers]

    def sweep() -> list[float]:
        values: dict[Any, torch.Tensor] = {}
        keeping = [each.register_forward_pre_hook(lambda m, args: values.update({m: args[0]})) for each in projections]
        with torch.no_grad():
            model(clean)
            for handle in keeping:
                handle.remove()
            model(corrupt)
            found = []
            for projection in projections:
                for head in range(HEADS):

                    def put(module: Any, args: Any, head: int = head) -> Any:
                        new, size = args[0].clone(), args[0].shape[-1] // HEADS
                        new[..., head * size : (head + 1) * size] = values[module][..., head * size : (head + 1) * size]
                        return (new,)

                    handle = projection.register_forward_pre_hook(put)
                    found.append(float(model(corrupt).logits[0, -1].max()))
                    handle.remove()
        return found

    return sweep


def ours(folder: Path, tokens: int) -> Callable[[], Any]:
    """The same sweep by txinspect."""
    model, (clean, corrupt) = txinspect.load(str(folder)), texts(tokens)
    model.logits("ab")  # which loads the weights
    return lambda: model.patch(clean, corrupt=corrupt, answer="a", wrong="b", force=True).report.cells


SIDES = {"plain transformers, a pass a head": plain, "txinspect": ours}


def measured(side: str, folder: Path, tokens: int, runs: int, threads: int) -> tuple[list[float], float]:
    """Seconds of each sweep, and the peak of memory in megabytes."""
    torch.set_num_threads(threads)
    sweep = SIDES[side](folder, tokens)
    seconds = []
    for _ in range(runs):
        begin = time.perf_counter()
        sweep()
        seconds.append(time.perf_counter() - begin)
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print both sides, and the ratio of their times."""
    parser = argparse.ArgumentParser(description="What a sweep of patches costs, beside plain transformers.")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=15)
    options = parser.parse_args()
    medians = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        write_checkpoint(folder)
        for side in SIDES:
            with get_context("spawn").Pool(1) as pool:
                seconds, memory = pool.apply(measured, (side, folder, options.tokens, options.runs, options.threads))
            medians[side] = statistics.median(seconds)
            print(
                f"{side}: {medians[side]:.2f} s ({min(seconds):.2f} to {max(seconds):.2f}), peak {memory:.0f} MB",
                flush=True,
            )
    theirs, own = medians.values()
    print(f"{own / theirs:.2f} times the time of plain transformers")


if __name__ == "__main__":
    main()
