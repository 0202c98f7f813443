"""Where each tensor of a checkpoint goes in the model: checkpoints name and split tensors differently from modules.

Transformers knows how (conversion_mapping.py, integrations/gguf); nothing is matched by name alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from txinspect.errors import SourceError, spelled
from txinspect.loading.quantization import stored
from txinspect.loading.weights import gguf
from txinspect.loading.weights.destinations import Destination, places
from txinspect.loading.weights.ties import lacking
from txinspect.sources.source import Source

if TYPE_CHECKING:
    from txinspect.loading.subject import Subject
    from txinspect.sources.headers import StoredTensor


_WRAPPERS = {"module.": "DataParallel", "_orig_mod.": "torch.compile", "_fsdp_wrapped_module.": "FSDP"}
"""What wrappers of torch put in front of every name in a state_dict."""


def destinations(subject: Subject, names: Sequence[str]) -> dict[str, Destination]:
    """Where each tensor of a checkpoint fits into the model; what is stored beside a quantized weight goes with it."""
    key = tuple(names)
    if key not in subject.destinations:
        of_one_file = subject.source.is_one_file
        subject.destinations[key] = (
            _gguf_destinations(subject, names) if of_one_file else places(subject.as_configured, names)
        )
    return subject.destinations[key]


def _gguf_destinations(subject: Subject, names: Sequence[str]) -> dict[str, Destination]:
    """Where each tensor of a .gguf file fits into the model; where that is not known, to the whole of it."""
    assert subject.source.path is not None
    modules = dict(subject.as_configured.named_modules())
    becomes = gguf.tensors_of(subject.source.path, subject.as_configured)
    found = {}
    for name in names:
        path = becomes.get(name, "").rpartition(".")[0]
        found[name] = Destination(path if path in modules else "", (becomes.get(name, name),), True)
    return found


def needed_tensors(subject: Subject, names: Sequence[str], uses: Mapping[str, bool]) -> set[str]:
    """The tensors of a checkpoint that fit into modules in use."""
    return {name for name, place in destinations(subject, names).items() if is_used(place, uses)}


def is_used(place: Destination, uses: Mapping[str, bool]) -> bool:
    """Whether a checkpoint's tensor goes to a module in use; one whose place is unknown counts, too."""
    return place.module is not None and (place.module == "" or uses[place.module])


def check_whole(subject: Subject, names: Collection[str], *, asked: bool = False) -> None:
    """Raise SourceError if a checkpoint with tensors of these names lacks one of the model's, used or not; the class
    may have been `asked` for.

    What a quantization is stored as has names of its own, and so has a .gguf file: these are not checked.
    """
    if subject.source.is_one_file or stored.stored_method(subject.config) is not None:
        return
    there = {name for place in destinations(subject, list(names)).values() for name in place.tensors}
    absent = lacking(subject.as_configured, there)
    if absent and asked:
        raise SourceError(
            f"the checkpoint of {subject.source.name!r} lacks {min(absent)}{and_more(absent)}, which "
            f"{subject.task.class_name} has: omit {spelled('task', subject.task.name)}, or give another"
        )
    complain_of_missing(subject.source, absent, names)


def check_shapes(subject: Subject, tensors: Sequence[StoredTensor]) -> None:
    """Raise SourceError for a tensor of a checkpoint that goes into the model as it is, and is of another shape there.

    What a quantization is stored as, a .gguf file and the base of an adapter are not looked at.
    """
    if not subject.source.is_as_saved or stored.stored_method(subject.config) is not None:
        return
    shapes = {name: tuple(each.shape) for name, each in subject.as_configured.state_dict().items()}
    found = destinations(subject, [each.name for each in tensors])
    plain = [(found[each.name].tensors[0], each.shape) for each in tensors if not found[each.name].converted]
    complain_of_shapes(
        subject.source,
        [(name, shape, shapes[name]) for name, shape in plain if name in shapes and shape != shapes[name]],
    )


def complain_of_shapes(source: Source, mismatched: Collection[tuple[str, Sequence[int], Sequence[int]]]) -> None:
    """Raise SourceError that names a tensor that does not fit, where there are any: name, as stored, as configured."""
    if mismatched:
        name, in_file, wanted = min(mismatched)
        raise SourceError(
            f"the weights of {source.name!r} do not fit its config.json: {name} is {list(in_file)} in the checkpoint "
            f"and {list(wanted)} according to the config{and_more(mismatched)}"
        )


def surplus(subject: Subject, names: Collection[str]) -> list[str]:
    """The tensors of a checkpoint that fit nowhere in the model, as transformers reports them when it loads.

    What it leaves out quietly, such as the rotary tables of old checkpoints, is left out here. What a quantization or a
    .gguf file stores beside the weights, and what an adapter's base may hold, is not looked at.
    """
    if not subject.source.is_as_saved or stored.stored_method(subject.config) is not None:
        return []
    model = subject.as_configured
    tensors, found = model.state_dict().keys(), destinations(subject, list(names))
    # A tensor that would be split is reported as all that it would become.
    homeless = {name: place.tensors for name, place in found.items() if place.tensors[0] not in tensors}
    info = SimpleNamespace(missing_keys=set(), unexpected_keys={each for parts in homeless.values() for each in parts})
    model._adjust_missing_and_unexpected_keys(info)  # type: ignore[arg-type]
    return sorted(name for name, parts in homeless.items() if not info.unexpected_keys.isdisjoint(parts))


def complain_of_missing(source: Source, missing: Collection[str], names: Collection[str] = ()) -> None:
    """Raise SourceError that names a checkpoint's missing tensors, where there are any; `names` are those it has."""
    prefix = next((each for each in _WRAPPERS if names and all(name.startswith(each) for name in names)), None)
    if missing and prefix:
        raise SourceError(
            f"every tensor of {source.name!r} is named {prefix}…, as {_WRAPPERS[prefix]} names the model inside of it: "
            f"take {prefix!r} off the names and save the model again"
        )
    if missing:
        raise SourceError(
            f"the checkpoint of {source.name!r} lacks {min(missing)}{and_more(missing)}: "
            f"it is incomplete, or its architecture is not the one in its config.json"
        )


def and_more(tensors: Collection[Any]) -> str:
    """How many tensors do not fit beside the one that a sentence names."""
    return f" (and {len(tensors) - 1} more tensors)" if len(tensors) > 1 else ""
