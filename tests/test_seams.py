"""The seams: every name of other packages that may move without notice, and what the program gives it.

A new release that moves one fails here, in one readable place. `.ci/run` runs this with the oldest and the newest
transformers of the range.
"""

from __future__ import annotations

import ast
import inspect
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.specifiers import SpecifierSet
from transformers import OPTConfig, OPTForCausalLM

from tests.test_house import HOUSE, ROOMS
from txinspect.guards.patching import patched
from txinspect.version import NEWEST_TRANSFORMERS, untested

Parameters = tuple[str, ...] | None

SEAMS: dict[str, Parameters] = {
    # How checkpoints become modules.
    "transformers.conversion_mapping.get_model_conversion_mapping": ("model",),
    "transformers.core_model_loading.WeightConverter": ("source_patterns", "target_patterns"),
    "transformers.core_model_loading.WeightRenaming": (),
    "transformers.core_model_loading.WeightTransform.add_tensor": ("self", "target_key", "source_key"),
    "transformers.core_model_loading.rename_source_key": (
        *("source_key", "weight_renamings", "weight_converters", "base_model_prefix", "meta_state_dict"),
    ),
    "transformers.modeling_utils.PreTrainedModel._load_pretrained_model": ("model",),
    "transformers.modeling_utils.PreTrainedModel._finalize_model_loading": ("model",),
    "transformers.modeling_utils.PreTrainedModel._adjust_missing_and_unexpected_keys": ("self", "loading_info"),
    "transformers.modeling_utils.PreTrainedModel.tie_weights": ("self", "missing_keys", "recompute_mapping"),
    "transformers.modeling_utils.PreTrainedModel._from_config": ("config",),
    "transformers.modeling_utils.PreTrainedModel._keep_in_fp32_modules": None,
    "transformers.modeling_utils.PreTrainedModel._keys_to_ignore_on_load_missing": None,
    "transformers.generation.GenerationMixin.adjust_generation_fn": ("self",),
    "transformers.initialization.meta_device_safe_creation_ops": (),
    "transformers.initialization.no_tie_weights": (),
    "transformers.modeling_utils.local_torch_dtype": ("dtype",),
    # How they run.
    "transformers.modeling_utils.ALL_ATTENTION_FUNCTIONS._local_mapping": None,
    "transformers.modeling_utils.ALL_ATTENTION_FUNCTIONS.get": ("key", "default"),
    "transformers.modeling_utils.PreTrainedModel.set_experts_implementation": ("self", "experts_implementation"),
    "transformers.pytorch_utils.Conv1D": (),
    # What there is.
    "transformers.models.auto.configuration_auto.CONFIG_MAPPING": None,
    **{
        f"transformers.models.auto.modeling_auto.MODEL_FOR_{task}_MAPPING_NAMES": None
        for task in (
            *("CAUSAL_LM", "MASKED_LM", "SEQ_TO_SEQ_CAUSAL_LM", "NEXT_SENTENCE_PREDICTION", "SEQUENCE_CLASSIFICATION"),
            *("TOKEN_CLASSIFICATION", "QUESTION_ANSWERING", "TEXT_ENCODING"),
        )
    },
    "transformers.models.auto.modeling_auto.MODEL_MAPPING_NAMES": None,
    # Quantization.
    "transformers.integrations.bitsandbytes.validate_bnb_backend_availability": ("raise_exception",),
    "transformers.quantizers.auto.AUTO_QUANTIZER_MAPPING": None,
    "transformers.quantizers.auto.AutoHfQuantizer.from_config": ("quantization_config",),
    "transformers.quantizers.base.HfQuantizer": (),
    "transformers.quantizers.base.HfQuantizer.get_modules_to_not_convert": (
        *("model", "skip_modules", "keep_in_fp32_modules"),
    ),
    "transformers.quantizers.base.HfQuantizer.preprocess_model": ("self", "model", "dtype"),
    "transformers.quantizers.base.HfQuantizer.validate_environment": ("self",),
    "transformers.quantizers.quantizers_utils.should_convert_module": ("full_name", "patterns"),
    # GGUF.
    "gguf.GGMLQuantizationType": None,
    "gguf.GGML_QUANT_SIZES": None,
    "gguf.GGUFReader": ("path",),
    "gguf.MODEL_ARCH_NAMES": None,
    "gguf.quants.dequantize": ("data", "qtype"),
    "gguf.get_tensor_name_map": ("arch", "n_blocks"),
    "transformers.integrations.gguf.reader.GgufHeader.from_file": ("gguf_path",),
    "transformers.integrations.gguf.utils.get_gguf_conversion_mapping": ("gguf_arch", "config"),
    "transformers.integrations.gguf.utils.is_gguf_arch_supported": ("gguf_arch",),
    "transformers.modeling_gguf_pytorch_utils.GGUF_SUPPORTED_ARCHITECTURES": None,
    "transformers.modeling_gguf_pytorch_utils.TENSOR_PROCESSORS": None,
    "transformers.modeling_gguf_pytorch_utils.TensorProcessor": ("config",),
    "transformers.modeling_gguf_pytorch_utils.get_gguf_hf_weights_map": ("hf_model", "processor"),
    # Adapters.
    "peft.mapping.PEFT_TYPE_TO_PREFIX_MAPPING": None,
    "peft.mapping.PEFT_TYPE_TO_TUNER_MAPPING": None,
    # torch.
    "torch.nn.Module()._buffers": None,
    "torch.nn.Module()._forward_hooks": None,
    "torch.nn.Module()._forward_pre_hooks": None,
    "torch.nn.Module()._modules": None,
    "torch.nn.Module()._non_persistent_buffers_set": None,
    "torch.nn.Module()._parameters": None,
    "torch.overrides.TorchFunctionMode": (),
    "torch.utils._python_dispatch.TorchDispatchMode": (),
    "torch.utils._pytree.tree_leaves": ("tree",),
    "torch.utils._pytree.tree_map": ("func", "tree"),
}
"""By dotted name: the parameters that the program gives, in order; None for what is not called."""

