"""What each step of `lesson` says: a title, sentences, a small table, all from the facts of the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import exp

from txinspect.commands.lesson import (
    HeadKindRecord,
    LessonReport,
    PositionRecord,
    ScoredKeyRecord,
    StreamRecord,
    WorkingHeadRecord,
)
from txinspect.render.content.heads import WHERE
from txinspect.render.spelling import number, percent, token_text, visible
from txinspect.render.tables import Cell, Column, Line, Row, Table, Words, bar, cell, line, numbers
from txinspect.wording import counted

MOST = 10
"""Rows of a table in a step at most."""

KEYS, COPIED = 6, 7
"""Tokens that are looked at in a table; those that are copied."""

SMALL = 0.02
"""Relative error below which a sum counts as what it should be: half precision rounds."""


@dataclass(frozen=True)
class Told:
    """A step as it is told."""

    title: str
    sentences: Sequence[str] = ()
    tables: Sequence[Table] = ()
    last: Sequence[str] = field(default_factory=list)
    """Sentences under the table."""


def parts(report: LessonReport) -> Iterator[Table | Line]:
    """All that `lesson` shows, step by step: titles, sentences, tables, command lines."""
    for each in report.steps:
        if report.step in (None, each.step):
            yield from _step(report, each.step)


def _step(report: LessonReport, number_of_step: int) -> Iterator[Table | Line]:
    known = next(each for each in report.steps if each.step == number_of_step)
    title, tell = _STEPS[number_of_step]
    told = tell(report) if known.missing is None else _missing(title, known.missing)
    yield Line([Words(f"{number_of_step} · {told.title}", "name")])
    if told.sentences:
        yield line(" ".join(told.sentences))
    yield from told.tables
    if told.last:
        yield line(" ".join(told.last))
    yield Line([Words("shown by: ", "dim"), Words(visible(known.line), "text")])


def is_title(part: Line) -> bool:
    """Whether a line of the lesson is the title of a step."""
    return bool(part.words) and part.words[0].tone == "name"


def _missing(title: str, why: str) -> Told:
    return Told(title, [f"There is nothing to show here: {visible(why)}."])


def _named(report: LessonReport, index: int) -> str:
    """A token of the lesson by its text."""
    return token_text(report.input.main.tokens[index])


def _spelled(values: Sequence[float]) -> str:
    """The first numbers of a vector of the lesson."""
    return "  ".join(number(each, 3) for each in values)


def _plain(*texts: str) -> Row:
    return Row([cell(each) for each in texts])


def _more(shown: int, count: int, what: str) -> list[Line]:
    """The line of the lesson that says how many rows are left out."""
    return [line(f"and {counted(count - shown, what)} more", "dim")] if count > shown else []


def _tokens(report: LessonReport) -> Told:
    text = report.input.main
    size = report.model.vocab_size
    listed = f"a fixed list of {size:,}" if size else "a fixed list"
    sentences = [
        f"A model reads no letters. A tokenizer cuts the text into tokens, words or pieces of words from {listed}, and "
        "each token stands for a number, its id. From here on the model knows only these ids."
    ]
    if report.input.decoder is not None:
        sentences.append(
            "This model has two halves: an encoder that reads one text, and a decoder that writes another, token by "
            "token. Below is what the decoder has written so far; this tour follows it."
        )
    words = [token_text(each) for each in text.tokens]
    if any("␣" in each for each in words):
        sentences.append("␣ is a blank: it belongs to the token.")
    special = next((token_text(each) for each in text.tokens if each.special), None)
    if special is not None:
        sentences.append(f"{special} is a special token: it stands for no word, and marks a place such as the start.")
    count = min(len(words), MOST if report.input.decoder is None else KEYS)
    rows = [
        Row([cell(str(each.index)), cell(word, "token"), cell(str(each.id))])
        for each, word in zip(text.tokens[:count], words, strict=False)
    ]
    columns = [*numbers("place"), Column("token"), *numbers("id")]
    return Told("Tokens", sentences, [Table(columns, [*rows, *_more(count, len(words), "token")])])


def _embedding(report: LessonReport) -> Told:
    found = report.embedding
    assert found is not None
    name = _named(report, found.position)
    many = f" of {found.rows:,}" if found.rows else ""
    sentences = [
        f"Each id picks a row of a large table: {found.width:,} numbers, called the token's embedding. Such a list of "
        f"numbers is a vector. They were learned: nobody wrote them, and training moved them until the predictions "
        f"were good. Here is row {found.id:,}{many}, of the token {name}. The length of a vector is one number for how "
        "large it is: the root of the sum of all squares."
    ]
    row = _plain(name, str(found.id), f"{_spelled(found.first)}  …", f"{found.width:,}", number(found.norm, 3))
    columns = [Column("token"), *numbers("id"), Column("first numbers"), *numbers("numbers", "length")]
    return Told("Embedding", sentences, [Table(columns, [row])])


_POSITIONS = {
    "learned": "Here each place in the text has a vector of its own, which was learned, too. It is added to the "
    "embedding, number by number.",
    "sinusoid": "Here each place in the text has a vector made of sine and cosine waves, as in the paper of 2017 that "
    "began all this. It is added to the embedding, number by number.",
    "rotary": "Here nothing is added to the embedding. Instead the vectors q and k of step 4 are turned, like hands of "
    "clocks, the further the later the token stands (rotary positions). How well two fit then depends on how far "
    "apart they are. The cosines of the first angles:",
    "alibi": "Here nothing is added to the embedding. Instead, in step 5, a token loses points the further away it is: "
    "so many for each place (ALiBi). Each head, which step 6 explains, has a number of its own for this, its slope:",
    "relative": "Here nothing is added to the embedding. Instead, in step 5, a number for how far apart two tokens are "
    "is added to their score. The model learned or computed these numbers.",
    "none": "Here nothing is added to the embedding.",
}


def _positions(report: LessonReport) -> Told:
    found = report.positions
    assert found is not None
    sentences = [
        "A token has the same embedding wherever it stands, and steps 4 to 8 alone would not notice if the words were "
        "shuffled: 'dog bites man' would be 'man bites dog'. So the model has to be told the order.",
        _POSITIONS[found.kind],
    ]
    if found.kind == "none" and found.why is not None:
        sentences.append(f"{visible(found.why[:1].upper() + found.why[1:])}.")
    return Told("Positions, and why", sentences, [_numbers_of(report, found)] if found.first else [])


def _numbers_of(report: LessonReport, found: PositionRecord) -> Table:
    """The table of the lesson's positions: the first numbers."""
    if found.kind in ("learned", "sinusoid", "rotary"):
        row = _plain(str(found.position), _named(report, found.position), f"{_spelled(found.first)}  …")
        return Table([*numbers("place"), Column("token"), Column("first numbers")], [row])
    what = "slope of head" if found.kind == "alibi" else "first numbers"
    heads = [f"{what} {index}" for index in range(len(found.first))] if found.kind == "alibi" else [what]
    values = [number(each, 3) for each in found.first] if found.kind == "alibi" else [_spelled(found.first)]
    return Table([Column(each) for each in heads], [_plain(*values)])


