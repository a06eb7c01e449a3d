"""What the analysis makes of raters whose true rates are known."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy
import pytest
from studies import answer_of, session_of, study_of

from dgm.study import analysis
from dgm.study.agreement import alpha
from dgm.study.analysis import Analysis, analyse
from dgm.study.answers import REAL, AnswerFile, Answers, PairAnswer
from dgm.study.plan import Pair, RealOrFake

STRENGTHS = {REAL: 1.5, "vae": 0.5, "gmm": -0.5}


class Simulated:
    """A rater who sees the truth, and answers by chance with a probability.

    Args:
        lapse: The probability of an answer by chance; 0 is an oracle, 1 a coin.
        threshold: The exposure in ms at which the truth is seen half of the time; None if always.
    """

    def __init__(self, seed: int, lapse: float, threshold: float | None = None) -> None:
        self.random, self.lapse, self.threshold = random.Random(seed), lapse, threshold

    def choose(self, trial: RealOrFake | Pair, exposure: int | None) -> str:
        if isinstance(trial, Pair):
            odds = numpy.exp(STRENGTHS[trial.left[0]] - STRENGTHS[trial.right[0]])
            return "left" if self.random.random() < odds / (1 + odds) else "right"
        seen = 1.0
        if self.threshold is not None and exposure is not None:
            seen = 1 / (1 + numpy.exp((self.threshold - exposure) / 30))
        if self.random.random() < (1 - self.lapse) * seen:
            return "real" if trial.stimulus[0] == REAL else "fake"
        return self.random.choice(["real", "fake"])


def simulated(out: Path, raters: list[Simulated], **numbers: object) -> Analysis:
    """The analysis of a study in which all raters take part at once."""
    session = session_of(out, study_of(**numbers))
    pages = [session.begin() for _ in raters]
    for number in range(len(session.raters[pages[0]["token"]].trials)):
        for rater, page in zip(raters, pages, strict=True):
            trial = session.raters[page["token"]].trial
            choice = rater.choose(trial, page["trial"]["exposure"])
            page |= session.answer(page["token"], page["tab"], number, choice, 1.0, None)
    session.file.close()
    return analyse(out)


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a study whose lines are not flushed to the disk, which takes most of the time here."""
    monkeypatch.setattr("os.fsync", lambda number: None)
    return tmp_path / "study.jsonl"


def test_an_oracle_a_coin_and_a_sleepy_rater_have_their_true_rates(out: Path) -> None:
    """A sleepy rater guesses two times of five, and is wrong at half of these."""
    found = simulated(out, [Simulated(1, 0), Simulated(2, 1), Simulated(3, 0.4)], timed=False, trials=300, pairs=0)
    truth = [0, 0.5, 0.2]
    for judge, rate in zip(found.raters, truth, strict=True):
        assert judge.error is not None
        assert judge.answers == 600
        assert judge.error.low <= rate <= judge.error.high
        assert judge.error.value == pytest.approx(rate, abs=0.06)  # 3 standard errors of 600 answers of a coin
    for block in found.blocks:
        assert block.error.value == pytest.approx(numpy.mean(truth), abs=0.05)  # of 900 answers
        assert (block.answers, block.raters, block.exposure) == (900, 3, None)
    assert not [note for note in found.notes if "staircase" in note]
    assert found.agreement["real or fake"].units == 600
    assert (
        found.agreement["real or fake"].alpha.low < expected_alpha(truth) < found.agreement["real or fake"].alpha.high
    )


def expected_alpha(errors: list[float]) -> float:
    """Alpha of raters who err independently, when half of the units are real: 1 - P(two differ) / (1 / 2)."""
    pairs = [(errors[i], errors[j]) for i in range(3) for j in range(i)]
    return 1 - float(numpy.mean([a * (1 - b) + b * (1 - a) for a, b in pairs])) / 0.5


def test_fakes_and_reals_are_told_apart(out: Path) -> None:
    """A rater who calls everything real. Kills: the two rates exchanged."""
    always = Simulated(0, 0)
    always.choose = lambda trial, exposure: "real" if isinstance(trial, RealOrFake) else "left"  # type: ignore[method-assign]
    found = simulated(out, [always], timed=False)
    for block in found.blocks:
        assert (block.fakes.value, block.reals.value, block.error.value) == (1, 0, 0.5)
    assert found.raters[0].said_real == 1


