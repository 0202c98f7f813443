"""An answer as Python holds it: the report, its tensors as arrays, and the terminal's drawing of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Generic

from txinspect.as_json import to_json
from txinspect.commands.command import Command
from txinspect.errors import InspectError
from txinspect.nearest import nearest
from txinspect.queries import Query, ReportType
from txinspect.records import SentenceRecord, TensorRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from txinspect.answers.saving import KeptTensor
    from txinspect.commands.packed import PackedAttention

OF_TOKENS = ("seq", "query", "key", "source")
"""Axes whose positions are tokens."""


@dataclass(frozen=True, repr=False)
class Answer(Generic[ReportType]):
    """A report, and the tensors that it is about. The report's fields are the answer's, too: `answer.notes`."""

    report: ReportType
    command: Command
    query: Query[ReportType]
    kept: Mapping[str, KeptTensor]
    """The tensors by name, on the CPU, in their own types."""
    attentions: Sequence[PackedAttention] = ()
    """What a page shows of attention."""

    def __getitem__(self, name: str) -> NDArray[Any]:
        """A tensor as a numpy array; of bfloat16, which numpy does not have, as float32. Raises InspectError."""
        import torch

        tensor = self.tensor(name)
        array: NDArray[Any] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        return array

    def tensor(self, name: str) -> Tensor:
        """A tensor as torch has it. Raises InspectError for a name that the answer does not have."""
        if name not in self.kept:
            near = nearest(name, list(self.kept))
            meant = f"did you mean {' or '.join(near)}?" if near else f"it has {len(self.kept)}, listed by keys()"
            raise InspectError(f"this answer has no tensor {name!r}", meant)
        return self.kept[name].tensor

    def keys(self) -> list[str]:
        """The names of the tensors, in the order of the pass."""
        return list(self.kept)

    def axes(self, name: str) -> list[str] | None:
        """What each axis of a tensor counts; None if that is not known."""
        return self._record(name).axes

    def labels(self, name: str) -> list[list[str] | None]:
        """What stands along each axis of a tensor: its tokens, or the numbers of what was chosen; None for the rest."""
        record = self._record(name)
        return [self._labels(record, axis, size) for axis, size in zip(record.axes or (), record.shape, strict=False)]

    def show(self, *, width: int | None = None, **view: Any) -> None:
        """Draw the report as a terminal does, on stdout; `view` are the command's own options of drawing.

        Raises UsageError, or TypeError for an option that the command does not have.
        """
        from txinspect.render.terminal import apart

        if view and self.command.view is None:
            raise TypeError(f"{self.command.name} has no options of drawing: omit {', '.join(view)}")
        apart.show(self.report, self.command.view(**view) if self.command.view and view else None, width)

    def to_html(self) -> str:
        """The answer as a page that needs nothing else, as --html writes it."""
        from txinspect.render.page import Asked, page

        return page(self.report, self.attentions, Asked(_call(self.query, self.command.name), self.command.name))

    def to_json(self) -> bytes:
        """The report as strict JSON in UTF-8."""
        return to_json(self.report)

    def __getattr__(self, name: str) -> Any:
        """A field of the report."""
        return getattr(object.__getattribute__(self, "report"), name)

    def __repr__(self) -> str:
        return f"<txinspect {self.command.name}: {len(self.kept)} tensors>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """What a notebook shows of an answer: the terminal's drawing as text, and the page."""
        from txinspect.render.page import framed
        from txinspect.render.terminal import apart

        return {"text/plain": apart.as_text(self.report), "text/html": framed(self.to_html())}

    def _repr_html_(self) -> str:
        return self._repr_mimebundle_()["text/html"]

    def _record(self, name: str) -> TensorRecord:
        self.tensor(name)
        records: Sequence[TensorRecord] = getattr(self.report, "tensors", ())
        return next(each for each in records if each.name == name)

    def _labels(self, record: TensorRecord, axis: str, size: int) -> list[str] | None:
        chosen = (record.coordinates or {}).get(axis)
        if axis not in OF_TOKENS:
            return None if chosen is None else list(map(str, chosen))
        texts = [self.report.input, getattr(self.report.input, "decoder", None)]  # type: ignore[attr-defined]
        own = texts[0] if axis == "source" else texts[0].read_by(self.kept[record.name].stack)
        return _tokens(own, chosen, size)


def _call(query: Query[Any], command: str) -> str:
    """The call in Python that asks a query: the fields that are not as they are by default."""
    model = getattr(query, "model", None)
    before = "" if model is None else f"txinspect.load({', '.join(_given(model))})."
    return f"{before}{command}({', '.join(_given(query, 'model'))})"


def _given(record: Any, *left_out: str) -> list[str]:
    """The fields of a record that are not as they are by default, as keywords."""
    own = (each for each in fields(record) if each.name not in left_out)
    return [f"{each.name}={getattr(record, each.name)!r}" for each in own if getattr(record, each.name) != each.default]


def _tokens(text: SentenceRecord, chosen: Sequence[int] | None, size: int) -> list[str] | None:
    """The tokens along an axis of an answer's tensor; None where its positions are other ones, such as patches."""
    words = text.words
    if chosen is not None:
        return [str(words[each]) for each in chosen]
    return list(map(str, words)) if len(words) == size else None
