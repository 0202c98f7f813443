"""Which parts wrote a logit: against plain hooks in float64, a circuit planted by hand, and masked forwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import erf, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM
from typer.testing import Result

import txinspect
from tests.making.models import FEW, Task, buildable_types, by_type, save_tiny, tiny_config
from txinspect import InspectError
from txinspect.commands.attribute import AttributeReport

pytestmark = pytest.mark.pairs

Run = Callable[..., Result]

TEXT = "abc abd abe"

Array = Any
"""In float64."""

Parts = dict[tuple[str, int | None, int | None], float]
"""What parts add, by kind, layer and head."""


def exact(tensor: Any) -> Array:
    return tensor.detach().to(torch.float64).numpy()


class Norm:
    """A norm in numpy, with its scale frozen as it is for what it read at a position."""

    def __init__(self, module: Any, read: Array, *, centred: bool = True, more: float = 0.0) -> None:
        self.weight = exact(module.weight) + more
        self.bias = exact(module.bias) if getattr(module, "bias", None) is not None else np.zeros(len(self.weight))
        self.centred = centred
        eps = next(getattr(module, name) for name in ("eps", "variance_epsilon") if hasattr(module, name))
        read = read - read.mean() if centred else read
        self.scale = 1 / np.sqrt((read**2).mean() + eps)

    def back(self, direction: Array) -> Array:
        """What a direction in the norm's output is in its input."""
        found = direction * self.weight * self.scale
        return found - found.mean() if self.centred else found


@contextmanager
def seen(model: Any) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """What every module of a plain pass reads, and passes on."""
    read: dict[str, Any] = {}
    made: dict[str, Any] = {}
    handles = []
    for path, module in model.named_modules():

        def hook(_module: Any, args: Any, kwargs: Any, output: Any, path: str = path) -> None:
            first = args[0] if args else next(iter(kwargs.values()), None)
            read[path] = first
            made[path] = output[0] if isinstance(output, tuple) else output

        handles.append(module.register_forward_hook(hook, with_kwargs=True))
    try:
        with torch.no_grad():
            yield read, made
    finally:
        for handle in handles:
            handle.remove()


def heads_of(read: Any, projection: Any, direction: Array, position: int, heads: int) -> list[float]:
    """What each head adds: its slice of what the output projection reads, through its columns, along a direction."""
    transposed = type(projection).__name__ == "Conv1D"
    weight = exact(projection.weight).T if transposed else exact(projection.weight)
    context = exact(read[0, position]).reshape(heads, -1)
    columns = weight.reshape(len(direction), heads, -1)
    return [float(direction @ (columns[:, head] @ context[head])) for head in range(heads)]


def found(report: AttributeReport) -> Parts:
    """The parts of a report by what they are; none occurs twice."""
    parts: Parts = {(part.kind, part.layer, part.head): part.value or 0.0 for part in report.parts}
    assert len(parts) == len(report.parts)
    return parts


def check(report: AttributeReport, expected: Parts, logit: float) -> None:
    own = found(report)
    assert {key for key, value in expected.items() if abs(value) > 1e-9} <= own.keys()
    for key, value in own.items():
        assert value == pytest.approx(expected[key], abs=2e-5), key
    assert report.logit == pytest.approx(logit, abs=2e-5)
    assert report.total == pytest.approx(sum(expected.values()), abs=5e-5)
    assert report.remainder == pytest.approx((report.logit or 0) - (report.total or 0), abs=1e-12)
    assert abs(report.remainder or 0) <= (report.tolerance or 0)
    assert [each.passed for each in report.checks or ()] == [True]


# Families with a norm in front of each block


