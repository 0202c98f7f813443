"""Where a model runs."""

from __future__ import annotations

from txinspect.errors import InspectError, spelled
from txinspect.model_choice import DEVICE_MAPS, ModelChoice


def device_for(choice: ModelChoice) -> str:
    """The torch device that a choice runs on. Raises InspectError for one that this machine does not have."""
    import torch

    if choice.device_map not in (None, *DEVICE_MAPS):
        _check_there("device_map", str(choice.device_map))
    if choice.device == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    _check_there("device", choice.device)
    return choice.device


def _check_there(field: str, device: str) -> None:
    """Raise InspectError for a torch device that this machine does not have; `field` is where it was named."""
    import torch

    kind, _, number = device.partition(":")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InspectError(f"device {device!r} is unavailable: torch finds no CUDA device; use {spelled(field, 'cpu')}")
    if kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        raise InspectError(
            f"device {device!r} is unavailable: CUDA devices are counted from 0, and torch finds "
            f"{torch.cuda.device_count()}"
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise InspectError(
            f"device {device!r} is unavailable: torch finds no Metal device; use {spelled(field, 'cpu')}"
        )
