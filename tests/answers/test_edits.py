"""Edits of a pass: laws that hold to the last bit, and effects against plain hooks written here."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer
from typer.testing import Result

import txinspect
from tests.making.models import save_tiny
from txinspect import AttnQuery, EmbedQuery, HeadsQuery, InspectError, LensQuery, LogitsQuery, ModelChoice, RunQuery
from txinspect.edits import Edit
from txinspect.errors import UsageError
from txinspect.inspecting import inspect
from txinspect.model import Model

pytestmark = pytest.mark.pairs

TEXT = "abc abd abe"
KINDS = ("llama", "gpt_neox", "bert", "bloom", "t5")

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A tiny checkpoint of a type: decoders with grouped queries, parallel and with ALiBi, an encoder, both."""
    made: dict[str, Path] = {}

    def of(kind: str) -> Path:
        if kind not in made:
            task: Any = {"bert": "masked-lm", "t5": "seq2seq-lm"}.get(kind, "causal-lm")
            made[kind] = save_tiny(kind, tmp_path_factory.mktemp(kind) / kind, task=task)
        return made[kind]

    return of


@pytest.fixture
def model(folders: Callable[[str], Path]) -> Model:
    return txinspect.load(str(folders("llama")))


def logits(model: Model, *edits: str | Edit, text: str = TEXT) -> Any:
    return model.run(text, stages=("logits",), edits=edits)["logits"]


# What an edit is


@pytest.mark.parametrize(
    ("text", "place", "op", "value", "source"),
    [
        ("layers.0.output = 0", "layers.0.output", "=", "0", "number"),
        (" layers.*.mlp.output  *  -0.5 ", "layers.*.mlp.output", "*", "-0.5", "number"),
        (
            "layers.1.attention.weights[head=2, key=0] = 0",
            "layers.1.attention.weights[head=2, key=0]",
            "=",
            "0",
            "number",
        ),
        ("layers.1.output = mean", "layers.1.output", "=", "mean", "mean"),
        ("layers.1.output = mean:a b.txt", "layers.1.output", "=", "mean:a b.txt", "mean"),
        ("layers.1.output[position=-1] = text:a = b", "layers.1.output[position=-1]", "=", "text:a = b", "text"),
        ("layers.1.output + 4*v.npz:x", "layers.1.output", "+", "4*v.npz:x", "file"),
        ("layers.1.output + 0.5|h|*v.safetensors:x.y", "layers.1.output", "+", "0.5|h|*v.safetensors:x.y", "file"),
        ("layers.1.output -  proj v.npz:x", "layers.1.output", "- proj", "v.npz:x", "file"),
        ("layers.1.attention.scores[key=0] = -inf", "layers.1.attention.scores[key=0]", "=", "-inf", "number"),
    ],
)
def test_an_edit_is_read(text: str, place: str, op: str, value: str, source: str) -> None:
    edit = Edit.read(text)
    assert (edit.place, edit.op, edit.value, edit.source) == (place, op, value, source)
    assert Edit.read(str(edit)) == edit


def test_the_parts_of_an_edit() -> None:
    edit = Edit.read("layers.1.attention.weights[head=2,0,query=4-5,key=-1] + -2e-1|h|*v.npz:x")
    assert edit.stage == "layers.1.attention.weights"
    assert edit.axes == {"head": (0, 2), "query": (4, 5), "key": (-1,)}
    assert (edit.amount, edit.in_norms, str(edit.file), edit.name) == (-0.2, True, "v.npz", "x")
    assert Edit("layers.0.output", "=", 0) == Edit.read("layers.0.output = 0")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("layers.0.output", "is not PLACE OP VALUE"),
        ("layers.0.output 0", "is not PLACE OP VALUE"),
        ("= 0", "is not PLACE OP VALUE"),
        ("layers.0.output == 0", "is not PLACE OP VALUE"),
        ("layers.0.output =", "is not PLACE OP VALUE"),
        ("layers.0.output[head] = 0", "names no axis"),
        ("layers.0.output[head=x] = 0", "is not a list of indices"),
        ("layers.0.output[head=1,head=2] = 0", "names the axis head twice"),
        ("layers.0.output[head=1 = 0", "is not PLACE OP VALUE"),
        ("layers.0.output = nonsense", "is no value"),
        ("layers.0.output = nan", "is no value"),
        ("layers.0.output = text:", "the other text is empty"),
        ("layers.0.output * mean", "is no factor"),
        ("layers.0.output * inf", "is no factor"),
        ("layers.0.output + 3", "is no vector"),
        ("layers.0.output + mean", "takes a vector of a file"),
        ("layers.0.output - proj text:x", "takes a vector of a file"),
        ("layers.0.output - proj x", "is no value"),
        ("layers.0.output - 3", "is not PLACE OP VALUE"),
    ],
)
def test_what_is_no_edit_is_wrong_usage(text: str, said: str, run_cli: Run) -> None:
    result = run_cli("logits", "--edit", text)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    with pytest.raises(UsageError):
        LogitsQuery(edits=(text,))


