"""Measure a trained transformer-mini: the figures of its model card, from the files as they are shipped."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from transformers import AutoTokenizer, MarianMTModel, PreTrainedTokenizerBase

from tests.transformer_mini.grammar import THE_SENTENCE, Pair, pairs

HELD_OUT_SEED = 2
HELD_OUT = 2000
"""Held-out pairs that are translated and aligned."""
UNKNOWN = 400
"""The first of them that are also translated with a word unknown."""
UNKNOWN_SEED = 3
EXAMPLES = (
    THE_SENTENCE,
    "The dogs see the old watch.",
    "She watches her old dogs.",
    "He saw her with her saw and two flies will fly over those leaves.",
    "The happy zebra does not sleep.",
)


@dataclass(frozen=True)
class TranslationFigures:
    """How well held-out sentences are translated."""

    exact: int
    """Sentences whose translation is right in every word."""
    unknown: int
    """Sentences with an unknown word whose translation has it where it belongs and nowhere else."""
    loss: float
    """Cross-entropy of the right translation, `</s>` included, in nats per token."""


@dataclass(frozen=True)
class AlignmentFigures:
    """Where cross-attention looks while held-out sentences are translated rightly; `</s>` is left out."""

    words: int
    """Target words measured."""
    off_diagonal: float
    """Share of words that come from a source word at another index than their own."""
    predicting: tuple[tuple[float, ...], ...]
    """For each decoder layer and head: the share of words whose true source has the largest weight from the query
    that predicts the word."""
    reading: tuple[tuple[float, ...], ...]
    """The same from the query one later, which reads the word."""
    weight: float
    """Mean weight on the true source in the best head, from the query that predicts the word."""

    @property
    def best(self) -> tuple[int, int]:
        """Layer and head with the largest share, from the query that predicts the word."""
        return max(
            ((layer, head) for layer, row in enumerate(self.predicting) for head in range(len(row))),
            key=lambda place: self.predicting[place[0]][place[1]],
        )


@dataclass(frozen=True)
class Figures:
    """All figures of the model card."""

    parameters: int
    """Without the tables of sinusoids, which are neither trained nor stored."""
    size: int
    """Bytes in model.safetensors."""
    vocabulary: int
    """Tokens."""
    translation: TranslationFigures
    alignment: AlignmentFigures
    examples: tuple[tuple[str, str], ...]
    """Texts and what the model makes of them."""


@dataclass(frozen=True)
class Pass:
    """One pair, the right translation given to the decoder."""

    losses: torch.Tensor
    """[target tokens]: cross-entropy, in nats."""
    predicting: torch.Tensor
    """[layers, heads, words]: weight on the true source less the largest on any other, from the query that predicts
    the word."""
    reading: torch.Tensor
    """The same, from the query one later."""
    weight: torch.Tensor
    """[layers, heads, words]: weight on the true source, from the query that predicts the word."""


def held_out() -> list[Pair]:
    """Return the pairs that are measured; none was seen in training."""
    return list(islice(pairs(HELD_OUT_SEED, held_out=True), HELD_OUT))


def translations(model: MarianMTModel, tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[str]:
    """Translate texts as the folder's own settings have it; `<unk>` is kept."""
    ends = (model.config.pad_token_id, model.config.eos_token_id)
    found: list[str] = []
    for start in range(0, len(texts), 500):
        inputs = tokenizer(texts[start : start + 500], padding=True, return_tensors="pt")
        for row in model.generate(**inputs).tolist():
            found.append(str(tokenizer.decode([id for id in row if id not in ends])))
    return found


def lead(weights: torch.Tensor, true: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weight on the true key, and how far it is above every other: each [layers, heads, queries].

    `weights` is [layers, heads, queries, keys], `true` is [queries].
    """
    index = true.expand(*weights.shape[:2], -1)[..., None]
    on_true = weights.gather(-1, index)
    others = weights.scatter(-1, index, -1.0).amax(-1)
    return on_true[..., 0], on_true[..., 0] - others


def passes(model: MarianMTModel, tokenizer: PreTrainedTokenizerBase, chosen: list[Pair]) -> Iterator[Pass]:
    """Run pair after pair, without padding."""
    for pair in chosen:
        source = tokenizer(" ".join(pair.source), return_tensors="pt")["input_ids"]
        labels = tokenizer(" ".join(pair.target), return_tensors="pt")["input_ids"]
        inputs = torch.cat((torch.full((1, 1), model.config.decoder_start_token_id), labels), dim=1)
        output = model(input_ids=source, decoder_input_ids=inputs, output_attentions=True)
        weights = torch.stack(output.cross_attentions)[:, 0]
        true = torch.tensor(pair.alignment)
        on_true, predicting = lead(weights[:, :, : len(true)], true)
        yield Pass(
            losses=torch.nn.functional.cross_entropy(output.logits[0, :-1], labels[0], reduction="none"),
            predicting=predicting,
            reading=lead(weights[:, :, 1 : len(true) + 1], true)[1],
            weight=on_true,
        )


def share(leads: list[torch.Tensor]) -> tuple[tuple[float, ...], ...]:
    """Return the share of words in whose case the true source leads, by layer and head."""
    rows = (torch.cat(leads, dim=-1) > 0).double().mean(-1).tolist()
    return tuple(tuple(row) for row in rows)


def with_unknown(chosen: list[Pair]) -> list[Pair]:
    """Return pairs with one of their words unknown."""
    rng = random.Random(UNKNOWN_SEED)
    return [pair.with_unknown(rng.randrange(len(pair.target))) for pair in chosen]


def unknown_words(text: str) -> list[int]:
    """Return the indices of the words that are `<unk>`."""
    return [index for index, word in enumerate(text.split()) if word == "<unk>"]


@torch.no_grad()
def measure(folder: Path) -> Figures:
    """Measure the weights in a folder, loaded in float32."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = MarianMTModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    chosen = held_out()
    unknown = with_unknown(chosen[:UNKNOWN])
    found = translations(model, tokenizer, [" ".join(pair.source) for pair in chosen])
    replaced = translations(model, tokenizer, [" ".join(pair.source) for pair in unknown])
    each = list(passes(model, tokenizer, chosen))
    predicting = share([one.predicting for one in each])
    weight = torch.cat([one.weight for one in each], dim=-1).double().mean(-1)
    alignment = AlignmentFigures(
        words=sum(len(pair.target) for pair in chosen),
        off_diagonal=sum(index != true for pair in chosen for index, true in enumerate(pair.alignment))
        / sum(len(pair.target) for pair in chosen),
        predicting=predicting,
        reading=share([one.reading for one in each]),
        weight=float(weight.flatten()[torch.tensor(predicting).argmax()]),
    )
    return Figures(
        parameters=sum(
            parameter.numel() for name, parameter in model.named_parameters() if "embed_positions" not in name
        ),
        size=(folder / "model.safetensors").stat().st_size,
        vocabulary=len(tokenizer),
        translation=TranslationFigures(
            exact=sum(text == " ".join(pair.target) for text, pair in zip(found, chosen, strict=True)),
            unknown=sum(
                unknown_words(text) == unknown_words(" ".join(pair.target))
                for text, pair in zip(replaced, unknown, strict=True)
            ),
            loss=float(torch.cat([one.losses for one in each]).double().mean()),
        ),
        alignment=alignment,
        examples=tuple(zip(EXAMPLES, translations(model, tokenizer, list(EXAMPLES)), strict=True)),
    )
