"""The drawing of `pos`: its tensors, and what was read for them."""

from txinspect.render.terminal.tensors import draw, then

__all__ = ["draw", "then"]
