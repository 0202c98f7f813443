"""Why the model says what it says: a circuit planted by hand, plain hooks in float64, what is said of the verdict."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

import txinspect
from tests.making.circuits import INDUCTION, PREVIOUS, save_circuit
from tests.making.models import FEW, buildable_types, by_type, save_tiny
from txinspect import InspectError
from txinspect.answers.why import verdict
from txinspect.commands.why import WhyReport, WithoutRecord
from txinspect.measure.reading import shares
from txinspect.model import Model

FRANCE = "The capital of France is"

HEADS, SIZE = 4, 32
"""Of opt-mini."""


@pytest.fixture(scope="module")
def report() -> WhyReport:
    found: WhyReport = txinspect.load("opt-mini", dtype="float32").why(FRANCE).report
    return found


@pytest.fixture(scope="module")
def opt() -> tuple[Any, Any]:
    folder = Path(txinspect.__file__).parent / "bundled" / "opt-mini"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return model, AutoTokenizer.from_pretrained(folder)


def test_both_heads_of_a_planted_circuit_are_named(tmp_path: Path) -> None:
    model: Model = txinspect.load(str(save_circuit(tmp_path / "circuit")))
    told: WhyReport = model.why("a b c d a b c").report
    first = told.parts[0]
    assert told.logit is not None
    assert (first.layer, first.head) == INDUCTION
    assert first.value == pytest.approx(told.logit, rel=1e-6)
    assert told.written == pytest.approx(told.logit, rel=1e-6)
    assert (first.fall or 0.0) > 0.5 * told.logit
    named = {(part.layer, part.head): part for part in (*told.parts, *told.carriers)}
    assert named[PREVIOUS].value == pytest.approx(0.0, abs=1e-6)
    assert abs(named[PREVIOUS].fall or 0.0) > 0.25 * told.logit
    assert all(abs(part.fall or 0.0) < 1e-6 for place, part in named.items() if place not in (INDUCTION, PREVIOUS))
    assert [read.index for read in first.reads[:1]] == [3]
    assert told.verdict == "confirmed"


def without(opt: tuple[Any, Any], parts: list[str]) -> Any:
    """Logits of the sentence's last token, with parts set to their means over ordinary tokens, by plain hooks."""
    model, tokenizer = opt
    handles = []
    for name in parts:
        stage, _, rest = name.partition("[head=")
        layer = model.model.decoder.layers[int(stage.split(".")[1])]

        def change(context: Tensor, mine: slice) -> Tensor:
            new = context.clone()
            new[:, 1:, mine] = new[:, 1:, mine].double().mean(1, keepdim=True).to(new.dtype)
            return new

        if rest:
            mine = slice(SIZE * int(rest[:-1]), SIZE * (int(rest[:-1]) + 1))
            hook = layer.self_attn.out_proj.register_forward_pre_hook(
                lambda _m, args, mine=mine: (change(args[0], mine),)
            )
        else:
            hook = layer.fc2.register_forward_hook(lambda _m, _i, out: change(out[None], slice(None))[0])
        handles.append(hook)
    try:
        with torch.no_grad():
            return model(**tokenizer(FRANCE, return_tensors="pt")).logits[0, -1].double().numpy()
    finally:
        for hook in handles:
            hook.remove()


def difference(report: WhyReport, logits: Any) -> float:
    return float(logits[report.target.id] - logits[report.wrong.id])


def test_what_falls_against_plain_hooks(report: WhyReport, opt: tuple[Any, Any]) -> None:
    whole = difference(report, without(opt, []))
    assert report.logit == pytest.approx(whole, abs=1e-4)
    story = [*report.parts, *report.carriers]
    names = [part.name if part.head is None else f"{part.name}[head={part.head}]" for part in story]
    for part, name in zip(story, names, strict=True):
        assert part.fall == pytest.approx(whole - difference(report, without(opt, [name])), abs=1e-4)
    assert report.without.parts == names
    assert report.without.logit == pytest.approx(difference(report, without(opt, names)), abs=1e-4)
    assert report.control is not None
    assert not set(report.control.parts) & set(names)
    assert report.control.logit == pytest.approx(difference(report, without(opt, report.control.parts)), abs=1e-4)


