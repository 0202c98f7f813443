"""Reports by hand, one of every command, and what a terminal shows of them."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import structs
from rich.console import Console

from txinspect.commands.attn import AttnReport, HeadRecord, KeyRecord, MapRecord, QueryRecord, WindowRecord
from txinspect.commands.diagram import DiagramReport, EdgeRecord, GroupRecord, NodeRecord, StackRecord, TiedRecord
from txinspect.commands.diff import ChangedRecord, DiffReport, LogitsDiffRecord, StageDiffRecord
from txinspect.commands.embed import EmbedReport, SimilarRecord
from txinspect.commands.heads import HeadsReport, Kind, KindRecord, SinkRecord
from txinspect.commands.lens import CellRecord, DecidedRecord, FollowedRecord, LensReport, LensRowRecord, LikelyRecord
from txinspect.commands.lesson import (
    AgainRecord,
    EmbeddingRecord,
    GuessRecord,
    HeadKindRecord,
    LayerGuessRecord,
    LessonReport,
    OffRecord,
    PositionRecord,
    ScoredKeyRecord,
    StepRecord,
    StreamRecord,
    WorkingHeadRecord,
)
from txinspect.commands.logits import (
    ContinuationRecord,
    LabelRecord,
    LogitsReport,
    MaskedTokenRecord,
    PredictionRecord,
    PseudoScoreRecord,
    ScoredRecord,
    TextScoreRecord,
)
from txinspect.commands.models import AvailableModelRecord, ModelsReport
from txinspect.commands.params import (
    DifferenceRecord,
    MeasuredTensorRecord,
    MeasuredTotalsRecord,
    ParamsReport,
    SpectralRecord,
)
from txinspect.commands.plan import PlanReport
from txinspect.commands.pos import PosReport
from txinspect.commands.stages import StageRecord, StagesReport
from txinspect.commands.tokenize import TokenizeReport
from txinspect.commands.tree import ModuleRecord, ParameterRecord, TotalsRecord, TreeReport, TreeView
from txinspect.records import (
    CheckRecord,
    FileRecord,
    HistogramRecord,
    InputRecord,
    LoadingRecord,
    ModelRecord,
    QuantizationRecord,
    Report,
    RowRecord,
    SentenceRecord,
    StatsRecord,
    TensorRecord,
    TensorsReport,
    TokenRecord,
)
from txinspect.render.terminal import render
from txinspect.texts.aligning import aligned


def model(**changes: Any) -> ModelRecord:
    values: dict[str, Any] = {
        "name": "facebook/opt-tiny",
        "revision": "0123456789abcdef0123456789abcdef01234567",
        "model_type": "opt",
        "class_": "OPTForCausalLM",
        "task": "causal-lm",
        "num_parameters": 320,
        "num_hidden_layers": 3,
        "num_encoder_layers": None,
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
    return InputRecord(
        text=text or "".join(words),
        input_ids=ids,
        attention_mask=[[1] * len(tokens)],
        tokens=tokens,
        pair=None,
        segments=None,
        uncut=None,
        roles=None,
        decoder=None,
    )


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
    return InputRecord(
        text="naïve 😀",
        input_ids=ids,
        attention_mask=[[1] * 8],
        tokens=tokens,
        pair=None,
        segments=None,
        uncut=None,
        roles=None,
        decoder=None,
    )


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
        against=None,
    )


def plan_of_a_diff() -> PlanReport:
    """The same, and what the other side would read."""
    return structs.replace(plan_report(), against=plan_report())


def embed_report(similar: Sequence[SimilarRecord] = ()) -> EmbedReport:
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
    return EmbedReport(
        **head("embed"),
        input=SENTENCE,
        edits=[],
        findings=[],
        tensors=[embeddings],
        saved="out/embeddings.safetensors",
        replaced=True,
        checks=None,
        similar=list(similar),
        **COSTS,
    )


def similar_report() -> EmbedReport:
    """Other texts, compared by the product of vectors."""
    texts = {"A dog naps": (0.75, 12.5), "It rains [in] May": (-0.05, -1.0), "nothing": (None, 0.0)}
    return embed_report(
        [
            SimilarRecord(text=text, tokens=4, tensor=f"pooled#{run}", cosine=cosine, function="dot", score=score)
            for run, (text, (cosine, score)) in enumerate(texts.items(), 2)
        ]
    )


NOT_FINITE = "Not every number is finite: layers.1.attention.weights has 3 NaN among its 10 values."


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
        **head("run", [NOT_FINITE, "model.decoder.project_in passed no tensor on in this pass."]),
        input=SENTENCE,
        edits=[],
        findings=[NOT_FINITE],
        tensors=tensors,
        saved=None,
        replaced=False,
        checks=None,
        **COSTS,
    )


WHOLE: dict[str, Any] = {
    "input": SENTENCE,
    "saved": None,
    "replaced": False,
    "edits": [],
    "findings": [],
    "checks": None,
    **COSTS,
}
"""The rest of a report about tensors."""


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

    def row(head: int, query: int, keys: Sequence[int]) -> list[float | None]:
        return [weight(head, query, key) if key <= query else 0.0 for key in keys]

    records = [
        HeadRecord(
            labels=None,
            layer=0,
            head=head,
            run=1,
            queries=[
                QueryRecord(
                    index=query,
                    keys=[KeyRecord(index=key, weight=weight(head, query, key)) for key in range(query, -1, -1)][:5],
                )
                for query in asked
            ],
            strongest=[KeyRecord(index=0, weight=0.5)],
            window=WindowRecord(
                queries=asked[-64:], keys=keys, weights=[row(head, query, keys) for query in asked[-64:]]
            ),
            map=MapRecord(
                queries=[(query, query) for query in asked],
                keys=[(key, key) for key in range(last)],
                weights=[row(head, query, range(last)) for query in asked],
            ),
        )
        for head in range(heads)
    ]
    kept = None if queries is None else {"query": asked}
    shape, supplier = (1, heads, len(asked), count), {"module": "model.layers.0.self_attn", "class_": "OPTAttention"}
    weights = tensor(
        "layers.0.attention.weights", shape, ("batch", "head", "query", "key"), coordinates=kept, **supplier
    )
    output = tensor("layers.0.attention.output", (1, count, 4), ("batch", "seq", "hidden"), **supplier)
    return AttnReport(
        **head("attn"),
        input=input,
        tensors=[weights, output],
        saved=None,
        replaced=False,
        edits=[],
        findings=[],
        checks=None,
        **COSTS,
        layer=0,
        layers=[0],
        attention="self",
        stack=None,
        heads=records,
    )


def cross_report() -> AttnReport:
    """A decoder's attention to the source: two texts, maps labelled by both."""
    target = structs.replace(SENTENCE, decoder=SentenceRecord(**_own(SENTENCE)))
    report = attention_report()
    tensors = [
        structs.replace(each, name=f"decoder.{each.name.replace('.attention.', '.cross_attention.')}")
        for each in report.tensors
    ]
    return structs.replace(
        report, model=model(task="seq2seq-lm"), input=target, tensors=tensors, attention="cross", stack="decoder"
    )


