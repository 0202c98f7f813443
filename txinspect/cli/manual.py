"""The manual in the terminal: its pages are Markdown files beside the program, which the web shows as they are."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from txinspect.cli import streams

PAGES = Path(__file__).parent.parent / "manual"

TOPICS = (
    "tutorial",
    "paper",
    "questions",
    "loading",
    "texts",
    "names",
    "edits",
    "python",
    "sharing",
    "safety",
    "terms",
)
"""The manual's pages, in the order in which a person reads them; none has a command's name."""


def show(topic: str) -> None:
    """Show a page of the manual: in a pager, in colours and in an encoding as every drawing is."""
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.markdown import CodeBlock, Markdown
    from rich.text import Text

    class Verbatim(CodeBlock):
        """What a terminal showed, in no box and from its first column: it was made for eighty."""

        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            yield Text(str(self.text).rstrip(), style="cyan")

    class Page(Markdown):
        """A page of the manual."""

        elements = {**Markdown.elements, "fence": Verbatim, "code_block": Verbatim}  # noqa: RUF012, as it is there

    drawn = StringIO()
    console = streams.console(drawn)
    page = (PAGES / f"{topic}.md").read_text(encoding="utf-8")
    # A heading of the first order would stand in a box of its own.
    console.print(Page(page.replace("# ", "## ", 1), hyperlinks=False))
    streams.draw("".join(f"{line.rstrip()}\n" for line in drawn.getvalue().splitlines()))
