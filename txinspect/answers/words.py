"""What a query names → positions of the text and tokens of the vocabulary; and what a sentence calls them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from txinspect.errors import InspectError, StageError, spelled
from txinspect.models.tokenizer import Tokens
from txinspect.queries import Layers, from_start
from txinspect.records import SentenceRecord, TokenRecord

if TYPE_CHECKING:
    from torch import Tensor

    from txinspect.anatomy.architecture import Stack
    from txinspect.models.subject import Subject


def positions(asked: Layers, text: SentenceRecord) -> list[int]:
    """The tokens of a text that are asked for. Raises InspectError for one beyond it."""
    count = len(text.tokens)

    def wrong(position: int) -> InspectError:
        return InspectError(f"position {position} is out of range: the text has tokens 0 to {count - 1}")

    return list(from_start(asked, count, wrong))


def whose(subject: Subject, stack: Stack) -> str:
    """The model, or its encoder or decoder where it has both, as a sentence calls it."""
    return f"{stack.prefix.rstrip('.')} of {subject.source.name}" if stack.prefix else subject.source.name


def encoder(subject: Subject, asked: str) -> Stack:
    """The encoder of a model that has a decoder, too. Raises StageError, about the option that asked, for any other."""
    if not subject.has_decoder:
        raise StageError(
            f"{subject.source.name!r} has one stack of layers, which attends to its own text: omit "
            f"{spelled(asked, True)}"
        )
    return subject.architecture.stacks[0]


def target(tokens: Tokens, text: str, word: str, advice: str = "") -> int:
    """The id of the one token that a target is: after a text, by itself, or as the vocabulary stores it.

    Raises InspectError for one that is several tokens, or none of the vocabulary; `advice` is what else can be done.
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
            f"{spelled('targets')} {word!r} is no token of the vocabulary: the tokenizer makes {known} of it; give "
            f"another{advice}"
        )
    if not alone:
        raise InspectError(
            f"{spelled('targets')} {word!r} is no token: the tokenizer makes nothing of it; give another"
        )
    pieces = ", ".join(repr(token.text or token.token) for token in alone)
    raise InspectError(f"{spelled('targets')} {word!r} is {len(alone)} tokens, {pieces}: give one of them{advice}")


def size(token: TokenRecord) -> int:
    """Bytes that a token stands for, in UTF-8."""
    return len(bytes.fromhex(token.bytes) if token.bytes else (token.text or "").encode())


def spelling(tokens: Tokens, token_id: int) -> dict[str, Any]:
    """The fields of a VocabularyRecord."""
    found = tokens.record(token_id)
    return {"id": token_id, "token": found.token, "text": found.text}


def check_logits(logits: Tensor, count: int, top_k: int) -> None:
    """Raise InspectError for logits that are not (1, `count`, vocab), or whose vocabulary has no `top_k` tokens."""
    if logits.ndim != 3 or tuple(logits.shape[:2]) != (1, count):
        raise InspectError(
            f"the logits are {list(logits.shape)} for {count} tokens: this model does not predict one token after each"
        )
    if top_k > logits.shape[2]:
        raise InspectError(
            f"{spelled('top_k')} {top_k} is more than the vocabulary has: give at most {logits.shape[2]}"
        )