# Laws


PLACES = {
    "llama": ("layers.0.output", "layers.1.attention.q", "layers.0.attention.k", "layers.0.attention.v"),
    "gpt_neox": ("layers.0.mlp.output", "layers.1.attention.context", "token_embeddings"),
    "bert": ("embeddings", "layers.1.attention.scores", "layers.0.attention.weights", "layers.1.mlp.input"),
    "bloom": ("layers.0.attention.context", "layers.1.attention.output", "final_norm"),
    "t5": ("encoder.layers.0.output", "decoder.layers.0.cross_attention.weights", "decoder.layers.1.attention.v"),
}
ALSO = {"llama": ("layers.1.attention.scores", "layers.1.attention.weights", "layers.1.mlp.input")}


@pytest.mark.parametrize("kind", KINDS)
def test_what_changes_nothing_leaves_every_bit(kind: str, folders: Callable[[str], Path], tmp_path: Path) -> None:
    model = txinspect.load(str(folders(kind)))
    options = {"decoder": "ab"} if kind == "t5" else {}
    plain = model.run(TEXT, stages=("logits",), **options)["logits"]
    for place in (*PLACES[kind], *ALSO.get(kind, ())):
        own = model.run(TEXT, stages=(place,), **options)
        file = tmp_path / "own.safetensors"
        save_file({"own": own.tensor(place).contiguous()}, file)
        for change in ("* 1", f"= {file}:own", f"+ 0*{file}:own", f"= text:{TEXT}"):
            edited = model.run(TEXT, stages=("logits",), edits=(f"{place} {change}",), **options)
            assert edited["logits"].tobytes() == plain.tobytes(), (place, change)
            assert edited.edits[0].stages == [place]


@pytest.mark.parametrize("kind", ["llama", "gpt_neox", "bloom"])
def test_the_input_of_the_first_layer_from_another_text_gives_its_logits(
    kind: str, folders: Callable[[str], Path]
) -> None:
    model = txinspect.load(str(folders(kind)))
    other = "xyz xyw xyv"
    made = logits(model, f"layers.0.input = text:{other}")
    assert made.tobytes() == logits(model, text=other).tobytes()
    assert made.tobytes() != logits(model).tobytes()


def test_what_is_recorded_is_the_edited_value(model: Model) -> None:
    stages = ("layers.0.output", "layers.1.input", "layers.1.output")
    plain = model.run(TEXT, stages=stages)
    edited = model.run(TEXT, stages=stages, edits=("layers.0.output[position=1] * 3",))
    wanted = plain["layers.0.output"].copy()
    wanted[:, 1] *= 3
    assert (edited["layers.0.output"] == wanted).all()
    assert (edited["layers.1.input"] == wanted).all()
    assert (edited["layers.1.output"] != plain["layers.1.output"]).any()
    assert edited.notes[0] == "Edited: layers.0.output[position=1] * 3: not the model's own pass."


# Effects, against plain hooks


