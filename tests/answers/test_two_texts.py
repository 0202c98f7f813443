"""Encoder–decoders: what the decoder reads, what it generates, and its attention to the source."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, NllbTokenizer
from typer.testing import Result

from tests.making.checkpoints import change_config
from tests.making.models import save_tiny
from txinspect import (
    AttnQuery,
    DiffQuery,
    HeadsQuery,
    LogitsQuery,
    ModelChoice,
    PlanQuery,
    RunQuery,
    TokenizeQuery,
    inspect,
)
from txinspect.errors import InspectError, StageError, UsageError
from txinspect.sources.bundled_models import BUNDLED

pytestmark = pytest.mark.pairs

Run = Callable[..., Result]

MINI = ModelChoice(name="transformer-mini", dtype="float32")
TEXT = "the quick brown fox jumps over the lazy dog"
TRANSLATION = "la vulpo bruna rapida super la hundo pigra saltas"


@pytest.fixture(scope="module", params=["t5", "bart", "marian"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(request.param, tmp_path_factory.mktemp("two") / request.param, task="seq2seq-lm")


def set_generation(folder: Path, **settings: Any) -> None:
    """Set values of a checkpoint's generation_config.json."""
    file = folder / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def test_greedy_is_what_transformers_generates(folder: Path) -> None:
    report = inspect(LogitsQuery(model=ModelChoice(name=str(folder)), text="hello you", new=9, position=None))
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    ids = AutoTokenizer.from_pretrained(folder)("hello you", return_tensors="pt")
    generated = model.generate(**ids, do_sample=False, num_beams=1, max_new_tokens=9)[0]
    ends = model.generation_config.eos_token_id
    wanted = generated.tolist()
    assert report.input.decoder is not None
    assert report.input.decoder.input_ids == [wanted[:-1] if wanted[-1] == ends else wanted]


def test_each_step_of_decoding_is_the_teacher_forced_pass(folder: Path) -> None:
    """Every arg max agrees, and every logit to 1e-5, where nothing is forced."""
    set_generation(folder, forced_bos_token_id=None, forced_eos_token_id=None)
    choice = ModelChoice(name=str(folder))
    report = inspect(RunQuery(model=choice, text="hello you", stages=("logits",), new=6, values=True))
    assert report.input.decoder is not None
    ids = report.input.decoder.input_ids[0]
    whole = torch.tensor(report.tensors[0].values)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    source = torch.tensor(report.input.input_ids)
    for step in range(1, len(ids) + 1):
        with torch.no_grad():
            logits = model(input_ids=source, decoder_input_ids=torch.tensor([ids[:step]]), use_cache=False).logits
        assert (logits[0, -1] - whole[0, step - 1]).abs().max() <= 1e-5
        assert int(logits[0, -1].argmax()) == int(whole[0, step - 1].argmax())
        if step < len(ids):
            assert int(logits[0, -1].argmax()) == ids[step]


@pytest.mark.parametrize(
    "settings",
    [
        {"forced_bos_token_id": 50},
        {"forced_eos_token_id": 60, "eos_token_id": 60},
        {"suppress_tokens": [*range(100, 200)]},
        {"begin_suppress_tokens": [*range(100, 264)]},
        {"bad_words_ids": [[each] for each in range(20, 120)]},
        {"no_repeat_ngram_size": 1},
        {"encoder_no_repeat_ngram_size": 1},
        {"repetition_penalty": 5.0},
        {"min_new_tokens": 8, "eos_token_id": [*range(8, 200)]},
        {"exponential_decay_length_penalty": [2, 30.0]},
        {"num_beams": 4, "do_sample": True, "temperature": 0.1, "top_k": 3, "max_length": 5, "length_penalty": 2.0},
    ],
    ids=lambda settings: "+".join(settings),
)
def test_generation_config_is_followed(settings: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "m")
    set_generation(tmp_path / "m", **settings)
    report = inspect(LogitsQuery(model=ModelChoice(name=str(tmp_path / "m")), text="hello you", new=9))
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "m")
    ids = AutoTokenizer.from_pretrained(folder)("hello you", return_tensors="pt")
    wanted = model.generate(**ids, do_sample=False, num_beams=1, max_new_tokens=9)[0].tolist()
    ends = model.generation_config.eos_token_id
    assert report.input.decoder is not None
    shown = report.input.decoder.input_ids[0]
    assert shown == (wanted[:-1] if wanted[-1] in (ends if isinstance(ends, list) else [ends]) else wanted)
    assert not any("not followed" in each for each in report.notes)


