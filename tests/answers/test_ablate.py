"""What is lost without a part: against plain hooks in float64, and what is known of opt-mini by other means."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer
from typer.testing import Result

import txinspect
from tests.making.models import buildable_types, by_type, save_tiny
from txinspect import AblateQuery, InspectError
from txinspect.answers import sweeping
from txinspect.answers.running import Running
from txinspect.errors import UsageError
from txinspect.model import Model

pytestmark = pytest.mark.pairs

Run = Callable[..., Result]

SENTENCE = "The quick brown fox jumps over the lazy dog"


@pytest.fixture(scope="module")
def opt_mini() -> Model:
    return txinspect.load("opt-mini", dtype="float32")


@pytest.fixture(scope="module")
def opt() -> tuple[Any, Any]:
    folder = Path(txinspect.__file__).parent / "bundled" / "opt-mini"
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder)


def log_softmax(logits: Any) -> Any:
    logits = logits.astype("float64")
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def plain_logits(opt: tuple[Any, Any], change: Callable[[Tensor], Tensor] | None = None, layer: int = 0) -> Any:
    """Logits of the sentence, with what the output projection of a layer reads changed by a plain hook."""
    model, tokenizer = opt
    projection = model.model.decoder.layers[layer].self_attn.out_proj
    handle = projection.register_forward_pre_hook(lambda _m, args: (change(args[0]),)) if change else None
    try:
        with torch.no_grad():
            return model(**tokenizer(SENTENCE, return_tensors="pt")).logits[0].numpy()
    finally:
        if handle is not None:
            handle.remove()


@pytest.mark.parametrize("baseline", ["zero", "mean"])
def test_every_head_against_plain_hooks(baseline: str, opt: tuple[Any, Any], opt_mini: Model) -> None:
    ids = opt[1](SENTENCE)["input_ids"]
    report = opt_mini.ablate(SENTENCE, baseline=baseline).report
    assert [(part.layer, part.head) for part in report.parts] == [(i, j) for i in range(4) for j in range(4)]
    whole = log_softmax(plain_logits(opt))
    own = whole[range(len(ids) - 1), ids[1:]]
    assert report.logprob == pytest.approx(own.mean(), abs=1e-5)
    for part in report.parts:

        def change(context: Tensor, head: int = part.head) -> Tensor:
            new = context.clone()
            mine = slice(32 * head, 32 * head + 32)
            new[:, 1 if baseline == "mean" else 0 :, mine] = 0 if baseline == "zero" else new[:, 1:, mine].mean(1)
            return new

        without = log_softmax(plain_logits(opt, change, part.layer))
        delta = (without[range(len(ids) - 1), ids[1:]] - own).mean()
        kl = (np.exp(whole) * (whole - without)).sum(-1)[:-1].mean()
        assert part.delta == pytest.approx(delta, abs=2e-5)
        assert part.kl == pytest.approx(kl, abs=2e-5)
        assert part.changed == (whole.argmax(-1) != without.argmax(-1))[:-1].sum()


def test_the_noise_is_what_a_row_beside_others_differs_by(opt_mini: Model) -> None:
    report = opt_mini.ablate(SENTENCE, baseline="mean").report
    assert 0 <= report.noise.delta < 1e-5
    assert 0 <= report.noise.kl < 1e-8
    for part in report.parts:
        assert part.edits == [f"layers.{part.layer}.attention.context[head={part.head}] = mean"]


def test_resampling_from_the_same_text_is_no_effect(opt_mini: Model) -> None:
    report = opt_mini.ablate(SENTENCE, sweep="layers", baseline=f"resample:{SENTENCE}").report
    assert all(abs(part.delta) <= report.noise.delta + 1e-6 for part in report.parts)
    assert all(part.changed == 0 for part in report.parts)


def test_another_text_runs_once_for_a_whole_sweep(opt_mini: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    run = Running.run

    def counted(self: Running, *given: Any, **more: Any) -> Any:
        runs.append(more.get("copies", 1))
        return run(self, *given, **more)

    monkeypatch.setattr(Running, "run", counted)
    monkeypatch.setattr(sweeping, "ROWS", 4)
    opt_mini.ablate(SENTENCE, baseline=f"resample:{SENTENCE}")
    # The text, the other one, then four heads at a time, with two rows beside; before all but the first layer's the
    # text's own pass is seen to go on from there with the same logits.
    assert runs == [1, 1, 6, 1, 1, 6, 1, 6, 1, 6]


@pytest.mark.parametrize("sweep", ["attention", "mlp", "layers"])
def test_a_sweep_is_what_edit_does_by_itself(sweep: str, opt_mini: Model) -> None:
    report = opt_mini.ablate(SENTENCE, sweep=sweep, baseline="zero").report
    assert [part.layer for part in report.parts] == [0, 1, 2, 3]
    whole = log_softmax(opt_mini.run(SENTENCE, stages=("logits",))["logits"][0])
    ids = report.input.input_ids[0]
    for part in report.parts:
        edited = log_softmax(opt_mini.run(SENTENCE, stages=("logits",), edits=tuple(part.edits))["logits"][0])
        rows = range(len(ids) - 1)
        assert part.delta == pytest.approx((edited[rows, ids[1:]] - whole[rows, ids[1:]]).mean(), abs=1e-4)


def copied(model: Model, **options: Any) -> Any:
    """The model card's sequences of 50 random tokens that occur twice; here the first four."""
    drawn = random.Random(3)
    rows = [[drawn.randrange(4, 2048) for _ in range(50)] for _ in range(32)]
    return [model.ablate(ids=(2, *row, *row), **options).report for row in rows[:4]]


