"""The affine map: its ends, its inverse, its log-determinant by autodiff."""

from __future__ import annotations

import pytest
import torch

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
    assert torch.allclose(scaling.inverse(scaling(x[None])), x[None], atol=1e-5)


def test_bounds_become_one_and_hold() -> None:
    scaling = Scaling(Space.continuous((1,), low=-2.0, high=6.0))
    ends = torch.tensor([[-2.0], [6.0]])
    assert torch.equal(scaling(ends), torch.tensor([[-1.0], [1.0]]))
    assert torch.equal(scaling.inverse(torch.tensor([[-1.5], [1.5]])), ends)


def test_tokens_have_no_order() -> None:
    with pytest.raises(BadInput, match="no order"):
        Scaling(Space.tokens(3, 5))
