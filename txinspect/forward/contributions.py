"""What each part of a pass adds to a logit: what it writes, times the logit's gradient with norms and gates frozen.

Parts are cut off where they write to the residual stream: what they pass on becomes the beginning of the gradient's
graph, so nothing flows through attention or MLPs, and the way from there to the logit is a sum. Whatever lies on that
way acts as it does in the model: projections, norms behind blocks, multipliers, gates, heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from txinspect.anatomy.architecture import Layer, Stack, Supply
from txinspect.errors import InspectError, PassError, first_line
from txinspect.forward import taps
from txinspect.forward.attention import recorder
from txinspect.forward.edits import Write
from txinspect.forward.hooks import before, passing
from txinspect.forward.inputs import call, lengths_of, logits_of
from txinspect.forward.inside_mlps import Inside
from txinspect.forward.values import first_tensor, hidden_states

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from txinspect.forward.frozen import Frozen

EMBEDDINGS = ("token_embeddings", "position_embeddings", "token_type_embeddings")

WRITERS = ("mlp.output", "mixer.output")
"""Stages within a layer that write to the stream, besides attention."""

EXACT = 1e-5
"""Of the sum of all magnitudes, in float32: beyond that, what no part of a layer explains is a part of its own."""


@dataclass(frozen=True)
class Contribution:
    """What a part adds to a logit."""

    kind: str
    """The stage within its layer or before them; bias for a parameter; rest for what no part explains."""
    layer: int | None
    name: str
    """Of the stage, or of the parameter."""
    values: tuple[float, ...]
    """One, or one for each head of a context."""


@dataclass(frozen=True)
class Sum:
    """A logit, or what is made of several, and the parts that it is the sum of."""

    logits: Tensor
    """Of the pass, before a cap: (batch, seq, vocab)."""
    value: float
    parts: tuple[Contribution, ...]
    activations: frozenset[str]
    """After the last layer, whose slopes were frozen."""
    cap: float | None
    """What caps the logits afterwards; None where nothing does."""


@dataclass
class _Graph:
    """What a pass is cut at, as it comes by."""

    inside: Inside
    leaves: list[tuple[Supply, Tensor]] = field(default_factory=list)
    entered: list[Tensor] = field(default_factory=list)
    """What the first layer read."""
    passed: dict[str, list[Tensor]] = field(default_factory=dict)
    """By the module that ends a layer: what it passed on, each time it ran."""

    def cut(self, supply: Supply) -> Write:
        """What makes the graph begin at a stage."""

        def change(own: Tensor) -> Tensor:
            leaf = own.detach().clone().requires_grad_()
            self.leaves.append((supply, leaf))
            self.inside.took(supply, own, leaf)
            return leaf.clone()

        return Write(supply, change)

    @contextmanager
    def streaming(self, model: PreTrainedModel, stack: Stack, frozen: Frozen) -> Iterator[None]:
        """While open, what the layers read and pass on is kept in the graph; what is `frozen` is told from then on."""

        def enter(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden = first_tensor(hidden_states(args, kwargs))
            if hidden is not None:
                self.entered.append(hidden)

        def keeper(path: str) -> Callable[[Any], None]:
            def keep(output: Any) -> None:
                frozen.activations.clear()
                hidden = first_tensor(output)
                if hidden is not None:
                    self.passed.setdefault(path, []).append(hidden)

            return keep

        with ExitStack() as hooks:
            hooks.enter_context(before(model.get_submodule(stack.layers[0].first), enter))
            for path in dict.fromkeys(layer.last for layer in stack.layers):
                hooks.enter_context(passing(model.get_submodule(path), keeper(path)))
            yield

    def stream(self, layer: Layer) -> Tensor | None:
        """The stream after a layer."""
        passed = self.passed.get(layer.last, [])
        place = (layer.run or len(passed)) - 1
        return passed[place] if 0 <= place < len(passed) else None


def cuts(model: PreTrainedModel, stack: Stack) -> list[Supply]:
    """The stages of a stack that write to its stream; an attention whose heads cannot be told apart is a whole."""
    found, by_head = [], set()
    supplies = [supply for supply in stack.supplies() if supply.available]
    for supply in supplies:
        if _is_added(supply) if supply.within in EMBEDDINGS else supply.within in WRITERS:
            found.append(supply)
        elif supply.within.endswith("attention.context") and taps.refusal(model, supply) is None:
            found.append(supply)
            by_head.add((supply.layer, supply.within.partition(".")[0]))
    whole = [supply for supply in supplies if supply.within.endswith("attention.output")]
    return found + [each for each in whole if (each.layer, each.within.partition(".")[0]) not in by_head]


def _is_added(supply: Supply) -> bool:
    """Whether an embedding is added to the stream: a table of rotary angles or biases is not."""
    return supply.tap == "output" and supply.axes is not None and supply.axes[-1] == "hidden"


def contributions(
    model: PreTrainedModel,
    stack: Stack,
    inputs: Mapping[str, Tensor],
    writes: Sequence[Write],
    of: Callable[[Tensor], Tensor],
    inside: Inside,
    cap: float | None = None,
) -> Sum:
    """What each part of a stack adds to what `of` makes of the logits, (batch, seq, vocab): a number.

    `writes` are edits, which are made before. Raises PassError where the model's own code fails.
    """
    import torch

    from txinspect.forward.frozen import Frozen

    graph, wanted = _Graph(inside), cuts(model, stack)
    frozen = Frozen(None if cap is None else _rows_of_head(model))
    every = [*writes, *map(graph.cut, wanted)]
    changes = taps.in_attention(model, every)
    lengths = lengths_of(inputs)
    with torch.enable_grad(), _only_biases(model) as biases, ExitStack() as hooks:
        hooks.enter_context(taps.written(model, every, lengths))
        hooks.enter_context(recorder.recording(model, list(changes), lambda *_: None, lengths[""][0], changes))
        hooks.enter_context(graph.streaming(model, stack, frozen))
        hooks.enter_context(inside.watching(model, wanted))
        hooks.enter_context(frozen.activating(model))
        hooks.enter_context(frozen)
        try:
            logits = logits_of(call(model, inputs))
            value = of(logits)
            parts = _parts(graph, stack, value, biases)
        except (InspectError, KeyboardInterrupt):
            raise
        except Exception as error:
            raise PassError(f"pass with gradients failed: {type(error).__name__}: {first_line(error)}") from error
    return Sum(
        logits.detach(),
        float(value.detach().double()),
        tuple(parts),
        frozenset(frozen.activations),
        cap if frozen.uncapped else None,
    )


def _rows_of_head(model: PreTrainedModel) -> int | None:
    """How many logits a model's head gives for a token."""
    head: Any = model.get_output_embeddings()
    rows: int | None = None if head is None else head.weight.shape[0]
    return rows


