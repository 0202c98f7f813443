"""A model at hand in Python: arrays are what the model computes, drawings and errors are the terminal's."""

from __future__ import annotations

import inspect as python
import pydoc
import re
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import txinspect
from tests.making.models import save_tiny
from txinspect import InspectError, PlanQuery, RunQuery
from txinspect.answer import Answer
from txinspect.as_json import to_json
from txinspect.commands import named
from txinspect.errors import UsageError
from txinspect.loading.weights import partial
from txinspect.model import METHODS, Model

TEXT = "abc abd"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("llama", tmp_path_factory.mktemp("model") / "llama")


@pytest.fixture
def model(folder: Path) -> Model:
    return txinspect.load(str(folder))


def test_arrays_are_what_transformers_computes(model: Model, folder: Path) -> None:
    plain = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    ids = AutoTokenizer.from_pretrained(folder)(TEXT, return_tensors="pt")
    entering: list[torch.Tensor] = []
    plain.model.layers[1].register_forward_pre_hook(lambda _, args: entering.append(args[0]))
    with torch.no_grad():
        output = plain(**ids, output_attentions=True)
    answer = model.run(TEXT, stages=("layers.1.input", "layers.1.attention.weights", "logits"))
    assert answer.keys() == ["layers.1.input", "layers.1.attention.weights", "logits"]
    np.testing.assert_allclose(answer["layers.1.input"], entering[0].numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(answer["logits"], output.logits.numpy(), rtol=1e-4, atol=1e-5)
    weights = output.attentions[1].numpy()
    np.testing.assert_allclose(answer["layers.1.attention.weights"], weights, rtol=1e-4, atol=1e-5)
    assert isinstance(answer["logits"], np.ndarray)
    assert isinstance(answer.tensor("logits"), torch.Tensor)


def test_axes_and_tokens_are_told(model: Model) -> None:
    answer = model.attn("the quick fox", layer=1, heads=(1,), queries=(-1, 0))
    tokens = [str(token.text) for token in answer.report.input.tokens]
    weights = "layers.1.attention.weights"
    assert answer.axes(weights) == ["batch", "head", "query", "key"]
    assert answer.labels(weights) == [None, ["1"], [tokens[0], tokens[-1]], tokens]
    assert answer[weights].shape == (1, 1, 2, len(tokens))
    assert answer.labels("layers.1.attention.input")[1] == tokens


def test_tokens_of_two_texts_are_told_apart() -> None:
    answer = txinspect.load("transformer-mini").attn("the fox", decoder="la vulpo", cross=True)
    weights = "decoder.layers.0.cross_attention.weights"
    source = [token.text for token in answer.report.input.tokens]
    target = [token.text for token in answer.report.input.decoder.tokens]
    assert source != target
    assert answer.labels(weights)[2:] == [target, source]


def test_bfloat16_is_float32_for_numpy(folder: Path) -> None:
    answer = txinspect.load(str(folder), dtype="bfloat16").run(TEXT, stages=("logits",))
    assert answer.tensor("logits").dtype == torch.bfloat16
    assert answer["logits"].dtype == np.float32
    np.testing.assert_array_equal(answer["logits"], answer.tensor("logits").float().numpy())


def test_weights_are_loaded_once(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[object] = []
    load = partial.load

    def counted(*given: Any) -> Any:
        loads.append(given)
        return load(*given)

    monkeypatch.setattr(partial, "load", counted)
    for _ in range(2):
        model.logits(TEXT)
        model.heads(TEXT)
        model.attn(TEXT, layer=0)
    assert len(loads) == 1


@pytest.mark.parametrize("name", METHODS)
def test_every_command_is_a_method(name: str, model: Model, folder: Path) -> None:
    """Its report is that of the query; its signature has the query's fields, in Python's spelling."""
    options: dict[str, dict[str, Any]] = {
        "run": {"stages": ("logits",)},
        "diff": {"against_attn": "eager"},
        "ablate": {"baseline": "mean"},
        "patch": {"subject": "fox", "force": True},
        "steer": {"action": "make", "toward": ("good",), "away": ("bad",), "layers": 0},
        "lens": {"top_k": 2},
    }
    own = options.get(name, {})
    answer = getattr(model, name)(**own)
    query: Any = named(name).query
    assert to_json(answer.report) == to_json(txinspect.inspect(query(model=model.choice, **own)))
    signature = str(python.signature(getattr(Model, name)))
    assert "Option(" not in signature
    assert "--" not in signature
    own_fields = {each.name for each in fields(query) if each.name != "model"}
    assert set(python.signature(getattr(Model, name)).parameters) == own_fields | {"self"}


def test_other_queries_are_asked(model: Model) -> None:
    plan = model.ask(PlanQuery(model=model.choice, of=RunQuery(model=model.choice, stages=("logits",))))
    assert plan.asked == ["logits"]
    assert plan.keys() == []


def test_it_is_drawn_as_in_a_terminal(model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    answer = model.logits(TEXT)
    answer.show(width=80)
    first = capsys.readouterr().out
    answer.show(width=80, table=True)
    assert "next after" in first
    assert len(capsys.readouterr().out) > len(first)
    with pytest.raises(TypeError, match="depth"):
        answer.show(depth=3)


def test_a_notebook_gets_text_and_a_frame_that_reaches_nothing(model: Model) -> None:
    hostile = model.tokenize("<script>alert(1)</script> \u202e \x1b[31m")
    shown = hostile._repr_mimebundle_()
    assert shown.keys() == {"text/plain", "text/html"}
    assert "\x1b" not in shown["text/plain"]
    frame = shown["text/html"]
    assert frame.startswith('<iframe sandbox="allow-scripts" ')
    assert "<script" not in frame
    assert "alert(1)" in frame
    assert "&lt;script&gt;alert" not in frame  # it is escaped within the page, too
    assert "\u202e" not in frame
    assert set(re.findall(r"https?:[^\s&]*", frame)) == {"http://www.w3.org/2000/svg"}


def test_errors_are_those_of_the_shell(model: Model) -> None:
    with pytest.raises(InspectError, match="layer 7 is out of range"):
        model.attn(TEXT, layer=7)
    with pytest.raises(InspectError, match="no file or directory"):
        txinspect.load("./nowhere")
    with pytest.raises(UsageError, match="dtype 'int8' is unknown"):
        txinspect.load("opt-mini", dtype="int8")
    with pytest.raises(TypeError, match="depth"):
        model.attn(TEXT, depth=1)
    answer = model.attn(TEXT)
    with pytest.raises(InspectError, match=r"no tensor 'layers.0.attention.weigths': did you mean layers.0.attention"):
        answer["layers.0.attention.weigths"]
    assert model.attn(TEXT).keys() == answer.keys()  # what failed left nothing


def test_an_answer_says_what_it_is(model: Model) -> None:
    answer = model.logits(TEXT)
    assert isinstance(answer, Answer)
    assert repr(answer) == "<txinspect logits: 1 tensors>"
    assert answer.to_json() == to_json(answer.report)
    assert answer.predictions is answer.report.predictions
    with pytest.raises(AttributeError, match="nothing"):
        answer.nothing  # noqa: B018


def test_help_fits_two_screens() -> None:
    assert len(pydoc.plain(pydoc.render_doc(txinspect)).splitlines()) <= 100


NOTEBOOK = """
import txinspect
model = txinspect.load("opt-mini")
answer = model.attn("The quick brown fox", layer=0)
assert answer["layers.0.attention.weights"].shape[1] == 4
answer
"""


@pytest.mark.processes
def test_a_notebook() -> None:
    formats: Any = import_module("nbformat.v4")
    processors: Any = import_module("nbconvert.preprocessors")
    notebook = formats.new_notebook(cells=[formats.new_code_cell(NOTEBOOK)])
    processors.ExecutePreprocessor(timeout=300).preprocess(notebook)
    (result,) = (each for each in notebook.cells[0].outputs if each.output_type == "execute_result")
    assert "head 1" in result.data["text/plain"]
    assert result.data["text/html"].startswith('<iframe sandbox="allow-scripts" ')
    assert "viridis" in result.data["text/html"]
