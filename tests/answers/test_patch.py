"""Where the difference between two texts is: planted circuits, plain hooks in float64, and what is known otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer
from typer.testing import Result

import txinspect
from tests.making.circuits import INDUCTION, PREVIOUS, save_circuit
from tests.making.models import buildable_types, by_type, save_tiny
from txinspect import InspectError, PatchQuery
from txinspect.answers import sweeping
from txinspect.answers.patches import sides
from txinspect.answers.running import Running
from txinspect.errors import UsageError
from txinspect.model import Model

Run = Callable[..., Result]

FRANCE, RUSSIA = "The capital of France is", "The capital of Russia is"
MARY = "When Mary and John went to the store, {} gave a drink to"


@pytest.fixture(scope="module")
def opt_mini() -> Model:
    return txinspect.load("opt-mini", dtype="float32")


def by_place(report: Any, direction: str = "denoise") -> dict[tuple[int, int], float]:
    """The effects of one direction by layer and head, or position."""
    cells = [each for each in report.cells if each.direction == direction]
    return {(each.layer, each.position if each.head is None else each.head): each.effect for each in cells}


# What is known by other means


def test_a_planted_circuit_is_all_there_is(tmp_path: Path) -> None:
    model = txinspect.load(str(save_circuit(tmp_path / "circuit")))
    report = model.patch("? a b c d a", corrupt="? c b a d a", direction="both").report
    assert [each.text for each in (*report.answers, *report.wrong)] == ["b", "d"]
    for direction in ("denoise", "noise"):
        effects = by_place(report, direction)
        assert effects.keys() == {(layer, head) for layer in range(2) for head in range(3)}
        for place, effect in effects.items():
            assert effect == pytest.approx(1.0 if place in (PREVIOUS, INDUCTION) else 0.0, abs=1e-6), place
    assert report.noise.effect <= 1e-6


def test_heads_of_opt_mini_that_know_the_capital(opt_mini: Model) -> None:
    report = opt_mini.patch(FRANCE, corrupt=RUSSIA, direction="both").report
    assert (report.answers[0].text, report.wrong[0].text) == (" Paris", " Moscow")
    assert (report.clean, report.corrupt) == (pytest.approx(4.095, abs=5e-4), pytest.approx(-2.200, abs=5e-4))
    denoised = by_place(report)
    known = {(0, 1): 0.921, (0, 3): 0.204, (2, 0): 0.100}
    for place, effect in denoised.items():
        if place in known:
            assert effect == pytest.approx(known[place], abs=6e-4)
        else:
            assert abs(effect) <= 0.0905
    assert by_place(report, "noise")[0, 1] == pytest.approx(0.750, abs=6e-4)


def test_the_stream_of_opt_mini_leaves_the_country_behind(opt_mini: Model) -> None:
    effects = by_place(opt_mini.patch(FRANCE, corrupt=RUSSIA, sweep="stream").report)
    assert effects.keys() == {(layer, position) for layer in range(4) for position in range(6)}
    assert effects[0, 4] == pytest.approx(1.000, abs=1e-5)
    assert effects[1, 4] == pytest.approx(0.001, abs=6e-4)
    assert all(effect == 0 for (layer, position), effect in effects.items() if position < 4)


# Against plain hooks


@dataclass(frozen=True)
class Kind:
    """A type of model: how it is loaded, and the modules of a layer that plain hooks change."""

    factory: Any
    projection: str
    """What reads the heads."""
    mlp: str
    layer: str
    options: dict[str, Any]
    answers: tuple[str, str]
    texts: tuple[str, str] = ("abc abd", "axc ayd")


KINDS = {
    "opt": Kind(
        AutoModelForCausalLM,
        "model.decoder.layers.{}.self_attn.out_proj",
        "model.decoder.layers.{}.fc2",
        "model.decoder.layers.{}",
        {},
        ("e", "q"),
    ),
    "gpt2": Kind(
        AutoModelForCausalLM, "transformer.h.{}.attn.c_proj", "transformer.h.{}.mlp", "transformer.h.{}", {}, ("e", "q")
    ),
    "llama": Kind(
        AutoModelForCausalLM, "model.layers.{}.self_attn.o_proj", "model.layers.{}.mlp", "model.layers.{}", {}, ("e", "q")
    ),
    "bert": Kind(
        AutoModelForMaskedLM,
        "bert.encoder.layer.{}.attention.output.dense",
        "bert.encoder.layer.{}.output.dense",
        "bert.encoder.layer.{}",
        {"masks": ("-2",)},
        ("e", "q"),
    ),
    "transformer-mini": Kind(
        AutoModelForSeq2SeqLM,
        "model.decoder.layers.{}.encoder_attn.out_proj",
        "model.decoder.layers.{}.fc2",
        "model.decoder.layers.{}",
        {"decoder": "la", "cross": True},
        ("rapida", "maljuna"),
        ("the quick fox", "the old fox"),
    ),
}


def folder_of(kind: str, tmp_path: Path) -> Path:
    if kind == "transformer-mini":
        return Path(txinspect.__file__).parent / "bundled" / kind
    return save_tiny(kind, tmp_path / kind, task="masked-lm" if kind == "bert" else "causal-lm")


@contextmanager
def hooked(module: nn.Module, change: Callable[[Tensor], Tensor | None], *, before: bool) -> Iterator[None]:
    """A plain hook that changes what a module reads first, or passes on."""

    def reads(_module: nn.Module, args: Any) -> Any:
        changed = change(args[0])
        return None if changed is None else (changed, *args[1:])

    def passes(_module: nn.Module, _args: Any, output: Any) -> Any:
        return change(output)

    handle: Any = module.register_forward_pre_hook(reads) if before else module.register_forward_hook(passes)
    try:
        yield
    finally:
        handle.remove()


def log_softmax(logits: Any) -> Any:
    logits = logits.astype("float64")
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


METRICS: dict[str, Callable[[Any, Any, list[int]], float]] = {
    "logit-difference": lambda row, _clean, ids: row[ids[0]] - row[ids[1]],
    "logprob": lambda row, _clean, ids: log_softmax(row)[ids[0]],
    "prob": lambda row, _clean, ids: np.exp(log_softmax(row)[ids[0]]),
    "kl": lambda row, clean, _ids: float(
        (np.exp(log_softmax(clean)) * (log_softmax(clean) - log_softmax(row))).sum()
    ),
}


def expected(kind: str, folder: Path, report: Any, way: str) -> dict[tuple[int, int | None, int | None], float]:
    """The effects by plain transformers and ordinary hooks: one pass for each cell, in float64 behind the logits."""
    made = KINDS[kind]
    model = made.factory.from_pretrained(folder, dtype=torch.float32).eval()
    inputs = [torch.tensor(each.input_ids) for each in (report.input, report.other_input)]
    given = {} if report.input.decoder is None else {"decoder_input_ids": torch.tensor(report.input.decoder.input_ids)}
    at = -1
    if kind == "bert":
        mask = AutoTokenizer.from_pretrained(folder).mask_token_id
        at = int((inputs[0][0] == mask).nonzero())
    before = report.sweep in ("heads", "stream")
    template = {"heads": made.projection, "attention": made.projection, "mlp": made.mlp, "stream": made.layer}
    modules = {cell.layer: model.get_submodule(template[report.sweep].format(cell.layer)) for cell in report.cells}

    def row(ids: Tensor) -> Any:
        with torch.no_grad():
            return model(input_ids=ids, **given).logits[0, at].numpy().astype("float64")

    receiver, source = inputs[::-1] if way == "denoise" else inputs
    values: dict[int, Tensor] = {}
    with ExitStack() as stack:
        for layer, module in modules.items():
            keep = lambda tensor, layer=layer: values.update({layer: tensor.clone()})  # noqa: E731
            stack.enter_context(hooked(module, keep, before=before))
        other = row(source)
    own = row(receiver)
    clean = other if way == "denoise" else own
    answers = [each.ids[0] for each in (*report.answers, *report.wrong)]
    metric = METRICS[report.metric]
    low, high = (metric(each, clean, answers) for each in (own, other))
    found = {}
    for cell in (each for each in report.cells if each.direction == way):

        def change(tensor: Tensor, cell: Any = cell) -> Tensor:
            new, value = tensor.clone(), values[cell.layer]
            if cell.head is not None:
                size = tensor.shape[-1] // heads(model)
                mine = slice(size * cell.head, size * (cell.head + 1))
                new[..., mine] = value[..., mine]
            elif cell.position is not None:
                new[:, cell.position] = value[:, cell.position]
            else:
                new = value
            return new

        with hooked(modules[cell.layer], change, before=before):
            patched = metric(row(receiver), clean, answers)
        found[cell.layer, cell.head, cell.position] = (patched - low) / (high - low)
    return found


def heads(model: nn.Module) -> int:
    config: Any = model.config
    return int(getattr(config, "decoder_attention_heads", None) or config.num_attention_heads)


def check(kind: str, folder: Path, options: dict[str, Any]) -> Any:
    """The report of a patch, every cell of which is what plain hooks give."""
    made = KINDS[kind]
    given: dict[str, Any] = {**made.options, **options}
    if given.get("sweep") not in (None, "heads", "attention"):
        given.pop("cross", None)
    if given.get("metric", "logit-difference") == "logit-difference":
        given["wrong"] = made.answers[1]
    if given.get("metric") != "kl":
        given["answer"] = made.answers[0]
    clean, corrupt = made.texts
    model = txinspect.load(str(folder), dtype="float32")
    report = model.patch(clean, corrupt=corrupt, force=True, direction="both", **given).report
    for way in ("denoise", "noise"):
        plain = expected(kind, folder, report, way)
        cells = [each for each in report.cells if each.direction == way]
        assert {(each.layer, each.head, each.position) for each in cells} == plain.keys()
        gap = abs(report.clean - report.corrupt)
        for each in cells:
            assert each.effect * gap == pytest.approx(plain[each.layer, each.head, each.position] * gap, abs=5e-5), each
    assert max(abs(each.effect) for each in report.cells) > 10 * report.noise.effect
    return report


@pytest.mark.parametrize("kind", KINDS)
def test_every_head_against_plain_hooks(kind: str, tmp_path: Path) -> None:
    report = check(kind, folder_of(kind, tmp_path), {})
    assert {each.head for each in report.cells} == set(range(4))


@pytest.mark.pairs
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("sweep", ["heads", "attention", "mlp", "stream"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_sweep_and_metric_against_plain_hooks(kind: str, sweep: str, metric: str, tmp_path: Path) -> None:
    check(kind, folder_of(kind, tmp_path), {"sweep": sweep, "metric": metric})
