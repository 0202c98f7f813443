"""Whose characters they are, in the text that a chat template makes of messages.

A template may drop what a model thought, trim, put messages of its own in front. So it is told nowhere where a message
stands: the messages are rendered once more with a mark at both ends of all that they say, and with the conversation
ending after the last message of each role. The number of renderings does not grow with the number of messages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from txinspect.errors import InspectError

Message = dict[str, Any]

Render = Callable[[list[Message], bool], str]
"""Messages, and whether the answer's turn is opened → the text. Raises InspectError for what the template refuses."""

TEMPLATE = "template"
"""Who says what no message does."""

MOST = 0xFFFE
"""Messages that have marks of their own."""

_BEGINS, _ENDS = 0xF0000, 0x100000
"""The first of the marks, in planes that are for private use."""

_MARK = re.compile("[\U000f0000-\U0010fffd]")

_KEPT = ("role", "type", "id", "tool_call_id")
"""Keys of a message whose values a template compares with names that it knows."""


@dataclass(frozen=True)
class Span:
    """Characters of a text, and who says them."""

    role: str
    start: int
    end: int


def spans(render: Render, messages: list[Message], rendered: str, *, answering: bool) -> list[Span]:
    """Each message with what the template puts around it, in order, one after the other; what is of no message, such as
    a system message of the template's own and the opened turn of the answer, is the template's.
    """
    closed = render(messages, False) if answering else rendered
    said = _said(render, messages, closed)
    ends = _ends(render, messages, said, closed)
    cuts = [0]
    for index, message in enumerate(messages):
        place, following = said[index], next((said[i] for i in range(index + 1, len(said)) if said[i]), None)
        gap = closed[place[1] : following[0] if following else len(closed)] if place else ""
        behind = _shared(gap, ends.get(message["role"], ""))
        cuts.append(max(cuts[-1], place[1] + behind if place else 0))
    cuts[-1] = len(closed)
    cuts[0] = _first(render, messages, said, cuts, closed, ends)
    last = _shared(closed, rendered)
    found = [Span(TEMPLATE, 0, cuts[0])]
    found += [
        Span(message["role"], min(start, last), min(end, last))
        for message, start, end in zip(messages, cuts, cuts[1:], strict=False)
    ]
    found.append(Span(TEMPLATE, last, len(rendered)))
    return [each for each in found if each.role != TEMPLATE or each.start < each.end]


def _said(render: Render, messages: Sequence[Message], closed: str) -> list[tuple[int, int] | None]:
    """Where what each message says begins and ends in the text; None for one that says nothing there."""
    for begun in (True, False):  # some templates look at how a message begins
        try:
            marked = render([_marked(each, index, begun=begun) for index, each in enumerate(messages)], False)
        except InspectError:
            continue
        if len(messages) <= MOST and _MARK.sub("", marked) == closed:
            return _places(marked, len(messages))
    return _looked_up(messages, closed)


def _places(marked: str, count: int) -> list[tuple[int, int] | None]:
    """What the marks in a text tell of so many messages, in the text without them."""
    places: dict[int, list[int]] = {}
    for before, mark in enumerate(_MARK.finditer(marked)):
        code = ord(mark[0])
        places.setdefault(code - (_BEGINS if code < _ENDS else _ENDS), []).append(mark.start() - before)
    return [(min(own), max(own)) if (own := places.get(index)) else None for index in range(count)]


def _marked(value: Any, index: int, key: str = "", *, begun: bool) -> Any:
    """A message with a mark behind all that it says, and before it if `begun`, inside of blanks at its ends, which
    templates take off."""
    if isinstance(value, dict):
        return {name: _marked(each, index, name, begun=begun) for name, each in value.items()}
    if isinstance(value, list):
        return [_marked(each, index, key, begun=begun) for each in value]
    if not isinstance(value, str) or key in _KEPT or not value.strip():
        return value
    before, own = value[: -len(value.lstrip())], value.strip()
    return f"{before}{chr(_BEGINS + index) * begun}{own}{chr(_ENDS + index)}{value[len(before) + len(own) :]}"


def _looked_up(messages: Sequence[Message], closed: str) -> list[tuple[int, int] | None]:
    """Where each message's words stand, looked for behind those of the message before; the end alone where a template
    leaves out what was thought."""
    found: list[tuple[int, int] | None] = []
    behind = 0
    for message in messages:
        words = [each.strip() for each in _strings(message.get("content"))]
        words += [each.rpartition("</think>")[2].strip() for each in words]
        places = [(closed.find(each, behind), len(each)) for each in words if each]
        start, length = next((each for each in places if each[0] >= 0), (-1, 0))
        found.append((start, start + length) if start >= 0 else None)
        behind = max(behind, start + length)
    return found


def _strings(content: Any) -> list[str]:
    """What the content of a message says: a text, or parts of text."""
    if isinstance(content, list):
        return [str(part.get("text")) for part in content if isinstance(part, dict)]
    return [content] if isinstance(content, str) else []


def _ends(
    render: Render, messages: list[Message], said: Sequence[tuple[int, int] | None], closed: str
) -> dict[str, str]:
    """What the template puts behind a message of each role, as far as a conversation may end there."""
    last = {message["role"]: index for index, message in enumerate(messages)}
    found = {}
    for role, index in last.items():
        if index == len(messages) - 1:
            place, text = said[index], closed
        else:
            try:
                text = render(messages[: index + 1], False)
            except InspectError:
                continue
            place = _said(render, messages[: index + 1], text)[index]
        found[role] = text[place[1] :] if place else ""
    return found


def _first(
    render: Render,
    messages: list[Message],
    said: Sequence[tuple[int, int] | None],
    cuts: Sequence[int],
    closed: str,
    ends: dict[str, str],
) -> int:
    """Where the first message begins: behind what stands before it that is not before others of its role."""
    place, role = said[0], messages[0]["role"]
    if place is None:
        return 0
    before = closed[: place[0]]
    later = (index for index in range(1, len(messages)) if messages[index]["role"] == role and said[index])
    other = next(later, None)
    if other is not None:
        header = closed[cuts[other] : (said[other] or (0, 0))[0]]
    else:
        try:
            text = render([messages[0], messages[0]], False)
            first, second = _said(render, [messages[0], messages[0]], text)
        except InspectError:  # some want turns to alternate
            return 0
        if first is None or second is None:
            return 0
        gap = text[first[1] : second[0]]
        header = gap[_shared(gap, ends.get(role, "")) :]
    return len(before) - len(header) if before.endswith(header) else 0


def _shared(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))