def _own(sentence: InputRecord) -> dict[str, Any]:
    return {name: getattr(sentence, name) for name in ("text", "input_ids", "attention_mask", "tokens")}


def masked_report() -> LogitsReport:
    """What a model that fills masks gives at one, and a score of the text by masking each token."""
    report = logits_report()
    tokens = [
        MaskedTokenRecord(position=token.index, token=token.text, logprob=-0.5 * token.index, rank=1 + token.index)
        for token in SENTENCE.tokens[1:]
    ]
    return structs.replace(
        report,
        model=model(task="masked-lm"),
        predictions=[structs.replace(each, next=None, surprisal=None) for each in report.predictions],
        text_score=None,
        continuations=[],
        pseudo_score=PseudoScoreRecord(tokens=tokens, pll=-5.0, pseudo_perplexity=3.49),
        bidirectional=True,
    )


def labels_report() -> LogitsReport:
    """A head that classifies the text, one of whose labels is odd."""
    labels = [
        LabelRecord(position=None, id=index, label=name, logit=1.5 - index, prob=share)
        for index, (name, share) in enumerate({"positive": 0.66, "neutral [/b]": 0.24, "negative\x1b": 0.1}.items())
    ]
    shown = model(task="sequence-classification")
    nothing: dict[str, Any] = {"predictions": [], "text_score": None, "continuations": []}
    return structs.replace(logits_report(), model=shown, **nothing, labels=labels, bidirectional=True)


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


