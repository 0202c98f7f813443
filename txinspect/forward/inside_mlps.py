"""What neurons and experts write of what their MLP adds to a logit: what each hands on, times the gradient there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from txinspect.anatomy.architecture import Supply
from txinspect.errors import StageError, spelled
from txinspect.forward.hooks import Arguments, before, passing
from txinspect.forward.values import first_tensor, hidden_states

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

NEAR = 1e-4
"""Of the magnitudes that are added up: how near the shares of an MLP must come to it, in float32."""


@dataclass(frozen=True)
class Neuron:
    """A number of what the down projection of an MLP reads."""

    layer: int
    neuron: int
    activation: float
    value: float
    """What it adds to a logit."""


@dataclass(frozen=True)
class Expert:
    """An expert of an MLP that a token was sent to."""

    layer: int
    expert: int
    weight: float
    """The router's."""
    value: float
    """What it adds to a logit."""


@dataclass
class _Seen:
    """What was seen inside an MLP in a run."""

    read: Tensor | None = None
    """By its last matrix: the neurons."""
    bias: Tensor | None = None
    """Of that matrix."""
    experts: nn.Module | None = None
    """What mixes the experts."""
    chosen: Tensor | None = None
    weights: Tensor | None = None
    """Of the experts that were chosen: (tokens, k), as their ids."""
    mixed: Tensor | None = None
    """What the experts made together."""


