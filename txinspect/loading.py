"""Source → skeleton (modules without weights) or model with weights: dtype, device, quantization."""

from __future__ import annotations

import json
import logging
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from txinspect import checkpoint
from txinspect.errors import InspectError, SourceError, UsageError, first_line
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
    with quiet(), _as_source_error(f"config.json of {source.name!r} does not describe a valid {model_type!r}"):
        config: PretrainedConfig = AutoConfig.from_pretrained(
            folder, trust_remote_code=choice.trust_remote_code, local_files_only=True
        )
    _check_numbers(source, config)
    return config


def _gguf_config(source: Source) -> PretrainedConfig:
    """The config in the header of a .gguf file."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    with quiet(), _as_source_error(f"{source.name!r} cannot be read as a model in GGUF"):
        config: PretrainedConfig = AutoConfig.from_pretrained(source.config_folder(), gguf_file=source.gguf_file)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise SourceError(f"{source.name!r} is of type {config.model_type!r}, which has no causal language model")
    return config


def _check_numbers(source: Source, config: PretrainedConfig) -> None:
    """Raise SourceError for sizes that no model can have, which transformers lets pass."""
    for name, value in vars(config).items():
        counts = name.startswith(("num_", "n_")) or name.endswith("_size")
        if counts and isinstance(value, int) and value < 0:
            raise SourceError(f"config.json of {source.name!r} says {name} is {value}: it must be at least 0")


def _check_quantization(source: Source, config: PretrainedConfig) -> None:
    """Raise SourceError for a stored quantization that transformers does not know, and would ignore."""
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

    stored = getattr(config, "quantization_config", None)
    method = stored.get("quant_method") if isinstance(stored, dict) else None
    if stored and method is not None and not any(name.startswith(method) for name in AUTO_QUANTIZER_MAPPING):
        raise SourceError(
            f"{source.name!r} is quantized with {method!r}, which transformers does not know: "
            f"it knows {', '.join(sorted(AUTO_QUANTIZER_MAPPING))}"
        )


def skeleton(source: Source, choice: ModelChoice, config: PretrainedConfig) -> PreTrainedModel:
    """The model's modules on the meta device: shapes and types, no weights, no memory."""
    import torch
    from transformers import AutoModelForCausalLM, initialization

    dtype = getattr(torch, _dtype_name(source, choice, config))
    with (
        quiet(),
        _as_source_error(f"no model can be built from config.json of {source.name!r}"),
        torch.device("meta"),
        initialization.meta_device_safe_creation_ops(),
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


def quantize_skeleton(model: PreTrainedModel, choice: ModelChoice) -> None:
    """Replace a skeleton's linear layers by the classes that quantized loading makes."""
    from transformers.quantizers.auto import AutoHfQuantizer

    quantizer = AutoHfQuantizer.from_config(_quantization_config(choice), pre_quantized=False)
    with quiet():
        quantizer.preprocess_model(model=model, dtype=model.dtype, device_map={"": "cpu"}, checkpoint_files=None)


def load(source: Source, choice: ModelChoice, config: PretrainedConfig) -> PreTrainedModel:
    """The model with its weights, in eval mode.

    On the CPU at the stored dtype the weights are mapped into memory: a page is read when it is first used.
    Raises SourceError for weights that are missing, damaged or do not fit the config.
    """
    import torch
    from transformers import AutoModelForCausalLM

    device = _device(choice)
    folder = source.weights_folder()
    gguf = source.gguf_file
    files = [folder / gguf] if gguf else checkpoint.weight_files(folder, source.name)
    _check_quantization(source, config)
    with quiet(), _as_source_error(f"the weights of {source.name!r} could not be loaded", files[0]):
        part = _part(config)
        factory: Any = part.model_class if part else AutoModelForCausalLM
        loaded = factory.from_pretrained(
            folder,
            config=part.config if part else config,
            dtype=choice.dtype if choice.dtype == "auto" else getattr(torch, choice.dtype),
            device_map=choice.device_map or {"": device},
            quantization_config=_quantization_config(choice),
            trust_remote_code=choice.trust_remote_code,
            gguf_file=gguf,
            use_safetensors=None if gguf else files[0].suffix == ".safetensors",
            local_files_only=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    model: PreTrainedModel = loaded[0]
    _check_fit(source, loaded[1])
    _check_4bit_widths(model, choice)
    model.eval()
    return model


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
    with quiet(), _as_source_error(f"the tokenizer of {source.name!r} could not be loaded"):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=trust_remote_code, local_files_only=True, gguf_file=source.gguf_file
        )
    return tokenizer


def _check_4bit_widths(model: PreTrainedModel, choice: ModelChoice) -> None:
    """Raise InspectError for widths that bitsandbytes cannot run in 4 bits on the CPU (its blocks are of 64)."""
    if choice.quantization != "4bit" or model.device.type != "cpu":
        return
    for path, module in model.named_modules():
        if type(module).__name__ == "Linear4bit" and getattr(module, "in_features", 0) % 64:
            raise InspectError(
                f"--4bit on the CPU needs linear layers whose input width is a multiple of 64, and {path} has "
                f"{module.in_features}: use --8bit, or a GPU"
            )


def _has_code(path: Path) -> bool:
    """Whether a tokenizer_config.json names a class of the repository's own."""
    try:
        return "AutoTokenizer" in (json.loads(path.read_text(encoding="utf-8")).get("auto_map") or ())
    except (OSError, ValueError, AttributeError):
        return False


def _check_fit(source: Source, found: dict[str, Any]) -> None:
    """Raise SourceError unless the checkpoint held every tensor of the model, in its shape."""
    mismatched, missing = sorted(found["mismatched_keys"]), sorted(found["missing_keys"])
    if mismatched:
        name, stored, wanted = mismatched[0]
        raise SourceError(
            f"the weights of {source.name!r} do not fit its config.json: {name} is {list(stored)} in the checkpoint "
            f"and {list(wanted)} by the config{_and_more(mismatched)}"
        )
    if missing:
        raise SourceError(
            f"the checkpoint of {source.name!r} lacks {missing[0]}{_and_more(missing)}: "
            f"it is incomplete, or of another architecture than its config.json says"
        )


def _and_more(items: list[Any]) -> str:
    return f" (and {len(items) - 1} more tensors)" if len(items) > 1 else ""


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


def _device(choice: ModelChoice) -> str:
    """The torch device to run on. Raises InspectError for one that this machine does not have."""
    import torch

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if choice.device == "auto":
        return "cuda" if cuda else "mps" if mps else "cpu"
    kind, _, number = choice.device.partition(":")
    if kind == "cuda" and not cuda:
        raise InspectError(f"device {choice.device!r} is not there: torch finds no CUDA device; use --device cpu")
    if kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        raise InspectError(
            f"device {choice.device!r} is not there: CUDA devices are counted from 0, and torch finds "
            f"{torch.cuda.device_count()}"
        )
    if kind == "mps" and not mps:
        raise InspectError("device 'mps' is not there: torch finds no Metal device; use --device cpu")
    return choice.device


def _quantization_config(choice: ModelChoice) -> Any:
    """What makes transformers quantize while loading; None to load as stored."""
    if choice.quantization is None:
        return None
    missing = [package for package in ("bitsandbytes", "accelerate") if find_spec(package) is None]
    if missing:
        raise InspectError(f"--{choice.quantization} needs {missing[0]}: install it with 'pip install {missing[0]}'")
    if choice.quantization == "8bit" and choice.dtype == "float32":
        # LLM.int8 multiplies in half precision: float32 would be rounded without a word.
        raise UsageError("--8bit computes in half precision: leave --dtype float32 away, or give float16 or bfloat16")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_8bit=choice.quantization == "8bit", load_in_4bit=choice.quantization == "4bit")


@contextmanager
def _as_source_error(what: str, file: Path | None = None) -> Iterator[None]:
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