def diagram_report() -> DiagramReport:
    """Five layers of two kinds, every other with a window, with their norm before and a long class name."""

    def node(name: str, kind: Any, module: str | None = None, **values: Any) -> NodeRecord:
        unknown: dict[str, Any] = dict.fromkeys(
            ["factor", "heads", "kv_heads", "head_dim", "window", "experts", "experts_used"]
        )
        own: dict[str, Any] = {
            "class_": "Norm" if kind == "norm" else None,
            "operations": [],
            "weights": [],
            "parameters": 0,
        }
        own |= {"run": 1, "tied_to": None, "modules": [module] if module else []}
        return NodeRecord(id=name, kind=kind, module=module, **(unknown | own | values))

    def edge(source: str, target: str, module: str | None = None) -> EdgeRecord:
        axes, shape = ["batch", "seq", "hidden"], [1, 10, 4]
        return EdgeRecord(from_=source, to=target, module=module, run=1, item=0, factor=1.0, axes=axes, shape=shape)

    nodes = [node("text", "text"), node("token_embeddings", "embedding", "embed", parameters=48)]
    edges, groups, before = [edge("text", "token_embeddings")], [], "token_embeddings"
    for first, layers, window in ((0, [0, 2, 4], 128), (1, [1, 3], None)):
        at, path = f"layers.{first}", f"model.layers.{first}"
        norm, attention = f"{at}.input_layernorm", f"{at}.attention"
        inside = [
            node(f"{at}.input", "stream"),
            node(norm, "norm", f"{path}.input_layernorm", parameters=8),
            node(
                attention,
                "attention",
                f"{path}.self_attn",
                heads=2,
                kv_heads=1,
                head_dim=2,
                window=window,
                parameters=64,
            ),
            node(f"{at}.sum", "sum"),
            node(f"{at}.output", "stream"),
        ]
        nodes += inside
        edges += [edge(before, f"{at}.input"), edge(f"{at}.input", norm), edge(norm, attention, norm)]
        edges += [edge(f"{at}.input", f"{at}.sum"), edge(attention, f"{at}.sum", attention)]
        edges.append(edge(f"{at}.sum", f"{at}.output"))
        paths = [f"model.layers.{layer}" for layer in layers]
        groups.append(
            GroupRecord(
                layers=layers,
                modules=paths,
                ends=paths,
                runs=[1 for _ in layers],
                class_name="TinyDecoderLayerWithSlidingWindows",
                nodes=[each.id for each in inside],
                input=f"{at}.input",
                output=f"{at}.output",
                parameters=72,
            )
        )
        before = f"{at}.output"
    nodes += [node("lm_head", "head", "lm_head", parameters=48, tied_to="token_embeddings"), node("logits", "logits")]
    edges += [edge("layers.0.output", "lm_head"), edge("lm_head", "logits", "lm_head")]
    stack = StackRecord(
        name="",
        before=["text", "token_embeddings"],
        groups=groups,
        order=[0, 1, 0, 1, 0],
        after=["lm_head", "logits"],
        positions="rotary: cos and sin act on q and k inside attention, nothing is added to the embeddings",
        idle=[5],
    )
    tied = [TiedRecord(names=["embed.weight", "lm_head.weight"], parameters=48)]
    return DiagramReport(**head("diagram", device="meta"), seq=10, nodes=nodes, edges=edges, stacks=[stack], tied=tied)


