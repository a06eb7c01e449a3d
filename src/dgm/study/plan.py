"""The trials of each rater: a function of the study's seed and the rater's number.

All raters judge the same examples, so that their agreement can be measured, in an order of their own.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, cycle, islice

from dgm.data import order
from dgm.seeds import mix
from dgm.study.answers import REAL, StudyPart

Stimulus = tuple[str, int]  # the source, a run's name or REAL, and the index of the example
SIDES = 1  # the stream of the sides of pairs


@dataclass(frozen=True)
class RealOrFake:
    """Is this example real? ``run`` is the run to whose block it belongs: half of a block are real examples."""

    run: str
    stimulus: Stimulus


@dataclass(frozen=True)
class Pair:
    """Which of two examples is better?"""

    number: int
    left: Stimulus
    right: Stimulus


@dataclass(frozen=True)
class Plan:
    """The examples and trials of a study.

    Attributes:
        runs: The names of the runs.
        trials: The number of real-or-fake trials of each run, an even number.
        pairs: The number of pairs.
    """

    seed: int
    runs: tuple[str, ...]
    trials: int
    pairs: int

    @classmethod
    def of(cls, study: StudyPart) -> Plan:
        names = tuple(run["name"] for run in study["runs"])
        return cls(study["seed"], names, study["trials"], study["pairs"])

    @cached_property
    def blocks(self) -> list[RealOrFake]:
        """The real-or-fake trials: half of each run's are its samples, and no real example is in two of them."""
        half = self.trials // 2
        return [
            RealOrFake(run, stimulus)
            for place, run in enumerate(self.runs)
            for k in range(half)
            for stimulus in ((run, k), (REAL, place * half + k))
        ]

    @cached_property
    def comparisons(self) -> list[Pair]:
        """The pairs: each pair of sources equally often, up to one, and each example once in the whole study."""
        used = Counter(trial.stimulus[0] for trial in self.blocks)
        found = []
        for number, (first, second) in enumerate(islice(cycle(combinations((*self.runs, REAL), 2)), self.pairs)):
            found.append(Pair(number, (first, used[first]), (second, used[second])))
            used.update((first, second))
        return found

    def count(self, source: str) -> int:
        """The number of examples of a source."""
        shown = [trial.stimulus for trial in self.blocks]
        shown += [side for pair in self.comparisons for side in (pair.left, pair.right)]
        return sum(name == source for name, _ in shown)

    def of_rater(self, rater: int) -> list[RealOrFake | Pair]:
        """The trials in the order of one rater, the pairs last; the sides of each pair are drawn too."""
        seed = mix(self.seed, rater)
        first = [self.blocks[k] for k in order(len(self.blocks), seed, 0).tolist()]
        swapped = order(self.pairs, seed, SIDES) % 2 == 1
        then = [self.comparisons[k] for k in order(self.pairs, seed, 0).tolist()]
        return first + [
            Pair(pair.number, pair.right, pair.left) if swap else pair
            for pair, swap in zip(then, swapped.tolist(), strict=True)
        ]
