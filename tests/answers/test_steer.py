"""Vectors that steer: against plain hooks, loops and numpy in float64; files of other programs; what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer
from typer.testing import Result

import txinspect
from tests.making.models import Task, buildable_types, by_type, save_tiny
from txinspect import InspectError
from txinspect.answers import vectors
from txinspect.errors import SourceError, UsageError
from txinspect.measure import directions
from txinspect.model import Model

pytestmark = pytest.mark.pairs

Run = Callable[..., Result]

Array = NDArray[np.float64]

TOWARD, AWAY, TEXT = ("abc abd", "a big face"), ("axc ayd", "no cab"), "a bad cab"


@pytest.fixture(scope="module")
def opt_mini() -> Model:
    return txinspect.load("opt-mini", dtype="float32")


# Against plain hooks and loops


@dataclass(frozen=True)
class Kind:
    """A type of model: how it is loaded, and the module that is a layer."""

    layer: str
    factory: Any = AutoModelForCausalLM
    toward: tuple[str, ...] = TOWARD
    away: tuple[str, ...] = AWAY
    text: str = TEXT


KINDS = {
    "opt": Kind("model.decoder.layers.{}"),
    "llama": Kind("model.layers.{}"),
    "mixtral": Kind("model.layers.{}"),
    "falcon_h1": Kind("model.layers.{}"),
    "mamba": Kind("backbone.layers.{}"),
    "transformer-mini": Kind(
        "model.decoder.layers.{}",
        AutoModelForSeq2SeqLM,
        ("the happy fox", "a good dog"),
        ("the sad fox", "a bad dog"),
        "the old fox",
    ),
}

DECODER = "la vulpo"


@dataclass
class Plain:
    """The same model as transformers has it, in float32."""

    kind: str
    folder: Path

    def __post_init__(self) -> None:
        factory = KINDS[self.kind].factory
        self.model = factory.from_pretrained(self.folder, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)
        self.both = factory is AutoModelForSeq2SeqLM

    def layer(self, number: int) -> nn.Module:
        module: nn.Module = self.model.get_submodule(KINDS[self.kind].layer.format(number))
        return module

    def inputs(self, text: str, decoder: list[int] | None = None) -> dict[str, Tensor]:
        ids = {"input_ids": torch.tensor([self.tokenizer(text)["input_ids"]])}
        return ids if decoder is None else {**ids, "decoder_input_ids": torch.tensor([decoder])}

    def start(self, text: str) -> list[int]:
        """What generated ids stand behind: the text's own ids, or the decoder's first."""
        if self.both:
            return [self.model.generation_config.decoder_start_token_id]
        return list(self.inputs(text)["input_ids"][0].tolist())

    def logits(self, text: str, ids: list[int]) -> Array:
        inputs = self.inputs(text, ids) if self.both else {"input_ids": torch.tensor([ids])}
        with torch.no_grad():
            found: Array = self.model(**inputs, use_cache=False).logits[0].double().numpy()
        return found

    def hidden(self, text: str, layer: int) -> Array:
        """What a layer passes on, (seq, hidden)."""
        seen: list[Tensor] = []
        with hooked(self.layer(layer), lambda own: seen.append(own)):
            self.logits(text, self.decoder_ids() if self.both else self.start(text))
        found: Array = seen[0][0].double().numpy()
        return found

    def decoder_ids(self) -> list[int]:
        return [*self.start(""), *self.tokenizer(text_target=DECODER, add_special_tokens=False)["input_ids"]]

    def generated(self, text: str, count: int, layer: int, added: Array) -> list[int]:
        """The likeliest tokens one after the other, each in a whole pass with a vector added to a layer's output."""
        ends, begin = self.model.generation_config.eos_token_id, self.start(text)
        ids, barred = list(begin), [*(self.model.generation_config.bad_words_ids or [])]
        with hooked(self.layer(layer), lambda own: own + torch.from_numpy(added).to(own)):
            for _ in range(count):
                row = self.logits(text, ids)[-1]
                for (each,) in barred:
                    row[each] = -np.inf
                ids.append(int(row.argmax()))
                if ids[-1] in (ends if isinstance(ends, list) else [ends]):
                    return ids[len(begin) : -1]
        return ids[len(begin) :]

    def perplexity(self, text: str, generated: list[int]) -> float:
        begin = self.start(text)
        rows = self.logits(text, [*begin, *generated])[len(begin) - 1 : -1]
        rows = rows - rows.max(-1, keepdims=True)
        logprobs = rows - np.log(np.exp(rows).sum(-1, keepdims=True))
        return float(np.exp(-np.mean([row[each] for row, each in zip(logprobs, generated, strict=True)])))