def lesson_report() -> LessonReport:
    """Every step but one, with a scale of 1, weights that are no plain softmax, and a head that matters."""
    said = text_input(["The", " quick", " [red]", " fox"])
    of = {"layer": 1, "position": 3}
    asked = ("tokenize", "embed", "pos", "attn --values", "attn", "heads", "run", "run", "lens", "logits", "logits")

    def guess(id_: int, text: str | None, prob: float) -> GuessRecord:
        return GuessRecord(id=id_, text=text, prob=prob)

    def again(position: int, text: str, on: float, off: float) -> AgainRecord:
        return AgainRecord(position=position, id=100 + position, text=text, on=on, off=off)

    kinds: list[tuple[Kind, float]] = [("previous", 0.75), ("broad", 0.0), ("first", 0.5)]
    scored = [(-2.0, 0.1), (4.0, 0.3), (12.0, 0.45), (10.0, 0.15), (30.0, 0.0)]
    return LessonReport(
        **head("lesson"),
        input=said,
        step=None,
        steps=[
            StepRecord(
                step=step, line=f"txinspect {line}", missing="this model predicts no token" if step == 10 else None
            )
            for step, line in enumerate(asked, 1)
        ],
        embedding=EmbeddingRecord(position=3, id=121, first=[0.5, -0.25, 0.125, 2.0], norm=3.5, width=16, rows=2048),
        positions=PositionRecord(kind="relative", position=3, first=[0.5, -0.5], why=None),
        head=WorkingHeadRecord(
            layer=1,
            head=2,
            query=3,
            key=2,
            size=8,
            q=[1.0, -2.0, 0.5, 0.25],
            k=[2.0, -1.0, 4.0, 0.0],
            v=[0.1, 0.2, 0.3, 0.4],
            scale=1.0,
            plain=True,
            apart=0.25,
            keys=[
                ScoredKeyRecord(
                    key=key, product=score, score=score, added=None, seen=key < 4, softmax=weight, weight=weight
                )
                for key, (score, weight) in enumerate(scored)
            ],
            middle=1,
            hidden=[2, 3, 4],
        ),
        heads=[
            HeadKindRecord(layer=1, head=index, kind=kind, share=share) for index, (kind, share) in enumerate(kinds)
        ],
        stream=StreamRecord(
            **of,
            before=10.0,
            attention=2.5,
            cross=None,
            sum=11.0,
            mlp=4.0,
            after=12.0,
            error=1e-7,
            width=16,
            inner=64,
        ),
        layers=[
            LayerGuessRecord(layer=-1, guess=guess(121, " [red]", 1.0)),
            LayerGuessRecord(layer=0, guess=guess(7, None, 0.25)),
            LayerGuessRecord(layer=1, guess=guess(9, " jumps\x1b[31m", 0.5)),
        ],
        predicted=None,
        off=OffRecord(
            part="head",
            edit="layers.1.attention.context[head=2] = 0",
            layer=1,
            head=2,
            tokens=[again(1, " quick", 0.9, 0.1), again(2, " [red]", 0.8, 0.001)],
            on=-0.164,
            off=-4.6,
        ),
    )


def models_report() -> ModelsReport:
    """A bundled model, a cached one with a long name, and one of which nothing is known."""
    return ModelsReport(
        schema_version=1,
        txinspect="0.1.0",
        command="models",
        notes=[],
        models=[
            AvailableModelRecord(
                name="opt-mini",
                origin="bundled",
                model_type="opt",
                layers=4,
                bytes=2_180_000,
                path="/site-packages/txinspect/bundled/opt-mini",
            ),
            AvailableModelRecord(
                name="meta-llama/Llama-3.2-1B-Instruct",
                origin="cache",
                model_type="llama",
                layers=16,
                bytes=0,
                path=f"/home/me/.cache/huggingface/hub/models--meta-llama--Llama-3.2-1B-Instruct/snapshots/{'9' * 40}",
            ),
            AvailableModelRecord(
                name="no/config[red]",
                origin="cache",
                model_type=None,
                layers=None,
                bytes=None,
                path="/home/me/.cache/huggingface/hub/models--no--config[red]",
            ),
        ],
    )


def measured(name: str, *shape: int, **changes: Any) -> MeasuredTensorRecord:
    """A tensor of params, with more of everything the later its layer is."""
    numel = 1
    for size in shape:
        numel *= size
    layer = next((int(part) for part in name.split(".") if part.isdecimal()), 0)
    values: dict[str, Any] = {
        "name": name,
        "file": "model.safetensors",
        "shape": list(shape),
        "dtype": "bfloat16",
        "stats": stats(numel, std=0.02 + layer / 1000, min=-0.1 - layer / 100, l2=12.5 + layer),
        "kurtosis": 0.1 * layer - 0.2,
        "outliers": 3 * layer,
        "dead_rows": 0 if len(shape) > 1 else None,
        "padding_row": None,
        "identical_to": None,
        "spectral": None,
        "diff": None,
    }
    return MeasuredTensorRecord(**(values | changes))


