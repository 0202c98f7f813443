"""Queries and their answers: what is picked, what is refused and in which words, what is told on the way."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, OPTConfig

import txinspect
from tests.making.checkpoints import VARIANTS, change_weights
from tests.making.models import byte_tokenizer
from txinspect.commands.attn import AttnQuery
from txinspect.commands.embed import EmbedQuery
from txinspect.commands.plan import PlanQuery
from txinspect.commands.pos import PosQuery
from txinspect.commands.run import RunQuery
from txinspect.commands.stages import StageRecord, StagesQuery
from txinspect.commands.tokenize import TokenizeQuery
from txinspect.commands.tree import TreeQuery
from txinspect.errors import InspectError, SourceError, StageError, UsageError
from txinspect.inspecting import inspect
from txinspect.model_choice import ModelChoice
from txinspect.queries import LESSON, Query
from txinspect.stage_names import stage_names

TEXT = "naïve fox"


def choice(folder: Path) -> ModelChoice:
    return ModelChoice(name=str(folder))


def names(folder: Path, *stages: str) -> list[str]:
    """What a run records, in its order."""
    return [one.name for one in inspect(RunQuery(model=choice(folder), text=TEXT, stages=stages)).tensors]


def stages_of(folder: Path) -> dict[str, StageRecord]:
    return {record.name: record for record in inspect(StagesQuery(model=choice(folder))).stages}


@pytest.fixture
def never_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What can be refused without the weights is refused before they are read."""

    def refuse(*_: object) -> None:
        raise AssertionError("the weights were read")

    monkeypatch.setattr("txinspect.loading.weights.partial.load", refuse)


# --- the front door ---


def test_the_public_api_is_the_front_door(opt: Path) -> None:
    report = txinspect.inspect(txinspect.EmbedQuery(model=txinspect.ModelChoice(name=str(opt)), text="Hello"))
    assert report.tensors[0].shape == [1, 6, 64]
    assert json.loads(txinspect.to_json(report))["txinspect"] == txinspect.__version__
    assert txinspect.InspectError is InspectError


def test_every_query_has_the_lessons_text_and_the_bundled_model() -> None:
    for query in (TokenizeQuery(), EmbedQuery(), PosQuery(), AttnQuery(), RunQuery(stages=("logits",))):
        assert query.text == LESSON
        assert query.model == ModelChoice(name="opt-mini")
    assert TreeQuery().model.name == StagesQuery().model.name == "opt-mini"


def test_what_is_no_query() -> None:
    with pytest.raises(TypeError, match="Query is not a query that txinspect answers"):
        inspect(Query())


def test_a_run_without_a_stage_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="no stage was asked for: name one"):
        RunQuery()


def test_what_goes_on_is_told(opt: Path) -> None:
    told: list[str] = []
    inspect(EmbedQuery(model=choice(opt), text="ab"), told.append)
    loading = next(message for message in told if message.startswith("loading"))
    assert re.fullmatch(rf"loading \d[\d.]* kB of weights of {re.escape(str(opt))}", loading)
    assert f"running {opt} on 3 tokens" in told
    assert told.index(loading) < told.index(f"running {opt} on 3 tokens")


def test_the_same_query_has_the_same_answer(opt: Path) -> None:
    query = RunQuery(model=choice(opt), text=TEXT, stages=("**",), values=True)
    assert inspect(query) == inspect(query)


def test_queries_can_be_asked_in_any_order(opt: Path) -> None:
    """One pass leaves nothing behind for the next: not a skipped norm, not a hook."""
    plain = AttnQuery(model=choice(opt), text=TEXT, values=True)
    first = inspect(plain)
    inspect(AttnQuery(model=choice(opt), text=TEXT, values=True, skip_norm=True))
    assert inspect(plain) == first


# --- the model's record ---


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_models_record(variant: str, opt_variant: Callable[[str], Path]) -> None:
    folder = opt_variant(variant)
    model = inspect(EmbedQuery(model=choice(folder), text=TEXT)).model
    assert (model.name, model.revision, model.model_type, model.class_) == (str(folder), None, "opt", "OPTForCausalLM")
    assert (model.num_hidden_layers, model.num_attention_heads, model.num_key_value_heads) == (3, 4, 4)
    assert (model.hidden_size, model.vocab_size) == (64, 384)
    assert (model.dtype, model.device, model.quantization) == ("float32", "cpu", None)
    assert model.attn_implementation == "sdpa"


