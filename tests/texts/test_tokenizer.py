"""Tokens against AutoTokenizer: ids, spans, bytes; and the cache that keeps torch away."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from txinspect.commands.tokenize import TokenizeQuery
from txinspect.errors import InspectError, SourceError
from txinspect.inspecting import inspect
from txinspect.model_choice import ModelChoice
from txinspect.queries import LESSON
from txinspect.records import InputRecord, TokenRecord

TEXTS = {
    "lesson": LESSON,
    "empty": "",
    "blank": " ",
    "blanks": "  two  spaces   ",
    "zwj_emoji": "👩‍👩‍👧‍👦 and 🏳️‍🌈",
    "flags": "🇩🇪🇫🇷",
    "four_bytes": "𝔘𝔫𝔦 𐍈 🀄",
    "right_to_left": "\u202eabc\u202c שלום العربية",
    "nul": "a\0b\0",
    "controls": "\a\b\x7f\x85\u2028\u2029",
    "ansi": "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "markup": "[/INST] [bold]x[/bold] [",
    "lone_combining_marks": "\u0301\u0308 e\u0301",
    "crlf": "a\r\nb\rc\n\n\td",
    "special_literal": "x<eos>y <pad>",
    "byte_order_mark": "\ufeffx\ufffe",
    "replacement": "\ufffd",
    "noncharacter": "\U0010ffff",
    "long": "wörd " * 200,
}


def tokenize(folder: Path, text: str, *, special: bool = True) -> InputRecord:
    return inspect(TokenizeQuery(model=ModelChoice(name=str(folder)), text=text, special=special)).input


def without_special(tokens: list[TokenRecord]) -> list[TokenRecord]:
    """Tokens of the text itself: the special ones that the tokenizer adds have no span."""
    return [token for token in tokens if token.start is not None]


def content(token: TokenRecord) -> bytes:
    """The bytes a token stands for; it has exactly one of text and bytes."""
    assert (token.text is None) != (token.bytes is None)
    return bytes.fromhex(token.bytes) if token.bytes is not None else str(token.text).encode()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of this test's own: where the tokenizers' files will be."""
    monkeypatch.setenv("TXINSPECT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tokenizers"


@pytest.fixture
def model(opt: Path, tmp_path: Path) -> Path:
    """A copy of a model's config and tokenizer, to change."""
    folder = tmp_path / "model"
    folder.mkdir()
    for file in opt.glob("*.json"):
        shutil.copy(file, folder)
    return folder


@pytest.fixture(scope="module")
def metaspace(opt_variant: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a tokenizer in Llama's manner: ▁ for a space, and bytes for what the vocabulary lacks."""
    specials = ["<unk>", "<s>", "</s>"]
    words = ["▁", "T", "h", "e", "▁T", "he", "▁The"]
    vocabulary = [*specials, *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: id for id, token in enumerate(vocabulary)},
            merges=[("▁", "T"), ("h", "e"), ("▁T", "he")],
            unk_token="<unk>",
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(specials)
    return _with_tokenizer(opt_variant("pre_norm"), tmp_path_factory.mktemp("metaspace"), tokenizer)


@pytest.fixture(scope="module")
def wordpiece(opt_variant: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose tokenizer lowers case and strips accents, so that a token is not its span of the text."""
    vocabulary = ["[UNK]", "cafe", "##s", "the"]
    tokenizer = Tokenizer(models.WordPiece({token: id for id, token in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(["[UNK]"])
    return _with_tokenizer(opt_variant("pre_norm"), tmp_path_factory.mktemp("wordpiece"), tokenizer)


@pytest.fixture(scope="module")
def slow(opt_variant: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a tokenizer in Python that needs no file: ByT5's, a token per byte."""
    folder = tmp_path_factory.mktemp("slow")
    shutil.copy(opt_variant("pre_norm") / "config.json", folder)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer"}')
    return folder


def _with_tokenizer(model: Path, folder: Path, tokenizer: Tokenizer) -> Path:
    shutil.copy(model / "config.json", folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("name", TEXTS)
def test_ids_are_auto_tokenizers(name: str, special: bool, opt: Path) -> None:
    wanted = AutoTokenizer.from_pretrained(opt)(TEXTS[name], add_special_tokens=special)
    if not wanted["input_ids"]:
        with pytest.raises(InspectError, match="yields no tokens"):
            tokenize(opt, TEXTS[name], special=special)
        return
    found = tokenize(opt, TEXTS[name], special=special)
    assert found.text == TEXTS[name]
    assert found.input_ids == [wanted["input_ids"]] == [[token.id for token in found.tokens]]
    assert found.attention_mask == [wanted["attention_mask"]]
    assert [token.index for token in found.tokens] == list(range(len(wanted["input_ids"])))


@pytest.mark.parametrize("kind", ["metaspace", "wordpiece", "slow"])
@pytest.mark.parametrize("name", ["lesson", "zwj_emoji", "special_literal", "markup", "crlf", "nul"])
def test_ids_of_other_kinds_of_tokenizer(kind: str, name: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    wanted = AutoTokenizer.from_pretrained(folder)
    found = tokenize(folder, TEXTS[name])
    assert found.input_ids == [wanted(TEXTS[name])["input_ids"]]
    assert [token.token for token in found.tokens] == wanted.convert_ids_to_tokens(found.input_ids[0])
    specials = {id for id, token in wanted.added_tokens_decoder.items() if token.special} | {*wanted.all_special_ids}
    assert [token.special for token in found.tokens] == [id in specials for id in found.input_ids[0]]


@pytest.mark.parametrize("name", TEXTS)
def test_stored_tokens_and_special_ones(name: str, opt: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(opt)
    found = tokenize(opt, TEXTS[name])
    assert [token.token for token in found.tokens] == tokenizer.convert_ids_to_tokens(found.input_ids[0])
    assert [token.special for token in found.tokens] == [id in tokenizer.all_special_ids for id in found.input_ids[0]]
    first = found.tokens[0]
    assert (first.id, first.special, first.start, first.end) == (2, True, None, None)


@pytest.mark.parametrize("name", TEXTS)
def test_tokens_reassemble_to_the_texts_bytes(name: str, opt: Path) -> None:
    tokens = without_special(tokenize(opt, TEXTS[name]).tokens)
    assert b"".join(content(token) for token in tokens) == TEXTS[name].encode()


@pytest.mark.parametrize(
    "name", ["lesson", "zwj_emoji", "four_bytes", "right_to_left", "nul", "ansi", "crlf", "blanks"]
)
def test_tokens_of_a_metaspace_vocabulary_reassemble(name: str, metaspace: Path) -> None:
    """It puts a space in front of the text."""
    tokens = without_special(tokenize(metaspace, TEXTS[name]).tokens)
    assert b"".join(content(token) for token in tokens) == b" " + TEXTS[name].encode()


@pytest.mark.parametrize("name", TEXTS)
def test_spans_slice_back_to_the_text(name: str, opt: Path) -> None:
    text = TEXTS[name]
    end = 0
    for token in without_special(tokenize(opt, text).tokens):
        assert token.start is not None
        assert token.end is not None
        covered = text[token.start : token.end]
        if token.text is None:
            assert content(token) in covered.encode(), "a part of a character spans the character"
            assert len(covered) == 1
        else:
            assert covered == token.text
        assert token.start <= end <= token.end, "spans follow one another without gaps"
        end = token.end
    assert end == len(text)


def test_spans_where_a_token_is_not_its_text(wordpiece: Path) -> None:
    text = "The CAFÉs"
    tokens = tokenize(wordpiece, text).tokens
    assert [token.token for token in tokens] == ["the", "cafe", "##s"]
    assert [text[token.start : token.end] for token in tokens] == ["The", "CAFÉ", "s"]


def test_parts_of_a_character_show_their_bytes(opt: Path) -> None:
    tokens = without_special(tokenize(opt, "é😀a").tokens)
    assert [token.bytes for token in tokens] == ["c3", "a9", "f0", "9f", "98", "80", None]
    assert [token.text for token in tokens] == [None] * 6 + ["a"]
    assert [(token.start, token.end) for token in tokens] == [(0, 1)] * 2 + [(1, 2)] * 4 + [(2, 3)]


def test_parts_of_a_character_in_a_metaspace_vocabulary(metaspace: Path) -> None:
    tokens = tokenize(metaspace, "The é").tokens
    assert [token.text for token in tokens] == [" The", " ", None, None]
    assert [token.bytes for token in tokens] == [None, None, "c3", "a9"]


def test_parts_of_a_character_from_a_tokenizer_in_python(slow: Path) -> None:
    tokens = tokenize(slow, "é😀a", special=False).tokens
    assert [token.text for token in tokens] == [None] * 6 + ["a"], "null if it holds part of a character only"


def test_a_tokenizer_in_python_knows_no_spans(slow: Path) -> None:
    found = tokenize(slow, "ab")
    assert [(token.text, token.special) for token in found.tokens] == [("a", False), ("b", False), ("</s>", True)]
    assert {(token.start, token.end, token.bytes) for token in found.tokens} == {(None, None, None)}


@pytest.mark.parametrize("kind", ["opt", "slow", "metaspace"])
def test_a_text_that_yields_no_token(kind: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(InspectError, match=r"^the text '' yields no tokens: give a text with at least one character$"):
        tokenize(request.getfixturevalue(kind), "", special=False)


def test_an_empty_text_with_a_special_token_is_one_token(opt: Path) -> None:
    assert [token.id for token in tokenize(opt, "").tokens] == [2]


def test_a_model_without_a_tokenizer(opt: Path, tmp_path: Path) -> None:
    shutil.copy(opt / "config.json", tmp_path)
    with pytest.raises(SourceError, match="tokenizer"):
        tokenize(tmp_path, "x")


@pytest.mark.parametrize("bundled", [True, False])
def test_truncation_and_padding_set_in_the_file_do_not_act(
    bundled: bool, model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bundled:
        monkeypatch.setattr("txinspect.sources.bundled_models.BUNDLED", model.parent)
    stored = json.loads((model / "tokenizer.json").read_text())
    stored["truncation"] = {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    stored["padding"] = {
        "strategy": {"Fixed": 64},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 1,
        "pad_type_id": 0,
        "pad_token": "<pad>",
    }
    (model / "tokenizer.json").write_text(json.dumps(stored))
    for _ in ("from AutoTokenizer", "from the cache"):
        report = inspect(TokenizeQuery(model=ModelChoice(name="model" if bundled else str(model)), text="0123456789"))
        assert len(report.input.tokens) == 11
    assert cache.exists() != bundled, "a bundled model's tokenizer is read as it lies there"


# --- the cache ---

_TOKENIZE = """
import json, sys
from txinspect.cli.app import app
try:
    app(["tokenize", sys.argv[2], "-m", sys.argv[1], "--json"])
except SystemExit as end:
    assert not end.code, end.code
heavy = sorted({"torch", "transformers", "numpy"} & sys.modules.keys())
print(json.dumps(heavy), file=sys.stderr)
"""


def start_tokenize(folder: Path, text: str) -> subprocess.Popen[bytes]:
    """The command in a process of its own; its stderr lists which heavy packages it imported."""
    command = [sys.executable, "-c", _TOKENIZE, str(folder), text]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finished(process: subprocess.Popen[bytes]) -> tuple[Any, list[str]]:
    """Its report, and the heavy packages it imported."""
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error.decode()
    return json.loads(out), json.loads(error.decode().splitlines()[-1])


def forbid_auto_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the tokenizer was loaded though it is cached")

    monkeypatch.setattr("txinspect.texts.tokenizer.load_tokenizer", refuse)


def test_the_second_call_imports_no_torch(opt: Path, cache: Path) -> None:
    first = tokenize(opt, "naïve 😀")
    report, heavy = finished(start_tokenize(opt, "naïve 😀"))
    assert heavy == []
    assert report["input"]["input_ids"] == first.input_ids
    assert [token["text"] for token in report["input"]["tokens"]] == [token.text for token in first.tokens]


def test_the_second_call_reads_the_cache(opt: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = [tokenize(opt, text) for text in TEXTS.values()]
    forbid_auto_tokenizer(monkeypatch)
    assert [tokenize(opt, text) for text in TEXTS.values()] == first


def _flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def _two_ids_swapped(content: bytes) -> bytes:
    """Still a tokenizer, but another one."""
    swapped = re.sub(rb'"a":(\d+),"b":(\d+)', rb'"a":\2,"b":\1', content)
    assert swapped != content
    return swapped


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "last_byte_lost": lambda content: content[:-1],
    "checksum_only": lambda content: content.partition(b"\n")[0],
    "one_bit_flipped": _flipped,
    "two_ids_swapped": _two_ids_swapped,
    "something_else": lambda _: b"\x00\xffnot a tokenizer\n{}",
    "json_without_checksum": lambda content: content.partition(b"\n")[2],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_file_is_rebuilt(damage: str, opt: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = tokenize(opt, LESSON)
    (file,) = cache.iterdir()
    content = file.read_bytes()
    file.write_bytes(DAMAGES[damage](content))
    assert tokenize(opt, LESSON) == good
    assert [path.name for path in cache.iterdir()] == [file.name]
    forbid_auto_tokenizer(monkeypatch)
    assert tokenize(opt, LESSON) == good


def test_a_folder_in_the_cache_files_place_is_harmless(opt: Path, cache: Path) -> None:
    good = tokenize(opt, LESSON)
    (file,) = cache.iterdir()
    file.unlink()
    file.mkdir()
    assert tokenize(opt, LESSON) == good
    assert [path.name for path in cache.iterdir()] == [file.name], "no temporary file is left"


def test_processes_at_once_on_an_empty_cache(opt: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that meet an empty cache at once, as the commands of a pipeline do."""
    started = [start_tokenize(opt, "naïve 😀") for _ in range(2)]
    reports = [finished(process)[0] for process in started]
    assert all(report == reports[0] for report in reports)
    assert len(list(cache.iterdir())) == 1, "one file, and no temporary one"
    forbid_auto_tokenizer(monkeypatch)
    assert tokenize(opt, "naïve 😀").input_ids == reports[0]["input"]["input_ids"]


_WRITE_AND_READ = """
import sys
from pathlib import Path
from tokenizers import Tokenizer
from txinspect.texts.kept import keep, read_kept
path, source = Path(sys.argv[1]), Tokenizer.from_file(sys.argv[2])
for _ in range(40):
    keep(path, source)
    kept = read_kept(path)
    assert kept is not None and kept.to_str() == source.to_str(), "read while another process wrote"
"""


def test_writers_and_readers_at_once_never_see_half_a_file(opt: Path, tmp_path: Path) -> None:
    file = tmp_path / "cache" / "key.json"
    command = [sys.executable, "-c", _WRITE_AND_READ, str(file), str(opt / "tokenizer.json")]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(4)]
    errors = [process.communicate(timeout=120)[1].decode() for process in started]
    assert errors == [""] * 4
    assert [path.name for path in file.parent.iterdir()] == ["key.json"]


def test_a_cached_file_is_as_readable_as_others(opt: Path, cache: Path, tmp_path: Path) -> None:
    tokenize(opt, LESSON)
    (file,) = cache.iterdir()
    (tmp_path / "other").touch()
    assert file.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_changed_tokenizer_is_not_read_from_the_cache(model: Path, cache: Path) -> None:
    before = tokenize(model, "ab", special=False).input_ids
    stored = json.loads((model / "tokenizer.json").read_text())
    vocabulary = stored["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (model / "tokenizer.json").write_text(json.dumps(stored))
    assert tokenize(model, "ab", special=False).input_ids == [before[0][::-1]]
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "special_tokens_map.json", "merges.txt"])
def test_a_changed_file_beside_the_tokenizer_is_another_key(name: str, model: Path, cache: Path) -> None:
    tokenize(model, LESSON)
    file = model / name
    file.write_text(file.read_text() + "\n" if file.exists() else "{}")
    tokenize(model, LESSON)
    assert len(list(cache.iterdir())) == 2


def test_the_folders_name_and_the_weights_do_not_matter(model: Path, cache: Path, tmp_path: Path) -> None:
    tokenize(model, LESSON)
    shutil.copytree(model, tmp_path / "copy")
    (tmp_path / "copy" / "model.safetensors").write_bytes(b"weights")
    tokenize(tmp_path / "copy", LESSON)
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("below", ["file", "file/deeper/still"])
def test_a_cache_that_cannot_be_written_is_harmless(
    below: str, opt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below a regular file nobody can write, not even root."""
    (tmp_path / "file").write_text("kept")
    monkeypatch.setenv("TXINSPECT_CACHE", str(tmp_path / below))
    wanted = AutoTokenizer.from_pretrained(opt)(LESSON)["input_ids"]
    assert tokenize(opt, LESSON).input_ids == [wanted]
    assert (tmp_path / "file").read_text() == "kept"


def test_a_tokenizer_in_python_is_not_cached(slow: Path, cache: Path) -> None:
    tokenize(slow, LESSON)
    assert not cache.exists()


def test_the_cache_folder_follows_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    from platformdirs import user_cache_path

    from txinspect.guards.cache import cached_at

    monkeypatch.delenv("TXINSPECT_CACHE")
    assert cached_at() == user_cache_path("txinspect")
    monkeypatch.setenv("TXINSPECT_CACHE", os.devnull)
    assert cached_at() == Path(os.devnull)
