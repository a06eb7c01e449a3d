"""What a user writes as a condition, beside the numbers that it stands for."""

from __future__ import annotations

import math

import numpy
import pytest
import torch

from dgm.condition import Names, decode, encode, pairs
from dgm.errors import BadInput, DgmError, UnknownName
from dgm.space import Space

FACE = Space.binary((3,)), Names(columns=("smiling", "glasses", "young"))
WEATHER = Space.continuous((2,), loc=(10.0, 1.0), scale=(5.0, 1.0)), Names(columns=("warmth", "wind speed"))
TEXT = Space.tokens(5, 7), Names(words=("a", "seven", "red", ",", "two"))
DAY = Space.levels((1,), 400), Names(columns=("day",), offset=18_000, dates=True)
START = Space.levels((1,), 600), Names(columns=("start",), offset=480, unit=60_000)
YEAR = Space.levels((1,), 30), Names(columns=("year",), offset=1990)
SMOKES = Space.binary((1,)), Names(columns=("smokes",), labels=("no", "yes"))
LABEL = Space.categories(3), Names(labels=("7", "cat", "dog"))
SPECIES = Space.categories(3), Names(labels=("setosa", "x=y", "1,2"), columns=("species",))
PERSON = (
    Space.record(
        age=Space.continuous(()),
        job=Space.categories(2),
        note=Space.tokens(5, 7),
        tall=Space.binary(()),
        pay=Space.continuous((), optional=True),
    ),
    Names(parts={"job": Names(labels=("clerk", "nurse")), "note": TEXT[1]}),
)


@pytest.mark.parametrize(
    ("of", "written", "numbers"),
    [
        (FACE, "smiling=1,glasses=0,young=1", [1, 0, 1]),
        (FACE, " young=1 , smiling=0, glasses=1 ", [0, 1, 1]),
        (FACE, "glasses=1,*=0", [0, 1, 0]),
        (FACE, "1,0,1", [1, 0, 1]),
        (WEATHER, "wind speed=-2.5,warmth=1e1", [10.0, -2.5]),
        (WEATHER, "3, 4", [3.0, 4.0]),
        (TEXT, "A red seven", [2, 4, 3, 0, 0]),
        (TEXT, "two, seven", [6, 5, 3, 0, 0]),
        (DAY, "day=2019-04-15", [1]),
        (START, "start=08:30", [30]),
        (YEAR, "1999", [9]),
        (SMOKES, "smokes=yes", [1]),
        (LABEL, "dog", 2),
        (LABEL, "7", 0),  # a name that is a number is a name
        (LABEL, "2", 2),
        (SPECIES, "species=setosa", 0),
        (SPECIES, "setosa", 0),
        (SPECIES, "x=y", 1),
        (SPECIES, "species=x=y", 1),
        (SPECIES, 'species="1,2"', 2),
        (SPECIES, "1,2", 2),
        ((Space.continuous(()), Names()), "-1.5", -1.5),
        ((Space.tokens(3, 9), Names()), "8,0,2", [8, 0, 2]),
    ],
)
def test_numbers_of_what_is_written(of: tuple[Space, Names], written: str, numbers: object) -> None:
    space, names = of
    y = encode(written, space, names)
    assert y.tolist() == numbers
    assert space.check(y[None]).dtype == space.dtype
    assert torch.equal(encode(decode(y, space, names), space, names), y)


def test_a_record_is_written_part_by_part() -> None:
    space, names = PERSON
    y = encode('age=33,job=nurse,note="two, red",tall=1', space, names)
    parts = space.split(y[None])
    assert (parts["age"].item(), parts["job"].item(), parts["tall"].item()) == (33.0, 1, 1)
    assert parts["note"][0].tolist() == [6, 5, 4, 0, 0]
    assert math.isnan(parts["pay"].item())
    assert decode(y, space, names) == 'age=33,job=nurse,note="two , red",tall=1'
    again = encode({"age": 33, "job": "nurse", "note": "two, red", "tall": True, "pay": 7}, space, names)
    assert space.split(again[None])["pay"].item() == 7
    unknown = encode({"age": 33, "job": "nurse", "note": "two, red", "tall": True, "pay": math.nan}, space, names)
    assert decode(unknown, space, names) == decode(y, space, names)


def test_a_part_of_a_record_may_be_an_array() -> None:
    """Kills: an array as its text."""
    space = Space.record(age=Space.levels((), 90), low=Space.levels((1, 2, 2), 16), at=Space.continuous((2,)))
    low = numpy.array([[[1, 2], [3, 15]]])
    y = encode({"age": 33, "low": low, "at": [1, -2]}, space, Names())
    assert y.tolist() == [33, 1, 2, 3, 15, 1, -2]
    for wrong, said in (
        (low[0], r"low: expected numbers of shape \(1, 2, 2\)"),
        (low + 1, "low: expected values from 0"),
    ):
        with pytest.raises(DgmError, match=said):
            encode({"age": 33, "low": wrong, "at": [1, -2]}, space, Names())


