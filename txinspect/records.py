"""What is reported: records of plain values. They are the JSON, field for field.

Every field is always present; one that is unknown or does not apply is `null`. Numbers that are NaN or infinite
are written as `null` too: the counts beside them say how many there are.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

TaskName = Literal[
    "causal-lm",
    "seq2seq-lm",
    "masked-lm",
    "next-sentence",
    "sequence-classification",
    "token-classification",
    "question-answering",
    "base",
]
"""What a model is for, as the commands of transformers call it; base is a model without a head."""

SCHEMA_VERSION = 1
"""Keys are only added within a version, never renamed or removed."""


def doc(description: str) -> Meta:
    """The sentence under a record's field, carried into the JSON Schema."""
    return Meta(description=description)


class Record(Struct, frozen=True, kw_only=True):
    """The base of every record: immutable, made by keyword."""


class ModelRecord(Record, frozen=True, kw_only=True, rename={"class_": "class"}):
    """The model that was inspected."""

    name: Annotated[str, doc("The name as it was asked for: a bundled name, a path or a Hub id.")]
    revision: Annotated[str | None, doc("The commit of a Hub snapshot.")]
    model_type: Annotated[str | None, doc("`model_type` of config.json.")]
    class_: Annotated[str | None, doc("The transformers class, such as OPTForCausalLM.")]
    task: Annotated[TaskName | None, doc("What it is for: what its class puts out; null where no class was chosen.")]
    num_parameters: Annotated[int | None, doc("Unique parameters: tied ones count once.")]
    num_hidden_layers: Annotated[
        int | None, doc("Layers found in the module tree; the decoder's where there is an encoder, too.")
    ]
    num_encoder_layers: Annotated[int | None, doc("The encoder's layers; null where there is one stack alone.")]
    num_attention_heads: Annotated[int | None, doc("Query heads per layer, from the config.")]
    num_key_value_heads: Annotated[int | None, doc("Key and value heads per layer, from the config.")]
    hidden_size: Annotated[int | None, doc("Width of the residual stream.")]
    vocab_size: Annotated[int | None, doc("Rows of the embedding table, from the config.")]
    dtype: Annotated[str | None, doc("Floating-point type of the weights, such as float16.")]
    device: Annotated[str | None, doc("Where it ran: cpu, cuda:0, mps, or meta if no weights were needed.")]
    quantization: Annotated[str | None, doc("8bit, 4bit, the checkpoint's own method, or null.")]
    attn_implementation: Annotated[str | None, doc("The attention backend the model ran on: sdpa, eager, …")]


class TokenRecord(Record, frozen=True, kw_only=True):
    """One token of the input."""

    index: Annotated[int, doc("Position in input_ids, from 0.")]
    id: Annotated[int, doc("Row of the embedding table.")]
    token: Annotated[str | None, doc("The token as the vocabulary stores it, such as Ġquick.")]
    text: Annotated[str | None, doc("The token decoded; null if it holds only part of a character.")]
    start: Annotated[int | None, doc("First character of its span in the text; null if it has none.")]
    end: Annotated[int | None, doc("One past the last character of its span.")]
    special: Annotated[bool, doc("Whether it is a special token, such as </s>.")]
    bytes: Annotated[str | None, doc("Its bytes in hexadecimal, if they are not whole characters.")]


class VocabularyRecord(Record, frozen=True, kw_only=True):
    """A token of the vocabulary."""

    id: Annotated[int, doc("Row of the logits.")]
    token: Annotated[str | None, doc("The token as the vocabulary stores it; null for a row that stands for none.")]
    text: Annotated[str | None, doc("The token decoded; null if it holds only part of a character.")]


class RoleRecord(Record, frozen=True, kw_only=True):
    """The tokens of a message."""

    role: Annotated[str, doc("Who speaks: system, user, assistant, …; template for what stands around messages.")]
    start: Annotated[int, doc("Index of its first token.")]
    end: Annotated[int, doc("One past the index of its last token.")]


class SentenceRecord(Record, frozen=True, kw_only=True):
    """A text and what the tokenizer makes of it."""

    text: Annotated[str, doc("The text as it was read.")]
    input_ids: Annotated[list[list[int]], doc("Axes: batch, seq.")]
    attention_mask: Annotated[list[list[int]], doc("Axes: batch, seq; 1 where a token is attended to.")]
    tokens: Annotated[list[TokenRecord], doc("One record per token, in order.")]

    @property
    def words(self) -> list[str | None]:
        """The record's tokens decoded, or as they are stored where they are a part of a character."""
        return [token.token if token.text is None else token.text for token in self.tokens]

    @property
    def specials(self) -> list[int]:
        """Where the record has special tokens."""
        return [token.index for token in self.tokens if token.special]


