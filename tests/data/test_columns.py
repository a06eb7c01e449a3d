"""Tables of mixed columns: the types that are inferred, or said, and the values that come back as they were."""

from __future__ import annotations

import csv
import datetime
import json
from pathlib import Path

import numpy
import pyarrow
import pytest
import torch
from commands import dgm
from pyarrow import parquet

from dgm import data
from dgm.data import tables
from dgm.data.columns import EPOCH, Column, OutOfRange, of_run, overview, requested_types, summary, text
from dgm.data.dataset import Dataset
from dgm.data.inference import Part, type_of
from dgm.errors import BadInput, UnknownName
from dgm.space import Space

HEADER = "age,income [kEUR],job,married,joined,visits"
JOBS = ("cook", "nurse, day", "Ärztin")
DAYS = [datetime.date(2020, 1, 1) + datetime.timedelta(31 * k) for k in range(40)]
LINES = [
    f"{18 + 7 * k % 50},{'' if k % 5 == 0 else 20.25 + k},{'?' if k % 7 == 0 else JOBS[k % 3]},"
    f"{'true' if k % 4 else 'false'},{'' if k % 9 == 0 else DAYS[k]},{k % 2}"
    for k in range(40)
]


def written(folder: Path, text: str, name: str = "t.csv") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def quoted(line: str) -> str:
    return line.replace("nurse, day", '"nurse, day"')


def mixed(folder: Path, **options: str) -> Dataset:
    return data.load(written(folder, "\n".join([HEADER, *map(quoted, LINES)])), **options)


def everything(found: Dataset) -> torch.Tensor:
    return torch.cat([split.x for split in found.splits.values()])


