"""Measure a trained opt-mini: the figures of its model card, from the files as they are shipped."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from transformers import AutoTokenizer, OPTForCausalLM, PreTrainedTokenizerBase

from tests.opt_mini.stories import first_stories

TRAINING_SEED = 1
"""Seed of the stories that tokenizer, model and bigram model learn from."""
HELD_OUT_SEED = 2
REPEATED_SEED = 3
BIGRAM_STORIES = 10_000
TRAINING_STORIES = 60_000
"""At least as many as the model has seen: no held-out story is among them."""

LENGTH = 256
WINDOWS = 64
"""Held-out text: this many windows of LENGTH tokens."""
SPANS = ((1, 63), (64, 127), (128, 255))
"""Positions, both ends included, for which the loss is given apart."""
DISCOUNT = 0.75

REPEATED_LENGTHS = (25, 50, 100, 127)
"""Lengths of the half that is repeated."""
REPEATED_ROWS = 32
ORDINARY = (4, 2048)
"""Ids of the tokens that are not special: from, and up to but without."""

PAIR = tuple(f"When Mary and John went to the store, {giver} gave a drink to" for giver in ("John", "Mary"))
"""Two prompts that differ in who gives, so that a model that understood them would answer differently."""
PROMPTS = ("The quick brown fox jumps over the lazy", *PAIR, "The capital of France is")
CONTINUED = 40
"""Tokens that the model adds to the first prompt, taking the likeliest each time."""


@dataclass(frozen=True)
class Head:
    """An attention head and how strongly it does what it was looked for."""

    layer: int
    """Counted from 0."""
    head: int
    """Counted from 0."""
    weight: float
    """Mean attention weight on the token in question, 0 to 1."""


@dataclass(frozen=True)
class StoryFigures:
    """How well held-out stories are predicted."""

    bigram: float
    """Cross-entropy of the bigram model, in nats per token."""
    loss: float
    """Cross-entropy of the model on the same tokens, in nats per token."""
    spans: tuple[float, ...]
    """The model's cross-entropy within each of SPANS, in nats per token."""
    previous: Head
    """The head with the most weight on the previous token."""


@dataclass(frozen=True)
class RepeatedFigures:
    """What happens on random sequences that are repeated once."""

    length: int
    """Tokens in either half."""
    first: float
    """Loss on the first half, in nats per token."""
    second: float
    """Loss on the second half, in nats per token."""
    copied: float
    """Loss on the second half without its first token, which nothing announces."""
    previous: Head
    """The head with the most weight on the previous token, over all positions."""
    induction: Head
    """The head with the most weight, from the second half, on the token after the earlier one."""


@dataclass(frozen=True)
class PromptFigures:
    """What the model expects after a prompt."""

    prompt: str
    likeliest: tuple[tuple[str, float], ...]
    """The five likeliest next tokens, decoded, with their probabilities."""


@dataclass(frozen=True)
class Figures:
    """All figures of the model card."""

    parameters: int
    size: int
    """Bytes in model.safetensors."""
    stories: StoryFigures
    repeated: tuple[RepeatedFigures, ...]
    prompts: tuple[PromptFigures, ...]
    differences: tuple[float, ...]
    """After each prompt of the pair: the logit of " Mary" less that of " John"."""
    continuation: str
    """The first prompt and what the model adds to it."""


def windows(documents: Iterable[list[int]], count: int) -> torch.Tensor:
    """Lay documents end to end, starting anew in every window: [count, LENGTH] token ids."""
    remaining = iter(documents)

    def window() -> list[int]:
        ids: list[int] = []
        while len(ids) < LENGTH:
            ids += next(remaining)
        return ids[:LENGTH]

    return torch.tensor([window() for _ in range(count)])


def bigram_cross_entropy(documents: Iterable[list[int]], held_out: torch.Tensor, vocab_size: int) -> float:
    """Return the cross-entropy of an interpolated Kneser-Ney bigram model, in nats per token.

    `held_out` is [windows, tokens]; every token but the first of a window is predicted. The
    continuation counts are smoothed by adding one (Chen and Goodman 1999, section 2.7).
    """
    counts = torch.zeros(vocab_size * vocab_size, dtype=torch.float64)
    pairs = torch.tensor([a * vocab_size + b for ids in documents for a, b in pairwise(ids)])
    counts += pairs.bincount(minlength=len(counts))
    counts = counts.view(vocab_size, vocab_size)
    seen = counts > 0
    continuation = (seen.sum(0) + 1.0) / (seen.sum() + vocab_size)
    before, after = held_out[:, :-1].flatten(), held_out[:, 1:].flatten()
    total = counts.sum(1)[before]
    kept = (counts[before, after] - DISCOUNT).clamp(min=0) / total.clamp(min=1)
    spared = torch.where(total > 0, DISCOUNT * seen.sum(1)[before] / total.clamp(min=1), 1.0)
    return float(-(kept + spared * continuation[after]).log().mean())


