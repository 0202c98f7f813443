"""The block diagram: its arrows held against plain passes of every type, and wrong drawings that do not hold."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from transformers import AutoConfig

from tests.making.diagrams import Check, Held, Seen, seen
from tests.making.models import BUILT_FROM_PART, Task, buildable_types, save_tiny, tiny_config, tiny_model
from tests.making.reports import drawn
from txinspect import DiagramQuery, InspectError, ModelChoice, inspect
from txinspect.anatomy import locating
from txinspect.anatomy.traced import Traced
from txinspect.answers.session import Session
from txinspect.commands.diagram import DiagramReport, DiagramView, EdgeRecord, NodeRecord, TiedRecord
from txinspect.forward.inputs import call
from txinspect.forward.remembered import Remembered
from txinspect.forward.wiring import trace
from txinspect.records import TaskName
from txinspect.render.content import diagram as content

pytestmark = pytest.mark.pairs

GOLDEN = Path(__file__).parents[1] / "golden" / "diagrams"

LENGTH = 10

OFTEN = (
    *("causal-lm-opt", "causal-lm-llama", "causal-lm-gptj", "causal-lm-gemma2", "causal-lm-bloom", "causal-lm-mamba"),
    *("causal-lm-xlm", "causal-lm-xlnet", "causal-lm-qwen3_next", "causal-lm-falcon_h1", "causal-lm-granitemoehybrid"),
    *("masked-lm-bert", "masked-lm-albert", "masked-lm-squeezebert", "seq2seq-lm-t5", "seq2seq-lm-marian"),
)
"""The types that the tests take by default, one at least of every kind; `-m sweeps` takes the others."""

NOT_DRAWN = {
    "blt": "its pass cannot be traced",  # how long a patch is depends on the text's entropy
    "dbrx": "its pass cannot be traced",  # an expert of none stands for padding
    "jetmoe": "its pass cannot be traced",  # tokens are sorted by experts, in Python
    "dory": "times in a pass",
    "hrm_text": "times in a pass",
    "inkling2_loop_text": "times in a pass",
}
"""Types that are refused, each with what its sentence says."""


def kinds() -> list[Any]:
    tasks: tuple[Task, ...] = ("causal-lm", "masked-lm", "seq2seq-lm")
    pairs = [(task, name) for task in tasks for name in buildable_types(task)]
    return [
        pytest.param(*pair, id="-".join(pair), marks=() if "-".join(pair) in OFTEN else pytest.mark.sweeps)
        for pair in pairs
    ]


def inputs(model: Any) -> dict[str, Any]:
    from txinspect.forward.wiring import model_inputs_of

    return model_inputs_of(model, LENGTH)


def report_of(folder: Path, task: TaskName | None = None, seq: int = LENGTH) -> DiagramReport:
    report: DiagramReport = inspect(DiagramQuery(model=ModelChoice(name=str(folder), task=task), seq=seq))
    return report


def drawing(task: Task, model_type: str, folder: Path) -> tuple[DiagramReport, Any, Seen]:
    """A type's diagram, a model of it, and what plain hooks saw in a pass."""
    save_tiny(model_type, folder, tokenizer=False, task=task)
    report = report_of(folder, None if model_type in BUILT_FROM_PART else task)
    model = tiny_model(model_type, task=task)
    locating.settle(model, LENGTH)
    return report, model, seen(model, lambda: call(model, inputs(model)))


@pytest.mark.parametrize(("task", "model_type"), kinds())
def test_the_arrows_are_what_a_pass_does(task: Task, model_type: str, tmp_path: Path) -> None:
    """What is drawn into a sum adds up to what leaves it, and what a module reads is what is drawn into it. Where
    operations in no module stand between, hooks do not see what these make."""
    if model_type in NOT_DRAWN:
        save_tiny(model_type, tmp_path / "model", tokenizer=False, task=task)
        with pytest.raises(InspectError, match=NOT_DRAWN[model_type]):
            report_of(tmp_path / "model", task)
        return
    report, model, saw = drawing(task, model_type, tmp_path / "model")
    held = Check(report, model, saw).all()
    assert not held.wrong
    assert len(held.checked) > 10
    assert not held.unknown or any(node.operations for node in report.nodes), held.unknown