@contextmanager
def hooked(module: nn.Module, change: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """A plain hook on what a module passes on."""

    def passes(_module: nn.Module, _args: Any, output: Any) -> Any:
        changed = change(output[0] if isinstance(output, tuple) else output)
        if changed is None:
            return None
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    handle = module.register_forward_hook(passes)
    try:
        yield
    finally:
        handle.remove()


@pytest.fixture(scope="module")
def plains(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Plain, Model]]:
    made: dict[str, tuple[Plain, Model]] = {}

    def of(kind: str) -> tuple[Plain, Model]:
        if kind not in made:
            bundled = Path(txinspect.__file__).parent / "bundled" / kind
            folder = bundled if bundled.is_dir() else save_tiny(kind, tmp_path_factory.mktemp(kind) / kind)
            made[kind] = Plain(kind, folder), txinspect.load(str(folder), dtype="float32")
        return made[kind]

    return of


def oracle(differences: Array, method: str) -> Array:
    """The mean of differences, or their first right singular vector by its eigenvalue, pointing along their mean."""
    mean: Array = differences.mean(0)
    if method == "mean":
        return mean
    _, vectors_ = np.linalg.eigh(differences.T @ differences)
    first: Array = vectors_[:, -1]
    return first * (first @ mean)


@pytest.mark.parametrize(("over", "method"), [("last", "mean"), ("all", "pca")])
@pytest.mark.parametrize("kind", KINDS)
def test_a_vector_is_that_of_plain_hooks(
    kind: str, over: str, method: str, plains: Callable[[str], tuple[Plain, Model]]
) -> None:
    plain, model = plains(kind)
    own, beside = KINDS[kind], {"decoder": DECODER} if plain.both else {}
    answer = model.steer(action="make", toward=own.toward, away=own.away, layers=1, over=over, method=method, **beside)
    (record,) = answer.report.vectors
    states: list[Array] = []
    norms: list[float] = []
    for text in [each for pair in zip(own.toward, own.away, strict=True) for each in pair]:
        ids = plain.decoder_ids() if plain.both else plain.start(text)
        special = {plain.tokenizer.bos_token_id, plain.tokenizer.eos_token_id, plain.tokenizer.pad_token_id}
        kept = [place for place, each in enumerate(ids) if each not in special]
        hidden = plain.hidden(text, 1)[kept]
        states.append(hidden[-1] if over == "last" else hidden.mean(0))
        norms.append(float(np.linalg.norm(hidden, axis=-1).mean()))
    differences = np.stack(states[0::2]) - np.stack(states[1::2])
    vector = oracle(differences, method)
    scale = np.abs(vector).max()
    np.testing.assert_allclose(answer[record.name], vector, atol=2e-5 * max(scale, 1))
    assert record.norm == pytest.approx(np.linalg.norm(vector), rel=1e-4)
    assert record.stream == pytest.approx(np.mean(norms), rel=1e-5)
    assert record.ratio == pytest.approx(np.linalg.norm(vector) / np.mean(norms), rel=1e-4)
    cosines = differences @ vector / np.linalg.norm(differences, axis=-1) / np.linalg.norm(vector)
    assert record.agreement == pytest.approx(cosines.mean(), abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_generated_is_that_of_a_plain_loop(
    kind: str, plains: Callable[[str], tuple[Plain, Model]], tmp_path: Path
) -> None:
    plain, model = plains(kind)
    file = tmp_path / "v.safetensors"
    kept, beside = KINDS[kind], {"decoder": DECODER} if plain.both else {}
    made = model.steer(action="make", toward=kept.toward, away=kept.away, layers=0, save=file, **beside)
    (name,) = made.keys()
    vector = made[name].astype(np.float64)
    scales = (-20.0, -3.0, 2.5, 20.0)
    report = model.steer(kept.text, action="try", vector=str(file), scales=scales, new=6, seed=3).report
    assert [(each.scale, each.random) for each in report.tries] == [
        *((scale, is_random) for scale in scales[:2] for is_random in (False, True)),
        (0.0, False),
        *((scale, is_random) for scale in scales[2:] for is_random in (False, True)),
    ]
    drawn = torch.randn(len(vector), generator=torch.Generator().manual_seed(3), dtype=torch.float64).numpy()
    drawn *= np.linalg.norm(vector) / np.linalg.norm(drawn)
    for each in report.tries:
        added = each.scale * (drawn if each.random else vector)
        assert each.ids == plain.generated(kept.text, 6, 0, added), each
        assert each.text == plain.tokenizer.decode(each.ids, skip_special_tokens=True)
        if each.ids:
            assert each.perplexity == pytest.approx(plain.perplexity(kept.text, each.ids), rel=1e-3)
        else:
            assert each.perplexity is None
    assert len({tuple(each.ids) for each in report.tries}) > 1
    (own,) = report.vectors
    last = report.tries[-2]
    assert (own.norm, last.ratio) == (pytest.approx(np.linalg.norm(vector)), pytest.approx(20 * own.ratio))


# Files


def test_what_is_written_is_read_by_an_edit(tmp_path: Path, opt_mini: Model) -> None:
    file = tmp_path / "v.safetensors"
    made = opt_mini.steer(action="make", toward=("a happy day",), away=("a sad day",), layers=(1, 2), save=file)
    assert made.keys() == [each.name for each in made.report.vectors] == ["layers.1.output", "layers.2.output"]
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
        assert {*opened.keys()} == {*made.keys()}
        np.testing.assert_array_equal(opened.get_tensor("layers.1.output").numpy(), made["layers.1.output"])
    told = json.loads(metadata["steer"])
    assert (told["method"], told["over"], told["pairs"]) == ("mean", "last", [["a happy day", "a sad day"]])
    first = made.report.vectors[0]
    assert told["vectors"][0] == {
        "name": first.name,
        "place": first.name,
        "width": 128,
        "norm": first.norm,
        "stream": first.stream,
        "ratio": first.ratio,
        "agreement": pytest.approx(1),
    }
    own = opt_mini.run("a day", stages=("layers.1.output",))["layers.1.output"]
    edit = f"layers.1.output + 2*{file}:layers.1.output"
    edited = opt_mini.run("a day", stages=("layers.1.output",), edits=(edit,))["layers.1.output"]
    np.testing.assert_allclose(edited, own + 2 * made["layers.1.output"], atol=1e-5)


def test_the_edits_of_a_try_are_what_it_does(tmp_path: Path, opt_mini: Model) -> None:
    file = tmp_path / "v.safetensors"
    opt_mini.steer(action="make", toward=("a happy day",), away=("a sad day",), layers=(1, 2), save=file)
    for each in opt_mini.steer("My friend", action="try", vector=str(file), scales=(-1.5, 2), new=1).report.tries:
        if not each.random:
            assert len(each.edits) == (2 if each.scale else 0)
            predicted = opt_mini.logits("My friend", edits=tuple(each.edits)).report.predictions[-1].top[0]
            assert each.ids == [predicted.id]


def control_vector(path: Path, directions: dict[str, NDArray[Any]], architecture: str = "controlvector") -> Path:
    """A control vector as repeng's export_gguf and llama.cpp's cvector-generator write it."""
    writer = GGUFWriter(path, architecture)
    writer.add_string("controlvector.model_hint", "opt")
    writer.add_uint32("controlvector.layer_count", len(directions))
    for name, values in directions.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def drawn() -> NDArray[np.float32]:
    """(layers, hidden) of opt-mini."""
    found: NDArray[np.float32] = np.random.default_rng(0).normal(size=(4, 128)).astype(np.float32)
    return found


def places_of(model: Model, vector: object, **more: Any) -> dict[str, str]:
    """Where the vectors of a file are added, by their names."""
    report = model.steer("My friend", action="try", vector=str(vector), scales=(1,), new=1, **more).report
    return {each.name: each.place for each in report.vectors}


def test_a_control_vector_is_added_to_the_output_of_its_block(
    tmp_path: Path, opt_mini: Model, drawn: NDArray[np.float32]
) -> None:
    file = control_vector(tmp_path / "v.gguf", {f"direction.{k}": drawn[k] for k in (1, 2, 3)})
    assert places_of(opt_mini, file) == {f"direction.{k}": f"layers.{k}.output" for k in (1, 2, 3)}
    one_off = places_of(opt_mini, file, origin="cvector-generator")
    assert one_off == {f"direction.{k}": f"layers.{k - 1}.output" for k in (1, 2, 3)}
    assert places_of(opt_mini, file, layers=(1, 3)) == {f"direction.{k}": f"layers.{k}.output" for k in (1, 3)}
    assert places_of(opt_mini, f"{file}:direction.2", layers=0) == {"direction.2": "layers.0.output"}
    own = opt_mini.run("a day", stages=("layers.2.output",))["layers.2.output"]
    edit = f"layers.2.output + 3*{file}:direction.2"
    edited = opt_mini.run("a day", stages=("layers.2.output",), edits=(edit,))["layers.2.output"]
    np.testing.assert_allclose(edited, own + 3 * drawn[2], atol=1e-5)


def test_half_precision_and_what_is_no_control_vector(
    tmp_path: Path, opt_mini: Model, drawn: NDArray[np.float32]
) -> None:
    half = control_vector(tmp_path / "half.gguf", {"direction.1": drawn[1].astype(np.float16)})
    np.testing.assert_array_equal(vectors.load(half)["direction.1"].numpy(), drawn[1].astype(np.float16).astype("f4"))
    other = control_vector(tmp_path / "other.gguf", {"direction.1": drawn[1]}, "llama")
    with pytest.raises(InspectError, match="is a GGUF of 'llama', and no control vector"):
        places_of(opt_mini, other)
    table = control_vector(tmp_path / "table.gguf", {"direction.1": drawn})
    with pytest.raises(InspectError, match=r"holds 'direction\.1' as F32 of \[4, 128\]"):
        places_of(opt_mini, table)
    zeroth = control_vector(tmp_path / "zeroth.gguf", {"direction.0": drawn[0]})
    with pytest.raises(InspectError, match="cvector-generator counts from 1"):
        places_of(opt_mini, zeroth, origin="cvector-generator")
    beyond = control_vector(tmp_path / "beyond.gguf", {"direction.9": drawn[0]})
    with pytest.raises(InspectError, match="0 to 3"):
        places_of(opt_mini, beyond)
    whole = half.read_bytes()
    for size in (0, 3, 20, len(whole) // 2, len(whole) - 1):
        half.write_bytes(whole[:size])
        with pytest.raises(SourceError):
            vectors.load(half)


def test_what_torch_saved(tmp_path: Path, opt_mini: Model, drawn: NDArray[np.float32]) -> None:
    table, one, named = tmp_path / "table.pt", tmp_path / "one.pt", tmp_path / "named.pt"
    torch.save(torch.from_numpy(drawn), table)
    torch.save(torch.from_numpy(drawn[2]), one)
    torch.save({"mlp": torch.from_numpy(drawn[0]), "layers.1.output": torch.from_numpy(drawn[1])}, named)
    assert places_of(opt_mini, table) == {str(k): f"layers.{k}.output" for k in range(4)}
    assert places_of(opt_mini, table, layers=(0, 2)) == {str(k): f"layers.{k}.output" for k in (0, 2)}
    assert places_of(opt_mini, one, layers=2) == {"vector": "layers.2.output"}
    assert places_of(opt_mini, f"{named}:layers.1.output") == {"layers.1.output": "layers.1.output"}
    for path, name in ((table, "2"), (one, "vector")):
        np.testing.assert_array_equal(vectors.load(path)[name].numpy(), drawn[2])
        edit = f"layers.2.output + 3*{path}:{name}"
        edited = opt_mini.run("a day", stages=("layers.2.output",), edits=(edit,))["layers.2.output"]
        own = opt_mini.run("a day", stages=("layers.2.output",))["layers.2.output"]
        np.testing.assert_allclose(edited, own + 3 * drawn[2], atol=1e-5)
    with pytest.raises(InspectError, match=r"'vector' of .*one\.pt is the name of no stage"):
        places_of(opt_mini, one)
    with pytest.raises(InspectError, match=r"'mlp' of .*named\.pt is the name of no stage"):
        places_of(opt_mini, named)
    torch.save(torch.from_numpy(drawn[:3]), table)
    with pytest.raises(InspectError, match="has 3 rows, and 'opt-mini' 4 layers"):
        places_of(opt_mini, table)
    torch.save(torch.zeros(2, 2, 2), table)
    with pytest.raises(InspectError, match=r"holds a tensor of \[2, 2, 2\]"):
        places_of(opt_mini, table)


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("run",))


def test_a_pickle_that_names_code_is_not_opened(tmp_path: Path, opt_mini: Model, capsys: Any) -> None:
    file = tmp_path / "evil.pt"
    torch.save({"layers.1.output": torch.zeros(128), "x": Evil()}, file)
    with pytest.raises(SourceError, match="objects other than weights"):
        places_of(opt_mini, file)
    with pytest.raises(SourceError, match="objects other than weights"):
        opt_mini.logits("a", edits=(f"layers.1.output + {file}:layers.1.output",))
    assert "run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        (torch.ones(64), "has 64 numbers, and 'layers.1.output' 128"),
        (torch.ones(2, 128), "and no vector"),
        (torch.ones(128, dtype=torch.int64), "int64, and no vector"),
        (torch.zeros(128), "is zero, or not finite"),
        (torch.full((128,), float("nan")), "is zero, or not finite"),
    ],
)
def test_a_tensor_that_is_no_vector(tensor: Tensor, says: str, tmp_path: Path, opt_mini: Model) -> None:
    file = tmp_path / "v.safetensors"
    save_file({"layers.1.output": tensor}, file)
    with pytest.raises(InspectError, match=says):
        places_of(opt_mini, file)


