"""A text → the tokens that a sentence encoder reads of it: after its prompt, lowercased, cut, as its settings say."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from msgspec import structs

from txinspect.commands.embed import EmbedQuery
from txinspect.errors import InspectError, SourceError, spelled
from txinspect.guards.quiet import as_source_error, quiet
from txinspect.loading.config import load_config
from txinspect.records import InputRecord, TokenRecord
from txinspect.sentence_vectors import Reading, Recipe
from txinspect.texts.opened import Opened
from txinspect.texts.reading import encode
from txinspect.texts.tokens import quoted
from txinspect.wording import counted


@dataclass(frozen=True)
class Read:
    """What a sentence encoder reads."""

    text: InputRecord
    left_out: int = 0
    """Tokens at its beginning, those of the prompt, that are not pooled."""
    notes: tuple[str, ...] = ()
    """What became of the text."""


def read(query: EmbedQuery, opened: Opened, recipe: Recipe) -> Read:
    """The tokens that a sentence encoder reads of what a query gives: prompted, lowercased, cut.

    Raises InspectError for what yields no token, for more ids than it reads, and for what cannot be combined.
    """
    given, wanted = _Settings(query, opened, recipe.reading), recipe.reading
    as_is = next((name for name in ("ids", "chat") if getattr(query, name) not in (None, False)), None)
    if as_is is not None:
        return _as_it_is(given, as_is)
    whole = wanted.prompt + query.text
    text = given.lowered(whole)
    changes = [f"{_prompt(wanted)} was put before the text"] if wanted.prompt else []
    changes += ["the text was lowercased (do_lower_case)"] if text != whole else []
    found = encode(replace(query, text=text, masks=()), opened)
    kept = given.cut(found)
    if len(kept.tokens) < len(found.tokens):
        last = ", the text's last ones," if given.tokenizer.truncation_side == "left" else ""
        count = f"{len(kept.tokens):,} of {counted(len(found.tokens), 'token')}{last}"
        changes.append(f"{count} were kept ({given.most_said})")
    if query.masks and (wanted.prompt or kept is not found):
        raise InspectError(
            f"{spelled('masks')} and {spelled('pooled', True)} cannot be combined here, where {_series(changes)}: "
            f"a mask's place would be another one; omit one of the two"
        )
    if query.masks:
        kept = encode(replace(query, text=text, masks=tuple(map(given.lowered, query.masks))), opened)
    left_out = given.prompt_length() if wanted.prompt and not recipe.with_prompt else 0
    if left_out >= len(kept.tokens):
        raise InspectError(
            f"the prompt of {opened.source.name!r} alone is {counted(left_out, 'token')} long, and include_prompt is "
            f"false: no token is left to pool; omit {spelled('pooled', True)}"
        )
    return Read(kept, left_out, (f"Before that {_series(changes)}.",) if changes else ())


def _as_it_is(given: _Settings, name: str) -> Read:
    """Ids or a conversation for a sentence encoder: neither after a prompt nor lowercased nor cut.

    Raises InspectError for more ids, or more of a conversation, than the encoder reads.
    """
    text, wanted = encode(given.query, given.opened), given.reading
    most = given.most
    if most is not None and len(text.tokens) > most:
        raise InspectError(
            f"{spelled(name)} gives {counted(len(text.tokens), 'token')}, more than {given.opened.source.name!r} reads "
            f"with {spelled('pooled', True)} ({given.most_said}): give at most {most:,}"
        )
    missing = [f"without {_prompt(wanted)}"] if wanted.prompt else []
    missing += ["not lowercased (do_lower_case)"] if wanted.lower else []
    what = {"ids": "The ids were", "chat": "The conversation was"}[name]
    return Read(text, notes=(f"{what} read as given: {', '.join(missing)}.",) if missing else ())


def _prompt(reading: Reading) -> str:
    return f"the prompt {quoted(reading.prompt)} (default_prompt_name {reading.prompt_name})"


def _series(changes: list[str]) -> str:
    *others, last = changes
    return f"{', '.join(others)}, and {last}" if others else last


@dataclass
class _Settings:
    """A model's settings, and its tokenizer as transformers has it, which is loaded where it is asked."""

    query: EmbedQuery
    opened: Opened
    reading: Reading

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of a sentence encoder, which cuts where sentence-transformers has it cut."""
        whole = self.opened.new_tokenizer()
        if self.reading.side is not None:
            whole.truncation_side = self.reading.side
        return whole

    @cached_property
    def _most(self) -> tuple[int | None, str]:
        """How many tokens a sentence encoder reads at most, None for any number, and the setting that says so."""
        if self.reading.most is not None:
            return self.reading.most, self.reading.most_by
        positions = getattr(load_config(self.opened.source, self.query.model), "max_position_embeddings", None)
        stated = {"model_max_length of the tokenizer": self.tokenizer.model_max_length}
        if isinstance(positions, int) and positions != -1:  # XLNet has -1 for any number
            stated["max_position_embeddings"] = positions
        by = min(stated, key=lambda each: stated[each])
        # A tokenizer that says nothing of it has a length of 10³⁰.
        return (int(stated[by]) if stated[by] < 10**20 else None), by

    @property
    def most(self) -> int | None:
        """How many tokens a sentence encoder reads at most; None for any number.

        Without a setting of its own it is the tokenizer's length, or the model's positions where those are fewer.
        """
        return self._most[0]

    @property
    def most_said(self) -> str:
        """How many tokens a sentence encoder reads at most, in words."""
        most, by = self._most
        return f"max_seq_length {most}{f', by {by}' if by else ''}"

    def lowered(self, text: str) -> str:
        """A sentence encoder's text in lower case where its settings ask for it, all but the special tokens in it.

        Character by character, as the tokenizers library does it: a Greek Σ at a word's end becomes no ς.
        """
        if not self.reading.lower or text == text.lower():
            return text
        added = self.tokenizer.added_tokens_decoder.values()
        kept = [re.escape(each.content) for each in added if not each.normalized and each.content]
        parts = re.split(f"({'|'.join(kept)})", text) if kept else [text]
        # Those at odd indices are the special tokens that the split is at.
        return "".join(
            part if index % 2 else "".join(each.lower() for each in part) for index, part in enumerate(parts)
        )

    def cut(self, text: InputRecord) -> InputRecord:
        """The tokens of a sentence encoder's text without those beyond the most: the tokenizer itself says which."""
        most = self.most
        if most is None or len(text.tokens) <= most:
            return text
        ids = self._ids(text.text)
        all_ids = text.input_ids[0]
        head = next((i for i, (a, b) in enumerate(zip(ids, all_ids, strict=False)) if a != b), len(ids))
        tail = len(ids) - head
        if ids != [*all_ids[:head], *all_ids[len(all_ids) - tail :]] or not ids:
            raise SourceError(
                f"the tokenizer of {self.opened.source.name!r} cannot be cut after {counted(most, 'token')}, as its "
                f"max_seq_length has it: shorten the text"
            )
        return _of([*text.tokens[:head], *text.tokens[len(all_ids) - tail :]], text)

    def prompt_length(self) -> int:
        """How many tokens a sentence encoder's prompt is: those of it alone without the special token at its end."""
        ids = self._ids(self.lowered(self.reading.prompt))
        return len(ids) - (1 if ids and ids[-1] in self.tokenizer.all_special_ids else 0)

    def _ids(self, text: str) -> list[int]:
        """What a sentence encoder's tokenizer makes of a text, cut."""
        most = self.most
        options = {"truncation": "longest_first", "max_length": most} if most is not None else {}
        what = f"the tokenizer of {self.opened.source.name!r} could not cut {quoted(text)}"
        with quiet(), as_source_error(what):
            found: list[int] = self.tokenizer(text, add_special_tokens=self.query.special, **options)["input_ids"]
        return found


def _of(tokens: list[TokenRecord], text: InputRecord) -> InputRecord:
    """Some of the tokens of a sentence encoder's text, numbered anew."""
    return structs.replace(
        text,
        input_ids=[[token.id for token in tokens]],
        attention_mask=[[1] * len(tokens)],
        tokens=[structs.replace(token, index=index) for index, token in enumerate(tokens)],
    )
