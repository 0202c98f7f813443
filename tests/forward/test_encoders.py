"""Every masked-LM and text seq2seq type of transformers: what is recorded equals what transformers computes.

The reference is a plain forward of the same checkpoint with ordinary hooks, and for the weights one with
`attn_implementation="eager"` and `output_attentions=True`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor
from transformers import PreTrainedModel

import txinspect
from tests.making.hooks import Seen, seen_by_hooks
from tests.making.models import AUTO_CLASS, Task, buildable_types, save_tiny
from tests.making.writing import assert_own_values_leave_every_bit, assert_what_is_recorded_is_what_was_written
from txinspect import InspectError, ModelChoice
from txinspect.anatomy import locating
from txinspect.anatomy.architecture import Architecture, Layer, Supply
from txinspect.anatomy.families import NO_SOFTMAX
from txinspect.forward import capture, checking, rehearsal, wants
from txinspect.forward.capture import CaughtTensor
from txinspect.forward.inputs import call, logits_of
from txinspect.forward.wants import Plan, Want
from txinspect.guards.quiet import quiet
from txinspect.loading.subject import load_subject
from txinspect.loading.weights import partial
from txinspect.render.terminal import render
from txinspect.stage_names import DECODER, ENCODER
from txinspect.texts.opened import Opened

OFTEN = (
    *("bert", "albert", "deberta-v2", "squeezebert", "funnel"),
    *("bart", "t5", "longt5", "prophetnet"),
)
"""The types that the tests take by default, one at least of every kind; `-m conformance` takes the others."""

REPORT_OTHERWISE = {
    "longt5": "its encoder reports blocks of weights, in another order",
    "prophetnet": "it reports scores before the softmax",
    "squeezebert": "it reports scores before the softmax",
    "t5gemma2": "its decoder reports one softmax over both texts, as here",
    "nystromformer": "it reports what is left of three softmaxes",
    "perceiver": "it reports its cross-attentions apart",
}
"""Types whose own report of weights is not compared: its rows, sums and context are, as those of all are."""

ORDER_MATTERS_LITTLE = ("funnel", "perceiver")
"""Types whose sequence gets shorter or longer within: rows are not the text's tokens."""

SAMPLED = ("yoso", "fnet", "reformer")
"""Types without a softmax over tokens in every layer."""

NOT_REHEARSED = ("nllb-moe", "switch_transformers", "xmod")
"""Types whose code branches on what only weights can tell: their modules count by their place."""


@dataclass(frozen=True)
class Observed:
    """One model, recorded and not."""

    model_type: str
    task: Task
    folder: Path
    model: PreTrainedModel
    architecture: Architecture
    inputs: dict[str, Tensor]
    plain: Tensor
    captured: Seen

    @property
    def choice(self) -> ModelChoice:
        return ModelChoice(name=str(self.folder), task=self.task)

    @property
    def layers(self) -> list[tuple[str, int, Layer]]:
        return list(self.architecture.numbered_layers())


def kinds() -> list[Any]:
    tasks: tuple[Task, ...] = ("masked-lm", "seq2seq-lm")
    pairs = [(task, name) for task in tasks for name in buildable_types(task)]
    return [
        pytest.param(
            pair, id="-".join(pair), marks=() if pair[1] in OFTEN and _first(pair) else pytest.mark.conformance
        )
        for pair in pairs
    ]


def _first(pair: tuple[Task, str]) -> bool:
    """Of types that are of both kinds, the default takes the second."""
    return pair[0] == "seq2seq-lm" or pair[1] not in buildable_types("seq2seq-lm")


def load(task: Task, folder: Path, **options: Any) -> PreTrainedModel:
    model: PreTrainedModel = AUTO_CLASS[task].from_pretrained(folder, **options)
    model.eval()
    return model


def inputs_of(model: PreTrainedModel, length: int, *, padded: int = 0) -> dict[str, Tensor]:
    """Random bytes for both texts; the last tokens of the first one may be padding."""
    generator = torch.Generator().manual_seed(length)
    ids = torch.randint(8, 264, (1, length), generator=generator)
    mask = torch.ones(1, length, dtype=torch.long)
    mask[:, length - padded :] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = torch.randint(8, 264, (1, 7), generator=generator)
    return inputs


def plain_logits(model: PreTrainedModel, inputs: dict[str, Tensor]) -> Tensor:
    """As a person calls the model; of what its forward takes."""
    given = dict(inputs)
    if model.config.model_type == "fnet":
        del given["attention_mask"]
    options = {"use_cache": False} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        logits: Tensor = model(**given, **options).logits
    return logits


def record(model: PreTrainedModel, inputs: dict[str, Tensor], only: Callable[[str], bool] = lambda _: True) -> Seen:
    found = locating.locate(model)
    supplies = [each for each in found.supplies() + found.module_supplies() if each.available and only(each.name)]
    captured: Seen = defaultdict(list)

    def receive(caught: CaughtTensor) -> None:
        supply = caught.want.supply
        captured[supply.name, supply.module or ""].append(caught.tensor.whole().clone())

    capture.run(model, inputs, Plan([Want(each, by_glob=True) for each in supplies], until=None), receive)
    return captured


