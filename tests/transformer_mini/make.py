"""Train transformer-mini, the bundled encoder-decoder, from nothing: python -m tests.transformer_mini.make.

Tokenizer, weights, figures and model card all follow from the seeds below.
"""

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import GenerationConfig, MarianConfig, MarianMTModel, PreTrainedTokenizerFast

from tests.transformer_mini.figures import measure
from tests.transformer_mini.grammar import UNKNOWN_IN, Pair, pairs, vocabulary
from tests.transformer_mini.model_card import card

TRAINING_SEED = 1
"""Seed of the sentences that the model learns from."""
MODEL_SEED = 0
"""Seed of the initial weights and of the order of training."""
MINUTES = 12
"""What the whole of it took on one core, for the model card."""

POSITIONS = 64
WIDTH = 128
EOS, UNK = 0, 1
"""As in the models of Helsinki-NLP; the padding token, with which a translation begins, has the last id."""

STEPS = 4000
ROWS = 128
"""Pairs in a step."""
POOL = 32
"""Steps whose pairs are drawn at once and sorted by length, so that little is padding."""
LEARNING_RATE = 2e-3
WARM_UP = 200
"""Steps until the learning rate is reached."""
ALIGNED_LAYER, ALIGNED_HEAD = 1, 0
"""The decoder layer and the cross-attention head that are taught the alignment."""
ALIGNMENT_WEIGHT = 0.5
"""How much the loss of the alignment counts beside that of the translation."""
IGNORED = -100


@dataclass(frozen=True)
class Batch:
    """Pairs as token ids."""

    source: torch.Tensor
    """[rows, source tokens], padded."""
    mask: torch.Tensor
    """[rows, source tokens]: 1 where `source` is no padding."""
    inputs: torch.Tensor
    """[rows, target tokens]: what the decoder reads, the padding token first."""
    labels: torch.Tensor
    """[rows, target tokens]: what comes next, or IGNORED."""
    alignment: torch.Tensor
    """[rows, target tokens]: the source token that a label comes from; `</s>` comes from `</s>`."""


def new_tokenizer() -> PreTrainedTokenizerFast:
    """Make the tokenizer: whole words of both languages in small letters, `</s>` at the end."""
    words = ("</s>", "<unk>", *vocabulary(), "<pad>")
    level = Tokenizer(models.WordLevel({word: id for id, word in enumerate(words)}, unk_token="<unk>"))
    level.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    level.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    level.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A $B </s>", special_tokens=[("</s>", EOS)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=level,
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


def new_model(vocab_size: int) -> MarianMTModel:
    """Make the untrained model."""
    torch.manual_seed(MODEL_SEED)
    pad = vocab_size - 1
    model = MarianMTModel(
        MarianConfig(
            vocab_size=vocab_size,
            d_model=WIDTH,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=4 * WIDTH,
            decoder_ffn_dim=4 * WIDTH,
            activation_function="relu",
            max_position_embeddings=POSITIONS,
            scale_embedding=True,
            dropout=0.0,
            share_encoder_decoder_embeddings=True,
            tie_word_embeddings=True,
            pad_token_id=pad,
            decoder_start_token_id=pad,
            eos_token_id=EOS,
            forced_eos_token_id=None,
        )
    )
    model.set_attn_implementation("eager")
    model.generation_config = GenerationConfig(
        max_length=POSITIONS,
        num_beams=1,
        do_sample=False,
        pad_token_id=pad,
        decoder_start_token_id=pad,
        eos_token_id=EOS,
    )
    for weight in model.parameters():
        if weight.dim() == 2 and weight.requires_grad:
            torch.nn.init.xavier_uniform_(weight)
    with torch.no_grad():
        # Times the square root of WIDTH, a token's embedding is about as long as its position's.
        model.model.shared.weight.normal_(std=WIDTH**-0.5)
    return model


def encoded(pair: Pair, ids: dict[str, int]) -> tuple[list[int], list[int], list[int]]:
    """Return source ids, target ids and alignment, each with its `</s>`."""
    source = [*(ids[word] for word in pair.source), EOS]
    return source, [*(ids[word] for word in pair.target), EOS], [*pair.alignment, len(pair.source)]