@pytest.mark.parametrize(
    "content",
    ['a happy day\ta sad day\n\na good dog\ta bad dog\n', '{"toward": "a happy day", "away": "a sad day"}\n'
     '{"away": "a bad dog", "toward": "a good dog"}'],
    ids=["tabs", "json"],
)  # fmt: skip
def test_pairs_of_a_file_are_pairs(content: str, tmp_path: Path, opt_mini: Model) -> None:
    file = tmp_path / "pairs"
    file.write_text(content, encoding="utf-8")
    read = opt_mini.steer(action="make", pairs=file, layers=2)
    given = opt_mini.steer(
        action="make", toward=("a happy day", "a good dog"), away=("a sad day", "a bad dog"), layers=2
    )
    np.testing.assert_array_equal(read["layers.2.output"], given["layers.2.output"])
    assert read.report.pairs == 2


@pytest.mark.parametrize(
    "content", ["one text\n", "a\tb\tc", "a\t", '{"toward": "a"}', '{"toward": 1, "away": 2}', "[]"]
)
def test_a_line_that_is_no_pair(content: str, tmp_path: Path, opt_mini: Model) -> None:
    file = tmp_path / "pairs"
    file.write_text(f"a\tb\n{content}", encoding="utf-8")
    with pytest.raises(InspectError, match=r"line 2 of .* is no pair"):
        opt_mini.steer(action="make", pairs=file, layers=2)
    file.write_text("\n", encoding="utf-8")
    with pytest.raises(InspectError, match="has 0 pairs"):
        opt_mini.steer(action="make", pairs=file, layers=2)


