"""The settings of a sentence-transformers model → what becomes of a text before its encoder reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from txinspect import opening
from txinspect.errors import SourceError, spelled
from txinspect.sentence_vectors import Reading, Similarity
from txinspect.wording import shown

_MODEL_FILE = "config_sentence_transformers.json"

_FILES = tuple(
    f"sentence_{each}_config.json"
    for each in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
"""What the encoder's settings are called: older releases had a name for each type. The first with content is it."""

_NEWER = {"model_args": "model_kwargs", "tokenizer_args": "processor_kwargs", "config_args": "config_kwargs"}
"""Older names of settings."""

_BESIDE_ENCODE = ("unpad_inputs", "query_length", "document_length", "query_expansion")
"""What changes nothing of the one vector that encode() gives of one text."""

_CHANGES_NOTHING = frozenset(
    (
        "add_pooling_layer",
        "cache_dir",
        "device_map",
        "local_files_only",
        "low_cpu_mem_usage",
        "padding",
        "padding_side",
        "token",
        "trust_remote_code",
        "use_cache",
        "use_fast",
        "use_safetensors",
    )
)
"""Arguments of transformers that change nothing of a vector of one text, and code, which a file may not turn on."""

_ROUNDING = ("torch_dtype", "dtype", "attn_implementation")
"""Arguments of transformers that change only how numbers are rounded."""

_BUT = "which is not followed here"


@dataclass(frozen=True)
class Settings:
    """What the files say beside modules.json."""

    reading: Reading
    first: int | None
    """How many numbers of the vector are kept; None for all."""
    notes: tuple[str, ...]
    similarity: Similarity
    """How two vectors are compared."""


def settings(name: str, folder: Path, encoder: Path) -> Settings:
    """The sentence-transformers settings of a model and its encoder, by folder. Raises SourceError for others."""
    prompt_name, prompt, first, similarity = _of_model(name, folder)
    file, config = _of_encoder(name, encoder)
    what = f"{file} of {name!r}"
    _check_task(config, what)
    tokenizer, processing = _group(config, "processor_kwargs", what), _processing(config, what)
    most_by, most = next(
        (
            (by, _positive(value, by or "max_seq_length", what))
            for by, value in (
                ("max_length of processing_kwargs", processing.pop("max_length", None)),
                ("model_max_length of processor_kwargs", tokenizer.pop("model_max_length", None)),
                ("", config.get("max_seq_length")),
            )
            if value is not None
        ),
        ("", None),
    )
    side = tokenizer.pop("truncation_side", None)
    if side not in (None, "left", "right"):
        raise _unknown(what, "truncation_side", side, "give left or right")
    model = _group(config, "model_kwargs", what)
    rounding = {key: model.pop(key) for key in _ROUNDING if key in model}
    groups = {"processor_kwargs": tokenizer, "processing_kwargs": processing, "model_kwargs": model}
    groups["config_kwargs"] = _group(config, "config_kwargs", what)
    for group, given in groups.items():
        for key, value in given.items():
            if key not in _CHANGES_NOTHING and value is not None:
                raise _unfollowed(what, f"{key} of {group}", value)
    lower = config.get("do_lower_case")
    if lower not in (None, False, True):
        raise _unknown(what, "do_lower_case", lower, "it is true or false")
    notes = (f"{what} asks for {shown(rounding)}, {_BUT}: it changes how numbers are rounded.",) if rounding else ()
    return Settings(Reading(prompt, prompt_name, bool(lower), most, most_by, side), first, notes, similarity)


