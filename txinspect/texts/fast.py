"""Tokens by the tokenizers library alone: a fast tokenizer, and what each of its tokens stands for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING

from txinspect.records import TokenRecord
from txinspect.texts.tokens import Tokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def fast(backend: Tokenizer) -> Tokens:
    """The tokens of a fast tokenizer; it cuts and fills up nothing from now on."""
    backend.no_truncation()
    backend.no_padding()
    own = _Fast(backend)
    return Tokens(
        encode=own.encode,
        segments=own.segments,
        sequences=own.sequences,
        spell=own.spell,
        size=backend.get_vocab_size(),
        special=frozenset(id for id, token in own.added.items() if token.special),
        decode=backend.decode,
        find=backend.token_to_id,
        unknown=_unknown(backend),
    )


class _Fast:
    """What a fast tokenizer is asked."""

    def __init__(self, backend: Tokenizer) -> None:
        self.backend = backend
        self.added = backend.get_added_tokens_decoder()
        self.decode = _decoder(backend)

    def encode(self, text: str, special: bool, pair: str | None = None) -> list[TokenRecord]:
        """See Encode."""
        encoding = self.backend.encode(text, pair, add_special_tokens=special)
        records = []
        for index, (id, token, span) in enumerate(zip(encoding.ids, encoding.tokens, encoding.offsets, strict=True)):
            of = pair if pair is not None and encoding.sequence_ids[index] == 1 else text
            records.append(self._record(index, id, token, of, span if span[0] < span[1] else None))
        return records

    def _record(self, index: int, id: int, token: str, text: str, span: tuple[int, int] | None) -> TokenRecord:
        """A fast tokenizer's token, and what it stands for: its span of the text tells more than its decoder knows."""
        own = None if span is None else text[slice(*span)]
        decoded = self._text(id, token)
        if own is not None and (id in self.added or own.replace("▁", " ") == decoded):
            decoded = own  # blanks that an added token takes in, and a ▁ that the text itself has
        return TokenRecord(
            index=index,
            id=id,
            token=token,
            text=decoded if isinstance(decoded, str) else None,
            start=None if span is None else span[0],
            end=None if span is None else span[1],
            special=id in self.added and self.added[id].special,
            bytes=decoded.hex(" ") if isinstance(decoded, bytes) else None,
        )

    def _text(self, id: int, token: str) -> str | bytes:
        content: str | bytes = self.added[id].content if id in self.added else self.decode(id, token)
        return content

    def spell(self, token_id: int) -> tuple[str | None, str | bytes | None]:
        """See Spell."""
        token = self.backend.id_to_token(token_id)
        return (None, None) if token is None else (token, self._text(token_id, token))

    def segments(self, text: str, special: bool, pair: str) -> list[int]:
        """See Segments."""
        return list(self.backend.encode(text, pair, add_special_tokens=special).type_ids)

    def sequences(self, text: str, special: bool, pair: str) -> list[int | None]:
        """See Sequences."""
        return list(self.backend.encode(text, pair, add_special_tokens=special).sequence_ids)


def _unknown(backend: Tokenizer) -> int | None:
    """The id of a fast tokenizer's unknown token: SentencePiece's unigrams name it by its id, others by its text."""
    model = backend.model
    if hasattr(model, "unk_token"):
        token: str | None = model.unk_token
        return None if token is None else backend.token_to_id(token)
    found: int | None = json.loads(model.__getstate__()).get("unk_id")
    return found


def _decoder(backend: Tokenizer) -> Callable[[int, str], str | bytes]:
    """What turns a fast tokenizer's token into its text, or into bytes where they are not whole characters.

    The decoder of a whole sequence does not do: it drops a leading space and replaces broken characters.
    """
    kind = backend.decoder.__getstate__().decode() if backend.decoder is not None else ""  # its JSON
    if '"ByteLevel"' in kind:
        alphabet = _byte_level_alphabet()
        return lambda _id, token: _text_or_bytes(_bytes_of(token, alphabet))
    if "▁" in kind:
        return lambda _id, token: _byte_fallback(token) or token.replace("▁", " ")
    return lambda token_id, _token: backend.decode([token_id], skip_special_tokens=False)


def _bytes_of(token: str, alphabet: Mapping[str, int]) -> bytes:
    """The bytes that a fast tokenizer's byte-level token stands for; one of other characters stands for itself."""
    try:
        return bytes(alphabet[character] for character in token)
    except KeyError:
        return token.encode("utf-8", "replace")


def _byte_fallback(token: str) -> str | bytes | None:
    """The byte that a fast tokenizer's token such as <0xE2> stands for; None for any other."""
    match = re.fullmatch(r"<0x([0-9A-F]{2})>", token)
    return _text_or_bytes(bytes.fromhex(match[1])) if match else None


def _text_or_bytes(content: bytes) -> str | bytes:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


@cache
def _byte_level_alphabet() -> dict[str, int]:
    """The printable character that stands for each byte in byte-level vocabularies (GPT-2, Radford et al. 2019).

    Printable Latin-1 characters stand for themselves; the others, in order, for the characters from U+0100.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    shifted = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(shifted)}