@pytest.mark.parametrize("threshold", [250, 400, 700])
def test_the_exposure_is_that_of_three_correct_answers_in_four(out: Path, threshold: int) -> None:
    """p = 1/2 + 1/2 sigmoid((t - threshold) / 30) is 3/4 at the threshold."""
    found = simulated(out, [Simulated(k, 0, threshold) for k in range(6)], trials=300, pairs=0)
    for block in found.blocks:
        assert block.exposure is not None
        assert block.exposure.low <= block.exposure.value <= block.exposure.high
        assert block.exposure.value == pytest.approx(threshold, abs=30)  # a step up
    assert any("a quarter of the answers is wrong" in note for note in found.notes)


def test_a_block_that_is_not_finished_has_no_exposure(out: Path) -> None:
    session = session_of(out, study_of())
    page = session.begin()
    session.answer(page["token"], page["tab"], 0, "real", 1.0, None)
    session.file.close()
    (block,) = analyse(out).blocks
    assert block.exposure is None
    assert block.answers == 1


def test_ranks_are_those_of_known_strengths(out: Path) -> None:
    found = simulated(out, [Simulated(k, 0) for k in range(8)], trials=0, pairs=240)
    assert [row.source for row in found.ranks] == [REAL, "vae", "gmm"]
    for row in found.ranks:
        assert row.strength.low <= STRENGTHS[row.source] - 0.5 <= row.strength.high  # the mean strength is 0.5
        assert row.best == row.worst
        assert row.compared == 8 * 160
    assert not [note for note in found.notes if "Tied" in note]


def test_sources_of_equal_strength_are_said_to_be_tied(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRENGTHS, "gmm", STRENGTHS["vae"])
    found = simulated(out, [Simulated(k, 0) for k in range(6)], trials=0, pairs=120)
    assert [(row.best, row.worst) for row in found.ranks] == [(1, 1), (2, 3), (2, 3)]
    assert "Tied, as the interval of the difference holds 0: vae and gmm." in found.notes


def comparison(winner: str, loser: str, rater: int = 1) -> PairAnswer:
    return {"rater": rater, "trial": 0, "task": "pairs", "pair": 0, "left": loser, "right": winner,
            "choice": "right", "seconds": 1.0, "time": ""}  # fmt: skip


def test_sources_that_were_never_compared_are_named_in_one_line() -> None:
    answers = [comparison("a", "b"), comparison("b", "a"), comparison("c", "d"), comparison("d", "c")]
    rows, said = analysis.ranked(["a", "b", "c", "d", "e"], answers)
    assert {row.source for row in rows} == set("abcd")
    assert {(row.best, row.worst) for row in rows} == {(1, 2)}
    line = "Sources of different groups were never compared, and have ranks within their group: a, b; c, d."
    assert said[-1] == line


def test_a_source_that_won_all_has_a_finite_strength_and_a_sentence() -> None:
    answers = [comparison("a", "b")] * 9 + [comparison("a", "c")] * 9 + [comparison("b", "c"), comparison("c", "b")] * 5
    rows, said = analysis.ranked(["a", "b", "c"], answers)
    assert rows[0].source == "a"
    assert (rows[0].best, rows[0].worst, rows[0].won) == (1, 1, 18)
    assert all(numpy.isfinite([row.strength.low, row.strength.high]).all() for row in rows)
    assert any("has no maximum" in sentence for sentence in said)


def test_a_lost_image_counts_as_no_answer(tmp_path: Path) -> None:
    file = AnswerFile(tmp_path / "study.jsonl", study_of())
    file.add_rater({"rater": 1, "token": "a", "time": ""})
    for trial, choice in enumerate(["fake", None, "real"]):
        file.add_answer(answer_of(trial, choice=choice, seconds=2.0 if choice else None))
    file.close()
    found = analyse(file.path)
    assert (found.raters[0].answers, found.raters[0].lost, found.raters[0].error.value) == (2, 1, 0.5)
    assert "Images that were shown and lost by a reload of the page: 1." in found.notes


