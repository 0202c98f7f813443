"""Messages → the text that a model was trained to answer, by the template that comes with its tokenizer."""

from __future__ import annotations

import json
import re
from typing import Any

from msgspec import structs

from txinspect.errors import InspectError, UsageError, spelled
from txinspect.models import tokenizer
from txinspect.models.quiet import quiet
from txinspect.queries import TextQuery, shown
from txinspect.records import InputRecord, RoleRecord
from txinspect.sources.source import Source

Message = dict[str, str]


def conversation(query: TextQuery[Any], source: Source) -> InputRecord:
    """The tokens of a conversation, and whose they are.

    The template is rendered, and tokenized without special tokens, which it holds itself. Raises InspectError for a
    tokenizer without a template, and for messages that the template refuses.
    """
    trusted = query.model.trust_remote_code
    messages = messages_of(query)
    whole: Any = tokenizer.load_tokenizer(source, source.tokenizer_folder(), trusted)
    if not whole.chat_template:
        raise InspectError(
            f"the tokenizer of {source.name!r} has no chat template: it was not made for conversations; omit "
            f"{spelled('chat', True)}"
        )
    rendered = _rendered(whole, messages, source, answering=messages[-1]["role"] != "assistant")
    tokens = tokenizer.load(source, trusted, rendered)
    text = tokenizer.as_input(rendered, tokens.encode(rendered, False))
    starts = [_start(whole, messages, index, rendered, source) for index in range(len(messages))]
    return structs.replace(text, roles=_roles(text, messages, starts))


def messages_of(query: TextQuery[Any]) -> list[Message]:
    """The messages of a query: its own, or those in a text of JSON. Raises UsageError for JSON of another form."""
    if re.match(r'\s*(\[|\{\s*"(role|content)"\s*:)', query.text):
        try:
            found = json.loads(query.text)
        except ValueError as error:
            raise UsageError(f'the messages are not JSON ({error}): give [{{"role": …, "content": …}}, …]') from None
        if not isinstance(found, list):
            raise UsageError(f"the messages are {shown(found)}: give a list of objects with role and content")
        for each in found:
            if not isinstance(each, dict) or not all(isinstance(each.get(name), str) for name in ("role", "content")):
                raise UsageError(f"the message {shown(each)} is not one: give a role and a content, both texts")
        if not found:
            raise UsageError("the messages are an empty list: give at least one")
        return [{"role": each["role"], "content": each["content"]} for each in found]
    given = (("system", query.system), ("user", query.user or query.text), ("assistant", query.assistant))
    return [{"role": role, "content": content} for role, content in given if content is not None]


def _rendered(whole: Any, messages: list[Message], source: Source, *, answering: bool) -> str:
    try:
        with quiet():
            return str(whole.apply_chat_template(messages, tokenize=False, add_generation_prompt=answering))
    except Exception as error:
        raise InspectError(
            f"the chat template of {source.name!r} refuses these messages ({type(error).__name__}: {error})"
        ) from error


def _start(whole: Any, messages: list[Message], index: int, rendered: str, source: Source) -> int:
    """Where a message begins in the whole: behind what the messages before it come to, where that is how it begins."""
    try:
        before = _rendered(whole, messages[:index], source, answering=False) if index else ""
    except InspectError:  # some templates refuse a conversation that ends there
        before = "\0"
    if rendered.startswith(before):
        return len(before)
    return max(rendered.find(messages[index]["content"]), 0)


def _roles(text: InputRecord, messages: list[Message], starts: list[int]) -> list[RoleRecord]:
    """The tokens of each message: from its start to the next one's; the prompt of the answer is the assistant's."""
    firsts = [
        next((token.index for token in text.tokens if token.end is not None and token.end > start), len(text.tokens))
        for start in starts
    ]
    ends = [*firsts[1:], len(text.tokens)]
    return [
        RoleRecord(role=message["role"], start=first, end=end)
        for message, first, end in zip(messages, firsts, ends, strict=True)
    ]
