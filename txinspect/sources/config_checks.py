"""What in a config.json cannot be true, before anything is built from it: a sentence names the key and its value."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from txinspect.errors import SourceError
from txinspect.sources.config import FIELD_NAMES, TEXT_PARTS
from txinspect.sources.source import Source
from txinspect.wording import counted, shown

LARGEST = 2**31 - 1
"""No size of a config is larger: the longest contexts have ten million positions, the largest tables 10⁹ rows."""

_SIZES = ("_size", "_dim", "_layers", "_heads", "_rank", "_experts", "_width", "_channels")
"""How the names of sizes end, beside those in FIELD_NAMES."""

MOST_LAYERS = 2_000
"""Of a model whose weights are not here; the deepest had 1,000 (Wang et al. 2022, DeepNet)."""

MOST_LABELS = 1_000_000

MOST_KEYS = 200_000
"""In all parts of a config, labels aside."""

_SHARED = 4
"""Layers that may share a layer's weights, as ALBERT's and universal transformers' do …"""

_BESIDE = 64
"""… beyond so many."""

_DTYPE = re.compile(r"(torch\.)?(auto|b?float\d*\w*|half|double|u?int\d+)")


def _is_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_dtype(value: Any) -> bool:
    return isinstance(value, str) and _DTYPE.fullmatch(value) is not None


def _is_token(value: Any) -> bool:
    ids = value if isinstance(value, list) and value else [value]
    return all(isinstance(each, int) and not isinstance(each, bool) and 0 <= each <= LARGEST for each in ids)


def _is_auto_map(value: Any) -> bool:
    if not isinstance(value, dict):
        return isinstance(value, (str, list))  # which transformers does not look at
    return all(
        isinstance(name, (str, type(None)))
        for names in value.values()
        for name in (names if isinstance(names, list) else [names])
    )


def _is_quantization(value: Any) -> bool:
    """Whether a config names a quantization method, or tells it as bitsandbytes' first configs did."""
    return isinstance(value, dict) and any(value.get(key) for key in ("quant_method", "load_in_8bit", "load_in_4bit"))


def _is_labels(value: Any) -> bool:
    return _is_bounded(value) and all(str(key).lstrip("-").isdecimal() for key in value)


def _is_bounded(value: Any) -> bool:
    return isinstance(value, dict) and len(value) <= MOST_LABELS


KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "attribute_map": (lambda value: isinstance(value, dict), "an object of names"),
    "auto_map": (_is_auto_map, "an object that names classes"),
    "decoder_start_token_id": (_is_token, "the id of a token"),
    "dtype": (_is_dtype, "the name of a type, such as float16"),
    "id2label": (_is_labels, f"an object of at most {MOST_LABELS:,} numbers and labels"),
    "label2id": (_is_bounded, f"an object of at most {MOST_LABELS:,} labels and numbers"),
    "layer_types": (_is_strings, "a list of names"),
    "num_labels": (lambda value: isinstance(value, int) and 0 <= value <= MOST_LABELS, f"at most {MOST_LABELS:,}"),
    "quantization_config": (_is_quantization, "an object that names a quant_method; take the key out if there is none"),
    "text_config": (lambda value: isinstance(value, dict), "an object"),
    "torch_dtype": (_is_dtype, "the name of a type, such as float16"),
}
"""Keys that transformers trusts, of a model or of the part that is its language model, and what they hold where they
are not null."""


def check_config(source: Source, config: Mapping[str, Any]) -> None:
    """Check a config.json: raise SourceError for a value of the wrong kind, or too large to be true."""

    def wrong(path: str, value: Any, what: str) -> SourceError:
        return SourceError(f"config.json of {source.name!r} says {path} is {shown(value)}: {what}")

    for count, (path, key, value) in enumerate(_values("", config)):
        if count > MOST_KEYS:
            raise SourceError(f"config.json of {source.name!r} has more than {MOST_KEYS:,} keys: fetch it again")
        if key == "__dict__" or (key.startswith("__") and hasattr(object, key)):
            raise wrong(path, value, "that is a name of Python's own, none of a model's; take it out")
        if key.strip("_").removesuffix("_internal") in _IMPLEMENTATIONS and (code := _code_of(value)):
            advice = "write sdpa or eager, or take the key out"
            raise wrong(path, code, f"transformers would fetch and run native code for it; {advice}")
        trusted = path.rpartition(".")[0] in ("", *TEXT_PARTS) and key in KINDS
        if trusted and value is not None and not KINDS[key][0](value):
            raise wrong(path, value, f"it must be {KINDS[key][1]}")
        if isinstance(value, int) and value > LARGEST and _is_size(key):
            raise wrong(path, value, f"no model has a size beyond {LARGEST:,}")
        if key in FIELD_NAMES["num_hidden_layers"] and isinstance(value, int) and value > _SHARED + _BESIDE:
            _check_layers(source, path, value)


_IMPLEMENTATIONS = ("attn_implementation", "experts_implementation")
"""Keys by which transformers fetches kernels, of any part of a config."""


def _code_of(value: Any) -> str | None:
    """What a config's checked value names that is a repository of kernels, or is fetched for want of a package."""
    for each in value.values() if isinstance(value, dict) else (value,):
        named = each.removeprefix("paged|") if isinstance(each, str) else ""
        package = next((package for name, package in _PACKAGES.items() if named.startswith(name)), None)
        if "/" in named or (package is not None and find_spec(package) is None):
            return str(each)
    return None


_PACKAGES = {"flash_attention_2": "flash_attn", "flash_attention": "flash_attn_interface", "flash_mla": "flash_mla"}
"""Backends that transformers takes from a package, or else from a repository of kernels."""


def _is_size(key: str) -> bool:
    return key.endswith(_SIZES) or any(key in names for names in FIELD_NAMES.values())


def _values(path: str, config: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Every value of a config.json to check, by its path and its key, those in other objects among them."""
    for key, value in config.items():
        here = f"{path}.{key}" if path else key
        yield here, key, value
        if isinstance(value, dict) and key not in ("id2label", "label2id", "quantization_config"):
            yield from _values(here, value)


def _check_layers(source: Source, key: str, count: int) -> None:
    """Raise SourceError for a config with more layers than the weights can be of, or than any model has."""
    numbers = {int(found) for name in source.names_here() for found in re.findall(r"\.(\d{1,9})\.", name)}
    most = _SHARED * (max(numbers) + 1) + _BESIDE if numbers else MOST_LAYERS
    if count <= most:
        return
    held = f"its weights are of {counted(max(numbers) + 1, 'layer')}" if numbers else f"no model has more than {most:,}"
    raise SourceError(f"config.json of {source.name!r} says {key} is {shown(count)}, but {held}: fetch it again")
