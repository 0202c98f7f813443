"""What can be asked: what the queries of several commands share.

A query checks its own values, so that Python and the command line get the same sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, TypeVar, get_args

from txinspect.edits import EXAMPLE, Edit
from txinspect.errors import UsageError, spelled
from txinspect.indices import Layers
from txinspect.model_choice import ModelChoice
from txinspect.option import INPUT, OUTPUT, Option, option_of
from txinspect.value_checks import check_encodable, check_one_of, check_strings, check_types
from txinspect.wording import shown

if TYPE_CHECKING:
    from txinspect.records import Report

LESSON = "The quick brown fox jumps over the lazy dog"
"""The text that every command takes when none is given: the lesson's sentence."""

MOST_CHARACTERS = 8_000_000
"""Of a text: as JSON its tokens take 2.2 GB of memory and 18 s (measured on English, opt-mini, two cores)."""

MOST_NEW = 65_536
"""Tokens that are generated at most: each takes a pass."""

Unsound = Literal["nan", "inf"]

Notify = Callable[[str], None]
"""Told, in a few words, what is going on: loading, running."""

Progress = Callable[[str, int, int], None]
"""Told, as work goes on, what it is, and how much of how much is done: layers, tokens, rows."""

ReportType = TypeVar("ReportType", bound="Report", covariant=True)


@dataclass(frozen=True, kw_only=True)
class Query(Generic[ReportType]):
    """What can be asked; it is answered with a report of its type."""

    def __post_init__(self) -> None:
        check_types(self)


