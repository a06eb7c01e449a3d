"""The results of a study: error rates, HYPE scores, Bradley-Terry ranks, and the agreement of the raters."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from dgm.study import bradley_terry, staircase
from dgm.study.agreement import alpha
from dgm.study.answers import REAL, Answers, PairAnswer, RealOrFakeAnswer, StudyPart, read
from dgm.study.intervals import FEWEST, bootstrapped, wilson

SETTLED = 100  # trials of a block, below which the staircase may not have settled


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; the ends are None where there are too few raters for one."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Block:
    """The real-or-fake answers of one run.

    Attributes:
        error: The share of wrong answers. Without a limit of time it is HYPE-infinity.
        fakes: The share of generated examples that were taken for real.
        reals: The share of real examples that were taken for generated.
        exposure: HYPE-time in ms: the mean over raters of the modal exposure. None without the staircase.
    """

    run: str
    answers: int
    raters: int
    error: Estimate
    fakes: Estimate | None
    reals: Estimate | None
    exposure: Estimate | None


@dataclass(frozen=True)
class Ranked:
    """One source of pairs.

    Attributes:
        strength: log λ of Bradley-Terry, with mean 0 over the sources that were compared with each other.
        best, worst: The ranks that the intervals of the differences leave.
    """

    source: str
    won: int
    compared: int
    strength: Estimate
    best: int
    worst: int


@dataclass(frozen=True)
class Judge:
    """One rater."""

    rater: int
    answers: int
    lost: int
    finished: bool
    error: Estimate | None
    said_real: float | None
    seconds: float | None


@dataclass(frozen=True)
class Agreement:
    """Krippendorff's alpha of the units that two raters or more have answered."""

    alpha: Estimate
    units: int


@dataclass(frozen=True)
class Analysis:
    study: StudyPart
    raters: list[Judge]
    blocks: list[Block]
    ranks: list[Ranked]
    agreement: dict[str, Agreement]
    notes: list[str] = field(default_factory=list)


def analyse(path: str | Path) -> Analysis:
    """The results of the answers so far.

    Raises:
        BadInput: If the file is not one of a study, or a line is damaged.
    """
    held = read(path)
    judged = [answer for answer in held.answers if answer["task"] == "real or fake" and answer["choice"] is not None]
    compared = [answer for answer in held.answers if answer["task"] == "pairs"]
    names = [run["name"] for run in held.study["runs"]]
    blocks = [block(run, judged, held) for run in names if any(answer["run"] == run for answer in judged)]
    ranks, of_ranks = ranked([*names, REAL], compared)
    found = Analysis(held.study, judges(held), blocks, ranks, agreements(judged, compared))
    found.notes.extend([*notes(found), *of_ranks])
    return found


def share(answers: Iterable[tuple[int, bool]]) -> Estimate | None:
    """The share of true ones of (rater, whether) answers; None of none."""
    counts: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for rater, holds in answers:
        counts[rater][0] += holds
        counts[rater][1] += 1
    if not counts:
        return None
    held, n = numpy.array(list(counts.values()), dtype=float).T
    value = float(held.sum() / n.sum())
    if len(counts) < FEWEST:
        return Estimate(value, *wilson(int(held.sum()), int(n.sum())))
    low, high = bootstrapped(lambda drawn: (drawn @ held) / (drawn @ n), len(counts))
    return estimate(value, low, high)


def estimate(value: Any, low: Any, high: Any) -> Estimate:
    """Plain numbers, and None for ends that are not known."""
    ends = (float(low), float(high)) if numpy.isfinite([low, high]).all() else (None, None)
    return Estimate(float(value), *ends)


def is_wrong(answer: RealOrFakeAnswer) -> bool:
    return (answer["choice"] == "real") != (answer["source"] == REAL)


