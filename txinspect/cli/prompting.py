"""Lines that a person types in the shell: edited, remembered, completed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from txinspect.cli import shells
from txinspect.cli.asking import About
from txinspect.cli.line import OWN, bare, begun, unquoted
from txinspect.queries import LESSON
from txinspect.serving.protocol import APART

if TYPE_CHECKING:
    from prompt_toolkit.completion import Completion

    from txinspect.serving.held import Held

_OF_TOKENS = ("TOKEN", "WORD")
"""What the help calls values that are tokens of the text."""

_OF_PLACES = ("--query", "--position")
"""Options whose values are places in the text."""

Found = tuple[str, str]
"""What may stand in the place of a word, and what is said of it."""


def prompting(app: Any, about: Callable[[], About], held: Held) -> Callable[[str], str]:
    """What asks for a line behind a prompt. It raises EOFError where no more come, and KeyboardInterrupt."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import Completer
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    from txinspect.serving.held import history

    class Lines(Completer):
        """Completes a line."""

        def get_completions(self, document: Any, _event: Any) -> Iterator[Completion]:
            return completions(app, about(), held, document.text_before_cursor)

    path = history()
    remembered = InMemoryHistory() if path is None else FileHistory(str(path))
    session: PromptSession[str] = PromptSession(
        history=remembered, completer=Lines(), complete_while_typing=False, enable_history_search=True
    )
    return session.prompt


def completions(app: Any, about: About, held: Held, typed: str) -> Iterator[Completion]:
    """What completes a line: names of commands, options, their values, stages, files, and the text's tokens."""
    from prompt_toolkit.completion import Completion

    last = max((at for at, sign in bare(typed) if sign in "|>"), default=-1)
    is_elsewhere = last >= 0 or typed.startswith("!")
    try:
        words, raw = begun(typed[last + 1 :])
    except Exception:  # a quote is open in another word
        return
    option, _, value = raw.partition("=") if raw.startswith("--") else ("", "", raw)
    word = unquoted(raw)
    found: list[Found] = []
    if not is_elsewhere:
        found = _of_a_command(app, about, held, words, word)
    for each, said in found or list(_files(unquoted(value))):
        text = each if each.endswith("/") and each == shlex.quote(each) else _quoted(each)
        yield Completion(text, -len(value if "=" in raw and option else raw), display=each, display_meta=said)


def _quoted(value: str) -> str:
    return value if re.fullmatch(r"[\w@%+=:,./*-]+", value) else shlex.quote(value)


def _of_a_command(app: Any, about: About, held: Held, words: list[str], word: str) -> list[Found]:
    """What completes a word of the command line that a line becomes."""
    if not words:
        own = [(name, said) for name, said in OWN.items() if name.startswith(word)]
        return [*own, *(each for each in shells.completions(app, [], word) if each[0] not in {*OWN, *APART})]
    if words == ["model"]:
        words = ["attn", "-m"]
    elif words[0] == "_":
        return []
    named = any(each in ("-m", "--model") or each.startswith("--model=") for each in words)
    ahead = [] if named or not _has_model(app, words[0]) else ["-m", about.model]
    tokens = _tokens(app, about, held, words, word)
    return tokens or shells.completions(app, [words[0], *ahead, *words[1:]], word)


def _has_model(app: Any, name: str) -> bool:
    return name in app.commands and any("-m" in each.opts for each in app.built(name).params)


def _tokens(app: Any, about: About, held: Held, words: list[str], word: str) -> list[Found]:
    """The tokens of the text, or their places, where an option takes them; no others, where the text is on the line."""
    if words[0] not in app.commands or not words[-1].startswith("-"):
        return []
    option = next((each for each in app.built(words[0]).params if words[-1] in each.opts), None)
    if option is None:
        return []
    try:
        texts = held.tokens(about.text if about.text is not None else LESSON)
    except Exception:  # a tokenizer that is damaged: the command says so
        return []
    if set(option.opts) & {*_OF_PLACES}:
        return [(str(at), repr(each)) for at, each in enumerate(texts) if str(at).startswith(word)]
    if option.metavar in _OF_TOKENS:
        shown = [each if option.metavar == "TOKEN" else each.strip() for each in texts]
        return [(each, "") for each in dict.fromkeys(shown) if each.strip() and each.lstrip().startswith(word.lstrip())]
    return []


def _files(word: str) -> Iterator[Found]:
    """The files and folders whose path begins so."""
    from pathlib import Path

    folder, name = word.rpartition("/")[::2]
    place = Path(f"{folder}/" if "/" in word else ".").expanduser()
    try:
        inside = sorted(place.iterdir())
    except (OSError, ValueError, RuntimeError):
        return
    for each in inside:
        if each.name.startswith(name) and (name.startswith(".") or not each.name.startswith(".")):
            whole = f"{folder}/{each.name}" if "/" in word else each.name
            yield (f"{whole}/" if each.is_dir() else whole), ""
