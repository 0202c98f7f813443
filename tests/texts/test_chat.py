"""Conversations: every key of a message reaches the template, and each token is of who said it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer
from typer.testing import Result

from tests.making.kinds import encoder_in
from tests.making.models import save_tiny
from txinspect import InspectError, ModelChoice, TokenizeQuery, inspect
from txinspect.texts.speakers import speakers

Run = Callable[..., Result]

CHATML = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nBe of use.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As Qwen's: a system message of its own where there is none."""

BARE = (
    "{% if messages[0].role != 'system' %}<|system|>Be of use.{% endif %}"
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""Nothing tells where a message ends."""

IN_BRACKETS = (
    "{{ '<s>' }}{% for m in messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }} </s>{% endif %}{% endfor %}"
)
"""As Llama 2's and Mistral's: turns alternate, the user's has brackets."""

THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and not loop.last %}"
    "{{ m.content.split('</think>')[-1].lstrip() }}{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
"""As Qwen3's: what was thought is left out of earlier turns."""

LOOKING = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.content.startswith('<tool>') %}{{ m.content[6:] }}"
    "{% else %}{{ m.content }}{% endif %}<end>{% endfor %}"
)
"""It looks at what is said, so that nothing can be marked in it."""


CHATML_AS_IS = CHATML.replace(" | trim", "")

WITH_CALLS = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content or '' }}{% for c in m.tool_calls or [] %}<call>"
    "{{ c.function.arguments | tojson }}</call>{% endfor %}<end>{% endfor %}"
)

CALLING = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"city": "Paris"}}}],
}

SUNNY = {"role": "tool", "content": "sunny"}

SYSTEM_LAST = (
    "{% set system = messages[0].content %}{% for m in messages[1:] %}{% if m.role == 'user' %}["
    "{% if loop.last %}{{ system }}|{% endif %}{{ m.content }}]{% else %}{{ m.content }}.{% endif %}{% endfor %}"
)
"""As Mistral's: the system's message stands before the last of the user's."""


def turns(*contents: str, first: str = "user") -> list[dict[str, Any]]:
    roles = ["user", "assistant"] if first == "user" else [first, "user", "assistant"]
    names = [*roles, *["user", "assistant"] * len(contents)]
    return [{"role": role, "content": each} for role, each in zip(names, contents, strict=False)]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("llama", tmp_path_factory.mktemp("chat") / "llama")


def with_template(llama: Path, template: str) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(llama)
    return tokenizer


def told(llama: Path, messages: Any, **others: Any) -> list[tuple[str, str]]:
    """Who says what, by the tokens."""
    text = messages if isinstance(messages, str) else json.dumps(messages)
    found = inspect(TokenizeQuery(model=ModelChoice(name=str(llama)), chat=True, text=text, **others)).input
    assert found.roles is not None
    assert found.roles[0].start == 0
    assert found.roles[-1].end == len(found.tokens)
    assert all(one.end == other.start for one, other in zip(found.roles, found.roles[1:], strict=False))
    return [(each.role, "".join(t.text or "" for t in found.tokens[each.start : each.end])) for each in found.roles]


