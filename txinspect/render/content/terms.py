"""A glossary of the words on every screen: what stands in columns, on maps, in findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from txinspect.render.tables import Column, Row, Table, cell

OF_TENSORS = ("embed", "pos", "attn", "run")
OF_TEXTS = ("tokenize", "embed", "pos", "attn", "logits", "lens", "heads", "run", "diff")


@dataclass(frozen=True)
class Term:
    """A word on a screen, and what it means there."""

    word: str
    meaning: str
    commands: Sequence[str]
    """Those whose screens it stands on."""


TERMS = (
    Term("token, text", "a piece of the text as the vocabulary has it, and decoded; ␣ is a blank", OF_TEXTS),
    Term("index, id", "a token's place in the text, from 0; its number in the vocabulary", OF_TEXTS),
    Term("characters", "where in the text a token stands: first and beyond the last (how many)", ("tokenize",)),
    Term("special", "yes: the tokenizer put it there, or it stands for no text", ("tokenize",)),
    Term("module, class", "a part of the model by its dotted path, and its Python class", ("tree",)),
    Term("0–23 ×24", "equal neighbours in one line: numbers are those of all", ("tree", "params")),
    Term("tied to", "the same tensor as another, counted there", ("tree", "diagram")),
    Term("│, ▼", "the residual stream, from the text down; what all of it passes through", ("diagram",)),
    Term("├─▶, ◇", "what reads the stream, and what reads neither it nor the line above", ("diagram",)),
    Term("⊕ adds", "what is added to the stream, and the shape of the sum", ("diagram",)),
    Term("of, +", "what a box reads in the place of the line above, and besides", ("diagram",)),
    Term("layers 0–3 ×4", "layers that are alike, drawn once: boxes, arrows, shapes, heads, windows", ("diagram",)),
    Term("as A, but for", "layers whose arrows are those of A: the boxes that differ", ("diagram",)),
    Term("in order", "all layers, each by the letter of its kind", ("diagram",)),
    Term("heads, for k, v, window", "query heads, those of keys and values, tokens that are seen", ("diagram",)),
    Term("params, share, bytes", "numbers in and below a module, of the whole, and their size as stored", ("tree",)),
    Term("stage", "a tensor of the pass by its one name on every architecture", ("stages", "diff", *OF_TENSORS)),
    Term("i", "the layers that the line stands for: put one in the place of {i}", ("stages",)),
    Term("supplied by, class", "the module that a stage is the input, output or inside of", ("stages",)),
    Term("absent, because", "stages that the model does not have, and why", ("stages",)),
    Term("about, note", "what to know of stages in this model", ("stages",)),
    Term(
        "shape, axes",
        "how many numbers along each axis, and what each axis counts",
        ("tree", "stages", "params", *OF_TENSORS),
    ),
    Term("dtype", "the type of the numbers, such as float16", ("tree", "params", *OF_TENSORS)),
    Term("mean ± std", "the mean, and the standard deviation of all numbers (population)", OF_TENSORS),
    Term("mean, std", "the mean, and the standard deviation of the numbers (population)", ("embed", "pos", "params")),
    Term("min … max", "the smallest and the largest number", ("params", *OF_TENSORS)),
    Term("values", "a histogram from the smallest to the largest number: the tallest bar is the most", OF_TENSORS),
    Term("norm", "the length of a vector or matrix: the root of the sum of squares", ("embed", "pos", "params")),
    Term(
        "text, cosine", "another text, and the cosine of the angle between its vector and that of the text", ("embed",)
    ),
    Term(
        "dot, euclidean, manhattan", "how alike two vectors are, in the model's own way; more is more alike", ("embed",)
    ),
    Term(
        "query, key, head",
        "a token that looks, a token that is looked at, one of a layer's ways of looking",
        ("attn", "heads"),
    ),
    Term("weight", "how much of a key's value a query takes: a row's weights sum to 1", ("attn",)),
    Term("×3.4", "weights are drawn so many times as bright as they are", ("attn",)),
    Term(
        "· ░ ▒ ▓ █",
        "shades: below .05 of the most, then one for each quarter; blank is masked; ? is no number",
        ("attn", "lens"),
    ),
    Term(
        "CLEAN, CORRUPT, gap", "the two texts of a patch, and how far the metric of one is from the other's", ("patch",)
    ),
    Term("restores, breaks", "the share of the gap that a part makes up, put into CORRUPT or into CLEAN", ("patch",)),
    Term("effect", "1 is as the text that the part is from, 0 as the text that it is put into", ("patch",)),
    Term("‖v‖, ‖h‖", "the norm of a vector, and the mean norm of what stands where it is added", ("steer",)),
    Term("of ‖h‖", "how long what is added is beside what stands there", ("steer",)),
    Term("agreement", "mean cosine of a vector with the differences of the pairs that it is made of", ("steer",)),
    Term("own, random", "the model's own text; what a random direction of the same norm comes to", ("steer",)),
    Term("rank", "1 for the likeliest token; 5 (+1): one other token has the same logit", ("logits", "lens")),
    Term("logit", "the model's score of a token, before the softmax", ("logits",)),
    Term("probability", "the softmax of the logits", ("logits", "lens")),
    Term("surprisal", "-ln of the probability that the text's own next token had, in nats", ("logits",)),
    Term(
        "entropy",
        "how undecided a prediction or a head is, in nats: 0 is sure, ln n even among n",
        ("logits", "lens", "heads"),
    ),
    Term("perplexity", "e to the mean surprisal: among how many tokens the model wavered", ("logits", "diff", "steer")),
    Term("bits per byte", "all surprisals in bits, over the bytes of what was predicted", ("logits",)),
    Term("log-prob, log-probability", "the sum of ln of the probabilities of all tokens", ("logits",)),
    Term(
        "tokens, per byte, greedy",
        "of a continuation: tokens, log-probability over bytes, was each the likeliest",
        ("logits",),
    ),
    Term("label", "a class that the model's head gives", ("logits",)),
    Term("pseudo-perplexity", "e to the mean surprisal of each token where it alone is masked", ("logits",)),
    Term("layer, enters", "what is read after each layer; enters: what goes into layer 0", ("lens",)),
    Term("likeliest", "what a layer would predict, by the model's own way to the logits", ("lens",)),
    Term(
        "first at, decided at",
        "the layer where the model's own prediction is the likeliest first; and from which on",
        ("lens",),
    ),
    Term("KL", "how far a prediction is from the model's own, KL(own ‖ this), in nats; 0 is equal", ("lens", "diff")),
    Term("kind, labels", "what a head does: a number of at least a half, of broad 0.9", ("heads", "attn")),
    Term("heads, as layer.head", "2.0 0.97: head 0 of layer 2, and its number", ("heads",)),
    Term("look at", "where heads of a kind look", ("heads",)),
    Term(
        "prev, next, self, first",
        "mean weight on the token before, the token after, itself, the first token",
        ("heads", "attn"),
    ),
    Term("induct, dupl", "mean weight on the token after the same one earlier; on that same one", ("heads",)),
    Term("even, broad", "entropy over that of even weights: 1 looks at all keys alike", ("heads", "attn")),
    Term("distance", "mean number of tokens between a query and what it looks at", ("heads",)),
    Term("special", "mean weight on special tokens, such as </s>", ("heads",)),
    Term("sinks", "keys that get more than 0.3 of a head's weight on average, and the share of heads", ("heads",)),
    Term("relative L2, rel. L2", "the length of the difference over that of this side", ("diff", "params")),
    Term("isolated", "relative L2 where a layer reads the same input on both sides", ("diff",)),
    Term("cosine", "the cosine of the angle between both sides: 1 is the same direction", ("diff", "params")),
    Term("largest, max |Δ|", "the largest difference between two numbers", ("diff", "params")),
    Term("tolerance", "how far apart is far: 3 times what this side differs from itself, or as asked", ("diff",)),
    Term("after, this side, other side", "the likeliest next token on both sides, where they differ", ("diff",)),
    Term("median, 99 %", "half of the positions, and all but 1 %, are below", ("diff",)),
    Term("ln perplexity ratio", "mean surprisal on the other side less that on this one, in nats", ("diff",)),
    Term("wrote", "what a part adds to the difference of two logits, with norms' scales frozen", ("why",)),
    Term("falls", "how much that difference falls without the part alone, set to its mean", ("why",)),
    Term("reads from", "tokens by weight times the length of the value, as a share of all", ("why",)),
    Term("tensor", "a stored parameter", ("params",)),
    Term("kurtosis", "how heavy the tails are beside a normal distribution, which has 0", ("params",)),
    Term(">6σ", "numbers farther than 6 standard deviations from the mean", ("params",)),
    Term("zeros, dead rows", "numbers that are 0; rows all of whose numbers are", ("params",)),
    Term("σ₁, stable rank", "the largest singular value; the squared norm over its square", ("params",)),
    Term(
        "same sign",
        "of the numbers that moved from the base on both sides, the share that moved the same way",
        ("params",),
    ),
    Term(
        "check, holds, what was compared",
        "a check that was asked for, whether it holds, its numbers",
        ("params", "diff", *OF_TENSORS),
    ),
    Term("model, type, layers", "a model's name for -m, its model_type, how many layers it has", ("models",)),
    Term("weights, from, folder", "how large its weight files are, and where they are", ("models",)),
    Term("file, from, size, tensors", "a weight file, where it is, its size, tensors that are used of it", ("plan",)),
    Term("to read", "bytes that a pass needs of a file", ("plan",)),
    Term("mapped", "read from disk page by page, as it is needed, and not held in memory", ("plan", *OF_TEXTS)),
)


def terms(command: str | None = None) -> Table:
    """The table of terms: those on a command's screens, or all of them."""
    shown = [term for term in TERMS if command is None or command in term.commands]
    rows = [Row([cell(term.word, "strong"), cell(term.meaning)]) for term in shown]
    return Table([Column("on the screen"), Column("what it says")], rows)
