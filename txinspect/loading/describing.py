"""A model in a record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from txinspect.loading.weights.sizes import count_parameters
from txinspect.records import ModelRecord
from txinspect.sources.config import number

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from txinspect.loading.subject import Subject
    from txinspect.sources.source import Source


def model_record(subject: Subject, model: PreTrainedModel) -> ModelRecord:
    """The record that describes a model that was built, with weights or without."""
    text_config = subject.as_configured.config.get_text_config()

    def configured(name: str) -> int | None:
        # Some configs refuse a value that differs by layer, with an error that getattr's default does not catch.
        try:
            value = getattr(text_config, name, None)
        except RuntimeError:
            return None
        return value if isinstance(value, int) else None

    heads = configured("num_attention_heads")
    return ModelRecord(
        name=subject.source.name,
        revision=subject.source.commit,
        model_type=subject.config.model_type,
        class_=type(model).__name__,
        task=subject.task.name,
        num_parameters=count_parameters(subject.as_loaded),
        num_hidden_layers=len(subject.architecture.layers),
        num_encoder_layers=len(subject.architecture.stacks[0].layers) if subject.has_decoder else None,
        num_attention_heads=heads,
        num_key_value_heads=configured("num_key_value_heads") or heads,
        hidden_size=configured("hidden_size"),
        vocab_size=configured("vocab_size"),
        dtype=str(model.dtype).removeprefix("torch."),
        device=str(model.device),
        quantization=subject.quantization.method if subject.quantization else None,
        attn_implementation=model.config._attn_implementation,
    )


def _word(value: Any) -> str | None:
    """A value of a config that should be a string to describe the model by; None for any other."""
    return value if isinstance(value, str) else None


def unbuilt_model_record(source: Source, raw: dict[str, Any]) -> ModelRecord:
    """The record that describes a model by its config.json alone, without torch."""
    architectures = raw.get("architectures")
    heads = number(raw, "num_attention_heads")
    return ModelRecord(
        name=source.name,
        revision=source.commit,
        model_type=_word(raw.get("model_type")),
        task=None,
        class_=_word(architectures[0]) if isinstance(architectures, list) and architectures else None,
        num_parameters=None,
        num_hidden_layers=number(raw, "num_hidden_layers"),
        num_encoder_layers=None,
        num_attention_heads=heads,
        num_key_value_heads=number(raw, "num_key_value_heads") or heads,
        hidden_size=number(raw, "hidden_size"),
        vocab_size=number(raw, "vocab_size"),
        dtype=_word(raw.get("dtype") or raw.get("torch_dtype")),
        device=None,
        quantization=None,
        attn_implementation=None,
    )
