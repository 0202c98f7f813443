"""Attention on a page: the data that its script draws, and the strongest keys as a table where nothing is run."""

from __future__ import annotations

import zlib
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from txinspect.blocks import Block
from txinspect.commands.attn import AttnReport, HeadRecord
from txinspect.commands.heads import HeadsReport
from txinspect.commands.packed import PackedAttention, PackedMaps, PackedVectors
from txinspect.records import InputRecord, Report, SentenceRecord
from txinspect.render.page.sections import Section
from txinspect.render.page.tokens import read
from txinspect.render.spelling import number, token_text
from txinspect.render.tables import Column, Row, Table, cell
from txinspect.stage_names import DECODER

Labels = dict[tuple[str, str, int, int, int], list[str]]
"""Kinds of heads, by stack, self or cross, layer, run and head."""


@dataclass(frozen=True)
class AttentionPart:
    """The attention of a page."""

    kind: ClassVar = "attention"
    said: str
    groups: Sequence[str]
    letters: str
    strongest: Table


def sections(reports: Sequence[Report], attentions: Sequence[PackedAttention]) -> list[Section]:
    """The section of a page about attention, where any was packed."""
    if not attentions:
        return []
    kinds = dict.fromkeys(label for labels in _labels(reports).values() for label in labels[:1])
    part = AttentionPart(
        said=_said(attentions),
        groups=_groups(attentions),
        letters="Letters: " + ", ".join(f"{kind[0]} {kind}" for kind in kinds) if kinds else "",
        strongest=_strongest(reports),
    )
    return [Section("attention", "Attention", [part])]


def data(reports: Sequence[Report], attentions: Sequence[PackedAttention]) -> dict[str, Any]:
    """What the script of a page draws attention from: plain values, bytes deflated and in base64."""
    text = read(reports)
    if text is None or not attentions:
        return {}
    labels, groups = _labels(reports), _groups(attentions)
    return {
        "texts": [_spelled(each) for each in (text, text.decoder) if each is not None],
        "attentions": [
            {
                "group": groups.index(_group(each)),
                "layer": each.layer,
                "run": each.run,
                "texts": [_text(text, each.stack), 0 if each.kind == "cross" else _text(text, each.stack)],
                "labels": [labels.get(_place(each, head), []) for head in each.maps.heads],
                "maps": _maps(each.maps),
                "whole": _maps(each.whole) if each.whole else None,
                "lengths": each.lengths,
                "shared": each.shared,
                "q": _vectors(each.q),
                "k": _vectors(each.k),
            }
            for each in attentions
        ],
    }


def _said(attentions: Sequence[PackedAttention]) -> str:
    """What a page says of its maps before them."""
    heads = sum(len(each.maps.heads) for each in attentions)
    said = f"{heads:,} heads, queries ↓ keys →."
    if not any(each.maps.are_pooled for each in attentions):
        return said
    whole = next((each for each in attentions if each.whole), None)
    known = f"; layer {whole.layer} head {whole.maps.heads[0]} is whole" if whole else ""
    return f"{said} Each point is the largest weight of several queries and keys{known}; --head chooses another."


def _group(attention: PackedAttention) -> str:
    """Whose attention it is, in a page's list of them."""
    stack = attention.stack.rstrip(".")
    if attention.kind == "cross":
        return "decoder to encoder"
    return f"{stack} to itself" if stack else "the text to itself"


def _groups(attentions: Sequence[PackedAttention]) -> list[str]:
    return list(dict.fromkeys(map(_group, attentions)))


def _text(text: InputRecord, stack: str) -> int:
    """Which of a page's texts an attention's stack reads."""
    return 1 if stack == DECODER and text.decoder is not None else 0


def _labels(reports: Sequence[Report]) -> Labels:
    """The kinds of heads that reports of a page know."""
    found: Labels = {}
    for report in reports:
        if isinstance(report, (AttnReport, HeadsReport)):
            stack = f"{report.stack}." if report.stack else ""
            for head in report.heads:
                if head.labels is not None:
                    found[stack, "self", head.layer, head.run, head.head] = list(head.labels)
    return found


def _place(attention: PackedAttention, head: int) -> tuple[str, str, int, int, int]:
    """Which head of a page it is, as its kinds are found."""
    return attention.stack, attention.kind, attention.layer, attention.run, head


def _spelled(text: SentenceRecord) -> dict[str, Any]:
    """A text's tokens as a page's script shows them."""
    return {
        "tokens": [token_text(token) for token in text.tokens],
        "special": text.specials,
    }


def _maps(maps: PackedMaps) -> dict[str, Any]:
    """Packed weights for a page's script."""
    return {
        "heads": maps.heads,
        "queries": _blocks(maps.queries),
        "keys": _blocks(maps.keys),
        "first": maps.first,
        "rest": maps.rest,
        "causal": maps.causal,
        "values": _deflated(maps.values),
    }


def _blocks(blocks: Sequence[Block]) -> list[Block] | int:
    """Blocks of a page's map; how many there are where each is one position and they begin at 0."""
    return len(blocks) if blocks == [(each, each) for each in range(len(blocks))] else list(blocks)


def _vectors(vectors: PackedVectors | None) -> dict[str, Any] | None:
    """Packed queries or keys for a page's script."""
    if vectors is None:
        return None
    return {
        "heads": vectors.heads,
        "size": vectors.size,
        "largest": vectors.largest,
        "values": _deflated(vectors.values),
    }


def _deflated(content: bytes) -> str:
    """Bytes of a page, deflated and in base64; weights repeat themselves seldom, which deflating is told."""
    deflate = zlib.compressobj(9, strategy=zlib.Z_FILTERED)
    return b64encode(deflate.compress(content) + deflate.flush()).decode()


def _strongest(reports: Sequence[Report]) -> Table:
    """The table of each head's strongest keys on a page."""
    rows = []
    for report in reports:
        if isinstance(report, AttnReport):
            queries = report.input if report.stack == "encoder" else report.input.main
            keys = report.input if report.attention == "cross" else queries
            whose = _whose(report)
            rows += [_row(whose, head, keys) for head in report.heads]
    return Table(
        [Column(""), Column("layer", right=True), Column("head", right=True), Column("kind"), Column("keys")], rows
    )


def _whose(report: AttnReport) -> str:
    if report.attention == "cross":
        return "decoder to encoder"
    return report.stack or ""


def _row(whose: str, head: HeadRecord, keys: SentenceRecord) -> Row:
    """A head's row in the table of strongest keys on a page."""
    tokens = keys.tokens
    shown = [
        f"{each.index} {token_text(tokens[each.index]) if each.index < len(tokens) else ''} {number(each.weight, 2)}"
        for each in head.strongest
    ]
    kinds = ", ".join(head.labels or [])
    cells = [
        cell(whose, "dim"),
        cell(str(head.layer)),
        cell(str(head.head)),
        cell(kinds),
        cell(", ".join(shown), "token"),
    ]
    return Row(cells)
