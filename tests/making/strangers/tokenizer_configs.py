"""Strangers' tokenizer_config.json, and the small files beside it."""

from __future__ import annotations

from typing import Any

from tests.making.bad_input import EMBED
from tests.making.strangers.command_lines import RUN, TOKENIZE
from tests.making.strangers.damaging import NO_OBJECTS, all_of, change_json, recoded, write
from tests.making.strangers.stranger import Damage, Stranger
from tests.making.strangers.tokenizer_files import many_tokens, tokenizer


def tokenizer_config(**values: Any) -> Damage:
    """Set values of tokenizer_config.json."""
    return change_json("tokenizer_config.json", lambda content: content.update(values))


def _token_setting(
    key: str, value: Any, *more: str, harmless: bool = False, either: bool = False, apart: bool = False
) -> Stranger:
    says = ("index",) if harmless else ("'./model'", key, *more)
    name = f"tokenizer_config: {key} {str(value)[:40]!r}"
    return Stranger(
        name, TOKENIZE, says, tokenizer_config(**{key: value}), apart=apart, harmless=harmless, either=either
    )


TOO_LARGE = (
    Stranger(
        "100,000 special tokens in tokenizer_config.json",
        TOKENIZE,
        ("tokenizer_config.json", "'./model'", "extra_special_tokens", "100,000"),
        lambda f: tokenizer_config(extra_special_tokens=[f"<e{n}>" for n in range(100_000)])(f),
        apart=True,
    ),
    Stranger(
        "100,000 decoded tokens in tokenizer_config.json",
        TOKENIZE,
        ("tokenizer_config.json", "'./model'", "added_tokens_decoder", "100,000"),
        lambda f: tokenizer_config(added_tokens_decoder={str(each.pop("id")): each for each in many_tokens(100_000)})(
            f
        ),
        apart=True,
    ),
)


