"""The one look of every table."""

from __future__ import annotations

from rich import box
from rich.table import Table


def frame(title: str | None = None) -> Table:
    """An empty table: a rule under the header, none between columns."""
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        header_style="bold cyan",
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
