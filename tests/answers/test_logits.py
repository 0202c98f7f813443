"""What comes next, on the bundled model and against plain transformers on every type."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM
from typer.testing import Result

from tests.making.models import BUILT_FROM_PART, FEW, buildable_types, by_type, save_tiny
from txinspect import InspectError, LensQuery, LogitsQuery, ModelChoice, inspect
from txinspect.guards.quiet import quiet
from txinspect.sources.bundled_models import bundled_folder

pytestmark = pytest.mark.half

PROMPT = "The quick brown fox jumps over the lazy"
FLOAT = ModelChoice(dtype="float32")
Run = Callable[..., Result]


def test_the_lesson_s_sentence() -> None:
    report = inspect(LogitsQuery(model=FLOAT))
    score = report.text_score
    assert score is not None
    assert (score.tokens, round(score.logprob or 0, 4), round(score.perplexity or 0, 4)) == (9, -3.7027, 1.5089)
    assert score.bits_per_byte == pytest.approx(3.7027 / math.log(2) / 43, abs=1e-5)
    assert sum(-(each.surprisal or 0) for each in report.predictions) == pytest.approx(score.logprob)


def test_what_comes_after_the_lazy() -> None:
    report = inspect(LogitsQuery(model=FLOAT, text=PROMPT, targets=(" dog", " cat"), top_k=2))
    last = report.predictions[-1]
    assert [(each.text, round(each.prob or 0, 3), each.rank) for each in last.targets] == [
        (" dog", 0.894, 1),
        (" cat", 0.101, 2),
    ]
    assert [each.text for each in last.top] == [" dog", " cat"]
    assert last.next is None
    assert all(not each.top for each in report.predictions[:-1])


def test_ties_of_half_precision_are_counted() -> None:
    """Which logits are alike differs between processors: the same pass of transformers, in this process, says it."""
    report = inspect(LogitsQuery(top_k=2048))
    model = AutoModelForCausalLM.from_pretrained(bundled_folder("opt-mini")).eval()
    with torch.no_grad():
        row = model(torch.tensor(report.input.input_ids)).logits[0, -1]
    alike = {float(value): int(count) - 1 for value, count in zip(*row.unique(return_counts=True), strict=True)}
    assert row.dtype == torch.float16
    assert sum(count > 0 for count in alike.values()) > 100
    assert [each.ties for each in report.predictions[-1].top] == [
        alike[each.logit] for each in report.predictions[-1].top if each.logit is not None
    ]


def test_positions(run_cli: Run) -> None:
    shown = json.loads(run_cli("logits", "--position", "0,-1", "--top-k", "3", "--json").stdout)["predictions"]
    assert [len(each["top"]) for each in shown] == [3, *[0] * 8, 3]
    everywhere = json.loads(run_cli("logits", "--position", "all", "--top-k", "1", "--json").stdout)["predictions"]
    assert [len(each["top"]) for each in everywhere] == [1] * 10


# Continuations


def continuation(text: str, after: str) -> Any:
    (found,) = inspect(LogitsQuery(model=FLOAT, text=text, continuations=(after,))).continuations
    return found


def test_a_continuation_is_the_difference_of_two_texts() -> None:
    whole, start = (inspect(LogitsQuery(model=FLOAT, text=text)).text_score for text in (PROMPT + " dog", PROMPT))
    assert whole is not None
    assert start is not None
    found = continuation(PROMPT, " dog")
    assert found.logprob == pytest.approx((whole.logprob or 0) - (start.logprob or 0), abs=1e-5)
    assert (found.tokens, found.greedy, found.per_byte) == (1, True, pytest.approx(found.logprob / 4))
    assert not continuation(PROMPT, " cat").greedy


def test_blanks_at_the_prompt_s_end_move_into_the_continuation() -> None:
    assert continuation(PROMPT + " ", "dog").logprob == continuation(PROMPT, " dog").logprob


def test_continuations_are_sorted(run_cli: Run) -> None:
    shown = run_cli("logits", PROMPT, "--continuation", " cat", "--continuation", " dog", "--json")
    assert [each["text"] for each in json.loads(shown.stdout)["continuations"]] == [" dog", " cat"]


PAIRS = [
    (f"{before} {subject} {verb}", f"{after} {place}")
    for before in ("The quick brown", "One day the", "A red", "Lily saw the", "the")
    for subject, verb in (("fox", "ran"), ("dog", "sat "), ("bear", "jumps over the"), ("cat", "and the"), ("cat", ""))
    for after, place in ((" to the", "river."), (" lazy", "dog"))
]


@pytest.mark.needs_lm_eval
def test_continuations_are_lm_eval_s() -> None:
    """Its model called directly: 50 pairs of a text and what follows, some with blanks at the text's end."""
    lm_eval = pytest.importorskip("lm_eval.models.huggingface", reason="needs the package lm-eval")
    instance = pytest.importorskip("lm_eval.api.instance")
    folder = str(bundled_folder("opt-mini"))
    theirs = lm_eval.HFLM(pretrained=folder, dtype="float32", device="cpu", add_bos_token=True)
    asked = [instance.Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(PAIRS)]
    for (text, after), (logprob, greedy) in zip(PAIRS, theirs.loglikelihood(asked), strict=True):
        found = continuation(text, after)
        assert (found.logprob, found.greedy) == (pytest.approx(logprob, abs=1e-5), greedy)