@contextmanager
def without_gradients(model: PreTrainedModel) -> Iterator[None]:
    """While open, no parameter of a model has a gradient, but for those that are given one meanwhile."""
    own = {id(each): (each, each.requires_grad) for each in (*model.parameters(), *model.buffers())}
    try:
        for each, _ in own.values():
            each.requires_grad_(False)
        yield
    finally:
        for each, wanted in own.values():
            each.requires_grad_(wanted)


@contextmanager
def _only_biases(model: PreTrainedModel) -> Iterator[dict[str, Tensor]]:
    """While open, of all parameters the biases alone have gradients: constants that are added. By name."""
    named = [*model.named_parameters(), *model.named_buffers()]
    biases = {name: each for name, each in named if name.endswith("bias") and each.is_floating_point()}
    with without_gradients(model):
        for each in biases.values():
            each.requires_grad_()
        yield biases


def _parts(graph: _Graph, stack: Stack, value: Tensor, biases: Mapping[str, Tensor]) -> list[Contribution]:
    """The parts that a value is the sum of, in the order of the pass."""
    import torch

    streams = [graph.stream(layer) for layer in stack.layers]
    entered = graph.entered[0] if graph.entered else None
    kept = [each for each in (entered, *streams) if each is not None]
    wanted = [*(leaf for _, leaf in graph.leaves), *biases.values(), *kept]
    found = dict(zip(map(id, wanted), _gradients(value, wanted), strict=True))
    graph.inside.look(found)
    parts = [_of_stage(supply, leaf, found[id(leaf)]) for supply, leaf in graph.leaves if found[id(leaf)] is not None]
    front = _in_front(entered, found, biases)
    parts += [
        _of_bias(name, each, found[id(each)], stack, is_front=name in front)
        for name, each in biases.items()
        if found[id(each)] is not None
    ]
    sizes, eps = sum(abs(each) for part in parts for each in part.values), float(torch.finfo(value.dtype).eps)
    least = max(EXACT, eps) * sizes
    missing = float(value.detach().double()) - sum(sum(part.values) for part in parts)
    flows = [_flow(each, found) for each in (entered, *streams)]
    rests = list(_rests(stack, parts, flows, front, least)) if abs(missing) > least else []
    if abs(missing - sum(sum(rest.values) for rest in rests)) < abs(missing):
        parts += rests
    return parts


