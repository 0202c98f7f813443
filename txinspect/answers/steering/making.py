"""A vector made of texts: how hidden states differ between those that it leads to and those that it leads away from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from txinspect import opening
from txinspect.answers import decoder_text, limits
from txinspect.answers.question import Question
from txinspect.answers.saving import KeptTensor
from txinspect.answers.steering import places
from txinspect.commands.steer import SteerQuery, VectorRecord
from txinspect.errors import InspectError, StageError, UsageError, spelled
from txinspect.forward.wants import Plan, Want, plan_of
from txinspect.loading.subject import Subject
from txinspect.measure import directions
from txinspect.queries import TextQuery
from txinspect.records import InputRecord
from txinspect.stage_names import ENCODER
from txinspect.texts.opened import Opened
from txinspect.texts.reading import encode

if TYPE_CHECKING:
    from torch import Tensor

    from txinspect.answers.running import Running
    from txinspect.forward.capture import CaughtTensor

MOST_PAIRS = 10_000
"""Lines of a file of pairs: each takes two passes."""

MOST_BYTES = 64 << 20


class Making(Question[SteerQuery]):
    """Runs each text, and keeps one vector of each place that is asked about."""

    def __init__(self, query: SteerQuery) -> None:
        super().__init__(query)
        self.pairs = query.made_of if query.pairs is None else pairs_in(query.pairs)
        if query.method == "pca" and len(self.pairs) == 1:
            raise UsageError(f"{spelled('method', 'pca')} is of several differences, and {query.pairs} has one pair")
        self.states: dict[str, list[Tensor]] = {}
        self.norms: dict[str, list[float]] = {}
        self.vectors: dict[str, Tensor] = {}

    def read(self, opened: Opened) -> InputRecord:
        """The first of the texts that `steer` makes a vector of; see others."""
        query = self.query
        plain: TextQuery[Any] = TextQuery(
            model=query.model, special=query.special, src_lang=query.src_lang, max_tokens=query.max_tokens
        )
        given = [each for pair in self.pairs for each in pair]
        self.texts = [encode(replace(plain, text=each), opened) for each in given]
        return self.texts[0]

    def meet(self, subject: Subject, text: InputRecord) -> None:
        """Find the places of the vectors that `steer` makes, and what a decoder reads beside each text."""
        query = self.query
        stages = places.asked(query, subject)
        self.subject, self.supplies = subject, places.supplies(subject, stages)
        in_encoder = all(supply.stack == ENCODER for supply in self.supplies)
        if decoder_text.is_generated(subject, query) and not in_encoder:
            raise InspectError(
                f"{subject.source.name!r} would generate what its decoder reads, another text for each",
                f"give the decoder's text by {spelled('decoder')}, or {spelled('stages')} of the encoder",
            )
        if subject.has_decoder:
            known = in_encoder and query.decoder is None
            self.texts = [
                decoder_text.with_start_alone(subject, query, each)
                if known
                else decoder_text.before_the_run(subject, query, each, None)
                for each in self.texts
            ]
        for each in self.texts:
            limits.check_text(subject, each, query)

    def others(self, opened: Opened) -> list[InputRecord]:
        """The texts of `steer` but the first: toward and away in turn."""
        return self.texts[1:]

    def plan(self, subject: Subject, text: InputRecord) -> Plan:
        """What `steer` records to make vectors: the hidden states of each place."""
        return plan_of(subject.architecture, [Want(supply, reported=False) for supply in self.supplies])

    def look(self, caught: CaughtTensor) -> None:
        """Take of a text's hidden states what a vector is made of."""
        supply = caught.want.supply
        states = self.states.setdefault(supply.name, [])
        if len(states) == len(self.texts):
            raise _several(supply.name, self.subject)
        own = self.texts[len(states)].read_by(supply.stack)
        hidden = places.hidden_states(caught, len(own.tokens), own.specials).double()
        states.append(hidden[-1] if self.query.over == "last" else hidden.mean(0))
        self.norms.setdefault(supply.name, []).append(directions.mean_norm(hidden))

    def then(self, running: Running) -> None:
        """Make the vectors of `steer`, each of what was seen at its place."""
        import torch

        for supply in self.supplies:
            states = torch.stack(self.states[supply.name])
            if len(states) != len(self.texts):
                raise _several(supply.name, self.subject)
            vector = directions.direction(states[0::2] - states[1::2], self.query.method)
            if not bool(torch.isfinite(vector).all()) or not float(vector.norm()):
                why = "do not differ" if bool(torch.isfinite(vector).all()) else "give numbers that are not finite"
                raise InspectError(f"there is no vector at {supply.name!r}: the texts {why} there", "give others")
            self.vectors[supply.name] = vector

    @property
    def more_tensors(self) -> Mapping[str, KeptTensor]:
        """The vectors that `steer` made, by the stage of each, in float32."""
        return {name: KeptTensor(vector.float(), ["hidden"]) for name, vector in self.vectors.items()}

    @property
    def told(self) -> Mapping[str, str]:
        """How `steer` made the vectors: for each its place, width and the mean norm there; and of which texts."""
        made = {
            "method": self.query.method,
            "over": self.query.over,
            "pairs": [list(pair) for pair in self.pairs],
            "vectors": [msgspec.to_builtins(record) for record in self.records()],
        }
        return {"steer": json.dumps(made)}

    def records(self) -> list[VectorRecord]:
        """The vectors that `steer` made."""
        import torch

        found = []
        for name, vector in self.vectors.items():
            states, stream = torch.stack(self.states[name]), sum(self.norms[name]) / len(self.norms[name])
            norm = float(vector.norm())
            found.append(
                VectorRecord(
                    name=name,
                    place=name,
                    width=len(vector),
                    norm=norm,
                    stream=stream,
                    ratio=norm / stream if stream else None,
                    agreement=directions.agreement(states[0::2] - states[1::2], vector),
                )
            )
        return found


def _several(stage: str, subject: Subject) -> StageError:
    return StageError(f"{stage!r} has several values in one pass of {subject.source.name!r}: no vector stands for them")


def pairs_in(path: Path) -> tuple[tuple[str, str], ...]:
    """The pairs of a file: toward, a tab and away on each line, or JSON lines. Raises InspectError for another."""
    opening.check(path, MOST_BYTES, "a file of pairs", advice="give a file with a pair of texts on each line")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InspectError(f"{path} is not UTF-8", "give a text file") from error
    found = tuple(_pair(path, number, line) for number, line in enumerate(lines, 1) if line.strip())
    if not 1 <= len(found) <= MOST_PAIRS:
        raise InspectError(f"{path} has {len(found):,} pairs", f"give a file of 1 to {MOST_PAIRS:,}, one a line")
    return found


def _pair(path: Path, number: int, line: str) -> tuple[str, str]:
    """The pair of texts on a line."""
    if line.lstrip().startswith("{"):
        try:
            read = json.loads(line)
        except (ValueError, RecursionError):
            read = {}
        parts = [read.get("toward"), read.get("away")]
    else:
        parts = line.split("\t")
    if len(parts) != 2 or not all(isinstance(each, str) and each for each in parts):
        raise InspectError(
            f"line {number} of {path} is no pair", 'give toward, a tab and away, or {"toward": …, "away": …}'
        )
    return parts[0], parts[1]