FAMILIES: dict[str, dict[str, Any]] = {
    "opt": {
        "layers": "model.decoder.layers",
        "norm": "model.decoder.final_layer_norm",
        "embeddings": ("model.decoder.embed_tokens", "model.decoder.embed_positions"),
        "projection": "self_attn.out_proj",
        "mlp": "fc2",
    },
    "gpt2": {
        "layers": "transformer.h",
        "norm": "transformer.ln_f",
        "embeddings": ("transformer.wte", "transformer.wpe"),
        "projection": "attn.c_proj",
        "mlp": "mlp",
    },
    "llama": {
        "layers": "model.layers",
        "norm": "model.norm",
        "embeddings": ("model.embed_tokens",),
        "projection": "self_attn.o_proj",
        "mlp": "mlp",
        "centred": False,
    },
    "gpt_neox": {
        "layers": "gpt_neox.layers",
        "norm": "gpt_neox.final_layer_norm",
        "embeddings": ("gpt_neox.embed_in",),
        "projection": "attention.dense",
        "mlp": "mlp",
    },
    "gemma2": {
        "layers": "model.layers",
        "norm": "model.norm",
        "embeddings": ("model.embed_tokens",),
        "projection": "self_attn.o_proj",
        "mlp": "mlp",
        "centred": False,
        "more": 1.0,
        "behind": ("post_attention_layernorm", "post_feedforward_layernorm"),
    },
}
"""Where each part is in a family; a norm behind a block stands on the block's way to the stream."""


@pytest.mark.parametrize("kind", FAMILIES)
def test_parts_against_plain_hooks(kind: str, tmp_path: Path) -> None:
    folder, spec = save_tiny(kind, tmp_path / kind), FAMILIES[kind]
    report: AttributeReport = txinspect.load(str(folder)).attribute(TEXT).report
    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    heads, position = model.config.num_attention_heads, report.position
    with seen(model) as (read, made):
        logits = model(torch.tensor(report.input.input_ids)).logits[0, position]
    target, wrong = logits.topk(2).indices.tolist()
    assert report.wrong is not None
    assert (report.target.id, report.wrong.id) == (target, wrong)
    norms = {"centred": spec.get("centred", True), "more": spec.get("more", 0.0)}
    head = exact(model.lm_head.weight)
    unembedded = head[target] - head[wrong]
    last = Norm(model.get_submodule(spec["norm"]), exact(read[spec["norm"]][0, position]), **norms)
    direction = last.back(unembedded)

    expected: Parts = {("norm bias", None, None): float(unembedded @ last.bias)}
    for name, path in zip(("embedding", "positions"), spec["embeddings"], strict=False):
        expected[name, None, None] = float(direction @ exact(made[path][0, position])) * (
            model.config.hidden_size**0.5 if kind == "gemma2" and _scales(made, read) else 1
        )
    for layer in range(model.config.num_hidden_layers):
        place = f"{spec['layers']}.{layer}"
        ways = [direction, direction]
        for index, name in enumerate(spec.get("behind", ())):
            norm = Norm(model.get_submodule(f"{place}.{name}"), exact(read[f"{place}.{name}"][0, position]), **norms)
            ways[index] = norm.back(direction)
        projection = model.get_submodule(f"{place}.{spec['projection']}")
        values = heads_of(read[f"{place}.{spec['projection']}"], projection, ways[0], position, heads)
        expected |= {("head", layer, index): value for index, value in enumerate(values)}
        bias = 0.0 if projection.bias is None else float(ways[0] @ exact(projection.bias))
        expected["attention bias", layer, None] = bias
        written = exact(made[f"{place}.{spec['mlp']}"]).reshape(-1, len(direction))  # OPT's sees tokens in one row
        expected["mlp", layer, None] = float(ways[1] @ written[position])
    hidden = exact(made[spec["norm"]][0, position])
    check(report, expected, float(unembedded @ hidden))
    if kind == "gemma2":
        assert report.cap == model.config.final_logit_softcapping
        both = np.array([report.target_logit, report.wrong_logit])
        capped = report.cap * np.tanh(both / report.cap)
        assert capped.tolist() == pytest.approx([float(logits[target]), float(logits[wrong])], abs=1e-5)
        assert "The logits are as they are before the cap of 30." in report.notes


def _scales(made: dict[str, Any], read: dict[str, Any]) -> bool:
    """Whether the embeddings are scaled between their module and the first layer."""
    return not torch.allclose(made["model.embed_tokens"], read["model.layers.0"], atol=1e-6)


# Norms behind blocks, one after another