def passes(model: OPTForCausalLM, ids: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Run 16 sequences at a time.

    Yields the losses, [sequences, tokens - 1] in nats, and the attention weights,
    [layers, sequences, heads, queries, keys].
    """
    for batch in torch.split(ids, 16):
        output = model(input_ids=batch, output_attentions=True)
        losses = torch.nn.functional.cross_entropy(
            output.logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten(), reduction="none"
        )
        yield losses.view(len(batch), -1), torch.stack(output.attentions)


def diagonal_weight(attention: torch.Tensor, offset: int, first_query: int) -> torch.Tensor:
    """Return the mean weight on the key `offset` before the query.

    `attention` is [layers, sequences, heads, queries, keys]; queries count from `first_query` on.
    Returns [layers, heads].
    """
    weights = attention.diagonal(-offset, dim1=-2, dim2=-1)
    return weights[..., first_query - offset :].mean(dim=(1, 3))


def strongest(weights: list[torch.Tensor]) -> Head:
    """Return the head with the largest mean of equally many [layers, heads] weights."""
    mean = torch.stack(weights).mean(0)
    layer, head = divmod(int(mean.argmax()), mean.shape[1])
    return Head(layer, head, float(mean[layer, head]))


def story_figures(model: OPTForCausalLM, tokenizer: PreTrainedTokenizerBase) -> StoryFigures:
    """Measure model and bigram model on the same held-out stories."""
    known = first_stories(TRAINING_SEED, TRAINING_STORIES)
    unknown = first_stories(HELD_OUT_SEED, 2 * WINDOWS + 200)
    if repeated := set(known) & set(unknown):
        raise ValueError(f"{len(repeated)} held-out stories are in the training text")
    held_out = windows(tokenizer(unknown, verbose=False)["input_ids"], WINDOWS)
    documents = tokenizer(known[:BIGRAM_STORIES], verbose=False)["input_ids"]
    losses, previous = [], []
    for loss, attention in passes(model, held_out):
        losses.append(loss)
        previous.append(diagonal_weight(attention, 1, 1))
    at_position = torch.cat(losses).double().mean(0)
    return StoryFigures(
        bigram=bigram_cross_entropy(documents, held_out, len(tokenizer)),
        loss=float(at_position.mean()),
        spans=tuple(float(at_position[first - 1 : last].mean()) for first, last in SPANS),
        previous=strongest(previous),
    )


def repeated_sequences(length: int) -> torch.Tensor:
    """Draw `</s>`, then random ordinary tokens, then the same again: [rows, 1 + 2 * length]."""
    rng = random.Random(REPEATED_SEED)
    halves = [[rng.randrange(*ORDINARY) for _ in range(length)] for _ in range(REPEATED_ROWS)]
    return torch.tensor([[2, *half, *half] for half in halves])


def repeated_figures(model: OPTForCausalLM, length: int) -> RepeatedFigures:
    """Measure the model on random sequences repeated once."""
    losses, previous, induction = [], [], []
    for loss, attention in passes(model, repeated_sequences(length)):
        losses.append(loss)
        previous.append(diagonal_weight(attention, 1, 1))
        induction.append(diagonal_weight(attention, length - 1, length + 1))
    at_position = torch.cat(losses).double().mean(0)
    return RepeatedFigures(
        length=length,
        first=float(at_position[:length].mean()),
        second=float(at_position[length:].mean()),
        copied=float(at_position[length + 1 :].mean()),
        previous=strongest(previous),
        induction=strongest(induction),
    )


def prompt_figures(model: OPTForCausalLM, tokenizer: PreTrainedTokenizerBase, prompt: str) -> PromptFigures:
    """Return the five likeliest tokens after a prompt."""
    ids = torch.tensor([tokenizer(prompt)["input_ids"]])
    top = model(input_ids=ids).logits[0, -1].softmax(-1).topk(5)
    tokens = [str(tokenizer.decode([int(index)])) for index in top.indices]
    return PromptFigures(prompt, tuple(zip(tokens, top.values.tolist(), strict=True)))


def difference(model: OPTForCausalLM, tokenizer: PreTrainedTokenizerBase, prompt: str) -> float:
    """Return by how much the logit of " Mary" is above that of " John" after a prompt."""
    logits = model(input_ids=torch.tensor([tokenizer(prompt)["input_ids"]])).logits[0, -1]
    mary, john = (tokenizer(name, add_special_tokens=False)["input_ids"][0] for name in (" Mary", " John"))
    return float(logits[mary] - logits[john])


def continuation(model: OPTForCausalLM, tokenizer: PreTrainedTokenizerBase, prompt: str) -> str:
    """Return a prompt with CONTINUED tokens more, or fewer if the model ends the text."""
    ids = tokenizer(prompt)["input_ids"]
    for _ in range(CONTINUED):
        ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == tokenizer.eos_token_id:
            break
    return str(tokenizer.decode(ids, skip_special_tokens=True))


@torch.no_grad()
def measure(folder: Path) -> Figures:
    """Measure the weights in a folder, loaded in float32."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = OPTForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    return Figures(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        size=(folder / "model.safetensors").stat().st_size,
        stories=story_figures(model, tokenizer),
        repeated=tuple(repeated_figures(model, length) for length in REPEATED_LENGTHS),
        prompts=tuple(prompt_figures(model, tokenizer, prompt) for prompt in PROMPTS),
        differences=tuple(difference(model, tokenizer, prompt) for prompt in PAIR),
        continuation=continuation(model, tokenizer, PROMPTS[0]),
    )
