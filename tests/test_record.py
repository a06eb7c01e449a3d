"""A record: parts of several kinds side by side in one tensor."""

from __future__ import annotations

import json
import math

import pytest
import torch

from dgm.errors import BadInput
from dgm.space import Space

NAN = math.nan
ROW = Space.record(
    age=Space.levels((), 120),
    job=Space.categories(1000, optional=True),
    face=Space.levels((1, 2, 2), 256),
    pay=Space.continuous((), low=0.0, high=9e9, loc=(5.0,), scale=(2.0,), optional=True),
    member=Space.binary(()),
)


def rows() -> torch.Tensor:
    return torch.tensor([[41, 999, 0, 1, 2, 255, 123456789.123, 1], [0, NAN, 3, 3, 3, 3, NAN, 0]], dtype=torch.float64)


class TestRecord:
    def test_parts_lie_side_by_side_in_order(self) -> None:
        assert ROW.shape == (8,)
        assert ROW.dtype == torch.float64
        assert ROW.places == {
            "age": slice(0, 1),
            "job": slice(1, 2),
            "face": slice(2, 6),
            "pay": slice(6, 7),
            "member": slice(7, 8),
        }
        parts = ROW.split(ROW.check(rows()))
        assert parts["age"].tolist() == [41, 0]
        assert parts["face"][0].tolist() == [[[0, 1], [2, 255]]]
        assert parts["pay"][0] == 123456789.123, "no digit is lost"
        assert parts["job"].isnan().tolist() == [False, True]
        kept = [part.dtype for part in parts.values()]
        assert kept == [torch.uint8, torch.float64, torch.uint8, torch.float64, torch.uint8]

    def test_join_is_the_inverse_of_split(self) -> None:
        assert torch.equal(ROW.join(ROW.split(rows())).nan_to_num(-1), rows().nan_to_num(-1))
        shuffled = dict(reversed(ROW.split(rows()).items()))
        assert torch.equal(ROW.join(shuffled).nan_to_num(-1), rows().nan_to_num(-1)), "by name, not by order"
        with pytest.raises(BadInput, match="expected the parts age, job"):
            ROW.join({"age": torch.zeros(2)})

    def test_json_and_text(self) -> None:
        assert Space.from_json(json.loads(json.dumps(ROW.to_json()))) == ROW
        assert Space.from_json(json.loads(json.dumps(ROW.to_json()))).parts[3][1].optional
        assert str(ROW) == "record of age, job, face, pay and 1 more"
        assert str(ROW.parts[1][1]) == "categories, 1000 values or missing"
        assert hash(ROW) != hash(Space.record(age=Space.levels((), 120)))

    def test_it_is_discrete_if_all_of_it_is(self) -> None:
        assert not ROW.discrete
        assert Space.record(a=Space.binary(()), b=Space.categories(3)).discrete

    @pytest.mark.parametrize(
        ("place", "value", "said"),
        [
            ((0, 0), 120, "'age': expected values from 0 to 119, got 0.* to 120"),
            ((0, 0), -1, "'age': expected values from 0 to 119"),
            ((0, 0), 0.5, "whole numbers for 'age'"),
            ((0, 0), NAN, "a value of 'age' is missing"),
            ((0, 1), 1000, "'job': expected values from 0 to 999"),
            ((0, 2), NAN, "a value of 'face' is missing"),
            ((0, 6), -0.1, "'pay': expected values from 0"),
            ((0, 6), math.inf, "'pay': the batch contains NaN or infinity"),
            ((1, 7), 2, "'member': expected values from 0 to 1"),
        ],
    )
    def test_what_does_not_fit_is_refused_by_name(self, place: tuple[int, int], value: float, said: str) -> None:
        x = rows()
        x[place] = value
        with pytest.raises(BadInput, match=said):
            ROW.check(x)

    def test_a_part_of_several_numbers_is_missing_as_a_whole(self) -> None:
        space = Space.record(xy=Space.continuous((2,), optional=True))
        space.check(torch.tensor([[NAN, NAN], [1.0, 2.0]]))
        with pytest.raises(BadInput, match="some values of one 'xy' are missing"):
            space.check(torch.tensor([[NAN, 1.0]]))

    def test_nonsense_is_refused(self) -> None:
        for make in (
            Space.record,
            lambda: Space.record(inner=Space.record(a=Space.binary(()))),
            lambda: Space.record(a=3),  # type: ignore[arg-type]
            lambda: Space.record(a=Space.levels((), 2**53 + 1)),
            lambda: Space(kind="binary", shape=(), values=2, parts=(("a", Space.binary(())),)),
            lambda: ROW.check(torch.zeros(1, 8, dtype=torch.int64)),
            lambda: ROW.check(torch.zeros(1, 7)),
            lambda: Space.from_json({**ROW.to_json(), "parts": [1]}),
        ):
            with pytest.raises(BadInput):
                make()