@dataclass
class Inside:
    """What is looked for inside MLPs, and what is found."""

    position: int
    count: int = 0
    """Neurons to find: those that add the most."""
    by_expert: bool = False
    neurons: list[Neuron] = field(default_factory=list)
    experts: list[Expert] = field(default_factory=list)
    _seen: dict[str, _Seen] = field(default_factory=dict)
    """By the MLP: in the run that goes on."""
    _kept: list[tuple[Supply, Tensor, Tensor, _Seen]] = field(default_factory=list)

    @contextmanager
    def watching(self, model: PreTrainedModel, supplies: Sequence[Supply]) -> Iterator[None]:
        """While open, what the last matrix and the experts of each MLP read is seen."""
        with ExitStack() as hooks:
            for path in {str(each.module) for each in supplies if each.within == "mlp.output"}:
                for module in model.get_submodule(path).modules() if self.count or self.by_expert else ():
                    if getattr(getattr(module, "weight", None), "ndim", 0) == 2:
                        hooks.enter_context(before(module, partial(self._read, path, module)))
                    if self.by_expert:
                        hooks.enter_context(before(module, partial(self._choose, path, module)))
                        hooks.enter_context(passing(module, partial(self._mix, path, module)))
            yield

    def took(self, supply: Supply, own: Tensor, leaf: Tensor) -> None:
        """Learn that an MLP passed on its `own`, in whose place a leaf begins the graph."""
        if supply.within == "mlp.output" and (self.count or self.by_expert):
            self._kept.append((supply, own, leaf, self._seen.pop(str(supply.module), _Seen())))

    def look(self, gradients: dict[int, Tensor | None]) -> None:
        """Find the neurons and experts, by the gradients at the leaves. Raises StageError where there are none."""
        for supply, own, leaf, seen in self._kept:
            gradient = gradients[id(leaf)]
            if gradient is None:
                continue
            if self.count:
                self._find_neurons(supply, own, gradient, seen)
            if self.by_expert and seen.weights is not None:
                self._find_experts(supply, own, gradient, seen)
        self.neurons = sorted(self.neurons, key=lambda each: -abs(each.value))[: self.count]
        if self.count and not self.neurons:
            raise StageError(f"{spelled('neurons')} is about MLPs, and no stage of this model is the output of one")
        if self.by_expert and not self.experts:
            raise StageError(
                f"{spelled('experts', True)} is about MLPs of which a router chooses experts and hands each its "
                f"weight, and this model has none"
            )

    def _read(self, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found = first_tensor(hidden_states(args, kwargs))
        if found is not None:
            seen = self._seen.setdefault(path, _Seen())
            seen.read, seen.bias = found, getattr(module, "bias", None)

    def _choose(self, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
        """See the experts that were chosen and their weights, of which the graph begins anew."""
        import torch

        tensors = [each for each in (*args, *kwargs.values()) if isinstance(each, torch.Tensor)]
        ids = [each for each in tensors if not each.is_floating_point() and each.ndim == 2]
        if len(ids) != 1 or len(tensors) != 3:
            return None
        own = next((each for each in tensors if each is not ids[0] and each.shape == ids[0].shape), None)
        if own is None:
            return None
        seen = self._seen.setdefault(path, _Seen())
        seen.experts, seen.chosen, seen.weights = module, ids[0], own.detach().clone().requires_grad_()

        def new(value: Any) -> Any:
            return seen.weights if value is own else value

        return tuple(map(new, args)), {name: new(value) for name, value in kwargs.items()}

    def _mix(self, path: str, module: nn.Module, output: Any) -> None:
        seen = self._seen.get(path)
        if seen is not None and seen.experts is module:
            seen.mixed = first_tensor(output)

    def _find_neurons(self, supply: Supply, own: Tensor, gradient: Tensor, seen: _Seen) -> None:
        found = None if seen.read is None else _gradient(own, seen.read, gradient)
        if seen.read is None or found is None or not _is_whole(own, gradient, seen, found):
            raise StageError(
                f"{spelled('neurons')} is about what the down projection of an MLP reads, and what the last matrix of "
                f"{supply.name!r} makes of that is not all that the MLP passes on, as where it has experts"
            )
        activations = seen.read.detach().double().reshape(-1, found.shape[-1])[self.position].cpu()
        values = activations * found.double().reshape(-1, found.shape[-1])[self.position].cpu()
        for index in values.abs().topk(min(self.count, len(values))).indices.tolist():
            self.neurons.append(Neuron(supply.layer or 0, index, float(activations[index]), float(values[index])))

    def _find_experts(self, supply: Supply, own: Tensor, gradient: Tensor, seen: _Seen) -> None:
        assert seen.weights is not None
        assert seen.chosen is not None
        slopes = _gradient(own, seen.weights, gradient)
        mixed = None if seen.mixed is None else _gradient(own, seen.mixed, gradient)
        if slopes is None or mixed is None or seen.mixed is None:
            raise StageError(f"{spelled('experts', True)}: what the experts of {supply.name!r} make is not passed on")
        shares = (seen.weights.detach().double() * slopes.double())[self.position]
        products = seen.mixed.detach().double() * mixed.double()
        apart = abs(float(shares.sum() - products.sum()))
        if apart > max(NEAR, 16 * _eps(own)) * float(products.abs().sum()):
            raise StageError(
                f"{spelled('experts', True)}: what the experts of {supply.name!r} make is no sum that their weights "
                f"weigh"
            )
        chosen, weights = seen.chosen[self.position].tolist(), seen.weights[self.position].tolist()
        self.experts += [
            Expert(supply.layer or 0, expert, weight, share)
            for expert, weight, share in zip(chosen, weights, shares.tolist(), strict=True)
        ]


def _is_whole(own: Tensor, gradient: Tensor, seen: _Seen, found: Tensor) -> bool:
    """Whether the neurons that a last matrix reads, and its bias, add up to what an MLP adds to a logit."""
    assert seen.read is not None
    products = seen.read.detach().double() * found.double()
    total, bias = float(products.sum()), None if seen.bias is None else _gradient(own, seen.bias, gradient)
    if bias is not None and seen.bias is not None:
        total += float((seen.bias.detach().double() * bias.double()).sum())
    whole = own.detach().double() * gradient.reshape(own.shape).double()
    size = max(float(products.abs().sum()), float(whole.abs().sum()))
    return abs(total - float(whole.sum())) <= max(NEAR, 16 * _eps(own)) * size


def _eps(tensor: Tensor) -> float:
    import torch

    return float(torch.finfo(tensor.dtype).eps)


def _gradient(own: Tensor, at: Tensor, gradient: Tensor) -> Tensor | None:
    """The gradient at a tensor inside an MLP, by that at what the MLP passes on; None where nothing flows."""
    import torch

    if not own.requires_grad or not at.requires_grad:
        return None
    (found,) = torch.autograd.grad(own, at, gradient.reshape(own.shape), allow_unused=True, retain_graph=True)
    return found