@pytest.fixture(scope="module", params=kinds())
def observed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Observed:
    task, model_type = request.param
    folder = save_tiny(model_type, tmp_path_factory.mktemp("tiny") / model_type, task=task)
    model = load(task, folder)
    locating.settle(model, 10)
    inputs = inputs_of(model, 10)
    plain = plain_logits(model, inputs)
    return Observed(model_type, task, folder, model, locating.locate(model), inputs, plain, record(model, inputs))


def test_recording_leaves_the_logits_as_they_are(observed: Observed) -> None:
    (recorded,) = observed.captured["logits", ""]
    assert torch.equal(recorded, observed.plain)
    with torch.no_grad():
        assert torch.equal(logits_of(call(observed.model, observed.inputs)), observed.plain)


def test_own_values_written_back_leave_every_bit(observed: Observed) -> None:
    assert_own_values_leave_every_bit(observed.model, observed.inputs, observed.plain)


def test_what_is_recorded_is_what_was_written(observed: Observed) -> None:
    assert_what_is_recorded_is_what_was_written(observed.model, observed.inputs, observed.plain)


def test_module_tensors_are_what_hooks_see(observed: Observed) -> None:
    seen = seen_by_hooks(observed.model, lambda: plain_logits(observed.model, observed.inputs))
    compared = 0
    for supply in observed.architecture.supplies() + observed.architecture.module_supplies():
        if not supply.available or supply.tap not in ("input", "output") or supply.pick is not None:
            continue
        ours, theirs = observed.captured[supply.name, supply.module or ""], seen[supply.tap, supply.module or ""]
        theirs = theirs if supply.run is None else theirs[supply.run - 1 : supply.run]
        assert len(ours) == len(theirs), supply.name
        for mine, hooked in zip(ours, theirs, strict=True):
            assert torch.equal(mine.reshape(hooked.shape), hooked), supply.name
            compared += 1
    assert compared > 20


def attentions(observed: Observed, cross: bool | None = None) -> Iterator[tuple[str, str, Layer]]:
    """Stage, module and layer of every attention whose weights can be had: all, or those to another text or not."""
    for prefix, index, layer in observed.layers:
        groups = {"attention": layer.attentions, "cross_attention": layer.cross_attentions}
        for group, paths in groups.items():
            if cross is not None and (group == "cross_attention") != cross:
                continue
            for path in paths:
                if observed.architecture.class_names[path] not in NO_SOFTMAX:
                    yield f"{prefix}layers.{index}.{group}", path, layer


def test_weights_equal_eager(observed: Observed) -> None:
    if observed.model_type in REPORT_OTHERWISE or observed.model_type in SAMPLED:
        return
    try:
        model = load(observed.task, observed.folder, attn_implementation="eager")
    except (KeyError, ValueError):  # files with attention of their own may take no implementation
        model = load(observed.task, observed.folder)
    locating.settle(model, 10)
    options = {"use_cache": False} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        output = model(**observed.inputs, **options, output_attentions=True)
    compared = 0
    for stage, path, _ in attentions(observed):
        prefix, _, rest = stage.partition("layers.")
        number, _, group = rest.partition(".")
        field = {
            (ENCODER, "attention"): "encoder_attentions",
            (DECODER, "attention"): "decoder_attentions",
            (DECODER, "cross_attention"): "cross_attentions",
        }.get((prefix, group), "attentions")
        reported = getattr(output, field, None)
        (mine,) = observed.captured[f"{stage}.weights", path]
        theirs = reported[int(number)] if reported else None
        assert isinstance(theirs, Tensor), field
        assert mine.shape == theirs.shape
        assert (mine - theirs).abs().max() <= 1e-5, stage
        compared += 1
    assert compared == len(list(attentions(observed)))


def test_rows_sum_to_one_and_see_what_they_may(observed: Observed) -> None:
    """Encoder rows see both sides, decoder rows what was before, cross rows all of the source."""
    for stage, path, _ in attentions(observed):
        for weights in observed.captured[f"{stage}.weights", path]:
            assert (weights.sum(-1) - 1).abs().max() <= 1e-5, stage
            rows, keys = weights.shape[-2:]
            if stage.startswith(DECODER) and ".attention" in stage and weights.ndim == 4 and rows == keys:
                assert torch.triu(weights, 1).abs().max() == 0, stage
            elif rows == keys == 10 and not stage.startswith(DECODER):
                assert weights[..., 0, 1:].abs().max() > 0, stage
            elif "cross_attention" in stage:
                assert keys == 10


