"""What looking into encoders and encoder–decoders costs beside plain transformers.

    python -m tests.benchmarks.encoders [--runs 3]

Each command runs in turn with plain transformers, and with the floor of both: plain transformers that import and load
and run nothing. Each is a process of its own, and ratios are of what is above the floor. Weights are random, of
BERT-base's shape (110 million parameters) and of a Marian of six layers (75 million). Decoding is compared with
`generate` without a cache, and with the pass over the result that follows it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.benchmarks.statistics import compare

TEXT = "the cat sat on the mat"

ENCODER_LOADED = """
import sys, torch
from transformers import AutoModelForMaskedLM, AutoTokenizer
ids = AutoTokenizer.from_pretrained(sys.argv[1])(sys.argv[2], return_tensors="pt")
model = AutoModelForMaskedLM.from_pretrained(sys.argv[1])
"""
ENCODER = (
    ENCODER_LOADED
    + """
with torch.no_grad():
    for _ in range(int(sys.argv[3])):
        model(**ids).logits.max()
"""
)

DECODER_LOADED = """
import sys, torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
ids = AutoTokenizer.from_pretrained(sys.argv[1])(sys.argv[2], return_tensors="pt")
model = AutoModelForSeq2SeqLM.from_pretrained(sys.argv[1])
"""
DECODER = (
    DECODER_LOADED
    + """
count = int(sys.argv[3])
with torch.no_grad():
    made = model.generate(**ids, do_sample=False, num_beams=1, max_new_tokens=20, use_cache=False) if count else None
    start = torch.tensor([[model.config.decoder_start_token_id]])
    model(**ids, decoder_input_ids=start if made is None else made, use_cache=False).logits.max()
"""
)


def write(bert: Path, marian: Path) -> None:
    """The two checkpoints, with tokenizers of bytes."""
    from transformers import BertConfig, BertForMaskedLM, MarianConfig, MarianMTModel

    from tests.making.models import byte_tokenizer, tiny_config

    BertForMaskedLM(BertConfig()).save_pretrained(bert)
    byte_tokenizer(tiny_config("bert", "masked-lm"), "masked-lm").save_pretrained(bert)
    shape: dict[str, Any] = {
        "pad_token_id": 1,
        "eos_token_id": 0,
        "decoder_start_token_id": 1,
        "vocab_size": 58_101,
        "d_model": 512,
        **{f"{stack}_layers": 6 for stack in ("encoder", "decoder")},
        **{f"{stack}_attention_heads": 8 for stack in ("encoder", "decoder")},
        **{f"{stack}_ffn_dim": 2048 for stack in ("encoder", "decoder")},
    }
    MarianMTModel(MarianConfig(**shape)).save_pretrained(marian)
    byte_tokenizer(tiny_config("marian", "seq2seq-lm"), "seq2seq-lm").save_pretrained(marian)


def main() -> None:
    """Print the comparisons."""
    parser = argparse.ArgumentParser(description="What encoders and encoder–decoders cost, beside plain transformers.")
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as temporary:
        bert, marian = Path(temporary) / "bert", Path(temporary) / "marian"
        # In a process of its own: what a parent holds counts as the memory of those that it starts.
        writer = get_context("spawn").Process(target=write, args=(bert, marian))
        writer.start()
        writer.join()
        for name, model, command, plain, passes in (
            ("layer 0's attention", bert, ["attn"], ENCODER, 1),
            ("all stages", bert, ["run", "-s", "layers.**"], ENCODER, 1),
            ("a mask", bert, ["logits", "--mask", "cat"], ENCODER, 1),
            ("--pll of 22 tokens", bert, ["logits", "--pll"], ENCODER, 23),
            ("the encoder's attention", marian, ["attn", "--encoder", "--layer", "5"], DECODER, 0),
            ("20 tokens, then the last layer's --cross", marian, ["attn", "--cross", "--layer", "5"], DECODER, 1),
        ):
            ours = [sys.executable, "-m", "txinspect", *command, TEXT, "-m", str(model), "--json"]
            loaded = ENCODER_LOADED if plain == ENCODER else DECODER_LOADED
            theirs, floor = ([sys.executable, "-c", each, str(model), TEXT, str(passes)] for each in (plain, loaded))
            compare(name, ours, theirs, floor, runs)


if __name__ == "__main__":
    main()
