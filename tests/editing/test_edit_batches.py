"""What `dgm.edit` hands to its samplers: the row, condition and random stream of each result, and units."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import dgm
from dgm import edit
from dgm.editing import completion
from dgm.editing.particles import Drawn
from dgm.protocols import State
from dgm.seeds import Streams
from dgm.space import Space

MODEL = dgm.create("ddpm", Space.levels((1, 8, 8), 17), Space.categories(10), width=8)


def test_each_result_has_its_image_its_condition_and_a_stream_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of each of five images, four at a time. Kills: another image's condition, a stream for each batch."""
    monkeypatch.setattr(edit, "CHUNK", 4)
    shares, labels = list[float](), torch.tensor([7, 3, 9, 0, 4])

    def states(rows: Tensor, y: Tensor | None, noise: Streams) -> Iterator[State]:
        assert y is not None
        u = noise.uniform(())
        for step in (1, 2):
            yield State(torch.stack([rows, y, u], 1), step, 2)

    found = edit.sampled(MODEL, 5, states, labels, 3, 0, lambda share, text: shares.append(share))
    assert torch.equal(found[..., 0], torch.arange(5.0)[:, None].expand(5, 3))
    assert torch.equal(found[..., 1], labels[:, None].expand(5, 3).float())
    assert torch.equal(found[..., 2].flatten(), torch.cat([Streams(0, [k]).uniform(()) for k in range(15)]))
    assert shares == pytest.approx([2 / 15, 4 / 15, 6 / 15, 8 / 15, 10 / 15, 12 / 15, 13.5 / 15, 1])


def test_each_missing_value_is_drawn_for_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two draws of each of three rows, two at a time."""
    given = list[Any]()

    class Completer:
        draws, kind, method = 1, None, ""

        def __call__(self, x: Tensor, seen: Tensor, y: Tensor, keys: list[int], *, present: bool) -> Drawn:
            given.append((keys, present))
            drawn = torch.where(seen, -1.0, y[:, None].float() + torch.tensor(keys)[:, None] / 8)
            return Drawn(drawn, torch.tensor(keys), torch.ones(len(keys)))

    monkeypatch.setattr(completion, "completer", lambda model, seed: Completer())
    monkeypatch.setattr(completion, "TOGETHER", 2)
    model = dgm.create("vae", Space.continuous((2,)), Space.categories(10), latent=1, hidden=4)
    x = torch.tensor([[0.5, torch.nan], [torch.nan, 1.5], [2.5, 3.5]])
    found = edit.impute(model, x, torch.tensor([7, 3, 9]), n=2, present=False)
    rows = [[[0.5, 7], [0.5, 7.125]], [[3.25, 1.5], [3.375, 1.5]], [[2.5, 3.5], [2.5, 3.5]]]
    assert found.x.tolist() == rows
    assert found.log_p.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert given == [([0, 1], False), ([2, 3], False), ([4, 5], False)]


def test_noise_is_in_shares_of_black_to_white(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a quarter: in the samplers' units, -1 to 1, a half. Kills: a measurement and a restoration that differ."""
    x, low = torch.zeros(200, 1, 8, 8, dtype=torch.uint8), edit.AveragePooling(2)
    clean = edit.measure(MODEL, x, low)
    noise = [edit.measure(MODEL, x, low, noise=0.25, seed=seed) - clean for seed in (1, 2)]
    assert noise[0].std() == pytest.approx(0.5, abs=0.02)  # 3 standard errors of 3,200
    assert (noise[0] * noise[1]).mean() == pytest.approx(0, abs=0.02)
    told = list[Any]()

    def restore(model: Any, measured: Tensor, operator: Any, y: Any, **how: Any) -> Iterator[State]:
        told.append((how["noise_std"], operator, y, measured))
        yield State(torch.zeros(len(measured), 1, 8, 8), 1, 1)

    monkeypatch.setattr(edit.restoration, "restore", restore)
    edit.restore(MODEL, clean[:2], low, 3, noise=0.25)
    edit.superres(MODEL, x[:1, :, :2, :2] + 16, 4)
    assert (told[0][0], told[0][2].tolist()) == (0.5, [3, 3])
    assert (told[1][0], told[1][1].factor) == (0, 4)
    assert torch.equal(told[1][3], torch.ones(1, 1, 2, 2))  # white in the samplers' units
    wide = dgm.create("ddpm", Space.levels((1, 8, 16), 17), width=8)
    edit.deblur(wide, torch.zeros(1, 1, 8, 16, dtype=torch.uint8))
    assert told[2][3].shape == (1, 1, 8, 16)
