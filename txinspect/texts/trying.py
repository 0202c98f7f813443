"""A tokenizer is tried in a process of its own before it is used: its rules may never come to an end."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from txinspect.errors import SourceError
from txinspect.guards import trial
from txinspect.queries import LESSON
from txinspect.sources.source import Source
from txinspect.texts.kept import read_kept
from txinspect.texts.tokens import Text, quoted

PATIENCE = 10.0
"""Seconds that a tokenizer may take over a short text."""

TOKENS_A_BYTE, MOST_TOKENS = 16, 1_000
"""Tokens that a byte of text may become at most, and how many may stand around them: a ligature of three bytes, such as
U+FDFA, is taken apart into 18 letters."""

CHARACTERS_A_LETTER = 8
"""Characters that a letter of a stored token may become at most in the text that it stands for."""

CHARACTERS_A_SECOND = 50_000
"""What the slowest may take over a long one."""


Tried = dict[str, set[Text]]
"""The texts that each tokenizer, by the digest of its files, got done with."""


def is_bounded(file: str, kept: bool, texts: Sequence[Text]) -> bool:
    """Whether a tokenizer makes no more of some texts than it may: tokens of each, and a text of these.

    It is in its own file, or `kept` in the cache. Tried in a process of its own.
    """
    from tokenizers import Tokenizer

    known = read_kept(Path(file)) if kept else None
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


def attempt(source: Source, key: str, file: Path, texts: Sequence[Text], *, kept: bool, tried_before: Tried) -> None:
    """Raise SourceError for a tokenizer that never gets done with a text, or brings the process down."""
    tried = tried_before.setdefault(key, set())
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
