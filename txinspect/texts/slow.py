"""Tokens by a tokenizer that is written in Python: it knows no character spans."""

from __future__ import annotations

from typing import Any

from txinspect.records import TokenRecord
from txinspect.texts.tokens import Tokens


def slow(tokenizer: Any) -> Tokens:
    """The tokens of a slow tokenizer, which is written in Python: it knows no character spans."""

    def encode_slow(text: str, special: bool, pair: str | None = None) -> list[TokenRecord]:
        ids = tokenizer(text, pair, add_special_tokens=special)["input_ids"]
        return [
            TokenRecord(
                index=index,
                id=id,
                token=tokenizer.convert_ids_to_tokens(id),
                text=_whole(tokenizer.decode([id])),
                start=None,
                end=None,
                special=id in tokenizer.all_special_ids,
                bytes=None,
            )
            for index, id in enumerate(ids)
        ]

    def spell_slow(token_id: int) -> tuple[str | None, str | bytes | None]:
        return tokenizer.convert_ids_to_tokens(token_id), _whole(tokenizer.decode([token_id]))

    def segments_slow(text: str, special: bool, pair: str) -> list[int]:
        found = tokenizer(text, pair, add_special_tokens=special, return_token_type_ids=True)
        return list(found.get("token_type_ids") or [0] * len(found["input_ids"]))

    def decode_slow(ids: list[int]) -> str:
        return str(tokenizer.decode(ids, skip_special_tokens=True))

    def find_slow(token: str) -> int | None:
        found = tokenizer.convert_tokens_to_ids(token)
        return found if isinstance(found, int) and tokenizer.convert_ids_to_tokens(found) == token else None

    def sequences_slow(text: str, special: bool, pair: str) -> list[int | None]:
        return [None] * len(tokenizer(text, pair, add_special_tokens=special)["input_ids"])

    return Tokens(
        encode=encode_slow,
        segments=segments_slow,
        sequences=sequences_slow,
        spell=spell_slow,
        size=len(tokenizer),
        special=frozenset(tokenizer.all_special_ids),
        decode=decode_slow,
        find=find_slow,
        unknown=tokenizer.unk_token_id,
    )


def _whole(decoded: str) -> str | None:
    """A slow tokenizer's decoded token; None if it is a part of a character, decoded to nothing or a replacement."""
    return None if not decoded or "\ufffd" in decoded else decoded