def test_padding_of_the_source_gets_no_weight(observed: Observed) -> None:
    inputs = inputs_of(observed.model, 10, padded=3)
    captured = record(observed.model, inputs, lambda name: name.endswith("attention.weights"))
    looked = 0
    for stage, path, _ in attentions(observed):
        for weights in captured[f"{stage}.weights", path]:
            own = not stage.startswith(DECODER) and weights.shape[-2:] == (10, 10)
            if own or ("cross_attention" in stage and weights.shape[-1] == 10):
                assert weights[..., :7, 7:].abs().max() <= 1e-6, stage
                looked += 1
    assert looked or observed.model_type in (*SAMPLED, *ORDER_MATTERS_LITTLE) or not list(attentions(observed))


def test_weights_times_values_is_the_context(observed: Observed) -> None:
    if observed.model_type in ("nystromformer", *SAMPLED):  # it adds a convolution of v to the context in place
        return
    for stage, path, _ in attentions(observed):
        parts = [observed.captured[f"{stage}.{part}", path] for part in ("weights", "v", "context")]
        for weights, value, context in zip(*parts, strict=True):
            repeats = weights.shape[-3] // value.shape[-3]
            expected = weights @ (value.repeat_interleave(repeats, -3) if repeats > 1 else value)
            torch.testing.assert_close(context, expected, rtol=1e-4, atol=1e-5)


def test_the_weights_in_use_give_what_all_give(observed: Observed) -> None:
    prefix = observed.architecture.stacks[0].prefix
    for stages in ([f"{prefix}layers.0.output"], [f"{observed.architecture.main.prefix}layers.1.input"]):
        subject = load_subject(Opened(observed.choice), lambda _: None, 10)
        plan = wants.plan_of_names(subject, stages)
        with quiet():
            used = rehearsal.rehearse(subject, observed.inputs, plan)
        assert used.guessed_because is None or observed.model_type in NOT_REHEARSED, used.guessed_because
        loaded = partial.load(subject, observed.choice, used.modules)
        locating.settle(loaded.model, 10)
        came: Seen = defaultdict(list)

        def receive(caught: CaughtTensor, came: Seen = came) -> None:
            supply = caught.want.supply
            came[supply.name, supply.module or ""].append(caught.tensor.whole().clone())

        with quiet():
            capture.run(loaded.model, observed.inputs, plan, receive)
        assert came
        for key, tensors in came.items():
            assert all(torch.equal(mine, whole) for mine, whole in zip(tensors, observed.captured[key], strict=True))


def test_no_check_fails(observed: Observed) -> None:
    checks = checking.check(observed.model, observed.architecture, observed.inputs)
    assert [check.detail for check in checks if check.passed is False] == []


def test_axes_name_every_dimension(observed: Observed) -> None:
    for supply in observed.architecture.supplies():
        for tensor in observed.captured.get((supply.name, supply.module or ""), [])[:1]:
            assert supply.axes is not None
            assert _fits(supply, tensor), (supply.name, supply.axes, tensor.shape)


def _fits(supply: Supply, tensor: Tensor) -> bool:
    """One axis more where there are streams or blocks; one less where a table has no batch."""
    length = len(supply.axes or ())
    extra = supply.tap == "attention" and tensor.ndim == length + 1
    return tensor.ndim == length or extra or supply.name.endswith("position_embeddings")


def queries(observed: Observed) -> dict[str, Any]:
    base: dict[str, Any] = {"model": observed.choice, "text": "hello you"}
    last = base | ({"decoder": "so so"} if observed.task == "seq2seq-lm" else {})
    found: dict[str, Any] = {
        "tree": txinspect.TreeQuery(model=observed.choice),
        "stages": txinspect.StagesQuery(model=observed.choice),
        "tokenize": txinspect.TokenizeQuery(**base),
        "embed": txinspect.EmbedQuery(**last),
        "pos": txinspect.PosQuery(**last),
        "attn": txinspect.AttnQuery(**last, layer=0),
        "run": txinspect.RunQuery(**last, stages=("**",)),
        "logits": txinspect.LogitsQuery(**last, position=None),
        "heads": txinspect.HeadsQuery(**last),
        "lens": txinspect.LensQuery(**last),
        "diff": txinspect.DiffQuery(**last, against_dtype="bfloat16"),
    }
    if len(observed.architecture.stacks) > 1:
        found["encoder"] = txinspect.AttnQuery(**last, layer=0, encoder=True)
        found["cross"] = txinspect.AttnQuery(**last, layer=0, cross=True)
    return found


def test_commands_end_with_a_report_or_a_reason(observed: Observed) -> None:
    """No command ends in a traceback: each gives a report that can be drawn and piped, or one sentence."""
    refused: dict[str, str] = {}
    for name, query in queries(observed).items():
        try:
            report = txinspect.inspect(query)
        except InspectError as error:
            refused[name] = str(error)
            continue
        assert txinspect.to_json(report)
        render(report, Console(file=StringIO(), width=80))
        tensors = getattr(report, "tensors", ())
        assert len({tensor.name for tensor in tensors}) == len(tensors)
        assert not any(tensor.stats.nan for tensor in tensors)
    assert all(len(sentence.splitlines()) == 1 for sentence in refused.values())
    allowed = {"pos", "attn", "encoder", "heads", "lens", "logits", "diff", "cross"}
    assert refused.keys() <= allowed, refused
