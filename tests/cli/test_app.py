"""The contract of the command line: help, exit codes, JSON, progress, pipes, signals, a full disk."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

import txinspect
from txinspect.commands import NAMES as REPORTS

COMMANDS = (*REPORTS, "env", "schema", "serve", "shell", "mcp", "help")
ASKED: dict[str, tuple[str, ...]] = {
    "tokenize": ("naïve 😀 [/INST]", "-m", "{model}"),
    "tree": ("{model}",),
    "stages": ("{model}",),
    "diagram": ("{model}",),
    "models": (),
    "params": ("{model}",),
    "embed": ("naïve 😀 [/INST]", "-m", "{model}"),
    "pos": ("naïve 😀 [/INST]", "-m", "{model}"),
    "attn": ("naïve 😀 [/INST]", "-m", "{model}", "--layer", "1"),
    "run": ("naïve 😀 [/INST]", "-m", "{model}", "--stage", "**"),
    "logits": ("naïve 😀 [/INST]", "-m", "{model}", "--position", "all", "--top-k", "2"),
    "lens": ("naïve 😀 [/INST]", "-m", "{model}"),
    "heads": ("naïve 😀 [/INST]", "-m", "{model}"),
    "diff": ("naïve 😀 [/INST]", "-m", "{model}", "--against-dtype", "bfloat16"),
    "ablate": ("naïve 😀 [/INST]", "-m", "{model}", "--with", "mean"),
    "patch": ("naïve 😀 [/INST]", "-m", "{model}", "--subject", "naïve", "--force"),
    "attribute": ("naïve 😀 [/INST]", "-m", "{model}"),
    "why": ("naïve 😀 [/INST]", "-m", "{model}"),
    "steer": ("make", "-m", "{model}", "--toward", "naïve 😀 [/INST]", "--away", "x", "--layer", "0"),
    "page": ("naïve 😀 [/INST]", "-m", "{model}"),
    "lesson": ("naïve 😀 [/INST]", "-m", "{model}"),
    "plan": ("naïve 😀 [/INST]", "-m", "{model}"),
}
"""A good use of every command that reports."""

Run = Callable[..., Result]
Process = Callable[..., subprocess.CompletedProcess[bytes]]


def asked(command: str, model: object) -> list[str]:
    """The command line of a good use."""
    return [command, *(part.format(model=model) for part in ASKED[command])]


# Help


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")


def examples(run_cli: Run, command: str) -> list[str]:
    """The examples in a command's help."""
    shown = run_cli(command, "--help").stdout.partition("Examples:")[2]
    return [line.strip()[2:] for line in shown.splitlines() if line.strip().startswith("$ ")]


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command: str, option: str, run_cli: Run, wide: None) -> None:
    result = run_cli(command, option)
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"{command} [OPTIONS]" in result.stdout
    assert any(f"txinspect {command}" in example for example in examples(run_cli, command))


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_stand_indented_between_the_sentence_and_the_options(command: str, run_cli: Run, wide: None) -> None:
    shown = run_cli(command, "--help").stdout
    first = "Options\n" if "\nOptions\n" in shown else "Output\n"
    said, _, rest = shown.partition(first)
    usage, blank, sentence, _, title, *lines = said.splitlines()
    assert re.match(rf"Usage: \w+ {command} \[OPTIONS\]", usage)
    assert re.fullmatch(r"[A-Z].+\.", sentence)
    assert (blank, title) == ("", "Examples:")
    assert "$ txinspect" not in rest
    assert lines == [*(f"  $ {example}" for example in examples(run_cli, command)), ""]


def test_the_list_of_commands_shows_no_examples(run_cli: Run, wide: None) -> None:
    assert "Examples" not in run_cli("--help").stdout
    assert "$" not in run_cli("--help").stdout


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_names_no_type_for_a_switch(command: str, run_cli: Run, wide: None) -> None:
    shown = run_cli(*([command] if command else []), "--help").stdout
    assert "--help" in shown
    assert "bool" not in shown.lower()


def test_help_lists_every_command(run_cli: Run, wide: None) -> None:
    shown = run_cli("--help").stdout
    assert all(re.search(rf"^  {command} +[A-Z].+\.", shown, re.MULTILINE) for command in COMMANDS)


