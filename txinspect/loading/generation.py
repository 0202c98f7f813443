"""generation_config.json: how a model is meant to generate, as from_pretrained reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from txinspect import opening
from txinspect.errors import SourceError
from txinspect.guards.quiet import as_source_error, quiet
from txinspect.sources.source import Source
from txinspect.wording import shown

if TYPE_CHECKING:
    from transformers import GenerationConfig, PretrainedConfig

FILE = "generation_config.json"

LEFT_OUT = (
    "stop_strings",
    "max_time",
    "penalty_alpha",
    "dola_layers",
    "prompt_lookup_num_tokens",
    "assistant_early_exit",
    "guidance_scale",
    "watermarking_config",
)
"""Settings that are not followed: what ends a text by a clock or by its letters, other searches than the likeliest
token each time, and what needs further passes."""


def settings(source: Source, config: PretrainedConfig) -> GenerationConfig:
    """The generation settings that generation_config.json holds, else config.json, as from_pretrained has it.

    Raises SourceError for a file that cannot be read so.
    """
    from transformers import GenerationConfig

    if source.is_one_file:
        return GenerationConfig.from_model_config(config)
    folder, own = source.folder((FILE,)), source.place.file(FILE)
    if own is not None:
        source.files.read_object(own, opening.SMALL, f"{FILE} of {source.name!r}")
    with quiet(), as_source_error(f"{FILE if own else 'config.json'} of {source.name!r} does not say how to generate"):
        if own is not None:
            return GenerationConfig.from_pretrained(folder, local_files_only=True)
        # Of BART and others the settings stand in config.json (GenerationMixin.adjust_generation_fn).
        return GenerationConfig.from_pretrained(
            folder, config_file_name="config.json", _from_model_config=True, local_files_only=True
        )


def left_out(config: GenerationConfig) -> list[str]:
    """The settings of a generation config that are not followed."""
    values = {name: getattr(config, name, None) for name in LEFT_OUT}
    return [name for name, value in values.items() if value is not None and value is not False]


def longest(source: Source, config: GenerationConfig, begun: int) -> tuple[str, int, int] | None:
    """The setting of generation_config.json that ends a text, its value, and how many tokens it lets follow `begun`.

    None where the file states none.
    """
    path = source.place.file(FILE)
    if path is None:
        return None
    stated = source.files.read_object(path, opening.SMALL, f"{FILE} of {source.name!r}")
    for name, counted in (("max_new_tokens", 0), ("max_length", begun)):
        value = getattr(config, name, None)
        if name in stated and isinstance(value, int):
            return name, value, value - counted
    return None


def start(source: Source, config: GenerationConfig) -> int | None:
    """The id that a decoder begins to generate with, as generate() has it; None where nothing names one.

    Raises SourceError for what is no id.
    """
    found = config.decoder_start_token_id if config.decoder_start_token_id is not None else config.bos_token_id
    first = found[0] if isinstance(found, list) and found else found
    if first is not None and (not isinstance(first, int) or isinstance(first, bool) or first < 0):
        raise SourceError(
            f"{FILE} of {source.name!r} says decoder_start_token_id is {shown(found)}: give the id of a token"
        )
    return first
