"""The token embeddings of a text, or one vector for all of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from txinspect.commands.command import Command, Detailed
from txinspect.errors import UsageError, spelled
from txinspect.option import Option
from txinspect.queries import EditedQuery
from txinspect.records import Record, TensorsReport, doc
from txinspect.sentence_vectors import Similarity
from txinspect.value_checks import check_encodable, check_strings


@dataclass(frozen=True, kw_only=True)
class EmbedQuery(EditedQuery["EmbedReport"]):
    """Show the token embeddings of a text, or the one vector that a sentence encoder makes of it."""

    pooled: Annotated[
        bool,
        Option(
            "--pooled", "Of a sentence-transformers model: the sentence's vector, read and pooled as its files say."
        ),
    ] = False

    similar: Annotated[
        tuple[str, ...],
        Option("--similar", "With --pooled: another text, to compare with the text; may be repeated.", "TEXT"),
    ] = ()

    @property
    def fits(self) -> bool:
        """Whether the text of `embed` has to fit into the positions: what is pooled is cut where it is too long."""
        return not self.pooled

    def __post_init__(self) -> None:
        super().__post_init__()
        check_strings("similar", self.similar)
        for each in self.similar:
            check_encodable("similar", each)
        if self.similar and not self.pooled:
            raise UsageError(
                f"{spelled('similar')} compares the vectors of sentences", f"add {spelled('pooled', True)}, or omit it"
            )
        if self.pooled and self.pair is not None:
            raise UsageError(
                f"{spelled('pair')} and {spelled('pooled', True)} cannot be combined: one vector would be made of both "
                f"texts",
                f"to compare them give the other by {spelled('similar')}",
                by="; ",
            )
        if self.similar and self.check:
            raise UsageError(
                f"{spelled('similar')} and {spelled('check', True)} cannot be combined: a check runs one text"
            )
        if self.pooled and self.src_lang is not None:
            raise UsageError(
                f"{spelled('pooled', True)} and {spelled('src_lang')} cannot be combined: a sentence encoder "
                f"reads a text in the language that its tokenizer's files say",
                "omit one of the two",
                by="; ",
            )


COMPARED: dict[Similarity, str] = {
    "cosine": "the cosine of the angle between two vectors",
    "dot": "the product of two vectors",
    "euclidean": "minus the distance between two vectors",
    "manhattan": "minus the sum of the distances between two vectors, number by number",
}
"""The ways of comparing two vectors that sentence-transformers knows, in words; more is more alike."""


class SimilarRecord(Record, frozen=True, kw_only=True):
    """Another text, and how alike its vector is to that of the text."""

    text: Annotated[str, doc("The other text.")]
    tokens: Annotated[int, doc("How many tokens were read of it.")]
    tensor: Annotated[str, doc("Name of its vector among the tensors.")]
    cosine: Annotated[float | None, doc("Cosine of the angle between the vectors; null where one has no length.")]
    function: Annotated[Similarity, doc("The model's own way to compare.")]
    score: Annotated[float | None, doc("How alike they are by the model's own way; more is more alike.")]


class EmbedReport(TensorsReport, frozen=True, kw_only=True):
    """Report of `embed`."""

    command: Annotated[Literal["embed"], doc("The command that made the report.")]  # type: ignore[assignment]
    similar: Annotated[list[SimilarRecord], doc("The other texts, in the order in which they were given.")]


COMMAND = Command(
    "embed",
    EmbedQuery,
    EmbedReport,
    examples=(
        "txinspect embed",
        "txinspect embed 'Hello world' -m facebook/opt-1.3b --save embeddings.npz",
        "txinspect embed 'That is a happy person' -m sentence-transformers/all-MiniLM-L6-v2 --pooled",
        "txinspect embed 'A cat sleeps' --pooled --similar 'A dog naps' --similar 'It rains' -m BAAI/bge-small-en",
    ),
    view=Detailed,
)