def test_help_lists_the_commands_in_their_groups(run_cli: Run, wide: None) -> None:
    shown = run_cli("--help").stdout
    sections = dict(re.findall(r"^([A-Z]\w*)\n((?:  .*\n)+)", shown, re.MULTILINE))
    listed = {title: re.findall(r"^  ([a-z]+) ", body, re.MULTILINE) for title, body in sections.items()}
    assert listed == {
        "Options": [],
        "Completion": [],
        "Text": ["tokenize"],
        "Model": ["tree", "stages", "diagram", "models", "params"],
        "Run": ["embed", "pos", "attn", "logits", "lens", "heads", "diff", "run"],
        "Cause": ["ablate", "patch", "attribute", "why", "steer"],
        "Share": ["page", "lesson"],
        "Machines": ["plan", "env", "schema", "serve", "shell", "mcp", "help"],
    }


@pytest.mark.parametrize("command", [each for each in COMMANDS if each not in ("serve", "shell", "mcp")])  # which stay
def test_every_example_of_the_help_is_valid(
    command: str, run_cli: Run, wide: None, opt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Some ask for words, which a tokenizer of bytes does not have.
    if command not in ("logits", "lens", "ablate", "patch", "attribute", "why"):
        monkeypatch.setenv("TXINSPECT_MODEL", str(opt))
    monkeypatch.chdir(tmp_path)
    for example in examples(run_cli, command):
        ours = next(part for part in example.split(" | ") if part.startswith("txinspect "))
        result = run_cli(*shlex.split(ours)[1:], stdin="A story.\n")
        from_the_hub = any(owner in ours for owner in ("facebook/", "google-bert/", "sentence-transformers/", "BAAI/"))
        assert result.exit_code == (1 if from_the_hub else 0), result.stderr
        if from_the_hub:
            assert "local cache" in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_keep_their_brackets(command: str, run_cli: Run, wide: None) -> None:
    for example in examples(run_cli, command):
        assert "\\" not in example
        assert example.count("[") == example.count("]")
        shlex.split(example)


def test_asked_nothing_it_says_where_to_begin(run_cli: Run) -> None:
    result = run_cli()
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert len(lines) <= 21
    assert max(map(len, lines)) <= 80
    assert result.stdout.isascii()
    assert lines[0].endswith(".")
    listed = [name for line in lines if re.match("  [A-Z]", line) for name in re.findall(r"\b[a-z]+", line)]
    assert listed == list(COMMANDS)
    assert lines[-1] == "txinspect help COMMAND says more about each."


def test_what_it_says_to_begin_with_runs(run_cli: Run) -> None:
    lines = [line.split("   ")[0] for line in run_cli().stdout.splitlines() if line.startswith("  txinspect ")]
    *here, hub = [shlex.split(line)[1:] for line in lines]
    assert [arguments[0] for arguments in here] == ["attn", "attn", "tokenize", "tree"]
    for arguments in here:
        assert run_cli(*arguments).exit_code == 0
    result = run_cli(*hub)
    assert result.exit_code == 1
    assert "local cache" in result.stderr  # a Hub id, which cannot be fetched here


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_a_command_too(command: str, run_cli: Run) -> None:
    names = [command] if command else []
    asked_so, asked_otherwise = run_cli("help", *names), run_cli(*names, "--help")
    assert (asked_so.exit_code, asked_so.stderr) == (0, "")
    assert asked_so.stdout == asked_otherwise.stdout


def test_help_for_an_unknown_command_names_the_pages_of_the_manual(run_cli: Run) -> None:
    asked_so, asked_otherwise = run_cli("help", "foo"), run_cli("foo")
    assert (asked_so.exit_code, asked_so.stdout) == (2, "")
    assert asked_so.stderr.startswith(
        "txinspect: 'foo' is neither a command nor a page of the manual: give one of tutorial"
    )
    assert asked_otherwise.stderr == "txinspect: no such command 'foo'; see 'txinspect --help'\n"


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version(option: str, run_cli: Run) -> None:
    result = run_cli(option)
    assert (result.exit_code, result.stdout) == (0, f"txinspect {txinspect.__version__}\n")


# JSON


def strict(text: bytes) -> Any:
    """The one object on stdout, as a strict reader takes it."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({key for key, _ in pairs}) == len(pairs)
        return dict(pairs)

    return json.loads(text.decode("utf-8"), parse_constant=pytest.fail, object_pairs_hook=unique)


@pytest.mark.parametrize("command", REPORTS)
def test_json_is_one_line_of_one_object(command: str, run_cli: Run, opt: Path) -> None:
    result = run_cli(*asked(command, opt), "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout_bytes.endswith(b"}\n")
    assert result.stdout_bytes.count(b"\n") == 1
    report = strict(result.stdout_bytes)
    assert (report["schema_version"], report["command"]) == (1, command)
    assert report["txinspect"] == txinspect.__version__
    assert command == "models" or report["model"]["name"] == str(opt)


@pytest.mark.parametrize("command", REPORTS)
def test_json_is_what_its_schema_says(command: str, run_cli: Run, opt: Path) -> None:
    jsonschema: Any = import_module("jsonschema")  # it carries no types

    schema = strict(run_cli("schema", command).stdout_bytes)
    jsonschema.Draft202012Validator.check_schema(schema)
    report = strict(run_cli(*asked(command, opt), "--json").stdout_bytes)
    jsonschema.validate(report, schema, jsonschema.Draft202012Validator)
    everything = strict(run_cli("schema").stdout_bytes)
    jsonschema.validate(report, everything, jsonschema.Draft202012Validator)


@pytest.mark.screens
@pytest.mark.parametrize("command", REPORTS)
def test_json_does_not_know_the_width(command: str, run_cli: Run, opt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    narrow = run_cli(*asked(command, opt), "--json").stdout_bytes
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert run_cli(*asked(command, opt), "--json").stdout_bytes == narrow


@pytest.mark.screens
@pytest.mark.parametrize("command", REPORTS)
def test_options_that_say_less_or_more_do_not_change_the_report(command: str, run_cli: Run, opt: Path) -> None:
    plain = run_cli(*asked(command, opt), "--json").stdout_bytes
    for option in ("-q", "-v", *(["--offline"] if command != "models" else [])):
        result = run_cli(*asked(command, opt), "--json", option)
        assert (result.exit_code, result.stdout_bytes, result.stderr) == (0, plain, "")


@pytest.mark.parametrize("command", ["embed", "pos", "attn", "run"])
def test_values_are_complete(command: str, run_cli: Run, opt: Path) -> None:
    report = strict(run_cli(*asked(command, opt), "--json", "--values").stdout_bytes)
    for tensor in report["tensors"]:
        values, shape = tensor["values"], []
        while isinstance(values, list):
            shape.append(len(values))
            values = values[0]
        assert shape == tensor["shape"]
    plain = strict(run_cli(*asked(command, opt), "--json").stdout_bytes)
    assert all(tensor["values"] is None for tensor in plain["tensors"])


def test_a_long_text_is_not_trimmed(run_cli: Run, opt: Path) -> None:
    text = "x" * 5000
    report = strict(run_cli("tokenize", text, "-m", opt, "--json").stdout_bytes)
    assert report["input"]["text"] == text
    assert len(report["input"]["tokens"]) == 5001


@pytest.mark.parametrize("command", REPORTS)
def test_tables_fit_and_stderr_is_silent(command: str, run_cli: Run, opt: Path) -> None:
    from rich.cells import cell_len

    result = run_cli(*asked(command, opt))
    assert (result.exit_code, result.stderr) == (0, "")
    assert max(cell_len(line) for line in result.stdout.splitlines()) <= 80
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["models"], ["attn", "--help"]], ids=" ".join)
def test_an_impossible_width_is_as_if_not_set(arguments: list[str], run_process: Process) -> None:
    unset = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    plain = subprocess.run([sys.executable, "-m", "txinspect", *arguments], capture_output=True, check=False, env=unset)
    for columns in ("0", "-1", "", "x", "³", "000", "8e1")[: 7 if arguments == ["models"] else 2]:
        done = run_process(*arguments, COLUMNS=columns, LINES=columns)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout == plain.stdout
        assert len(done.stdout) > 100


def test_schema_of_one_command_and_of_all(run_cli: Run) -> None:
    one, everything = strict(run_cli("schema", "attn").stdout_bytes), strict(run_cli("schema").stdout_bytes)
    assert one["$defs"].items() <= everything["$defs"].items()


# What is imported

IMPORTS = """
import sys
sys.argv = ["txinspect", *{arguments!r}]
from txinspect.__main__ import main
try:
    main()
except SystemExit as end:
    code = end.code
slow = [name for name in ("torch", "transformers", "numpy", "safetensors") if name in sys.modules]
print(code, slow, file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        [],
        ["help", "attn"],
        ["schema"],
        ["schema", "attn"],
        ["attn", "--help"],
        ["tokenize", "hi"],
        ["models"],
        ["env"],
        ["env", "--json"],
        ["-V", "-v"],
        ["none"],
    ],
    ids=" ".join,
)
def test_what_needs_no_model_imports_none_of_its_libraries(arguments: list[str], opt: Path, run_cli: Run) -> None:
    assert run_cli("tokenize", "hi", "-m", opt).exit_code == 0  # its tokenizer is in the cache from here on
    given = [*arguments, "-m", str(opt)] if arguments == ["tokenize", "hi"] else arguments
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS.format(arguments=given)], capture_output=True, check=False, timeout=120
    )
    code = 2 if arguments == ["none"] else 0
    assert done.stderr.decode().splitlines()[-1] == f"{code} []"