def hidden(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else output


@contextmanager
def hooked(module: nn.Module, change: Callable[[Tensor], Tensor], *, before: bool = False) -> Iterator[None]:
    """A plain hook that changes what a module is given, or passes on."""

    def given(_module: nn.Module, args: Any) -> Any:
        return (change(args[0]), *args[1:])

    def passed(_module: nn.Module, _args: Any, output: Any) -> Any:
        new = change(hidden(output))
        return (new, *output[1:]) if isinstance(output, tuple) else new

    handle = module.register_forward_pre_hook(given) if before else module.register_forward_hook(passed)
    try:
        yield
    finally:
        handle.remove()


@pytest.fixture(scope="module")
def opt() -> tuple[Any, Any]:
    folder = Path(txinspect.__file__).parent / "bundled" / "opt-mini"
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def opt_mini() -> Model:
    return txinspect.load("opt-mini", dtype="float32")


def run_plain(opt: tuple[Any, Any], text: str, *hooks: Any) -> Any:
    model, tokenizer = opt
    with ExitStack() as stack, torch.no_grad():
        for hook in hooks:
            stack.enter_context(hook)
        return model(**tokenizer(text, return_tensors="pt")).logits.numpy()


SENTENCE = "The quick brown fox jumps over the lazy dog"


def test_a_head_is_a_slice_of_what_the_projection_reads(opt: Any, opt_mini: Model) -> None:
    layers = opt[0].model.decoder.layers

    def without(heads: list[int]) -> Callable[[Tensor], Tensor]:
        def change(context: Tensor) -> Tensor:
            by_head = context.clone().view(*context.shape[:-1], 4, 32)
            by_head[..., heads, :] = 0
            return by_head.view(context.shape)

        return change

    wanted = run_plain(opt, SENTENCE, hooked(layers[0].self_attn.out_proj, without([1, 3]), before=True))
    made = logits(opt_mini, "layers.0.attention.context[head=1,3] = 0", text=SENTENCE)
    assert abs(made - wanted).max() < 1e-4
    assert abs(made - logits(opt_mini, text=SENTENCE)).max() > 1


def test_a_mean_leaves_special_tokens_out(opt: Any, opt_mini: Model) -> None:
    layers = opt[0].model.decoder.layers

    def averaged(own: Tensor) -> Tensor:
        new = own.clone()
        new[:, 1:] = own[:, 1:].double().mean(1, keepdim=True).float()  # token 0 is </s>
        return new

    wanted = run_plain(opt, SENTENCE, hooked(layers[1], averaged))
    assert abs(logits(opt_mini, "layers.1.output = mean", text=SENTENCE) - wanted).max() < 1e-4


def test_a_mean_over_the_texts_of_a_file(opt: Any, opt_mini: Model, tmp_path: Path) -> None:
    layers, seen = opt[0].model.decoder.layers, []

    def remember(own: Tensor) -> Tensor:
        seen.append(own[0, 1:].double())
        return own

    texts = ["Mia and Tom went home.", "The old owl", "It rained."]
    for text in texts:
        run_plain(opt, text, hooked(layers[2], remember))
    mean = torch.cat(seen).mean(0).float()

    def change(own: Tensor) -> Tensor:
        new = own.clone()
        new[:, 1:] = mean
        return new

    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n\n")
    wanted = run_plain(opt, SENTENCE, hooked(layers[2], change))
    made = logits(opt_mini, f"layers.2.output = mean:{tmp_path / 'texts.txt'}", text=SENTENCE)
    assert abs(made - wanted).max() < 1e-4


def test_a_vector_is_added_and_projected_out(opt: Any, opt_mini: Model, tmp_path: Path) -> None:
    layer = opt[0].model.decoder.layers[1]
    vector = torch.randn(128, generator=torch.Generator().manual_seed(0))
    save_file({"v": vector}, tmp_path / "v.safetensors")
    unit = vector.double() / vector.double().norm()

    def along(own: Tensor) -> Tensor:
        part: Tensor = (own.double() @ unit)[..., None] * unit
        return part

    changes: dict[str, Callable[[Tensor], Tensor]] = {
        f"+ 2.5*{tmp_path / 'v.safetensors'}:v": lambda own: own + 2.5 * vector,
        f"+ {tmp_path / 'v.safetensors'}:v": lambda own: own + vector,
        f"+ -0.5|h|*{tmp_path / 'v.safetensors'}:v": lambda own: (
            own.double() - 0.5 * own.double().norm(dim=-1, keepdim=True) * unit
        ).float(),
        f"- proj {tmp_path / 'v.safetensors'}:v": lambda own: (own.double() - along(own)).float(),
    }
    for change, by_hand in changes.items():
        wanted = run_plain(opt, SENTENCE, hooked(layer, by_hand))
        assert abs(logits(opt_mini, f"layers.1.output {change}", text=SENTENCE) - wanted).max() < 1e-3, change


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_key_that_scores_rule_out_is_as_if_it_were_masked(attention: str, folders: Callable[[str], Path]) -> None:
    """With its score at minus infinity in all layers and heads, a key is not there: as with a mask of its own."""
    plain: Any = AutoModelForCausalLM.from_pretrained(folders("llama"), attn_implementation=attention)
    ids = AutoTokenizer.from_pretrained(folders("llama"))(TEXT, return_tensors="pt")["input_ids"]
    count = ids.shape[1]
    mask = torch.full((count, count), torch.finfo(torch.float32).min).triu(1)
    mask[4:, 3] = torch.finfo(torch.float32).min
    with torch.no_grad():
        wanted = plain(input_ids=ids, attention_mask=mask[None, None]).logits.numpy()
    edit = f"layers.*.attention.scores[query=4-{count - 1},key=3] = -inf"
    ours = txinspect.load(str(folders("llama")))
    assert abs(logits(ours, edit) - wanted).max() < 1e-4
    assert abs(logits(ours) - wanted).max() > 1e-3
    weights = ours.attn(TEXT, layer=1, edits=(edit,))["layers.1.attention.weights"]
    assert (weights[:, :, 4:, 3] == 0).all()
    assert abs(weights.sum(-1) - 1).max() < 1e-5


def test_weights_are_written_by_their_difference(opt_mini: Model) -> None:
    edit = "layers.1.attention.weights[head=2,key=0] = 0"
    names = ("layers.1.attention.weights", "layers.1.attention.v", "layers.1.attention.context")
    plain, edited = (opt_mini.run(SENTENCE, stages=names, edits=each) for each in ((), (edit,)))
    weights = plain[names[0]].astype("float64")
    weights[:, 2, :, 0] = 0
    assert abs(edited[names[0]] - weights).max() < 1e-7
    assert abs(edited[names[2]] - weights @ plain[names[1]].astype("float64")).max() < 1e-5
    assert "not made to sum to 1 again" in edited.notes[0]


def test_several_edits_act_in_their_order(opt_mini: Model) -> None:
    stage = "layers.0.mlp.output"
    plain = opt_mini.run(SENTENCE, stages=(stage,))[stage]
    edited = opt_mini.run(SENTENCE, stages=(stage,), edits=(f"{stage}[hidden=0-3] = 2", f"{stage} * 3"))[stage]
    assert (edited[..., :4] == 6).all()
    assert (edited[..., 4:] == plain[..., 4:] * 3).all()


# What is known of opt-mini, measured by other means


def copied_loss(model: Model, *edits: str) -> float:
    """Loss of copied tokens on the model card's sequences of 50 random tokens that occur twice, in nats."""
    rows, drawn = [], random.Random(3)
    for _ in range(32):
        half = [drawn.randrange(4, 2048) for _ in range(50)]
        rows.append([2, *half, *half])
    found: list[float] = []
    for row in rows[:8]:
        report = model.logits(ids=tuple(row), edits=edits).report
        found += [each.surprisal for each in report.predictions[51:100]]
    return sum(found) / len(found)


def test_copying_dies_with_the_head_that_looks_at_the_token_before(opt_mini: Model) -> None:
    assert copied_loss(opt_mini) < 0.06
    assert copied_loss(opt_mini, "layers.0.attention.context[head=1] = 0") == pytest.approx(7.365, abs=0.5)
    assert copied_loss(opt_mini, "layers.2.attention.context = 0") < 0.12


# Where options meet, and what cannot be


@pytest.mark.parametrize(
    "query",
    [
        AttnQuery(text=TEXT, layer=1),
        EmbedQuery(text=TEXT),
        HeadsQuery(text=TEXT),
        LensQuery(text=TEXT),
        LogitsQuery(text=TEXT),
        RunQuery(text=TEXT, stages=("layers.1.output",)),
    ],
    ids=lambda query: type(query).__name__,
)
def test_every_command_that_runs_the_model_takes_edits(query: Any, folders: Callable[[str], Path]) -> None:
    from dataclasses import replace

    choice = ModelChoice(name=str(folders("llama")))
    plain = inspect(replace(query, model=choice))
    edited = inspect(replace(query, model=choice, edits=("token_embeddings[position=1] * 5",)))
    assert plain.edits == []
    assert [each.stages for each in edited.edits] == [["token_embeddings"]]
    assert edited.findings[0].startswith("Edited: token_embeddings[position=1] * 5")
    same = {**json.loads(txinspect.to_json(plain)), "edits": 0, "notes": 0, "findings": 0}
    assert same != {**json.loads(txinspect.to_json(edited)), "edits": 0, "notes": 0, "findings": 0}


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ("logits = 0", "nothing reads the logits"),
        ("layers.7.output = 0", "has layers 0 to"),
        ("nothing = 0", "has no stage or module 'nothing'"),
        ("layers.0.output[head=0] = 0", "has no heads: a head's part"),
        ("layers.0.attention.output[head=0] = 0", "context[head=H]"),
        ("layers.0.attention.k[head=0] = 0", "name them by kv_head"),
        ("layers.0.attention.weights[position=0] = 0", "has no axis 'position'"),
        ("layers.0.attention.weights = mean", "a mean is over tokens"),
        ("layers.0.output[position=99] = 0", "position 99 is out of range"),
        ("layers.0.output[batch=0] = 0", "has no axis 'batch'"),
        ("layers.0.output = text:a", "give one of as many tokens"),
        ("layers.0.output = none.npz:x", "there is no file none.npz"),
        ("layers.0.output = mean:none.txt", "none.txt"),
    ],
)
def test_what_cannot_be_changed_is_one_sentence(
    edit: str, said: str, folders: Callable[[str], Path], run_cli: Run
) -> None:
    result = run_cli("logits", TEXT, "-m", folders("llama"), "--edit", edit)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert said in result.stderr
    assert "unexpected" not in result.stderr


