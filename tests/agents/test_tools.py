"""The commands as tools: what an agent is offered, what a call comes to, what it gets, and what it may not read."""

from __future__ import annotations

import base64
import json
import os
import pty
import shlex
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import jsonschema  # type: ignore[import-untyped]
import pytest
from mcp import types
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from tests.making.bad_input import Run, sentence, usage
from tests.making.models import save_tiny
from txinspect import commands
from txinspect.agents import arguments, server
from txinspect.agents.brief import MOST, brief, encoded
from txinspect.agents.server import FIRST, UNTRUSTED, Tools
from txinspect.cli.building import built
from txinspect.commands.schema import schema

PROGRAM = (sys.executable, "-m", "txinspect")

CALLS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "tree": ({"model": "{model}"}, ["{model}"]),
    "stages": ({}, []),
    "plan": (
        {"text": "hello", "stage": ["logits", "layers.0.output"]},
        ["hello", "-s", "logits", "-s", "layers.0.output"],
    ),
    "tokenize": ({"text": "--json\n", "special": False}, ["--no-special", "--", "--json\n"]),
    "diagram": ({"seq": 3}, ["--seq", "3"]),
    "models": ({}, []),
    "params": ({"param": ["**.bias"], "sort": "std"}, ["--param", "**.bias", "--sort", "std"]),
    "embed": ({"text": "a b", "max_tokens": 2, "model": None}, ["a b", "--max-tokens", "2"]),
    "pos": ({"ids": [5, 7, 5]}, ["--ids", "5,7,5"]),
    "attn": (
        {"text": "-x", "layer": [0, 1], "head": "0,2-3", "query": -1},
        ["--layer=0-1", "--head=0,2-3", "--query=-1", "--", "-x"],
    ),
    "logits": ({"text": "the fox", "top_k": 3.0, "target": [" dog"]}, ["the fox", "-k", "3", "--target", " dog"]),
    "lens": ({"text": "the fox", "dtype": "float32"}, ["the fox", "--dtype", "float32"]),
    "heads": ({"random": True, "length": 8}, ["--random", "--length", "8"]),
    "diff": ({"against_dtype": "bfloat16"}, ["--against-dtype", "bfloat16"]),
    "run": ({"stage": ["logits"], "edit": ["layers.0.output * 1"]}, ["-s", "logits", "--edit", "layers.0.output * 1"]),
    "ablate": ({"with": "zero", "layer": "1"}, ["--with", "zero", "-l", "1"]),
    "patch": (
        {"corrupt": "The capital of Russia is", "text": "The capital of France is", "answer": " Paris", "head": [0]},
        ["The capital of France is", "The capital of Russia is", "--answer", " Paris", "--head", "0"],
    ),
    "attribute": ({"neurons": 2}, ["--neurons", "2"]),
    "why": ({"text": "The capital of France is"}, ["The capital of France is"]),
    "steer": (
        {"action": "make", "toward": ["a happy day"], "away": ["a sad day"], "layer": 1},
        ["make", "--toward", "a happy day", "--away", "a sad day", "-l", "1"],
    ),
    "lesson": ({"step": 2, "text": "a"}, ["a", "--step", "2"]),
}
"""A call of every tool, and the words that a person types for it."""


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch, run_cli: Run) -> Tools:
    """The tools, whose command lines run in this process."""

    async def ran(line: arguments.CommandLine, picture: Path | None) -> tuple[int, dict[str, Any] | None, str]:
        beside = ["--json", "--quiet", *([f"--picture={picture}"] if picture is not None else [])]
        done = run_cli(line.command, *beside, *line.words[1:], stdin=None if line.text is None else f"{line.text}\n")
        said = " ".join(done.stderr.split()).removeprefix("txinspect: ")
        return done.exit_code, json.loads(done.stdout) if done.stdout else None, said

    monkeypatch.setattr(server, "_run", ran)
    return Tools(None, ())


def called(tools: Tools, name: str, given: dict[str, Any]) -> Any:
    """What the SDK's own client gets, which checks it by the schema that it was told."""

    async def asked() -> types.CallToolResult:
        async with Client(server.server(tools)) as client:
            await client.list_tools()
            found = await client.call_tool(name, given)
            assert isinstance(found, types.CallToolResult)
            return found

    return anyio.run(asked)


def alone(tools: Tools, name: str, given: dict[str, Any]) -> Any:
    """What a call comes to, without a client."""
    return anyio.run(tools.call, name, given)


def said(result: Any) -> str:
    """The sentence of a call that cannot be answered."""
    assert result.is_error
    assert result.structured_content is None
    (only,) = result.content
    assert isinstance(only, types.TextContent)
    assert "\n" not in only.text
    assert "Traceback" not in only.text
    return only.text