def _score(report: LessonReport) -> Told:
    found = report.head
    assert found is not None
    query, key = _named(report, found.query), _named(report, found.key)
    at = next(each for each in found.keys if each.key == found.key)
    sentences = [
        "Now the tokens look at each other: this is attention. Three new vectors are made of each token's: a query q, "
        "what it looks for; a key k, what others find it by; and a value v, what it hands over. The score says how "
        "well one token's q fits another's k: multiply number by number, and add it all up.",
        f"A model does this many times over, in layers (step 9) with heads (step 6), counted from 0. Head {found.head} "
        f"of layer {found.layer} does it with {counted(found.size, 'number')}: {query} at place {found.query} looks at "
        f"{'itself' if found.query == found.key else f'{key} at place {found.key}'}.",
    ]
    rows: list[Row | Line] = [
        _plain(str(index + 1), number(q, 3), number(k, 3), number(q * k, 3))
        for index, (q, k) in enumerate(zip(found.q, found.k, strict=True))
    ]
    if found.size > len(found.q):
        rest = at.product - sum(q * k for q, k in zip(found.q, found.k, strict=True))
        rows.append(_plain("…", f"{found.size - len(found.q)} more", "", number(rest, 3)))
    rows.append(Row([cell("sum"), cell(""), cell(""), cell(number(at.product, 4))], "strong"))
    rows.append(_plain("", "", "× scale", number(found.scale, 4)))
    if not found.plain:
        rows.append(_plain("", "", "+ more", number(at.score - found.scale * at.product, 3)))
    rows.append(Row([cell(""), cell(""), cell("score"), cell(number(at.score, 4))], "strong"))
    columns = numbers("number", f"q of {query}", f"k of {key}", "q × k")
    last = [f"The value v that {key} hands over begins {_spelled(found.v)} …"]
    if not found.plain:
        last.insert(0, "'more' is what this model does to its scores besides.")
    return Told("q, k, v, and a score by hand", sentences, [Table(columns, rows)], last)