def params_report(
    tensors: Sequence[MeasuredTensorRecord], findings: Sequence[str] = (), notes: Sequence[str] = (), **changes: Any
) -> ParamsReport:
    compared = [each.diff for each in tensors if each.diff]
    return ParamsReport(
        **head("params", [*findings, *notes], num_parameters=None, device=None, attn_implementation=None),
        findings=list(findings),
        tensors=list(tensors),
        totals=MeasuredTotalsRecord(
            tensors=len(tensors),
            files=1,
            numel=sum(each.stats.numel for each in tensors),
            bytes=sum(2 * each.stats.numel for each in tensors),
            zeros=sum(each.stats.zeros for each in tensors),
            nan=sum(each.stats.nan for each in tensors),
            inf=sum(each.stats.posinf + each.stats.neginf for each in tensors),
            outliers=sum(each.outliers for each in tensors),
            dead_rows=sum(each.dead_rows or 0 for each in tensors),
            identical=sum(each.identical_to is not None for each in tensors),
            compared=len(compared) if compared else None,
            equal=sum(each.equal for each in compared) if compared else None,
        ),
        **({"checks": None, "params": [], "sort": None, "other": None, "base": None} | changes),
    )


def flawed_params() -> ParamsReport:
    """NaN, infinities, dead rows, a tensor of which nothing is finite, a copy, brackets in a name; a failed check."""
    nothing = dict.fromkeys(("mean", "std", "min", "max", "abs_max", "l2"))
    return params_report(
        [
            measured("model.embed_tokens.weight", 12, 4, dead_rows=1, padding_row=1),
            measured("model.layers.0.fc1.bias", 8),
            measured("model.layers.0.fc1.weight", 8, 4, stats=stats(32, nan=2, posinf=1), dead_rows=3),
            measured("model.layers.1.fc1.bias", 8, stats=stats(8, nan=8, zeros=0, **nothing), kurtosis=None),
            measured("model.layers.1.fc1.weight", 8, 4, dtype="Q4_0"),
            measured("model.layers.1.odd[red].weight", 8, 4),
            measured("lm_head.weight", 12, 4, identical_to="model.embed_tokens.weight"),
        ],
        findings=[
            "2 tensors hold NaN, 10 in all, such as model.layers.0.fc1.weight.",
            "model.layers.0.fc1.weight has 3 dead rows.",
        ],
        notes=["facebook/opt-tiny: blocks (Q4_0) are measured as the numbers that they stand for."],
        checks=[
            CheckRecord(name="nan", passed=False, detail="model.layers.0.fc1.weight has 2 NaN, and 1 more tensor"),
            CheckRecord(name="zero", passed=True, detail="no tensor has nothing but zeros"),
        ],
    )


def many_params() -> ParamsReport:
    """Forty layers, whose equal places are folded; one of them has another shape."""
    tensors = [measured("model.embed_tokens.weight", 12, 4)]
    for layer in range(40):
        tensors.append(measured(f"model.layers.{layer}.fc1.weight", 12 if layer == 7 else 8, 4))
        tensors.append(measured(f"model.layers.{layer}.fc2.weight", 4, 8, dead_rows=int(layer in (3, 5))))
        tensors.append(measured(f"model.layers.{layer}.norm.weight", 4))
    return params_report(
        tensors, findings=["2 tensors have 2 dead rows in all, such as model.layers.3.fc2.weight (1)."]
    )


def compared_params() -> ParamsReport:
    """Two fine-tunes of a base, sorted; spectra, too."""

    def record(layer: int, rel_l2: float) -> MeasuredTensorRecord:
        same = rel_l2 == 0
        diff = DifferenceRecord(
            cosine=1 - rel_l2**2, rel_l2=rel_l2, max_abs=rel_l2 / 10, equal=same, sign_agreement=None if same else 0.75
        )
        spectral = SpectralRecord(norm=3.5 + layer, stable_rank=2.25)
        return measured(f"model.layers.{layer}.fc1.weight", 8, 4, diff=diff, spectral=spectral)

    return params_report(
        [record(2, 0.125), record(0, 0.0321), record(1, 0.0), measured("model.new.weight", 8, 4)],
        notes=["Equal in other: 1 of 3 tensors; model.layers.2.fc1.weight differs most, by 0.125 of its norm."],
        sort="rel_l2",
        other="other",
        base="base",
    )


def scored(index: int, text: str, prob: float) -> ScoredRecord:
    return ScoredRecord(
        id=100 + index,
        token=text.replace(" ", "Ġ"),
        text=text,
        logit=10.0 - index,
        prob=prob,
        rank=index + 1,
        ties=index % 2,
    )


