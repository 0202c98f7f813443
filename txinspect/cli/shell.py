"""The command `shell`: the commands without the program's name, on a model that stays."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from txinspect.cli import again, completing, streams
from txinspect.cli.asking import INTERRUPTED, About, code_of, filled, printing, system
from txinspect.cli.environment import current, is_terminal, replaced
from txinspect.cli.line import OWN, Line
from txinspect.cli.output_options import Color, Quiet, Verbose, choose_output
from txinspect.errors import InspectError, UsageError
from txinspect.model_choice import DEFAULT_MODEL, ModelChoice
from txinspect.queries import LESSON
from txinspect.serving.protocol import APART

if TYPE_CHECKING:
    from txinspect.serving.held import Held

_SAME = {"?": "help", "quit": "exit"}

_SIGNS = {
    "!COMMAND": "have the system's shell run a command",
    "… | COMMAND": "hand what a line prints to a command of the system's shell",
    "… > FILE": "write what a line prints to a file; >> to its end",
}

_BEGIN = "attn --layer 0 asks about it; help says more, exit leaves.\n"


def shell(
    ctx: typer.Context,
    model: Annotated[
        str,
        typer.Option(
            *("-m", "--model"),
            help="The model that stays, and is asked about where a line names none.",
            metavar="MODEL",
            envvar="TXINSPECT_MODEL",
            autocompletion=completing.models,
        ),
    ] = DEFAULT_MODEL,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run the Python files that come with the model.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    color: Color = "auto",
) -> None:
    """Answer commands that are typed without the program's name, on a model that stays; a script may be piped in."""
    from txinspect.serving.held import Held

    here = current()
    is_script = not (is_terminal(here.stdin) and is_terminal(here.stdout))
    output = choose_output(False, quiet, verbose, color)
    root = ctx.find_root()
    colored = f"--color={color}" if color != "auto" else None
    asking = Shell(lambda words: root.obj["run"](words), root.command, Held(), About(model), is_script, output, colored)
    asking.take(ModelChoice(name=model, trust_remote_code=trust_remote_code))
    if trust_remote_code:
        asking.about = replace(asking.about, trusted=model)
    with again.keeping(asking.last):
        if is_script:
            asking.answer_all(here.stdin.buffer if here.stdin is not None else ())
        else:
            asking.talk()
    raise typer.Exit(asking.failed if is_script else 0)


