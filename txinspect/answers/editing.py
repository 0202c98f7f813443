"""The edits of a question: which stages they change, and to what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from txinspect import opening
from txinspect.anatomy.families import READS_AGAIN
from txinspect.answers import limits, vectors
from txinspect.answers.running import Running
from txinspect.edits import Edit
from txinspect.errors import InspectError, StageError, spelled
from txinspect.forward import taps
from txinspect.forward.changes import change_of, check_axes, mean_over_tokens
from txinspect.forward.edits import Write
from txinspect.forward.wants import Want, plan_of, plan_of_names
from txinspect.loading.subject import Subject
from txinspect.queries import PassQuery, TextQuery
from txinspect.records import EditRecord, InputRecord
from txinspect.texts import masking, reading
from txinspect.texts.opened import Opened

if TYPE_CHECKING:
    from torch import Tensor

    from txinspect.anatomy.architecture import Supply
    from txinspect.forward.capture import CaughtTensor
    from txinspect.loading.uses import Uses

MOST_TEXTS = 10_000
"""Lines of a file whose texts a mean is over."""


Changes = list[tuple["Supply", Callable[["Tensor"], "Tensor"]]]
"""What an edit makes of each stage that it changes."""


class Editing:
    """Edits of a prepared pass. Raises InspectError at once for one that cannot be made there."""

    def __init__(
        self, edits: Sequence[Edit], query: PassQuery[Any], subject: Subject, text: InputRecord, *, generates: bool
    ) -> None:
        self.edits, self.query, self.subject, self.text = edits, query, subject, text
        self._came: Counter[tuple[int, str]] = Counter()
        if self.edits and generates:
            raise InspectError(
                f"{spelled('edits')} changes what the decoder reads, which the model would generate",
                f"give the decoder's text by {spelled('decoder')}",
            )
        self.supplies = [self._supplies(edit) for edit in self.edits]

    def check_reached(self, used: Uses) -> None:
        """Raise StageError for an edit of modules that the pass ends before, whose weights are not loaded."""
        for edit, supplies in zip(self.edits, self.supplies, strict=True):
            if not any(self._is_reached(supply, used) for supply in supplies):
                raise _changed_nothing(edit)

    def _is_reached(self, supply: Supply, used: Uses) -> bool:
        """Whether the pass of an edit uses weights in the module of a stage; one without weights may be reached."""
        if supply.module is None:
            return True
        module = self.subject.as_loaded.get_submodule(supply.module)
        holding = [path for path, each in module.named_modules(prefix=supply.module) if each._parameters]
        return not holding or any(used.modules.get(path, True) for path in holding)

    def writes(self, running: Running, opened: Opened) -> tuple[Write, ...]:
        """What the edits write, in their order."""
        return tuple(
            Write(supply, self._counted((place, supply.name), change))
            for place, changes in enumerate(self.changes(running, opened))
            for supply, change in changes
        )

    def changes(self, running: Running, opened: Opened) -> list[Changes]:
        """What each edit makes of its stages, with the values that other texts and files give."""
        together: dict[str, tuple[Edit, list[Supply]]] = {}
        for edit, supplies in zip(self.edits, self.supplies, strict=True):
            together.setdefault(edit.value, (edit, []))[1].extend(supplies)
        # Another text runs once for all the edits that take from it: a sweep has one for each head.
        known = {value: self._values(edit, own, running, opened) for value, (edit, own) in together.items()}
        made: list[Changes] = []
        for edit, supplies in zip(self.edits, self.supplies, strict=True):
            values = known[edit.value]
            made.append(
                [
                    (each, change_of(edit, each, values.get(each.name), self._special(self.text, each)))
                    for each in supplies
                ]
            )
        return made

    def by_edit(self, running: Running, opened: Opened) -> dict[Edit, Changes]:
        """What each of several different edits makes of its stages, by the edit."""
        return dict(zip(self.edits, self.changes(running, opened), strict=True))

    def records(self) -> list[EditRecord]:
        """The edits as a report has them. Raises StageError for one that the pass ended before."""
        for place, (edit, supplies) in enumerate(zip(self.edits, self.supplies, strict=True)):
            if not any(self._came[place, supply.name] for supply in supplies):
                raise _changed_nothing(edit)
        return [
            EditRecord(place=edit.place, op=edit.op, value=edit.value, stages=[supply.name for supply in supplies])
            for edit, supplies in zip(self.edits, self.supplies, strict=True)
        ]

    def said(self) -> list[str]:
        """What stands over an edited report: it is not the model's own."""
        said = []
        for edit, supplies in zip(self.edits, self.supplies, strict=True):
            many = f" ({len(supplies)} stages)" if len(supplies) > 1 else ""
            rows = " Rows of weights are not made to sum to 1 again; set scores to -inf for that."
            weights = any(supply.part == "weights" for supply in supplies)
            said.append(f"Edited: {edit}{many}: not the model's own pass.{rows if weights else ''}")
        if self.edits and self.subject.architecture.model_type in READS_AGAIN:
            said.append(
                f"Later layers of {self.subject.source.name!r} read more than the stream: an edit of it is not all."
            )
        return said

    def _counted(self, place: tuple[int, str], change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """A change that is remembered to have been made."""

        def counted(own: Tensor) -> Tensor:
            self._came[place] += 1
            return change(own)

        return counted

    def _supplies(self, edit: Edit) -> list[Supply]:
        """The stages that an edit changes. Raises StageError for what cannot be changed."""
        found = [want.supply for want in plan_of_names(self.subject, (edit.stage,)).wants]
        for supply in found:
            if reason := taps.refusal(self.subject.as_configured, supply):
                raise StageError(f"{str(edit)!r}: {supply.name!r} cannot be changed: {reason}")
            if self._is_beside_the_stream(supply):
                raise StageError(
                    f"{str(edit)!r}: {supply.name!r} cannot be changed: the layer is no module, so its attention alone "
                    f"would read what is set there",
                    "change the output of the layer before, or the embeddings",
                )
            check_axes(edit, supply)
        return found

    def _is_beside_the_stream(self, supply: Supply) -> bool:
        """Whether a stage that would be changed is read by a layer's attention, and the stream is kept beside it."""
        if supply.within != "input" or supply.layer is None:
            return False
        layer = self.subject.architecture.stack(supply.stack).layers[supply.layer]
        return layer.first in layer.attentions

    def _values(self, edit: Edit, supplies: Sequence[Supply], running: Running, opened: Opened) -> dict[str, Tensor]:
        """What an edit sets or adds, by the stage: of another text, of texts in a file, or saved in one."""
        if edit.source == "file":
            return dict.fromkeys((supply.name for supply in supplies), self._saved(edit))
        if edit.source == "text":
            return self._recorded(edit, supplies, running, self._read(edit.text, opened))
        if edit.source == "mean" and edit.file is not None:
            return self._means(edit, supplies, running, opened)
        return {}

    def _special(self, text: InputRecord, supply: Supply) -> list[int]:
        """Where an edit's text has tokens that a mean leaves out; a mask stands for an ordinary one."""
        own = text.read_by(supply.stack)
        mask = masking.mask_id(self.subject.source, self.subject.opened.tokens(text.text))
        return [place for place in own.specials if own.tokens[place].id != mask]

    def _saved(self, edit: Edit) -> Tensor:
        """The tensor of a file that an edit names. Raises InspectError for one that is not there."""
        assert edit.file is not None
        found = vectors.load(edit.file)
        if edit.name not in found:
            raise InspectError(f"{edit.file} has no tensor {edit.name!r}", f"it has {', '.join(sorted(found)[:6])}")
        return found[edit.name]

    def _read(self, text: str, opened: Opened) -> InputRecord:
        """Another text by itself, with special tokens where the question has them; a decoder's stays as it is."""
        query = self.query
        plain: TextQuery[Any] = TextQuery(model=query.model, text=text, special=query.special, src_lang=query.src_lang)
        own = reading.encode(replace(plain, max_tokens=query.max_tokens), opened)
        if self.text.decoder is None:
            return own
        from msgspec import structs

        return structs.replace(own, decoder=self.text.decoder)

    def _recorded(
        self, edit: Edit, supplies: Sequence[Supply], running: Running, text: InputRecord
    ) -> dict[str, Tensor]:
        """An edit's stages on another text. Raises StageError where it has another number of tokens."""
        own, other = len(self.text.tokens), len(text.tokens)
        if edit.source == "text" and own != other:
            raise StageError(
                f"{str(edit)!r}: the other text has {other} tokens, and the text {own}", "give one of as many tokens"
            )
        found: dict[str, Tensor] = {}

        def receive(caught: CaughtTensor) -> None:
            found[caught.want.supply.name] = caught.copied()

        wants = [Want(supply) for supply in dict.fromkeys(supplies)]
        replace(running, writes=()).run(text, plan_of(running.subject.architecture, wants), receive)
        return found

    def _means(self, edit: Edit, supplies: Sequence[Supply], running: Running, opened: Opened) -> dict[str, Tensor]:
        """The mean of an edit's stages over the ordinary tokens of the texts in a file, a text a line."""
        assert edit.file is not None
        opening.check(edit.file, None, advice="give a file with a text on each line")
        try:
            lines = [line for line in edit.file.read_text(encoding="utf-8").splitlines() if line.strip()]
        except UnicodeDecodeError as error:
            raise InspectError(f"{edit.file} is not UTF-8", "give a file with a text on each line") from error
        if not lines or len(lines) > MOST_TEXTS:
            raise InspectError(
                f"{edit.file} has {len(lines):,} lines of text", f"give a file of 1 to {MOST_TEXTS:,} texts, one a line"
            )
        sums: dict[str, Tensor] = {}
        counts: Counter[str] = Counter()
        for number, line in enumerate(running.counted("running texts for a mean", lines), 1):
            text = self._read(line, opened)
            try:
                limits.check_text(self.subject, text, self.query)
            except InspectError as error:
                raise InspectError(f"{str(edit)!r}: text {number} of {edit.file} cannot be read: {error}") from error
            for name, tensor in self._recorded(edit, supplies, running, text).items():
                supply = next(each for each in supplies if each.name == name)
                special = self._special(text, supply)
                count = tensor.shape[(supply.axes or ("batch", "seq")).index("seq")] - len(special)
                mean = mean_over_tokens(tensor, (supply.axes or ("batch", "seq")).index("seq"), special) * count
                sums[name] = sums[name] + mean if name in sums else mean
                counts[name] += count
        return {name: total / counts[name] for name, total in sums.items()}


def _changed_nothing(edit: Edit) -> StageError:
    return StageError(f"{str(edit)!r} changed nothing: what is asked was there before the pass came to it")
