"""--check says no: each check fails when what it guards is broken, with exit code 3 and the report all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import Result

from txinspect.anatomy import locating
from txinspect.anatomy.architecture import Layer
from txinspect.commands.embed import EmbedQuery
from txinspect.forward import checking
from txinspect.forward.attention.calls import BackendCall
from txinspect.forward.recorded import TensorBlocks
from txinspect.inspecting import inspect
from txinspect.model_choice import ModelChoice

Break = Callable[[pytest.MonkeyPatch], None]

NAMES = ["logits", "finite", "row_sums", "context", "residual"]


def disturb_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recording that changes what a layer passes on."""
    original = checking._recorded

    @contextmanager
    def disturbing(model: Any, architecture: Any, batch: int) -> Iterator[Any]:
        handle = model.lm_head.register_forward_hook(lambda _module, _args, output: output * 1.0001)
        with original(model, architecture, batch) as seen:
            yield seen
        handle.remove()

    monkeypatch.setattr(checking, "_recorded", disturbing)


def lose_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that do not sum to 1."""
    original = BackendCall._weights
    monkeypatch.setattr(BackendCall, "_weights", lambda call, rows: 0.9 * original(call, rows))


def mix_up_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another tensor in the place of weights·v."""
    original = BackendCall.part

    def part(call: BackendCall, name: str, selection: Any) -> Any:
        found, kept = original(call, name, selection)
        if name == "context":
            found = TensorBlocks.of(found.whole().roll(1, dims=1))
        return found, kept

    monkeypatch.setattr(BackendCall, "part", part)


def take_the_wrong_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that does not add to the residual stream in the place of the MLP."""
    original = locating._Tree._layer

    def layer(tree: Any, path: str, *, crossed: bool) -> Layer:
        found = original(tree, path, crossed=crossed)
        return replace(found, mlp_outputs=(f"{path}.final_layer_norm",)) if path.endswith(".1") else found

    monkeypatch.setattr(locating._Tree, "_layer", layer)


@pytest.mark.parametrize(
    ("name", "damage", "says"),
    [
        ("logits", disturb_the_model, "largest difference from a plain pass"),
        ("row_sums", lose_weight, "weights of a query sum to 1: off by 0.1"),
        ("context", mix_up_the_context, "weights·v equals the context: off by"),
        ("residual", take_the_wrong_output, "must equal the output in every layer: in layer 1, off by"),
    ],
)
def test_a_check_fails_when_what_it_guards_is_broken(
    name: str, damage: Break, says: str, opt: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Callable[..., Result]
) -> None:
    sound = run_cli("embed", "hi", "-m", opt, "--check")
    assert sound.exit_code == 0, sound.stderr
    damage(monkeypatch)
    broken = run_cli("embed", "hi", "-m", opt, "--check")
    assert broken.exit_code == 3
    assert broken.stderr.startswith("txinspect: a check did not hold: ")
    assert says in broken.stderr
    assert "token_embeddings" in broken.stdout
    checks = inspect(EmbedQuery(model=ModelChoice(name=str(opt)), text="hi", check=True)).checks
    assert checks is not None
    assert [check.name for check in checks] == NAMES
    assert next(check.name for check in checks if check.passed is False) == name


def test_a_part_that_was_not_recorded_fails_the_sum(opt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = locating._Tree._layer
    monkeypatch.setattr(
        locating._Tree,
        "_layer",
        lambda tree, path, crossed: replace(
            original(tree, path, crossed=crossed), mlp_outputs=(), attention_outputs=()
        ),
    )
    checks = inspect(EmbedQuery(model=ModelChoice(name=str(opt)), text="hi", check=True)).checks or []
    (residual,) = [check for check in checks if check.name == "residual"]
    assert residual.passed is False
    assert "in layer 0, a part of it was not recorded" in residual.detail


@pytest.mark.parametrize(("variant", "passed"), [("pre_norm", True), ("no_bias", True), ("post_norm", None)])
def test_post_norm_layers_are_not_known_to_add_up(
    variant: str, passed: bool | None, opt_variant: Callable[[str], Path]
) -> None:
    """OPT-350m norms the sum: nothing can be recomposed, and nothing is wrong."""
    choice = ModelChoice(name=str(opt_variant(variant)))
    checks = inspect(EmbedQuery(model=choice, text="hi", check=True)).checks or []
    assert [check.passed for check in checks if check.name == "residual"] == [passed]


def test_sums_are_measured_in_float64() -> None:
    parts = {"input": torch.full((1, 2), 2.0**30, dtype=torch.float64), "mlp": torch.ones(1, 2, dtype=torch.float64)}
    output: Tensor = parts["input"] + parts["mlp"]
    assert checking._distance(parts, ["mlp"], output) == 0.0
    assert checking._distance(parts, ["mlp"], output + 1) == pytest.approx(2.0**-30, rel=1e-6)