@pytest.mark.parametrize("start", [33, [33], None])
@pytest.mark.parametrize("stated", [44, None])
def test_the_start_is_what_generate_begins_with(start: Any, stated: Any, folder: Path, tmp_path: Path) -> None:
    """Whatever config.json says."""
    shutil.copytree(folder, tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    del config["decoder_start_token_id"]
    given = {} if stated is None else {"decoder_start_token_id": stated}
    (tmp_path / "m" / "config.json").write_text(json.dumps(config | given))
    set_generation(tmp_path / "m", decoder_start_token_id=start, bos_token_id=50)
    report = inspect(LogitsQuery(model=ModelChoice(name=str(tmp_path / "m")), text="hello you", new=5))
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "m")
    ids = AutoTokenizer.from_pretrained(folder)("hello you", return_tensors="pt")
    wanted = model.generate(**ids, do_sample=False, num_beams=1, max_new_tokens=5)[0].tolist()
    assert report.input.decoder is not None
    ends = model.generation_config.eos_token_id
    assert report.input.decoder.input_ids[0] == (wanted[:-1] if wanted[-1] == ends else wanted)


@pytest.mark.parametrize("start", [True, "x", -1])
def test_a_start_that_is_no_id(start: Any, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "m")
    set_generation(tmp_path / "m", decoder_start_token_id=start)
    with pytest.raises(InspectError, match=r"generation_config.json of .* says decoder_start_token_id is"):
        inspect(LogitsQuery(model=ModelChoice(name=str(tmp_path / "m")), text="hello you", new=5))


def test_settings_in_config_json_count_where_there_is_no_other_file(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "m")
    (tmp_path / "m" / "generation_config.json").unlink()
    change_config(tmp_path / "m", suppress_tokens=[*range(100, 200)], no_repeat_ngram_size=1)
    report = inspect(LogitsQuery(model=ModelChoice(name=str(tmp_path / "m")), text="hello you", new=9))
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "m")
    ids = AutoTokenizer.from_pretrained(folder)("hello you", return_tensors="pt")
    wanted = model.generate(**ids, do_sample=False, num_beams=1, max_new_tokens=9)[0].tolist()
    assert report.input.decoder is not None
    assert report.input.decoder.input_ids[0] == (wanted[:-1] if wanted[-1] == model.config.eos_token_id else wanted)


def test_what_is_not_followed_is_named(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "m")
    set_generation(tmp_path / "m", stop_strings=["e"], penalty_alpha=0.6, top_k=4, max_time=0.0)
    report = inspect(LogitsQuery(model=ModelChoice(name=str(tmp_path / "m")), text="hello you", new=4))
    assert "Of generation_config.json this is not followed: stop_strings, max_time, penalty_alpha." in report.notes


def test_settings_that_cannot_be(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "m")
    query = LogitsQuery(model=ModelChoice(name=str(tmp_path / "m")), text="hello you", new=4)
    set_generation(tmp_path / "m", bad_words_ids="x")
    with pytest.raises(InspectError, match="generat"):
        inspect(query)
    (tmp_path / "m" / "generation_config.json").write_text("[")
    with pytest.raises(InspectError, match=r"generation_config.json of .* is not JSON"):
        inspect(query)


def test_a_text_for_the_decoder_stands_behind_its_start_token(folder: Path) -> None:
    choice = ModelChoice(name=str(folder))
    report = inspect(RunQuery(model=choice, text="hello", decoder="hi you", stages=("decoder.token_embeddings",)))
    assert report.input.decoder is not None
    config = AutoModelForSeq2SeqLM.from_pretrained(folder).config
    own = AutoTokenizer.from_pretrained(folder)("hi you", add_special_tokens=False)["input_ids"]
    assert report.input.decoder.input_ids == [[config.decoder_start_token_id, *own]]
    assert report.input.decoder.text == "hi you"
    assert report.tensors[0].shape == [1, 1 + len(own), 64]


def test_the_translation_and_its_alignment() -> None:
    report = inspect(AttnQuery(model=MINI, text=TEXT, layer=1, heads=(0,), cross=True))
    assert (report.attention, report.stack, report.layers) == ("cross", "decoder", [1])
    assert report.input.decoder is not None
    assert report.input.decoder.text == TRANSLATION
    source = [token.text for token in report.input.tokens]
    looks = {query.index: source[query.keys[0].index] for query in report.heads[0].queries}
    # A query predicts the token after it: the first one "la", the second "vulpo", …
    assert [looks[i] for i in range(9)] == ["the", "fox", "brown", "quick", "over", "the", "dog", "lazy", "jumps"]
    weights = next(tensor for tensor in report.tensors if tensor.name.endswith("weights"))
    assert weights.name == "decoder.layers.1.cross_attention.weights"
    assert weights.axes == ["batch", "head", "query", "source"]
    assert weights.shape == [1, 1, 10, 10]


