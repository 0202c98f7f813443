"""Recorded vectors → the numbers of the lesson, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import TYPE_CHECKING

from txinspect.commands.heads import NUMBERS, Kind, KindRecord
from txinspect.commands.lesson import HeadKindRecord, ScoredKeyRecord, StreamRecord, WorkingHeadRecord

if TYPE_CHECKING:
    from torch import Tensor

FIRST = 4
"""Numbers of a vector that are shown."""

EXACT = 0.02
"""Relative error up to which numbers of half precision count as the same."""


def first(vector: Tensor, count: int = FIRST) -> list[float]:
    """The first numbers of a vector; of complex ones, as rotary tables may be, the real parts: the cosines."""
    found: list[float] = (vector.real if vector.is_complex() else vector).double().flatten()[:count].tolist()
    return found


def norm(vector: Tensor) -> float:
    """The Euclidean norm of a vector."""
    return float(vector.double().norm())


def head_at_work(
    place: tuple[int, int],
    at: tuple[int, int],
    vectors: tuple[Tensor, Tensor, Tensor],
    rows: tuple[Tensor, Tensor, Tensor],
    added: Tensor | None,
) -> WorkingHeadRecord:
    """The numbers of the lesson's head, by its layer and index, `at` a query and a token in the middle.

    `vectors` are q (size,), k and v (key, size); `rows` the query's scores and weights, the middle's weights, and
    `added` what is known to be added to the scores for distances: (key,) each.
    """
    (query, middle), (q, k, v) = at, (each.double() for each in vectors)
    scores, weights, others = (each.double() for each in rows)
    products = k @ q
    scale, off = scale_of(products, scores, len(q))
    more, seen = _mask(scores, weights, query, [added.double(), added.double() * scale] if added is not None else [])
    own = _softmax(scores if more is None else scores + more, seen)
    key = int(weights.argmax())
    hidden = [each for each in range(middle + 1, len(others)) if not float(others[each])]
    return WorkingHeadRecord(
        layer=place[0],
        head=place[1],
        query=query,
        key=key,
        size=len(q),
        q=first(q),
        k=first(k[key]),
        v=first(v[key]),
        scale=scale,
        plain=off <= EXACT,
        apart=float((own - weights).abs().max()),
        keys=[
            ScoredKeyRecord(
                key=each,
                product=float(products[each]),
                score=float(scores[each]),
                added=None if more is None else float(more[each]),
                seen=seen[each],
                softmax=float(own[each]),
                weight=float(weights[each]),
            )
            for each in range(len(seen))
        ],
        middle=middle,
        hidden=hidden if len(hidden) == len(others) - middle - 1 else [],
    )


def _mask(scores: Tensor, weights: Tensor, query: int, added: Sequence[Tensor]) -> tuple[Tensor | None, list[bool]]:
    """What is added to the scores of the lesson's head, one of some or nothing, and which keys its mask lets be seen.

    Those before the query, or all; in a window those with a weight. Which it is, the softmax tells.
    """
    all_keys = bool(weights[query + 1 :].any())
    usual = [all_keys or key <= query for key in range(len(weights))]
    narrow = [bool(each) for each in weights.tolist()]
    best: tuple[Tensor | None, list[bool]] = None, usual
    least = float((_softmax(scores, usual) - weights).abs().max())
    for seen in (usual, narrow):
        for more in (None, *added):
            own = _softmax(scores if more is None else scores + more, seen)
            apart = float((own - weights).abs().max())
            if apart < least - 1e-4:
                best, least = (more, seen), apart
    return best


def _softmax(scores: Tensor, seen: Sequence[bool]) -> Tensor:
    """The softmax of the lesson's scores over the keys that are seen."""
    hidden = scores.new_tensor([0.0 if each else float("-inf") for each in seen])
    return (scores.masked_fill(hidden.isinf(), 0.0) + hidden).softmax(dim=0)


def scale_of(products: Tensor, scores: Tensor, size: int) -> tuple[float, float]:
    """What the lesson's products are multiplied by for their scores, by least squares over all keys of a query.

    And how far the scores are from that, relative to the largest of them.
    """
    square = float((products * products).sum())
    found = float((products * scores).sum()) / square if square else 1 / sqrt(size)
    scale = _snapped(found, (1.0, 1 / sqrt(size)))
    return scale, float((scores - scale * products).abs().max()) / (float(scores.abs().max()) or 1.0)


def _snapped(found: float, usual: Sequence[float]) -> float:
    """A scale of the lesson's head as it is written in models, where rounding alone sets them apart."""
    return next((each for each in usual if abs(found / each - 1) < EXACT), found)


def strongest(heads: Sequence[KindRecord]) -> KindRecord | None:
    """The head that looks at the token before the most, for the lesson; None where there is none."""
    known = [each for each in heads if each.previous is not None and each.run == 1]
    return max(known, key=lambda each: each.previous or 0.0, default=None)


def in_layer(heads: Sequence[KindRecord], layer: int) -> list[HeadKindRecord]:
    """What each head of the lesson's layer looks at the most."""
    return [_of_kind(each) for each in heads if each.layer == layer and each.run == 1]


def _of_kind(head: KindRecord) -> HeadKindRecord:
    """The kind that a head of the lesson is the most; evenly spread only where no token stands out."""
    shares: dict[Kind, float] = {kind: getattr(head, name) or 0.0 for kind, name in NUMBERS.items()}
    kinds: list[Kind] = [kind for kind in shares if kind != "broad"]
    best = head.labels[0] if head.labels else max(kinds, key=lambda kind: shares[kind])
    return HeadKindRecord(layer=head.layer, head=head.head, kind=best, share=shares[best])


def stream(layer: int, position: int, parts: Sequence[Tensor | None], after: Tensor, inner: int | None) -> StreamRecord:
    """What the lesson says of the residual stream: `parts` are what enters, of attention, of cross-attention, the MLP.

    Each is a token's vector, None where a part is not there.
    """
    before, attention, cross, mlp = (None if each is None else each.double() for each in parts)
    assert before is not None
    middle = None if attention is None else before + attention + (0.0 if cross is None else cross)
    whole = None if middle is None or mlp is None else middle + mlp
    return StreamRecord(
        layer=layer,
        position=position,
        before=norm(before),
        attention=None if attention is None else norm(attention),
        cross=None if cross is None else norm(cross),
        sum=None if middle is None else norm(middle),
        mlp=None if mlp is None else norm(mlp),
        after=norm(after),
        error=None if whole is None else norm(whole - after.double()) / (norm(after) or 1.0),
        width=len(before),
        inner=inner,
    )
