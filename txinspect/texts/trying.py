"""A tokenizer is tried in a process of its own before it is used: its rules may never come to an end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from txinspect.errors import SourceError
from txinspect.guards import trial
from txinspect.queries import LESSON
from txinspect.sources.source import Source
from txinspect.texts.kept import read_kept
from txinspect.texts.tokens import Text, quoted

if TYPE_CHECKING:
    from tokenizers import Tokenizer

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


def is_bounded(file: str, kept: bool, texts: Sequence[Text], known: Tokenizer | None = None) -> bool:
    """Whether a tokenizer that is tried makes no more of texts than it may: tokens of each, and a text of these.

    It is in its own file, or `kept` in the cache, or `known` from there already. Tried in a process of its own.
    """
    from tokenizers import Tokenizer

    tokenizer = known or (read_kept(Path(file)) if kept else None) or Tokenizer.from_file(file)
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


@dataclass(frozen=True)
class Trying:
    """Tries a tokenizer on texts. Raises SourceError for one that never gets done, or brings the process down."""

    source: Source
    key: str
    """The digest of what decides the tokenizer."""
    file: Path
    """Its own, or the one that keeps it."""
    tried: Tried
    kept: Tokenizer | None = None
    """What the file that keeps it holds; None where the file is its own, which nobody has read yet."""

    def __call__(self, texts: Sequence[Text]) -> None:
        """Try the tokenizer on those of the texts that it was not tried on before."""
        done = self.tried.setdefault(self.key, set())
        new = [each for each in dict.fromkeys((*texts, LESSON)) if each not in done]
        if not new:
            return
        length = sum(len(each) if isinstance(each, str) else sum(map(len, each)) for each in new)
        told = partial(is_bounded, str(self.file), self.kept is not None, new)
        # A fork has what was read already; a process that is started reads it again.
        outcome = trial.attempt(partial(told, self.kept), PATIENCE + length / CHARACTERS_A_SECOND, told)
        if outcome != "well":
            first = new[0] if isinstance(new[0], str) else new[0][0]
            raise SourceError(
                self._sentence(outcome, quoted(first) if len(new) <= 2 else f"{quoted(first)} and other texts")
            )
        done.update(new)

    def _sentence(self, outcome: trial.Outcome, said: str) -> str:
        """The sentence about what is wrong with a tokenizer that was tried."""
        whose = f"the tokenizer of {self.source.name!r}"
        if outcome == "too much":
            return (
                f"{whose} makes many times more of {said} than there is: its rules are damaged; fetch or write it again"
            )
        if outcome == "too long":
            return (
                f"{whose} takes more than {PATIENCE:.0f} seconds over {said}: its rules do not come to an end; fetch "
                f"or write it again"
            )
        return f"{whose} {outcome} in the tokenizers library: it is damaged; fetch or write it again"