def test_the_encoders_stages_need_no_decoder() -> None:
    """Nothing is generated, and nothing of the decoder is read, for the encoder's own stages."""
    report = inspect(AttnQuery(model=MINI, text=TEXT, encoder=True))
    assert (report.stack, report.attention) == ("encoder", "self")
    assert report.input.decoder is not None
    assert len(report.input.decoder.tokens) == 1
    assert report.loading.parameters < 600_000
    plan = inspect(PlanQuery(of=AttnQuery(model=MINI, text=TEXT, cross=True)))
    assert plan.input.decoder is None, "what it will generate is not known"


def test_stages_of_both_stacks() -> None:
    names = ("encoder.layers.*.output", "decoder.layers.*.output", "logits")
    report = inspect(RunQuery(model=MINI, text=TEXT, stages=names, check=True))
    assert [tensor.name for tensor in report.tensors] == [
        *(f"{stack}.layers.{layer}.output" for stack in ("encoder", "decoder") for layer in range(2)),
        "logits",
    ]
    assert [check.passed for check in report.checks or [] if check.passed is False] == []
    same = inspect(RunQuery(model=MINI, text=TEXT, stages=("decoder.logits",)))
    assert same.tensors[0].stats == report.tensors[-1].stats


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        (
            "layers.0.output",
            "has an encoder and a decoder: give 'encoder.layers.0.output' or 'decoder.layers.0.output'",
        ),
        ("decoder.layers.0.input.x", "has no stage or module"),
        ("encoder.layers.9.output", "layer 9 is out of range: 'encoder of transformer-mini' has layers 0 to 1"),
        ("encoder.layers.0.cross_attention.q", "layer 0 does not attend to another text"),
        ("decoder.pooler.output", "no module pools the tokens"),
    ],
)
def test_a_stage_that_is_not_there(stage: str, says: str) -> None:
    with pytest.raises(StageError, match=says):
        inspect(RunQuery(model=MINI, text=TEXT, stages=(stage,)))


def test_the_decoders_tokens_are_scored() -> None:
    """Surprisals are of the translation, behind its start token; the last row predicts the end."""
    report = inspect(LogitsQuery(model=MINI, text=TEXT, decoder=TRANSLATION, position=None, top_k=1))
    assert report.text_score is not None
    assert report.text_score.tokens == 9
    assert report.text_score.perplexity == pytest.approx(1.0, abs=0.05)
    assert [each.top[0].text for each in report.predictions] == [*TRANSLATION.split(), "</s>"]
    assert not report.bidirectional


def test_the_other_side_of_a_diff_reads_the_same() -> None:
    report = inspect(DiffQuery(model=MINI, text=TEXT, against_dtype="bfloat16"))
    assert report.logits is not None
    assert report.input.decoder is not None
    assert report.input.decoder.text == TRANSLATION
    names = {stage.name for stage in report.stages}
    assert {"encoder.layers.0.output", "decoder.layers.1.cross_attention.weights", "logits"} <= names


def test_heads_of_the_encoder_look_both_ways() -> None:
    heads = inspect(HeadsQuery(model=MINI, text=TEXT, encoder=True))
    assert heads.stack == "encoder"
    assert all(head.next_token is not None for head in heads.heads)
    own = inspect(HeadsQuery(model=MINI, text=TEXT))
    assert own.stack == "decoder"
    assert all(head.next_token is None for head in own.heads)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("attn", "--cross"), "'opt-mini' has one stack of layers, which attends to its own text: omit --cross"),
        (("attn", "--encoder"), "'opt-mini' has one stack of layers"),
        (("heads", "--encoder"), "'opt-mini' has one stack of layers"),
        (("embed", "--decoder", "x"), "'opt-mini' is no encoder–decoder: --decoder is about a decoder"),
        (("embed", "--tgt-lang", "de"), "'opt-mini' is no encoder–decoder"),
        (("embed", "--src-lang", "de"), "has no languages to choose from: omit --src-lang de"),
        (("attn", "--encoder", "--cross"), "--encoder and --cross cannot be combined"),
        (("heads", "--random", "-m", "transformer-mini"), "repeats tokens of the text that the encoder reads"),
        (("embed", "--decoder", "x", "--new", "3", "-m", "transformer-mini"), "--decoder and --new cannot be combined"),
        (("logits", "--stride", "3", "-m", "transformer-mini"), "does not read a text in windows"),
        (("attn", "--new", "0"), "--new 0 generates nothing: give 1 or more"),
        (
            ("attn", "-m", "transformer-mini", "--layer", "2"),
            "layer 2 is out of range: 'decoder of transformer-mini'",
        ),
        (("attn", "-m", "transformer-mini", "--encoder", "--layer", "9"), "layer 9 is out of range"),
        (("attn", "-m", "transformer-mini", "--query", "70"), "query 70 is out of range"),
        (("embed", "-m", "transformer-mini", "--decoder", "a " * 70), "the decoder's text is 71 tokens long"),
        (("embed", "a " * 70, "-m", "transformer-mini"), "the text is 71 tokens long"),
        (("logits", "-m", "transformer-mini", "--continuation", "x"), "give --decoder"),
        (
            ("logits", "-m", "transformer-mini", "--continuation", "x", "--decoder", "la"),
            "write it after --decoder's text",
        ),
        (("logits", "-m", "transformer-mini", "--pll"), "fills no masks: omit --pll"),
        (("logits", "-m", "transformer-mini", "--as", "causal-lm"), "MarianForCausalLM has: omit --as causal-lm"),
    ],
    ids=lambda each: " ".join(each)[:60] if isinstance(each, tuple) else None,
)
def test_bad_input_is_a_sentence(arguments: tuple[str, ...], says: str, run_cli: Run) -> None:
    result = run_cli(*arguments)
    assert result.exit_code in (1, 2)
    assert result.stdout == ""
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_type_without_such_a_class() -> None:
    with pytest.raises(InspectError, match="no class for as task='masked-lm': give causal-lm, sequence-class"):
        inspect(RunQuery(model=ModelChoice(name="opt-mini", task="masked-lm"), text="x", stages=("logits",)))


