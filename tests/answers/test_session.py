"""A process that answers many questions on one model: each fact is asked once, and no question is felt by the next."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs, to_builtins

from tests.making.models import save_tiny
from txinspect import (
    AttnQuery,
    DiffQuery,
    EmbedQuery,
    HeadsQuery,
    LensQuery,
    LogitsQuery,
    ModelChoice,
    RunQuery,
    StagesQuery,
    TreeQuery,
    answers,
    inspect,
    inspecting,
)
from txinspect.answers.session import Session
from txinspect.loading import skeleton
from txinspect.loading.weights import fit, partial
from txinspect.records import Report

QUESTIONS: dict[str, Callable[[ModelChoice], Any]] = {
    "embed": lambda model: EmbedQuery(model=model, text="a b c d"),
    "skipping a norm": lambda model: AttnQuery(model=model, text="a b c d", layer=0, skip_norm=True),
    "attn": lambda model: AttnQuery(model=model, text="a b c d", layer=0),
    "logits": lambda model: LogitsQuery(model=model, text="a b c d"),
    "lens": lambda model: LensQuery(model=model, text="a b c d"),
    "heads": lambda model: HeadsQuery(model=model, text="a b c d a b c d"),
    "another backend": lambda model: DiffQuery(model=model, text="a b c d", against_attn="eager"),
    "another text": lambda model: DiffQuery(model=model, text="a b c d", against_text="d c b a"),
    "stages": lambda model: StagesQuery(model=model),
    "run": lambda model: RunQuery(model=model, text="a b c d e", stages=("logits",), check=True),
    "tree": lambda model: TreeQuery(model=model),
    "embed again": lambda model: EmbedQuery(model=model, text="a b c d"),
    "logits again": lambda model: LogitsQuery(model=model, text="a b c d"),
}


def answered(query: Any, session: Session) -> Report:
    report: Report = answers.module_of(query).answer(query, session)
    return report


def numbers(report: Report) -> Any:
    """All of a report but what loading the weights cost, which a model at hand does not cost again."""
    loading = {"loading": None} if hasattr(report, "loading") else {}
    return to_builtins(structs.replace(report, **loading))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often skeletons are built and weights loaded."""
    made = Counter[str]()
    for owner, name in ((skeleton, "build"), (partial, "load")):

        def count(*given: Any, original: Any = getattr(owner, name), name: str = name, **options: Any) -> Any:
            made[name] += 1
            return original(*given, **options)

        monkeypatch.setattr(owner, name, count)
    return made


@pytest.mark.parametrize("model", ["opt-mini", "transformer-mini", "mixtral"])
def test_every_question_is_answered_as_if_it_were_the_first(model: str, tmp_path: Path, counted: Counter[str]) -> None:
    name = str(save_tiny(model, tmp_path / model)) if model == "mixtral" else model
    choice, session = ModelChoice(name=name), Session(keeps_weights=True)
    asked = {
        key: make(choice)
        for key, make in QUESTIONS.items()
        if model != "transformer-mini" or key not in ("skipping a norm", "another text")
    }
    together = {key: numbers(answered(query, session)) for key, query in asked.items()}
    assert counted["build"] <= 2, "one to run, one that is only looked at"
    loads = counted["load"]
    assert loads < len(asked) - 2
    for key, query in asked.items():
        assert numbers(inspect(query)) == together[key], key
    again = answered(asked["logits"], session)
    assert numbers(again) == together["logits"]


def test_weights_are_kept_where_that_is_asked_and_until_it_is_let_go(counted: Counter[str]) -> None:
    choice = ModelChoice(name="opt-mini")
    query = LogitsQuery(model=choice, text="hi")
    for session, wanted in ((Session(), 2), (Session(keeps_weights=True), 1)):
        counted.clear()
        answered(query, session)
        answered(query, session)
        assert counted["load"] == wanted
        assert counted["build"] == 1
    session.let_go(choice)
    answered(query, session)
    assert counted["load"] == 2
    assert counted["build"] == 2


