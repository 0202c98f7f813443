"""Where a model runs."""

from __future__ import annotations

from txinspect.errors import InspectError, spelled
from txinspect.queries import ModelChoice


def device_for(choice: ModelChoice) -> str:
    """The torch device to run on. Raises InspectError for one that this machine does not have."""
    import torch

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if choice.device == "auto":
        return "cuda" if cuda else "mps" if mps else "cpu"
    kind, _, number = choice.device.partition(":")
    if kind == "cuda" and not cuda:
        raise InspectError(
            f"device {choice.device!r} is unavailable: torch finds no CUDA device; use {spelled('device', 'cpu')}"
        )
    if kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        raise InspectError(
            f"device {choice.device!r} is unavailable: CUDA devices are counted from 0, and torch finds "
            f"{torch.cuda.device_count()}"
        )
    if kind == "mps" and not mps:
        raise InspectError(f"device 'mps' is unavailable: torch finds no Metal device; use {spelled('device', 'cpu')}")
    return choice.device
