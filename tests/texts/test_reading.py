"""What is read is what is scored: texts, ids, masks and pairs, and what follows them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from tests.making.kinds import LONG, WINDOW, decoder_in, encoder_in
from txinspect import HeadsQuery, InspectError, LensQuery, LogitsQuery, ModelChoice, TokenizeQuery, inspect
from txinspect.errors import UsageError


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return decoder_in(tmp_path_factory.mktemp("reading") / "decoder")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder_in(tmp_path_factory.mktemp("reading") / "encoder")


def score(folder: Path, ids: list[int], start: int) -> float:
    """The log-probability of the ids from one on, by transformers."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        rows = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return sum(float(rows[index - 1, ids[index]]) for index in range(start, len(ids)))


def near(number: float) -> Any:
    return pytest.approx(number, rel=1e-5)


def continued(folder: Path, after: str, **given: Any) -> tuple[list[int], float]:
    """The ids that were read, and the score of what follows them."""
    report = inspect(LogitsQuery(model=ModelChoice(name=str(folder)), continuations=(after,), **given))
    assert report.continuations[0].logprob is not None
    return report.input.input_ids[0], report.continuations[0].logprob


# Ids


def test_ids_are_continued_as_they_are(decoder: Path) -> None:
    """Letter by letter behind <s>, which no text is tokenized to; and without <s>."""
    tokenizer = AutoTokenizer.from_pretrained(decoder)
    after = tokenizer(" cab", add_special_tokens=False)["input_ids"]
    letters = [0, *(tokenizer.convert_tokens_to_ids(each) for each in "bad")]
    assert letters != tokenizer("bad")["input_ids"]
    for ids in (letters, list[int](tokenizer("a bad", add_special_tokens=False)["input_ids"])):
        assert continued(decoder, " cab", ids=tuple(ids)) == (ids, near(score(decoder, [*ids, *after], len(ids))))


def test_bits_per_byte_of_ids_are_those_of_the_text(decoder: Path) -> None:
    choice = ModelChoice(name=str(decoder))
    for special in (True, False):
        text = inspect(LogitsQuery(model=choice, text="a bad cab", special=special))
        ids = inspect(LogitsQuery(model=choice, ids=tuple(text.input.input_ids[0])))
        assert text.text_score == ids.text_score
        size = len("a bad cab") - (0 if special else 1)
        assert text.text_score is not None
        assert text.text_score.bits_per_byte == near(-(text.text_score.logprob or 0) / math.log(2) / size)


