"""Messages → the text that a model was trained to answer, by the template that comes with its tokenizer."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from msgspec import structs

from txinspect.errors import InspectError, SourceError, UsageError, spelled
from txinspect.guards import trial
from txinspect.guards.quiet import quiet
from txinspect.queries import MOST_CHARACTERS, TextQuery
from txinspect.records import InputRecord, RoleRecord
from txinspect.sources.source import Source
from txinspect.texts import speakers
from txinspect.texts.opened import Opened
from txinspect.texts.speakers import Message, Span
from txinspect.texts.tokens import Tokens, as_input
from txinspect.texts.trying import PATIENCE
from txinspect.wording import shown

BESIDE = ("tools", "documents", "chat_template_kwargs")
"""What an object of JSON may hold beside its messages: what a template reads beside them."""


MESSAGES_A_SECOND = 1_000
"""What a template may take over many."""

TRIED = 100
"""Messages on which a tokenizer is tried before a template makes a text of all."""


@dataclass(frozen=True)
class Conversation:
    """What a chat template is given."""

    messages: list[Message]
    beside: dict[str, Any] = field(default_factory=dict)
    """Tools, documents, and what else a template may ask for, such as enable_thinking."""

    @property
    def answering(self) -> bool:
        """Whether a chat template opens the assistant's turn: the last message is not its own."""
        return self.messages[-1].get("role") != "assistant"


def read(query: TextQuery[Any], opened: Opened) -> tuple[InputRecord, list[tuple[int, int]]]:
    """The tokens of a conversation by its chat template, whose they are, and where the messages' own words stand.

    The template is rendered, and tokenized without special tokens, which it holds itself. Raises InspectError for a
    tokenizer without a template, and for messages that the template refuses.
    """
    source, given = opened.source, conversation(query)
    opened.tokens(*_words(given.messages))  # tried before transformers makes one of its own
    whole = opened.whole_tokenizer
    if not whole.chat_template:
        raise InspectError(
            f"the tokenizer of {source.name!r} has no chat template: it was not made for conversations; omit "
            f"{spelled('chat', True)}"
        )

    def render(messages: list[Message], answering: bool) -> str:
        try:
            with quiet():
                return _rendered(whole, messages, given.beside, answering=answering)
        except Exception as error:
            raise InspectError(
                f"the chat template of {source.name!r} refuses these messages ({type(error).__name__}: {error})"
            ) from error

    _try(whole, given, source)
    answering = given.answering
    rendered = render(given.messages, answering)
    if re.search("[\ud800-\udfff]", rendered):
        raise InspectError(
            f"the chat template of {source.name!r} writes half a surrogate pair, which is no character: fetch it again"
        )
    tokens = opened.tokens(rendered)
    text = as_input(rendered, tokens.encode(rendered, False))
    found = speakers.speakers(render, given.messages, rendered, answering=answering)
    return structs.replace(text, roles=_roles(text, tokens, found.spans)), found.said


def _rendered(whole: Any, messages: list[Message], beside: dict[str, Any], *, answering: bool) -> str:
    return str(whole.apply_chat_template(messages, tokenize=False, add_generation_prompt=answering, **beside))


def _words(messages: list[Message]) -> list[str]:
    """What the messages of a conversation say, as a tokenizer is tried on it."""
    return list(dict.fromkeys(each["content"] for each in messages if isinstance(each.get("content"), str)))[:TRIED]


def is_bounded(folder: str, template: str, messages: list[Message], beside: dict[str, Any], *, answering: bool) -> bool:
    """Whether a chat template makes no more of messages than a text may have. Tried in a process that is started."""
    from transformers import AutoTokenizer

    with quiet():
        whole = AutoTokenizer.from_pretrained(folder, local_files_only=True, chat_template=template)
        return _is_bounded(whole, messages, beside, answering=answering)


def _is_bounded(whole: Any, messages: list[Message], beside: dict[str, Any], *, answering: bool) -> bool:
    try:
        return len(_rendered(whole, messages, beside, answering=answering)) <= MOST_CHARACTERS
    except MemoryError:  # beyond what a trial may take, not beyond what there is
        return False