def logits_report() -> LogitsReport:
    top = [scored(0, " jumps", 0.75), scored(1, " runs", 0.2), scored(2, " [/INST]", 0.00004)]
    predictions = [
        PredictionRecord(
            position=index,
            token=token_.text,
            next=None if index == 4 else scored(index, SENTENCE.tokens[index + 1].text or "", 0.5 / (index + 1)),
            surprisal=None if index == 4 else 0.69 * (index + 1),
            entropy=1.25,
            top=top if index == 4 else [],
            targets=[scored(7, " sat", 0.01)] if index == 4 else [],
        )
        for index, token_ in enumerate(SENTENCE.tokens)
    ]
    return LogitsReport(
        **head("logits"),
        **WHOLE,
        tensors=[tensor("logits", (1, 5, 12), ("batch", "seq", "vocab"))],
        predictions=predictions,
        text_score=TextScoreRecord(tokens=4, logprob=-5.5, perplexity=3.9551, bits_per_byte=0.4178),
        continuations=[
            ContinuationRecord(text=" jumps", tokens=1, pieces=[" jumps"], logprob=-0.3, greedy=True, per_byte=-0.05),
            ContinuationRecord(
                text=" sat\non", tokens=2, pieces=[" sat", "\non"], logprob=-9.1, greedy=False, per_byte=-1.3
            ),
        ],
        pseudo_score=None,
        labels=[],
        bidirectional=False,
    )


def lens_report() -> LensReport:
    words = (" the", " fox", " jumps")

    def cell(layer: int, position: int) -> CellRecord:
        text = words[min(2, max(0, layer + position - 3))]
        likely = LikelyRecord(id=7, token=text, text=text, prob=0.2 + 0.15 * (layer + 1))
        followed = FollowedRecord(id=9, token=" jumps", text=" jumps", rank=12 - 3 * layer, prob=0.1)
        return CellRecord(position=position, entropy=2.5 - layer / 2, kl=3.0 - layer, top=[likely], targets=[followed])

    rows = [
        LensRowRecord(layer=layer, at="output", cells=[cell(layer, position) for position in range(5)])
        for layer in range(-1, 3)
    ]
    positions = [
        DecidedRecord(position=each.index, token=each.text, decided_at=2, first_at=each.index % 3 - 1)
        for each in SENTENCE.tokens
    ]
    return LensReport(**head("lens"), **WHOLE, tensors=[], rows=rows, positions=positions, last_row_equals_logits=True)


def heads_report() -> HeadsReport:
    kinds: list[list[Any]] = [["previous"], ["first", "broad"], [], ["induction"]]
    heads = [
        KindRecord(
            layer=layer,
            head=index,
            run=1,
            previous=0.9 - 0.2 * index,
            next_token=None,
            duplicate=0.1,
            induction=0.3 * index,
            entropy=0.5 * index,
            relative_entropy=0.3 * index,
            distance=1.5 * index,
            first_token=0.1 + 0.2 * index,
            self_token=None if index == 2 else 0.05,
            special=0.2,
            labels=kinds[index],
        )
        for layer in range(3)
        for index in range(4)
    ]
    sinks = [SinkRecord(key=0, share=0.75), SinkRecord(key=3, share=0.25)]
    return HeadsReport(**head("heads"), **WHOLE, tensors=[], heads=heads, stack=None, sinks=sinks, copies=2)


def diff_report() -> DiffReport:
    names = ["token_embeddings", *(f"layers.{layer}.output" for layer in range(3)), "logits"]
    stages = [
        StageDiffRecord(
            name=name,
            shape=[1, 5, 4],
            rel_l2=None if index == 3 else 0.0001 * 10**index if index else 0.0,
            cosine=1 - 0.001 * index,
            snr_db=80.0 - 20 * index if index else None,
            max_abs=0.5 * index,
            mean_abs=0.1 * index,
            at=[0, index, 1],
            other_at=None,
            nan=3 if index == 3 else 0,
            total_variation=None,
            changed_share=None,
            isolated_rel_l2=0.001 if name.startswith("layers") else None,
        )
        for index, name in enumerate(names)
    ]
    found = "The sides part at layers.1.output (0.01 relative L2); 1 of 5 next tokens change, KL 0.02 nats on average."
    return DiffReport(
        **head("diff", [found, "8bit: 6 of 7 weight matrices are quantized (Linear8bitLt); not lm_head."]),
        against=model(quantization="8bit"),
        way="against_8bit",
        given=None,
        input=SENTENCE,
        other_input=None,
        aligned=None,
        decoder_aligned=None,
        findings=[found],
        stages=stages,
        first_divergence="layers.1.output",
        tolerance=0.003,
        noise=0.001,
        logits=LogitsDiffRecord(
            kl_mean=0.02, kl_median=0.01, kl_p99=0.3, kl_max=0.31, same_top1=0.8, ln_perplexity_ratio=-0.01
        ),
        changed=[ChangedRecord(position=3, other_position=None, token=" brown", from_=" fox", to=" [bold]")],
        only_this=["layers.2.mlp.output"],
        only_other=[],
        saved="out/both.npz",
        replaced=False,
        checks=None,
    )