# Windows


def test_a_text_beyond_the_positions_in_windows() -> None:
    """opt-mini has 256 positions."""
    text = "The red fox and the old bear ran to the river. " * 40
    with pytest.raises(InspectError, match="positions"):
        inspect(LogitsQuery(model=FLOAT, text=text))
    report = inspect(LogitsQuery(model=FLOAT, text=text, stride=100, top_k=1))
    ids = report.input.input_ids[0]
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(
            Path(__file__).parents[2] / "txinspect/bundled/opt-mini", dtype=torch.float32
        )
    total, scored = 0.0, 1
    for end in [*range(256, len(ids), 100), len(ids)]:
        begin = max(0, end - 256)
        with torch.no_grad():
            logits = model(torch.tensor([ids[begin:end]])).logits[0].double()
        for index in range(scored, end):
            total += float(torch.log_softmax(logits[index - 1 - begin], -1)[ids[index]])
        scored = end
    assert report.text_score is not None
    assert report.text_score.tokens == len(ids) - 1
    assert report.text_score.logprob == pytest.approx(total, rel=1e-6)
    assert [each.position for each in report.predictions] == list(range(len(ids)))


# Bad input


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--target", " dogs"), 1, "2 tokens, ' dog', 's'"),
        (("--target", ""), 2, "is empty"),
        (("--top-k", "0"), 2, "--top-k 0"),
        (("--top-k", "2049"), 1, "give at most 2048"),
        (("--position", "10"), 1, "tokens 0 to 9"),
        (("--position", "x"), 2, "--position 'x'"),
        (("--stride", "0"), 2, "--stride 0"),
        (("--stride", "300"), 1, "at most 256"),
        (("--continuation", ""), 2, "is empty"),
    ],
)
def test_bad_input_is_a_sentence(arguments: tuple[str, ...], code: int, says: str, run_cli: Run) -> None:
    result = run_cli("logits", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_text_of_one_token_has_no_score(run_cli: Run) -> None:
    report = inspect(LogitsQuery(text="a", special=False))
    assert report.text_score is None
    assert len(report.predictions) == 1
    assert "next after 0 a" in run_cli("logits", "a", "--no-special").stdout


# Every type


NO_NEXT = {"musicgen", "musicgen_melody"}
"""Types that predict several codebooks at once."""

BOTH_WAYS = {"xlnet", "cpmant"}
"""Types in which a token sees those after it."""


def test_the_manual_s_counts() -> None:
    page = (Path(__file__).parents[2] / "txinspect" / "manual" / "loading.md").read_text()
    said = re.sub(r"\s+", " ", page)
    assert f"`logits` and `lens` work on {len(buildable_types()) - len(NO_NEXT)} types" in said
    assert f"Two types, {' and '.join(sorted(BOTH_WAYS, reverse=True))}, see both ways" in said


@pytest.mark.parametrize("model_type", by_type(buildable_types()))
def test_every_type_against_plain_transformers(model_type: str, tmp_path: Path) -> None:
    """numpy's ranks and sums; every layer's row, the last of which gives the logits to the last bit."""
    choice = ModelChoice(name=str(save_tiny(model_type, tmp_path / "m")))
    try:
        report = inspect(LogitsQuery(model=choice, text="abc def", position=None, top_k=3, values=True))
    except InspectError as error:
        assert "does not predict one token after each" in str(error)  # noqa: PT017
        assert model_type in NO_NEXT
        with pytest.raises(InspectError, match="does not predict one token after each"):
            inspect(LensQuery(model=choice, text="abc def"))
        return
    logits = np.array(report.tensors[0].values[0])
    exact = logits - logits.max(-1, keepdims=True)
    logprobs = exact - np.log(np.exp(exact).sum(-1, keepdims=True))
    ids = report.input.input_ids[0]
    for each in report.predictions:
        row = logits[each.position]
        assert [top.id for top in each.top] == sorted(range(len(row)), key=lambda i: (-row[i], i))[:3]
        if each.next is not None:
            assert each.next.id == ids[each.position + 1]
            assert each.next.rank == 1 + (row > row[each.next.id]).sum()
            assert each.surprisal == pytest.approx(-logprobs[each.position, each.next.id], rel=1e-9)
    assert report.bidirectional == (model_type in BOTH_WAYS)
    if report.text_score is not None:
        total = sum(logprobs[i, ids[i + 1]] for i in range(len(ids) - 1))
        assert report.text_score.perplexity == pytest.approx(np.exp(-total / (len(ids) - 1)), rel=1e-6)

    lens = inspect(LensQuery(model=choice, text="abc def"))
    assert lens.last_row_equals_logits
    count = lens.model.num_hidden_layers or 0
    idle = {1} if model_type == "mllama" else set()  # cross-attention runs only where there is an image
    assert [row.layer for row in lens.rows] == [layer for layer in range(-1, count) if layer not in idle]
    for place, decided in enumerate(lens.positions):
        final = lens.rows[-1].cells[place].top[0].id
        agreeing = [row.layer for row in lens.rows if row.cells[place].top[0].id == final]
        assert decided.first_at == agreeing[0]
        assert set(range(decided.decided_at, count)) - idle <= set(agreeing)
        assert decided.decided_at - 1 not in agreeing
    assert all(cell.kl == 0 for cell in lens.rows[-1].cells)


OTHER_LOSS = {
    "xlm",
    "git",
    "bart",
    "bigbird_pegasus",
    "blenderbot",
    "blenderbot-small",
    "marian",
    "mbart",
    "mvp",
    "pegasus",
}
OTHER_LOSS |= {"plbart", "prophetnet", "trocr", "whisper"}
"""Types whose loss is another: it compares with labels that are not shifted, or takes an image."""

SAME_LOSS = [
    name
    for name in buildable_types()
    if name not in BUILT_FROM_PART and name not in OTHER_LOSS and not name.startswith("musicgen")
]


@pytest.mark.parametrize("model_type", by_type(SAME_LOSS, FEW))
def test_the_perplexity_is_exp_of_transformers_own_loss(model_type: str, tmp_path: Path) -> None:
    folder = save_tiny(model_type, tmp_path / "m")
    report = inspect(LogitsQuery(model=ModelChoice(name=str(folder)), text="abc def"))
    if report.text_score is None:
        return
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = torch.tensor(report.input.input_ids)
    with torch.no_grad():
        loss = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids, use_cache=False).loss
    assert report.text_score.perplexity == pytest.approx(math.exp(loss), rel=1e-5)
