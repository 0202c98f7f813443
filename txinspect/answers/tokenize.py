"""The tokens of a text, by the tokenizer alone."""

from __future__ import annotations

from txinspect.answers.reporting import head
from txinspect.commands.tokenize import TokenizeQuery, TokenizeReport
from txinspect.loading import describing
from txinspect.queries import Notify
from txinspect.texts.opened import Opened
from txinspect.texts.reading import encode, notes


def answer(query: TokenizeQuery, notify: Notify) -> TokenizeReport:
    """The report of `tokenize`; imports no torch where the tokenizer has a fast form."""
    opened = Opened(query.model)
    source = opened.source
    raw = source.config
    text = encode(query, opened)
    return TokenizeReport(
        **head("tokenize", notes(text)),
        model=describing.unbuilt_model_record(source, raw),
        input=text,
    )