def batch(chosen: list[Pair], ids: dict[str, int]) -> Batch:
    """Lay out pairs as tensors."""

    def padded(rows: list[list[int]], filler: int) -> torch.Tensor:
        longest = max(map(len, rows))
        return torch.tensor([row + [filler] * (longest - len(row)) for row in rows])

    pad = ids["<pad>"]
    sources, targets, alignments = (list(each) for each in zip(*(encoded(pair, ids) for pair in chosen), strict=True))
    source = padded(sources, pad)
    return Batch(
        source=source,
        mask=(source != pad).long(),
        inputs=padded([[pad, *row[:-1]] for row in targets], pad),
        labels=padded(targets, IGNORED),
        alignment=padded(alignments, 0),
    )


def batches(seed: int, ids: dict[str, int]) -> Iterator[Batch]:
    """Yield batch after batch of pairs of about the same length."""
    rng = random.Random(MODEL_SEED)
    endless = (
        pair if rng.randrange(UNKNOWN_IN) else pair.with_unknown(rng.randrange(len(pair.target)))
        for pair in pairs(seed, held_out=False)
    )
    while True:
        pool = sorted(islice(endless, POOL * ROWS), key=lambda pair: len(pair.source))
        groups = [pool[start : start + ROWS] for start in range(0, len(pool), ROWS)]
        rng.shuffle(groups)
        for group in groups:
            yield batch(group, ids)


def learning_rate(step: int) -> float:
    """Return the factor on the learning rate at a step: linear warm-up, then half a cosine."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    done = (step - WARM_UP) / (STEPS - WARM_UP)
    return 0.5 * (1 + math.cos(math.pi * done))


def losses(model: MarianMTModel, each: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cross-entropy of the translation and that of the alignment, in nats per token.

    A label's alignment is read from the query that predicts the label.
    """
    output = model(
        input_ids=each.source,
        attention_mask=each.mask,
        decoder_input_ids=each.inputs,
        use_cache=False,
        output_attentions=True,
    )
    scored = each.labels != IGNORED
    translation = torch.nn.functional.cross_entropy(output.logits[scored], each.labels[scored])
    weights = output.cross_attentions[ALIGNED_LAYER][:, ALIGNED_HEAD]
    aligned = weights.gather(2, each.alignment[:, :, None])[:, :, 0]
    return translation, -aligned[scored].clamp(min=1e-9).log().mean()


def train(model: MarianMTModel, endless: Iterator[Batch]) -> None:
    """Train in place, with progress on stderr."""
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), eps=1e-9)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate)
    model.train()
    started = time.monotonic()
    for step, each in enumerate(islice(endless, STEPS), 1):
        translation, alignment = losses(model, each)
        optimizer.zero_grad()
        (translation + ALIGNMENT_WEIGHT * alignment).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == 1:
            print(
                f"{step}/{STEPS}: {translation:.6f} nats on the translation, {alignment:.6f} on the alignment, "
                f"{time.monotonic() - started:.0f} s",
                file=sys.stderr,
                flush=True,
            )


def make(out: Path) -> None:
    """Train the model, and write everything that belongs to transformer-mini to `out`."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    tokenizer = new_tokenizer()
    save_tokenizer(tokenizer, out)
    model = new_model(len(tokenizer))
    train(model, batches(TRAINING_SEED, tokenizer.get_vocab()))
    model.half().save_pretrained(out)
    # safetensors writes a file that only its owner can read, and so it would be installed.
    (out / "model.safetensors").chmod(0o644)
    (out / "README.md").write_text(card(measure(out), MINUTES, ALIGNMENT_WEIGHT), encoding="utf-8")


def main() -> None:
    """Parse the command line and make the model."""
    parser = argparse.ArgumentParser(description="Train transformer-mini, the bundled encoder-decoder.")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parents[2] / "txinspect" / "bundled" / "transformer-mini",
        help="directory to write to (default: the bundled model's own)",
    )
    make(parser.parse_args().out)


if __name__ == "__main__":
    main()
