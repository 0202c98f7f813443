"""`diff --against-text`: two texts, aligned. Every number is one of plain forwards with hooks, in NumPy's float64."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM
from typer.testing import Result

from tests.making.models import FEW, buildable_types, by_type, save_tiny
from txinspect import DiffQuery, InspectError, ModelChoice, inspect
from txinspect.commands.diff import DiffReport
from txinspect.errors import UsageError
from txinspect.sources.bundled_models import bundled_folder

Run = Callable[..., Result]
Array = Any
Pairs = list[tuple[int, int]]


def forward(model: Any, modules: dict[str, str], **inputs: Any) -> dict[str, Array]:
    """What a plain forward gives, in float64: outputs of modules by stage, logits, attention weights."""
    found: dict[str, Array] = {}

    def keeping(stage: str) -> Callable[..., None]:
        def hook(_module: Any, _args: Any, output: Any) -> None:
            found[stage] = (output[0] if isinstance(output, tuple) else output).double().numpy()

        return hook

    handles = [model.get_submodule(path).register_forward_hook(keeping(stage)) for stage, path in modules.items()]
    with torch.no_grad():
        output = model(**inputs, output_attentions=True, use_cache=False)
    for handle in handles:
        handle.remove()
    found["logits"] = output.logits.double().numpy()
    for name, prefix in {
        "attentions": "layers.{}.attention.weights",
        "encoder_attentions": "encoder.layers.{}.attention.weights",
        "decoder_attentions": "decoder.layers.{}.attention.weights",
        "cross_attentions": "decoder.layers.{}.cross_attention.weights",
    }.items():
        for layer, weights in enumerate(getattr(output, name, None) or ()):
            found[prefix.format(layer)] = weights.double().numpy()
    return found


def cut(tensor: Array, axes: dict[int, Pairs], side: int) -> Array:
    for axis, pairs in axes.items():
        tensor = np.take(tensor, [pair[side] for pair in pairs], axis)
    return tensor


def check(report: DiffReport, sides: tuple[dict[str, Array], dict[str, Array]], axes: Callable[[str], Any]) -> None:
    """Every stage that plain forwards gave has the numbers of them, at the aligned positions alone."""
    stages = {each.name: each for each in report.stages}
    assert set(sides[0]) <= set(stages)
    for name in sides[0]:
        whole = sides[0][name], sides[1][name]
        this, other = (cut(each, axes(name), side) for side, each in enumerate(whole))
        found, apart = stages[name], np.abs(other - this)
        assert found.shape == list(this.shape)
        close: dict[str, Any] = {"rel": 1e-4, "abs": 1e-6}
        assert found.rel_l2 == pytest.approx(np.linalg.norm(other - this) / np.linalg.norm(this), **close), name
        assert found.max_abs == pytest.approx(apart.max(), **close), name
        assert found.mean_abs == pytest.approx(apart.mean(), **close), name
        # Where the largest difference is, on either side.
        at, other_at = found.at, found.other_at or found.at
        assert at is not None
        assert other_at is not None
        assert abs(whole[1][tuple(other_at)] - whole[0][tuple(at)]) == pytest.approx(apart.max(), **close), name


def check_predictions(report: DiffReport, sides: tuple[dict[str, Array], dict[str, Array]], pairs: Pairs) -> None:
    """KL, and the predictions that change, are of the logits at the aligned positions."""
    this, other = (cut(each["logits"][0], {0: pairs}, side) for side, each in enumerate(sides))
    shifted = [each - each.max(-1, keepdims=True) for each in (this, other)]
    logs = [each - np.log(np.exp(each).sum(-1, keepdims=True)) for each in shifted]
    divergences = (np.exp(logs[0]) * (logs[0] - logs[1])).sum(-1)
    assert report.logits is not None
    assert report.logits.kl_mean == pytest.approx(divergences.mean(), rel=1e-4, abs=1e-6)
    assert report.logits.kl_median == pytest.approx(np.quantile(divergences, 0.5, method="lower"), rel=1e-4, abs=1e-6)
    assert report.logits.kl_max == pytest.approx(divergences.max(), rel=1e-4, abs=1e-6)
    assert report.logits.ln_perplexity_ratio is None
    changed = [pair for pair, a, b in zip(pairs, this.argmax(-1), other.argmax(-1), strict=True) if a != b]
    assert report.logits.same_top1 == pytest.approx(1 - len(changed) / len(pairs))
    assert [
        (each.position, each.position if each.other_position is None else each.other_position)
        for each in report.changed
    ] == changed
    assert [each.token for each in report.changed] == [report.input.main.tokens[pair[0]].text for pair in changed]


def by_letters(pairs: Pairs) -> Callable[[str], dict[int, Pairs]]:
    """Which axes of a stage of one stack are aligned."""
    return lambda name: {2: pairs, 3: pairs} if name.endswith("weights") else {1: pairs}


TEXTS: dict[str, tuple[str, str, Pairs]] = {
    "start": (" quick brown fox", "The quick brown fox", [(0, 0), (1, 2), (2, 3), (3, 4)]),
    "start, less": ("The quick brown fox", " quick brown fox", [(0, 0), (2, 1), (3, 2), (4, 3)]),
    "middle": ("The brown fox", "The quick brown fox", [(0, 0), (1, 1), (2, 3), (3, 4)]),
    "end": ("The quick brown fox", "The quick brown fox jumps", [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]),
    "two for one": ("The quick brown fox", "The very slow brown fox", [(0, 0), (1, 1), (3, 4), (4, 5)]),
    "one for one": ("The quick fox jumps", "The slow fox over the dog", [(0, 0), (1, 1), (2, 2), (3, 3)]),
    "as many": ("The quick brown fox", "The fox quick brown", [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]),
}
"""Texts of opt-mini, whose words are a token each behind </s>, and their alignment by hand."""


@pytest.mark.parametrize("case", TEXTS)
def test_a_decoder(case: str) -> None:
    text, other, pairs = TEXTS[case]
    choice = ModelChoice(name="opt-mini", dtype="float32")
    report = inspect(DiffQuery(model=choice, text=text, against_text=other))
    assert report.aligned == [list(pair) for pair in pairs]
    assert report.decoder_aligned is None
    assert report.other_input is not None
    assert (report.other_input.text, report.given) == (other, other)
    model = AutoModelForCausalLM.from_pretrained(
        bundled_folder("opt-mini"), dtype=torch.float32, attn_implementation="eager"
    ).eval()
    modules = {f"layers.{layer}.output": f"model.decoder.layers.{layer}" for layer in range(4)}
    modules |= {"token_embeddings": "model.decoder.embed_tokens", "final_norm": "model.decoder.final_layer_norm"}
    ids = (report.input.input_ids, report.other_input.input_ids)
    sides = tuple(forward(model, modules, input_ids=torch.tensor(each)) for each in ids)
    check(report, sides, by_letters(pairs))  # type: ignore[arg-type]
    check_predictions(report, sides, pairs)  # type: ignore[arg-type]
    assert (report.only_this, report.only_other) == ([], [])


LETTERS: dict[str, tuple[str, str, Pairs]] = {
    "start": ("abcdef", "xabcdef", [(0, 0), *((each, each + 1) for each in range(1, 8))]),
    "middle": ("abcdef", "abxcdef", [(0, 0), (1, 1), (2, 2), *((each, each + 1) for each in range(3, 8))]),
    "end": ("abcdefx", "abcdef", [*((each, each) for each in range(7)), (8, 7)]),
}
"""Texts of a tokenizer of letters between [CLS] and [SEP]."""


@pytest.mark.parametrize("case", LETTERS)
def test_an_encoder(case: str, tmp_path: Path) -> None:
    text, other, pairs = LETTERS[case]
    folder = save_tiny("bert", tmp_path / "bert", task="masked-lm")
    choice = ModelChoice(name=str(folder))
    report = inspect(DiffQuery(model=choice, text=text, against_text=other))
    assert report.aligned == [list(pair) for pair in pairs]
    assert report.other_input is not None
    model = AutoModelForMaskedLM.from_pretrained(folder, attn_implementation="eager").eval()
    modules = {f"layers.{layer}.output": f"bert.encoder.layer.{layer}" for layer in range(2)}
    ids = (report.input.input_ids, report.other_input.input_ids)
    sides = tuple(forward(model, modules, input_ids=torch.tensor(each)) for each in ids)
    check(report, sides, by_letters(pairs))  # type: ignore[arg-type]
    check_predictions(report, sides, pairs)  # type: ignore[arg-type]


BOTH: dict[str, tuple[str, str, str | None, Pairs]] = {
    "start": ("quick brown fox", "the quick brown fox", None, [(0, 1), (1, 2), (2, 3), (3, 4)]),
    "middle": ("the quick brown fox", "the brown fox", None, [(0, 0), (2, 1), (3, 2), (4, 3)]),
    "end": ("the brown fox", "the brown fox jumps", "la vulpo", [(0, 0), (1, 1), (2, 2), (3, 4)]),
}
"""Texts of transformer-mini, whose words are a token each before </s>; the decoder's, or None where it generates."""