def same(one: Any, other: Any) -> None:
    """Two reports are equal but for how long it took."""

    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: timeless(each) for name, each in value.items() if "second" not in name}
        return [timeless(each) for each in value] if isinstance(value, list) else value

    assert timeless(one) == timeless(other)


def test_what_an_agent_is_offered() -> None:
    listed = Tools(None, ()).listed()
    assert [each.name for each in listed] == [
        *FIRST,
        *(name for name in commands.NAMES if name not in (*FIRST, "page")),
    ]
    assert set(CALLS) == {each.name for each in listed}
    for each in listed:
        jsonschema.Draft202012Validator.check_schema(each.input_schema)
        jsonschema.Draft202012Validator.check_schema(each.output_schema)
        assert each.description == commands.LISTED[each.name].sentence
        assert each.annotations is not None
        assert (each.annotations.read_only_hint, each.annotations.idempotent_hint) == (True, True)
        jsonschema.validate(
            CALLS[each.name][0] | {"model": "x"} if "model" in CALLS[each.name][0] else CALLS[each.name][0],
            each.input_schema,
        )


def test_each_option_of_a_command_is_an_argument_or_said_to_be_none() -> None:
    drawn = {"theme", "table", "keys", "scale", "depth", "expand", "params", "mermaid", "top_k"}
    shown = {
        "json",
        "quiet",
        "verbose",
        "color",
        "no_pager",
        "no_serve",
        "legend",
        "picture",
        "figure",
        "csv",
        "html",
        "open",
    }
    elsewhere = drawn | shown | arguments.LEFT_OUT | {"model", "model_option", "text", "file", "no_special", "dry_run"}
    elsewhere |= {"texts", "column", "out", "resume"}  # an agent asks once for each text
    for name in commands.NAMES:
        command: Any = built(name, lambda *_: None)
        offered = {each.name for each in arguments.fields(name, files=True).values()}
        left = {each.name for each in command.params} - offered - {"eight_bit", "four_bit"}
        assert left <= elsewhere, name


@pytest.mark.parametrize(
    "name",
    [name if name in ("tree", "attn", "patch") else pytest.param(name, marks=pytest.mark.screens) for name in CALLS],
)
def test_a_call_is_what_a_person_types(name: str, tools: Tools, run_cli: Run, opt: Path) -> None:
    given, words = CALLS[name]
    given = {key: str(opt) if value == "{model}" else value for key, value in given.items()}
    tools = Tools(None, (opt,))
    report = json.loads(run_cli(name, "--json", "-q", *(word.format(model=opt) for word in words)).stdout)
    result = called(tools, name, given)
    cut = dict(result.structured_content)
    assert cut["notes"][-1] == UNTRUSTED
    assert json.loads(result.content[0].text) == cut
    same(cut | {"notes": cut["notes"][:-1]}, report)
    program, command, *rest = shlex.split(str(result.meta["txinspect/command"]))
    assert program == "txinspect"
    again = run_cli(command, "--json", "-q", *rest)
    same(json.loads(again.stdout), report)


def test_models_are_chosen_for_all_calls_or_for_one(tools: Tools) -> None:
    named = Tools("transformer-mini", ())
    assert called(named, "tree", {}).structured_content["model"]["name"] == "transformer-mini"
    assert called(named, "tree", {"model": "opt-mini"}).structured_content["model"]["name"] == "opt-mini"
    assert called(named, "models", {}).structured_content["command"] == "models"


