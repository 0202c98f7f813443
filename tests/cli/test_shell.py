"""The shell: lines in place of command lines on a model that stays, with the bytes and exit codes of these."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from tests.making.models import save_tiny
from txinspect.cli import starting
from txinspect.cli.app import app
from txinspect.cli.asking import About, filled
from txinspect.cli.line import Line, begun, unquoted
from txinspect.cli.prompting import completions, prompting
from txinspect.loading.weights import partial
from txinspect.model_choice import ModelChoice
from txinspect.serving.held import Held, history

Run = Callable[..., Result]
Talk = Callable[..., Result]


@pytest.fixture
def talk(run_cli: Run) -> Talk:
    """What the shell says to lines that are piped in: talk("tree", "attn --layer 0", options=["-m", folder])."""

    def said(*lines: str, options: list[str] | None = None) -> Result:
        script = "".join(f"{line}\n" for line in lines)
        return CliRunner().invoke(app, ["shell", *(options or [])], input=script, obj={"run": starting.run})

    return said


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often weights are loaded."""
    made: Counter[str] = Counter()

    def load(*given: Any, original: Any = partial.load) -> Any:
        made["load"] += 1
        return original(*given)

    monkeypatch.setattr(partial, "load", load)
    return made


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("bert", tmp_path_factory.mktemp("bert") / "bert")


def sentence(said: str) -> str:
    """The one sentence that stands on stderr."""
    (line,) = said.splitlines()
    assert line.startswith("txinspect: ")
    return line.removeprefix("txinspect: ")


# The bytes of the ordinary command line

LINES: dict[str, tuple[str, ...]] = {
    "opt-mini": (
        "tokenize 'The old fox'",
        "attn 'The old fox' --layer 0 --json",
        "logits -k 3",
        "lens --layer 1 --json",
        "run --stage 'layers.*.output' --json",
        "attn --layer 9",
        "attn --leyer 0",
        "ablate --with mean --json",
        "embed --dtype float32 --json",
        "logits 'The old fox' --edit 'layers.0.output * 1' --json",
        "tree",
        "attn 'The old fox' --layer 0 --json",
    ),
    "bert": ("attn 'a b c' --layer 0 --json", "logits 'a b c' --json", "embed 'a b c'", "stages"),
    "transformer-mini": (
        "attn --cross --layer 1 --json",
        "logits 'The old fox' --decoder 'la vulpo'",
        "diagram",
        "attn --encoder --layer 0 --json",
    ),
}


def words_of(line: str, model: str) -> list[str]:
    return [*Line.read(line).words, "-m", model]


@pytest.mark.parametrize("model", LINES)
def test_a_line_prints_what_its_command_does(model: str, talk: Talk, run_cli: Run, bert: Path) -> None:
    name = str(bert) if model == "bert" else model
    alone = [run_cli(*words_of(line, name)) for line in LINES[model]]
    said = talk(*LINES[model], options=["-m", name])
    assert said.stdout == "".join(each.stdout for each in alone)
    assert said.stderr == "".join(each.stderr for each in alone)
    assert said.exit_code == ([0] + [each.exit_code for each in alone if each.exit_code])[-1]


def test_a_text_is_filled_in_where_a_line_names_none(talk: Talk, run_cli: Run) -> None:
    said = talk(
        "text 'a quick fox'", "text", "logits --json", "tokenize other", "tokenize --ids 2,5", "tokenize --json"
    )
    alone = [
        *(run_cli("logits", "a quick fox", "--json"), run_cli("tokenize", "other")),
        *(run_cli("tokenize", "--ids", "2,5"), run_cli("tokenize", "a quick fox", "--json")),
    ]
    assert said.stdout == "a quick fox\n" + "".join(each.stdout for each in alone)
    assert said.exit_code == 0


