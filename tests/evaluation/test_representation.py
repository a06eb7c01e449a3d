"""The codes of a model beside its data's factors: an encoder that gives the factors gets the largest values."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import dgm
from dgm.condition import Names
from dgm.data import Dataset, Split
from dgm.evaluation.representation import Factor, factors, judged, of_factors
from dgm.space import Space

FACTORS = Space.record(
    shape=Space.categories(3),
    size=Space.levels((), 4),
    weight=Space.continuous(()),
    age=Space.levels((), 51),
    worn=Space.levels((), 2, optional=True),
)


class Reader(nn.Module):
    """z = x, with the condition beside it."""

    condition: Space | None = None

    def __init__(self) -> None:
        super().__init__()
        self.space = self.latent_space = Space.continuous((2,))

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return x

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return z


def data() -> Dataset:
    """x is the shape and the size, which take every combination; all else of the condition is constant."""
    both = torch.cartesian_prod(torch.arange(3.0), torch.arange(4.0)).repeat(20, 1)
    y = torch.cat([both, torch.tensor([[1.5, 30, 1]]).expand(len(both), 3)], 1).double()
    split = Split(both, y)
    space = Space.continuous((2,))
    return Dataset(
        name="few",
        space=space,
        train=split,
        validation=split,
        test=split,
        split="one",
        condition=FACTORS,
        names=Names(),
    )


def test_an_encoder_that_gives_the_factors_has_the_largest_values() -> None:
    found = judged(Reader(), data(), "test")
    assert found is not None
    assert found["probe"] == {"shape": 1, "size": 1}
    assert found["most_frequent"] == pytest.approx({"shape": 1 / 3, "size": 1 / 4})
    assert found["sap"] == pytest.approx((2 / 3 + 1) / 2)
    names = ("mig", "disentanglement", "completeness", "informativeness", "factor_vae")
    assert [found[name] for name in names] == pytest.approx([1] * 5)
    assert "ari" not in found


def test_factors_are_discrete_of_few_values_and_never_missing() -> None:
    few = data()
    assert few.train.y is not None
    assert [(factor.name, factor.ordered) for factor in factors(few, few.train.y)] == [("shape", False), ("size", True)]
    digits = dgm.data.load("digits")
    assert digits.train.y is not None
    assert [(factor.name, factor.ordered) for factor in factors(digits, digits.train.y)] == [("label", False)]


def test_probes_are_trained_on_one_split_and_judged_on_the_other() -> None:
    """Shapes 0, 1, 2 are codes 0, 1, 2 in training; of three held-out codes, near 0, 2 and 2, the last is of shape 1.

    The most frequent shape in training, 0, is one of the three. A conditional model encodes each x under its condition.
    """
    train = Split(torch.tensor([[0.0, 0], [1, 0], [2, 0], [0, 0]]).repeat(30, 1), torch.tensor([0, 1, 2, 0]).repeat(30))
    test = Split(torch.tensor([[0.0, 0], [2, 0], [2.1, 0]]), torch.tensor([0, 2, 1]))
    few = Dataset(
        name="few",
        space=Space.continuous((2,)),
        train=train,
        validation=test,
        test=test,
        split="",
        condition=Space.categories(3),
        names=Names(labels=("a", "b", "c")),
    )

    class Given(Reader):
        condition = Space.categories(3)

        def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
            assert y is not None
            assert y.shape == (len(x),)
            return x

    for model in (Reader(), Given()):
        found = judged(model, few, "test")
        assert found is not None
        assert found["probe"] == {"label": pytest.approx(2 / 3)}
        assert found["most_frequent"] == {"label": pytest.approx(1 / 3)}


def test_a_factor_that_never_changes_takes_no_part_in_the_gaps() -> None:
    """Which has no entropy to divide by."""
    both = torch.cartesian_prod(torch.arange(3), torch.arange(4)).repeat(20, 1)
    found = [Factor("shape", both[:, 0], ordered=False), Factor("size", both[:, 1], ordered=True)]
    found.append(Factor("same", torch.ones(len(both)).long(), ordered=True))
    assert of_factors(both.double(), found, both.double(), found, 0)["mig"] == pytest.approx(1)


def test_codes_that_are_no_vectors_and_data_without_factors_are_not_judged() -> None:
    digits, moons = dgm.data.load("digits"), dgm.data.load("toy/moons")
    for name, dataset in (("ddim", digits), ("vq_vae", digits), ("made", digits), ("realnvp", moons)):
        assert judged(dgm.create(name, dataset.space), dataset, "test") is None
