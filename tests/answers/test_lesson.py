"""The lesson: every number against plain transformers with ordinary hooks, in NumPy and float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

from tests.making.models import FEW, buildable_types, by_type, save_tiny
from tests.making.reports import drawn
from txinspect import InspectError, LessonQuery, ModelChoice, inspect
from txinspect.commands.lesson import STEPS, LessonReport
from txinspect.edits import Edit
from txinspect.guards.quiet import quiet
from txinspect.render.content import lesson as content
from txinspect.sources.bundled_models import bundled_folder

pytestmark = pytest.mark.pairs

Array = NDArray[np.float64]
TEXT = "The quick brown fox"


@dataclass
class Spec:
    """Where an ordinary hook finds a model's parts; {} is the layer."""

    auto: Any
    layer: str
    attention: str
    projections: tuple[str, ...]
    """q, k and v; or one module for all."""
    out: str
    mlp: str
    norm: str = ""
    heads: int = 4
    kv_heads: int = 4
    size: int = 16
    scaled_before: bool = False
    cross: str = ""
    inner: int = 96


SPECS = {
    "opt-mini": Spec(
        AutoModelForCausalLM,
        "model.decoder.layers.{}",
        "self_attn",
        ("q_proj", "k_proj", "v_proj"),
        "out_proj",
        "fc2",
        norm="model.decoder.final_layer_norm",
        size=32,
        scaled_before=True,
        inner=512,
    ),
    "llama": Spec(
        AutoModelForCausalLM,
        "model.layers.{}",
        "self_attn",
        ("q_proj", "k_proj", "v_proj"),
        "o_proj",
        "mlp",
        norm="model.norm",
        kv_heads=2,
    ),
    "bloom": Spec(
        AutoModelForCausalLM,
        "transformer.h.{}",
        "self_attention",
        ("query_key_value",),
        "dense",
        "mlp",
        norm="transformer.ln_f",
        inner=256,
    ),
    "bert": Spec(
        AutoModelForMaskedLM,
        "bert.encoder.layer.{}",
        "attention.self",
        ("query", "key", "value"),
        "attention.output.dense",
        "output.dense",
    ),
    "transformer-mini": Spec(
        AutoModelForSeq2SeqLM,
        "model.decoder.layers.{}",
        "self_attn",
        ("q_proj", "k_proj", "v_proj"),
        "out_proj",
        "fc2",
        size=32,
        cross="encoder_attn",
        inner=512,
    ),
}


class Oracle:
    """A plain transformers model with hooks that keep what they see, in float64."""

    def __init__(self, name: str, folder: Path, report: LessonReport) -> None:
        self.spec, self.report = SPECS[name], report
        with quiet():
            self.model: Any = self.spec.auto.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        self.model.eval()
        self.seen: dict[str, Any] = {}
        for path, module in self.model.named_modules():
            module.register_forward_hook(self._keeping(path), with_kwargs=True)
        self.ids = report.input.main.input_ids[0]
        self.out = self.run(self.ids)

    def _keeping(self, path: str) -> Callable[..., None]:
        def keep(_: Any, inputs: tuple[Any, ...], kwargs: Any, output: Any) -> None:
            own = output[0] if isinstance(output, tuple) else output
            self.seen[path] = own.detach() if isinstance(own, torch.Tensor) else own
            given = inputs[0] if inputs else kwargs.get("hidden_states")
            self.seen[f"{path}<"] = given.detach() if isinstance(given, torch.Tensor) else given

        return keep

    def run(self, ids: list[int]) -> Any:
        """The model's own pass."""
        given: dict[str, Any] = {"input_ids": torch.tensor([ids]), "output_attentions": True}
        if self.spec.cross:
            given |= {"input_ids": torch.tensor(self.report.input.input_ids), "decoder_input_ids": torch.tensor([ids])}
        with torch.no_grad():
            return self.model(**given)

    def at(self, path: str) -> Array:
        """What a module passed on: (token, …)."""
        tensor = self.seen[path]
        found: Array = (tensor[0] if tensor.ndim > 2 else tensor).double().numpy()
        return found

    def part(self, layer: int, name: str) -> str:
        """The path of a part of a layer."""
        return f"{self.spec.layer.format(layer)}.{name}"

    @property
    def weights(self) -> list[Array]:
        """The attention weights of each layer: (head, query, key)."""
        found = self.out.decoder_attentions if self.spec.cross else self.out.attentions
        return [each[0].double().numpy() for each in found]

    def qkv(self, layer: int, head: int) -> tuple[Array, Array, Array]:
        """q, k and v of a head, as they meet."""
        spec = self.spec
        paths = [self.part(layer, f"{spec.attention}.{name}") for name in spec.projections]
        if len(paths) == 1:
            fused = self.at(paths[0]).reshape(-1, spec.heads, 3, spec.size)
            return fused[:, head, 0], fused[:, head, 1], fused[:, head, 2]
        kv = head // (spec.heads // spec.kv_heads)
        q, k, v = (
            self.at(path).reshape(-1, count, spec.size)[:, index]
            for path, count, index in zip(
                paths, (spec.heads, spec.kv_heads, spec.kv_heads), (head, kv, kv), strict=True
            )
        )
        if spec.scaled_before:
            q = q * spec.size**-0.5
        if spec.norm == "model.norm":
            q, k = rotated(q), rotated(k)
        return q, k, v