class TestTypes:
    def test_each_column_has_its_type(self, tmp_path: Path) -> None:
        found = mixed(tmp_path)
        assert [(column.name, column.type) for column in found.columns] == [
            ("age", "integer"),
            ("income [kEUR]", "real"),
            ("job", "category"),
            ("married", "boolean"),
            ("joined", "date"),
            ("visits", "boolean"),
        ]
        parts = dict(found.space.parts)
        assert [name for name, part in parts.items() if part.optional] == ["income [kEUR]", "job", "joined"]
        assert (parts["age"].values, found.columns[0].offset) == (50, 18)
        assert found.columns[2].values == ("cook", "nurse, day", "Ärztin")
        assert [part.kind for part in parts.values()] == [
            "levels",
            "continuous",
            "categories",
            "binary",
            "levels",
            "binary",
        ]
        assert found.space.check(everything(found)).isnan().sum(0).tolist() == [0, 8, 6, 0, 5, 0]
        assert summary(found.columns, 3) == "6 columns: 1 real, 1 integer, 1 category, 2 boolean, 1 date; 3 with gaps"

    def test_moments_are_of_the_known_values_of_the_training_split(self, tmp_path: Path) -> None:
        found = mixed(tmp_path)
        for name, k in (("income [kEUR]", 1), ("joined", 4)):
            x = found.train.x[:, k]
            part, known = dict(found.space.parts)[name], x[~x.isnan()]
            assert part.loc == pytest.approx((float(known.mean()),))
            assert part.scale == pytest.approx((float(known.std()),))

    def test_a_column_that_is_constant_in_the_training_split_has_a_scale_of_one(self) -> None:
        train = torch.tensor([[3.0, 0.0], [3.0, 2.0]], dtype=torch.float64)
        assert tables.vector([None, None], train).scale == pytest.approx((1.0, 2**0.5))
        assert tables.standardised(Space.continuous(()), train[:, 0]).scale == (1.0,)
        bounded = Space.continuous((), low=0.0, high=9.0)
        assert tables.standardised(bounded, train[:, 1]) == bounded

    def test_values_come_back_as_they_were(self, tmp_path: Path) -> None:
        """Kills: an offset added twice or not at all, days counted from another day, categories of another order."""
        found = mixed(tmp_path)
        out = tmp_path / "rows.csv"
        tables.write(everything(found), found.columns, out, ".csv")
        with out.open(newline="", encoding="utf-8") as file:
            names, *rows = csv.reader(file)
        assert ",".join(names) == HEADER
        expected = sorted(next(csv.reader([quoted(line)])) for line in LINES)
        assert sorted(rows) == [["" if cell == "?" else cell for cell in row] for row in expected]
        again = data.load(str(out))
        assert (again.columns, next(p for _, p in again.space.parts).kind) == (found.columns, "levels")

    def test_parquet_keeps_the_types(self, tmp_path: Path) -> None:
        found = mixed(tmp_path)
        out = tmp_path / "rows.parquet"
        tables.write(everything(found), found.columns, out, ".parquet")
        kinds = [str(kind) for kind in parquet.read_schema(out).types]
        assert kinds == ["int64", "double", "string", "bool", "date32[day]", "int64"]
        assert sum(column.null_count for column in parquet.read_table(out).columns) == 19
        again = data.load(str(out))
        assert again.columns == found.columns

    def test_numbers_without_gaps_are_a_vector(self, tmp_path: Path) -> None:
        generator = numpy.random.default_rng(0)
        rows = [f"{a!r},{b}" for a, b in zip(generator.normal(size=60).tolist(), range(100, 160), strict=True)]
        found = data.load(written(tmp_path, "a,b\n" + "\n".join(rows)))
        assert (found.space.kind, found.train.x.dtype) == ("continuous", torch.float32)
        assert sorted(everything(found)[:, 1].tolist()) == list(range(100, 160)), "with their offset"
        said = data.load(written(tmp_path, "a,b\n" + "\n".join(rows)), types="b=integer")
        assert dict(said.space.parts)["b"].values == 60

    def test_a_few_whole_numbers_are_counted(self, tmp_path: Path) -> None:
        """A density of a column of few values could be made as high as one likes."""
        rows = "\n".join(f"{k / 7},{k % 3}" for k in range(60))
        found = data.load(written(tmp_path, f"a,b\n{rows}"))
        assert [column.type for column in found.columns] == ["real", "integer"]
        rows = "\n".join(f"{k / 7},{k % 7}" for k in range(60))  # too few of each to know
        assert data.load(written(tmp_path, f"a,b\n{rows}")).space.kind == "continuous"

    def test_whole_numbers_with_a_gap_that_were_saved_as_floats(self, tmp_path: Path) -> None:
        found = data.load(written(tmp_path, "a\n" + "3.0\n\n5.0\n".replace("\n\n", "\nNA\n") * 10))
        assert found.columns[0] == Column(name="a", type="integer", offset=3)

    def test_one_value_with_gaps_is_a_category(self, tmp_path: Path) -> None:
        for cell in ("7", "x", "2020-02-02"):
            found = data.load(written(tmp_path, "a,b\n" + f"{cell},1.5\n,2.5\n" * 10))
            assert found.columns[0] == Column(name="a", type="category", values=(cell,))
            assert found.space.parts[0][1] == Space.categories(1, optional=True)

    def test_other_separators_and_a_byte_order_mark(self, tmp_path: Path) -> None:
        rows = [f"{k % 9};{k / 3:.3f};no" for k in range(20)] + ["3;0.5;yes"]
        found = data.load(written(tmp_path, "\ufeffa;b;c\n" + "\n".join(rows)))
        assert [column.name for column in found.columns] == ["a", "b", "c"]
        assert found.columns[2].values == ("no", "yes")

    def test_spaces_around_texts_and_gaps_are_dropped(self, tmp_path: Path) -> None:
        found = data.load(written(tmp_path, "a, b\n" + "1, x\n2, ?\n3,y \n" * 10))
        assert found.columns[1] == Column(name="b", type="category", values=("x", "y"))
        assert found.space.parts[1][1].optional


TIMES = {
    60_000: ["08:30", "00:00", "23:59"],
    1_000: ["08:30:00", "13:45:10", "23:59:59"],
    1: ["08:30:00.250", "13:45:10.000", "23:59:59.999"],
}
TIMESPEC = {60_000: "minutes", 1_000: "seconds", 1: "milliseconds"}


