"""The shells that complete: the script of each, and its place in a home directory, as Typer has them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from subprocess import CalledProcessError
from typing import Any

# Typer's own options take no shell's name; what they call is public, but not exported by name.
from typer.completion import (  # type: ignore[attr-defined]
    completion_init,
    get_completion_script,
    install,
    shell_completion,
)

from txinspect.errors import InspectError, UsageError, spelled

SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")

RUNNING = ""
"""In place of a shell's name: the shell that is running."""

_NAMES = {"prog_name": "txinspect", "complete_var": "_TXINSPECT_COMPLETE"}

completion_init()  # what the shells ask of the program from then on


def script(shell: str) -> str:
    """The script that makes a shell complete. Raises UsageError for an unknown shell."""
    return str(get_completion_script(shell=_known("show_completion", shell), **_NAMES))


def install_for(shell: str) -> str:
    """Install completion for a shell; returns what was done, as a sentence.

    Raises UsageError for an unknown shell, and InspectError if its files cannot be written.
    """
    name = _known("install_completion", shell)
    try:
        _, path = install(shell=name, **_NAMES)
    except (OSError, UnicodeError, CalledProcessError) as error:
        reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
        raise InspectError(f"completion for {name} could not be installed: {reason}") from error
    return f"completion for {name} is installed in {path}: it begins with the next terminal"


def completions(app: Any, words: Sequence[str], begun: str) -> list[tuple[str, str]]:
    """What completes the last word of a command line, behind the words before it: each with what its help says."""
    bash: Any = shell_completion.get_completion_class("bash")
    found = bash(app, {}, **_NAMES).get_completions(list(words), begun)
    return [(str(each.value), str(each.help or "")) for each in found if each.type == "plain"]


def _known(option: str, shell: str) -> str:
    """A shell that completes by its name, or the one that is running."""
    name = shell if shell != RUNNING else _running(option)
    if name not in SHELLS:
        *others, last = SHELLS
        raise UsageError(
            f"{spelled(option)} {name!r} is no shell that completes", f"give {', '.join(others)} or {last}"
        )
    return name


def _running(option: str) -> str:
    import shellingham

    try:
        return str(shellingham.detect_shell(os.getpid())[0])
    except shellingham.ShellDetectionFailure:
        raise UsageError(f"{spelled(option)} cannot tell which shell is running", "name it, such as bash") from None
