"""The questions of the lesson, asked of one model at hand: each once, with the tensors that it recorded."""

from __future__ import annotations

from dataclasses import fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from txinspect.answers import module_of
from txinspect.answers.session import Session
from txinspect.commands.attn import AttnQuery
from txinspect.commands.embed import EmbedQuery
from txinspect.commands.heads import HeadsQuery, HeadsReport, KindRecord
from txinspect.commands.lens import LensQuery
from txinspect.commands.lesson import LessonQuery
from txinspect.commands.logits import LogitsQuery
from txinspect.commands.pos import PosQuery
from txinspect.commands.run import RunQuery
from txinspect.commands.stages import StagesQuery
from txinspect.commands.tokenize import TokenizeQuery
from txinspect.errors import InspectError
from txinspect.measure.lesson import strongest
from txinspect.queries import Query, read_by

if TYPE_CHECKING:
    from txinspect.answers.saving import KeptTensor

LIKELY = 5
"""Likeliest tokens that the lesson lists."""

Found = tuple[Any, dict[str, "KeptTensor"]]
"""A report, and the tensors that it is about, by their names."""


class Tour:
    """What the lesson asks of a model and a text."""

    def __init__(self, query: LessonQuery, session: Session) -> None:
        self.session = session
        self._read = read_by(query)
        self.model = query.model
        self.subject = session.model(query.model).subject()
        self.prefix = self.subject.architecture.main.prefix
        self.available = {each.name for each in self.subject.architecture.supplies() if each.available}
        self.report, self.first = self.ask(RunQuery(**self.reading(RunQuery), stages=(self._begin(),)))
        self.text = self.report.input.main
        ordinary = [token.index for token in self.text.tokens if not token.special]
        self.token: int = (ordinary or [len(self.text.tokens) - 1])[-1]

    def _begin(self) -> str:
        """The first stage of the lesson that the model has."""
        names = [f"{self.prefix}{each}" for each in ("token_embeddings", "embeddings", "layers.0.input")]
        return next((name for name in names if name in self.available), names[0])

    def reading(self, kind: type[Query[Any]]) -> dict[str, Any]:
        """The fields of a query of the lesson about the same text and model."""
        known = {each.name for each in fields(kind)}
        return {name: value for name, value in {**self._read, "model": self.model}.items() if name in known}

    def ask(self, query: Query[Any], *, tensors: bool = True, packed: bool = False) -> Found:
        """Ask a question of the lesson's model; its tensors are kept where they are needed, packed for a page."""
        session = self.session
        before = session.attached, session.packing
        session.attached = {} if tensors else None
        session.packing = session.packing if packed else None
        try:
            report = module_of(query).answer(query, session)
            return report, session.attached or {}
        finally:
            session.attached, session.packing = before

    def lines(self) -> list[Query[Any]]:
        """The questions whose command lines show the lesson's steps, but for the last."""
        layer, index = (0, None) if self._head is None else (self._head.layer, self._head.head)
        stages = StagesQuery(model=self.model)
        attn = stages if index is None else self.attn_query(values=True)
        whole = stages if index is None else self._attn(layer=layer, heads=(index,))
        heads = stages if index is None else HeadsQuery(**self.reading(HeadsQuery))
        mlp = self.parts()[3]
        inside = RunQuery(**self.reading(RunQuery), stages=(mlp,)) if mlp else stages
        globs = tuple(f"{self.prefix}layers.{self.layer}.{each}" for each in ("*put", "*.output"))
        run = RunQuery(**self.reading(RunQuery), stages=globs) if mlp or index is not None else stages
        has = any(name.startswith(f"{self.prefix}position_embeddings") for name in self.available)
        return [
            TokenizeQuery(**self.reading(TokenizeQuery)),
            EmbedQuery(**self.reading(EmbedQuery)),
            PosQuery(**self.reading(PosQuery)) if has else stages,
            attn,
            whole,
            heads,
            run,
            inside,
            self.lens_query,
            self.logits_query,
        ]

    @cached_property
    def heads(self) -> HeadsReport:
        """Kinds of the heads that read the lesson's text."""
        report: HeadsReport = self.ask(HeadsQuery(**self.reading(HeadsQuery)), tensors=False, packed=True)[0]
        return report

    @cached_property
    def _head(self) -> KindRecord | None:
        """The head that the lesson is about: of all, the one that looks at the token before the most."""
        try:
            return strongest(self.heads.heads)
        except InspectError:
            return None

    @property
    def head(self) -> KindRecord:
        """The head that the lesson is about. Raises InspectError where there is none."""
        found = self._head or strongest(self.heads.heads)
        if found is None:
            raise InspectError("no head here looks at the tokens of the text")
        return found

    @property
    def layer(self) -> int:
        """The layer that the lesson looks into: the head's, else the first."""
        return 0 if self._head is None else self._head.layer

    @property
    def middle(self) -> int:
        """Index of a token in the middle of the lesson's text."""
        return self.token // 2

    def attn_query(self, *, values: bool = False) -> AttnQuery:
        """What the lesson asks about its head."""
        queries = (self.token,) if values else tuple(sorted({self.middle, self.token}))
        return self._attn(layer=self.head.layer, heads=(self.head.head,), queries=queries, values=values)

    def _attn(self, **chosen: Any) -> AttnQuery:
        return AttnQuery(**self.reading(AttnQuery), **chosen)

    def parts(self) -> list[str]:
        """The stages of the lesson's layer: what enters, what its attentions and its MLP add, what leaves.

        An empty name for one that the model does not have.
        """
        of_layer = ("input", "attention.output", "cross_attention.output", "mlp.output", "output")
        names = [f"{self.prefix}layers.{self.layer}.{each}" for each in of_layer]
        return [name if name in self.available else "" for name in names]

    @property
    def lens_query(self) -> LensQuery:
        """What the lesson asks about the layers."""
        if self.fills_masks:
            return LensQuery(**self._masked(LensQuery))
        return LensQuery(**self.reading(LensQuery), position=(-1,))

    @property
    def logits_query(self) -> LogitsQuery:
        """What the lesson asks about the prediction."""
        if self.fills_masks:
            return LogitsQuery(**self._masked(LogitsQuery), top_k=LIKELY)
        if self.subject.task.name not in ("causal-lm", "seq2seq-lm"):
            return LogitsQuery(**self.reading(LogitsQuery))
        return LogitsQuery(**self.reading(LogitsQuery), top_k=LIKELY)

    @property
    def fills_masks(self) -> bool:
        """Whether the lesson's model fills masks."""
        return self.subject.task.name == "masked-lm"

    @cached_property
    def masked(self) -> int | None:
        """Index of the token that the lesson masks: the last ordinary one, where the text has no mask of its own."""
        if not self.fills_masks:
            return None
        try:
            self.ask(LogitsQuery(**self.reading(LogitsQuery), top_k=1), tensors=False)
        except InspectError:
            return self.token
        return None

    def _masked(self, kind: type[Query[Any]]) -> dict[str, Any]:
        """The fields of a query of the lesson about the text with a mask in it."""
        read = self.reading(kind)
        return read if self.masked is None else {**read, "masks": (*read["masks"], str(self.masked))}
