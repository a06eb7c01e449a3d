"""The statistics of a study against closed forms, published examples and independent implementations."""

from __future__ import annotations

import math

import numpy
import pytest
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from dgm.study import agreement, bradley_terry, intervals, staircase

# Citations between four journals of statistics (Stigler, 1994): row i was cited by column j.
JOURNALS = numpy.array([[0, 730, 498, 221], [33, 0, 68, 17], [320, 813, 0, 142], [284, 276, 325, 0]], float)


def test_journals_have_the_published_strengths() -> None:
    """Agresti, Categorical Data Analysis (2013), and R's BradleyTerry2: ability with Biometrika as the reference."""
    log_strengths = bradley_terry.log_strengths(JOURNALS)
    published = [0, -2.9491, -0.4796, 0.2690]
    assert log_strengths - log_strengths[0] == pytest.approx(published, abs=5e-5)  # four digits are published
    assert log_strengths.sum() == pytest.approx(0, abs=1e-9)


def test_strengths_are_the_coefficients_of_a_logistic_regression() -> None:
    generator = numpy.random.default_rng(0)
    wins = generator.integers(1, 20, (5, 5)).astype(float)
    numpy.fill_diagonal(wins, 0)
    i, j = numpy.nonzero(wins)
    design = numpy.zeros((len(i), 5))
    design[range(len(i)), i], design[range(len(i)), j] = 1, -1
    rows, outcomes = numpy.concatenate([design, -design]), numpy.repeat([1, 0], len(i))
    fitted = LogisticRegression(C=numpy.inf, fit_intercept=False, tol=1e-10, max_iter=10_000)
    fitted.fit(rows, outcomes, sample_weight=numpy.tile(wins[i, j], 2))
    coefficients = fitted.coef_[0] - fitted.coef_[0].mean()
    assert bradley_terry.log_strengths(wins) == pytest.approx(coefficients, abs=1e-5)  # lbfgs stops at its tolerance


def test_known_strengths_are_recovered() -> None:
    truth = numpy.array([1.0, 0.3, -0.2, -1.1])
    odds = numpy.exp(truth[:, None] - truth)
    wins = 1000 * odds / (1 + odds)
    numpy.fill_diagonal(wins, 0)
    assert bradley_terry.log_strengths(wins) == pytest.approx(truth, abs=1e-7)


def test_many_sets_of_wins_are_fitted_together() -> None:
    both = bradley_terry.log_strengths(numpy.stack([JOURNALS, JOURNALS.T]))
    assert both[0] == pytest.approx(bradley_terry.log_strengths(JOURNALS), abs=1e-7)
    assert both[1] == pytest.approx(-both[0], abs=1e-7)  # who cites is who is cited, the other way round


def test_a_competitor_that_never_lost_has_no_finite_maximum() -> None:
    """Kills: a maximum wherever all are connected."""
    never_lost = numpy.array([[0.0, 4.0, 3.0], [0.0, 0.0, 2.0], [0.0, 2.0, 0.0]])
    assert not bradley_terry.has_maximum(never_lost)
    corrected = bradley_terry.corrected(never_lost, never_lost + never_lost.T > 0)
    assert corrected.sum() == never_lost.sum() + 3  # half a win for both sides of each of three pairs
    log_strengths = bradley_terry.log_strengths(corrected)
    assert numpy.argmax(log_strengths) == 0
    assert log_strengths[1] == pytest.approx(log_strengths[2] + 0, abs=0.5)
    assert bradley_terry.corrected(JOURNALS, JOURNALS > 0) is JOURNALS


def test_competitors_that_were_never_compared_are_in_groups_of_their_own() -> None:
    wins = numpy.zeros((5, 5))
    wins[0, 3] = wins[3, 4] = wins[2, 1] = 1
    assert bradley_terry.groups(wins) == [[0, 3, 4], [1, 2]]


def units(rows: list[str]) -> numpy.ndarray:
    """Counts of the answers 1 to 5 to each unit, from one string a rater; a dot is no answer."""
    return numpy.array([[column.count(str(c)) for c in range(6)] for column in map("".join, zip(*rows, strict=True))])