# Numbers by themselves


def test_a_component_points_where_the_mean_does() -> None:
    rows = np.random.default_rng(1).normal(size=(6, 5)) + 0.3
    for sign in (1, -1):
        found = directions.direction(torch.from_numpy(sign * rows), "pca").numpy()
        np.testing.assert_allclose(found, oracle(sign * rows, "pca"), atol=1e-12)
        assert found @ (sign * rows).mean(0) > 0


def test_a_pair_that_does_not_differ_agrees_with_nothing() -> None:
    differences = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    vector = torch.tensor([2.0, 0.0], dtype=torch.float64)
    assert directions.agreement(differences, vector) == pytest.approx(0.5)
    assert directions.agreement(differences[:1], vector) == 0.0


def test_a_random_direction_is_as_long_and_drawn_again_alike() -> None:
    vector = torch.tensor([3.0, 4.0, 0.0])
    first, again, other = (directions.random_like(vector, seed) for seed in (1, 1, 2))
    assert float(first.norm()) == pytest.approx(5.0)
    assert first.equal(again)
    assert not first.equal(other)


# What is refused


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "action is missing"),
        ({"action": "make"}, "toward is missing"),
        ({"action": "make", "toward": ("a",)}, "away is missing"),
        ({"action": "make", "toward": ("a", "b"), "away": ("c",), "layers": 1}, "given 2 times and away 1 times"),
        ({"action": "make", "toward": ("",), "away": ("c",), "layers": 1}, "toward '' is empty"),
        ({"action": "make", "toward": ("a",), "away": ("b",)}, "layers is missing"),
        ({"action": "make", "toward": ("a",), "away": ("b",), "layers": ()}, "layers chooses none"),
        ({"action": "make", "toward": ("a",), "away": ("b",), "layers": 1, "stages": ("x",)}, "each says where"),
        ({"action": "make", "toward": ("a",), "away": ("b",), "layers": 1, "method": "pca"}, "of several differences"),
        ({"action": "make", "toward": ("a",), "away": ("b",), "layers": 1, "method": "x"}, "method 'x' is unknown"),
        ({"action": "make", "toward": ("a",), "pairs": Path("x"), "layers": 1}, "each says what the vector is made of"),
        ({"action": "make", "vector": "a.pt", "toward": ("a",), "away": ("b",)}, "vector is of steer try"),
        ({"action": "make", "seed": 1, "toward": ("a",), "away": ("b",)}, "seed is of steer try"),
        ({"action": "make", "pair": "x", "toward": ("a",), "away": ("b",)}, "pair is of one text"),
        ({"action": "make", "text": "x", "toward": ("a",), "away": ("b",)}, "reads the texts that it is made of"),
        ({"action": "try"}, "vector is missing"),
        ({"action": "try", "vector": "a.bin"}, "'a.bin' is no file of vectors"),
        ({"action": "try", "vector": "a.pt", "toward": ("a",)}, "toward is of steer make"),
        ({"action": "try", "vector": "a.pt", "save": Path("a.npz")}, "save is of steer make"),
        ({"action": "try", "vector": "a.pt", "scales": ("1,x",)}, "scales 'x' is no number"),
        ({"action": "try", "vector": "a.pt", "scales": (float("inf"),)}, "scales inf is no number"),
        ({"action": "try", "vector": "a.pt", "scales": ()}, "scales names none"),
        ({"action": "try", "vector": "a.pt", "scales": (1.0,) * 101}, "scales names 101"),
        ({"action": "try", "vector": "a.pt", "decoder": "x"}, "decoder and steer try cannot be combined"),
        ({"action": "try", "vector": "a.pt", "check": True}, "check is about the tensors"),
    ],
)
def test_what_cannot_be_asked(options: dict[str, Any], says: str, opt_mini: Model) -> None:
    with pytest.raises(UsageError, match=says):
        opt_mini.steer(**options)


