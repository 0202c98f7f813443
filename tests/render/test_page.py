"""A page: its weights are those of plain transformers, its policy lets its own script through, tokens are letters."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from hashlib import sha256
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer
from typer.testing import Result

from tests.conftest import BESIDE, NEEDED
from tests.making import kinds, pages
from tests.making.models import save_tiny
from txinspect import AttnQuery, LogitsQuery, ModelChoice, PageQuery, TokenizeQuery
from txinspect.commands import LISTED
from txinspect.inspecting import inspect_for_page
from txinspect.measure.packing import packed_maps
from txinspect.render.page import Asked, page

Run = Callable[..., Result]

TEXT = "the quick brown fox"
FLOAT = 2e-6
"""What float32 may differ by, beside the half step of a packed weight."""


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("llama", tmp_path_factory.mktemp("page") / "llama")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("bert", tmp_path_factory.mktemp("page") / "bert", task="masked-lm")


def asked(folder: Path | str, **values: Any) -> Any:
    """The data of the page of `attn`."""
    return pages.data_of(pages.page_of(AttnQuery(model=ModelChoice(name=str(folder)), **{"text": TEXT, **values})))


def ids_of(folder: Path, text: str = TEXT) -> list[int]:
    ids: list[int] = AutoTokenizer.from_pretrained(folder)(text)["input_ids"]
    return ids


def hold(maps: Any, plain: pages.Array) -> None:
    """Weights of a page are within half a step of the plain ones, (head, query, key), of all heads."""
    rows, columns = pages.positions(maps["queries"]), pages.positions(maps["keys"])
    expected = pages.largest(plain[maps["heads"]], rows, columns)
    assert (np.abs(pages.weights(maps) - expected) <= pages.ends(maps) / 510 + FLOAT).all()
    assert np.allclose(maps["first"], expected[:, :, 0].max(axis=1), atol=FLOAT)
    assert np.allclose(maps["rest"], expected[:, :, 1:].max(axis=(1, 2)), atol=FLOAT)


def test_a_decoders_weights(llama: Path) -> None:
    plain = pages.plain_attentions(AutoModelForCausalLM, str(llama), ids_of(llama)).attentions
    data = asked(llama, layer=None)
    assert [each["layer"] for each in data["attentions"]] == [*range(len(plain))]
    assert data["texts"][0]["special"] == [0]
    for each in data["attentions"]:
        assert each["maps"]["queries"] == each["maps"]["keys"] == len(ids_of(llama))
        assert each["maps"]["heads"] == [0, 1, 2, 3]
        assert each["shared"] == [0, 0, 1, 1]
        hold(each["maps"], pages.heads_of(plain[each["layer"]]))


def test_an_encoders_weights(bert: Path) -> None:
    plain = pages.plain_attentions(AutoModelForMaskedLM, str(bert), ids_of(bert)).attentions
    data = asked(bert, layer=None)
    assert len(data["attentions"]) == len(plain)
    assert data["texts"][0]["special"] == [0, len(ids_of(bert)) - 1]
    for each in data["attentions"]:
        hold(each["maps"], pages.heads_of(plain[each["layer"]]))


@pytest.mark.parametrize(
    ("which", "said"),
    [
        ({}, "decoder_attentions"),
        ({"cross": True}, "cross_attentions"),
        ({"encoder": True}, "encoder_attentions"),
    ],
)
def test_weights_of_an_encoder_decoder(which: dict[str, bool], said: str) -> None:
    choice = ModelChoice(name="transformer-mini", dtype="float32")  # stored in half precision, whose last bits differ
    answer, attentions = inspect_for_page(AttnQuery(model=choice, text=TEXT, layer=None, **which))  # type: ignore[arg-type]
    data = pages.data_of(page(answer, attentions, Asked("", "attn")))
    read, decoded = ([token.id for token in each.tokens] for each in (answer.input, answer.input.main))
    plain = pages.plain_attentions(
        AutoModelForSeq2SeqLM, pages.bundled("transformer-mini"), read, decoder_input_ids=torch.tensor([decoded])
    )
    assert len(data["attentions"]) == len(plain[said])
    for each in data["attentions"]:
        assert each["maps"]["causal"] == (said == "decoder_attentions")
        assert each["texts"] == {"cross_attentions": [1, 0], "encoder_attentions": [0, 0]}.get(said, [1, 1])
        hold(each["maps"], pages.heads_of(plain[said][each["layer"]]))


@pytest.mark.parametrize(("heads", "shared"), [((1, 2), [0, 1]), ((3,), [0]), ((3, 0), [1, 0])])
def test_chosen_heads_and_queries(heads: tuple[int, ...], shared: list[int], llama: Path) -> None:
    plain = pages.plain_attentions(AutoModelForCausalLM, str(llama), ids_of(llama)).attentions[1]
    (each,) = asked(llama, layer=1, heads=heads, queries=(3, -1))["attentions"]
    assert each["maps"]["queries"] == [[3, 3], [len(ids_of(llama)) - 1] * 2]
    assert sorted(each["maps"]["heads"]) == sorted(heads)
    hold(each["maps"], pages.heads_of(plain))
    order = dict(zip(heads, shared, strict=True))
    assert each["shared"] == [order[head] for head in each["maps"]["heads"]]


def test_beyond_the_side_of_a_map_the_largest_stand(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("txinspect.answers.packing.SIDE", 16)
    text = "the quick brown fox jumps over the lazy dog"
    plain = pages.plain_attentions(AutoModelForCausalLM, str(llama), ids_of(llama, text)).attentions
    count = len(ids_of(llama, text))
    data = asked(llama, layer=None, text=text)
    for each in data["attentions"]:
        rows, columns = (pages.positions(each["maps"][side]) for side in ("queries", "keys"))
        assert max(len(rows), len(columns)) <= 16
        assert columns[0] == (0, 0)
        for side in (rows, columns):
            assert [position for first, last in side for position in range(first, last + 1)] == [*range(count)]
        hold(each["maps"], pages.heads_of(plain[each["layer"]]))
    whole = [each["whole"] for each in data["attentions"]]
    assert [each is not None for each in whole] == [True] + [False] * (len(whole) - 1)
    assert (whole[0]["heads"], whole[0]["queries"], whole[0]["keys"]) == ([0], count, count)
    hold(whole[0], pages.heads_of(plain[0]))


def test_queries_times_keys_and_lengths_of_values(llama: Path) -> None:
    """They are what plain transformers gives its attention: of rotated queries and keys, before they are scaled."""
    given = pages.plain_vectors(str(llama), ids_of(llama))
    for each, plain in zip(asked(llama, layer=None)["attentions"], given, strict=True):
        query, key, value = plain
        for packed, expected in ((each["q"], query), (each["k"], key)):
            found = pages.vectors(packed)
            assert packed["heads"] == [*range(len(expected))]
            assert np.allclose(packed["largest"], np.abs(expected).max(axis=(1, 2)), rtol=1e-4)
            assert (np.abs(found - expected) <= np.array(packed["largest"])[:, None, None] / 254 + 1e-4).all()
        assert np.allclose(each["lengths"], np.linalg.norm(value, axis=-1), rtol=6e-4)


def test_vectors_stand_as_far_as_there_is_room(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("txinspect.answers.packing.VECTORS", len(ids_of(llama)) * 16 * 7)
    first, second = asked(llama, layer=None)["attentions"]
    assert [first["q"]["heads"], first["k"]["heads"]] == [[0, 1, 2, 3], [0, 1]]
    assert second["q"]["heads"] == [0]
    assert second["k"] is None
    assert second["lengths"]


def test_no_number_is_no_weight() -> None:
    odd = torch.tensor([[[[1.0, 0.0], [float("nan"), 0.5]], [[0.0, 0.0], [0.0, 0.0]]]])
    each = [(0, 0), (1, 1)]
    packed = packed_maps(iter([odd]), [0, 1], each, each, [0, 1])
    assert packed.causal
    assert [*packed.values] == [255, 0, 255, 0, 0, 0]  # of each head, column by column, the rows that see it
    assert (packed.first, packed.rest) == ([1.0, 0.0], [0.5, 0.0])


@pytest.fixture(scope="module")
def hostile(llama: Path) -> str:
    choice = ModelChoice(name=str(llama))
    return pages.page_of(PageQuery(model=choice, text=pages.HOSTILE, parts=("logits", "attn", "heads", "lens")))


def test_the_policy_lets_the_own_script_and_style_through_and_nothing_else(hostile: str) -> None:
    (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', hostile)
    rules = {name: values.split() for name, _, values in (each.strip().partition(" ") for each in policy.split(";"))}

    def hashes(tag: str) -> list[str]:
        found = re.findall(rf"<{tag}>(.*?)</{tag}>", hostile, re.DOTALL)
        return [f"'sha256-{b64encode(sha256(each.encode()).digest()).decode()}'" for each in found]

    assert rules["default-src"] == ["'none'"]
    assert rules["script-src"] == hashes("script")
    assert rules["style-src"] == hashes("style")
    assert len(hashes("script")) == len(hashes("style")) == 1
    assert "unsafe" not in unescape(policy)
    assert set(rules) == {"default-src", "script-src", "style-src", "img-src", "base-uri", "form-action"}


def test_the_script_is_small_and_nothing_is_fetched(hostile: str) -> None:
    (script,) = re.findall(r"<script>(.*?)</script>", hostile, re.DOTALL)
    assert len(script.encode()) <= 40_000
    unsafe = (
        "eval(",
        "Function(",
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "fetch(",
        "import(",
    )
    assert [each for each in unsafe if each in script] == []
    assert set(re.findall(r"https?:[^\s\"'<>]*", hostile)) == {"http://www.w3.org/2000/svg"}
    assert not re.findall(
        r"<(?:link|img|iframe|object|embed|base|form)\b|\s(?:src|srcset|style|on\w+)=", markup(hostile)
    )


def markup(content: str) -> str:
    """The tags of a page: without its script, its style, its data, and what attributes hold."""
    bare = re.sub(r"<(script|style)\b[^>]*>.*?</\1>", "", content, flags=re.DOTALL)
    return re.sub(r'"[^"]*"', '""', bare)


def test_hostile_tokens_are_letters(hostile: str) -> None:
    assert len(re.findall(r"<script\b", hostile)) == 2
    assert hostile.count("</script>") == 2
    assert "<!--" not in hostile
    assert "alert(1)" not in hostile.replace("&lt;", "<")  # a token is a byte
    assert not {each for each in hostile if ord(each) < 32 and each != "\n"}
    assert not set("\u202e\u2066\u2028\x7f") & set(hostile)
    tokens = [unescape(each) for each in re.findall(r'data-token="\d+"[^>]*><bdi>(.*?)</bdi>', hostile)]
    (text,) = pages.data_of(hostile)["texts"]
    assert tokens == text["tokens"]
    assert {"<", "&", '"', "'", "␀", "␛"} <= set(tokens)


def test_a_token_of_many_letters_ends_nothing(tmp_path: Path) -> None:
    """A whole word of the vocabulary that ends a script, begins a comment, or turns what is written around."""
    folder = kinds.decoder_in(tmp_path / "model")
    odd = ["</script><script>alert(1)</script>", "<!--", "\u202egpj", "a\0b"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(odd)
    tokenizer.save_pretrained(folder)
    content = pages.page_of(TokenizeQuery(model=ModelChoice(name=str(folder)), text=" ".join(odd)))
    assert len(re.findall(r"<script\b", content)) == content.count("</script>") == 2
    assert "<!--" not in content
    assert not set("\u202e\0") & set(content)
    shown = [unescape(each) for each in re.findall(r'data-token="\d+"[^>]*><bdi>(.*?)</bdi>', content)]
    assert {odd[0], odd[1], "\\u{202e}gpj"} <= set(shown)


def test_the_same_question_gives_the_same_bytes(run_cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        assert run_cli("attn", TEXT, "--layer", "0,1", "--html", "a.html").exit_code == 0
        made.append((tmp_path / place / "a.html").read_bytes())
    assert made[0] == made[1]


def test_a_page_of_ours_is_replaced(run_cli: Run, tmp_path: Path) -> None:
    file = tmp_path / "a.html"
    for text in ("one", "two"):
        assert run_cli("tokenize", text, "--html", file).exit_code == 0
    assert "two" in file.read_text(encoding="utf-8")
    assert [each.name for each in tmp_path.iterdir()] == ["a.html"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--html", "a.txt"), 2, "--html 'a.txt' is not a name that ends in .html"),
        (("--html", "a"), 2, "--html 'a' is not a name that ends in .html"),
        (("--html", "no/a.html"), 1, "there is no directory no"),
        (("--html", "folder.html"), 1, "folder.html is a directory"),
        (("--html", "theirs.html"), 1, "theirs.html is there and is no page of txinspect"),
        (("--open",), 2, "--open shows a page: add --html FILE, or omit it"),
    ],
)
def test_what_cannot_be_written(
    arguments: Sequence[str], code: int, says: str, run_cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "theirs.html").write_text('<!DOCTYPE html>\n<html lang="en"><p>txinspect')
    before = sorted((each.name, each.is_file() and each.read_bytes()) for each in tmp_path.iterdir())
    result = run_cli("tokenize", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in " ".join(result.stderr.split())
    assert sorted((each.name, each.is_file() and each.read_bytes()) for each in tmp_path.iterdir()) == before


@pytest.mark.parametrize("there", [True, False])
def test_open_shows_the_page(there: bool, run_cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    def show(address: str) -> bool:
        shown.append(address)
        return there

    monkeypatch.setattr("webbrowser.open", show)
    result = run_cli("tokenize", "--html", tmp_path / "a b.html", "--open")
    assert shown == [(tmp_path / "a b.html").as_uri()]
    assert (tmp_path / "a b.html").is_file()
    assert result.exit_code == (0 if there else 1)
    assert there or "there is no browser to show it: open it by hand" in " ".join(result.stderr.split())


def test_beside_json_rows_and_a_picture(run_cli: Run, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.html", "a.csv", "a.svg")]
    given = [each for name, file in zip(("--html", "--csv", "--picture"), files, strict=True) for each in (name, file)]
    result = run_cli("heads", TEXT, "--json", *given)
    assert json.loads(result.stdout) == json.loads(run_cli("heads", TEXT, "--json").stdout)
    assert all(file.stat().st_size > 0 for file in files)
    assert pages.data_of(files[0].read_text(encoding="utf-8"))["attentions"]


def test_a_plan_has_a_page_and_no_weights(run_cli: Run, tmp_path: Path) -> None:
    result = run_cli("attn", TEXT, "--dry-run", "--html", tmp_path / "a.html")
    assert (result.exit_code, result.stderr) == (0, "")
    content = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert pages.data_of(content) == {}
    assert "What it would take" in content


@pytest.mark.parametrize(
    ("arguments", "task", "holds"),
    [
        (("logits", "a bad cab", "--chat", "--system", "be kind"), "decoder", "asked</bdi>"),
        (("logits", "a bad cab", "--mask", "bad"), "encoder", "[MASK]"),
        (("attn", "--ids", "0,70,71,72"), "decoder", "</bdi>"),
        (("attn", "a bad cab", "--pair", "a big face"), "decoder", "</bdi>"),
    ],
)
def test_what_is_read_otherwise(arguments: Sequence[str], task: str, holds: str, run_cli: Run, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    folder = getattr(kinds, f"{task}_in")(tmp_path / "model")
    result = run_cli(*arguments, "-m", folder, "--json", "--html", tmp_path / "a.html")
    assert (result.exit_code, result.stderr) == (0, "")
    content = (tmp_path / "a.html").read_text(encoding="utf-8")
    read = json.loads(result.stdout)["input"]["tokens"]
    assert len(re.findall(r'data-text="0" data-token=', content)) == len(read)
    ids = [int(each) for each in re.findall(r"· id (\d+)", content)]
    assert {*ids} <= {each["id"] for each in read}
    assert holds in content


@pytest.mark.screens
@pytest.mark.parametrize("model", ["opt-mini", "transformer-mini"])
@pytest.mark.parametrize("command", LISTED)
def test_every_command_makes_a_page(command: str, model: str, run_cli: Run, tmp_path: Path) -> None:
    extra = {**NEEDED, "run": ["-s", "*logits"]}.get(command, [])
    chosen = [] if command in ("models", "env") else ["-m", model, *BESIDE.get((command, model), [])]
    result = run_cli(command, *extra, *chosen, "--html", tmp_path / "a.html")
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"pagein{tmp_path / 'a.html'}" in "".join(result.stdout.split())
    content = (tmp_path / "a.html").read_text(encoding="utf-8")
    sections = re.findall(r'<section id="([^"]*)"', content)
    assert sections[-1:] == [f"part-{len(sections) - 1}"]
    assert re.findall(r'<a href="#([^"]*)"', content) == sections
    pages.data_of(content)


def test_python_and_the_shell_give_the_same_page(run_cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_cli("logits", TEXT, "--html", tmp_path / "a.html").exit_code == 0
    content = pages.page_of(LogitsQuery(text=TEXT))
    written = (tmp_path / "a.html").read_text(encoding="utf-8")
    asked_for = re.compile(r"<td><bdi class=\"dim\">asked</bdi></td><td><bdi>.*?</bdi></td>")
    assert asked_for.sub("", written) == asked_for.sub("", content)


def test_a_page_says_what_was_left_out_of_it(tmp_path: Path, run_cli: Run) -> None:
    folder = save_tiny("mamba", tmp_path / "mamba")
    result = run_cli("page", TEXT, "-m", folder, "-o", tmp_path / "a.html")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "attn is left out: " in result.stdout
    assert "attn is left out: " in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_a_page_without_its_text_is_none(tmp_path: Path, run_cli: Run) -> None:
    result = run_cli("page", "--ids", "2,99999999", "-o", tmp_path / "a.html")
    assert (result.exit_code, result.stdout) == (1, "")
    assert not (tmp_path / "a.html").exists()
