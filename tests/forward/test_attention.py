"""Scores, weights and heads against eager attention, whole and in blocks, cut by head and query."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.making.checkpoints import VARIANTS
from txinspect.commands.attn import AttnQuery, AttnReport, HeadRecord
from txinspect.forward import wants
from txinspect.forward.attention import calls, recorder
from txinspect.inspecting import inspect
from txinspect.loading.weights import partial
from txinspect.measure.heads import STRONGEST, WINDOW
from txinspect.model_choice import ModelChoice
from txinspect.records import TensorRecord
from txinspect.stages import ATTENTION_PARTS

TEXT = "naïve fox, lazy dog"
LONG = "".join(chr(97 + index * index % 26) for index in range(100))
"""A text of 101 tokens: longer than the window."""


def asked(folder: Path, text: str = TEXT, layer: int = 1, values: bool = True, **cut: Any) -> AttnReport:
    return inspect(AttnQuery(model=ModelChoice(name=str(folder)), text=text, layer=layer, values=values, **cut))


def record(report: AttnReport, part: str) -> TensorRecord:
    (found,) = [one for one in report.tensors if one.name == f"layers.{report.layer}.attention.{part}"]
    return found


def numbers(report: AttnReport, part: str) -> Tensor:
    return torch.tensor(record(report, part).values, dtype=torch.float64)


def eager_weights(folder: Path, text: str, layer: int, **options: Any) -> Tensor:
    """The weights that eager attention reports: (1, head, query, key)."""
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", **options).eval()
    with torch.no_grad():
        output = model(**AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt"), output_attentions=True)
    weights: Tensor = output.attentions[layer]
    return weights.double()


def causal(scores: Tensor) -> Tensor:
    """Scores with keys after the query masked out."""
    hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(hidden, -torch.inf)


@pytest.fixture(params=["sdpa", "eager"])
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each attention backend, on which txinspect's model runs."""
    original = partial.load

    def load(*arguments: Any) -> Any:
        loaded = original(*arguments)
        model = loaded.model
        model.set_attn_implementation(request.param)
        return loaded

    monkeypatch.setattr(partial, "load", load)
    name: str = request.param
    return name


@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_are_eagers(variant: str, layer: int, implementation: str, opt_variant: Callable[[str], Path]) -> None:
    folder = opt_variant(variant)
    report = asked(folder, layer=layer)
    assert report.model.attn_implementation == implementation
    found = numbers(report, "weights")
    torch.testing.assert_close(found, eager_weights(folder, TEXT, layer), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.sum(-1), torch.ones(found.shape[:-1], dtype=torch.float64), rtol=0, atol=1e-6)
    assert not found.triu(1).any(), "no query sees a later key"


@pytest.mark.parametrize("variant", VARIANTS)
def test_scores_weights_and_context_follow_from_one_another(
    variant: str, implementation: str, opt_variant: Callable[[str], Path]
) -> None:
    """Recomputed in float64 from q, k and v: OPT scales q itself, so that the scores are plain q·kᵀ."""
    report = asked(opt_variant(variant))
    query, key, value = (numbers(report, part) for part in "qkv")
    scores, weights, context = (numbers(report, part) for part in ("scores", "weights", "context"))
    torch.testing.assert_close(scores, query @ key.transpose(-1, -2), rtol=0, atol=1e-5)
    torch.testing.assert_close(causal(scores).softmax(-1), weights, rtol=0, atol=1e-5)
    torch.testing.assert_close(weights @ value, context, rtol=0, atol=1e-5)
    assert scores.triu(1).any(), "scores are those before the mask"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_in_half_precision(dtype: str, implementation: str, opt: Path) -> None:
    choice = ModelChoice(name=str(opt), dtype=dtype)  # type: ignore[arg-type]
    report = inspect(AttnQuery(model=choice, text=TEXT, layer=1, values=True))
    assert record(report, "weights").dtype == record(report, "scores").dtype == dtype
    wanted = eager_weights(opt, TEXT, 1, dtype=getattr(torch, dtype))
    # The layers below ran on another backend: one rounding of the type apart, not more.
    torch.testing.assert_close(
        numbers(report, "weights"), wanted, rtol=0, atol=4 * torch.finfo(getattr(torch, dtype)).eps
    )