def test_a_share_is_of_all_answers_and_raters_are_drawn_with_all_of_theirs() -> None:
    """Of one with 94 answers and five with one each. Kills: the mean of their shares, as the value or in the draws."""
    found = analysis.share([(0, False)] * 94 + [(rater, True) for rater in range(1, 6)])
    assert found is not None
    assert found.value == pytest.approx(5 / 99)
    assert found.low is not None
    assert found.low < found.value  # of the shares' mean every draw in forty is at least 1 / 6


def test_five_raters_are_resampled_and_four_are_not() -> None:
    """Each is wrong at one of two, so every draw of raters has one share; Wilson's interval of 4 of 8 is wide."""
    four, five = (analysis.share([(rater, wrong) for rater in range(n) for wrong in (True, False)]) for n in (4, 5))
    assert four is not None
    assert (four.value, four.low, four.high) == pytest.approx((0.5, 0.2152, 0.7848), abs=1e-4)
    assert five == analysis.Estimate(0.5, 0.5, 0.5)
    exposures = [500, 490, 480, 470, 300]
    answers = [answer_of(0, rater=rater, exposure=exposure) for rater, exposure in enumerate(exposures, 1)]
    lines = [{"rater": rater, "token": str(rater), "time": ""} for rater in range(1, 6)]
    held = Answers(study_of(trials=1), lines, answers)  # type: ignore[arg-type]
    found_exposure = analysis.exposure("vae", answers, held)  # type: ignore[arg-type]
    assert found_exposure is not None
    assert found_exposure.value == 448
    assert found_exposure.low < 448 < found_exposure.high  # type: ignore[operator]
    found = analysis.Analysis(held.study, analysis.judges(held), [], [], {})
    assert not [note for note in analysis.notes(found) if "Fewer than" in note]


def test_ranks_draw_raters_with_all_of_their_answers() -> None:
    """Of five who all choose a 11 times and b 9 times, every draw has the odds 11 / 9. Kills: answers of several."""
    answers = [
        comparison(*winner, rater) for rater in range(5) for winner in [("a", "b")] * 11 + [("b", "a")] * 9
    ]  # fmt: skip
    (row, _), _ = analysis.ranked(["a", "b"], answers)
    half = math.log(11 / 9) / 2
    assert (row.strength.value, row.strength.low, row.strength.high) == pytest.approx((half, half, half))


def test_strengths_along_a_chain_are_the_odds_of_its_links() -> None:
    """Where a and c never met. Kills: half a win for both of those too, sources in the order of their wins."""
    rows, _ = analysis.ranked(["a", "b", "c"], [comparison("a", "b"), comparison("b", "c")])
    assert [row.strength.value for row in rows] == pytest.approx([math.log(3), 0, -math.log(3)], abs=1e-8)
    answers = [comparison("a", "b")] * 2 + [comparison("b", "a")] + [comparison("b", "c"), comparison("c", "b")] * 5
    rows, _ = analysis.ranked(["b", "c", "a"], answers)
    assert rows[0].strength.value == pytest.approx(math.log(2) * 2 / 3)
    assert {row.source: (row.won, row.compared) for row in rows} == {"a": (2, 3), "b": (6, 13), "c": (5, 10)}
    assert rows[0].source == "a"


def test_one_answer_has_no_interval_and_two_have_one() -> None:
    for answers in ([comparison("a", "b")], [comparison("a", "b"), comparison("b", "a")]):
        (row, _), _ = analysis.ranked(["a", "b"], answers)
        assert (row.strength.low is None) == (row.strength.high is None) == (len(answers) == 1)


# what each rater said of the examples of a run, in turn generated and real: r(eal), f(ake), - lost; and the exposures
SAID = {
    (1, "vae"): "rrrf", (2, "vae"): "frfr", (3, "vae"): "r", (4, "vae"): "rrff",
    (1, "gmm"): "fr-r", (2, "gmm"): "r", (3, "gmm"): "---", (4, "gmm"): "frfr",
}  # fmt: skip
EXPOSED = {1: [500, 500, 490, 530], 2: [500, 490, 490, 480], 3: [500, 510, 520], 4: [500, 530, 530, 530]}


