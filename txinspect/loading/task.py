"""What a model is for: which class of transformers it is built as, and what that class puts out."""

from __future__ import annotations

from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any, get_args

from txinspect.anatomy.architecture import Output
from txinspect.errors import SourceError, spelled
from txinspect.records import TaskName
from txinspect.wording import one_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from transformers import PretrainedConfig, PreTrainedModel

_CLASSES: dict[TaskName, tuple[str, str]] = {
    "causal-lm": ("AutoModelForCausalLM", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"),
    "seq2seq-lm": ("AutoModelForSeq2SeqLM", "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES"),
    "masked-lm": ("AutoModelForMaskedLM", "MODEL_FOR_MASKED_LM_MAPPING_NAMES"),
    "next-sentence": ("AutoModelForNextSentencePrediction", "MODEL_FOR_NEXT_SENTENCE_PREDICTION_MAPPING_NAMES"),
    "sequence-classification": (
        "AutoModelForSequenceClassification",
        "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    ),
    "token-classification": ("AutoModelForTokenClassification", "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES"),
    "question-answering": ("AutoModelForQuestionAnswering", "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES"),
    "base": ("AutoModel", "MODEL_MAPPING_NAMES"),
}
"""What makes the model of a task out of its config, and the names of its classes by type (modeling_auto.py)."""

_ENCODERS = ("AutoModelForTextEncoding", "MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES")
"""Bare encoders of types that have a decoder, too, such as T5EncoderModel."""

_UNNAMED: tuple[TaskName, ...] = ("causal-lm", "seq2seq-lm", "masked-lm", "base")
"""What a type is taken for, in this order, where its config.json names no class that is known."""

_AXES: dict[TaskName, tuple[str, ...]] = {
    "causal-lm": ("batch", "seq", "vocab"),
    "seq2seq-lm": ("batch", "seq", "vocab"),
    "masked-lm": ("batch", "seq", "vocab"),
    "next-sentence": ("batch", "label"),
    "sequence-classification": ("batch", "label"),
    "token-classification": ("batch", "seq", "label"),
    "question-answering": ("batch", "seq", "start_end"),
}
"""Of the logits."""

NO_HEAD = "it is loaded as the bare model, {name}, which has no head: what it puts out is its last hidden states"


@dataclass(frozen=True)
class Task:
    """What a model is for."""

    name: TaskName
    class_name: str | None
    """The class of transformers; None where code of the model's own decides."""
    headless: str | None = None
    """The class whose head the checkpoint lacks; None if it lacks none."""
    instead_of: str | None = None
    """The class that config.json names, where it is another one of transformers, such as one that reads audio."""
    pools: bool = True
    """Whether a bare encoder has its pooler: some checkpoints have none."""
    is_encoder: bool = False
    """Whether it is the encoder alone of a type that has a decoder, too."""

    @property
    def output(self) -> Output:
        """What the class of a model for this task puts out."""
        if self.name == "base":
            lacks = f"the checkpoint lacks what the head of {self.headless} needs: " if self.headless else ""
            return Output(None, lacks + NO_HEAD.format(name=self.class_name))
        return Output(_AXES[self.name])

    @property
    def settings(self) -> dict[str, Any]:
        """What the class of a model for this task is told beside the config."""
        return {} if self.pools else {"add_pooling_layer": False}

    def factory(self) -> Any:
        """The class of transformers that makes the model for this task out of its config."""
        import transformers

        return getattr(transformers, (_ENCODERS if self.is_encoder else _CLASSES[self.name])[0])


def choose(name: str, raw: Mapping[str, Any], config: PretrainedConfig, asked: TaskName | None) -> Task:
    """What a model called `name` is for, with a config.json of these fields: as asked, as its class says, else as its
    type is registered.

    Raises SourceError for a type that has no such class.
    """
    kind = config.model_type
    own = _own_classes(raw, kind)
    if asked is not None:
        class_name = own.get(asked) or class_of(kind, asked)
        if class_name is None:
            having = [each for each in get_args(TaskName) if each in own or class_of(kind, each)]
            raise SourceError(
                f"{name!r} is of type {kind!r}, which transformers has no class for as {spelled('task', asked)}: give "
                f"{one_of(having)}"
            )
        return Task(asked, class_name)
    if own:
        return Task(*next(iter(own.items())))
    architectures = raw.get("architectures")
    written = architectures[0] if isinstance(architectures, list) and architectures else None
    for each in get_args(TaskName):
        if written is not None and class_of(kind, each) == written and not (each == "causal-lm" and _is_xlm(config)):
            return Task(each, written)
    if written is not None and _named(_ENCODERS[1], kind) == written:
        return Task("base", written, is_encoder=True)
    for each in _UNNAMED:
        if each == "causal-lm" and _looks_both_ways(config):
            continue
        if class_name := class_of(kind, each):
            return Task(each, class_name, instead_of=written if _is_class(written) else None)
    raise SourceError(
        f"{name!r} is of type {kind!r}, which has no language model, encoder or encoder–decoder of text in transformers"
    )


def _own_classes(raw: Mapping[str, Any], model_type: str) -> dict[TaskName, str]:
    """The classes in a model's own code, by task, where transformers does not know its type."""
    from transformers import CONFIG_MAPPING

    named = raw.get("auto_map")
    if model_type in CONFIG_MAPPING or not isinstance(named, dict):
        return {}
    found = {task: named.get(factory) for task, (factory, _) in _CLASSES.items()}
    return {task: each.rpartition(".")[2] for task, each in found.items() if isinstance(each, str)}


def class_of(model_type: str, task: TaskName) -> str | None:
    """The class that transformers has for a model type and a task; None if it has none."""
    return _named(_CLASSES[task][1], model_type)


def _named(table: str, model_type: str) -> str | None:
    """The class of a model type in one task's table of transformers; where there are several, the first."""
    from transformers.models.auto import modeling_auto

    found = getattr(modeling_auto, table).get(model_type)
    name: str | None = found[0] if isinstance(found, tuple) else found
    return name


def _looks_both_ways(config: PretrainedConfig) -> bool:
    """Whether a model type that can be an encoder or a decoder is told to be an encoder, which decides its task."""
    return class_of(config.model_type, "masked-lm") is not None and not getattr(config, "is_decoder", True)


def _is_xlm(config: PretrainedConfig) -> bool:
    """Whether a config is XLM's, whose one class is for the task of filling masks unless told to be causal."""
    return getattr(config, "causal", None) is False


def _is_class(name: object) -> bool:
    import transformers

    named = getattr(transformers, name, None) if isinstance(name, str) and name.isidentifier() else None
    return hasattr(named, "forward")  # unlike AutoModel


def without_head(task: Task, model_type: str) -> Task | None:
    """The bare class of a task's class with a head; None where there is none, or it is bare itself."""
    bare = class_of(model_type, "base")
    return None if task.name == "base" or bare is None else Task("base", bare, headless=task.class_name)


def other_input(class_name: str) -> str | None:
    """What a task's class of transformers reads that is no text: images, audio; None if it reads none."""
    import transformers

    return _other_than_text(signature(getattr(transformers, class_name).forward).parameters)


def _other_than_text(fields: Collection[str]) -> str | None:
    others = {"pixel_values": "images", "input_features": "audio", "input_values": "audio", "input_audio": "audio"}
    return next((what for field, what in others.items() if field in fields), None)


def check_reads_text(name: str, model: PreTrainedModel, task: Task) -> None:
    """Raise SourceError for the class of a model called `name` that reads no text, or nothing without an image."""
    reads = signature(model.forward).parameters
    other = _other_than_text(reads)
    bare = task.name == "base" and not any(class_of(model.config.model_type, each) for each in _UNNAMED[:3])
    if other is not None and ("input_ids" not in reads or bare):
        raise SourceError(
            f"{name!r} ({type(model).__name__}) reads {other}, which txinspect does not: give a model of text, such as "
            f"an encoder, a decoder or both"
        )
