"""Attention heads as maps, then a line per tensor, then the strongest keys of each query where they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.attn import AttnReport, AttnView, HeadRecord, QueryRecord, Scale
from txinspect.commands.command import Theme
from txinspect.records import SentenceRecord, TensorRecord
from txinspect.render.content import attn as content
from txinspect.render.content.attn import largest, looks_ahead
from txinspect.render.spelling import token_text
from txinspect.render.tables import Cell, Column, Line, Row, Table, Words, cell
from txinspect.render.terminal import colours, layer_maps, tensors
from txinspect.render.terminal.frame import Frame, drawn
from txinspect.render.terminal.glyphs import fitted
from txinspect.render.terminal.maps import LINES, Map, over_heads, overview, side_by_side
from txinspect.render.terminal.reading import input_lines
from txinspect.stage_names import StageName

FIRST = 12
"""Lines of maps on the first screen."""

STRONGEST_WIDTH = 31
"""Columns of a terminal for a query's strongest keys."""

UNASKED = 12
"""Queries whose strongest keys are listed where the list was not asked for by itself."""

COLUMNS = 40
"""Tokens of the source that are named by their numbers."""

KEY = 9
"""Columns for a key among a query's strongest."""


def draw(report: AttnReport, console: Console, view: AttnView = AttnView()) -> RenderableType:
    """The text, then a section per layer, then what options add."""
    theme = view.theme if colours.has_colours(console) else None
    parts: list[RenderableType] = [*input_lines(report.input)]
    if _is_overview(report, view):
        parts += _all_layers(report, console.width, view.scale, theme)
    else:
        for layer in report.layers:
            parts += _layer(report, layer, console.width, view, theme)
    return Group(*parts, *tensors.extras(report, console.width))


def then(report: AttnReport, view: AttnView | None) -> Line:
    """What is drawn last under the maps of `attn`: what to try next."""
    return content.tries(report, everything=view is not None and view.table)


def _layer(report: AttnReport, layer: int, width: int, view: AttnView, theme: Theme | None) -> Iterator[RenderableType]:
    """Draw a layer of `attn`: the maps of its heads, its tensors, the strongest keys."""
    own = [tensor for tensor in report.tensors if StageName.of(tensor.name).layer == layer]
    heads = [head for head in report.heads if head.layer == layer]
    yield drawn(content.title(report, layer, own))
    if heads:
        labels = _Labels(*_sentences(report), own)
        yield from _maps(
            heads, labels, width, view.scale, theme, chosen=content.is_chosen(own, "head"), everything=view.table
        )
    if view.table or not heads or content.is_chosen(own, "head"):
        yield tensors.table(own, width, own[0].name.rpartition(".")[0] if content.of_one_module(own) else "stage")
    if heads and (view.keys or content.is_chosen(own, "head") or content.is_chosen(own, "query")):
        yield Text()
        yield from _strongest(heads, labels, width, most=len(heads[0].queries) if view.keys else UNASKED)


def _is_overview(report: AttnReport, view: AttnView) -> bool:
    """Whether `attn` draws all heads of several layers in one map each, with nothing beside."""
    chosen = any(content.is_chosen(report.tensors, axis) for axis in ("head", "query"))
    return len(report.layers) > 1 and bool(report.heads) and not (view.table or view.keys or chosen)


def _all_layers(report: AttnReport, width: int, scale: Scale, theme: Theme | None) -> Iterator[RenderableType]:
    """Draw the overview of several layers of `attn`, and say what its letters mean."""
    maps = _with_holes([_map(head, scale) for head in report.heads], crossed=report.attention == "cross")
    labelled = [
        (head.layer, layer_maps.Labelled(each, content.letter(head)))
        for head, each in zip(report.heads, maps, strict=True)
    ]
    layers = [(layer, [each for of, each in labelled if of == layer]) for layer in report.layers]
    brightened = ", brightened" if any(each.is_brightened for each in maps) else ""
    yield _legend("each: queries ↓ keys →", scale, theme, f" weight{brightened}")
    if letters := content.letters(report):
        yield drawn(letters)
    yield from layer_maps.grid([each for each in layers if each[1]], width, theme)


def _with_holes(maps: list[Map], *, crossed: bool) -> list[Map]:
    """The maps of `attn`, which have holes where a causal mask hides keys, and where nothing is hidden none."""
    if crossed or any(map(looks_ahead, maps)):
        return [replace(each, is_causal=False) for each in maps]
    return maps


def _sentences(report: AttnReport) -> tuple[SentenceRecord, SentenceRecord]:
    """The texts that queries and keys of an attention's maps are of."""
    queries = report.input if report.stack == "encoder" else report.input.main
    return queries, report.input if report.attention == "cross" else queries


# Maps