def test_a_scale_at_which_logits_are_no_numbers_is_said(made: Path) -> None:
    with pytest.raises(InspectError, match="not all logits are numbers: give smaller scales"):
        txinspect.load("opt-mini").steer("My friend was", action="try", vector=str(made), scales=(1e30,), new=2)


def test_texts_that_do_not_differ_give_no_vector(opt_mini: Model) -> None:
    with pytest.raises(InspectError, match=r"no vector at 'layers\.1\.output': the texts do not differ there"):
        opt_mini.steer(action="make", toward=("a day",), away=("a day",), layers=1)


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        ("logits", "cannot be changed"),
        ("layers.1.attention.q", "no vector for each token: its axes are batch, head"),
        ("layers.9.output", "0 to 3"),
    ],
)
def test_a_stage_that_has_no_place_for_a_vector(stage: str, says: str, opt_mini: Model) -> None:
    with pytest.raises(InspectError, match=says):
        opt_mini.steer(action="make", toward=("a day",), away=("a dog",), stages=(stage,))


def test_an_encoder_generates_nothing(tmp_path: Path) -> None:
    model = txinspect.load(str(save_tiny("bert", tmp_path / "bert", task="masked-lm")))
    file = tmp_path / "v.safetensors"
    made = model.steer(action="make", toward=("abc",), away=("xyz",), layers=1, save=file)
    assert made["layers.1.output"].shape == (model.tree().report.model.hidden_size,)
    with pytest.raises(InspectError, match=r"\(BertForMaskedLM\) generates no text"):
        model.steer("abc", action="try", vector=str(file))


