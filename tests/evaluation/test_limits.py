"""Each measure and each caution at its limit, and one step beyond it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dgm.data import load
from dgm.data.columns import Column
from dgm.data.dataset import Dataset, Split
from dgm.errors import BadInput, Unsupported
from dgm.evaluation import annealed, calibration, cautions, transport
from dgm.evaluation.annealed import interval
from dgm.evaluation.anomaly import anomaly, code_lengths, zlib_length
from dgm.evaluation.columns import Task, kolmogorov_smirnov
from dgm.evaluation.divergences import neighbour_kl
from dgm.evaluation.features import default_features
from dgm.evaluation.frechet import frechet_and_infinity, frechet_distance, frechet_infinity
from dgm.evaluation.jackknife import folds
from dgm.evaluation.kernel import median_distance, mmd
from dgm.evaluation.lpips import LPIPS
from dgm.evaluation.modes import duplicates
from dgm.evaluation.neighbours import memorised
from dgm.evaluation.two_sample import FEWEST, held_out_log_ratios
from dgm.registry import create
from dgm.space import Space


def points(n: int, dim: int = 2) -> Tensor:
    return torch.randn(n, dim, dtype=torch.float64)


def of_three(space: Space, n: int = 9, **about: Any) -> Dataset:
    split = Split(torch.zeros(n, *space.shape, dtype=space.dtype))
    return Dataset(name="zeros", space=space, train=split, validation=split, test=split, split="", **about)


# -- the fewest examples


@pytest.mark.parametrize(
    ("measure", "least", "other"),
    [
        (frechet_distance, 2, 2),
        (frechet_infinity, 40, 40),
        (mmd, 2, 2),
        (neighbour_kl, 6, 5),  # the fifth neighbour, beside the example itself
    ],
)
def test_the_fewest_examples_are_enough_and_one_less_is_not(
    measure: Callable[[Tensor, Tensor], Any], least: int, other: int
) -> None:
    measure(points(least), points(other))
    for fewer in ((least - 1, other), (least, other - 1)):
        with pytest.raises(BadInput):
            measure(*map(points, fewer))


def test_frechet_distances_of_subsets_need_ten_examples_in_each() -> None:
    assert frechet_and_infinity(folds(points(40)), folds(points(40))).isfinite().all()
    for sizes in ((39, 40), (40, 39)):
        few = frechet_and_infinity(*(folds(points(n)) for n in sizes))
        assert few.isnan().tolist() == [False, True]


def test_an_exact_transport_takes_two_thousand_points(monkeypatch: pytest.MonkeyPatch) -> None:
    assert transport.MOST == 2000
    monkeypatch.setattr(transport, "MOST", 4)
    assert float(transport.wasserstein(points(4), points(4))) > 0
    with pytest.raises(BadInput, match="at most 4 points, got 5"):
        transport.wasserstein(points(5), points(5))
    for x, y in ((points(3), points(4)), (points(3)[:, 0], points(3)[:, 0]), (points(0), points(0))):
        with pytest.raises(BadInput, match="as many points of one length"):
            transport.sliced_wasserstein(x, y)


def test_two_samples_of_which_one_may_be_near_the_other() -> None:
    """Two rows have each other as the nearest; one has none."""
    digits = load("digits")
    found = duplicates(digits, digits.train.x[:2], digits.test.x)
    assert found is not None
    assert found["n"] == 2
    assert duplicates(digits, digits.train.x[:1], digits.test.x) is None
    assert duplicates(digits, digits.train.x[:2], digits.test.x[:1]) is None


def test_anomalies_are_two_at_least() -> None:
    digits = load("digits")
    model = create("made", digits.space, hidden=4)
    few = replace(digits, test=Split(digits.test.x[:2]))
    assert anomaly(model, few, digits.train.x[:2], "two")["n_anomalies"] == 2
    with pytest.raises(BadInput, match="two examples of each"):
        anomaly(model, few, digits.train.x[:1], "one")


def test_files_are_of_integers_below_256_and_pictures_of_one_or_three_channels() -> None:
    """Kills: pictures of two channels, or rows, as PNG; 256 values that are refused."""
    for space in (Space.levels((2, 8, 8), 256), Space.levels((64,), 256), Space.binary((1, 64))):
        x = torch.randint(2, (3, *space.shape), dtype=space.dtype)
        expected = [8 * math.log(2) * zlib_length(one.to(torch.uint8)) for one in x]
        assert code_lengths(x, space).tolist() == pytest.approx(expected)
    for space in (Space.levels((3,), 257), Space.continuous((3,))):
        with pytest.raises(Unsupported, match="no files of a finite length"):
            code_lengths(torch.zeros(1, 3), space)


@pytest.mark.parametrize(("n", "values", "scored"), [(10, 2, True), (9, 2, False), (10, 1, False)])
def test_what_is_learnt_from_samples_needs_ten_of_two_values(n: int, values: int, scored: bool) -> None:
    columns = (Column(name="a"), Column(name="b"))
    train = torch.stack([torch.arange(n).double(), torch.arange(n).double() % values], 1)
    assert bool(Task(columns, 1, train[:2].clone()).score(train)) is scored
    assert Task(columns, 1, train[:1].clone()).score(train) == {}
    assert Task(columns[:1], 0, train[:, :1]).score(train[:, :1]) == {}


def test_the_distance_of_an_empty_column_is_all() -> None:
    some, none = torch.tensor([1.0, 2.0]), torch.zeros(0)
    assert [kolmogorov_smirnov(*sides) for sides in ((some, none), (none, some), (none, none))] == [1.0, 1.0, 0.0]


def test_lpips_is_of_pairs_of_grey_or_colour_images() -> None:
    measure = LPIPS({}, {})
    for shape in ((2, 2, 16, 16), (2, 3, 16), (2, 4, 16, 16), (3, 16, 16)):
        with pytest.raises(BadInput, match="expected images of one shape"):
            measure(torch.zeros(shape), torch.zeros(shape))


# -- equality


def test_a_bandwidth_is_one_where_all_examples_are_equal() -> None:
    assert median_distance(torch.zeros(5, 2)) == 1.0
    assert median_distance(torch.tensor([[0.0], [3.0]])) == 3.0


def test_a_copy_is_nearer_than_a_third_and_an_authentic_sample_farther_than_the_next() -> None:
    """Training examples at 0 and 3: at exactly 1 from the first, a sample is no copy, and at 3 not authentic."""
    training = torch.tensor([[0.0], [3.0]])
    shares = {x: memorised(training, torch.tensor([[x]])) for x in (-0.999, -1.0, -3.0, -3.001, 0.0)}
    assert [found.share for found in shares.values()] == [1, 0, 0, 0, 1]
    assert [found.authenticity for found in shares.values()] == [0, 0, 0, 1, 0]


def test_columns_are_ordered_numbers_of_tables_alone() -> None:
    """Kills: a limit that is off by one, grids and unordered kinds as columns."""
    most = calibration.COLUMNS
    for space in (Space.continuous((most,)), Space.levels((most,), 5)):
        assert len(calibration.ordered(of_three(space))) == most
    for space in (
        *(Space.continuous((most + 1,)), Space.continuous((2, 3)), Space.binary((4,)), Space.tokens(4, 5)),
        Space.categories(5, (4,)),
    ):
        assert calibration.ordered(of_three(space)) == {}


@pytest.mark.parametrize(
    ("space", "expected"),
    [(Space.continuous((32,)), ["pixels"]), (Space.continuous((33,)), ["pca", "pixels"])],
)
def test_components_are_of_more_than_32_numbers(space: Space, expected: list[str]) -> None:
    assert default_features(of_three(space)) == expected


def test_an_estimate_of_log_z_has_the_interval_of_the_delta_method() -> None:
    """Of two conditions and three chains, whose weights' mean is Z, and 1 / Z of the way back."""
    w = torch.tensor([[1.0, 2.0, 3.0], [2.0, 2.0, 5.0]], dtype=torch.float64)
    error = torch.stack([(row.std() / row.mean()) / 3**0.5 for row in w])
    log_z, half = float(w.mean(1).log().mean()), 1.96 * float(error.square().sum().sqrt()) / 2
    for sign in (1, -1):
        found = interval(w.log(), sign)
        assert found["log_z"] == pytest.approx(sign * log_z)
        assert found["high"] == pytest.approx(sign * log_z + half)
        assert found["low"] == pytest.approx(sign * log_z - half)


