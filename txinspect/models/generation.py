"""generation_config.json: how a model is meant to generate, as from_pretrained reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from txinspect import opening
from txinspect.models.quiet import as_source_error, quiet
from txinspect.sources.source import Source

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel

FILE = "generation_config.json"

LEFT_OUT = (
    *("stop_strings", "max_time", "penalty_alpha", "dola_layers", "prompt_lookup_num_tokens", "assistant_early_exit"),
    *("guidance_scale", "watermarking_config"),
)
"""Settings that are not followed: what ends a text by a clock or by its letters, other searches than the likeliest
token each time, and what needs further passes."""


def settings(source: Source, model: PreTrainedModel) -> GenerationConfig:
    """What the file says, or config.json where there is none, as from_pretrained has it.

    Raises SourceError for a file that cannot be read so.
    """
    from transformers import GenerationConfig

    folder = source.folder((FILE,))
    if source.gguf_file:
        found: GenerationConfig = model.generation_config
        return found
    own = opening.is_there(folder / FILE)
    if own:
        opening.read_object(folder / FILE, opening.SMALL, f"{FILE} of {source.name!r}")
    with quiet(), as_source_error(f"{FILE if own else 'config.json'} of {source.name!r} does not say how to generate"):
        if own:
            return GenerationConfig.from_pretrained(folder, local_files_only=True)
        # Of BART and others the settings stand in config.json (GenerationMixin.adjust_generation_fn).
        return GenerationConfig.from_pretrained(
            folder, config_file_name="config.json", _from_model_config=True, local_files_only=True
        )


def left_out(config: GenerationConfig) -> list[str]:
    """The settings of a config that are not followed."""
    return [name for name in LEFT_OUT if getattr(config, name, None) not in (None, False)]
