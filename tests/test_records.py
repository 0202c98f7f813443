"""Records as JSON: strict, complete, with the contract's keys, and described by their schema."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from txinspect import records
from txinspect.as_json import to_json
from txinspect.commands import schema
from txinspect.commands.ablate import AblateQuery
from txinspect.commands.attn import AttnQuery
from txinspect.commands.attribute import AttributeQuery
from txinspect.commands.diagram import DiagramQuery
from txinspect.commands.diff import DiffQuery
from txinspect.commands.embed import EmbedQuery
from txinspect.commands.heads import HeadsQuery
from txinspect.commands.lens import LensQuery
from txinspect.commands.lesson import LessonQuery
from txinspect.commands.logits import LogitsQuery
from txinspect.commands.models import ModelsQuery
from txinspect.commands.page import PageQuery
from txinspect.commands.params import ParamsQuery
from txinspect.commands.patch import PatchQuery
from txinspect.commands.plan import PlanQuery
from txinspect.commands.pos import PosQuery
from txinspect.commands.run import RunQuery
from txinspect.commands.stages import StagesQuery
from txinspect.commands.steer import SteerQuery
from txinspect.commands.tokenize import TokenizeQuery
from txinspect.commands.tree import TreeQuery
from txinspect.commands.why import WhyQuery
from txinspect.inspecting import inspect
from txinspect.model_choice import ModelChoice
from txinspect.queries import Query

ASKING = ("logits", "lens", "heads", "diff")
MODEL = ("tree", "stages", "diagram", "models", "params")
RUN = ("run", "ablate", "patch", "attribute", "why", "steer", "page", "lesson")
COMMANDS = ("tokenize", *MODEL, "embed", "pos", "attn", *ASKING, *RUN, "plan")
TEXT = "naïve 😀 [/INST]"

ENVELOPE = {"schema_version", "txinspect", "command"}
CONTRACT: dict[str, set[str]] = {
    "model": {
        *("name", "revision", "model_type", "class", "num_parameters", "num_hidden_layers", "num_attention_heads"),
        *("num_key_value_heads", "hidden_size", "vocab_size", "dtype", "device", "quantization"),
        "attn_implementation",
    },
    "input": {"text", "input_ids", "attention_mask", "tokens"},
    "input.tokens": {"index", "id", "token", "text", "start", "end", "special"},
    "tensors": {"name", "module", "class", "axes", "shape", "dtype", "stats", "values"},
    "tensors.stats": {
        *("numel", "mean", "std", "min", "max", "abs_max", "l2", "zeros", "nan", "posinf", "neginf"),
    },
    "modules": {"name", "class", "depth", "parameters", "numel", "bytes"},
    "modules.parameters": {"name", "shape", "dtype", "numel", "bytes", "tied_to"},
    "stages": {"name", "axes", "module", "class", "available", "reason"},
    "nodes": {"id", "kind", "module", "class", "modules", "parameters", "heads", "kv_heads", "window", "tied_to"},
    "edges": {"from", "to", "module", "axes", "shape"},
    "stacks": {"name", "before", "groups", "after", "positions"},
    "models": {"name", "origin", "model_type", "layers", "bytes", "path"},
    "parts": {"kind", "layer", "head", "name", "value"},
    "target": {"id", "token", "text"},
    "predictions": {"position", "token", "next", "surprisal", "entropy", "top", "targets"},
    "predictions.top": {"id", "token", "text", "logit", "prob", "rank", "ties"},
    "rows": {"layer", "at", "cells"},
    "rows.cells": {"position", "entropy", "kl", "top", "targets"},
    "rows.cells.top": {"id", "token", "text", "prob"},
    "rows.cells.targets": {"id", "token", "text", "rank", "prob"},
    "positions": {"position", "token", "decided_at", "first_at"},
    "heads": {
        *("layer", "head", "previous", "duplicate", "induction", "entropy", "relative_entropy", "distance"),
        *("first_token", "special", "labels"),
    },
    "logits": {"kl_mean", "kl_max", "same_top1"},
}
"""Keys that are fixed, by the path of the object that has them."""

PARTS: dict[str, tuple[str, ...]] = {
    "tokenize": ("model", "input", "input.tokens"),
    "tree": ("model", "modules", "modules.parameters"),
    "stages": ("model", "stages"),
    "diagram": ("model", "nodes", "edges", "stacks"),
    "models": ("models",),
    "params": ("model", "tensors.stats"),
    **dict.fromkeys(("embed", "pos", "attn", "run"), ("model", "input", "input.tokens", "tensors", "tensors.stats")),
    "logits": ("model", "input", "tensors", "predictions", "predictions.top"),
    "lens": ("model", "rows", "rows.cells", "rows.cells.top", "rows.cells.targets", "positions"),
    "heads": ("model", "input", "heads"),
    "diff": ("model", "input", "logits"),
    "page": ("model", "input", "input.tokens"),
    "ablate": ("model", "input", "input.tokens"),
    "patch": ("model", "input", "input.tokens"),
    "attribute": ("model", "input", "parts", "target"),
    "why": ("model", "input", "parts", "target"),
    "steer": ("model", "input", "input.tokens"),
    "lesson": ("model", "input", "input.tokens"),
    "plan": ("model", "input", "input.tokens"),
}


def query(command: str, model: ModelChoice, **more: Any) -> Query[Any]:
    made: dict[str, Callable[[], Query[Any]]] = {
        "tokenize": lambda: TokenizeQuery(model=model, text=TEXT),
        "tree": lambda: TreeQuery(model=model),
        "stages": lambda: StagesQuery(model=model),
        "diagram": lambda: DiagramQuery(model=model),
        "models": lambda: ModelsQuery(),
        "params": lambda: ParamsQuery(model=model),
        "embed": lambda: EmbedQuery(model=model, text=TEXT, **more),
        "pos": lambda: PosQuery(model=model, text=TEXT, **more),
        "attn": lambda: AttnQuery(model=model, text=TEXT, layer=1, heads=(0, 2), queries=(3, 5), **more),
        "logits": lambda: LogitsQuery(model=model, text=TEXT, position=None, top_k=2, **more),
        "lens": lambda: LensQuery(model=model, text=TEXT, **more),
        "heads": lambda: HeadsQuery(model=model, text=TEXT, **more),
        "diff": lambda: DiffQuery(model=model, text=TEXT, against=model.name),
        "run": lambda: RunQuery(model=model, text=TEXT, stages=("**",), **more),
        "ablate": lambda: AblateQuery(model=model, text=TEXT, baseline="mean"),
        "patch": lambda: PatchQuery(model=model, text=TEXT, subject="naïve", force=True),
        "attribute": lambda: AttributeQuery(model=model, text=TEXT),
        "why": lambda: WhyQuery(model=model, text=TEXT),
        "steer": lambda: SteerQuery(model=model, action="make", toward=("a",), away=("b",), layers=(0,)),
        "page": lambda: PageQuery(model=model, text=TEXT),
        "lesson": lambda: LessonQuery(model=model, text=TEXT),
        "plan": lambda: PlanQuery(model=model, of=RunQuery(model=model, text=TEXT, stages=("**",), **more)),
    }
    return made[command]()


def strict(content: bytes) -> Any:
    """Parse JSON that must be UTF-8 and hold no NaN or Infinity."""

    def refuse(constant: str) -> NoReturn:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(content.decode("utf-8"), parse_constant=refuse)


@pytest.fixture(scope="module")
def broken(opt_variant: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose weights hold NaN and infinities."""
    folder = tmp_path_factory.mktemp("broken")
    for file in opt_variant("pre_norm").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    weights = load_file(folder / "model.safetensors")
    table = weights["model.decoder.embed_tokens.weight"]
    table[8 + ord("n"), :4] = torch.tensor([math.nan, math.inf, -math.inf, math.nan])
    weights["model.decoder.embed_positions.weight"][4, 0] = math.inf
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def reports(opt_variant: Callable[[str], Path], broken: Path) -> Callable[[str], list[records.Report]]:
    """Real reports of a command: with and without numbers, quantized, of a broken checkpoint and one without a norm."""
    made: dict[str, list[records.Report]] = {}

    def of(command: str) -> list[records.Report]:
        if command not in made:
            plain, other = str(opt_variant("pre_norm")), str(opt_variant("opt_350m"))
            queries = [query(command, ModelChoice(name=name)) for name in (plain, other, str(broken))]
            if command in ("embed", "pos", "attn", "run"):
                queries += [query(command, ModelChoice(name=name), values=True) for name in (plain, str(broken))]
            if command == "tree":
                queries += [query(command, ModelChoice(name=plain, quantization=kind)) for kind in ("8bit", "4bit")]
            made[command] = [inspect(asked) for asked in queries]
        return made[command]

    return of


