"""Pairs of the least cost, by all permutations and in closed form; and the straighter paths that come of them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from dgm.models.flow_matching.flow_matching import FlowMatching
from dgm.models.flow_matching.ot_cfm import OTCFM, pairs, pairs_within
from dgm.models.flow_matching.rectified_flow import straightness
from dgm.processes.gaussian import over
from dgm.space import Space

M, S = 0.3, 0.6


def cost(x: Tensor, z: Tensor) -> float:
    return (x - z).double().square().sum().item()


@pytest.mark.parametrize(("n", "dim"), [(1, 2), (2, 1), (4, 1), (5, 2), (6, 3)])
def test_no_permutation_costs_less(n: int, dim: int) -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        x, z = 3 + torch.randn(n, dim), 0.5 * torch.randn(n, dim)  # far apart, where distances are nearly alike
        least = min(cost(x, z[list(order)]) for order in itertools.permutations(range(n)))
        assert cost(x, z[pairs(x, z)]) == pytest.approx(least, rel=1e-6)


def test_as_many_points_as_a_batch_cost_what_scipy_says_of_the_squares() -> None:
    x, z = torch.rand(300, 2) * 4, torch.randn(300, 2)
    rows, columns = linear_sum_assignment(torch.cdist(x.double(), z.double()).square().numpy())
    chosen = pairs(x, z)
    assert cost(x, z[chosen]) == pytest.approx(cost(x[rows], z[columns]), rel=1e-6)
    assert chosen.sort().values.tolist() == list(range(300))


def test_pairs_are_the_same_where_training_is_in_bfloat16() -> None:
    x, z = torch.randn(2, 40, 3)
    with torch.autocast("cpu", torch.bfloat16):
        found = pairs(x, z)
    assert torch.equal(found, pairs(x, z))


def test_in_one_dimension_the_order_is_kept() -> None:
    x, z = torch.randn(50, 1), torch.randn(50, 1)
    assert torch.equal(x.flatten().argsort(), z[pairs(x, z)].flatten().argsort())


@pytest.mark.parametrize("scale", [0.0, 1e-12, 1e6])
def test_any_scale_gives_a_permutation(scale: float) -> None:
    x, z = scale * torch.randn(8, 3), torch.randn(8, 3)
    assert pairs(x, z).sort().values.tolist() == list(range(8))
    assert pairs(z, x).sort().values.tolist() == list(range(8))


@pytest.mark.parametrize("far", ["data", "noise"])
def test_an_outlier_leaves_numbers_finite(far: str) -> None:
    """So far that float32 has no number for its share in a kernel."""
    x, z = 1 + torch.rand(400, 2), torch.randn(400, 2)
    (x if far == "data" else z)[0] = -1e4
    chosen = pairs(x, z)
    assert chosen.sort().values.tolist() == list(range(400))
    rows, columns = linear_sum_assignment(torch.cdist(x.double(), z.double()).square().numpy())
    assert cost(x, z[chosen]) == pytest.approx(cost(x[rows], z[columns]), rel=1e-6)


def test_pairs_stay_within_their_label_and_cost_the_least_there() -> None:
    x, z, y = torch.randn(40, 2), torch.randn(40, 2), torch.randint(3, (40,))
    chosen = pairs_within(x, z, y)
    assert torch.equal(y[chosen], y)
    assert chosen.sort().values.tolist() == list(range(40))
    for label in range(3):
        own = y == label
        assert cost(x[own], z[chosen[own]]) == pytest.approx(cost(x[own], z[own][pairs(x[own], z[own])]), rel=1e-6)


class Monotone(nn.Module):
    """The velocity of the optimal map: x_t = (1 - t) (M + S z) + t z, so z - M - S z of the z that leads to x_t."""

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        t = over(t, x_t)
        z = (x_t - (1 - t) * M) / ((1 - t) * S + t)
        return z - M - S * z


def ot_cfm(space: Space, **config: Any) -> OTCFM:
    return OTCFM(space, OTCFM.Config(width=8, **config)).double()


def test_the_optimal_map_is_what_large_batches_teach() -> None:
    """In one dimension it is monotone. Its loss falls to 0 as batches grow; that of independent pairs does not."""
    model = ot_cfm(Space.continuous((1,)))
    model.matching.network = Monotone()  # type: ignore[assignment]
    losses = [model.loss(M + S * torch.randn(n, 1, dtype=torch.float64)).mean().item() for n in (20, 1000)]
    independent = model.matching.loss(M + S * torch.randn(1000, 1, dtype=torch.float64)).mean().item()
    assert losses[1] < 0.02 < losses[0] < independent
    assert straightness(model, 200) < 1e-10


def test_data_and_noise_keep_their_laws(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = ot_cfm(Space.continuous((2,))), []
    monkeypatch.setattr(model.matching, "loss_of_pairs", lambda *pairs: seen.append(pairs) or pairs[0][:, 0])
    x = torch.randn(30, 2, dtype=torch.float64)
    torch.manual_seed(5)
    model.loss(x)
    torch.manual_seed(5)
    eps = torch.randn_like(x)
    ((x_0, paired, _),) = seen
    assert torch.equal(x_0, x)
    assert torch.equal(paired[paired[:, 0].argsort()], eps[eps[:, 0].argsort()])
    assert cost(x_0, paired) < cost(x, eps)


def test_trained_paths_are_straighter() -> None:
    """Of two clusters, whose independent paths cross."""
    found = {}
    for kind in (OTCFM, FlowMatching):
        torch.manual_seed(0)
        model = kind(Space.continuous((2,)), kind.Config(width=8))
        optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(250):
            optimiser.zero_grad()
            x = torch.randn(128, 2) * 0.2 + torch.tensor([1.5, 0.0]) * (torch.randint(2, (128, 1)) * 2 - 1)
            model.loss(x).mean().backward()
            optimiser.step()
        found[kind.__name__] = straightness(model, 300, sampling_steps=20)
    assert found["OTCFM"] < 0.4 * found["FlowMatching"]


@pytest.mark.parametrize(
    ("condition", "y"),
    [
        (Space.categories(2), torch.arange(40) % 2),
        (Space.binary((3,)), torch.eye(3, dtype=torch.uint8)[torch.arange(40) % 3]),
        (Space.continuous((2,)), torch.randn(40, 2)),
    ],
    ids=["label", "attributes", "numbers"],
)
def test_training_pairs_within_equal_conditions(condition: Space, y: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The noise is a permutation of what was drawn that keeps each condition's rows. Kills: pairs across conditions."""
    model, seen = OTCFM(Space.continuous((2,)), OTCFM.Config(width=8), condition), []
    monkeypatch.setattr(model.matching, "loss_of_pairs", lambda x_0, eps, y: seen.append(eps) or x_0[:, 0])
    torch.manual_seed(5)
    model.loss(torch.randn(40, 2), y)
    torch.manual_seed(5)
    x, drawn = torch.randn(40, 2), torch.randn(40, 2)
    moved = (seen[0] != drawn).any(1)
    assert moved.any() == (condition.kind != "continuous"), "no two conditions are equal, so nothing moves"
    for value in y.unique(dim=0):
        rows = (y == value).reshape(40, -1).all(1)
        assert cost(x[rows], seen[0][rows]) == pytest.approx(cost(x[rows], drawn[rows][pairs(x[rows], drawn[rows])]))