def test_pos_p_plus_k_is_a_rotation_of_pos_p() -> None:
    """PE(p+k) = R_k·PE(p) (Vaswani et al. 2017, section 3.5), on the positions that the model adds."""
    choice = ModelChoice(name="transformer-mini", dtype="float32")
    report = inspect(RunQuery(model=choice, text=TEXT, stages=("encoder.position_embeddings",), values=True))
    table = np.array(report.tensors[0].values).reshape(10, 128)
    half = table.shape[1] // 2
    sines, cosines = table[:, :half], table[:, half:]
    for k in (1, 3):
        angles = k / 10_000 ** (2 * np.arange(half) / table.shape[1])
        np.testing.assert_allclose(sines[k:], sines[:-k] * np.cos(angles) + cosines[:-k] * np.sin(angles), atol=1e-6)
        np.testing.assert_allclose(cosines[k:], cosines[:-k] * np.cos(angles) - sines[:-k] * np.sin(angles), atol=1e-6)


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny M2M100 with the tokenizer of NLLB, of three languages."""
    folder = save_tiny("m2m_100", tmp_path_factory.mktemp("many") / "m2m", task="seq2seq-lm", tokenizer=False)
    vocabulary = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "▁", *"abcdefghij"])}
    tokenizer = NllbTokenizer(vocab=vocabulary, extra_special_tokens=["eng_Latn", "fra_Latn", "deu_Latn"])
    tokenizer.save_pretrained(folder)
    return folder


def test_languages(translator: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(translator, src_lang="fra_Latn")
    choice = ModelChoice(name=str(translator))
    query = RunQuery(
        model=choice, text="ab", src_lang="fra_Latn", tgt_lang="deu_Latn", stages=("decoder.token_embeddings",), new=3
    )
    report = inspect(query)
    assert report.input.input_ids == [tokenizer("ab")["input_ids"]]
    assert report.input.tokens[0].token == "fra_Latn"
    assert report.input.decoder is not None
    assert report.input.decoder.tokens[1].token == "deu_Latn"
    default = inspect(RunQuery(model=choice, text="ab", stages=("encoder.layers.0.input",)))
    assert default.input.tokens[0].token == "eng_Latn"


@pytest.mark.parametrize("option", ["--src-lang", "--tgt-lang"])
def test_an_unknown_language_names_the_nearest(option: str, translator: Path, run_cli: Run) -> None:
    result = run_cli("embed", "ab", "-m", translator, option, "deu_Lat")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{option} 'deu_Lat' is none of the 3 languages of" in result.stderr
    assert "did you mean deu_Latn" in result.stderr


def test_tokenize_needs_no_decoder(run_cli: Run) -> None:
    assert run_cli("tokenize", "--decoder", "x").exit_code == 2
    report = inspect(TokenizeQuery(model=ModelChoice(name=str(BUNDLED / "transformer-mini")), text=TEXT))
    assert [token.token for token in report.input.tokens] == [*TEXT.split(), "</s>"]


def test_python_refuses_what_the_shell_does() -> None:
    with pytest.raises(UsageError, match="is no encoder–decoder: decoder is about"):
        inspect(AttnQuery(text="x", decoder="y"))
