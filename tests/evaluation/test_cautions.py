"""What readers are told, on both sides of each rule."""

from __future__ import annotations

from typing import Any

import pytest

from dgm.evaluation.cautions import cautions, disagreement, few_passes, loss_at, selected_line, still_falling


def share(name: str, features: str, value: float, level: float | None = 0.95) -> dict[str, Any]:
    reference = None if level is None else {"value": level, "low": level, "high": level}
    return {"name": name, "features": features, "value": value, "reference": reference}


def config(train: int = 1000, **data: Any) -> dict[str, Any]:
    return {"data": {"sizes": {"train": train}, "options": {}, "alphabet": "", **data}, "training": {"select": "best"}}


def losses(*points: tuple[float, float]) -> list[dict[str, Any]]:
    return [{"step": int(1000 * p), "progress": p, "validation": v, "examples": 5000 * p} for p, v in points]


@pytest.mark.parametrize("name", ["coverage", "precision"])
def test_spaces_that_cannot_both_be_right_are_named(name: str) -> None:
    found = disagreement({"metrics": [share(name, "pca", 0.9), share(name, "pixels", 0.0, 0.9)]})
    assert found.startswith(f"Feature spaces disagree: {name} is 0.90 in pca features and 0.00 in pixels features")
    assert "real data has 0.95 and 0.90" in found


@pytest.mark.parametrize(
    "entries",
    [
        [share("coverage", "pca", 0.9), share("coverage", "pixels", 0.2)],  # a fifth of real data's
        [share("coverage", "pca", 0.4), share("coverage", "pixels", 0.0)],  # bad in both
        [share("coverage", "pca", 0.9), share("coverage", "pixels", 0.05, 0.1)],  # real data is there not found either
        [share("coverage", "pca", 0.0, 0.0), share("coverage", "pixels", 0.0, 0.9)],  # real data is found in one alone
        [share("coverage", "pca", 0.9, None), share("coverage", "pixels", 0.0, None)],
        [share("recall", "pca", 0.9), share("recall", "pixels", 0.0)],  # which outliers alone can raise
        [],
    ],
)
def test_spaces_that_differ_within_reason_are_not(entries: list[dict[str, Any]]) -> None:
    assert disagreement({"metrics": entries}) == ""


@pytest.mark.parametrize(("examples", "said"), [(2999, True), (3000, False)])
def test_three_passes_are_the_least(examples: int, said: bool) -> None:
    assert bool(few_passes([{"examples": examples}], config())) is said


def test_of_text_and_of_fits_passes_say_nothing() -> None:
    assert few_passes([{"examples": 10}], config(alphabet="abc")) == ""
    assert few_passes([{"examples": 10}], config(options={"bytes": True})) == ""
    assert few_passes([{"step": 3}], config()) == few_passes([], config()) == ""


def power(exponent: float) -> list[dict[str, Any]]:
    return losses(*((k / 20, 3 + (k / 20) ** exponent) for k in range(1, 21)))


def test_a_loss_that_falls_along_a_line_still_falls() -> None:
    found = still_falling(losses(*((k / 20, 10 - k / 20) for k in range(1, 21))))
    assert found.startswith("The validation loss still falls fast: 21% of its")  # 0.2 of 0.95


@pytest.mark.parametrize("exponent", [-0.5, -1.0])
def test_a_loss_that_falls_as_a_power_has_settled(exponent: float) -> None:
    assert still_falling(power(exponent)) == ""


def test_a_loss_that_rises_or_was_measured_once_is_not_said_to_fall() -> None:
    assert still_falling(losses((0.05, 1.0), (0.5, 2.0), (1.0, 3.0))) == ""
    assert still_falling(losses((1.0, 3.0))) == still_falling([]) == ""


def test_early_validations_do_not_make_a_fall_look_small() -> None:
    """A first loss that is a hundred times the last one says nothing of the end."""
    line = losses(*((k / 20, 10 - k / 20) for k in range(1, 21)))
    assert still_falling([*losses((0.001, 1000.0)), *line]) != ""


def test_a_loss_between_two_validations_is_on_their_line() -> None:
    points = [(0.0, 4.0), (0.5, 2.0), (1.0, 1.0)]
    assert [loss_at(points, p) for p in (0.0, 0.25, 0.5, 0.75, 1.0)] == [4.0, 3.0, 2.0, 1.5, 1.0]


def test_the_kept_weights_are_those_of_the_least_validation() -> None:
    lines = losses((0.1, 3.0), (0.5, 1.0), (1.0, 2.0))
    assert selected_line(lines, config())["step"] == 500
    assert selected_line(lines, config() | {"training": {"select": "last"}})["step"] == 1000
    assert selected_line([{"step": 7}], config())["step"] == 7
    assert selected_line([], config()) is None


def test_a_run_may_have_several() -> None:
    document = {"metrics": [share("coverage", "pca", 0.9), share("coverage", "pixels", 0.0)]}
    line = losses(*((k / 20, 10 - k / 20) for k in range(1, 21)))
    assert len(cautions(document, line, config(train=100_000))) == 3
    assert cautions({"metrics": []}, power(-0.5), config()) == []