def objects_at(report: Any, path: str) -> Iterator[dict[str, Any]]:
    """The objects under a dotted path, through lists."""
    nodes = [report]
    for key in path.split("."):
        values = [node[key] for node in nodes]
        nodes = [item for value in values for item in (value if isinstance(value, list) else [value])]
    yield from nodes


def properties(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property of a schema and its definitions, with its path."""
    for title, definition in schema["$defs"].items():
        for name, body in definition["properties"].items():
            yield f"{title}.{name}", body


def test_a_report_per_command() -> None:
    assert set(schema.reports()) == set(COMMANDS)


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_schema_is_a_valid_json_schema(command: str | None) -> None:
    found = schema.schema(command)
    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(found)
    assert strict(schema.schema_json(command)) == found
    assert all(target in found["$defs"] for target in re.findall(r'"#/\$defs/([^"]+)"', json.dumps(found)))


def test_schema_of_an_unknown_command() -> None:
    with pytest.raises(KeyError):
        schema.schema("schema")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_field_has_a_description(command: str) -> None:
    found = schema.schema(command)
    for path, body in properties(found):
        target = found["$defs"][body["$ref"].rpartition("/")[2]] if "$ref" in body else {}
        assert body.get("description") or target.get("description"), path
    assert all(definition.get("description") for definition in found["$defs"].values())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_field_is_required(command: str) -> None:
    for definition in schema.schema(command)["$defs"].values():
        assert set(definition["required"]) == set(definition["properties"])


@pytest.mark.parametrize("command", COMMANDS)
def test_real_reports_are_strict_and_fit_their_schemas(
    command: str, reports: Callable[[str], list[records.Report]]
) -> None:
    validators = [jsonschema.Draft202012Validator(schema.schema(name)) for name in (command, None)]
    for report in reports(command):
        parsed = strict(to_json(report))
        assert parsed["command"] == command
        for validator in validators:
            validator.validate(parsed)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_report_fits_no_other_reports_schema(command: str, reports: Callable[[str], list[records.Report]]) -> None:
    parsed = strict(to_json(reports(command)[0]))
    for other in COMMANDS:
        if schema.reports()[other] is not schema.reports()[command]:
            assert not jsonschema.Draft202012Validator(schema.schema(other)).is_valid(parsed), other


@pytest.mark.parametrize("command", COMMANDS)
def test_the_contracts_keys(command: str, reports: Callable[[str], list[records.Report]]) -> None:
    for report in reports(command):
        parsed = strict(to_json(report))
        assert parsed.keys() >= ENVELOPE
        assert parsed["schema_version"] == 1
        for path in PARTS[command]:
            found = list(objects_at(parsed, path))
            assert found, path
            assert all(one.keys() >= CONTRACT[path] for one in found), path


def test_tree_has_totals(reports: Callable[[str], list[records.Report]]) -> None:
    totals = strict(to_json(reports("tree")[0]))["totals"]
    assert totals.keys() >= {"numel", "bytes", "bytes_8bit", "bytes_4bit"}


def test_what_does_not_apply_is_null_not_absent(reports: Callable[[str], list[records.Report]]) -> None:
    model = strict(to_json(reports("tokenize")[0]))["model"]
    assert model["revision"] is model["num_parameters"] is model["device"] is model["quantization"] is None
    tensor = strict(to_json(reports("run")[0]))["tensors"][0]
    assert tensor["values"] is tensor["coordinates"] is tensor["rows"] is None


def test_not_a_number_is_null_and_counted(reports: Callable[[str], list[records.Report]]) -> None:
    parsed = strict(to_json(reports("embed")[-1]))
    (tensor,) = parsed["tensors"]
    n = [token["index"] for token in parsed["input"]["tokens"] if token["token"] == "n"]
    assert n, "the text has the token whose row is broken"
    for index in n:
        assert tensor["values"][0][index][:4] == [None] * 4
        assert None not in tensor["values"][0][index][4:]
    counts = {name: tensor["stats"][name] for name in ("nan", "posinf", "neginf")}
    assert counts == {"nan": 2 * len(n), "posinf": len(n), "neginf": len(n)}
    assert all(tensor["stats"][name] is not None for name in ("mean", "std", "min", "max", "l2"))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_lacks_is_null(number: float) -> None:
    row = records.RowRecord(index=0, l2=number, mean=1.0, std=None)
    assert strict(msgspec.json.encode(row)) == {"index": 0, "l2": None, "mean": 1.0, "std": None}


def test_odd_text_is_kept_whole(reports: Callable[[str], list[records.Report]]) -> None:
    parsed = strict(to_json(reports("tokenize")[0]))
    assert parsed["input"]["text"] == TEXT
    assert "😀".encode() in to_json(reports("tokenize")[0])


def test_records_do_not_change() -> None:
    row = records.RowRecord(index=0, l2=1.0, mean=1.0, std=0.0)
    with pytest.raises(AttributeError):
        row.index = 1  # type: ignore[misc]
