"""Text → token records, without torch.

transformers' AutoTokenizer decides how a model's text is tokenized, but importing it imports torch. So the fast
tokenizer that it builds is kept in a cache, keyed by the contents of the tokenizer's files, and read from there by the
`tokenizers` library alone. Tokenizers without a fast form go through AutoTokenizer every time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from txinspect import opening
from txinspect.errors import InspectError, SourceError, spelled
from txinspect.models import gguf_files, trial
from txinspect.models.blame import blamed
from txinspect.models.cache import cached_at, read_cached, write_cached
from txinspect.models.mending import mended_configs
from txinspect.models.quantization.stored import is_installed
from txinspect.models.quiet import as_source_error, quiet
from txinspect.queries import LESSON, shown
from txinspect.records import InputRecord, TokenRecord
from txinspect.sources.names import CONFIG_FILES, TOKENIZER_FILES
from txinspect.sources.source import Source

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

PATIENCE = 10.0
"""Seconds that a tokenizer may take over a short text."""

TOKENS_A_BYTE, MOST_TOKENS = 16, 1_000
"""Tokens that a byte of text may become at most, and how many may stand around them: a ligature of three bytes, such as
U+FDFA, is taken apart into 18 letters."""

LARGEST_ID = 10_000_000
"""Of a token."""

MOST_ADDED = 80_000
"""Tokens that may be added to a vocabulary."""

MOST_SPECIAL = 10_000
"""Special ones: each is looked for among all others."""

CHARACTERS_A_LETTER = 8
"""Characters that a letter of a stored token may become at most in the text that it stands for."""

CHARACTERS_A_SECOND = 50_000
"""What the slowest may take over a long one."""

_WITH_ADDED = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")

_ADDED = {
    "added_tokens": MOST_ADDED,
    "added_tokens_decoder": MOST_ADDED,
    "additional_special_tokens": MOST_SPECIAL,
    "extra_special_tokens": MOST_SPECIAL,
}
"""Keys of tokens that are added one by one, and how many they may name."""


class Encode(Protocol):
    """A text, and whether to add special tokens → tokens; with a second text, those of both joined."""

    def __call__(self, text: str, special: bool, pair: str | None = None) -> list[TokenRecord]:
        """The tokens; a span is one of the text that its token is of."""


Text = str | tuple[str, str]
"""A text, or two that are joined."""

Segments = Callable[[str, bool, str], list[int]]
"""(text, whether to add special tokens, second text) → the segment of each token."""

Sequences = Callable[[str, bool, str], list[int | None]]
"""(text, whether to add special tokens, second text) → which of the two, 0 or 1, each token is of; None for what the
tokenizer adds, and where it does not say."""

Spell = Callable[[int], tuple[str | None, str | bytes | None]]
"""An id → the token as the vocabulary stores it, and its text, or its bytes where they are not whole characters; None
for what is not in the vocabulary."""


def _unasked(_texts: Sequence[Text]) -> None:
    """Try nothing: what comes with the program is known, and what is in no file cannot be tried in a process."""


@dataclass(frozen=True)
class Tokens:
    """A model's tokenizer: texts → tokens, ids → what they stand for."""

    encode: Encode
    segments: Segments
    sequences: Sequences
    spell: Spell
    size: int
    """Ids, special ones among them."""
    special: frozenset[int]
    """Ids of special tokens."""
    decode: Callable[[list[int]], str]
    """The text that ids stand for, without special tokens."""
    find: Callable[[str], int | None]
    """The id of a token as the vocabulary stores it; None for one that is not in it."""
    unknown: int | None
    """The id that stands for what is not in the vocabulary; None where everything is."""
    attempt: Callable[[Sequence[Text]], None] = _unasked
    """Tries it on further texts. Raises SourceError for one that it does not get done with."""

    def ids(self, text: str) -> list[int]:
        """The ids of a text alone, without special tokens."""
        return [token.id for token in self.encode(text, False)]

    def after(self, text: str, following: str) -> list[int] | None:
        """The ids of a text that follows another one; None where together they are other tokens than apart."""
        own, together = self.ids(text), self.ids(text + following)
        return together[len(own) :] if together[: len(own)] == own and len(together) > len(own) else None

    def ordinary(self) -> list[int]:
        """The ids that stand for text of whole characters, without special ones."""
        return [each for each in range(self.size) if each not in self.special and isinstance(self.spell(each)[1], str)]

    def record(self, token_id: int, index: int = 0) -> TokenRecord:
        """A token of the vocabulary, without a place in a text."""
        token, text = self.spell(token_id)
        return TokenRecord(
            index=index,
            id=token_id,
            token=token,
            text=text if isinstance(text, str) else None,
            start=None,
            end=None,
            special=token_id in self.special,
            bytes=text.hex(" ") if isinstance(text, bytes) else None,
        )