PUBLIC = {"transformers.utils.logging", "gguf", "peft", "transformers", "torch.nn.functional", "torch.nn"}
"""Modules whose names are documented for everybody."""

PRIVATE = ("transformers.", "torch.utils._", "torch.overrides", "peft.", "gguf")
"""Where names come from that may move without notice."""

WINGS = ("guards.", "texts.", "loading.", "forward.")
ELSEWHERE = {
    "sources.gguf_header": "the sizes of GGUF's blocks, by the package that knows them",
    "sources.tensors": "blocks of GGUF → numbers, without torch",
}


def found(name: str) -> Any:
    """What a dotted name stands for; `X()` for an instance."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            value: Any = import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:]:
            value = getattr(value, part.removesuffix("()"))
            value = value() if part.endswith("()") else value
        return value
    raise ImportError(name)


@pytest.mark.parametrize("name", SEAMS)
def test_a_seam_is_where_it_was(name: str) -> None:
    value, given = found(name), SEAMS[name]
    if given is None:
        return
    assert callable(value)
    signature = inspect.signature(value)
    takes_any = any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values())
    missing = [each for each in given if each not in signature.parameters]
    assert not missing or takes_any, f"{name}{signature} takes no {missing}"
    there = [each for each in signature.parameters if each in given]
    assert there == [each for each in given if each in there], "in another order"


def imported() -> Iterator[tuple[str, str]]:
    """Every room with what it imports of names that may move."""
    for room, path in ROOMS.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            if f"{module}.".startswith(PRIVATE) and module not in PUBLIC - {"gguf"}:
                yield from ((room, f"{module}.{alias.name}") for alias in node.names)  # type: ignore[attr-defined]


def test_every_seam_is_named_here() -> None:
    """A module that is imported whole is named with what is taken from it."""
    named = [*SEAMS, *PUBLIC]
    unnamed = {
        name
        for _, name in imported()
        if name not in PUBLIC and not any(each == name or each.startswith(f"{name}.") for each in named)
    }
    assert not unnamed


def test_seams_are_sewn_where_models_are_loaded_and_run() -> None:
    assert not {(room, name) for room, name in imported() if not room.startswith(WINGS) and room not in ELSEWHERE}


def test_what_a_model_must_have() -> None:
    model = OPTForCausalLM(
        OPTConfig(num_hidden_layers=1, hidden_size=8, ffn_dim=8, num_attention_heads=1, vocab_size=9)
    )
    assert model.config._attn_implementation in ("sdpa", "eager")
    assert model.all_tied_weights_keys.keys() == {"lm_head.weight"}
    assert callable(inspect.unwrap(type(model.model.decoder.layers[0].self_attn).forward))
    assert model.lm_head.weight.untyped_storage()._cdata == model.get_input_embeddings().weight.untyped_storage()._cdata


# Versions


def requirement(package: str) -> SpecifierSet:
    project = tomllib.loads((HOUSE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (found,) = (each for each in project["dependencies"] if each.startswith(package + ">"))
    return SpecifierSet(found.removeprefix(package))


def test_the_range_ends_with_the_newest_tested() -> None:
    allowed = requirement("transformers")
    major, minor = map(int, NEWEST_TRANSFORMERS.split("."))
    assert f"{major}.{minor}.9" in allowed
    assert f"{major}.{minor + 1}.0" not in allowed


@pytest.mark.parametrize(
    ("newest", "newer"),
    [("5.19", True), ("5.2", True), ("4.57", True), (version("transformers"), False), ("5.100", False), ("6.0", False)],
)
def test_a_newer_transformers_runs_and_is_noted(
    newest: str, newer: bool, opt: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Any
) -> None:
    monkeypatch.setattr("txinspect.version.NEWEST_TRANSFORMERS", newest)
    assert bool(untested()) is newer
    result = run_cli("embed", "hi", "-m", opt)
    assert result.exit_code == 0
    note = f"transformers {version('transformers')} is newer than {newest}, the newest that txinspect was tested with"
    assert (note in " ".join(result.stdout.split())) is newer


def test_an_unforeseen_error_under_a_newer_transformers_says_so(
    opt: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Any
) -> None:
    def fail(*_: object) -> None:
        raise AttributeError("it has moved")

    monkeypatch.setattr("txinspect.version.NEWEST_TRANSFORMERS", "5.19")
    monkeypatch.setattr("txinspect.measure.stats.measure", fail)
    result = run_cli("embed", "hi", "-m", opt)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "unexpected AttributeError: it has moved; transformers" in result.stderr
    assert "an older one may work" in result.stderr


# Patches


def test_a_patch_is_taken_back_whatever_happens() -> None:
    class Owner:
        kept = 1

    class Heir(Owner):
        pass

    def fail() -> None:
        assert Owner.kept == 2
        raise ValueError("no such luck")

    with pytest.raises(ValueError, match="no such luck"), patched(Owner, "kept", 2):
        fail()
    assert Owner.kept == 1
    with patched(Heir, "kept", 3), patched(Heir, "new", 4):
        assert (Heir.kept, Heir.new) == (3, 4)  # type: ignore[attr-defined]
    assert vars(Heir).keys().isdisjoint({"kept", "new"})
    assert Heir.kept == 1


def test_torch_is_the_version_that_is_meant() -> None:
    assert torch.__version__.partition("+")[0] in requirement("torch")
