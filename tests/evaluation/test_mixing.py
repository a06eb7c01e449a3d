"""The convergence of a model's own chains, as an evaluation states it."""

from __future__ import annotations

from typing import Any

import torch

from dgm.data import Dataset, Split
from dgm.evaluation.cautions import cautions
from dgm.evaluation.evaluate import evaluate
from dgm.evaluation.mixing import mixing
from dgm.models.energy.rbm import RBM
from dgm.registry import create
from dgm.space import Space


def rbm(weight: float) -> RBM:
    """Two blocks of bits that agree or not with a hidden unit each."""
    model = RBM(Space.binary((8,)), RBM.Config(hidden=2, sampling_steps=200))
    with torch.no_grad():
        model.W.copy_(weight * torch.eye(2).repeat_interleave(4, 0))
        model.a.fill_(-weight / 2)
        model.b.copy_(-2 * weight * torch.ones(2) + torch.tensor([0.0, 0.4 * weight]))
    return model


def test_chains_that_flip_have_mixed_and_chains_that_are_stuck_have_not() -> None:
    free, stuck = (mixing(rbm(weight), None, 0) for weight in (0.5, 9.0))
    assert free is not None
    assert stuck is not None
    assert free["r_hat"] < 1.02
    assert free["effective"] > 1500
    assert stuck["r_hat"] > 1.1
    assert stuck["effective"] < 500
    assert (free["chains"], free["states"]) == (32, 100)


def test_models_without_chains_or_energies_have_no_mixing() -> None:
    assert mixing(create("made", Space.binary((4,)), hidden=4), None, 0) is None
    assert mixing(create("ddpm", Space.continuous((2,)), sampling_steps=4), None, 0) is None


def test_an_evaluation_states_a_constant_that_is_not_known() -> None:
    """Of 21 hidden units, annealing not being asked for; up to 20 only where it is."""
    x = torch.randint(2, (40, 4), dtype=torch.uint8)
    parts = dict.fromkeys(("train", "validation", "test"), Split(x))
    table = Dataset(name="bits", space=Space.binary((4,)), split="", **parts)
    for hidden, annealed, stated in ((21, 0, True), (2, 0, False), (2, 5, True)):
        model = create("rbm", table.space, hidden=hidden, sampling_steps=4)
        model.temperatures = 5
        document = evaluate(model, table, samples=20, spaces=[], annealed=annealed)
        assert ("constant" in document) is stated


def test_a_constant_that_differs_from_both_ends_is_cautioned() -> None:
    document: dict[str, Any] = {"metrics": [], "constant": {"gap": 3.5, "forward": {"log_z": 10.0}}}
    document["constant"]["backward"] = {"log_z": 13.5}
    (sentence,) = cautions(document, [], {"data": {}, "training": {}})
    assert sentence.startswith("log Z is not known: annealing forward and backward gives 10.0 and 13.5 nats")
    document["constant"]["gap"] = 0.5
    assert cautions(document, [], {"data": {}, "training": {}}) == []