def rotated(vectors: Array) -> Array:
    """Rotary positions by their formula: halves, with wavelengths of 10000."""
    half = vectors.shape[1] // 2
    angles = np.arange(len(vectors))[:, None] * 10000.0 ** (-np.arange(half) / half)
    first, second = vectors[:, :half], vectors[:, half:]
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=1)


def softmax(values: Array) -> Array:
    raised: Array = np.exp(values - values.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)  # type: ignore[no-any-return]


@pytest.fixture(scope="module", params=SPECS)
def taken(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, LessonReport, Oracle]:
    """A lesson and its oracle."""
    name = request.param
    if name.endswith("-mini"):
        folder, query = bundled_folder(name), LessonQuery(model=ModelChoice(name=name, dtype="float32"))
    else:
        task: Any = "masked-lm" if name == "bert" else "causal-lm"
        folder = save_tiny(name, tmp_path_factory.mktemp("lesson") / name, task=task)
        query = LessonQuery(model=ModelChoice(name=str(folder)), text=TEXT)
    assert folder is not None
    report = inspect(query)
    return name, report, Oracle(name, folder, report)


Taken = tuple[str, LessonReport, Oracle]


def near(expected: Any) -> Any:
    return pytest.approx(expected, rel=2e-4, abs=2e-5)


def test_the_embedding_is_a_row_of_the_table(taken: Taken) -> None:
    _, report, oracle = taken
    found = report.embedding
    assert found is not None
    table = oracle.model.get_input_embeddings().weight.detach().double().numpy()
    ordinary = [each for each in report.input.main.tokens if not each.special]
    assert (found.position, found.id) == (ordinary[-1].index, ordinary[-1].id)
    assert found.first == near(list(table[found.id][:4]))
    assert found.norm == near(np.linalg.norm(table[found.id]))
    assert (found.width, found.rows) == (table.shape[1], table.shape[0])


KINDS = {"opt-mini": "learned", "llama": "rotary", "bloom": "alibi", "bert": "learned", "transformer-mini": "sinusoid"}


def test_positions(taken: Taken) -> None:
    name, report, oracle = taken
    found = report.positions
    assert found is not None
    assert (found.kind, found.why) == (KINDS[name], None)
    place = found.position
    if name == "llama":
        expected = np.cos(place * 10000.0 ** (-np.arange(4) / 8))
    elif name == "bloom":
        expected = 2.0 ** (-2 * np.arange(1, 5))
    else:
        path = {"bert": "bert.embeddings.position_embeddings", "opt-mini": "model.decoder.embed_positions"}
        table = oracle.model.get_submodule(path.get(name, "model.decoder.embed_positions")).weight
        expected = table.detach().double().numpy()[place + (2 if name == "opt-mini" else 0)][:4]
    assert found.first == near(list(expected))