def test_an_encoder_decoder_is_steered_in_its_encoder(tmp_path: Path) -> None:
    """To a sad dog it says the word of the other side: the vector does what it says."""
    model, file = txinspect.load("transformer-mini"), tmp_path / "v.npz"
    texts = {"toward": ("I love this happy day",), "away": ("I hate this sad day",)}
    with pytest.raises(InspectError, match="would generate what its decoder reads"):
        model.steer(action="make", **texts, layers=1)
    model.steer(action="make", **texts, stages=("encoder.layers.1.output",), save=file)
    tries = model.steer("the quick fox", action="try", vector=str(file), scales=(-1, 1)).report.tries
    assert {each.scale: each.text for each in tries if not each.random}[0.0] == "la vulpo rapida"
    assert "malĝoja" in next(each.text for each in tries if each.scale == -1 and not each.random)


def test_there_is_room_for_what_is_generated(tmp_path: Path, opt_mini: Model) -> None:
    file = tmp_path / "v.safetensors"
    opt_mini.steer(action="make", toward=("a day",), away=("a dog",), layers=1, save=file)
    with pytest.raises(InspectError, match=r"the text has 2 tokens, and .* 256 positions"):
        opt_mini.steer("a", action="try", vector=str(file), new=300)


# The command line


@pytest.fixture
def made(tmp_path: Path, run_cli: Run) -> Path:
    file = tmp_path / "v.safetensors"
    given = ("--toward", "a happy day", "--away", "a sad day", "--layer", "1", "-o", file)
    assert run_cli("steer", "make", *given).exit_code == 0
    return file


