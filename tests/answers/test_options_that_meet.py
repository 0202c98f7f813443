"""Every two options of what is read and scored, on a decoder, an encoder and an encoder–decoder: the number is plain
transformers', or the refusal names both."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer
from typer.testing import Result

from tests.making.kinds import LONG, WINDOW, both_in, decoder_in, encoder_in

pytestmark = pytest.mark.pairs

Run = Callable[..., Result]

TEXT, SECOND, AFTER, WORD = "a bad cab bad", "bad big face", " big cab", "bad"
IDS = [7, 9, 8, 10, 9]
MOST = 4
OPTIONS = (
    *("pair", "mask", "decoder", "new", "chat", "system", "ids", "file", "continuation", "target", "stride"),
    *("position", "pll", "no-special", "src-lang", "tgt-lang", "pooled", "random", "max-tokens"),
)

KINDS = ("decoder", "encoder", "both")

ALONE = {
    "decoder": {"decoder", "new", "src-lang", "tgt-lang", "pll", "pooled"},
    "encoder": {"decoder", "new", "src-lang", "tgt-lang", "continuation", "stride"},
    "both": {"pair", "continuation", "stride", "pll", "pooled"},  # NLLB's tokenizer knows no pairs
}
"""What each kind refuses whatever stands beside it."""

REFUSED = {
    "decoder": "ids+pair ids+chat ids+file chat+pair no-special+pair random+pair random+mask random+chat "
    "random+ids random+file max-tokens+pair max-tokens+mask max-tokens+chat max-tokens+continuation random+max-tokens",
    "encoder": "ids+pair ids+chat ids+file chat+pair no-special+pair pll+target random+pair random+mask random+chat "
    "random+ids random+file pooled+pair max-tokens+pair max-tokens+mask max-tokens+chat random+max-tokens",
    "both": "ids+chat ids+file ids+src-lang chat+src-lang no-special+src-lang decoder+new random+mask random+chat "
    "random+ids random+file random+src-lang max-tokens+mask max-tokens+chat random+max-tokens",
}
"""What cannot be told together, by kind; each refusal names both."""


@dataclass
class Plain:
    """A checkpoint and what transformers makes of it."""

    folder: Path
    model: Any
    tokenizer: Any


MAKE = {
    "decoder": (decoder_in, AutoModelForCausalLM),
    "encoder": (encoder_in, AutoModelForMaskedLM),
    "both": (both_in, AutoModelForSeq2SeqLM),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Plain]:
    made: dict[str, Plain] = {}

    def of(kind: str) -> Plain:
        if kind not in made:
            make, factory = MAKE[kind]
            folder = make(tmp_path_factory.mktemp("meet") / kind)
            model = factory.from_pretrained(folder, dtype=torch.float32).eval()
            made[kind] = Plain(folder, model, AutoTokenizer.from_pretrained(folder))
        made[kind].tokenizer.src_lang = "eng_Latn"
        return made[kind]

    return of


@dataclass
class Case:
    """Two options, and what they are on a command line and in plain transformers."""

    kind: str
    options: frozenset[str]

    def __contains__(self, option: str) -> bool:
        return option in self.options

    @property
    def command(self) -> str:
        return "embed" if "pooled" in self else "heads" if "random" in self else "logits"

    @property
    def text(self) -> str:
        return LONG if "stride" in self else TEXT

    @property
    def target(self) -> str:
        return {"decoder": " cab", "encoder": "cab", "both": "c"}[self.kind]

    def arguments(self, folder: Path) -> list[str]:
        """What is typed."""
        (folder / "text").write_text(self.text)
        values = {
            "pair": [SECOND],
            "mask": ["2" if "ids" in self else WORD],
            "decoder": ["bad"],
            "new": ["3"],
            "chat": [],
            "system": ["big"],
            "ids": [",".join(map(str, IDS))],
            "file": [str(folder / "text")],
            "continuation": [AFTER],
            "target": [self.target],
            "stride": ["7"],
            "position": ["1"],
            "pll": [],
            "no-special": [],
            "src-lang": ["fra_Latn"],
            "tgt-lang": ["deu_Latn"],
            "pooled": [],
            "random": [],
            "max-tokens": [str(MOST)],
        }
        named = [each for name in sorted(self.options) for each in (f"--{name}", *values[name])]
        text = [] if self.options & {"ids", "file", "random"} else [self.text]
        random = ["--length", "4", "--encoder" if self.kind == "both" else "--repeats=2"] if "random" in self else []
        # What fills masks answers at one.
        masked = ["--mask", "1"] if self.kind == "encoder" and self.needs_mask else []
        masked += ["--position", "1"] if self.at_one and "position" not in self else []
        return [self.command, *text, *named, *random, *masked, "-m", str(folder), "--json"]

    @property
    def needs_mask(self) -> bool:
        return self.command == "logits" and not self.options & {"mask", "position", "pll", "max-tokens"}

    @property
    def at_one(self) -> bool:
        """Whether a position is asked about: what is cut has no mask, and all else but a mask's place is known."""
        return "position" in self or (
            self.kind == "encoder"
            and self.command == "logits"
            and "max-tokens" in self
            and not self.options & {"pll", "mask"}
        )


