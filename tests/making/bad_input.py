"""Bad input, and what its one sentence must hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import Result

Run = Callable[..., Result]
EMBEDDING = "model.decoder.embed_tokens.weight"
FC1 = "model.decoder.layers.0.fc1.weight"


def sentence(result: Result, code: int = 1) -> str:
    """The one sentence of a failure: what is wrong, on stderr, with nothing on stdout and no traceback."""
    assert (result.exit_code, result.stdout) == (code, ""), result.stderr
    assert result.stderr.startswith("txinspect: ")
    assert result.stderr.count("\n") == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert not result.stderr.startswith("txinspect: unexpected ")
    assert not result.stderr.endswith(":\n")  # cut off before it says why
    assert "\x1b" not in result.stderr
    return result.stderr


def usage(result: Result) -> str:
    """The one sentence about a wrong command line."""
    return sentence(result, code=2)


@dataclass(frozen=True)
class Bad:
    """A bad input, and what its sentence must hold."""

    id: str
    arguments: tuple[str, ...]
    says: tuple[str, ...]
    damage: Callable[[Path], object] = lambda _: None
    """What is done to a good checkpoint, which is the model `model`."""
    stdin: bytes = b""


def cases(*bad: Bad) -> pytest.MarkDecorator:
    """Parametrize a test with bad inputs."""
    return pytest.mark.parametrize("bad", bad, ids=lambda bad: bad.id)


def complain(bad: Bad, model: Path, run_cli: Run) -> None:
    """Run a bad input and look at its sentence."""
    bad.damage(model)
    said = sentence(run_cli(*bad.arguments, stdin=bad.stdin))
    missing = [fragment for fragment in bad.says if fragment not in said]
    assert not missing, said


def in_model(*arguments: str) -> tuple[str, ...]:
    """A command line about ./model."""
    return (*arguments, "-m", "./model")


EMBED = in_model("embed", "hi")
TREE = ("tree", "./model")
