"""A query checks its own values: a wrong type is one sentence that names the field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import txinspect
from txinspect import commands
from txinspect.commands.attn import AttnQuery
from txinspect.commands.embed import EmbedQuery
from txinspect.commands.heads import HeadsQuery
from txinspect.commands.lens import LensQuery
from txinspect.commands.logits import LogitsQuery
from txinspect.commands.params import ParamsQuery
from txinspect.commands.plan import PlanQuery
from txinspect.commands.run import RunQuery
from txinspect.commands.tree import TreeQuery
from txinspect.errors import UsageError
from txinspect.inspecting import inspect
from txinspect.model_choice import ModelChoice
from txinspect.queries import ModelQuery, PassQuery, TensorQuery, TextQuery

QUERIES: list[Any] = [commands.named(name).query for name in commands.NAMES]
WELL: dict[Any, dict[str, Any]] = {RunQuery: {"stages": ("logits",)}, PlanQuery: {"of": EmbedQuery()}}
"""What a query cannot be made without."""

ODD = (5, None, "no", 1.5, True, b"x", [1], (1,), (True,), ("x",), {"a": 1}, object, Path("x"), np.zeros((30, 30)))


def sentence(make: Any, **values: Any) -> str:
    with pytest.raises(UsageError) as raised:
        make(**values)
    said = str(raised.value)
    assert "\n" not in said
    assert len(said) < 250
    return said


def fields(kind: Any) -> list[str]:
    """The fields of a query of its kind that take no value of any type."""
    common = ["model"] * issubclass(kind, ModelQuery) + ["text", "special"] * issubclass(kind, TextQuery)
    passes = ["save", "overwrite", "check"] * issubclass(kind, PassQuery) + ["values", "fail_on"] * issubclass(
        kind, TensorQuery
    )
    own = {
        AttnQuery: ["layer", "heads", "queries", "skip_norm", "map_size"],
        RunQuery: ["stages"],
        PlanQuery: ["of"],
        LogitsQuery: ["top_k", "position", "targets", "continuations", "stride"],
        LensQuery: ["layers", "position", "top_k", "targets", "at"],
        HeadsQuery: ["layers", "random", "length", "repeats", "seed", "weighted"],
        ParamsQuery: ["params", "sort", "spectral", "diff", "base", "fail_on"],
    }
    return [*common, *passes, *own.get(kind, [])]


RIGHT: dict[str, set[str]] = {
    **{key: {"'no'"} for key in ("text", "name")},
    **{key: {"'no'", "None"} for key in ("pair", "system", "user", "assistant", "src_lang", "tgt_lang", "decoder")},
    "masks": {"('x',)", "()"},
    "ids": {"(1,)", "None"},
    **{key: {"True"} for key in ("chat", "encoder", "cross", "pooled", "pll")},
    "new": {"5"},
    "revision": {"'no'", "None"},
    **{
        key: {"True"}
        for key in (
            "special",
            "values",
            "overwrite",
            "check",
            "skip_norm",
            "spectral",
            "random",
            "offline",
            "trust_remote_code",
        )
    },
    "double_quant": {"True"},
    "layer": {"5", "(1,)", "None"},
    "map_size": {"5"},
    **{key: {"5"} for key in ("top_k", "length", "repeats", "seed")},
    **{key: {"5", "(1,)", "None"} for key in ("position", "layers")},
    "stride": {"5", "None"},
    "weighted": {"None"},
    **{key: {"('x',)", "()"} for key in ("targets", "continuations")},
    "fail_on": {"()"},
    "int8_threshold": {"5", "1.5", "None"},
    **{key: {"('x',)"} for key in ("stages", "skip_modules", "params")},
    **{key: {"(1,)", "None"} for key in ("heads", "queries")},
    **{key: {"None"} for key in ("save", "sort", "task", "quantization", "four_bit_type", "device_map")},
    "diff": {"'no'", "None"},
    "base": {"None"},
    "model": {"'no'"},
}
"""Which of ODD are right for a field, as Python writes them: 1 == True."""


def wrong(name: str) -> list[Any]:
    right = RIGHT.get(name, set())
    return [value for value in ODD if repr(value) not in right and not (name == "save" and isinstance(value, Path))]


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in QUERIES for name in fields(kind)], ids=lambda each: str(each)
)
def test_every_field_of_every_query_refuses_other_types(kind: Any, name: str) -> None:
    for value in wrong(name):
        assert sentence(kind, **{**WELL.get(kind, {}), name: value}).startswith(f"{name} "), value


@pytest.mark.parametrize("name", ModelChoice.__dataclass_fields__)
def test_every_field_of_a_choice_refuses_other_types(name: str) -> None:
    for value in wrong(name):
        assert sentence(ModelChoice, **{name: value}).startswith(f"{name} "), value


@pytest.mark.parametrize(
    ("make", "values", "says"),
    [
        (EmbedQuery, {"model": 5}, "model 5 is neither a model's name nor a ModelChoice"),
        (EmbedQuery, {"text": 5}, "text 5 is not a string"),
        (EmbedQuery, {"text": None}, "text None is not a string"),
        (EmbedQuery, {"special": "no"}, "special 'no' is not True or False"),
        (EmbedQuery, {"save": "x.npz"}, "save 'x.npz' is not a pathlib.Path: give Path('x.npz')"),
        (AttnQuery, {"layer": "0"}, "layer '0' is not a whole number, a tuple of them such as (0, 2), or None"),
        (
            AttnQuery,
            {"layer": True},
            "layer True is not a whole number, a tuple of them such as (0, 2), or None",
        ),
        (AttnQuery, {"heads": [1]}, "heads [1] is not a tuple: give (1,)"),
        (AttnQuery, {"heads": 1}, "heads 1 is not a tuple: give (1,)"),
        (AttnQuery, {"heads": (True,)}, "heads (True,) is not a tuple of whole numbers, such as (0, 2)"),
        (AttnQuery, {"queries": "9"}, "queries '9' is not a tuple of whole numbers, such as (9,)"),
        (RunQuery, {"stages": "logits"}, "stages 'logits' is not a tuple: give ('logits',)"),
        (RunQuery, {"stages": ["a", "b"]}, "stages ['a', 'b'] is not a tuple: give ('a', 'b')"),
        (RunQuery, {"stages": 5}, "stages 5 is not a tuple of strings, such as ('logits',)"),
        (ModelChoice, {"skip_modules": 5}, "skip_modules 5 is not a tuple of strings, such as ('fc1',)"),
        (ModelChoice, {"skip_modules": "lm_head"}, "skip_modules 'lm_head' is not a tuple: give ('lm_head',)"),
        (ModelChoice, {"name": Path("x")}, f"name {Path('x')!r} is not a string"),
        (PlanQuery, {"of": "x"}, "of 'x' is not a query: give one that runs the model, such as EmbedQuery()"),
        (PlanQuery, {"of": TreeQuery()}, "TreeQuery loads no weights: plan a query that runs the model"),
    ],
    ids=str,
)
def test_a_wrong_type_says_what_to_give(make: Any, values: dict[str, Any], says: str) -> None:
    assert sentence(make, **values) == says


def test_every_tuple_has_an_example_of_its_own() -> None:
    said = [sentence(RunQuery, stages=(1,)), sentence(ModelChoice, skip_modules=(1,))]
    said += [sentence(AttnQuery, heads=("x",)), sentence(AttnQuery, queries=("x",))]
    assert len({each.partition("such as")[2] for each in said}) == 4


@pytest.mark.parametrize(
    ("given", "says"),
    [("x", "str is not a query that txinspect answers"), (None, "NoneType is not"), (EmbedQuery, "EmbedQuery is a cl")],
    ids=str,
)
def test_what_is_no_query_is_one_sentence(given: Any, says: str) -> None:
    with pytest.raises(TypeError) as raised:
        inspect(given)
    said = str(raised.value)
    assert said.startswith(says)
    assert "give" in said
    assert "\n" not in said


def test_every_query_is_a_public_name() -> None:
    assert set(dir(txinspect)) < set(txinspect.__all__)
    queries = {name for name in txinspect.__all__ if name.endswith("Query")}
    assert queries == {kind.__name__ for kind in QUERIES}


def test_a_model_may_be_named_alone() -> None:
    named = EmbedQuery(model="opt-mini", text="a")  # type: ignore[arg-type]
    assert named == EmbedQuery(model=ModelChoice(name="opt-mini"), text="a")
    assert inspect(named).model.name == "opt-mini"
