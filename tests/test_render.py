"""Records made by hand → what a person sees: golden files, and what holds for every table.

`UPDATE_GOLDEN=1 pytest tests/test_render.py` rewrites the golden files; read their diff before it is committed.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from txinspect.records import (
    AttnReport,
    FileRecord,
    HeadRecord,
    HistogramRecord,
    InputRecord,
    KeyRecord,
    LoadingRecord,
    ModelRecord,
    ModuleRecord,
    ParameterRecord,
    PlanReport,
    QuantizationRecord,
    QueryRecord,
    Report,
    RowRecord,
    StageRecord,
    StagesReport,
    StatsRecord,
    TensorRecord,
    TensorsReport,
    TokenizeReport,
    TokenRecord,
    TotalsRecord,
    TreeReport,
    WindowRecord,
)
from txinspect.render import render
from txinspect.render.glyphs import bar, number, ranges, sparkline, visible
from txinspect.wording import short_bytes, short_count

GOLDEN = Path(__file__).parent / "golden"
WIDTHS = (80, 140)


# Records by hand


def model(**changes: Any) -> ModelRecord:
    values: dict[str, Any] = {
        "name": "facebook/opt-tiny",
        "revision": "0123456789abcdef0123456789abcdef01234567",
        "model_type": "opt",
        "class_": "OPTForCausalLM",
        "num_parameters": 320,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "hidden_size": 4,
        "vocab_size": 12,
        "dtype": "float16",
        "device": "cpu",
        "quantization": None,
        "attn_implementation": "sdpa",
    }
    return ModelRecord(**(values | changes))


def head(command: str, notes: Sequence[str] = (), **changes: Any) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "txinspect": "0.1.0",
        "command": command,
        "notes": list(notes),
        "model": model(**changes),
    }


def text_input(words: Sequence[str], text: str | None = None) -> InputRecord:
    """A special token, then a token per word, each with the space before it."""
    tokens = [token(0, "</s>", special=True)]
    end = 0
    for index, word in enumerate(words, 1):
        tokens.append(token(index, word, start=end, end=end + len(word)))
        end += len(word)
    ids = [[each.id for each in tokens]]
    return InputRecord(text=text or "".join(words), input_ids=ids, attention_mask=[[1] * len(tokens)], tokens=tokens)


def token(index: int, text: str | None, **values: Any) -> TokenRecord:
    defaults = {
        "index": index,
        "id": 2 if index == 0 else 100 + 7 * index,
        "token": text and text.replace(" ", "Ġ"),
        "text": text,
        "start": None,
        "end": None,
        "special": False,
        "bytes": None,
    }
    return TokenRecord(**{**defaults, **values})


SENTENCE = text_input(("The", " quick", " brown", " fox"))


def broken_characters() -> InputRecord:
    """naïve 😀, with characters cut into their bytes."""
    tokens = [
        token(0, "</s>", special=True),
        token(1, "na", start=0, end=2),
        token(2, None, token="Ã", bytes="c3", start=2, end=3),
        token(3, None, token="¯", bytes="af", start=2, end=3),
        token(4, "ve", start=3, end=5),
        token(5, " ", start=5, end=6),
        token(6, None, token="ðŁĺ", bytes="f0 9f 98", start=6, end=7),
        token(7, None, token="Ģ", bytes="80", start=6, end=7),
    ]
    ids = [[each.id for each in tokens]]
    return InputRecord(text="naïve 😀", input_ids=ids, attention_mask=[[1] * 8], tokens=tokens)


def stats(numel: int, **changes: Any) -> StatsRecord:
    values: dict[str, Any] = {
        "numel": numel,
        "mean": 0.0123456,
        "std": 1.25,
        "min": -3.5,
        "max": 4.0,
        "abs_max": 4.0,
        "l2": 12.5,
        "zeros": 1,
        "nan": 0,
        "posinf": 0,
        "neginf": 0,
    }
    return StatsRecord(**(values | changes))


HILL = HistogramRecord(low=-3.5, high=4.0, counts=[1, 2, 4, 8, 16, 32, 64, 128, 128, 64, 32, 16, 8, 4, 2, 1])


def tensor(name: str, shape: Sequence[int], axes: Sequence[str] | None, **changes: Any) -> TensorRecord:
    numel = 1
    for size in shape:
        numel *= size
    values: dict[str, Any] = {
        "name": name,
        "module": "model.decoder.layers.0.self_attn",
        "class_": "OPTAttention",
        "axes": axes and list(axes),
        "shape": list(shape),
        "coordinates": None,
        "dtype": "float16",
        "stats": stats(numel),
        "histogram": HILL,
        "rows": None,
        "values": None,
    }
    return TensorRecord(**(values | changes))


LOADING = LoadingRecord(
    files=[
        FileRecord(
            path="/models/tiny/model.safetensors",
            origin="local",
            repository=None,
            bytes=2_631_561_680,
            tensors=388,
            tensors_read=18,
            bytes_read=315_027_456,
        )
    ],
    disk_bytes=315_027_456,
    download_bytes=None,
    parameters=157_513_728,
    memory_bytes=315_027_456,
    mapped=True,
    modules_guessed=None,
)
COSTS: dict[str, Any] = {"loading": LOADING, "quantization": None}


def plan_report() -> PlanReport:
    """Files from each kind of place, of which one is not described."""
    files = [
        *LOADING.files,
        structs.replace(LOADING.files[0], origin="bundled"),
        structs.replace(LOADING.files[0], origin="cache", repository="facebook/opt-tiny"),
        FileRecord(
            path="pytorch_model.bin",
            origin="hub",
            repository="facebook/opt-tiny",
            bytes=9_000,
            tensors=None,
            tensors_read=None,
            bytes_read=9_000,
        ),
    ]
    stages = [f"layers.{layer}.output" for layer in range(4)]
    return PlanReport(
        **head("plan", ["8bit: 6 of 7 weight matrices are quantized (Linear8bitLt); not lm_head."]),
        input=SENTENCE,
        asked=stages,
        loading=structs.replace(LOADING, files=files, download_bytes=9_000, mapped=False),
        quantization=QuantizationRecord(
            method="8bit", quantized=6, modules=7, kept=["lm_head"], classes=["Linear8bitLt"], dequantized=False
        ),
    )


def embed_report() -> TensorsReport:
    rows = [RowRecord(index=index, l2=1.5 * index, mean=-0.01 * index, std=0.5) for index in range(5)]
    rows[3] = RowRecord(index=3, l2=None, mean=None, std=None)
    embeddings = tensor(
        "token_embeddings",
        (1, 5, 4),
        ("batch", "seq", "hidden"),
        module="model.decoder.embed_tokens",
        class_="Embedding",
        rows=rows,
    )
    return TensorsReport(
        **head("embed"), input=SENTENCE, tensors=[embeddings], saved="out/embeddings.safetensors", checks=None, **COSTS
    )


def run_report() -> TensorsReport:
    nothing = dict.fromkeys(("mean", "std", "min", "max", "abs_max", "l2"))
    tensors = [
        tensor("layers.0.output", (1, 5, 4), ("batch", "seq", "hidden"), module="model.decoder.layers.0"),
        tensor("model.decoder.layers.0.fc1", (5, 16), None, module="model.decoder.layers.0.fc1", class_="Linear"),
        tensor(
            "layers.1.attention.weights",
            (1, 1, 2, 5),
            ("batch", "head", "query", "key"),
            coordinates={"head": [1], "query": [2, 3]},
            stats=stats(10, nan=3, posinf=1234, neginf=1),
        ),
        tensor(
            "logits",
            (1, 5, 12),
            ("batch", "seq", "vocab"),
            module=None,
            class_="OPTForCausalLM",
            dtype="float32",
            stats=stats(60, nan=60, zeros=0, **nothing),
            histogram=None,
        ),
    ]
    return TensorsReport(
        **head("run", ["model.decoder.project_in: passed no tensor on in this pass."]),
        input=SENTENCE,
        tensors=tensors,
        saved=None,
        checks=None,
        **COSTS,
    )


def attention_report(
    input: InputRecord = SENTENCE,
    heads: int = 2,
    queries: Sequence[int] | None = None,
    weight: Callable[[int, int, int], float | None] = lambda head, query, key: (
        float(query == key) if head % 2 else 1 / (query + 1)
    ),
) -> AttnReport:
    """Heads that look at everything before evenly, or at themselves."""
    count = len(input.tokens)
    asked = list(range(count)) if queries is None else list(queries)
    last = count if queries is None else max(asked) + 1
    keys = list(range(max(0, last - 64), last))

    def row(head: int, query: int) -> list[float | None]:
        return [weight(head, query, key) if key <= query else 0.0 for key in keys]

    records = [
        HeadRecord(
            head=head,
            run=1,
            queries=[
                QueryRecord(
                    index=query,
                    keys=[KeyRecord(index=key, weight=weight(head, query, key)) for key in range(query, -1, -1)][:5],
                )
                for query in asked
            ],
            window=WindowRecord(queries=asked[-64:], keys=keys, weights=[row(head, query) for query in asked[-64:]]),
        )
        for head in range(heads)
    ]
    weights = tensor("layers.0.attention.weights", (1, heads, len(asked), count), ("batch", "head", "query", "key"))
    output = tensor("layers.0.attention.output", (1, count, 4), ("batch", "seq", "hidden"))
    return AttnReport(
        **head("attn"), input=input, tensors=[weights, output], saved=None, checks=None, **COSTS, layer=0, heads=records
    )


def parameter(name: str, *shape: int, tied_to: str | None = None) -> ParameterRecord:
    numel = 1
    for size in shape:
        numel *= size
    return ParameterRecord(name=name, shape=list(shape), dtype="float16", numel=numel, bytes=2 * numel, tied_to=tied_to)


def tree_report(**changes: Any) -> TreeReport:
    """A model of 320 parameters: 2 equal layers and a third that is wider; the head tied to the embeddings."""
    own: dict[str, tuple[str, list[ParameterRecord]]] = {
        "": ("OPTForCausalLM", []),
        "model": ("OPTModel", []),
        "model.embed_tokens": ("Embedding", [parameter("weight", 12, 4)]),
        "model.layers": ("ModuleList", []),
    }
    for layer, wide in enumerate((8, 8, 12)):
        prefix = f"model.layers.{layer}"
        own[prefix] = ("OPTDecoderLayer", [])
        own[f"{prefix}.fc1"] = ("Linear", [parameter("weight", wide, 4), parameter("bias", wide)])
        own[f"{prefix}.activation"] = ("ReLU", [])
        own[f"{prefix}.fc2"] = ("Linear", [parameter("weight", 4, wide), parameter("bias", 4)])
    own["model.norm"] = ("LayerNorm", [parameter("weight", 4), parameter("bias", 4)])
    own["lm_head"] = ("Linear", [parameter("weight", 12, 4, tied_to="model.embed_tokens.weight")])

    def below(name: str) -> int:
        inside = [each for path, (_, each) in own.items() if path == name or not name or path.startswith(name + ".")]
        return sum(each.numel for some in inside for each in some if each.tied_to is None)

    # As in the real records, a module's sum counts its own tied parameter, and the whole counts it once.
    modules = [
        ModuleRecord(
            name=name,
            class_=kind,
            depth=name.count(".") + 1 if name else 0,
            parameters=parameters,
            numel=48 if name == "lm_head" else below(name),
            bytes=96 if name == "lm_head" else 2 * below(name),
        )
        for name, (kind, parameters) in own.items()
    ]
    totals = TotalsRecord(numel=below(""), bytes=2 * below(""), bytes_8bit=800, bytes_4bit=600, linear_modules=6)
    return TreeReport(**head("tree", **changes), modules=modules, totals=totals, quantization=None)


def stages_report() -> StagesReport:
    hidden = ["batch", "seq", "hidden"]

    def stage(name: str, module: str | None, kind: str | None, **values: Any) -> StageRecord:
        reason = values.get("reason")
        return StageRecord(
            name=name,
            axes=values.get("axes", hidden),
            module=module,
            class_=kind,
            available=reason is None,
            reason=reason,
            note=values.get("note"),
        )

    stages = [
        stage("token_embeddings", "model.embed_tokens", "Embedding", note="model.project_in (Linear) acts next"),
        stage("position_embeddings", None, None, reason="'tiny' has rotary positions: they act on q and k"),
    ]
    for layer in range(12):
        path = f"model.layers.{layer}"
        stages.append(stage(f"layers.{layer}.input", path, "Layer"))
        if layer == 4:
            missing = f"layer {layer} has no attention module (looked for self_attn, attention, attn)"
            stages.append(stage(f"layers.{layer}.attention.input", None, None, reason=missing))
        else:
            stages.append(stage(f"layers.{layer}.attention.input", f"{path}.self_attn", "Attention"))
    stages.append(stage("logits", "", "TinyForCausalLM", axes=["batch", "seq", "vocab"]))
    return StagesReport(**head("stages"), stages=stages, quantization=None)


REPORTS: dict[str, Callable[[], tuple[Report, dict[str, Any]]]] = {
    "tokenize": lambda: (TokenizeReport(**head("tokenize", device=None), input=broken_characters()), {}),
    "tree": lambda: (tree_report(device="meta"), {}),
    "tree-expand": lambda: (tree_report(), {"expand": True}),
    "tree-depth": lambda: (tree_report(), {"depth": 2}),
    "tree-params": lambda: (tree_report(quantization="8bit"), {"params": True}),
    "stages": lambda: (stages_report(), {}),
    "embed": lambda: (embed_report(), {}),
    "pos": lambda: (
        TensorsReport(**{**head("pos"), "input": SENTENCE, "tensors": [], "saved": None, "checks": None, **COSTS}),
        {},
    ),
    "attn": lambda: (attention_report(), {}),
    "run": lambda: (run_report(), {}),
    "plan": lambda: (plan_report(), {}),
}


def drawn(name_or_report: str | Report, width: int, *, colour: bool = False, **options: Any) -> str:
    """What a console of that width shows; in truecolor, or as a pipe gets it."""
    report: Report
    if isinstance(name_or_report, str):
        report, options = REPORTS[name_or_report]()
    else:
        report = name_or_report
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=width,
        force_terminal=colour,
        color_system="truecolor" if colour else None,
        no_color=not colour,
        highlight=False,
        legacy_windows=False,
        _environ={},
    )
    render(report, console, **options)
    return stream.getvalue()


# Golden files


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", REPORTS)
def test_golden(name: str, width: int) -> None:
    compare(f"{name}-{width}.txt", drawn(name, width))


def test_golden_in_colour() -> None:
    compare("attn-80-colour.txt", drawn("attn", 80, colour=True))


def compare(name: str, shown: str) -> None:
    """Compare with a golden file, or rewrite it. Trailing blanks are left out: editors drop them."""
    stripped = "\n".join(line.rstrip() for line in shown.splitlines()) + "\n"
    file = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(stripped, encoding="utf-8")
    assert stripped == file.read_text(encoding="utf-8")


def test_no_golden_file_is_left_over() -> None:
    used = {f"{name}-{width}.txt" for name in REPORTS for width in WIDTHS} | {"attn-80-colour.txt"}
    assert {path.name for path in GOLDEN.glob("*.txt")} == used


# Colour

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.parametrize("name", REPORTS)
def test_colour_changes_no_character(name: str) -> None:
    coloured = drawn(name, 100, colour=True)
    assert ESCAPE.search(coloured)
    assert "\x1b" not in ESCAPE.sub("", coloured)
    if name != "attn":  # a heatmap has shades where it has no colour
        assert ESCAPE.sub("", coloured) == drawn(name, 100)


@pytest.mark.parametrize("name", REPORTS)
def test_without_colour_there_is_no_escape(name: str) -> None:
    assert "\x1b" not in drawn(name, 100)


def test_no_color_in_the_environment_gives_shades() -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=100, force_terminal=True, color_system="truecolor", _environ={"NO_COLOR": "1"})
    render(attention_report(), console)
    assert "█" in stream.getvalue()
    assert "48;2;" not in stream.getvalue()  # no background colour
    assert "38;2;" not in stream.getvalue()


def test_a_terminal_of_16_colours_gets_shades() -> None:
    stream = io.StringIO()
    render(attention_report(), Console(file=stream, width=100, force_terminal=True, color_system="standard"))
    assert "█" in stream.getvalue()


def test_heat_is_background_colour() -> None:
    backgrounds = re.findall(r"\x1b\[48;2;([0-9;]+)m", drawn("attn", 80, colour=True))
    brightest, darkest = "252;253;191", "20;22;38"
    assert brightest in backgrounds
    assert darkest in backgrounds


# What holds for every table


@pytest.mark.parametrize("width", [20, 30, 40, 60, 79, 80, 81, 100, 109, 110, 119, 120, 137, 138, 139, 200, 300])
@pytest.mark.parametrize("name", REPORTS)
def test_no_line_is_wider_than_the_console(name: str, width: int) -> None:
    for line in drawn(name, width).splitlines():
        assert cell_len(line) <= width, line


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("name", REPORTS)
def test_the_model_comes_first(name: str, width: int) -> None:
    first = " ".join(drawn(name, width).splitlines()[:2])
    assert all(fact in first for fact in ("facebook/opt-tiny", "01234567", "OPTForCausalLM", "3 layers", "float16"))


def test_notes_come_last() -> None:
    assert drawn("run", 140).splitlines()[-1] == "model.decoder.project_in: passed no tensor on in this pass."


@pytest.mark.parametrize("width", [60, 80, 140])
def test_nothing_of_a_long_name_is_lost(width: int) -> None:
    name = "model.decoder.layers.0." + ".".join(f"part{number}" for number in range(20))
    report = TensorsReport(
        **head("run"),
        input=SENTENCE,
        tensors=[tensor(name, (1, 2), None, module=name)],
        saved=None,
        checks=None,
        **COSTS,
    )
    assert name in drawn(report, width).replace("\n", "").replace(" ", "")


def squeezed(shown: str) -> str:
    """What is shown, however it was wrapped."""
    return "".join(shown.split())


# The tree


def rows_of(shown: str) -> list[tuple[int, str, int]]:
    """The rows of a tree of one line per row: indent, name, parameters."""
    lines = shown.splitlines()
    rule = next(index for index, line in enumerate(lines) if set(line.strip()) == {"─"})
    classes = lines[rule - 1].index("class")
    rows = []
    for line in lines[rule + 1 :]:
        match = re.match(r" ?(?P<indent> *)(?P<name>\S+(?: ×\d+)?)(?P<rest>.*)$", line)
        if not match or match.start("name") >= classes or "parameters, tied" in line or "as stored" in line:
            continue
        count = re.search(r" (\d+)  *[\d.]+%", match["rest"])
        rows.append((len(match["indent"]), match["name"], int(count[1]) if count else 0))
    return rows


@pytest.mark.parametrize("expand", [False, True], ids=["folded", "expanded"])
def test_every_parent_is_the_sum_of_its_rows(expand: bool) -> None:
    report = tree_report()
    rows = rows_of(drawn(report, 140, expand=expand, params=True))
    assert (
        rows[0][2]
        == report.totals.numel
        == sum(each.numel for module in report.modules for each in module.parameters if each.tied_to is None)
    )
    for index, (indent, name, count) in enumerate(rows):
        inside = []
        for deeper in rows[index + 1 :]:
            if deeper[0] <= indent:
                break
            inside.append(deeper)
        if not inside:
            continue
        step = min(deeper[0] for deeper in inside)
        assert count == sum(each for at, _, each in inside if at == step), name


def test_shares_add_up_to_the_whole() -> None:
    shown = drawn(tree_report(), 140, depth=1)
    shares = [float(share) for share in re.findall(r"([\d.]+)%", shown)]
    assert shares[0] == 100.0
    assert sum(shares[1:]) == 100.0


def test_equal_neighbours_are_folded_and_others_are_not() -> None:
    folded, expanded = drawn(tree_report(), 140), drawn(tree_report(), 140, expand=True)
    assert "0–1 ×2" in folded
    assert re.search(r"^ *2 +OPTDecoderLayer", folded, re.MULTILINE)
    assert folded.count("fc1") == 2
    assert "×" not in expanded
    assert expanded.count("fc1") == 3


@pytest.mark.parametrize(("depth", "names"), [(0, 1), (1, 3), (2, 6), (3, 8)])
def test_depth_counts_levels(depth: int, names: int) -> None:
    assert len(rows_of(drawn(tree_report(), 140, depth=depth))) == names


@pytest.mark.parametrize("width", [80, 140])
def test_params_shows_each_parameter_with_its_shape(width: int) -> None:
    shown = drawn(tree_report(), width, params=True)
    assert shown.count("[8, 4]") == 1
    assert shown.count("[12, 4]") == 3
    assert "tied to model.embed_tokens.weight" in " ".join(shown.split())


def test_totals_name_every_size() -> None:
    shown = drawn("tree", 80)
    assert all(words in shown for words in ("tied ones once", "float16", "as stored", "800 B with --8bit"))
    assert "600 B with --4bit (6 linear layers)" in shown


# Heatmaps


def heat_lines(shown: str) -> list[str]:
    """The lines of the heatmaps, headings left out."""
    part = shown.split("rows: queries", 1)[1].split("strongest keys", 1)[0]
    return [line for line in part.splitlines() if re.match(r" *\d+ \S", line) and "≥" not in line]


def words(count: int) -> InputRecord:
    return text_input([f" w{number}" for number in range(1, count)])


def test_shades_grow_with_the_weight() -> None:
    shades = (0.0, 0.04, 0.05, 0.2, 0.25, 0.5, 0.75, 1.0)
    report = attention_report(words(8), heads=1, weight=lambda _, query, key: shades[key] if query == 7 else 0.0)
    assert heat_lines(drawn(report, 80))[7][14:30] == "    ░░░░▒▒▓▓████"


def test_the_future_is_blank() -> None:
    for index, line in enumerate(heat_lines(drawn(attention_report(words(6), heads=1), 80))):
        assert line[14 + 2 * (index + 1) :].strip() == ""


def test_a_weight_that_is_no_number_is_marked() -> None:
    for value in (None, float("nan")):
        report = attention_report(words(3), heads=1, weight=lambda *_, value=value: value)
        for colour in (False, True):
            lines = heat_lines(ESCAPE.sub("", drawn(report, 80, colour=colour)))
            assert lines[2][14:20] == "??????"


def test_everything_fits_without_a_sentence() -> None:
    shown = drawn(attention_report(words(30), heads=1), 80)
    assert len(heat_lines(shown)) == 30
    assert "heatmaps show" not in shown


@pytest.mark.parametrize("width", [40, 80, 100])
@pytest.mark.parametrize("count", [50, 64, 100])
def test_a_window_shows_the_end_and_says_so(width: int, count: int) -> None:
    shown = drawn(attention_report(words(count), heads=1), width)
    lines = heat_lines(shown)
    keys = len(lines)
    sentence = " ".join(shown.split("heatmaps show")[1].split("strongest keys")[0].split())
    assert f"keys {count - keys}–{count - 1} of {count} tokens" in sentence
    assert "--json --values" in sentence
    assert [int(line.split()[0]) for line in lines] == list(range(count - keys, count))
    assert 2 * (keys + 1) + 14 >= min(width - 1, 2 * 64)  # as many as fit
    strongest = shown.split("strongest keys")[1]
    assert all(re.search(rf"^ *{index} w{index}\b", strongest, re.MULTILINE) for index in range(1, count))


def test_the_sentence_promises_no_more_than_a_wider_terminal_gives() -> None:
    wide = drawn(attention_report(words(100), heads=1), 300)
    assert "keys 36–99 of 100 tokens" in " ".join(wide.split())  # the record's window, whatever the width
    assert "wider terminal" not in wide
    chosen = drawn(attention_report(words(10), heads=1, queries=[3]), 200)
    assert "wider terminal" not in chosen


def test_chosen_queries_are_the_rows() -> None:
    shown = drawn(attention_report(words(10), heads=1, queries=[2, 5]), 80)
    assert [line.split()[0] for line in heat_lines(shown)] == ["2", "5"]


@pytest.mark.parametrize(("width", "heads", "groups"), [(80, 12, 3), (200, 12, 1), (40, 3, 2)])
def test_heads_are_side_by_side_as_far_as_they_fit(width: int, heads: int, groups: int) -> None:
    shown = drawn(attention_report(words(5), heads=heads), width).split("strongest keys")[0]
    assert len([line for line in shown.splitlines() if re.search(r"head \d", line)]) == groups
    assert all(f"head {index}" in shown for index in range(heads))


# Odd text

ODD = (
    "[/INST]",
    "[bold]",
    "[red",
    "\x1b[31m",
    "\u202eabc",
    "\u200f",
    "\0",
    "\r\n",
    "\x9b2J",
    "\ud800",
    "\ue000",
    "\ufeff",
)
WIDE = ("漢字かな", "한글", "😀", "👩\u200d🔬", "🇩🇪", "❤\ufe0f", "e\u0301", "ｆｕｌｌ", "שלום", "x" * 40)


def odd_reports(word: str) -> list[Report]:
    """Every kind of report, with the word wherever a person or a file can put one."""
    input = text_input((word, " plain", word + word))
    named = [tensor(word, (1, 2), None, module=word, class_=word)]
    parts = [
        ModuleRecord(name="", class_=word, depth=0, parameters=[], numel=1, bytes=1),
        ModuleRecord(name=word, class_=word, depth=1, parameters=[parameter(word, 1)], numel=1, bytes=2),
    ]
    lines = {"notes": [word], "model": model(name=word, class_=word, dtype=word, quantization=word, revision=word)}
    totals = TotalsRecord(numel=1, bytes=2, bytes_8bit=2, bytes_4bit=2, linear_modules=0)
    stage = StageRecord(name=word, axes=None, module=word, class_=word, available=True, reason=None, note=word)
    absent = StageRecord(name=word, axes=None, module=None, class_=None, available=False, reason=word, note=None)
    return [
        TokenizeReport(**{**head("tokenize"), **lines}, input=input),
        TreeReport(
            **{**head("tree"), **lines},
            modules=parts if "." not in word else parts[:1],
            totals=totals,
            quantization=None,
        ),
        StagesReport(**{**head("stages"), **lines}, stages=[stage, absent], quantization=None),
        TensorsReport(**{**head("run"), **lines}, input=input, tensors=named, saved=word, checks=None, **COSTS),
        attention_report(input),
    ]


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("word", ODD + WIDE, ids=ascii)
def test_odd_text_neither_crashes_nor_vanishes(word: str, width: int) -> None:
    for report in odd_reports(word):
        shown = drawn(report, width)
        shown.encode()  # no lone surrogate
        assert not {each for each in shown if each != "\n" and (each < " " or "\x7f" <= each <= "\x9f")}
        assert not set("\u202e\u200f\ufeff\ue000") & set(shown)
        assert all(cell_len(line) <= width for line in shown.splitlines())
        cut = visible(word)[:6].rstrip()
        assert squeezed(cut) in squeezed(shown), type(report).__name__


@pytest.mark.parametrize("word", WIDE, ids=ascii)
def test_wide_labels_keep_the_columns_of_a_heatmap(word: str) -> None:
    input = text_input((word, " b", word, " d"))
    report = attention_report(input, heads=2, weight=lambda _, query, key: float(key == 0))
    lines = heat_lines(drawn(report, 80))
    assert len(lines) == 5
    for line in lines:
        before, bar_, _ = line.partition("██")
        assert bar_
        assert cell_len(before) == 14


@pytest.mark.parametrize("word", WIDE[:-1], ids=ascii)
def test_wide_tokens_keep_the_columns_of_the_token_table(word: str) -> None:
    shown = drawn(TokenizeReport(**head("tokenize"), input=text_input((word, " b", word))), 120)
    header = next(line for line in shown.splitlines() if "characters" in line)
    ends = cell_len(header[: header.index("characters") + len("characters")])
    rows = [line for line in shown.splitlines() if re.search(r"\d–\d+ \(\d+\)", line)]
    assert len(rows) == 3
    for line in rows:
        assert cell_len(line[: line.rindex(")") + 1]) == ends


# Glyphs


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\nb\tc\rd", "a↵b⇥c␍d"),
        ("\0\x1b\x7f", "␀␛␡"),
        ("\x9b", "\\u{9b}"),
        ("\u202e\u200b", "\\u{202e}\\u{200b}"),
        ("\u2028\u2029", "\\u{2028}\\u{2029}"),
        ("\ud800", "\\u{d800}"),
        ("naïve 漢 😀 [/INST]", "naïve 漢 😀 [/INST]"),
    ],
    ids=ascii,
)
def test_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_spaces_can_be_seen() -> None:
    assert visible(" a ", spaces=True) == "␣a␣"


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0"), (999, "999"), (1000, "1K"), (1234, "1.23K"), (999_949, "1M"), (125_239_296, "125M"), (10**9, "1B")],
)
def test_short_count(count: int, shown: str) -> None:
    assert short_count(count) == shown


@pytest.mark.parametrize(("count", "shown"), [(0, "0 B"), (1, "1 B"), (2500, "2.5 kB"), (2_631_000_000, "2.63 GB")])
def test_short_bytes(count: int, shown: str) -> None:
    assert short_bytes(count) == shown


@pytest.mark.parametrize("count", [9, 99, 999, 9_995, 99_949, 999_499, 999_500, 999_999, 10**12])
def test_short_counts_stay_short(count: int) -> None:
    assert "e" not in short_count(count)
    assert len(short_count(count)) <= 5


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "–"), (0.0, "0"), (1.23456, "1.235"), (-1e-9, "-1e-09"), (123456.0, "1.235e+05")]
)
def test_number(value: float | None, shown: str) -> None:
    assert number(value) == shown


@pytest.mark.parametrize(
    ("counts", "shown"), [([], ""), ([0, 0], "  "), ([8, 4, 1, 0], "█▄▁ "), ([10**9, 1], "█▁"), ([5], "█")]
)
def test_sparkline(counts: list[int], shown: str) -> None:
    assert sparkline(counts) == shown


def test_bar() -> None:
    assert (bar(0, 0, 8), bar(0, 1, 8), bar(1, 1, 8), bar(0.5, 1, 3)) == ("", "", "█" * 8, "█▌")


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 0.5, 0.99, 1.0])
def test_a_bar_is_never_too_long(value: float) -> None:
    assert len(bar(value, 1.0, 16)) <= 16


def test_ranges() -> None:
    assert ranges([]) == ""
    assert ranges([3]) == "3"
    assert ranges([0, 1, 2, 5, 7, 8]) == "0–2, 5, 7–8"


def test_text_is_taken_as_it_is() -> None:
    """The trap: Rich reads [/INST] in a plain string as a closing tag, and fails."""
    from rich.errors import MarkupError

    with pytest.raises(MarkupError):
        Console(file=io.StringIO()).print("[/INST]")
    Console(file=io.StringIO()).print(Text("[/INST]"))
