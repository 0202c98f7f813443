"""How the tensors of a pass flow: each operation, what it reads and in which module it is, traced on the skeleton.

As in a rehearsal, the text's ids and positions are real, and what is made of weights has a shape and no values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from txinspect.anatomy import locating
from txinspect.anatomy.traced import ATTENTION, PART, PRODUCTS, SUMS, Call, Operation, Traced
from txinspect.forward import hooks
from txinspect.forward.inputs import call
from txinspect.forward.rehearsal import Touched, on_one_device, rehearsable, storage, tensors_in
from txinspect.forward.remembered import Remembered
from txinspect.guards.quiet import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_EMPTY = ("new_", "zeros", "ones", "empty", "full", "rand")
"""What operations begin with whose result has only the shape of what they read."""

_LIKE = "_like"

_SCALING = PRODUCTS | SUMS

_INTEGERS = (torch.int64, torch.int32, torch.bool)


def trace(model: PreTrainedModel, seq: int) -> Traced:
    """Trace a pass of a model without weights on a text of so many tokens, or two such texts.

    Raises whatever the model's code does where it branches on what only weights can tell.
    """
    inputs = model_inputs_of(model, seq)
    if model.dtype == torch.float16:  # code asks half precision's hidden states whether they are finite
        model = deepcopy(model).float()
    with (
        quiet(),
        torch.no_grad(),
        _one_thread(),
        rehearsable(model),
        _Tracing(model, inputs) as tracing,
        _Attention(tracing),
        ExitStack() as open_hooks,
    ):
        for path, module in model.named_modules():
            open_hooks.enter_context(hooks.starting(module, lambda path=path: tracing.begin(path)))  # type: ignore[misc]
            open_hooks.enter_context(hooks.passing(module, tracing.end))
        call(model, inputs)
    return Traced(tuple(tracing.operations), tuple(tracing.calls))


def model_inputs_of(model: PreTrainedModel, seq: int) -> dict[str, Tensor]:
    """The inputs of a pass on a text of so many tokens, none of them a special one where the vocabulary has others."""
    rows = int(getattr(model.config.get_text_config(), "vocab_size", None) or seq + 20)
    ids = torch.arange(20, 20 + seq)[None] % max(1, rows)
    inputs = {"input_ids": ids.repeat(locating.rows_of_ids(model), 1), "attention_mask": torch.ones_like(ids)}
    if getattr(model.config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = ids.clone()
    return inputs


@contextmanager
def _one_thread() -> Iterator[None]:
    """While open, torch computes on one thread: what a traced pass computes for real is small; others would spin."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Tracing(Touched):
    """While open, notes every operation of a pass that weights have to do with, and every call of a module."""

    def __init__(self, model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> None:
        super().__init__(model)
        self.operations: list[Operation] = []
        self.calls: list[Call] = []
        self._open: list[int] = []
        self._runs: Counter[str] = Counter()
        self._made: dict[int, int] = {}
        self._on_meta = Remembered()
        self._kept: list[Any] = []  # an id is a tensor's as long as it lives
        self._written: dict[int, int] = {}
        self._of_ids = {id(tensor) for name, tensor in inputs.items() if name.endswith("input_ids")}

    def begin(self, path: str) -> None:
        """Note that a module's call begins."""
        self._runs[path] += 1
        parent = self._open[-1] if self._open else -1
        self._open.append(len(self.calls))
        self.calls.append(Call(path, self._runs[path], parent, len(self.operations), len(self.operations)))

    def end(self, output: Any) -> None:
        """Note that the innermost call ends, and what it passes on."""
        ended = self._open.pop()
        tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        self.calls[ended] = replace(
            self.calls[ended],
            end=len(self.operations),
            outputs=tuple(map(self._maker, tensors)),
            shapes=tuple(tuple(tensor.shape) for tensor in tensors),
        )

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operator of the traced pass, and note it where weights have to do with it."""
        options = dict(kwargs or {})
        read = [*tensors_in(args), *tensors_in(options)]
        name, is_mutable, is_empty = _known(operator)
        makers = list(map(self._maker, read))
        known = tuple(maker for maker in makers if maker is not None)
        weights = [each for maker, each in zip(makers, read, strict=True) if maker is None and self._is_weight(each)]
        factor = _factor(name, args) if known or weights else None  # before an operator writes into what it reads
        result = self._run(operator, name, args, options, read)
        made = [*tensors_in((result,))]
        rescales = is_mutable and bool(read) and self._is_weight(read[0])  # RWKV its own weights
        if not made or rescales or is_empty:
            return result
        of_ids = not self._of_ids.isdisjoint(map(id, read))
        if known or weights:
            operation = Operation(
                name,
                known,
                tuple(self.owners[storage(each)][0] for each in weights),
                tuple(made[0].shape),
                self._open[-1] if self._open else -1,
                factor,
                float(options.get("alpha", 1)) * (-1 if name.startswith("sub") else 1),
                of_ids or any(self.operations[each].of_text for each in known),
                len(made),
                max((each.numel() for each in weights), default=0),
            )
            self._note(operation, made)
            if is_mutable:
                self._written[storage(made[0])] = len(self.operations) - 1
        elif of_ids:
            self._of_ids.update(map(id, made))
        self._kept.append(made)
        return result

    def _note(self, operation: Operation, made: list[Tensor]) -> None:
        """Note an operation of the traced pass and what it made: of several tensors each by itself."""
        self.operations.append(operation)
        whole = len(self.operations) - 1
        for tensor in made:
            if len(made) > 1:
                shape, call, of_text = tuple(tensor.shape), operation.call, operation.of_text
                self.operations.append(Operation(PART, (whole,), (), shape, call, of_text=of_text))
            self._made[id(tensor)] = len(self.operations) - 1

    def fused(self, name: str, read: list[Tensor]) -> Tensor:
        """Note a fused attention of the traced pass by what it reads, queries, keys and values first; its result."""
        made = read[0].new_empty((*read[0].shape[:-1], read[2].shape[-1]))
        known = tuple(maker for tensor in read if (maker := self._maker(tensor)) is not None)
        of_text = any(self.operations[each].of_text for each in known)
        shape, call = tuple(made.shape), self._open[-1] if self._open else -1
        self._note(Operation(name, known, (), shape, call, of_text=of_text), [made])
        self._kept.append(made)
        return made

    def _is_weight(self, tensor: Tensor) -> bool:
        """Whether a tensor of the traced pass is a parameter or a buffer of numbers that are no ids or positions."""
        return storage(tensor) in self.owners and tensor.dtype not in _INTEGERS

    def _run(
        self, operator: Any, name: str, args: tuple[Any, ...], options: dict[str, Any], read: Sequence[Tensor]
    ) -> Any:
        """The result of an operator; where it chooses by values that are not there, such as an expert's rows, all."""
        if name == "nonzero" and args[0].is_meta:
            return torch.ones(args[0].shape).nonzero()
        if (
            name.startswith(("index", "_unsafe_index"))
            and len(args) > 1
            and isinstance(args[1], (list, tuple))
            and args[0].is_meta
        ):
            args = (args[0], [index for each in args[1] for index in _all_of(each)], *args[2:])
            read = [*tensors_in(args), *tensors_in(options)]
        args, options, is_meta = on_one_device(args, options, read)
        return self._on_meta.run(operator, args, options) if is_meta else operator(*args, **options)

    def _maker(self, tensor: Tensor) -> int | None:
        """The operation that a tensor of the traced pass is the result of; the last one that wrote into its memory."""
        found = self._made.get(id(tensor))
        written = self._written.get(storage(tensor)) if self._written else None
        return written if written is not None and (found is None or written > found) else found


class _Attention(TorchFunctionMode):
    """While open, a fused attention of the traced pass is one operation, and not the many that meta tensors take."""

    def __init__(self, tracing: _Tracing) -> None:
        super().__init__()
        self._tracing = tracing

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run a function of the traced pass; of a fused attention to what weights make only say what it is made of."""
        if function is functional.scaled_dot_product_attention and args and args[0].is_meta:
            return self._tracing.fused(ATTENTION, [*tensors_in(args), *tensors_in(dict(kwargs or {}))])
        return function(*args, **(kwargs or {}))


@cache
def _known(operator: Any) -> tuple[str, bool, bool]:
    """An operator's name, whether it writes into what it reads, and whether its result has only a shape of that."""
    name = operator._schema.name.partition("::")[2]
    return name, operator._schema.is_mutable, name.startswith(_EMPTY) or name.endswith(_LIKE)


def _all_of(index: Any) -> tuple[Any, ...]:
    """An index of a traced pass; of a mask whose values are not there the index of all."""
    if not isinstance(index, Tensor) or index.dtype not in (torch.bool, torch.uint8):
        return (index,)
    chosen = torch.ones(index.shape) if index.is_meta else index
    return tuple(each.to("meta") for each in chosen.nonzero().T)


def _factor(name: str, args: tuple[Any, ...]) -> float | None:
    """What a traced product multiplies with, or 1 for what changes nothing; None for all else."""
    if name not in _SCALING or len(args) < 2:
        return None
    numbers = [_number(each) for each in args[:2]]
    if name in SUMS:
        return 1.0 if 0.0 in numbers else None
    if numbers[1] is not None:
        return 1 / numbers[1] if name.startswith("div") and numbers[1] else numbers[1]
    return numbers[0] if name.startswith("mul") else None


def _number(value: Any) -> float | None:
    """The number that a real tensor of a traced pass has in all of its places, or that a value is; else None."""
    if isinstance(value, Tensor):
        if value.is_meta or not value.numel() or value.is_complex() or value.dtype == torch.bool:
            return None
        first = value.flatten()[0]
        return float(first) if bool((value == first).all()) else None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
