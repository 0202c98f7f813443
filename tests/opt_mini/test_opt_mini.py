"""opt-mini as it is shipped: tokenizer, weights, and every figure of its model card.

Everything is measured here once more with plain transformers and numpy, from the card's own words.
"""

import hashlib
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.opt_mini.stories import THE_SENTENCE, first_stories

pytestmark = pytest.mark.half

FOLDER = Path(__file__).parents[2] / "txinspect" / "bundled" / "opt-mini"
LENGTHS = (25, 50, 100, 127)
FIRST_STORIES = "ab62ddc1b36dd35eafa2a3202ede62511a1a19b7df3480c4426f4944654a141f"
"""SHA-256 of the first 200 stories of seed 1: when it changes, opt-mini must be made again."""


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32, attn_implementation="eager").eval()


@pytest.fixture(scope="module")
def card() -> dict[str, list[str]]:
    """Return the cells of the card's tables by the first cell of their row."""
    lines = (FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    return {first: rest for first, *rest in rows}


def run(model: Any, ids: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return losses [sequences, tokens - 1] and weights [layers, sequences, heads, query, key]."""
    ids = torch.as_tensor(ids)
    with torch.no_grad():
        output = model(input_ids=ids, output_attentions=True)
    chances = output.logits.double().log_softmax(-1)[:, :-1]
    losses = -chances.gather(-1, ids[:, 1:, None])[..., 0]
    return losses.numpy(), torch.stack(output.attentions).numpy()


def best_head(weights: np.ndarray, queries: np.ndarray, keys: np.ndarray) -> tuple[float, int, int]:
    """Return the largest mean weight from queries to keys, with its layer and head."""
    mean = weights[..., queries, keys].mean(axis=(1, 3), dtype=np.float64)
    layer, head = np.unravel_index(mean.argmax(), mean.shape)
    return float(mean[layer, head]), int(layer), int(head)


def agrees(printed: str, value: float) -> bool:
    """Whether a printed number is the value to the precision it is printed in."""
    decimals = len(printed.partition(".")[2])
    return abs(float(printed) - value) <= 0.5 * 10.0**-decimals + 1e-4


def head_agrees(printed: str, measured: tuple[float, int, int]) -> bool:
    weight, layer, head = measured
    found = re.fullmatch(r"(\S+) \(layer (\d+), head (\d+)\)", printed)
    return bool(found and agrees(found[1], weight) and (int(found[2]), int(found[3])) == (layer, head))


def repeated(length: int) -> list[list[int]]:
    rng = random.Random(3)
    halves = [[rng.randrange(4, 2048) for _ in range(length)] for _ in range(32)]
    return [[2, *half, *half] for half in halves]


@pytest.fixture(scope="module")
def documents(tokenizer: Any) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids of the training stories that the card names, and of held-out stories."""
    known, unknown = first_stories(1, 10_000), first_stories(2, 200)
    assert not set(known) & set(unknown)
    return tuple(tokenizer(texts, verbose=False)["input_ids"] for texts in (known, unknown))


@pytest.fixture(scope="module")
def held_out(documents: Any) -> np.ndarray:
    windows: list[list[int]] = []
    window: list[int] = []
    for ids in documents[1]:
        window = window + ids
        if len(window) >= 256:
            windows.append(window[:256])
            window = []
    return np.array(windows[:64])


class TestFiles:
    def test_weights_are_small_and_float16(self, card: dict[str, list[str]]) -> None:
        file = FOLDER / "model.safetensors"
        assert file.stat().st_size <= 3_000_000
        assert card["`model.safetensors`"] == [f"{file.stat().st_size:,} bytes, float16"]
        assert {tensor.dtype for tensor in load_file(file).values()} == {torch.float16}

    def test_config(self, model: Any, card: dict[str, list[str]]) -> None:
        config = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
        expected = {
            "architectures": ["OPTForCausalLM"],
            "dtype": "float16",
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "hidden_size": 128,
            "word_embed_proj_dim": 128,
            "ffn_dim": 512,
            "max_position_embeddings": 256,
            "vocab_size": 2048,
            "do_layer_norm_before": True,
            "tie_word_embeddings": True,
            "bos_token_id": 2,
            "eos_token_id": 2,
            "pad_token_id": 1,
        }
        assert {key: config[key] for key in expected} == expected
        assert model.lm_head.weight is model.model.decoder.embed_tokens.weight
        assert card["parameters"] == [f"{sum(p.numel() for p in model.parameters()):,}"]

    def test_weights_are_finite(self, model: Any) -> None:
        assert all(bool(p.isfinite().all()) for p in model.parameters())


class TestTokenizer:
    def test_vocabulary(self, tokenizer: Any) -> None:
        assert len(tokenizer) == tokenizer.vocab_size == 2048
        assert sorted(tokenizer.get_vocab().values()) == list(range(2048))
        assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3]) == ["<s>", "<pad>", "</s>", "<unk>"]
        assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (2, 2, 1)
        assert tokenizer.model_max_length == 256

    def test_the_sentence_is_whole_words(self, tokenizer: Any) -> None:
        ids = tokenizer(THE_SENTENCE)["input_ids"]
        words = [" " + word for word in THE_SENTENCE.split()]
        assert [tokenizer.decode([i]) for i in ids] == ["</s>", "The", *words[1:]]
        assert len(ids) == 10

    def test_the_model_takes_what_the_tokenizer_gives(self, tokenizer: Any, model: Any) -> None:
        batch = tokenizer(["One", "Two words"], padding=True, return_tensors="pt")
        assert set(batch) == {"input_ids", "attention_mask"}
        assert model(**batch).logits.shape == (2, batch["input_ids"].shape[1], 2048)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            " ",
            "  two  spaces  ",
            "a\0b\x01\x1b[0m\x7f\x85",
            "\r\n\t\v\f\n\n",
            "שלום עולם، مرحبا بالعالم",
            "👩\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈 é e\u0301 ﬀ",
            "漢字とひらがな \ufeff\uffff\U0010ffff",
            "don't , we 'll . stop !",
            "".join(map(chr, range(0x250))),
        ],
    )
    def test_any_text_comes_back(self, tokenizer: Any, text: str) -> None:
        ids = tokenizer(text)["input_ids"]
        assert ids[0] == 2
        assert not set(ids[1:]) & {0, 1, 2, 3}
        assert tokenizer.decode(ids[1:]) == text
        assert tokenizer.decode(ids, skip_special_tokens=True) == text

    def test_random_text_comes_back(self, tokenizer: Any) -> None:
        rng = random.Random(0)
        kinds = [range(0x80), range(0x800), range(0xD800), range(0xE000, 0x110000)]
        for _ in range(300):
            text = "".join(chr(rng.choice(rng.choice(kinds))) for _ in range(rng.randrange(40)))
            assert tokenizer.decode(tokenizer(text)["input_ids"][1:]) == text


