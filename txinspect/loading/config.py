"""Source → the config of a model, as transformers reads it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from txinspect.errors import SourceError, spelled
from txinspect.guards import gguf_reader
from txinspect.guards.blame import blamed
from txinspect.guards.mending import mended, mended_configs
from txinspect.guards.quiet import as_source_error, quiet
from txinspect.loading.weights import gguf
from txinspect.model_choice import ModelChoice
from txinspect.sources import headers
from txinspect.sources.config_checks import check_config
from txinspect.sources.gguf_header import read_header
from txinspect.sources.names import CODE_FILES, CONFIG_FILES
from txinspect.sources.source import Source
from txinspect.wording import counted, shown

if TYPE_CHECKING:
    from transformers import PretrainedConfig


BESIDE = 8
"""Layers that a .gguf file may count beside those whose weights it has, such as a head that predicts further tokens."""


def load_config(source: Source, choice: ModelChoice) -> PretrainedConfig:
    """Load the config of a model, as transformers reads it.

    Raises SourceError for one that is damaged, unknown to transformers, or needs code of its own.
    """
    if source.is_one_file:
        return _gguf_config(source)
    raw = source.config
    check_config(source, raw)
    from transformers import AutoConfig, __version__
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    model_type = raw.get("model_type")
    own_code = isinstance(raw.get("auto_map"), dict)
    if own_code and model_type not in CONFIG_MAPPING:
        if not choice.trust_remote_code:
            raise SourceError(
                f"{source.name!r} comes with Python code of its own: read it, and add "
                f"{spelled('trust_remote_code', True)} to run it"
            )
        if not isinstance(raw["auto_map"].get("AutoConfig"), str):
            raise SourceError(
                f"config.json of {source.name!r} says auto_map is {shown(raw['auto_map'])}: its AutoConfig must name a "
                f"class of the model's own"
            )
        folder = source.folder(CONFIG_FILES + CODE_FILES)
    else:
        folder = source.config_folder()
        if not isinstance(model_type, str):
            raise SourceError(f"config.json of {source.name!r} names no model_type: is it a transformers checkpoint?")
        if model_type not in CONFIG_MAPPING:
            raise SourceError(
                f"transformers {__version__} does not know the model type {model_type!r} of {source.name!r}: "
                f"a newer release may, so try 'pip install -U transformers'"
            )
    what = f"config.json of {source.name!r} does not describe a valid {model_type!r}"

    def blame() -> str | None:
        if model_type not in CONFIG_MAPPING:
            return None
        kind = CONFIG_MAPPING[str(model_type)]
        return blamed(mended(raw), lambda config: kind.from_dict(config))

    with quiet(), as_source_error(what, blame=blame), mended_configs():
        config: PretrainedConfig = AutoConfig.from_pretrained(
            folder, trust_remote_code=choice.trust_remote_code, local_files_only=True
        )
    _check_numbers(source, config)
    config.return_dict = True  # what is read of the model's output is read by its name
    return config


def _gguf_config(source: Source) -> PretrainedConfig:
    """The config as transformers reads it from the header of a .gguf file."""
    from transformers import AutoConfig

    _check_blocks(source)
    try:
        with quiet(), gguf_reader.remembered(), as_source_error(f"{source.name!r} cannot be read as a GGUF model"):
            config: PretrainedConfig = AutoConfig.from_pretrained(
                source.config_folder(), gguf_file=source.place.in_one_file
            )
    except SourceError as error:
        if "architecture" not in str(error):
            raise
        raise SourceError(
            f"{error} Transformers reads {', '.join(gguf.architectures())}: use the model's safetensors instead"
        ) from error
    return config


def _check_blocks(source: Source) -> None:
    """Raise SourceError for a .gguf file whose config claims more layers than its tensors are of."""
    assert source.path is not None
    header = read_header(source.path)
    numbers = [int(found[1]) for each in header.tensors if (found := re.match(r"blk\.(\d{1,9})\.", each.name))]
    layers = max(numbers, default=-1) + 1
    for key, value in header.settings.items():
        if key.endswith(".block_count") and isinstance(value, int) and value > layers + BESIDE:
            raise SourceError(
                f"{source.name!r} says {key} is {value}, but its weights are of {counted(layers, 'layer')}: fetch it "
                f"again"
            )


def _check_numbers(source: Source, config: PretrainedConfig) -> None:
    """Raise SourceError for sizes in a config that no model can have, which transformers lets pass."""
    for name, value in vars(config).items():
        counts = name.startswith(("num_", "n_")) or name.endswith("_size")
        if counts and isinstance(value, int) and value < 0:
            raise SourceError(f"config.json of {source.name!r} says {name} is {value}: it must be at least 0")


def dtype_name(source: Source, choice: ModelChoice, config: PretrainedConfig) -> str:
    """The floating-point type that a config says the model is stored in, or the one that was asked for."""
    if choice.dtype != "auto":
        return choice.dtype
    dtype = getattr(config, "dtype", None)
    if dtype is not None:
        return str(dtype).removeprefix("torch.")
    if source.path is not None:
        kinds = (source.wanted.named or "model*.safetensors").removesuffix(".index.json")
        stored = [headers.stored_dtype(file) for file in sorted(source.path.glob(kinds))[:1]]
        return next((name for name in stored if name), "float32")
    return "float32"