def test_modules_that_were_not_used_before_are_loaded_beside_the_others(counted: Counter[str]) -> None:
    session = Session(keeps_weights=True)
    choice = ModelChoice(name="opt-mini")
    first = EmbedQuery(model=choice, text="hi")
    answered(first, session)
    answered(LogitsQuery(model=choice, text="hi"), session)
    assert counted["load"] == 2
    assert numbers(answered(first, session)) == numbers(inspect(first))
    assert counted["load"] == 3, "the last of them is of a session of its own"


def test_a_process_holds_several_models(tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(save_tiny("llama", tmp_path / "llama"), folder)
    session = Session(keeps_weights=True)
    names = ("opt-mini", str(folder), "opt-mini", str(folder))
    reports = [answered(LogitsQuery(model=ModelChoice(name=name), text="hi"), session) for name in names]
    assert numbers(reports[0]) == numbers(reports[2])
    assert numbers(reports[1]) == numbers(reports[3])
    assert numbers(reports[0]) != numbers(reports[1])


def test_a_pass_that_skips_a_norm_is_not_taken_for_one_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a pass uses is remembered by length and stages; a changed one may use other modules."""
    import txinspect
    from txinspect.forward import rehearsal

    rehearsed: list[int] = []
    rehearse = rehearsal.rehearse

    def counted(*given: Any) -> Any:
        rehearsed.append(len(given))
        return rehearse(*given)

    monkeypatch.setattr(rehearsal, "rehearse", counted)
    both_ways = txinspect.load("opt-mini")
    for skips, times in ((True, 1), (False, 2), (True, 3), (False, 3)):
        both_ways.attn("the fox", layer=0, skip_norm=skips)
        assert len(rehearsed) == times
    for first, second in ((True, False), (False, True)):
        held = txinspect.load("opt-mini")
        held.attn("the fox", layer=0, skip_norm=first)
        found = held.attn("the fox", layer=0, skip_norm=second).report
        alone = txinspect.load("opt-mini").attn("the fox", layer=0, skip_norm=second).report
        assert found.tensors == alone.tensors
        assert found.heads == alone.heads


def test_texts_of_one_length_are_rehearsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import txinspect
    from txinspect.answers import preparing
    from txinspect.forward import rehearsal

    rehearsed: list[int] = []
    rehearse = rehearsal.rehearse

    def counted(subject: Any, inputs: Any, plan: Any) -> Any:
        rehearsed.append(inputs["input_ids"].shape[1])
        return rehearse(subject, inputs, plan)

    monkeypatch.setattr(rehearsal, "rehearse", counted)
    held = txinspect.load("opt-mini")
    for text in ("the fox", "the dog", "the fox", "a fox and a dog"):
        held.logits(text)
    held.lens("the fox")
    assert len(rehearsed) == len(set(rehearsed)) + 1 == 3
    monkeypatch.setattr(preparing, "MOST_REHEARSED", 2)
    for text in ("a b c", "a b c d", "a b c d e"):
        held.logits(text)
    assert len(held._session.model(held.choice).rehearsed) <= 2


def test_a_session_that_is_held_keeps_weights_while_many_texts_are_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a child of the process that stays, whose session keeps none for one question."""
    loads: list[Any] = []
    load = partial.load

    def counted(*given: Any) -> Any:
        loads.append(given)
        return load(*given)

    monkeypatch.setattr(partial, "load", counted)
    held = Session()
    with inspecting.holding(held):
        with inspecting.staying():
            inspect(LogitsQuery(text="the fox"))
            inspect(LogitsQuery(text="the dog"))
        assert len(loads) == 1
        assert held.keeps_weights is False


def test_where_tensors_fit_is_found_once_for_a_model_and_anew_for_another() -> None:
    subject = Session().model(ModelChoice()).subject()
    names = ["model.decoder.embed_tokens.weight"]
    first = fit.destinations(subject, names)
    assert first[names[0]].module == "model.decoder.embed_tokens"
    assert fit.destinations(subject, names) is first
    assert replace(subject).destinations == {}
