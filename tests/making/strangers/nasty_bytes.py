"""Strangers' bytes, which a terminal would obey, wherever a file can hold them."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests.making.bad_input import EMBED, FC1, TREE, in_model
from tests.making.checkpoints import to_shards
from tests.making.strangers.adapters import adapter
from tests.making.strangers.command_lines import (
    ADAPTED,
    ATTN,
    GGUF_PARAMS,
    GGUF_TREE,
    LOGITS,
    PARAMS,
    PLAN,
    RUN,
    STAGES,
    TOKENIZE,
)
from tests.making.strangers.configs import config, llama, qwen3
from tests.making.strangers.damaging import all_of, change_json, gone
from tests.making.strangers.gguf_files import gguf, gguf_text, raw_gguf
from tests.making.strangers.safetensors_headers import entry, header, renamed
from tests.making.strangers.shard_indexes import INDEX, index_changed, mapped
from tests.making.strangers.stranger import Damage, Stranger
from tests.making.strangers.tokenizer_configs import tokenizer_config
from tests.making.strangers.tokenizer_files import many_tokens, no_tokenizer, tokenizer, tokenizer_values
from tests.making.strangers.torch_files import BIN, memo, pickled, torch_file

NASTY = "\x1b]0;title\x07\x1b[2J\x9b31m\r\u202egpj\u2066\x7f"
"""What sets a terminal's title, clears it, colours it, goes back to the start of a line and turns its order."""

NUL = "a\0b"


def _nasty_token(content: str) -> Damage:
    token = {**many_tokens(1)[0], "content": content, "special": True, "id": 384}
    return tokenizer(lambda t: t["added_tokens"].append(token))


def _into(name: str) -> Damage:
    """Move the model into a folder of another name."""
    return lambda folder: shutil.copytree(folder, folder.parent / name)


