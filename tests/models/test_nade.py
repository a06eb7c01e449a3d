"""NADE against the loop of its paper, one dimension after the other, and the number of its blocks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dgm import contracts
from dgm.models.autoregressive import nade
from dgm.models.autoregressive.nade import NADE
from dgm.networks.raster import to_sequence
from dgm.space import Space

WIDE = nade.BLOCK * 2 + 3  # more than two blocks, the last one short


def by_the_paper(model: NADE, x: Tensor) -> Tensor:
    """Equations 10 and 11 on scaled x, with RNADE's rho_d on real numbers, (B, D, outputs)."""
    a, outputs = model.c.expand(len(x), -1).clone(), []
    for d in range(x.shape[1]):
        rho = 1.0 if model.rho is None else model.rho[d]
        outputs.append(torch.sigmoid(rho * a) @ model.V[d] + model.b[d])
        a = a + x[:, d, None] * model.W[d, 0]
    return torch.stack(outputs, 1)


@pytest.mark.parametrize("space", [Space.binary((WIDE,)), Space.continuous((WIDE,))], ids=str)
def test_blocks_are_the_papers_loop(space: Space) -> None:
    """Kills: a block that forgets those before it, or that shows a dimension itself."""
    model = contracts.jolted(NADE(space, NADE.Config(hidden=24)))
    x = contracts.some(space)
    assert torch.allclose(model.conditionals(x), by_the_paper(model, model.features(x)[..., 0]), atol=1e-5)


@pytest.mark.parametrize("space", [Space.binary((WIDE,)), Space.levels((1, 8, 8), 17), Space.tokens(WIDE, 5)], ids=str)
def test_steps_are_the_blocks(space: Space) -> None:
    model = contracts.jolted(NADE(space, NADE.Config(hidden=24)))
    for law in (contracts.steps_are_the_conditionals, contracts.no_dimension_sees_its_future):
        result = contracts.run(law, model)
        assert result.passed, result.detail


def test_the_jacobian_is_strictly_lower_triangular_and_full() -> None:
    model = contracts.jolted(NADE(Space.continuous((WIDE,)), NADE.Config(hidden=24)))
    jacobian = torch.autograd.functional.jacobian(
        lambda x: to_sequence(model.conditionals(x[None]), model.space)[0].sum(-1), torch.randn(WIDE)
    )
    assert not jacobian.triu().any()
    assert jacobian[torch.ones(WIDE, WIDE).tril(-1).bool()].abs().min() > 0
