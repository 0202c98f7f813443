"""What kind of head each one is: the bundled model, every type, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM
from typer.testing import Result

from tests.making.models import FEW, buildable_types, by_type, save_tiny
from txinspect import AttnQuery, HeadsQuery, InspectError, ModelChoice, inspect
from txinspect.guards.quiet import quiet

pytestmark = pytest.mark.half

Run = Callable[..., Result]


def test_the_bundled_model_copies() -> None:
    """The model card's: previous token 0.99 in layer 0's head 1, induction about 0.9 in layer 1's heads."""
    report = inspect(HeadsQuery(random=True))
    by_place = {(head.layer, head.head): head for head in report.heads}
    assert by_place[0, 1].previous == pytest.approx(0.99, abs=0.01)
    assert [by_place[1, head].induction for head in range(4)] == pytest.approx([0.91, 0.82, 0.89, 0.90], abs=0.05)
    assert all("induction" in by_place[1, head].labels for head in range(4))
    assert len(report.input.tokens) == 1 + 2 * 50
    ids = report.input.input_ids[0]
    assert ids[0] == 2
    assert ids[1:51] == ids[51:]
    assert min(ids[1:]) > 3


def test_the_tokens_are_drawn_with_a_seed() -> None:
    ids = [inspect(HeadsQuery(random=True, seed=seed)).input.input_ids for seed in (0, 0, 1)]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize("model", ["opt-mini", "transformer-mini"])
def test_attn_labels_its_heads_as_heads_does(model: str) -> None:
    text = "the quick brown fox jumps"
    choice = ModelChoice(name=model)
    kinds = {(each.layer, each.head): each.labels for each in inspect(HeadsQuery(model=choice, text=text)).heads}
    layers = tuple(sorted({layer for layer, _ in kinds}))
    whole = inspect(AttnQuery(model=choice, text=text, layer=layers)).heads
    assert {(each.layer, each.head): each.labels for each in whole} == kinds
    some = inspect(AttnQuery(model=choice, text=text, layer=1, heads=(1, 3))).heads
    assert [each.labels for each in some] == [kinds[1, each.head] for each in some]
    assert all(each.labels is None for each in inspect(AttnQuery(model=choice, text=text, queries=(-1,))).heads)
    if model == "transformer-mini":
        assert all(each.labels is None for each in inspect(AttnQuery(model=choice, text=text, cross=True)).heads)


def test_a_text_has_no_copies() -> None:
    report = inspect(HeadsQuery())
    assert {(head.induction, head.duplicate) for head in report.heads} == {(None, None)}
    assert report.copies is None
    assert len(report.heads) == 16
    assert report.sinks[0].key == 0


def test_the_numbers_are_those_of_attn() -> None:
    (head,) = [each for each in inspect(HeadsQuery()).heads if (each.layer, each.head) == (1, 2)]
    window = inspect(AttnQuery(layer=1, heads=(2,))).heads[0].window.weights
    assert head.previous == pytest.approx(sum(window[t][t - 1] or 0 for t in range(1, 10)) / 9)
    assert head.first_token == pytest.approx(sum(window[t][0] or 0 for t in range(1, 10)) / 9)


@pytest.mark.parametrize("model_type", by_type(buildable_types(), FEW))
def test_every_type_has_heads_or_a_reason(model_type: str, tmp_path: Path) -> None:
    choice = ModelChoice(name=str(save_tiny(model_type, tmp_path / "m")))
    try:
        report = inspect(HeadsQuery(model=choice, text="abc def", weighted="value"))
    except InspectError as error:
        assert "attention" in str(error) or "rows" in str(error)  # noqa: PT017
        return
    for head in report.heads:
        assert -1e-6 <= (head.previous or 0.0) <= 1 + 1e-5
        assert head.entropy is None or head.entropy >= 0
    assert report.heads or any("left out" in note or "passed no tensor" in note for note in report.notes)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--length", "9"), 2, "add --random"),
        (("--random", "--length", "1"), 2, "--length 1"),
        (("--random", "--repeats", "1"), 2, "--repeats 1"),
        (("--random", "--length", "200"), 1, "256 positions: lower --length"),
        (("hello", "--random"), 2, "cannot be combined"),
        (("",), 1, "one token"),
        (("--layer", "9"), 1, "layers 0 to 3"),
        (("--weighted", "key"), 2, "--weighted 'key'"),
    ],
)
def test_bad_input_is_a_sentence(arguments: tuple[str, ...], code: int, says: str, run_cli: Run) -> None:
    result = run_cli("heads", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in result.stderr


def test_the_drawing_names_the_strongest(run_cli: Run) -> None:
    shown = run_cli("heads", "--random").stdout
    assert "0.1 0.99" in shown
    assert json.loads(run_cli("heads", "--json").stdout)["heads"][1]["labels"] == ["previous"]


@pytest.mark.parametrize("model_type", ["opt", "llama", "gpt2", "bloom"])
def test_weighed_by_what_the_output_projection_makes_of_values(model_type: str, tmp_path: Path) -> None:
    """Against a product with the projection's own matrix, head by head (Kobayashi et al. 2020)."""
    choice = ModelChoice(name=str(save_tiny(model_type, tmp_path / "m")))
    report = inspect(HeadsQuery(model=choice, text="abc def", layers=(0,), weighted="output"))
    attention = inspect(AttnQuery(model=choice, text="abc def", values=True))
    parts = {tensor.name.rpartition(".")[2]: torch.tensor(tensor.values)[0] for tensor in attention.tensors}
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(choice.name).eval()
    names = ("out_proj", "o_proj", "c_proj", "dense")
    matrices = {name: module for name, module in model.named_modules() if name.rpartition(".")[2] in names}
    first = next(module for name, module in matrices.items() if "attn" in name or "attention" in name)
    matrix = first.weight.detach() if isinstance(first, torch.nn.Linear) else first.weight.detach().T
    heads, count = parts["weights"].shape[0], parts["weights"].shape[1]
    values = parts["v"].repeat_interleave(heads // parts["v"].shape[0], dim=0)
    width = values.shape[-1]
    for head in report.heads:
        own = matrix[:, head.head * width : (head.head + 1) * width]
        lengths = (values[head.head] @ own.T).norm(dim=-1)
        moved = parts["weights"][head.head] * lengths
        shares = (moved / moved.sum(-1, keepdim=True)).double()
        assert head.previous == pytest.approx(float(shares.diagonal(-1).mean()), rel=1e-4)
        assert head.first_token == pytest.approx(float(shares[1:, 0].mean()), rel=1e-4)
        assert count == len(report.input.tokens)
