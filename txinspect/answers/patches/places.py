"""Where a patch is made: the stack, the tokens in each text, and the parts of each layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from txinspect.answers import stacks, sweeping
from txinspect.answers.editing import Editing
from txinspect.commands.patch import PatchQuery
from txinspect.edits import Edit
from txinspect.errors import InspectError, StageError, spelled
from txinspect.forward.wants import check_layers
from txinspect.loading.subject import Subject
from txinspect.records import InputRecord, SentenceRecord
from txinspect.texts import masking, targets
from txinspect.texts.aligning import Pairs
from txinspect.wording import shown

if TYPE_CHECKING:
    from torch import Tensor

    from txinspect.anatomy.architecture import Supply

PART = {"heads": "attention.context", "attention": "attention.output", "mlp": "mlp.output", "stream": "input"}
"""The stage of a layer that each sweep patches."""


@dataclass(frozen=True)
class Cell:
    """A part that is patched by itself."""

    layer: int
    head: int | None
    pair: tuple[int, int] | None
    """The token's position in CLEAN and in CORRUPT, where the part is one token's."""
    supplies: Sequence[Supply]


class Places:
    """Where a patch is made in a model. Raises InspectError for what the model or the texts do not have."""

    def __init__(self, query: PatchQuery, subject: Subject, clean: InputRecord, corrupt: InputRecord) -> None:
        self.query, self.subject = query, subject
        stack = stacks.encoder(subject, "encoder") if query.encoder else subject.architecture.main
        if query.cross and not subject.has_decoder:
            raise StageError(
                f"{subject.source.name!r} has one stack of layers, which attends to its own text: omit "
                f"{spelled('cross', True)}"
            )
        self.prefix = stack.prefix
        self.layers = check_layers(stacks.whose(subject, stack), query.layers, len(stack.layers))
        self.clean, self.corrupt = clean.read_by(self.prefix), corrupt.read_by(self.prefix)
        self.pairs = self._pairs(clean, corrupt)
        self.supplies = self._supplies(clean)

    @property
    def stack(self) -> Literal["encoder", "decoder"] | None:
        """Whose parts a patch is of; None where there is one stack."""
        return None if not self.prefix else "encoder" if self.query.encoder else "decoder"

    def cells(self, values: Mapping[Supply, Tensor]) -> Iterator[Cell]:
        """The parts to patch one after the other, of the stages that were recorded."""
        for layer, supplies in self.supplies.items():
            there = [each for each in supplies if each in values]
            if not there:
                continue
            if self.query.sweep == "stream":
                every = [(place, place) for place in range(len(self.clean.tokens))]
                yield from (Cell(layer, None, pair, there) for pair in self.pairs or every)
            elif self.query.sweep == "heads":
                count = min(values[each].shape[1] for each in there)
                yield from (Cell(layer, head, None, there) for head in sweeping.heads(self.query.heads, count, layer))
            else:
                yield Cell(layer, None, None, there)

    def _supplies(self, text: InputRecord) -> dict[int, list[Supply]]:
        """The stages that are patched, by their layer. Raises StageError for what cannot be changed, or where none is
        there."""
        there = {supply.name for supply in self.subject.architecture.supplies() if supply.available}
        part = PART[self.query.sweep]
        part = f"cross_{part}" if self.query.cross else part
        names = {layer: f"{self.prefix}layers.{layer}.{part}" for layer in self.layers}
        edits = [Edit(name, "=", "text:CORRUPT") for name in names.values() if name in there]
        if not edits:
            raise StageError(f"{self.subject.source.name!r} has no {part} in these layers to patch")
        editing = Editing(edits, self.query, self.subject, text, generates=False)
        return {supplies[0].layer or 0: supplies for supplies in editing.supplies}

    def _pairs(self, clean: InputRecord, corrupt: InputRecord) -> Pairs | None:
        """The positions of CLEAN that are patched, each with that of CORRUPT; None for whole texts of one length."""
        query, own, other = self.query, len(self.clean.tokens), len(self.corrupt.tokens)
        if query.word is not None:
            place = self._end_of(query.word, clean, "CLEAN")
            return [(place, place if own == other else self._end_of(query.word, corrupt, "CORRUPT"))]
        if own == other:
            return None if query.position is None else [(i, i) for i in targets.positions(query.position, self.clean)]
        if query.position in (-1, (-1,)):
            return [(own - 1, other - 1)]
        raise InspectError(
            f"CLEAN has {own} tokens and CORRUPT {other}: they part at token {self._parting()}",
            f"give texts of as many, or patch the last token by {spelled('position', -1)}, or a word that both have by "
            f"{spelled('word')}",
        )

    def _parting(self) -> str:
        """Where the tokens of the two texts part, and what stands there in each."""
        left, right = self.clean.tokens, self.corrupt.tokens
        same = [one.id == two.id for one, two in zip(left, right, strict=False)]
        at = same.index(False) if False in same else len(same)
        said = [_word(text, at) for text in (self.clean, self.corrupt)]
        return f"{at}, {said[0]} and {said[1]}"

    def _end_of(self, word: str, text: InputRecord, which: str) -> int:
        """The last token of a word that a stack's text has once, or of where it stands last."""
        if text.decoder is not None and self.prefix != "encoder.":
            raise InspectError(
                f"{spelled('word')} is of the text that the encoder reads",
                f"add {spelled('encoder', True)}, or give {spelled('position')}",
            )
        return positions_of(word, self.query, self.subject, text, which, "word")[-1]


def positions_of(
    words: str, query: PatchQuery, subject: Subject, text: InputRecord, which: str, field: str
) -> list[int]:
    """The tokens of some words of a text. Raises InspectError, about a field of the query, where it has none of them.

    `which` is what a sentence calls the text.
    """
    (found,) = masking.of_words([words], query, text, subject.opened.tokens(text.text))
    if not found:
        raise InspectError(
            f"{spelled(field)} {words!r} is no word of {which}, {shown(text.text)}", "give one as it is written there"
        )
    return found


def _word(text: SentenceRecord, at: int) -> str:
    return repr(text.words[at]) if at < len(text.tokens) else "the end"