def test_the_numbers_of_a_small_study(tmp_path: Path) -> None:
    """Counted by hand. Kills: lost answers counted as answers, another run's, and raters who have not finished."""
    file = AnswerFile(tmp_path / "study.jsonl", study_of(trials=4, pairs=2))
    for rater in EXPOSED:
        file.add_rater({"rater": rater, "token": str(rater), "time": ""})
    for (rater, run), said in SAID.items():
        for k, letter in enumerate(said):
            choice = {"r": "real", "f": "fake", "-": None}[letter]
            about = {"run": run, "source": REAL if k % 2 else run, "stimulus": k // 2, "exposure": EXPOSED[rater][k]}
            file.add_answer(answer_of(k, rater=rater, choice=choice, **about))
    for rater, pair, left, right, choice in [
        (1, 0, "vae", "gmm", "left"), (2, 0, "gmm", "vae", "right"),
        (1, 1, "gmm", REAL, "right"), (2, 1, REAL, "gmm", "left"),
    ]:  # fmt: skip
        file.add_answer(comparison("", "", rater) | {"pair": pair, "left": left, "right": right, "choice": choice})
    file.close()
    found = analyse(file.path)

    vae, gmm = found.blocks
    assert (vae.answers, vae.raters, gmm.answers, gmm.raters) == (13, 4, 8, 3)
    assert (vae.error.value, vae.fakes.value, vae.reals.value) == pytest.approx((6 / 13, 4 / 7, 2 / 6))
    assert (gmm.error.value, gmm.fakes.value, gmm.reals.value) == pytest.approx((1 / 8, 1 / 4, 0))
    assert (vae.exposure.value, gmm.exposure.value) == pytest.approx(((500 + 490 + 530) / 3, (500 + 530) / 2))
    assert vae.exposure.low is None  # of fewer than five raters
    first = found.raters[0]
    assert (first.answers, first.lost, first.error.value, first.said_real) == pytest.approx((9, 1, 3 / 7, 5 / 7))
    assert [judge.finished for judge in found.raters] == [True, False, False, False]
    # the two who judged a pair chose the same source, on the other side; three of the units of examples are split
    assert found.agreement["pairs"].alpha.value == 1
    units = [[1, 3], [0, 3], [2, 1], [2, 1], [2, 1], [0, 2], [0, 2]]  # fake and real
    assert found.agreement["real or fake"].units == len(units)
    assert found.agreement["real or fake"].alpha.value == pytest.approx(alpha(numpy.array(units, float)))
    assert found.agreement["real or fake"].alpha.low is not None
    assert found.notes[0].startswith("Fewer than 5 raters")
    assert "The staircase may not have settled: a block has 4 trials, fewer than 100." in found.notes
    assert "Raters who have not finished: 3 of 4." in found.notes
    assert "Images that were shown and lost by a reload of the page: 4." in found.notes


def test_units_are_drawn_whole() -> None:
    """The largest count of a draw of units with one answer is one, however often a unit is drawn."""
    assert analysis.with_interval(lambda table: float(table.max()), numpy.ones((6, 1))) == analysis.Estimate(1, 1, 1)
    answers = [answer_of(0, rater=rater, choice=choice) for rater, choice in ((1, "real"), (2, "fake"))]
    assert analysis.agreements(answers, []) == {}  # one unit has no interval


def test_units_with_one_answer_are_not_compared() -> None:
    """Kills: their number among those that two have judged."""
    answers = [("a", "real"), ("a", "fake"), ("b", "real"), ("c", "fake"), ("c", "fake")]
    assert analysis.counts(answers).tolist() == [[1, 1], [2, 0]]


def test_the_time_of_an_answer_is_the_median(tmp_path: Path) -> None:
    file = AnswerFile(tmp_path / "study.jsonl", study_of())
    file.add_rater({"rater": 1, "token": "a", "time": ""})
    for trial, seconds in enumerate([1.0, 2.0, 60.0]):
        file.add_answer(answer_of(trial, seconds=seconds))
    file.close()
    assert analyse(file.path).raters[0].seconds == 2


def test_a_study_without_answers_says_so(tmp_path: Path) -> None:
    file = AnswerFile(tmp_path / "study.jsonl", study_of())
    file.close()
    found = analyse(file.path)
    assert (found.blocks, found.ranks, found.agreement) == ([], [], {})
    assert found.notes == ["Nobody has answered yet."]
