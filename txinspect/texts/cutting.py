"""A text cut to so many tokens, from either end; what the tokenizer puts around a text stays."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from txinspect.errors import InspectError, spelled
from txinspect.records import InputRecord, TokenRecord
from txinspect.texts.tokens import Tokens, as_input


def cut(text: InputRecord, tokens: Tokens, most: int | None, alone: Sequence[int] | None = None) -> InputRecord:
    """A text cut to `most` of its tokens, the first ones; below zero the last ones. None cuts nothing.

    What the tokenizer puts around it counts, and stays: what is there beside the ids that the text is `alone`; None for
    ids that are read as they are. Raises InspectError where that is as many.
    """
    whole = text.tokens
    if most is None or len(whole) <= abs(most):
        return text
    before, after = (0, 0) if alone is None else _around([token.id for token in whole], alone)
    room = abs(most) - before - after
    if room < 1:
        raise InspectError(
            f"{spelled('max_tokens')} {most} leaves nothing of the text: the special tokens around it are "
            f"{before + after}; give {before + after + 1} or more"
        )
    own = whole[before : len(whole) - after]
    kept = own[:room] if most > 0 else own[-room:]
    records = [*whole[:before], *kept, *whole[len(whole) - after :]]
    start, end = _span(kept)
    if start is None or end is None:
        shown = tokens.decode([token.id for token in kept])
        return structs.replace(as_input(shown, _numbered(records, None)), uncut=len(whole))
    return structs.replace(as_input(text.text[start:end], _numbered(records, start)), uncut=len(whole))


def _around(whole: list[int], alone: Sequence[int]) -> tuple[int, int]:
    """How many tokens stand before a text that is cut and after it; none where it is other tokens alone."""
    extra = len(whole) - len(alone)
    for before in range(extra + 1):
        if whole[before : before + len(alone)] == [*alone]:
            return before, extra - before
    return 0, 0


def _span(tokens: list[TokenRecord]) -> tuple[int | None, int | None]:
    """The characters of a text that its cut tokens are; None where that is not known of each."""
    if any((token.start is None or token.end is None) and not token.special for token in tokens):
        return None, None
    places = [place for token in tokens for place in (token.start, token.end) if place is not None]
    return min(places, default=None), max(places, default=None)


def _numbered(tokens: list[TokenRecord], start: int | None) -> list[TokenRecord]:
    """The tokens that are left of a cut text, numbered anew; their characters count from the cut text's first."""
    return [
        structs.replace(
            token,
            index=index,
            start=None if start is None or token.start is None else max(0, token.start - start),
            end=None if start is None or token.end is None else max(0, token.end - start),
        )
        for index, token in enumerate(tokens)
    ]
