"""The numbers in config.json, whatever a family calls them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import GPT2Config
from typer.testing import Result

from tests.making.models import buildable_types, by_type, byte_tokenizer, tiny_config
from txinspect.sources.config import FIELD_NAMES, number


def test_a_folder_of_gpt2_knows_its_numbers(tmp_path: Path, run_cli: Callable[..., Result]) -> None:
    config = GPT2Config(n_layer=5, n_head=3, n_embd=48, vocab_size=384)
    config.save_pretrained(tmp_path)
    byte_tokenizer(config).save_pretrained(tmp_path)
    assert "n_layer" in json.loads((tmp_path / "config.json").read_text())
    report = json.loads(run_cli("tokenize", "hi", "-m", tmp_path, "--json").stdout)["model"]
    assert (report["num_hidden_layers"], report["num_attention_heads"], report["hidden_size"]) == (5, 3, 48)
    assert (report["num_key_value_heads"], report["vocab_size"]) == (3, 384)
    assert "5 layers" in run_cli("tokenize", "hi", "-m", tmp_path).stdout


COUNTED_OTHERWISE = {
    "dory": "its file counts attention and MLP as two layers",
    "longcat_flash": "its class counts the two attentions of a layer",
    "nemotron_h": "its class counts the letters of a pattern",
}
"""Types whose class computes the number of layers."""


@pytest.mark.parametrize("model_type", by_type(buildable_types()))
@pytest.mark.parametrize("field", ["num_hidden_layers", "num_attention_heads", "hidden_size", "vocab_size"])
def test_what_the_file_says_is_what_transformers_reads(model_type: str, field: str, tmp_path: Path) -> None:
    config = tiny_config(model_type)
    config.save_pretrained(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    try:
        read: Any = getattr(config.get_text_config(decoder=True), field, None)
    except RuntimeError:  # it differs by layer
        return
    if field == "num_hidden_layers" and model_type in COUNTED_OTHERWISE:
        assert number(raw, field) != read
    else:
        assert number(raw, field) == read


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        ({}, None),
        ({"num_hidden_layers": 3, "n_layer": 4}, 3),
        ({"n_layer": True}, None),
        ({"num_hidden_layers": "3", "n_layers": 4}, 4),
        ({"num_hidden_layers": [3]}, None),
        ({"text_config": {"n_layer": 7}}, 7),
        ({"text_config": "none", "decoder": {"num_layers": 2}}, 2),
    ],
)
def test_odd_files(raw: dict[str, Any], found: int | None) -> None:
    assert number(raw, "num_hidden_layers") == found


def test_every_number_has_its_common_name_first() -> None:
    assert all(names[0] == field for field, names in FIELD_NAMES.items())
