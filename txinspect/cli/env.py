"""What a bug report needs to know: versions, the machine, the terminal, the variables that change what is done."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from txinspect.cli import appearance
from txinspect.cli.environment import current, encoding, is_terminal, size
from txinspect.cli.installed import Package, is_within, packages, tested_python
from txinspect.version import __version__, untested

VARIABLES = (
    *("TXINSPECT_MODEL", "TXINSPECT_THEME", "TXINSPECT_CACHE"),
    *("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"),
    *("HF_ENDPOINT", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "COLORTERM", "COLORFGBG", "TTY_COMPATIBLE"),
    *("PAGER", "LESS", "COLUMNS", "LINES", "LANG", "LC_ALL", "LC_CTYPE"),
    *("PYTHONPATH", "PYTHONUTF8", "PYTHONIOENCODING", "TMPDIR"),
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ATEN_CPU_CAPABILITY", "CUDA_VISIBLE_DEVICES", "TORCHDYNAMO_DISABLE"),
)
"""Those that change what txinspect or its libraries do."""

MASK = "***"


@dataclass(frozen=True, kw_only=True)
class Processor:
    """What computes."""

    name: str | None
    architecture: str
    cores: int | None
    """That this process may use; torch takes as many threads as OMP_NUM_THREADS says where that is set."""
    avx512: bool | None
    """Whether it has AVX-512; None where the system does not tell."""


@dataclass(frozen=True, kw_only=True)
class Terminal:
    """What a drawing would be written to."""

    term: str | None
    """The variable TERM."""
    is_terminal: bool
    """Whether stdout is one."""
    columns: int
    lines: int
    encoding: str
    colors: str | None
    """The colours that stdout gets: standard, 256 or truecolor; None for none."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """All of it."""

    schema_version: int = 1
    txinspect: str = __version__
    command: str = "env"
    notes: list[str]
    """Versions that txinspect was not tested with."""
    python: str
    platform: str
    processor: Processor
    packages: list[Package]
    terminal: Terminal
    variables: dict[str, str]
    """Those of VARIABLES that are set. Of a token only that it is, and no user or password of an address."""


def surroundings() -> Surroundings:
    """What surrounds the program now; torch is not imported."""
    found = packages()
    return Surroundings(
        notes=list(_notes(found)),
        python=f"{platform.python_version()} ({platform.python_implementation()})",
        platform=platform.platform(),
        processor=_processor(),
        packages=found,
        terminal=_terminal(),
        variables=_variables(),
    )


def drawn(seen: Surroundings) -> str:
    """The same as lines of text, to be pasted."""
    from txinspect.render.spelling import visible

    processor, terminal = seen.processor, seen.terminal
    avx512 = {True: "AVX-512", False: "no AVX-512", None: "AVX-512 unknown"}[processor.avx512]
    cores = f"{processor.cores} cores" if processor.cores != 1 else "1 core"
    kind = (terminal.term or "TERM is not set") if terminal.is_terminal else "not a terminal"
    rows = [
        ("txinspect", seen.txinspect),
        ("Python", seen.python),
        ("platform", seen.platform),
        ("processor", " · ".join([processor.name or processor.architecture, cores, avx512])),
        *((each.name, _of_package(each)) for each in seen.packages),
        (
            "terminal",
            f"{kind} · {terminal.columns} × {terminal.lines} · {terminal.encoding} · {terminal.colors or 'no'} colors",
        ),
        *seen.variables.items(),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:{width}}  {visible(value) or '(empty)'}" for name, value in rows]
    return "\n".join([*lines, *(["", *map(visible, seen.notes)] if seen.notes else []), ""])


def _of_package(package: Package) -> str:
    if package.version is None:
        return "not installed"
    build = f" ({package.build})" if package.build and "+" not in package.version else ""
    return f"{package.version}{build}" + (f" · not in {package.tested}" if package.is_tested is False else "")


def _notes(found: list[Package]) -> Iterator[str]:
    newer = untested()
    if newer:
        yield newer
    python, wanted = platform.python_version(), tested_python()
    if wanted and not is_within(python, wanted):
        yield f"Python {python} is not in {wanted}, which txinspect was tested with"
    for each in found:
        if each.is_tested is False and not (newer and each.name == "transformers"):
            yield f"{each.name} {each.version} is not in {each.tested}, which txinspect was tested with"


def _processor() -> Processor:
    try:
        said = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        said = ""
    name = re.search(r"^model name\s*:\s*(.+)$", said, re.MULTILINE)
    features = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", said, re.MULTILINE)
    affinity = getattr(os, "sched_getaffinity", None)
    return Processor(
        name=name[1] if name else platform.processor() or None,
        architecture=platform.machine(),
        cores=len(affinity(0)) if affinity else os.cpu_count(),
        avx512="avx512f" in features[1].split() if features else None,
    )


def _terminal() -> Terminal:
    from rich.console import Console

    here = current()
    columns, lines = size()
    return Terminal(
        term=here.variables.get("TERM"),
        is_terminal=is_terminal(here.stdout),
        columns=columns,
        lines=lines,
        encoding=encoding(here.stdout),
        colors=_colors(Console(**appearance.settings())),
    )


def _colors(console: object) -> str | None:
    system: str | None = getattr(console, "color_system", None)
    return None if getattr(console, "no_color", False) else system


def _variables() -> dict[str, str]:
    here = current().variables
    return {name: masked(name, here[name]) for name in VARIABLES if name in here}


def masked(name: str, value: str) -> str:
    """A variable's value without what is secret: a token, a user and a password in an address, what is asked of it."""
    if name.endswith("_TOKEN"):
        return "set" if value else ""
    value = re.sub(r"\bhf_\w{8,}", MASK, value)
    if name.upper().endswith(("_PROXY", "ENDPOINT")):
        # Without a scheme, too: user:password@proxy:3128.
        value = re.sub(r"^(\w+://)?.*@", rf"\g<1>{MASK}@", value, flags=re.DOTALL)
        return re.sub(r"([?#]).*", rf"\g<1>{MASK}", value, flags=re.DOTALL)
    return re.sub(r"(\w+://).*@", rf"\g<1>{MASK}@", value, flags=re.DOTALL)