TOKENIZER_CONFIGS = (
    *(
        Stranger(f"{name} is {what}", TOKENIZE, ("'./model'", name), write(name, text))
        for name in ("tokenizer_config.json", "tokenizer.json")
        for what, text in NO_OBJECTS
    ),
    *(
        Stranger(f"{name} is {what}, {arguments[0]}", arguments, (name,), write(name, text), either=arguments is RUN)
        for name, arguments in (("special_tokens_map.json", TOKENIZE), ("generation_config.json", RUN))
        for what, text in NO_OBJECTS[:3]
    ),
    Stranger("added_tokens.json is a list", TOKENIZE, ("added_tokens.json",), write("added_tokens.json", "[1]")),
    Stranger(
        "generation_config.json of odd values",
        RUN,
        ("logits",),
        write("generation_config.json", '{"max_length": "x", "temperature": []}'),
        harmless=True,
    ),
    _token_setting("tokenizer_class", 5, "5"),
    _token_setting("tokenizer_class", ["a"]),
    _token_setting("tokenizer_class", {"a": 1}),
    _token_setting("tokenizer_class", "Frobnicate", harmless=True),
    _token_setting("tokenizer_class", "../x", harmless=True),
    _token_setting("bos_token", 5, "5"),
    _token_setting("bos_token", ["<eos>"]),
    _token_setting("bos_token", {"a": 1}),
    _token_setting("bos_token", {"content": 5}),
    _token_setting("bos_token", {"__type": "AddedToken"}, either=True),
    _token_setting("bos_token", True),
    _token_setting("pad_token", {"__type": "AddedToken", "content": "x" * 10**6}, harmless=True, apart=True),
    _token_setting("unk_token", [[]]),
    _token_setting("eos_token", "", harmless=True),
    _token_setting("extra_special_tokens", 5, "5"),
    _token_setting("extra_special_tokens", {"a": 5}),
    _token_setting("additional_special_tokens", 5, "5"),
    _token_setting("additional_special_tokens", [5], "5"),
    _token_setting("added_tokens_decoder", 5, "5"),
    _token_setting("added_tokens_decoder", []),
    _token_setting("added_tokens_decoder", {"x": {"content": "y"}}),
    _token_setting("added_tokens_decoder", {"5": "y"}),
    _token_setting("added_tokens_decoder", {"-5": {"content": "y"}}, either=True, apart=True),
    _token_setting("added_tokens_decoder", {"99999999999": {"content": "y"}}, either=True, apart=True),
    _token_setting("model_max_length", "x", "x", either=True),
    _token_setting("model_max_length", -1, harmless=True),
    _token_setting("model_max_length", 10**40, harmless=True),
    _token_setting("model_max_length", None, harmless=True),
    Stranger(
        "tokenizer_config: padding_side up",
        TOKENIZE,
        ("'./model'", "adding side", "up"),
        tokenizer_config(padding_side="up"),
    ),
    Stranger(
        "tokenizer_config: truncation_side 5",
        TOKENIZE,
        ("'./model'", "runcation side", "5"),
        tokenizer_config(truncation_side=5),
    ),
    _token_setting("clean_up_tokenization_spaces", "x", harmless=True),
    _token_setting("add_bos_token", "x", "x", either=True),
    _token_setting("backend", 5, "5", either=True),
    _token_setting("backend", "frobnicate", "frobnicate", either=True),
    _token_setting("auto_map", 5, either=True),
    Stranger(
        "tokenizer_config: auto_map a list",
        TOKENIZE,
        ("'./model'", "tokenizer"),
        tokenizer_config(auto_map=["AutoTokenizer"]),
        either=True,
    ),
    Stranger(
        "tokenizer_config: auto_map a string",
        TOKENIZE,
        ("'./model'", "tokenizer"),
        tokenizer_config(auto_map="AutoTokenizer"),
        either=True,
    ),
    Stranger(
        "tokenizer_config: auto_map of a number",
        TOKENIZE,
        ("'./model'", "tokenizer"),
        tokenizer_config(auto_map={"AutoTokenizer": 5}),
    ),
    _token_setting("chat_template", 5, harmless=True),
    _token_setting("chat_template", "{% for %}", harmless=True),
    _token_setting("chat_template", [1], either=True),
    _token_setting("chat_template", [{"name": "a"}], either=True),
    _token_setting("tokenizer_file", "/etc/passwd", harmless=True),
    _token_setting("vocab_file", 5, harmless=True),
    _token_setting("name_or_path", 5, harmless=True),
    _token_setting("model_input_names", 5, "5"),
    _token_setting("init_inputs", 5, "5"),
    _token_setting("self", 5, "self"),
    _token_setting("fix_mistral_regex", "x", harmless=True),
    Stranger(
        "special_tokens_map of numbers",
        TOKENIZE,
        ("special_tokens_map.json", "5"),
        all_of(write("tokenizer_config.json", "{}"), write("special_tokens_map.json", '{"bos_token": 5}')),
    ),
    Stranger(
        "special_tokens_map of objects",
        TOKENIZE,
        ("special_tokens_map.json",),
        all_of(write("tokenizer_config.json", "{}"), write("special_tokens_map.json", '{"bos_token": {"a": 1}}')),
        either=True,
    ),
    Stranger(
        "chat_template.jinja is no text",
        TOKENIZE,
        ("chat_template.jinja",),
        write("chat_template.jinja", b"\xff\xfe"),
        either=True,
    ),
    Stranger(
        "tokenizer.json with a byte order mark",
        TOKENIZE,
        ("tokenizer.json",),
        lambda f: recoded(f / "tokenizer.json", "utf-8-sig"),
    ),
    Stranger(
        "tokenizer.json in UTF-16", TOKENIZE, ("tokenizer.json",), lambda f: recoded(f / "tokenizer.json", "utf-16")
    ),
    Stranger(
        "tokenizer_config.json with a byte order mark",
        TOKENIZE,
        ("tokenizer_config.json",),
        lambda f: recoded(f / "tokenizer_config.json", "utf-8-sig"),
    ),
    Stranger(
        "tokenizer_config.json in UTF-16",
        EMBED,
        ("tokenizer_config.json",),
        lambda f: recoded(f / "tokenizer_config.json", "utf-16"),
    ),
    Stranger(
        "tokenizer.json with a lone surrogate",
        TOKENIZE,
        ("'./model'", "tokenizer"),
        tokenizer(lambda t: t["model"]["vocab"].update({"\ud800": 384})),
    ),
    Stranger(
        "tokenizer_config.json with a lone surrogate",
        TOKENIZE,
        ("'./model'", "tokenizer"),
        tokenizer_config(bos_token="\ud800"),
    ),
)
