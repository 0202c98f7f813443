"""The test kit itself: every registered type builds, reloads, and has nothing that is nearly neutral."""

# transformers is partly untyped: AutoModelForCausalLM.from_config.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)

from tests.making import models as tiny_models
from tests.making.models import (
    BUILT_FROM_PART,
    NEEDS_PACKAGE,
    NOT_RUN,
    OVERRIDES,
    VOCAB_SIZE,
    buildable_types,
    by_type,
    example_ids,
    registered_types,
    save_tiny,
    tiny_config,
    tiny_model,
)

NO_WEIGHTS: dict[str, str] = {
    "big_bird": "block-sparse modules are replaced in the first short forward, with their hooks",
    "falcon_mamba": "no attention",
    "mamba": "no attention",
    "mamba2": "no attention",
    "rwkv": "no attention: `attentions` holds hidden states",
    "xlstm": "no attention",
}
"""Types whose output has no attention weights under eager, each with the reason."""


@dataclass(frozen=True)
class Checkpoint:
    model_type: str
    model: PreTrainedModel
    folder: Path

    def logits(self, model: PreTrainedModel) -> torch.Tensor:
        with torch.no_grad():
            logits = model(example_ids(self.model_type)).logits
        assert isinstance(logits, torch.Tensor)
        return logits

    def load(self, **kwargs: Any) -> PreTrainedModel:
        if self.model_type in BUILT_FROM_PART:
            kwargs["config"] = getattr(AutoConfig.from_pretrained(self.folder), BUILT_FROM_PART[self.model_type])
            return type(self.model).from_pretrained(self.folder, **kwargs)
        model = AutoModelForCausalLM.from_pretrained(self.folder, **kwargs)
        assert isinstance(model, PreTrainedModel)
        return model


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Operations on 64 numbers: with two threads on two busy cores this file takes ten times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=by_type(buildable_types()))
def checkpoint(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, _one_thread: None
) -> Checkpoint:
    model_type = request.param
    folder = save_tiny(model_type, tmp_path_factory.mktemp("tiny") / model_type)
    return Checkpoint(model_type, tiny_model(model_type), folder)


def test_is_tiny(checkpoint: Checkpoint) -> None:
    assert sum(parameter.numel() for parameter in checkpoint.model.parameters()) < 600_000
    assert {parameter.dtype for parameter in checkpoint.model.parameters()} == {torch.float32}
    assert not checkpoint.model.training


def test_has_every_kind_of_layer_of_the_default(checkpoint: Checkpoint) -> None:
    def kinds(config: PretrainedConfig) -> dict[str, set[str]]:
        config = config if checkpoint.model_type in BUILT_FROM_PART else config.get_text_config()
        names = ("layer_types", "mlp_layer_types", "layers_block_type")
        return {name: set(getattr(config, name, None) or []) for name in names}

    default = kinds(CONFIG_MAPPING[checkpoint.model_type]())
    tiny = kinds(tiny_config(checkpoint.model_type))
    assert all(default[name] <= tiny[name] for name in default)


def test_logits_are_finite_and_differ_between_tokens(checkpoint: Checkpoint) -> None:
    logits = checkpoint.logits(checkpoint.model)
    assert logits.shape[-2] == 10
    assert logits.isfinite().all()
    assert (logits.diff(dim=-2).abs().amax(dim=-1) > 0.1).all()
    assert torch.equal(logits, checkpoint.logits(checkpoint.model))


def test_reloads_with_equal_logits(checkpoint: Checkpoint) -> None:
    loaded = checkpoint.load()
    # Tensors read from a file start at any byte, and kernels round differently by alignment: 1.2e-6
    # in inkling2_text, 0.0 after a copy.
    for parameter in loaded.parameters():
        parameter.data = parameter.data.clone()
    assert torch.equal(checkpoint.logits(loaded), checkpoint.logits(checkpoint.model))


@pytest.mark.parametrize("model_type", BUILT_FROM_PART)
def test_auto_class_cannot_load_a_type_built_from_a_part(model_type: str, tmp_path: Path) -> None:
    save_tiny(model_type, tmp_path, tokenizer=False)
    with pytest.raises(AttributeError, match="dropout"):
        AutoModelForCausalLM.from_pretrained(tmp_path)


def test_attention_is_not_uniform(checkpoint: Checkpoint) -> None:
    # Asked for at loading: falcon builds other modules for eager and ignores a later request.
    model = checkpoint.load(attn_implementation="eager")
    with torch.no_grad():
        output = model(example_ids(checkpoint.model_type), output_attentions=True)
    torch.testing.assert_close(output.logits, checkpoint.logits(checkpoint.model), rtol=1e-4, atol=1e-4)
    # minimax puts the state of its linear layers there, rwkv hidden states; both have negative values.
    attentions = [weights for weights in output.get("attentions") or () if weights.min() >= 0]
    assert bool(attentions) == (checkpoint.model_type not in NO_WEIGHTS)
    for weights in attentions:
        last = weights[0, ..., -1, :]
        mean = last.sum(dim=-1) / (last > 0).sum(dim=-1).clamp(min=1)
        assert (last.amax(dim=-1) / mean).mean() > 1.3


def test_tokenizer_round_trip(checkpoint: Checkpoint) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder)
    text = "The quick brown fox: 狐 🦊"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert [i - 8 for i in ids if i >= 8] == list(text.encode())
    assert len(tokenizer) <= VOCAB_SIZE


@pytest.mark.parametrize("model_type", sorted(NOT_RUN))
def test_types_that_are_not_run_still_cannot_be(model_type: str) -> None:
    with pytest.raises(ValueError, match=r"layer types producing a cache|shared_kv_states cannot be None"):
        tiny_model(model_type)(example_ids(model_type))


def test_tables_name_registered_types() -> None:
    tables = {*OVERRIDES, *NOT_RUN, *NEEDS_PACKAGE, *BUILT_FROM_PART, *NO_WEIGHTS}
    assert tables <= set(registered_types())


def test_seed_decides_the_weights() -> None:
    random_state = torch.get_rng_state()
    first, again, other = (tiny_model("gpt2", seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), random_state)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_models.main([str(tmp_path), "llama", "gemma4_assistant"])
    llama, assistant = capsys.readouterr().out.splitlines()
    assert llama.startswith("llama: ")
    assert assistant.startswith("gemma4_assistant: not run: ")
    assert sorted(path.name for path in (tmp_path / "llama").iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