BYTES = (
    *(
        Stranger(f"bytes: header dtype, {' '.join(arguments)}", arguments, ("model.safetensors",), entry(dtype=NASTY))
        for arguments in (PARAMS, (*PARAMS, "--json"), EMBED, PLAN)
    ),
    Stranger("bytes: tensor name, params", PARAMS, ("tensor",), renamed(NASTY), harmless=True),
    Stranger("bytes: tensor name, params --json", (*PARAMS, "--json"), ("tensor",), renamed(NASTY), harmless=True),
    Stranger("bytes: tensor name, embed", EMBED, ("'./model'", FC1), renamed(NASTY)),
    Stranger("bytes: tensor name of NUL, params", PARAMS, ("tensor",), renamed(NUL), harmless=True),
    Stranger(
        "bytes: a tensor of NaN with that name, params",
        PARAMS,
        ("NaN",),
        all_of(lambda f: _of_nan(f), renamed(NASTY)),
        harmless=True,
    ),
    Stranger(
        "bytes: a tensor of that name in another shape, run",
        RUN,
        ("'./model'",),
        header(lambda h: h.update({FC1 + NASTY: h.pop(FC1)})),
    ),
    Stranger(
        "bytes: metadata",
        PARAMS,
        ("tensor",),
        header(lambda h: h.update(__metadata__={NASTY: NASTY, "format": "pt"})),
        harmless=True,
    ),
    Stranger(
        "bytes: metadata format, embed",
        EMBED,
        ("hi",),
        header(lambda h: h.update(__metadata__={"format": NASTY})),
        harmless=True,
    ),
    *(
        Stranger(f"bytes: {key}, {' '.join(arguments)}", arguments, ("'./model'",), config(**{key: value}))
        for arguments, key, value in (
            (TREE, "model_type", NASTY),
            ((*TREE, "--json"), "model_type", NASTY),
            (EMBED, "model_type", "opt" + NUL),
            (TREE, "dtype", NASTY),
            (TREE, "activation_function", NASTY),
            (RUN, "attn_implementation", NASTY),
            (EMBED, "quantization_config", {"quant_method": NASTY}),
            (TREE, "num_hidden_layers", NASTY),
        )
    ),
    *(
        Stranger(
            f"bytes: architectures, {' '.join(arguments)}", arguments, (), config(architectures=[NASTY]), harmless=True
        )
        for arguments in (TREE, (*TREE, "--json"), EMBED, PARAMS, (*PARAMS, "--json"), PLAN)
    ),
    Stranger("bytes: model_type, params", PARAMS, ("tensor",), config(model_type=NASTY), harmless=True),
    Stranger(
        "bytes: model_type, params --json", (*PARAMS, "--json"), ("tensor",), config(model_type=NASTY), harmless=True
    ),
    Stranger("bytes: a key of config.json", TREE, ("OPTForCausalLM",), config(**{NASTY: NASTY}), harmless=True),
    Stranger(
        "bytes: layer types, stages",
        STAGES,
        ("'./model'", "layer_types"),
        qwen3(layer_types=[NASTY, "full_attention"]),
    ),
    Stranger(
        "bytes: rope type, tree",
        TREE,
        ("'./model'", "rope_parameters"),
        llama(rope_parameters={"rope_type": NASTY, "rope_theta": 1e4}),
    ),
    *(
        Stranger(
            f"bytes: added token, tokenize{' --json' if '--json' in arguments else ''}",
            arguments,
            ("264",),
            _nasty_token("hi" + NASTY),
            apart=True,
            harmless=True,
        )
        for arguments in (in_model("tokenize", "hi" + NASTY), in_model("tokenize", "hi" + NASTY, "--json"))
    ),
    *(
        Stranger(
            f"bytes: bos token, {' '.join(arguments)}",
            arguments,
            (),
            all_of(
                tokenizer(lambda t: _rename_token(t, "<eos>", NASTY)),
                tokenizer_config(bos_token=NASTY, eos_token=NASTY),
            ),
            apart=True,
            harmless=True,
        )
        for arguments in (TOKENIZE, (*TOKENIZE, "--json"), EMBED, LOGITS, (*LOGITS, "--json"), ATTN)
    ),
    *(
        Stranger(
            f"bytes: tokens of the vocabulary, {' '.join(arguments)}",
            arguments,
            (),
            tokenizer(lambda t: _all_nasty(t)),
            apart=True,
            harmless=True,
        )
        for arguments in (in_model("tokenize", "hi", "--no-special"), in_model("logits", "hi", "--json"), LOGITS)
    ),
    no_tokenizer(
        "bytes: pre_tokenizer's type",
        tokenizer_values(pre_tokenizer={"type": NASTY}),
    ),
    Stranger("bytes: tokenizer_class", TOKENIZE, ("index",), tokenizer_config(tokenizer_class=NASTY), harmless=True),
    Stranger("bytes: padding_side", TOKENIZE, ("'./model'", "adding side"), tokenizer_config(padding_side=NASTY)),
    Stranger("bytes: adapter's base", ADAPTED, ("base_model_name_or_path",), adapter(base_model_name_or_path=NASTY)),
    Stranger(
        "bytes: adapter's base on the Hub",
        ADAPTED,
        ("base_model_name_or_path",),
        adapter(base_model_name_or_path="team/\u202emodel"),
    ),
    Stranger(
        "bytes: adapter's base, params",
        ("params", "./adapter"),
        ("tensor",),
        adapter(base_model_name_or_path=NASTY),
        harmless=True,
    ),
    Stranger(
        "bytes: adapter's base, params --json",
        ("params", "./adapter", "--json"),
        ("tensor",),
        adapter(base_model_name_or_path=NASTY),
        harmless=True,
    ),
    Stranger("bytes: adapter's target_modules", ADAPTED, ("'./adapter'",), adapter(target_modules=[NASTY])),
    Stranger("bytes: adapter's peft_type", ADAPTED, ("'./adapter'", "peft_type"), adapter(peft_type=NASTY)),
    *(
        Stranger(
            f"bytes: folder's name, {arguments[0]} {arguments[-1] if arguments[-1] == '--json' else ''}".strip(),
            arguments,
            (),
            _into(f"x{NASTY.replace('/', '')}"),
            harmless=True,
        )
        for arguments in (
            ("tree", f"./x{NASTY}"),
            ("tree", f"./x{NASTY}", "--json"),
            ("params", f"./x{NASTY}"),
            ("embed", "hi", "-m", f"./x{NASTY}"),
            ("plan", "hi", "-m", f"./x{NASTY}"),
            ("plan", "hi", "-m", f"./x{NASTY}", "--json"),
        )
    ),
    Stranger(
        "bytes: folder's name without weights",
        ("params", f"./x{NASTY}"),
        ("no weights",),
        all_of(gone("model.safetensors"), _into(f"x{NASTY}")),
    ),
    Stranger(
        "bytes: folder's name that is long",
        ("tree", "./" + "x" * 250),
        ("config.json",),
        all_of(gone("config.json"), _into("x" * 250)),
    ),
    Stranger("bytes: index's file name", EMBED, (INDEX,), mapped(NASTY + ".safetensors")),
    Stranger("bytes: index's file name, params --json", (*PARAMS, "--json"), (INDEX,), mapped("\u202e.safetensors")),
    Stranger("bytes: a shard of that name, plan", PLAN, (), lambda f: _nasty_shard(f), harmless=True),
    Stranger("bytes: a shard of that name, params", PARAMS, ("tensor",), lambda f: _nasty_shard(f), harmless=True),
    Stranger(
        "bytes: index's tensor name", EMBED, (INDEX,), index_changed(lambda c: c["weight_map"].update({NASTY: 5}))
    ),
    Stranger(
        "bytes: gguf architecture",
        GGUF_TREE,
        ("'./model.gguf'",),
        raw_gguf(gguf_text("general.architecture") + struct.pack("<I", 8) + gguf_text(NASTY)),
    ),
    Stranger(
        "bytes: gguf tensor name that is cut off, params",
        GGUF_PARAMS,
        ("model.gguf",),
        raw_gguf(tensors=gguf_text(NASTY) + struct.pack("<IQIQ", 1, 2**40, 0, 0), count=1),
    ),
    Stranger(
        "bytes: gguf tensor name, params",
        GGUF_PARAMS,
        ("8",),
        raw_gguf(tensors=gguf_text(NASTY) + struct.pack("<IQIQ", 1, 8, 0, 0), count=1),
        harmless=True,
    ),
    Stranger("bytes: gguf name, params", GGUF_PARAMS, ("tensor",), gguf(general__name=NASTY), harmless=True),
    Stranger(
        "bytes: bin tensor name, params",
        PARAMS,
        (),
        torch_file(lambda t, f: torch.save(t | {NASTY: t[FC1]}, f)),
        harmless=True,
    ),
    Stranger("bytes: pickled global, embed", EMBED, (BIN,), pickled(memo(b"c\x1b]0;title\x07\nx\r\n)R")), apart=True),
)


