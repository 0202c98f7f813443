"""Where the difference between two texts is: planted circuits, plain hooks in float64, and what is known otherwise."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer
from typer.testing import Result

import txinspect
from tests.making.circuits import INDUCTION, PREVIOUS, save_circuit
from tests.making.models import Task, buildable_types, by_type, save_tiny
from txinspect import InspectError, PatchQuery
from txinspect.answers import sweeping
from txinspect.answers.patches import sides
from txinspect.answers.running import Running
from txinspect.errors import UsageError
from txinspect.model import Model
from txinspect.render.terminal import colours

pytestmark = pytest.mark.pairs

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
        AutoModelForCausalLM,
        "model.layers.{}.self_attn.o_proj",
        "model.layers.{}.mlp",
        "model.layers.{}",
        {},
        ("e", "q"),
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
        {"decoder": "la vulpo", "cross": True},
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
    "kl": lambda row, clean, _ids: float((np.exp(log_softmax(clean)) * (log_softmax(clean) - log_softmax(row))).sum()),
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


@pytest.mark.parametrize("metric", by_type(METRICS, ("logit-difference",), pytest.mark.sweeps))
@pytest.mark.parametrize("sweep", ["heads", "attention", "mlp", "stream"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_sweep_and_metric_against_plain_hooks(kind: str, sweep: str, metric: str, tmp_path: Path) -> None:
    check(kind, folder_of(kind, tmp_path), {"sweep": sweep, "metric": metric})


def test_a_texts_own_values_are_the_null_row(opt_mini: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each batch the text stands by itself, and with its own values patched into it, as they were recorded."""
    sets: list[Any] = []
    rows = sweeping.Sweep.rows

    def seen(sweep: Any, running: Running, text: Any, given: Any) -> Any:
        sets.append(given)
        return rows(sweep, running, text, given)

    monkeypatch.setattr(sweeping.Sweep, "rows", seen)
    monkeypatch.setattr(sweeping, "ROWS", 4)
    report = opt_mini.patch(FRANCE, corrupt=RUSSIA).report
    assert len(sets) == 4
    for plain, null, *patched in sets:
        assert plain == []
        assert {supply.name for supply, _ in null} == {supply.name for own in patched for supply, _ in own}
    assert 0 <= report.noise.effect < 1e-5
    assert report.noise.effect == pytest.approx(report.noise.metric / (report.clean - report.corrupt))