def test_the_record_of_a_model_that_was_not_built(opt: Path) -> None:
    """tokenize reads config.json and nothing else."""
    built = inspect(EmbedQuery(model=choice(opt), text=TEXT)).model
    unbuilt = inspect(TokenizeQuery(model=choice(opt), text=TEXT)).model
    known = ("name", "model_type", "class_", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    for name in (*known, "hidden_size", "vocab_size", "dtype"):
        assert getattr(unbuilt, name) == getattr(built, name), name
    for name in ("num_parameters", "device", "quantization", "attn_implementation"):
        assert getattr(unbuilt, name) is None, name


# --- stages ---


@pytest.mark.parametrize("variant", VARIANTS)
def test_stages_are_the_contracts_and_all_of_them_run(variant: str, opt_variant: Callable[[str], Path]) -> None:
    folder = opt_variant(variant)
    found = stages_of(folder)
    assert list(found) == stage_names(3)
    has_norm = variant not in ("post_norm", "opt_350m", "no_final_norm")
    assert [name for name, one in found.items() if not one.available] == ([] if has_norm else ["final_norm"])
    for record in found.values():
        assert (record.reason is None) == record.available
        assert record.class_ or not record.available
    available = [name for name, one in found.items() if one.available]
    assert sorted(names(folder, *available)) == sorted(available)


def test_a_stage_that_the_model_lacks_says_why(opt_variant: Callable[[str], Path]) -> None:
    folder = opt_variant("post_norm")
    reason = stages_of(folder)["final_norm"].reason
    assert reason is not None
    assert "norm" in reason
    for asked in ("final_norm", "final_nor?"):
        with pytest.raises(StageError) as raised:
            names(folder, asked)
        assert reason in str(raised.value)
        assert asked in str(raised.value)


@pytest.mark.parametrize("variant", ["projected", "opt_350m"])
def test_stages_say_where_the_projections_act(variant: str, opt_variant: Callable[[str], Path]) -> None:
    found = stages_of(opt_variant(variant))
    notes = {name: record.note for name, record in found.items() if record.note}
    assert "project_in" in str(notes["token_embeddings"])
    assert any("project_out" in note for note in notes.values()), notes


def test_stages_without_projections_have_no_note(opt: Path) -> None:
    assert not [record.note for record in stages_of(opt).values() if record.note]


# --- names and globs ---


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (["logits"], ["logits"]),
        (["layers.*.output"], ["layers.0.output", "layers.1.output", "layers.2.output"]),
        (["layers.2.output", "layers.*.output"], ["layers.0.output", "layers.1.output", "layers.2.output"]),
        (["**.q_proj"], [f"model.decoder.layers.{index}.self_attn.q_proj" for index in range(3)]),
        (["model.decoder.layers.1.fc1"], ["model.decoder.layers.1.fc1"]),
        (["layers.[02].mlp.*"], [f"layers.{index}.mlp.{part}" for index in (0, 2) for part in ("input", "output")]),
        (["logits", "token_*"], ["token_embeddings", "logits"]),
        (["lm_hea?"], ["lm_head"]),
    ],
)
def test_what_names_and_globs_pick(asked: list[str], found: list[str], opt: Path) -> None:
    assert names(opt, *asked) == found


def test_a_glob_over_all_leaves_out_what_the_model_lacks(opt_variant: Callable[[str], Path]) -> None:
    assert "final_norm" not in names(opt_variant("post_norm"), "*")


@pytest.mark.usefixtures("never_loaded")
@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("logit", "no stage or module 'logit': did you mean logits"),
        ("layers.0.atention.weights", "did you mean layers.0.attention.weights"),
        ("model.decoder.layers.0.fc3", "did you mean model.decoder.layers.0.fc"),
        ("zzzzqqqq", "no stage or module 'zzzzqqqq': 'txinspect stages' and 'txinspect tree' list the names"),
        ("layers.3.output", "layer 3 is out of range: .* has layers 0 to 2"),
        ("layers.99.attention.weights", "layer 99 is out of range: .* has layers 0 to 2"),
        ("nothing.*", "no stage or module 'nothing"),
        ("layers.[9-1].output", "no stage or module 'layers"),
        ("model.decoder.layers", "it is a list of modules, which never runs itself"),
        ("", "no stage or module ''"),
    ],
)
def test_a_stage_that_is_not_there(asked: str, words: str, opt: Path) -> None:
    with pytest.raises(StageError, match=words):
        names(opt, "logits", asked)