class TestTimes:
    @pytest.mark.parametrize("unit", TIMES)
    @pytest.mark.parametrize("suffix", [".csv", ".parquet"])
    def test_times_come_back_as_they_were(self, tmp_path: Path, unit: int, suffix: str) -> None:
        """Kills: an offset in another unit than the levels, a unit that drops the seconds, times as texts."""
        lines = [f"{cell},{k / 3}" for k, cell in enumerate([*TIMES[unit], ""] * 5)]
        found = data.load(written(tmp_path, "start,a\n" + "\n".join(lines)))
        column, (_, space) = found.columns[0], found.space.parts[0]
        first, last = (datetime.datetime.fromisoformat(f"1970-01-01T{f(TIMES[unit])}+00:00") for f in (min, max))
        assert (column.type, column.unit, space.optional) == ("time", unit, True)
        assert column.offset * unit == 1_000 * first.timestamp()
        assert (space.values or 0) - 1 == pytest.approx((last - first).total_seconds() * 1_000 / unit, abs=1e-6)
        out = tmp_path / f"rows{suffix}"
        tables.write(everything(found), found.columns, out, suffix)
        assert data.load(str(out)).columns == found.columns
        if suffix == ".csv":
            cells = [line.split(",")[0] for line in out.read_text(encoding="utf-8").split()[1:]]
        else:
            held = parquet.read_table(out)["start"]
            assert str(held.type) == "time32[ms]"
            cells = [(c and c.isoformat(TIMESPEC[unit])) or "" for c in held.to_pylist()]
        assert sorted(cells) == sorted([*TIMES[unit], ""] * 5)

    @pytest.mark.parametrize("kind", ["time32[s]", "time32[ms]", "time64[us]", "time64[ns]"])
    def test_every_type_of_parquet(self, kind: str) -> None:
        values = [datetime.time(8, 30), None, datetime.time(13, 45, 10)] * 5
        table = pyarrow.table({"a": pyarrow.array(values, pyarrow.type_for_alias(kind)), "b": list(range(15))})
        found = data.load(table).columns[0]
        assert found == Column(name="a", type="time", offset=8 * 3_600 + 30 * 60, unit=1_000)
        fine = pyarrow.table({"a": pyarrow.array([1, 2_000] * 5, pyarrow.time64("us")), "b": list(range(10))})
        with pytest.raises(BadInput, match="not a time of the day in milliseconds"):
            data.load(fine)

    def test_hours_of_one_digit_and_what_is_no_time(self, tmp_path: Path) -> None:
        path = written(tmp_path, "a,b\n" + "8:30,9:61\n11:05,10:30\n" * 6)
        found = data.load(path)
        assert [column.type for column in found.columns] == ["time", "category"]
        assert found.columns[0].texts_of([0, 155]) == ["08:30", "11:05"]
        assert data.load(path, types="a=category").columns[0].values == ("11:05", "8:30")
        with pytest.raises(BadInput, match="column 'b' holds '9:61', no time of the day"):
            data.load(path, types="b=time")
        with pytest.raises(BadInput, match="dates with times of the day; split it"):
            data.load(written(tmp_path, "a,b\n" + "2020-01-01 08:30:00,1\n2020-01-02 09:30:00,2\n" * 6))

    def test_the_day_ends(self) -> None:
        late = Column(name="t", type="time", offset=1_438, unit=60_000)
        assert late.fits(Space.levels((), 2))
        assert not late.fits(Space.levels((), 3)), "24:00"
        assert not Column(name="t", type="time", unit=7).fits(Space.levels((), 2))
        assert Column.from_json(late.to_json()) == late


