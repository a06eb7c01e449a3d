"""Models, and what is done with them, give the numbers that were last written down, on small examples."""

from __future__ import annotations

import pytest
import recorded

TOLERANCE = 3e-4  # of the size of the values: more than processors and their libraries round differently
RECORDED = recorded.read()


@pytest.mark.slow
@pytest.mark.parametrize("subject", recorded.SUBJECTS)
def test_the_numbers_are_those_that_were_recorded(subject: str) -> None:
    """Likelihoods, samples, codes, losses and gradients of models in every space, under conditions of every kind, with
    each setting changed; samplers, evaluations, edits, trainings; defaults of settings and of arguments. Where a change
    is meant, ``python tests/recorded.py`` writes the numbers anew.
    """
    before, now = RECORDED[subject], dict(recorded.summaries(subject))
    assert list(now) == list(before)
    changed = [
        f"{case}: {what} {value:.6g}, before {old}"
        for case, of in now.items()
        for (what, (value, size)), old in zip(of.items(), before[case], strict=True)
        if not abs(value - old) < TOLERANCE * size + 1e-6
    ]
    assert not changed, "\n".join(changed)
