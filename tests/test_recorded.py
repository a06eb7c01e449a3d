"""Every model gives the numbers that it gave when they were last written down, on small examples."""

from __future__ import annotations

import pytest
import recorded

from dgm.models.table import MODELS

TOLERANCE = 3e-4  # of the size of the values: more than processors and their libraries round differently
RECORDED = recorded.read()


@pytest.mark.parametrize("name", MODELS)
def test_a_model_gives_the_numbers_that_it_gave(name: str) -> None:
    """Likelihoods, samples, codes, losses, gradients: of every space, under conditions of every kind, with each setting
    changed. Where the change is meant, ``python tests/recorded.py`` writes the numbers anew.
    """
    before, now = RECORDED[name], dict(recorded.summaries(name))
    assert list(now) == list(before)
    changed = [
        f"{case}: {what} {value:.6g}, before {old}"
        for case, of in now.items()
        for (what, (value, size)), old in zip(of.items(), before[case], strict=True)
        if not abs(value - old) < TOLERANCE * size + 1e-6
    ]
    assert not changed, "\n".join(changed)
