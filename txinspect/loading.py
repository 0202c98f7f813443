"""Source → config, skeleton (the modules without weights) and tokenizer, as transformers makes them."""

from __future__ import annotations

import json
import logging
import pickle
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stderr
from copy import deepcopy
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from txinspect import checkpoint, gguf_files
from txinspect.errors import InspectError, SourceError, first_line
from txinspect.queries import ModelChoice
from txinspect.source import CODE_FILES, CONFIG_FILES, TOKENIZER_FILES, Source, read_config

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


def load_config(source: Source, choice: ModelChoice) -> PretrainedConfig:
    """The config of a causal language model.

    Raises SourceError for one that is damaged, unknown to transformers, wants code of its own, or is no causal LM.
    """
    if source.kind == "gguf":
        return _gguf_config(source)
    raw = read_config(source)
    from transformers import AutoConfig, __version__
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    model_type = raw.get("model_type")
    own_code = isinstance(raw.get("auto_map"), dict)
    if own_code and model_type not in CONFIG_MAPPING:
        if not choice.trust_remote_code:
            raise SourceError(
                f"{source.name!r} comes with Python code of its own: read it, and add --trust-remote-code to run it"
            )
        folder = source.folder(CONFIG_FILES + CODE_FILES)
    else:
        folder = source.config_folder()
        if not isinstance(model_type, str):
            raise SourceError(f"config.json of {source.name!r} names no model_type: is it a transformers checkpoint?")
        if model_type not in CONFIG_MAPPING:
            raise SourceError(
                f"transformers {__version__} does not know the model type {model_type!r} of {source.name!r}: "
                f"a newer release may, with 'pip install -U transformers'"
            )
        if model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
            raise SourceError(
                f"{source.name!r} is of type {model_type!r}, which has no causal language model in transformers: "
                f"txinspect inspects models that predict the next token, such as opt, gpt2 or llama"
            )
    with quiet(), as_source_error(f"config.json of {source.name!r} does not describe a valid {model_type!r}"):
        config: PretrainedConfig = AutoConfig.from_pretrained(
            folder, trust_remote_code=choice.trust_remote_code, local_files_only=True
        )
    _check_numbers(source, config)
    return config


def _gguf_config(source: Source) -> PretrainedConfig:
    """The config in the header of a .gguf file."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    try:
        with quiet(), gguf_files.remembered(), as_source_error(f"{source.name!r} cannot be read as a model in GGUF"):
            config: PretrainedConfig = AutoConfig.from_pretrained(source.config_folder(), gguf_file=source.gguf_file)
    except SourceError as error:
        if "architecture" not in str(error):
            raise
        raise SourceError(
            f"{error} It converts {', '.join(gguf_files.architectures())}: take the model's safetensors instead"
        ) from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise SourceError(f"{source.name!r} is of type {config.model_type!r}, which has no causal language model")
    return config


def _check_numbers(source: Source, config: PretrainedConfig) -> None:
    """Raise SourceError for sizes that no model can have, which transformers lets pass."""
    for name, value in vars(config).items():
        counts = name.startswith(("num_", "n_")) or name.endswith("_size")
        if counts and isinstance(value, int) and value < 0:
            raise SourceError(f"config.json of {source.name!r} says {name} is {value}: it must be at least 0")


def skeleton(source: Source, choice: ModelChoice, config: PretrainedConfig, *, tied: bool = True) -> PreTrainedModel:
    """The model's modules on the meta device: shapes and types, no weights, no memory.

    Not yet `tied`, every module has tensors of its own, as while transformers decides what it quantizes.
    """
    import torch
    from transformers import AutoModelForCausalLM, initialization

    dtype = getattr(torch, _dtype_name(source, choice, config))
    config = deepcopy(config)  # building writes into it
    with (
        quiet(),
        as_source_error(f"no model can be built from config.json of {source.name!r}"),
        torch.device("meta"),
        initialization.meta_device_safe_creation_ops(),
        nullcontext() if tied else initialization.no_tie_weights(),
    ):
        model: PreTrainedModel
        if part := _part(config):
            model = part.model_class._from_config(part.config, dtype=dtype)
        else:
            model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=choice.trust_remote_code)
    model.eval()
    return model


@dataclass(frozen=True)
class _Part:
    """A language model that is one part of a larger one."""

    model_class: Any
    config: PretrainedConfig


def _part(config: PretrainedConfig) -> _Part | None:
    """The part that is the language model, where transformers registers the whole model's config for it.

    MusicGen's class is registered with the whole config, whose fields it does not have (modeling_musicgen.py).
    """
    if not config.model_type.startswith("musicgen") or not hasattr(config, "decoder"):
        return None
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    return _Part(MODEL_FOR_CAUSAL_LM_MAPPING[type(config)], config.decoder)


def load_tokenizer(source: Source, folder: Path, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """The tokenizer that transformers makes of a folder's files.

    Raises SourceError where it cannot.
    """
    from transformers import AutoTokenizer

    if not source.gguf_file and not any(path for pattern in TOKENIZER_FILES for path in folder.glob(pattern)):
        raise SourceError(
            f"{source.name!r} has no tokenizer: none of {', '.join(TOKENIZER_FILES[:6])}, … is in {folder}; "
            f"copy them from the model it was made of"
        )
    if not trust_remote_code and _has_code(folder / "tokenizer_config.json"):
        raise SourceError(
            f"the tokenizer of {source.name!r} comes with Python code of its own: "
            f"read it, and add --trust-remote-code to run it"
        )
    with quiet(), as_source_error(f"the tokenizer of {source.name!r} could not be loaded"), ExitStack() as stack:
        if source.gguf_file:
            stack.enter_context(gguf_files.remembered())
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=trust_remote_code, local_files_only=True, gguf_file=source.gguf_file
        )
    return tokenizer


def _has_code(path: Path) -> bool:
    """Whether a tokenizer_config.json names a class of the repository's own."""
    try:
        return "AutoTokenizer" in (json.loads(path.read_text(encoding="utf-8")).get("auto_map") or ())
    except (OSError, ValueError, AttributeError):
        return False


def _dtype_name(source: Source, choice: ModelChoice, config: PretrainedConfig) -> str:
    """The floating-point type the model is stored in, or the one that was asked for."""
    if choice.dtype != "auto":
        return choice.dtype
    dtype = getattr(config, "dtype", None)
    if dtype is not None:
        return str(dtype).removeprefix("torch.")
    if source.path is not None:
        stored = [checkpoint.stored_dtype(file) for file in sorted(source.path.glob("model*.safetensors"))[:1]]
        return next((name for name in stored if name), "float32")
    return "float32"


@contextmanager
def as_source_error(what: str, file: Path | None = None) -> Iterator[None]:
    """Turn what transformers raises into one sentence that says what could not be done, with which file."""
    try:
        yield
    except (InspectError, KeyboardInterrupt):
        raise
    except pickle.UnpicklingError as error:
        raise SourceError(checkpoint.pickled(file) if file else f"{what}: {first_line(error)}") from error
    except ImportError as error:
        raise SourceError(f"{what}: a package is missing ({first_line(error)})") from error
    except Exception as error:
        raise SourceError(f"{what}: {first_line(error)}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' warnings and progress bars off the terminal: txinspect says what matters itself."""
    from transformers.utils import logging as transformers_logging

    # bitsandbytes warns of optional kernels whenever it is imported.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        # Some bars, such as that of GGUF, know no switch.
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
