"""One page about a model and a text: what several commands find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from txinspect.commands.attn import AttnReport
from txinspect.commands.command import Command
from txinspect.commands.diagram import DiagramReport
from txinspect.commands.heads import HeadsReport
from txinspect.commands.lens import LensReport
from txinspect.commands.logits import LogitsReport
from txinspect.commands.params import ParamsReport
from txinspect.commands.stages import StagesReport
from txinspect.commands.tree import TreeReport
from txinspect.errors import UsageError, spelled
from txinspect.option import Option
from txinspect.queries import DecoderQuery
from txinspect.records import InputRecord, ModelReport, Report, doc
from txinspect.value_checks import check_one_of, check_strings

Part = Literal["logits", "attn", "heads", "lens", "diagram", "stages", "tree", "params"]

PARTS: tuple[Part, ...] = get_args(Part)

UNASKED = tuple(part for part in PARTS if part != "params")
"""What stands on a page where nothing is chosen: all but what reads every weight."""

FILE = "page.html"
"""Where a page is written if nothing else is said."""


@dataclass(frozen=True, kw_only=True)
class PageQuery(DecoderQuery["PageReport"]):
    """Write one page to look at in a browser: tokens, attention, kinds of heads, lens, stages; it needs no network."""

    parts: Annotated[
        tuple[Part, ...],
        Option("--part", "What stands on the page; all but params if not given; may be repeated.", "PART"),
    ] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_strings("parts", self.parts)
        for part in self.parts:
            check_one_of("parts", part, PARTS)
        if len(set(self.parts)) < len(self.parts):
            raise UsageError(f"{spelled('parts')} names a part twice", "give each once")


class PageReport(ModelReport, frozen=True, kw_only=True):
    """Report of `page`: the reports of the commands that it is made of."""

    command: Annotated[Literal["page"], doc("The command that made the report.")]
    input: Annotated[InputRecord | None, doc("What was read; null where no part reads a text.")]
    logits: Annotated[LogitsReport | None, doc("What comes next; null where it was not asked for, or cannot be.")]
    attn: Annotated[
        list[AttnReport], doc("The text's; of an encoder–decoder the decoder's, to the encoder, the encoder's.")
    ]
    heads: Annotated[HeadsReport | None, doc("Kinds of heads.")]
    lens: Annotated[LensReport | None, doc("What each layer would predict.")]
    diagram: Annotated[DiagramReport | None, doc("What a pass adds, as a diagram.")]
    stages: Annotated[StagesReport | None, doc("The stages of the model.")]
    tree: Annotated[TreeReport | None, doc("Its modules.")]
    params: Annotated[ParamsReport | None, doc("Statistics of its parameters.")]

    @property
    def reports(self) -> list[Report]:
        """The reports that the page is made of."""
        alone = (self.heads, self.lens, self.diagram, self.stages, self.tree, self.params)
        first = [self.logits] if self.logits else []
        return [*first, *self.attn, *(each for each in alone if each is not None)]


COMMAND = Command(
    "page",
    PageQuery,
    PageReport,
    examples=(
        "txinspect page",
        "txinspect page 'The capital of France is' -o france.html",
        "txinspect page 'the quick brown fox' -m transformer-mini --part attn",
    ),
    html=FILE,
)
