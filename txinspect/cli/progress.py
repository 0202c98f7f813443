"""What is going on, on stderr: a spinner with a few words, and a bar where it takes longer than a moment."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TextIO

from rich.console import Console
from rich.text import Text

from txinspect.cli import appearance
from txinspect.render.terminal.glyphs import bar

MOMENT = 1.0
"""Seconds before a bar is shown."""

WIDTH = 16
"""Columns of the bar."""


class Shown:
    """Progress as a terminal shows it.

    Nothing is drawn, and no thread draws, before there is something to tell: a tokenizer is tried in a process that is
    forked before.
    """

    def __init__(self, stderr: TextIO, clock: Callable[[], float] = monotonic) -> None:
        # The stream itself: loading turns stderr away from what transformers says.
        self.status = Console(file=stderr, **appearance.settings()).status("")
        self._clock = clock
        self._doing, self._began = "", 0.0

    def notify(self, message: str) -> None:
        """Say what is going on now."""
        # Naming the spinner anew draws at once: a short step is seen, too.
        self.status.update(Text(message + " …"), spinner="dots")
        self.status.start()

    def progress(self, doing: str, done: int, of: int) -> None:
        """Say how far it is, once it has taken a moment."""
        now = self._clock()
        if doing != self._doing or done == 0:
            self._doing, self._began = doing, now
        if now - self._began >= MOMENT and done:
            self.status.update(Text(line(doing, done, of, now - self._began)))
            self.status.start()

    def stop(self) -> None:
        """Take it off the screen."""
        self.status.stop()


def line(doing: str, done: int, of: int, seconds: float) -> str:
    """The line of progress: what is done, of how much, a bar, and the time left as long as each part takes as long."""
    part = min(1.0, done / of)
    left = round(seconds / done * max(0, of - done))
    time = f"{left} s" if left < 90 else f"{left // 60} min" if left < 5400 else f"{left // 3600} h"
    return f"{doing} {bar(part, 1.0, WIDTH).ljust(WIDTH)} {done} of {of}, {time} left"
