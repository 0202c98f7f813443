"""What stands in the table of `embed`: other texts, and how alike they are to the text."""

from __future__ import annotations

from txinspect.commands.embed import COMPARED, EmbedReport
from txinspect.render.spelling import visible
from txinspect.render.tables import Column, Row, Table, bar, cell, numbers, numeric


def similar(report: EmbedReport) -> Table:
    """The table of texts by how alike their vectors are to that of the text, by the model's own way."""
    how = report.similar[0].function
    ordered = sorted(report.similar, key=lambda each: -(float("-inf") if each.score is None else each.score))
    rows = []
    for each in ordered:
        own = [] if how == "cosine" else [numeric(each.score)]
        alike = bar(None if each.cosine is None else max(0.0, each.cosine), 1.0)
        rows.append(Row([cell(visible(each.text), "text"), *own, numeric(each.cosine), alike]))
    titles = [*([] if how == "cosine" else [how]), "cosine"]
    title = f"the most alike first, by {COMPARED[how]}"
    return Table([Column("text"), *numbers(*titles), Column("", whole=True)], rows, title)
