"""What a model generates after a text while something is added in its passes, and how likely the unedited model finds
it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from txinspect.anatomy import locating
from txinspect.answers import decoder_text
from txinspect.commands.steer import SteerQuery
from txinspect.errors import InspectError, first_line, spelled
from txinspect.forward import decoding, taps
from txinspect.forward.edits import Write
from txinspect.forward.wants import plan_of_names
from txinspect.guards.quiet import quiet
from txinspect.loading import generation
from txinspect.loading.subject import Subject
from txinspect.measure import predictions
from txinspect.measure.predictions import Scored
from txinspect.records import InputRecord
from txinspect.texts import reading

if TYPE_CHECKING:
    from txinspect.answers.running import Running
    from txinspect.forward.capture import CaughtTensor


class Writer:
    """Writes on from a text, or what the decoder makes of it. Raises InspectError for a model that generates none."""

    def __init__(self, subject: Subject, query: SteerQuery, text: InputRecord) -> None:
        self.subject, self.query, self.text = subject, query, text
        self.tokens = subject.opened.tokens(text.text)
        name = subject.source.name
        if subject.task.name not in ("causal-lm", "seq2seq-lm"):
            raise InspectError(
                f"{name!r} ({subject.task.class_name}) generates no text",
                "see what the vector changes by an edit, STAGE + 4*FILE:NAME, of logits or embed",
            )
        limit = subject.architecture.main.max_positions
        if not subject.has_decoder and limit is not None and len(text.tokens) + query.new > limit:
            raise InspectError(
                f"the text has {len(text.tokens)} tokens, and {name!r} {limit} positions: there is no room for "
                f"{query.new} more",
                f"shorten the text, or give a lower {spelled('new')}",
            )

    def ids(self, running: Running, writes: Sequence[Write]) -> list[int]:
        """The ids of the likeliest tokens, one after the other, with these writes in every pass; the one that ends a
        text is left out."""
        subject, model = self.subject, running.model
        self._check_numbers(running, writes)
        inputs = running.inputs(self.text)
        settings = generation.settings(subject.source, subject.config)
        locating.settle(model, len(self.text.tokens))
        try:
            with quiet(), taps.written(model, writes, {}):
                if not subject.has_decoder:
                    return decoding.continued(model, inputs, self.query.new, settings)
                start, most = decoder_text.begun(subject, self.query, self.tokens)
                return decoding.greedy(model, inputs, start, most, settings)
        except InspectError:
            raise
        except Exception as error:
            raise InspectError(
                f"{subject.source.name!r} could not generate ({type(error).__name__}: {first_line(error)})",
                "see what the vector changes by an edit, STAGE + 4*FILE:NAME, of logits",
            ) from error

    def _check_numbers(self, running: Running, writes: Sequence[Write]) -> None:
        """Raise InspectError where these writes leave logits that are no numbers: no token is then the likeliest."""

        def receive(caught: CaughtTensor) -> None:
            if not bool(caught.tensor.whole().isfinite().all()):
                raise InspectError("with the vector at this scale not all logits are numbers", "give smaller scales")

        if writes:
            running.run(self.text, replace(plan_of_names(self.subject, ["logits"]), writes=tuple(writes)), receive)

    def spell(self, ids: Sequence[int]) -> str:
        """The text of generated ids."""
        return self.tokens.decode(list(ids))

    def perplexity(self, running: Running, ids: Sequence[int]) -> float | None:
        """The perplexity of generated ids after the text in the model as it is; None where there are none."""
        if not ids:
            return None
        text = self._with(ids)
        found: list[Scored] = []

        def receive(caught: CaughtTensor) -> None:
            rows = caught.tensor.whole()[0, -len(ids) - 1 : -1]
            found.extend(each for _, each in predictions.after_each(rows, list(ids)) if each is not None)

        running.run(text, plan_of_names(self.subject, ["logits"]), receive)
        return predictions.perplexity(sum(each.logprob for each in found), len(found))

    def _with(self, ids: Sequence[int]) -> InputRecord:
        """The text with generated ids behind it, or as what the decoder reads."""
        if self.subject.has_decoder:
            return decoder_text.with_ids(self.subject, self.query, self.text, self.tokens, ids)
        return reading.with_tokens(self.text, self.tokens, ids)
