"""Train opt-mini, the bundled model, from nothing: python -m tests.opt_mini.make.

Tokenizer, weights, figures and model card all follow from the seeds below.
"""

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast

from tests.opt_mini.figures import TRAINING_SEED, measure
from tests.opt_mini.model_card import card
from tests.opt_mini.stories import first_stories, stories

MODEL_SEED = 0
"""Seed of the initial weights and of every draw made while training."""
MINUTES = 30
"""What the whole of it took on two shared cores, for the model card; about 20 on idle ones."""

TOKENIZER_STORIES = 20_000
VOCAB_SIZE = 2048
POSITIONS = 256
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
PAD, EOS = 1, 2

REPEATED_POOL = 48
IGNORED = -100


@dataclass(frozen=True)
class Phase:
    """One stretch of training with its own context length and learning-rate curve."""

    name: str
    steps: int
    length: int
    """Tokens in a sequence, `</s>` included."""
    story_rows: int
    repeated_rows: int
    """Sequences per step of either kind."""
    longest_period: int
    shifted: bool
    """Whether half of the sequences start at a later position, so that every position is trained."""
    uniform: bool
    """Whether every other repeated sequence draws from the whole vocabulary, its first period scored."""
    learning_rate: float
    warm_up: int
    """Steps until the learning rate is reached."""