def as_input(text: str, tokens: list[TokenRecord], pair: str | None = None) -> InputRecord:
    """A text, or two that are joined, with their tokens. Raises InspectError for none."""
    if not tokens:
        advice = (
            "the tokenizer makes none of it; give another"
            if text or pair
            else "give a text with at least one character"
        )
        raise InspectError(f"the text {named(text, pair)} yields no tokens: {advice}")
    return InputRecord(
        text=text,
        input_ids=[[token.id for token in tokens]],
        attention_mask=[[1] * len(tokens)],
        tokens=tokens,
        pair=pair,
        segments=None,
        roles=None,
        decoder=None,
    )


def load(source: Source, trust_remote_code: bool, *texts: Text) -> Tokens:
    """A model's tokenizer, which gives for these texts, and for the lesson's, what transformers gives.

    Raises SourceError if it cannot be loaded, or does not get done with one of the texts.
    """
    from tokenizers import Tokenizer

    if source.bundled_tokenizer is not None:
        return _fast(Tokenizer.from_file(str(source.bundled_tokenizer)))
    folder = source.tokenizer_folder()
    key = _key(folder, source)
    cached = cached_at("tokenizers", f"{key}.json")
    known = _read_cached(cached)
    if known is not None and cached is not None:
        _try(source, key, cached, texts, kept=True)
        return replace(_fast(known), attempt=partial(_try, source, key, cached, kept=True))
    _check_files(source, folder)
    file = source.tokenizer_file("tokenizer.json")
    own = partial(_try, source, key, file, kept=False) if file is not None else _unasked
    own(texts)
    tokenizer: Any = load_tokenizer(source, folder, trust_remote_code)
    whole = getattr(tokenizer, "backend_tokenizer", None)
    # What is kept of it, and no more: transformers sets more on the tokenizer itself, such as what it splits.
    backend = Tokenizer.from_str(whole.to_str()) if whole is not None else None
    alone = [each for each in texts if isinstance(each, str)]
    if backend is None or not _same(tokenizer, backend, alone):
        return replace(_slow(tokenizer), attempt=own)
    _write_cached(cached, backend)
    # One that is made of other files, as of a .gguf, is in the cache alone.
    if cached is not None and cached.is_file():
        own = partial(_try, source, key, cached, kept=True)
    return replace(_fast(backend), attempt=own)


_MASKS = ("[MASK]", "<mask>")
"""What stands for a masked token where the tokenizer's files do not say."""


def mask_id(source: Source, tokens: Tokens) -> int | None:
    """The id of a tokenizer's mask token; None if it has none."""
    named = list[str]()
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        file = source.tokenizer_file(name)
        if file is not None:
            what = f"{name} of {source.name!r}"
            own = source.files.read_object(file, opening.VOCABULARY, what).get("mask_token")
            own = own.get("content") if isinstance(own, dict) else own
            named += [own] if isinstance(own, str) else []
    ids = (tokens.find(token) for token in dict.fromkeys((*named, *_MASKS)))
    return next((each for each in ids if each in tokens.special), None)


def of(whole: PreTrainedTokenizerBase) -> Tokens:
    """A tokenizer of transformers, in the state that it is in."""
    from tokenizers import Tokenizer

    backend = getattr(whole, "backend_tokenizer", None)
    return _slow(whole) if backend is None else _fast(Tokenizer.from_str(backend.to_str()))


def _key(folder: Path, source: Source) -> str:
    """A digest of everything that decides the tokenizer: its files and the libraries' versions."""
    digest = hashlib.sha256(f"{version('transformers')} {version('tokenizers')}".encode())
    digest.update(source.place.settings() or b"")
    for name in _files(source, folder):
        content = source.files.read(folder / name, opening.VOCABULARY, f"{name} of {source.name!r}")
        digest.update(f"\n{name} {len(content)}\n".encode("utf-8", "surrogateescape") + content)
    return digest.hexdigest()


def _files(source: Source, folder: Path) -> list[str]:
    """The files that decide a tokenizer, links that lead nowhere among them; none for a .gguf file."""
    if source.is_one_file:
        return []
    patterns = CONFIG_FILES + TOKENIZER_FILES
    return sorted(name for name in os.listdir(folder) if any(fnmatch(name, each) for each in patterns))  # noqa: PTH208


