"""NADE against the loop of its paper, one dimension after the other, and the number of its blocks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dgm import contracts
from dgm.models.autoregressive import nade
from dgm.models.autoregressive.nade import NADE, Outputs
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
    model = contracts.perturbed(NADE(space, NADE.Config(hidden=24)))
    x = contracts.random_examples(space)
    assert torch.allclose(model.conditionals(x), by_the_paper(model, model.features(x)[..., 0]), atol=1e-5)


@pytest.mark.parametrize(
    "space",
    [Space.binary((WIDE,)), Space.levels((1, 8, 8), 17), Space.tokens(WIDE, 5), Space.continuous((WIDE,))],
    ids=str,
)
def test_steps_are_the_blocks(space: Space) -> None:
    model = contracts.perturbed(NADE(space, NADE.Config(hidden=24)))
    for law in (contracts.sequential_conditionals_agree, contracts.conditionals_are_autoregressive):
        result = contracts.run(law, model)
        assert result.passed, result.detail


def test_the_jacobian_is_strictly_lower_triangular_and_full() -> None:
    model = contracts.perturbed(NADE(Space.continuous((WIDE,)), NADE.Config(hidden=24)))
    jacobian = torch.autograd.functional.jacobian(
        lambda x: to_sequence(model.conditionals(x[None]), model.space)[0].sum(-1), torch.randn(WIDE)
    )
    assert not jacobian.triu().any()
    assert jacobian[torch.ones(WIDE, WIDE).tril(-1).bool()].abs().min() > 0


@pytest.mark.parametrize("rho", [True, False])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_the_gradient_written_out_is_autodiffs(rho: bool, size: int) -> None:
    """In blocks of one, blocks that end short and one block. Kills: h (1 - h), rho or the later blocks' G left out."""
    d, n, inputs, h, outputs = 7, 2, 2, 3, 2
    shapes = [(n, d, inputs), (n, h), (d, inputs, h), (d, h, outputs), (d,)]
    x, a, W, V, r = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes)

    def by_blocks(*given: Tensor) -> Tensor:
        return Outputs.apply(*given[:4], given[4] if rho else None, size)

    def by_loop(x: Tensor, a: Tensor, W: Tensor, V: Tensor, r: Tensor) -> Tensor:
        sums = [a + torch.einsum("bji,jih->bh", x[:, :k], W[:k]) for k in range(d)]
        return torch.stack([torch.sigmoid((r[k] if rho else 1) * sums[k]) @ V[k] for k in range(d)])

    given = (x, a, W, V, r) if rho else (x, a, W, V)
    found, expected = by_blocks(*given), by_loop(x, a, W, V, r)
    assert torch.allclose(found, expected)
    g = torch.randn_like(found)
    theirs = torch.autograd.grad(expected, given, g)
    without_x = torch.autograd.grad(by_blocks(x.detach(), *given[1:]), given[1:], g)
    for ours, of in ((torch.autograd.grad(found, given, g), theirs), (without_x, theirs[1:])):
        assert all(torch.allclose(u, v) for u, v in zip(ours, of, strict=True))


def test_sums_start_at_a_scale_that_does_not_grow_with_d_or_h() -> None:
    """W x is of variance 1 over all D inputs, V h over H; RNADE's rho starts at 1."""
    model = NADE(Space.continuous((50,)), NADE.Config(hidden=200))
    assert model.W.std().item() == pytest.approx(50**-0.5, rel=0.05)  # of 10,000 numbers and more
    assert model.V.std().item() == pytest.approx(200**-0.5, rel=0.05)
    assert (model.rho == 1).all()
    tokens = NADE(Space.tokens(50, 9), NADE.Config(hidden=200))
    assert tokens.W.std().item() == pytest.approx((50 * 9) ** -0.5, rel=0.05)


def test_a_label_is_added_to_what_hidden_units_sum_first() -> None:
    model = contracts.perturbed(NADE(Space.continuous((5,)), NADE.Config(hidden=8), Space.categories(3)))
    x, y = contracts.random_examples(model.space, 3), torch.tensor([2, 0, 1])
    for k in range(3):
        alone = NADE(model.space, NADE.Config(hidden=8))
        alone.load_state_dict(model.state_dict(), strict=False)
        alone.c.data = model.c + model.condition_bias.weight[y[k]]
        assert torch.allclose(model.log_prob(x, y)[k], alone.log_prob(x)[k], atol=1e-5)