def _softmax(report: LessonReport) -> Told:
    found = report.head
    assert found is not None
    query, middle = _named(report, found.query), _named(report, found.middle)
    sentences = [
        _scale(found),
        f"Mask: {middle} at place {found.middle} may not see the {counted(len(found.hidden), 'token')} after it. "
        "Predicting what comes next would be no work if one could look."
        if found.hidden
        else "Mask: there is none here. In this model each token sees all others, also those after it.",
        "Softmax: e, which is 2.718…, is raised to each score, and divided by the sum of all these. So scores become "
        "weights, which are never below 0 and add up to 1: shares of one look.",
        f"Where {query} looks:",
    ]
    if any(each.added is not None for each in found.keys):
        sentences.insert(1, "Distance: the number that step 3 spoke of is added.")
    added = any(each.added is not None for each in found.keys)
    top = max(each.score + (each.added or 0.0) for each in _seen(found))
    chosen = sorted(sorted(_seen(found), key=lambda each: -each.weight)[:KEYS], key=lambda each: each.key)
    rows = [
        Row(
            [
                cell(str(each.key)),
                cell(_named(report, each.key), "token"),
                cell(number(each.score, 3)),
                *([cell(number(each.added, 3))] if added else []),
                cell(number(exp(each.score + (each.added or 0.0) - top), 2)),
                cell(percent(each.weight), value=each.weight),
                bar(each.weight, 1.0),
            ]
        )
        for each in chosen
    ]
    power = numbers("for distance", "e^(both - top)") if added else numbers("e^(score - top)")
    columns = [*numbers("place"), Column("token"), *numbers("score"), *power, *numbers("weight"), Column("")]
    more = _more(len(chosen), len(_seen(found)), "token")
    return Told(
        "Scale, mask, softmax",
        sentences,
        [Table(columns, [*rows, *more])],
        [_besides(report)] if found.apart > SMALL else [],
    )


def _scale(found: WorkingHeadRecord) -> str:
    """How the lesson's sum becomes a score."""
    if found.scale != 1:
        return (
            f"Scale: the sum was multiplied by {number(found.scale, 3)}, so that adding many numbers gives no larger "
            f"score."
        )
    usual = "Scale: most models make the sum smaller, so that adding many numbers gives no larger score. "
    if found.apart > SMALL:
        return f"{usual}In this score that is not done yet."
    return f"{usual}Here it is multiplied by 1: q was made small enough before."


def _besides(report: LessonReport) -> str:
    """Why the lesson's weights are not the softmax of what is listed."""
    assert report.head is not None
    listed = any(each.added is not None for each in report.head.keys)
    if report.positions is not None and report.positions.kind == "relative" and not listed:
        return (
            "Before the softmax this model adds a number to each score that it makes of q and of how far apart the two "
            "tokens are (step 3), anew in each layer. These are not listed, so the weights are not the softmax of the "
            f"scores alone: that is up to {percent(report.head.apart)} away."
        )
    return "This model does more to its scores, so that its weights are not the softmax of these alone."


def _seen(found: WorkingHeadRecord) -> list[ScoredKeyRecord]:
    """The keys of the lesson that the query sees."""
    return [each for each in found.keys if each.seen]


def _heads(report: LessonReport) -> Told:
    layer = f" {report.heads[0].layer}" if report.heads else ""
    count = len(report.heads)
    sentences = [
        "What a token gets from a head is the sum of the values v, each times its weight. A layer has several heads "
        f"side by side, {counted(count, 'head')} here, each with a q, k and v of its own, so that they can look at "
        f"different things at once. What the heads of layer{layer} look at the most, with their mean weight on it:"
    ]
    rows = [Row([cell(str(each.head)), cell(WHERE[each.kind]), *_share(each)]) for each in report.heads[:MOST]]
    columns = [*numbers("head"), Column("looks at"), *numbers("weight"), Column("")]
    return Told("Heads", sentences, [Table(columns, [*rows, *_more(len(rows), count, "head")])])


def _share(head: HeadKindRecord) -> list[Cell]:
    """A head's weight on what it looks at, in the lesson: a number and a bar; none where it looks at all."""
    return [cell(""), cell("")] if head.kind == "broad" else [cell(percent(head.share)), bar(head.share, 1.0)]


