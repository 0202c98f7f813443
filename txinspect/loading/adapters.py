"""PEFT adapters: a folder of small weights, applied to the base model that it names, as PeftModel applies them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from txinspect.errors import InspectError, SourceError, first_line, spelled
from txinspect.guards.quiet import quiet
from txinspect.sources import checkpoint, headers
from txinspect.sources.adapter import Adapter
from txinspect.sources.adapter_checks import check_patterns
from txinspect.sources.names import ADAPTER_CONFIG
from txinspect.wording import shown

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def inject(model: PreTrainedModel, adapter: Adapter) -> None:
    """Give a skeleton the modules of a PEFT adapter.

    Raises SourceError if it was not made for the model, or replaces no modules.
    """
    import torch

    for file in adapter.files:
        checkpoint.check_file(file)
    check_patterns(adapter.config, adapter.what, [name for name, _ in model.named_modules()])
    with _fitting(adapter), torch.device("meta"):
        _wrapped(model, adapter)


def resize(model: PreTrainedModel, adapter: Adapter) -> None:
    """Give the base model the rows of an adapter's own embeddings, where tokens were added before it was trained.

    The rows that are new have no numbers of their own until the adapter's embeddings take the place of all.
    """
    rows = _rows(model, adapter)
    if rows is not None:
        model.resize_token_embeddings(rows, mean_resizing=False)


def _rows(model: PreTrainedModel, adapter: Adapter) -> int | None:
    """The rows of an adapter's own embeddings to resize the base to; None if it has none, or as many as the model."""
    embeddings = model.get_input_embeddings()
    path = next((path for path, module in model.named_modules() if module is embeddings), None)
    table = getattr(embeddings, "weight", None)
    if path is None or table is None or table.ndim != 2:
        return None
    own = (each for each in headers.stored(adapter.files) if each.name.endswith(f".{path}.weight"))
    shape = next((each.shape for each in own), tuple(table.shape))
    return shape[0] if len(shape) == 2 and shape[1] == table.shape[1] and shape[0] != table.shape[0] else None


def attach(model: PreTrainedModel, adapter: Adapter) -> None:
    """Apply a PEFT adapter to the model, whose modules keep their paths.

    Raises SourceError if it was not made for the model.
    """
    with _fitting(adapter):
        resize(model, adapter)
        from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING

        wrapped = _wrapped(model, adapter)
        found = wrapped.load_adapter(str(adapter.folder), "default")
        own = PEFT_TYPE_TO_PREFIX_MAPPING[wrapped.peft_type]
        if missing := [name for name in found.missing_keys if own in name]:
            raise ValueError(f"it lacks the tensor {min(missing)}")
        # What takes an embedding's place is stored once more where it was resized.
        surplus = [name for name in found.unexpected_keys if ".modules_to_save." not in name]
        if surplus:
            raise ValueError(f"it has a tensor {min(surplus)} that the model has no place for")


def why_shared(adapter: Adapter) -> str | None:
    """Why a PEFT adapter is applied to a whole model: its modules share tensors, as VeRA's do; None if they do not."""
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    kind = _config(adapter).peft_type
    if getattr(PEFT_TYPE_TO_TUNER_MAPPING.get(kind), "uses_shared_state", False):
        return f"the modules of {kind.value} adapters share tensors"
    return None


def _config(adapter: Adapter) -> Any:
    from peft import PeftConfig, PeftType, __version__

    kind = adapter.config["peft_type"]
    if kind not in list(PeftType):
        raise SourceError(f"{adapter.what} says peft_type is {shown(kind)}, which peft {__version__} does not know")
    with quiet():  # it warns of what it does not know
        return PeftConfig.from_pretrained(str(adapter.folder))


def _wrapped(model: PreTrainedModel, adapter: Adapter) -> Any:
    """The base model inside of a PeftModel, which an adapter replaces modules of in place."""
    from peft import get_peft_model

    config = _config(adapter)
    if config.is_prompt_learning or config.is_adaption_prompt:
        raise SourceError(
            f"the adapter {adapter.name!r} is of type {config.peft_type.value}, which replaces no modules: "
            f"inspect its base model, {adapter.base!r}"
        )
    quantized = {"Linear8bitLt", "Linear4bit"} & {type(module).__name__ for module in model.modules()}
    if quantized and getattr(config, "use_dora", False):
        raise SourceError(
            f"the adapter {adapter.name!r} is a DoRA, which measures the weights it is applied to, and cannot be shown "
            f"on an 8-bit or 4-bit base: load the base as it is stored, or with {spelled('dtype', 'bfloat16')}"
        )
    config.inference_mode = True
    return get_peft_model(model, config)


@contextmanager
def _fitting(adapter: Adapter) -> Iterator[None]:
    """Turn what goes wrong in fitting an adapter to its base model into a sentence."""
    try:
        with quiet():
            yield
    except InspectError:
        raise
    except ImportError as error:
        raise SourceError(f"the adapter {adapter.name!r} needs a package: {first_line(error)}") from error
    except Exception as error:
        raise SourceError(
            f"the adapter {adapter.name!r} does not fit its base model: {first_line(error)}; "
            f"check base_model_name_or_path in its {ADAPTER_CONFIG}"
        ) from error