@dataclass
class Shell:
    """The shell as it is between two lines."""

    run: Callable[[list[str]], None]
    """Runs a command line, and exits."""
    app: Any
    held: Held
    about: About
    is_script: bool
    output: streams.Output
    color: str | None = None
    """The option for colours that each line begins with."""
    last: again.Last = field(default_factory=again.Last)
    status: int = 0
    """The exit code of the last line."""
    failed: int = 0
    """That of the last line that failed."""

    def talk(self) -> None:
        """Ask for lines at a terminal, and answer each, until there are no more."""
        from txinspect.cli.prompting import prompting

        if not self.output.quiet:
            streams.say(f"The model is {self.about.model}: {_BEGIN}")
        ask = prompting(self.app, lambda: self.about, self.held)
        here = current()
        home = here._replace(variables=dict(here.variables))
        while True:
            try:
                typed = ask(self.prompt)
                with replaced(home):  # an interrupt may have left others
                    if not self.answer(typed):
                        return
            except KeyboardInterrupt:
                continue
            except EOFError:
                return

    @property
    def prompt(self) -> str:
        """What stands before a line: the model, and the exit code of the last line where it failed."""
        name = Path(self.about.model).name or self.about.model
        return f"{name} [{self.status}]> " if self.status else f"{name}> "

    def answer_all(self, lines: Iterable[bytes]) -> None:
        """Answer the lines of a script, until one leaves."""
        for typed in lines:
            if not self.answer(typed.decode("utf-8", "surrogateescape")):
                return

    def answer(self, typed: str) -> bool:
        """Answer a line; returns whether another may follow. Nothing that a line does ends the shell but leaving."""
        typed = typed.strip()
        if not typed or typed.startswith("#"):
            return True
        try:
            if typed.startswith("!"):
                self.status = system(typed[1:], is_script=self.is_script)
            else:
                line = Line.read(typed)
                if line.words[:1] in (("exit",), ("quit",)):
                    return False
                self.status = self._answered(line)
        except KeyboardInterrupt:
            self.status = INTERRUPTED
        except InspectError as error:
            streams.complain(error.said())
            self.status = error.exit_code
        except Exception as error:
            streams.complain(f"unexpected {type(error).__name__}: {error}; the shell goes on")
            self.status = 1
        if self.status == INTERRUPTED:
            self.held.interrupted()
        self.failed = self.status or self.failed
        return True

    def _answered(self, line: Line) -> int:
        """The exit code of a line: its command's, or else that of what it is handed on to."""
        words = list(line.words[1:] if line.words[:1] == ("txinspect",) else line.words)
        name = _SAME.get(words[0], words[0]) if words else "help"
        if name in APART:
            raise UsageError(f"{name} stays by itself", "leave the shell first, or ask in another terminal")
        with printing(line, is_script=self.is_script) as codes:
            try:
                code = self._run(name, words[1:])
            except typer.Exit as ended:  # nobody reads what it prints any more
                code = ended.exit_code
        return code or next(iter(codes), 0)

    def _run(self, name: str, rest: list[str]) -> int:
        """The exit code of a command, or of what the shell does itself."""
        if name == "text" or name == "model":
            self._choose(name, rest)
            return 0
        if name == "help" and not rest:
            streams.say(_help(self.app))
            return 0
        if name == "_":
            return self._draw_again(rest)
        asked = filled(self.app, [name, *rest], self.about)
        self.last.words = asked
        return self._ask(asked)

    def _ask(self, words: list[str]) -> int:
        """The exit code of a command line; how all lines are shown stands before it, where it does not say."""
        color = [self.color] if self.color and not any(each.startswith("--color") for each in words) else []
        said = [name for name, is_said in (("-q", self.output.quiet), ("-v", self.output.verbose)) if is_said]
        with self.held.asked():
            return code_of(self.run, [*color, *said, *words])

    def _draw_again(self, others: list[str]) -> int:
        """Draw the last report again."""
        if self.last.report is None:
            raise UsageError("there is no report yet", "ask for one first, such as attn --layer 0")
        at = next(at for at, word in enumerate(self.last.answered) if word in self.app.commands)
        name, own = self.last.answered[at], self.last.answered[at + 1 :]
        self.last.is_drawn_again = True
        try:
            return self._ask([name, *again.words_again(self.app.built(name), own, others)])
        finally:
            self.last.is_drawn_again = False

    def _choose(self, what: str, words: list[str]) -> None:
        """Take another text or model to ask about, or show which it is."""
        if len(words) > 1:
            raise UsageError(f"{what} takes one word and got {len(words)}", "put quotes around it")
        if not words:
            text = self.about.text if self.about.text is not None else f"{LESSON}  (the lesson's: none was given)"
            streams.say(f"{self.about.model if what == 'model' else text}\n")
        elif what == "text":
            self.about = replace(self.about, text=words[0] or None)
        else:
            self.take(ModelChoice(name=words[0], trust_remote_code=words[0] == self.about.trusted))

    def take(self, choice: ModelChoice) -> None:
        """Have another model stay. Raises InspectError, and has the former one, where that cannot be."""
        with replaced(current()), streams.reserved(), streams.progress(self.output) as told:
            self.held.take(choice, told.notify, told.progress)
        self.about = replace(self.about, model=choice.name)


def _help(app: Any) -> str:
    """What a line may be."""
    import textwrap

    rows = [*OWN.items(), *_SIGNS.items()]
    width = max(len(name) for name, _ in rows)
    names = "  ".join(name for name in app.commands if name not in APART and name not in OWN)
    return "\n".join(
        [
            "A line is a command with its options, without the program's name:",
            *textwrap.wrap(names, 78, initial_indent="  ", subsequent_indent="  "),
            "or",
            *(f"  {name:{width}}  {what}" for name, what in rows),
            "",
        ]
    )