@pytest.mark.parametrize(
    ("template", "messages", "wanted"),
    [
        (
            *(CHATML, turns(" hi \n")),
            [
                ("template", "<|im_start|>system\nBe of use.<|im_end|>\n"),
                ("user", "<|im_start|>user\nhi<|im_end|>\n"),
                ("template", "<|im_start|>assistant\n"),
            ],
        ),
        (
            *(CHATML, turns("be kind", "hi", "im_start", "user", first="system")),
            [
                ("system", "<|im_start|>system\nbe kind<|im_end|>\n"),
                ("user", "<|im_start|>user\nhi<|im_end|>\n"),
                ("assistant", "<|im_start|>assistant\nim_start<|im_end|>\n"),
                ("user", "<|im_start|>user\nuser<|im_end|>\n"),
                ("template", "<|im_start|>assistant\n"),
            ],
        ),
        (
            *(BARE, turns("hi", "so", "hi")),
            [
                ("template", "<|system|>Be of use."),
                ("user", "<|user|>hi"),
                ("assistant", "<|assistant|>so"),
                ("user", "<|user|>hi"),
                ("template", "<|assistant|>"),
            ],
        ),
        (
            BARE,
            turns("hi"),
            [("template", "<|system|>Be of use."), ("user", "<|user|>hi"), ("template", "<|assistant|>")],
        ),
        (
            *(IN_BRACKETS, turns("hi", "so", "hi", "so")),
            [
                ("template", "<s>"),
                ("user", "[INST] hi [/INST]"),
                ("assistant", " so </s>"),
                ("user", "[INST] hi [/INST]"),
                ("assistant", " so </s>"),
            ],
        ),
        (
            *(THINKING, turns("hello", "<think>\nthe world\n</think>\n\nworld", "hello")),
            [
                ("user", "<|im_start|>user\nhello<|im_end|>\n"),
                ("assistant", "<|im_start|>assistant\nworld<|im_end|>\n"),
                ("user", "<|im_start|>user\nhello<|im_end|>\n"),
                ("template", "<|im_start|>assistant\n<think>\n"),
            ],
        ),
        (
            *(CHATML_AS_IS, turns("What is 2+2?\n", "4\n", "Why?")),
            [
                ("template", "<|im_start|>system\nBe of use.<|im_end|>\n"),
                ("user", "<|im_start|>user\nWhat is 2+2?\n<|im_end|>\n"),
                ("assistant", "<|im_start|>assistant\n4\n<|im_end|>\n"),
                ("user", "<|im_start|>user\nWhy?<|im_end|>\n"),
                ("template", "<|im_start|>assistant\n"),
            ],
        ),
        (
            *(CHATML_AS_IS, turns("hi", "", "z")),
            [
                ("template", "<|im_start|>system\nBe of use.<|im_end|>\n"),
                ("user", "<|im_start|>user\nhi<|im_end|>\n"),
                ("assistant", "<|im_start|>assistant\n<|im_end|>\n"),
                ("user", "<|im_start|>user\nz<|im_end|>\n"),
                ("template", "<|im_start|>assistant\n"),
            ],
        ),
        (
            *(
                WITH_CALLS,
                [*turns("Weather?"), CALLING, {"role": "tool", "content": "sunny"}, *turns("", "It is.")[1:]],
            ),
            [
                ("user", "<user>Weather?<end>"),
                ("assistant", '<assistant><call>{"city": "Paris"}</call><end>'),
                ("tool", "<tool>sunny<end>"),
                ("assistant", "<assistant>It is.<end>"),
            ],
        ),
        (
            *(SYSTEM_LAST, turns("be kind", "hello", "hi", "bye", first="system")),
            [("user", "[hello]"), ("assistant", "hi."), ("system", "[be kind"), ("user", "|bye]")],
        ),
        (
            *(LOOKING, turns("user", "<tool>so", "hi")),
            [("user", "<|user|>user<end>"), ("assistant", "<|assistant|>so<end>"), ("user", "<|user|>hi<end>")],
        ),
    ],
)
def test_whose_tokens_they_are(
    template: str, messages: list[dict[str, Any]], wanted: list[tuple[str, str]], llama: Path
) -> None:
    with_template(llama, template)
    assert told(llama, messages) == wanted


ALL = (
    "{% if tools %}tools {{ tools | tojson }}{% endif %}{% if polite %}please{% endif %}{% for m in messages %}"
    "[{{ m.role }}{% if m.name %} {{ m.name }}{% endif %}]{% if m.content is string %}{{ m.content }}"
    "{% elif m.content %}{% for part in m.content %}{{ part.text }}{% endfor %}{% endif %}"
    "{% for call in m.tool_calls or [] %}{{ call.function | tojson }}{% endfor %}{% endfor %}"
)

CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": "two"}}}


