"""One forward pass with hooks: each asked tensor is reduced at once, and the pass stops when the last one is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from txinspect.anatomy import positions
from txinspect.errors import InspectError, PassError, StageError, first_line
from txinspect.forward import taps
from txinspect.forward.attention import recorder
from txinspect.forward.attention.calls import Call
from txinspect.forward.hooks import after, before, passing, starting
from txinspect.forward.inputs import call, lengths_of, logits_of
from txinspect.forward.recorded import Coordinates, TensorBlocks
from txinspect.forward.values import first_tensor, hidden_states, picked, unflatten
from txinspect.forward.wants import Plan, Want

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class CaughtTensor:
    """A tensor that came by. It lives only while it is being received: what receives it reduces or copies it."""

    want: Want
    run: int
    """1 for the first time in this pass, 2 for the second, …"""
    tensor: TensorBlocks
    coordinates: Coordinates
    label: str | None = None
    """What kind of layer a table of positions is for, where a model makes several."""

    def copied(self) -> Tensor:
        """The whole caught tensor in memory of its own, on the CPU."""
        return self.tensor.whole().detach().to("cpu", copy=True).contiguous()


Receive = Callable[[CaughtTensor], None]


class _Done(Exception):
    """Raised inside the pass to stop it: the last asked tensor is there."""


class _Pass:
    """What is still asked for during one forward pass."""

    def __init__(self, plan: Plan, receive: Receive, seq_shapes: Mapping[str, tuple[int, int]]) -> None:
        self.wants = plan.wants
        self.expected = plan.runs
        self.receive = receive
        self.seq_shapes = seq_shapes
        self.hold = plan.until != ""
        """Whether a wanted module may run again."""
        self.runs: Counter[str] = Counter()
        self.calls: Counter[Want] = Counter()
        self.pending = set(plan.wants)
        self.own_error: Exception | None = None
        """What went wrong in receiving a tensor: it passes through the model's code, and is not one of its errors."""

    def catch(
        self, want: Want, tensor: TensorBlocks, coordinates: Coordinates = None, label: str | None = None
    ) -> None:
        """Hand over a caught tensor, where it is of the run that is wanted."""
        self.calls[want] += 1
        if want.supply.run not in (None, self.calls[want]):
            return
        name = f"{want.supply.name} {label}"
        self.runs[name] += 1
        if self.runs[name] >= self.expected.get(want.supply.name, 1):
            self.pending.discard(want)
        try:
            self.receive(CaughtTensor(want, self.runs[name], tensor, coordinates, label))
        except Exception as error:
            self.own_error = error
            raise

    def stop_when_done(self) -> None:
        """Stop the forward pass if everything is caught and no wanted module will run again."""
        if not self.pending and not self.hold:
            raise _Done

    def catch_module(self, want: Want, value: Any, label: str | None = None) -> None:
        """Hand over what a module's hook caught. A hook returns None, or it would replace the model's own tensor."""
        tensor = first_tensor(picked(value, want.supply.pick))
        if tensor is None:
            return
        if want.supply.axes and want.supply.axes[:2] == ("batch", "seq"):
            tensor = unflatten(tensor, self.seq_shapes[want.supply.stack])
        self.catch(want, TensorBlocks.of(tensor.detach()), None, label)


