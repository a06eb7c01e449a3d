"""Planar and radial maps: the paper's formulas, their constraints and the roots of their inverses."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import softplus

from dgm.transforms import Planar, Radial
from dgm.transforms.planar import planar_root

D = 3


def planar(scale: float = 1.0) -> Planar:
    torch.manual_seed(0)
    found = Planar(D).double()
    with torch.no_grad():
        found.own.copy_(scale * torch.randn(2 * D + 1))
    return found


def test_a_planar_map_is_the_papers() -> None:
    """Equations 10-12 and A.1. Kills: w and u changed over, u moved the other way along w."""
    found, x = planar(), torch.randn(4, D, dtype=torch.float64)
    w, v, b = found.own[:D], found.own[D : 2 * D], found.own[-1]
    k = softplus(w @ v + math.log(math.e - 1)) - 1
    u = v + (k - w @ v) * w / (w @ w)
    assert (w @ u).item() == pytest.approx(k.item())
    z, ladj = found(x)
    torch.testing.assert_close(z, x + u * torch.tanh(x @ w + b)[:, None])
    torch.testing.assert_close(ladj, (1 + k * (1 - torch.tanh(x @ w + b).square())).log())


def test_a_radial_map_starts_with_alpha_1_and_beta_0() -> None:
    _, alpha, beta = Radial(D).shape(Radial(D).parameters_of(None))
    assert alpha.item() == pytest.approx(1)
    assert beta.item() == pytest.approx(0, abs=1e-6)


def test_a_radial_map_is_the_papers() -> None:
    """Equation 14 and A.2, in which beta is at least -alpha."""
    found, x = Radial(D).double(), torch.randn(4, D, dtype=torch.float64)
    with torch.no_grad():
        found.own.copy_(torch.tensor([0.5, -1.0, 2.0, 0.3, -3.0]))
    alpha = softplus(torch.tensor(0.3).double())
    beta, away = softplus(torch.tensor(-3.0).double()) - alpha, x - torch.tensor([0.5, -1.0, 2.0])
    r = away.norm(dim=1)
    h, slope = 1 / (alpha + r), -1 / (alpha + r) ** 2
    z, ladj = found(x)
    torch.testing.assert_close(z, x + (beta * h)[:, None] * away)
    torch.testing.assert_close(ladj, (D - 1) * (1 + beta * h).log() + (1 + beta * h + beta * slope * r).log())


@pytest.mark.parametrize("make", [Planar, Radial])
def test_a_map_starts_at_the_identity(make: type[Planar | Radial]) -> None:
    x = torch.randn(4, D)
    z, ladj = make(D)(x)
    torch.testing.assert_close(z, x)
    assert ladj.abs().max() < 1e-6


@pytest.mark.parametrize("k", [-0.999999, -0.5, 0.0, 3.0, 1e4])
def test_the_root_is_found_wherever_it_lies(k: float) -> None:
    """Kills: Newton's method without its bracket, which circles where the slope is small."""
    s = torch.cat([torch.linspace(-40, 40, 801, dtype=torch.float64), torch.tensor([1e6, -1e6, 1e-9]).double()])
    slopes = torch.full_like(s, k)
    a = s + slopes * torch.tanh(s)
    found = planar_root(a, slopes)
    # a's own rounding, over the slope at the root
    allowed = 1e-15 * (1 + k) * 8 * (1 + s.abs()) / (1 + k * (1 - torch.tanh(s).square())) + 1e-13
    if k > -0.99:
        assert ((found - s).abs() <= allowed + 1e-12 * s.abs()).all()
    assert ((found + slopes * torch.tanh(found) - a).abs() <= 1e-14 * (1 + abs(k)) * (1 + a.abs())).all()


def test_the_root_is_found_where_newtons_method_circles() -> None:
    """Found by a search of 400,000 pairs. Kills: no halving of the bracket where an error did not halve."""
    a, k = torch.tensor([[2.210190521623434, 3.9840206496961708]], dtype=torch.float64).unbind(1)
    s = planar_root(a, k)
    assert (s + k * torch.tanh(s) - a).abs().item() < 1e-14


def test_the_roots_derivatives_are_those_of_the_implicit_function() -> None:
    """ds/da = 1 / (1 + k sech²(s)), ds/dk = -tanh(s) times that."""
    a, k = torch.tensor([0.7], dtype=torch.float64), torch.tensor([-0.6], dtype=torch.float64)
    assert torch.autograd.gradcheck(planar_root, (a.requires_grad_(), k.requires_grad_()))


def test_the_distance_is_found_at_the_centre_and_far_from_it() -> None:
    """Kills: the form of the root that takes the difference of near numbers."""
    for beta in (-8.0, 0.0, 30.0):
        found = Radial(D).double()
        with torch.no_grad():
            found.own.copy_(torch.tensor([0.0, 0.0, 0.0, 1.0, beta]))
        x = torch.tensor([[0.0, 0, 0], [1e-9, 0, 0], [1, 2, 3], [1e7, 0, -1e7]], dtype=torch.float64)
        z, _ = found(x)
        # rounding of z is divided by the slope, at the centre (alpha + beta) / alpha
        floor = 1e-15 / min(1.0, math.log1p(math.exp(beta)) / 1.32)
        assert ((found.inverse(z)[0] - x).abs() <= 1e-12 * x.abs() + floor).all()
