"""--texts: a report a line, each what the command by itself says; what cannot be run is a line, too; parts, resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.making.bad_input import Run, sentence, usage
from tests.making.models import save_tiny
from txinspect.cli import many, parts, streams, text_lines
from txinspect.cli.many import TAKE
from txinspect.loading.weights import partial

TEXTS = ["The quick brown fox", "hello world", "The quick brown fox", "a b c d e f g", "hello there"]

ASKED: dict[str, list[str]] = {
    "tokenize": [],
    "embed": [],
    "pos": ["--values"],
    "attn": ["--layer", "all"],
    "run": ["-s", "layers.*.output"],
    "logits": ["-k", "2", "--position", "all"],
    "lens": [],
    "heads": [],
    "diff": ["--against-dtype", "bfloat16"],
    "ablate": ["--with", "zero"],
    "patch": ["--sweep", "attention", "--force"],
    "attribute": [],
    "why": [],
}
"""What is asked about each text."""


def lines(content: str | bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content.splitlines()]


def bare(report: dict[str, Any]) -> dict[str, Any]:
    """A report without what is of its line, of how long it took, and of what it read."""
    return {name: each for name, each in report.items() if name not in ("id", "digest", "loading", "seconds")}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(TEXTS) + "\n")
    return path


def test_the_table_has_every_command_that_takes_many() -> None:
    assert set(ASKED) == set(TAKE)


@pytest.mark.parametrize(
    "command",
    [
        each if each in ("tokenize", "logits") else pytest.param(each, marks=pytest.mark.pairs)
        for each in TAKE
        if each != "patch"
    ],
)
def test_each_report_is_what_the_command_by_itself_says(command: str, file: Path, run_cli: Run) -> None:
    found = run_cli(command, *ASKED[command], "--texts", file)
    assert (found.exit_code, found.stderr) == (0, "")
    reports = lines(found.stdout)
    assert [each["id"] for each in reports] == [1, 2, 3, 4, 5]
    assert reports[0]["digest"] == reports[2]["digest"] != reports[1]["digest"]
    for text, report in zip(TEXTS, reports, strict=True):
        assert bare(report) == bare(json.loads(run_cli(command, text, *ASKED[command], "--json").stdout))


@pytest.mark.pairs
@pytest.mark.parametrize(
    "kind", ["bert", "transformer-mini", *(pytest.param(each, marks=pytest.mark.sweeps) for each in ("t5", "llama"))]
)
@pytest.mark.parametrize("command", ["embed", "attn", "run", "logits", "lens", "heads"])
def test_on_other_models(command: str, kind: str, file: Path, run_cli: Run, tmp_path: Path) -> None:
    tasks: dict[str, Any] = {"bert": "masked-lm", "t5": "seq2seq-lm"}
    model = kind if "mini" in kind else save_tiny(kind, tmp_path / kind, task=tasks.get(kind, "causal-lm"))
    asked = [*ASKED[command], "-m", model, *(["--new", "3"] if kind in ("t5", "transformer-mini") else [])]
    alone = [run_cli(command, text, *asked, "--json") for text in TEXTS]
    found = run_cli(command, *asked, "--texts", file)
    if all(one.exit_code for one in alone):
        assert sentence(found) == alone[0].stderr
        return
    reports = lines(found.stdout)
    assert len(reports) == len(TEXTS)
    for report, one in zip(reports, alone, strict=True):
        if one.exit_code:
            assert report["error"] == one.stderr.strip().removeprefix("txinspect: ")
        else:
            assert bare(report) == bare(json.loads(one.stdout))


def test_weights_are_loaded_once(file: Path, run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[Any] = []
    load = partial.load

    def counted(*given: Any) -> Any:
        loads.append(given)
        return load(*given)

    monkeypatch.setattr(partial, "load", counted)
    assert run_cli("logits", "--texts", file).exit_code == 0
    assert len(loads) == 1


def test_a_record_sets_what_it_names(run_cli: Run, tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    records: list[dict[str, Any]] = [
        {"id": "first", "text": "The quick fox", "target": [" dog"], "top_k": 3},
        {"ids": [2, 5, 7], "position": [0, 1]},
        {"id": 9, "text": "fox", "special": False, "targets": " a"},
        {"text": "The capital of France is", "edit": ["layers.0.output = 0"]},
    ]
    file.write_text("\n\n".join(map(json.dumps, records)))
    alone = [
        ["The quick fox", "--target", " dog", "-k", "3"],
        ["--ids", "2,5,7", "--position", "0,1"],
        ["fox", "--no-special", "--target", " a"],
        ["The capital of France is", "--edit", "layers.0.output = 0"],
    ]
    found = lines(run_cli("logits", "--texts", file, "-k", "5").stdout)
    assert [each["id"] for each in found] == ["first", 3, 9, 7]
    for report, words in zip(found, alone, strict=True):
        top = [] if "-k" in words else ["-k", "5"]
        assert bare(report) == bare(json.loads(run_cli("logits", *words, *top, "--json").stdout))


def test_two_texts_of_a_record(run_cli: Run, tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    clean, corrupt = "The capital of France is", "The capital of Russia is"
    file.write_text(json.dumps({"text": clean, "corrupt": corrupt, "answer": " Paris", "wrong": " Moscow"}))
    (found,) = lines(run_cli("patch", "--texts", file, "--sweep", "attention").stdout)
    words = ["patch", clean, corrupt, "--answer", " Paris", "--wrong", " Moscow", "--sweep", "attention", "--json"]
    assert bare(found) == bare(json.loads(run_cli(*words).stdout))


def test_a_column_of_a_table_and_a_pipe(run_cli: Run, tmp_path: Path) -> None:
    table = tmp_path / "texts.csv"
    table.write_text('id,body,other\na,"hello, world",1\nb,"two\nlines",2\n')
    found = lines(run_cli("tokenize", "--texts", table, "--column", "body").stdout)
    assert [each["id"] for each in found] == ["a", "b"]
    assert bare(found[1]) == bare(json.loads(run_cli("tokenize", "two\nlines", "--json").stdout))
    assert "has no column 'text': give --column, one of ['id', 'body', 'other']" in usage(
        run_cli("tokenize", "--texts", table)
    )
    piped = lines(run_cli("tokenize", "--texts", "-", stdin="hello world\r\nfox").stdout)
    assert [bare(each) for each in piped] == [
        bare(json.loads(run_cli("tokenize", text, "--json").stdout)) for text in ("hello world", "fox")
    ]
    objects = lines(run_cli("tokenize", "--texts", "-", stdin='{"id": 1, "text": "fox"}\n').stdout)
    assert bare(objects[0]) == bare(piped[1])


WRONG: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"nonsense", "line 2 is no JSON: give one object a line"),
    "nested": (b"[" * 100_000, "line 2 is no JSON"),
    "a list": (b"[1]", "line 2 is no object of JSON: [1]"),
    "bytes": (b'{"text": "\xff"}', "line 2 is not UTF-8 (byte 0xff)"),
    "a field": (b'{"text": "a", "tpo_k": 3}', "'tpo_k' is no field of this question: did you mean 'top_k'?"),
    "a value": (b'{"text": "a", "top_k": "3"}', "--top-k '3' is not a whole number"),
    "no text": (b'{"id": 1}', "there is no text: give a text, ids or messages"),
    "a number": (b'{"text": 5}', "TEXT 5 is not a string"),
    "an empty one": (b'{"text": "", "special": false}', "the text '' yields no tokens"),
    "beyond the words": (b'{"text": "a", "top_k": 99999}', "--top-k 99999 is more than the vocabulary has"),
    "a file to write": (b'{"text": "a", "save": "x.npz"}', "'save' is no field of this question"),
    "two texts": (b'{"text": "a", "ids": [1], "pair": "b"}', "cannot be combined"),
    "no template": (b'{"messages": [{"role": "user", "content": "a"}]}', "has no chat template"),
}
"""Lines that cannot be run, and what is said of each."""


@pytest.mark.parametrize("kind", WRONG)
def test_a_text_that_cannot_be_run_is_a_line_too(kind: str, run_cli: Run, tmp_path: Path) -> None:
    line, says = WRONG[kind]
    file = tmp_path / "texts.jsonl"
    file.write_bytes(b'{"text": "before"}\n' + line + b'\n{"text": "after"}\n')
    found = run_cli("logits", "--texts", file)
    before, wrong, after = lines(found.stdout)
    assert says in wrong["error"]
    assert wrong["exit_code"] in (1, 2)
    assert (before["input"]["text"], after["input"]["text"]) == ("before", "after")
    assert found.exit_code == 3
    assert found.stderr == "txinspect: 1 of 3 texts were not answered as asked: each says why\n"


def test_a_line_without_end(run_cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_lines, "MOST_BYTES", 20)
    file = tmp_path / "texts.txt"
    file.write_text("short\n" + "long " * 5 + "\nshort\n")
    found = lines(run_cli("tokenize", "--texts", file).stdout)
    assert "line 2 holds more than 20 B" in found[1]["error"]
    assert found[-1]["input"] == found[0]["input"]


def test_how_far_it_is_is_told_once_the_model_is_there(
    file: Path, run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    progress = streams.Told(lambda doing: told.append(doing), lambda *how_far: told.append(how_far))
    monkeypatch.setattr(streams, "progress", lambda _: nullcontext(progress))
    assert run_cli("logits", "--texts", file).exit_code == 0
    first = next(place for place, each in enumerate(told) if not isinstance(each, str))
    assert any(each.startswith("loading ") for each in told[:first])
    # The same words each time: a bar is shown once it has gone on for a moment under one name.
    assert told[first:] == [("answering texts", done, 5) for done in range(1, 6)]
    told.clear()
    assert run_cli("logits", "--texts", "-", stdin="one\ntwo\n").exit_code == 0
    assert told[-2:] == ["answered 1 texts", "answered 2 texts"]


@pytest.mark.parametrize(("content", "count"), [("", 0), ("a", 1), ("a\n", 1), ("a\nb", 2), ("a\n\n", 2)])
def test_lines_are_counted(content: str, count: int, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(content)
    assert text_lines.TextLines(str(tmp_path / "a.txt")).count() == count


def test_a_part_is_written_once_it_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MOST_BYTES", 10)
    with parts.Parts(tmp_path / "out", {}) as folder:
        for line in (b"12345\n", b"123456\n", b"1\n"):
            folder.add(line)
    written = [each.read_bytes() for each in sorted((tmp_path / "out").glob("reports-*"))]
    assert written == [b"12345\n123456\n", b"1\n"]


def test_a_check_that_does_not_hold_is_counted(file: Path, run_cli: Run) -> None:
    found = run_cli("diff", "--against-dtype", "bfloat16", "--fail-on", "kl_mean>0", "--texts", file)
    assert found.exit_code == 3
    assert all(each["checks"] for each in lines(found.stdout))


TOGETHER: dict[str, tuple[list[str], str]] = {
    "a text": (["hello", "--texts", "{file}"], "a text and --texts cannot be combined"),
    "a file": (["--file", "{file}", "--texts", "{file}"], "--file and --texts cannot be combined"),
    "ids": (["--ids", "1,2", "--texts", "{file}"], "--ids and --texts cannot be combined"),
    "a message": (["--chat", "--user", "a", "--texts", "{file}"], "--user and --texts cannot be combined"),
    "save": (["--save", "x.npz", "--texts", "{file}"], "--save and --texts cannot be combined: --out DIR"),
    "a picture": (["--picture", "x.svg", "--texts", "{file}"], "--picture and --texts cannot be combined"),
    "rows": (["--csv", "x.csv", "--texts", "{file}"], "--csv and --texts cannot be combined"),
    "a page": (["--html", "x.html", "--texts", "{file}"], "--html and --texts cannot be combined"),
    "a legend": (["--legend", "--texts", "{file}"], "--legend and --texts cannot be combined"),
    "a plan": (["--dry-run", "--texts", "{file}"], "--dry-run and --texts cannot be combined"),
    "a table": (["--table", "--texts", "{file}"], "--table and --texts cannot be combined"),
    "a column": (["--column", "a", "--texts", "{file}"], "--column is of a .csv"),
    "a column alone": (["--column", "a"], "--column is about many texts: add --texts FILE"),
    "a folder alone": (["--out", "x"], "--out is about many texts: add --texts FILE"),
    "resume alone": (["--resume", "--texts", "{file}"], "--resume goes on in a folder: add --out DIR"),
    "another ending": (["--texts", "x.parquet"], "--texts 'x.parquet' is not a name that ends in .txt, .jsonl, .csv"),
}
"""Options that meet --texts, and what is said of them."""


@pytest.mark.parametrize("kind", TOGETHER)
def test_what_many_texts_cannot_be_asked_with(kind: str, file: Path, run_cli: Run) -> None:
    words, says = TOGETHER[kind]
    assert says in usage(run_cli("logits", *(word.format(file=file) for word in words)))


def test_what_is_wrong_for_all_is_one_sentence(file: Path, run_cli: Run) -> None:
    assert "no-such/model" in sentence(run_cli("logits", "-m", "no-such/model", "--texts", file))
    assert "layer 99 is out of range" in sentence(run_cli("run", "-s", "layers.99.output", "--texts", file))
    assert "layers.0.outputs" in sentence(run_cli("run", "-s", "layers.0.outputs", "--texts", file))
    assert "--top-k 0" in usage(run_cli("logits", "-k", "0", "--texts", file))
    assert "x.txt cannot be read: No such file or directory" in sentence(run_cli("logits", "--texts", "x.txt"))


def test_stages_are_named_where_many_texts_are_run(file: Path, run_cli: Run) -> None:
    assert "run --texts runs nothing without --stage: add it" in usage(run_cli("run", "--texts", file))


def test_a_mark_of_the_order_of_bytes_is_no_text(run_cli: Run, tmp_path: Path) -> None:
    for name, content in (("a.txt", "fox\n"), ("a.jsonl", '{"text": "fox"}'), ("a.csv", "text\nfox\n")):
        (tmp_path / name).write_text(content, encoding="utf-8-sig")
        (found,) = lines(run_cli("tokenize", "--texts", tmp_path / name).stdout)
        assert found["input"]["text"] == "fox"


@pytest.mark.processes
def test_a_named_pipe_is_read_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.txt"
    os.mkfifo(pipe)
    words = [sys.executable, "-m", "txinspect", "tokenize", "--no-serve", "--texts", str(pipe)]
    run = subprocess.Popen(words, stdout=subprocess.PIPE)
    pipe.write_text("one\ntwo\n")
    out, _ = run.communicate(timeout=60)
    assert [each["input"]["text"] for each in lines(out)] == ["one", "two"]


def test_commands_of_no_text_or_one_have_no_such_option(run_cli: Run) -> None:
    for command in ("tree", "lesson", "page", "steer", "plan"):
        assert run_cli(command, "--texts", "x.txt").exit_code == 2


# A folder of reports


def parts_of(folder: Path) -> list[dict[str, Any]]:
    return [line for part in sorted(folder.glob("reports-*.jsonl")) for line in lines(part.read_text())]


def test_a_folder_is_filled_and_gone_on_with(
    file: Path, run_cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "folder"
    asked = ["logits", "-k", "2", "--texts", file]
    monkeypatch.setattr(parts, "MOST_REPORTS", 2)
    assert run_cli(*asked, "--out", whole).stdout == ""
    assert sorted(each.name for each in whole.iterdir()) == [
        "asked.json",
        *(f"reports-0000{n}.jsonl" for n in (1, 2, 3)),
    ]
    stdout = lines(run_cli(*asked).stdout)
    assert list(map(bare, parts_of(whole))) == list(map(bare, stdout))

    find = many._found
    seen: list[Any] = []

    def stopped(*given: Any) -> Any:
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(given)
        return find(*given)

    monkeypatch.setattr(many, "_found", stopped)
    run_cli(*asked, "--out", folder)
    monkeypatch.setattr(many, "_found", find)
    assert len(parts_of(folder)) == 3  # what was computed is written
    assert "add --resume to go on" in usage(run_cli(*asked, "--out", folder))
    last = sorted(folder.glob("reports-*"))[-1]
    last.unlink()

    def counted(*given: Any) -> Any:
        seen.append(given)
        return find(*given)

    monkeypatch.setattr(many, "_found", counted)
    assert run_cli(*asked, "--out", folder, "--resume").exit_code == 0
    assert len(seen) == 3 + 3
    assert sorted(map(json.dumps, map(bare, parts_of(folder)))) == sorted(map(json.dumps, map(bare, stdout)))
    assert sorted(each["id"] for each in parts_of(folder)) == [1, 2, 3, 4, 5]
    assert run_cli(*asked, "--out", folder, "--resume").exit_code == 0
    assert len(seen) == 6


def test_texts_that_are_new_or_moved_are_told_by_what_they_say(run_cli: Run, tmp_path: Path) -> None:
    file, folder = tmp_path / "texts.jsonl", tmp_path / "folder"
    file.write_text('{"id": "a", "text": "one"}\n{"id": "b", "text": "two"}\n')
    assert run_cli("tokenize", "--texts", file, "--out", folder).exit_code == 0
    file.write_text('{"id": "c", "text": "new"}\n{"id": "b", "text": "two"}\n{"id": "a", "text": "another one"}\n')
    assert run_cli("tokenize", "--texts", file, "--out", folder, "--resume").exit_code == 0
    assert [each["id"] for each in parts_of(folder)] == ["a", "b", "c", "a"]


def test_a_folder_that_is_not_one_of_these_reports(file: Path, run_cli: Run, tmp_path: Path) -> None:
    own, folder = tmp_path / "own", tmp_path / "folder"
    own.mkdir()
    (own / "letter.txt").write_text("dear")
    assert "holds 'letter.txt': give a new folder" in usage(run_cli("tokenize", "--texts", file, "--out", own))
    assert run_cli("tokenize", "--texts", file, "--out", folder).exit_code == 0
    other = run_cli("tokenize", "--no-special", "--texts", file, "--out", folder, "--resume")
    assert "was begun by another question, or another version" in usage(other)
    (folder / "reports-00001.jsonl").write_text('{"id": 1')
    assert "reports-00001.jsonl is damaged: remove it" in sentence(
        run_cli("tokenize", "--texts", file, "--out", folder, "--resume")
    )
    (folder / "asked.json").write_text("{")
    assert "asked.json is damaged" in sentence(run_cli("tokenize", "--texts", file, "--out", folder, "--resume"))
    assert "cannot be written" in sentence(run_cli("tokenize", "--texts", file, "--out", file / "x"))


@pytest.mark.processes
def test_a_killed_run_is_gone_on_with_and_nothing_is_twice(tmp_path: Path) -> None:
    file, folder = tmp_path / "texts.txt", tmp_path / "folder"
    file.write_text("".join(f"text number {number}\n" for number in range(200)))
    few = "from txinspect.cli import parts; parts.MOST_REPORTS = 8; from txinspect.__main__ import main; main()"
    asked = ["logits", "-k", "1", "--texts", str(file), "--out", str(folder), "--no-serve"]
    words = [sys.executable, "-c", few, *asked]
    for number in (signal.SIGKILL, signal.SIGTERM):
        before = len(list(folder.glob("reports-*")))
        run = subprocess.Popen([*words, *(["--resume"] if before else [])], stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while len(list(folder.glob("reports-*"))) < before + 3:
            assert time.monotonic() < until
            time.sleep(0.05)
        run.send_signal(number)
        run.wait(20)
    there = len(parts_of(folder))
    assert 0 < there < 200
    assert subprocess.run([*words, "--resume"]).returncode == 0
    assert sorted(each["id"] for each in parts_of(folder)) == list(range(1, 201))
    assert not [each for each in folder.iterdir() if each.name.startswith(".") and each.stat().st_size]


@pytest.mark.processes
def test_a_pipe_that_is_closed_ends_it(tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("text\n" * 2000)
    words = f"{sys.executable} -m txinspect tokenize --no-serve --texts {file} | head -1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {words}"], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(lines(done.stdout)) == 1
