"""A flow without gradients maps many examples in parts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dgm.models.flow import base
from dgm.registry import create
from dgm.space import Space
from dgm.transforms import ActNorm


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
