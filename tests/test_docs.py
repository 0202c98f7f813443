"""README and manual are true: commands run and print what they show, Python runs, tables and pictures are generated.

UPDATE_GOLDEN=1 writes outputs and pictures anew.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jq
import pytest
from rich.cells import cell_len
from typer.testing import Result

import txinspect
from tests.conftest import UPDATE_GOLDEN
from txinspect import AttnQuery
from txinspect.cli.manual import TOPICS
from txinspect.commands import LISTED
from txinspect.render.content.terms import TERMS
from txinspect.render.terminal import pictures
from txinspect.stages import STAGES

pytestmark = pytest.mark.half

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES_OF_THE_MANUAL = ROOT / "txinspect" / "manual"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BARS = set("▁▂▃▄▅▆▇█▏▎▍▌▋▊▉░▒▓")

RunCli = Callable[..., Result]


@dataclass(frozen=True)
class Example:
    """A command of a page and the output under it."""

    page: Path
    command: str
    output: str


def examples(page: Path) -> Iterator[Example]:
    for block in BLOCK.findall(page.read_text()):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield Example(page, command, output)


PAGES = [README, *sorted(PAGES_OF_THE_MANUAL.glob("*.md"))]
EXAMPLES = [example for page in PAGES for example in examples(page)]


def run(command: str, run_cli: RunCli) -> str:
    """What a shell would print for `txinspect … | jq … | head -N`."""
    first, *filters = [shlex.split(part) for part in re.split(r" \| (?=jq |head )", command)]
    assert first[0] == "txinspect"
    result = run_cli(*first[1:])
    assert result.exit_code == 0, result.stderr
    output = result.stdout
    for name, *arguments in filters:
        output = _jq(output, arguments) if name == "jq" else _head(output, arguments)
    return output


def _jq(text: str, arguments: list[str]) -> str:
    options, program = set(arguments[:-1]), arguments[-1]
    assert options <= {"-c", "-r"}
    values = jq.compile(program).input_text(text).all()
    if "-r" in options:
        return "".join(f"{value}\n" for value in values)
    layout: dict[str, Any] = {"separators": (",", ":")} if "-c" in options else {"indent": 2}
    return "".join(json.dumps(value, ensure_ascii=False, **layout) + "\n" for value in values)


def _head(text: str, arguments: list[str]) -> str:
    return "".join(text.splitlines(keepends=True)[: -int(arguments[0])])


def same(shown: str, printed: str) -> bool:
    """Equal but for the last digits of numbers and the bars, which differ a little between processors."""
    left, right = shown.split(), printed.split()
    return len(left) == len(right) and all(map(_same_word, left, right))


def _same_word(left: str, right: str) -> bool:
    if left == right or (set(left) <= BARS and set(right) <= BARS):
        return True
    numbers = r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?"
    if re.sub(numbers, "#", left) != re.sub(numbers, "#", right):
        return False
    pairs = zip(re.findall(numbers, left), re.findall(numbers, right), strict=True)
    return all(abs(float(a) - float(b)) <= 0.02 * abs(float(a)) + 0.01 for a, b in pairs)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.page.stem}: {example.command}")
def test_examples_print_what_is_shown(
    example: Example, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for each in written_before(example):
        run(each, run_cli)
    printed = run(example.command, run_cli)
    if UPDATE_GOLDEN:
        _rewrite(example, printed)
        return
    assert same(example.output, printed), printed


def written_before(example: Example) -> list[str]:
    """The examples of its page that write a file which it reads, by `-o FILE`."""
    others = [each.command for each in EXAMPLES if each.page == example.page and each.command != example.command]
    files = {each: re.findall(r" -o (\S+)", each) for each in others}
    return [each for each, written in files.items() if any(file in example.command for file in written)]


def _rewrite(example: Example, printed: str) -> None:
    text = example.page.read_text()
    clean = "".join(line.rstrip() + "\n" for line in printed.splitlines())
    assert f"$ {example.command}\n{example.output}" in text
    example.page.write_text(text.replace(f"$ {example.command}\n{example.output}", f"$ {example.command}\n{clean}", 1))


PYTHON = {
    "edits": ["Edited: layers.0.attention.context[head=1] = 0: not the model's own pass."],
    "README": ["layers.1.attention.weights (1, 4, 5, 5)"],
    "python": [
        "(1, 4, 5, 5) ['batch', 'head', 'query', 'key']",
        "layers.1.attention.weights [1, 1, 5, 5]",
        "(5, 128)",
        "16 0 0 ",
    ],
}
"""What each page's Python prints, among other things."""


def test_python_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    for page in PAGES:
        sources = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
        assert len(sources) == len(PYTHON.get(page.stem, []))
        for source, printed in zip(sources, PYTHON.get(page.stem, []), strict=True):
            exec(compile(source, page.name, "exec"), {})
            assert printed in capsys.readouterr().out


def test_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 200
    assert max(map(len, re.sub(r"^\|.*", "", README.read_text(), flags=re.MULTILINE).splitlines())) <= 130


def test_pages_link_to_what_is_there() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


# Tables of the manual