def wanted_ids(case: Case, plain: Plain) -> tuple[list[int], list[int] | None]:
    """The ids that are read, and their segments, by transformers."""
    tok, special = plain.tokenizer, "no-special" not in case
    if "ids" in case:
        ids, spans, segments = list(IDS), [], None
    elif "chat" in case:
        system = [{"role": "system", "content": "big"}] if "system" in case else []
        messages = [*system, {"role": "user", "content": case.text}]
        text = tok.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids, spans, segments = *offsets(tok(text, add_special_tokens=False, return_offsets_mapping=True), [text]), None
    else:
        if "src-lang" in case:
            tok.src_lang = "fra_Latn"
        texts = [case.text, SECOND] if "pair" in case else [case.text]
        found = tok(*texts, add_special_tokens=special, return_offsets_mapping=True)
        ids, spans = offsets(found, texts)
        segments = found.get("token_type_ids") if "pair" in case else None
    places = spans if "mask" in case and "ids" not in case else [2] if "mask" in case else []
    if case.kind == "encoder" and case.needs_mask:
        places = [1]
    masked = [tok.mask_token_id if index in places else each for index, each in enumerate(ids)]
    return cut(masked, tok.all_special_ids) if "max-tokens" in case else masked, segments


def cut(ids: list[int], special: list[int]) -> list[int]:
    """The first MOST tokens, those that end every text among them."""
    ending = 1 if ids[-1] in special else 0
    return ids if len(ids) <= MOST else [*ids[: MOST - ending], *ids[len(ids) - ending :]]


def offsets(found: Any, texts: list[str]) -> tuple[list[int], list[int]]:
    """The ids, and the indices of those that stand for the word that is masked."""
    places = []
    for index, ((start, end), of) in enumerate(zip(found["offset_mapping"], found.sequence_ids(), strict=True)):
        text = texts[of] if of is not None else ""
        begins = [i for i in range(len(text)) if text.startswith(WORD, i)]
        if any(start < begin + len(WORD) and end > begin for begin in begins) and start < end:
            places.append(index)
    return list(found["input_ids"]), places


def decoded(case: Case, plain: Plain, ids: list[int]) -> list[int]:
    """What the decoder reads."""
    tok, start = plain.tokenizer, [plain.model.config.decoder_start_token_id]
    if "tgt-lang" in case:
        start.append(tok.convert_tokens_to_ids("deu_Latn"))
    if "decoder" in case:
        return [*start, *tok("bad", add_special_tokens=False)["input_ids"]]
    many = (3 if "new" in case else 20) - (len(start) - 1)
    made = plain.model.generate(
        torch.tensor([ids]), decoder_input_ids=torch.tensor([start]), do_sample=False, num_beams=1, max_new_tokens=many
    )[0].tolist()
    ids = list[int](made)
    return ids[:-1] if ids[-1] == plain.model.config.eos_token_id else made


def logprobs(plain: Plain, ids: list[int], segments: list[int] | None = None, **others: Any) -> torch.Tensor:
    given = {} if segments is None else {"token_type_ids": torch.tensor([segments])}
    with torch.no_grad():
        logits: torch.Tensor = plain.model(input_ids=torch.tensor([ids]), **given, **others).logits[0]
    return logits.double().log_softmax(-1)


def in_windows(plain: Plain, ids: list[int], start: int, step: int | None) -> float:
    """The score of all ids from one on."""
    ends = [len(ids)] if step is None or len(ids) <= WINDOW else [*range(WINDOW, len(ids), step), len(ids)]
    total, done = 0.0, start
    for end in ends:
        begin = max(0, end - WINDOW) if len(ends) > 1 else 0
        rows = logprobs(plain, ids[begin:end])
        total += sum(float(rows[index - 1 - begin, ids[index]]) for index in range(done, end))
        done = max(done, end)
    return total


