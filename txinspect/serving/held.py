"""A model that stays in this process, for one question after another: no question is felt by the next."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from txinspect import inspecting
from txinspect.answers.session import Session
from txinspect.guards.cache import writable_cache
from txinspect.model_choice import ModelChoice
from txinspect.queries import Notify, Progress
from txinspect.serving.kept import Stamps, stamps

MOST_BYTES = 8 * 10**9
"""Of weights that are loaded before anything is asked; of a larger model each question loads what it needs, and that
stays."""

MOST_CHOICES = 2
"""Ways to load a model, such as as it is and in 8 bits, that stay beside each other."""


class Held:
    """A model that is held for the questions about it."""

    def __init__(self) -> None:
        import torch

        gc.enable()  # which a process for one command line does without
        self.name = ""
        self._session = Session(keeps_weights=True)
        self._stamps: dict[ModelChoice, Stamps] = {}
        self._random = torch.get_rng_state()

    def take(self, choice: ModelChoice, notify: Notify, progress: Progress | None) -> None:
        """Hold another model in place of the one that was: its tokenizer, its modules, and its weights where these
        are not too large. Raises InspectError, and holds the former, where that cannot be."""
        session = Session(notify, progress, keeps_weights=True)
        since = time.time_ns()
        with self._as_it_was():
            session.model(choice).take(MOST_BYTES)
        self._session, self._stamps, self.name = session, {}, choice.name
        self._keep(since)

    @contextmanager
    def asked(self) -> Iterator[None]:
        """While open, a question is answered with what is held, read again where its files have changed."""
        for choice, before in list(self._stamps.items()):
            if self._seen(choice) != before:
                self._let_go(choice)
        since = time.time_ns()
        try:
            with inspecting.holding(self._session), self._as_it_was():
                yield
        finally:
            session = self._session
            session.notify, session.progress, session.packing, session.attached = lambda _: None, None, None, None
            self._keep(since)

    def interrupted(self) -> None:
        """Hold nothing that an interrupt may have left half done; the next question reads it again."""
        self._session, self._stamps = Session(keeps_weights=True), {}

    def tokens(self, text: str) -> list[str]:
        """The texts of a text's tokens, special ones too, by the tokenizer that is held; none where there is none."""
        for choice in self._session.choices[:1]:
            found = self._session.opened(choice).tokens(text).encode(text, True)
            return [each.text if each.text is not None else each.token or "" for each in found]
        return []

    def _keep(self, since: int) -> None:
        """Keep the ways to load the model that are held, and let go of all else: another model, files that are not on
        this machine, and files that changed since then, while they were read."""
        own = [each for each in self._session.choices if each.name == self.name]
        for choice in self._session.choices:
            try:
                seen = self._seen(choice)
            except Exception:  # a name that stands for nothing, of which the question told
                seen = {}
            if choice not in {*own[:1], *own[1 - MOST_CHOICES :]} or not seen or _newest(seen) >= since:
                self._let_go(choice)
            else:
                self._stamps.setdefault(choice, seen)

    def _let_go(self, choice: ModelChoice) -> None:
        self._session.let_go(choice)
        self._stamps.pop(choice, None)

    def _seen(self, choice: ModelChoice) -> Stamps:
        """The files of a model as they are now; none where they are elsewhere. One of its name may come up beside."""
        source = self._session.opened(choice).source
        if source.path is None:
            return {}
        return stamps(dict.fromkeys([*(str(each.resolve()) for each in source.places_here), choice.name]))

    @contextmanager
    def _as_it_was(self) -> Iterator[None]:
        """While open, torch computes as in a new process; then it is as it was, whatever a question did to it."""
        import torch

        before: Any = torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()
        others = torch.get_rng_state()
        torch.set_rng_state(self._random)
        try:
            yield
        finally:
            torch.set_rng_state(others)
            torch.set_default_dtype(before[0])
            if torch.get_num_threads() != before[1]:
                torch.set_num_threads(before[1])
            torch.set_grad_enabled(before[2])


def _newest(seen: Stamps) -> int:
    return max(changed for _, changed, _ in seen.values())


def history() -> Path | None:
    """The file of the lines that were typed, which its user alone can read; None where there can be none."""
    folder = writable_cache("shell")
    if folder is None:
        return None
    path = folder / "history"
    try:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        path.chmod(0o600)
    except OSError:
        return None
    return path
