"""Where the numbers of a page come from: what was asked, of which versions, on what, and what was checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from platform import machine, python_version, system

from txinspect.records import CheckRecord, LoadingRecord, ModelReport, Report
from txinspect.render.content import heading, tensors
from txinspect.render.page.sections import Section
from txinspect.render.spelling import visible
from txinspect.render.tables import Column, Row, Table, cell

PACKAGES = ("torch", "transformers", "tokenizers", "bitsandbytes")
"""What decides numbers, beside txinspect itself."""


def section(reports: Sequence[Report], asked: str) -> Section:
    """The section of a page about where its numbers come from."""
    facts = [*_facts(reports, asked)]
    rows = [Row([cell(name, "dim"), cell(visible(value))]) for name, value in facts]
    checks = [
        each for report in reports for each in getattr(report, "checks", None) or () if isinstance(each, CheckRecord)
    ]
    loading = next(
        (each for report in reports if isinstance(each := getattr(report, "loading", None), LoadingRecord)), None
    )
    return Section(
        "about",
        "Where this comes from",
        [
            Table([Column(""), Column("")], rows, rule=False),
            *([heading.loading(loading)] if loading else []),
            *([tensors.checks(checks)] if checks else []),
        ],
    )


def _facts(reports: Sequence[Report], asked: str) -> Iterator[tuple[str, str]]:
    """Names and values of what a page's numbers depend on."""
    yield "asked", asked
    yield "txinspect", reports[0].txinspect
    for name in PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue
    yield "Python", f"{python_version()} on {system()} {machine()}"
    model = next((report.model for report in reports if isinstance(report, ModelReport)), None)
    if model is not None:
        shown = ("name", "revision", "class_", "dtype", "quantization", "device", "attn_implementation")
        for name in shown:
            if (value := getattr(model, name)) is not None:
                yield {"class_": "class", "attn_implementation": "attention"}.get(name, name), value