def test_a_constant_in_words_has_the_interval_of_each_end_and_their_gap() -> None:
    """Backward less forward, where Z is 5 and 1 / Z is 1 / 7. Kills: the sign of the gap, both ends forward."""

    class Annealed(torch.nn.Module):
        temperatures, space = 9, Space.binary((2,))

        def log_z_weights(self, y: Tensor | None = None, *, backward: bool = False) -> Tensor:
            return torch.tensor([[1 / 7, 1 / 7] if backward else [4.0, 6.0]]).double().log()

    found = annealed.constant_in_words(Annealed(), None)
    assert found["gap"] == pytest.approx(math.log(7 / 5))
    for end, weights, sign in (("forward", [[4.0, 6.0]], 1), ("backward", [[1 / 7, 1 / 7]], -1)):
        assert found[end] == pytest.approx(interval(torch.tensor(weights).double().log(), sign))


def test_a_bracket_in_words_has_the_means_and_the_error_of_the_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    lower, upper = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([2.0, 5.0, 7.0])
    monkeypatch.setattr(annealed, "bracket", lambda *args, **kwargs: annealed.Bracket(lower, lower, upper))
    found = annealed.bracket_in_words(create("vae", Space.binary((4,)), hidden=4), 3, 10, 0)
    assert (found["lower"], found["upper"], found["gap"]) == pytest.approx((3.0, 14 / 3, 5 / 3))
    assert found["gap_se"] == pytest.approx(torch.tensor([1.0, 3.0, 1.0]).std().item() / 3**0.5)


