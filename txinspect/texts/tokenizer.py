"""A model's tokenizer, without torch.

transformers' AutoTokenizer decides how a model's text is tokenized, but importing it imports torch. So the fast
tokenizer that it builds is kept in a cache, keyed by the contents of the tokenizer's files, and read from there by the
`tokenizers` library alone. Tokenizers without a fast form go through AutoTokenizer every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from txinspect.guards.cache import cached_at
from txinspect.guards.quiet import quiet
from txinspect.queries import LESSON
from txinspect.sources.source import Source
from txinspect.texts.auto_tokenizer import load_tokenizer
from txinspect.texts.fast import fast
from txinspect.texts.kept import digest, keep, read_kept
from txinspect.texts.slow import slow
from txinspect.texts.tokenizer_checks import check_files
from txinspect.texts.tokens import Text, Tokens, untried
from txinspect.texts.trying import Tried, Trying

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase


def load(source: Source, trust_remote_code: bool, *texts: Text, tried: Tried) -> Tokens:
    """Load a model's tokenizer, which gives for these texts, and for the lesson's, what transformers gives.

    Raises SourceError if it cannot be loaded, or does not get done with one of the texts.
    """
    from tokenizers import Tokenizer

    if source.bundled_tokenizer is not None:
        return fast(Tokenizer.from_file(str(source.bundled_tokenizer)))
    folder = source.tokenizer_folder()
    key = digest(folder, source)
    cached = cached_at("tokenizers", f"{key}.json")
    known = read_kept(cached)
    if known is not None and cached is not None:
        trying = Trying(source, key, cached, tried, known)
        trying(texts)
        return replace(fast(known), attempt=trying)
    check_files(source, folder)
    file = source.tokenizer_file("tokenizer.json")
    own = Trying(source, key, file, tried) if file is not None else untried
    own(texts)
    tokenizer: Any = load_tokenizer(source, folder, trust_remote_code)
    whole = getattr(tokenizer, "backend_tokenizer", None)
    # What is kept of it, and no more: transformers sets more on the tokenizer itself, such as what it splits.
    backend = Tokenizer.from_str(whole.to_str()) if whole is not None else None
    alone = [each for each in texts if isinstance(each, str)]
    if backend is None or not _same(tokenizer, backend, alone):
        return replace(slow(tokenizer), attempt=own)
    keep(cached, backend)
    # One that is made of other files, as of a .gguf, is in the cache alone.
    if cached is not None and cached.is_file():
        own = Trying(source, key, cached, tried, backend)
    return replace(fast(backend), attempt=own)


def tokens_of(whole: PreTrainedTokenizerBase) -> Tokens:
    """A tokenizer at hand of one that transformers made, in the state that it is in."""
    from tokenizers import Tokenizer

    backend = getattr(whole, "backend_tokenizer", None)
    return slow(whole) if backend is None else fast(Tokenizer.from_str(backend.to_str()))


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