def near(number: float) -> Any:
    return pytest.approx(number, rel=1e-5, abs=1e-5)


def compare(case: Case, plain: Plain, report: dict[str, Any]) -> None:
    """The report against plain transformers."""
    ids, segments = wanted_ids(case, plain)
    if case.command == "heads":
        ids = report["input"]["input_ids"][0]
        drawn = ids[len(ids) - 8 :]
        first = plain.tokenizer("a")["input_ids"][0]
        assert (drawn[:4], ids[: len(ids) - 8]) == (drawn[4:], [] if "no-special" in case else [first])
        assert report["copies"] == 4
        return
    assert report["input"]["input_ids"] == [ids]
    assert report["input"]["segments"] == (None if segments is None else [segments])
    step = 7 if "stride" in case else None
    if case.command == "embed":
        with torch.no_grad():
            given = {} if segments is None else {"token_type_ids": torch.tensor([segments])}
            hidden = plain.model.bert(input_ids=torch.tensor([ids]), **given).last_hidden_state[0].double()
        assert report["tensors"][0]["stats"]["l2"] == near(float(hidden.mean(0).norm()))
        return
    others = {}
    main = ids
    if case.kind == "both":
        main = decoded(case, plain, ids)
        assert report["input"]["decoder"]["input_ids"] == [main]
        others = {"decoder_input_ids": torch.tensor([main])}
    rows = logprobs(plain, ids, segments, **others) if step is None else None
    if "continuation" in case:
        following = plain.tokenizer(AFTER, add_special_tokens=False)["input_ids"]
        assert len(following) == 2
        score = in_windows(plain, [*ids, *following], len(ids), step)
        assert report["continuations"][0]["logprob"] == near(score)
    if case.kind != "encoder":
        if case.kind == "both":
            assert rows is not None
            score = sum(float(rows[index - 1, main[index]]) for index in range(1, len(main)))
        else:
            score = in_windows(plain, main, 1, step)
        found = report["text_score"]
        assert (found["tokens"], found["logprob"]) == (len(main) - 1, near(score))
    if "pll" in case:
        special, score = plain.tokenizer.all_special_ids, 0.0
        for index, each in enumerate(ids):
            if each not in special:
                hidden_one = [plain.tokenizer.mask_token_id if i == index else other for i, other in enumerate(ids)]
                score += float(logprobs(plain, hidden_one, segments)[index, each])
        assert report["pseudo_score"]["pll"] == near(score)
    if rows is None:
        return
    masks = [index for index, each in enumerate(ids) if each == plain.tokenizer.mask_token_id]
    asked = [1] if case.at_one else masks if case.kind == "encoder" else [len(main) - 1]
    listed = [each for each in report["predictions"] if each["top"]]
    assert [each["position"] for each in listed] == ([] if "pll" in case and "position" not in case else asked)
    for each in listed:
        assert each["top"][0]["prob"] == near(float(rows[each["position"]].exp().max()))
    if "target" in case:
        (token,) = plain.tokenizer(case.target, add_special_tokens=False)["input_ids"][-1:]
        assert [each["targets"][0]["prob"] for each in listed] == [
            near(float(rows[each["position"], token].exp())) for each in listed
        ]


def together(one: str, other: str) -> bool:
    """Whether a command takes both."""
    scored = {"continuation", "target", "stride", "position", "pll"}
    of = [{"pooled"}, {"random"}, scored]
    return sum(bool({one, other} & each) for each in of) < 2


PAIRS = [each for each in itertools.combinations(OPTIONS, 2) if together(*each)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", PAIRS, ids="+".join)
def test_two_options(
    options: tuple[str, str], kind: str, plain: Callable[[str], Plain], run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, checkpoint = Case(kind, frozenset(options)), plain(kind)
    alone = case.options & (ALONE[kind] | (set() if "chat" in case else {"system"}))
    names = alone or (case.options if case.options in conflicts(kind) else frozenset())
    result = run_cli(*case.arguments(checkpoint.folder))
    if names:
        assert result.exit_code in (1, 2), result.stdout
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) == 1
        said = [f"--{name}" in result.stderr for name in names]
        assert any(said) if alone else all(said), result.stderr
    else:
        assert result.exit_code == 0, result.stderr
        compare(case, checkpoint, json.loads(result.stdout))


def conflicts(kind: str) -> set[frozenset[str]]:
    return {frozenset(each.split("+")) for each in REFUSED[kind].split()}