# --- values of another type ---


ANY: Any = txinspect
"""The public names, whatever they are given."""


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda: ANY.AttnQuery(layer="0"),
            "layer '0' is not a whole number, a tuple of them such as (0, 2), or None",
        ),
        (
            lambda: ANY.AttnQuery(layer=True),
            "layer True is not a whole number, a tuple of them such as (0, 2), or None",
        ),
        (
            lambda: ANY.AttnQuery(layer=1.5),
            "layer 1.5 is not a whole number, a tuple of them such as (0, 2), or None",
        ),
        (lambda: ANY.AttnQuery(heads=0), "heads 0 is not a tuple: give (0,)"),
        (lambda: ANY.AttnQuery(heads="0"), "heads '0' is not a tuple of whole numbers, such as (0, 2)"),
        (lambda: ANY.AttnQuery(heads=(1.5,)), "heads (1.5,) is not a tuple of whole numbers, such as (0, 2)"),
        (lambda: ANY.RunQuery(stages="logits"), "stages 'logits' is not a tuple: give ('logits',)"),
        (lambda: ANY.RunQuery(stages=(5,)), "stages (5,) is not a tuple of strings, such as ('logits',)"),
        (lambda: ANY.EmbedQuery(text=5), "text 5 is not a string"),
        (lambda: ANY.EmbedQuery(text=b"hi"), "text b'hi' is not a string"),
        (lambda: ANY.EmbedQuery(special="no"), "special 'no' is not True or False"),
        (lambda: ANY.EmbedQuery(values="yes"), "values 'yes' is not True or False"),
        (lambda: ANY.EmbedQuery(check=1), "check 1 is not True or False"),
        (lambda: ANY.ModelChoice(name=None), "name None is not a string"),
        (lambda: ANY.ModelChoice(revision=5), "revision 5 is not a string"),
        (lambda: ANY.ModelChoice(offline="x"), "offline 'x' is not True or False"),
        (lambda: ANY.ModelChoice(int8_threshold="6", quantization="8bit"), "int8_threshold '6' is not a number"),
        (lambda: ANY.ModelChoice(double_quant=2, quantization="4bit"), "double_quant 2 is not True or False"),
        (
            lambda: ANY.ModelChoice(skip_modules="fc1", quantization="4bit"),
            "skip_modules 'fc1' is not a tuple: give ('fc1',)",
        ),
        (lambda: ANY.ModelChoice(device="gpu"), "device 'gpu' is not a device: give auto, cpu, cuda, cuda:N or mps"),
        (lambda: ANY.ModelChoice(dtype=["fp16"]), "dtype ['fp16'] is unknown: give auto, float32, float16 or bfloat16"),
        (lambda: ANY.ModelChoice(dtype=16), "dtype 16 is unknown: give auto, float32, float16 or bfloat16"),
        (
            lambda: PlanQuery(model=ModelChoice(name="a"), of=EmbedQuery()),
            "a plan is of the model of its query: give the model to that query alone",
        ),
    ],
)
def test_a_wrong_value_is_one_sentence_in_pythons_spelling(make: Any, says: str) -> None:
    with pytest.raises(UsageError) as raised:
        make()
    assert str(raised.value) == says


# --- layers, heads, queries, length ---


@pytest.mark.usefixtures("never_loaded")
@pytest.mark.parametrize("layer", [3, 24, 10**9])
def test_a_layer_out_of_range(layer: int, opt: Path) -> None:
    with pytest.raises(StageError, match=rf"^layer {layer} is out of range: '.*' has layers 0 to 2$"):
        inspect(AttnQuery(model=choice(opt), layer=layer))


@pytest.mark.parametrize(("heads", "first"), [((4,), 4), ((0, 7, 9), 7)])
def test_a_head_out_of_range(heads: tuple[int, ...], first: int, opt: Path) -> None:
    with pytest.raises(StageError, match=rf"head {first} is out of range: .* has heads 0 to 3"):
        inspect(AttnQuery(model=choice(opt), heads=heads))


