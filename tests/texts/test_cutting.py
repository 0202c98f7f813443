"""A text cut to so many tokens: which are read, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer
from typer.testing import Result

from tests.making.models import byte_tokenizer, tiny_config
from txinspect import AttnQuery, HeadsQuery, InspectError, LogitsQuery, ModelChoice, TokenizeQuery, inspect
from txinspect.errors import UsageError
from txinspect.records import InputRecord

Run = Callable[..., Result]
TEXT = "the quick brown fox jumps over the lazy dog"


def read(text: str, most: int | None, model: str = "opt-mini") -> InputRecord:
    return inspect(TokenizeQuery(model=ModelChoice(name=model), text=text, max_tokens=most)).input


@pytest.mark.parametrize("most", [2, 3, 5, 9, 10, 99])
def test_the_first_tokens_as_transformers_cuts_them(most: int, tmp_path: Path) -> None:
    """Of a tokenizer that puts tokens before and behind."""
    folder = tmp_path / "bert"
    config = tiny_config("bert", "masked-lm")
    config.save_pretrained(folder)
    byte_tokenizer(config, "masked-lm").save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for side, sign in (("right", 1), ("left", -1)):
        tokenizer.truncation_side = side
        wanted = tokenizer(TEXT, truncation=True, max_length=most)["input_ids"]
        if most == 2:
            with pytest.raises(InspectError, match=r"max_tokens -?2 leaves nothing of the text: .* are 2; give 3"):
                read(TEXT, most * sign, str(folder))
        else:
            assert read(TEXT, most * sign, str(folder)).input_ids[0] == wanted


@pytest.mark.parametrize("text", [TEXT, "héllo wörld 🦊🦊, ünd", "a\n\tb  c"])
@pytest.mark.parametrize("most", [3, -3, 6, -6])
def test_the_text_is_cut_with_its_tokens(text: str, most: int) -> None:
    whole, part = read(text, None), read(text, most)
    assert part.uncut == len(whole.tokens)
    assert len(part.tokens) == abs(most)
    own = part.tokens[1:]
    before = whole.tokens[1:][: abs(most) - 1] if most > 0 else whole.tokens[1 - abs(most) :]
    assert [token.id for token in own] == [token.id for token in before]
    assert [token.index for token in part.tokens] == list(range(abs(most)))
    assert part.text in text
    for token, other in zip(own, before, strict=True):
        if other.start is not None and token.start is not None:
            assert part.text[token.start : token.end] == text[other.start : other.end]
    assert read(text, 500) == whole
    assert whole.uncut is None


def test_the_model_reads_what_is_left() -> None:
    cut = inspect(LogitsQuery(text=TEXT, max_tokens=5))
    alone = inspect(LogitsQuery(ids=tuple(cut.input.input_ids[0])))
    assert cut.predictions == alone.predictions
    assert cut.text_score == alone.text_score
    assert "5 of 10 tokens are read (--max-tokens): 'The quick brown fox'." in [
        each.replace("the q", "The q") for each in cut.notes
    ]
    ids = inspect(LogitsQuery(ids=tuple(read(TEXT, None).input_ids[0]), max_tokens=5))
    assert ids.predictions == cut.predictions
    source = inspect(AttnQuery(model=ModelChoice(name="transformer-mini"), text=TEXT, max_tokens=4, encoder=True))
    assert len(source.input.tokens) == 4
    assert source.tensors[0].shape[1] == 4


def test_a_text_that_is_too_long_says_how_it_fits(run_cli: Run) -> None:
    long = " ".join([TEXT] * 40)
    for command in ("attn", "logits", "heads", "run", "lens"):
        refused = run_cli(command, long, *(["--stage", "logits"] if command == "run" else []))
        assert refused.exit_code == 1
        assert "give --max-tokens 256 for its beginning" in refused.stderr
    assert run_cli("attn", long, "--max-tokens", "256").exit_code == 0
    assert run_cli("attn", long, "--max-tokens", "-256").exit_code == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_tokens": 0}, "max_tokens 0 reads nothing|max_tokens=0 reads nothing"),
        ({"max_tokens": 3, "masks": ("fox",)}, "max_tokens and masks cannot be combined"),
        ({"max_tokens": 3, "pair": "b"}, "max_tokens and pair cannot be combined"),
        ({"max_tokens": 3, "chat": True}, "max_tokens and chat cannot be combined"),
        ({"max_tokens": 3, "continuations": (" dog",)}, "max_tokens and continuations cannot be combined"),
    ],
)
def test_what_cannot_be_cut(options: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        LogitsQuery(**options)  # type: ignore[arg-type]


def test_random_tokens_are_not_cut() -> None:
    with pytest.raises(UsageError, match="max_tokens and random=True cannot be combined"):
        HeadsQuery(random=True, max_tokens=9)


def test_a_number_of_tokens_is_a_number(run_cli: Run) -> None:
    for typed in ("x", "1.5", ""):
        refused = run_cli("tokenize", "a", "--max-tokens", typed)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "--max-tokens" in refused.stderr


@pytest.mark.parametrize(
    ("model", "text", "most", "read"),
    [
        ("transformer-mini", "the cat sat on the mat", 4, ["the", "cat", "sat", "</s>"]),
        ("transformer-mini", "the xyzzy cat sat on the mat", 4, ["the", "<unk>", "cat", "</s>"]),
        ("transformer-mini", "xyzzy the cat sat", -3, ["cat", "sat", "</s>"]),
        ("opt-mini", "the cat sat", 2, ["</s>", "the"]),
    ],
)
def test_unknown_words_at_the_ends_are_words(model: str, text: str, most: int, read: list[str]) -> None:
    """A tokenizer's unknown token is special, and yet stands for a part of the text."""
    found = inspect(TokenizeQuery(model=ModelChoice(name=model), text=text, max_tokens=most)).input
    assert [str(token.token).lstrip("▁") for token in found.tokens] == read
    assert all(token.start is None or token.end > token.start for token in found.tokens)  # type: ignore[operator]