@pytest.mark.parametrize("case", BOTH)
def test_an_encoder_and_a_decoder(case: str) -> None:
    text, other, decoder, pairs = BOTH[case]
    choice = ModelChoice(name="transformer-mini", dtype="float32")
    report = inspect(DiffQuery(model=choice, text=text, against_text=other, decoder=decoder))
    assert report.aligned == [list(pair) for pair in pairs]
    assert report.input.decoder is not None
    assert report.other_input is not None
    assert report.other_input.decoder is not None
    inputs = (report.input, report.other_input)
    read = [[token.id for token in each.main.tokens] for each in inputs]
    # Of what it generates, the words that both have; none of them stands twice.
    of_decoder = [(left, read[1].index(each)) for left, each in enumerate(read[0]) if each in read[1]]
    assert report.decoder_aligned == [list(pair) for pair in of_decoder]
    assert decoder is not None or len(read[0]) != len(read[1])
    model = AutoModelForSeq2SeqLM.from_pretrained(
        bundled_folder("transformer-mini"), dtype=torch.float32, attn_implementation="eager"
    ).eval()
    modules = {
        f"{stack}.layers.{layer}.output": f"model.{stack}.layers.{layer}"
        for stack in ("encoder", "decoder")
        for layer in range(2)
    }
    sides = tuple(
        forward(
            model,
            modules,
            input_ids=torch.tensor(each.input_ids),
            decoder_input_ids=torch.tensor(each.main.input_ids),
        )
        for each in inputs
    )

    def axes(name: str) -> dict[int, Pairs]:
        if name.endswith("cross_attention.weights"):
            return {2: of_decoder, 3: pairs}
        return by_letters(pairs if name.startswith("encoder.") else of_decoder)(name)

    check(report, sides, axes)  # type: ignore[arg-type]
    check_predictions(report, sides, of_decoder)  # type: ignore[arg-type]


