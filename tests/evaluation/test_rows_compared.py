"""Which real examples stand beside the samples."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch

from dgm.condition import Names
from dgm.data import Dataset, Split
from dgm.data.dataset import Conditions
from dgm.evaluation.held_out import HeldOut, drawn_rows
from dgm.evaluation.skipping import Skipped
from dgm.space import Space

evaluation = importlib.import_module("dgm.evaluation.samples")


@pytest.mark.parametrize("labelled", [True, False])
def test_real_rows_are_stratified_by_labels_alone(labelled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a label; of a condition that is none, the rows are as without one.

    Kills: strata of real numbers or attributes, no strata of labels, more rows than samples.
    """
    x, y, n = torch.randn(60, 2), torch.arange(60) % 3, 20
    of_labels = Conditions.of_labels(y, "abc")
    number = Conditions(Space.continuous((1,)), torch.arange(60.0)[:, None], Names(columns=("n",)))
    known = of_labels if labelled else number
    split = Split(x, known.y)
    dataset = Dataset(
        name="x",
        space=Space.continuous((2,)),
        **dict.fromkeys(("train", "validation", "test"), split),
        split="by hand",
        condition=known.space,
        names=known.names,
    )
    assert bool(dataset.labels) == labelled
    seen = list[torch.Tensor]()
    monkeypatch.setattr(evaluation, "metrics", lambda space, fixed, *rest: seen.append(fixed) or [])
    pool = HeldOut(dataset, "test")
    document: dict[str, Any] = {"features": {}, "metrics": []}
    evaluation.measure_samples(document, x[:n], None, pool, split, ["pixels"], Skipped(), lambda share, text: None)
    assert torch.equal(seen[0], x[drawn_rows(y if labelled else None, 60, n, 0)])
    assert len(seen[0]) == n
    if labelled:
        assert not torch.equal(seen[0], x[drawn_rows(None, 60, n, 0)])