def _check_files(source: Source, folder: Path) -> None:
    """Raise SourceError for a file of JSON that holds no object, and for a template that is no text."""
    for name in _files(source, folder):
        what = f"{name} of {source.name!r}"
        if name.endswith(".json"):
            found = source.files.read_object(folder / name, opening.VOCABULARY, what)
            _check_ids(found, what)
            for key, value in found.items() if name in _WITH_ADDED else ():
                most = _ADDED.get(key)
                if most is not None and isinstance(value, (list, dict)) and len(value) > most:
                    raise SourceError(f"{what} has {len(value):,} {key}: no tokenizer has more than {most:,}")
        elif name.endswith(".jinja"):
            opening.read_text(folder / name, opening.SMALL, what)


def _check_ids(found: dict[str, Any], what: str) -> None:
    """Raise SourceError for an id beyond any vocabulary: the tokenizers library counts up to the largest."""
    model, added = found.get("model"), found.get("added_tokens")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    ids = list(vocabulary.items()) if isinstance(vocabulary, dict) else []
    for each in added if isinstance(added, list) else []:
        ids += [(each.get("content"), each.get("id"))] if isinstance(each, dict) else []
    for token, id in ids:
        if isinstance(id, int) and not 0 <= id <= LARGEST_ID:
            raise SourceError(f"{what} gives the token {shown(token)} the id {id}: ids are from 0 to {LARGEST_ID:,}")


def is_bounded(file: str, kept: bool, texts: Sequence[Text]) -> bool:
    """Whether a tokenizer makes no more of some texts than it may: tokens of each, and a text of these.

    It is in its own file, or `kept` in the cache. Tried in a process of its own.
    """
    from tokenizers import Tokenizer

    known = _read_cached(Path(file)) if kept else None
    tokenizer = known or Tokenizer.from_file(file)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    for each in texts:
        text, pair = (each, None) if isinstance(each, str) else each
        found = tokenizer.encode(text, pair)
        if len(found) > MOST_TOKENS + TOKENS_A_BYTE * len((text + (pair or "")).encode()):
            return False
        most = MOST_TOKENS + CHARACTERS_A_LETTER * sum(map(len, found.tokens))
        if len(tokenizer.decode(found.ids, skip_special_tokens=False)) > most:
            return False
        for token_id, token in {*zip(found.ids, found.tokens, strict=True)}:
            own = tokenizer.decode([token_id], skip_special_tokens=False)
            if len(own) > MOST_TOKENS + CHARACTERS_A_LETTER * len(token):
                return False
    return True


_TRIED: dict[str, set[Text]] = {}
"""The texts that each tokenizer, by the digest of its files, got done with in this process."""


def _try(source: Source, key: str, file: Path, texts: Sequence[Text], *, kept: bool) -> None:
    """Raise SourceError for a tokenizer that never gets done with a text, or brings the process down."""
    tried = _TRIED.setdefault(key, set())
    new = [each for each in dict.fromkeys((*texts, LESSON)) if each not in tried]
    if not new:
        return
    length = sum(len(each) if isinstance(each, str) else sum(map(len, each)) for each in new)
    first = new[0] if isinstance(new[0], str) else new[0][0]
    said = quoted(first) if len(new) <= 2 else f"{quoted(first)} and other texts"
    outcome = trial.attempt(partial(is_bounded, str(file), kept, new), PATIENCE + length / CHARACTERS_A_SECOND)
    if outcome == "too much":
        raise SourceError(
            f"the tokenizer of {source.name!r} makes many times more of {said} than there is: its rules are damaged; "
            f"fetch or write it again"
        )
    if outcome == "too long":
        raise SourceError(
            f"the tokenizer of {source.name!r} takes more than {PATIENCE:.0f} seconds over {said}: its rules do not "
            f"come to an end; fetch or write it again"
        )
    if outcome != "well":
        raise SourceError(
            f"the tokenizer of {source.name!r} {outcome} in the tokenizers library: it is damaged; fetch or write it "
            f"again"
        )
    tried.update(new)


def _read_cached(path: Path | None) -> Tokenizer | None:
    """The tokenizer in a cache file; None if there is none, or a damaged one."""
    from tokenizers import Tokenizer

    content = read_cached(path)
    try:
        return Tokenizer.from_buffer(content) if content is not None else None
    except ValueError:
        return None


