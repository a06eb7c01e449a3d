"""The order-agnostic MADE: each order a causal chain of its own, all of them one mixture."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dgm import contracts
from dgm.models.autoregressive.orderless_made import OrderlessMADE
from dgm.networks.raster import raster_order
from dgm.protocols import Autoregressive, ExactLikelihood
from dgm.seeds import Streams
from dgm.space import Space

SPACES = [Space.binary((5,)), Space.levels((2, 1, 2), 3), Space.tokens(4, 3), Space.continuous((3,))]
CONFIGS: list[dict[str, Any]] = [{}, {"layers": 3}, {"direct": True, "layers": 2}]


def unlike(space: Space, orders: int = 3, hidden: int = 24, **config: Any) -> OrderlessMADE:
    """A model whose orders give densities that are far from one another."""
    model = OrderlessMADE(space, OrderlessMADE.Config(orders=orders, hidden=hidden, **config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.7)
    return model.eval()


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_a_dimension_sees_exactly_those_before_it_in_each_order(config: dict[str, Any]) -> None:
    """Kills: masks of the reading order, places where the order is meant, a dimension that sees itself."""
    model = unlike(Space.continuous((6,)), hidden=96, **config)
    for places, m in zip(model.places, model.m, strict=True):

        def outputs(x: torch.Tensor, places: torch.Tensor = places, m: torch.Tensor = m) -> torch.Tensor:
            return model.made.outputs(x[None], None, m, places)[0].sum(-1)

        jacobian = torch.autograd.functional.jacobian(outputs, torch.randn(6))
        earlier = places[:, None] > places[None]
        assert not jacobian[~earlier].any()
        assert jacobian[earlier].abs().min() > 0, "a dimension does not see all of its past"


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_steps_are_the_outputs_in_each_order(space: Space, config: dict[str, Any]) -> None:
    """Kills: rows of weights, outputs or features taken by place in the order where a dimension is meant."""
    model, x = unlike(space, **config), contracts.random_examples(space)
    for places, m in zip(model.places, model.m, strict=True):
        parallel = model.made.outputs(x, None, m, places)
        seen = torch.zeros_like(x)
        steps = model.made.conditionals_by(seen, None, m, places)
        with torch.no_grad():
            for d, outputs in zip(places.argsort().tolist(), steps, strict=True):
                assert torch.allclose(outputs, parallel[:, d], atol=1e-5)
                dim = raster_order(space)[d]
                seen.view(len(x), -1)[:, dim] = x.flatten(1)[:, dim]


@pytest.mark.parametrize("space", SPACES[:3], ids=str)
def test_the_density_is_the_mean_of_densities(space: Space) -> None:
    model, x = unlike(space), contracts.all_examples(space)
    of_each = torch.stack([model.log_prob_by(k, x) for k in range(3)]).double().exp()
    assert torch.allclose(of_each.sum(1), torch.ones(3, dtype=torch.float64), atol=1e-5)
    assert torch.allclose(model.log_prob(x).double().exp(), of_each.mean(0), atol=1e-6)
    assert (of_each[0] - of_each[1]).abs().sum() > 0.2, "the orders are alike"


@pytest.mark.parametrize("space", SPACES[:3], ids=str)
def test_samples_follow_the_mixture(space: Space) -> None:
    """Kills: one order for all samples, an order by the sample's number, a draw at another dimension's place."""
    result = contracts.run(contracts.samples_follow_density, unlike(space, layers=2))
    assert result.passed, result.detail


def test_a_sample_keeps_its_order_in_any_company() -> None:
    """Kills: an order that depends on the batch."""
    model = unlike(Space.binary((1, 4, 4)), orders=5)
    together = model.sample(12, seed=3)
    alone = torch.cat([model.sample(1, seed=Streams(3, [k])) for k in range(12)])
    assert torch.equal(together, alone)


def test_it_has_a_likelihood_and_no_conditionals() -> None:
    model = unlike(Space.binary((4,)))
    assert isinstance(model, ExactLikelihood)
    assert not isinstance(model, Autoregressive)


def test_training_draws_among_the_orders_and_they_are_no_state() -> None:
    model, again = (OrderlessMADE(Space.binary((5,)), OrderlessMADE.Config(hidden=24, orders=3)) for _ in range(2))
    assert all(sorted(places) == [1, 2, 3, 4, 5] for places in model.places.tolist())
    assert torch.equal(model.places, again.places)
    assert torch.equal(model.m, again.m)
    assert not {"m", "places"} & {name.split(".")[-1] for name in model.state_dict()}
    model = unlike(Space.binary((5,)), dropout=0.0)
    x = contracts.all_examples(model.space)
    each = {round(-float(model.log_prob_by(k, x).sum().detach()), 2) for k in range(3)}
    model.train()
    assert {round(float(model.loss(x).sum().detach()), 2) for _ in range(40)} == each


def test_direct_connections_are_those_of_made() -> None:
    for direct in (True, False):
        model = OrderlessMADE(Space.binary((3,)), OrderlessMADE.Config(hidden=4, orders=2, direct=direct))
        assert (model.made.direct is not None) == direct
