"""Estimates of 256 levels under any schedule and noise that a user may choose: their exponentials sum to at most one.

Under the settings of each class `test_contracts` holds them to it.
"""

from __future__ import annotations

import pytest

from dgm import contracts
from dgm.registry import create
from dgm.space import Space

CHOSEN = [
    ("ddpm", {"schedule": schedule, "timesteps": steps}) for schedule in ("linear", "cosine") for steps in (2, 10, 100)
] + [
    ("ncsn", {"sigma_min": 0.005, "sigma_max": 50.0}),
    ("ncsn", {"sigma_min": 0.5, "sigma_max": 50.0}),
    ("score_sde", {"path": "ve", "sigma_min": 0.05}),
    ("score_sde", {"path": "sub_vp"}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "config"), CHOSEN, ids=lambda part: part if isinstance(part, str) else str(part))
def test_an_estimate_is_no_more_than_a_probability(name: str, config: dict[str, object]) -> None:
    model = contracts.perturbed(create(name, Space.levels((1,), 256), **config))
    result = contracts.run(contracts.estimate_sums_to_at_most_one, model)
    assert result.passed, result.detail
