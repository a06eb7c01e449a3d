"""Conditions: what fits, what a user may give, what is drawn where nothing is given."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dgm.errors import BadInput, Unsupported
from dgm.networks.conditions import (
    Marginal,
    check_condition,
    fit_marginals,
    given_condition,
    is_label,
    labels_of,
    marginal_of,
    sampled_condition,
)
from dgm.seeds import streams
from dgm.space import Space

LABEL = Space.categories(3)
RECORD = Space.record(age=Space.levels((), 120, optional=True), job=Space.categories(4))


class Conditional(nn.Module):
    def __init__(self, condition: Space | None) -> None:
        super().__init__()
        self.condition = condition
        self.marginal = None if condition is None else Marginal(condition)


def test_a_label_is_one_category_an_example() -> None:
    assert is_label(LABEL)
    others = (None, Space.categories(3, (1,)), Space.binary(()), Space.levels((), 3))
    assert not any(map(is_label, others))
    assert labels_of(Conditional(LABEL)) == 3
    assert [labels_of(Conditional(other)) for other in others] == [0, 0, 0, 0]


def test_what_is_no_batch_of_the_condition_is_refused() -> None:
    y = torch.tensor([0, 2])
    assert check_condition(y, LABEL) is y
    assert check_condition(None, None) is None
    assert check_condition(y[:0], LABEL) is not None
    for wrong in (torch.tensor([3]), torch.tensor([-1, 0])):
        with pytest.raises(BadInput, match="from 0 to 2"):
            check_condition(wrong, LABEL)
    with pytest.raises(BadInput, match="expected integers"):
        check_condition(y.double(), LABEL)
    with pytest.raises(BadInput, match=r"of shape \(B, 2\)"):
        check_condition(torch.zeros(4, 3), Space.continuous((2,)))
    with pytest.raises(BadInput, match="NaN"):
        check_condition(torch.full((4, 2), math.nan), Space.continuous((2,)))
    with pytest.raises(Unsupported, match="without labels"):
        check_condition(y, None)
    with pytest.raises(Unsupported, match="from 0 to 2"):
        check_condition(None, LABEL)
    with pytest.raises(Unsupported, match="needs a condition for each example, of continuous 2"):
        check_condition(None, Space.continuous((2,)))


@pytest.mark.parametrize(
    ("condition", "given", "expected"),
    [
        (LABEL, 2, [2, 2, 2]),
        (LABEL, [0, 2, 1], [0, 2, 1]),
        (Space.binary((2,)), [True, False], [[1, 0]] * 3),
        (Space.binary((2,)), [[1, 0], [0, 0], [1, 1]], [[1, 0], [0, 0], [1, 1]]),
        (Space.continuous((2,)), [1, 2.5], [[1.0, 2.5]] * 3),
        (Space.continuous(()), 7, [7.0] * 3),
        (RECORD, [30, 2], [[30.0, 2.0]] * 3),
    ],
)
def test_one_is_given_for_all_or_one_an_example(condition: Space, given: Any, expected: Any) -> None:
    y = given_condition(Conditional(condition), given, 3)
    assert y is not None
    assert (y.tolist(), y.dtype) == (expected, condition.dtype)


def test_what_a_user_may_not_give() -> None:
    for condition, given, said in (
        (LABEL, [0, 1], "expected 3 labels"),
        (LABEL, 1.5, "whole numbers"),
        (LABEL, 3, "from 0 to 2"),
        (Space.binary((2,)), [0.5, 0.5], "whole numbers"),
        (Space.binary((2,)), [0, 1, 1], "expected 3 conditions"),
        (Space.continuous((2,)), [math.nan, 0], "NaN"),
        (RECORD, [30, math.nan], "'job' is missing"),
    ):
        with pytest.raises(BadInput, match=said):
            given_condition(Conditional(condition), given, 3)
    with pytest.raises(Unsupported, match="without labels or another condition"):
        given_condition(Conditional(None), 0, 3)
    assert given_condition(Conditional(None), None, 3) is None


@pytest.mark.parametrize("shares", [None, [0.5, 0.1, 0.4]])
def test_labels_that_are_not_given_are_drawn_by_the_samples_own_streams(shares: list[float] | None) -> None:
    """As often as in training, or each as often as the others. Kills: a label that is never drawn."""
    model, n = Conditional(LABEL), 6000
    if shares:
        fit_marginals(model, torch.repeat_interleave(torch.arange(3), torch.tensor(shares).mul(10).long()))
        assert marginal_of(model).shares.tolist() == pytest.approx(shares)
    drawn, few = (sampled_condition(None, model, streams(k, 0)) for k in (n, 7))
    assert drawn is not None
    p = torch.tensor(shares or [1 / 3] * 3)
    assert ((drawn.bincount(minlength=3) / n - p).abs() < 5 * (p * (1 - p) / n).sqrt()).all()
    assert torch.equal(drawn[:7], few)  # type: ignore[arg-type]
    assert sampled_condition(None, Conditional(None), streams(2, 0)) is None
    y = torch.tensor([1, 0])
    assert sampled_condition(y, model, streams(2, 0)) is y
    with pytest.raises(BadInput, match="expected 3 labels, one a sample"):
        sampled_condition(y, model, streams(3, 0))


def conditions(space: Space, n: int) -> Tensor:
    if space.kind == "record":
        age = torch.where(torch.arange(n) % 4 == 0, math.nan, torch.arange(n) % 100)
        return torch.stack([age, torch.arange(n) % 4], 1).double()
    return (torch.arange(n)[:, None] + torch.arange(2)).remainder(space.values or 10_000).to(space.dtype)


@pytest.mark.parametrize("space", [Space.binary((2,)), Space.continuous((2,)), Space.tokens(2, 9), RECORD], ids=str)
@pytest.mark.parametrize("n", [5, 3000])
def test_other_conditions_are_drawn_from_those_of_the_training_data(space: Space, n: int) -> None:
    """Kills: rows of zeros where few were seen, a NaN that becomes a number, the first rows alone."""
    model, y = Conditional(space), conditions(space, n)
    with pytest.raises(Unsupported, match="has seen no"):
        sampled_condition(None, model, streams(4, 0))
    fit_marginals(model, y)
    drawn, few = (sampled_condition(None, model, streams(k, 3)) for k in (4000, 9))
    assert drawn is not None
    seen = {str(row) for row in y.tolist()}
    found = {str(row) for row in drawn.tolist()}
    assert found <= seen
    assert len(found) >= min(len(seen), 5)
    if space.kind == "continuous" and n == 3000:
        assert drawn.mean().item() == pytest.approx(1500, abs=5 * 866 / 256**0.5)  # 256 are kept of 0 … 2999
    if space.kind == "continuous" and n == 5:  # all of them equally often
        assert (drawn[:, 0].long().bincount(minlength=5) - 800).abs().max() < 5 * (4000 * 0.2 * 0.8) ** 0.5
    torch.testing.assert_close(drawn[:9], few, equal_nan=True)
    assert drawn.dtype == space.dtype


def test_what_is_kept_comes_with_the_weights() -> None:
    for space in (LABEL, Space.binary((2,)), RECORD):
        model, again = Conditional(space), Conditional(space)
        fit_marginals(model, conditions(space, 40) if space is not LABEL else torch.tensor([0, 0, 2]))
        again.load_state_dict(model.state_dict())
        assert all(tensor.isfinite().all() for tensor in model.state_dict().values())  # as a run's weights must be
        drawn = [sampled_condition(None, m, streams(50, 1)) for m in (model, again)]
        torch.testing.assert_close(*drawn, equal_nan=True)