PHASES = (
    Phase("heads", 600, 64, 16, 48, 30, False, False, 2e-3, 100),
    Phase("positions", 250, 64, 16, 48, 30, True, False, 1.5e-3, 30),
    Phase("stories", 1200, 256, 18, 6, 127, False, True, 1.5e-3, 50),
)


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE of 2,048 tokens that puts `</s>` in front, as OPT's does."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCAB_SIZE,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    bpe.post_processor = processors.TemplateProcessing(
        single="</s> $A", pair="</s> $A </s> $B", special_tokens=[("</s>", EOS)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="</s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        model_max_length=POSITIONS,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Save a tokenizer under the class name that transformers 4 and 5 both know."""
    tokenizer.save_pretrained(out)
    file = out / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    file.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def new_model() -> OPTForCausalLM:
    """Make the untrained model; its initial values let attention heads that copy form early."""
    torch.manual_seed(MODEL_SEED)
    model = OPTForCausalLM(
        OPTConfig(
            vocab_size=VOCAB_SIZE,
            hidden_size=128,
            word_embed_proj_dim=128,
            num_hidden_layers=4,
            num_attention_heads=4,
            ffn_dim=512,
            max_position_embeddings=POSITIONS,
            do_layer_norm_before=True,
            dropout=0.0,
            attention_dropout=0.0,
            tie_word_embeddings=True,
            bos_token_id=EOS,
            eos_token_id=EOS,
            pad_token_id=PAD,
        )
    )
    decoder = model.model.decoder
    with torch.no_grad():
        decoder.embed_tokens.weight.normal_(std=0.1)
        positions = decoder.embed_positions.weight
        positions.copy_(sinusoids(*positions.shape))
    return model


def sinusoids(count: int, width: int, scale: float = 0.15, base: float = 1000.0) -> torch.Tensor:
    """Return sine and cosine position embeddings: [count, width]."""
    frequencies = base ** (-torch.arange(0, width, 2) / width)
    angles = torch.arange(count)[:, None] * frequencies
    return scale * torch.cat((angles.sin(), angles.cos()), dim=1)


def story_tokens(tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[list[int]]:
    """Yield the token ids of story after story, each with `</s>` in front."""
    endless = stories(seed)
    while True:
        batch = [next(endless) for _ in range(1000)]
        yield from tokenizer(batch, verbose=False)["input_ids"]


def story_windows(endless: Iterator[list[int]], length: int, rng: random.Random) -> Iterator[list[int]]:
    """Yield stories one after the other, cut to `length` tokens; one window in four starts midway.

    Such a window too has `</s>` at position 0, as every prompt has.
    """
    while True:
        window = next(endless)
        if rng.randrange(4) == 0:
            window = [EOS, *window[rng.randrange(1, len(window)) :]]
        while len(window) < length:
            window = window + next(endless)
        yield window[:length]


def repeated_rows(phase: Phase, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw random sequences that repeat themselves.

    Returns ids and labels, each [phase.repeated_rows, phase.length]. A row's tokens come from 48
    random ones, and its first period has no labels. With `phase.uniform`, the tokens of every other
    row come from the whole vocabulary, and all of them have labels.
    """

    def draw(low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(low, high, shape, generator=generator)

    rows, longest = phase.repeated_rows, phase.longest_period
    first = len(SPECIAL_TOKENS)
    pool = draw(first, VOCAB_SIZE, rows, REPEATED_POOL)
    once = pool.gather(1, draw(0, REPEATED_POOL, rows, longest))
    if phase.uniform:
        once[::2] = draw(first, VOCAB_SIZE, *once[::2].shape)
    period = draw(4, longest + 1, rows, 1)
    steps = torch.arange(phase.length - 1).expand(rows, -1)
    start = torch.full((rows, 1), EOS)
    ids = torch.cat((start, once.gather(1, steps % period)), dim=1)
    labels = ids.clone()
    scored = steps >= period
    if phase.uniform:
        scored[::2] = True
    labels[:, 1:][~scored] = IGNORED
    return ids, labels


def position_ids(phase: Phase, generator: torch.Generator) -> torch.Tensor:
    """Return the positions of a step's sequences: [rows, phase.length]."""
    start = torch.zeros(phase.story_rows + phase.repeated_rows, 1, dtype=torch.long)
    if phase.shifted:
        half = start[::2]
        half.random_(0, POSITIONS - phase.length + 1, generator=generator)
    return start + torch.arange(phase.length)


def learning_rate(phase: Phase) -> Callable[[int], float]:
    """Return the factor on the learning rate at a step: linear warm-up, then half a cosine."""

    def factor(step: int) -> float:
        if step < phase.warm_up:
            return (step + 1) / phase.warm_up
        done = (step - phase.warm_up) / (phase.steps - phase.warm_up)
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))

    return factor


def train(model: OPTForCausalLM, phase: Phase, windows: Iterator[list[int]], generator: torch.Generator) -> None:
    """Train for one phase, in place, with progress on stderr."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=phase.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate(phase))
    model.train()
    started = time.monotonic()
    for step in range(1, phase.steps + 1):
        told = torch.tensor([next(windows) for _ in range(phase.story_rows)])
        repeated, labels = repeated_rows(phase, generator)
        targets = torch.cat((told, labels))[:, 1:]
        scored = targets != IGNORED
        hidden_states = model.model(
            input_ids=torch.cat((told, repeated)), position_ids=position_ids(phase, generator)
        ).last_hidden_state
        losses = torch.nn.functional.cross_entropy(
            model.lm_head(hidden_states[:, :-1][scored]), targets[scored], reduction="none"
        )
        loss = losses.mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == 1:
            of_stories = phase.story_rows * (phase.length - 1)
            print(
                f"{phase.name} {step}/{phase.steps}: {losses[:of_stories].mean():.6f} nats on "
                f"stories, {losses[of_stories:].mean():.6f} on repeats, "
                f"{time.monotonic() - started:.0f} s",
                file=sys.stderr,
                flush=True,
            )


def make(out: Path) -> None:
    """Train tokenizer and model, and write everything that belongs to opt-mini to `out`."""
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True)
    tokenizer = train_tokenizer(first_stories(TRAINING_SEED, TOKENIZER_STORIES))
    save_tokenizer(tokenizer, out)
    model = new_model()
    endless = story_tokens(tokenizer, TRAINING_SEED)
    rng = random.Random(MODEL_SEED)
    generator = torch.Generator().manual_seed(MODEL_SEED)
    for phase in PHASES:
        train(model, phase, story_windows(endless, phase.length, rng), generator)
    model.half().save_pretrained(out)
    # safetensors writes a file that only its owner can read, and so it would be installed.
    (out / "model.safetensors").chmod(0o644)
    (out / "README.md").write_text(card(measure(out), MINUTES), encoding="utf-8")


def main() -> None:
    """Parse the command line and make the model."""
    parser = argparse.ArgumentParser(description="Train opt-mini, the bundled model.")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parents[2] / "txinspect" / "bundled" / "opt-mini",
        help="directory to write to (default: the bundled model's own)",
    )
    make(parser.parse_args().out)


if __name__ == "__main__":
    main()