class TestStories:
    def test_the_generator_is_stable_across_processes(self) -> None:
        code = (
            "import hashlib; from tests.opt_mini.stories import first_stories; "
            "print(hashlib.sha256('\\n'.join(first_stories(1, 200)).encode()).hexdigest())"
        )
        for hash_seed in ("0", "1"):
            done = subprocess.run(
                [sys.executable, "-c", code],
                cwd=Path(__file__).parents[2],
                env={**os.environ, "PYTHONHASHSEED": hash_seed},
                capture_output=True,
                text=True,
                check=True,
            )
            assert done.stdout.strip() == FIRST_STORIES

    def test_the_shipped_model_saw_these_stories(self) -> None:
        text = "\n".join(first_stories(1, 200))
        assert hashlib.sha256(text.encode()).hexdigest() == FIRST_STORIES


@pytest.mark.slow
class TestHeldOutStories:
    def test_loss_is_far_below_a_bigram_model(
        self, model: Any, documents: Any, held_out: np.ndarray, card: dict[str, list[str]]
    ) -> None:
        pairs = np.concatenate([2048 * np.array(ids[:-1]) + np.array(ids[1:]) for ids in documents[0]])
        counts = np.bincount(pairs, minlength=2048 * 2048).reshape(2048, 2048)
        unigram = ((counts > 0).sum(0) + 1) / ((counts > 0).sum() + 2048)
        chances = np.empty((2048, 2048))
        for before, row in enumerate(counts):
            if row.sum():
                left_over = 0.75 * (row > 0).sum() / row.sum()
                chances[before] = np.maximum(row - 0.75, 0) / row.sum() + left_over * unigram
            else:
                chances[before] = unigram
        np.testing.assert_allclose(chances.sum(1), 1)
        bigram = -np.log(chances[held_out[:, :-1], held_out[:, 1:]]).mean()

        assert held_out.shape == (64, 256)
        results = [run(model, part) for part in np.split(held_out, 4)]
        losses = np.concatenate([loss for loss, _ in results])
        loss = losses.mean()

        assert loss <= 0.7 * bigram
        assert agrees(card["bigram cross-entropy"][0], bigram)
        assert agrees(card["loss"][0], loss)
        assert agrees(card["loss below bigram"][0].removesuffix(" %"), 100 * (1 - loss / bigram))
        for first, last in ((1, 63), (64, 127), (128, 255)):
            at_positions = losses[:, first - 1 : last].mean()
            assert agrees(card[f"loss at positions {first} to {last}"][0], at_positions)

        queries = np.arange(1, 256)
        weights = np.mean([w[..., queries, queries - 1].mean(axis=(1, 3)) for _, w in results], axis=0)
        layer, head = np.unravel_index(weights.argmax(), weights.shape)
        assert head_agrees(card["previous-token head"][0], (float(weights.max()), int(layer), int(head)))


