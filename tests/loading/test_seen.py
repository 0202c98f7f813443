"""Names of models that were seen before: a wrong one is refused as ever, without torch."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.making.checkpoints import change_config
from tests.making.models import save_tiny
from txinspect import ModelChoice, PlanQuery, RunQuery, inspect
from txinspect.anatomy.names import Names, names_of
from txinspect.errors import InspectError
from txinspect.loading import seen
from txinspect.loading.subject import load_subject
from txinspect.sources.adapter import Adapter
from txinspect.sources.places import Folder, GgufFile
from txinspect.sources.resolving import resolve
from txinspect.sources.source import Source
from txinspect.texts.opened import Opened

WRONG = (
    *("foo", "logit", "", "layers.0.mlp.route", "layers.9.output", "layers.0.output#2", "position_embeddings.cos#1"),
    *("nothing.*", "layers.[9-1].input", "hook_pattern", "hidden_states[2]", "hidden_states[99]", "router_logits"),
    *("model.layers", "position_embeddings.tan", "layers.0.mixer.output", "final_norms"),
)
"""Names that one or all of the models below lack, each refused in its own way."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own: the folder of its names."""
    monkeypatch.setenv("TXINSPECT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "names"


@pytest.fixture
def never_built(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function after which no model can be built any more."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the model was built")

    return lambda: monkeypatch.setattr("txinspect.loading.subject.load_subject", refuse)


def said(folder: Path, *stages: str, **choice: Any) -> str | None:
    """The sentence that a name is refused with; None if it is not."""
    try:
        inspect(RunQuery(model=ModelChoice(name=str(folder), **choice), text="hi", stages=stages))
    except InspectError as error:
        return str(error)
    return None


@pytest.mark.parametrize("model_type", ["opt", "llama", "gpt_oss", "granitemoehybrid"])
def test_the_sentence_is_the_same_without_the_model(
    model_type: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, never_built: Callable[[], None]
) -> None:
    folder = save_tiny(model_type, tmp_path / model_type)
    before = {}
    for name in WRONG:
        before[name] = said(folder, name)
        shutil.rmtree(cache, ignore_errors=True)
    said(folder, "foo")
    assert cache.exists()
    refused = {name: sentence for name, sentence in before.items() if sentence is not None}
    assert len(refused) >= len(WRONG) - 3
    never_built()
    assert {name: said(folder, name) for name in refused} == refused
    assert said(folder, "**", "logits", "foo") == refused["foo"], "the first that is wrong is named"
    query = RunQuery(model=ModelChoice(name=str(folder)), stages=("foo",))
    with pytest.raises(InspectError) as raised:
        inspect(PlanQuery(model=query.model, of=query))
    assert str(raised.value) == refused["foo"]


@pytest.mark.parametrize("model_type", ["llama", "gemma2", "nanochat", "gptj"])
def test_what_a_model_has_is_never_refused(model_type: str, cache: Path, tmp_path: Path) -> None:
    choice = ModelChoice(name=str(save_tiny(model_type, tmp_path / model_type)))
    source = resolve(choice)
    architecture = load_subject(Opened(choice), lambda _: None).architecture
    seen.remember(source, choice, names_of(architecture))
    names = seen.recall(source, choice)
    assert names == names_of(architecture)
    assert names is not None
    assert list(names.reasons) == list(names_of(architecture).reasons), "the order is that of the pass"
    for supply in architecture.supplies() + architecture.module_supplies():
        if supply.available:
            assert names.refusal("m", supply.name) is None
    for pattern in ("**", "layers.*.output", "position_embeddings", "layers.[01].input", "*"):
        assert names.refusal("m", pattern) is None
    assert said(tmp_path / model_type, "position_embeddings", "layers.*.output", "**.q_proj*", "**") is None


_MODULES = """
import sys
from txinspect.cli.app import app
try:
    app(["run", "hi", "-m", sys.argv[1], "-s", "layers.0.atention.q"])
except SystemExit as end:
    assert end.code == 1
print({"torch", "transformers"} & sys.modules.keys() or "neither")
"""


def test_a_second_process_imports_no_torch(cache: Path, opt: Path) -> None:
    found = []
    for _ in range(2):
        command = [sys.executable, "-c", _MODULES, str(opt)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=os.environ)
        found.append((done.stdout, done.stderr.splitlines()[-1]))
    (first, before), (second, after) = found
    assert "torch" in first
    assert second == "neither\n"
    assert "did you mean layers.0.attention.q" in before
    assert after == before


def damage(file: Path, content: bytes) -> None:
    """Write other content under its right checksum."""
    file.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-9]),
    "noise": lambda file: file.write_bytes(b"\xff\x00" * 99),
    "not JSON": lambda file: damage(file, b"{"),
    "other JSON": lambda file: damage(file, b'{"reasons": [], "layers": "x"}'),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_cache_is_as_none(kind: str, cache: Path, opt: Path) -> None:
    before = said(opt, "foo")
    (file,) = cache.iterdir()
    good = file.read_bytes()
    DAMAGES[kind](file)
    assert said(opt, "foo") == before
    assert said(opt, "logits") is None
    assert file.read_bytes() == good, "it is written anew"