def test_the_head_and_its_score_by_hand(taken: Taken) -> None:
    name, report, oracle = taken
    found, size = report.head, oracle.spec.size
    assert found is not None
    previous = {
        (layer, head): np.mean([rows[t, t - 1] for t in range(1, len(rows))])
        for layer, weights in enumerate(oracle.weights)
        for head, rows in enumerate(weights)
    }
    assert (found.layer, found.head) == max(previous, key=lambda each: previous[each])
    q, k, v = oracle.qkv(found.layer, found.head)
    row = oracle.weights[found.layer][found.head][found.query]
    assert found.key == int(row.argmax())
    assert (found.size, found.plain) == (size, True)
    assert found.q == near(list(q[found.query][:4]))
    assert found.k == near(list(k[found.key][:4]))
    assert found.v == near(list(v[found.key][:4]))
    scale = 1.0 if oracle.spec.scaled_before else size**-0.5
    assert found.scale == near(scale)
    products = k @ q[found.query]
    assert [each.product for each in found.keys] == near(list(products))
    assert [each.score for each in found.keys] == near(list(products * scale))
    assert [each.weight for each in found.keys] == near(list(row))
    assert found.apart < 1e-5
    seen = [name == "bert" or key <= found.query for key in range(len(row))]
    assert [each.seen for each in found.keys] == seen
    slope = 2.0 ** (-2 * (found.head + 1)) if name == "bloom" else 0.0
    added = slope * (np.arange(len(row)) - found.query)
    assert [each.added or 0.0 for each in found.keys] == near(list(added))
    own = softmax(np.where(seen, products * scale + added, -np.inf))
    assert [each.softmax for each in found.keys] == near(list(own))
    middle = oracle.weights[found.layer][found.head][found.middle]
    hidden = [] if name == "bert" else list(range(found.middle + 1, len(row)))
    assert found.hidden == hidden
    assert not middle[hidden].any()


def test_the_kinds_of_a_layer_s_heads(taken: Taken) -> None:
    _, report, oracle = taken
    assert report.head is not None
    assert [each.head for each in report.heads] == list(range(oracle.spec.heads))
    for each in report.heads:
        rows = oracle.weights[each.layer][each.head]
        last = range(1, len(rows))
        expected = {
            "previous": np.mean([rows[t, t - 1] for t in last]),
            "self": np.mean([rows[t, t] for t in last]),
            "first": np.mean([rows[t, 0] for t in last]),
            "next": np.mean([rows[t, t + 1] for t in range(len(rows) - 1)]),
        }
        if each.kind in expected:
            assert each.share == near(expected[each.kind])


def test_the_residual_stream(taken: Taken) -> None:
    name, report, oracle = taken
    found, spec = report.stream, oracle.spec
    assert found is not None
    path, at = spec.layer.format(found.layer), found.position
    out = f"{path}.{spec.out}" if name == "bert" else f"{path}.{spec.attention}.{spec.out}"
    before, attention, mlp, after = (oracle.at(each)[at] for each in (f"{path}<", out, f"{path}.{spec.mlp}", path))
    if name == "bloom":  # its modules add what entered by themselves
        mlp = oracle.at(f"{path}.mlp.dense_4h_to_h")[at]
    parts = [before, attention, mlp]
    assert found.before == near(np.linalg.norm(before))
    assert found.attention == near(np.linalg.norm(attention))
    assert found.mlp == near(np.linalg.norm(mlp))
    assert found.after == near(np.linalg.norm(after))
    if spec.cross:
        cross = oracle.at(f"{path}.{spec.cross}.out_proj")[at]
        assert found.cross == near(np.linalg.norm(cross))
        parts.append(cross)
    else:
        assert found.cross is None
    assert found.sum == near(np.linalg.norm(sum(parts) - mlp))
    error = np.linalg.norm(sum(parts) - after) / np.linalg.norm(after)
    assert found.error == pytest.approx(error, rel=1e-3, abs=1e-5)
    assert ((found.error or 0.0) < 1e-4) == (name in ("opt-mini", "llama", "bloom"))
    assert (found.width, found.inner) == (len(before), spec.inner)


def test_layers_and_prediction(taken: Taken) -> None:
    name, report, oracle = taken
    predicted = report.predicted
    assert predicted is not None
    place, out = -1, oracle.out
    if name == "bert":
        assert (predicted.kind, predicted.masked) == ("mask", predicted.position)
        place = predicted.position or 0
        ids = list(oracle.ids)
        (mask,) = {token.id for token in masked(report, oracle).tokens if token.index == place}
        ids[place] = mask
        out = oracle.run(ids)
    else:
        assert (predicted.kind, predicted.position) == ("next", len(oracle.ids) - 1)
    probs = softmax(out.logits[0, place].double().numpy())
    best = np.argsort(-probs)[:5]
    assert [each.id for each in predicted.top] == list(best)
    assert [each.prob for each in predicted.top] == near(list(probs[best]))
    assert report.layers[-1].guess.id == best[0]
    assert report.layers[-1].guess.prob == near(probs[best[0]])
    if oracle.spec.norm:
        oracle.run(oracle.ids)
        norm = oracle.model.get_submodule(oracle.spec.norm)
        for row in report.layers[:-1]:
            path = oracle.spec.layer.format(max(0, row.layer)) + ("<" if row.layer < 0 else "")
            with torch.no_grad():
                logits = oracle.model.lm_head(norm(oracle.seen[path]))[0, -1].double().numpy()
            assert row.guess.id == logits.argmax()
            assert row.guess.prob == near(softmax(logits).max())


