"""What a query names → positions of the text, and tokens of the vocabulary."""

from __future__ import annotations

from txinspect.errors import InspectError, spelled
from txinspect.indices import Layers, from_start
from txinspect.records import SentenceRecord
from txinspect.texts.tokens import Tokens


def positions(asked: Layers, text: SentenceRecord) -> list[int]:
    """The positions of a text that a query names. Raises InspectError for one beyond it."""
    count = len(text.tokens)

    def wrong(position: int) -> InspectError:
        return InspectError(f"position {position} is out of range: the text has tokens 0 to {count - 1}")

    return list(from_start(asked, count, wrong))


def target(tokens: Tokens, text: str, word: str, advice: str = "", field: str = "targets") -> int:
    """The token of the vocabulary that a target names: after a text, by itself, or as the vocabulary stores it.

    Raises InspectError, about the `field` of the query, for one that is several tokens, or none of the vocabulary;
    `advice` is what else can be done.
    """
    alone = tokens.encode(word, False)
    for ids in (tokens.after(text, word), [each.id for each in alone]):
        if ids and len(ids) == 1 and ids[0] != tokens.unknown:
            return ids[0]
    stored = tokens.find(word)
    if stored is not None:
        return stored
    if any(each.id == tokens.unknown for each in alone):
        known = ", ".join(str(each.token) for each in alone)
        raise InspectError(
            f"{spelled(field)} {word!r} is no token of the vocabulary: the tokenizer makes {known} of it; give "
            f"another{advice}"
        )
    if not alone:
        raise InspectError(f"{spelled(field)} {word!r} is no token: the tokenizer makes nothing of it; give another")
    pieces = ", ".join(repr(token.text or token.token) for token in alone)
    raise InspectError(f"{spelled(field)} {word!r} is {len(alone)} tokens, {pieces}: give one of them{advice}")


def sequence(tokens: Tokens, text: str, words: str, field: str) -> tuple[int, ...]:
    """The tokens that an answer is after a text, one or several. See target; raises InspectError, about the `field`."""
    following = tokens.after(text, words) or tokens.ids(words)
    if len(following) <= 1 or tokens.find(words) is not None:
        return (target(tokens, text, words, field=field),)
    if tokens.unknown in following:
        raise InspectError(f"{spelled(field)} {words!r} holds what is not in the vocabulary", "give another")
    return tuple(following)
