"""What can be asked of a model by name, and the sentence for what cannot."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.making.models import save_tiny
from txinspect import ModelChoice, RunQuery, StagesQuery, TreeQuery, inspect
from txinspect.anatomy.names import Names, names_of
from txinspect.errors import StageError
from txinspect.loading.subject import load_subject
from txinspect.names_elsewhere import elsewhere
from txinspect.texts.opened import Opened


def refusal(folder: Path, stage: str) -> str:
    """What is said of a stage that a model does not have, after the model's name."""
    with pytest.raises(StageError) as raised:
        inspect(RunQuery(model=ModelChoice(name=str(folder)), text="hi", stages=(stage,)))
    return str(raised.value).replace(repr(str(folder)), "IT")


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("hook_pattern", "'hook_pattern' is TransformerLens' name: here it is 'layers.*.attention.weights'"),
        (
            "blocks.0.attn.hook_pattern",
            "'blocks.0.attn.hook_pattern' is TransformerLens' name: here it is 'layers.0.attention.weights'",
        ),
        ("hidden_states[2]", "'hidden_states[2]' is Hugging Face's name: here it is 'layers.2.input'"),
        ("hidden_states[3]", "'hidden_states[3]' is Hugging Face's name: here it is 'final_norm'"),
        ("hidden_states", "'hidden_states' is Hugging Face's name: here it is 'layers.*.input' and 'final_norm'"),
        (
            "blocks.3.hook_z",
            "'blocks.3.hook_z' is TransformerLens' name, and layer 3 is out of range: IT has layers 0 to 2",
        ),
        (
            "router_logits",
            "'router_logits' is Hugging Face's name, and IT has no stage 'layers.*.mlp.router': "
            "the MLP of layer 0 is dense: it has no experts to choose from",
        ),
    ],
)
def test_a_name_of_another_tool_says_what_it_is_here(asked: str, says: str, opt: Path) -> None:
    assert refusal(opt, asked) == says


def test_a_name_of_another_tool_for_what_the_model_lacks(opt_variant: Callable[[str], Path]) -> None:
    folder = opt_variant("post_norm")
    said = refusal(folder, "ln_final.hook_normalized")
    assert said.startswith(
        "'ln_final.hook_normalized' is TransformerLens' name, and IT has no stage 'final_norm': no norm"
    )
    assert said == f"'ln_final.hook_normalized' is TransformerLens' name, and {refusal(folder, 'final_norm')}"
    assert refusal(folder, "hidden_states").endswith("here it is 'layers.*.input'")


@pytest.mark.parametrize(
    "asked", ["layers.3.output", "layers.3", "layers.7.nonsense", "layers.3.*", "model.decoder.layers.3.fc1"]
)
def test_a_layer_out_of_range_in_a_name(asked: str, opt: Path) -> None:
    number = re.search(r"\d", asked)
    assert number is not None
    assert refusal(opt, asked) == f"layer {number[0]} is out of range: IT has layers 0 to 2"


@pytest.mark.parametrize(
    ("asked", "never"),
    [
        ("layers.0.mlp.route", "layers.0.mlp.router"),  # its MLPs are dense
        ("layers.0.mixer.inputs", "layers.0.mixer.input"),
        ("model.decoder.layer", "model.decoder.layers"),  # a list of modules never runs itself
    ],
)
def test_only_what_the_model_has_is_suggested(asked: str, never: str, opt: Path) -> None:
    said = refusal(opt, asked)
    assert f"has no stage or module '{asked}'" in said
    meant = said.partition("did you mean ")[2].removesuffix("?").split(" or ")
    assert never not in meant
    listed = inspect(StagesQuery(model=ModelChoice(name=str(opt)))).stages
    stages = {record.name for record in listed if record.available}
    modules = {record.name for record in inspect(TreeQuery(model=ModelChoice(name=str(opt)))).modules}
    assert meant
    assert set(meant) <= stages | modules


def test_nothing_is_suggested_where_only_absent_stages_are_alike() -> None:
    names = Names({"final_norm": "no norm follows the last layer", "logits": None}, 2)
    assert names.refusal("m", "final_nrm") == (
        "'m' has no stage or module 'final_nrm': 'txinspect stages' and 'txinspect tree' list the names"
    )
    assert names.refusal("m", "logit") == "'m' has no stage or module 'logit': did you mean logits?"


