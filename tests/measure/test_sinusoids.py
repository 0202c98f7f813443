"""The three layouts of sinusoids, against numpy in float64 and the tables of transformers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from txinspect.commands.pos import LAYOUTS, Layout
from txinspect.measure import sinusoids


def by_hand(layout: Layout, first: int, count: int, width: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    table = np.zeros((count, width))
    for row in range(count):
        for pair in range(width // 2):
            exponent = pair / (width // 2 - 1) if layout == "fairseq" else 2 * pair / width
            angle = (first + row) / 10_000**exponent
            places = (2 * pair, 2 * pair + 1) if layout == "interleaved" else (pair, width // 2 + pair)
            table[row, places[0]], table[row, places[1]] = np.sin(angle), np.cos(angle)
    return table


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("first", [0, 2])
def test_the_formula_to_a_unit_in_the_last_place(layout: Layout, first: int) -> None:
    ours = sinusoids.formula(layout, first, 50, 64).to(torch.float32).numpy()
    theirs = by_hand(layout, first, 50, 64).astype(np.float32)
    assert np.all(np.abs(ours - theirs) <= np.spacing(np.abs(theirs)))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_table_is_recognised(layout: Layout, dtype: torch.dtype) -> None:
    table = torch.from_numpy(by_hand(layout, 2 if layout == "fairseq" else 0, 20, 32)).to(dtype)
    found = sinusoids.recognised(table)
    assert found is not None
    assert (found.layout, found.first) == (layout, 2 if layout == "fairseq" else 0)
    assert found.off <= torch.finfo(dtype).eps
    assert sinusoids.recognised(table + 0.1) is None
    assert sinusoids.recognised(torch.randn(20, 32)) is None


def test_the_tables_of_transformers() -> None:
    from transformers.models.distilbert.modeling_distilbert import create_sinusoidal_embeddings
    from transformers.models.m2m_100.modeling_m2m_100 import M2M100SinusoidalPositionalEmbedding
    from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding
    from transformers.models.whisper.modeling_whisper import sinusoids as of_whisper

    marian = MarianSinusoidalPositionalEmbedding(40, 32)
    marian.weight = nn.Parameter(marian.create_weight())
    m2m: torch.Tensor = M2M100SinusoidalPositionalEmbedding.get_embedding(40, 32, None)
    paper = torch.zeros(40, 32)
    create_sinusoidal_embeddings(40, 32, paper)
    wanted = {"halves": marian.weight.detach(), "fairseq": m2m, "interleaved": paper}
    for layout, table in (*wanted.items(), ("fairseq", of_whisper(40, 32))):
        found = sinusoids.recognised(table)
        assert found is not None, layout
        assert found.layout == layout
        assert found.off <= 1e-5
