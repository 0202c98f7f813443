"""Models from strangers: one sentence or a right report, never a hang, a crash or a byte that a terminal obeys."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.making.bad_input import Run
from tests.making.strangers import STRANGERS
from tests.making.strangers.damaging import EFFECT
from tests.making.strangers.judging import judge
from tests.making.strangers.running import run_apart, run_here
from tests.making.strangers.stranger import Stranger

pytestmark = pytest.mark.strangers


@pytest.mark.parametrize("case", [each for each in STRANGERS if not each.apart], ids=lambda case: case.id)
def test_here(case: Stranger, model: Path, run_cli: Run) -> None:
    case.damage(model)
    judge(case, run_here(run_cli, case.arguments))
    assert not EFFECT.exists()


@pytest.mark.parametrize("case", [each for each in STRANGERS if each.apart], ids=lambda case: case.id)
def test_apart(case: Stranger, model: Path) -> None:
    """In a process of its own, which may hang or crash, and whose file descriptors are read."""
    case.damage(model)
    judge(case, run_apart(case.arguments, model.parent))
    assert not EFFECT.exists()
