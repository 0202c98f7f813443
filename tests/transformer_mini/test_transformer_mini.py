"""transformer-mini as it is shipped: grammar, tokenizer, weights, and every figure of its model card.

Everything is measured here once more with plain transformers and numpy, from the card's own words.
"""

import hashlib
import json
import os
import random
import re
import subprocess
import sys
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedTokenizerFast
from transformers.models.auto import tokenization_auto

from tests.transformer_mini.grammar import THE_SENTENCE, THE_TRANSLATION, Pair, pairs, vocabulary

pytestmark = pytest.mark.half

FOLDER = Path(__file__).parents[2] / "txinspect" / "bundled" / "transformer-mini"
FIRST_PAIRS = "2db7f23d74e857b7bc9e8d2985108c2e8e796c68f7d985484926c4195ab2c17d"
"""SHA-256 of the first 200 training pairs: when it changes, transformer-mini must be made again."""
PAD = 1012


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForSeq2SeqLM.from_pretrained(FOLDER, dtype=torch.float32, attn_implementation="eager").eval()


@pytest.fixture(scope="module")
def card() -> dict[str, list[str]]:
    """Return the cells of the card's tables by the first cell of their row."""
    lines = (FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    return {first: rest for first, *rest in rows}


@pytest.fixture(scope="module")
def prose() -> str:
    return " ".join((FOLDER / "README.md").read_text(encoding="utf-8").split())


@pytest.fixture(scope="module")
def held_out() -> list[Pair]:
    return list(islice(pairs(2, held_out=True), 2000))


def translated(model: Any, tokenizer: Any, texts: list[str]) -> list[str]:
    """Translate with `generate` as the folder's own settings have it; `<unk>` is kept."""
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    found = tokenizer.batch_decode(model.generate(**batch))
    return [text.replace("<pad>", "").replace("</s>", "").strip() for text in found]


@dataclass(frozen=True)
class Told:
    """What the model does when the right translations are given."""

    losses: np.ndarray
    """[tokens]: in nats, `</s>` included."""
    exact: np.ndarray
    """[pairs]: whether every token is the likeliest, so that greedy search would find the translation."""
    looks: np.ndarray
    """[2, layers, heads, words]: whether the true source has the largest weight, from the query that predicts a
    word and from the next."""
    weights: np.ndarray
    """[layers, heads, words]: the weight on the true source from the query that predicts a word."""


def told(model: Any, tokenizer: Any, chosen: list[Pair]) -> Told:
    """Run pairs in one padded batch."""
    source = tokenizer([" ".join(pair.source) for pair in chosen], padding=True, return_tensors="pt")
    target = tokenizer([" ".join(pair.target) for pair in chosen], padding=True, return_tensors="pt")
    labels, scored = target.input_ids, target.attention_mask.bool()
    inputs = torch.cat((torch.full((len(chosen), 1), PAD), labels), dim=1)
    with torch.no_grad():
        output = model(**source, decoder_input_ids=inputs, output_attentions=True)
    logits = output.logits[:, :-1].double()
    losses = -logits.log_softmax(-1).gather(-1, labels[..., None])[..., 0]
    weights = torch.stack(output.cross_attentions).numpy()
    rows = np.repeat(np.arange(len(chosen)), [len(pair.target) for pair in chosen])
    queries = np.concatenate([np.arange(len(pair.target)) for pair in chosen])
    true = np.concatenate([pair.alignment for pair in chosen])
    looks = np.stack([weights[:, rows, :, queries + later].argmax(-1) == true[:, None, None] for later in (0, 1)])
    return Told(
        losses=losses[scored].numpy(),
        exact=((logits.argmax(-1) == labels) | ~scored).all(-1).numpy(),
        looks=looks.transpose(0, 2, 3, 1),
        weights=weights[:, rows, :, queries, true].transpose(1, 2, 0),
    )


@pytest.fixture(scope="module")
def measured(model: Any, tokenizer: Any, held_out: list[Pair]) -> Told:
    """All held-out pairs, told 500 at a time."""
    parts = [told(model, tokenizer, held_out[start : start + 500]) for start in range(0, 2000, 500)]
    return Told(
        *(np.concatenate([getattr(part, field.name) for part in parts], axis=-1) for field in fields(Told)),
    )


def agrees(printed: str, value: float) -> bool:
    """Whether a printed number is the value to the precision it is printed in."""
    decimals = len(printed.partition(".")[2])
    return abs(float(printed) - value) <= 0.5 * 10.0**-decimals + 1e-6


class TestGrammar:
    def test_the_generator_is_stable_across_processes(self) -> None:
        code = (
            "import hashlib; from itertools import islice; from tests.transformer_mini.grammar import pairs; "
            "print(hashlib.sha256(repr(list(islice(pairs(1, held_out=False), 200))).encode()).hexdigest())"
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
            assert done.stdout.strip() == FIRST_PAIRS

    def test_the_shipped_model_saw_these_pairs(self) -> None:
        text = repr(list(islice(pairs(1, held_out=False), 200)))
        assert hashlib.sha256(text.encode()).hexdigest() == FIRST_PAIRS

    def test_every_target_word_has_one_source_word(self, held_out: list[Pair]) -> None:
        for pair in held_out:
            assert len(pair.alignment) == len(pair.target) == len(set(pair.alignment))
            left_out = set(range(len(pair.source))) - set(pair.alignment)
            assert {pair.source[index] for index in left_out} <= {"a", "an", "do", "does", "did", "will"}
            assert 2 <= len([word for word in pair.source if word != "."]) <= 16

    def test_a_source_has_one_translation(self, held_out: list[Pair]) -> None:
        every = [*held_out, *islice(pairs(1, held_out=False), 20_000)]
        assert len({pair.source for pair in every}) == len({(pair.source, pair.target) for pair in every})

    def test_the_languages_share_only_the_full_stop(self, held_out: list[Pair]) -> None:
        english = {word for pair in held_out for word in pair.source}
        esperanto = {word for pair in held_out for word in pair.target}
        assert english & esperanto == {"."}
        assert english | esperanto <= set(vocabulary())

    def test_held_out_sentences_are_never_in_training(self, held_out: list[Pair]) -> None:
        known = {pair.source for pair in islice(pairs(1, held_out=False), 20_000)}
        assert not known & {pair.source for pair in held_out}
        assert all(pair.held_out for pair in held_out)

    def test_one_unknown_word(self) -> None:
        pair = Pair(("the", "old", "dog", "sleeps"), ("la", "hundo", "maljuna", "dormas"), (0, 2, 1, 3))
        replaced = pair.with_unknown(1)
        assert replaced.source == ("the", "old", "<unk>", "sleeps")
        assert replaced.target == ("la", "<unk>", "maljuna", "dormas")


class TestFiles:
    def test_weights_are_small_and_float16(self, card: dict[str, list[str]]) -> None:
        file = FOLDER / "model.safetensors"
        assert file.stat().st_size <= 3_000_000
        assert card["`model.safetensors`"] == [f"{file.stat().st_size:,} bytes, float16"]
        stored = load_file(file)
        assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
        assert not any("embed_positions" in name for name in stored)

    def test_config(self) -> None:
        config = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
        expected = {
            "architectures": ["MarianMTModel"],
            "model_type": "marian",
            "dtype": "float16",
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "d_model": 128,
            "encoder_ffn_dim": 512,
            "decoder_ffn_dim": 512,
            "activation_function": "relu",
            "scale_embedding": True,
            "max_position_embeddings": 64,
            "vocab_size": 1013,
            "pad_token_id": PAD,
            "decoder_start_token_id": PAD,
            "eos_token_id": 0,
            "tie_word_embeddings": True,
            "share_encoder_decoder_embeddings": True,
        }
        assert {key: config[key] for key in expected} == expected
        assert config.get("forced_eos_token_id") is None

    def test_generation_is_plain_greedy_search(self, model: Any) -> None:
        settings = model.generation_config
        assert (settings.num_beams, settings.do_sample, settings.max_length) == (1, False, 64)
        assert settings.forced_eos_token_id is None
        assert settings.forced_bos_token_id is None
        assert settings.bad_words_ids is None

    def test_one_embedding_matrix(self, model: Any, card: dict[str, list[str]]) -> None:
        shared = model.model.shared.weight
        assert model.lm_head.weight is shared
        assert model.model.encoder.embed_tokens.weight is shared
        assert model.model.decoder.embed_tokens.weight is shared
        assert not model.final_logits_bias.any()
        trained = [p for name, p in model.named_parameters() if "embed_positions" not in name]
        assert all(bool(p.isfinite().all()) for p in trained)
        assert card["parameters"] == [f"{sum(p.numel() for p in trained):,}, the sinusoids not among them"]

    def test_positions_are_the_papers_sinusoids(self, model: Any) -> None:
        """PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i+1) = cos of the same; here sines first, then cosines."""
        angles = np.arange(64)[:, None] / 10000 ** (np.arange(0, 128, 2) / 128)
        expected = np.concatenate((np.sin(angles), np.cos(angles)), axis=1)
        for stack in (model.model.encoder, model.model.decoder):
            np.testing.assert_allclose(stack.embed_positions.weight.detach().numpy(), expected, rtol=0, atol=1e-6)


class TestTokenizer:
    def test_vocabulary(self, tokenizer: Any, card: dict[str, list[str]]) -> None:
        assert isinstance(tokenizer, PreTrainedTokenizerFast)
        assert len(tokenizer) == tokenizer.vocab_size == 1013
        assert tokenizer.convert_ids_to_tokens(list(range(1013))) == ["</s>", "<unk>", *vocabulary(), "<pad>"]
        assert (tokenizer.eos_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id) == (0, 1, PAD)
        assert tokenizer.model_max_length == 64
        assert card["vocabulary"][0].startswith("1,013 tokens")

    def test_it_is_the_same_where_sentencepiece_is_installed(
        self, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """There, transformers has a class of its own for Marian's tokenizers."""
        monkeypatch.setitem(tokenization_auto.TOKENIZER_MAPPING_NAMES, "marian", "MarianTokenizer")
        again = AutoTokenizer.from_pretrained(FOLDER)
        assert type(again) is type(tokenizer)
        assert again(THE_SENTENCE)["input_ids"] == tokenizer(THE_SENTENCE)["input_ids"]

    def test_case_and_blanks_do_not_matter(self, tokenizer: Any) -> None:
        ids = tokenizer(THE_SENTENCE)["input_ids"]
        assert len(ids) == 10
        assert ids[-1] == 0
        assert 1 not in ids
        assert tokenizer("The QUICK brown fox  jumps over\nthe lazy dog")["input_ids"] == ids
        assert tokenizer(f"{THE_SENTENCE}.")["input_ids"] == tokenizer(f"{THE_SENTENCE} .")["input_ids"]

    def test_circumflexes_may_be_combining(self, tokenizer: Any) -> None:
        assert tokenizer("c\u0302iu S\u0302ia")["input_ids"] == tokenizer("ĉiu ŝia")["input_ids"]
        assert 1 not in tokenizer("ĉiu ŝia")["input_ids"]

    def test_an_unknown_word(self, tokenizer: Any) -> None:
        assert tokenizer("the zebra sleeps")["input_ids"].count(1) == 1

    def test_both_languages_come_back(self, tokenizer: Any, held_out: list[Pair]) -> None:
        texts = [" ".join(words) for pair in held_out[:200] for words in (pair.source, pair.target)]
        for text, ids in zip(texts, tokenizer(texts)["input_ids"], strict=True):
            assert tokenizer.decode(ids, skip_special_tokens=True) == text


@pytest.mark.slow
class TestHeldOutSentences:
    def test_translations_are_exact(
        self, model: Any, tokenizer: Any, held_out: list[Pair], measured: Told, card: dict[str, list[str]]
    ) -> None:
        found = translated(model, tokenizer, [" ".join(pair.source) for pair in held_out[:400]])
        exact = [text == " ".join(pair.target) for text, pair in zip(found, held_out[:400], strict=True)]
        assert sum(exact) >= 0.99 * 400
        assert exact == measured.exact[:400].tolist()
        assert card["sentences translated exactly, greedily"] == [f"{measured.exact.sum():,} of 2,000"]

    def test_unknown_words_stay_where_they_belong(
        self, model: Any, tokenizer: Any, held_out: list[Pair], card: dict[str, list[str]]
    ) -> None:
        rng = random.Random(3)
        replaced = [pair.with_unknown(rng.randrange(len(pair.target))) for pair in held_out[:400]]
        found = translated(model, tokenizer, [" ".join(pair.source) for pair in replaced])
        right = 0
        for text, pair in zip(found, replaced, strict=True):
            words = text.split()
            right += words.count("<unk>") == 1 and words.index("<unk>") == pair.target.index("<unk>")
        assert right >= 0.9 * 400
        assert card["`<unk>` exactly where it belongs, one word being unknown"] == [f"{right:,} of the first 400"]

    def test_loss(self, measured: Told, card: dict[str, list[str]]) -> None:
        assert agrees(card["loss on the right translation"][0].removesuffix(" nats per token"), measured.losses.mean())

    def test_one_head_shows_the_alignment(self, measured: Told, card: dict[str, list[str]], prose: str) -> None:
        predicting, reading = measured.looks.mean(-1)
        assert np.unravel_index(predicting.argmax(), predicting.shape) == (1, 0), "the head that was taught"
        assert predicting[1, 0] >= 0.95
        for layer, head in np.ndindex(2, 4):
            printed = [cell.removesuffix(" %") for cell in card[f"{layer}, {head}"]]
            assert agrees(printed[0], 100 * predicting[layer, head])
            assert agrees(printed[1], 100 * reading[layer, head])

        assert f"The share of the {measured.looks.shape[-1]:,} Esperanto words" in prose
        found = re.search(r"In layer 1, head 0 the mean weight on the true word is (\S+)\. ", prose)
        assert found
        assert agrees(found[1], float(measured.weights[1, 0].mean(dtype=np.float64)))

    def test_the_alignment_is_not_the_diagonal(self, held_out: list[Pair], prose: str) -> None:
        off = np.mean([index != true for pair in held_out for index, true in enumerate(pair.alignment)])
        assert off > 0.6
        found = re.search(r"Of the words, (\S+) % come from an English word at another index", prose)
        assert found
        assert agrees(found[1], 100 * float(off))


class TestExamples:
    def test_the_sentence(self, model: Any, tokenizer: Any, prose: str) -> None:
        for text in (THE_SENTENCE, THE_SENTENCE.capitalize()):
            assert translated(model, tokenizer, [text]) == [THE_TRANSLATION]
        assert f"# {THE_TRANSLATION} ```" in prose

    def test_examples_on_the_card(self, model: Any, tokenizer: Any) -> None:
        text = (FOLDER / "README.md").read_text(encoding="utf-8").partition("### Examples")[2]
        rows = re.findall(r"^\| (.+) \| `(.+)` \|$", text, re.MULTILINE)
        assert len(rows) == 5
        for source, translation in rows:
            assert translated(model, tokenizer, [source]) == [translation]

    def test_padding_changes_nothing(self, model: Any, tokenizer: Any) -> None:
        texts = [THE_SENTENCE, "The cat sleeps."]
        alone = [translated(model, tokenizer, [text])[0] for text in texts]
        assert translated(model, tokenizer, texts) == alone