# What holds for any model

READ_ONWARDS = {"xlnet", "cpmant", "prophetnet"}
"""Causal language models whose own forward, without any mask given, has a token's logits depend on later ones."""


@pytest.mark.parametrize("model_type", by_type([each for each in buildable_types() if each not in READ_ONWARDS], FEW))
def test_what_comes_later_changes_nothing_before_it(model_type: str, tmp_path: Path) -> None:
    """In a causal model, wherever positions are aligned rightly, in every stage that is compared."""
    model = ModelChoice(name=str(save_tiny(model_type, tmp_path / "m")), dtype="float32")
    names = ("*", "layers.**")
    try:
        report = inspect(DiffQuery(model=model, text="abcdef", against_text="abcdefgh", stages=names))
    except InspectError as error:
        assert "rows" in str(error) or "several" in str(error)  # noqa: PT017
        return
    apart = {each.name: each.rel_l2 for each in report.stages if each.rel_l2 is None or each.rel_l2 > 1e-4}
    assert not apart
    assert report.stages
    assert not report.changed


def test_what_has_no_tokens_is_compared_whole_and_what_is_unknown_is_not(tmp_path: Path) -> None:
    model = ModelChoice(name=str(save_tiny("bloom", tmp_path / "m")))
    report = inspect(
        DiffQuery(
            model=model, text="abcdef", against_text="xabcdef", stages=("position_embeddings", "transformer.h.0.**")
        )
    )
    slopes = report.stages[0]
    assert (slopes.name, slopes.rel_l2) == ("position_embeddings", 0.0)
    assert "transformer.h.0.mlp.dense_h_to_4h" in {each.name for each in report.stages}
    outside = inspect(
        DiffQuery(
            model=ModelChoice(name="transformer-mini"),
            text="the quick brown fox jumps",
            against_text="the brown lazy fox jumps over",
            stages=("lm_head", "logits"),
        )
    )
    # Of as many tokens as the source and the decoder's text have: which of the two it reads cannot be told.
    assert len(outside.input.tokens) == len(outside.input.main.tokens)
    assert ([each.name for each in outside.stages], outside.only_this) == (["logits"], ["lm_head"])