def block(run: str, judged: Sequence[RealOrFakeAnswer], held: Answers) -> Block:
    mine = [answer for answer in judged if answer["run"] == run]
    error = share((answer["rater"], is_wrong(answer)) for answer in mine)
    assert error is not None
    fakes = share((answer["rater"], is_wrong(answer)) for answer in mine if answer["source"] != REAL)
    reals = share((answer["rater"], is_wrong(answer)) for answer in mine if answer["source"] == REAL)
    raters = len({answer["rater"] for answer in mine})
    return Block(run, len(mine), raters, error, fakes, reals, exposure(run, mine, held))


def exposure(run: str, mine: Sequence[RealOrFakeAnswer], held: Answers) -> Estimate | None:
    """HYPE-time over the raters who have finished the block."""
    if not held.study["timed"]:
        return None
    seen = Counter(a["rater"] for a in held.answers if a["task"] == "real or fake" and a["run"] == run)
    times: dict[int, list[int]] = defaultdict(list)
    for answer in mine:
        if seen[answer["rater"]] >= held.study["trials"] and answer["exposure"] is not None:
            times[answer["rater"]].append(answer["exposure"])
    if not times:
        return None
    scores = numpy.array([staircase.score(shown) for shown in times.values()])
    if len(scores) < FEWEST:
        return Estimate(float(scores.mean()), None, None)
    low, high = bootstrapped(lambda drawn: drawn @ scores / len(scores), len(scores))
    return estimate(scores.mean(), low, high)


def ranked(sources: Sequence[str], answers: Sequence[PairAnswer]) -> tuple[list[Ranked], list[str]]:
    """The sources by strength, the best first, and sentences on sources that could not be compared."""
    sources = [name for name in sources if any(name in (answer["left"], answer["right"]) for answer in answers)]
    raters = sorted({answer["rater"] for answer in answers})
    clusters = len(raters) if len(raters) >= FEWEST else len(answers)
    wins = numpy.zeros((clusters, len(sources), len(sources)))
    for k, answer in enumerate(answers):
        winner, loser = sorted((answer["left"], answer["right"]), key=lambda name: name != answer[answer["choice"]])
        row = raters.index(answer["rater"]) if len(raters) >= FEWEST else k
        wins[row, sources.index(winner), sources.index(loser)] += 1
    parts = bradley_terry.groups(wins.sum(0)) if answers else []
    found, said = [], []
    for part in parts:
        ordered, sentences = within([sources[k] for k in part], wins[:, part][:, :, part])
        found += ordered
        said += sentences
    if len(parts) > 1:
        words = "; ".join(", ".join(sources[k] for k in part) for part in parts)
        said.append(f"Sources of different groups were never compared, and have ranks within their group: {words}.")
    return found, said


def within(names: Sequence[str], wins: NDArray[numpy.float64]) -> tuple[list[Ranked], list[str]]:
    """The ranks of sources that are connected by comparisons, from wins (clusters, S, S)."""
    total = wins.sum(0)
    compared = total + total.T > 0
    first, second = map(list, zip(*combinations(range(len(names)), 2), strict=True))

    def statistic(drawn: NDArray[numpy.int64]) -> NDArray[numpy.float64]:
        resampled = numpy.tensordot(drawn, wins, 1)
        strengths = bradley_terry.log_strengths(
            numpy.stack([bradley_terry.corrected(one, compared) for one in resampled])
        )
        return numpy.concatenate([strengths, strengths[:, first] - strengths[:, second]], 1)

    none = numpy.full(len(names) + len(first), numpy.nan)
    low, high = bootstrapped(statistic, len(wins)) if len(wins) > 1 else (none, none)
    better = numpy.zeros_like(compared)
    for place, (i, j) in enumerate(zip(first, second, strict=True), len(names)):
        better[i, j], better[j, i] = low[place] > 0, high[place] < 0
    strength = bradley_terry.log_strengths(bradley_terry.corrected(total, compared))
    found = [
        Ranked(
            name,
            int(total[k].sum()),
            int(total[k].sum() + total[:, k].sum()),
            estimate(strength[k], low[k], high[k]),
            int(1 + better[:, k].sum()),
            int(len(names) - better[k].sum()),
        )
        for k, name in enumerate(names)
    ]
    tied = [f"{names[i]} and {names[j]}" for i, j in zip(first, second, strict=True) if not better[i, j] | better[j, i]]
    said = [f"Tied, as the interval of the difference holds 0: {', '.join(tied)}."] if tied else []
    if not bradley_terry.has_maximum(total):
        said.append(
            "One source or group won all of its comparisons with the others, so the likelihood has no maximum: half a "
            "win was added to both sides of each pair of sources."
        )
    return sorted(found, key=lambda row: -row.strength.value), said