def test_the_words_of_the_command_line(made: Path, run_cli: Run) -> None:
    result = run_cli("steer", "try", "My friend was", "--vector", made, "--scales", "-2,2", "--new", "5", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    assert [each["scale"] for each in report["tries"]] == [-2, -2, 0, 2, 2]
    assert report["input"]["text"] == "My friend was"
    table = made.with_suffix(".csv")
    assert run_cli("steer", "try", "My friend was", "--vector", made, "--scales", "2", "--csv", table).exit_code == 0
    assert [line.split(",")[0] for line in table.read_text(encoding="utf-8").splitlines()] == [
        "scale",
        "0.0",
        "2.0",
        "2.0",
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("My friend", "--vector", "v.pt"), "ACTION 'My friend' is unknown: give make or try"),
        (("--vector", "v.pt"), "ACTION is missing"),
        (("make", "My friend", "--toward", "a", "--away", "b"), "a text and --toward cannot be combined"),
        (("try", "My friend"), "--vector is missing"),
        (("try", "My friend", "--vector", "none.pt"), "there is no file none.pt"),
        (("try", "My friend", "--vector", "v.pt", "--scales", "a"), "--scales 'a' is no number"),
    ],
)
def test_what_the_command_line_refuses(arguments: tuple[str, ...], says: str, run_cli: Run) -> None:
    result = run_cli("steer", *arguments)
    assert result.stdout == ""
    assert says in " ".join(result.stderr.split())


@pytest.mark.parametrize("width", [80, 140])
def test_a_try_fits_its_screen(width: int, made: Path, run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = run_cli("steer", "try", "My friend was", "--vector", made).stdout.splitlines()
    assert len(lines) <= 22
    assert max(map(len, lines)) <= width
    assert "changes from scale" in " ".join(lines)


def test_another_programs_file_is_not_written_over(made: Path, run_cli: Run) -> None:
    save_file({"x": torch.zeros(1)}, made)
    given = ("steer", "make", "--toward", "a", "--away", "b", "--layer", "1", "-o", made)
    assert "add --overwrite to replace it" in " ".join(run_cli(*given).stderr.split())
    assert run_cli(*given, "--overwrite").exit_code == 0


# Every type


def made_and_tried(kind: str, task: Task, tmp_path: Path) -> None:
    """It steers, or says in a sentence why not."""
    model = txinspect.load(str(save_tiny(kind, tmp_path / kind, task=task)))
    file = tmp_path / "v.safetensors"
    beside = {"decoder": "a"} if task == "seq2seq-lm" else {}
    with suppress(InspectError):
        made = model.steer(action="make", toward=TOWARD, away=AWAY, layers=0, save=file, **beside)
        (record,) = made.report.vectors
        assert made[record.name].shape == (record.width,)
        tries = model.steer(TEXT, action="try", vector=str(file), scales=(0, 50), new=3).report.tries
        assert [(each.scale, each.random) for each in tries] == [(0, False), (50, False), (50, True)]


@pytest.mark.parametrize("kind", by_type(buildable_types(), ("opt", "mamba"), pytest.mark.sweeps))
def test_any_decoder_is_steered_or_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    made_and_tried(kind, "causal-lm", tmp_path)


@pytest.mark.parametrize("kind", by_type(buildable_types("seq2seq-lm"), ("t5",), pytest.mark.sweeps))
def test_any_encoder_decoder_is_steered_or_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    made_and_tried(kind, "seq2seq-lm", tmp_path)
