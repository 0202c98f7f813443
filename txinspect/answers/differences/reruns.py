"""What else the sides of a comparison are run for: another backend, the noise, each layer alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from txinspect.answers.differences.comparison import Comparison
from txinspect.answers.differences.sides import chosen
from txinspect.answers.running import Running
from txinspect.errors import InspectError
from txinspect.forward import capture
from txinspect.forward.edits import Feed
from txinspect.forward.wants import Plan, plan_of
from txinspect.guards.quiet import quiet
from txinspect.loading.backend import on_backend, other_backend
from txinspect.measure import difference
from txinspect.stage_names import StageName

if TYPE_CHECKING:
    from txinspect.forward.capture import CaughtTensor


def run_again(comparison: Comparison, running: Running) -> None:
    """Run this side's model once more for what the comparison asks: another backend, the noise."""
    comparison.number_runs()
    wanted = plan_of(running.subject.architecture, chosen(running.subject, comparison.query))
    if comparison.query.against_attn is not None:
        with on_backend(running.model, comparison.query.against_attn):
            running.run(comparison.text, wanted, comparison.compare)
            isolate(comparison, running)
    if comparison.query.tolerance is None:
        comparison.noise = _noise(comparison, running, wanted)


def _noise(comparison: Comparison, running: Running, wanted: Plan) -> float:
    """Run this side again to find the noise: how far it is from itself where only the order of sums changes."""
    seen = [0.0]

    def receive(caught: CaughtTensor) -> None:
        this, again = comparison.this.get(comparison.name_of(caught)), caught.tensor.whole().cpu()
        if this is not None and this.shape == again[:1].shape and this.is_floating_point():
            seen.append(difference.difference(this, again[:1]).rel_l2 or 0.0)

    twice = {name: tensor.repeat(2, 1) for name, tensor in running.inputs(comparison.text).items()}
    attempts: list[Callable[[], Any]] = [lambda: capture.run(running.model, twice, wanted, receive)]
    backend = other_backend(running.model)
    if comparison.query.against_attn is None and backend is not None:
        attempts.append(lambda: _on_another(comparison, running, backend, wanted, receive))
    for attempt in attempts:
        try:
            with quiet():
                attempt()
        except InspectError:
            continue  # a model that takes no batch, or has no other backend, is measured without it
    return max(seen)


def _on_another(
    comparison: Comparison, running: Running, backend: str, wanted: Plan, receive: Callable[[CaughtTensor], None]
) -> None:
    with on_backend(running.model, backend):
        running.run(comparison.text, wanted, receive)


def isolate(comparison: Comparison, running: Running) -> None:
    """Run the other side with each layer fed what this side's layer read, where that was asked for."""
    if not comparison.query.isolated:
        return
    architecture = running.subject.architecture
    names = {name: StageName.of(name) for name in comparison.this}
    given = {
        layer.first: [
            comparison.this[name]
            for name, said in names.items()
            if (said.stack, said.layer, said.part) == (prefix, index, "input")
        ]
        for prefix, index, layer in architecture.numbered_layers()
    }

    def receive(caught: CaughtTensor) -> None:
        name, other = comparison.name_of(caught), caught.tensor.whole().cpu()
        this = comparison.this.get(name)
        if this is not None and names[name].layer is not None and this.shape == other.shape:
            comparison.isolated[name] = difference.difference(this, other).rel_l2

    wants = chosen(running.subject, comparison.query)
    running.run(comparison.text, plan_of(architecture, wants, edits=(Feed(given),)), receive)