@pytest.mark.parametrize(("task", "model_type"), kinds())
def test_a_trace_that_remembers_layouts_is_one_that_works_each_out(
    task: Task, model_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny(model_type, tmp_path / "model", tokenizer=False, task=task)
    choice = ModelChoice(name=str(tmp_path / "model"), task=None if model_type in BUILT_FROM_PART else task)
    model = Session().model(choice).subject(LENGTH, only_looked_at=True).as_configured

    def traced() -> Traced | str:
        try:
            return trace(model, LENGTH)
        except Exception as error:
            return str(error)

    remembering = traced()
    monkeypatch.setattr(Remembered, "run", lambda _self, operator, args, options: operator(*args, **options))
    assert remembering == traced()
    assert isinstance(remembering, Traced) or NOT_DRAWN.get(model_type) == "its pass cannot be traced"


# A wrong drawing does not hold

Change = Callable[[DiagramReport], DiagramReport]


@cache
def of(model_type: str) -> tuple[DiagramReport, Any, Seen]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return drawing("seq2seq-lm" if model_type == "marian" else "causal-lm", model_type, Path(folder) / model_type)


def held(model_type: str, change: Change) -> Held:
    report, model, saw = of(model_type)
    return Check(change(report), model, saw).all()


def from_another(target: str, old: str, new: str) -> Change:
    """An arrow into a node comes from another one."""

    def change(report: DiagramReport) -> DiagramReport:
        found = [each for each in report.edges if (each.from_, each.to) == (old, target)]
        assert found
        other = next((each.module for each in report.edges if each.from_ == new), None)
        edges = [structs.replace(each, from_=new, module=other) if each in found else each for each in report.edges]
        return structs.replace(report, edges=edges)

    return change


def without(source: str, target: str) -> Change:
    """An arrow is missing."""

    def change(report: DiagramReport) -> DiagramReport:
        edges = [each for each in report.edges if (each.from_, each.to) != (source, target)]
        assert len(edges) < len(report.edges)
        return structs.replace(report, edges=edges)

    return change


def both(*changes: Change) -> Change:
    def change(report: DiagramReport) -> DiagramReport:
        for each in changes:
            report = each(report)
        return report

    return change


NORM = "layers.0.self_attn_layer_norm"

WRONG: dict[str, tuple[str, Change]] = {
    "a norm after where it is before": (
        "opt",
        both(
            from_another("layers.0.attention", NORM, "layers.0.input"),
            from_another(NORM, "layers.0.input", "layers.0.attention"),
            from_another("layers.0.sum", "layers.0.attention", NORM),
        ),
    ),
    "a norm before where it is after": (
        "marian",
        both(
            from_another(
                "encoder.layers.0.attention", "encoder.layers.0.input", "encoder.layers.0.self_attn_layer_norm"
            ),
            from_another("encoder.layers.0.self_attn_layer_norm", "encoder.layers.0.sum", "encoder.layers.0.input"),
        ),
    ),
    "parallel where it is sequential": (
        "opt",
        from_another("layers.0.final_layer_norm", "layers.0.sum", "layers.0.input"),
    ),
    "sequential where it is parallel": ("gptj", from_another("layers.0.mlp", "layers.0.ln_1", "layers.0.attention")),
    "no attention is added": ("opt", without("layers.0.attention", "layers.0.sum")),
    "the stream is not added": ("opt", without("layers.0.input", "layers.0.sum")),
    "no positions are added": ("opt", without("position_embeddings", "embeddings.sum")),
    "the crossing is missing": (
        "marian",
        from_another("decoder.layers.0.cross_attention", "encoder.layers.0.output", "decoder.layers.0.input"),
    ),
    "a head is tied that is not": (
        "gptj",
        lambda report: structs.replace(
            report, tied=[TiedRecord(names=["lm_head.weight", "transformer.wte.weight"], parameters=1)]
        ),
    ),
    "a head is not tied that is": ("opt", lambda report: structs.replace(report, tied=[])),
    "no norm before the head": ("opt", from_another("lm_head", "final_norm", "layers.0.output")),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_drawing_does_not_hold(name: str) -> None:
    model_type, change = WRONG[name]
    assert not held(model_type, lambda report: report).wrong
    assert held(model_type, change).wrong


# What is said


def nodes_of(report: DiagramReport, kind: str) -> list[NodeRecord]:
    return [node for node in report.nodes if node.kind == kind]


def into(report: DiagramReport, name: str) -> list[EdgeRecord]:
    return [edge for edge in report.edges if edge.to == name]


def test_opt_mini_is_the_lessons_diagram() -> None:
    report = inspect(DiagramQuery(model="opt-mini"))  # type: ignore[arg-type]  # a name is taken for its model
    (stack,) = report.stacks
    assert [node.removeprefix("layers.0.") for node in stack.groups[0].nodes] == [
        *("input", "self_attn_layer_norm", "attention", "sum"),
        *("final_layer_norm", "mlp", "sum.2", "output"),
    ]
    assert stack.groups[0].layers == [0, 1, 2, 3]
    assert {edge.from_ for edge in into(report, "embeddings.sum")} == {"token_embeddings", "position_embeddings"}
    assert into(report, "logits")[0].shape == [1, 10, 2048]
    assert [each.names for each in report.tied] == [["model.decoder.embed_tokens.weight", "lm_head.weight"]]
    assert nodes_of(report, "attention")[0].heads == 4


def test_transformer_mini_is_the_papers_figure_with_norms_after_the_sums() -> None:
    report = inspect(DiagramQuery(model="transformer-mini"))  # type: ignore[arg-type]  # a name is taken for its model
    assert [stack.name for stack in report.stacks] == ["encoder", "decoder"]
    for node in nodes_of(report, "norm"):
        assert [edge.from_.rpartition(".")[2].isdecimal() or edge.from_ for edge in into(report, node.id)]
        assert all(".sum" in edge.from_ for edge in into(report, node.id))
    crossing = {edge.from_ for edge in into(report, "decoder.layers.0.cross_attention")}
    assert "encoder.layers.0.output" in crossing


@pytest.mark.parametrize("seq", [1, 7])
def test_shapes_are_of_a_text_of_that_length(seq: int) -> None:
    report = inspect(DiagramQuery(model="opt-mini", seq=seq))  # type: ignore[arg-type]  # as above
    assert into(report, "logits")[0].shape == [1, seq, 2048]
    assert into(report, "token_embeddings")[0].shape == [1, seq]


def config_of(folder: Path, model_type: str, **values: Any) -> Path:
    """A folder with a config.json alone."""
    config = tiny_config(model_type)
    for name, value in values.items():
        setattr(config, name, value)
    config.architectures = [f"{type(config).__name__.removesuffix('Config')}ForCausalLM"]
    config.save_pretrained(folder)
    return folder


def test_layers_that_are_alike_are_one_and_exceptions_another(tmp_path: Path) -> None:
    kinds = ["sliding_attention", "sliding_attention", "full_attention"] * 4
    folder = config_of(tmp_path / "g", "gemma2", num_hidden_layers=12, layer_types=kinds)
    (stack,) = report_of(folder).stacks
    assert [group.layers for group in stack.groups] == [[0, 1, 3, 4, 6, 7, 9, 10], [2, 5, 8, 11]]
    assert "in order AABAABAABAAB" in drawn(report_of(folder), 80)


def test_a_grouped_attention_has_fewer_heads_for_keys(tmp_path: Path) -> None:
    report = report_of(config_of(tmp_path / "l", "llama"))
    (attention,) = nodes_of(report, "attention")
    assert (attention.heads, attention.kv_heads, attention.head_dim) == (4, 2, 16)


def test_axes_are_named(tmp_path: Path) -> None:
    report = report_of(config_of(tmp_path / "l", "llama"))
    axes = {(edge.from_, edge.to.rpartition(".")[2]): edge.axes for edge in report.edges}
    assert axes["text", "token_embeddings"] == ["batch", "seq"]
    assert axes["layers.0.input", "sum"] == ["batch", "seq", "hidden"]
    assert axes["model.rotary_emb", "attention"] == ["batch", "seq", "rotary_dim"]
    assert axes["lm_head", "logits"] == ["batch", "seq", "vocab"]


def test_parameters_add_up_to_the_model(tmp_path: Path) -> None:
    report = report_of(config_of(tmp_path / "l", "llama"))
    inside = {name for stack in report.stacks for group in stack.groups for name in group.nodes}
    outside = sum(node.parameters for node in report.nodes if node.id not in inside)
    layers = sum(group.parameters * len(group.layers) for stack in report.stacks for group in stack.groups)
    assert outside + layers == report.model.num_parameters


def test_a_model_without_a_head_puts_out_no_logits(tmp_path: Path) -> None:
    folder = save_tiny("bert", tmp_path / "bert", tokenizer=False, task="masked-lm")
    report = report_of(folder, "base")
    assert not nodes_of(report, "logits")
    assert [edge.from_ for edge in into(report, "output")] == ["layers.0.output"]


# For Mermaid


def mermaid(report: DiagramReport) -> str:
    return drawn(report, 40, view=DiagramView(mermaid=True))


@pytest.mark.parametrize("model_type", ["opt", "granitemoehybrid", "gemma3n_text", "marian"])
def test_mermaid_has_every_box_and_arrow(model_type: str) -> None:
    report, _, _ = of(model_type)
    lines = mermaid(report).splitlines()
    assert lines[0] == "flowchart TD"
    boxes = [found[1] for line in lines if (found := re.match(r" +(n\d+)[\[(]", line))]
    arrows = [
        (found[1], found[2]) for line in lines if (found := re.match(r" +(n\d+) -->(?:\|[^|]+\|)? (n\d+)$", line))
    ]
    assert sorted(boxes) == sorted(f"n{index}" for index in range(len(report.nodes)))
    assert set(arrows) == {
        (boxes_of(report)[edge.from_], boxes_of(report)[edge.to]) for edge in report.edges if edge.from_ != edge.to
    }
    depth = 0
    for line in lines:
        depth += line.strip().startswith("subgraph") - (line.strip() == "end")
    assert depth == 0


def boxes_of(report: DiagramReport) -> dict[str, str]:
    return {node.id: f"n{index}" for index, node in enumerate(report.nodes)}


def test_mermaid_folds_beyond_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    report, _, _ = of("opt")
    monkeypatch.setattr("txinspect.render.content.mermaid.MOST_EDGES", 5)
    shown = mermaid(report)
    assert "attention" not in shown
    assert "layers 0–1 ×2<br/>" in shown
    assert len(re.findall("-->", shown)) < len(report.edges) - 5


# Goldens: read as pictures

DRAWN: tuple[tuple[Task, str], ...] = (
    *(("causal-lm", name) for name in ("opt", "gpt2", "llama", "gptj", "gemma2", "bloom", "mamba", "qwen3_next")),
    *(("causal-lm", name) for name in ("falcon_h1", "granitemoehybrid", "deepseek_v2", "gpt_oss")),
    *(("masked-lm", name) for name in ("bert", "albert")),
    *(("seq2seq-lm", name) for name in ("t5", "marian")),
)


@pytest.mark.parametrize(("task", "model_type"), DRAWN, ids=["-".join(each) for each in DRAWN])
def test_golden(task: Task, model_type: str, tmp_path: Path) -> None:
    folder = save_tiny(model_type, tmp_path / model_type, tokenizer=False, task=task)
    shown = drawn(report_of(folder, task), 80)
    lines = [line.rstrip() for line in shown.splitlines()]
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 45
    file = GOLDEN / f"{model_type}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert "\n".join(lines) + "\n" == file.read_text(encoding="utf-8")


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == {name for _, name in DRAWN}


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("model_type", ["opt", "granitemoehybrid", "gemma3n_text"])
def test_no_line_is_wider_than_the_terminal(model_type: str, width: int) -> None:
    report, _, _ = of(model_type)
    rows = drawn(report, width).splitlines()
    assert max(map(len, rows)) <= width


@pytest.mark.parametrize(("task", "model_type"), kinds())
def test_every_box_is_drawn(task: Task, model_type: str, tmp_path: Path) -> None:
    """But for weights that scale, and layers that are drawn by what differs."""
    if model_type in NOT_DRAWN:
        return
    folder = save_tiny(model_type, tmp_path / "model", tokenizer=False, task=task)
    report = report_of(folder, None if model_type in BUILT_FROM_PART else task)
    drawing = content.Drawn(report, 80)
    list(drawing.lines())
    groups = [group for stack in report.stacks for group in stack.groups]
    by_difference = {name for group in groups for name in group.nodes if group.output not in drawing.graph.placed}
    missing = {node.id for node in report.nodes if node.kind != "weight"} - drawing.graph.placed - by_difference
    assert missing <= {group.input for group in groups}


def test_a_bundled_config_alone_is_enough(tmp_path: Path) -> None:
    folder = config_of(tmp_path / "c", "llama")
    assert sorted(path.name for path in folder.iterdir()) == ["config.json"]
    assert AutoConfig.from_pretrained(folder).model_type == "llama"
    assert report_of(folder).nodes
