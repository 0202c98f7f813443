"""The commands, in the order of the help: a new one is a line here.

Nothing of them is imported before it is asked for, so that their list costs nothing.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from txinspect.commands.command import Command
    from txinspect.queries import Query

Group = Literal["Text", "Model", "Run", "Cause", "Share", "Machines"]
"""The heading that a command stands under in the list of commands: what it looks at, or whom it is for."""


class Listed(NamedTuple):
    """What the list of commands says of one; all else is in its own module, which is imported when it is asked for."""

    group: Group
    sentence: str
    """What it does: the first line of its query's docstring."""


LISTED = {
    "tokenize": Listed("Text", "Show how a text becomes tokens: ids, stored tokens, decoded text, character spans."),
    "tree": Listed(
        "Model", "Show the module tree: classes, shapes, parameters, bytes; from the config alone, without weights."
    ),
    "stages": Listed(
        "Model", "List the stages of a model's forward pass, which module supplies each, and why others are absent."
    ),
    "diagram": Listed(
        "Model", "Draw the block diagram of a model: what a pass adds, norms and repeats, as traced without weights."
    ),
    "models": Listed(
        "Model",
        "List the models that need no network: those that come with txinspect, and those in the Hub's local cache.",
    ),
    "params": Listed(
        "Model",
        "Show statistics of the parameters, read from the weight files a piece at a time; compare two checkpoints.",
    ),
    "embed": Listed(
        "Run", "Show the token embeddings of a text, or the one vector that a sentence encoder makes of it."
    ),
    "pos": Listed("Run", "Show the position embeddings of a text, or what the model has in their place."),
    "attn": Listed(
        "Run", "Show layers' attention: a map per head, then input, q, k, v, scores, weights, context and output."
    ),
    "logits": Listed(
        "Run", "Show what comes next, or at masks: the likeliest tokens, how well the model knew the text, other texts."
    ),
    "lens": Listed(
        "Run",
        "Show what each layer would predict: the logit lens, the model's own way from its last layer to the logits.",
    ),
    "heads": Listed(
        "Run",
        "Say what kind of head each one is: previous or next token, induction, duplicate, first token, self, broad.",
    ),
    "diff": Listed(
        "Run", "Compare two ways of running a text, stage by stage, and say where they part and what it changes."
    ),
    "run": Listed("Run", "Run the model and show any stages of the pass, by name, glob or module path."),
    "ablate": Listed(
        "Cause",
        "Say what is lost without each head, attention, MLP or layer: each is replaced, and the predictions compared.",
    ),
    "patch": Listed(
        "Cause",
        "Say where a model holds what tells two texts apart: parts of one text's pass are put into the other's.",
    ),
    "attribute": Listed(
        "Cause",
        "Say which parts wrote a logit: embedding, positions, every head and MLP, biases, as a sum beside the model's.",
    ),
    "why": Listed(
        "Cause",
        "Say why the model says what it says: what came close, when it was decided, which parts wrote it, if it is so.",
    ),
    "steer": Listed(
        "Cause",
        "Make a vector that leads a model toward some texts and away from others, or try one on what it generates.",
    ),
    "page": Listed(
        "Share",
        "Write one page to look at in a browser: tokens, attention, kinds of heads, lens, stages; it needs no network.",
    ),
    "lesson": Listed(
        "Share",
        "Take a tour from text to prediction in steps, on any model and text: each with its numbers and its command.",
    ),
    "plan": Listed(
        "Machines",
        "Say what running a model up to some stages would read: files, bytes of disk, download, memory; load nothing.",
    ),
}

NAMES = tuple(LISTED)


@cache
def named(name: str) -> Command:
    """The command with a name in the list of commands."""
    found: Command = import_module(f"{__name__}.{name}").COMMAND
    return found


def command_of(query: Query[Any]) -> Command:
    """The command that a query asks. Raises TypeError for a query of none."""
    for kind in type(query).__mro__:
        for each in map(named, NAMES):
            if each.query is kind:
                return each
    if isinstance(query, type):
        raise TypeError(f"{query.__name__} is a class, and no query: give an instance of it")
    names = ", ".join(sorted(named(name).query.__name__ for name in NAMES))
    raise TypeError(f"{type(query).__name__} is not a query that txinspect answers: give one of {names}")