def test_bits_per_byte_of_ids_that_are_parts_of_characters(decoder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(decoder)
    parts = tokenizer("é", add_special_tokens=False)["input_ids"]
    assert len(parts) == 2
    report = inspect(LogitsQuery(model=ModelChoice(name=str(decoder)), ids=tuple(parts)))
    assert report.text_score is not None
    assert report.text_score.bits_per_byte == near(-(report.text_score.logprob or 0) / math.log(2))


def test_bits_per_byte_of_a_text_that_begins_with_a_part_of_a_character(decoder: Path) -> None:
    report = inspect(LogitsQuery(model=ModelChoice(name=str(decoder)), text="é bad", special=False))
    assert report.input.tokens[0].text is None
    assert report.text_score is not None
    size = len("é bad".encode()) - 1
    assert report.text_score.bits_per_byte == near(-(report.text_score.logprob or 0) / math.log(2) / size)


def test_an_id_below_zero_is_none() -> None:
    with pytest.raises(UsageError, match="ids -1 is no token id: give 0 or more"):
        LogitsQuery(ids=(0, -1))


def test_random_tokens_beyond_the_positions_are_told(encoder: Path) -> None:
    with pytest.raises(InspectError, match="lower length or repeats"):
        inspect(HeadsQuery(model=ModelChoice(name=str(encoder)), random=True))


def test_random_tokens_are_not_others() -> None:
    with pytest.raises(UsageError, match="ids and random=True cannot be combined"):
        HeadsQuery(random=True, ids=(5, 6))


# What the tokenizer puts around a text


def test_what_ends_every_text_ends_none_that_goes_on(tmp_path: Path) -> None:
    folder = decoder_in(tmp_path / "ends", "<s> $A </s>")
    after = AutoTokenizer.from_pretrained(folder)(" cab", add_special_tokens=False)["input_ids"]
    for text in ("a bad", "a bad  ", ""):
        ids, found = continued(folder, " cab", text=text)
        own = AutoTokenizer.from_pretrained(folder)(text.rstrip())["input_ids"][:-1]
        blanks = AutoTokenizer.from_pretrained(folder)(text[len("a bad") :] + " cab", add_special_tokens=False)
        following = blanks["input_ids"] if text else after
        assert ids[-1] == 1
        assert found == near(score(folder, [*own, *following], len(own)))


def test_blanks_that_move_are_told(decoder: Path) -> None:
    for text, after in (("a bad ", "cab"), ("a bad", " cab")):
        report = inspect(LogitsQuery(model=ModelChoice(name=str(decoder)), text=text, continuations=(after,)))
        assert any("blanks at the text's end" in note for note in report.notes) == text.endswith(" ")


def test_a_continuation_that_is_part_of_a_token_is_refused(decoder: Path) -> None:
    with pytest.raises(InspectError, match="cannot be told from the text"):
        continued(decoder, "ce", text="a fa")


# Masks


def test_what_is_masked_stays_masked(decoder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(decoder)
    after = tokenizer(" cab", add_special_tokens=False)["input_ids"]
    ids, found = continued(decoder, " cab", text="a bad big", masks=("bad",))
    assert tokenizer.mask_token_id in ids
    assert found == near(score(decoder, [*ids, *after], len(ids)))


@pytest.mark.parametrize(
    ("text", "pair", "word", "masked"),
    [
        ("bad cab fed", "big face cab bad", "bad", [1, 8]),
        ("bad cab fed", "big face cab bad", "face", [6]),
        ("我爱北京", None, "北京", [3, 4]),
        ("我爱北京", "爱bad", "爱", [2, 6]),
        ("我bad爱", None, "bad", [2]),
    ],
)
def test_a_word_is_masked_in_the_text_that_it_is_of(
    text: str, pair: str | None, word: str, masked: list[int], encoder: Path
) -> None:
    report = inspect(TokenizeQuery(model=ModelChoice(name=str(encoder)), text=text, pair=pair, masks=(word,)))
    assert [token.index for token in report.input.tokens if token.token == "[MASK]"] == masked


@pytest.mark.parametrize("word", ["ba", "北 京", "京a"])
def test_a_part_of_a_word_is_none(word: str, encoder: Path) -> None:
    with pytest.raises(InspectError, match="is no word of the text"):
        inspect(TokenizeQuery(model=ModelChoice(name=str(encoder)), text="北京 bad京ab", masks=(word,)))


# Targets


def test_a_target_that_is_no_token_is_refused_with_its_pieces(encoder: Path) -> None:
    for query in (LogitsQuery, LensQuery):
        with pytest.raises(InspectError, match=r"'zebra' is no token of the vocabulary: .* makes \[UNK\] of it"):
            inspect(query(model=ModelChoice(name=str(encoder)), text="a [MASK]", targets=("zebra",)))
        with pytest.raises(InspectError, match="targets 'cabs' is 2 tokens, 'cab', '##s'"):
            inspect(query(model=ModelChoice(name=str(encoder)), text="a [MASK]", targets=("cabs",)))


def test_a_target_of_nothing_is_none(encoder: Path) -> None:
    with pytest.raises(InspectError, match="targets ' ' is no token: the tokenizer makes nothing of it"):
        inspect(LogitsQuery(model=ModelChoice(name=str(encoder)), text="a [MASK]", targets=(" ",)))


@pytest.mark.parametrize("target", ["##s", "[UNK]", "cab", "北"])
def test_a_token_as_the_vocabulary_stores_it_is_a_target(target: str, encoder: Path) -> None:
    """At a mask nothing is known to stand before it, whatever the text ends with."""
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    report = inspect(LogitsQuery(model=ModelChoice(name=str(encoder)), text="a [MASK] bad", targets=(target,)))
    model = AutoModelForMaskedLM.from_pretrained(encoder, dtype=torch.float32).eval()
    with torch.no_grad():
        row = model(**tokenizer("a [MASK] bad", return_tensors="pt")).logits[0, 2].double().softmax(-1)
    (found,) = next(each.targets for each in report.predictions if each.targets)
    assert (found.token, found.prob) == (target, near(float(row[tokenizer.convert_tokens_to_ids(target)])))


# Windows


@pytest.mark.parametrize("step", [1, WINDOW - 1, WINDOW])
def test_no_token_is_left_out_between_windows(step: int, decoder: Path) -> None:
    report = inspect(LogitsQuery(model=ModelChoice(name=str(decoder)), text=LONG, stride=step))
    ids = report.input.input_ids[0]
    model = AutoModelForCausalLM.from_pretrained(decoder, dtype=torch.float32).eval()
    total, done = 0.0, 1
    for end in [*range(WINDOW, len(ids), min(step, WINDOW - 1)), len(ids)]:
        begin = end - WINDOW
        with torch.no_grad():
            rows = model(torch.tensor([ids[begin:end]])).logits[0].double().log_softmax(-1)
        total += sum(float(rows[index - 1 - begin, ids[index]]) for index in range(done, end))
        done = end
    assert report.text_score is not None
    assert (report.text_score.tokens, report.text_score.logprob) == (len(ids) - 1, near(total))
    said = "Windows of 24 tokens that are 24 apart overlap by one, which predicts the first of the next."
    assert (said in report.notes) == (step == WINDOW)


def test_windows_further_apart_than_they_are_long_are_refused(decoder: Path) -> None:
    with pytest.raises(InspectError, match="stride 25 would leave tokens out: give at most 24"):
        inspect(LogitsQuery(model=ModelChoice(name=str(decoder)), text=LONG, stride=WINDOW + 1))