# -- cautions


def document(**parts: Any) -> dict[str, Any]:
    return {"metrics": [], **parts}


@pytest.mark.parametrize(("used", "codes", "said"), [(90, 1000, True), (91, 1000, False), (90, 999, False)])
def test_codes_are_dead_below_nine_tenths_where_each_could_be_used_ten_times(used: int, codes: int, said: bool) -> None:
    book = {"entries": 100, "used": used, "codes": codes, "split": "test"}
    assert bool(cautions.dead_codes(document(codebook=book))) is said


@pytest.mark.parametrize(("gap", "said"), [(1.0, False), (1.001, True), (-1.0, False), (-1.001, True)])
def test_a_nat_between_both_ends_is_a_doubt(gap: float, said: bool) -> None:
    constant = {"gap": gap, "forward": {"log_z": 0.0}, "backward": {"log_z": gap}}
    assert bool(cautions.unknown_constant(document(constant=constant))) is said


@pytest.mark.parametrize(("r_hat", "said"), [(1.01, False), (1.011, True), (math.nan, False)])
def test_chains_above_1_01_have_not_mixed(r_hat: float, said: bool) -> None:
    assert bool(cautions.unmixed(document(mixing={"r_hat": r_hat}))) is said


@pytest.mark.parametrize(("coverage", "other", "said"), [(0.5, 0.1, True), (0.499, 0.1, False), (0.5, 0.101, False)])
def test_spaces_disagree_from_a_half_and_a_tenth_on(coverage: float, other: float, said: bool) -> None:
    metrics = [
        {"name": "coverage", "features": name, "value": value, "reference": {"value": 1.0}}
        for name, value in (("pca", coverage), ("pixels", other))
    ]
    assert bool(cautions.disagreement({"metrics": metrics})) is said
    nothing = [entry | {"reference": {"value": 0.0}} for entry in metrics]  # which real data does not reach either
    assert cautions.disagreement({"metrics": nothing}) == ""