def test_the_report_holds_every_part_with_its_axes(opt: Path) -> None:
    report = asked(opt)
    assert [one.name for one in report.tensors] == [f"layers.1.attention.{part}" for part in ATTENTION_PARTS]
    hidden, by_head = ["batch", "seq", "hidden"], ["batch", "head", "seq", "head_dim"]
    pattern = ["batch", "head", "query", "key"]
    by_kv_head = ["batch", "kv_head", "seq", "head_dim"]
    wanted = [hidden, by_head, by_kv_head, by_kv_head, pattern, pattern, by_head, hidden]
    assert [one.axes for one in report.tensors] == wanted
    length = len(report.input.tokens)
    sizes = {"batch": 1, "seq": length, "query": length, "key": length, "head": 4, "kv_head": 4}
    sizes |= {"head_dim": 16, "hidden": 64}
    assert [one.shape for one in report.tensors] == [[sizes[axis] for axis in axes] for axes in wanted]
    assert all(one.coordinates is None for one in report.tensors)
    assert {one.module for one in report.tensors} == {"model.decoder.layers.1.self_attn"}


# --- blocks ---


@pytest.mark.parametrize("elements", [1, 4 * 101 * 7, 4 * 101 * 30])
@pytest.mark.parametrize("cut", [{}, {"heads": (1, 3), "queries": tuple(range(0, 101, 3))}], ids=["whole", "cut"])
def test_blocks_of_rows_give_what_one_block_gives(
    elements: int, cut: dict[str, Any], opt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = asked(opt, LONG, **cut)
    counts: list[int] = []
    original = calls.BackendCall._weights

    def counted(call: calls.BackendCall, rows: Any) -> Tensor:
        weights = original(call, rows)
        counts.append(weights.shape[2])
        return weights

    monkeypatch.setattr(calls, "BLOCK_ELEMENTS", elements)
    monkeypatch.setattr(calls.BackendCall, "_weights", counted)
    several = asked(opt, LONG, **cut)
    assert max(counts) <= max(1, elements // (4 * 101))
    assert len(counts) > 1
    for found, wanted in zip(several.tensors, one.tensors, strict=True):
        _assert_close_records(found, wanted)
    assert len(several.heads) == len(one.heads)
    for found_head, wanted_head in zip(several.heads, one.heads, strict=True):
        _assert_close_heads(found_head, wanted_head)


def _assert_close_records(found: TensorRecord, wanted: TensorRecord) -> None:
    for name in ("name", "module", "axes", "shape", "coordinates", "dtype"):
        assert getattr(found, name) == getattr(wanted, name)
    # A product over fewer rows may add in another order.
    torch.testing.assert_close(torch.tensor(found.values), torch.tensor(wanted.values), rtol=1e-5, atol=1e-6)
    assert found.histogram is not None
    assert sum(found.histogram.counts) == found.stats.numel == wanted.stats.numel
    for name in ("mean", "std", "min", "max", "abs_max", "l2"):
        assert getattr(found.stats, name) == pytest.approx(getattr(wanted.stats, name), rel=1e-5, abs=1e-6), name
    assert (found.stats.zeros, found.stats.nan) == (wanted.stats.zeros, wanted.stats.nan)


def _assert_close_heads(found: HeadRecord, wanted: HeadRecord) -> None:
    assert found.head == wanted.head
    assert (found.window.queries, found.window.keys) == (wanted.window.queries, wanted.window.keys)
    windows = (torch.tensor(head.window.weights) for head in (found, wanted))
    torch.testing.assert_close(*windows, rtol=1e-5, atol=1e-6)
    for found_query, wanted_query in zip(found.queries, wanted.queries, strict=True):
        assert [key.index for key in found_query.keys] == [key.index for key in wanted_query.keys]
        weights = [key.weight for key in wanted_query.keys]
        assert [key.weight for key in found_query.keys] == pytest.approx(weights, rel=1e-5, abs=1e-6)


def test_blocks_give_the_numbers_of_what_is_measured(opt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "BLOCK_ELEMENTS", 5000)
    report = asked(opt, LONG)
    for part in ("scores", "weights"):
        stats, values = record(report, part).stats, numbers(report, part)
        assert stats.numel == values.numel() == 4 * 101 * 101
        assert stats.mean == pytest.approx(values.mean().item(), rel=1e-12)
        assert stats.std == pytest.approx(values.std(correction=0).item(), rel=1e-12)
        assert (stats.min, stats.max) == (values.min().item(), values.max().item())
        assert stats.zeros == (values == 0).sum().item()
        assert stats.l2 == pytest.approx(values.norm().item(), rel=1e-12)


# --- heads and queries ---


@pytest.mark.parametrize("heads", [(0,), (3,), (0, 2, 3), (1, 2)])
@pytest.mark.parametrize("queries", [None, (0,), (2, 5, 19), (19,)])
def test_a_cut_is_a_slice_of_the_whole(heads: tuple[int, ...], queries: tuple[int, ...] | None, opt: Path) -> None:
    whole, cut = asked(opt), asked(opt, heads=heads, queries=queries)
    for part in ATTENTION_PARTS:
        wanted, found = numbers(whole, part), record(cut, part)
        coordinates: dict[str, list[int]] = {}
        if part not in ("input", "output"):
            wanted = wanted[:, list(heads)]
            coordinates["kv_head" if part in "kv" else "head"] = list(heads)
        if part in ("scores", "weights") and queries is not None:
            wanted = wanted[:, :, list(queries)]
            coordinates["query"] = list(queries)
        assert found.shape == list(wanted.shape)
        assert found.coordinates == (coordinates or None)
        torch.testing.assert_close(numbers(cut, part), wanted, rtol=1e-5, atol=1e-6)
    assert [head.head for head in cut.heads] == list(heads)
    rows = list(range(len(whole.input.tokens))) if queries is None else list(queries)
    for head in cut.heads:
        assert [query.index for query in head.queries] == rows


def test_a_cut_of_grouped_queries_takes_the_heads_of_its_groups(tmp_path: Path) -> None:
    """OPT has none, but the recorder must cut k and v by group: here 4 query heads share 2."""
    from tests.making.models import save_tiny

    save_tiny("llama", tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = torch.arange(20, 30)[None]
    calls: list[Any] = []
    receive = lambda _module, call: calls.append(call)  # noqa: E731
    with torch.no_grad(), recorder.recording(model, [model.model.layers[0].self_attn], receive, 1):
        model(input_ids=ids)
    (call,) = calls
    for heads, groups in (((0,), [0]), ((1, 3), [0, 1]), ((2, 3), [1])):
        for part, whole in (("k", call.key), ("v", call.value)):
            cut, coordinates = call.part(part, wants.Selection(heads=heads))
            assert coordinates == {"kv_head": groups}
            assert torch.equal(cut.whole(), whole[:, groups])
    scores, _ = call.part("scores", wants.Selection())
    weights, _ = call.part("weights", wants.Selection())
    repeated = call.key.repeat_interleave(2, dim=1)
    wanted = call.query @ repeated.transpose(-1, -2) * call.options["scaling"]
    torch.testing.assert_close(scores.whole(), wanted)
    torch.testing.assert_close(weights.whole(), causal(wanted).softmax(-1))


# --- what each head looks at ---


@pytest.mark.parametrize("text", [TEXT, LONG])
@pytest.mark.parametrize("cut", [{}, {"heads": (1, 2), "queries": (0, 7, 15)}], ids=["whole", "cut"])
def test_strongest_keys_are_the_largest_weights(text: str, cut: dict[str, Any], opt: Path) -> None:
    report = asked(opt, text, **cut)
    weights = numbers(report, "weights")[0]
    queries = list(cut.get("queries", range(len(report.input.tokens))))
    for position, head in enumerate(report.heads):
        assert [query.index for query in head.queries] == queries
        for row, query in enumerate(head.queries):
            strongest = weights[position, row].sort(descending=True, stable=True)
            count = min(STRONGEST, query.index + 1)
            assert [key.index for key in query.keys] == strongest.indices[:count].tolist()
            assert [key.weight for key in query.keys] == strongest.values[:count].tolist()


@pytest.mark.parametrize(
    ("text", "cut", "rows", "columns"),
    [
        (TEXT, {}, range(21), range(21)),
        (TEXT, {"queries": (3, 4)}, (3, 4), range(5)),
        (LONG, {}, range(101 - WINDOW, 101), range(101 - WINDOW, 101)),
        (LONG, {"queries": (5, 80)}, (5, 80), range(81 - WINDOW, 81)),
        (LONG, {"queries": tuple(range(90))}, range(90 - WINDOW, 90), range(90 - WINDOW, 90)),
        (LONG, {"queries": (2,)}, (2,), range(3)),
    ],
    ids=["all", "early", "long", "long_two", "long_many", "long_one"],
)
def test_the_window_is_a_slice_of_the_weights(
    text: str, cut: dict[str, Any], rows: Any, columns: Any, opt: Path
) -> None:
    report = asked(opt, text, **cut)
    whole = numbers(asked(opt, text), "weights")[0]
    for head in report.heads:
        assert head.window.queries == list(rows)
        assert head.window.keys == list(columns)
        found = torch.tensor(head.window.weights, dtype=torch.float64)
        torch.testing.assert_close(found, whole[head.head][list(rows)][:, list(columns)], rtol=1e-5, atol=1e-6)


def test_every_heads_window_is_its_own(opt: Path) -> None:
    report = asked(opt)
    assert [head.head for head in report.heads] == [0, 1, 2, 3]
    assert len({str(head.window.weights) for head in report.heads}) == 4


def test_a_single_token(opt: Path) -> None:
    report = asked(opt, "")
    assert record(report, "weights").values == [[[[1.0]]] * 4]
    for head in report.heads:
        assert head.window.weights == [[1.0]]
        assert [(key.index, key.weight) for key in head.queries[0].keys] == [(0, 1.0)]