@pytest.mark.usefixtures("never_loaded")
def test_a_query_out_of_range(opt: Path) -> None:
    with pytest.raises(InspectError, match=r"^query 4 is out of range: what is read there has tokens 0 to 3$"):
        inspect(AttnQuery(model=choice(opt), text="abc", queries=(1, 4)))


@pytest.mark.usefixtures("never_loaded")
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"layer": -4}, "layer -4 is out of range: .* has layers 0 to 2"),
        ({"layer": (0, 3)}, "layer 3 is out of range"),
        ({"queries": (-5,)}, "query -5 is out of range: what is read there has tokens 0 to 3"),
    ],
)
def test_negative_indices_count_from_the_end_and_end_there(wrong: dict[str, Any], says: str, opt: Path) -> None:
    with pytest.raises(InspectError, match=says):
        inspect(AttnQuery(model=choice(opt), text="abc", **wrong))


@pytest.mark.parametrize(
    ("asked", "same"),
    [
        ({"layer": -1}, {"layer": 2}),
        ({"layer": (-3,)}, {"layer": 0}),
        ({"heads": (-1, 0)}, {"heads": (0, 3)}),
        ({"queries": (-1,)}, {"queries": (3,)}),
    ],
)
def test_negative_indices_count_from_the_end(asked: dict[str, Any], same: dict[str, Any], opt: Path) -> None:
    left, right = (inspect(AttnQuery(model=choice(opt), text="abc", values=True, **each)) for each in (asked, same))
    assert (left.tensors, left.heads, left.layers) == (right.tensors, right.heads, right.layers)


@pytest.mark.parametrize("asked", [(0, 2), (2, 0, -1), None])
def test_several_layers_are_each_as_if_asked_alone(asked: Any, opt: Path) -> None:
    layers = [0, 1, 2] if asked is None else [0, 2]
    report = inspect(AttnQuery(model=choice(opt), text="abc", layer=asked, values=True))
    alone = [inspect(AttnQuery(model=choice(opt), text="abc", layer=layer, values=True)) for layer in layers]
    assert (report.layer, report.layers) == (0, layers)
    assert report.tensors == [tensor for each in alone for tensor in each.tensors]
    assert report.heads == [head for each in alone for head in each.heads]
    assert [head.layer for head in report.heads] == [layer for layer in layers for _ in range(4)]