@pytest.mark.parametrize("value", ["= 0", "= text:abe abd abc", "* 2"])
def test_an_edit_after_what_is_asked_is_refused(value: str, folders: Callable[[str], Path]) -> None:
    """Whatever it would need of weights that are not loaded."""
    query = RunQuery(
        model=ModelChoice(name=str(folders("llama"))),
        text=TEXT,
        stages=("layers.0.output",),
        edits=(f"layers.1.mlp.output {value}",),
    )
    with pytest.raises(InspectError, match="changed nothing"):
        inspect(query)


def test_a_number_beyond_the_type_is_one_sentence() -> None:
    with pytest.raises(InspectError, match="1e9 is too large for float16: give less, or inf"):
        inspect(LogitsQuery(edits=("layers.1.output = 1e9",)))


def test_a_mean_over_what_is_no_text_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "no.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InspectError, match=r"no\.txt is not UTF-8: give a file with a text on each line"):
        inspect(LogitsQuery(edits=(f"layers.1.output = mean:{tmp_path / 'no.txt'}",)))


@pytest.mark.parametrize(
    "options",
    [
        ("logits", "--check"),
        ("logits", "--stride", "4"),
        ("logits", "--pll"),
        ("logits", "--continuation", "a"),
        ("embed", "--pooled"),
    ],
)
def test_what_runs_other_passes_is_refused_with_both_names(options: tuple[str, ...], run_cli: Run) -> None:
    result = run_cli(*options, "--edit", "layers.0.output = 0")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--edit" in result.stderr
    assert options[1] in result.stderr


