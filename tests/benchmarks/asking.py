"""What logits, lens, heads and diff cost beside one forward pass of plain transformers.

    python -m tests.benchmarks.asking [--model PATH] [--runs 3] [--tokens 64]

Each command runs in turn with plain transformers, and with the floor of both: plain transformers that import and load
and run no pass. Each is a process of its own, and ratios are of what is above the floor. The model is a folder of
safetensors, or a llama of SmolLM2-135M's shape with random weights.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.statistics import compare, write_checkpoint

PLAIN = """
import sys, torch
from pathlib import Path
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
ids = tokenizer(Path(sys.argv[2]).read_text(), return_tensors="pt")
with torch.no_grad():
    for _ in range(int(sys.argv[3])):
        model(**ids, use_cache=False).logits.max()
"""

ASKED: dict[str, tuple[list[str], int]] = {
    "logits": (["logits"], 1),
    "lens of the last token": (["lens", "--position", "-1"], 1),
    "lens of every token": (["lens"], 1),
    "heads": (["heads"], 1),
    "diff against itself": (["diff", "--tolerance", "0", "--stage", "layers.*.output", "--stage", "logits"], 2),
}
"""Commands, and how many plain passes each is compared with."""


def main() -> None:
    """Print the comparisons."""
    parser = argparse.ArgumentParser(description="What the commands that answer cost, beside plain transformers.")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        model = options.model or Path(temporary) / "model"
        if options.model is None:
            write_checkpoint(model)
        text = Path(temporary) / "text.txt"
        text.write_text("the cat sat on " * (options.tokens // 4), encoding="utf-8")
        for name, (command, passes) in ASKED.items():
            against = ["--against", str(model)] if command[0] == "diff" else []
            ours = [
                sys.executable,
                "-m",
                "txinspect",
                *command,
                *against,
                "-m",
                str(model),
                "--file",
                str(text),
                "--json",
            ]
            plain, floor = ([sys.executable, "-c", PLAIN, str(model), str(text), str(count)] for count in (passes, 0))
            compare(f"{name}, {options.tokens} tokens", ours, plain, floor, options.runs)


if __name__ == "__main__":
    main()