def masked(report: LessonReport, oracle: Oracle) -> Any:
    """The text with the mask that the lesson put into it, by the tokenizer alone."""
    from txinspect import TokenizeQuery

    assert report.predicted is not None
    query = TokenizeQuery(model=report.model.name, text=TEXT, masks=(str(report.predicted.masked),))  # type: ignore[arg-type]
    return inspect(query).input


def test_what_is_switched_off(taken: Taken) -> None:
    name, report, oracle = taken
    found, spec = report.off, oracle.spec
    if name == "bert":
        assert found is None
        assert "does not continue a text" in (report.steps[-1].missing or "")
        return
    assert found is not None
    ids = list(oracle.ids)
    if found.part == "head":
        line = report.steps[-1].line.split()
        ids = list(map(int, line[line.index("--ids") + 1].split(",")))
        assert ids[-8:] == ids[-16:-8]
        assert Edit.read(found.edit).axes == {"head": (found.head,)}
    for which in ("on", "off"):
        handles = []
        for layer in range(len(oracle.weights) if spec.cross and which == "off" else 1):
            path = spec.layer.format(layer if spec.cross else found.layer)
            module = f"{path}.{spec.cross or spec.attention}.{'out_proj' if spec.cross else spec.out}"

            def zero(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
                context = inputs[0].clone()
                begin = 0 if found.head is None else found.head * spec.size
                context[..., begin : None if found.head is None else begin + spec.size] = 0
                return (context, *inputs[1:])

            if which == "off":
                handles.append(oracle.model.get_submodule(module).register_forward_pre_hook(zero))
        logits = oracle.run(ids).logits[0].double().numpy()
        for handle in handles:
            handle.remove()
        probs = softmax(logits)
        expected = [probs[each.position - 1, ids[each.position]] for each in found.tokens]
        assert [getattr(each, which) for each in found.tokens] == pytest.approx(expected, rel=2e-3)
        assert getattr(found, which) == pytest.approx(np.mean(np.log(expected)), rel=1e-3, abs=1e-7)
    assert len(found.tokens) == (7 if found.part == "head" else len(ids) - 1)


def test_what_the_decoder_wrote_is_read_from_its_letters(tmp_path: Path) -> None:
    """A random model writes pieces of characters, which no text gives again: its text's own tokens are counted."""
    folder = save_tiny("bart", tmp_path / "bart", task="seq2seq-lm")
    report = inspect(LessonQuery(model=ModelChoice(name=str(folder)), text=TEXT, step=11))
    found = report.off
    assert found is not None
    with quiet():
        model: Any = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = [model.config.decoder_start_token_id, *(each.id for each in found.tokens)]
    assert ids != report.input.main.input_ids[0]
    assert [each.position for each in found.tokens] == list(range(1, len(ids)))
    text = torch.tensor(report.input.input_ids)
    for which in ("on", "off"):
        if which == "off":
            for layer in model.model.decoder.layers:
                layer.encoder_attn.out_proj.register_forward_pre_hook(lambda _, given: (given[0] * 0,))
        with torch.no_grad():
            logits = model(input_ids=text, decoder_input_ids=torch.tensor([ids])).logits[0].double().numpy()
        expected = [softmax(logits)[place - 1, ids[place]] for place in range(1, len(ids))]
        assert [getattr(each, which) for each in found.tokens] == pytest.approx(expected, rel=2e-3)
        assert getattr(found, which) == pytest.approx(np.mean(np.log(expected)), rel=1e-3)
    shown = drawn(report, 400)
    assert "gives other tokens than it wrote" in shown
    assert "This model does not write such a text to begin with" in shown


def test_what_the_decoder_wrote_is_read_again_where_its_text_gives_it() -> None:
    report = inspect(LessonQuery(model=ModelChoice(name="transformer-mini"), text=TEXT, step=11))
    assert report.off is not None
    assert [each.id for each in report.off.tokens] == report.input.main.input_ids[0][1:]
    assert "gives other tokens" not in drawn(report, 400)


def test_scores_of_contents_alone_are_said_to_be(tmp_path: Path) -> None:
    """XLNet scales the sum of its scores and those of distances (rel_attn_core of modeling_xlnet.py)."""
    folder = save_tiny("xlnet", tmp_path / "xlnet", task="causal-lm")
    report = inspect(LessonQuery(model=ModelChoice(name=str(folder)), text=TEXT, step=5))
    found = report.head
    assert found is not None
    with quiet():
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    module = model.transformer.layer[found.layer].rel_attn
    seen: list[Any] = []
    own = module.rel_attn_core

    def core(q: Any, k: Any, *more: Any, **named: Any) -> Any:
        seen.append(torch.einsum("ibnd,jbnd->bnij", q + module.r_w_bias, k))
        return own(q, k, *more, **named)

    module.rel_attn_core = core
    with torch.no_grad():
        out = model(input_ids=torch.tensor(report.input.input_ids), output_attentions=True)
    scores = seen[0][0, found.head, found.query].double().numpy()
    weights = out.attentions[found.layer][0, found.head, found.query].double().numpy()
    assert [each.score for each in found.keys] == near(list(scores))
    assert [each.weight for each in found.keys] == near(list(weights))
    assert found.apart == near(np.abs(softmax(scores) - weights).max())
    assert found.apart > 0.1
    assert report.positions is not None
    assert report.positions.kind == "relative"
    shown = drawn(report, 1000)
    assert f"that is up to {found.apart:.1%} away" in shown
    assert "In this score that is not done yet." in shown


def test_copying_dies_on_opt_mini() -> None:
    report = inspect(LessonQuery(step=11))
    assert report.off is not None
    assert (report.off.layer, report.off.head) == (0, 1)
    assert report.off.on == pytest.approx(-0.564, abs=0.02)
    assert report.off.off == pytest.approx(-7.36, abs=0.02)
    assert [name for name in ("embedding", "positions", "head", "stream", "predicted") if getattr(report, name)] == []


@pytest.mark.parametrize("step", [0, -1, STEPS + 1])
def test_a_step_that_is_not_there(step: int) -> None:
    with pytest.raises(InspectError, match=f"step {step} is out of range: the lesson has steps 1 to {STEPS}"):
        LessonQuery(step=step)


def test_one_step_is_what_it_is_in_all() -> None:
    whole = inspect(LessonQuery())
    for alone in whole.one_by_one:
        assert alone.step is not None
        again = inspect(LessonQuery(step=alone.step))
        assert list(content.parts(again)) == list(content.parts(alone))


def test_without_attention_there_are_sentences(tmp_path: Path) -> None:
    report = inspect(LessonQuery(model=ModelChoice(name=str(save_tiny("mamba", tmp_path / "mamba"))), text=TEXT))
    missing = {each.step: each.missing for each in report.steps if each.missing}
    assert set(missing) == {4, 5, 6, 8, 11}
    assert all("has no attention" in str(missing[step]) for step in (4, 5, 6, 11))
    assert report.positions is not None
    assert report.positions.kind == "none"
    assert report.stream is not None
    assert report.stream.attention is None


def _told(name: str, task: Any, folder: Path) -> None:
    report = inspect(LessonQuery(model=ModelChoice(name=str(save_tiny(name, folder, task=task))), text=TEXT))
    for part in content.parts(report):
        assert part is not None
    if report.head is not None and report.head.plain:
        assert sum(each.softmax for each in report.head.keys) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", by_type(buildable_types(), FEW, pytest.mark.sweeps))
def test_every_causal_type_is_told(name: str, tmp_path: Path) -> None:
    _told(name, "causal-lm", tmp_path / name)


@pytest.mark.parametrize(
    "name", by_type(buildable_types("masked-lm"), ("bert", "deberta-v2", "distilbert"), pytest.mark.sweeps)
)
def test_every_masked_type_is_told(name: str, tmp_path: Path) -> None:
    _told(name, "masked-lm", tmp_path / name)


@pytest.mark.parametrize("name", by_type(buildable_types("seq2seq-lm"), ("t5", "bart"), pytest.mark.sweeps))
def test_every_seq2seq_type_is_told(name: str, tmp_path: Path) -> None:
    _told(name, "seq2seq-lm", tmp_path / name)
