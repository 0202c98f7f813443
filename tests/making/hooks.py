"""What ordinary hooks see of a plain forward, to hold against what is recorded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from txinspect.forward.values import first_tensor, hidden_states

Seen = dict[tuple[str, str], list[Tensor]]
"""By "input" or "output" and a module's path, or by stage and module: what came, in order."""


def seen_by_hooks(model: PreTrainedModel, run: Callable[[], object]) -> Seen:
    """What every module reads and passes on while `run` runs the model."""
    seen: Seen = defaultdict(list)

    def before(path: str) -> Callable[..., None]:
        def hook(_module: Any, args: Any, kwargs: Any) -> None:
            tensor = first_tensor(hidden_states(args, kwargs))
            seen["input", path].extend([] if tensor is None else [tensor.clone()])

        return hook

    def after(path: str) -> Callable[..., None]:
        def hook(_module: Any, _args: Any, output: Any) -> None:
            tensor = first_tensor(output)
            seen["output", path].extend([] if tensor is None else [tensor.clone()])

        return hook

    handles = []
    for path, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(before(path), with_kwargs=True))
        handles.append(module.register_forward_hook(after(path)))
    run()
    for handle in handles:
        handle.remove()
    return seen