class TestWishes:
    def test_numbers_with_leading_zeros_are_categories(self, tmp_path: Path) -> None:
        """Kills: 01234 as a number, 0 and 0.5 as codes."""
        path = written(tmp_path, "a,zip,n\n" + "".join(f"{k / 3},{k % 4 + 8:02},{k % 5}\n" for k in range(30)))
        assert [column.type for column in data.load(path).columns] == ["real", "category", "integer"]
        assert data.load(path).columns[1].values == ("08", "09", "10", "11")
        numbers = data.load(path, types="zip=integer,n=category").columns
        assert (numbers[1].type, numbers[1].offset, numbers[2].values) == ("integer", 8, ("0", "1", "2", "3", "4"))

    def test_a_column_is_left_out(self, tmp_path: Path) -> None:
        assert [c.name for c in mixed(tmp_path, types="job=skip, visits=skip").columns] == [
            "age",
            "income [kEUR]",
            "married",
            "joined",
        ]

    def test_bounds(self, tmp_path: Path) -> None:
        found = mixed(tmp_path, types="income [kEUR]=real -1.5..1e3,age=integer 0..120")
        parts = dict(found.space.parts)
        assert parts["income [kEUR]"].bounds == (-1.5, 1000.0)
        assert (parts["age"].values, found.columns[0].offset) == (121, 0)
        with pytest.raises(BadInput, match=r"values from 21.25 to 59.25, outside 0..10"):
            mixed(tmp_path, types="income [kEUR]=real 0..10")

    @pytest.mark.parametrize(
        ("types", "said"),
        [
            ("age", "'age' says no column's type"),
            ("age=int", "no type of a column is called 'int'; did you mean"),
            ("agee=integer", "no column is called 'agee'; did you mean 'age'"),
            ("age=real 3..1", "no bounds of the real column 'age'"),
            ("job=category 0..1", "no bounds of the category column"),
            ("job=integer", "column 'job' contains a value that is not a number"),
            ("income [kEUR]=integer", r"holds 21.25 in row 3, no integer"),
            ("job=date", "column 'job' contains a value that is not a date"),
            ("age=boolean", "column 'age' holds 40 different values"),
        ],
    )
    def test_a_wish_that_cannot_be_met_is_refused(self, tmp_path: Path, types: str, said: str) -> None:
        with pytest.raises((BadInput, UnknownName), match=said):
            mixed(tmp_path, types=types)

    def test_a_name_with_a_comma(self) -> None:
        assert requested_types('"a, b=date", c==real') == {
            "a, b": requested_types("x=date")["x"],
            "c=": requested_types("x=real")["x"],
        }

    def test_texts_that_are_all_different_are_refused_unless_meant(self, tmp_path: Path) -> None:
        path = written(tmp_path, "name,a\n" + "".join(f"person {k},{k / 3}\n" for k in range(101)))
        with pytest.raises(BadInput, match="101 different texts in 101 rows, such as 'person 0'"):
            data.load(path)
        assert data.load(path, types="name=category").space.parts[0][1].values == 101

    @pytest.mark.parametrize("first", [0, 1])
    def test_a_column_that_numbers_the_rows_is_refused(self, tmp_path: Path, first: int) -> None:
        """As the index that pandas writes. Kills: a first number of 2 too, rows in another order too."""
        numbers = range(first, first + 101)
        path = written(tmp_path, "row,a\n" + "".join(f"{k},{k % 7}\n" for k in numbers))
        with pytest.raises(BadInput, match=rf"numbers the rows from {first} to {first + 100}"):
            data.load(path)
        for others in ([k + 2 for k in numbers], [*numbers][::-1]):
            path = written(tmp_path, "row,a\n" + "".join(f"{k},{k % 7}\n" for k in others))
            assert [column.name for column in data.load(path).columns] == ["row", "a"]


class TestOverview:
    def test_ranges_shares_and_gaps(self, tmp_path: Path) -> None:
        found = mixed(tmp_path)
        rows = {row["column"]: row for row in overview(found.columns, everything(found))}
        assert rows["age"] == {"column": "age", "type": "integer", "values": "18 to 67", "missing": ""}
        assert rows["income [kEUR]"]["values"] == "21.25 to 59.25"
        assert rows["income [kEUR]"]["missing"] == "20.0%"
        assert rows["joined"]["values"] == f"{DAYS[1]} to {DAYS[39]}"
        assert rows["married"]["values"] == "true 75%, false 25%"
        assert rows["job"]["values"].count("%") == 3

    def test_the_command_shows_them(self, tmp_path: Path) -> None:
        mixed(tmp_path)
        done = dgm("data t.csv --types visits=skip,age=real", tmp_path)
        assert done.returncode == 0, done.stderr
        lines = [line.split() for line in done.stdout.splitlines()]
        assert ["age", "real", "18", "to", "67"] in lines
        assert ["job", "category"] in [line[:2] for line in lines]
        assert not any(line[:1] == ["visits"] for line in lines)
        assert dgm("data t.csv --types nothing=real", tmp_path).returncode == 2


