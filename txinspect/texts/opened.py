"""A model at hand: what a question asks of its files is found, read and made once, and handed to all who ask."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from txinspect.model_choice import ModelChoice
from txinspect.sources.resolving import resolve
from txinspect.sources.source import Source
from txinspect.texts import tokenizer
from txinspect.texts.auto_tokenizer import load_tokenizer
from txinspect.texts.tokens import Text, Tokens
from txinspect.texts.trying import Tried


@dataclass
class Opened:
    """The model of a choice; each part is made when it is first asked for."""

    choice: ModelChoice
    tried: Tried = field(default_factory=dict, repr=False, compare=False)
    """The texts that tokenizers got done with, so that none is tried twice."""
    _tokens: Tokens | None = field(default=None, init=False, repr=False, compare=False)

    @cached_property
    def source(self) -> Source:
        """Where the files of a model at hand are. Raises SourceError for a name that stands for nothing."""
        return resolve(self.choice)

    def tokens(self, *texts: Text) -> Tokens:
        """The tokenizer of a model at hand, tried on these texts. See tokenizer.load."""
        if self._tokens is None:
            self._tokens = tokenizer.load(self.source, self.choice.trust_remote_code, *texts, tried=self.tried)
        else:
            self._tokens.attempt(texts)
        return self._tokens

    @cached_property
    def whole_tokenizer(self) -> Any:
        """The tokenizer of a model at hand as transformers has it, with its template and lengths."""
        return self.new_tokenizer()

    def new_tokenizer(self) -> Any:
        """Another tokenizer like that of the model at hand, for who changes it."""
        return load_tokenizer(self.source, self.source.tokenizer_folder(), self.choice.trust_remote_code)
