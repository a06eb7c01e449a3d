"""Modes covered and missed, copies among samples, and stacks of images, whose labels are the modes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import dgm
from dgm.data.dataset import Split
from dgm.data.modes import Modes, near
from dgm.data.stacked import stacked
from dgm.data.toy import TOYS
from dgm.errors import BadInput
from dgm.evaluation.cautions import alarm, copies, missed_modes
from dgm.evaluation.modes import duplicates, modes, nearest_other, number
from dgm.evaluation.modes import stacked as stacked_modes


def test_modes_are_counted_by_hand() -> None:
    """Kills: shares of all samples, a KL with its arguments turned, a mode that is outside."""
    found = Modes(4, lambda x: x, "as said").describe(torch.tensor([0, 0, 0, 2, -1, -1]))
    assert (found["found"], found["missed"]) == (2, [1, 3])
    assert found["shares"] == [0.75, 0, 0.25, 0]
    assert found["outside"] == pytest.approx(1 / 3)
    assert found["kl"] == pytest.approx(0.75 * math.log(3) + 0.25 * math.log(1))
    assert found["total_variation"] == pytest.approx(0.5)
    assert Modes(4, lambda x: x, "").describe(torch.tensor([1, 1]))["kl"] == pytest.approx(math.log(4))
    assert Modes(4, lambda x: x, "").describe(torch.tensor([-1]))["kl"] is None


@pytest.mark.parametrize(("name", "count"), [("ring", 8), ("eight_gaussians", 8), ("grid", 25)])
def test_the_modes_of_points_are_three_standard_deviations_wide(name: str, count: int) -> None:
    """Of a Gaussian in the plane exp(-9/2) lies outside of them, and none in the ball of another."""
    density = TOYS[name]()
    assert density.modes is not None
    x = density.sample(20_000, torch.Generator().manual_seed(0))
    found = density.modes.describe(x)
    assert (found["found"], found["of"]) == (count, count)
    assert found["outside"] == pytest.approx(math.exp(-4.5), abs=5 * math.sqrt(math.exp(-4.5) / 20_000))
    assert found["kl"] == pytest.approx((count - 1) / 2 / 20_000, abs=5e-4)  # the bias of a histogram's KL


def test_a_radius_is_a_distance_from_the_nearest_centre() -> None:
    index = near(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), 2.5).of(torch.tensor([[1.5, 2.0], [0.0, 2.6], [3.0, 6.0]]))
    assert index.tolist() == [0, -1, 1]


def test_a_stack_is_permutations_of_the_splits_own_images() -> None:
    digits, stack = dgm.data.load("digits"), dgm.data.load("stacked_digits")
    assert stack.space.shape == (3, 8, 8)
    assert str(stack.condition) == str(dgm.Space(kind="categories", shape=(3,), values=10))
    for part, split in stack.splits.items():
        single = digits.splits[part]
        for c in range(3):
            assert len(split) == 10 * len(single)
            assert torch.equal(split.x[:, c].double().mean(0), single.x[:, 0].double().mean(0))
            assert torch.equal(split.y[:, c].bincount(), 10 * single.y.bincount())
    row = stack.train.x[17, 1]
    place = next(k for k, x in enumerate(digits.train.x[:, 0]) if torch.equal(x, row))
    assert digits.train.y[place] == stack.train.y[17, 1]
    pairs = number(stack.train.y[:, 1:], 10).bincount(minlength=100)
    assert pairs.min() > 60  # of 10,000 pairs 100 each, with a standard deviation of 10
    with pytest.raises(BadInput, match="no grey images with labels"):
        stacked(stack, "twice", channels=2)


def test_stacked_labels_are_counted_by_the_classifier_of_a_channel() -> None:
    """The classifier's answers make the number of a mode, the first channel its largest digit."""
    stack = dgm.data.load("stacked_digits")
    known = stacked_modes(stack)
    found = number(stack.test.y, 10)
    of = known.of(stack.test.x)
    right = (of == found).double().mean().item()
    assert known.count == 1000
    assert 0.85 < right < 1
    assert f"{right:.1%} of the 4,970 test examples" in known.rule
    some = stack.test.x[found == 537]
    document = modes(stack, some)
    assert document is not None
    assert max(range(1000), key=document["shares"].__getitem__) == 537
    assert document["kl"] > 0.8 * math.log(1000)


def test_copies_are_counted_beside_those_of_real_examples() -> None:
    digits = dgm.data.load("digits")
    real = digits.test.x
    none = duplicates(digits, digits.validation.x, real)
    assert none is not None
    assert (none["share"], none["n"]) == (0, 300)
    some = torch.cat([digits.validation.x[:200], digits.validation.x[:50], digits.validation.x[-50:]])
    found = duplicates(digits, some, real)
    assert found is not None
    assert found["share"] == pytest.approx(100 / 300)  # both of a pair
    assert found["held_out_share"] == 0
    assert duplicates(digits, real[:1], real) is None
    near = (real[:1].int() + torch.eye(64, dtype=torch.int32).view(64, 1, 8, 8)).clamp_max(16).to(torch.uint8)
    collapsed = duplicates(digits, near, real)  # near one another beside the distances of real examples
    assert collapsed is not None
    assert collapsed["share"] == 1


def test_cautions_name_what_is_missed_and_the_remedy() -> None:
    covered = {"n": 1000, "found": 6, "of": 8, "missed": [2, 5]}
    said = missed_modes({"modes": covered})
    assert "1,000 samples cover 6 of 8 modes, and miss 2, 5." in said
    assert "relativistic objective, r1 and r2" in said
    assert not missed_modes({"modes": covered | {"found": 8, "missed": []}})
    assert not missed_modes({"modes": None})
    assert "40% of 300 samples" in copies({"duplicates": {"share": 0.4, "held_out_share": 0.1, "n": 300}})
    assert not copies({"duplicates": {"share": 0.12, "held_out_share": 0.1, "n": 300}})
    lines: list[dict[str, Any]] = [{"step": 3, "note": "alarm: first"}, {"note": "precision bf16"}, {}]
    assert alarm(lines) == "In training, at step 3, alarm: first."
    lines.append({"step": 5, "note": "slower; alarm: last"})
    assert alarm(lines) == "In training, at step 5, alarm: last."
    lines.pop()
    assert not alarm(lines[1:])


def test_labels_are_modes_where_no_others_are_known() -> None:
    digits = dgm.data.load("digits")
    half = digits.train.x[digits.train.y < 5]
    found = modes(digits, half)
    assert found is not None
    assert (found["found"], found["missed"]) == (5, [5, 6, 7, 8, 9])
    assert found["kl"] == pytest.approx(math.log(2), abs=0.05)
    rare = torch.cat([half, digits.train.x[digits.train.y == 7][:10]])
    some = modes(digits, rare)  # of about 500: a label is there from a tenth of its share on, some five examples
    assert some is not None
    assert some["missed"] == [5, 6, 8, 9]
    assert isinstance(digits.train, Split)


def test_the_nearest_other_point_is_at_a_distance() -> None:
    assert nearest_other(torch.tensor([[0.0], [3.0], [7.0]])).tolist() == [3, 3, 4]
