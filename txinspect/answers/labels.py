"""What a head that classifies gives: for the text, for each token, or for where an answer starts and ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from txinspect.commands.logits import LabelRecord
from txinspect.loading.subject import Subject

if TYPE_CHECKING:
    from torch import Tensor


def records(subject: Subject, logits: Tensor) -> list[LabelRecord]:
    """A record for each label of a classifying head, for each token where its logits have an axis of tokens."""
    import torch

    exact = logits[0].detach().to("cpu", torch.float64)
    spans = subject.task.name == "question-answering"
    probabilities = _probabilities(subject, exact, spans=spans)
    called = ["start", "end"] if spans else names(subject, exact.shape[-1])
    tokens = range(len(exact))
    rows: list[tuple[int | None, Tensor, Tensor | None]] = [(None, exact, probabilities)]
    if exact.ndim > 1:
        rows = [(i, exact[i], None if probabilities is None else probabilities[i]) for i in tokens]
    return [
        LabelRecord(
            position=position,
            id=index,
            label=called[index],
            logit=float(row[index]),
            prob=None if share is None else float(share[index]),
        )
        for position, row, share in rows
        for index in range(len(called))
    ]


def _probabilities(subject: Subject, exact: Tensor, *, spans: bool) -> Tensor | None:
    """Probabilities of labels as the head was trained: one, any or none of them (problem_type)."""
    kind = getattr(subject.config, "problem_type", None)
    if spans:
        return exact.softmax(dim=0)
    if kind == "regression" or exact.shape[-1] == 1:
        return None
    return exact.sigmoid() if kind == "multi_label_classification" else exact.softmax(dim=-1)


def names(subject: Subject, count: int) -> list[str]:
    """The names of the labels of a head with `count`; BERT's of two sentences are in no config (modeling_bert.py)."""
    if subject.task.name == "next-sentence":
        return ["the second follows the first", "the second is another"]
    known = getattr(subject.config, "id2label", None) or {}
    return [str(known.get(index, f"LABEL_{index}")) for index in range(count)]
