"""Stage names, globs, nearest names and lists of indices."""

from __future__ import annotations

import re

import pytest

from txinspect import stages
from txinspect.globs import is_glob, matching
from txinspect.names_elsewhere import Elsewhere, elsewhere
from txinspect.nearest import nearest
from txinspect.stage_names import StageName, stage_names

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
    """Encoders, cross-attention, routers and recurrent mixers: names that only some kinds have."""
    optional = {stage.template: ", ".join(stage.axes) for stage in stages.STAGES if stage.optional}
    assert optional == {
        "token_type_embeddings": "batch, seq, hidden",
        "embeddings": "batch, seq, hidden",
        "layers.{i}.attention.scores.content_to_position": "batch, head, query, key",
        "layers.{i}.attention.scores.position_to_content": "batch, head, query, key",
        "layers.{i}.attention.scores.position": "batch, head, query, key",
        "layers.{i}.cross_attention.input": "batch, seq, hidden",
        "layers.{i}.cross_attention.q": "batch, head, seq, head_dim",
        "layers.{i}.cross_attention.k": "batch, kv_head, source, head_dim",
        "layers.{i}.cross_attention.v": "batch, kv_head, source, head_dim",
        "layers.{i}.cross_attention.scores": "batch, head, query, source",
        "layers.{i}.cross_attention.weights": "batch, head, query, source",
        "layers.{i}.cross_attention.context": "batch, head, seq, head_dim",
        "layers.{i}.cross_attention.output": "batch, seq, hidden",
        "pooler.output": "batch, hidden",
        "head.transform": "batch, seq, hidden",
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
    assert stage_names(layers) == [*wanted, "final_norm", "logits"]


@pytest.mark.parametrize("stage", stages.STAGES, ids=lambda stage: stage.template)
def test_a_name_round_trips(stage: stages.Stage) -> None:
    name = stage.name(7)
    assert name == stage.template.replace("{i}", "7")
    assert ("7" in name) == stage.per_layer
    part = re.sub(r"^layers\.\d+\.", "", name)
    assert stage.part == part
    assert StageName.of(name).part == part
    assert stages.BY_PART[part] is stage
    assert not is_glob(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("logits", StageName("", None, "logits", None)),
        ("layers.3.attention.q", StageName("", 3, "attention.q", None)),
        ("layers.3.output#2", StageName("", 3, "output", 2)),
        ("decoder.layers.12.input#1", StageName("decoder.", 12, "input", 1)),
        ("encoder.final_norm", StageName("encoder.", None, "final_norm", None)),
        ("layers.3", StageName("", 3, "", None)),
        ("layers.*.output", StageName("", None, "layers.*.output", None)),
        ("model.layers.3.fc1#2", StageName("", None, "model.layers.3.fc1", 2)),
        ("logits#x", StageName("", None, "logits#x", None)),
        ("", StageName("", None, "", None)),
    ],
)
def test_what_a_name_says(name: str, said: StageName) -> None:
    assert StageName.of(name) == said


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
    assert matching(pattern, NAMES) == picked


@pytest.mark.parametrize("pattern", ["layers.[9-1].output", "[z-a]*", "[", "layers.[0.output", "[]", "[]*"])
def test_a_bracket_that_is_no_set_picks_nothing(pattern: str) -> None:
    assert matching(pattern, NAMES) == []


@pytest.mark.parametrize("pattern", ["a.b(c|d)*", "a+b*", "^*", "*$", r"\d*", "{2}*"])
def test_other_regular_expression_marks_stand_for_themselves(pattern: str) -> None:
    assert matching(pattern, [*NAMES, "ab", "aab", "22", "a.bc", "5"]) == []
    assert matching(pattern, [pattern.replace("*", "x")]) == [pattern.replace("*", "x")]


def test_only_two_stars_cross_a_dot() -> None:
    assert matching("layers.0[!x]output", NAMES) == []


def test_a_set_with_a_backslash_is_literal() -> None:
    assert matching(r"layers.[\d].output", NAMES) == []


@pytest.mark.parametrize("name", ["a*", "a?", "[ab]", "**"])
def test_wildcards_are_globs(name: str) -> None:
    assert is_glob(name)


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
    near = nearest(typed, stage_names(2))
    assert near[0] == first
    assert len(near) <= 3


def test_nothing_is_near_a_name_of_another_world() -> None:
    assert nearest("zzzzqqqq", stage_names(2)) == []


# --- names of other tools ---


@pytest.mark.parametrize(
    ("name", "tool", "here"),
    [
        ("hook_embed", "TransformerLens'", ["token_embeddings"]),
        ("hook_pattern", "TransformerLens'", ["layers.*.attention.weights"]),
        ("blocks.0.attn.hook_pattern", "TransformerLens'", ["layers.0.attention.weights"]),
        ("blocks.*.attn.hook_z", "TransformerLens'", ["layers.*.attention.context"]),
        ("blocks.11.hook_resid_post", "TransformerLens'", ["layers.11.output"]),
        ("blocks.1.ln1.hook_normalized", "TransformerLens'", ["layers.1.attention.input"]),
        ("ln_final.hook_normalized", "TransformerLens'", ["final_norm"]),
        ("attentions", "Hugging Face's", ["layers.*.attention.weights"]),
        ("outputs.attentions[2]", "Hugging Face's", ["layers.2.attention.weights"]),
        ("attentions[-1]", "Hugging Face's", ["layers.3.attention.weights"]),
        ("hidden_states", "Hugging Face's", ["layers.*.input", "final_norm"]),
        ("hidden_states[0]", "Hugging Face's", ["layers.0.input"]),
        ("hidden_states[3]", "Hugging Face's", ["layers.3.input"]),
        ("hidden_states[4]", "Hugging Face's", ["final_norm"]),
        ("hidden_states[-1]", "Hugging Face's", ["final_norm"]),
        ("hidden_states[-2]", "Hugging Face's", ["layers.3.input"]),
        ("hidden_states[5]", "Hugging Face's", ["layers.5.input"]),
        ("hidden_states[-6]", "Hugging Face's", ["layers.*.input", "final_norm"]),
        ("last_hidden_state", "Hugging Face's", ["final_norm"]),
        ("inputs_embeds", "Hugging Face's", ["token_embeddings"]),
        ("get_input_embeddings()", "Hugging Face's", ["token_embeddings"]),
        ("past_key_values[1]", "Hugging Face's", ["layers.1.attention.k", "layers.1.attention.v"]),
        ("router_logits", "Hugging Face's", ["layers.*.mlp.router"]),
    ],
)
def test_a_name_of_another_tool(name: str, tool: str, here: list[str]) -> None:
    """In a model of four layers."""
    assert elsewhere(name, 4) == Elsewhere(tool, tuple(here))


@pytest.mark.parametrize(
    "name",
    ["hook_resid_mid", "hook_mlp_in", "blocks.0.hook_embed", "attention", "hidden_states[x]", "layers.0", "", "*"],
)
def test_what_is_no_name_of_another_tool(name: str) -> None:
    assert elsewhere(name, 4) is None
