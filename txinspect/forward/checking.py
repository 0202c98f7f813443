"""--check: does recording leave the model alone, and does what it records add up?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from txinspect.anatomy.architecture import Architecture, Layer
from txinspect.anatomy.families import GATED_CONTEXTS, NO_SOFTMAX, adds_up
from txinspect.forward.attention import recorder
from txinspect.forward.attention.calls import Call
from txinspect.forward.hooks import passing, reading
from txinspect.forward.inputs import call, logits_of
from txinspect.forward.values import first_tensor
from txinspect.forward.wants import Selection
from txinspect.records import CheckRecord

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

TOLERANCE = {"float64": 1e-6, "float32": 1e-5, "float16": 1e-2, "bfloat16": 5e-2}
"""How far rounding may take a sum from what it should be, relative to the largest value, by the type computed in."""


def check(model: PreTrainedModel, architecture: Architecture, inputs: Mapping[str, Tensor]) -> list[CheckRecord]:
    """Check a model: run it once as it is and once with every layer recorded, and compare."""
    import torch

    with torch.no_grad():
        plain = logits_of(call(model, inputs))
        with _recorded(model, architecture, batch=inputs["attention_mask"].shape[0]) as seen:
            recorded = logits_of(call(model, inputs))
    if not plain.isfinite().all():
        seen.unsound.append("the logits")
    return [
        _same_logits(plain, recorded),
        seen.finite_check(),
        *seen.attention_checks(),
        seen.residual_check(known=adds_up(model.config)),
    ]


def _same_logits(plain: Tensor, recorded: Tensor) -> CheckRecord:
    """Check that two passes gave the same logits to the last bit; what is NaN in both is the same."""
    differ = (plain != recorded) & ~(plain.isnan() & recorded.isnan())
    off = float((plain - recorded).abs()[differ].max()) if differ.any() else 0.0
    return CheckRecord(name="logits", passed=not differ.any(), detail=f"largest difference from a plain pass: {off}")


@dataclass
class _Seen:
    """What every layer's attention and sums came to."""

    tolerance: float
    row_sums: dict[str, float] = field(default_factory=dict)
    """By module: how far the farthest row of weights is from summing to 1."""
    sinks: set[str] = field(default_factory=set)
    contexts: dict[str, float] = field(default_factory=dict)
    """By module: how far weights·v is from the context, relative to its largest value."""
    gated: set[str] = field(default_factory=set)
    residuals: dict[str, float | None] = field(default_factory=dict)
    """By layer: how far input + attention + MLP is from the output; None if a part is missing."""
    unweighed: set[str] = field(default_factory=set)
    """Modules whose weights or context are not finite, so that nothing is added up in them."""
    unsound: list[str] = field(default_factory=list)
    """What holds NaN or infinities, in the order of the pass: nothing adds up in it."""

    def finite_check(self) -> CheckRecord:
        """The check that the recorded numbers are finite, which is the model's own doing."""
        detail = "attention weights, every layer's output and the logits are finite"
        if self.unsound:
            more = len(self.unsound) - 1
            after = f", and so {'has 1 place' if more == 1 else f'have {more} places'} after it" if more else ""
            detail = (
                f"{self.unsound[0]} has NaN or infinite values{after}: they come of the model's own numbers, not of "
                f"recording"
            )
        return CheckRecord(name="finite", passed=not self.unsound, detail=detail)

    def attention_checks(self) -> Iterator[CheckRecord]:
        """The checks of attention: weights' row sums, and weights·v against the context."""
        if not self.row_sums:
            reason = "no attention with a softmax ran in this pass"
            if self.unsound:
                reason = "no attention gave finite weights, so there are no sums to check"
            yield CheckRecord(name="row_sums", passed=None, detail=reason)
            yield CheckRecord(name="context", passed=None, detail=reason)
            return
        explained = "; attention sinks take the rest" if self.sinks else ""
        yield self._worst("row_sums", self.row_sums, self.sinks, "the weights of a query sum to 1", explained)
        explained = "; the architecture scales its context afterwards" if self.gated else ""
        yield self._worst("context", self.contexts, self.gated, "weights·v equals the context", explained)

    def _worst(
        self, name: str, found: Mapping[str, float], excused: set[str], meaning: str, explained: str
    ) -> CheckRecord:
        counted = {module: value for module, value in found.items() if module not in excused}
        if not counted:
            return CheckRecord(name=name, passed=None, detail=meaning + explained)
        module = max(counted, key=lambda each: counted[each])
        detail = f"{meaning}: off by {counted[module]:.2g} at most, in {module}{explained}"
        passed: bool | None = counted[module] <= self.tolerance
        if passed and self.unweighed:
            passed = None
            detail += f"; not looked at in {min(self.unweighed)}, whose weights are not finite"
        return CheckRecord(name=name, passed=passed, detail=detail)

    def residual_check(self, *, known: bool) -> CheckRecord:
        """The check of a layer's output against its input plus what attention and MLP add.

        Where the architecture is `known` to add them up, it must be so in every layer; elsewhere layers may scale or
        norm what they add, and the check can say only yes or nothing.
        """
        off = {name: value for name, value in self.residuals.items() if value is None or not value <= self.tolerance}
        count = len(self.residuals)
        detail = f"input + attention + MLP equals the output in {count - len(off)} of {count} layers"
        if known and off:
            layer, value = next(iter(off.items()))
            how = "a part of it was not recorded" if value is None else f"off by {value:.2g}"
            detail = f"input + attention + MLP must equal the output in every layer: in {layer}, {how}"
        elif len(off) == count:
            detail = "the layers do not add attention and MLP to their input as they are: there is no sum to check"
        if self.unsound and not count:
            return CheckRecord(
                name="residual", passed=None, detail="no layer's output is finite: there is no sum to check"
            )
        passed = not off if known else None if len(off) == count else True
        return CheckRecord(name="residual", passed=passed, detail=detail)