def run(model: PreTrainedModel, inputs: Mapping[str, Tensor], plan: Plan, receive: Receive) -> list[str]:
    """Run one forward pass on inputs (batch, seq) with hooks, until everything wanted has been received.

    Returns the names that a glob picked and that passed no tensor on. Raises StageError for any other that passed none
    on, and PassError if the model's own code fails.
    """
    import torch

    wants = plan.wants
    lengths = lengths_of(inputs)
    current = _Pass(plan, receive, lengths)
    for want in wants:
        if want.supply.tap == "table":
            stack, length = model.get_submodule(want.supply.module or ""), lengths[want.supply.stack][1]
            end = want.supply.within.partition(".")[2]
            current.catch(want, TensorBlocks.of(positions.tables(model, stack, length)[end]))
    if not current.pending:
        return []
    with torch.no_grad(), _in_order(model, current, plan, lengths):
        try:
            output = call(model, inputs)
        except _Done:
            return []
        except (InspectError, KeyboardInterrupt):
            raise
        except Exception as error:
            if error is current.own_error:
                raise
            raise PassError(f"forward pass failed: {type(error).__name__}: {first_line(error)}") from error
    for want in wants:
        if want.supply.tap == "logits":
            current.catch(want, TensorBlocks.of(logits_of(output)))
    missing = [want for want in wants if want in current.pending]
    for want in missing:
        if not want.by_glob:
            raise StageError(f"{want.supply.name!r} passed no tensor on: {want.supply.module} did not run in this pass")
    came = {want.supply.name for want in wants if want not in current.pending}
    return list(dict.fromkeys(want.supply.name for want in missing if want.supply.name not in came))


@contextmanager
def _in_order(
    model: PreTrainedModel, current: _Pass, plan: Plan, shapes: Mapping[str, tuple[int, int]]
) -> Iterator[None]:
    """Put into one pass its edits, then hooks that record, then watches: what is recorded is the edited value, and what
    watches see is what the pass goes on with. All are removed whatever happens."""
    taps.check_writable(model, plan.writes)
    with ExitStack() as stack:
        for edit in plan.edits:
            stack.enter_context(edit.made(model))
        stack.enter_context(taps.written(model, plan.writes, shapes))
        stack.enter_context(_hooks(model, current, taps.in_attention(model, plan.writes)))
        for watch in plan.watches:
            stack.enter_context(watch.watching(model))
        stack.enter_context(_released(model, current, plan.until))
        yield


@contextmanager
def _hooks(model: PreTrainedModel, current: _Pass, changes: recorder.Changes) -> Iterator[None]:
    """The pass's hooks that catch tensors; `changes` are made in the attention of the modules that it has."""
    inside: dict[nn.Module, list[Want]] = {module: [] for module in changes}
    with ExitStack() as stack:
        for want in current.wants:
            module = model.get_submodule(want.supply.module or "")
            if want.supply.tap == "attention":
                inside.setdefault(module, []).append(want)
            elif want.supply.tap == "input":
                stack.enter_context(before(module, _input_hook(current, want)))
            elif want.supply.tap == "output":
                stack.enter_context(after(module, _output_hook(current, want)))
        for module in inside:
            stack.enter_context(passing(module, lambda _: current.stop_when_done()))
        if inside:
            receive, batch = _call_receiver(current, inside), current.seq_shapes[""][0]
            stack.enter_context(recorder.recording(model, inside, receive, batch, changes))
        yield


@contextmanager
def _released(model: PreTrainedModel, current: _Pass, until: str | None) -> Iterator[None]:
    """While open, the start of a module lets the forward pass stop."""
    if not until:
        yield
        return

    def release() -> None:
        current.hold = False
        current.stop_when_done()

    with starting(model.get_submodule(until), release):
        yield


def _input_hook(current: _Pass, want: Want) -> Callable[..., None]:
    def hook(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        current.catch_module(want, hidden_states(args, kwargs))
        current.stop_when_done()

    return hook


def _output_hook(current: _Pass, want: Want) -> Callable[..., None]:
    def hook(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        texts = (value for value in (*args, *kwargs.values()) if isinstance(value, str))
        current.catch_module(want, output, next(texts, None) if want.supply.pick is not None else None)
        current.stop_when_done()

    return hook


def _call_receiver(current: _Pass, inside: Mapping[nn.Module, Sequence[Want]]) -> recorder.Receive:
    def receive(module: nn.Module, call: Call) -> None:
        for want in inside[module]:
            current.catch(want, *call.part(want.supply.part, want.selection))

    return receive