# Pipes and disks

linux = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


def heed_interrupts() -> None:
    """In a child: a job in the background is born deaf to SIGINT, and Python leaves it so."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def started(*arguments: object, **streams: Any) -> Iterator[subprocess.Popen[bytes]]:
    """The command line in a process of its own, ended with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "txinspect", *map(str, arguments)], preexec_fn=heed_interrupts, **streams
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.mark.parametrize(
    "arguments",
    [["tokenize", "x" * 3000], ["tokenize", "x" * 3000, "--json"], ["schema"], ["--help"], ["attn", "-h"], []],
    ids=lambda a: f"{a[:1]} {len(a)}",
)
def test_a_closed_pipe_ends_quietly(arguments: list[str], opt: Path, run_cli: Run) -> None:
    model = ["-m", str(opt)] if arguments[:1] == ["tokenize"] else []
    assert run_cli("tokenize", "hi", "-m", opt).exit_code == 0
    reading, writing = os.pipe()
    with started(*arguments, *model, stdout=writing, stderr=subprocess.PIPE) as process:
        os.close(writing)
        if arguments[:1] == ["tokenize"]:
            os.read(reading, 1)  # `head -c 1`
        os.close(reading)
        _, said = process.communicate(timeout=120)
    assert said == b""
    assert process.returncode == 0