def test_an_encoder(tools: Tools, tmp_path: Path) -> None:
    bert = save_tiny("bert", tmp_path / "bert", task="masked-lm")
    masks = called(Tools(str(bert), (bert,)), "logits", {"mask": ["fox"], "text": "the fox"})
    assert not masks.is_error, masks.content
    assert masks.structured_content["model"]["class"] == "BertForMaskedLM"


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "a tool": ("atn", {}, "there is no tool 'atn'"),
    "page, which writes": ("page", {"html": "x.html"}, "there is no tool 'page'"),
    "a name": ("attn", {"layr": 1}, "attn takes no argument 'layr': did you mean 'layer'?"),
    "trust": ("attn", {"trust_remote_code": True}, "attn takes no argument 'trust_remote_code'"),
    "save": ("run", {"stage": ["logits"], "save": "x.npz"}, "run takes no argument 'save'"),
    "no stage": ("run", {}, "run needs the argument 'stage'"),
    "a layer": ("attn", {"layer": 9}, "layer 9 is out of range"),
    "a layer's type": ("attn", {"layer": {"a": 1}}, "layer {'a': 1} is not"),
    "a list": ("logits", {"top_k": [1]}, "top_k [1] is a list: give a whole number"),
    "half": ("logits", {"top_k": 2.5}, "'2.5' is not a whole number"),
    "true": ("logits", {"pll": "yes"}, "pll 'yes' is neither true nor false"),
    "a choice": ("lens", {"at": "nowhere"}, "nowhere"),
    "a number for a text": ("logits", {"text": 5}, "text 5 is no string"),
    "a number for a word": ("logits", {"target": [5]}, "target 5 is a number: give a string"),
    "no number": ("diff", {"against_dtype": "bfloat16", "tolerance": float("inf")}, "tolerance inf"),
    "bits": ("logits", {"quantization": "2bit"}, "quantization '2bit' is unknown: give 8bit or 4bit"),
    "special": ("logits", {"special": "no"}, "special 'no' is neither true nor false"),
    "a NUL": ("logits", {"target": ["a\0b"]}, "an argument of logits holds a NUL"),
    "a model that is none": ("tree", {"model": "no-such-model-here/x"}, "no-such-model-here/x"),
    "two": ("logits", {"text": "a", "ids": [1]}, "cannot be combined"),
    "an edit": ("logits", {"edit": ["x"]}, "the edit 'x' is not PLACE OP VALUE"),
    "half a pair": ("logits", {"text": "\ud800"}, "holds half a surrogate pair"),
}
"""Calls that cannot be answered, and what is said of them."""


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_with_a_call(kind: str, tools: Tools) -> None:
    name, given, says = WRONG[kind]
    assert says in said(alone(tools, name, given))  # what JSON cannot say is tried, too


FILES: dict[str, tuple[str, dict[str, Any]]] = {
    "a model": ("tree", {"model": "{}"}),
    "another model": ("params", {"diff": "{}"}),
    "a model beside": ("diff", {"against": "{}"}),
    "recorded tensors": ("diff", {"against_file": "{}/x.npz"}),
    "an edit": ("logits", {"edit": ["layers.0.output = {}/x.safetensors:a"]}),
    "a mean": ("logits", {"edit": ["layers.0.output = mean:{}/x.txt"]}),
    "another edit": ("diff", {"against_edit": ["layers.0.output + 2*{}/x.npz:a"]}),
    "a baseline": ("ablate", {"with": "mean:{}/x.txt"}),
    "a vector": ("steer", {"action": "try", "vector": "{}/x.safetensors:a"}),
    "pairs": ("steer", {"action": "make", "pairs": "{}/x.tsv", "layer": 1}),
    "a lens": ("lens", {"lens": "{}/x.pt"}),
    "what is written": ("run", {"stage": ["logits"], "save": "{}/x.npz"}),
    "a page": ("page", {"html": "{}/x.html"}),
}
"""Calls that name a file."""