def _of_model(name: str, folder: Path) -> tuple[str, str, int | None, Similarity]:
    """Settings of a sentence-transformers model: prompt's name, prompt, numbers kept of a vector, similarity."""
    if not opening.is_there(folder / _MODEL_FILE):
        return "", "", None, "cosine"
    what = f"{_MODEL_FILE} of {name!r}"
    config = opening.read_object(folder / _MODEL_FILE, opening.SMALL, what)
    kind = config.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise SourceError(
            f"{what} says that it is a {shown(kind)}, not a SentenceTransformer, which alone makes one vector of a "
            f"sentence: omit {spelled('pooled', True)}"
        )
    first = config.get("truncate_dim")
    first = None if first is None else _positive(first, "truncate_dim", what)
    similarity: Any = config.get("similarity_fn_name") or "cosine"
    if similarity not in get_args(Similarity):
        raise _unknown(what, "similarity_fn_name", similarity, f"it is one of {', '.join(get_args(Similarity))}")
    prompts, chosen = config.get("prompts") or {}, config.get("default_prompt_name")
    if not isinstance(prompts, dict):
        raise _unknown(what, "prompts", prompts, "it is an object of names and texts")
    known = {"query": "", "document": "", **prompts}  # these two are there without a text, too
    if chosen is None:
        return "", "", first, similarity
    if not isinstance(chosen, str) or chosen not in known:
        raise _unknown(what, "default_prompt_name", chosen, f"the prompts are {', '.join(map(shown, known))}")
    prompt = known[chosen]
    if not isinstance(prompt, str | None):
        raise _unknown(what, f"the prompt {chosen}", prompt, "it is a text")
    return chosen, prompt or "", first, similarity


def _of_encoder(name: str, folder: Path) -> tuple[str, dict[str, Any]]:
    """The settings of a sentence-transformers encoder, by their newer names, and their file's name."""
    for file in _FILES:
        if opening.is_there(folder / file):
            found = opening.read_object(folder / file, opening.SMALL, f"{file} of {name!r}")
            if found:
                return file, {_NEWER.get(key, key): value for key, value in found.items()}
    return _FILES[0], {}


def _check_task(config: dict[str, Any], what: str) -> None:
    """Raise SourceError for settings by which an encoder does not give its last hidden states."""
    followed = {
        "max_seq_length",
        "do_lower_case",
        "transformer_task",
        "modality_config",
        "module_output_name",
        "processing_kwargs",
        *_NEWER.values(),
        *_BESIDE_ENCODE,
    }
    for key, value in config.items():
        if key not in followed and value is not None:
            raise _unfollowed(what, key, value)
    for key, usual in (("transformer_task", "feature-extraction"), ("module_output_name", "token_embeddings")):
        if config.get(key) not in (None, usual):
            raise _unfollowed(what, key, config[key])
    modalities = config.get("modality_config")
    text = modalities.get("text") if isinstance(modalities, dict) else None
    usual_text = [
        {"method": "forward", "method_output_name": each} for each in ("last_hidden_state", ["last_hidden_state"])
    ]
    # A model that reads messages is given a text as one, through its chat template.
    if modalities is not None and (text not in usual_text or "message" in modalities):
        raise _unfollowed(what, "modality_config", modalities)


def _processing(config: dict[str, Any], what: str) -> dict[str, Any]:
    """The settings with which the tokenizer is called on a text before a sentence encoder."""
    given = _group(config, "processing_kwargs", what)
    found = {**_group(given, "common", what), **_group(given, "text", what)}
    if found.get("truncation") in (True, "longest_first"):
        del found["truncation"]  # as without it
    return found


def _group(config: dict[str, Any], key: str, what: str) -> dict[str, Any]:
    found = config.get(key) or {}
    if not isinstance(found, dict):
        raise _unknown(what, key, found, "it is an object")
    return dict(found)


def _positive(value: object, key: str, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _unknown(what, key, value, "it is a whole number from 1")
    return value


def _unknown(what: str, key: str, value: object, allowed: str) -> SourceError:
    return SourceError(f"{what} says {key} is {shown(value)}, but {allowed}: fetch or write it again")


def _unfollowed(what: str, key: str, value: object) -> SourceError:
    return SourceError(
        f"{what} says {key} is {shown(value)}, {_BUT}: omit {spelled('pooled', True)}, and take the last hidden states"
    )
