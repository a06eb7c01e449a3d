"""MADE's masks and densities; the laws of the contract hold its sum and its causality."""

from __future__ import annotations

import pytest
import torch

from dgm.contracts import jolted
from dgm.models.autoregressive.made import MADE
from dgm.space import Space


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_jacobian_of_the_conditionals_is_strictly_lower_triangular(layers: int) -> None:
    made = jolted(MADE(Space.continuous((6,)), MADE.Config(hidden=64, layers=layers)))
    jacobian = torch.autograd.functional.jacobian(lambda x: made.conditionals(x[None])[0].sum(-1), torch.randn(6))
    assert not jacobian.triu().any()
    below = torch.tril(torch.ones(6, 6), -1).bool()
    assert jacobian[below].abs().min() > 0, "a dimension does not see all of its past"


def test_the_first_dimension_has_a_bias_of_its_own() -> None:
    made = jolted(MADE(Space.binary((3,)), MADE.Config(hidden=16)))
    outputs = made.conditionals(torch.tensor([[0, 0, 0], [1, 1, 1]], dtype=torch.uint8))
    assert torch.equal(outputs[0, 0], outputs[1, 0])
    assert not torch.equal(outputs[0, 2], outputs[1, 2])


def test_log_prob_is_the_chain_rule_by_hand() -> None:
    made = jolted(MADE(Space.binary((4,)), MADE.Config(hidden=16)))
    x = torch.tensor([[1, 0, 1, 1]], dtype=torch.uint8)
    p = made.conditionals(x)[0, :, 0].sigmoid()
    expected = (p[0] * (1 - p[1]) * p[2] * p[3]).log()
    assert made.log_prob(x)[0].item() == pytest.approx(expected.item(), abs=1e-5)
