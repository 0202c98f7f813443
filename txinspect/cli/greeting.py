"""What the program says when it is asked nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_START = """\
See what happens inside a Hugging Face transformer, from the shell.

These run now, on the small models that come with txinspect:
  txinspect attn --layer 0             where each token of the first layer looks
  txinspect attn -m transformer-mini --cross --layer 1   word beside word
  txinspect tokenize "your own text"   how a text becomes tokens
  txinspect tree                       the modules, their shapes and parameters

Your own model: add -m DIR or a Hub id, as in
  txinspect attn --layer 0 -m facebook/opt-125m
'txinspect serve &' keeps a process that answers the next ones at once.
"""

EXAMPLES = (
    "txinspect attn --layer 0",
    'txinspect tokenize "your own text"',
    "txinspect tree facebook/opt-125m",
)
"""What stands in the short list of commands."""

_END = "txinspect help COMMAND says more about each."


def greeting(groups: Mapping[str, Sequence[str]]) -> str:
    """The greeting where nothing is asked, 80 columns in ASCII: what to try first, then a line per command group."""
    width = max(map(len, groups))
    lines = [f"  {group:{width}}  {', '.join(names)}" for group, names in groups.items()]
    return "\n".join([_START, *lines, "", _END, ""])