class InputRecord(SentenceRecord, frozen=True, kw_only=True):
    """What the model reads: the text, and the decoder's where a model has an encoder and a decoder."""

    pair: Annotated[str | None, doc("The second text, which follows the first one in the tokens; else null.")]
    segments: Annotated[
        list[list[int]] | None, doc("Which segment each token is in; axes: batch, seq; null if the tokenizer has none.")
    ]
    uncut: Annotated[int | None, doc("How many tokens there are, of which --max-tokens kept some; null where all are.")]
    roles: Annotated[list[RoleRecord] | None, doc("Whose tokens are whose, with --chat; else null.")]
    decoder: Annotated[
        SentenceRecord | None, doc("What the decoder reads; null for a model without an encoder of its own.")
    ]

    @property
    def main(self) -> SentenceRecord:
        """The record of the text that the model's output is about: the decoder's, or the only one."""
        return self.decoder or self

    @property
    def spoken(self) -> str:
        """The input's words that the model's output follows: the decoder's, the second text's, or the only text's."""
        return self.main.text if self.decoder or self.pair is None else self.pair

    def read_by(self, stack: str) -> SentenceRecord:
        """The record of the text that a stack reads, by the prefix of its stages' names."""
        return self.main if stack == "decoder." else self


class StatsRecord(Record, frozen=True, kw_only=True):
    """Statistics of a tensor, computed in float64 over its finite values; an undefined one is null."""

    numel: Annotated[int, doc("Number of elements, finite or not.")]
    mean: Annotated[float | None, doc("Arithmetic mean.")]
    std: Annotated[float | None, doc("Population standard deviation.")]
    min: Annotated[float | None, doc("Smallest finite value.")]
    max: Annotated[float | None, doc("Largest finite value.")]
    abs_max: Annotated[float | None, doc("Largest magnitude.")]
    l2: Annotated[float | None, doc("Euclidean norm.")]
    zeros: Annotated[int, doc("Elements equal to zero.")]
    nan: Annotated[int, doc("Elements that are not a number.")]
    posinf: Annotated[int, doc("Elements that are plus infinity.")]
    neginf: Annotated[int, doc("Elements that are minus infinity.")]


class HistogramRecord(Record, frozen=True, kw_only=True):
    """How the finite values are distributed: bins of equal width from low to high."""

    low: Annotated[float, doc("Lower edge of the first bin: the smallest finite value.")]
    high: Annotated[float, doc("Upper edge of the last bin: the largest finite value.")]
    counts: Annotated[list[int], doc("Finite values in each bin.")]


class RowRecord(Record, frozen=True, kw_only=True):
    """Statistics of one token's vector."""

    index: Annotated[int, doc("Token index.")]
    l2: Annotated[float | None, doc("Euclidean norm of the finite values.")]
    mean: Annotated[float | None, doc("Mean of the finite values.")]
    std: Annotated[float | None, doc("Population standard deviation of the finite values.")]


class TensorRecord(Record, frozen=True, kw_only=True, rename={"class_": "class"}):
    """One recorded tensor."""

    name: Annotated[str, doc("Stage name or dotted module path; '#2' marks a module's second run in the pass.")]
    module: Annotated[str | None, doc("Dotted path of the module that supplies it.")]
    class_: Annotated[str | None, doc("That module's class.")]
    axes: Annotated[list[str] | None, doc("The name of each axis; null if it is not known.")]
    shape: Annotated[list[int], doc("The size of each axis.")]
    coordinates: Annotated[
        dict[str, list[int]] | None,
        doc("Axes of which a part was asked for, such as {'head': [0, 2]}: the positions kept, in order."),
    ]
    dtype: Annotated[str, doc("Its own type, such as float16.")]
    stats: Annotated[StatsRecord, doc("Statistics over its finite values.")]
    histogram: Annotated[HistogramRecord | None, doc("Distribution of its finite values; null if there are none.")]
    rows: Annotated[list[RowRecord] | None, doc("Statistics of each token's vector, where the command gives them.")]
    values: Annotated[Any, doc("The numbers, nested by axis, with --values; complex ones are pairs. Else null.")]


