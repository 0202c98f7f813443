"""What transformers says, kept off the terminal or turned into one sentence."""

from __future__ import annotations

import logging
import os
import pickle
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO

from txinspect.errors import InspectError, SourceError, first_line
from txinspect.guards.blame import is_foreseen
from txinspect.guards.cache import writable_cache
from txinspect.version import untested

# Where the package kernels is installed, transformers fetches native code and runs it: for the types of some models,
# for stored quantizations, for .gguf files. Nobody asked for it, and its numbers differ: it is as if it were not here.
sys.modules.setdefault("kernels", None)  # type: ignore[arg-type]

_MOST_SAID = 5
"""Messages that an error takes along."""


@contextmanager
def as_source_error(
    what: str, refused: Callable[[], str] | None = None, blame: Callable[[], str | None] = lambda: None
) -> Iterator[None]:
    """Turn what transformers raises into one sentence that says what could not be done.

    `refused` says it of a file of pickles that torch does not open.
    `blame` looks for what is at fault where only a library's words are known.
    """
    try:
        yield
    except InspectError:
        raise
    except pickle.UnpicklingError as error:
        raise SourceError(refused() if refused is not None else f"{what}: {first_line(error)}") from error
    except Exception as error:
        # A name that is not where it was is a matter of versions, not of packages.
        if isinstance(error, ImportError) and "cannot import name" not in str(error):
            raise SourceError(f"{what}: a package is missing ({first_line(error)})") from error
        newer = untested()
        found = blame()
        reason = f"{found} ({first_line(error)})" if found else first_line(error)
        raise SourceError(f"{what}: {reason}{f' ({newer})' if newer else ''}") from error
    except BaseException as error:
        if not is_foreseen(error):
            raise
        raise SourceError(f"{what}: the library that reads it panicked ({first_line(error)})") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' warnings and progress bars off the terminal: txinspect says what matters itself.

    An error that is raised while it is open takes with it what was said before, for the traceback of -v.
    """
    # torch's compiler makes a folder when it is imported: in the cache, not among the temporary files for ever.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(writable_cache("inductor") or _somewhere()))
    from transformers.utils import logging as transformers_logging

    # bitsandbytes warns of optional kernels whenever it is imported.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    logger, heard = logging.getLogger("transformers"), _Heard()
    handlers, bars = logger.handlers, transformers_logging.is_progress_bar_enabled()
    logger.handlers = [heard]
    transformers_logging.disable_progress_bar()
    try:
        # Some bars, such as that of GGUF, know no switch.
        with warnings.catch_warnings(record=True) as warned, redirect_stderr(StringIO()):
            warnings.simplefilter("always")
            yield
    except Exception as error:
        said = dict.fromkeys([*heard.messages, *(str(each.message) for each in warned)])
        for message in list(said)[:_MOST_SAID]:
            error.add_note(f"before it, a library said: {message}")
        raise
    finally:
        logger.handlers = handlers
        if bars:
            transformers_logging.enable_progress_bar()


def _somewhere() -> str:
    """A folder that transformers' code finds: making it again fails nowhere, not even where nothing can be written."""
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        return os.sep


class _Heard(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message that transformers logs, off the terminal."""
        self.messages.append(record.getMessage())
