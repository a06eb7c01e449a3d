"""Couplings against autodiff and torch.distributions; images and bounded data too."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.distributions import AffineTransform, Normal

from dgm.contracts import perturbed
from dgm.models.flow.realnvp import RealNVP
from dgm.space import Space
from dgm.transforms import (
    AffineCoupling,
    ChannelCoupling,
    Composition,
    FirstHalf,
    Logit,
    Transform,
    VectorCoupling,
    checkerboard,
)

SPACES = [
    Space.continuous((3,)),
    Space.continuous((2,), loc=(1.0, -2.0), scale=(3.0, 0.5)),
    Space.continuous((1, 4, 4), low=0.0, high=17.0),
    Space.continuous((2, 3, 4)),
]


def couplings(flow: RealNVP, kind: type = Transform) -> list[Any]:
    """In their order, without the priors of the channels that leave."""
    kinds = (AffineCoupling, ChannelCoupling, VectorCoupling)
    priors = [parts[k - 1] for parts in map(list, compositions(flow)) for k in places(parts)]
    found = [part for part in flow.modules() if isinstance(part, kinds) and part not in priors]
    return [part for part in found if isinstance(part, kind)]


def compositions(flow: RealNVP) -> Iterator[Composition]:
    return (part for part in flow.modules() if isinstance(part, Composition))


def places(parts: list[Any]) -> list[int]:
    return [k for k, part in enumerate(parts) if isinstance(part, FirstHalf)]


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


def test_a_coupling_keeps_half_and_moves_half() -> None:
    x = torch.randn(3, 4)
    flow = perturbed(RealNVP(Space.continuous((4,)), RealNVP.Config(layers=2, hidden=8)))
    same = [(coupling(x)[0] == x).all(0).int().tolist() for coupling in couplings(flow)]
    assert same == [[1, 0, 1, 0], [0, 1, 0, 1]]


def test_an_untrained_flow_is_the_standard_normal() -> None:
    flow = RealNVP(Space.continuous((3,)), RealNVP.Config(layers=4))
    x = torch.randn(5, 3)
    assert torch.allclose(flow.log_prob(x), Normal(0, 1).log_prob(x).sum(1), atol=1e-5)


def test_one_coupling_is_torch_distributions_affine_transform() -> None:
    coupling = couplings(perturbed(RealNVP(Space.continuous((2,)), RealNVP.Config(layers=2))))[0]
    x = torch.randn(4, 2)
    a, t = coupling.parameters_of(x.mT, None)[0]
    s = a / (1 + a.abs() / 2)
    z, ladj = coupling(x)
    affine = AffineTransform(t, s.exp())
    assert torch.equal(z[:, 0], x[:, 0])
    torch.testing.assert_close(z[:, 1], affine(x[:, 1]))
    torch.testing.assert_close(ladj, affine.log_abs_det_jacobian(x[:, 1], z[:, 1]))


def test_the_logit_is_the_papers() -> None:
    flow = RealNVP(Space.continuous((1,), low=0.0, high=256.0), RealNVP.Config(layers=2))
    assert isinstance(flow.transform[1], Logit)
    z, _ = flow.encode_and_ladj(torch.tensor([[64.0]]))  # the couplings start at the identity
    p = 0.05 + (1 - 2 * 0.05) * 0.25  # section 4.1
    assert z.item() == pytest.approx(math.log(p / (1 - p)), abs=1e-5)


def test_checkerboards_alternate() -> None:
    assert checkerboard((1, 3, 3))[0].int().tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]


def test_an_image_has_checkerboards_and_channel_masks_at_each_scale() -> None:
    """Sections 3.4 and 3.6. Kills: the same half moved each time, one scale alone, a half that does not leave."""
    flow = RealNVP(Space.continuous((2, 8, 4)), RealNVP.Config(layers=6, hidden=8, scales=3))
    boards, halves = couplings(flow, AffineCoupling), couplings(flow, ChannelCoupling)
    assert [tuple(coupling.mask.shape) for coupling in boards] == [(1, 8, 4)] * 3 + [(1, 4, 2)] * 3
    assert torch.equal(boards[0].mask, ~boards[1].mask)
    assert [coupling.swapped for coupling in halves] == [False, True, False] * 2
    assert [coupling.network.last[-1].out_channels for coupling in halves] == [8] * 3 + [16] * 3
    odd = RealNVP(Space.continuous((2, 4, 3)), RealNVP.Config(layers=6, hidden=8))
    assert len(couplings(odd, AffineCoupling)) == len(couplings(odd)) == 6


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
    x, y = torch.randn(3, *shape, dtype=torch.float64), torch.tensor([2, 0, 1])
    assert torch.allclose(flow.decode(flow.encode(x, y), y), x, atol=1e-9)
    moved = {}
    for coupling in couplings(flow):
        coupling.register_forward_hook(lambda part, args, out: moved.update({part: args + out}))
    flow.encode(x, y)
    for coupling, (inputs, c, ends, _) in moved.items():
        assert c.tolist() == torch.eye(3)[y].tolist()
        other = coupling(inputs, c.roll(1, 0))[0]
        assert (other - ends).abs().amax(tuple(range(1, ends.dim()))).min() > 1e-6
    assert len(moved) == len(couplings(flow))


def test_samples_are_decoded_normal_noise() -> None:
    flow = perturbed(RealNVP(Space.continuous((2,)), RealNVP.Config(layers=2, hidden=8)))
    z = flow.encode(flow.sample(4000, seed=0))
    assert z.mean(0).abs().max() < 5 / math.sqrt(4000)
    assert (z.T.cov() - torch.eye(2)).abs().max() < 5 * math.sqrt(2 / 4000)


@pytest.mark.parametrize("shape", [(5,), (1, 4, 4)])
def test_every_coupling_has_the_bound_two_and_the_dropout_of_the_settings(shape: tuple[int, ...]) -> None:
    """The priors of the channels that leave too. Kills: another bound in one of them, dropout that is never on."""
    flow = perturbed(RealNVP(Space.continuous(shape), RealNVP.Config(layers=4, hidden=8, dropout=0.5)))
    bounds = {part.univariate.bound for part in flow.modules() if isinstance(part, (ChannelCoupling, VectorCoupling))}
    assert bounds == {2.0}
    x = torch.randn(6, *shape)
    assert not torch.equal(flow.train().encode(x), flow.encode(x))
    assert torch.equal(flow.eval().encode(x), flow.encode(x))