@linux
@pytest.mark.parametrize(
    "arguments", [["tokenize", "hi"], ["tokenize", "hi", "--json"], ["schema"], ["--version"], ["--help"]], ids=str
)
def test_a_full_disk_under_stdout_is_one_sentence(arguments: list[str], opt: Path, run_cli: Run) -> None:
    model = ["-m", str(opt)] if arguments[0] == "tokenize" else []
    assert run_cli("tokenize", "hi", "-m", opt).exit_code == 0
    with (
        Path("/dev/full").open("wb") as full,
        started(*arguments, *model, stdout=full, stderr=subprocess.PIPE) as process,
    ):
        _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert said.decode() == "txinspect: standard output could not be written: No space left on device\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.parametrize(
    ("redirection", "says"), [(">&-", "standard output"), ("<&-", "standard input")], ids=["stdout", "stdin"]
)
def test_a_stream_that_is_closed_from_the_start(redirection: str, says: str, opt: Path, run_cli: Run) -> None:
    assert run_cli("tokenize", "hi", "-m", opt).exit_code == 0
    command = f"{sys.executable} -m txinspect tokenize - -m {shlex.quote(str(opt))} {redirection}"
    source = None if redirection == "<&-" else subprocess.DEVNULL
    done = subprocess.run(["sh", "-c", command], stdin=source, capture_output=True, check=False, timeout=120)
    said = done.stderr.decode()
    assert done.returncode == 1
    assert said.startswith(f"txinspect: {says}")
    assert said.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["none"], 2), (["attn", "--layer", "x"], 2), (["tree", "./none"], 1), (["--bad"], 2), (["models"], 0)],
    ids=str,
)
def test_a_stderr_that_hears_nothing_changes_no_exit_code(arguments: list[str], code: int, redirection: str) -> None:
    if redirection.endswith("full") and not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    command = f"{sys.executable} -m txinspect {shlex.join(arguments)} {redirection}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (code, b"")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_a_report_with_a_closed_stderr(opt: Path, tmp_path: Path) -> None:
    saved = tmp_path / "x.npz"
    command = shlex.join([sys.executable, "-m", "txinspect", "embed", "hi", "-m", str(opt), "--save", str(saved)])
    done = subprocess.run(["sh", "-c", f"{command} 2>&-"], capture_output=True, check=False, timeout=120)
    assert done.returncode == 0
    assert b"token_embeddings" in done.stdout
    assert saved.stat().st_size > 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_a_working_directory_that_is_gone_is_one_sentence(opt: Path, tmp_path: Path) -> None:
    command = shlex.join([sys.executable, "-P", "-m", "txinspect", "embed", "hi", "-m", str(opt), "--save", "x.npz"])
    (tmp_path / "gone").mkdir()
    done = subprocess.run(
        ["sh", "-c", f"rmdir ../gone && {command}"],
        cwd=tmp_path / "gone",
        env=os.environ | {"PYTHONPATH": str(Path(txinspect.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "txinspect: the working directory is gone: change to one that is there\n"


def test_tables_are_utf8_whatever_the_locale(opt: Path, run_process: Process, run_cli: Run) -> None:
    assert run_cli("tokenize", "hi", "-m", opt).exit_code == 0
    for variables in ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "ascii"}):
        done = run_process("tokenize", "漢😀", "-m", opt, "--json", **variables)
        assert (done.returncode, done.stderr) == (0, b"")
        assert strict(done.stdout)["input"]["text"] == "漢😀"
        done = run_process("tokenize", "漢😀", "-m", opt, **variables)
        assert (done.returncode, done.stderr) == (0, b"")


# Ctrl-C

SLOW = """
import sys, time
from txinspect.loading.weights import partial
def load(*_):
    print("loading", file=sys.stderr, flush=True)
    time.sleep(60)
partial.load = load
sys.argv = ["txinspect", "embed", "hi", "-m", {model!r}]
from txinspect.__main__ import main
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
def test_an_interrupt_while_loading(opt: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW.format(model=str(opt))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=heed_interrupts,
    )
    with process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"loading\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        shown, said = process.communicate(timeout=120)
    assert (process.returncode, shown) == (130, b"")
    assert b"Traceback" not in said


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_an_interrupt_while_torch_is_imported(opt: Path) -> None:
    with started("embed", "hi", "-m", opt, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        maps = Path(f"/proc/{process.pid}/maps")
        limit = time.monotonic() + 120
        while "libtorch" not in maps.read_text() and time.monotonic() < limit:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        shown, said = process.communicate(timeout=120)
    assert (process.returncode, shown) == (130, b"")
    assert b"Traceback" not in said


def test_an_interrupt_leaves_no_half_written_file(
    opt: Path, run_cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from txinspect.answers import saving

    def interrupt(path: Path, *_: object) -> list[str]:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(saving, "_write_npz", interrupt)
    (tmp_path / "old.npz").write_bytes(b"kept")
    result = run_cli("embed", "hi", "-m", opt, "--save", tmp_path / "old.npz", "--overwrite")
    assert (result.exit_code, result.stdout) == (130, "")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("old.npz", b"kept")]


# On a terminal


def on_terminal(*arguments: object) -> tuple[int, str, str]:
    """The exit code, what a pipe on stdout got, and what the terminal on stderr got."""
    ours, theirs = pty.openpty()
    heard = b""
    with started(*arguments, stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm"}) as process:
        os.close(theirs)
        shown = b""
        assert process.stdout is not None
        open_streams = {ours, process.stdout.fileno()}
        while open_streams:
            for stream in select.select(open_streams, [], [], 120)[0]:
                chunk = b""
                with suppress(OSError):  # Linux reports the end of a terminal as an error
                    chunk = os.read(stream, 65536)
                if not chunk:
                    open_streams.discard(stream)
                elif stream == ours:
                    heard += chunk
                else:
                    shown += chunk
        process.wait(timeout=120)
    os.close(ours)
    return process.returncode, shown.decode(), heard.decode()


def test_progress_is_on_stderr_and_only_on_a_terminal(opt: Path) -> None:
    code, shown, heard = on_terminal("embed", "hi", "-m", opt, "--json")
    assert code == 0
    assert strict(shown.encode())["command"] == "embed"
    assert "loading" in heard
    assert heard.endswith("\x1b[?25h\r\x1b[1A\x1b[2K") or heard.rstrip("\r\n").endswith("\x1b[2K")  # and is gone


def test_quiet_is_silent_on_a_terminal(opt: Path) -> None:
    code, shown, heard = on_terminal("embed", "hi", "-m", opt, "--json", "-q")
    assert (code, heard) == (0, "")
    assert strict(shown.encode())["command"] == "embed"


def test_an_error_on_a_terminal_obeys_no_escape_of_the_input(tmp_path: Path) -> None:
    code, shown, heard = on_terminal("tokenize", "--file", tmp_path / "a\x1b[2J\x1b]0;title\x07b\n.txt", "-q")
    assert (code, shown) == (1, "")
    assert "\x1b[2J" not in heard
    assert "\x1b]0;" not in heard
    assert heard.replace("\r\n", "\n").replace("\n       ", " ").count("\n") == 1


def shown_on_terminal(*arguments: object, **environment: str) -> tuple[int, str]:
    """The exit code, and what the terminal on stdout shows."""
    ours, theirs = pty.openpty()
    shown = b""
    with started(*arguments, stdout=theirs, stderr=subprocess.DEVNULL, env=os.environ | environment) as process:
        os.close(theirs)
        with suppress(OSError):  # Linux reports the end of a terminal as an error
            while chunk := os.read(ours, 65536):
                shown += chunk
        process.wait(timeout=120)
    os.close(ours)
    return process.returncode, shown.decode().replace("\r\n", "\n")


def test_json_on_a_terminal_is_indented(run_process: Process) -> None:
    code, shown = shown_on_terminal("models", "--json")
    assert code == 0
    piped = strict(run_process("models", "--json").stdout)
    assert shown == json.dumps(piped, indent=2, ensure_ascii=False) + "\n"


def test_nothing_but_the_report_in_a_pipe(opt: Path, run_process: Process) -> None:
    done = run_process("embed", "hi", "-m", opt, "--json")
    assert (done.returncode, done.stderr) == (0, b"")
    assert strict(done.stdout)["command"] == "embed"


def test_a_package_that_is_not_there_is_named(run_cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr("txinspect.inspecting.inspect", lacking)
    result = run_cli("embed")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the package 'torch' is not installed: 'pip install txinspect' brings all" in result.stderr


@pytest.mark.parametrize(
    "arguments", [("embed", "--save", "a.npz", "--save=b.npz"), ("run", "-m", "a", "--model", "b", "-s", "logits")]
)
def test_an_option_that_holds_one_value_is_given_once(
    arguments: tuple[str, ...], run_cli: Callable[..., Result]
) -> None:
    result = run_cli(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is given 2 times: it holds one value" in result.stderr


@pytest.mark.parametrize("command", ["embed", "pos", "attn", "run"])
def test_a_dry_run_is_drawn(command: str, run_cli: Callable[..., Result]) -> None:
    options = ("-s", "logits") if command == "run" else ()
    result = run_cli(command, *options, "--dry-run")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "download" in result.stdout


def test_nothing_is_left_among_temporary_files(
    run_process: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    assert run_process("run", "hi", "-s", "logits", "--8bit").returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_what_native_code_prints_is_not_the_report(capfd: pytest.CaptureFixture[str]) -> None:
    """The tokenizers library prints of some vocabularies, straight to the descriptor."""
    from txinspect.cli import streams

    with streams.reserved():
        os.write(1, b"a stranger's line\n")
        print("another one")
    os.write(1, b"the report\n")
    out, err = capfd.readouterr()
    assert out == "the report\n"
    assert "a stranger's line" in err
    assert "another one" in err