def _gradients(value: Tensor, wanted: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """The gradients of a value; None for what it does not depend on."""
    import torch

    places = [place for place, each in enumerate(wanted) if each.requires_grad]
    found: list[Tensor | None] = [None] * len(wanted)
    if not places or not value.requires_grad:
        return found
    made = torch.autograd.grad(value, [wanted[place] for place in places], allow_unused=True, retain_graph=True)
    for place, gradient in zip(places, made, strict=True):
        found[place] = gradient
    return found


def _product(own: Tensor, gradient: Tensor | None) -> Tensor:
    """A tensor times its gradient, number by number, in float64."""
    import torch

    if gradient is None:
        return torch.zeros(own.shape, dtype=torch.float64)
    return own.detach().to("cpu", torch.float64) * gradient.detach().to("cpu", torch.float64)


def _flow(stream: Tensor | None, found: Mapping[int, Tensor | None]) -> float | None:
    """What of a value comes by a stream; None where there is none."""
    if stream is None or found[id(stream)] is None:
        return None
    return float(_product(stream, found[id(stream)]).sum())


def _of_stage(supply: Supply, leaf: Tensor, gradient: Tensor | None) -> Contribution:
    """What a stage adds to a value; of a context, (batch, head, seq, head_dim), each head by itself."""
    product = _product(leaf, gradient)
    by_head = supply.part == "context" and product.ndim == 4
    values = product.sum((0, 2, 3)).tolist() if by_head else [float(product.sum())]
    return Contribution(supply.within, supply.layer, supply.name, tuple(values))


def _of_bias(name: str, own: Tensor, gradient: Tensor | None, stack: Stack, *, is_front: bool) -> Contribution:
    """What a parameter that is added adds to a value."""
    product = _product(own, gradient)
    layer = next((index for index, each in enumerate(stack.layers) if _is_in(name, (each.first,))), None)
    kind = "embedding bias" if is_front else "head bias"
    if layer is not None:
        each = stack.layers[layer]
        attention = (*each.attentions, *each.attention_outputs, *each.cross_attentions, *each.cross_attention_outputs)
        kind = "attention bias" if _is_in(name, attention) else "layer bias"
    elif stack.final_norm is not None and _is_in(name, (stack.final_norm,)):
        kind = "norm bias"
    shared = layer is not None and stack.layers[layer].run is not None
    return Contribution(kind, None if shared else layer, name, (float(product.sum()),))


def _is_in(name: str, modules: Sequence[str]) -> bool:
    return any(name.startswith(f"{module}.") for module in modules)


def _in_front(entered: Tensor | None, found: Mapping[int, Tensor | None], biases: Mapping[str, Tensor]) -> set[str]:
    """The biases that are added before the first layer."""
    gradient = None if entered is None else found[id(entered)]
    if entered is None or gradient is None or not entered.requires_grad:
        return set()
    made = _gradients((entered * gradient.detach()).sum(), list(biases.values()))
    return {name for name, each in zip(biases, made, strict=True) if each is not None}


def _rests(
    stack: Stack, parts: Sequence[Contribution], flows: Sequence[float | None], front: set[str], least: float
) -> Iterator[Contribution]:
    """What the stream brings before the first layer, and from each layer to the next, that no part explains."""
    if any(layer.run is not None or layer.first != layer.last for layer in stack.layers):
        return
    before = [each for each in parts if each.layer is None and (each.kind in EMBEDDINGS or each.name in front)]
    by_layer = [before, *([each for each in parts if each.layer == index] for index in range(len(stack.layers)))]
    known: float | None = 0.0
    for place, (own, flow) in enumerate(zip(by_layer, flows, strict=True)):
        if flow is not None and known is not None:
            rest = flow - known - sum(sum(each.values) for each in own)
            if abs(rest) > least:
                kind = "rest" if place or stack.position_table is None else "position_embeddings"
                name = f"{stack.prefix}layers.{place - 1}" if place else f"{stack.prefix}{kind}"
                yield Contribution(kind, place - 1 if place else None, name, (rest,))
        known = flow
