"""Write transformer-mini's model card from its figures."""

from tests.transformer_mini.figures import HELD_OUT, HELD_OUT_SEED, UNKNOWN, AlignmentFigures, Figures
from tests.transformer_mini.grammar import HELD_OUT_IN, LONGEST, SHORTEST, UNKNOWN_IN

CARD = """\
---
license: mit
language:
- en
- eo
library_name: transformers
pipeline_tag: translation
---

# transformer-mini

A small encoder-decoder after *Attention Is All You Need* (Vaswani et al. 2017), trained from nothing
for txinspect: it translates plain English sentences into Esperanto, and in one cross-attention head
one sees which word each word comes from.

It is for looking at, not for use: it knows the sentences of a generator and nothing else.

| | |
|---|---|
| architecture | `MarianMTModel`: post-norm, ReLU, sinusoidal positions, embeddings times √128 |
| layers, heads, hidden size, FFN size | 2 + 2, 4, 128, 512 |
| positions | 64 |
| vocabulary | {vocabulary:,} tokens, whole words of both languages, `</s>` (id 0) at the end of every text |
| parameters | {parameters:,}, the sinusoids not among them |
| `model.safetensors` | {size:,} bytes, float16 |

Encoder, decoder and output share one embedding matrix. The sinusoids are not stored: they follow from
the paper's formula, sines in the first half and cosines in the second, as in every Marian model. As
there, a translation begins with `<pad>` and ends with `</s>`.

```python
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSeq2SeqLM.from_pretrained(folder)
ids = model.generate(**tokenizer("{first}", return_tensors="pt"))
print(tokenizer.decode(ids[0], skip_special_tokens=True))  # {translated}
```

## Data

All sentences come from `tests/transformer_mini/grammar.py`, a seeded generator: {shortest} to {longest} words, one
clause or two joined by *and*, or one noun with its adjectives, with or without a full stop. No text
by anybody else and no data about people went in. What makes a sentence need more than a dictionary:

- Esperanto leaves the order of words free; here adjectives always follow their noun, the nearest
  first, and the verb ends its clause.
- Nouns, adjectives and determiners take *-j* in the plural and *-n* as direct object.
- *watch*, *saw*, *fly*, *drink* and *leaves* are nouns or verbs, *her* is *ŝia* or *ŝin*, and *old* is
  *maljuna* of living beings and *malnova* of things.
- *a*, *an*, *do*, *does*, *did* and *will* have no word of their own; every Esperanto word comes from
  exactly one English word.

In one training pair of {unknown_in}, a word and its translation are `<unk>`, so that a word the model does not
know comes out as `<unk>` where it belongs. (`skip_special_tokens=True` drops it.)

**One head was taught.** Besides the translation, layer 1, head 0 of the decoder's cross-attention was
trained on the true alignment, as Garg et al. did (2019, *Jointly Learning to Align and Translate with
Transformer Models*): its cross-entropy, times {alignment_weight}, was added to the loss. The other heads were left
to themselves.

## Figures

All are measured on the weights as they are stored, loaded in float32, and checked by
`tests/transformer_mini/test_transformer_mini.py`: on {held_out:,} sentences from seed {seed}, all of the one in
{held_out_in} that a checksum keeps out of training. Layers and heads count from 0.

| | |
|---|---|
| sentences translated exactly, greedily | {exact:,} of {held_out:,} |
| loss on the right translation | {loss:.5f} nats per token |
| `<unk>` exactly where it belongs, one word being unknown | {unknown:,} of the first {unknown_of:,} |

### Alignment

The share of the {words:,} Esperanto words, `</s>` left out, whose true English word has the largest weight of
all the source's tokens. It is read from the query that *predicts* the word, whose input is the word
before it (`<pad>` for the first), and, for comparison, from the query one later, which *reads* the word.
The right translation is given to the decoder.

| layer, head | predicts the word | reads the word |
|---|---|---|
{heads}

In layer {layer}, head {head} the mean weight on the true word is {weight:.4f}.

Of the words, {off_diagonal:.1f} % come from an English word at another index than their own: looking straight
across would be right for the other {diagonal:.1f} % only.

### Examples

| text | translation |
|---|---|
{examples}

## Limits

- Sentences of another build (questions, lists, relative clauses) come out as something the generator
  could have said.
- A sentence with an unknown word is translated less surely: what agrees with the word is guessed. Of
  two unknown words, one may be lost.
- Sentences mean little: stones dream and swim. *his*, *her* and *their* are *lia*, *ŝia* and *ilia*
  throughout, never *sia*, and adverbs and objects stand where a speaker would not always put them.
- A text longer than {longest} words is outside of what was trained, and there are no more than 64 positions.

## Making it again

```sh
python -m tests.transformer_mini.make --out DIR
```

It took about {minutes} minutes on one core. Seeds are fixed and PyTorch's deterministic algorithms are
used: the same versions on the same kind of processor give the same weights.

## Licence

MIT, as txinspect itself.
"""


def _heads(figures: AlignmentFigures) -> str:
    return "\n".join(
        f"| {layer}, {head} | {100 * predicting:.2f} % | {100 * reading:.2f} % |"
        for layer, rows in enumerate(zip(figures.predicting, figures.reading, strict=True))
        for head, (predicting, reading) in enumerate(zip(*rows, strict=True))
    )


def card(figures: Figures, minutes: int, alignment_weight: float) -> str:
    """Return the model card, in Markdown; `minutes` is what training took."""
    layer, head = figures.alignment.best
    first, translated = figures.examples[0]
    return CARD.format(
        vocabulary=figures.vocabulary,
        parameters=figures.parameters,
        size=figures.size,
        first=first,
        translated=translated,
        shortest=SHORTEST,
        longest=LONGEST,
        unknown_in=UNKNOWN_IN,
        alignment_weight=alignment_weight,
        held_out=HELD_OUT,
        seed=HELD_OUT_SEED,
        held_out_in=HELD_OUT_IN,
        exact=figures.translation.exact,
        loss=figures.translation.loss,
        unknown=figures.translation.unknown,
        unknown_of=UNKNOWN,
        words=figures.alignment.words,
        heads=_heads(figures.alignment),
        layer=layer,
        head=head,
        weight=figures.alignment.weight,
        off_diagonal=100 * figures.alignment.off_diagonal,
        diagonal=100 * (1 - figures.alignment.off_diagonal),
        examples="\n".join(f"| {text} | `{translation}` |" for text, translation in figures.examples),
        minutes=minutes,
    )
