"""A flow without gradients maps many examples in parts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dgm.contracts import perturbed
from dgm.likelihood import kinds_of, log_likelihood
from dgm.models.flow import base
from dgm.registry import create
from dgm.space import Space
from dgm.transforms import ActNorm, ChannelCoupling, RationalQuadratic


def test_parts_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with its own conditions. Kills: the first conditions for every part, a last part that is left out."""
    flow = create("maf", Space.continuous((2,)), condition=Space.categories(3))
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x, y = torch.randn(7, 2), torch.arange(7) % 3
    with torch.no_grad():
        whole, samples = flow.log_prob(x, y), flow.sample(7, y, seed=0)
        monkeypatch.setattr(base, "PART", 3)
        torch.testing.assert_close(flow.log_prob(x, y), whole)
        torch.testing.assert_close(flow.sample(7, y, seed=0), samples)


def test_an_actnorm_is_initialised_with_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = create("glow", Space.continuous((2,)), layers=1)
    monkeypatch.setattr(base, "PART", 3)
    x = torch.randn(50, 2) + 5
    flow.initialise(x)
    norm = next(part for part in flow.modules() if isinstance(part, ActNorm))
    torch.testing.assert_close(norm.loc.detach(), x.mean(0))


def test_the_likelihood_of_bounded_data_names_its_logit() -> None:
    assert "logit with alpha = 0.05" in create("glow", Space.levels((1, 2, 2), 4)).likelihood_method
    assert "logit" not in create("glow", Space.continuous((2,))).likelihood_method


@pytest.mark.parametrize(
    ("name", "settings"),
    [("nsf", {"kind": "coupling"}), ("nsf", {}), ("maf", {}), ("iaf", {}), ("nice", {}), ("realnvp", {}), ("glow", {})],
)
def test_layers_alternate_so_that_every_dimension_depends_on_every_other(name: str, settings: dict[str, Any]) -> None:
    """Of three layers, by autodiff. Kills: the same half kept by all couplings, one order for all layers."""
    torch.manual_seed(0)
    flow: Any = create(name, Space.continuous((4,)), layers=3, hidden=16, **settings).double()
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(4, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: flow.encode(v[None])[0], x)
    assert jacobian.abs().min() > 1e-6


@pytest.mark.parametrize("kind", ["autoregressive", "coupling"])
def test_splines_end_at_the_bound_of_the_settings(kind: str) -> None:
    flow: Any = perturbed(create("nsf", Space.continuous((4,)), kind=kind, layers=1, bound=2.0, hidden=8))
    outside, inside = torch.full((1, 4), 2.5), torch.full((1, 4), 1.5)
    assert torch.equal(flow.encode(outside), outside)
    assert not torch.equal(flow.encode(inside), inside)


def test_of_nice_the_last_scales_alone_change_volumes() -> None:
    """Section 3.3. Kills: no scaling, couplings that scale, hidden layers left out."""
    flow: Any = perturbed(create("nice", Space.continuous((4,)), layers=2, hidden=8, blocks=3))
    (norm,) = (part for part in flow.modules() if isinstance(part, ActNorm))
    _, ladj = flow.encode_and_ladj(torch.randn(5, 4))
    torch.testing.assert_close(ladj, -norm.log_scale.sum().expand(5))
    assert sum(isinstance(part, torch.nn.Linear) for part in flow.modules()) == 2 * 4


def test_splines_of_an_image_have_the_bins_and_the_bound_of_the_settings() -> None:
    """Kills: the defaults in place of either."""
    flow: Any = create("nsf", Space.continuous((1, 4, 4)), kind="coupling", layers=1, bins=3, bound=2.0, hidden=8)
    splines = [part.univariate for part in flow.modules() if isinstance(part, ChannelCoupling)]
    splines = [spline for spline in splines if isinstance(spline, RationalQuadratic)]
    assert splines
    assert {(spline.bins, spline.bound) for spline in splines} == {(3, 2.0)}


@pytest.mark.parametrize(
    "name", ["ffjord", "nice", "planar", "radial", "realnvp", "glow", "iaf", "maf", "nsf", "residual_flow"]
)
def test_an_array_that_is_no_image_is_a_vector_of_its_numbers(name: str) -> None:
    """Kills: an array of another number of axes that is not flattened, which raised an error in residual_flow."""
    made = []
    for shape in ((2, 2), (4,)):
        torch.manual_seed(0)  # of Glow's permutations too
        made.append(perturbed(create(name, Space.continuous(shape))))
    array, vector = made
    x = torch.randn(5, 2, 2)
    for model, data in ((array, x), (vector, x.flatten(1))):
        if hasattr(model, "initialise"):
            model.initialise(data)
    with torch.no_grad():
        for one, other in zip(array.parameters(), vector.parameters(), strict=True):
            one.copy_(other.view_as(one))
    for kind in kinds_of(vector):
        nats = []
        for model, data in ((array, x), (vector, x.flatten(1))):
            torch.manual_seed(1)
            nats.append(log_likelihood(model, data, kind=kind).nats)
        torch.testing.assert_close(*nats)
    torch.testing.assert_close(array.sample(3, seed=1), vector.sample(3, seed=1).view(3, 2, 2))
