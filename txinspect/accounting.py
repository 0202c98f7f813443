"""What loading costs: which tensors of which files, how many bytes of disk, download and memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import prod
from pathlib import PurePath
from typing import TYPE_CHECKING

from txinspect import checkpoint, mapping, quantizing, tree, weights
from txinspect.checkpoint import Stored
from txinspect.queries import ModelChoice
from txinspect.records import FileRecord, LoadingRecord
from txinspect.source import ADAPTER_FILES, Source

if TYPE_CHECKING:
    from txinspect.rehearsing import Rehearsal
    from txinspect.subject import Subject


def plan(subject: Subject, choice: ModelChoice, rehearsal: Rehearsal) -> LoadingRecord:
    """What a load would cost; of the weights only headers are read, or fetched.

    Raises SourceError where the weights are not all there or their headers cannot be read.
    """
    offered = checkpoint.offered(subject.source)
    names = [tensor.name for tensor in offered.tensors]
    if subject.source.kind != "hub":  # else not all that is there is described
        mapping.check_whole(subject, names)
    homes = mapping.homes(subject, names)
    used = {name for name, home in homes.items() if mapping.is_used(home, rehearsal.uses)}
    files = [
        _file(subject.source, path, size, offered.tensors, used, fetched=path not in offered.to_fetch)
        for path, size in offered.files.items()
    ]
    opened = [file for file in files if file.tensors_read != 0] or files[:1]
    if offered.weight_map:
        # It tells of shards that are not described, too.
        wanted = checkpoint.shards_of(offered.weight_map, lambda names: mapping.needed(subject, names, rehearsal.uses))
        opened = [file for file in files if PurePath(file.path).name in wanted] or opened
    return _record(
        subject,
        choice,
        rehearsal,
        opened,
        [tensor for tensor in offered.tensors if tensor.name in used],
        download=sum(offered.to_fetch.get(file.path, 0) for file in opened),
    )


def done(subject: Subject, choice: ModelChoice, rehearsal: Rehearsal, loaded: weights.Loaded) -> LoadingRecord:
    """What a load did cost."""
    tensors = checkpoint.stored(loaded.files)
    named = {tensor.name for tensor in tensors}
    read = loaded.read & named
    files = [_file(subject.source, str(file), file.stat().st_size, tensors, read) for file in loaded.files]
    used = [tensor for tensor in tensors if tensor.name in read]
    return _record(subject, choice, rehearsal, files, used, download=None)


def stored_sizes(subject: Subject) -> dict[str, tree.Size]:
    """How each parameter is stored, by the headers of the weight files that are here; empty where there are none.

    Raises SourceError for a file whose header cannot be read.
    """
    tensors = checkpoint.stored([file for file in checkpoint.here(subject.source) if checkpoint.has_header(file)])
    homes = mapping.homes(subject, [tensor.name for tensor in tensors])
    model, found = subject.skeleton, dict[str, tree.Size]()
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    for tensor in tensors:
        for name in homes[tensor.name].tensors:
            if name in names:
                numel = model.get_parameter(name).numel()
                # Of a tensor that is split or merged, each part takes what its numbers take.
                each = tensor.bytes / max(1, prod(tensor.shape))
                found.setdefault(name, tree.Size(numel, round(numel * each), tensor.dtype))
    return found


def _record(
    subject: Subject,
    choice: ModelChoice,
    rehearsal: Rehearsal,
    files: Sequence[FileRecord],
    used: Sequence[Stored],
    download: int | None,
) -> LoadingRecord:
    files = [*files, *_adapter_files(subject.source)]
    known = [file.bytes_read for file in files]
    numel, in_bytes = in_memory(subject, rehearsal.uses)
    return LoadingRecord(
        files=files,
        disk_bytes=None if None in known else sum(size or 0 for size in known),
        download_bytes=download,
        parameters=numel,
        memory_bytes=in_bytes,
        mapped=_is_mapped(subject, choice, used),
        modules_guessed=rehearsal.stopped_by,
    )


def _file(
    source: Source,
    path: str,
    size: int | None,
    tensors: Sequence[Stored],
    used: Collection[str],
    *,
    fetched: bool = True,
) -> FileRecord:
    own = [tensor for tensor in tensors if str(tensor.file) == path]
    read = [tensor for tensor in own if tensor.name in used]
    on_hub = source.kind == "hub"
    return FileRecord(
        path=path,
        origin=("cache" if fetched else "hub") if on_hub else "bundled" if source.kind == "bundled" else "local",
        repository=source.repository if on_hub else None,
        bytes=size,
        tensors=len(own) if own else None,
        tensors_read=len(read) if own else None,
        bytes_read=sum(tensor.bytes for tensor in read) if own else size,
    )


def _adapter_files(source: Source) -> list[FileRecord]:
    """The weights of an adapter, which are read whole."""
    if source.adapter is None:
        return []
    own = Source(source.name, "directory", source.adapter)
    here = [source.adapter / name for name in ADAPTER_FILES if (source.adapter / name).is_file()][:1]
    tensors = checkpoint.stored(here)
    return [_file(own, str(path), path.stat().st_size, tensors, {tensor.name for tensor in tensors}) for path in here]


def in_memory(subject: Subject, uses: Mapping[str, bool]) -> tuple[int, int]:
    """Parameters in use, and the bytes that they and their modules' buffers take; tied ones count once."""
    seen: set[int] = set()
    numel = in_bytes = 0
    for path, module in subject.shown.named_modules():
        if not uses[path]:
            continue
        for tensor in module.parameters(recurse=False):
            if id(tensor) not in seen:
                seen.add(id(tensor))
                size = tree.size(module, tensor)
                numel, in_bytes = numel + size.numel, in_bytes + size.bytes
        in_bytes += sum(buffer.nbytes for buffer in module.buffers(recurse=False))
    return numel, in_bytes


def _is_mapped(subject: Subject, choice: ModelChoice, used: Sequence[Stored]) -> bool:
    """Whether the weights stay where they are on disk: on the CPU, in the type and under the shapes they are stored in.

    Transformers maps safetensors, and pytorch_model.bin in the zip format (modeling_utils.load_state_dict).
    """
    if choice.quantization or choice.device_map or quantizing.stored_method(subject.config):
        return False
    if weights.device_for(choice) != "cpu" or subject.source.gguf_file:
        return False
    homes = mapping.homes(subject, [tensor.name for tensor in used])
    dtype = str(subject.skeleton.dtype).removeprefix("torch.")
    return all(
        tensor.dtype == dtype and not homes[tensor.name].converted and checkpoint.is_mappable(tensor.file)
        for tensor in used
    )