def test_copying_needs_one_head_of_layer_0_and_any_of_layer_1(opt_mini: Model) -> None:
    """Layer 1's four heads do little one by one, and all together nearly all of it."""
    first = copied(opt_mini, layers=(0,), baseline="zero")
    assert all(min(report.parts, key=lambda part: part.delta).head == 1 for report in first)
    second = copied(opt_mini, layers=(1,), baseline="zero", together=True)
    for report in second:
        alone = [part.delta for part in report.parts]
        (together,) = report.together
        assert together.parts == ["1.0", "1.1", "1.2", "1.3"]
        assert together.delta < 5 * sum(alone)
        assert together.delta < -3


def test_a_target_and_random_heads_beside(opt_mini: Model) -> None:
    options: dict[str, Any] = {"target": " Paris", "heads": (1,), "together": True, "control": True}
    report = opt_mini.ablate("The capital of France is", baseline="zero", **options).report
    assert report.of == "' Paris' after the text"
    assert report.positions == [len(report.input.tokens) - 1]
    chosen, others = report.together
    assert (chosen.random, others.random) == (False, True)
    assert len(chosen.parts) == len(others.parts) == 4
    assert not {*chosen.parts} & {*others.parts}
    assert chosen.delta < others.delta
    again = opt_mini.ablate("The capital of France is", baseline="zero", **options).report
    assert again.together == report.together


def test_at_masks_of_an_encoder(tmp_path: Path) -> None:
    folder = save_tiny("bert", tmp_path / "bert", task="masked-lm")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForMaskedLM.from_pretrained(folder)
    report = txinspect.load(str(folder)).ablate("abc abd abe", masks=("abd",), sweep="mlp", baseline="zero").report
    ids = torch.tensor(report.input.input_ids)
    places = (ids[0] == tokenizer.mask_token_id).nonzero().flatten().tolist()
    assert report.positions == places
    with torch.no_grad():
        whole = log_softmax(model(ids).logits[0, places].numpy())
        handle = model.bert.encoder.layer[0].output.dense.register_forward_hook(
            lambda _m, _a, out: torch.zeros_like(out)
        )
        without = log_softmax(model(ids).logits[0, places].numpy())
        handle.remove()
    likeliest = whole.argmax(-1)
    rows = range(len(places))
    assert report.parts[0].delta == pytest.approx((without - whole)[rows, likeliest].mean(), abs=1e-4)


@pytest.mark.parametrize("kind", by_type(buildable_types(), ("opt", "mamba"), pytest.mark.sweeps))
def test_any_type_is_ablated_or_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    folder = save_tiny(kind, tmp_path / kind)
    for sweep in ("heads", "layers"):
        with suppress(InspectError):  # what a type does not have is a sentence; anything else fails
            assert txinspect.load(str(folder)).ablate("abc abd", sweep=sweep, baseline="zero").report.parts


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "--with is missing"),
        (("--with", "nothing"), "--with nothing is unknown"),
        (("--with", "zero:1"), "is unknown: give zero, mean, mean:FILE or resample:TEXT"),
        (("--with", "resample:"), "is unknown"),
        (("--with", "mean", "--sweep", "all"), "--sweep 'all' is unknown"),
        (("--with", "mean", "--sweep", "mlp", "--head", "1"), "cannot be combined"),
        (("--with", "mean", "--control"), "add --together"),
        (("--with", "mean", "--together", "--control", "--sweep", "mlp"), "--control draws heads"),
        (("--with", "mean", "--seed", "5"), "--seed draws the control: add --control"),
        (("--with", "mean", "--save", "a.npz"), "no such option: --save"),
        (("--with", "mean", "--check"), "no such option: --check"),
    ],
)
def test_wrong_usage(options: tuple[str, ...], said: str, run_cli: Run) -> None:
    result = run_cli("ablate", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--with", "zero", "--layer", "9"), "layer 9 is out of range"),
        (("--with", "zero", "--head", "9"), "head 9 is out of range"),
        (("--with", "resample:hi"), "give one of as many tokens"),
        (("--with", "mean:none.txt"), "none.txt"),
        (("--with", "zero", "--target", "no token"), "--target 'no token' is"),
        (("--with", "zero", "--together", "--control"), "all of them are left out"),
    ],
)
def test_what_cannot_be_done(options: tuple[str, ...], said: str, run_cli: Run) -> None:
    result = run_cli("ablate", *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_in_python_the_baseline_must_be_given_too() -> None:
    with pytest.raises(UsageError, match="baseline is missing"):
        AblateQuery()


def test_json_and_table_say_the_same(run_cli: Run) -> None:
    report = json.loads(run_cli("ablate", "--with", "mean", "--json").stdout)
    shown = run_cli("ablate", "--with", "mean", "--table").stdout
    most = max(report["parts"], key=lambda part: abs(part["delta"]))
    assert f"Without head {most['layer']}.{most['head']}: " in shown
    assert shown.count(" of 9") == 16
