"""A pass whose norms keep their scales and whose activations keep their slopes, so that what follows is a sum.

Each value of the pass stays as it is; only what a gradient sees of it is frozen (Elhage et al. 2021, on the scale of
the last norm).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from txinspect.forward.hooks import after, starting
from txinspect.forward.values import first_tensor, hidden_states

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SCALES = frozenset(
    {
        *(torch.rsqrt, torch.Tensor.rsqrt, torch.sqrt, torch.Tensor.sqrt, torch.reciprocal, torch.Tensor.reciprocal),
        *(torch.var, torch.Tensor.var, torch.std, torch.Tensor.std),
        *(torch.norm, torch.Tensor.norm, torch.linalg.norm, torch.linalg.vector_norm),
    }
)
"""What a norm divides by is made by one of these."""

GATES = frozenset(
    {
        *(torch.sigmoid, torch.Tensor.sigmoid, functional.sigmoid),
        *(torch.softmax, torch.Tensor.softmax, functional.softmax, functional.softplus),
        *(torch.erf, torch.Tensor.erf),
    }
)
"""What multiplies a part of the stream, and is no part of it."""

ACTIVATIONS = frozenset(
    {
        *(functional.gelu, functional.relu, torch.relu, torch.Tensor.relu, functional.silu),
        *(torch.tanh, torch.Tensor.tanh, functional.tanh, functional.elu, functional.leaky_relu),
    }
)
"""In a head between the last layer and the logits, or on the way from a norm to it."""

_ACTIVATION_FILES = ("transformers.activations", "torch.nn.modules.activation")
"""Where modules that are activations, and nothing else that the stream passes through, are defined."""

_POWERS = frozenset({torch.pow, torch.Tensor.pow, torch.Tensor.__pow__})


class Frozen(TorchFunctionMode):
    """While open, gradients take the scales of norms, gates, and the slopes of activations for constants.

    Where logits are capped, rows of so many numbers pass as they were before the cap.
    """

    def __init__(self, capped: int | None = None) -> None:
        super().__init__()
        self.capped = capped
        self._within = 0  # modules that are activations, open now
        self.uncapped = False
        """Whether such rows came."""
        self.activations: set[str] = set()
        """Names of the activations whose slopes were frozen since this was last cleared."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compute an operation of the frozen pass."""
        options = dict(kwargs or {})
        made = function(*args, **options)
        if not isinstance(made, Tensor) or not made.requires_grad:
            return made
        if function in SCALES or function in GATES or (function in _POWERS and _is_root(args)):
            return made.detach()
        if function in (functional.layer_norm, torch.layer_norm):
            given = dict(zip(("input", "normalized_shape", "weight", "bias", "eps"), args, strict=False)) | options
            return _same(_normed(**given), made)
        if function in (functional.rms_norm, torch.rms_norm):
            given = dict(zip(("input", "normalized_shape", "weight", "eps"), args, strict=False)) | options
            return _same(_normed(**given, is_centred=False), made)
        if function in ACTIVATIONS:
            return self._sloped(function.__name__, args[0] if args else options["input"], made)
        return made

    @contextmanager
    def activating(self, model: PreTrainedModel) -> Iterator[None]:
        """While open, modules that are activations have frozen slopes, whatever they compute them by."""

        def act(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            self._within -= 1
            read = first_tensor(hidden_states(args, kwargs))
            if isinstance(output, Tensor) and output.requires_grad and read is not None and read.shape == output.shape:
                return self._sloped(type(module).__name__, read, output)
            return None

        def begin() -> None:
            self._within += 1

        with ExitStack() as hooks:
            for module in model.modules():
                if type(module).__module__ in _ACTIVATION_FILES:
                    hooks.enter_context(starting(module, begin))
                    hooks.enter_context(after(module, partial(act, module)))
            yield

    def _sloped(self, name: str, read: Tensor, made: Tensor) -> Tensor:
        """What an activation makes of what it reads, as a frozen slope times it."""
        if made.shape[-1] == self.capped and "tanh" in name:
            self.uncapped = True
            return read
        if not self._within:
            self.activations.add(name)
        slope = torch.where(read == 0, 0, made / read).detach()
        return _same(read * slope, made)


def _is_root(args: Sequence[Any]) -> bool:
    """Whether a power is a root, or one over it: its exponent is no whole number."""
    return len(args) > 1 and isinstance(args[1], float) and args[1] != int(args[1])


def _same(linear: Tensor, made: Tensor) -> Tensor:
    """A tensor with the values that were `made`, and the gradient of what they are but for rounding."""
    linear = linear.to(made.dtype)
    return linear + (made - linear).detach()


def _normed(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float | None = 1e-5,
    *,
    is_centred: bool = True,
) -> Tensor:
    """LayerNorm, or RMSNorm where it is not centred, with its scale frozen."""
    axes = tuple(range(-len(normalized_shape), 0))
    read = input.to(torch.promote_types(input.dtype, torch.float32))
    if is_centred:
        read = read - read.mean(axes, keepdim=True)
    least = torch.finfo(input.dtype).eps if eps is None else eps
    made = read * (read.pow(2).mean(axes, keepdim=True) + least).rsqrt().detach()
    made = made if weight is None else made * weight
    return made if bias is None else made + bias