def agreements(judged: Sequence[RealOrFakeAnswer], compared: Sequence[PairAnswer]) -> dict[str, Agreement]:
    """Alpha of the tasks that two raters or more have answered."""
    of_examples = counts(((a["run"], a["source"], a["stimulus"]), a["choice"]) for a in judged)
    of_pairs = counts((a["pair"], a["left"] if a["choice"] == "left" else a["right"]) for a in compared)
    return {
        task: Agreement(with_interval(alpha, table), len(table))
        for task, table in (("real or fake", of_examples), ("pairs", of_pairs))
        if len(table) > 1 and not numpy.isnan(alpha(table))
    }


def counts(answers: Iterable[tuple[Hashable, Hashable]]) -> NDArray[numpy.float64]:
    """(units, values), how often each unit was given each value, of the units with two answers or more."""
    found: dict[Hashable, Counter[Hashable]] = defaultdict(Counter)
    for unit, value in answers:
        found[unit][value] += 1
    values = sorted({value for given in found.values() for value in given}, key=str)
    table = numpy.array([[given[value] for value in values] for given in found.values()], dtype=float)
    return table[table.sum(1) >= 2] if len(table) else table.reshape(0, 0)


def with_interval(statistic: Callable[[NDArray[numpy.float64]], float], table: NDArray[numpy.float64]) -> Estimate:
    """A statistic of a table with the bootstrap over its rows, the units."""
    low, high = bootstrapped(
        lambda drawn: numpy.array([statistic(numpy.repeat(table, row, 0)) for row in drawn]), len(table)
    )
    return estimate(statistic(table), low, high)


def judges(held: Answers) -> list[Judge]:
    """The raters, each with their own error rate and the time that they took."""
    of = len(held.study["runs"]) * held.study["trials"] + held.study["pairs"]
    found = []
    for line in held.raters:
        mine = [answer for answer in held.answers if answer["rater"] == line["rater"]]
        given = [answer for answer in mine if answer["choice"] is not None]
        judged = [answer for answer in given if answer["task"] == "real or fake"]
        real = [answer["choice"] == "real" for answer in judged]
        times = [answer["seconds"] for answer in given if answer["seconds"] is not None]
        found.append(
            Judge(
                line["rater"],
                len(given),
                len(mine) - len(given),
                len(mine) >= of,
                share((answer["rater"], is_wrong(answer)) for answer in judged),
                statistics.fmean(real) if real else None,
                statistics.median(times) if times else None,
            )
        )
    return found


def notes(found: Analysis) -> list[str]:
    """The remarks that a reader of the numbers needs."""
    study, raters = found.study, [judge for judge in found.raters if judge.answers]
    lost = sum(judge.lost for judge in raters)
    unfinished = sum(not judge.finished for judge in raters)
    staircase_used = bool(study["timed"] and found.blocks)
    sentences = [
        (not raters, "Nobody has answered yet."),
        (
            0 < len(raters) < FEWEST,
            f"Fewer than {FEWEST} raters: the intervals take answers as independent, and say nothing of other people.",
        ),
        (
            staircase_used,
            "By the staircase a quarter of the answers is wrong whatever the model: the models differ in the exposure.",
        ),
        (
            staircase_used and study["trials"] < SETTLED,
            f"The staircase may not have settled: a block has {study['trials']} trials, fewer than {SETTLED}.",
        ),
        (unfinished > 0, f"Raters who have not finished: {unfinished} of {len(raters)}."),
        (lost > 0, f"Images that were shown and lost by a reload of the page: {lost}."),
    ]
    return [sentence for holds, sentence in sentences if holds]
