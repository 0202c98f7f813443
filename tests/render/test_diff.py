"""The drawing of `diff`: what its bars and the colour of its verdict say."""

from __future__ import annotations

import re

import pytest
from msgspec import structs

from tests.making.reports import diff_report, drawn
from txinspect.commands.diff import LogitsDiffRecord
from txinspect.render.content import diff as content


@pytest.mark.parametrize(
    ("kl", "same", "first", "tone"),
    [
        (0.02, 0.9, "layers.1.output", "found"),
        (0.2, 0.9, "layers.1.output", "bad"),
        (0.02, 0.7, "layers.1.output", "bad"),
        (float("nan"), 1.0, "layers.1.output", "bad"),
        (0.0, 1.0, None, "good"),
    ],
)
def test_the_verdict_is_red_where_predictions_change_much(kl: float, same: float, first: str | None, tone: str) -> None:
    logits = LogitsDiffRecord(kl_mean=kl, kl_median=kl, kl_p99=kl, kl_max=kl, same_top1=same, ln_perplexity_ratio=None)
    assert content.tone(structs.replace(diff_report(), logits=logits, first_divergence=first)) == tone


def test_without_logits_a_verdict_is_neither() -> None:
    assert content.tone(structs.replace(diff_report(), logits=None)) == "found"


@pytest.mark.parametrize("tolerance", [0.0, 1e-4, 0.01, 1.0])
def test_bars_begin_at_the_tolerance(tolerance: float) -> None:
    report = structs.replace(diff_report(), tolerance=tolerance)
    lengths = {}
    for line in drawn(report, 120).splitlines():
        if match := re.match(r"(token_embeddings|layers\.\d\.output|logits) .*?([█▏▎▍▌▋▊▉]*)$", line):
            lengths[match[1]] = len(match[2])
    by_size = {each.name: each.rel_l2 for each in report.stages}
    assert len(lengths) == len(by_size)
    for name, size in by_size.items():
        assert (lengths[name] > 0) == (size is not None and size > tolerance and tolerance < 1), (name, size)
    drawn_ones = sorted((size, lengths[name]) for name, size in by_size.items() if size is not None)
    assert [length for _, length in drawn_ones] == sorted(length for _, length in drawn_ones)