def two_texts_report(this: Sequence[str], other: Sequence[str]) -> DiffReport:
    """Of `diff --against-text`: two texts, a token per word."""
    ids: dict[str, int] = {}

    def read(words: Sequence[str]) -> InputRecord:
        record = text_input(words)
        tokens = [structs.replace(each, id=ids.setdefault(each.text or "", 2 + len(ids))) for each in record.tokens]
        return structs.replace(record, tokens=tokens, input_ids=[[each.id for each in tokens]])

    sides = read(this), read(other)
    pairs = aligned(sides[0].input_ids[0], sides[1].input_ids[0])
    report = diff_report()
    return structs.replace(
        report,
        notes=report.findings,
        against=model(),
        way="against_text",
        given=sides[1].text,
        input=sides[0],
        other_input=sides[1],
        aligned=[list(pair) for pair in pairs],
        stages=[structs.replace(each, isolated_rel_l2=None) for each in report.stages],
        changed=[
            ChangedRecord(
                position=left,
                other_position=right if right != left else None,
                token=sides[0].tokens[left].text,
                from_=" fox",
                to=" dog",
            )
            for left, right in pairs[-2:]
        ],
    )


REPORTS: dict[str, Callable[[], tuple[Report, object]]] = {
    "tokenize": lambda: (TokenizeReport(**head("tokenize", device=None), input=broken_characters()), None),
    "tree": lambda: (tree_report(device="meta"), None),
    "tree-expand": lambda: (tree_report(), TreeView(expand=True)),
    "tree-depth": lambda: (tree_report(), TreeView(depth=2)),
    "tree-params": lambda: (tree_report(quantization="8bit"), TreeView(params=True)),
    "stages": lambda: (stages_report(), None),
    "diagram": lambda: (diagram_report(), None),
    "lesson": lambda: (lesson_report(), None),
    "models": lambda: (models_report(), None),
    "params": lambda: (flawed_params(), None),
    "params-many": lambda: (many_params(), None),
    "params-diff": lambda: (compared_params(), None),
    "embed": lambda: (embed_report(), None),
    "embed-similar": lambda: (similar_report(), None),
    "pos": lambda: (
        PosReport(
            **{
                **head("pos"),
                "sinusoids": [],
                "input": SENTENCE,
                "tensors": [],
                "saved": None,
                "replaced": False,
                "edits": [],
                "findings": [],
                "checks": None,
                **COSTS,
            }
        ),
        None,
    ),
    "attn": lambda: (attention_report(), None),
    "attn-cross": lambda: (cross_report(), None),
    "run": lambda: (run_report(), None),
    "logits": lambda: (logits_report(), None),
    "logits-masked": lambda: (masked_report(), None),
    "logits-labels": lambda: (labels_report(), None),
    "lens": lambda: (lens_report(), None),
    "heads": lambda: (heads_report(), None),
    "diff": lambda: (diff_report(), None),
    "diff-texts": lambda: (
        two_texts_report(("The", " quick", " brown", " fox"), ("The", " very", " slow", " brown", " fox")),
        None,
    ),
    "plan": lambda: (plan_report(), None),
    "plan-diff": lambda: (plan_of_a_diff(), None),
}


def drawn(name_or_report: str | Report, width: int, *, colour: bool = False, view: object | None = None) -> str:
    """What a console of that width shows; in truecolor, or as a pipe gets it."""
    report: Report
    if isinstance(name_or_report, str):
        report, view = REPORTS[name_or_report]()
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
    render(report, console, view)
    return stream.getvalue()


ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
"""A colour."""


def heat_lines(shown: str) -> list[str]:
    """The lines of the heatmaps, headings left out."""
    part = shown.split("queries ↓", 1)[1].split("\nlayers.", 1)[0]
    return [line for line in part.splitlines() if re.match(r" {0,3}\d+(–\d+)? +\S", line) and " row" not in line]