def test_noise_is_measured_where_a_row_is_not_the_text_alone(opt_mini: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were values patched that are not the text's own, the noise would say so, and the gap be refused."""
    side = sides.side

    def off(*given: Any) -> Any:
        found = side(*given)
        for values in found.values.values():
            for each in values.values():
                each += 0.5
        return found

    monkeypatch.setattr(sides, "side", off)
    with pytest.raises(InspectError, match="ten times the noise"):
        opt_mini.patch(FRANCE, corrupt=RUSSIA)
    assert opt_mini.patch(FRANCE, corrupt=RUSSIA, force=True).report.noise.effect > 0.1


# Answers


def test_answers_of_several_tokens_and_of_which_any_will_do(opt_mini: Model) -> None:
    """Each token is predicted from the text and those before it; probabilities of answers are summed."""
    answers, wrong = (" Paris.", " Paris and"), (" Moscow.",)
    given = {"answer": "|".join(answers), "wrong": "|".join(wrong), "corrupt": RUSSIA}
    report = opt_mini.patch(FRANCE, heads=(1,), **given, force=True).report
    assert [each.text for each in (*report.answers, *report.wrong)] == [*answers, *wrong]
    folder = Path(txinspect.__file__).parent / "bundled" / "opt-mini"
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def metric(text: str, layer: int | None = None, other: str | None = None) -> float:
        sums = []
        for some in (answers, wrong):
            total = 0.0
            for words in some:
                ids = tokenizer(text + words, return_tensors="pt").input_ids
                after = tokenizer(text, return_tensors="pt").input_ids.shape[1]
                with ExitStack() as stack, torch.no_grad():
                    if layer is not None:
                        module = model.model.decoder.layers[layer].self_attn.out_proj
                        values: list[Tensor] = []

                        def keep(tensor: Tensor, values: list[Tensor] = values) -> None:
                            values.append(tensor.clone())

                        with hooked(module, keep, before=True):
                            model(tokenizer(f"{other}{words}", return_tensors="pt").input_ids)

                        def put(tensor: Tensor, values: list[Tensor] = values) -> Tensor:
                            new = tensor.clone()
                            new[..., 32:64] = values[0][..., 32:64]
                            return new

                        stack.enter_context(hooked(module, put, before=True))
                    logprobs = log_softmax(model(ids).logits[0].numpy())
                own = ids[0].tolist()
                total += np.exp(sum(logprobs[at - 1, own[at]] for at in range(after, len(own))))
            sums.append(np.log(total))
        return float(sums[0] - sums[1])

    clean, corrupt = metric(FRANCE), metric(RUSSIA)
    assert (report.clean, report.corrupt) == (pytest.approx(clean, abs=1e-4), pytest.approx(corrupt, abs=1e-4))
    for cell in report.cells:
        patched = metric(RUSSIA, cell.layer, FRANCE)
        assert cell.metric == pytest.approx(patched, abs=1e-4)
        assert cell.effect == pytest.approx((patched - corrupt) / (clean - corrupt), abs=1e-4)


def test_a_classifiers_labels(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    folder = save_tiny("bert", tmp_path / "bert", task="masked-lm")
    config = BertConfig.from_pretrained(folder, num_labels=3, id2label={0: "bad", 1: "so-so", 2: "good"})
    torch.manual_seed(3)
    model = BertForSequenceClassification(config).eval()
    model.save_pretrained(folder)
    loaded = txinspect.load(str(folder))
    options = {"answer": "good", "wrong": "0", "sweep": "mlp", "force": True}
    report = loaded.patch("abc abd", corrupt="axc ayd", **options).report
    assert [(each.text, each.ids) for each in (*report.answers, *report.wrong)] == [("good", [2]), ("bad", [0])]
    with torch.no_grad():
        logits = [model(torch.tensor(each.input_ids)).logits[0].double() for each in (report.input, report.other_input)]
    assert report.clean == pytest.approx(float(logits[0][2] - logits[0][0]), abs=1e-6)
    assert report.corrupt == pytest.approx(float(logits[1][2] - logits[1][0]), abs=1e-6)
    assert len(report.cells) == config.num_hidden_layers
    with pytest.raises(InspectError, match="'fine' is none of the labels: give bad, so-so, good"):
        loaded.patch("abc abd", corrupt="axc ayd", answer="fine")


# A subject with noise


def test_a_subject_is_corrupted_as_in_rome(opt_mini: Model) -> None:
    """Ten samples of noise, three deviations of the embedding table, on the subject's tokens alone: by plain hooks."""
    options: dict[str, Any] = {"subject": "France", "answer": " Paris", "metric": "prob", "sweep": "stream"}
    report = opt_mini.patch(FRANCE, **options, position=(4, 5)).report
    folder = Path(txinspect.__file__).parent / "bundled" / "opt-mini"
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    table = model.get_input_embeddings().weight.detach().double().numpy()
    assert report.deviation == pytest.approx(3 * table.std(), rel=1e-6)
    assert (report.samples, report.subject, report.other_input) == (10, [4], None)
    ids, answer = torch.tensor(report.input.input_ids), report.answers[0].ids[0]
    drawn = torch.randn(10, 1, table.shape[1], generator=torch.Generator().manual_seed(0)) * report.deviation
    layers = model.model.decoder.layers

    def prob(noise: Tensor | None, at: tuple[int, int] | None = None) -> float:
        def corrupted(embeddings: Tensor) -> Tensor:
            new = embeddings.clone()
            new[0, 4] += 0 if noise is None else noise[0]
            return new

        with ExitStack() as stack, torch.no_grad():
            if at is not None:
                values: list[Tensor] = []
                keep = lambda tensor: values.append(tensor.clone())  # noqa: E731
                with hooked(layers[at[0]], keep, before=True):
                    model(ids)

                def put(hidden: Tensor) -> Tensor:
                    new = hidden.clone()
                    new[0, at[1]] = values[0][0, at[1]]
                    return new

                stack.enter_context(hooked(layers[at[0]], put, before=True))
            stack.enter_context(hooked(model.get_input_embeddings(), corrupted, before=False))
            return float(np.exp(log_softmax(model(ids).logits[0, -1].numpy())[answer]))

    clean, corrupt = prob(None), float(np.mean([prob(each) for each in drawn]))
    assert (report.clean, report.corrupt) == (pytest.approx(clean, abs=1e-5), pytest.approx(corrupt, abs=1e-5))
    for cell in report.cells:
        patched = float(np.mean([prob(each, (cell.layer, cell.position)) for each in drawn]))
        assert cell.metric == pytest.approx(patched, abs=1e-5)
        assert cell.effect == pytest.approx((patched - corrupt) / (clean - corrupt), abs=1e-4)
    assert opt_mini.patch(FRANCE, **options, seed=1).report.corrupt != report.corrupt
    half = opt_mini.patch(FRANCE, **options, noise=1.5).report
    assert half.deviation == pytest.approx(report.deviation / 2)
    assert half.corrupt > report.corrupt


# Where


LONGER = "The capital of the country Russia is"


def test_texts_of_other_lengths_at_a_word_or_at_the_end(opt_mini: Model) -> None:
    at_word = opt_mini.patch(FRANCE, corrupt=LONGER, word="is", sweep="stream", direction="both").report
    assert at_word.positions == [[5, 7]]
    assert [each.position for each in at_word.cells] == [7] * 4 + [5] * 4
    at_end = opt_mini.patch(FRANCE, corrupt=LONGER, position=-1, sweep="stream", direction="both").report
    assert [each.effect for each in at_end.cells] == [each.effect for each in at_word.cells]
    of = opt_mini.patch(FRANCE, corrupt=LONGER, word="of").report
    assert of.positions == [[3, 3]]
    assert all(abs(each.effect) <= 1e-5 for each in of.cells), "what stands before is the same in both"


@pytest.mark.parametrize("word", [None, "France"])
def test_some_tokens_alone_are_patched(word: str | None, opt_mini: Model) -> None:
    where: dict[str, Any] = {"position": 4} if word is None else {"word": word}
    report = opt_mini.patch(FRANCE, corrupt=RUSSIA, sweep="mlp", **where).report
    edits = [each.effect for each in report.cells]
    whole = opt_mini.patch(FRANCE, corrupt=RUSSIA, sweep="mlp").report
    assert report.positions == [[4, 4]]
    assert edits[0] != whole.cells[0].effect
    assert edits[-1] == pytest.approx(0, abs=1e-6), "nothing behind the last layer reads another token"


def test_a_stream_patched_whole_is_the_edit_of_another_text(opt_mini: Model) -> None:
    report = opt_mini.patch(FRANCE, corrupt=RUSSIA, sweep="attention").report
    for cell in report.cells:
        edit = f"layers.{cell.layer}.attention.output = text:{FRANCE}"
        edited = opt_mini.run(RUSSIA, stages=("logits",), edits=(edit,))["logits"][0, -1].astype("float64")
        ids = [report.answers[0].ids[0], report.wrong[0].ids[0]]
        assert cell.metric == pytest.approx(edited[ids[0]] - edited[ids[1]], abs=2e-5)


def test_of_an_encoder_decoder_the_encoders_parts_too() -> None:
    model = txinspect.load("transformer-mini", dtype="float32")
    given: dict[str, Any] = {"corrupt": "the old fox", "decoder": "la vulpo"}
    encoder = model.patch("the quick fox", **given, encoder=True, sweep="stream").report
    assert (encoder.stack, encoder.cross) == ("encoder", False)
    quick = by_place(encoder)
    assert quick[0, 1] == pytest.approx(1, abs=1e-5)
    decoder = model.patch("the quick fox", **given, sweep="stream").report
    assert decoder.stack == "decoder"
    assert by_place(decoder)[0, 0] == 0, "below the first cross-attention the decoder has read nothing of it"
    assert {each.head for each in model.patch("the quick fox", **given, cross=True).report.cells} == set(range(4))
    longer = model.patch("the quick fox", corrupt="the very old fox", decoder="la vulpo", cross=True).report
    assert longer.positions is None, "what the decoder reads is the same"


# What is refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            (MARY.format("John"), MARY.format("Mary"), "--answer", " Mary", "--wrong", " John"),
            "13.43 for CLEAN and 13.68",
        ),
        ((MARY.format("John"), MARY.format("Mary")), "both texts have one answer, ' Mary'"),
        ((FRANCE, RUSSIA, "--answer", " Paris", "--metric", "prob", "--wrong", " x"), "--wrong and --metric prob"),
        ((FRANCE, LONGER), "CLEAN has 6 tokens and CORRUPT 8: they part at token 4, ' France' and ' the'"),
        ((FRANCE, LONGER, "--position", "3"), "or a word that both have by --at-word"),
        ((FRANCE, LONGER, "--at-word", "France"), "--at-word 'France' is no word of CORRUPT"),
        ((FRANCE, RUSSIA, "--at-word", "Spain"), "--at-word 'Spain' is no word of CLEAN"),
        ((FRANCE, "--subject", "Spain"), "--subject 'Spain' is no word of CLEAN"),
        ((FRANCE, RUSSIA, "--layer", "9"), "layer 9 is out of range"),
        ((FRANCE, RUSSIA, "--head", "9"), "head 9 is out of range: layer 0 has heads 0 to 3"),
        ((FRANCE, RUSSIA, "--position", "9"), "position 9 is out of range"),
        ((FRANCE, RUSSIA, "--encoder"), "one stack of layers"),
        ((FRANCE, RUSSIA, "--cross"), "one stack of layers"),
        ((FRANCE, RUSSIA, "--answer", " Paris", "--wrong", " Paris"), "--wrong ' Paris' is the answer"),
        ((FRANCE, RUSSIA, "--decoder", "x"), "is no encoder–decoder: --decoder"),
        (("a", "b", "-m", "transformer-mini"), "give the decoder's text by --decoder"),
        (("", RUSSIA, "--no-special"), "yields no tokens"),
        ((FRANCE, "", "--no-special"), "CORRUPT: "),
    ],
)
def test_what_cannot_be_done(arguments: tuple[str, ...], said: str, run_cli: Run) -> None:
    result = run_cli("patch", *arguments, "--dtype", "float32")
    assert (result.exit_code, result.stdout) == (2 if "--wrong and" in said or "--decoder" in arguments else 1, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((FRANCE,), "CORRUPT is missing: a patch is from one text into another: give it after CLEAN, or name words"),
        ((FRANCE, RUSSIA, "--subject", "France"), "CORRUPT and --subject cannot be combined"),
        ((FRANCE, RUSSIA, "--noise", "2"), "--noise is of the noise on a subject: add --subject"),
        ((FRANCE, RUSSIA, "--seed", "2"), "--seed is of the noise on a subject: add --subject"),
        ((FRANCE, "--subject", ""), "--subject '' is empty"),
        ((FRANCE, "--subject", "France", "--noise", "0"), "--noise 0.0 is no noise"),
        ((FRANCE, RUSSIA, "--metric", "kl", "--answer", "x"), "--answer and --metric kl cannot be combined"),
        ((FRANCE, RUSSIA, "--metric", "logprob", "--wrong", "x"), "--wrong and --metric logprob cannot be combined"),
        ((FRANCE, RUSSIA, "--answer", "a||b"), "--answer 'a||b' is empty"),
        ((FRANCE, RUSSIA, "--sweep", "layers"), "--sweep 'layers' is unknown"),
        ((FRANCE, RUSSIA, "--direction", "up"), "--direction 'up' is unknown"),
        ((FRANCE, RUSSIA, "--sweep", "mlp", "--head", "1"), "--head and --sweep mlp cannot be combined"),
        ((FRANCE, RUSSIA, "--sweep", "mlp", "--cross"), "--cross and --sweep mlp cannot be combined"),
        ((FRANCE, RUSSIA, "--encoder", "--cross"), "--encoder and --cross cannot be combined"),
        ((FRANCE, RUSSIA, "--position", "1", "--at-word", "is"), "--position and --at-word cannot be combined"),
        ((FRANCE, RUSSIA, "--at-word", ""), "--at-word '' is empty"),
        ((FRANCE, RUSSIA, "--save", "a.npz"), "no such option: --save"),
        ((FRANCE, RUSSIA, "--check"), "no such option: --check"),
        ((FRANCE, RUSSIA, "--edit", "x = 0"), "no such option: --edit"),
        ((FRANCE, RUSSIA, "more"), "'more' is one argument too many"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], said: str, run_cli: Run) -> None:
    result = run_cli("patch", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("given", [{"check": True}, {"save": Path("a.npz")}, {"layers": ()}, {"heads": ()}])
def test_in_python_too(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        PatchQuery(corrupt=RUSSIA, **given)
    with pytest.raises(UsageError, match="corrupt is missing"):
        PatchQuery()


def test_texts_that_hardly_differ_are_refused_unless_forced(opt_mini: Model) -> None:
    given: dict[str, Any] = {"subject": "France", "noise": 0.01, "answer": " Paris", "metric": "prob"}
    said = r"is 0\.9175\d+ for CLEAN and 0\.9175\d+ for CORRUPT: a gap of \S+e-05 is below 0\.001, .*force"
    with pytest.raises(InspectError, match=said):
        opt_mini.patch(FRANCE, **given)
    assert opt_mini.patch(FRANCE, **given, force=True).report.cells[1].effect > 0.1
    same: dict[str, Any] = {"corrupt": FRANCE, "answer": " Paris", "wrong": " Moscow"}
    with pytest.raises(InspectError, match="both texts have one answer"):
        opt_mini.patch(FRANCE, **same)
    forced = opt_mini.patch(FRANCE, **same, force=True).report
    assert {each.effect for each in forced.cells} == {None}, "a share of nothing is no number"


def test_two_steps_of_the_logits_type_are_no_gap() -> None:
    """Logits of about 12 in bfloat16 are 0.0625 apart: that the texts differ by one or two of these says nothing."""
    model = txinspect.load("opt-mini", dtype="bfloat16")
    given: dict[str, Any] = {"subject": "The", "noise": 0.2, "answer": " Paris", "wrong": " Moscow"}
    with pytest.raises(InspectError, match=r"is below 0\.\d+, two steps of the logits' type"):
        model.patch(FRANCE, **given)


def test_a_small_gap_is_told(opt_mini: Model) -> None:
    report = opt_mini.patch(FRANCE, subject="France", noise=0.3, answer=" Paris", metric="prob").report
    gap = abs(report.clean - report.corrupt)
    assert 1e-3 < gap < 0.1
    assert any(f"only {gap:.3g} apart" in note for note in report.notes)


def test_json_csv_and_table_say_the_same(run_cli: Run, tmp_path: Path) -> None:
    asked = ("patch", FRANCE, RUSSIA, "--dtype", "float32")
    report = json.loads(run_cli(*asked, "--json").stdout)
    shown = run_cli(*asked, "--csv", tmp_path / "cells.csv").stdout
    assert "Layer 0 head 1 restores 0.92 of the logit difference ' Paris' − ' Moscow'" in shown
    assert "CLEAN 4.095 · CORRUPT -2.2 · gap 6.295" in shown
    for cell in report["cells"]:
        row = next(line for line in shown.splitlines() if line.startswith(f"  {cell['layer']}  "))
        rounded = f"{cell['effect']:.2f}"
        assert row.split()[1 + cell["head"]] == ("0" if abs(cell["effect"]) < 0.005 else rounded)
    lines = (tmp_path / "cells.csv").read_text().splitlines()
    assert lines[0] == "direction,layer,head,position,metric,effect"
    assert len(lines) == 1 + len(report["cells"])


def test_the_grid_has_its_numbers_in_any_colours(run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs are two colours, darker or lighter than zero; without colours the same letters stand there."""
    asked = ("patch", FRANCE, RUSSIA, "--sweep", "stream", "--direction", "both")
    for columns in (80, 140):
        monkeypatch.setenv("COLUMNS", str(columns))
        plain = run_cli(*asked).stdout
        assert max(map(len, plain.splitlines())) <= columns
        assert len(plain.splitlines()) <= 22
        for theme in ("dark", "light"):
            drawn = run_cli(*asked, "--theme", theme, "--color", "always").stdout
            assert "\x1b[" in drawn
            bare = re.sub(r"\x1b\[[0-9;]*m", "", drawn)
            assert [line.split() for line in bare.splitlines()] == [line.split() for line in plain.splitlines()]
            monkeypatch.setenv("NO_COLOR", "1")
            assert "\x1b[38;2" not in run_cli(*asked, "--theme", theme).stdout
            monkeypatch.delenv("NO_COLOR")


def test_colours_part_at_zero() -> None:
    for theme in ("dark", "light"):
        below, zero, above = (colours.parting(value, theme).get_truecolor() for value in (-1.0, 0.0, 1.0))
        assert len({below, zero, above}) == 3
        assert below.blue > below.red
        assert above.red > above.blue
        assert colours.parting(7.5, theme).get_truecolor() == above


def test_of_a_deep_model_the_layers_that_matter_are_on_the_first_screen(
    tmp_path: Path, run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    folder = save_tiny("llama", tmp_path / "llama")
    config: Any = AutoConfig.from_pretrained(folder)
    config.num_hidden_layers = 14
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    asked = ("patch", "abc abd", "axc ayd", "--answer", "e", "--wrong", "q", "--force", "-m", folder)
    cells = json.loads(run_cli(*asked, "--json").stdout)["cells"]
    best = max(cells, key=lambda cell: abs(cell["effect"]))
    first, everything = run_cli(*asked).stdout, run_cli(*asked, "--table").stdout
    assert len(first.splitlines()) <= 22
    layers = [
        [line.split()[0] for line in each.splitlines() if re.match(r" {1,2}\d+ {2}", line)]
        for each in (first, everything)
    ]
    assert str(best["layer"]) in layers[0]
    assert len(layers[0]) == 9
    assert layers[1] == [str(layer) for layer in range(14)]


def test_the_second_text_stands_behind_whatever_stands_for_the_first(run_cli: Run, tmp_path: Path) -> None:
    (tmp_path / "clean").write_text(FRANCE)
    plain = json.loads(run_cli("patch", FRANCE, RUSSIA, "--json").stdout)
    for given, stdin in ((("--file", tmp_path / "clean", RUSSIA), None), (("-", RUSSIA), FRANCE)):
        found = json.loads(run_cli("patch", *given, "--json", stdin=stdin).stdout)
        assert (found["input"], found["other_input"]) == (plain["input"], plain["other_input"])
    ids = ",".join(map(str, plain["input"]["input_ids"][0]))
    found = json.loads(run_cli("patch", "--ids", ids, RUSSIA, "--json").stdout)
    assert [each["effect"] for each in found["cells"]] == [each["effect"] for each in plain["cells"]]


def patched_or_refused(kind: str, task: Task, folder: Path) -> None:
    """Patch a tiny model of a type. Where a text's own value is patched into it, nothing changes but what noise is."""
    model = txinspect.load(str(save_tiny(kind, folder / kind, task=task)))
    given: dict[str, Any] = {"answer": "e", "wrong": "q", "force": True}
    given |= {"masks": ("-2",)} if task == "masked-lm" else {"decoder": "ab"} if task == "seq2seq-lm" else {}
    for sweep in ("heads", "stream"):
        with suppress(InspectError):  # what a type does not have is a sentence; anything else fails
            report = model.patch("abc abd", corrupt="axc ayd", sweep=sweep, **given).report
            assert report.cells
            assert report.noise.effect is None or report.noise.effect < 0.05


@pytest.mark.parametrize("kind", by_type(buildable_types(), ("opt", "mamba"), pytest.mark.sweeps))
def test_any_decoder_is_patched_or_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    patched_or_refused(kind, "causal-lm", tmp_path)


@pytest.mark.parametrize("kind", by_type(buildable_types("masked-lm"), ("bert",), pytest.mark.sweeps))
def test_any_encoder_is_patched_or_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    patched_or_refused(kind, "masked-lm", tmp_path)


@pytest.mark.parametrize("kind", by_type(buildable_types("seq2seq-lm"), ("t5",), pytest.mark.sweeps))
def test_any_encoder_decoder_is_patched_or_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    patched_or_refused(kind, "seq2seq-lm", tmp_path)


def test_a_stage_with_several_values_in_a_pass_is_refused(tmp_path: Path) -> None:
    """DiffLlama's heads attend twice in each layer."""
    model = txinspect.load(str(save_tiny("diffllama", tmp_path / "diffllama")))
    with pytest.raises(InspectError, match=r"'layers\.0\.attention\.context' has several values in one pass"):
        model.patch("abc abd", corrupt="axc ayd", answer="e", wrong="q", force=True)
