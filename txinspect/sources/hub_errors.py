"""What goes wrong with the Hub, as a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from txinspect.errors import SourceError, first_line, spelled
from txinspect.sources.bundled_models import alternatives, bundled_models, cached_models
from txinspect.sources.hub_answers import guarded, unclear


@dataclass(frozen=True)
class Asked:
    """What was asked of the Hub."""

    id: str
    """Of the repository."""
    revision: str | None = None
    offline_because: tuple[str, str] | None = None
    """Why the Hub is not asked, and what to do about that; None where it is."""
    adapter: str | None = None
    """The adapter whose base model it is; None if the model was asked for itself."""

    @property
    def name(self) -> str:
        """The Hub's repository that was asked, in a sentence about an error."""
        of = f", the base model of the adapter {self.adapter!r}," if self.adapter is not None else ""
        return f"{self.id!r}{of}"

    @property
    def placed(self) -> str:
        """The Hub's repository at its revision, in a sentence about an error."""
        return self.name + (f" at revision {self.revision!r}" if self.revision else "")

    @property
    def otherwise(self) -> str:
        """What to give in place of what the Hub does not have, at the end of an error's sentence."""
        return alternatives(self.id, [*bundled_models(), *cached_models()])


@contextmanager
def as_source_error(asked: Asked) -> Iterator[None]:
    """Turn an error of the Hub, which huggingface_hub raises, into one sentence."""
    try:
        with guarded(asked.id):
            yield
    except SourceError:
        raise
    except Exception as error:
        raise _translated(asked, error) from error


def _translated(asked: Asked, error: Exception) -> SourceError:
    """An error of the Hub as ours: what is wrong, and what to do."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return SourceError(
            f"{asked.name} needs its owner's permission",
            "ask for it on its Hub page, then log in with 'hf auth login'",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return SourceError(
            f"{asked.name} on the Hub has no revision {asked.revision!r}", f"check {spelled('revision')}"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return SourceError(f"there is no model {asked.name} here or on the Hub (or it is private)", asked.otherwise)
    if isinstance(error, errors.LocalEntryNotFoundError):
        return _not_here(asked, error.__cause__)
    if isinstance(error, errors.HFValidationError):
        return SourceError(f"{asked.name} is neither a directory nor a Hub id", asked.otherwise)
    failed: Any = (OSError, errors.HTTPError, errors.RevisionResolutionError)  # type: ignore[attr-defined]
    if isinstance(error, failed):
        said = str(error).splitlines()[0].strip().rstrip(":") if str(error).strip() else ""
        return SourceError(f"{asked.placed} could not be fetched from the Hub: {said or type(error).__name__}")
    if isinstance(error, UserWarning):  # of a disk that is too small
        return SourceError(f"{asked.placed} could not be fetched from the Hub: {first_line(error)}")
    return SourceError(unclear(asked.id, error))  # whatever an answer that is none leads to


def _not_here(asked: Asked, cause: BaseException | None) -> SourceError:
    """The error that says why what is not in the local cache could not be had from the Hub."""
    from huggingface_hub import errors

    lacks = f"{asked.placed} is not in the local cache"
    if isinstance(cause, errors.HfHubHTTPError):
        return SourceError(f"{lacks}, and the Hub answered with status {cause.response.status_code}", "try again later")
    if asked.offline_because is not None:
        why, next_step = asked.offline_because
        return SourceError(f"{lacks}, and {why}", f"{next_step}, or {asked.otherwise}")
    if isinstance(cause, (errors.FileMetadataError, ValueError)):
        return SourceError(unclear(asked.id, cause))
    return SourceError(f"{lacks} and the Hub cannot be reached", f"check the network, or {asked.otherwise}")
