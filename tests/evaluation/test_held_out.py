"""What stands in the samples' place: new to the features, apart from the real side, in proportion, many times."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dgm import data
from dgm.data import Dataset, Split
from dgm.evaluation import distances, held_out
from dgm.evaluation.features import features
from dgm.evaluation.held_out import HeldOut, drawn_rows, fitting_rows
from dgm.evaluation.kernel import kernel_distance
from dgm.evaluation.skipping import Skipped
from dgm.space import Space


def numbered(train: int, validation: int, test: int) -> Dataset:
    """A set whose examples are their own numbers, from the first of the training split on."""
    x = torch.arange(float(train + validation + test))[:, None]
    parts = x.split([train, validation, test])
    splits = {name: Split(part) for name, part in zip(("train", "validation", "test"), parts, strict=True)}
    return Dataset(name="n", space=Space.continuous((1,)), **splits, split="by hand")


@pytest.mark.parametrize("split", ["test", "validation"])
def test_no_held_out_example_is_of_the_real_side_or_was_fitted_on(split: str) -> None:
    table = numbered(100, 30, 40)
    pool = HeldOut(table, split)
    real = set(table.splits[split].x[:, 0].tolist())
    fitted = set(table.train.x[fitting_rows(table), 0].tolist())
    found = set(pool.draw(len(pool), 0)[:, 0].tolist())
    assert len(found) == len(pool) == 50 + (30 if split == "test" else 40)
    assert not found & real
    assert not found & fitted
    assert len(fitted) == 50


def test_the_training_split_has_no_examples_of_its_own_in_the_samples_place() -> None:
    assert [name for name, _, _ in HeldOut(numbered(100, 30, 40), "train").parts] == ["validation"]


def test_a_set_with_enough_validation_is_fitted_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "ENOUGH", 30)
    table = numbered(100, 30, 40)
    assert len(fitting_rows(table)) == 100
    assert HeldOut(table).description() == "30 of the validation split"
    monkeypatch.setattr(held_out, "ENOUGH", 45)
    assert HeldOut(table).description() == "30 of the validation split and 15 of the train split"


def test_a_draw_has_every_label_in_proportion_and_no_example_twice() -> None:
    y = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    for seed in range(5):
        rows = drawn_rows(y, 100, 50, seed)
        assert len(rows.unique()) == 50
        assert (y[rows].bincount() - torch.tensor([30, 15, 5])).abs().max() <= 1
    for labels in (y, None):
        assert not torch.equal(drawn_rows(labels, 100, 50, 0), drawn_rows(labels, 100, 50, 1))


def test_held_out_examples_of_a_condition_are_those_of_the_pool_that_have_it() -> None:
    """Kills: examples of the condition that features were fitted on."""
    table = numbered(100, 30, 40)
    labels = torch.arange(170) % 2
    parts = {name: replace(split, y=labels[split.x[:, 0].long()]) for name, split in table.splits.items()}
    odd = replace(table, condition=Space.categories(2), **parts)
    pool, every = HeldOut(odd, "test", torch.tensor(1)), HeldOut(odd, "test")
    found, expected = (set(one.draw(len(one), 0)[:, 0].tolist()) for one in (pool, every))
    assert found == {number for number in expected if number % 2 == 1}


def test_real_data_is_at_its_own_level() -> None:
    """Of one law, the unbiased distances are 0 but for their noise, and the level is where a perfect sampler's lie."""
    x = torch.randn(1200, 4)
    parts = {"train": Split(x[:600]), "validation": Split(x[600:800]), "test": Split(x[800:])}
    table = Dataset(name="normal", space=Space.continuous((4,)), **parts, split="by hand")
    space, pool = features("pixels", table), HeldOut(table)
    found = distances.references(space, space.of(table.test.x), pool, 300, lambda share: None)
    assert found["kernel"]["low"] < 0 < found["kernel"]["high"]
    assert found["frechet_infinity"]["low"] < 0 < found["frechet_infinity"]["high"]
    bias = (4 + 4 * 5 / 4) * (1 / 400 + 1 / 300)  # d + d (d + 1) / 4 of the inverse sizes, to first order
    assert found["frechet"]["value"] - found["frechet_infinity"]["value"] == pytest.approx(bias, rel=0.3)
    drawn = [kernel_distance(table.test.x, pool.draw(300, seed)).item() for seed in range(20)]
    assert found["kernel"]["value"] == pytest.approx(sum(drawn) / 20)
    perfect = distances.metrics(space, table.test.x, torch.randn(300, 4), pool, "test", Skipped(), lambda share: None)
    assert all(row["reference"] == found[row["name"]] for row in perfect)
    # two 95 % intervals: five of seven inside is what chance leaves 99 times of 100, since the numbers go together
    inside = [row["reference"]["low"] <= row["value"] <= row["reference"]["high"] for row in perfect]
    assert sum(inside) >= len(inside) - 2


def test_the_level_of_real_data_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    digits = data.load("digits")
    space, pool, asked = features("pixels", digits), HeldOut(digits), list[int]()
    draw = HeldOut.draw
    monkeypatch.setattr(HeldOut, "draw", lambda self, n, seed: asked.append(seed) or draw(self, n, seed))
    real = space.of(digits.test.x[:60])
    first = distances.references(space, real, pool, 60, lambda share: None)
    assert sorted(set(asked)) == list(range(20))
    asked.clear()
    assert distances.references(space, real, pool, 60, lambda share: None) == first
    assert asked == [0]
    assert distances.references(space, real, pool, len(pool) + 1, lambda share: None) == {}
