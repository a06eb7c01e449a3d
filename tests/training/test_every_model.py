"""Every model of the table goes on to the same bits: whatever it has learnt is in its weights and buffers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import dgm
from dgm import tensor_files
from dgm.data import Dataset
from dgm.registry import model_class
from dgm.training import fit

STEPS, STOP = 5, 3


def digits(name: str) -> Dataset:
    """The digits, as sequences of tokens for a model that takes nothing else."""
    data = dgm.data.load("digits")
    if getattr(model_class(name), "spaces", {"levels"}) & {"levels", "continuous"}:
        return data
    splits = {part: replace(split, x=split.x.flatten(1).long()) for part, split in data.splits.items()}
    return replace(data, space=dgm.Space.tokens(64, 17), **splits)


def digits_model(name: str) -> Any:
    torch.manual_seed(0)
    return dgm.create(name, digits(name).space)


ONE_PASS = {"ppca", "kde", "hopfield"}  # fitted in closed form by one pass, so that there is nothing to go on with


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(dgm.MODELS.keys() - ONE_PASS))
def test_goes_on_to_the_same_bits(name: str, tmp_path: Path) -> None:
    data, settings = digits(name), {"steps": STEPS, "batch": 32, "checkpoint_every": 0.0, "precision": "32-true"}
    list(fit(digits_model(name), data, out=tmp_path / "whole", **settings))
    steps = fit(digits_model(name), data, out=tmp_path / "cut", **settings)
    assert [next(steps).step for _ in range(STOP)][-1] == STOP
    steps.close()
    list(fit(digits_model(name), data, out=tmp_path / "cut", resume=True))
    whole, cut = (tensor_files.read_weights(tmp_path / part / "weights.safetensors") for part in ("whole", "cut"))
    torch.testing.assert_close(cut, whole, rtol=0, atol=0)


def test_a_fit_that_goes_on_ends_where_it_would_have_ended(tmp_path: Path) -> None:
    """Kills: the last pass's loss kept outside the buffers, so that a resumed fit takes one pass more."""
    data = dgm.data.load("digits")
    ends = {}
    for stop in (None, 1, 2):
        torch.manual_seed(0)
        model, out = dgm.create("gmm", data.space, components=2, tolerance=1.0), tmp_path / str(stop)
        steps = fit(model, data, out=out, checkpoint_every=0.0)
        if stop is not None:
            assert [next(steps).step for _ in range(stop + 1)][-1] == stop + 1
            steps.close()
            steps = fit(model, data, out=out, resume=True)
        ends[stop] = list(steps)[-1].step
    assert ends[1] == ends[2] == ends[None]