def _stream(report: LessonReport) -> Told:
    found = report.stream
    assert found is not None
    name = _named(report, found.position)
    if found.attention is None:
        sentences = [
            "In this layer no attention adds to a token: something else mixes the tokens. Its result, too, is "
            "added to what the token had before. This running sum is called the residual stream."
        ]
    else:
        sentences = [
            f"What the heads give is mixed into one vector of {found.width:,} numbers, and added to what the token had "
            "before. The parts of a model do not replace a vector, they add to it. This running sum is called the "
            "residual stream.",
        ]
    if found.cross is not None:
        sentences.append(
            "Then comes the paper's second attention, cross-attention: q is the decoder's, but k and v are made of the "
            "encoder's text. So the writer looks at what it translates."
        )
    sentences.append(f"The vector of {name} in layer {found.layer}, by its length:")
    rows = [("enters the layer", found.before), ("+ attention", found.attention)]
    rows += [("+ cross-attention", found.cross)] if found.attention is not None else [("leaves", found.after)]
    last = []
    if not _is_plain(found):
        last = ["This model also rescales the sum, or what is added, on the way: that is called a norm."]
    elif found.sum is not None:
        rows.append(("= the sum", found.sum))
        last = ["Vectors point in different directions, so lengths do not add up as numbers do; the vectors do."]
    return Told("Output and residual stream", sentences, [_lengths(rows)], last)


def _is_plain(found: StreamRecord) -> bool:
    """Whether the lesson's layer adds its parts as they are."""
    return found.error is None or found.error <= SMALL


def _lengths(rows: Sequence[tuple[str, float | None]]) -> Table:
    """A table of the lesson with lengths of vectors, and bars."""
    known = [(name, value) for name, value in rows if value is not None]
    top = max(value for _, value in known)
    made = [Row([cell(name), cell(number(value, 3)), bar(value, top)]) for name, value in known]
    return Table([Column("vector"), *numbers("length"), Column("")], made)


def _mlp(report: LessonReport) -> Told:
    found = report.stream
    assert found is not None
    wide = f" to {found.inner:,}" if found.inner is not None else ""
    sentences = [
        "Attention carries something from token to token. The second half of a layer, the MLP, works on each token "
        f"alone: a table of weights widens its vector of {found.width:,} numbers{wide}, a simple function bends each "
        f"of them, and a second table makes {found.width:,} of them again. Much that a model knows is in these tables. "
        "The result is added to the stream, too."
    ]
    rows = [("the stream so far", found.sum if _is_plain(found) else None), ("+ MLP", found.mlp)]
    return Told("MLP", sentences, [_lengths([*rows, ("leaves the layer", found.after)])], _adds_up(found))


def _adds_up(found: StreamRecord) -> list[str]:
    """What the lesson says of whether the parts make what leaves the layer."""
    if found.error is None:
        return ["Not all parts of this layer are known by themselves, so the sum cannot be checked here."]
    if found.error > SMALL:
        return ["What leaves is not the plain sum: this model rescales it, or its parts, on the way (a norm)."]
    return [f"Added up by hand, the parts make what leaves the layer; the difference is {percent(found.error)}."]


