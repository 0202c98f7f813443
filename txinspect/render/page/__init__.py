"""Reports → one HTML file that needs nothing else: no server, no network, no other file; scripts are its own."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any

from txinspect.commands.packed import PackedAttention
from txinspect.records import ModelReport, Report
from txinspect.render.content import heading
from txinspect.render.page import attention, provenance, sections
from txinspect.render.page.sections import Section
from txinspect.render.spelling import visible
from txinspect.render.tables import Line, line

MARK = b'<!DOCTYPE html>\n<html lang="en" class="txinspect">'
"""How a page of ours begins."""


@dataclass(frozen=True)
class Asked:
    """What was asked for a page, and of what program."""

    how: str
    """The command line, or the call in Python."""
    command: str
    """The command that the title names."""


def page(report: Report, attentions: Sequence[PackedAttention], asked: Asked) -> str:
    """A page of a report, or of those that it is made of, and of the attentions that were packed in their passes.

    Raises ImportError without the package that fills templates.
    """
    from jinja2 import Environment, StrictUndefined

    reports: list[Report] = getattr(report, "reports", [report])
    script, style = _own("page.js"), _own("page.css")
    shown = [*sections.of_text(reports), *attention.sections(reports, attentions)]
    for each in reports:
        shown += sections.of(each)
    shown += [*sections.of_tensors(reports), provenance.section(reports, asked.how)]
    model = next((report.model for report in reports if isinstance(report, ModelReport)), None)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string(_own("page.html")).render(
        version=reports[0].txinspect,
        title=f"txinspect {asked.command}" + (f" · {visible(heading.folder_name(model.name))}" if model else ""),
        heading=[*([heading.model(model)] if model else []), *_notes([report, *reports])],
        sections=_once(shown),
        data=_as_data(attention.data(reports, attentions)),
        script=script,
        style=style,
        script_hash=_hash(script),
        style_hash=_hash(style),
    )


def framed(content: str) -> str:
    """A page in a frame of another one, such as a notebook, whose scripts reach nothing outside of it."""
    return (
        f'<iframe sandbox="allow-scripts" srcdoc="{escape(content)}" style="width:100%;height:42em;border:0"></iframe>'
    )


def is_ours(begin: bytes) -> bool:
    """Whether the first bytes of a file are those of a page that txinspect wrote."""
    return begin.startswith(MARK)


def _notes(reports: Sequence[Report]) -> list[Line]:
    """What was found, and what to know, each once, over the sections of a page."""
    found = [sentence for report in reports for sentence in getattr(report, "findings", [])]
    noted = [sentence for report in reports for sentence in report.notes if sentence not in found]
    return [
        *(line(visible(sentence), "bad") for sentence in dict.fromkeys(found)),
        *(line(visible(sentence), "warning") for sentence in dict.fromkeys(noted)),
    ]


def _once(shown: Sequence[Section]) -> list[Section]:
    """Sections of a page with something in them, each with an id of its own."""
    kept = [section for section in shown if section.parts]
    return [Section(f"part-{index}", section.title, section.parts) for index, section in enumerate(kept)]


def _own(name: str) -> str:
    return files(__name__).joinpath(name).read_text(encoding="utf-8")


def _as_data(value: Any) -> str:
    """Data as JSON for a block that is never run: nothing in it ends the block, or means anything to HTML."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _hash(content: str) -> str:
    """The hash of a script or a style sheet that the page's policy lets through."""
    return f"sha256-{b64encode(sha256(content.encode()).digest()).decode()}"