def test_an_encoder_at_its_mask(tmp_path: Path) -> None:
    """BERT's norms stand behind the sums, and its head has an activation and a norm of its own."""
    folder = save_tiny("bert", tmp_path / "bert", task="masked-lm")
    report: AttributeReport = txinspect.load(str(folder)).attribute(TEXT, masks=("abd",), position=3).report
    model: Any = AutoModelForMaskedLM.from_pretrained(folder).eval()
    position = report.position
    with seen(model) as (read, made):
        logits = model(torch.tensor(report.input.input_ids)).logits[0, position]
    target, wrong = logits.topk(2).indices.tolist()
    transform, decoder = model.cls.predictions.transform, model.cls.predictions.decoder

    def at(values: dict[str, Any], path: str) -> Array:
        return exact(values[path][0, position])

    rows = exact(decoder.weight)
    direction = rows[target] - rows[wrong]
    expected: Parts = {("head bias", None, None): float(exact(decoder.bias)[target] - exact(decoder.bias)[wrong])}
    norm = Norm(transform.LayerNorm, at(read, "cls.predictions.transform.LayerNorm"))
    expected["head bias", None, None] += float(direction @ norm.bias)
    direction = norm.back(direction)
    before = at(made, "cls.predictions.transform.dense")
    direction = direction * np.array([0.5 * (1 + erf(each / sqrt(2))) for each in before])  # gelu over what it reads
    expected["head bias", None, None] += float(direction @ exact(transform.dense.bias))
    direction = direction @ exact(transform.dense.weight)
    for layer in reversed(range(model.config.num_hidden_layers)):
        place, module = f"bert.encoder.layer.{layer}", model.bert.encoder.layer[layer]
        norm = Norm(module.output.LayerNorm, at(read, f"{place}.output.LayerNorm"))
        bias, direction = float(direction @ norm.bias), norm.back(direction)
        expected["mlp", layer, None] = float(direction @ at(made, f"{place}.output.dense"))
        norm = Norm(module.attention.output.LayerNorm, at(read, f"{place}.attention.output.LayerNorm"))
        attention_bias, direction = float(direction @ norm.bias), norm.back(direction)
        dense = module.attention.output.dense
        heads = heads_of(read[f"{place}.attention.output.dense"], dense, direction, position, 4)
        expected |= {("head", layer, index): value for index, value in enumerate(heads)}
        expected["attention bias", layer, None] = float(direction @ exact(dense.bias))
        expected["layer bias", layer, None] = bias + attention_bias
    norm = Norm(model.bert.embeddings.LayerNorm, at(read, "bert.embeddings.LayerNorm"))
    expected["embedding bias", None, None] = float(direction @ norm.bias)
    direction = norm.back(direction)
    for name, path in (("embedding", "word"), ("positions", "position"), ("segments", "token_type")):
        expected[name, None, None] = float(direction @ at(made, f"bert.embeddings.{path}_embeddings"))
    own = _merged(report)
    assert own == pytest.approx(expected, abs=3e-5)
    assert report.logit == pytest.approx(float(logits[target] - logits[wrong]), abs=2e-5)
    assert abs(report.remainder or 0) <= (report.tolerance or 0)
    assert any("slope of the head's gelu" in each.lower() for each in report.notes)


def _merged(report: AttributeReport) -> Parts:
    """The parts of a report by what they are; biases of one kind and layer together."""
    own: Parts = {}
    for part in report.parts:
        key = part.kind, part.layer, part.head
        own[key] = own.get(key, 0.0) + (part.value or 0.0)
    return own