def _layers(report: LessonReport) -> Told:
    count = sum(each.layer >= 0 for each in report.layers)
    sentences = [
        f"A layer is what steps 4 to 8 showed. This model has {counted(count, 'layer')}, one after the other, and each "
        "reads what those before it left in the stream. What if the model had to answer early? Each row takes the "
        "stream after a layer straight to the last step, as if no other layer came (this is called the logit lens)."
    ]
    own = report.input.main.tokens[-1].id
    if report.layers[0].guess.id == own != report.layers[-1].guess.id:
        sentences.append("At first it holds the last token itself; layer by layer it turns into what comes next.")
    step = -(-len(report.layers) // MOST)
    shown = report.layers[(len(report.layers) - 1) % step :: step]
    rows = [
        Row(
            [
                cell("enters" if each.layer < 0 else str(each.layer)),
                cell(_guess(each.guess.text, each.guess.id), "token"),
                cell(percent(each.guess.prob), value=each.guess.prob),
                bar(each.guess.prob, 1.0),
            ]
        )
        for each in shown
    ]
    columns = [*numbers("layer"), Column("likeliest"), *numbers("probability"), Column("")]
    return Told("Layers", sentences, [Table(columns, [*rows, *_more(len(shown), len(report.layers), "row")])])


def _guess(text: str | None, row: int) -> str:
    return f"row {row}" if text is None else visible(text, spaces=True)


def _predicted(report: LessonReport) -> Told:
    found = report.predicted
    assert found is not None
    size = f"each of the {report.model.vocab_size:,} tokens" if report.model.vocab_size else "each token"
    if found.kind == "label":
        where = "This model was made to put a text into a class: its last part gives a logit for each label."
    elif found.kind == "mask":
        own = found.masked is not None and f" For this step a token was masked, at place {found.masked}."
        where = f"This model fills blanks: it says which token belongs at a mask.{own or ''}"
    else:
        where = (
            "That is all a model gives. To write a text, one of the likely tokens is taken and put behind it, and "
            f"everything runs again. The likeliest after {_named(report, found.position or 0)}:"
        )
    sentences = [
        f"After the last layer, the vector is compared with a vector for {size}: one number each, its logit. The "
        "softmax of step 5 makes probabilities of them."
        if found.kind != "label"
        else "After the last layer, numbers called logits are made; the softmax of step 5 makes probabilities of them.",
        where,
    ]
    rows = [
        Row(
            [
                cell(_guess(each.text, each.id), "token"),
                cell(percent(each.prob), value=each.prob),
                bar(each.prob, 1.0),
            ]
        )
        for each in found.top
    ]
    columns = [Column("label" if found.kind == "label" else "token"), *numbers("probability"), Column("")]
    return Told("Logits", sentences, [Table(columns, rows)])


def _off(report: LessonReport) -> Told:
    found = report.off
    assert found is not None
    count = len(found.tokens)
    if found.part == "head":
        title = "Switch off a head"
        sentences = [
            f"Does a head matter? Take {count + 1} tokens at random and write them twice. No one can guess the first "
            "copy; in the second, the model can copy what followed last time, the token that the present one stood "
            f"before. For that it has to know which token stood before each, and head {found.head} of layer "
            f"{found.layer} looks there the most. The second copy with that head as it is, and with what it gives 0:",
        ]
    else:
        title = "Switch off the cross-attention"
        sentences = [
            "Does the cross-attention matter? Let the decoder read its own text again, and ask how likely each of its "
            "tokens was: once as the model is, and once with what all its cross-attentions give set to 0, so that it "
            "no longer sees the text that it translates:",
        ]
        written = [each.id for each in report.input.main.tokens[1:]]
        if [each.id for each in found.tokens] != written:
            sentences.insert(0, "Its text is read from its letters here, which gives other tokens than it wrote.")
    shown = found.tokens[: MOST if count <= COPIED else KEYS]
    rows: list[Row | Line] = [
        Row([cell(_guess(each.text, each.id), "token"), cell(percent(each.on)), cell(percent(each.off))])
        for each in shown
    ]
    rows += _more(len(shown), count, "token")
    mean: list[Cell] = [cell("on average"), cell(percent(exp(found.on))), cell(percent(exp(found.off)))]
    rows.append(Row(mean, "strong"))
    table = Table([Column("token"), *numbers("probability, on", "probability, off")], rows)
    return Told(title, sentences, [table], [_verdict(report)])


def _verdict(report: LessonReport) -> str:
    """What the last step of the lesson comes to."""
    found = report.off
    assert found is not None
    on, off = percent(exp(found.on)), percent(exp(found.off))
    what = "copying" if found.part == "head" else "translating"
    numbers_said = (
        f"{on} on average with it, {off} without (the mean is that of the logarithms: {number(found.on, 3)} and "
        f"{number(found.off, 3)})"
    )
    if exp(found.on) < 0.1:
        does = "copy" if found.part == "head" else "write"
        return f"This model does not {does} such a text to begin with: {numbers_said}."
    if found.on - found.off > 1:
        return f"Without it {what} dies: {numbers_said}."
    return f"Here {what} goes on without it: {numbers_said}. Other parts do the same."


_STEPS: dict[int, tuple[str, Callable[[LessonReport], Told]]] = {
    1: ("Tokens", _tokens),
    2: ("Embedding", _embedding),
    3: ("Positions, and why", _positions),
    4: ("q, k, v, and a score by hand", _score),
    5: ("Scale, mask, softmax", _softmax),
    6: ("Heads", _heads),
    7: ("Output and residual stream", _stream),
    8: ("MLP", _mlp),
    9: ("Layers", _layers),
    10: ("Logits", _predicted),
    11: ("Switch off a part", _off),
}
