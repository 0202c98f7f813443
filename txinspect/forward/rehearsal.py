"""Which modules' weights a pass uses: the pass is rehearsed on the skeleton, where tensors have shapes and no values.

The text's ids and what is made of them alone (positions, masks) are real, so that code which branches on them runs as
it will; what is made of weights lives on the meta device. The rehearsal stops where the real pass will.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from txinspect.anatomy.families import ASKS_DECODER_EMBEDDINGS
from txinspect.forward import capture
from txinspect.forward.wants import Plan
from txinspect.loading import uses
from txinspect.loading.uses import Uses

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from txinspect.anatomy.architecture import Architecture
    from txinspect.loading.subject import Subject


def rehearse(subject: Subject, inputs: Mapping[str, Tensor], plan: Plan) -> Uses:
    """Rehearse a plan's pass to find the modules whose weights it uses; inputs (batch, seq) on the CPU.

    Where a model's code branches on what only weights can tell, such as which experts a router chooses, the rehearsal
    ends there: then every module counts that does not lie in a layer after the last one asked.
    """
    if subject.whole_because:
        return uses.of_all_modules(subject, subject.whole_because)
    model, stopped_by = subject.as_configured, None
    with rehearsable(model), Touched(model) as touched:
        try:
            capture.run(model, inputs, plan, lambda _: None)
        except Exception as error:
            stopped_by = str(error)
    # A model's own device and type are those of its first parameter.
    first = next((name for name, tensor in model.named_parameters() if tensor.is_floating_point()), "")
    used = {name.rpartition(".")[0] for name in (*touched.names, first)}
    if subject.architecture.model_type in ASKS_DECODER_EMBEDDINGS:
        used.add(subject.architecture.main.token_embeddings or "")
    if stopped_by is not None:
        used |= _by_place(model, subject.architecture, plan)
    used |= _blocks(model, subject.architecture, used)
    used |= _tied(model, used)
    return uses.of_modules(subject, used, stopped_by)


@contextmanager
def rehearsable(model: PreTrainedModel) -> Iterator[None]:
    """While open, a model's experts can be rehearsed as one product: other ways group tokens by a router's choice."""
    before = getattr(model.config, "_experts_implementation", None)
    if before is None or not hasattr(model, "set_experts_implementation"):
        yield
        return
    model.set_experts_implementation("batched_mm")
    try:
        yield
    finally:
        model.set_experts_implementation(before)


def with_runs(subject: Subject, inputs: Mapping[str, Tensor], plan: Plan) -> Plan:
    """A plan that waits for every run of the modules named by their paths, which a rehearsed whole pass counts.

    Where that pass cannot be rehearsed to its end, or the modules are an adapter's, the plan stays as it is.
    """
    wants = [want for want in plan.wants if want.supply.name == want.supply.module]
    if not wants or plan.until is None or any(want.supply.tap == "logits" for want in plan.wants):
        return plan
    runs: Counter[str] = Counter()
    model = subject.as_configured
    with rehearsable(model), Touched(model):
        try:
            whole = replace(plan, wants=[replace(want, by_glob=True) for want in wants], until=None)
            capture.run(model, inputs, whole, lambda caught: runs.update([caught.want.supply.name]))
        except Exception:
            return plan
    return replace(plan, runs=runs)


class Touched(TorchDispatchMode):
    """While open, notes which parameters and buffers of a model on the meta device are computed with."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()
        self.owners: dict[int, list[str]] = {}
        """Names of the parameters and buffers that share a storage."""
        named = (model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False))
        for name, tensor in (pair for pairs in named for pair in pairs):
            self.owners.setdefault(storage(tensor), []).append(name)

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operator of the rehearsal: on the meta device where one of its tensors is there, else for real."""
        options = dict(kwargs or {})
        tensors = [*tensors_in(args), *tensors_in(options)]
        for tensor in tensors:
            self.names.update(self.owners.get(storage(tensor), ()))
        args, options, _ = on_one_device(args, options, tensors)
        return operator(*args, **options)


def on_one_device(
    args: tuple[Any, ...], options: dict[str, Any], tensors: Sequence[Tensor]
) -> tuple[tuple[Any, ...], dict[str, Any], bool]:
    """An operator's arguments and options on the meta device where one of its tensors is there, else for real; whether
    it is there."""
    are_meta = [tensor.is_meta for tensor in tensors]
    if True in are_meta:
        if "device" in options or False in are_meta:
            args, options = tree_map(_on_meta, (args, options))
        return args, options, True
    if options.get("device") is not None:
        # A new tensor on "the device of the hidden states": positions and masks, which are real.
        options = {**options, "device": torch.device("cpu")}
    return args, options, False


def tensors_in(values: Any) -> Iterator[Tensor]:
    """The tensors among what an operator of a rehearsal is given or makes: it knows no nests but lists and tuples."""
    for value in values.values() if isinstance(values, dict) else values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors_in(value)


def storage(tensor: Tensor) -> int:
    """What a skeleton's tensor shares with its views and with those that it is tied to."""
    return int(tensor.untyped_storage()._cdata)


def _on_meta(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value if value.is_meta else value.to("meta")
    return torch.device("meta") if isinstance(value, torch.device) else value


def _blocks(model: PreTrainedModel, architecture: Architecture, used: Collection[str]) -> set[str]:
    """The modules beside those that a rehearsed pass uses in a block of a layer, such as v_proj beside q_proj.

    A checkpoint may store a block's matrices in one tensor, and a model's code may read one module's weight to
    initialise another.
    """
    stacks = tuple({f"{layer.first.rpartition('.')[0]}." for layer in architecture.all_layers})
    blocks = {path for path in (*used, *(path.rpartition(".")[0] for path in used)) if path.startswith(stacks)}
    beside = {
        f"{block}.{name}"
        for block in blocks
        for name, module in model.get_submodule(block).named_children()
        if next(module.children(), None) is None
    }
    return blocks | beside


def _tied(model: PreTrainedModel, used: Collection[str]) -> set[str]:
    """The modules that share a tensor with those that a rehearsed pass uses."""
    owners: dict[int, set[str]] = {}
    for name, tensor in model.named_parameters(remove_duplicate=False):
        owners.setdefault(storage(tensor), set()).add(name.rpartition(".")[0])
    return {path for sharing in owners.values() if sharing & set(used) for path in sharing}


def _by_place(model: PreTrainedModel, architecture: Architecture, plan: Plan) -> set[str]:
    """The modules whose weights a pass may use where it cannot be rehearsed: none in layers after the last asked."""
    layers = [f"{layer.first}." for layer in architecture.all_layers]
    asked = [[f"{want.supply.module}.".startswith(layer) for layer in layers] for want in plan.wants]
    later: tuple[str, ...] = ()
    if all(any(inside) for inside in asked):
        later = tuple(layers[1 + max(inside.index(True) for inside in asked) :])
    return {path for path, _ in model.named_modules() if not f"{path}.".startswith(later)}