def of_stages() -> str:
    """The stages by what the program knows of them: a list, so that no name is cut on a narrow terminal."""
    rows = []
    for stage in STAGES:
        theirs = [
            f"{tool}: {', '.join(f'`{name}`' for name in names)}"
            for tool, names in (("Hugging Face", stage.hugging_face), ("TransformerLens", stage.transformer_lens))
            if names
        ]
        said = ". ".join([f"{stage.meaning}", *theirs])
        rows.append(f"- `{stage.template}` ({' '.join(stage.axes)}): {said}")
    return "\n".join(rows) + "\n"


def of_terms() -> str:
    """The glossary, of what is seen on a screen."""
    rows = ["| on the screen | what it says | of |", "|---|---|---|"]
    for term in TERMS:
        of = "all that read a text" if len(term.commands) > 7 else ", ".join(dict.fromkeys(term.commands))
        rows.append(f"| {term.word.replace('|', chr(92) + '|')} | {term.meaning.replace('|', chr(92) + '|')} | {of} |")
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize(("topic", "table"), [("names", of_stages), ("terms", of_terms)])
def test_tables_of_the_manual_are_generated(topic: str, table: Callable[[], str]) -> None:
    page = PAGES_OF_THE_MANUAL / f"{topic}.md"
    above, _, below = page.read_text().partition("## Table\n\n")
    if UPDATE_GOLDEN:
        page.write_text(f"{above}## Table\n\n{table()}")
        return
    assert below == table()


# The manual in a terminal


def test_every_topic_is_a_page_and_no_command() -> None:
    assert {*TOPICS} == {page.stem for page in PAGES_OF_THE_MANUAL.glob("*.md")}
    assert not {*TOPICS} & {*LISTED, "schema", "help", "env"}


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_page_is_drawn(topic: str, width: int, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    result = run_cli("help", topic)
    assert result.exit_code == 0, result.stderr
    assert max(map(cell_len, result.stdout.splitlines())) <= width
    text = (PAGES_OF_THE_MANUAL / f"{topic}.md").read_text()
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        assert heading in " ".join(result.stdout.split())
    assert "##" not in result.stdout
    assert "```" not in result.stdout


def test_an_unknown_topic(run_cli: RunCli) -> None:
    refused = run_cli("help", "nothing")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "neither a command nor a page of the manual" in refused.stderr
    assert "tutorial" in refused.stderr


def test_set_up_commands_are_the_two_that_ci_runs() -> None:
    section = README.read_text().split("## Set up\n")[1].split("\n## ")[0]
    commands = re.findall(r"^```sh\n(.*?)\n```$", section, re.MULTILINE | re.DOTALL)
    assert len(commands) == 2
    assert "README.md" in (ROOT / ".ci" / "run").read_text()


def test_the_first_command_shows_the_diagonal_of_head_1_on_a_screen_of_24_lines(run_cli: RunCli) -> None:
    """Such a terminal keeps the last 23 lines above its prompt."""
    (first,) = re.findall(r"\.venv/bin/txinspect (.*)\n```", README.read_text().split("This one installs")[0])
    lines = run_cli(*shlex.split(first)).stdout.splitlines()[-23:]
    assert max(map(len, lines)) <= 80
    (title,) = [line for line in lines if "head 1" in line and "head 3" in line]
    start = title.index("head 1")
    rows = [line for line in lines if re.match(r" {2}\d ", line)]
    shown = [line[start : start + 10] for line in rows]
    assert len(shown) == 10
    assert [row.index("█") for row in shown] == [0, *range(9)]  # each token looks at the one before


def test_every_command_is_in_the_readme() -> None:
    from txinspect.cli.app import app

    text = README.read_text()
    names = [str(command.name) for command in app.registered_commands]
    assert names
    assert [name for name in names if f"txinspect {name}" not in text] == []


REPEATED = "The red fox and the old bear. The red fox and the old bear."
PICTURES = {"attn": AttnQuery(heads=(0, 1, 3)), "attn-induction": AttnQuery(text=REPEATED, layer=1, heads=(3,))}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_what_is_drawn(name: str) -> None:
    report = txinspect.inspect(PICTURES[name])
    picture = pictures.svg(report, None, width=92, name=name)
    path = ROOT / "tests" / "golden" / f"{name}.svg"
    if UPDATE_GOLDEN:
        path.write_text(picture)
    shown = re.findall(r">([^<>]+)</text>", path.read_text())
    drawn = re.findall(r">([^<>]+)</text>", picture)
    assert same(" ".join(shown), " ".join(drawn))


def test_the_manuals_figure_is_what_is_drawn() -> None:
    from txinspect.render.figures import figure

    query = AttnQuery(text="The quick brown fox jumps over the lazy dog", layer=1, heads=(0, 1))
    drawn = figure(txinspect.inspect(query), "svg", None).decode()
    path = ROOT / "tests" / "golden" / "figure.svg"
    if UPDATE_GOLDEN:
        path.write_text(drawn)
    words = [re.findall(r">([^<>]+)</text>", each) for each in (path.read_text(), drawn)]
    assert words[0]
    assert same(*(" ".join(each) for each in words))
