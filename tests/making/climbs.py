"""How often a reader climbs who follows `prepare`: `python -m tests.making.climbs`.

The rule: `prepare` runs once for a question on opt-mini, in a process that has answered it before. Each function of the
program's own is read where it is first called, once. A wing's floor is one above the highest of the wings that it may
import (tests/test_house.py). To go on to a function on a higher floor than the one read before is a climb.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import txinspect
from tests.test_house import ROOMS, WINGS, wing
from txinspect.answers import module_of
from txinspect.answers.preparing import prepare
from txinspect.answers.session import Session
from txinspect.commands.logits import LogitsQuery

PACKAGE = Path(txinspect.__file__).parent
BY_FILE = {str(path): room for room, path in ROOMS.items()}


def floor(name: str) -> int:
    """The floor of a wing."""
    below = WINGS.get(name, set()) - {name}
    return 1 + max((floor(each) for each in below if each in WINGS), default=0)


def read_in_order(query: Any) -> list[tuple[str, str]]:
    """The functions that `prepare` calls, each where it is first called: the room, and its name."""
    read: dict[tuple[str, str], None] = {}

    def see(frame: FrameType, event: str, _argument: object) -> None:
        room = BY_FILE.get(frame.f_code.co_filename)
        if event == "call" and room is not None and not frame.f_code.co_name.startswith("<"):
            read.setdefault((room, frame.f_code.co_qualname))

    question = module_of(query).questions(query)[0]
    session = Session()
    sys.setprofile(see)
    try:
        prepare(question, session)
    finally:
        sys.setprofile(None)
    return list(read)


def climbs(rooms: list[str]) -> int:
    """How often the next room is on a higher floor."""
    floors = [floor(wing(room)) for room in rooms]
    return sum(after > before for before, after in pairwise(floors))


def main() -> None:
    """Print it."""
    query = LogitsQuery(text="hi")
    read_in_order(query)
    read = read_in_order(query)
    rooms = [room for room, _ in read]
    print(f"prepare: {len(read)} functions in {len(set(rooms))} files, {climbs(rooms)} climbs")


if __name__ == "__main__":
    main()