def test_what_a_decoder_would_generate_is_asked_for(folders: Callable[[str], Path], run_cli: Run) -> None:
    result = run_cli("logits", TEXT, "-m", folders("t5"), "--edit", "encoder.layers.0.output = 0")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "--decoder" in result.stderr


def test_a_mean_in_an_encoder(folders: Callable[[str], Path]) -> None:
    plain: Any = AutoModelForMaskedLM.from_pretrained(folders("bert"))
    tokenizer = AutoTokenizer.from_pretrained(folders("bert"))
    inputs = tokenizer(TEXT, return_tensors="pt")
    special = tokenizer.get_special_tokens_mask(inputs["input_ids"][0].tolist(), already_has_special_tokens=True)
    chosen = torch.tensor(special) == 0

    def averaged(own: Tensor) -> Tensor:
        new = own.clone()
        new[:, chosen] = own[:, chosen].double().mean(1, keepdim=True).float()
        return new

    with hooked(plain.base_model.encoder.layer[0], averaged), torch.no_grad():
        wanted = plain(**inputs).logits.numpy()
    made = logits(txinspect.load(str(folders("bert")), dtype="float32"), "layers.0.output = mean")
    assert abs(made - wanted).max() < 1e-4


def test_a_value_that_does_not_fit_is_one_sentence(model: Model, tmp_path: Path) -> None:
    save_file({"v": torch.zeros(3, 7)}, tmp_path / "v.safetensors")
    with pytest.raises(InspectError, match=r"has the shape .* and the value \[3, 7\]"):
        logits(model, f"layers.0.output = {tmp_path / 'v.safetensors'}:v")
    with pytest.raises(InspectError, match="has no tensor 'w'"):
        logits(model, f"layers.0.output = {tmp_path / 'v.safetensors'}:w")


def test_numbers_stay_finite_where_scores_are_large(opt_mini: Model) -> None:
    made = logits(opt_mini, "layers.1.attention.scores[key=2] = 500", text=SENTENCE)
    assert all(math.isfinite(each) for each in made.ravel().tolist())
