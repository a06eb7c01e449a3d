"""The affine map: its ends, its inverse, its log-determinant by autodiff."""

from __future__ import annotations

import itertools

import pytest
import torch

from dgm.distributions.features import Features
from dgm.distributions.scaling import Scaling
from dgm.errors import BadInput
from dgm.space import Space


@pytest.mark.parametrize("space", [Space.binary((1,)), Space.levels((1,), 17), Space.levels((1,), 1000)], ids=str)
def test_every_level_comes_back_from_anywhere_in_its_cell(space: Space) -> None:
    scaling = Scaling(space)
    x = torch.arange(space.values or 0).to(space.dtype)[:, None]
    z = scaling(x)
    assert (z[0].item(), z[-1].item()) == (-1, 1)
    half = 1 / ((space.values or 0) - 1)
    for off in (-0.98 * half, 0.0, 0.98 * half):
        back = scaling.inverse(z + off)
        assert back.dtype == space.dtype
        assert torch.equal(back, x)
    assert torch.equal(scaling.inverse(torch.tensor([[-9.0], [9.0]])), x[[0, -1]]), "not clamped to the levels"
    assert scaling.ladj.item() == 0, "levels are counted, not measured"


@pytest.mark.parametrize(
    "space",
    [
        Space.continuous((2, 3)),
        Space.continuous((2, 3), low=-2.0, high=6.0),
        Space.continuous((2,), loc=(1.0, -3.0), scale=(0.5, 20.0)),
    ],
    ids=["plain", "bounded", "standardised"],
)
def test_log_determinant_is_the_jacobians(space: Space) -> None:
    scaling = Scaling(space)
    x = torch.rand(space.shape)
    jacobian = torch.autograd.functional.jacobian(lambda v: scaling(v[None])[0], x).reshape(space.dim, space.dim)
    assert torch.allclose(scaling.ladj, torch.linalg.slogdet(jacobian).logabsdet, atol=1e-5)
    observed = torch.rand(3, *space.shape) < 0.5
    parts = [jacobian[seen][:, seen] for seen in observed.flatten(1)]
    expected = torch.stack([torch.linalg.slogdet(part).logabsdet for part in parts])
    assert torch.allclose(scaling.ladj_of(observed), expected, atol=1e-5)
    assert torch.allclose(scaling.inverse(scaling(x[None])), x[None], atol=1e-5)


def test_bounds_become_one_and_hold() -> None:
    scaling = Scaling(Space.continuous((1,), low=-2.0, high=6.0))
    ends = torch.tensor([[-2.0], [6.0]])
    assert torch.equal(scaling(ends), torch.tensor([[-1.0], [1.0]]))
    assert torch.equal(scaling.inverse(torch.tensor([[-1.5], [1.5]])), ends)


def test_tokens_have_no_order() -> None:
    with pytest.raises(BadInput, match="no order"):
        Scaling(Space.tokens(3, 5))


def test_the_scale_is_the_spaces_own_and_one_dimension_has_its_own() -> None:
    """Written out. Kills: a variance for a scale, a dimension with another's numbers."""
    loc, scale = (1.0, -3.0, 0.5, 7.0, 2.0, -1.0), (0.5, 20.0, 3.0, 0.1, 1.0, 9.0)
    space = Space.continuous((2, 3), loc=loc, scale=scale)
    scaling, x = Scaling(space), torch.randn(4, 2, 3) * 5
    expected = (x.flatten(1) - torch.tensor(loc)) / torch.tensor(scale)
    assert torch.allclose(scaling(x).flatten(1), expected)
    for dim in range(6):
        z = scaling(x.flatten(1)[:, dim], dim)
        assert torch.allclose(z, expected[:, dim])
        assert torch.allclose(scaling.inverse(z, dim), x.flatten(1)[:, dim], atol=1e-5)
        assert (scaling.at(dim)[0].item(), scaling.at(dim)[1].item()) == pytest.approx((loc[dim], scale[dim]))
    pixels = Scaling(Space.continuous((1, 2, 3), loc=loc, scale=scale))
    for i, j in itertools.product(range(2), range(3)):
        assert torch.allclose(pixels.of_part(x[:, None], i, j), scaling(x)[:, None, i, j])
    for half in (Space.continuous((2,), loc=(1.0, -3.0)), Space.continuous((2,), scale=(0.5, 20.0))):
        one = Scaling(half)
        assert torch.allclose(one(torch.ones(1, 2), None)[:, 1], one(torch.ones(1), 1))


def test_an_unordered_value_is_one_of_k_and_an_ordered_one_a_number() -> None:
    tokens, levels = Features(Space.tokens(2, 3)), Features(Space.levels((2,), 5))
    assert (tokens.width, levels.width) == (3, 1)
    assert tokens(torch.tensor([2, 0]), 1).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert levels(torch.tensor([[1, 4]], dtype=torch.uint8)).tolist() == [[[-0.5], [1.0]]]
