"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp


@contextmanager
def written_whole(path: Path, before_replacing: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """Write a file whole: a temporary one beside `path` takes its place when the block ends well, else it is removed.

    `before_replacing` looks once more at what stands there, and raises what is to keep it there.

    Raises OSError if the folder cannot be written.
    """
    # A name may be as long as a file system takes it; that of the temporary file is longer.
    descriptor, name = mkstemp(prefix=f".{path.name[:40]}.", dir=path.parent)
    os.close(descriptor)
    partial = Path(name)
    try:
        yield partial
        before_replacing()
        partial.chmod(0o666 & ~_umask())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _umask() -> int:
    """The process's file mode mask for a file that is written, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
