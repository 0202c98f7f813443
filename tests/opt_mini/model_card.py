"""Write opt-mini's model card from its figures."""

from tests.opt_mini.figures import (
    BIGRAM_STORIES,
    CONTINUED,
    HELD_OUT_SEED,
    LENGTH,
    ORDINARY,
    REPEATED_ROWS,
    REPEATED_SEED,
    SPANS,
    WINDOWS,
    Figures,
    Head,
    PromptFigures,
    RepeatedFigures,
)

CARD = """\
---
license: mit
language: en
library_name: transformers
pipeline_tag: text-generation
---

# opt-mini

A small OPT language model, trained from nothing for txinspect, so that a first run needs no network
and what it shows has a meaning: there are heads that look at the previous token, heads that copy
(induction), and a next token that follows from the text.

It is for looking at, not for use: it knows short stories from a generator and nothing else.

| | |
|---|---|
| architecture | `OPTForCausalLM`, pre-norm, tied embeddings |
| layers, heads, hidden size, FFN size | 4, 4, 128, 512 |
| positions | {length} |
| vocabulary | 2,048 tokens, byte-level BPE, `</s>` (id 2) in front of every text |
| parameters | {parameters:,} |
| `model.safetensors` | {size:,} bytes, float16 |

Any text can be tokenized and comes back unchanged; as in OPT, the literal strings `<s>`, `<pad>`,
`</s>` and `<unk>` stand for the special tokens.

## Data

All text comes from `tests/opt_mini/stories.py`, a seeded generator of short stories. A story has
two friends, an elder, an animal, a home and a treasured thing, which come back in every episode:
things are lost and found, packed and unpacked, traded, lent, hidden; letters are written, lists and
secret words repeated. Songs are random words sung again and again. The quick brown fox jumps over
the lazy dog now and then. No text by anybody else and no data about people went in.

Besides stories, the model was trained on random token sequences that repeat themselves, which is
what makes the induction heads appear.

## Figures

All are measured on the weights as they are stored, loaded in float32, and checked by
`tests/test_bundled.py`. Layers and heads count from 0. Losses are in nats per token.

### Held-out stories

{windows} windows of {length} tokens from seed {held_out}, none of whose stories is in the training text. Each
window is `</s>`, a story, `</s>`, the next story and so on, cut off at {length} tokens. The bigram
model is an interpolated Kneser-Ney model, counted on the first {training:,} training stories and
measured on the same tokens (counted on 40,000, it gains 0.6 %).

| | |
|---|---|
| bigram cross-entropy | {bigram:.3f} |
| loss | {loss:.3f} |
| loss below bigram | {below:.1f} % |
{spans}
| previous-token head | {previous} |

### Random sequences that occur twice

{rows} sequences for every length n: `</s>`, then n tokens drawn uniformly, each for itself, from the
whole ordinary vocabulary (ids {low} to {high}: all but the special tokens; by `randrange` of Python's
`random.Random({repeated_seed})`, row after row), then the same n tokens again. *Copied* is the second
half without its first token, which nothing announces. *Previous token* is the mean attention weight
on the token before, over every position but the first; *induction* is the mean weight, from the
second half, on the token after the earlier occurrence. Each names the head with the largest mean.

| n | loss, first half | loss, second half | loss, copied | previous token | induction |
|---|---|---|---|---|---|
{repeated}

### Next tokens

The five likeliest tokens after a prompt, with their probabilities.

| prompt | next tokens |
|---|---|
{prompts}

The second and the third differ in who gives, and the model answers Mary to both: the logit of ` Mary` is
{john_gives:.2f} and {mary_gives:.2f} above that of ` John`. It repeats the name that came first; it has not
understood that nobody gives a drink to themselves, and is no model of that kind of sentence.

The first of these prompts, continued with the likeliest token each time, until the model ends the text
or has added {continued} tokens:

```text
{continuation}
```

## Making it again

```sh
python -m tests.opt_mini.make --out DIR
```

It took about {minutes} minutes on two cores shared with other work. Seeds are fixed and PyTorch's
deterministic algorithms are used: the same versions on the same kind of processor give the same
weights.

## Licence

MIT, as txinspect itself.
"""


def _head(head: Head) -> str:
    return f"{head.weight:.2f} (layer {head.layer}, head {head.head})"


def _repeated(figures: RepeatedFigures) -> str:
    return (
        f"| {figures.length} | {figures.first:.3f} | {figures.second:.3f} | {figures.copied:.3f} "
        f"| {_head(figures.previous)} | {_head(figures.induction)} |"
    )


def _prompt(figures: PromptFigures) -> str:
    tokens = ", ".join(f"`{token}` {chance:.2f}" for token, chance in figures.likeliest)
    return f"| `{figures.prompt}` | {tokens} |"


def card(figures: Figures, minutes: int) -> str:
    """Return the model card, in Markdown; `minutes` is what training took."""
    story = figures.stories
    spans = (
        f"| loss at positions {first} to {last} | {loss:.3f} |"
        for (first, last), loss in zip(SPANS, story.spans, strict=True)
    )
    return CARD.format(
        length=LENGTH,
        parameters=figures.parameters,
        size=figures.size,
        windows=WINDOWS,
        held_out=HELD_OUT_SEED,
        training=BIGRAM_STORIES,
        bigram=story.bigram,
        loss=story.loss,
        below=100 * (1 - story.loss / story.bigram),
        spans="\n".join(spans),
        previous=_head(story.previous),
        rows=REPEATED_ROWS,
        low=ORDINARY[0],
        high=ORDINARY[1] - 1,
        repeated_seed=REPEATED_SEED,
        repeated="\n".join(_repeated(row) for row in figures.repeated),
        prompts="\n".join(_prompt(row) for row in figures.prompts),
        john_gives=figures.differences[0],
        mary_gives=figures.differences[1],
        continued=CONTINUED,
        continuation=figures.continuation,
        minutes=minutes,
    )
