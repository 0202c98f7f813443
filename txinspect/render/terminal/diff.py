"""Two ways of running: where they part in a line, how far they are apart stage by stage, what it changes."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.diff import DiffReport, StageDiffRecord
from txinspect.render.terminal import tensors
from txinspect.render.terminal.frame import Frame, frame
from txinspect.render.terminal.glyphs import bar, number, plain, token_text, visible
from txinspect.render.terminal.heading import input_lines, model_line
from txinspect.stages import layer_of, part_of
from txinspect.wording import predicted, some_of

MOST = 60
"""Stages that are listed; of more, those of the layers' outputs and outside of them."""

BAR = 16

FINDINGS = "bold green"
"""Style of the line that says where the sides part, which may be what one hoped for."""

FLOOR = 1e-8
"""Where the bars begin: they are of the logarithm."""


def draw(report: DiffReport, console: Console) -> RenderableType:
    """The finding, the stages, the predictions."""
    parts: list[RenderableType] = []
    if report.against is not None:
        parts.append(Text("against ", style="bold").append_text(model_line(report.against)))
    if report.given is not None and report.way != "against":
        what = report.way.removeprefix("against_")
        parts.append(Text(f"against {what} ", style="bold").append_text(plain(report.given, "italic not bold")))
    parts += [*input_lines(report.input), Text(), _stages(report, console.width), Text(_tolerance(report), style="dim")]
    if report.logits is not None:
        parts += [Text(), _logits(report)]
    if report.changed:
        parts += [Text(), _changed(report)]
    for names, side in ((report.only_this, "this side"), (report.only_other, "the other side")):
        if names:
            parts.append(Text(f"only on {side}, or in another shape: {visible(some_of(names, 6))}", style="yellow"))
    if report.checks is not None:
        parts += [Text(), tensors.checked(report.checks)]
    return Group(*parts)


def _tolerance(report: DiffReport) -> str:
    if report.noise is None:
        return f"tolerance {number(report.tolerance, 3)}, as asked"
    return f"tolerance {number(report.tolerance, 3)}, 3 times the noise of this side against itself"


def _stages(report: DiffReport, width: int) -> Frame:
    shown = report.stages
    title = None
    if len(shown) > MOST:
        shown = [each for each in shown if layer_of(each.name) is None or _is_output(each)]
        title = f"{len(shown)} of {len(report.stages)} stages; --stage chooses others, --json has all"
    isolated = any(each.isolated_rel_l2 is not None for each in shown)
    table = frame(title)
    table.add_column("stage")
    for name in ("relative L2", *(("isolated",) if isolated else ()), "cosine", "largest"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for each in shown:
        first = each.name == report.first_divergence
        cells = [number(each.rel_l2, 3)]
        cells += [number(each.isolated_rel_l2, 3)] if isolated else []
        cells += [number(each.cosine, 6), number(each.max_abs, 3)]
        table.add_row(plain(each.name, "bold red" if first else "bold"), *cells, Text(_bar(each), style="cyan"))
        if each.nan:
            table.add_line(Text(f"  {each.nan:,} numbers that are not finite", style="bold red"))
    return table


def _is_output(stage: StageDiffRecord) -> bool:
    """Whether it is a layer's output, of whichever run."""
    return part_of(stage.name).partition("#")[0] == "output"


def _bar(stage: StageDiffRecord) -> str:
    """The logarithm of the distance, from FLOOR to 1."""
    from math import log10

    if not stage.rel_l2 or stage.rel_l2 <= FLOOR:
        return ""
    return bar(min(0.0, log10(stage.rel_l2)) - log10(FLOOR), -log10(FLOOR), BAR)


def _logits(report: DiffReport) -> Text:
    logits = report.logits
    assert logits is not None
    ratio = logits.ln_perplexity_ratio
    of_perplexity = "" if ratio is None else f" · ln perplexity ratio {number(ratio, 3)}"
    same = f"same {predicted(report.model.task)} token {logits.same_top1:.0%}{of_perplexity}"
    return Text(
        f"KL of the predictions in nats: mean {number(logits.kl_mean, 3)}, median {number(logits.kl_median, 3)}, "
        f"99 % {number(logits.kl_p99, 3)}, largest {number(logits.kl_max, 3)} · {same}"
    )


def _changed(report: DiffReport) -> Frame:
    table = frame(f"{predicted(report.model.task)} tokens that change")
    table.add_column("at" if report.model.task == "masked-lm" else "after")
    table.add_column("this side")
    table.add_column("other side")
    for each in report.changed:
        place = report.input.main.tokens[each.position]
        words = [plain(None if word is None else visible(word, spaces=True), "green") for word in (each.from_, each.to)]
        table.add_row(Text(f"{each.position} {token_text(place)}"), *words)
    return table
