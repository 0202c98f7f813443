"""Positions of every kind, against formulas of the papers and plain modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from tests.making.models import save_tiny
from txinspect.commands.pos import PosQuery
from txinspect.inspecting import inspect
from txinspect.model_choice import ModelChoice
from txinspect.records import TensorRecord


def tables(model_type: str, folder: Path) -> dict[str, TensorRecord]:
    save_tiny(model_type, folder)
    report = inspect(PosQuery(model=ModelChoice(name=str(folder)), text="hello you", values=True))
    return {tensor.name: tensor for tensor in report.tensors}


@pytest.mark.parametrize("model_type", ["bloom", "mpt"])
def test_alibi_slopes_are_a_geometric_series(model_type: str, tmp_path: Path) -> None:
    """Press et al. 2022: for 4 heads 2^-2, 2^-4, 2^-6, 2^-8."""
    (slopes,) = tables(model_type, tmp_path).values()
    assert (slopes.name, slopes.axes) == ("position_embeddings", ["head"])
    np.testing.assert_allclose(slopes.values, [2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8], rtol=1e-6)


@pytest.mark.parametrize("model_type", ["gptj", "codegen"])
def test_rotary_tables_in_a_buffer(model_type: str, tmp_path: Path) -> None:
    """Su et al. 2021: the angle of position p and pair i is p · 10000^(-2i/d)."""
    found = tables(model_type, tmp_path)
    _, length, half = found["position_embeddings.cos"].shape
    angles = np.outer(np.arange(length), 10000.0 ** (-np.arange(half) / half))
    np.testing.assert_allclose(found["position_embeddings.cos"].values[0], np.cos(angles), atol=1e-5)
    np.testing.assert_allclose(found["position_embeddings.sin"].values[0], np.sin(angles), atol=1e-5)


def test_rotary_tables_of_every_kind_of_layer(tmp_path: Path) -> None:
    """Gemma 3 makes one pair for sliding and one for full attention: the pass may not stop after the first."""
    found = tables("gemma3_text", tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    for kind in ("sliding_attention", "full_attention"):
        length = found[f"position_embeddings.{kind}.cos"].shape[1]
        pair = model.model.rotary_emb(torch.zeros(1, length, 64), torch.arange(length)[None], kind)
        for table, wanted in zip(("cos", "sin"), pair, strict=True):
            assert torch.equal(torch.tensor(found[f"position_embeddings.{kind}.{table}"].values), wanted)
    assert len(found) == 4


@pytest.mark.parametrize(
    ("model_type", "dtype"),
    [("ctrl", "bfloat16"), ("gptj", "bfloat16"), ("bloom", "bfloat16"), ("codegen", "float32")],
)
def test_tables_are_of_the_type_in_which_they_act(model_type: str, dtype: str, tmp_path: Path) -> None:
    save_tiny(model_type, tmp_path)
    choice = ModelChoice(name=str(tmp_path), dtype="bfloat16")
    report = inspect(PosQuery(model=choice, text="hello you"))
    assert {tensor.dtype for tensor in report.tensors} == {dtype}


def test_a_complex_table_is_reported_in_pairs(tmp_path: Path) -> None:
    """DeepSeek-V2 multiplies by e^(i·angle): its real part is the cosine, its imaginary one the sine."""
    (table,) = tables("deepseek_v2", tmp_path).values()
    pairs = np.array(table.values)
    assert pairs.shape == (*table.shape, 2)
    np.testing.assert_allclose(np.square(pairs).sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(pairs[0, 1, 0], [np.cos(1), np.sin(1)], rtol=1e-5)


def test_tables_run_no_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tiny("bloom", tmp_path)
    ran: list[str] = []
    call = nn.Module.__call__

    def noted(module: nn.Module, *arguments: Any, **options: Any) -> Any:
        ran.append(type(module).__name__)
        return call(module, *arguments, **options)

    monkeypatch.setattr(nn.Module, "__call__", noted)
    inspect(PosQuery(model=ModelChoice(name=str(tmp_path)), text="hello you"))
    assert ran == []