@contextmanager
def _recorded(model: PreTrainedModel, architecture: Architecture, batch: int) -> Iterator[_Seen]:
    """Record every layer to check it, reducing each to the numbers in _Seen as soon as it has run."""
    seen = _Seen(TOLERANCE.get(str(model.dtype).removeprefix("torch."), 1e-5))
    paths = {
        model.get_submodule(path): path
        for layer in architecture.all_layers
        for path in (*layer.attentions, *layer.cross_attentions)
        if architecture.class_names[path] not in NO_SOFTMAX
    }

    def receive(module: nn.Module, call: Call) -> None:
        _look_at_attention(seen, paths[module], module, call)

    with ExitStack() as stack:
        for prefix, index, layer in architecture.numbered_layers():
            stack.enter_context(_residual(model, layer, seen, f"{prefix.replace('.', ' ')}layer {index}"))
        stack.enter_context(recorder.recording(model, paths, receive, batch))
        yield seen


def _look_at_attention(seen: _Seen, path: str, module: nn.Module, call: Call) -> None:
    everything = Selection()
    weights = call.part("weights", everything)[0].whole().double()
    value, context = (call.part(name, everything)[0].whole().double() for name in ("v", "context"))
    if not (weights.isfinite().all() and context.isfinite().all()):
        seen.unsound.append(f"what {path} attends to")
        seen.unweighed.add(path)
        return
    seen.row_sums[path] = max(seen.row_sums.get(path, 0.0), float((weights.sum(-1) - 1).abs().max()))
    if call.has_sinks:
        seen.sinks.add(path)
    if type(module).__name__ in GATED_CONTEXTS:
        seen.gated.add(path)
    if value.shape[1] != weights.shape[1]:
        value = value.repeat_interleave(weights.shape[1] // value.shape[1], dim=1)
    off = float((weights @ value - context).abs().max() / context.abs().max().clamp(min=1e-12))
    seen.contexts[path] = max(seen.contexts.get(path, 0.0), off)


@contextmanager
def _residual(model: PreTrainedModel, layer: Layer, seen: _Seen, name: str) -> Iterator[None]:
    """Note, for the check, how far a layer's output is from its input plus what its parts add."""
    parts: dict[str, Tensor] = {}
    added = (*layer.attention_outputs, *layer.cross_attention_outputs, *layer.mixers, *layer.mlp_outputs)

    def keep_input(hidden: Tensor) -> None:
        parts["input"] = hidden.double()

    def keep(path: str) -> Callable[..., None]:
        def hook(output: Any) -> None:
            found = first_tensor(output)
            if found is not None:
                parts[path] = found.detach().double()

        return hook

    def add_up(output: Any) -> None:
        found = first_tensor(output)
        if found is not None and not found.isfinite().all():
            seen.unsound.append(f"the output of {name}")
        else:
            seen.residuals[name] = None if found is None else _distance(parts, added, found.detach().double())
        parts.clear()

    with ExitStack() as stack:
        stack.enter_context(reading(model.get_submodule(layer.first), keep_input))
        for path in added:
            stack.enter_context(passing(model.get_submodule(path), keep(path)))
        stack.enter_context(passing(model.get_submodule(layer.last), add_up))
        yield


def _distance(parts: Mapping[str, Tensor], added: Sequence[str], output: Tensor) -> float | None:
    """The check's largest difference of input + parts to the output, relative to the output's largest value."""
    wanted = ["input", *added]
    if len(added) < 1 or any(name not in parts or parts[name].numel() != output.numel() for name in wanted):
        return None
    total = sum((parts[name].reshape(output.shape) for name in wanted[1:]), parts["input"].reshape(output.shape))
    return float((total - output).abs().max() / output.abs().max().clamp(min=1e-12))
