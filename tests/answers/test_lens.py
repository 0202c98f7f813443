"""What each layer would predict: the bundled model's numbers, an independent tail, places, lenses from files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
from typer.testing import Result

from tests.making.models import BUILT_FROM_PART, FEW, buildable_types, by_type, save_tiny
from txinspect import InspectError, LensQuery, ModelChoice, TokenizeQuery, inspect
from txinspect.anatomy import locating
from txinspect.commands.lens import LAST
from txinspect.guards.quiet import quiet

pytestmark = pytest.mark.half

PROMPT = "The quick brown fox jumps over the lazy"
FLOAT = ModelChoice(dtype="float32")
BUNDLED = Path(__file__).parents[2] / "txinspect/bundled/opt-mini"
Run = Callable[..., Result]


def test_the_lesson_s_sentence() -> None:
    report = inspect(LensQuery(model=FLOAT, text=PROMPT, targets=(" dog",), position=-1))
    cells = [row.cells[0] for row in report.rows]
    assert [row.layer for row in report.rows] == [-1, 0, 1, 2, 3]
    assert [cell.targets[0].rank for cell in cells] == [17, 3, 3, 1, 1]
    assert [round(cell.targets[0].prob or 0, 4) for cell in cells] == [0.0, 0.0064, 0.0781, 0.9788, 0.8936]
    assert [round(cell.kl or 0, 3) for cell in cells] == [14.369, 4.833, 2.513, 0.171, 0.0]
    (position,) = report.positions
    assert (position.position, position.decided_at, position.first_at) == (8, 2, 2)
    assert report.last_row_equals_logits


def test_first_and_decided_differ() -> None:
    """A prediction that is there, goes, and comes again."""
    found = inspect(LensQuery(text="Tom and the cat and the dog ran to the old house. Tom and")).positions
    assert any(each.first_at < each.decided_at for each in found)


def test_targets_are_what_is_likeliest_somewhere() -> None:
    report = inspect(LensQuery(text=PROMPT, position=-1))
    tops = {row.cells[0].top[0].id for row in report.rows}
    for row in report.rows:
        assert {each.id for each in row.cells[0].targets} == tops
        assert row.cells[0].targets[0].text == " dog"


def test_layers_and_positions() -> None:
    report = inspect(LensQuery(text=PROMPT, layers=(0, -2), position=(0, -1), top_k=3))
    assert [row.layer for row in report.rows] == [0, 2, 3]  # the last is there in any case
    assert [[cell.position for cell in row.cells] for row in report.rows] == [[0, 8]] * 3
    assert {len(cell.top) for row in report.rows for cell in row.cells} == {3}


@pytest.mark.parametrize(
    "model_type", by_type([name for name in buildable_types() if name not in BUILT_FROM_PART], FEW)
)
def test_rows_against_norm_and_head_in_float64(model_type: str, tmp_path: Path) -> None:
    """Where nothing but a norm and a matrix stands behind the layers: these two, in float64, by plain hooks."""
    folder = save_tiny(model_type, tmp_path / "m")
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(folder).eval()
    architecture = locating.locate(model)
    norm, head = architecture.main.final_norm, model.get_output_embeddings()
    if not norm or not isinstance(head, torch.nn.Linear):
        return
    report = inspect(LensQuery(model=ModelChoice(name=str(folder)), text="abc def", targets=(), top_k=1))
    ids = torch.tensor(report.input.input_ids)
    seen: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: Any, _args: Any, output: Any) -> None:
            seen[name] = (output if isinstance(output, torch.Tensor) else output[0]).detach()

        return hook

    for index, layer in enumerate(architecture.layers):
        model.get_submodule(layer.last).register_forward_hook(keep(str(index)))
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
        model.double()

        def own(index: int) -> torch.Tensor:
            made: torch.Tensor = head(model.get_submodule(norm)(seen[str(index)].double())).double()
            return made

        last = len(architecture.layers) - 1
        try:
            plain = own(last)
        except RuntimeError:  # several streams
            return
        if plain.shape != logits.shape or not torch.allclose(plain.double(), logits.double(), atol=1e-3):
            return  # caps, scales, projections: the model's way is not these two alone
        PLAIN.add(model_type)
        for row in report.rows[1:]:
            expected = torch.log_softmax(own(row.layer), -1)[0]
            for cell in row.cells:
                logprobs = expected[cell.position]
                assert cell.top[0].prob == pytest.approx(float(logprobs[cell.top[0].id].exp()), abs=1e-4)
                assert float(logprobs.max() - logprobs[cell.top[0].id]) < 1e-3
                assert cell.entropy == pytest.approx(float(-(logprobs.exp() * logprobs).sum()), abs=1e-3)


PLAIN: set[str] = set()
"""Types that the test above compared."""


# Places


@pytest.mark.parametrize("model_type", ["llama", "opt"])
def test_the_stream_after_attention_is_input_plus_attention(model_type: str, tmp_path: Path) -> None:
    choice = ModelChoice(name=str(save_tiny(model_type, tmp_path / "m")))
    report = inspect(LensQuery(model=choice, text="abc", at="attention"))
    assert {row.at for row in report.rows} == {"attention"}
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(choice.name).eval()
    architecture = locating.locate(model)
    seen: dict[str, torch.Tensor] = {}
    layer = architecture.layers[0]
    module = model.get_submodule(layer.first)
    module.register_forward_pre_hook(lambda _m, args, kwargs: seen.update(x=args[0]), with_kwargs=True)
    attention = model.get_submodule(layer.attention_outputs[0])
    attention.register_forward_hook(lambda _m, _a, out: seen.update(a=out if isinstance(out, torch.Tensor) else out[0]))
    with torch.no_grad():
        model(torch.tensor(report.input.input_ids))
        assert architecture.main.final_norm is not None
        logits = model.get_output_embeddings()(model.get_submodule(architecture.main.final_norm)(seen["x"] + seen["a"]))
    probs = torch.softmax(logits[0].double(), -1)
    for cell in report.rows[0].cells:
        assert cell.top[0].prob == pytest.approx(float(probs[cell.position].max()), abs=1e-5)


@pytest.mark.parametrize(
    ("model_type", "norm", "settings"),
    [
        ("gemma2", "pre_feedforward_layernorm", {}),
        ("gemma3_text", "pre_feedforward_layernorm", {}),
        ("granite", "post_attention_layernorm", {"residual_multiplier": 0.3, "logits_scaling": 8.0}),
    ],
)
def test_the_stream_that_the_second_norm_reads(
    model_type: str, norm: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    """With a norm behind attention, too, or a factor on what it adds."""
    folder = save_tiny(model_type, tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))
    report = inspect(LensQuery(model=choice_of(folder), text="abc", at="attention"))
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(folder).eval()
    read: list[torch.Tensor] = []
    for layer in model.model.layers:
        getattr(layer, norm).register_forward_pre_hook(lambda _m, given: read.append(given[0].clone()))
    with torch.no_grad():
        model(torch.tensor(report.input.input_ids))
        for row, stream in zip(report.rows, list(read), strict=False):
            logits = model.lm_head(model.model.norm(stream))[0].double() / settings.get("logits_scaling", 1.0)
            cap = getattr(model.config, "final_logit_softcapping", None)
            probs = torch.softmax(cap * torch.tanh(logits / cap) if cap else logits, -1)
            for cell in row.cells:
                assert cell.top[0].prob == pytest.approx(float(probs[cell.position].max()), abs=1e-5)


def choice_of(folder: Path) -> ModelChoice:
    return ModelChoice(name=str(folder))


def test_the_grid_stands_in_columns(run_cli: Run) -> None:
    lines = run_cli("lens", PROMPT).stdout.splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith("layer  "))
    assert [line[6] for line in lines[first : first + 6]] == [" "] * 6
    assert [len(line[:6].strip()) for line in lines[first : first + 6]] == [5, 6, 1, 1, 1, 1]
    assert all(line[7] != " " for line in lines[first : first + 6])


@pytest.mark.parametrize("model_type", ["falcon", "gptj"])
def test_parallel_blocks_have_no_stream_between(model_type: str, tmp_path: Path) -> None:
    choice = ModelChoice(name=str(save_tiny(model_type, tmp_path / "m")))
    with pytest.raises(InspectError, match="no stream lies between them"):
        inspect(LensQuery(model=choice, text="abc", at="attention"))


# Lenses from files


def likeliest(**options: Any) -> list[list[tuple[int, float]]]:
    report = inspect(LensQuery(model=FLOAT, text=PROMPT, **options))
    return [[(cell.top[0].id, round(cell.top[0].prob or 0, 5)) for cell in row.cells] for row in report.rows]


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_lens_that_does_nothing_is_the_plain_one(suffix: str, tmp_path: Path) -> None:
    tuned = {f"{i}.weight": torch.zeros(128, 128) for i in range(4)} | {f"{i}.bias": torch.zeros(128) for i in range(4)}
    jacobian = {f"layers.{i}.J": torch.eye(128) for i in range(4)}
    for tensors in (tuned, jacobian):
        file = tmp_path / f"lens{suffix}"
        save_file(tensors, file) if suffix == ".safetensors" else torch.save(tensors, file)
        assert likeliest(lens=file) == likeliest()


def test_a_tuned_lens_reads_what_enters_a_layer(tmp_path: Path) -> None:
    """Against the library's rule, hidden + (W·hidden + b) for what enters layer 2, in numpy."""
    matrix, bias = torch.randn(128, 128) * 0.1, torch.randn(128)
    file = tmp_path / "lens.safetensors"
    save_file({"2.weight": matrix, "2.bias": bias}, file)
    report = inspect(LensQuery(model=FLOAT, text=PROMPT, lens=file))
    assert any("has nothing for 3 rows" in note for note in report.notes)
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(BUNDLED, dtype=torch.float32).eval()
    with torch.no_grad():
        hidden = model(torch.tensor(report.input.input_ids), output_hidden_states=True).hidden_states[2][0]
        made = torch.from_numpy(hidden.numpy() + hidden.numpy() @ matrix.numpy().T + bias.numpy())
        logits = model.lm_head(model.model.decoder.final_layer_norm(made)).double().numpy()
    probs = np.exp(logits - logits.max(-1, keepdims=True))
    probs /= probs.sum(-1, keepdims=True)
    (row,) = [row for row in report.rows if row.layer == 1]
    for cell in row.cells:
        assert cell.top[0].prob == pytest.approx(probs[cell.position].max(), abs=1e-4)


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"0.weight": (64, 64)}, "another width"),
        ({"9.weight": (128, 128)}, "the model has 4"),
        ({"x": (2, 2)}, "holds no lens"),
    ],
)
def test_a_lens_of_another_model_is_a_sentence(
    tensors: dict[str, tuple[int, ...]], says: str, tmp_path: Path, run_cli: Run
) -> None:
    file = tmp_path / "lens.safetensors"
    save_file({name: torch.zeros(shape) for name, shape in tensors.items()}, file)
    result = run_cli("lens", "--lens", file)
    assert (result.exit_code, result.stdout) == (1, "")
    assert says in result.stderr
    assert run_cli("lens", "--lens", tmp_path / "none.pt").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--at", "norm"), 2, "output, attention or mlp"),
        (("--layers", "9"), 1, "layers 0 to 3"),
        (("--position", "99"), 1, "tokens 0 to 9"),
        (("--top-k", "3000"), 1, "at most 2048"),
        (("--target", " dogs"), 1, "2 tokens"),
    ],
)
def test_bad_input_is_a_sentence(arguments: tuple[str, ...], code: int, says: str, run_cli: Run) -> None:
    result = run_cli("lens", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in result.stderr


def test_the_last_nine_tokens_are_read_after_where_none_is_asked_for(run_cli: Run) -> None:
    text = " ".join(["the quick fox"] * 5)
    count = len(inspect(TokenizeQuery(text=text)).input.tokens)
    assert count > len(LAST)

    def positions(*options: str) -> list[int]:
        return [each["position"] for each in json.loads(run_cli("lens", text, *options, "--json").stdout)["positions"]]

    assert positions() == list(range(count))[-9:]
    assert positions("--position", "all") == list(range(count))
    assert positions("--position", "0,2") == [0, 2]
    assert [each.position for each in inspect(LensQuery(text="a")).positions] == [0, 1]
    assert [each.position for each in inspect(LensQuery(text=text, position=None)).positions] == list(range(count))
    assert f"--position all has all {count} tokens" in run_cli("lens", text).stdout
    assert "--position all" not in run_cli("lens", text, "--position", "3").stdout
