"""The tokens of a text, by the tokenizer alone."""

from __future__ import annotations

from txinspect.answers.reporting import head
from txinspect.answers.session import Session
from txinspect.commands.tokenize import TokenizeQuery, TokenizeReport
from txinspect.loading import describing
from txinspect.texts.reading import encode, notes


def answer(query: TokenizeQuery, session: Session) -> TokenizeReport:
    """The report of `tokenize`; imports no torch where the tokenizer has a fast form."""
    opened = session.opened(query.model)
    source = opened.source
    raw = source.config
    text = encode(query, opened)
    return TokenizeReport(
        **head("tokenize", notes(text)),
        model=describing.unbuilt_model_record(source, raw),
        input=text,
    )