def test_a_code_collapses_where_a_dimension_is_idle() -> None:
    codes = {"active_units": 3, "of": 4, "mutual_information": 1.5}
    assert "1 of the 4 dimensions" in (said := cautions.collapse(document(codes=codes)))
    assert said.endswith("The code has 1.5 nats of mutual information with x.")
    assert cautions.collapse(document(codes=codes | {"mutual_information": None})).endswith("do not depend on x.")
    assert cautions.collapse(document(codes=codes | {"active_units": 4})) == cautions.collapse(document()) == ""


@pytest.mark.parametrize(("found", "said"), [(8, True), (9, False)])
def test_nine_tenths_of_the_modes_are_most(found: int, said: bool) -> None:
    modes = {"n": 100, "found": found, "of": 10, "missed": list(range(10 - found))}
    assert bool(cautions.missed_modes(document(modes=modes))) is said


def test_a_twentieth_more_copies_than_held_out_examples_is_too_many() -> None:
    for share, said in ((0.55, False), (0.5501, True)):
        found = {"share": share, "held_out_share": 0.5, "n": 100}
        assert bool(cautions.copies(document(duplicates=found))) is said
        assert bool(cautions.memorised(document(memorisation=found))) is said
    spaces = {"pca": {"share": 0.9, "held_out_share": 0.8}, "clip": {"share": 0.3, "held_out_share": 0.0}}
    said = cautions.memorised(document(memorisation={"share": 0.0, "held_out_share": 0.0, "in_features": spaces}))
    assert "30% of the samples are copies of training examples in clip" in said


def test_a_fall_is_of_validations_on_both_sides_of_the_last_fifth() -> None:
    """The last fifth begins at 0.8. Kills: a first validation there, or a last one, that is not counted to its side."""

    def lines(*points: tuple[float, float]) -> list[dict[str, float]]:
        return [{"progress": p, "validation": v} for p, v in points]

    assert cautions.still_falling(lines((0.8, 2.0), (1.0, 1.0))) != ""
    assert cautions.still_falling(lines((0.801, 2.0), (1.0, 1.0))) == ""
    assert cautions.still_falling(lines((0.1, 2.0), (0.8, 1.0))) == ""
    assert cautions.still_falling(lines((0.05, 2.0), (0.8, 1.1), (1.0, 1.0))) != ""  # a tenth of the fall
    assert cautions.still_falling(lines((0.05, 2.0), (0.8, 1.09), (1.0, 1.0))) == ""
    assert cautions.still_falling(lines((0.05, 1.0), (0.8, 1.0), (1.0, 1.0))) == ""


def test_epochs_are_examples_over_those_of_the_training_split() -> None:
    config: dict[str, Any] = {"data": {"sizes": {"train": 200}}}
    assert cautions.epochs({"examples": 500}, config) == 2.5
    assert cautions.epochs({}, config) is None
    assert cautions.epochs({"examples": 500}, {"data": {}}) is None
    assert cautions.epochs({"examples": 500}, {"data": {"sizes": {"train": 200}, "alphabet": "ab"}}) is None


def test_a_classifier_of_two_samples_needs_as_many_of_each() -> None:
    assert [len(side) for side in held_out_log_ratios(points(FEWEST), points(FEWEST))] == [FEWEST - FEWEST // 2] * 2
    for sizes in ((FEWEST - 1, FEWEST - 1), (FEWEST, FEWEST + 1)):
        with pytest.raises(BadInput, match="two sets of as many"):
            held_out_log_ratios(*map(points, sizes))
