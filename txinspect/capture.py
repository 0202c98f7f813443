"""One forward pass with hooks: each asked tensor is reduced at once, and the pass stops when the last one is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from txinspect import positions, recording
from txinspect.architecture import Layer, Supply
from txinspect.attention import Call, Coordinates, Recorded, Selection
from txinspect.errors import InspectError, StageError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


@dataclass(frozen=True, eq=False)
class Want:
    """A tensor that was asked for."""

    supply: Supply
    selection: Selection = field(default_factory=Selection)
    by_glob: bool = False
    """A glob picked it, so that it may well not run: then it is reported, not an error."""


@dataclass(frozen=True)
class Caught:
    """A tensor that came by. It lives only while it is being received: what receives it reduces or copies it."""

    want: Want
    run: int
    """1 for the first time in this pass, 2 for the second, …"""
    tensor: Recorded
    coordinates: Coordinates
    label: str | None = None
    """What kind of layer a table of positions is for, where a model makes several."""


Receive = Callable[[Caught], None]


class _Done(Exception):
    """Raised inside the pass to stop it: the last asked tensor is there."""


class _Pass:
    """What is still asked for during one forward pass."""

    def __init__(self, wants: Sequence[Want], receive: Receive, seq_shape: tuple[int, int], *, hold: bool) -> None:
        self.wants = wants
        self.receive = receive
        self.seq_shape = seq_shape
        self.hold = hold
        self.runs: Counter[str] = Counter()
        self.pending = set(wants)
        self.own_error: Exception | None = None
        """What went wrong in receiving a tensor: it passes through the model's code, and is none of its errors."""

    def catch(self, want: Want, tensor: Recorded, coordinates: Coordinates = None, label: str | None = None) -> None:
        """Hand over a tensor."""
        self.pending.discard(want)
        name = f"{want.supply.name} {label}"
        self.runs[name] += 1
        try:
            self.receive(Caught(want, self.runs[name], tensor, coordinates, label))
        except Exception as error:
            self.own_error = error
            raise

    def stop_when_done(self) -> None:
        """Stop the pass if everything is there and no wanted module will run again."""
        if not self.pending and not self.hold:
            raise _Done

    def catch_module(self, want: Want, value: Any, label: str | None = None) -> None:
        """Hand over what a hook saw. A hook returns None: anything else would replace the model's own tensor."""
        tensor = first_tensor(_picked(value, want.supply.pick))
        if tensor is None:
            return
        if want.supply.axes and want.supply.axes[:2] == ("batch", "seq"):
            tensor = _unflatten(tensor, self.seq_shape)
        self.catch(want, Recorded.of(tensor.detach()), None, label)


def run(
    model: PreTrainedModel,
    inputs: Mapping[str, Tensor],
    wants: Sequence[Want],
    receive: Receive,
    skip_norm: Layer | None = None,
    until: str | None = "",
) -> list[str]:
    """Run the model on inputs (batch, seq) until everything wanted has been received.

    `skip_norm` is a layer whose attention is fed the layer's input itself, without the norm in between. `until` is a
    module before whose start the pass never stops, since a wanted one may run again; None for the pass's end, empty for
    no such module. Returns the names that a glob picked and that passed no tensor on. Raises StageError for any other
    that passed none on, and InspectError where the model's own code fails.
    """
    import torch

    batch, seq = inputs["attention_mask"].shape
    current = _Pass(wants, receive, (batch, seq), hold=until != "")
    for want in wants:
        if want.supply.tap == "table":
            end = want.supply.name.partition(".")[2]
            current.catch(want, Recorded.of(positions.tables(model, seq)[end]))
    if not current.pending:
        return []
    with torch.no_grad(), _hooks(model, current), _skipped_norm(model, skip_norm), _released(model, current, until):
        try:
            output = model(**inputs, use_cache=False)
        except _Done:
            return []
        except (InspectError, KeyboardInterrupt):
            raise
        except Exception as error:
            if error is current.own_error:
                raise
            raise InspectError(f"the model's forward pass failed: {type(error).__name__}: {error}") from error
    for want in wants:
        if want.supply.tap == "logits":
            current.catch(want, Recorded.of(output.logits))
    missing = [want for want in wants if want in current.pending]
    for want in missing:
        if not want.by_glob:
            raise StageError(f"{want.supply.name!r} passed no tensor on: {want.supply.module} did not run in this pass")
    came = {want.supply.name for want in wants if want not in current.pending}
    return list(dict.fromkeys(want.supply.name for want in missing if want.supply.name not in came))