@pytest.mark.parametrize(
    ("line", "whole"),
    [
        ("attn --layer 0", "attn --layer 0 -m M -- T"),
        ("attn x", "attn x -m M"),
        ("attn -- x", "attn -m M -- x"),
        ("attn --layer 0 --", "attn --layer 0 -m M -- T"),
        ("attn -m other", "attn -m other -- T"),
        ("attn --model=other x", "attn --model=other x"),
        ("attn --file f", "attn --file f -m M"),
        ("attn --user hi --chat", "attn --user hi --chat -m M"),
        ("tree", "tree -m M"),
        ("tree other", "tree other"),
        ("tree -m other", "tree -m other"),
        ("patch", "patch -m M -- T"),
        ("steer try --vector v", "steer try --vector v -m M -- T"),
        ("steer", "steer -m M"),
        ("steer make --toward a", "steer make --toward a -m M"),
        ("env", "env"),
        ("models", "models"),
        ("schema attn", "schema attn"),
        ("--json attn", "--json attn -m M -- T"),
        ("--version", "--version"),
        ("nosuch", "nosuch"),
        ("attn --dtype float32 --dtype half", "attn --dtype float32 --dtype half"),
    ],
)
def test_what_is_filled_in(line: str, whole: str) -> None:
    from typer.main import get_command

    assert filled(get_command(app), line.split(), About("M", "T")) == whole.split()


def test_a_model_is_trusted_for_itself_alone() -> None:
    from typer.main import get_command

    group = get_command(app)
    about = About("M", None, "M")
    assert "--trust-remote-code" in filled(group, ["tree"], about)
    assert "--trust-remote-code" in filled(group, ["diff", "--against-attn", "eager"], about)
    assert "--trust-remote-code" not in filled(group, ["diff", "--against", "other"], about)
    assert "--trust-remote-code" not in filled(group, ["tree", "other"], about)
    assert "--trust-remote-code" not in filled(group, ["attn", "-m", "other"], about)
    assert "--trust-remote-code" not in filled(group, ["tree"], About("N", None, "M"))
    assert filled(group, ["tree", "--trust-remote-code"], about) == ["tree", "--trust-remote-code", "-m", "M"]


