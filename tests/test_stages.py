"""Stage names, globs, nearest names and lists of indices."""

from __future__ import annotations

import re

import pytest

from txinspect import stages

CONTRACT = {
    "token_embeddings": "batch, seq, hidden",
    "position_embeddings": "batch, seq, hidden",
    "layers.{i}.input": "batch, seq, hidden",
    "layers.{i}.attention.input": "batch, seq, hidden",
    "layers.{i}.attention.q": "batch, head, seq, head_dim",
    "layers.{i}.attention.k": "batch, kv_head, seq, head_dim",
    "layers.{i}.attention.v": "batch, kv_head, seq, head_dim",
    "layers.{i}.attention.scores": "batch, head, query, key",
    "layers.{i}.attention.weights": "batch, head, query, key",
    "layers.{i}.attention.context": "batch, head, seq, head_dim",
    "layers.{i}.attention.output": "batch, seq, hidden",
    "layers.{i}.mlp.input": "batch, seq, hidden",
    "layers.{i}.mlp.output": "batch, seq, hidden",
    "layers.{i}.output": "batch, seq, hidden",
    "final_norm": "batch, seq, hidden",
    "logits": "batch, seq, vocab",
}
"""Names and axes as design.md, section 2, fixes them, in the order of the pass."""

NAMES = [
    "logits",
    "layers.0.output",
    "layers.1.output",
    "layers.10.output",
    "layers.0.attention.output",
    "layers.0.attention.q",
    "model.decoder.layers.0.self_attn.q_proj",
    "model.decoder.layers.0.fc1",
    "model.decoder.layers.0.fc2",
]


def test_the_contracts_names_and_axes() -> None:
    everywhere = [stage for stage in stages.STAGES if not stage.optional]
    assert {stage.template: ", ".join(stage.axes) for stage in everywhere} == CONTRACT
    assert [stage.template for stage in everywhere] == list(CONTRACT)


def test_stages_of_some_kinds_of_model() -> None:
    """Routers and recurrent mixers: names that were added to the contract's."""
    optional = {stage.template: ", ".join(stage.axes) for stage in stages.STAGES if stage.optional}
    assert optional == {
        "layers.{i}.mixer.input": "batch, seq, hidden",
        "layers.{i}.mixer.output": "batch, seq, hidden",
        "layers.{i}.mlp.router": "batch, seq, expert",
        "layers.{i}.mlp.router.weights": "batch, seq, choice",
        "layers.{i}.mlp.router.experts": "batch, seq, choice",
    }


@pytest.mark.parametrize("layers", [0, 1, 12])
def test_names_of_a_model_in_order(layers: int) -> None:
    per_layer = [name for name in CONTRACT if "{i}" in name]
    wanted = ["token_embeddings", "position_embeddings"]
    wanted += [name.replace("{i}", str(layer)) for layer in range(layers) for name in per_layer]
    assert stages.stage_names(layers) == [*wanted, "final_norm", "logits"]


@pytest.mark.parametrize("stage", stages.STAGES, ids=lambda stage: stage.template)
def test_a_name_round_trips(stage: stages.Stage) -> None:
    name = stage.name(7)
    assert name == stage.template.replace("{i}", "7")
    assert ("7" in name) == stage.per_layer
    part = re.sub(r"^layers\.\d+\.", "", name)
    assert stage.part == part
    assert stages.BY_PART[part] is stage
    assert not stages.is_glob(name)


def test_attention_parts_are_the_attention_stages_in_order() -> None:
    prefix = "layers.{i}.attention."
    wanted = [name.removeprefix(prefix) for name in CONTRACT if name.startswith(prefix)]
    assert list(stages.ATTENTION_PARTS) == wanted


@pytest.mark.parametrize(
    ("pattern", "picked"),
    [
        ("**", NAMES),
        ("*", ["logits"]),
        ("logit?", ["logits"]),
        ("layers.*.output", ["layers.0.output", "layers.1.output", "layers.10.output"]),
        ("layers.?.output", ["layers.0.output", "layers.1.output"]),
        ("layers.[1-9].output", ["layers.1.output"]),
        ("layers.[!0].output", ["layers.1.output"]),
        ("layers.[^0].output", ["layers.1.output"]),
        ("layers.0.*", ["layers.0.output"]),
        ("layers.0.**", ["layers.0.output", "layers.0.attention.output", "layers.0.attention.q"]),
        ("layers.*.*.output", ["layers.0.attention.output"]),
        ("**.output", [name for name in NAMES if name.endswith("output")]),
        ("**.q_proj", ["model.decoder.layers.0.self_attn.q_proj"]),
        ("**q_proj", ["model.decoder.layers.0.self_attn.q_proj"]),
        ("**.logits", ["logits"]),
        ("**.fc[12]", ["model.decoder.layers.0.fc1", "model.decoder.layers.0.fc2"]),
        ("model.**.fc?", ["model.decoder.layers.0.fc1", "model.decoder.layers.0.fc2"]),
        ("*.fc1", []),
        ("layers?0?output", []),
        ("layers*output", []),
        ("LOGITS*", []),
        ("logits.*", []),
        ("", []),
    ],
)
def test_globs(pattern: str, picked: list[str]) -> None:
    assert stages.matching(pattern, NAMES) == picked


@pytest.mark.parametrize("pattern", ["layers.[9-1].output", "[z-a]*", "[", "layers.[0.output", "[]", "[]*"])
def test_a_bracket_that_is_no_set_picks_nothing(pattern: str) -> None:
    assert stages.matching(pattern, NAMES) == []


@pytest.mark.parametrize("pattern", ["a.b(c|d)*", "a+b*", "^*", "*$", r"\d*", "{2}*"])
def test_other_regular_expression_marks_stand_for_themselves(pattern: str) -> None:
    assert stages.matching(pattern, [*NAMES, "ab", "aab", "22", "a.bc", "5"]) == []
    assert stages.matching(pattern, [pattern.replace("*", "x")]) == [pattern.replace("*", "x")]


def test_only_two_stars_cross_a_dot() -> None:
    assert stages.matching("layers.0[!x]output", NAMES) == []


def test_a_set_with_a_backslash_is_literal() -> None:
    assert stages.matching(r"layers.[\d].output", NAMES) == []


@pytest.mark.parametrize("name", ["a*", "a?", "[ab]", "**"])
def test_wildcards_are_globs(name: str) -> None:
    assert stages.is_glob(name)


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("logit", "logits"),
        ("layer.0.output", "layers.0.output"),
        ("layers.0.atention.weights", "layers.0.attention.weights"),
        ("token_embedding", "token_embeddings"),
    ],
)
def test_nearest_names(typed: str, first: str) -> None:
    near = stages.nearest(typed, stages.stage_names(2))
    assert near[0] == first
    assert len(near) <= 3


def test_nothing_is_near_a_name_of_another_world() -> None:
    assert stages.nearest("zzzzqqqq", stages.stage_names(2)) == []
