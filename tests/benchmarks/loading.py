"""Time and peak memory of loading in every precision, beside plain transformers.

    python -m tests.benchmarks.loading [--runs 3] [--checkpoint FOLDER] [--write]

Each command and its plain counterpart run in turn, each as a process of its own on an OPT-1.3b-shaped checkpoint with
random weights (2.6 GB, float16), written to a temporary folder unless one is given; before each pair a process
only imports what plain transformers imports for it. Figures are medians, ratios of what is above these imports:
loading is what is measured. `--write` puts the table into loading.md,
beside this file.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.lesson import IMPORTS, TEXT, Cost, above, measure, write_checkpoint

TABLE = Path(__file__).with_suffix(".md")

QUANTIZED_IMPORTS = IMPORTS + "from transformers import BitsAndBytesConfig\nimport bitsandbytes\n"

STAGES = {
    "embed": (["embed"], "print(model.model.decoder.embed_tokens(ids['input_ids']).norm())"),
    "attn --layer 0": (
        ["attn", "--layer", "0"],
        """
decoder = model.model.decoder
hidden = decoder.embed_tokens(ids["input_ids"]) + decoder.embed_positions(ids["attention_mask"])
print(decoder.layers[0].self_attn(decoder.layers[0].self_attn_layer_norm(hidden))[0].norm())
""",
    ),
    "run --stage layers.3.output": (
        ["run", "--stage", "layers.3.output"],
        "print(model(**ids, output_hidden_states=True).hidden_states[4].norm())",
    ),
    "run --stage logits": (["run", "--stage", "logits"], "print(model(**ids).logits.norm())"),
}
"""What is asked: txinspect's arguments, and the same in plain transformers."""

PRECISIONS: dict[str, tuple[list[str], str]] = {
    "as stored": ([], ""),
    "float32": (["--dtype", "float32"], "dtype=torch.float32"),
    "8-bit": (["--8bit"], "quantization_config=BitsAndBytesConfig(load_in_8bit=True)"),
    "4-bit": (
        ["--4bit"],
        "quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type='nf4')",
    ),
}
"""How it is loaded: txinspect's options, and those of from_pretrained."""


@dataclass(frozen=True)
class Row:
    """Medians of one comparison."""

    precision: str
    stages: str
    imports: Cost
    ours: Cost
    plain: Cost

    @property
    def above(self) -> Cost:
        """What ours costs above the imports."""
        return Cost(self.ours.seconds - self.imports.seconds, self.ours.megabytes - self.imports.megabytes)


def plain_script(precision: str, stages: str) -> str:
    """The same work by hand: load the model, run it."""
    imports = QUANTIZED_IMPORTS if "bit" in precision else IMPORTS
    return f"""{imports}
ids = AutoTokenizer.from_pretrained(sys.argv[1])(sys.argv[2], return_tensors="pt")
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], {PRECISIONS[precision][1]})
with torch.no_grad():
    {STAGES[stages][1].strip().replace(chr(10), chr(10) + "    ")}
"""


def median(costs: Sequence[Cost]) -> Cost:
    return Cost(statistics.median(c.seconds for c in costs), statistics.median(c.megabytes for c in costs))


def compare(checkpoint: Path, precision: str, stages: str, runs: int) -> Row:
    """Measure a comparison, its three sides in turn."""
    python = [sys.executable, "-c"]
    sides = (
        [*python, QUANTIZED_IMPORTS if "bit" in precision else IMPORTS],
        [sys.executable, "-m", "txinspect", *STAGES[stages][0], *PRECISIONS[precision][0], "-m", str(checkpoint)],
        [*python, plain_script(precision, stages), str(checkpoint), TEXT],
    )
    costs = [[measure(side) for side in sides] for _ in range(runs)]
    return Row(precision, stages, *(median(side) for side in zip(*costs, strict=True)))


def table(rows: Sequence[Row]) -> str:
    """The comparisons as a table in Markdown."""
    lines = [
        "| | | imports | txinspect | plain transformers | time | memory |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        shown = [f"{c.seconds:.1f} s, {c.megabytes / 1000:.2f} GB" for c in (row.imports, row.ours, row.plain)]
        sides = (row.imports, row.ours, row.plain)
        ratios = above(*(side.seconds for side in sides)), above(*(side.megabytes for side in sides))
        lines.append(f"| {row.precision} | `{row.stages}` | {' | '.join(shown)} | {ratios[0]} × | {ratios[1]} × |")
    return "\n".join(lines) + "\n"


def promises(rows: Sequence[Row]) -> list[str]:
    """What must hold of the figures, and whether it does."""
    by_name = {(row.precision, row.stages): row for row in rows}
    said = []
    for row in rows:
        whole = by_name[row.precision, "run --stage logits"].above
        if row.precision == "as stored" and row.stages != "run --stage logits":
            ratio = row.ours.seconds / row.imports.seconds
            said.append(f"{row.stages} as stored: {ratio:.2f} × the imports (at most 1.15): {_held(ratio <= 1.15)}")
        elif row.stages == "attn --layer 0":
            time, memory = row.above.seconds / whole.seconds, row.above.megabytes / whole.megabytes
            said.append(
                f"layer 0 in {row.precision}: {time:.2f} of the time and {memory:.2f} of the memory of all layers, "
                f"above the imports (at most 0.17): {_held(max(time, memory) <= 1 / 6)}"
            )
    return said


def _held(holds: bool) -> str:
    return "held" if holds else "NOT HELD"


def main() -> None:
    """Print the table and what was promised of it."""
    parser = argparse.ArgumentParser(description="Time and peak memory of loading beside plain transformers.")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--write", action="store_true", help="put the table into loading.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        checkpoint = options.checkpoint or Path(temporary)
        if not options.checkpoint:
            write_checkpoint(checkpoint)
        measure(
            [sys.executable, "-m", "txinspect", "run", "-s", "logits", "-m", str(checkpoint)]
        )  # fills the page cache
        rows = []
        for precision in PRECISIONS:
            for stages in STAGES:
                rows.append(compare(checkpoint, precision, stages, options.runs))
                print(table(rows[-1:]).splitlines()[-1], flush=True)
    print(table(rows), *promises(rows), sep="\n")
    if options.write:
        head = TABLE.read_text(encoding="utf-8").partition("| | | imports")[0]
        TABLE.write_text(head + table(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
