"""An error's two parts, what is wrong and what to do: one sentence in a pipe, two paragraphs on a terminal."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from typing import Any, cast

import pytest
from typer.testing import Result

from tests.cli.test_app import on_terminal
from txinspect import AttnQuery, ModelChoice
from txinspect.commands.attn import AttnView
from txinspect.errors import InspectError, Said, SourceError, UsageError, spelled, spelling

Run = Callable[..., Result]


def test_the_sentence_is_both_parts() -> None:
    assert str(UsageError("x is wrong", "give y")) == "x is wrong: give y"
    assert str(UsageError("x and y cannot be combined: x is z", "omit one", by="; ")).endswith("x is z; omit one")
    assert str(SourceError("x is damaged")) == "x is damaged"
    assert SourceError("x is damaged").said() == Said("x is damaged", "x is damaged", None)


def wrong_twice() -> UsageError:
    return UsageError(f"{spelled('top_k')} 0 lists no token", f"omit {spelled('dtype', 'float32')}")


def test_fields_are_spelled_in_both_as_who_asks_spells_them() -> None:
    error = wrong_twice()
    assert str(error) == "top_k 0 lists no token: omit dtype='float32'"
    assert error.hint == "omit dtype='float32'"
    with spelling(lambda name, value: f"<{name} {value}>"):
        spoken = wrong_twice().said()
    assert spoken == Said("<top_k None> 0 lists no token: omit <dtype float32>", *re.split(": ", spoken.sentence))
    assert wrong_twice().said() == error.said()


def test_an_error_within_another_keeps_its_sentence() -> None:
    inner = UsageError(f"{spelled('layer')} is wrong", "give 0")
    assert str(SourceError(f"outside: {inner}")) == "outside: layer is wrong: give 0"


def test_an_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(UsageError("x is wrong", "give y", by="; ")))
    assert (str(error), error.said().hint) == ("x is wrong; give y", "give y")


@pytest.mark.parametrize(
    ("made", "wrong", "hint"),
    [
        (lambda: AttnQuery(layer=()), "layer chooses none", "name at least one, or omit it for all"),
        (lambda: AttnView(theme=cast(Any, "pink")), "theme 'pink' is unknown", "give auto, dark or light"),
        (lambda: ModelChoice(device="tpu"), "device 'tpu' is not a device", "give auto, cpu, cuda, cuda:N or mps"),
        (lambda: AttnQuery(new=0), "new 0 generates nothing", "give 1 or more"),
        (lambda: AttnQuery(system="x"), "system is a message", "add chat=True, or omit it"),
        (
            lambda: ModelChoice(device="cpu", device_map="auto"),
            "device='cpu' and device_map='auto' cannot be combined: a map chooses devices itself",
            "give one of them",
        ),
    ],
)
def test_errors_that_say_what_to_do(made: Callable[[], object], wrong: str, hint: str) -> None:
    with pytest.raises(InspectError) as raised:
        made()
    assert raised.value.said()[1:] == (wrong, hint)


LINES = [
    (("foo",), "no such command 'foo'", "see 'txinspect --help'"),
    (("atn",), "no such command 'atn'", "did you mean 'attn'? Else see 'txinspect --help'"),
    (("attn", "--leyer"), "no such option: --leyer", "did you mean --layer? Else see 'txinspect attn --help'"),
    (
        ("embed", "one", "two"),
        "'two' is one argument too many",
        "put a text with spaces in quotes; see 'txinspect embed --help'",
    ),
    (
        ("tree", "./nowhere"),
        "there is no file or directory './nowhere'",
        "give a bundled model (opt-mini, transformer-mini), a local directory, a .gguf file or a Hub id",
    ),
    (
        ("embed", "--8bit", "--dtype", "float32"),
        "--8bit computes in half precision",
        "omit --dtype float32, or give float16 or bfloat16",
    ),
    (
        ("embed", "--save", "a.npz", "--save", "b.npz"),
        "--save is given 2 times: it holds one value",
        "give it once",
    ),
    (("attn", "-l", "9"), "layer 9 is out of range: 'opt-mini' has layers 0 to 3", None),
]


@pytest.mark.processes
@pytest.mark.parametrize(("line", "wrong", "hint"), LINES)
@pytest.mark.parametrize("width", [40, 80])
def test_on_a_terminal(
    line: tuple[str, ...], wrong: str, hint: str | None, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    code, shown, heard = on_terminal(*line, "-q") if line[0] == "attn" and hint is None else on_terminal(*line)
    assert (code in (1, 2), shown) == (True, "")
    heard = heard.replace("\r\n", "\n")
    assert heard.startswith("\x1b[31merror:\x1b[0m ")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", heard)
    assert max(map(len, plain.splitlines())) <= width
    parts = re.split(r"\n(?! )", plain.removesuffix("\n"))
    one_line = [re.sub(r"\n +", " ", part) for part in parts]
    assert one_line == [f"error: {wrong}", *([f"hint: {hint}"] if hint else [])]


@pytest.mark.parametrize(("line", "wrong", "hint"), LINES)
def test_elsewhere_it_is_one_line(
    line: tuple[str, ...], wrong: str, hint: str | None, run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    result = run_cli(*line)
    assert result.stderr.startswith(f"txinspect: {wrong}")
    assert result.stderr.count("\n") == 1
    last = (hint or wrong).rpartition("Else ")[2]
    assert result.stderr.endswith(f"{last}\n")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert run_cli(*line).stderr == f"\x1b[31m{result.stderr[:-1]}\x1b[0m\n"