def test_a_model_s_own_code_runs_for_it_alone(
    talk: Talk, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    config = json.loads((model / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "mine.Mine"}
    (model / "config.json").write_text(json.dumps(config))
    code = "from transformers import OPTForCausalLM\n\n\nclass Mine(OPTForCausalLM):\n    pass\n"
    (model / "mine.py").write_text(code)
    shutil.copytree(model, tmp_path / "other")
    lines = ("tree --json", "tree -m ./other --json", "model ./other", "tree --json", "model ./model", "tree --json")
    said = talk(*lines, options=["-m", "./model", "--trust-remote-code"])
    assert said.exit_code == 0, said.stderr
    found = [json.loads(line)["model"]["class"] for line in said.stdout.splitlines()]
    assert found == ["Mine", "OPTForCausalLM", "OPTForCausalLM", "Mine"]


# What stays


def test_a_second_question_loads_nothing(talk: Talk, loads: Counter[str]) -> None:
    assert talk("attn --layer 0", "logits", "lens", "attn other --layer 3").exit_code == 0
    assert loads["load"] == 1


def test_a_changed_file_is_seen(talk: Talk, run_cli: Run, model: Path, loads: Counter[str]) -> None:
    weights = model / "model.safetensors"
    changed = {name: each + 0.25 for name, each in load_file(weights).items()}
    other = model.parent / "other.safetensors"
    save_file(changed, other, metadata={"format": "pt"})
    before = run_cli("logits", "a b", "-m", "./model", "--json").stdout
    said = talk("logits 'a b' --json", f"!mv {other} {weights}", "logits 'a b' --json", options=["-m", "./model"])
    after = run_cli("logits", "a b", "-m", "./model", "--json").stdout
    assert before != after
    assert said.stdout == before + after
    assert loads["load"] == 4


def test_another_model_on_a_line_is_for_that_line(talk: Talk, run_cli: Run) -> None:
    said = talk("tree -m transformer-mini", "model", "tree", "model transformer-mini", "model", "tree")
    mini, other = run_cli("tree").stdout, run_cli("tree", "transformer-mini").stdout
    assert said.stdout == f"{other}opt-mini\n{mini}transformer-mini\n{other}"


def test_a_model_that_cannot_be_loaded_leaves_the_old_one(talk: Talk, run_cli: Run) -> None:
    said = talk("model ./none", "model", "tree")
    assert said.stdout == "opt-mini\n" + run_cli("tree").stdout
    assert sentence(said.stderr).startswith("there is no file or directory './none'")
    assert said.exit_code == 1


def test_a_model_that_is_not_there_at_the_start_is_one_sentence(talk: Talk) -> None:
    said = talk("tree", options=["-m", "./none"])
    assert (said.exit_code, said.stdout) == (1, "")
    assert "there is no file or directory './none'" in sentence(said.stderr)


def test_nothing_of_a_question_outlives_it(talk: Talk, run_cli: Run) -> None:
    dtype, threads, folder, variables = torch.get_default_dtype(), torch.get_num_threads(), Path.cwd(), dict(os.environ)
    said = talk("logits --json --dtype bfloat16", "logits --8bit", "logits --json", "--color always tree", "tree")
    assert said.stdout.endswith(run_cli("tree").stdout)
    assert run_cli("logits", "--json").stdout in said.stdout
    assert dtype == torch.get_default_dtype()
    assert threads == torch.get_num_threads()
    assert (folder, variables) == (Path.cwd(), dict(os.environ))


def test_what_libraries_were_told_in_a_question_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held()
    drawn = []
    for _ in range(2):
        with held.asked():
            drawn.append(torch.rand(3).tolist())
            torch.set_default_dtype(torch.float64)
            torch.set_grad_enabled(False)
        assert torch.get_default_dtype() == torch.float32
        assert torch.is_grad_enabled()
    assert drawn[0] == drawn[1]


def test_two_ways_to_load_the_model_stay_and_no_other_model(loads: Counter[str]) -> None:
    held = Held()
    held.take(ModelChoice(), lambda _: None, None)
    assert [each.name for each in held._session.choices] == ["opt-mini"]
    for choice in (ModelChoice(dtype="float32"), ModelChoice(dtype="bfloat16"), ModelChoice(name="transformer-mini")):
        with held.asked():
            held._session.model(choice).subject()
    assert held._session.choices == [ModelChoice(), ModelChoice(dtype="bfloat16")]
    held.interrupted()
    assert held._session.choices == []


# The last report again


def test_the_last_report_is_drawn_again_without_a_pass(
    talk: Talk, run_cli: Run, loads: Counter[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from txinspect.answers import attn

    asked: list[Any] = []

    def answer(query: Any, session: Any, original: Any = attn.answer) -> Any:
        asked.append(query)
        return original(query, session)

    monkeypatch.setattr(attn, "answer", answer)
    rows, picture = tmp_path / "rows.csv", tmp_path / "map.svg"
    said = talk(
        *("attn --layer 0 --json", "_", "_ --json", f"_ --csv {rows}", f"_ --picture {picture} --json", "_ --table"),
        "_",
    )
    assert len(asked) == 1
    drawn, plain, table = (run_cli("attn", "--layer", "0", *more).stdout for more in ([], ["--json"], ["--table"]))
    assert said.stdout.startswith(plain + drawn + plain)
    assert said.stdout.endswith(plain + table + drawn)
    alone = tmp_path / "alone.csv"
    run_cli("attn", "--layer", "0", "--csv", alone)
    assert rows.read_bytes() == alone.read_bytes()
    assert picture.read_text().startswith("<svg")
    assert said.exit_code == 0


def test_a_page_of_the_last_report_has_its_attention(talk: Talk, run_cli: Run, tmp_path: Path) -> None:
    page, alone = tmp_path / "page.html", tmp_path / "alone.html"
    assert talk("attn --layer 0", f"_ --html {page}").exit_code == 0
    run_cli("attn", "--html", alone, "--layer", "0", "-m", "opt-mini")
    assert page.read_text().replace(str(page), str(alone)) == alone.read_text()


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["_"], "there is no report yet"),
        (["logits", "_ -k 9"], "_ draws the last report again, and this asks for another one"),
        (["attn --layer 0", "_ --layer 1"], "_ draws the last report again, and this asks for another one"),
        (["attn --layer 0", "_ --jsno"], "no such option: --jsno"),
    ],
)
def test_what_is_no_drawing_of_the_last_report(lines: list[str], said: str, talk: Talk) -> None:
    result = talk(*lines)
    assert result.exit_code == 2
    assert said in sentence(result.stderr)


def test_what_fails_leaves_the_last_report(talk: Talk, run_cli: Run) -> None:
    said = talk("tree", "attn --layer 9", "env > /dev/null", "_")
    assert said.stdout == 2 * run_cli("tree").stdout


# Pipes, files, the system's shell


def test_lines_are_handed_on(talk: Talk, run_cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = talk(
        *(
            "tree --json | cat > whole.json",
            "stages > stages.txt",
            "stages >> 'stages.txt'",
            "!echo hi > hi",
            "text > t",
        ),
        "stages | head -n 1 > first",
    )
    assert (said.exit_code, said.stdout, said.stderr) == (0, "", "")
    assert Path("whole.json").read_text() == run_cli("tree", "--json").stdout
    stages = run_cli("stages").stdout
    assert Path("stages.txt").read_text() == 2 * stages
    assert Path("first").read_text() == stages.splitlines(keepends=True)[0]
    assert Path("hi").read_text() == "hi\n"
    assert Path("t").read_text().startswith("The quick brown fox")


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("text 'open", 2, "a quote is open at the end of the line"),
        ("text open\\", 2, "nothing stands after the last \\"),
        ("| head", 2, "nothing stands before |"),
        ("tree |", 2, "nothing stands after |"),
        ("tree >", 2, "one file's name stands after >"),
        ("tree > a b", 2, "one file's name stands after >"),
        ("tree > a | b", 2, "one file's name stands after >"),
        ("tree 2> a", 2, "2> is not known here"),
        ("tree > none/a", 1, "'none/a' cannot be written: No such file or directory"),
        ("nosuch", 2, "no such command 'nosuch'"),
        ("shell", 2, "shell stays by itself"),
        ("serve --status", 2, "serve stays by itself"),
        ("text two words", 2, "text takes one word and got 2: put quotes around it"),
        ("attn --layer 9 | cat", 1, "layer 9 is out of range"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_the_shell_goes_on(
    line: str, code: int, said: str, talk: Talk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = talk(line, "model")
    assert (result.exit_code, result.stdout) == (code, "opt-mini\n")
    assert said in sentence(result.stderr)


def test_exit_codes(talk: Talk) -> None:
    assert talk("!exit 3", "model").exit_code == 3
    assert talk("model | nosuch-command-of-nobody", "model").exit_code == 127
    assert talk("attn --layer 9", "attn --leyer 9", "model").exit_code == 2
    assert talk("attn --layer 9", "exit", "attn --leyer 9").exit_code == 1
    assert talk("# attn --layer 9", "", "quit", "nosuch").exit_code == 0
    assert talk("model # and a remark", "txinspect model").stdout == "opt-mini\n" * 2


def test_our_own_failure_is_one_sentence_and_the_shell_goes_on(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    from txinspect.cli import shell

    monkeypatch.setattr(shell, "filled", lambda *_: 1 / 0)
    said = talk("tree", "model")
    assert (said.exit_code, said.stdout) == (1, "opt-mini\n")
    assert "unexpected ZeroDivisionError" in sentence(said.stderr)


def test_an_interrupt_ends_the_question_alone(talk: Talk, monkeypatch: pytest.MonkeyPatch, loads: Counter[str]) -> None:
    from txinspect.answers import attn

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(attn, "answer", interrupted)
    said = talk("logits > /dev/null", "attn --layer 0", "model", "logits > /dev/null")
    assert (said.exit_code, said.stdout) == (130, "opt-mini\n")
    assert loads["load"] == 2  # what the interrupt may have left half done is read again


def test_help(talk: Talk, run_cli: Run) -> None:
    said = talk("help", "?", "help attn", "attn -h")
    ordinary = run_cli("help", "attn").stdout + run_cli("attn", "-h").stdout
    ordinary = ordinary.replace("Usage: root", "Usage: txinspect")  # the test runner's name for the program
    own = said.stdout.removesuffix(ordinary)
    assert "attn" in own
    assert all(len(line) <= 80 for line in own.splitlines())
    assert len(own.splitlines()) // 2 < 22
    assert own + ordinary == said.stdout
    assert own != said.stdout


def test_bytes_that_are_no_text_and_a_text_that_looks_like_an_option(talk: Talk, run_cli: Run) -> None:
    said = talk("text -- ", "text '--layer'", "tokenize")
    assert run_cli("tokenize", "--", "--layer").stdout in said.stdout
    result = CliRunner().invoke(app, ["shell"], input=b"tokenize \xff\nmodel\n", obj={"run": starting.run})
    assert (result.exit_code, result.stdout) == (1, "opt-mini\n")
    assert "TEXT is not UTF-8" in sentence(result.stderr)


# At a terminal


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> Any:
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        yield pipe


@pytest.fixture(scope="module")
def held() -> Held:
    made = Held()
    made.take(ModelChoice(), lambda _: None, None)
    return made


@pytest.fixture(scope="module")
def group() -> Any:
    from typer.main import get_command

    return get_command(app)


def test_lines_are_typed_remembered_and_completed(
    keys: PipeInput, group: Any, held: Held, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TXINSPECT_CACHE", str(tmp_path / "cache"))
    ask = prompting(group, lambda: About("opt-mini"), held)
    keys.send_text("tokenizex\x7fhello\n")
    assert ask("> ") == "tokenizehello"
    keys.send_text("\x1b[A\n")
    assert ask("> ") == "tokenizehello"
    keys.send_text("\x03")
    with pytest.raises(KeyboardInterrupt):
        ask("> ")
    keys.send_text("\x04")
    with pytest.raises(EOFError):
        ask("> ")
    path = history()
    assert path is not None
    assert path.is_relative_to(tmp_path)
    assert "tokenizehello" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("typed", "some"),
    [
        ("", ["attn", "text", "model", "_", "help", "exit", "tree"]),
        (" att", ["attn", "attribute"][:1]),
        ("attn --lay", ["--layer"]),
        ("attn --dtype b", ["bfloat16"]),
        ("attn --dtype=b", ["bfloat16"]),
        ("run --stage layers.3.o", ["layers.3.output"]),
        ("run 'a b' --stage layers.3.o", ["layers.3.output"]),
        ("run -m transformer-mini --stage decoder.layers.1.cr", ["decoder.layers.1.cross.output"][:0]),
        ("tree tr", ["transformer-mini"]),
        ("attn -m tr", ["transformer-mini"]),
        ("model tr", ["transformer-mini"]),
        ("help tut", ["tutorial"]),
        ("logits --target ", ["' fox'"]),
        ("logits --target ' f", ["' fox'"]),
        ("tokenize --mask f", ["fox"]),
        ("attn --query 1", ["1", "10"][:1]),
    ],
)
def test_what_is_completed(typed: str, some: list[str], group: Any, held: Held) -> None:
    found = [each.text for each in completions(group, About("opt-mini"), held, typed)]
    assert {*some} <= {*found}, found
    begins = unquoted(begun(typed)[1].rpartition("=")[2]).strip()
    assert all(unquoted(each).strip().startswith(begins) for each in found)


def test_what_does_not_stay_in_a_shell_is_not_completed(group: Any, held: Held) -> None:
    found = [each.text for each in completions(group, About("opt-mini"), held, "")]
    assert not {"shell", "serve"} & {*found}
    assert len(found) == len({*found})


def test_files_are_completed(group: Any, held: Held, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a file.txt").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x.txt").touch()

    def found(typed: str) -> list[str]:
        return [each.text for each in completions(group, About("opt-mini"), held, typed)]

    assert found("tokenize --file a") == ["'a file.txt'"]
    assert found("tokenize --file 'a f") == ["'a file.txt'"]
    assert found("tokenize --file fo") == ["folder/"]
    assert found("tokenize --file folder/") == ["folder/x.txt"]
    assert found("tree > fold") == ["folder/"]
    assert found("!cat folder/x") == ["folder/x.txt"]
    assert found("tokenize 'open a f") == []


def test_tokens_are_of_the_text_that_is_asked_about(group: Any, held: Held) -> None:
    found = list(completions(group, About("opt-mini", "The old cow"), held, "attn --query "))
    assert [each.text for each in found] == ["0", "1", "2", "3", "4"]
    assert [each.display_meta_text for each in found][1:3] == ["'The'", "' old'"]


def test_what_torch_draws_is_what_a_new_process_draws() -> None:
    held = Held()
    wanted = torch.rand(3)  # after the state that the shell began with
    before = torch.get_rng_state()
    for _ in range(2):
        with held.asked():
            assert torch.equal(torch.rand(3), wanted)
    assert torch.equal(torch.get_rng_state(), before)