class CheckRecord(Record, frozen=True, kw_only=True):
    """One check of --check or --fail-on."""

    name: Annotated[str, doc("logits, finite, row_sums, context or residual; nan or inf where --fail-on asks.")]
    passed: Annotated[bool | None, doc("Whether it holds; null if it does not apply to this model.")]
    detail: Annotated[str, doc("What was compared, and the largest difference.")]


class QuantizationRecord(Record, frozen=True, kw_only=True):
    """Which of the modules that multiply by a matrix of their own are quantized."""

    method: Annotated[str, doc("8bit, 4bit, or the checkpoint's own method, such as gptq.")]
    quantized: Annotated[int, doc("Modules that are quantized.")]
    modules: Annotated[int, doc("Modules that multiply by a matrix of their own: linear layers, experts, routers.")]
    kept: Annotated[list[str], doc("Those that are not quantized; layer numbers are folded into *.")]
    classes: Annotated[list[str], doc("The classes of those that are, such as Linear8bitLt.")]
    dequantized: Annotated[bool, doc("Whether the checkpoint's own quantization is undone while loading.")]


class FileRecord(Record, frozen=True, kw_only=True):
    """A weight file."""

    path: Annotated[str, doc("Where it is; its name in the repository if it has yet to be fetched.")]
    origin: Annotated[
        Literal["bundled", "local", "cache", "hub"],
        doc("Whether it comes with txinspect, is a local file, is in the Hub's local cache, or has yet to be fetched."),
    ]
    repository: Annotated[str | None, doc("The Hub repository that it belongs to; null if it belongs to none.")]
    bytes: Annotated[int | None, doc("Its size.")]
    tensors: Annotated[int | None, doc("Tensors in it; null if only the whole file can tell.")]
    tensors_read: Annotated[int | None, doc("Of those, the ones used by the stages asked for.")]
    bytes_read: Annotated[int | None, doc("Their bytes in the file.")]


class LoadingRecord(Record, frozen=True, kw_only=True):
    """What loading costs: in a plan what it would cost, in a report what it did."""

    files: Annotated[list[FileRecord], doc("The weight files that are opened.")]
    disk_bytes: Annotated[int | None, doc("Bytes of the tensors that are taken from them.")]
    download_bytes: Annotated[
        int | None, doc("Bytes to be fetched from the Hub; 0 where all is here, null in a report.")
    ]
    parameters: Annotated[int, doc("Parameters that are loaded: tied ones count once.")]
    memory_bytes: Annotated[int, doc("What these take in memory, in the type asked for.")]
    mapped: Annotated[bool, doc("Whether they stay in the file, where each page is read when first used.")]
    modules_guessed: Annotated[
        str | None, doc("Why more may be loaded than is used; null if the modules in use are known exactly.")
    ]


class Report(Record, frozen=True, kw_only=True):
    """What every report begins with."""

    schema_version: Annotated[int, doc("Version of these keys.")]
    txinspect: Annotated[str, doc("Version of the program.")]
    command: Annotated[str, doc("The command that made the report.")]
    notes: Annotated[
        list[str], doc("What to know before reading the numbers: what was found, cautions, how it was loaded.")
    ]


class ModelReport(Report, frozen=True, kw_only=True):
    """What every report about a model begins with."""

    model: ModelRecord


class EditRecord(Record, frozen=True, kw_only=True):
    """A change of the pass."""

    place: Annotated[str, doc("The stage or glob, with the positions of axes in brackets.")]
    op: Annotated[Literal["=", "*", "+", "- proj"], doc("What became of it.")]
    value: Annotated[str, doc("What was set, added or projected out, or the factor.")]
    stages: Annotated[list[str], doc("The stages that were changed.")]


class TensorsReport(ModelReport, frozen=True, kw_only=True):
    """Report of `embed` and `run`."""

    command: Annotated[Literal["run"], doc("The command that made the report.")]
    input: InputRecord
    edits: Annotated[list[EditRecord], doc("What was changed in the pass, in that order; empty for the model's own.")]
    findings: Annotated[list[str], doc("The first of the notes: edits, what is wrong with the numbers; drawn on top.")]
    tensors: Annotated[list[TensorRecord], doc("In the order of the pass.")]
    saved: Annotated[str | None, doc("The file that --save wrote.")]
    replaced: Annotated[bool, doc("Whether --save wrote over a file that was there.")]
    checks: Annotated[list[CheckRecord] | None, doc("What --check and --fail-on found; null without them.")]
    loading: Annotated[LoadingRecord, doc("What was read for it.")]
    quantization: Annotated[QuantizationRecord | None, doc("What was quantized; null if nothing was.")]