def _write_cached(path: Path | None, backend: Tokenizer) -> None:
    """Keep a tokenizer."""
    write_cached(path, backend.to_str().encode())


def _same(tokenizer: Any, backend: Tokenizer, texts: Sequence[str]) -> bool:
    """Whether the fast tokenizer alone gives what the whole one gives: on these texts, on the lesson's, and on special
    tokens within a text, which some split."""
    specials = f" {' x'.join(map(str, tokenizer.all_special_tokens))} Ünder  the\n\tSea 42 🦊 "
    with quiet():
        return all(
            tokenizer(sample, add_special_tokens=special)["input_ids"]
            == backend.encode(sample, add_special_tokens=special).ids
            for sample in (*texts, LESSON, specials)
            for special in (True, False)
        )


def _fast(backend: Tokenizer) -> Tokens:
    backend.no_truncation()
    backend.no_padding()
    added = backend.get_added_tokens_decoder()
    state = json.loads(backend.to_str())
    decode = _decoder(backend, state)

    def encode_fast(text: str, special: bool, pair: str | None = None) -> list[TokenRecord]:
        encoding = backend.encode(text, pair, add_special_tokens=special)
        records = []
        for index, (id, token, span) in enumerate(zip(encoding.ids, encoding.tokens, encoding.offsets, strict=True)):
            placed = span[0] < span[1]
            source = pair if pair is not None and encoding.sequence_ids[index] == 1 else text
            own = source[span[0] : span[1]] if placed else None
            decoded = added[id].content if id in added else decode(id, token)
            if own is not None and (id in added or own.replace("▁", " ") == decoded):
                decoded = own  # blanks that an added token takes in, and a ▁ that the text itself has
            records.append(
                TokenRecord(
                    index=index,
                    id=id,
                    token=token,
                    text=decoded if isinstance(decoded, str) else None,
                    start=span[0] if placed else None,
                    end=span[1] if placed else None,
                    special=id in added and added[id].special,
                    bytes=decoded.hex(" ") if isinstance(decoded, bytes) else None,
                )
            )
        return records

    def spell_fast(token_id: int) -> tuple[str | None, str | bytes | None]:
        token = backend.id_to_token(token_id)
        if token is None:
            return None, None
        return token, added[token_id].content if token_id in added else decode(token_id, token)

    def segments_fast(text: str, special: bool, pair: str) -> list[int]:
        return list(backend.encode(text, pair, add_special_tokens=special).type_ids)

    def sequences_fast(text: str, special: bool, pair: str) -> list[int | None]:
        return list(backend.encode(text, pair, add_special_tokens=special).sequence_ids)

    special_ids = frozenset(id for id, token in added.items() if token.special)
    return Tokens(
        encode=encode_fast,
        segments=segments_fast,
        sequences=sequences_fast,
        spell=spell_fast,
        size=backend.get_vocab_size(),
        special=special_ids,
        decode=backend.decode,
        find=backend.token_to_id,
        unknown=_unknown(backend, state["model"]),
    )


def _unknown(backend: Tokenizer, model: Mapping[str, Any]) -> int | None:
    """The id of a model's unknown token: SentencePiece's unigrams name it by its id, the others by its text."""
    token = model.get("unk_token")
    found: int | None = backend.token_to_id(token) if isinstance(token, str) else model.get("unk_id")
    return found


def _slow(tokenizer: Any) -> Tokens:
    """For tokenizers written in Python: they know no character spans."""

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
    """A decoded token; None if it is a part of a character, which decodes to nothing or to a replacement."""
    return None if not decoded or "\ufffd" in decoded else decoded


def _decoder(backend: Tokenizer, state: Mapping[str, Any]) -> Callable[[int, str], str | bytes]:
    """What turns one token into its text, or into its bytes where they are not whole characters; `state` is the
    tokenizer as JSON.

    The decoder of a whole sequence does not do: it drops a leading space and replaces broken characters.
    """
    kind = json.dumps(state.get("decoder"), ensure_ascii=False)
    if '"ByteLevel"' in kind:
        alphabet = _byte_level_alphabet()
        return lambda _id, token: _text_or_bytes(_bytes_of(token, alphabet))
    if "▁" in kind:
        return lambda _id, token: _byte_fallback(token) or token.replace("▁", " ")
    return lambda token_id, _token: backend.decode([token_id], skip_special_tokens=False)