@dataclass(frozen=True, kw_only=True)
class ModelQuery(Query[ReportType]):
    """A query about a model."""

    idle: ClassVar[tuple[str, ...]] = ()
    """Fields, of the choice too, that would do nothing here, and so are not options in a shell."""

    model: ModelChoice = field(default_factory=ModelChoice)
    """A name alone is taken for the choice of that model with all else as it is by default."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.model, str):
            object.__setattr__(self, "model", ModelChoice(name=self.model))
        if not isinstance(self.model, ModelChoice):
            raise UsageError(f"model {shown(self.model)} is neither a model's name nor a ModelChoice")


@dataclass(frozen=True, kw_only=True)
class TextQuery(ModelQuery[ReportType]):
    """A query about a text."""

    instead_of_text: ClassVar[tuple[str, ...]] = ("ids", "user")
    """Fields that, where one is set, take the place of a text: a shell then reads none."""

    called: ClassVar[str] = "TEXT"
    """What the help calls the text."""

    text: str = LESSON
    special: bool = True
    """Whether the tokenizer adds its special tokens."""
    pair: Annotated[
        str | None, Option("--pair", "A second text, which the tokenizer joins to the first one.", "TEXT", INPUT)
    ] = None
    masks: Annotated[
        tuple[str, ...],
        Option(
            "--mask",
            "A word of the text to mask, or a token by its index, as any number is taken; may be repeated.",
            "WORD",
            INPUT,
        ),
    ] = ()
    ids: Annotated[
        tuple[int, ...] | None,
        Option(
            "--ids",
            "In the place of a text: token ids such as 2,301,17; - reads them from a pipe.",
            "IDS",
            INPUT,
            in_order=True,
        ),
    ] = None
    max_tokens: Annotated[
        int | None,
        Option(
            "--max-tokens",
            "Read so many tokens of the text at most, special ones counted: its beginning; below zero its end.",
            "N",
            INPUT,
        ),
    ] = None
    chat: Annotated[
        bool, Option("--chat", "Take the text for a user's message, or piped JSON for all messages.", None, INPUT)
    ] = False
    system: Annotated[str | None, Option("--system", "With --chat: the system's message.", "TEXT", INPUT)] = None
    user: Annotated[str | None, Option("--user", "With --chat: the user's message.", "TEXT", INPUT)] = None
    assistant: Annotated[
        str | None, Option("--assistant", "With --chat: what the assistant answered.", "TEXT", INPUT)
    ] = None
    src_lang: Annotated[
        str | None, Option("--src-lang", "For a multilingual translator: the language of the text.", "LANG", INPUT)
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_input()
        if len(self.text) > MOST_CHARACTERS:
            raise UsageError(
                f"the text has {len(self.text):,} characters", f"give at most {MOST_CHARACTERS:,}, such as a part of it"
            )

    def _check_input(self) -> None:
        """Raise UsageError for what a query of a text gives that cannot be read together."""
        check_strings("masks", self.masks)
        for each in fields(self):
            check_encodable(each.name, getattr(self, each.name))
        if self.ids == ():
            raise UsageError(f"{spelled('ids')} names none", "give token ids such as 2,301,17")
        below = [each for each in self.ids or () if each < 0]
        if below:
            raise UsageError(f"{spelled('ids')} {below[0]} is no token id", "give 0 or more")
        if "" in self.masks:
            raise UsageError(f"{spelled('masks')} '' is empty", "give a word of the text, or the index of a token")
        if self.max_tokens == 0:
            raise UsageError(f"{spelled('max_tokens', 0)} reads nothing", "give 1 or more, or below zero for the end")
        for name in ("masks", "pair", "chat"):
            if self.max_tokens is not None and getattr(self, name):
                raise UsageError(
                    f"{spelled('max_tokens')} and {spelled(name)} cannot be combined: what is cut is one text alone",
                    "omit one",
                    by="; ",
                )
        for name, other in (
            ("ids", "pair"),
            ("ids", "chat"),
            ("chat", "pair"),
            ("ids", "src_lang"),
            ("chat", "src_lang"),
        ):
            if getattr(self, name) and getattr(self, other):
                raise UsageError(f"{spelled(name)} and {spelled(other)} cannot be combined: each says what is read")
        if self.src_lang is not None and not self.special:
            raise UsageError(
                f"{spelled('src_lang')} and {spelled('special', False)} cannot be combined: the language is marked by "
                f"a special token"
            )
        if (self.ids is not None or self.user is not None) and self.text != LESSON:
            instead = spelled("ids" if self.ids is not None else "user")
            raise UsageError(f"a text and {instead} cannot be combined: it stands in the text's place")
        for name in ("system", "user", "assistant"):
            if getattr(self, name) is not None and not self.chat:
                raise UsageError(f"{spelled(name)} is a message", f"add {spelled('chat', True)}, or omit it")


@dataclass(frozen=True, kw_only=True)
class DecoderQuery(TextQuery[ReportType]):
    """A query about a text, and what the decoder of an encoder–decoder reads beside it."""

    decoder: Annotated[
        str | None,
        Option(
            "--decoder",
            "For an encoder–decoder: the text that the decoder reads, after its start token.",
            "TEXT",
            INPUT,
        ),
    ] = None
    tgt_lang: Annotated[
        str | None,
        Option("--tgt-lang", "For a multilingual translator: the language of the translation.", "LANG", INPUT),
    ] = None
    new: Annotated[
        int,
        Option(
            "-n/--new",
            "For an encoder–decoder without --decoder: tokens that it generates at most, the likeliest each time.",
            "N",
            INPUT,
        ),
    ] = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.new < 1:
            raise UsageError(f"{spelled('new')} {self.new} generates nothing", "give 1 or more")
        if self.new > MOST_NEW:
            raise UsageError(f"{spelled('new')} {shown(self.new)} is more than can be", f"give at most {MOST_NEW:,}")
        if self.decoder is not None and self.new != DecoderQuery.new:
            raise UsageError(
                f"{spelled('decoder')} and {spelled('new')} cannot be combined: what the decoder reads is given, and "
                f"nothing is generated"
            )


@dataclass(frozen=True, kw_only=True)
class PassQuery(DecoderQuery[ReportType]):
    """A query that runs the model."""

    save: Annotated[
        Path | None,
        Option("--save", "Write the exact tensors to FILE.safetensors or FILE.npz.", "FILE", OUTPUT),
    ] = None
    overwrite: Annotated[
        bool,
        Option("--overwrite", "Let --save replace a file that txinspect did not write.", None, OUTPUT),
    ] = False
    check: Annotated[
        bool,
        Option(
            "--check",
            "Run all layers once more to check that recording changes nothing and that sums add up; exit 3 if not.",
            None,
            OUTPUT,
        ),
    ] = False

    continues: ClassVar[bool] = False
    """Whether a model that reads one text onwards generates, too, so that `new` is of it as well."""

    @property
    def window_step(self) -> int | None:
        """Tokens by which windows of a query's text beyond the model's positions are apart; None to refuse it."""
        return None

    def too_long(self, most: int) -> str:
        """What to do about a text of more tokens than `most`."""
        return f"shorten the text, or give {spelled('max_tokens', most)} for its beginning"

    @property
    def fits(self) -> bool:
        """Whether the model has to have positions for all of the query's text."""
        return True

    def too_long_unread(self, most: int) -> str:
        """What to do about it where a model reads no text onwards, and so none in windows."""
        return self.too_long(most)

    @property
    def layers_asked(self) -> Layers:
        """The layers a query asks for, so that one the model does not have is known before anything is built."""
        return ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.save is not None and not isinstance(self.save, Path):
            given = shown(self.save)
            hint = f"give Path({given})" if isinstance(self.save, str) else None
            raise UsageError(f"save {given} is not a pathlib.Path", hint)
        if self.save is not None and self.save.suffix not in (".safetensors", ".npz"):
            raise UsageError(
                f"{spelled('save')} {str(self.save)!r} is not a name that ends in .safetensors or .npz, which decides "
                f"the format"
            )
        for name in ("save", "check"):
            if name in self.idle and getattr(self, name):
                raise UsageError(f"{spelled(name)} is about the tensors of a pass, and this reports none", "omit it")
        if self.overwrite and self.save is None:
            raise UsageError(f"{spelled('overwrite')} is about a file", f"add {spelled('save', 'FILE')}, or omit it")


