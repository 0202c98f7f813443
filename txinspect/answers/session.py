"""What a process holds while it answers: models at hand, each found, read and made once, and whom it tells how far it
is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from txinspect.model_choice import ModelChoice
from txinspect.queries import Notify, Progress
from txinspect.texts.opened import Opened
from txinspect.texts.trying import Tried

if TYPE_CHECKING:
    from collections.abc import Mapping

    from txinspect.answers.packing import Packing
    from txinspect.answers.saving import KeptTensor
    from txinspect.loading.subject import Subject
    from txinspect.loading.uses import Uses
    from txinspect.loading.weights import partial


class AtHand:
    """A model at hand: its files, its modules, its weights, each had when it is first asked for."""

    def __init__(self, session: Session, choice: ModelChoice) -> None:
        self.choice = choice
        self.opened = Opened(choice, session.tried)
        self._session = session
        self.rehearsed: dict[Any, tuple[Mapping[str, int], Uses]] = {}
        """How often modules run and which are used, by stages and lengths of texts. See preparing."""
        self._subjects: dict[tuple[bool, int], Subject] = {}
        self._loaded: tuple[Subject, Mapping[str, bool], partial.Loaded] | None = None

    def subject(self, length: int = 1, *, only_looked_at: bool = False) -> Subject:
        """A session's model without weights, for a text of that many tokens. See load_subject."""
        from txinspect.loading.subject import load_subject

        key = only_looked_at, self._length(length)
        if key not in self._subjects:
            self._subjects[key] = load_subject(self.opened, self._session.notify, length, only_looked_at=only_looked_at)
        return self._subjects[key]

    def has_subject(self, length: int) -> bool:
        """Whether a session's model without weights is there, for a text of that many tokens."""
        return (False, self._length(length)) in self._subjects

    def _length(self, length: int) -> int:
        """The length of a text where modules differ by it; of most models it changes nothing."""
        from txinspect.anatomy.families import SWAPS_MODULES

        return length if str(self.opened.source.config.get("model_type")) in SWAPS_MODULES else 1

    def loaded(self, subject: Subject, uses: Uses) -> partial.Loaded:
        """A session's model with the weights of the modules in use, and of those that were used before."""
        from txinspect.loading.weights import partial

        wanted = uses.modules
        if self._loaded is not None:
            own, had, loaded = self._loaded
            if own is subject and all(had[path] or not is_used for path, is_used in wanted.items()):
                return partial.part_of(loaded, subject, wanted)
            if own is subject:
                wanted = {path: is_used or had[path] for path, is_used in wanted.items()}
            self._loaded = None  # before others take memory
        loaded = partial.load(subject, self.choice, wanted)
        if self._session.keeps_weights:
            self._loaded = subject, wanted, loaded
        return loaded

    def take(self, most: int) -> None:
        """Take all of a session's model to hand before it is asked about: its tokenizer, its modules, and its weights
        where these take `most` bytes at most."""
        from txinspect.loading import cost, uses

        subject = self.subject()
        self.opened.tokens()
        everything = uses.of_all_modules(subject)
        _, size = cost.in_memory(subject, everything.modules)
        if size <= most and subject.missing is None:
            self.loaded(subject, everything)


class Session:
    """The models that a process has at hand. Nothing that a question does to one outlives the question."""

    def __init__(
        self, notify: Notify = lambda _: None, progress: Progress | None = None, *, keeps_weights: bool = False
    ) -> None:
        self.notify = notify
        self.progress = progress
        self.keeps_weights = keeps_weights
        """Whether weights stay in memory for the next question."""
        self.attached: dict[str, KeptTensor] | None = None
        """Where the tensors that reports are about are put, whole, by their names; None keeps none."""
        self.packing: Packing | None = None
        """What packs attention for a page; None packs nothing."""
        self.tried: Tried = {}
        self._models: dict[ModelChoice, AtHand] = {}

    def model(self, choice: ModelChoice) -> AtHand:
        """The model of a choice that the session has at hand."""
        return self._models.setdefault(choice, AtHand(self, choice))

    def opened(self, choice: ModelChoice) -> Opened:
        """The files and the tokenizer of a choice that the session has at hand."""
        return self.model(choice).opened

    @property
    def choices(self) -> list[ModelChoice]:
        """The models that a session has at hand."""
        return list(self._models)

    def let_go(self, choice: ModelChoice) -> None:
        """Have the session forget a model at hand, as where its files have changed."""
        self._models.pop(choice, None)
