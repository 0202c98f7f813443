"""Languages that a tokenizer has tokens for: what mBART, M2M100 and NLLB put before or after a text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from txinspect.errors import InspectError, spelled
from txinspect.nearest import nearest
from txinspect.sources.source import Source
from txinspect.texts import tokenizer
from txinspect.texts.opened import Opened
from txinspect.texts.tokens import Text, Tokens
from txinspect.wording import one_of

_CODE = re.compile(r"__([a-z]{2,8})__|([a-z]{2,3}_[A-Z]{2}|[a-z]{3}_[A-Z][a-z]{3})")
"""A token of a language: __en__ (M2M100), en_XX (mBART), eng_Latn (NLLB)."""


def tokens_for(opened: Opened, texts: Sequence[Text], language: str | None) -> Tokens:
    """A model's tokenizer, which marks a text as one of a language. See tokenizer.load.

    Raises InspectError for a language that it does not have.
    """
    tokens, source = opened.tokens(*texts), opened.source
    if language is None:
        return tokens
    token = language_id(source, tokens, "src_lang", language)
    whole = opened.new_tokenizer()
    code = next((each for each in _names(language) if each in _codes_of(whole)), language)
    whole.src_lang = code
    tokens = tokenizer.tokens_of(whole)
    if token not in [each.id for each in tokens.encode("a", True)]:
        raise InspectError(
            f"the tokenizer of {source.name!r}, a {type(whole).__name__}, marks no text with its language: omit "
            f"{spelled('src_lang', language)}"
        )
    return tokens


def language_id(source: Source, tokens: Tokens, field: str, language: str) -> int:
    """The id of a language's token. Raises InspectError, about a field of the query, for one that there is not."""
    known = languages(tokens)
    if not known:
        raise InspectError(
            f"the tokenizer of {source.name!r} has no languages to choose from: omit {spelled(field, language)}"
        )
    token = next((known[each] for each in _names(language) if each in known), None)
    if token is None:
        near = nearest(language, list(known)) or sorted(known)[:3]
        raise InspectError(
            f"{spelled(field)} {language!r} is none of the {len(known)} languages of {source.name!r}: did you mean "
            f"{one_of(near)}?"
        )
    return token


def languages(tokens: Tokens) -> dict[str, int]:
    """The ids of the languages' tokens, by the names that transformers has for them."""
    codes = {}
    for token_id in sorted(tokens.special):
        match = _CODE.fullmatch(tokens.spell(token_id)[0] or "")
        if match:
            codes[match[1] or match[2]] = token_id
    return codes


def _names(language: str) -> tuple[str, ...]:
    return (language, language.strip("_"))


def _codes_of(whole: Any) -> list[str]:
    """What a tokenizer of transformers itself calls the languages that it has tokens for."""
    return list(getattr(whole, "lang_code_to_id", None) or getattr(whole, "lang_token_to_id", None) or ())
