"""What a terminal says of a page: what stands on it."""

from __future__ import annotations

from txinspect.commands.page import PageReport
from txinspect.render.tables import Line, Words, line
from txinspect.wording import counted


def parts(report: PageReport) -> list[Line]:
    """The lines that say what stands on a page."""
    heads = sum(len(each.heads) for each in report.attn)
    found = [
        (report.logits, "what comes next after each token"),
        (report.attn, f"attention of {counted(heads, 'head')}"),
        (report.heads, "kinds of heads"),
        (report.lens, "what each layer would predict"),
        (report.diagram, "what a pass adds"),
        (report.stages, "stages"),
        (report.tree, "modules"),
        (report.params, "parameters"),
    ]
    said = [what for each, what in found if each]
    return [Line([Words("on the page: ", "dim"), Words(", ".join(said))]) if said else line("nothing", "dim")]
