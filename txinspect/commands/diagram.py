"""The block diagram of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from txinspect.commands.command import Command
from txinspect.errors import UsageError, spelled
from txinspect.model_choice import PLACEMENT
from txinspect.option import Option
from txinspect.queries import ModelQuery
from txinspect.records import ModelReport, Record, doc
from txinspect.stages import NodeKind

MOST_TOKENS = 4096
"""Of the text whose shapes stand on the arrows: what does not depend on weights is computed."""


@dataclass(frozen=True, kw_only=True)
class DiagramQuery(ModelQuery["DiagramReport"]):
    """Draw the block diagram of a model: what a pass adds, norms and repeats, as traced without weights."""

    idle = PLACEMENT

    seq: Annotated[
        int, Option("--seq", "Tokens of the text whose shapes are drawn; the lesson's sentence has 10.", "N")
    ] = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.seq <= MOST_TOKENS:
            raise UsageError(f"{spelled('seq')} {self.seq} is out of range", f"give 1 to {MOST_TOKENS:,}")


@dataclass(frozen=True, kw_only=True)
class DiagramView:
    """How the diagram is drawn."""

    mermaid: Annotated[bool, Option("--mermaid", "Write it as Mermaid, which Markdown pages draw.")] = False

    @property
    def alone(self) -> bool:
        """Whether another program reads what is written, and so nothing else is."""
        return self.mermaid


class NodeRecord(Record, frozen=True, kw_only=True, rename={"class_": "class"}):
    """A box of the diagram, an addition, or a place in the residual stream."""

    id: Annotated[str, doc("Its name: a stage's, a module's path, or what it is.")]
    kind: Annotated[NodeKind, doc("What it is.")]
    module: Annotated[str | None, doc("The module that it is, or the first of several; null where none is.")]
    class_: Annotated[str | None, doc("That module's class.")]
    modules: Annotated[list[str], doc("All modules that it is, in the order of the pass.")]
    run: Annotated[int, doc("Which run of its first module in a pass it is, from 1.")]
    operations: Annotated[list[str], doc("Operations in it that are in no module.")]
    weights: Annotated[list[str], doc("Parameters that it reads outside of its modules.")]
    parameters: Annotated[int, doc("Unique parameters in it.")]
    factor: Annotated[float | None, doc("What a scaling multiplies with; null where that is a weight.")]
    heads: Annotated[int | None, doc("Query heads of an attention.")]
    kv_heads: Annotated[int | None, doc("Its heads for keys and values.")]
    head_dim: Annotated[int | None, doc("Numbers in a query.")]
    window: Annotated[int | None, doc("How many tokens back an attention sees; null for all.")]
    experts: Annotated[int | None, doc("How many experts there are to choose from.")]
    experts_used: Annotated[int | None, doc("How many of them each token is given to.")]
    tied_to: Annotated[str | None, doc("The earlier box whose parameter it shares; else null.")]


class EdgeRecord(Record, frozen=True, kw_only=True, rename={"from_": "from"}):
    """An arrow of the diagram: a tensor."""

    from_: Annotated[str, doc("The node that it leaves.")]
    to: Annotated[str, doc("The node that reads it.")]
    module: Annotated[str | None, doc("The module that passes it on; null where no module does.")]
    run: Annotated[int, doc("Which run of that module in a pass it is, from 1.")]
    item: Annotated[int, doc("Which of the tensors that the module passes on it is.")]
    factor: Annotated[float, doc("What a sum multiplies it with.")]
    axes: Annotated[list[str] | None, doc("The name of each axis; null if it is not known.")]
    shape: Annotated[list[int], doc("The size of each axis.")]


class GroupRecord(Record, frozen=True, kw_only=True):
    """Layers that are alike; the nodes are those of the first."""

    layers: Annotated[list[int], doc("Their numbers.")]
    modules: Annotated[list[str], doc("The module of each, or the first where a layer is none.")]
    ends: Annotated[list[str], doc("The module that passes the residual stream on, of each.")]
    runs: Annotated[list[int], doc("Which run of its module each is, from 1.")]
    class_name: Annotated[str, doc("Their class.")]
    nodes: Annotated[list[str], doc("The nodes of the first of them, in the order of the pass.")]
    input: Annotated[str, doc("The node of the residual stream before it.")]
    output: Annotated[str, doc("The node of the residual stream after it.")]
    parameters: Annotated[int, doc("Unique parameters of each.")]


class StackRecord(Record, frozen=True, kw_only=True):
    """A stack of layers."""

    name: Annotated[str, doc("encoder or decoder; empty where there is one stack alone.")]
    before: Annotated[list[str], doc("The nodes that its layers read and that are in none: embeddings, positions.")]
    groups: Annotated[list[GroupRecord], doc("Its layers, alike ones in one group, in the order of their first.")]
    order: Annotated[list[int], doc("Of which of the groups each layer is, in the order of the pass.")]
    after: Annotated[list[str], doc("The nodes after its layers.")]
    positions: Annotated[str, doc("How positions act in it, or why they do not.")]
    idle: Annotated[list[int], doc("Layers that do not run for a text alone.")]


class TiedRecord(Record, frozen=True, kw_only=True):
    """A parameter that several modules share."""

    names: Annotated[list[str], doc("Its full names.")]
    parameters: Annotated[int, doc("Its elements.")]


class DiagramReport(ModelReport, frozen=True, kw_only=True):
    """Report of `diagram`."""

    command: Annotated[Literal["diagram"], doc("The command that made the report.")]
    seq: Annotated[int, doc("Tokens of the text that the shapes are of, and of the decoder's.")]
    nodes: Annotated[list[NodeRecord], doc("What is drawn, in the order of the pass, alike layers once.")]
    edges: Annotated[list[EdgeRecord], doc("What flows where.")]
    stacks: Annotated[list[StackRecord], doc("The stacks of layers: one, or the encoder and the decoder.")]
    tied: Annotated[list[TiedRecord], doc("Parameters that are the same under several names.")]


COMMAND = Command(
    "diagram",
    DiagramQuery,
    DiagramReport,
    examples=("txinspect diagram", "txinspect diagram transformer-mini --seq 12", "txinspect diagram --mermaid"),
    view=DiagramView,
)