def test_alpha_is_that_of_krippendorff_s_examples() -> None:
    """Computing Krippendorff's alpha-reliability (2011): examples A (binary, two observers) and C (nominal, four)."""
    assert agreement.alpha(units(["0100000010", "1110010000"])) == pytest.approx(0.095, abs=5e-4)
    four = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]
    assert agreement.alpha(units(four)) == pytest.approx(0.743, abs=5e-4)  # three digits are published


def test_raters_who_agree_as_by_chance_have_an_alpha_of_zero() -> None:
    generator = numpy.random.default_rng(0)
    first, second = (generator.random(40_000) < 0.3 for _ in range(2))
    counts = numpy.stack([~first + 0 + ~second, first + 0 + second], 1).astype(float)
    assert agreement.alpha(counts) == pytest.approx(0, abs=0.02)  # 4 standard errors, each 1 / sqrt(40,000)
    assert math.isnan(agreement.alpha(numpy.array([[3.0, 0.0], [1.0, 0.0]])))


def test_wilson_is_where_the_score_test_rejects() -> None:
    """|p - share| = z sqrt(p (1 - p) / n) at both ends."""
    for end in intervals.wilson(3, 10):
        assert abs(end - 0.3) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / 10), abs=1e-6)


def test_the_bootstrap_of_a_mean_covers_as_it_says() -> None:
    """The plain percentiles of eight raters cover 0.87 of the time. Kills: Phi(-t) without the square root."""
    generator = numpy.random.default_rng(0)
    x = generator.standard_normal((600, 8))
    low, high = intervals.bootstrapped(lambda drawn: drawn @ x.T / 8, 8)
    assert ((low <= 0) & (high >= 0)).mean() == pytest.approx(0.95, abs=0.027)  # 3 standard errors of 600


def test_the_percentiles_are_those_of_student_s_interval_of_a_mean() -> None:
    """Phi^-1 of the upper one, times the bootstrap's sqrt(5 / 6), is Student's 97.5 % quantile with 5 degrees of
    freedom, from the tables. Kills: n for n - 1, and the square root left out.
    """
    low, high = intervals.bootstrapped(lambda drawn: numpy.linspace(0, 1, len(drawn)), 6)
    assert norm.ppf(high) * math.sqrt(5 / 6) == pytest.approx(2.5706, abs=1e-4)
    assert low == pytest.approx(1 - high)


def stationary(correct: numpy.ndarray, times: numpy.ndarray) -> numpy.ndarray:
    """The stationary distribution of the staircase of a rater with p(correct | t), by its transition matrix."""
    place = {int(t): k for k, t in enumerate(times)}
    moves = numpy.zeros((len(times), len(times)))
    for k, t in enumerate(times):
        for right, p in ((True, correct[k]), (False, 1 - correct[k])):
            moves[k, place[staircase.following(int(t), right)]] += p
    # the steps are -1 and +3, so the chain has a period of 4; the lazy chain has the same distribution and none
    distribution = numpy.linalg.matrix_power((moves + numpy.eye(len(times))) / 2, 1 << 16)[0]
    assert distribution @ moves == pytest.approx(distribution, abs=1e-12)
    return distribution


def test_the_staircase_settles_where_three_of_four_answers_are_correct() -> None:
    """The expected change is zero there. Kills: steps of 10 up and 30 down, which end at the shortest exposure."""
    times = numpy.arange(staircase.SHORTEST, staircase.LONGEST + 1, 10)
    correct = 0.5 + 0.5 / (1 + numpy.exp(-(times - 400) / 40))  # p = 3/4 at 400 ms
    distribution = stationary(correct, times)
    assert distribution @ correct == pytest.approx(0.75, abs=1e-3)  # the ends, which are not passed, are hardly reached
    assert distribution @ times == pytest.approx(400, abs=20)  # p(correct) is not linear there: two steps
    assert times[distribution.argmax()] == pytest.approx(400, abs=20)


def test_a_rater_who_guesses_ends_at_the_longest_exposure_and_an_oracle_at_the_shortest() -> None:
    times = numpy.arange(staircase.SHORTEST, staircase.LONGEST + 1, 10)
    assert times[stationary(numpy.full(len(times), 0.5), times).argmax()] == staircase.LONGEST
    assert times[stationary(numpy.ones(len(times)), times).argmax()] == staircase.SHORTEST