def test_what_comes_next_and_what_heads_read_against_plain_transformers(
    report: WhyReport, opt: tuple[Any, Any]
) -> None:
    model, tokenizer = opt
    values: dict[int, Tensor] = {}
    hooks = [
        layer.self_attn.v_proj.register_forward_hook(lambda _m, _i, out, index=index: values.update({index: out[0]}))
        for index, layer in enumerate(model.model.decoder.layers)
    ]
    with torch.no_grad():
        out = model(**tokenizer(FRANCE, return_tensors="pt"), output_attentions=True)
    for hook in hooks:
        hook.remove()
    probabilities = torch.softmax(out.logits[0, -1].double(), -1)
    assert [each.id for each in report.likely] == probabilities.topk(3).indices.tolist()
    assert [each.prob for each in report.likely] == pytest.approx(probabilities.topk(3).values.tolist(), abs=1e-5)
    assert (report.first_at, report.decided_at) == (2, 2)
    heads = [part for part in (*report.parts, *report.carriers) if part.head is not None]
    assert heads
    for part in heads:
        assert part.layer is not None
        assert part.head is not None
        weights = out.attentions[part.layer][0, part.head, -1].double().numpy()
        mine = values[part.layer][:, SIZE * part.head : SIZE * (part.head + 1)].double().numpy()
        moved = weights * np.linalg.norm(mine, axis=-1)
        expected = moved / moved.sum()
        assert [read.index for read in part.reads] == np.argsort(-expected, kind="stable")[:2].tolist()
        assert [read.share for read in part.reads] == pytest.approx(sorted(expected, reverse=True)[:2], abs=1e-5)


def test_heads_that_share_values_read_by_them() -> None:
    weights = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    values = torch.tensor([[[1.0], [1.0], [1.0]], [[0.0], [3.0], [1.0]]], dtype=torch.float64)
    assert shares(weights, values, 0, 4) == pytest.approx([0.5, 0.25, 0.25])
    assert shares(weights, values, 3, 4) == pytest.approx([0.0, 0.75, 0.25])
    assert shares(weights, None, 3, 4) == pytest.approx([0.5, 0.25, 0.25])


def record(logit: float) -> WithoutRecord:
    return WithoutRecord(parts=[], logit=logit)


@pytest.mark.parametrize(
    ("written", "logit", "left", "others", "said"),
    [
        (4.0, 4.0, 0.0, 3.9, "confirmed"),
        (-4.0, -4.0, 0.0, -3.9, "confirmed"),
        (4.0, 4.0, 0.0, None, "confirmed"),
        (4.0, 4.0, 3.0, 3.9, "made up for"),
        (4.0, 4.0, 1.0, 1.0, "no more than others"),
        (4.0, 4.0, 5.0, 4.0, "not confirmed"),
        (4.0, 4.0, 3.9999, 4.0, "below the noise"),
        (1.0, 4.0, 0.0, 4.0, "too few"),
        (-1.0, 4.0, 0.0, 4.0, "too few"),
    ],
)
def test_the_verdict_is_what_was_measured(
    written: float, logit: float, left: float, others: float | None, said: str
) -> None:
    control = None if others is None else record(others)
    assert verdict(written, logit, record(left), control, 1e-4) == said


def test_other_tokens_may_be_asked_about(report: WhyReport) -> None:
    other: WhyReport = txinspect.load("opt-mini", dtype="float32").why(FRANCE, target=" Moscow", wrong=" Paris").report
    assert other.logit == pytest.approx(-(report.logit or 0.0), abs=1e-5)
    assert other.likely == report.likely
    assert [(part.layer, part.head) for part in other.parts] == [(part.layer, part.head) for part in report.parts]
    assert other.verdict == report.verdict