@contextmanager
def _hooks(model: PreTrainedModel, current: _Pass) -> Iterator[None]:
    """The hooks of a pass, removed whatever happens."""
    inside: dict[nn.Module, list[Want]] = {}
    with ExitStack() as stack:
        for want in current.wants:
            module = model.get_submodule(want.supply.module or "")
            if want.supply.tap == "attention":
                inside.setdefault(module, []).append(want)
            elif want.supply.tap == "input":
                handle = module.register_forward_pre_hook(_input_hook(current, want), with_kwargs=True)
                stack.callback(handle.remove)
            elif want.supply.tap == "output":
                stack.callback(module.register_forward_hook(_output_hook(current, want), with_kwargs=True).remove)
        for module in inside:
            stack.callback(module.register_forward_hook(lambda *_: current.stop_when_done()).remove)
        if inside:
            stack.enter_context(recording.recording(model, inside, _call_receiver(current, inside)))
        yield


@contextmanager
def _released(model: PreTrainedModel, current: _Pass, until: str | None) -> Iterator[None]:
    """While open, the start of a module lets the pass stop."""
    if not until:
        yield
        return

    def release(*_: Any) -> None:
        current.hold = False
        current.stop_when_done()

    handle = model.get_submodule(until).register_forward_pre_hook(release)
    try:
        yield
    finally:
        handle.remove()


def _input_hook(current: _Pass, want: Want) -> Callable[..., None]:
    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        current.catch_module(want, hidden_states(args, kwargs))
        current.stop_when_done()

    return hook


def _output_hook(current: _Pass, want: Want) -> Callable[..., None]:
    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        texts = (value for value in (*args, *kwargs.values()) if isinstance(value, str))
        current.catch_module(want, output, next(texts, None) if want.supply.pick is not None else None)
        current.stop_when_done()

    return hook


def _call_receiver(current: _Pass, inside: Mapping[nn.Module, Sequence[Want]]) -> recording.Receive:
    def receive(module: nn.Module, call: Call) -> None:
        for want in inside[module]:
            current.catch(want, *call.part(want.supply.part, want.selection))

    return receive


@contextmanager
def _skipped_norm(model: PreTrainedModel, layer: Layer | None) -> Iterator[None]:
    """While open, the attention of a layer reads the layer's input."""
    if layer is None or not layer.attentions:
        yield
        return
    seen: list[Any] = []

    def remember(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen[:] = [hidden_states(args, kwargs)]

    def replace(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = first_tensor(hidden_states(args, kwargs))
        if not seen or given is None or seen[0].shape != given.shape:
            raise StageError(
                "--skip-norm cannot leave out a norm alone here: in this architecture the attention reads something "
                "else than the layer's input"
            )
        if args:
            return (seen[0], *args[1:]), kwargs
        return args, kwargs | {"hidden_states": seen[0]}

    with ExitStack() as stack:
        for path, hook in ((layer.first, remember), (layer.attentions[0], replace)):
            module = model.get_submodule(path)
            # The replacement comes first, so that a recording hook sees what the attention really reads.
            stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True, prepend=True).remove)
        yield


def hidden_states(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What a module reads: its first positional argument, or the one called hidden_states."""
    return args[0] if args else kwargs.get("hidden_states", next(iter(kwargs.values()), None))


def first_tensor(value: Any) -> Tensor | None:
    """The tensor that a module passes on: itself, or the first of a tuple, list or output record."""
    import torch

    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        return next((found for item in value if (found := first_tensor(item)) is not None), None)
    return None


def _picked(value: Any, pick: int | None) -> Any:
    """One item of what a module passes on, or all of it."""
    if pick is None:
        return value
    items = value if isinstance(value, (tuple, list)) else (value,)
    return items[pick] if pick < len(items) else None


def _unflatten(tensor: Tensor, seq_shape: tuple[int, int]) -> Tensor:
    """(batch·seq, feature), as some modules see their tokens, back to (batch, seq, feature)."""
    if tensor.ndim == 2 and tensor.shape[0] == seq_shape[0] * seq_shape[1]:
        return tensor.reshape(*seq_shape, -1)
    return tensor
