"""The options: declared once, spelled the same on every command, and what they make of what is typed."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner, Result

from txinspect import inspecting
from txinspect.cli.app import app
from txinspect.cli.building import command_function
from txinspect.cli.options import choose_model
from txinspect.cli.streams import Output
from txinspect.cli.text import Given, read_text
from txinspect.commands.attn import AttnQuery
from txinspect.commands.command import Command
from txinspect.commands.embed import EmbedQuery
from txinspect.commands.run import RunQuery
from txinspect.commands.tokenize import TokenizeReport
from txinspect.commands.tree import TreeQuery
from txinspect.errors import InspectError, UsageError
from txinspect.indices import read_indices
from txinspect.model_choice import DEFAULT_MODEL, PLACEMENT, PRECISION, ModelChoice
from txinspect.option import Option
from txinspect.queries import LESSON, Query, TextQuery

WHERE = {"--revision", "--offline", "--trust-remote-code"}
PRECISION_OPTIONS = {
    "--8bit",
    "--4bit",
    "--dtype",
    "--int8-threshold",
    "--4bit-type",
    "--double-quant",
    "--skip-module",
}
LOADING = WHERE | PRECISION_OPTIONS | {"--as", "--device", "--device-map"}
SHOWN = {"--json", "-q", "--quiet", "-v", "--verbose", "--color", "--no-pager", "--no-serve"}
OUTPUT = SHOWN | {"--legend", "--picture", "--csv", "--html", "--open"}
DRAWN = OUTPUT | {"--figure"}
MODEL = {"-m", "--model"}
INPUT = {"--pair", "--mask", "--ids", "--chat", "--system", "--user", "--assistant", "--src-lang", "--max-tokens"}
TEXT = MODEL | INPUT | {"--file", "--no-special"}
DECODER = {"--decoder", "-n", "--new", "--tgt-lang"}
TENSORS = DECODER | {"--values", "--save", "--overwrite", "--check", "--fail-on", "--dry-run"}
EDITED = TENSORS | {"--edit"}
EXPECTED = {
    "tokenize": WHERE | OUTPUT | TEXT,
    "tree": WHERE | {"--as"} | PRECISION_OPTIONS | OUTPUT | MODEL | {"--depth", "--expand", "--params"},
    "stages": WHERE | {"--as"} | PRECISION_OPTIONS | OUTPUT | MODEL,
    "diagram": WHERE | {"--as"} | PRECISION_OPTIONS | OUTPUT | MODEL | {"--seq", "--mermaid"},
    "models": OUTPUT,
    "params": DRAWN
    | MODEL
    | {"--revision", "--offline", "--param", "--sort", "--spectral", "--diff", "--base", "--fail-on"},
    "embed": LOADING | OUTPUT | TEXT | EDITED | {"--pooled", "--similar", "--table"},
    "pos": LOADING | OUTPUT | TEXT | TENSORS | {"--table"},
    "attn": LOADING
    | DRAWN
    | TEXT
    | EDITED
    | {"--encoder", "--cross"}
    | {"-l", "--layer", "--head", "--query", "--position", "--skip-norm", "--keys", "--scale", "--table", "--theme"},
    "logits": LOADING
    | DRAWN
    | TEXT
    | EDITED
    | {
        "-k",
        "--top-k",
        "--position",
        "--query",
        "--target",
        "--continuation",
        "--stride",
        "--pll",
        "--table",
        "--theme",
    },
    "lens": LOADING
    | DRAWN
    | TEXT
    | EDITED
    | {
        "-l",
        "--layer",
        "--layers",
        "--position",
        "--query",
        "-k",
        "--top-k",
        "--target",
        "--at",
        "--lens",
        "--table",
        "--theme",
    },
    "heads": LOADING
    | DRAWN
    | TEXT
    | EDITED
    | {"--encoder", "-l", "--layer", "--random", "--length", "--repeats", "--seed", "--weighted"}
    | {"--table", "--theme"},
    "diff": LOADING
    | DRAWN
    | TEXT
    | TENSORS - {"--values"}
    | {"-s", "--stage", "--isolated", "--tolerance", "--map", "--against", "--table"}
    | {
        f"--against-{way}"
        for way in ("8bit", "4bit", "edit", "dtype", "attn", "device", "revision", "text", "no-adapter", "file")
    },
    "run": LOADING | OUTPUT | TEXT | EDITED | {"-s", "--stage"},
    "ablate": LOADING
    | OUTPUT
    | TEXT
    | {"--decoder", "--tgt-lang", "-n", "--new", "--dry-run"}
    | {"--sweep", "--with", "-l", "--layer", "--head", "--target", "--together", "--control", "--seed"}
    | {"--table", "--theme"},
    "patch": LOADING
    | OUTPUT
    | TEXT
    | {"--decoder", "--tgt-lang", "--dry-run"}
    | {"--answer", "--wrong", "--metric", "--direction", "--sweep", "-l", "--layer", "--head", "--position", "--query"}
    | {"--at-word", "--encoder", "--cross", "--subject", "--noise", "--seed", "--force", "--table", "--theme"},
    "attribute": LOADING
    | OUTPUT
    | TEXT
    | {"--edit", "--decoder", "--tgt-lang", "-n", "--new", "--dry-run"}
    | {"--target", "--wrong", "--position", "--query", "--neurons", "--experts", "--tokens"}
    | {"-k", "--top-k", "--table", "--theme"},
    "why": LOADING
    | OUTPUT
    | TEXT
    | DECODER
    | {"--target", "--wrong", "--position", "--query", "-k", "--top-k", "--seed"},
    "steer": LOADING
    | OUTPUT
    | TEXT
    | DECODER
    | {"-o", "--save", "--overwrite", "--dry-run", "--toward", "--away", "--pairs", "-l", "--layer", "-s", "--stage"}
    | {"--over", "--method", "--vector", "--from", "--scales", "--seed", "--table", "--theme"},
    "page": LOADING | OUTPUT | TEXT | DECODER | {"-o", "--part"},
    "lesson": LOADING | OUTPUT | TEXT | DECODER | {"--step"},
    "plan": LOADING | OUTPUT | TEXT | DECODER | {"-s", "--stage", "--edit"},
    "env": SHOWN,
    "shell": (SHOWN - {"--json", "--no-pager", "--no-serve"}) | {"-m", "--model", "--trust-remote-code"},
    "serve": (SHOWN - {"--no-pager", "--no-serve"}) | {"-m", "--model", "--idle", "--memory", "--status", "--stop"},
    "mcp": {"-m", "--model", "--allow", "-v", "--verbose", "--color"},
    "schema": {"--color"},
    "help": {"--color", "--no-pager"},
}
"""The options of each command, as the contract spells them."""

MANY = {"--texts", "--column", "--out", "--resume"}
for _command in (
    "tokenize",
    "embed",
    "pos",
    "attn",
    "run",
    "logits",
    "lens",
    "heads",
    "diff",
    "ablate",
    "patch",
    "attribute",
    "why",
):
    EXPECTED[_command] |= MANY

Run = Callable[..., Result]


@cache
def parameters(command: str) -> dict[str, Any]:
    """The parameters of a command, by each of their spellings."""
    group: Any = typer.main.get_command(app)
    return {spelling: parameter for parameter in group.built(command).params for spelling in parameter.opts}


def test_every_command_is_in_the_table() -> None:
    group: Any = typer.main.get_command(app)
    assert set(group.commands) == set(EXPECTED)


@pytest.mark.parametrize("command", EXPECTED)
def test_options_of(command: str) -> None:
    """None is missing, and none is there that would do nothing."""
    assert EXPECTED[command] == {spelling for spelling in parameters(command) if spelling.startswith("-")}


SAID_OTHERWISE: dict[str, set[str]] = {
    "--html": {"page"},
    "-o": {"steer"},
    "-n": {"steer"},
    "--new": {"steer"},
    "--save": {"steer"},
    "-l": {"heads", "lens", "ablate", "patch", "steer"},
    "--layer": {"heads", "lens", "ablate", "patch", "steer"},
    "--head": {"ablate", "patch"},
    "--seed": {"why", "ablate", "patch", "steer"},
    "--sweep": {"ablate"},
    "--encoder": {"heads", "patch"},
    "--cross": {"patch"},
    "--fail-on": {"diff", "params"},
    "--position": {"attn", "lens", "patch", "attribute", "why"},
    "--query": {"attn", "lens", "patch", "attribute", "why"},
    "-k": {"lens", "attribute", "why"},
    "--top-k": {"lens", "attribute", "why"},
    "--target": {"lens", "ablate", "attribute", "why"},
    "--wrong": {"attribute", "why"},
    "-s": {"diff", "steer"},
    "--stage": {"diff", "steer"},
}
"""Commands in which an option is about something else of the same kind."""


@pytest.mark.parametrize("option", sorted(set().union(*EXPECTED.values())))
def test_an_option_is_the_same_wherever_it_is(option: str) -> None:
    commands = [command for command in EXPECTED if option in parameters(command)]
    if option in MODEL:  # of tree and stages it is the argument, spelled again
        commands = [command for command in commands if "--file" in EXPECTED[command]]
    found = [parameters(command)[option] for command in commands if command not in SAID_OTHERWISE.get(option, set())]
    # run must be told its stages; plan takes the whole pass where it is not.
    defaults = [None if option in ("-s", "--stage") else repr(each.default) for each in found]
    looks = {
        (frozenset(each.opts), each.help, each.metavar, default, str(each.envvar))
        for each, default in zip(found, defaults, strict=True)
    }
    assert len(looks) == 1


@pytest.mark.parametrize("command", EXPECTED)
def test_every_option_and_argument_has_help(command: str) -> None:
    assert [name for name, parameter in parameters(command).items() if not parameter.help] == []


# What is asked


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Query[Any]]:
    """The query that a command line becomes; nothing is answered."""
    queries: list[Query[Any]] = []

    def remember(query: Query[Any], *_: object) -> None:
        queries.append(query)
        raise InspectError("asked")

    monkeypatch.setattr(inspecting, "inspect", remember)

    def ask(*arguments: str, stdin: bytes = b"") -> Query[Any]:
        result = CliRunner().invoke(app, list(arguments), input=stdin)
        assert "asked" in result.stderr, result.stderr
        return queries.pop()

    return ask


Asked = Callable[..., Any]


@pytest.mark.parametrize("command", ["tokenize", "embed", "pos", "attn"])
def test_defaults(command: str, asked: Asked) -> None:
    query = asked(command)
    assert (query.text, query.special, query.model.name) == (LESSON, True, DEFAULT_MODEL)
    assert (query.model.revision, query.model.dtype, query.model.device) == (None, "auto", "auto")
    assert (query.model.quantization, query.model.device_map) == (None, None)
    assert (query.model.offline, query.model.trust_remote_code) == (False, False)


def test_everything_about_the_model(asked: Asked) -> None:
    query = asked(
        *("embed", "hi", "--model", "a/b", "--revision", "v1", "--4bit", "--dtype", "bfloat16", "--device", "cuda:1"),
        *("--offline", "--trust-remote-code", "--no-special", "--values", "--json"),
        *("--save", "x.npz"),
    )
    assert isinstance(query, EmbedQuery)
    assert (query.text, query.special, query.values, query.save) == ("hi", False, True, Path("x.npz"))
    choice = query.model
    assert (choice.name, choice.revision, choice.quantization, choice.dtype) == ("a/b", "v1", "4bit", "bfloat16")
    assert (choice.device, choice.device_map) == ("cuda:1", None)
    assert (choice.offline, choice.trust_remote_code) == (True, True)
    assert asked("embed", "--device-map", "auto").model.device_map == "auto"


@pytest.mark.parametrize(
    ("given", "meant"),
    [("fp32", "float32"), ("float", "float32"), ("fp16", "float16"), ("half", "float16"), ("bf16", "bfloat16")],
)
def test_what_other_tools_call_a_type(given: Any, meant: str, asked: Asked) -> None:
    assert asked("embed", "--dtype", given).model.dtype == meant
    assert asked("tree", "--dtype", given).model == ModelChoice(dtype=given)
    assert ModelChoice(dtype=given) == ModelChoice(dtype=meant)  # type: ignore[arg-type]


@pytest.mark.parametrize("command", ["tree", "stages"])
def test_the_model_of_tree_and_stages_is_their_argument_or_m(
    command: str, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TXINSPECT_MODEL", "from/environment")
    assert asked(command, "-m", "a/b").model.name == "a/b"
    assert asked(command, "--model", "a/b", "a/b").model.name == "a/b"
    monkeypatch.delenv("TXINSPECT_MODEL")
    assert asked(command, "a/b", "--8bit").model.name == "a/b"
    assert asked(command, "a/b", "--8bit").model.quantization == "8bit"
    assert isinstance(asked("tree"), TreeQuery)


@pytest.mark.parametrize("command", ["tokenize", "tree", "stages", "embed"])
def test_the_environment_names_the_model(command: str, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TXINSPECT_MODEL", "from/environment")
    assert asked(command).model.name == "from/environment"
    given = ("a/b",) if command in ("tree", "stages") else ("-m", "a/b")
    assert asked(command, *given).model.name == "a/b"


@pytest.mark.parametrize(
    ("arguments", "heads"),
    [
        ((), None),
        (("--head", "0"), (0,)),
        (("--head", "0,2-3"), (0, 2, 3)),
        (("--head", "3,1"), (1, 3)),
        (("--head", "2", "--head", "0-1"), (0, 1, 2)),
        (("--head", "1,1,1-1"), (1,)),
        (("--head", " 1 - 2 , 5 "), (1, 2, 5)),
        (("--head", "-1"), (-1,)),
        (("--head", "-3--1,0"), (-3, -2, -1, 0)),
        (("--head", "all"), None),
    ],
    ids=repr,
)
def test_heads(arguments: tuple[str, ...], heads: tuple[int, ...] | None, asked: Asked) -> None:
    query = asked("attn", *arguments)
    assert isinstance(query, AttnQuery)
    assert query.heads == heads


def test_layer_and_query(asked: Asked) -> None:
    query = asked("attn", "--layer", "7", "--query", "9,4-5", "--skip-norm")
    assert (query.layer, query.queries, query.skip_norm) == ((7,), (4, 5, 9), True)


def test_stages_keep_their_order(asked: Asked) -> None:
    query = asked("run", "-s", "logits", "--stage", "layers.*.output")
    assert isinstance(query, RunQuery)
    assert query.stages == ("logits", "layers.*.output")


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "mps", "cuda:0", "cuda:12"])
def test_devices(device: str, asked: Asked) -> None:
    assert asked("embed", "--device", device).model.device == device


def test_a_text_that_begins_with_a_dash(asked: Asked) -> None:
    assert asked("tokenize", "--", "--json").text == "--json"


# Where the text comes from


def test_text_from_stdin(asked: Asked) -> None:
    assert asked("tokenize", "-", stdin="naïve 😀".encode()).text == "naïve 😀"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"hi", "hi"),
        (b"hi\n", "hi"),
        (b"hi\r\n", "hi"),
        (b"hi\n\n", "hi\n"),
        (b"\n", ""),
        (b"", ""),
        (b" hi ", " hi "),
        (b"a\r\nb", "a\r\nb"),
        (b"\xef\xbb\xbfhi", "\ufeffhi"),
        (b"a\0b", "a\0b"),
    ],
    ids=repr,
)
def test_text_from_a_file_and_from_stdin(content: bytes, text: str, asked: Asked, tmp_path: Path) -> None:
    file = tmp_path / "story.txt"
    file.write_bytes(content)
    assert asked("tokenize", "--file", str(file)).text == text
    assert asked("tokenize", "-", stdin=content).text == text


def test_an_argument_keeps_its_line_end(asked: Asked) -> None:
    assert asked("tokenize", "hi\n").text == "hi\n"


def test_a_file_called_dash(asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-").write_text("in the file")
    assert asked("tokenize", "--file", "./-").text == "in the file"


# The functions themselves


def test_read_text_without_a_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert read_text().text == LESSON
    assert read_text("") == Given("")
    with pytest.raises(UsageError, match="cannot be combined"):
        read_text("hi", tmp_path)


def test_choose_model_refuses_two_quantizations() -> None:
    with pytest.raises(UsageError, match="--8bit and --4bit cannot be combined"):
        choose_model(eight_bit=True, four_bit=True)
    assert choose_model(eight_bit=True).quantization == "8bit"
    assert choose_model().quantization is None


def test_indices() -> None:
    assert read_indices([], "heads") is None
    assert read_indices(["0,2-3", "5"], "heads") == (0, 2, 3, 5)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0", (0,)),
        ("0,2-3", (0, 2, 3)),
        ("3,1,3,1-2", (1, 2, 3)),
        (" 1 , 4 - 6 ", (1, 4, 5, 6)),
        ("5-5", (5,)),
        ("007", (7,)),
        ("-1", (-1,)),
        ("-3--1", (-3, -2, -1)),
        ("0, -2", (-2, 0)),
        ("all", None),
        (" ALL ", None),
    ],
)
def test_lists_of_indices(text: str, found: tuple[int, ...] | None) -> None:
    assert read_indices([text], "heads") == found


@pytest.mark.parametrize("text", ["", ",", "1,", "a", "1-", "-", "--1", "all,1", "1.5", "0x1", "1;2", "1 2", "٣"])
def test_what_is_no_list_of_indices(text: str) -> None:
    with pytest.raises(
        UsageError, match=re.escape(f"heads {text!r}") + " is not a list of indices: give some such as 0,2-3"
    ):
        read_indices([text], "heads")


def test_a_range_counts_from_one_end() -> None:
    with pytest.raises(UsageError, match=r"1--2 counts from both ends"):
        read_indices(["1--2"], "heads")


def test_a_range_that_runs_backwards_is_shown_the_right_way_round() -> None:
    with pytest.raises(UsageError, match=r"3-2 runs backwards.*2-3"):
        read_indices(["0,3-2"], "heads")


# A command's declaration


def test_fields_become_options() -> None:
    @dataclass(frozen=True, kw_only=True)
    class ShoutQuery(TextQuery[TokenizeReport]):
        """Say it louder."""

        idle = (*PRECISION, *PLACEMENT)

        times: Annotated[int, Option("--times", "How often.", "N")] = 2
        only: Annotated[tuple[int, ...] | None, Option("--only", "Which words.", "I")] = None
        to: Annotated[tuple[str, ...], Option("-t/--to", "Whom.", "NAME")] = ("all",)
        hidden: int = 3

    seen: list[Any] = []
    command = Command("shout", ShoutQuery, TokenizeReport, ())
    function = command_function(command, lambda query, output, view: seen.append((query, output, view)))
    assert function.__doc__ == "Say it louder."
    names = list(inspect.signature(function).parameters)
    assert names[:3] == ["text", "file", "no_special"]
    assert names[3:6] == ["times", "only", "to"]
    inherited = {"pair", "masks", "ids", "chat", "system", "user", "assistant", "src_lang", "max_tokens", "task"}
    others = {"model", "revision", "offline", "trust_remote_code", "json", "quiet", "verbose", "color", "no_pager"}
    others |= {"no_serve", "legend", "picture", "csv", "html", "open"}
    assert set(names[6:]) == inherited | others
    default = {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
    assert (default["times"], default["only"], default["to"]) == ("2", [], ["all"])
    function(**default | {"text": "hi", "only": ["0,2-3"], "model": "a/b", "revision": "v1", "json": True})
    wanted = ShoutQuery(model=ModelChoice(name="a/b", revision="v1"), text="hi", only=(0, 2, 3))
    assert seen == [(wanted, Output(json=True, quiet=False, verbose=False), None)]


# Short spellings, and others


@pytest.mark.parametrize(
    ("short", "long"),
    [
        (("logits", "hi", "-k", "3"), ("logits", "hi", "--top-k", "3")),
        (("logits", "hi", "-k3"), ("logits", "hi", "--top-k=3")),
        (("attn", "hi", "-l", "1"), ("attn", "hi", "--layer", "1")),
        (("heads", "hi there", "-l", "0,2"), ("heads", "hi there", "--layer", "0,2")),
        (("lens", "hi", "-l", "1", "-k", "2"), ("lens", "hi", "--layers", "1", "--top-k", "2")),
        (("lens", "hi", "-l", "1"), ("lens", "hi", "--layer", "1")),
        (
            ("logits", "hello", "-n", "3", "-m", "transformer-mini"),
            ("logits", "hello", "--new", "3", "-m", "transformer-mini"),
        ),
    ],
)
def test_a_short_spelling_is_the_long_one(short: tuple[str, ...], long: tuple[str, ...], run_cli: Run) -> None:
    first, second = (run_cli(*each, "--json") for each in (short, long))
    assert first.exit_code == 0, first.stderr
    assert first.stdout == second.stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("-mopt-mini", "-mtransformer-mini"), "--model"),
        (("-m", "opt-mini", "--model=transformer-mini"), "--model"),
        (("-k3", "--top-k", "4"), "--top-k"),
        (("-k", "3", "-k4"), "--top-k"),
    ],
)
def test_an_option_given_twice_is_told_in_every_spelling(arguments: tuple[str, ...], named: str, run_cli: Run) -> None:
    result = run_cli("logits", "hi", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{named} is given 2 times" in result.stderr


def test_a_sentence_names_an_option_in_full(run_cli: Run) -> None:
    result = run_cli("lens", "hi", "-l", "9")
    assert result.exit_code == 1
    assert "layer 9" in result.stderr
    result = run_cli("logits", "hi", "-k", "0")
    assert "--top-k 0" in result.stderr


def test_run_without_a_stage_lists_them(run_cli: Run) -> None:
    listed = run_cli("run", "a text", "-m", "transformer-mini")
    assert listed.exit_code == 0
    assert listed.stdout == run_cli("stages", "transformer-mini").stdout
    assert json.loads(run_cli("run", "--json").stdout)["command"] == "stages"
    for option in ("--values", "--check", "--dry-run", "--save=x.npz", "--fail-on=nan"):
        refused = run_cli("run", option)
        assert (refused.exit_code, refused.stdout) == (2, ""), option
        assert "no stage was asked for" in refused.stderr