@pytest.mark.parametrize(
    "kind",
    [kind if kind in ("a model", "an edit") else pytest.param(kind, marks=pytest.mark.screens) for kind in FILES],
)
def test_files_are_read_and_written_where_that_is_allowed(
    kind: str, tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, given = FILES[kind]
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (inside / "link").symlink_to(outside)
    monkeypatch.chdir(inside)

    def of(place: object) -> dict[str, Any]:
        named: dict[str, Any] = json.loads(json.dumps(given).replace("{}", str(place)))
        return named

    allowing = Tools(None, (inside.resolve(),))
    for place in (outside, inside / "link", f"{inside}/../outside"):
        assert "is not in a folder that may be read" in said(alone(allowing, name, of(place)))
    if name == "tree":
        assert "is not in a folder that may be read" in said(alone(allowing, name, {"model": "../outside"}))
    assert "may be read" not in str(alone(allowing, name, of(inside)).content)
    assert alone(tools, name, of(inside)).is_error
    assert not list(outside.iterdir())


def test_what_is_allowed_is_written(tools: Tools, tmp_path: Path) -> None:
    allowing = Tools(None, (tmp_path.resolve(),))
    asked = {"stage": ["logits"], "save": str(tmp_path / "x.npz")}
    assert called(allowing, "run", asked).structured_content["saved"] == str(tmp_path / "x.npz")
    assert called(allowing, "run", asked).structured_content["replaced"] is True
    (tmp_path / "own.npz").write_text("a person's own")
    assert "own.npz" in said(called(allowing, "run", asked | {"save": str(tmp_path / "own.npz")}))
    assert (tmp_path / "own.npz").read_text() == "a person's own"
    assert not called(allowing, "page", {"html": str(tmp_path / "page.html"), "text": "a"}).is_error
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    offered: dict[str, Any] = {each.name: each for each in allowing.listed()}
    assert offered["run"].annotations.read_only_hint is False
    assert offered["tree"].annotations.read_only_hint is True


def test_a_drawing_is_a_picture(tools: Tools) -> None:
    result = called(tools, "attn", {"text": "the fox", "image": True})
    assert [each.type for each in result.content] == ["text", "image"]
    assert base64.b64decode(result.content[1].data).startswith(b"\x89PNG")
    assert [each.type for each in called(tools, "attn", {"text": "the fox", "image": False}).content] == ["text"]


def test_what_an_agent_cannot_read_is_cut(tools: Tools) -> None:
    given = {"text": "hello world " * 9, "layer": "all", "values": True}
    cut = called(tools, "attn", given).structured_content  # the client has checked it by the schema
    assert len(encoded(cut)) <= MOST
    first = cut["notes"][0]
    assert first.startswith("cut, for 40,000 characters at most: only the first ")
    assert "ask for less: omit values" in first
    assert "txinspect attn --values --layer=all 'hello world" in first
    assert cut["notes"][-1] == UNTRUSTED


@pytest.mark.parametrize("most", [MOST, 4_000, 1_500])
@pytest.mark.parametrize("name", ["attn", "tree", "logits", "params", "tokenize"])
def test_a_report_that_is_cut_follows_its_schema(name: str, most: int, run_cli: Run) -> None:
    report = json.loads(run_cli(name, "--json", "-q").stdout)
    cut = brief(report, "ask for less", most)
    jsonschema.validate(cut, schema(name))
    assert len(encoded(cut)) <= most or most < 2_000  # what is no list, nor a long string, stays
    assert (cut == report) == (len(encoded(report)) <= most)


def test_a_check_that_does_not_hold_is_a_report_and_a_sentence(tools: Tools) -> None:
    found = called(tools, "diff", {"against_dtype": "bfloat16", "fail_on": ["kl_mean>0"]})
    assert found.structured_content["notes"][0].startswith("a check did not hold: ")


def test_the_command_of_a_wrong_folder_or_without_its_package(run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--allow '/no/such/folder' is no folder" in usage(run_cli("mcp", "--allow", "/no/such/folder"))
    monkeypatch.setitem(sys.modules, "mcp.server.stdio", None)
    assert "pip install 'txinspect[mcp]' brings it" in sentence(run_cli("mcp"))


@pytest.mark.processes
def test_the_command_at_a_terminal() -> None:
    main, terminal = pty.openpty()
    done = subprocess.run([*PROGRAM, "mcp"], stdin=terminal, capture_output=True, timeout=60)
    os.close(main)
    os.close(terminal)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"standard input is a terminal: let the agent start it" in done.stderr


def over_pipes(use: Callable[[Client], Awaitable[None]], runtime: Path, *options: str) -> None:
    """Have the SDK's client use the command in a process of its own, whose server is in a folder of its own."""
    own = os.environ | {"XDG_RUNTIME_DIR": str(runtime)}

    async def used() -> None:
        started = StdioServerParameters(command=sys.executable, args=["-m", "txinspect", "mcp", *options], env=own)
        async with Client(stdio_client(started)) as client:
            await use(client)

    anyio.run(used)


def state(runtime: Path) -> dict[str, Any]:
    """What the process that stays says of itself."""
    own = os.environ | {"XDG_RUNTIME_DIR": str(runtime)}
    told = subprocess.run([*PROGRAM, "serve", "--status", "--json"], env=own, capture_output=True)
    found: dict[str, Any] = json.loads(told.stdout) if told.stdout else {"questions": 0, "models": []}
    return found


@pytest.mark.processes
def test_ten_calls_are_answered_on_one_model_and_one_that_is_given_up_ends(tmp_path: Path, run_cli: Run) -> None:
    own = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)}

    async def use(client: Client) -> None:
        await client.list_tools()
        while not state(tmp_path)["models"]:
            await client.call_tool("embed", {"text": "a"})
        before = state(tmp_path)["questions"]
        for layer in (*range(4), *range(4), 0, 1):
            found = await client.call_tool("attn", {"text": "the fox", "layer": layer})
            alone = json.loads(run_cli("attn", "the fox", "--layer", layer, "--json").stdout)
            same(found.structured_content["heads"], alone["heads"])
        assert state(tmp_path)["questions"] == before + 10
        assert [each["name"] for each in state(tmp_path)["models"]] == ["opt-mini"]
        with anyio.move_on_after(2):
            await client.call_tool("logits", {"text": "the quick brown fox " * 1000, "stride": 1})
            raise AssertionError("it is answered before it can be given up")
        until = time.monotonic() + 20
        while state(tmp_path)["answering"]:
            assert time.monotonic() < until
            await anyio.sleep(0.1)
        assert not (await client.call_tool("tree", {})).is_error

    try:
        over_pipes(use, tmp_path)
    finally:
        subprocess.run([*PROGRAM, "serve", "--stop"], env=own, capture_output=True)
