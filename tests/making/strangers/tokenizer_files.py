"""Strangers' tokenizer.json: too large to be true, sections of the wrong kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.making.bad_input import in_model
from tests.making.strangers.command_lines import RUN, TOKENIZE
from tests.making.strangers.damaging import change_json
from tests.making.strangers.stranger import Damage, Stranger


def tokenizer(change: Callable[[Any], object]) -> Damage:
    """Change tokenizer.json in place."""
    return change_json("tokenizer.json", change)


def tokenizer_values(**values: Any) -> Damage:
    """Set sections of tokenizer.json."""
    return tokenizer(lambda content: content.update(values))


def no_tokenizer(id: str, damage: Damage) -> Stranger:
    """A tokenizer that cannot be used, which is what the one sentence says."""
    return Stranger(id, TOKENIZE, ("'./model'", "tokenizer"), damage, apart=True)


def many_tokens(count: int) -> list[dict[str, Any]]:
    """Added tokens as tokenizer.json lists them, behind the model's own."""
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return [{"id": 384 + number, "content": f"<extra_{number}>", **plain} for number in range(count)]


TOO_LARGE = (
    Stranger(
        "100,000 added tokens in tokenizer.json",
        TOKENIZE,
        ("tokenizer.json", "'./model'", "added_tokens"),
        tokenizer(lambda t: t["added_tokens"].extend(many_tokens(100_000))),
        apart=True,
    ),
    Stranger(
        "added_tokens.json of 100,000",
        TOKENIZE,
        ("index",),
        lambda f: (f / "added_tokens.json").write_text(json.dumps({f"<e{n}>": 384 + n for n in range(100_000)})),
        apart=True,
        harmless=True,
    ),
    Stranger(
        "a vocabulary of a million",
        TOKENIZE,
        ("index",),
        tokenizer(lambda t: t["model"]["vocab"].update({f"w{n}": 384 + n for n in range(1_000_000)})),
        apart=True,
        harmless=True,
    ),
    Stranger(
        "an id of 2^32 in the vocabulary",
        TOKENIZE,
        ("tokenizer",),
        tokenizer(lambda t: t["model"]["vocab"].update(h=2**32)),
        apart=True,
    ),
    Stranger(
        "an id of 2^32 - 1 in the vocabulary, run",
        RUN,
        ("4294967295",),
        tokenizer(lambda t: t["model"]["vocab"].update(h=2**32 - 1)),
        apart=True,
    ),
)


def _section(key: str, value: Any, *more: str, harmless: bool = False) -> Stranger:
    says = more if harmless else ("'./model'", "tokenizer", *more)
    return Stranger(
        f"tokenizer: {key} {str(value)[:40]!r}",
        TOKENIZE,
        says,
        tokenizer_values(**{key: value}),
        apart=True,
        harmless=harmless,
    )


def _vocabulary(value: Any) -> Damage:
    return tokenizer(lambda content: content["model"].update(vocab=value))


TOKENIZERS = (
    _section("version", 5),
    _section("version", "99"),
    _section("truncation", 5),
    _section("padding", "x"),
    _section("added_tokens", {}),
    _section("added_tokens", [5]),
    _section("added_tokens", [{"id": -1, "content": "x"}]),
    _section("added_tokens", [{"id": 9, "content": 5}]),
    _section("normalizer", 5),
    _section("normalizer", {"type": "Frobnicate"}),
    _section("normalizer", {"type": "Sequence", "normalizers": 5}),
    _section("pre_tokenizer", []),
    _section("pre_tokenizer", {"type": "Split", "pattern": 5}),
    _section("post_processor", "x"),
    _section("post_processor", {"type": "TemplateProcessing"}),
    _section("decoder", 5),
    _section("decoder", {"type": "ByteLevel", "add_prefix_space": 5}),
    _section("decoder", None, "index", harmless=True),
    _section("model", None),
    _section("model", 5),
    _section("model", {}),
    _section("model", {"type": "Frobnicate"}),
    _section("model", {"type": "BPE", "vocab": [], "merges": []}),
    _section("model", {"type": "Unigram", "vocab": [], "unk_id": 7}),
    _section("model", {"type": "Unigram", "vocab": [["a", "b"]], "unk_id": 0}),
    _section("model", {"type": "WordLevel", "vocab": {}, "unk_token": "[UNK]"}),
    _section(
        "model",
        {
            "type": "WordPiece",
            "vocab": {"a": 0},
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
        },
    ),
    Stranger("tokenizer: vocab of strings", TOKENIZE, ("'./model'", "tokenizer"), _vocabulary({"a": "b"}), apart=True),
    Stranger(
        "tokenizer: vocab of negative ids", TOKENIZE, ("'./model'", "tokenizer"), _vocabulary({"a": -1}), apart=True
    ),
    Stranger(
        "tokenizer: vocab empty",
        in_model("tokenize", "hi", "--no-special"),
        ("'hi'", "no tokens"),
        tokenizer(lambda t: t["model"].update(vocab={})),
        apart=True,
    ),
    no_tokenizer(
        "tokenizer: merges of what is not there",
        tokenizer(lambda t: t["model"].update(merges=[["zz", "yy"]])),
    ),
    no_tokenizer(
        "tokenizer: merges of three",
        tokenizer(lambda t: t["model"].update(merges=[["h", "i", "h"]])),
    ),
    Stranger(
        "tokenizer: two tokens of one id",
        TOKENIZE,
        ("index",),
        tokenizer(lambda t: t["model"]["vocab"].update(h=t["model"]["vocab"]["i"])),
        apart=True,
        harmless=True,
    ),
    Stranger(
        "tokenizer: ids beyond the embeddings, run",
        RUN,
        ("'./model'", "5000"),
        tokenizer(lambda t: t["model"]["vocab"].update(h=5000)),
        apart=True,
    ),
    Stranger(
        "tokenizer: a byte-level decoder without byte-level tokens",
        TOKENIZE,
        ("index",),
        tokenizer_values(
            pre_tokenizer=None, model={"type": "WordLevel", "vocab": {"hi": 8, "€": 9}, "unk_token": "hi"}
        ),
        apart=True,
        harmless=True,
    ),
)
