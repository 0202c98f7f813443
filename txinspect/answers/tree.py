"""The module tree, as configured and as stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from txinspect.answers.reporting import head, loading_notes, surplus_notes
from txinspect.answers.session import Session
from txinspect.commands.tree import ModuleRecord, ParameterRecord, TotalsRecord, TreeQuery, TreeReport
from txinspect.errors import SourceError
from txinspect.loading import cost, describing
from txinspect.loading.weights import fit
from txinspect.loading.weights.sizes import NOTHING, Size, bytes_4bit, bytes_8bit, parameter_sizes, quantizable, sums
from txinspect.model_choice import ModelChoice

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from txinspect.loading.subject import Subject


def answer(query: TreeQuery, session: Session) -> TreeReport:
    """The report of `tree`: types and sizes as stored where the weight files are here, else as configured."""
    subject = session.model(query.model).subject(only_looked_at=True)
    notes, stored, surplus = [], dict[str, Size](), list[str]()
    try:
        if query.model.dtype == "auto":
            tensors = subject.source.stored_here()
            stored = _as_stored(subject, cost.stored_sizes(subject, tensors), query.model)
            names = subject.source.indexed() or [tensor.name for tensor in tensors]
            surplus = surplus_notes(subject, names)
            if names:
                fit.check_whole(subject, names)
    except SourceError as error:
        notes.append(f"{'As stored' if stored else 'Types and sizes are those of config.json'}: {error!s}.")
    if query.model.dtype != "auto":
        notes.append(f"--dtype {query.model.dtype}: sizes are those after the conversion, not as stored.")
    return TreeReport(
        **head("tree", [*notes, *loading_notes(subject), *surplus]),
        model=describing.model_record(subject, subject.as_loaded),
        quantization=subject.quantization,
        modules=module_records(subject.as_loaded, stored),
        totals=totals(subject.as_configured if subject.quantization else subject.as_loaded, stored),
    )


def _as_stored(subject: Subject, stored: dict[str, Size], choice: ModelChoice) -> dict[str, Size]:
    """How parameters in the tree are stored, as far as it stays so: not where the choice quantizes them."""
    if choice.quantization is None:
        return stored
    named = subject.as_loaded.named_parameters(remove_duplicate=False)
    kept = {name for name, each in named if type(each).__name__ == "Parameter"}
    return {name: size for name, size in stored.items() if name in kept}


def module_records(model: PreTrainedModel, stored: Mapping[str, Size] = NOTHING) -> list[ModuleRecord]:
    """A record of `tree` for every module, depth first, with sums over it and all below, tied parameters once.

    `stored` has the sizes of parameters, by their full names, that are not stored as the model has them.
    """
    sizes = parameter_sizes(model, stored)
    owners: dict[int, str] = {}
    records = []
    for path, module in model.named_modules():
        parameters = []
        for name, tensor in module.named_parameters(recurse=False):
            full = f"{path}.{name}" if path else name
            owner = owners.setdefault(id(tensor), full)
            own = sizes[id(tensor)]
            parameters.append(
                ParameterRecord(
                    name=name,
                    shape=list(tensor.shape),
                    dtype=own.dtype,
                    numel=own.numel,
                    bytes=own.bytes,
                    tied_to=None if owner == full else owner,
                )
            )
        numel, in_bytes = sums(module, sizes)
        depth = path.count(".") + 1 if path else 0
        records.append(
            ModuleRecord(
                name=path,
                class_=type(module).__name__,
                depth=depth,
                parameters=parameters,
                numel=numel,
                bytes=in_bytes,
            )
        )
    return records


def totals(model: PreTrainedModel, stored: Mapping[str, Size] = NOTHING) -> TotalsRecord:
    """The totals of `tree`: sizes of a model as stored, and with its linear layers quantized by bitsandbytes."""
    sizes = parameter_sizes(model, stored)
    numel, in_bytes = sums(model, sizes)
    weights = {path: model.get_parameter(f"{path}.weight") for path in quantizable(model)}
    now = sum(sizes[id(weight)].bytes for weight in weights.values())
    # A Conv1D's matrix is stored transposed (pytorch_utils.py): quantized, its rows are the outputs.
    turned = {path for path in weights if type(model.get_submodule(path)).__name__ == "Conv1D"}
    matrices = [weight.T if path in turned else weight for path, weight in weights.items()]
    return TotalsRecord(
        numel=numel,
        bytes=in_bytes,
        bytes_8bit=in_bytes - now + sum(bytes_8bit(weight) for weight in matrices),
        bytes_4bit=in_bytes - now + sum(bytes_4bit(weight) for weight in matrices),
        linear_modules=len(matrices),
    )
