"""Which examples a study shows to whom, and in which order."""

from __future__ import annotations

from collections import Counter

from dgm.study.answers import REAL
from dgm.study.plan import Pair, Plan, RealOrFake

PLAN = Plan(seed=3, runs=("a", "b", "c"), trials=20, pairs=31)


def test_half_of_each_block_is_real_and_no_example_is_shown_twice() -> None:
    trials = PLAN.of_rater(1)
    blocks = [trial for trial in trials if isinstance(trial, RealOrFake)]
    assert Counter((trial.run, trial.stimulus[0] == REAL) for trial in blocks) == Counter(
        {(run, is_real): 10 for run in PLAN.runs for is_real in (False, True)}
    )
    pairs = [trial for trial in trials if isinstance(trial, Pair)]
    shown = [trial.stimulus for trial in blocks] + [side for pair in pairs for side in (pair.left, pair.right)]
    assert len(set(shown)) == len(shown) == 3 * 20 + 2 * 31
    assert all(name in (trial.run, REAL) for trial in blocks for name in trial.stimulus[:1])
    for source in (*PLAN.runs, REAL):
        assert sorted(k for name, k in shown if name == source) == list(range(PLAN.count(source)))


def test_each_two_sources_are_compared_equally_often_on_both_sides() -> None:
    pairs = [trial for trial in PLAN.of_rater(1) if isinstance(trial, Pair)]
    counts = Counter(frozenset((pair.left[0], pair.right[0])) for pair in pairs)
    assert len(counts) == 6
    assert set(counts.values()) == {5, 6}
    swapped = sum(pair.left != PLAN.comparisons[pair.number].left for pair in pairs)
    assert swapped in (15, 16)


def test_all_raters_judge_the_same_in_orders_of_their_own() -> None:
    """Kills: an order of the study's seed alone, of examples, pairs or sides, and one of the rater alone."""
    first, second = PLAN.of_rater(1), PLAN.of_rater(2)
    assert first == PLAN.of_rater(1)
    assert first != second
    assert first != Plan(4, PLAN.runs, PLAN.trials, PLAN.pairs).of_rater(1)
    judged = [{trial for trial in trials if isinstance(trial, RealOrFake)} for trials in (first, second)]
    assert judged[0] == judged[1] == set(PLAN.blocks)
    numbers = [sorted(trial.number for trial in trials if isinstance(trial, Pair)) for trials in (first, second)]
    assert numbers == [list(range(31))] * 2
    assert [trial for trial in first if isinstance(trial, RealOrFake)] != second[: len(PLAN.blocks)]
    pairs = [[trial for trial in trials if isinstance(trial, Pair)] for trials in (first, second)]
    assert [pair.number for pair in pairs[0]] != [pair.number for pair in pairs[1]]
    swapped = [[pair.left != PLAN.comparisons[pair.number].left for pair in of_rater] for of_rater in pairs]
    assert swapped[0] != swapped[1]