def test_a_folder_in_the_place_of_the_file_is_as_none(cache: Path, opt: Path) -> None:
    before = said(opt, "foo")
    (file,) = cache.iterdir()
    file.unlink()
    file.mkdir()
    assert said(opt, "foo") == before
    assert list(cache.iterdir()) == [file]


@pytest.mark.parametrize("below", ["file", "file/deeper"])
def test_a_cache_that_cannot_be_written_is_harmless(
    below: str, opt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("kept")
    monkeypatch.setenv("TXINSPECT_CACHE", str(tmp_path / below))
    assert said(opt, "foo") == said(opt, "foo") is not None
    assert said(opt, "logits") is None
    assert (tmp_path / "file").read_text() == "kept"


def kept(source: Source, **choice: Any) -> bool:
    """Whether a model's names are kept."""
    names = Names({"logits": None}, 1)
    seen.remember(source, ModelChoice(**choice), names)
    found = seen.recall(source, ModelChoice(**choice))
    assert found in (None, names)
    return found is not None


def test_what_is_not_sure_to_be_the_same_is_not_kept(cache: Path, model: Path) -> None:
    assert not kept(Source("m", Folder(model), Adapter("m", model)))
    assert not kept(Source("m", GgufFile(model / "m.gguf")))
    for values in (
        {"auto_map": {"AutoConfig": "x.Y"}},
        {"quantization_config": {"quant_method": "gptq"}},
        {"text_config": {"quantization_config": {"quant_method": "gptq"}}},
        {"model_type": "big_bird"},
    ):
        good = (model / "config.json").read_text()
        change_config(model, **values)
        assert not kept(Source("m", Folder(model)))
        (model / "config.json").write_text(good)
    assert not cache.exists()
    assert kept(Source("m", Folder(model)))


def test_what_decides_the_names_is_the_key(cache: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source("m", Folder(model))
    assert kept(source)
    choices: list[dict[str, Any]] = [{"dtype": "float16"}, {"device": "cpu"}, {"name": "other"}, {"offline": True}]
    assert all(seen.recall(source, ModelChoice(**choice)) for choice in choices), "these change no name"
    assert seen.recall(source, ModelChoice(quantization="8bit")) is None, "it may not be had at all"
    with monkeypatch.context() as other:
        other.setattr(seen, "__version__", "9")
        assert seen.recall(source, ModelChoice()) is None
    with monkeypatch.context() as other:
        other.setattr(seen, "version", lambda _: "9")
        assert seen.recall(source, ModelChoice()) is None
    change_config(model, num_hidden_layers=2)
    assert seen.recall(Source("m", Folder(model)), ModelChoice()) is None


def test_another_config_has_other_names(cache: Path, model: Path) -> None:
    assert "did you mean" in str(said(model, "layers.2.outputs"))
    change_config(model, num_hidden_layers=2)
    assert "layers 0 to 1" in str(said(model, "model.decoder.layers.2.outputs"))
    assert len(list(cache.iterdir())) == 2
    assert json.loads(next(cache.iterdir()).read_bytes().partition(b"\n")[2])["layers"] in (2, 3)