@pytest.mark.pairs
@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("transformer-mini", {"decoder": "la vulpo"}),
        ("transformer-mini", {}),
        ("opt-mini", {"top_k": 1}),
        ("opt-mini", {"top_k": 500}),
        ("opt-mini", {"position": 2, "ids": (2, 300, 17, 9)}),
    ],
)
def test_options_and_stacks(model: str, options: dict[str, Any]) -> None:
    told: WhyReport = txinspect.load(model, dtype="float32").why(**options).report
    computed = {"opt-mini": 20, "transformer-mini": 20}[model]  # heads, across too, and MLPs of the last stack
    assert len(told.parts) == min(options.get("top_k", 8), computed)
    assert told.others + len(told.parts) > computed  # embeddings and biases besides
    assert told.written == pytest.approx(sum(part.value or 0.0 for part in told.parts))
    assert (told.control is None) == (options.get("top_k") == 500)
    if options.get("ids"):
        assert told.position == 2


@pytest.mark.pairs
def test_at_a_mask_its_own_place_is_left_out_too(tmp_path: Path) -> None:
    folder = save_tiny("bert", tmp_path / "bert", task="masked-lm")
    model, text = txinspect.load(str(folder)), {"masks": ("2",)}
    told: WhyReport = model.why("abc abd abe", **text).report
    assert told.input.tokens[told.position].special
    # The last MLP is not read by other tokens: were the mask's own place kept, nothing would fall.
    last = max(part.layer or 0 for part in told.parts)
    falls = [part.fall for part in told.parts if part.layer == last and part.kind == "mlp"]
    assert falls
    assert all(abs(fall or 0.0) > 0 for fall in falls)


@pytest.mark.pairs
def test_masks_of_a_decoder_that_reads_the_text_itself_are_the_text_s(tmp_path: Path) -> None:
    folder = save_tiny("bart", tmp_path / "bart", task="masked-lm")
    model, text = txinspect.load(str(folder), task="masked-lm"), {"masks": ("2",)}
    masked = model.logits("abc abd abe", **text, top_k=1).report
    first = next(each for each in masked.predictions if each.top)
    place = first.position
    ablated = model.ablate("abc abd abe", **text, baseline="zero", sweep="mlp").report
    assert ablated.positions == [place]
    assert ablated.logprob == pytest.approx(np.log(first.top[0].prob), abs=1e-5)
    assert model.attribute("abc abd abe", **text).report.position == place


def test_a_difference_below_zero_falls_toward_zero(report: WhyReport) -> None:
    other: WhyReport = txinspect.load("opt-mini", dtype="float32").why(FRANCE, target=" Moscow", wrong=" Paris").report
    falls = {part.name + str(part.head): part.fall for part in report.parts}
    for part in other.parts:
        assert part.fall == pytest.approx(falls[part.name + str(part.head)], abs=1e-4)


@pytest.mark.pairs
def test_what_is_capped_is_told_before_the_cap(tmp_path: Path) -> None:
    model = txinspect.load(str(save_tiny("gemma2", tmp_path / "gemma2")), dtype="float32")
    attributed = model.attribute("abd abe").report
    told: WhyReport = model.why("abd abe").report
    assert told.cap == attributed.cap is not None
    assert told.logit == pytest.approx(attributed.logit, rel=1e-3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"position": 0}, "token 0, </s>, is special"),
        ({"target": " nothing like it"}, "target ' nothing like it' is"),
        ({"position": 99}, "position 99 is out of range"),
        ({"target": " Paris", "wrong": " Paris"}, "are the same token"),
    ],
)
def test_what_cannot_be_asked(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InspectError, match=said):
        txinspect.load("opt-mini").why(FRANCE, **options)


def _answers(name: str, folder: Path) -> None:
    model = txinspect.load(str(save_tiny(name, folder / name)), dtype="float32")
    told: WhyReport | None = None
    with suppress(InspectError):
        told = model.why("a b c d").report
    assert told is None or (told.parts and told.verdict)


@pytest.mark.parametrize("name", by_type(buildable_types(), FEW, pytest.mark.sweeps))
def test_every_type_tells_or_says_why_not(name: str, tmp_path: Path) -> None:
    _answers(name, tmp_path)