def test_a_text_that_goes_on_is_equal_where_both_are() -> None:
    report = inspect(DiffQuery(text="The quick brown fox", against_text="The quick brown fox jumps", tolerance=1e-3))
    assert report.findings == ["The two sides are equal to the last bit where their tokens are aligned."] or (
        report.first_divergence is None
    )


# With other options


def test_both_are_saved_and_checked(tmp_path: Path) -> None:
    file = tmp_path / "both.safetensors"
    query = DiffQuery(
        text="The brown fox",
        against_text="The quick brown fox",
        stages=("layers.0.attention.weights", "logits"),
        save=file,
        check=True,
        fail_on=("changed>4", "rel_l2>9"),
    )
    report = inspect(query)
    tensors = load_file(file)
    assert {name: list(each.shape[-2:]) for name, each in tensors.items() if "weights" in name} == {
        "layers.0.attention.weights": [4, 4],
        "other.layers.0.attention.weights": [5, 5],
    }
    with safe_open(file, "pt") as opened:
        axes = json.loads(opened.metadata()["axes"])
    assert axes["logits"] == axes["other.logits"] == ["batch", "seq", "vocab"]
    assert report.checks is not None
    assert all(each.passed for each in report.checks)
    assert {"logits", "other.logits", "changed", "rel_l2"} <= {each.name for each in report.checks}


def test_it_stands_in_the_place_of_ids() -> None:
    ids = inspect(DiffQuery(text="The brown fox", against_text="The quick brown fox")).input.input_ids[0]
    report = inspect(DiffQuery(ids=tuple(ids), against_text="The quick brown fox"))
    assert report.aligned == [[0, 0], [1, 1], [2, 3], [3, 4]]
    both = inspect(DiffQuery(text="The fox", pair="jumps", against_text="The quick fox"))
    assert both.other_input is not None
    assert both.other_input.pair == "jumps"


def test_a_dry_run_tells_both(run_cli: Run) -> None:
    drawn = run_cli("diff", "The fox", "--against-text", "The quick fox", "--dry-run")
    assert drawn.exit_code == 0, drawn.stderr
    assert "against opt-mini" in drawn.stdout


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InspectError, match="have none in common but special ones"):
        inspect(DiffQuery(text="The quick fox", against_text="A dog"))
    with pytest.raises(UsageError, match="isolated=True and against_text cannot be combined"):
        DiffQuery(text="The quick fox", against_text="The fox", isolated=True)
    bert = ModelChoice(name=str(save_tiny("bert", tmp_path / "bert", task="masked-lm")))
    with pytest.raises(InspectError, match="against_text: masks 'abc' is no word of the text"):
        inspect(DiffQuery(model=bert, text="abc def", against_text="abx def", masks=("abc",)))
    with pytest.raises(InspectError, match="whose axes tell where the texts' tokens are"):
        inspect(
            DiffQuery(
                model=ModelChoice(name="transformer-mini"),
                text="the fox",
                against_text="the quick fox",
                stages=("model.encoder.embed_positions",),
            )
        )