@pytest.mark.parametrize("arguments", [("attn", "--layer", "9"), ("run", "-s", "layers.9.output")], ids=" ".join)
def test_a_layer_that_config_json_rules_out_costs_no_import(arguments: tuple[str, ...], opt: Path) -> None:
    inspect(EmbedQuery(model=choice(opt), text="a"))  # the tokenizer is in the cache
    source = (
        "import atexit, sys; from txinspect.cli.app import app\n"
        "atexit.register(lambda: print(sorted({'torch', 'transformers'} & set(sys.modules))))\n"
        f"app({[*arguments, '-m', str(opt)]!r})"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    assert "layer 9 is out of range" in done.stderr
    assert (done.returncode, done.stdout) == (1, "[]\n")


@pytest.mark.usefixtures("never_loaded")
@pytest.mark.parametrize("empty", ["heads", "queries"])
def test_an_empty_choice_is_refused_in_words(empty: str, opt: Path) -> None:
    """None asks for all; nothing at all is a mistake."""
    with pytest.raises(UsageError, match=empty[:4]):
        inspect(AttnQuery(model=choice(opt), text="abc", **{empty: ()}))  # type: ignore[arg-type]


def test_a_text_as_long_as_the_positions(opt: Path) -> None:
    report = inspect(AttnQuery(model=choice(opt), text="x" * 127))
    assert len(report.input.tokens) == 128
    assert report.tensors[0].shape == [1, 128, 64]


@pytest.mark.usefixtures("never_loaded")
@pytest.mark.parametrize("query", [EmbedQuery, PosQuery, AttnQuery])
def test_a_text_longer_than_the_positions(query: Any, opt: Path) -> None:
    with pytest.raises(
        InspectError,
        match=r"^the text is 129 tokens long, but '.*' has 128 positions: shorten the text, or give max_tokens=128 ",
    ):
        inspect(query(model=choice(opt), text="x" * 128))


def test_special_tokens_can_be_left_out(opt: Path) -> None:
    with_special, without = (
        inspect(EmbedQuery(model=choice(opt), text="abc", special=special, values=True)).tensors[0]
        for special in (True, False)
    )
    assert (with_special.shape, without.shape) == ([1, 4, 64], [1, 3, 64])
    assert with_special.values[0][1:] == without.values[0]


@pytest.mark.usefixtures("never_loaded")
@pytest.mark.parametrize("query", [TokenizeQuery, EmbedQuery, AttnQuery])
def test_a_text_that_yields_no_token(query: Any, opt: Path) -> None:
    with pytest.raises(InspectError, match="the text '' yields no tokens"):
        inspect(query(model=choice(opt), text="", special=False))


def test_a_token_beyond_the_embedding_table(opt: Path, tmp_path: Path) -> None:
    """A tokenizer with more tokens than the model has rows: one sentence, and which token it is."""
    for file in opt.iterdir():
        shutil.copy(file, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(opt)
    tokenizer.add_tokens([f"<{index}>" for index in range(130)])
    tokenizer.save_pretrained(tmp_path)
    assert len(tokenizer) > 384
    with pytest.raises(InspectError) as raised:
        inspect(EmbedQuery(model=choice(tmp_path), text="a<129>"))
    assert "384" in str(raised.value), "the size of the table is told"


# --- rows ---


@pytest.mark.parametrize("query", [EmbedQuery, PosQuery])
def test_a_row_for_every_token(query: Any, opt: Path) -> None:
    import numpy as np

    (record,) = inspect(query(model=choice(opt), text=TEXT, values=True)).tensors
    vectors = np.array(record.values[0])
    assert record.rows is not None
    assert [row.index for row in record.rows] == list(range(len(vectors)))
    for row, vector in zip(record.rows, vectors, strict=True):
        assert row.l2 == pytest.approx(np.sqrt((vector**2).sum()), rel=1e-12)
        assert row.mean == pytest.approx(vector.mean(), rel=1e-12, abs=1e-15)
        assert row.std == pytest.approx(vector.std(), rel=1e-12)


@pytest.mark.parametrize("variant", ["projected", "opt_350m"])
@pytest.mark.parametrize("query", [EmbedQuery, PosQuery])
def test_rows_where_the_embeddings_are_narrower(query: Any, variant: str, opt_variant: Callable[[str], Path]) -> None:
    (record,) = inspect(query(model=choice(opt_variant(variant)), text=TEXT)).tensors
    assert record.rows is not None
    assert len(record.rows) == record.shape[1]


# --- models that are none ---


@pytest.mark.parametrize("query", [TokenizeQuery, TreeQuery, StagesQuery, EmbedQuery, AttnQuery])
def test_a_folder_without_a_config(query: Any, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"has no config\.json: give the directory that save_pretrained wrote"):
        inspect(query(model=choice(tmp_path)))


def test_a_folder_without_weights(opt: Path, tmp_path: Path) -> None:
    for file in opt.glob("*.json"):
        shutil.copy(file, tmp_path)
    assert stages_of(tmp_path), "stages need none"
    with pytest.raises(SourceError, match=r"has no weights: none of model\.safetensors, .* is in"):
        inspect(EmbedQuery(model=choice(tmp_path)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "clip"}, "reads images, which txinspect does not"),
        ({"model_type": "vit"}, "reads images, which txinspect does not"),
        ({"model_type": "wav2vec2"}, "reads audio, which txinspect does not"),
        ({"model_type": "superpoint"}, "which has no language model, encoder or encoder–decoder of text|reads images"),
        ({"model_type": "nonesuch"}, "does not know the model type 'nonesuch'"),
        ({"model_type": None}, "names no model_type"),
        ({"model_type": ["opt"]}, "names no model_type"),
        ({"hidden_size": "wide"}, "config.json of .* does not describe a valid 'opt'|no model can be built"),
        ({"num_attention_heads": 5}, "no model can be built from config.json|does not describe a valid 'opt'"),
    ],
    ids=str,
)
def test_a_config_of_no_model_of_text(change: dict[str, Any], words: str, opt: Path, tmp_path: Path) -> None:
    config = json.loads((opt / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(SourceError, match=words):
        inspect(StagesQuery(model=choice(tmp_path)))


@pytest.mark.parametrize("query", [TokenizeQuery, TreeQuery, StagesQuery, EmbedQuery, AttnQuery])
@pytest.mark.parametrize(
    "content", ["", "{", "[1]", "null", "\x00", '{"a":' * 100_000], ids=lambda text: repr(text[:9])
)
def test_a_config_that_is_no_json_object(content: str, query: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(SourceError, match=r"^config\.json of .* (is not JSON|is not a JSON object)"):
        inspect(query(model=choice(tmp_path)))


def test_a_model_without_layers(tmp_path: Path) -> None:
    config = OPTConfig(num_hidden_layers=0, hidden_size=64, ffn_dim=64, num_attention_heads=4)
    config.save_pretrained(tmp_path)
    byte_tokenizer(config).save_pretrained(tmp_path)
    assert list(stages_of(tmp_path)) == stage_names(0)
    with pytest.raises(StageError) as raised:
        inspect(AttnQuery(model=choice(tmp_path), text="x", layer=0))
    assert "layers 0 to -1" not in str(raised.value)


# --- numbers that are none ---


@pytest.fixture
def spoilt(model: Path) -> Path:
    """A checkpoint whose second layer has NaN in its MLP."""

    def spoil(weights: dict[str, Any]) -> None:
        weights["model.decoder.layers.1.fc2.weight"][0, 0] = float("nan")

    change_weights(model, spoil)
    return model


def test_nan_is_found_without_being_asked_for(spoilt: Path) -> None:
    query = RunQuery(model=choice(spoilt), text="abc", stages=("layers.*.output", "logits"))
    report = inspect(query)
    counts = {tensor.name: tensor.stats.nan for tensor in report.tensors}
    first = next(name for name, count in counts.items() if count)
    assert first == "layers.1.output"
    assert report.findings == report.notes[:1]
    assert report.findings == [
        f"Not every number is finite: layers.1.output has {counts[first]} NaN among its 256 values, and 2 of those "
        f"after it have some, too."
    ]
    assert report.checks is None
    sound = inspect(RunQuery(model=choice(spoilt), text="abc", stages=("layers.0.output",), fail_on=("nan", "inf")))
    assert (sound.findings, [(check.name, check.passed) for check in sound.checks or ()]) == (
        [],
        [("nan", True), ("inf", True)],
    )


def test_fail_on_says_which(spoilt: Path) -> None:
    report = inspect(RunQuery(model=choice(spoilt), text="abc", stages=("layers.1.output",), fail_on=("inf", "nan")))
    assert report.checks is not None
    infinite, nan = report.checks
    assert (infinite.name, infinite.passed, infinite.detail) == ("inf", True, "no recorded tensor has infinite values")
    assert (nan.name, nan.passed) == ("nan", False)
    assert nan.detail == f"layers.1.output has {report.tensors[0].stats.nan} NaN among its 256 values"


def test_a_check_does_not_blame_recording_for_nan(spoilt: Path) -> None:
    checks = inspect(EmbedQuery(model=choice(spoilt), text="abc", check=True)).checks or []
    by_name = {check.name: check for check in checks}
    assert by_name["logits"].passed is True
    assert by_name["finite"].passed is False
    assert by_name["finite"].detail.startswith("the output of layer 1 has NaN or infinite values, and so ")
    assert by_name["finite"].detail.endswith("they come of the model's own numbers, not of recording")
    assert all("nan" not in check.detail for check in checks)
    # Layer 2 attends to what layer 1 passes on: there is nothing to add up in it.
    assert [by_name[name].passed for name in ("row_sums", "context", "residual")] == [None, None, True]
    assert "not looked at in model.decoder.layers.2.self_attn" in by_name["context"].detail


def test_a_query_whose_weights_are_no_numbers_has_no_strongest_keys(spoilt: Path) -> None:
    report = inspect(AttnQuery(model=choice(spoilt), text="abc", layer=2))
    assert {(len(query.keys), len(head.strongest)) for head in report.heads for query in head.queries} == {(0, 0)}


def test_tree_says_what_a_checkpoint_lacks(model: Path) -> None:
    change_weights(model, lambda weights: weights.pop("model.decoder.layers.1.fc2.weight"))
    notes = inspect(TreeQuery(model=choice(model))).notes
    assert any("lacks model.decoder.layers.1.fc2.weight" in note for note in notes)
