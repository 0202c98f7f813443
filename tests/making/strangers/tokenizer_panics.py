"""Strangers' tokenizer.json on which the library panics or explodes."""

from __future__ import annotations

from typing import Any

from tests.making.bad_input import EMBED, in_model
from tests.making.strangers.command_lines import LONG_TEXT, RUN, TOKENIZE
from tests.making.strangers.damaging import replaced
from tests.making.strangers.stranger import Damage, Stranger
from tests.making.strangers.tokenizer_files import many_tokens, no_tokenizer, tokenizer, tokenizer_values


def _doubling(times: int) -> list[dict[str, Any]]:
    return [{"type": "Replace", "pattern": {"String": "h"}, "content": "hh"}] * times


def _normalizer(value: Any) -> Damage:
    return tokenizer_values(normalizer=value)


def _split(regex: str) -> Damage:
    return tokenizer_values(
        pre_tokenizer={"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
    )


PANICS = (
    Stranger("split on an empty regex", TOKENIZE, ("index",), _split(""), apart=True, harmless=True),
    Stranger("split on a regex that is none", TOKENIZE, ("'./model'", "tokenizer"), _split("((("), apart=True),
    Stranger("split on a regex of a megabyte", TOKENIZE, ("'./model'", "tokenizer"), _split("(" * 10**6), apart=True),
    Stranger(
        "split on a regex that backtracks for ever",
        in_model("tokenize", "a" * 60),
        ("'./model'", "tokenizer"),
        _split("(a|aa|a?)+(a|aa|a?)+(a|aa|a?)+$!"),
        apart=True,
        either=True,
    ),
    Stranger(
        "split on a regex that backtracks for ever, run",
        in_model("run", "a" * 60, "-s", "logits"),
        ("'./model'", "tokenizer"),
        _split("(((a|aa)+)+)+!"),
        apart=True,
    ),
    Stranger(
        "split on a regex that calls itself",
        TOKENIZE,
        ("'./model'", "tokenizer"),
        _split(r"(?<x>h\g<x>*)+\g<x>\g<x>!"),
        apart=True,
        either=True,
    ),
    Stranger(
        "replace an empty string",
        TOKENIZE,
        ("tokenizer", "'./model'"),
        _normalizer({"type": "Replace", "pattern": {"String": ""}, "content": "x"}),
        apart=True,
    ),
    Stranger(
        "replace an empty regex",
        TOKENIZE,
        ("tokenizer", "'./model'"),
        _normalizer({"type": "Replace", "pattern": {"Regex": ""}, "content": "x"}),
        apart=True,
    ),
    Stranger(
        "replace a regex that backtracks for ever",
        in_model("tokenize", "a" * 60),
        ("'./model'", "tokenizer"),
        _normalizer({"type": "Replace", "pattern": {"Regex": "(((a|aa)+)+)+!"}, "content": "x"}),
        apart=True,
    ),
    no_tokenizer(
        "a normalizer that doubles 20 times",
        _normalizer({"type": "Sequence", "normalizers": _doubling(20)}),
    ),
    no_tokenizer(
        "a normalizer that doubles 34 times",
        _normalizer({"type": "Sequence", "normalizers": _doubling(34)}),
    ),
    Stranger(
        "a normalizer that doubles 60 times",
        EMBED,
        ("'./model'", "tokenizer"),
        _normalizer({"type": "Sequence", "normalizers": _doubling(60)}),
        apart=True,
    ),
    no_tokenizer(
        "a normalizer that puts a megabyte before",
        _normalizer({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "x" * 10**6}] * 50}),
    ),
    no_tokenizer(
        "normalizers in normalizers",
        lambda f: replaced(
            f / "tokenizer.json",
            b'"normalizer": null',
            b'"normalizer": ' + b'{"type": "Sequence", "normalizers": [' * 50_000 + b"]}" * 50_000,
        ),
    ),
    no_tokenizer(
        "a charsmap that is no base64",
        _normalizer({"type": "Precompiled", "precompiled_charsmap": "!!!"}),
    ),
    no_tokenizer(
        "a charsmap that is empty",
        _normalizer({"type": "Precompiled", "precompiled_charsmap": ""}),
    ),
    no_tokenizer(
        "a charsmap of four bytes",
        _normalizer({"type": "Precompiled", "precompiled_charsmap": "/////w=="}),
    ),
    no_tokenizer(
        "a charsmap of noise",
        _normalizer({"type": "Precompiled", "precompiled_charsmap": "CAAAAP////8AAAAA////f2FiY2RlZmc="}),
    ),
    no_tokenizer(
        "a charsmap null",
        _normalizer({"type": "Precompiled", "precompiled_charsmap": None}),
    ),
    no_tokenizer(
        "a template without its token",
        tokenizer(lambda t: t["post_processor"].update(special_tokens={})),
    ),
    Stranger(
        "a template whose token has no ids",
        TOKENIZE,
        ("index",),
        tokenizer(lambda t: t["post_processor"]["special_tokens"]["<eos>"].update(ids=[], tokens=[])),
        apart=True,
        harmless=True,
    ),
    no_tokenizer(
        "a template of ids and tokens of two lengths",
        tokenizer(lambda t: t["post_processor"]["special_tokens"]["<eos>"].update(ids=[2, 2, 2])),
    ),
    no_tokenizer(
        "a template of a million pieces",
        tokenizer(
            lambda t: t["post_processor"].update(single=[{"SpecialToken": {"id": "<eos>", "type_id": 0}}] * 10**6)
        ),
    ),
    Stranger(
        "a template of no piece",
        TOKENIZE,
        ("'hi'", "no tokens"),
        tokenizer(lambda t: t["post_processor"].update(single=[])),
        apart=True,
    ),
    no_tokenizer(
        "a template that repeats the text 100,000 times",
        tokenizer(lambda t: t["post_processor"].update(single=[{"Sequence": {"id": "A", "type_id": 0}}] * 10**5)),
    ),
    no_tokenizer(
        "a template of B alone",
        tokenizer(lambda t: t["post_processor"].update(single=[{"Sequence": {"id": "B", "type_id": 0}}])),
    ),
    Stranger(
        "a template with an id beyond the vocabulary, run",
        RUN,
        ("'./model'", "99999"),
        tokenizer(lambda t: t["post_processor"]["special_tokens"]["<eos>"].update(ids=[99999])),
        apart=True,
    ),
    Stranger(
        "a unigram of empty pieces",
        TOKENIZE,
        ("'./model'", "tokenizer"),
        tokenizer_values(
            model={"type": "Unigram", "vocab": [["", 0.0], ["h", -1.0]], "unk_id": 0, "byte_fallback": False}
        ),
        apart=True,
        either=True,
    ),
    no_tokenizer(
        "a unigram without what is unknown",
        tokenizer_values(
            pre_tokenizer=None, model={"type": "Unigram", "vocab": [["x", 0.0]], "unk_id": None, "byte_fallback": False}
        ),
    ),
    Stranger(
        "a truncation to nothing",
        TOKENIZE,
        ("index",),
        tokenizer_values(truncation={"max_length": 0, "strategy": "LongestFirst", "stride": 5, "direction": "Right"}),
        apart=True,
        harmless=True,
    ),
    Stranger(
        "a padding to 2^40",
        TOKENIZE,
        ("index",),
        tokenizer_values(
            padding={
                "strategy": {"Fixed": 2**40},
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 1,
                "pad_type_id": 0,
                "pad_token": "<pad>",
            }
        ),
        apart=True,
        harmless=True,
    ),
    Stranger(
        "a padding to 2^40, run",
        RUN,
        ("logits",),
        tokenizer_values(
            padding={
                "strategy": {"Fixed": 2**40},
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 1,
                "pad_type_id": 0,
                "pad_token": "<pad>",
            }
        ),
        apart=True,
        harmless=True,
    ),
    Stranger(
        "a padding to a multiple of 0",
        TOKENIZE,
        ("index",),
        tokenizer_values(
            padding={
                "strategy": "BatchLongest",
                "direction": "Right",
                "pad_to_multiple_of": 0,
                "pad_id": 1,
                "pad_type_id": 0,
                "pad_token": "<pad>",
            }
        ),
        apart=True,
        harmless=True,
    ),
    Stranger(
        "a dropout of 1",
        LONG_TEXT,
        ("index",),
        tokenizer(lambda t: t["model"].update(dropout=1.0)),
        apart=True,
        harmless=True,
    ),
    no_tokenizer(
        "a dropout of 7",
        tokenizer(lambda t: t["model"].update(dropout=7.0)),
    ),
    Stranger(
        "an added token that is empty",
        TOKENIZE,
        ("index",),
        tokenizer(lambda t: t["added_tokens"].append({**many_tokens(1)[0], "content": ""})),
        apart=True,
        harmless=True,
    ),
    no_tokenizer(
        "a word-level vocabulary without its unknown",
        tokenizer_values(pre_tokenizer=None, model={"type": "WordLevel", "vocab": {"x": 8}, "unk_token": "[UNK]"}),
    ),
)
