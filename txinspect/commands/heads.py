"""What kind of head each one is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from txinspect.commands.command import Command, Themed
from txinspect.errors import UsageError, spelled
from txinspect.indices import Layers
from txinspect.option import Option
from txinspect.queries import LESSON, EditedQuery
from txinspect.records import Record, TensorsReport, doc
from txinspect.value_checks import check_one_of

Weighting = Literal["value", "output"]

Kind = Literal["previous", "next", "induction", "duplicate", "first", "self", "broad"]

NUMBERS: dict[Kind, str] = {
    "induction": "induction",
    "duplicate": "duplicate",
    "previous": "previous",
    "next": "next_token",
    "self": "self_token",
    "first": "first_token",
    "broad": "relative_entropy",
}
"""The number of a head that tells whether it is of a kind; of several kinds the first is drawn."""


@dataclass(frozen=True, kw_only=True)
class HeadsQuery(EditedQuery["HeadsReport"]):
    """Say what kind of head each one is: previous or next token, induction, duplicate, first token, self, broad."""

    instead_of_text = ("ids", "user", "random")

    layers: Annotated[
        Layers, Option("-l/--layer", "Layers to look at, such as 0,2-3 or -1; all if not given.", "N")
    ] = None
    encoder: Annotated[bool, Option("--encoder", "Of an encoder–decoder: the encoder's heads, not the decoder's.")] = (
        False
    )
    random: Annotated[
        bool, Option("--random", "In the place of a text: random tokens, repeated, after the first special token.")
    ] = False
    length: Annotated[int, Option("--length", "With --random: tokens in a copy.", "N")] = 50
    repeats: Annotated[int, Option("--repeats", "With --random: copies.", "R")] = 2
    seed: Annotated[int, Option("--seed", "With --random: what the tokens are drawn with.", "S")] = 0
    weighted: Annotated[
        Weighting | None,
        Option(
            "--weighted",
            "Weigh by what is moved: the length of each value, or of its output.",
            "HOW",
        ),
    ] = None

    @property
    def layers_asked(self) -> Layers:
        """See EditedQuery."""
        return () if self.encoder else self.layers

    def too_long(self, most: int) -> str:
        """See EditedQuery."""
        return f"lower {spelled('length')} or {spelled('repeats')}" if self.random else super().too_long(most)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("weighted", self.weighted, (*get_args(Weighting), None))
        if self.layers == ():
            raise UsageError(f"{spelled('layers')} chooses none", "name at least one, or omit it for all")
        if self.length < 2 or self.repeats < 2:
            name, value = ("length", self.length) if self.length < 2 else ("repeats", self.repeats)
            raise UsageError(f"{spelled(name)} {value} repeats nothing", "give 2 or more")
        read = ("ids", "pair", "masks", "chat", "src_lang", "max_tokens")
        others = [name for name in read if getattr(self, name) != getattr(HeadsQuery, name)]
        if self.random and others:
            raise UsageError(
                f"{spelled(others[0])} and {spelled('random', True)} cannot be combined: it runs on random tokens"
            )
        if self.random and self.text != LESSON:
            raise UsageError(f"a text and {spelled('random', True)} cannot be combined: it runs on random tokens")
        given = [name for name in _OF_RANDOM if getattr(self, name) != getattr(HeadsQuery, name)]
        if given and not self.random:
            raise UsageError(
                f"{spelled(given[0])} is about random tokens", f"add {spelled('random', True)}, or omit it"
            )


_OF_RANDOM = ("length", "repeats", "seed")


class KindRecord(Record, frozen=True, kw_only=True):
    """What one head does, as means over the queries."""

    layer: Annotated[int, doc("The layer.")]
    head: Annotated[int, doc("Head index.")]
    run: Annotated[int, doc("Which of the layer's attentions in a pass it is, from 1; most layers have only one.")]
    previous: Annotated[float | None, doc("Weight on the token before; null for a text of one token.")]
    next_token: Annotated[
        float | None, doc("Weight on the token after, where queries see it (Clark et al. 2019); else null.")
    ]
    duplicate: Annotated[float | None, doc("With --random: weight on the same token in the copy before; else null.")]
    induction: Annotated[float | None, doc("With --random: weight on the token after that one; else null.")]
    entropy: Annotated[float | None, doc("Entropy of the weights, in nats.")]
    relative_entropy: Annotated[
        float | None, doc("Entropy over that of even weights on the keys seen: ln(t + 1), or ln(n); from query 1 on.")
    ]
    distance: Annotated[float | None, doc("Sum of weight · |query - key|, in tokens.")]
    first_token: Annotated[float | None, doc("Weight on key 0, from query 1 on.")]
    self_token: Annotated[float | None, doc("Weight on the query's own token, from query 1 on.")]
    special: Annotated[float | None, doc("Weight on special tokens.")]
    labels: Annotated[list[Kind], doc("The kinds that it is one of: those of which its number is at least a half.")]


class SinkRecord(Record, frozen=True, kw_only=True):
    """A key that many heads rest on."""

    key: Annotated[int, doc("Key index.")]
    share: Annotated[float, doc("Share of heads whose mean weight on it, over the queries that see it, is above 0.3.")]


class HeadsReport(TensorsReport, frozen=True, kw_only=True):
    """Report of `heads`."""

    command: Annotated[Literal["heads"], doc("The command that made the report.")]  # type: ignore[assignment]
    stack: Annotated[
        Literal["encoder", "decoder"] | None, doc("Whose heads they are; null where the model has one stack.")
    ]
    heads: Annotated[list[KindRecord], doc("Every head of the layers asked for.")]
    sinks: Annotated[list[SinkRecord], doc("Keys that at least one head rests on, the largest share first.")]
    copies: Annotated[int | None, doc("Tokens in a copy, with --random; else null.")]


COMMAND = Command(
    "heads",
    HeadsQuery,
    HeadsReport,
    examples=(
        "txinspect heads",
        "txinspect heads --random --length 25 --repeats 4",
        "txinspect heads --random --json | jq -c '.heads[] | select(.induction > 0.5) | [.layer, .head, .induction]'",
    ),
    view=Themed,
    more=(
        "A(t, k) is the weight of query t on key k; each number is a mean over the queries. previous: A(t, t-1); "
        "first: A(t, 0); self: A(t, t); special: the sum over special tokens; entropy in nats, and relative to "
        "ln(t + 1), or to ln(n) where a query sees all n keys, as in an encoder; there also next: A(t, t+1) (Clark et "
        "al. 2019); distance: the sum of A(t, k) · |t - k|. With --random, over the later copies of n tokens: "
        "duplicate A(t, t-n), induction A(t, t-n+1) (Olsson et al. 2022; other programs score t-n). A sink is a key "
        "that a share of all heads gives more than 0.3 on average (Gu et al. 2025). A label is "
        "a number of at least a half, of broad 0.9."
    ),
)
