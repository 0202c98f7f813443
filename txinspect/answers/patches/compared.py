"""What a patch is measured by: which answers, and where in the logits their tokens are predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from txinspect.answers import labels
from txinspect.commands.patch import OR, AnswerRecord, PatchQuery
from txinspect.errors import InspectError, spelled
from txinspect.loading.subject import Subject
from txinspect.measure.answers import Ids
from txinspect.measure.predictions import likeliest
from txinspect.records import InputRecord
from txinspect.texts import masking, reading, targets
from txinspect.wording import counted, some_of

if TYPE_CHECKING:
    from torch import Tensor

    from txinspect.texts.tokens import Tokens

LABELS = "sequence-classification"


class Compared:
    """What CLEAN and CORRUPT are compared by. Raises InspectError for a model or a text that predicts nothing here."""

    def __init__(self, query: PatchQuery, subject: Subject, clean: InputRecord) -> None:
        self.query, self.subject, self.clean = query, subject, clean
        self.tokens: Tokens = subject.opened.tokens(clean.text)
        self.task = subject.task.name
        if self.task not in ("causal-lm", "seq2seq-lm", "masked-lm", LABELS):
            raise InspectError(f"{subject.source.name!r} predicts no tokens of a text that could be compared")
        self.continued = self.task in ("causal-lm", "seq2seq-lm")
        self.masks = self._masks(clean) if self.task == "masked-lm" else []
        self.answers = self._given("answer")
        self.wrong = self._given("wrong")
        self.passed = False

    def check_other(self, corrupt: InputRecord) -> None:
        """Raise InspectError where CORRUPT has other masks than CLEAN."""
        if self.task == "masked-lm" and len(self._masks(corrupt)) != len(self.masks):
            raise InspectError(
                f"CLEAN has {counted(len(self.masks), 'mask')} and CORRUPT {len(self._masks(corrupt))}",
                "give texts with as many",
            )

    def suffixes(self) -> list[Ids]:
        """What the texts are continued with in passes of their own, so that each token of an answer is predicted."""
        given = [*self.answers, *self.wrong] if self.continued else []
        return list(dict.fromkeys([(), *(ids[:-1] for ids in given)]))

    def extended(self, text: InputRecord, suffix: Ids) -> InputRecord:
        """A text, or its decoder's, with the tokens of an answer behind it."""
        return reading.with_tokens(text, self.tokens, suffix) if suffix else text

    def rows(self, logits: Tensor, text: InputRecord, suffix: Ids) -> Tensor:
        """The rows of a pass's logits, (1, …), in which the answers' tokens are predicted: (place, vocab)."""
        if self.task == LABELS:
            return logits.reshape(1, -1)
        if self.task == "masked-lm":
            return logits[0, self._masks(text)]
        last = len(text.main.tokens) - 1
        return logits[0, last : last + len(suffix) + 1]

    def settle(self, clean: Tensor, corrupt: Tensor | None) -> None:
        """Take the likeliest for what was not given, from what is predicted of the texts alone: (place, vocab).

        Raises InspectError where both texts have the same.
        """
        if self.query.metric == "kl":
            return
        if self.query.answer is None:
            self.answers = [self._likeliest(clean)]
        if self.query.metric != "logit-difference":
            return
        if self.query.wrong is None:
            other = clean if corrupt is None else corrupt
            self.wrong = [self._likeliest(other)]
            if self.wrong[0] in self.answers and corrupt is not None and not self.query.force:
                self._refuse(self.wrong[0], clean, corrupt)
            self.passed = self.wrong[0] in self.answers
            if self.passed:
                self.wrong = [self._next(other)]
        if both := next((ids for ids in self.answers if ids in self.wrong), None):
            raise InspectError(f"{spelled('wrong')} {self.spell(both)!r} is the answer", "give another")

    def records(self, answers: Sequence[Ids]) -> list[AnswerRecord]:
        """Answers as a report has them."""
        return [AnswerRecord(text=self.spell(ids), ids=list(ids)) for ids in answers]

    def spell(self, ids: Ids) -> str:
        """An answer in words."""
        if self.task == LABELS:
            return self._labels()[ids[0]]
        decoded = "".join(self.tokens.record(each).text or "" for each in ids)
        return decoded or self.tokens.decode(list(ids))

    def beside(self, name: str) -> str:
        """What a sentence says besides of an answer that was taken: that the likeliest of all was another one."""
        return " but for the answer" if name == "wrong" and self.passed else ""

    def of(self) -> str:
        """What the metric is about, in words."""
        said = [" or ".join(repr(self.spell(ids)) for ids in each) for each in (self.answers, self.wrong) if each]
        return " − ".join(said) or "the prediction"

    def _refuse(self, both: Ids, clean: Tensor, corrupt: Tensor) -> NoReturn:
        """Raise InspectError for texts that have one answer."""
        said = [f"{float(rows[0, both[0]]):.4g}" for rows in (clean, corrupt)]
        raise InspectError(
            f"both texts have one answer, {self.spell(both)!r} (its logit is {said[0]} for CLEAN and {said[1]} for "
            f"CORRUPT)",
            f"give another by {spelled('wrong')}, or texts with different answers",
        )

    def _likeliest(self, rows: Tensor) -> Ids:
        """The likeliest answer: a token or a label, or one at each mask."""
        places = rows if self.task == "masked-lm" else rows[:1]
        return tuple(likeliest(row.double(), 1)[0] for row in places)

    def _next(self, rows: Tensor) -> Ids:
        """The likeliest answer that is none of those given."""
        if self.task == "masked-lm" and len(rows) > 1:
            raise InspectError(
                f"{spelled('wrong')} is missing: at {len(rows)} masks there is no likeliest but one", "give it"
            )
        ranked = likeliest(rows[0].double(), min(len(self.answers) + 1, rows.shape[-1]))
        return next((each,) for each in ranked if (each,) not in self.answers)

    def _masks(self, text: InputRecord) -> list[int]:
        """Where a text's masks stand: a decoder that reads the text itself predicts each token from those before."""
        return masking.masks(self.subject.source, self.tokens, text, named=repr(text.text))

    def _labels(self) -> list[str]:
        return labels.names(self.subject, self.subject.config.num_labels or 0)

    def _given(self, field: str) -> list[Ids]:
        """The answers that the query gives in a field, each its tokens; a label's column."""
        given: str | None = getattr(self.query, field)
        found = [self._read(word, field) for word in given.split(OR)] if given is not None else []
        return list(dict.fromkeys(found))

    def _read(self, word: str, field: str) -> Ids:
        """An answer's tokens, or its column. Raises InspectError for one that the model cannot give."""
        if self.task == LABELS:
            names = self._labels()
            if word in names:
                return (names.index(word),)
            if word.isdecimal() and int(word) < len(names):
                return (int(word),)
            raise InspectError(f"{spelled(field)} {word!r} is none of the labels", f"give {some_of(names, 6)}")
        ids = targets.sequence(self.tokens, self.clean.spoken, word, field)
        if self.task == "masked-lm" and len(ids) != len(self.masks):
            raise InspectError(
                f"{spelled(field)} {word!r} is {counted(len(ids), 'token')}, and the text has "
                f"{counted(len(self.masks), 'mask')}",
                "give a token for each",
            )
        return ids
