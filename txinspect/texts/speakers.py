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


Place = tuple[int, int] | None
"""Where what a message says begins and ends in a text; None for one that says nothing there."""


@dataclass(frozen=True)
class Speakers:
    """Who says what in a text."""

    spans: list[Span]
    """Each message with what the template puts around it, one after the other as they stand in the text; what is of no
    message, such as a system message of the template's own and the opened turn of the answer, is the template's."""
    said: list[tuple[int, int]]
    """Where the messages' own words stand."""


def speakers(render: Render, messages: list[Message], rendered: str, *, answering: bool) -> Speakers:
    """Who says what in the text that a chat template made of messages."""
    closed = render(messages, False) if answering else rendered
    said = _said(render, messages, closed)
    order = _order(said)
    ends = _ends(render, messages, said, closed)
    cuts = [0]
    for rank, index in enumerate(order):
        place, following = said[index], next((said[i] for i in order[rank + 1 :] if said[i]), None)
        gap = closed[place[1] : following[0] if following else len(closed)] if place else ""
        after = _ending(gap, ends.get(messages[index]["role"], ""))
        cuts.append(max(cuts[-1], place[1] + after if place else 0))
    cuts[-1] = len(closed)
    cuts[0] = _first(render, [messages[index] for index in order], [said[index] for index in order], cuts, closed, ends)
    last = _shared(closed, rendered)
    found = [Span(TEMPLATE, 0, cuts[0])]
    found += [
        Span(messages[index]["role"], min(start, last), min(end, last))
        for index, start, end in zip(order, cuts, cuts[1:], strict=False)
    ]
    found.append(Span(TEMPLATE, last, len(rendered)))
    spans = [each for each in found if each.role != TEMPLATE or each.start < each.end]
    return Speakers(spans, [place for place in said if place is not None and place[1] <= last])


def _order(said: Sequence[Place]) -> list[int]:
    """The messages as they stand in the text, which some templates put in another order; one that says nothing there
    stands after the one before it."""
    starts, last = [], 0
    for place in said:
        last = place[0] if place else last
        starts.append(last)
    return sorted(range(len(said)), key=lambda index: (starts[index], index))


def _ending(gap: str, end: str) -> int:
    """How much of the text between two messages' words is of the first, whose role ends so where a conversation
    ends: after blanks of the message's own, or after what closes a call of a tool."""
    blanks, words = len(gap) - len(gap.lstrip()), end.lstrip()
    if words and gap[blanks:].startswith(words):
        return blanks + len(words)
    if words and words in gap:
        return gap.index(words) + len(words)
    return _shared(gap, end)


def _said(render: Render, messages: Sequence[Message], closed: str) -> list[Place]:
    """Where what each message says stands in the chat template's text.

    Some templates look at whether a message says something, take blanks off its ends, or look at how it begins: marks
    stand where they change nothing.
    """
    for way in (_Marks(empty=True), _Marks(), _Marks(inside=True), _Marks(inside=True, begin=False)):
        try:
            marked = render([_marked(each, index, way) for index, each in enumerate(messages)], False)
        except InspectError:
            continue
        if len(messages) <= MOST and _MARK.sub("", marked) == closed:
            return _places(marked, len(messages))
    return _looked_up(messages, closed)


@dataclass(frozen=True)
class _Marks:
    """Where marks are put around what a message says."""

    empty: bool = False
    """Also where it says nothing."""
    inside: bool = False
    """Inside of blanks at its ends."""
    begin: bool = True
    """Before it, too, not only after it."""


def _places(marked: str, count: int) -> list[Place]:
    """Where messages' words stand in a rendered text, by the marks around them, in the text without the marks."""
    places: dict[int, list[int]] = {}
    for before, mark in enumerate(_MARK.finditer(marked)):
        code = ord(mark[0])
        places.setdefault(code - (_BEGINS if code < _ENDS else _ENDS), []).append(mark.start() - before)
    return [(min(own), max(own)) if (own := places.get(index)) else None for index in range(count)]


def _marked(value: Any, index: int, way: _Marks, key: str = "") -> Any:
    """A chat message with marks around all that it says."""
    if isinstance(value, dict):
        return {name: _marked(each, index, way, name) for name, each in value.items()}
    if isinstance(value, list):
        return [_marked(each, index, way, key) for each in value]
    if not isinstance(value, str) or key in _KEPT or not (value.strip() or (way.empty and key == "content")):
        return value
    own = value.strip() if way.inside else value
    before = value[: value.index(own)]
    return f"{before}{chr(_BEGINS + index) * way.begin}{own}{chr(_ENDS + index)}{value[len(before) + len(own) :]}"


def _looked_up(messages: Sequence[Message], closed: str) -> list[Place]:
    """Where each message's words stand, looked up after those of the message before; the end alone where a template
    leaves out what was thought."""
    found: list[Place] = []
    after = 0
    for message in messages:
        words = [each.strip() for each in _strings(message.get("content"))]
        words += [each.rpartition("</think>")[2].strip() for each in words]
        places = [(closed.find(each, after), len(each)) for each in words if each]
        start, length = next((each for each in places if each[0] >= 0), (-1, 0))
        found.append((start, start + length) if start >= 0 else None)
        after = max(after, start + length)
    return found


def _strings(content: Any) -> list[str]:
    """What the content of a chat message says: a text, or parts of text."""
    if isinstance(content, list):
        return [str(part.get("text")) for part in content if isinstance(part, dict)]
    return [content] if isinstance(content, str) else []


def _ends(render: Render, messages: list[Message], said: Sequence[Place], closed: str) -> dict[str, str]:
    """What the chat template puts after a message of each role, as far as a conversation may end there."""
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
    said: Sequence[Place],
    cuts: Sequence[int],
    closed: str,
    ends: dict[str, str],
) -> int:
    """Where the first message begins in the text: after what is not before others of its role."""
    place, role = said[0], messages[0]["role"]
    if place is None:
        return 0
    before = closed[: place[0]]
    later = (index for index in range(1, len(messages)) if messages[index]["role"] == role)
    headers = (closed[cuts[index] : (said[index] or (0, 0))[0]] for index in later if said[index])
    header = next((each for each in headers if before.endswith(each)), None)
    if header is None:
        try:
            text = render([messages[0], messages[0]], False)
            first, second = _said(render, [messages[0], messages[0]], text)
        except InspectError:  # some want turns to alternate
            return 0
        if first is None or second is None:
            return 0
        gap = text[first[1] : second[0]]
        header = gap[_ending(gap, ends.get(role, "")) :]
    return len(before) - len(header) if before.endswith(header) else 0


def _shared(one: str, other: str) -> int:
    """How many characters two texts of a chat template begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))