@pytest.mark.parametrize(
    ("messages", "beside"),
    [
        ([{"role": "user", "content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]}], {}),
        ([{"role": "user", "content": "hi"}, {"role": "assistant", "content": None, "tool_calls": [CALL]}], {}),
        ([{"role": "tool", "name": "add", "content": "3", "tool_call_id": "x"}], {}),
        ([{"role": "user", "content": "hi"}], {"tools": [{"type": "function", "function": {"name": "add"}}]}),
        ([{"role": "user", "content": "hi"}], {"chat_template_kwargs": {"polite": True}}),
    ],
)
def test_every_key_reaches_the_template(messages: list[Any], beside: dict[str, Any], llama: Path, run_cli: Run) -> None:
    tokenizer = with_template(llama, ALL)
    options = beside.get("chat_template_kwargs") or beside
    wanted = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **options)
    piped = {"messages": messages, **beside} if beside else messages
    result = run_cli("tokenize", "-", "--chat", "-m", llama, "--json", stdin=json.dumps(piped))
    assert json.loads(result.stdout)["input"]["text"] == wanted, result.stderr


def test_what_a_tool_call_says_is_its_message_s(llama: Path) -> None:
    with_template(llama, ALL)
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": None, "tool_calls": [CALL]}]
    assert told(llama, messages) == [
        ("user", "[user]hi"),
        ("assistant", '[assistant]{"name": "add", "arguments": {"a": 1, "b": "two"}}'),
    ]


@pytest.mark.parametrize("text", ["[1, 2, 3] what is the sum?", "[INST] hi", "{a} b", '{"a": 1}', "3", '"quoted"'])
def test_a_text_in_brackets_is_a_text(text: str, llama: Path, run_cli: Run) -> None:
    tokenizer = with_template(llama, CHATML)
    wanted = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
    )
    result = run_cli("tokenize", text, "--chat", "-m", llama, "--json")
    assert json.loads(result.stdout)["input"]["text"] == wanted, result.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[{"role": "user"}]', "is not one: give a role, and a content"),
        ('[{"content": "hi"}]', "is not one: give a role, and a content"),
        ('[{"role": "user", "content": 3}]', "is not one: give a role, and a content"),
        ('[{"role": "user", "content": [{"type": "image"}]}]', "which is no text"),
        ('[{"role": "user", "content": "a"}', "the messages are not JSON"),
        ("[]", "the messages are an empty list"),
        ('{"messages": []}', "the messages are an empty list"),
        ('{"messages": {}}', "give a list of objects with role and content"),
        ('{"messages": [{"role": "user", "content": "a"}], "model": "m"}', "no template reads 'model' beside"),
        ('{"messages": [{"role": "user", "content": "a"}], "tools": 3}', "tools 3 beside the messages is no list"),
        ('[{"role": "user", "content": "\\ud800"}]', "holds half a surrogate pair"),
        ("[" * 100_000, "the messages are nested too deeply"),
        (
            '{"messages": [{"role": "user", "content": "a"}], "chat_template_kwargs": 3}',
            "chat_template_kwargs 3 is no object",
        ),
    ],
)
def test_what_are_no_messages(text: str, says: str, llama: Path, run_cli: Run) -> None:
    with_template(llama, CHATML)
    result = run_cli("tokenize", "-", "--chat", "-m", llama, stdin=text)
    assert (result.exit_code, result.stdout) == (2, ""), result.stderr
    assert says in result.stderr


def test_renderings_do_not_grow_with_the_messages() -> None:
    count = 0

    def render(messages: list[dict[str, Any]], answering: bool) -> str:
        nonlocal count
        count += 1
        return "".join(f"<{each['role']}>{each['content']}" for each in messages) + "<assistant>" * answering

    few, many = turns(*"abcd"), turns(*["a", "b"] * 1000)
    speakers(render, few, render(few, False), answering=False)
    once, count = count, 0
    found = speakers(render, many, render(many, False), answering=False).spans
    assert count == once
    assert len(found) == 2000
    assert [each.end - each.start for each in found[:2]] == [7, 12]


@pytest.mark.parametrize(("word", "masked"), [("a", []), ("bad", ["bad"]), ("user", [])])
def test_a_word_is_masked_in_what_messages_say(word: str, masked: list[str], tmp_path: Path) -> None:
    folder = encoder_in(tmp_path / "encoder")  # its template puts "a" before a user's message
    query = TokenizeQuery(model=ModelChoice(name=str(folder)), chat=True, text="bad cab", masks=(word,))
    if not masked:
        with pytest.raises(InspectError, match="is no word of the text"):
            inspect(query)
        return
    plain = inspect(TokenizeQuery(model=query.model, chat=True, text="bad cab")).input.tokens
    found = inspect(query).input.tokens
    assert [each.token for each, other in zip(plain, found, strict=True) if each.id != other.id] == masked


def test_other_messages_beside_json_are_refused(llama: Path, run_cli: Run) -> None:
    with_template(llama, CHATML)
    piped = '[{"role": "user", "content": "x"}]'
    result = run_cli("tokenize", "-", "--chat", "--system", "S", "-m", llama, stdin=piped)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "messages in JSON and --system cannot be combined" in result.stderr


def test_an_empty_message_is_one(llama: Path) -> None:
    with_template(llama, BARE)
    assert told(llama, "The quick brown fox jumps over the lazy dog", user="")[1] == ("user", "<|user|>")


def test_a_template_that_fails_is_a_sentence(llama: Path) -> None:
    with_template(llama, IN_BRACKETS)
    with pytest.raises(InspectError, match=r"refuses these messages .*turns must alternate"):
        told(llama, turns("a", "b", first="system"))


def test_the_rendered_text_is_drawn_as_text(llama: Path, run_cli: Run) -> None:
    with_template(llama, CHATML)
    shown = [line.rstrip() for line in run_cli("tokenize", "[x] hi", "--chat", "-m", llama).stdout.splitlines()]
    assert shown[2:7] == [
        "template  <|im_start|>system",
        "          Be of use.<|im_end|>",
        "user      <|im_start|>user",
        "          [x] hi<|im_end|>",
        "template  <|im_start|>assistant",
    ]
    above = run_cli("embed", "[x] hi", "--chat", "-m", llama).stdout
    assert "user      <|im_start|>user↵[x] hi<|im_end|>↵" in above
