"""What loading costs: which tensors of which files, how many bytes of disk, download and memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import prod
from pathlib import PurePath
from typing import TYPE_CHECKING

from txinspect.loading import device
from txinspect.loading.quantization import stored
from txinspect.loading.weights import fit, partial, sizes
from txinspect.model_choice import ModelChoice
from txinspect.records import FileRecord, LoadingRecord
from txinspect.sources import checkpoint, headers
from txinspect.sources.checkpoint import WeightListing
from txinspect.sources.headers import StoredTensor
from txinspect.sources.places import Folder, Place
from txinspect.sources.source import Source

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from txinspect.loading.subject import Subject
    from txinspect.loading.uses import Uses


def expected(subject: Subject, choice: ModelChoice, uses: Uses, listing: WeightListing) -> LoadingRecord:
    """The cost of loading these weights, as it would be.

    Raises SourceError if the weights are not all there.
    """
    names = [tensor.name for tensor in listing.tensors]
    if subject.source.place.repository is None:  # else not all that is there is described
        fit.check_whole(subject, names, asked=choice.task is not None)
    fit.check_shapes(subject, listing.tensors)
    places = fit.destinations(subject, names)
    used = {name for name, place in places.items() if fit.is_used(place, uses.modules)}
    files = [
        _file(subject.source.place, path, size, listing.tensors, used, fetched=path not in listing.to_fetch)
        for path, size in listing.files.items()
    ]
    opened = [file for file in files if file.tensors_read != 0] or files[:1]
    if listing.weight_map:
        # It tells of shards that are not described, too.
        wanted = checkpoint.shards_of(
            listing.weight_map, lambda names: fit.needed_tensors(subject, names, uses.modules)
        )
        opened = [file for file in files if PurePath(file.path).name in wanted] or opened
    return _record(
        subject,
        choice,
        uses,
        opened,
        [tensor for tensor in listing.tensors if tensor.name in used],
        download=sum(listing.to_fetch.get(file.path, 0) for file in opened),
    )


def spent(subject: Subject, choice: ModelChoice, uses: Uses, loaded: partial.Loaded) -> LoadingRecord:
    """The cost of a load of weights, as it was."""
    tensors = headers.stored(loaded.files)
    named = {tensor.name for tensor in tensors}
    read = loaded.read & named
    files = [_file(subject.source.place, str(file), file.stat().st_size, tensors, read) for file in loaded.files]
    used = [tensor for tensor in tensors if tensor.name in read]
    return _record(subject, choice, uses, files, used, download=None)


def stored_sizes(subject: Subject, tensors: Sequence[StoredTensor]) -> dict[str, sizes.Size]:
    """How each parameter is stored, by the tensors of a checkpoint: what loading it costs."""
    places = fit.destinations(subject, [tensor.name for tensor in tensors])
    model, found = subject.as_configured, dict[str, sizes.Size]()
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    method = stored.stored_method(subject.config)
    if method is not None:
        return _quantized_sizes(model, names, tensors, method)
    for tensor in tensors:
        for name in places[tensor.name].tensors:
            if name in names:
                numel = model.get_parameter(name).numel()
                # Of a tensor that is split or merged, each part takes what its numbers take.
                each = tensor.bytes / max(1, prod(tensor.shape))
                found.setdefault(name, sizes.Size(numel, round(numel * each), tensor.dtype))
    return found


def _quantized_sizes(
    model: PreTrainedModel, names: Collection[str], tensors: Sequence[StoredTensor], method: str
) -> dict[str, sizes.Size]:
    """What a weight that is stored quantized costs to load: its codes, scales and zero points beside it."""
    parts: dict[str, list[StoredTensor]] = {}
    for tensor in tensors:
        path = tensor.name
        while path and path not in names and f"{path}.weight" not in names:
            path = path.rpartition(".")[0]
        parts.setdefault(path if path in names else f"{path}.weight", []).append(tensor)
    return {
        name: sizes.Size(
            model.get_parameter(name).numel(),
            sum(each.bytes for each in own),
            own[0].dtype if len(own) == 1 and own[0].name == name else method,
        )
        for name, own in parts.items()
        if name in names
    }


def _record(
    subject: Subject,
    choice: ModelChoice,
    uses: Uses,
    files: Sequence[FileRecord],
    used: Sequence[StoredTensor],
    download: int | None,
) -> LoadingRecord:
    files = [*files, *_adapter_files(subject.source)]
    known = [file.bytes_read for file in files]
    numel, in_bytes = in_memory(subject, uses.modules)
    return LoadingRecord(
        files=files,
        disk_bytes=None if None in known else sum(size or 0 for size in known),
        download_bytes=download,
        parameters=numel,
        memory_bytes=in_bytes,
        mapped=_is_mapped(subject, choice, used),
        modules_guessed=uses.guessed_because,
    )


def _file(
    place: Place,
    path: str,
    size: int | None,
    tensors: Sequence[StoredTensor],
    used: Collection[str],
    *,
    fetched: bool = True,
) -> FileRecord:
    own = [tensor for tensor in tensors if str(tensor.file) == path]
    read = [tensor for tensor in own if tensor.name in used]
    return FileRecord(
        path=path,
        origin=place.origin(fetched=fetched),
        repository=place.repository,
        bytes=size,
        tensors=len(own) if own else None,
        tensors_read=len(read) if own else None,
        bytes_read=sum(tensor.bytes for tensor in read) if own else size,
    )


def _adapter_files(source: Source) -> list[FileRecord]:
    """The cost of loading an adapter's weight files, which are read whole."""
    if source.adapter is None:
        return []
    own, files = Folder(source.adapter.folder), source.adapter.files
    tensors = headers.stored(files)
    return [_file(own, str(path), path.stat().st_size, tensors, {tensor.name for tensor in tensors}) for path in files]


def in_memory(subject: Subject, uses: Mapping[str, bool]) -> tuple[int, int]:
    """The cost in memory: parameters in use, and the bytes that they and buffers take; tied ones count once."""
    seen: set[int] = set()
    numel = in_bytes = 0
    for path, module in subject.as_loaded.named_modules():
        if not uses[path]:
            continue
        for tensor in module.parameters(recurse=False):
            if id(tensor) not in seen:
                seen.add(id(tensor))
                size = sizes.size(module, tensor)
                numel, in_bytes = numel + size.numel, in_bytes + size.bytes
        in_bytes += sum(buffer.nbytes for buffer in module.buffers(recurse=False))
    return numel, in_bytes


def _is_mapped(subject: Subject, choice: ModelChoice, used: Sequence[StoredTensor]) -> bool:
    """Whether loaded weights stay where they are on disk, mapped: on the CPU, in the type and shapes of the files.

    Transformers maps safetensors, and pytorch_model.bin in the zip format (modeling_utils.load_state_dict).
    """
    if choice.quantization or choice.device_map or stored.stored_method(subject.config):
        return False
    if device.device_for(choice) != "cpu" or subject.source.is_one_file:
        return False
    places = fit.destinations(subject, [tensor.name for tensor in used])
    dtype = str(subject.as_configured.dtype).removeprefix("torch.")
    return all(
        tensor.dtype == dtype and not places[tensor.name].converted and headers.is_mappable(tensor.file)
        for tensor in used
    )
