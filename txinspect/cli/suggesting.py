"""What a person meant by an option that a command does not have: by its meaning, or by a slip of the hand."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

_MEANT: Mapping[str, str] = {
    # Ours: typed words, of other tools, of other commands or in other words
    "--layer, --stage": "--layer --layers --layer-index --block --blocks",
    "--stage, --layer": "--stage --stages",
    "--stage, --param": "--module --modules --submodule --hook",
    "--head": "--heads --head-index",
    "--position, --query": "--position --positions --pos --query --queries --token --tokens --token-index",
    "--top-k": "--top-k --topk --top --k --limit --num-tokens",
    "--target": "--targets --word --words --answer",
    "--new": "--n --new-tokens --max-new-tokens --generate",
    "--max-tokens": "--max-length --truncate --truncation",
    "TEXT": "--text --prompt --input --sentence -p",
    "--file": "--text-file --input-file --prompt-file -f",
    "--pair": "--text-pair --text2 --second-text",
    "--ids": "--input-ids --token-ids",
    "--chat": "--chat-template --messages",
    "--system": "--system-prompt",
    "--decoder": "--decoder-text --decoder-input --decoder-input-ids",
    "--src-lang": "--source-lang --source-language --src",
    "--tgt-lang": "--target-lang --target-language --tgt",
    "--no-special": "--no-special-tokens --skip-special-tokens --no-bos",
    "--model": "--model-name --model-id --model-path --model-name-or-path --checkpoint --ckpt --repo --repo-id "
    "--pretrained --weights --path",
    "--revision": "--branch --tag --commit --rev",
    "--offline": "--local-files-only --local --no-network --no-download",
    "--trust-remote-code": "--trust --trust-code --remote-code",
    "--as": "--task --model-class --auto-class",
    "--8bit": "--load-in-8bit --8-bit --int8 --q8",
    "--4bit": "--load-in-4bit --4-bit --int4 --q4",
    "--8bit or --4bit": "--quantize --quantization --quant --bits",
    "--4bit-type": "--bnb-4bit-quant-type --quant-type",
    "--double-quant": "--bnb-4bit-use-double-quant",
    "--skip-module": "--llm-int8-skip-modules",
    "--tolerance, --int8-threshold": "--threshold",
    "--int8-threshold": "--llm-int8-threshold",
    "--dtype": "--torch-dtype --precision --data-type",
    "--dtype float16": "--fp16 --half --float16",
    "--dtype bfloat16": "--bf16 --bfloat16",
    "--dtype float32": "--fp32 --float --float32",
    "--device cpu": "--cpu --no-cuda --no-gpu",
    "--device cuda": "--gpu --cuda",
    "--device mps": "--mps",
    "--save": "--output --out --output-file --save-to --save-path --export --dump -o",
    "--overwrite": "--force --clobber",
    "--check": "--verify --validate",
    "--fail-on": "--strict --exit-code",
    "--values": "--tensors --numbers --print-values",
    "--table": "--full --details --long",
    "--json": "--format --output-format --as-json -j",
    "--theme dark": "--dark",
    "--theme light": "--light",
    "--color": "--colour --colors",
    "--color never": "--no-color --no-colour --plain",
    "--verbose": "--debug --traceback",
    "--quiet": "--silent --no-progress",
    "--dry-run": "--plan --simulate --estimate",
    "--cross": "--cross-attention",
    "--against, --diff": "--against --compare --compare-to --versus --vs --other --diff",
    "--tolerance": "--tol --atol --rtol",
    "--param, --params": "--param --params --parameter --parameters",
    "--sort": "--sort-by --order --order-by",
    "--spectral": "--svd --singular-values",
    "--depth": "--max-depth --levels",
    "--pooled": "--pool --pooling",
    "--similar": "--similarity --sim --cosine",
}
"""What is meant, the first of these that a command has, and what people type for it."""

_BY_WORD = {word: meant.split(", ") for meant, typed in _MEANT.items() for word in typed.split()}


def suggestion(typed: str, own: Collection[str], elsewhere: Sequence[Collection[str]] = ()) -> str | None:
    """What to type in place of an option that a command does not have; None where nothing of it means the same.

    `own` are the spellings of the command's options and the names of its arguments, `elsewhere` those of an option that
    another command has by that name.
    """
    words = [_plain(typed), *(each for spellings in elsewhere for each in spellings)]
    if words[0] in own:
        return words[0]
    for word in words:
        for meant in _BY_WORD.get(word, ()):
            if meant.split(" ")[0] in own:
                return meant
    return None if elsewhere else _misspelled(words[0], own)


def _plain(typed: str) -> str:
    """A typed option as ours are written: --Top_K as --top-k; a letter is another one if it is capital."""
    return typed.lower().replace("_", "-") if typed.startswith("--") else typed


def _misspelled(typed: str, own: Collection[str]) -> str | None:
    """The command's option that a long one is a slip of the hand away from, or begins alone; None for a short one."""
    word = typed.removeprefix("--")
    if not typed.startswith("--") or len(word) <= _TOO_SHORT:
        return None
    longs = [each for each in own if each.startswith("--")]
    begun = [each for each in longs if each.startswith(typed)]
    if len(begun) == 1:
        return begun[0]
    near = min(longs, key=lambda each: _slips(typed, each), default=None)
    return near if near is not None and _slips(typed, near) <= (1 if len(word) <= _SHORT else 2) else None


_TOO_SHORT, _SHORT = 3, 7
"""Letters: of too few, one makes another word; a short word has one slip, a longer one two."""


def _slips(typed: str, meant: str) -> int:
    """How many letters are missing, too many, wrong or changed with the next in a typed word."""
    rows = [list(range(len(meant) + 1))]
    for i, letter in enumerate(typed, 1):
        row = [i]
        for j, other in enumerate(meant, 1):
            cost = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == meant[j - 2] and typed[i - 2] == other:
                cost = min(cost, rows[-2][j - 2] + 1)
            row.append(cost)
        rows.append(row)
    return rows[-1][-1]