class TestDescription:
    def test_json(self, tmp_path: Path) -> None:
        for column in mixed(tmp_path).columns:
            assert Column.from_json(json.loads(json.dumps(column.to_json()))) == column

    def test_a_column_fits_its_own_part_alone(self, tmp_path: Path) -> None:
        found = mixed(tmp_path)
        parts = [part for _, part in found.space.parts]
        for k, column in enumerate(found.columns):
            assert column.fits(parts[k])
        assert not found.columns[2].fits(Space.categories(2)), "three names"
        assert not Column(name="d", type="date", offset=10**7).fits(Space.levels((), 3)), "a date beyond the year 9999"
        assert not Column(name="d", type="date", offset=-719163).fits(Space.levels((), 3))
        assert Column(name="d", type="date", offset=-719162).values_of([0.0]) == [datetime.date(1, 1, 1)]

    def test_a_table_in_memory_is_what_its_file_would_be(self, tmp_path: Path) -> None:
        found = mixed(tmp_path)
        tables.write(everything(found), found.columns, tmp_path / "t.parquet", ".parquet")
        held = parquet.read_table(tmp_path / "t.parquet")
        for table in (held, Frame({name: held[name].to_numpy(zero_copy_only=False) for name in held.column_names})):
            assert data.load(table).columns == data.load(str(tmp_path / "t.parquet")).columns
        coded = pyarrow.table({"a": held["job"].dictionary_encode(), "b": held["age"].cast(pyarrow.float32())})
        assert data.load(coded, types="b=real").columns[0].values == found.columns[2].values


class Frame:
    """What of a pandas table is read."""

    def __init__(self, columns: dict[str, numpy.ndarray]) -> None:
        self.columns, self.held = list(columns), columns

    def __getitem__(self, name: str) -> numpy.ndarray:
        return self.held[name]


def test_a_number_is_the_inverse_of_its_text() -> None:
    """Of thirty years from 1990 on. Kills: the offset left out, a level too many, half a year."""
    year, space = Column(name="year", type="integer", offset=1990), Space.levels((), 30)
    assert [year.number_of(given, space) for given in ("1990", " 2019.0 ")] == [0, 29]
    with pytest.raises(OutOfRange, match="expected a whole number from 1990 to 2019"):
        year.number_of("2020", space)
    with pytest.raises(BadInput, match="expected a whole number") as found:
        year.number_of("1990.5", space)
    assert not isinstance(found.value, OutOfRange)
    last = (datetime.date.max - EPOCH).days
    day = Column(name="day", type="date", offset=last - 9)
    assert day.fits(Space.levels((), 10))
    assert not day.fits(Space.levels((), 11)), "the year 10,000"


def test_texts_have_the_digits_of_a_float32_and_columns_the_names_of_their_parts() -> None:
    assert text(1.2345678) == "1.2345678"
    space = Space.record(age=Space.levels((), 9), at=Space.continuous((2,)))
    assert [column.name for column in of_run({}, space)] == ["age", "at_0", "at_1"]
    with pytest.raises(BadInput, match="are no bounds"):
        requested_types("share=real 1..1")


def test_few_whole_numbers_make_a_record_and_texts_that_repeat_are_categories() -> None:
    """Up to 20 different ones, each ten times on average; from 50 texts on, of which at most half are different."""

    def counted(different: int, n: int) -> bool:
        x = numpy.arange(n) % different
        return Part(Column(name="a", type="integer"), Space.levels((), different), x.astype(float)).counted

    assert [counted(20, 200), counted(20, 199), counted(21, 210)] == [True, False, False]
    far = pyarrow.array([10**12 + 3 * (k % 7) for k in range(40)])
    assert type_of("a", "a", far, 40) == "integer"  # by their range and not by their size
    assert type_of("a", "a", pyarrow.array([0, 2**31]), 2) == "real"
    repeated = pyarrow.array([f"text {k % 60}" for k in range(120)])
    assert type_of("a", "a", repeated, 120) == "category"
    with pytest.raises(BadInput, match="60 different texts"):
        type_of("a", "a", repeated[:119], 119)


def test_a_header_may_have_numbers_and_gaps_make_a_record_of_a_condition(tmp_path: Path) -> None:
    """Kills: a header of words alone; a label or an attribute that cannot be missing."""
    table = tmp_path / "a.csv"
    table.write_text("2020,group,flag\n" + "1.5,a,0\n2.5,b,1\n3.5,a,1\n" * 5 + "4.5,,\n", encoding="utf-8")
    assert [column.name for column in data.load(table).columns] == ["2020", "group", "flag"]
    for column in ("group", "flag"):
        condition = data.load(table, condition_columns=column).condition
        assert condition is not None
        assert [(name, part.optional) for name, part in condition.parts] == [(column, True)]
