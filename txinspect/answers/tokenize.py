"""The tokens of a text, by the tokenizer alone."""

from __future__ import annotations

from txinspect.answers.reading import encode, notes
from txinspect.answers.reporting import head
from txinspect.commands.tokenize import TokenizeQuery, TokenizeReport
from txinspect.models import describing
from txinspect.queries import Notify
from txinspect.sources.config import read_config
from txinspect.sources.source import resolve


def answer(query: TokenizeQuery, notify: Notify) -> TokenizeReport:
    """The report of `tokenize`; imports no torch where the tokenizer has a fast form."""
    source = resolve(query.model)
    raw = read_config(source)
    text = encode(query, source)
    return TokenizeReport(
        **head("tokenize", notes(text)),
        model=describing.unbuilt_model_record(source, raw),
        input=text,
    )
