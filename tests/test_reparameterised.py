"""Samples as a function of the parameters: the law of their gradient holds, and breaks of models that cut it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor

from dgm import contracts
from dgm.errors import Unsupported
from dgm.registry import create
from dgm.space import Space

LAW = contracts.gradients_pass_through_samples


@pytest.mark.parametrize("space", [contracts.PLANE, Space.continuous((2,), low=0.0, high=4.0)], ids=str)
@pytest.mark.parametrize("name", ["vae", "realnvp", "gan"])
@pytest.mark.parametrize("condition", [None, Space.categories(3)], ids=["", "label"])
def test_the_gradient_is_that_of_finite_differences(name: str, space: Space, condition: Space | None) -> None:
    model = contracts.perturbed(create(name, space, condition))
    result = contracts.run(LAW, model)
    assert result.passed, result.detail


@pytest.mark.parametrize(
    ("method", "change", "outcome"),
    [
        ("outputs", Tensor.detach, contracts.Outcome.BROKEN),
        ("rsample", lambda x: x + 0.5 * (x - x.detach()), contracts.Outcome.BROKEN),
        ("rsample", lambda x: x + 0.0 * (x - x.detach()), contracts.Outcome.HOLDS),
    ],
    ids=["cut", "another size", "the same"],
)
def test_a_gradient_that_is_not_the_samples_breaks_the_law(
    method: str, change: Callable[[Tensor], Tensor], outcome: contracts.Outcome
) -> None:
    """By a class, since the law copies the model, and a method of the instance would keep the original's weights."""
    model: Any = contracts.perturbed(create("vae", contracts.PLANE))
    right = getattr(type(model), method)
    changed = {method: lambda self, *given, **options: change(right(self, *given, **options))}
    model.__class__ = type("Changed", (type(model),), changed)
    assert contracts.run(LAW, model).outcome is outcome


def test_another_draw_breaks_the_law() -> None:
    flow: Any = contracts.perturbed(create("realnvp", contracts.PLANE, layers=2))
    right = flow.sample
    flow.sample = lambda n, y=None, *, seed=None: right(n, y, seed=seed + 1)
    assert "differ by" in contracts.run(LAW, flow).detail


@pytest.mark.parametrize("name", ["vae", "gan"])
def test_whole_numbers_have_no_gradient(name: str) -> None:
    model: Any = create(name, Space.levels((1, 4, 4), 5))
    with pytest.raises(Unsupported, match="no gradient passes through them; use sample"):
        model.rsample(2)