def _bytes_of(token: str, alphabet: Mapping[str, int]) -> bytes:
    """The bytes that a byte-level token stands for; one of other characters stands for itself."""
    try:
        return bytes(alphabet[character] for character in token)
    except KeyError:
        return token.encode("utf-8", "replace")


def _byte_fallback(token: str) -> str | bytes | None:
    """A token that stands for one byte, such as <0xE2>; None for any other."""
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


def quoted(text: str) -> str:
    """A text in a sentence."""
    return repr(text if len(text) <= 40 else text[:39] + "…")


def named(text: str, pair: str | None = None) -> str:
    """A text, or two that are joined, in a sentence."""
    return quoted(text) if pair is None else f"{quoted(text)} with {quoted(pair)}"


def load_tokenizer(source: Source, folder: Path, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """The tokenizer that transformers makes of a folder's files.

    Raises SourceError if it cannot.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerBase

    if not source.is_one_file and not any(path for pattern in TOKENIZER_FILES for path in folder.glob(pattern)):
        raise SourceError(
            f"{source.name!r} has no tokenizer: none of {', '.join(TOKENIZER_FILES[:6])}, … is in {folder}; "
            f"copy them from the model it was made from"
        )
    if not trust_remote_code and _has_code(source):
        raise SourceError(
            f"the tokenizer of {source.name!r} comes with Python code of its own: "
            f"read it, and add {spelled('trust_remote_code', True)} to run it"
        )

    def made(folder: Path) -> PreTrainedTokenizerBase:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=trust_remote_code, local_files_only=True, gguf_file=source.place.in_one_file
        )
        if not isinstance(tokenizer, PreTrainedTokenizerBase):  # such as RagTokenizer, which is two
            raise TypeError(f"{type(tokenizer).__name__} is no tokenizer of one text")
        tokenizer(LESSON)  # some faults show only here
        return tokenizer

    what = f"the tokenizer of {source.name!r} could not be loaded"
    blame = partial(_blame, source, folder, made)
    try:
        with (
            quiet(),
            as_source_error(what, blame=blame),
            gguf_files.remembered() if source.is_one_file else nullcontext(),
            mended_configs(),
        ):
            tokenizer = made(folder)
    except SourceError as error:
        if advice := _sentencepiece_is_missing(source, folder):
            raise SourceError(advice) from error
        if "instantiate the backend tokenizer" in str(error):
            raise SourceError(
                f"{source.name!r} has no vocabulary: neither tokenizer.json nor what it is made of is in {folder}; "
                f"copy the files from the model it was made from"
            ) from error
        raise
    return tokenizer


def _blame(source: Source, folder: Path, made: Callable[[Path], object]) -> str | None:
    """The key of the tokenizer's files without which it can be made, and its value; None if it is not one alone."""
    if source.tokenizer_file("tokenizer.json") is None:  # it may be that what is missing
        return None
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if not (folder / name).is_file():
            continue

        def works(config: dict[str, Any], name: str = name) -> None:
            with tempfile.TemporaryDirectory() as view:
                for other in folder.iterdir():
                    if other.name != name:
                        (Path(view) / other.name).symlink_to(other.absolute())
                (Path(view) / name).write_text(json.dumps(config), encoding="utf-8")
                made(Path(view))

        if found := blamed(opening.read_object(folder / name, opening.VOCABULARY), works):
            return f"in {name} {found}"
    return None


def _sentencepiece_is_missing(source: Source, folder: Path) -> str | None:
    """What to install for a tokenizer that is a SentencePiece model alone; None if that is not what is missing."""
    if source.is_one_file or source.tokenizer_file("tokenizer.json") is not None:
        return None
    models = [file for kind in ("*.model", "*.spm") for file in folder.glob(kind) if file.read_bytes()[:1] == b"\n"]
    needed = [name for name in ("sentencepiece", "google.protobuf") if not is_installed(name)]
    if not models or not needed:
        return None
    packages = " ".join("protobuf" if name == "google.protobuf" else name for name in needed)
    return (
        f"the tokenizer of {source.name!r} is a SentencePiece model, {models[0].name}, which needs "
        f"{packages.replace(' ', ' and ')}: install with 'pip install {packages}'"
    )


def _has_code(source: Source) -> bool:
    """Whether a tokenizer_config.json names a class of the repository's own."""
    path = source.tokenizer_file("tokenizer_config.json")
    own = source.files.read_object(path, opening.VOCABULARY).get("auto_map") if path is not None else None
    return isinstance(own, dict) and "AutoTokenizer" in own