def _of_nan(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors[FC1].fill_(float("nan"))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def _rename_token(content: Any, old: str, new: str) -> None:
    """Give a special token of a tokenizer another name, wherever it stands."""
    vocabulary = content["model"]["vocab"]
    vocabulary[new] = vocabulary.pop(old)
    for each in content["added_tokens"]:
        if each["content"] == old:
            each["content"] = new
    template = content["post_processor"]
    template["special_tokens"] = {new: {"id": new, "ids": [vocabulary[new]], "tokens": [new]}}
    for piece in template["single"] + template["pair"]:
        if "SpecialToken" in piece:
            piece["SpecialToken"]["id"] = new


def _all_nasty(content: Any) -> None:
    """Give every token of a vocabulary but the special ones a nasty name, in a tokenizer that is not byte-level."""
    content["model"]["vocab"] = {
        token if id < 8 else {ord("h") + 8: "h", ord("i") + 8: "i"}.get(id, f"{NASTY}{id}"): id
        for token, id in content["model"]["vocab"].items()
    }
    content["pre_tokenizer"] = content["decoder"] = None
    content["model"]["merges"] = []


def _nasty_shard(folder: Path) -> None:
    to_shards(folder)
    old, new = "model-00001-of-00002.safetensors", f"{NASTY}.safetensors"
    (folder / old).rename(folder / new)

    def change(content: Any) -> None:
        content["weight_map"] = {name: new if file == old else file for name, file in content["weight_map"].items()}

    change_json(INDEX, change)(folder)