def test_a_stage_of_several_modules_is_there_if_one_supplies_it(tmp_path: Path) -> None:
    """And every name that `stages` and `tree` list is picked, or refused with the reason that is listed."""
    for name in ("gpt_oss", "granitemoehybrid", "mamba"):
        folder = save_tiny(name, tmp_path / name)
        choice = ModelChoice(name=str(folder))
        architecture = load_subject(Opened(choice), lambda _: None).architecture
        names = names_of(architecture)
        supplies = architecture.supplies() + architecture.module_supplies()
        assert names.reasons.keys() == {supply.name for supply in supplies}
        for supply in supplies:
            refused = names.refusal("m", supply.name)
            if supply.available:
                assert refused is None
            elif refused is not None:
                assert refused.startswith(f"'m' has no stage '{supply.name}': ")


def test_the_outputs_of_transformers_are_the_stages_they_are_said_to_be(opt: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(opt, attn_implementation="eager").eval()
    choice = ModelChoice(name=str(opt))
    report = inspect(RunQuery(model=choice, text="hi", stages=("**",), values=True))
    seen = {record.name: record.values for record in report.tensors}
    with torch.no_grad():
        outputs = model(
            torch.tensor(report.input.input_ids), output_hidden_states=True, output_attentions=True, use_cache=True
        )
    layers = len(model.model.decoder.layers)
    assert len(outputs.hidden_states) == layers + 1
    wanted = {f"hidden_states[{i}]": outputs.hidden_states[i] for i in range(-layers - 1, layers + 1)}
    wanted |= {f"attentions[{i}]": outputs.attentions[i] for i in range(-layers, layers)}
    wanted |= {"logits": outputs.logits}
    for name, tensor in wanted.items():
        found = elsewhere(name, layers)
        assert found is not None
        (stage,) = found.stages
        torch.testing.assert_close(torch.tensor(seen[stage]), tensor, msg=f"{name} is not {stage}")
    for index, layer in enumerate(outputs.past_key_values.layers):
        found = elsewhere(f"past_key_values[{index}]", layers)
        assert found is not None
        for stage, tensor in zip(found.stages, (layer.keys, layer.values), strict=True):
            torch.testing.assert_close(torch.tensor(seen[stage]), tensor)


def test_a_glob_that_stops_at_a_dot_says_how_much_lies_below() -> None:
    report = inspect(RunQuery(text="hi", stages=("layers.0.*",)))
    assert [each.name for each in report.tensors] == ["layers.0.input", "layers.0.output"]
    below = [f"layers.0.{part}" for part in stages_of_a_layer() if "." in part]
    (said,) = [note for note in report.notes if "stops at a dot" in note]
    assert said == (
        f"'layers.0.*' stops at a dot: {len(below)} stages lie below, such as {below[0]}: give 'layers.0.**'."
    )
    everything = inspect(RunQuery(text="hi", stages=("layers.0.*", "layers.0.**")))
    assert {each.name for each in everything.tensors} >= set(below)
    assert not any("stops at a dot" in note for note in everything.notes)


def stages_of_a_layer() -> list[str]:
    stages = inspect(StagesQuery()).stages
    return [each.name.removeprefix("layers.0.") for each in stages if each.name.startswith("layers.0.")]


@pytest.mark.parametrize(
    ("pattern", "advice"), [("layers.*", "layers.**"), ("layers.*.attention", "layers.*.attention.**")]
)
def test_a_glob_that_picks_groups_alone(pattern: str, advice: str) -> None:
    with pytest.raises(StageError, match=rf"stops at a dot: \d+ stages lie below.*give {re.escape(repr(advice))}"):
        inspect(RunQuery(text="hi", stages=(pattern,)))


def test_a_glob_of_modules_says_nothing_of_what_is_in_them() -> None:
    report = inspect(RunQuery(text="hi", stages=("model.decoder.layers.*", "**.fc1", "model.*")))
    assert not any("stops at a dot" in note for note in report.notes)