def test_the_decoder_of_the_paper() -> None:
    """The bundled transformer has three sums and norms in each layer, and attends to the encoder by heads, too."""
    folder = Path(txinspect.__file__).parent / "bundled" / "transformer-mini"
    given: dict[str, Any] = {"decoder": "a"}
    report = txinspect.load("transformer-mini", dtype="float32").attribute("ein Hund", **given).report
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()
    assert report.input.decoder is not None
    position = report.position
    with seen(model) as (read, made):
        ids, decoder_ids = torch.tensor(report.input.input_ids), torch.tensor(report.input.decoder.input_ids)
        logits = model(ids, decoder_input_ids=decoder_ids).logits[0, position]
    target, wrong = logits.topk(2).indices.tolist()

    def at(values: dict[str, Any], path: str) -> Array:
        return exact(values[path][0, position])

    rows, constant = exact(model.lm_head.weight), exact(model.final_logits_bias[0])
    direction = rows[target] - rows[wrong]
    expected: Parts = {("head bias", None, None): float(constant[target] - constant[wrong])}
    for layer in reversed(range(2)):
        place, module = f"model.decoder.layers.{layer}", model.model.decoder.layers[layer]
        bias = 0.0
        norm = Norm(module.final_layer_norm, at(read, f"{place}.final_layer_norm"))
        bias, direction = bias + float(direction @ norm.bias), norm.back(direction)
        expected["mlp", layer, None] = float(direction @ at(made, f"{place}.fc2"))
        for kind, name in (("cross head", "encoder_attn"), ("head", "self_attn")):
            norm = Norm(module.get_submodule(f"{name}_layer_norm"), at(read, f"{place}.{name}_layer_norm"))
            bias, direction = bias + float(direction @ norm.bias), norm.back(direction)
            projection = module.get_submodule(f"{name}.out_proj")
            heads = heads_of(read[f"{place}.{name}.out_proj"], projection, direction, position, 4)
            expected |= {(kind, layer, index): value for index, value in enumerate(heads)}
            key = "attention bias", layer, None
            expected[key] = expected.get(key, 0.0) + float(direction @ exact(projection.bias))
        expected["layer bias", layer, None] = bias
    scale = model.config.d_model**0.5 if model.config.scale_embedding else 1.0
    expected["embedding", None, None] = scale * float(direction @ at(made, "model.decoder.embed_tokens"))
    positions = exact(model.model.decoder.embed_positions.weight[position])
    expected["positions", None, None] = float(direction @ positions)
    own = _merged(report)
    assert {key: own.get(key, 0.0) for key in expected} == pytest.approx(expected, abs=3e-5)
    assert own.keys() <= expected.keys()
    assert report.logit == pytest.approx(float(logits[target] - logits[wrong]), abs=2e-5)


# What is known by other means


def test_layer_1s_attention_writes_the_answer_of_opt_mini() -> None:
    text = "When Mary and John went to the store, John gave a drink to"
    model = txinspect.load("opt-mini", dtype="float32")
    report = model.attribute(text, target=" Mary", wrong=" John").report
    attention = [part for part in report.parts if part.layer == 1 and part.kind in ("head", "attention bias")]
    assert report.logit == pytest.approx(13.428, abs=1e-3)
    assert sum(part.value or 0.0 for part in attention) == pytest.approx(12.848, abs=1e-3)


def planted(folder: Path) -> Path:
    """A model in which head 2 of layer 1 alone writes to the half of the stream that the logits are read from."""
    config = tiny_config("llama")
    config.num_key_value_heads = config.num_attention_heads
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config).eval()
    half, width = config.hidden_size // 2, config.head_dim
    with torch.no_grad():
        model.model.embed_tokens.weight[:, half:] = 0
        model.lm_head.weight[:, :half] = 0
        for index, layer in enumerate(model.model.layers):
            layer.self_attn.o_proj.weight[half:] = 0
            layer.mlp.down_proj.weight[half:] = 0
            if index == 1:
                layer.self_attn.o_proj.weight[half:, 2 * width : 3 * width].normal_(0, 1)
    save_tiny("llama", folder)
    model.save_pretrained(folder)
    return folder


def test_a_planted_circuit_is_all_that_writes(tmp_path: Path) -> None:
    report = txinspect.load(str(planted(tmp_path / "planted"))).attribute(TEXT).report
    for part in report.parts:
        share = (part.value or 0.0) / (report.logit or 1.0)
        assert share == pytest.approx(float((part.kind, part.layer, part.head) == ("head", 1, 2)), abs=1e-6)


def test_neurons_and_experts_share_what_their_mlp_adds(tmp_path: Path) -> None:
    folder = save_tiny("llama", tmp_path / "llama")
    report = txinspect.load(str(folder)).attribute(TEXT, neurons=96 * 2).report
    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    with seen(model) as (read, _):
        model(torch.tensor(report.input.input_ids))
    norm = Norm(model.model.norm, exact(read["model.norm"][0, -1]), centred=False)
    assert report.wrong is not None
    rows = exact(model.lm_head.weight)
    direction = norm.back(rows[report.target.id] - rows[report.wrong.id])
    assert len(report.neurons) == 96 * 2
    for each in report.neurons:
        place = f"model.layers.{each.layer}.mlp.down_proj"
        activation = float(read[place][0, -1, each.neuron])
        column = exact(model.get_submodule(place).weight)[:, each.neuron]
        assert each.activation == pytest.approx(activation, abs=1e-6)
        assert each.value == pytest.approx(activation * float(direction @ column), abs=1e-5)
    sizes = [abs(each.value or 0.0) for each in report.neurons]
    assert sizes == sorted(sizes, reverse=True)

    folder = save_tiny("mixtral", tmp_path / "mixtral")
    report = txinspect.load(str(folder)).attribute(TEXT, experts=True).report
    layers = {each.layer for each in report.experts}
    for layer in layers:
        whole = next(part.value for part in report.parts if (part.kind, part.layer) == ("mlp", layer))
        own = [each for each in report.experts if each.layer == layer]
        assert sum(each.value or 0.0 for each in own) == pytest.approx(whole, abs=1e-5)
        assert sum(each.weight or 0.0 for each in own) == pytest.approx(1, abs=1e-5)
    assert layers == {0, 1}


