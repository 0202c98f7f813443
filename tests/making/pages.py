"""A page's own data, read back as it is written, and what plain transformers computes for the same text."""

from __future__ import annotations

import json
import re
import zlib
from base64 import b64decode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM
from transformers.models.llama import modeling_llama

import txinspect
from txinspect.inspecting import inspect_for_page
from txinspect.queries import Query
from txinspect.render.page import Asked, page

Array = NDArray[Any]

HOSTILE = "</script><script>alert(1)</script> <!-- ]]> \u202e\u2066 \0 \x1b[31m {{7*7}} &amp; \" ' \u2028 <img src=x>"
"""What may stand in a text, and must be letters of a page."""

DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)


def page_of(query: Query[Any]) -> str:
    """The page of a query, as --html writes it."""
    report, attentions = inspect_for_page(query)
    return page(report, attentions, Asked("txinspect as asked", report.command))


def data_of(content: str) -> Any:
    """The block of data on a page."""
    (block,) = DATA.findall(content)
    assert "<" not in block
    return json.loads(block)


def positions(given: int | Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """The first and last position of each row or column of a map."""
    return [(each, each) for each in range(given)] if isinstance(given, int) else [(a, b) for a, b in given]


def ends(maps: Any) -> Array:
    """What the last step stands for, by head and column: (head, 1, column)."""
    columns = len(positions(maps["keys"]))
    found = np.repeat(np.array(maps["rest"])[:, None, None], columns, axis=2)
    found[:, 0, 0] = maps["first"]
    return found


def weights(maps: Any) -> Array:
    """The weights of a map, (head, row, column), by its steps and the ends of its scales."""
    rows, columns = positions(maps["queries"]), positions(maps["keys"])
    seen = np.array([[not maps["causal"] or first <= last for _, last in rows] for first, _ in columns])
    steps = np.zeros((len(maps["heads"]), len(columns), len(rows)))
    steps[:, seen] = np.frombuffer(unpacked(maps), np.uint8).reshape(len(steps), -1)
    return np.asarray(steps.transpose(0, 2, 1) / 255 * ends(maps))


def vectors(packed: Any) -> Array:
    """Queries or keys, (head, position, number)."""
    found = np.frombuffer(unpacked(packed), np.int8).reshape(len(packed["heads"]), -1, packed["size"])
    return np.asarray(found / 127 * np.array(packed["largest"])[:, None, None])


def unpacked(packed: Any) -> bytes:
    """The bytes of a map or of vectors."""
    return zlib.decompress(b64decode(packed["values"], validate=True))


def largest(plain: Array, rows: Sequence[tuple[int, int]], columns: Sequence[tuple[int, int]]) -> Array:
    """The largest weight of (head, query, key) in each block of queries and keys."""
    return np.stack(
        [[[head[a : b + 1, c : d + 1].max() for c, d in columns] for a, b in rows] for head in plain.astype(np.float64)]
    )


def plain_attentions(auto: Any, folder: str, ids: Sequence[int], **more: Any) -> Any:
    """What plain transformers gives for token ids with eager attention, in float32: its output."""
    model = auto.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    with torch.no_grad():
        return model(input_ids=torch.tensor([list(ids)]), output_attentions=True, **more)


def plain_vectors(folder: str, ids: Sequence[int]) -> list[tuple[Array, Array, Array]]:
    """The queries, keys and values that plain transformers gives the attention of each layer of a llama, by head."""
    given: list[tuple[Array, Array, Array]] = []
    eager = modeling_llama.eager_attention_forward

    def watched(module: Any, query: Any, key: Any, value: Any, *more: Any, **named: Any) -> Any:
        given.append((heads_of(query), heads_of(key), heads_of(value)))
        return eager(module, query, key, value, *more, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modeling_llama, "eager_attention_forward", watched)
        plain_attentions(AutoModelForCausalLM, folder, ids)
    return given


def heads_of(attention: torch.Tensor) -> Array:
    """What attention has of one text, by head, in float64."""
    return np.asarray(attention[0].float().numpy(), np.float64)


def bundled(name: str) -> str:
    """The folder of a bundled model, for plain transformers."""
    return str(Path(txinspect.__file__).parent / "bundled" / name)