@pytest.mark.parametrize(
    ("of", "written", "said"),
    [
        (FACE, "smiling=1", r"lacks glasses, young; give each of them, or \*=0"),
        (FACE, "smilling=1,*=0", "did you mean 'smiling'"),
        (FACE, "smiling=2,*=0", "smiling: '2' is not a value of the condition, expected 0 or 1"),
        (FACE, "smiling=0.5,*=0", "expected 0 or 1"),
        (FACE, "smiling=1,smiling=0,*=1", "gives 'smiling' twice"),
        (FACE, "smiling=1,glasses", "'glasses' in the condition has no '='; write it as smiling=…,glasses=…"),
        (FACE, "1,0", "lacks young"),
        (FACE, "1,0,1,1", "no part of the condition is called '3'"),
        (FACE, '"smiling=1', "close its quotes"),
        (FACE, "", "lacks smiling, glasses, young"),
        (WEATHER, "warmth=nan,wind speed=1", "'nan' is not a value of the condition, expected a number"),
        (WEATHER, "warmth=1e300,wind speed=1", "expected a number"),
        (DAY, "2019-04-13", "expected a date from 2019-04-14 to 2020-05-17"),
        (DAY, "today", "'today' is not a value of the condition, expected a date"),
        (START, "07:00", "'07:00' is not a value of the condition, expected a time from 08:00 to 17:59"),
        (START, "08:30:20", "expected a time from 08:00"),
        (YEAR, "2020", "expected a whole number from 1990 to 2019"),
        (SMOKES, "maybe", "no label of this run is called 'maybe'"),
        (TEXT, "a sevn", "no word of this run's texts is called 'sevn'; did you mean 'seven'"),
        (TEXT, "a a a a a a", "the text has 6 words, expected at most 5"),
        (LABEL, "dgo", "did you mean 'dog'"),
        (LABEL, "3", "no label of this run is called '3'"),
        (SPECIES, "species=versicolor", "no label of this run is called 'versicolor'"),
        (SPECIES, "colour=setosa", "no part of the condition is called 'colour'; known: species"),
        (PERSON, "age=33,job=nurse,tall=1", "lacks note"),
        (PERSON, "age=33,job=nurse,note=a,tall=", "the condition has no value of tall"),
        (PERSON, "age=33,job=baker,note=a,tall=1", "no label of this run is called 'baker'"),
        (PERSON, "age=x,job=nurse,note=a,tall=1", "age: 'x' is not a value"),
        ((Space.levels((1, 4, 4), 256), Names()), "a picture", "give a picture or an .npz file"),
    ],
)
def test_what_is_no_condition_is_said_in_one_line(of: tuple[Space, Names], written: str, said: str) -> None:
    with pytest.raises(DgmError, match=said) as error:
        encode(written, *of)
    assert "\n" not in str(error.value)


def test_the_longest_text_fits_and_names_are_of_all_dimensions() -> None:
    assert encode("a a a a a", *TEXT).shape == (5,)
    assert not Names(columns=("smiling", "glasses")).fit(FACE[0])


def test_a_number_is_within_the_bounds_of_its_space() -> None:
    share = Space.continuous((), low=0.0, high=1.0)
    assert encode("1", share, Names()) == 1
    with pytest.raises(BadInput, match="expected a number from 0 to 1"):
        encode("1.5", share, Names())


def test_quotes_hold_commas() -> None:
    assert pairs('a="1, 2",b=3,"c=4, 5"', ["a", "b", "c"]) == {"a": "1, 2", "b": "3", "c": "4, 5"}


@pytest.mark.parametrize("names", [FACE[1], TEXT[1], PERSON[1], DAY[1], START[1], Names()])
def test_names_are_kept_as_json(names: Names) -> None:
    assert Names.from_json(names.to_json()) == names


def test_names_have_to_fit_the_space_that_they_are_of() -> None:
    assert all(names.fit(space) for space, names in (FACE, WEATHER, TEXT, LABEL, PERSON))
    assert Names().fit(FACE[0])
    assert not FACE[1].fit(Space.binary((2,)))
    assert not LABEL[1].fit(Space.categories(4))
    assert not TEXT[1].fit(Space.tokens(5, 8))
    assert not Names(parts={"pet": Names()}).fit(PERSON[0])
    for wrong in (
        [],
        {"labels": "ab"},
        {"words": [1]},
        {"parts": []},
        {"parts": {"a": 3}},
        {"unit": 7},
        {"unit": 60_000, "offset": 1_440},
    ):
        with pytest.raises(BadInput):
            Names.from_json(wrong)


def test_a_label_is_also_given_by_a_mapping() -> None:
    assert encode({"species": "setosa"}, *SPECIES) == encode({"species": 0}, *SPECIES) == 0


def test_an_unknown_label_names_the_nearest() -> None:
    with pytest.raises(UnknownName):
        encode("caat", *LABEL)
