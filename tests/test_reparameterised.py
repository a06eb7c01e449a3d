"""Samples as a function of the parameters: the law of their gradient holds, and breaks of models that cut it."""

from __future__ import annotations

from typing import Any

import pytest

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


def test_a_cut_gradient_breaks_the_law() -> None:
    model: Any = contracts.perturbed(create("vae", contracts.PLANE))
    right = type(model).outputs
    model.outputs = lambda z, y: right(model, z, y).detach()
    assert contracts.run(LAW, model).outcome is contracts.Outcome.BROKEN


def test_a_gradient_of_another_size_breaks_the_law() -> None:
    model: Any = contracts.perturbed(create("vae", contracts.PLANE))

    class Steeper(type(model)):  # type: ignore[misc]
        def rsample(self, *given: Any, **options: Any) -> Any:
            x = super().rsample(*given, **options)
            return x + 0.5 * (x - x.detach())

    model.__class__ = Steeper
    assert contracts.run(LAW, model).outcome is contracts.Outcome.BROKEN


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
