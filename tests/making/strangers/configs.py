"""Strangers' config.json: sizes that cannot be true, values of the wrong kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.making.bad_input import EMBED, TREE
from tests.making.checkpoints import change_config
from tests.making.strangers.command_lines import LOGITS, PARAMS, PLAN, RUN, STAGES, TOKENIZE
from tests.making.strangers.damaging import change_json, recoded, replaced
from tests.making.strangers.stranger import Damage, Stranger


def config(**values: Any) -> Damage:
    """Set values of config.json."""
    return lambda folder: change_config(folder, **values)


def config_made(make: Callable[[], dict[str, Any]]) -> Damage:
    """Set values of config.json that are too large to be made before they are needed."""
    return lambda folder: change_config(folder, **make())


def raw_config(entry: str) -> Damage:
    """Put an entry into config.json as it stands, such as one that json.dumps would not write."""

    def damage(folder: Path) -> None:
        file = folder / "config.json"
        file.write_bytes(("{" + entry + ", " + file.read_text().strip()[1:]).encode("utf-8", "surrogatepass"))

    return damage


_TOO_LARGE: tuple[tuple[tuple[str, ...], str, int], ...] = (
    (TREE, "num_hidden_layers", 10**5),
    (STAGES, "num_hidden_layers", 10**6),
    (PLAN, "num_hidden_layers", 10**9),
    (RUN, "num_hidden_layers", 10**5),
    (TREE, "num_hidden_layers", 10**30),
    (TREE, "hidden_size", 10**12),
    (EMBED, "vocab_size", 10**12),
    (TREE, "vocab_size", 10**18),
    (RUN, "ffn_dim", 10**12),
    (STAGES, "num_attention_heads", 10**12),
    (RUN, "max_position_embeddings", 10**12),
    (TREE, "word_embed_proj_dim", 10**12),
    (LOGITS, "vocab_size", 2**63),
)


TOO_LARGE = (
    *(
        Stranger(
            f"{key} {value:.0e}, {arguments[0]}",
            arguments,
            ("'./model'", key, str(value)[:6]),
            config(**{key: value}),
            apart=True,
            either=arguments in (TREE, STAGES, PLAN) and key != "num_hidden_layers",  # nothing is built of numbers
        )
        for arguments, key, value in _TOO_LARGE
    ),
    Stranger(
        "tokenize beside 1e9 layers", TOKENIZE, ("index",), config(num_hidden_layers=10**9), apart=True, harmless=True
    ),
    Stranger(
        "two million keys",
        TREE,
        ("config.json",),
        config_made(lambda: {f"key_{n}": n for n in range(2_000_000)}),
        apart=True,
    ),
    Stranger("num_labels 1e8", TREE, ("config.json", "num_labels", "100000000"), config(num_labels=10**8), apart=True),
    Stranger("num_labels 1e30", TREE, ("config.json", "num_labels"), config(num_labels=10**30), apart=True),
    Stranger(
        "id2label of a million",
        TREE,
        ("OPTForCausalLM",),
        config_made(lambda: {"id2label": {str(n): "x" for n in range(1_000_000)}}),
        apart=True,
        harmless=True,
    ),
    Stranger("a number of 5000 digits", TREE, ("config.json",), raw_config('"hidden_size": ' + "9" * 5000), apart=True),
    Stranger("a model_type of a megabyte", TREE, ("'./model'",), config(model_type="x" * 10**6)),
    Stranger(
        "an activation of a megabyte",
        TREE,
        ("'./model'", "activation_function"),
        config(activation_function="x" * 10**6),
    ),
)


def _wrong(
    arguments: tuple[str, ...], key: str, value: Any, *more: str, harmless: bool = False, either: bool = False
) -> Stranger:
    says = more if harmless else ("'./model'", key, *more)
    name = f"config: {key} {str(value)[:60]!r}, {arguments[0]}"
    return Stranger(name, arguments, says, config(**{key: value}), harmless=harmless, either=either)


def _only_torch_dtype(value: Any) -> Damage:
    """Name the type by the key that came before `dtype`."""
    return change_json("config.json", lambda content: content.pop("dtype") and content.update(torch_dtype=value))


def _quantized(arguments: tuple[str, ...], *more: str, **values: Any) -> Stranger:
    name = f"config: quantization_config {str(values)[:80]!r}, {arguments[0]}"
    return Stranger(name, arguments, ("'./model'", "quantiz"), config(quantization_config=values))


def llama(**values: Any) -> Damage:
    """A Llama's config in the place of OPT's."""
    return lambda folder: _other(folder, "llama", "LlamaForCausalLM", values)


def qwen3(**values: Any) -> Damage:
    """A Qwen3's config in the place of OPT's."""
    return lambda folder: _other(folder, "qwen3", "Qwen3ForCausalLM", values)


def _other(folder: Path, model_type: str, kind: str, values: dict[str, Any]) -> None:
    sizes = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "vocab_size": 384,
        "max_position_embeddings": 128,
    }
    whole = {"model_type": model_type, "architectures": [kind], **sizes, **values}
    (folder / "config.json").write_text(json.dumps(whole))


_HARMLESS_BUT_ODD: tuple[tuple[str, Any], ...] = (
    ("head_dim", 10**12),
    ("num_key_value_heads", 3),
    ("rope_parameters", {"rope_type": "default", "rope_theta": 0}),
    ("rope_parameters", {"rope_type": "linear", "rope_theta": 1e4, "factor": 0}),
)
"""Values that no pass would go well with, which a tree and a list of stages can be shown with."""


CONFIGS = (
    _wrong(TREE, "architectures", [1, 2], "OPTForCausalLM", harmless=True),
    _wrong(PARAMS, "architectures", 5, "tensor", harmless=True),
    _wrong(TREE, "architectures", {"a": 1}, "OPTForCausalLM", harmless=True),
    _wrong(TREE, "architectures", None, "OPTForCausalLM", harmless=True),
    _wrong(TREE, "dtype", {"a": "float32"}),
    _wrong(TREE, "dtype", 5, "5"),
    _wrong(EMBED, "dtype", ["float32"]),
    _wrong(EMBED, "dtype", "nn", "nn"),
    _wrong(PLAN, "dtype", "int8", "int8"),
    *(
        Stranger(
            f"config: torch_dtype {value!r} alone, {arguments[0]}",
            arguments,
            ("'./model'", "dtype"),
            _only_torch_dtype(value),
        )
        for arguments, value in ((TREE, {"a": 1}), (TREE, 16), (EMBED, ["float32"]), (RUN, "float33"))
    ),
    _wrong(TREE, "auto_map", 5, "5"),
    _wrong(TREE, "auto_map", [], "OPTForCausalLM", harmless=True),
    _wrong(EMBED, "auto_map", "own.py", "hi", harmless=True),
    _wrong(TREE, "auto_map", {"AutoConfig": 5}, "5"),
    _wrong(TREE, "auto_map", {"AutoConfig": [None]}, "OPTForCausalLM", harmless=True),
    Stranger(
        "config: auto_map of a number, trusting",
        (*TREE, "--trust-remote-code"),
        ("'./model'", "auto_map"),
        config(model_type="own", auto_map={"AutoConfig": 5}),
    ),
    Stranger(
        "config: auto_map of a list, trusting",
        (*TREE, "--trust-remote-code"),
        ("'./model'", "auto_map"),
        config(model_type="own", auto_map={"AutoConfig": ["a", "b"]}),
    ),
    Stranger(
        "config: auto_map of another repository",
        (*TREE, "--trust-remote-code"),
        ("'./model'",),
        config(model_type="own", auto_map={"AutoConfig": "evil/repo--own.OwnConfig"}),
    ),
    Stranger(
        "config: auto_map that climbs out",
        (*TREE, "--trust-remote-code"),
        ("'./model'",),
        config(model_type="own", auto_map={"AutoConfig": "../../own.OwnConfig"}),
    ),
    _wrong(TREE, "attribute_map", 5),
    _wrong(TREE, "attribute_map", {"hidden_size": "hidden_size"}, "OPTForCausalLM", harmless=True),
    _wrong(RUN, "attribute_map", {"hidden_size": "nowhere"}),
    _wrong(TREE, "id2label", 5, "5"),
    _wrong(TREE, "id2label", ["a"]),
    _wrong(TREE, "id2label", {"a": "b"}),
    _wrong(TREE, "num_labels", "many", "many"),
    _wrong(TREE, "num_labels", -1, "-1", either=True),
    _wrong(TREE, "quantization_config", 5, "5"),
    _wrong(EMBED, "quantization_config", [1], "[1]"),
    _wrong(EMBED, "quantization_config", "int8", "int8"),
    _wrong(TREE, "quantization_config", {}, either=True),
    _quantized(EMBED, "5", quant_method=5),
    _quantized(PLAN, "bitsandbytes", quant_method=["bitsandbytes"]),
    _quantized(RUN, "load_in_4bit", quant_method="bitsandbytes", load_in_4bit="yes"),
    _quantized(RUN, "llm_int8_threshold", quant_method="bitsandbytes", load_in_8bit=True, llm_int8_threshold=[]),
    _quantized(EMBED, "gptq", quant_method="gptq", bits="x"),
    _quantized(EMBED, "weight_block_size", quant_method="fp8", weight_block_size="x"),
    _quantized(EMBED, "config_groups", quant_method="compressed-tensors", config_groups=5),
    _wrong(TREE, "tie_word_embeddings", "yes", "yes"),
    _wrong(RUN, "tie_word_embeddings", 5, "5"),
    _wrong(RUN, "tie_word_embeddings", {}),
    Stranger(
        "config: model_type ../opt, tree", TREE, ("'./model'", "model type", "'../opt'"), config(model_type="../opt")
    ),
    _wrong(TREE, "model_type", {"opt": 1}),
    _wrong(TREE, "model_type", True),
    Stranger("config: model_type OPT, tree", TREE, ("'./model'", "model type", "'OPT'"), config(model_type="OPT")),
    _wrong(TREE, "hidden_size", 64.0, "64.0"),
    _wrong(TREE, "hidden_size", True),
    _wrong(TREE, "num_hidden_layers", "3", "'3'"),
    _wrong(RUN, "num_attention_heads", {"a": 1}),
    _wrong(STAGES, "activation_function", 5, "5"),
    _wrong(STAGES, "activation_function", None),
    _wrong(RUN, "do_layer_norm_before", "no", "no"),
    _wrong(RUN, "enable_bias", []),
    _wrong(RUN, "dropout", "x", "x"),
    _wrong(RUN, "layerdrop", 7, "7", either=True),
    _wrong(RUN, "pad_token_id", "x", "x"),
    _wrong(RUN, "pad_token_id", -5, "-5", either=True),
    _wrong(RUN, "bos_token_id", [[]]),
    _wrong(RUN, "eos_token_id", {"a": 1}),
    _wrong(LOGITS, "eos_token_id", "x", "x"),
    _wrong(TREE, "init_std", "x", "x"),
    _wrong(TREE, "use_cache", "x", "x"),
    _wrong(RUN, "text_config", 5, "5"),
    _wrong(EMBED, "transformers_version", 5, "hi", harmless=True),
    _wrong(EMBED, "transformers_version", "99.0.0", "hi", harmless=True),
    _wrong(RUN, "attn_implementation", "frobnicate", "frobnicate"),
    _wrong(RUN, "_attn_implementation", 5),
    _wrong(RUN, "output_attentions", "x", "x", either=True),
    _wrong(RUN, "return_dict", False, either=True),
    _wrong(RUN, "output_hidden_states", True, "logits", harmless=True),
    _wrong(RUN, "name_or_path", 5, "logits", harmless=True),
    _wrong(RUN, "gradient_checkpointing", True, "logits", harmless=True),
    _wrong(RUN, "per_layer_config", {"0": 5}, "5"),
    Stranger("config: hidden_size NaN", TREE, ("'./model'", "hidden_size", "nan"), config(hidden_size=float("nan"))),
    Stranger("config: dropout Infinity", RUN, ("'./model'", "dropout", "inf"), config(dropout=float("inf"))),
    Stranger(
        "config: dropout 1e999",
        RUN,
        ("'./model'", "dropout", "inf"),
        lambda f: replaced(f / "config.json", b'"dropout": 0.1', b'"dropout": 1e999'),
    ),
    Stranger("config: init_std NaN", TREE, ("OPTForCausalLM",), config(init_std=float("nan")), harmless=True),
    Stranger(
        "config with a byte order mark", TREE, ("config.json",), lambda f: recoded(f / "config.json", "utf-8-sig")
    ),
    Stranger("config in UTF-16", TREE, ("config.json",), lambda f: recoded(f / "config.json", "utf-16")),
    Stranger(
        "config with a lone surrogate", TREE, ("'./model'", "activation_function"), config(activation_function="\ud800")
    ),
    Stranger(
        "config with a lone surrogate as a key", TREE, ("OPTForCausalLM",), config(**{"\ud800": 1}), harmless=True
    ),
    Stranger("config with a surrogate in UTF-8", TREE, ("config.json",), raw_config('"x": "\ud800"')),
    Stranger("config with a key twice", TREE, ("OPTForCausalLM",), raw_config('"hidden_size": 5'), harmless=True),
    Stranger("config with self among its keys", TREE, ("'./model'", "self"), config(self=1)),
    Stranger("config with __class__ among its keys", TREE, ("'./model'", "__class__"), config(__class__="x")),
    Stranger("config with __dict__ among its keys", TREE, ("'./model'", "__dict__"), config(__dict__={})),
    Stranger("config with to_dict among its keys", TREE, ("'./model'", "to_dict"), config(to_dict=5)),
    Stranger("config with an empty key", TREE, ("OPTForCausalLM",), config(**{"": 5}), harmless=True),
    Stranger(
        "config with a key of another family",
        RUN,
        ("'./model'", "num_key_value_heads"),
        config(num_key_value_heads="x"),
        either=True,
    ),
    *(
        Stranger(
            f"llama: {key} {str(value)[:60]!r}, {arguments[0]}",
            arguments,
            ("'./model'", key, *more),
            llama(**{key: value}),
            either=(key, value) in _HARMLESS_BUT_ODD,
        )
        for arguments, key, value, *more in (
            (TREE, "rope_parameters", 5, "5"),
            (TREE, "rope_parameters", []),
            (TREE, "rope_parameters", {"rope_type": 5, "rope_theta": 1e4}),
            (TREE, "rope_parameters", {"rope_type": "frobnicate", "rope_theta": 1e4}, "frobnicate"),
            (STAGES, "rope_parameters", {"rope_type": "default", "rope_theta": "x"}),
            (TREE, "rope_parameters", {"rope_type": "default", "rope_theta": 0}),
            (TREE, "rope_parameters", {"rope_type": "linear", "rope_theta": 1e4, "factor": 0}),
            (TREE, "rope_parameters", {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8}),
            (TREE, "rope_parameters", {"rope_type": "yarn", "rope_theta": 1e4, "factor": [1]}),
            (TREE, "rope_parameters", "x", "x"),
            (TREE, "rope_theta", "x"),
            (TREE, "head_dim", 0, "0"),
            (TREE, "head_dim", "x", "x"),
            (TREE, "head_dim", 10**12),
            (STAGES, "num_key_value_heads", 3, "3"),
            (STAGES, "num_key_value_heads", 0, "0"),
            (TREE, "rms_norm_eps", "x", "x"),
            (TREE, "hidden_act", {"a": 1}),
            (TREE, "pretraining_tp", "x", "x"),
            (TREE, "attention_bias", "x", "x"),
            (TREE, "mlp_bias", 5, "5"),
        )
    ),
    *(
        Stranger(
            f"qwen3: {key} {str(value)[:60]!r}, {arguments[0]}",
            arguments,
            ("'./model'", key, *more),
            qwen3(**{key: value}),
            either=(key, value) in _HARMLESS_BUT_ODD,
        )
        for arguments, key, value, *more in (
            (TREE, "layer_types", 5, "5"),
            (TREE, "layer_types", [1, 2]),
            (TREE, "layer_types", ["full_attention"]),
            (STAGES, "layer_types", ["frobnicate", "full_attention"], "frobnicate"),
            (STAGES, "layer_types", {"0": "full_attention"}),
            (TREE, "sliding_window", "x", "x"),
            (STAGES, "layer_types", ["full_attention"] * 100_000),
            (TREE, "max_window_layers", "x", "x"),
        )
    ),
)