def _maps(
    heads: Sequence[HeadRecord],
    labels: _Labels,
    width: int,
    scale: Scale,
    theme: Theme | None,
    *,
    chosen: bool,
    everything: bool,
) -> Iterator[RenderableType]:
    """Draw the maps of heads in the way that fits: rows for one query, side by side, or an overview of all."""
    maps = _with_holes([_map(head, scale) for head in heads], crossed=labels.crossed)
    weight = " weight, times ×N" if any(each.is_brightened for each in maps) else " weight"
    if len(heads[0].queries) == 1 and len(heads) > 1:
        place = labels.query(heads[0].queries[0].index).strip()
        yield _legend(f"query {place}: heads ↓ keys →", scale, theme, weight)
        yield over_heads(maps, width, theme)
        return
    drawn = side_by_side(maps, labels.query, width, theme)
    lines = drawn.bands * drawn.rows
    if not chosen and (drawn.bands > 2 or (lines > FIRST and not everything)):
        yield _legend(f"{len(maps)} heads, queries ↓ keys →", scale, theme, weight)
        yield overview(maps, width, theme, LINES if everything else FIRST)
        return
    axes = "queries ↓ source →" if labels.crossed else "queries ↓ keys →"
    yield _legend(axes, scale, theme, weight)
    if labels.crossed:
        yield Text("each query stands before the token that it predicts", style="dim")
        yield labels.columns()
    if drawn.note:
        yield Text(drawn.note, style="dim")
    yield from drawn.parts


def _legend(what: str, scale: Scale, theme: Theme | None, weight: str) -> Text:
    """The line that says what stands on a map's axes, and what its colours mean."""
    line = Text(f"{what}  ", style="dim").append_text(colours.legend(theme))
    return line.append(" of the row's largest" if scale == "row" else weight, style="dim")


def _map(head: HeadRecord, scale: Scale) -> Map:
    """A head's attention as a map to draw, with its own scale."""
    short = f"{head.head}" if head.run == 1 else f"{head.head}#{head.run}"
    record = head.map
    top = {"0-1": 1.0, "row": None, "head": largest(record.queries, record.keys, record.weights)}[scale]
    own = [0, *(key.index for key in head.strongest)]
    return Map(
        f"head {short}", short, record.queries, record.keys, record.weights, own, None if scale == "row" else top
    )


# Strongest keys


def _strongest(heads: Sequence[HeadRecord], labels: _Labels, width: int, most: int) -> Iterator[Frame]:
    """Draw the two strongest keys of the last `most` queries; of one query, a line per head."""
    if len(heads[0].queries) == 1 and len(heads) > 1:
        most_keys = max(1, (width - 10) // 16)
        rows = [Row([cell(_map(head, "0-1").name), _keys(head.queries[0], labels, most_keys)]) for head in heads]
        title = f"strongest keys of query {labels.query(heads[0].queries[0].index).strip()}"
        yield Frame(Table([Column("head", whole=True), Column("keys")], rows, title))
        return
    count = len(heads[0].queries)
    title = (
        f"strongest keys of {'each query' if most >= count else f'the last {most} of {count} queries; --keys: of all'}"
    )
    across = max(1, (width - labels.width - 2) // STRONGEST_WIDTH)
    for start in range(0, len(heads), across):
        some = heads[start : start + across]
        columns = [Column(name, whole=True) for name in ("query", *(_map(head, "0-1").name for head in some))]
        rows = []
        for row in range(max(0, count - most), count):
            query = cell(labels.query(some[0].queries[row].index))
            rows.append(Row([query, *(_keys(head.queries[row], labels, 2) for head in some)]))
        yield Frame(Table(columns, rows, title if start == 0 else None))


def _keys(query: QueryRecord, labels: _Labels, count: int) -> Cell:
    """A query's strongest keys with their weights, as `attn` draws them."""
    words: list[Words] = []
    for key in query.keys[:count]:
        weight = "?" if key.weight is None or key.weight != key.weight else f"{key.weight:.2f}"
        words += [Words("  ")] if words else []
        words += [Words(f"{weight} ", "figure"), Words(fitted(labels.key(key.index).strip(), KEY))]
    # What fills the last key's place up would count as its width.
    return Cell([*words[:-1], Words(words[-1].text.rstrip())] if words else [])


# Labels


@dataclass(frozen=True)
class _Labels:
    """What a query and a key are called: index and token, or the index alone where they are not the text's tokens."""

    queries: SentenceRecord
    keys: SentenceRecord
    tensors: Sequence[TensorRecord]
    width: int = 14

    @property
    def crossed(self) -> bool:
        """Whether the keys of the maps drawn by `attn` are of another text than the queries."""
        return self.keys is not self.queries

    def columns(self) -> Text:
        """What keys are called beside the maps, where they have only a number above them."""
        shown = [f"{token.index}:{token_text(token)}" for token in self.keys.tokens[:COLUMNS]]
        more = len(self.keys.tokens) - len(shown)
        return Text("source: " + " ".join([*shown, *([f"and {more} more"] if more else [])]), style="dim")

    def query(self, index: int) -> str:
        """A query's label in the maps of `attn`."""
        return self._label(self.queries, index, self._size(-2))

    def key(self, index: int) -> str:
        """A key's label in the maps of `attn`."""
        return self._label(self.keys, index, self._size(-1))

    def _size(self, axis: int) -> int:
        """How many positions an axis of a drawn map has; as many as tokens where some were chosen."""
        weights = next(tensor for tensor in self.tensors if StageName.of(tensor.name).part.endswith(".weights"))
        cut = axis == -2 and "query" in (weights.coordinates or {})
        return len(self.queries.tokens) if cut else weights.shape[axis]

    def _label(self, sentence: SentenceRecord, index: int, count: int) -> str:
        # Patches, prompts and compressed keys are no tokens of the text.
        known = index < len(sentence.tokens) <= count
        name = f"{index:>3} {token_text(sentence.tokens[index])}" if known else f"{index:>3}"
        return fitted(name, self.width - 1) + " "