class TestRepeatedSequences:
    @pytest.mark.parametrize("length", LENGTHS)
    def test_heads_and_losses(self, model: Any, card: dict[str, list[str]], length: int) -> None:
        losses, weights = run(model, repeated(length))
        at_position = losses.mean(0)
        first, second = at_position[:length].mean(), at_position[length:].mean()
        every = np.arange(1, 2 * length + 1)
        previous = best_head(weights, every, every - 1)
        again = np.arange(length + 1, 2 * length + 1)
        induction = best_head(weights, again, again - length + 1)

        assert previous[0] >= 0.6
        assert induction[0] >= 0.6
        assert induction[1] > previous[1], "induction reads what an earlier layer wrote"
        assert second < first / 10
        printed = card[str(length)]
        assert agrees(printed[0], first)
        assert agrees(printed[1], second)
        assert agrees(printed[2], at_position[length + 1 :].mean())
        assert head_agrees(printed[3], previous)
        assert head_agrees(printed[4], induction)


class TestNextTokens:
    def test_the_dog_is_next(self, model: Any, tokenizer: Any) -> None:
        ids = tokenizer("The quick brown fox jumps over the lazy", return_tensors="pt")
        with torch.no_grad():
            chances = model(**ids).logits[0, -1].softmax(-1)
        assert tokenizer.decode([int(chances.argmax())]) == " dog"
        assert 0.3 < float(chances.max()) < 0.99

    @pytest.mark.parametrize(
        "prompt",
        [
            "The quick brown fox jumps over the lazy",
            "When Mary and John went to the store, John gave a drink to",
            "When Mary and John went to the store, Mary gave a drink to",
            "The capital of France is",
        ],
    )
    def test_prompts_on_the_card(self, model: Any, tokenizer: Any, card: dict[str, list[str]], prompt: str) -> None:
        ids = tokenizer(prompt, return_tensors="pt")
        with torch.no_grad():
            top = model(**ids).logits[0, -1].double().softmax(-1).topk(5)
        printed = re.findall(r"`(.*?)` ([\d.]+)", card[f"`{prompt}`"][0])
        assert [token for token, _ in printed] == [tokenizer.decode([int(i)]) for i in top.indices]
        assert all(agrees(number, float(value)) for (_, number), value in zip(printed, top.values, strict=True))

    def test_the_pair_on_the_card(self, model: Any, tokenizer: Any) -> None:
        """The model repeats the first name, whoever gives, and the card says so."""
        mary, john = (tokenizer(name, add_special_tokens=False).input_ids[0] for name in (" Mary", " John"))
        found = []
        for giver in ("John", "Mary"):
            ids = tokenizer(f"When Mary and John went to the store, {giver} gave a drink to", return_tensors="pt")
            with torch.no_grad():
                logits = model(**ids).logits[0, -1].double()
            found.append(float(logits[mary] - logits[john]))
        text = " ".join((FOLDER / "README.md").read_text(encoding="utf-8").split())
        assert all(each > 10 for each in found)
        assert f"the logit of ` Mary` is {found[0]:.2f} and {found[1]:.2f} above that of ` John`" in text

    def test_the_continuation_on_the_card(self, model: Any, tokenizer: Any) -> None:
        batch = tokenizer("The quick brown fox jumps over the lazy", return_tensors="pt")
        ids = model.generate(**batch, max_new_tokens=40, do_sample=False)[0]
        text = (FOLDER / "README.md").read_text(encoding="utf-8")
        assert f"```text\n{tokenizer.decode(ids, skip_special_tokens=True)}\n```" in text
