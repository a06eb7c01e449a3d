"""Couplings against autodiff and torch.distributions; images and bounded data too."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import AffineTransform, Normal, TransformedDistribution

from dgm.contracts import perturbed
from dgm.models.flow.realnvp import RealNVP
from dgm.space import Space
from dgm.transforms import AffineCoupling, Composition, Logit, Squeeze, checkerboard

SPACES = [
    Space.continuous((3,)),
    Space.continuous((2,), loc=(1.0, -2.0), scale=(3.0, 0.5)),
    Space.continuous((1, 4, 4), low=0.0, high=17.0),
    Space.continuous((2, 3, 4)),
]


def couplings(flow: RealNVP) -> list[AffineCoupling]:
    return [part for part in flow.transform if isinstance(part, AffineCoupling)]


def squeezed_after(flow: RealNVP) -> int:
    """How many couplings come before the squeeze."""
    parts = list(flow.transform)
    squeeze = next((k for k, part in enumerate(parts) if isinstance(part, Squeeze)), len(parts))
    return len(couplings(flow)) - sum(isinstance(part, AffineCoupling) for part in parts[squeeze:])


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_log_determinant_is_autodiffs(space: Space) -> None:
    flow = perturbed(RealNVP(space, RealNVP.Config(layers=4, hidden=8))).double()
    x = torch.rand(2, *space.shape, dtype=torch.float64) * 2 + 1
    z, ladj = flow.encode_and_ladj(x)
    for k in range(2):
        jacobian = torch.autograd.functional.jacobian(lambda v: flow.encode(v[None])[0], x[k])
        expected = torch.linalg.slogdet(jacobian.reshape(space.dim, space.dim))[1]
        assert ladj[k].item() == pytest.approx(expected.item(), abs=1e-9)
    assert torch.allclose(flow.decode(z), x, atol=1e-9)


@pytest.mark.parametrize("shape", [(4,), (1, 4, 4)])
def test_a_coupling_keeps_half_and_moves_half(shape: tuple[int, ...]) -> None:
    flow = perturbed(RealNVP(Space.continuous(shape), RealNVP.Config(layers=2, hidden=8)))
    coupling = couplings(flow)[0]
    x = torch.randn(3, *shape)
    z, _ = coupling(x, None)
    same = (z == x).all(0)
    assert torch.equal(same, coupling.mask.expand(shape))
    assert int(same.sum()) == math.prod(shape) // 2


def test_an_untrained_flow_is_the_standard_normal() -> None:
    flow = RealNVP(Space.continuous((3,)), RealNVP.Config(layers=4))
    x = torch.randn(5, 3)
    assert torch.allclose(flow.log_prob(x), Normal(0, 1).log_prob(x).sum(1), atol=1e-5)


def test_one_coupling_is_torch_distributions_affine_transform() -> None:
    flow = perturbed(RealNVP(Space.continuous((2,)), RealNVP.Config(layers=2)))
    flow.transform = Composition([couplings(flow)[0]])
    x = torch.randn(4, 2)
    s, t = couplings(flow)[0].scale_and_shift(x, None)
    base = TransformedDistribution(
        Normal(torch.zeros(4), torch.ones(4)), AffineTransform(-t[:, 1] * (-s[:, 1]).exp(), (-s[:, 1]).exp())
    )
    expected = Normal(0, 1).log_prob(x[:, 0]) + base.log_prob(x[:, 1])
    assert torch.allclose(flow.log_prob(x), expected, atol=1e-4)


def test_the_logit_is_the_papers() -> None:
    flow = RealNVP(Space.continuous((1,), low=0.0, high=256.0), RealNVP.Config(layers=2))
    assert isinstance(flow.transform[1], Logit)
    z, _ = flow.encode_and_ladj(torch.tensor([[64.0]]))  # the couplings start at the identity
    p = 0.05 + (1 - 2 * 0.05) * 0.25  # section 4.1
    assert z.item() == pytest.approx(math.log(p / (1 - p)), abs=1e-5)


def test_checkerboards_alternate() -> None:
    assert checkerboard((1, 3, 3))[0].int().tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]


def test_squeezed_couplings_keep_half_of_the_channels_in_turn() -> None:
    """Section 3.6: channel masks after the squeeze. Kills: a quarter kept, the same half moved each time."""
    flow = RealNVP(Space.continuous((2, 4, 4)), RealNVP.Config(layers=6, hidden=8))
    found = couplings(flow)
    assert (squeezed_after(flow), len(found)) == (3, 6)
    first, second = ([c.mask[:, 0, 0].int().tolist() for c in found[3 + k : 5 + k]] for k in (0, 1))
    assert sorted(first) == sorted(second) == [[0] * 4 + [1] * 4, [1] * 4 + [0] * 4]
    boards = [coupling.mask for coupling in found[:3]]
    assert torch.equal(boards[0], ~boards[1])
    assert torch.equal(boards[0], boards[2])
    flow = RealNVP(Space.continuous((2, 4, 3)), RealNVP.Config(layers=6, hidden=8))
    assert squeezed_after(flow) == len(couplings(flow)) == 6


def test_a_log_scale_is_bounded_by_two_and_starts_as_the_network_says() -> None:
    class Says(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = torch.nn.Linear(1, 1)

        def forward(self, kept: torch.Tensor) -> torch.Tensor:
            return torch.cat([10 * kept.roll(1, 1), kept.roll(1, 1)], 1)

    coupling = AffineCoupling(torch.tensor([True, False]), Says())
    for x, s in ((1e-3, 1e-2), (9.0, 2.0), (-9.0, -2.0)):
        found, t = coupling.scale_and_shift(torch.tensor([[x, 7.0]]), None)
        assert found[0].tolist() == pytest.approx([0, s], abs=1e-6)
        assert t[0].tolist() == pytest.approx([0, x])


@pytest.mark.parametrize("shape", [(3,), (1, 4, 4)])
def test_a_label_conditions_every_coupling(shape: tuple[int, ...]) -> None:
    flow = perturbed(RealNVP(Space.continuous(shape), RealNVP.Config(layers=4, hidden=8), Space.categories(3))).double()
    x, y = torch.randn(3, *shape, dtype=torch.float64), torch.tensor([2, 0, 2])
    assert torch.allclose(flow.decode(flow.encode(x, y), y), x, atol=1e-9)
    squeezed = (4, 2, 2)
    for k, coupling in enumerate(couplings(flow)):
        size = shape if k < squeezed_after(flow) else squeezed
        inputs = torch.randn(1, *size, dtype=torch.float64).repeat(3, *[1] * len(size))
        ends, _ = coupling(inputs, torch.eye(3, dtype=torch.float64))
        assert min((ends[a] - ends[b]).abs().max() for a, b in ((0, 1), (0, 2), (1, 2))) > 1e-6


def test_samples_are_decoded_normal_noise() -> None:
    flow = perturbed(RealNVP(Space.continuous((2,)), RealNVP.Config(layers=2, hidden=8)))
    z = flow.encode(flow.sample(4000, seed=0))
    assert z.mean(0).abs().max() < 5 / math.sqrt(4000)
    assert (z.T.cov() - torch.eye(2)).abs().max() < 5 * math.sqrt(2 / 4000)
