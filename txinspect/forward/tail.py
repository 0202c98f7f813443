"""The model's own way from the last layer's output to the logits, run again on other hidden states.

While the pass runs, what every layer passes on is remembered. To read other hidden states the model is called once
more: each layer passes on what it did, without computing it again, and the last one passes on the hidden states asked
for. So the final norm, projections, heads, scales and caps act as they do in the model, whatever they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from inspect import signature
from typing import TYPE_CHECKING, Any

from txinspect.anatomy.architecture import Layer
from txinspect.forward.hooks import after, passing, reading
from txinspect.forward.inputs import call, logits_of
from txinspect.forward.values import first_tensor, hidden_states, with_first
from txinspect.guards.patching import patched

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


@dataclass
class Tail:
    """What the layers of a pass passed on. A watch: see forward.edits.Watch."""

    layers: tuple[Layer, ...]
    inside: bool = False
    """Whether what the modules of a layer read is remembered, too."""
    passed: dict[str, list[Any]] = field(default_factory=dict)
    """By the module that ends a layer: what it passed on, each time it ran."""
    entered: list[Tensor] = field(default_factory=list)
    """What the first layer read, each time it ran."""
    read: dict[int, list[Tensor]] = field(default_factory=dict)
    """By layer: what its direct modules read, in their order."""
    added: dict[int, list[Tensor]] = field(default_factory=dict)
    """By layer: what its attention passed on."""
    normed: dict[int, list[Tensor]] = field(default_factory=dict)
    """By layer: what a direct module made of that, such as a norm after attention."""

    @contextmanager
    def watching(self, model: PreTrainedModel) -> Iterator[None]:
        """While open, what the layers pass on is remembered, for the tail to run again."""
        self.passed, self.entered, self.read, self.added, self.normed = {}, [], {}, {}, {}
        with ExitStack() as stack:
            first = model.get_submodule(self.layers[0].first)
            stack.enter_context(reading(first, lambda hidden: self.entered.append(hidden.clone())))
            for index, layer in enumerate(self.layers):
                stack.enter_context(passing(model.get_submodule(layer.last), self._keeper(layer.last)))
                if self.inside:
                    stack.enter_context(self._inside(model, index))
            yield

    def outputs(self, layer: int) -> Tensor | None:
        """What a layer passed on when it last ran before the tail."""
        passed = self.passed.get(self.layers[layer].last)
        return first_tensor(passed[-1]) if passed else None

    def logits(
        self,
        model: PreTrainedModel,
        inputs: Mapping[str, Tensor],
        hidden: Tensor,
        positions: Sequence[int] | None = None,
    ) -> Tensor:
        """The logits that the model's tail gives where the last layer passes on `hidden`, in the shape it has there.

        (batch, seq, vocab), or of some positions alone, which many heads are spared the others for.
        """
        import torch

        count = inputs["attention_mask"].shape[1]
        spared = (
            positions is not None and len(positions) < count and "logits_to_keep" in signature(model.forward).parameters
        )
        kept = {"logits_to_keep": torch.tensor(positions, device=model.device)} if spared else {}
        with torch.no_grad(), self._replayed(model, hidden):
            logits = logits_of(call(model, inputs, **kept))
        return logits if positions is None or spared else logits[:, list(positions)]

    def between(self, layer: int) -> Tensor | None:
        """The stream after a layer's attention and before its MLP, for the tail; None where no module reads it.

        What attention adds is what it passes on, or what a norm after it makes of that (Gemma 2), times a factor
        (Granite's residual_multiplier). Where attention and MLP run side by side there is no such stream.
        """
        before = self.outputs(layer - 1) if layer else self.entered[-1] if self.entered else None
        added = self.added.get(layer)
        if before is None or not added or any(each.shape != before.shape for each in added):
            return None
        moved = [sum((each.double() for each in added[1:]), added[0].double())]
        moved += [each.double() for each in self.normed.get(layer, ()) if each.shape == before.shape]
        # Some modules see their tokens in one row: (batch·seq, hidden).
        own = [each.reshape(before.shape) for each in self.read.get(layer, ()) if each.numel() == before.numel()]
        return next((stream for way in moved for stream in own if _is_sum(stream, before, way)), None)

    @contextmanager
    def _inside(self, model: PreTrainedModel, index: int) -> Iterator[None]:
        """While open, what the modules of a layer read and what its attention adds are remembered for the tail."""
        layer = self.layers[index]
        with ExitStack() as stack:
            for child in model.get_submodule(layer.first).children():
                stack.enter_context(reading(child, self._reader(index)))
                stack.enter_context(after(child, self._follower(index)))
            for path in (*layer.attention_outputs, *layer.mixers):
                stack.enter_context(passing(model.get_submodule(path), self._adder(index)))
            yield

    def _follower(self, index: int) -> Callable[..., None]:
        """Keeps what a module makes of what attention passed on, to find the stream in between."""
        import torch

        def keep(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            read, made = first_tensor(hidden_states(args, kwargs)), first_tensor(output)
            if read is None or made is None:
                return
            if any(each.shape == read.shape and torch.equal(each, read) for each in self.added.get(index, ())):
                self.normed.setdefault(index, []).append(made.detach().clone())

        return keep

    def _adder(self, index: int) -> Callable[[Any], None]:
        def keep(output: Any) -> None:
            found = first_tensor(output)
            if found is not None:
                self.added.setdefault(index, []).append(found.detach().clone())

        return keep

    def _keeper(self, path: str) -> Callable[[Any], None]:
        def keep(output: Any) -> None:
            self.passed.setdefault(path, []).append(_copied(output))

        return keep

    def _reader(self, index: int) -> Callable[[Tensor], None]:
        def keep(hidden: Tensor) -> None:
            self.read.setdefault(index, []).append(hidden.clone())

        return keep

    @contextmanager
    def _replayed(self, model: PreTrainedModel, hidden: Tensor) -> Iterator[None]:
        """While open, layers pass on what they did, and the last one, when it last runs, `hidden`, for the tail."""
        last = self.layers[-1].last
        with ExitStack() as stack:
            for layer in self.layers:
                runs = iter(self.passed.get(layer.last, ()))
                if layer.first == layer.last and layer.last != last:
                    module = model.get_submodule(layer.last)
                    stack.enter_context(patched(module, "forward", lambda *_, runs=runs, **__: _copied(next(runs))))
            count = len(self.passed.get(last, ()))
            seen: list[None] = []

            def replace(_args: Any, _kwargs: Any, output: Any) -> Any:
                seen.append(None)
                return with_first(output, hidden.clone()) if len(seen) == count else output

            module = model.get_submodule(last)
            if self.layers[-1].first == last:
                ends = iter(self.passed.get(last, ()))
                stack.enter_context(patched(module, "forward", lambda *_, **__: _copied(next(ends))))
            stack.enter_context(after(module, replace))
            yield


def _is_sum(stream: Tensor, before: Tensor, moved: Tensor) -> bool:
    """Whether a layer's stream is the one before it and what was moved into it, times any factor but 0."""
    import torch

    apart = stream.double() - before.double()
    near = 8 * torch.finfo(before.dtype).eps * float(stream.double().abs().max())
    factor = float((apart * moved).sum() / (moved * moved).sum().clamp(min=1e-300))
    if float((apart - moved).abs().max()) <= near:
        return True
    return float(apart.abs().max()) > near and float((apart - factor * moved).abs().max()) <= near


def _copied(value: Any) -> Any:
    """A copy of what a layer passed on, so that nothing which acts on it in place changes what the tail remembers."""
    import torch
    from torch.utils._pytree import tree_map

    return tree_map(lambda leaf: leaf.detach().clone() if isinstance(leaf, torch.Tensor) else leaf, value)