def test_knockout_against_a_mask_written_by_hand(tmp_path: Path) -> None:
    folder = save_tiny("llama", tmp_path / "llama")
    report = txinspect.load(str(folder)).attribute(TEXT, tokens="knockout").report
    model: Any = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    ids = torch.tensor(report.input.input_ids)
    count = ids.shape[1]
    causal = torch.full((count, count), -torch.inf).triu(1)
    assert report.wrong is not None
    assert report.by_token is not None

    def logit(mask: torch.Tensor) -> float:
        with torch.no_grad():
            row = model(ids, attention_mask=mask[None, None]).logits[0, -1].double()
        return float(row[report.target.id] - row[report.wrong.id])

    whole = logit(causal)
    assert [each.index for each in report.by_token.tokens] == list(range(count))
    for each in report.by_token.tokens:
        mask = causal.clone()
        mask[:, each.index] = -torch.inf
        mask[each.index, each.index] = 0
        assert each.value == pytest.approx(whole - logit(mask), abs=2e-5)
    assert report.by_token.tokens[-1].value == pytest.approx(0, abs=1e-6)


def integrated(folder: Path, report: AttributeReport, steps: int) -> Array:
    """Each token's share by a plain loop, in even steps."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    own = model.get_input_embeddings()(torch.tensor(report.input.input_ids)).detach()
    assert report.wrong is not None
    total = np.zeros(own.shape[1])
    for step in range(steps):
        scaled = (own * ((step + 0.5) / steps)).requires_grad_()
        row = model(inputs_embeds=scaled).logits[0, -1]
        (gradient,) = torch.autograd.grad(row[report.target.id] - row[report.wrong.id], scaled)
        total += exact((gradient * own).sum(-1)[0]) / steps
    return total


def test_integrated_gradients_against_a_plain_loop(tmp_path: Path) -> None:
    folder = save_tiny("gpt2", tmp_path / "gpt2")
    report = txinspect.load(str(folder)).attribute(TEXT, tokens="gradients").report
    found = report.by_token
    assert found is not None
    assert found.gap is not None
    assert found.gap < 0.01
    expected = integrated(folder, report, 200)
    allowed = 0.02 * np.abs(expected).sum()
    assert [each.value for each in found.tokens] == pytest.approx(expected.tolist(), abs=allowed)
    assert [each.name for each in report.checks or () if each.passed] == ["sum", "completeness"]


@pytest.mark.needs_captum
def test_integrated_gradients_against_captum(tmp_path: Path) -> None:
    attr = pytest.importorskip("captum.attr", reason="needs the package captum")
    folder = save_tiny("gpt2", tmp_path / "gpt2")
    report = txinspect.load(str(folder)).attribute(TEXT, tokens="gradients").report
    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert report.by_token is not None
    assert report.wrong is not None
    target, wrong = report.target.id, report.wrong.id

    def logit(embeddings: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = model(inputs_embeds=embeddings).logits[:, -1]
        return rows[:, target] - rows[:, wrong]

    own = model.get_input_embeddings()(torch.tensor(report.input.input_ids)).detach()
    shares = exact(attr.IntegratedGradients(logit).attribute(own, torch.zeros_like(own), n_steps=200).sum(-1)[0])
    allowed = 0.02 * np.abs(shares).sum()
    assert [each.value for each in report.by_token.tokens] == pytest.approx(shares.tolist(), abs=allowed)


@pytest.mark.parametrize("kind", by_type(buildable_types(), FEW, pytest.mark.sweeps))
def test_any_type_adds_up_or_is_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    model = txinspect.load(str(save_tiny(kind, tmp_path / kind)), dtype="float32")
    options: tuple[dict[str, Any], ...] = ({}, {"neurons": 2}, {"experts": True}, {"tokens": "knockout"})
    for own in options:
        with suppress(InspectError):  # what a type does not have is a sentence; anything else fails
            report = model.attribute(TEXT, **own).report
            assert [each.passed for each in report.checks or ()] == [True]
            assert abs(report.remainder) <= report.tolerance


@pytest.mark.parametrize("task", ["masked-lm", "seq2seq-lm"])
@pytest.mark.sweeps
def test_any_other_model_adds_up_or_is_refused_in_a_sentence(task: Task, tmp_path: Path) -> None:
    given: dict[str, Any] = {"position": 2} if task == "masked-lm" else {"decoder": "abd"}
    for kind in buildable_types(task):
        model = txinspect.load(str(save_tiny(kind, tmp_path / kind, task=task)), dtype="float32")
        with suppress(InspectError):
            assert [each.passed for each in model.attribute(TEXT, **given).report.checks or ()] == [True], kind


SUMS = ("opt", "gpt2", "llama", "bloom", "xlnet", "qwen3_next", "mamba", "granitemoehybrid")
"""Of the few types, those that are no refusals."""


@pytest.mark.parametrize("kind", SUMS)
def test_the_few_types_are_summed(kind: str, tmp_path: Path) -> None:
    report = txinspect.load(str(save_tiny(kind, tmp_path / kind))).attribute(TEXT).report
    rests = [part for part in report.parts if part.kind == "rest"]
    assert bool(rests) == (kind == "granitemoehybrid")  # whose two MLPs no stage is the sum of
    assert len(report.parts) > 2


@pytest.mark.parametrize(
    ("kind", "said"), [("deepseek_v4", "carries several streams side by side"), ("reformer", "two streams")]
)
def test_what_is_no_sum_is_refused(kind: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InspectError, match=said):
        txinspect.load(str(save_tiny(kind, tmp_path / kind))).attribute(TEXT)


def test_knockout_of_what_the_encoder_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against an attention written by hand, in which a token's column is masked in the encoder and across."""
    folder = Path(txinspect.__file__).parent / "bundled" / "transformer-mini"
    model = txinspect.load("transformer-mini", dtype="float32")
    report = model.attribute("ein Hund", decoder="a", tokens="knockout").report
    plain: Any = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    assert report.input.decoder is not None
    assert report.wrong is not None
    assert report.by_token is not None
    ids, decoder_ids = torch.tensor(report.input.input_ids), torch.tensor(report.input.decoder.input_ids)
    kinds = {layer.self_attn: "encoder" for layer in plain.model.encoder.layers}
    kinds |= {layer.self_attn: "decoder" for layer in plain.model.decoder.layers}
    crosses = {layer.encoder_attn for layer in plain.model.decoder.layers}
    out: list[tuple[str, int]] = []

    def attention(module: Any, query: Any, key: Any, value: Any, _mask: Any, scaling: float, **_: Any) -> Any:
        scores = query @ key.transpose(2, 3) * scaling
        if kinds.get(module) == "decoder":
            scores = scores + torch.full(scores.shape[-2:], -torch.inf).triu(1)
        for stack, index in out:
            if kinds.get(module, "encoder") == stack:
                own = None if module in crosses else scores[..., index, index].clone()
                scores[..., index] = -torch.inf
                if own is not None:
                    scores[..., index, index] = own
        weights = scores.softmax(-1)
        return (weights @ value).transpose(1, 2), weights

    monkeypatch.setattr("transformers.models.marian.modeling_marian.eager_attention_forward", attention)

    def logit() -> float:
        with torch.no_grad():
            row = plain(ids, decoder_input_ids=decoder_ids).logits[0, report.position].double()
        return float(row[report.target.id] - row[report.wrong.id])

    whole = logit()
    assert whole == pytest.approx(report.logit, abs=1e-4)
    for each in report.by_token.tokens:
        out[:] = [(str(each.stack), each.index)]
        assert each.value == pytest.approx(whole - logit(), abs=1e-4), each
    assert {each.stack for each in report.by_token.tokens} == {"encoder", "decoder"}