def _try(whole: Any, given: Conversation, source: Source) -> None:
    """Raise SourceError for a chat template that never gets done with messages, or fills the memory."""
    messages, beside, answering = given.messages, given.beside, given.answering
    outcome = trial.attempt(
        partial(_is_bounded, whole, messages, beside, answering=answering),
        PATIENCE + len(messages) / MESSAGES_A_SECOND,
        partial(
            is_bounded, *(str(source.tokenizer_folder()), whole.chat_template, messages, beside), answering=answering
        ),
    )
    how = {
        "too long": f"does not get done in {PATIENCE:.0f} seconds",
        "too much": f"makes more than {MOST_CHARACTERS:,} characters, or fills the memory,",
        "crashed": "brings the process down",
        "panicked": "brings the process down",
    }
    if outcome in how:
        raise SourceError(
            f"the chat template of {source.name!r} {how[outcome]} over these messages: it is damaged; fetch it again, "
            f"or give fewer messages"
        )


def conversation(query: TextQuery[Any]) -> Conversation:
    """The messages of a chat query: its own, or those in a text of JSON. Raises UsageError for JSON of another form."""
    found = _json(query.text)
    if found is None:
        user = query.text if query.user is None else query.user
        given = (("system", query.system), ("user", user), ("assistant", query.assistant))
        return Conversation([{"role": role, "content": content} for role, content in given if content is not None])
    other = next((name for name in ("system", "user", "assistant") if getattr(query, name) is not None), None)
    if other is not None:
        raise UsageError(f"messages in JSON and {spelled(other)} cannot be combined: write that one among them")
    beside = {}
    if isinstance(found, dict) and "messages" in found:
        beside, found = {name: each for name, each in found.items() if name != "messages"}, found["messages"]
    unknown = next((name for name in beside if name not in BESIDE), None)
    if unknown is not None:
        raise UsageError(f"no template reads {shown(unknown)} beside the messages: give messages, {', '.join(BESIDE)}")
    options = beside.pop("chat_template_kwargs", None) or {}
    for name, each in beside.items():
        if not isinstance(each, list) or not all(isinstance(item, dict) for item in each):
            raise UsageError(f"{name} {shown(each)} beside the messages is no list of objects: give one, or omit it")
    if not isinstance(options, dict):
        raise UsageError(f"chat_template_kwargs {shown(options)} is no object: give names and values")
    if not isinstance(found, list):
        raise UsageError(f"the messages are {shown(found)}: give a list of objects with role and content")
    for each in found:
        _check_message(each)
    if not found:
        raise UsageError("the messages are an empty list: give at least one")
    return Conversation(found, {**options, **beside})


def _json(text: str) -> Any:
    """What a text of JSON holds that is meant as chat messages; None for any other text, be it in brackets.

    Raises UsageError for messages that are not JSON.
    """
    try:
        found = json.loads(text.removeprefix("\ufeff"))  # which programs of Windows put before it
    except RecursionError:
        raise UsageError("the messages are nested too deeply: give a list of objects with role and content") from None
    except ValueError as error:
        if re.match(r'\s*(\[\s*(\{|$)|\{\s*"(role|content|messages)"\s*:)', text):
            raise UsageError(f'the messages are not JSON ({error}): give [{{"role": …, "content": …}}, …]') from None
        return None
    meant = isinstance(found, list) or (isinstance(found, dict) and not found.keys().isdisjoint(_NAMES))
    return found if meant else None


_NAMES = ("role", "content", "messages")
"""Keys of a message, and of an object that holds several."""


def _check_message(message: Any) -> None:
    """Raise UsageError for what is no chat message: it has a role, and says something or calls a tool."""
    content = message.get("content") if isinstance(message, dict) else None
    parts = content if isinstance(content, list) else []
    try:
        json.dumps(message, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"the message {shown(message)} holds half a surrogate pair, which is no character: write it as text"
        ) from None
    says = isinstance(message, dict) and len(message) > 1 and isinstance(message.get("role"), str)
    if not says or not isinstance(content, (str, list, type(None))):
        raise UsageError(
            f"the message {shown(message)} is not one: give a role, and a content that is a text, a list of parts, or "
            f"null beside tool_calls"
        )
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise UsageError(
                f'the message has the part {shown(part)}, which is no text: give {{"type": "text", "text": …}}'
            )


def _roles(text: InputRecord, tokens: Tokens, spans: Sequence[Span]) -> list[RoleRecord]:
    """The tokens of each role in a conversation; one that stands in two is the first one's."""
    ends, last = list[int](), 0
    for token in text.tokens:
        last = max(last, token.end or 0)
        ends.append(last)

    def index(place: int) -> int:
        if not last:  # tokenizers written in Python know no spans
            return min(len(tokens.ids(text.text[:place])), len(text.tokens)) if place else 0
        return bisect_right(ends, place) if place < last else len(ends)

    return [RoleRecord(role=each.role, start=index(each.start), end=index(each.end)) for each in spans]