def read_by(query: DecoderQuery[Any]) -> dict[str, Any]:
    """The fields of a query that say what the model reads, for another query about the same."""
    kind = DecoderQuery
    told = (each.name for each in fields(kind) if getattr(option_of(kind, each.name), "panel", None) == INPUT)
    return {name: getattr(query, name) for name in ("text", "special", *told)}


@dataclass(frozen=True, kw_only=True)
class TensorQuery(PassQuery[ReportType]):
    """A query that reports the tensors of a pass."""

    values: Annotated[
        bool,
        Option("--values", "The numbers, too: all in the JSON, a corner in a table.", None, OUTPUT),
    ] = False
    fail_on: Annotated[
        tuple[Unsound, ...],
        Option("--fail-on", "Exit 3 if a recorded tensor holds one: nan, inf or nan,inf.", "KIND", OUTPUT),
    ] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_strings("fail_on", self.fail_on)
        for kind in self.fail_on:
            check_one_of("fail_on", kind, get_args(Unsound))


@dataclass(frozen=True, kw_only=True)
class ChangedQuery(PassQuery[ReportType]):
    """A query of a pass that may be changed."""

    edits: Annotated[
        tuple[Edit | str, ...],
        Option(
            "--edit",
            "Change the pass: PLACE OP VALUE, such as 'layers.0.mlp.output = 0', '… = mean' or '… * 2'; may be "
            "repeated, and acts in that order.",
            "EDIT",
        ),
    ] = ()
    """Each as a record, or as a shell spells it, which is read into one."""

    @property
    def changes(self) -> tuple[Edit, ...]:
        """The edits as records."""
        return tuple(each for each in self.edits if isinstance(each, Edit))

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "edits", read_edits("edits", self.edits))
        for name, why in _UNCHANGED.items():
            if self.edits and getattr(self, name, None):
                raise UsageError(
                    f"{spelled('edits')} and {spelled(name)} cannot be combined: {why}", "omit one", by="; "
                )


def read_edits(name: str, given: tuple[Edit | str, ...]) -> tuple[Edit, ...]:
    """The edits of a query's field called `name` as records, each given as one or as a shell spells it.

    Raises UsageError for what is no edit.
    """
    given = (given,) if isinstance(given, (str, Edit)) else given
    wrong = next((each for each in given if not isinstance(each, (str, Edit))), None)
    if wrong is not None:
        raise UsageError(f"{spelled(name)} {shown(wrong)} is no edit", f"give one {EXAMPLE}")
    return tuple(Edit.read(each) if isinstance(each, str) else each for each in given)


@dataclass(frozen=True, kw_only=True)
class EditedQuery(ChangedQuery[ReportType], TensorQuery[ReportType]):
    """A query of a pass that may be changed, which reports its tensors."""


_UNCHANGED = {
    "check": "the check is about the model as it is",
    "stride": "an edit is of one pass, and windows are several",
    "pll": "an edit is of one pass, and each token is masked in one of its own",
    "continuations": "an edit is of one pass, and each continuation has one of its own",
    "pooled": "a sentence's vector is made by its own recipe",
    "similar": "a sentence's vector is made by its own recipe",
}
"""Options of passes that no edit reaches, and why."""
