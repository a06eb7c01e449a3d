"""`dgm edit impute` and `dgm sample --where`: cells that are given stay, the others are values of their columns."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from commands import dgm, with_bank
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from dgm.data import rows
from dgm.data.columns import Column
from dgm.errors import BadInput, UnknownName
from dgm.space import Space


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = with_bank(
        tmp_path_factory.mktemp("rows"),
        600,
        "train gmm --data bank.csv --out gmm --model.components 4 --steps 20",
        "train made --data bank.csv --out made --model.hidden 32 --steps 60",
        "train made --data bank.csv --out married --conditional --condition-columns married --types visits=skip "
        "--steps 3",
        "train made --out digits --model.hidden 8 --steps 2",
    )
    lines = (made / "bank.csv").read_text(encoding="utf-8").splitlines()
    (made / "holes.csv").write_text("\n".join(lines[:31]) + "\n", encoding="utf-8")
    return made


def table(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def test_sampled_rows_have_the_columns_of_their_condition(folder: Path) -> None:
    """Drawn with the shares of the table, or chosen; kills a condition of another row's."""
    assert dgm("sample married -n 400 --out drawn.csv", folder).returncode == 0
    other = dgm("sample married -n 400 --seed 1 --out other.csv", folder)
    assert other.returncode == 0, other.stderr
    assert dgm("sample married -n 20 --condition yes --out chosen.csv", folder).returncode == 0
    assert dgm("sample married -n 20 --condition yes --where job=student --out where.csv", folder).returncode == 0
    drawn, bank = table(folder / "drawn.csv"), table(folder / "bank.csv")
    assert list(drawn[0]) == [*(name for name in bank[0] if name not in ("married", "visits")), "married"]
    share = sum(row["married"] == "yes" for row in bank) / len(bank)
    for found in (drawn, table(folder / "other.csv")):
        assert sum(row["married"] == "yes" for row in found) / 400 == pytest.approx(share, abs=0.1)
    assert [row["married"] for row in drawn] != [row["married"] for row in table(folder / "other.csv")]
    for path in ("chosen.csv", "where.csv"):
        assert {row["married"] for row in table(folder / path)} == {"yes"}
    # the rows are those of their conditions
    write = "".join(f"{row['married']}\n" for row in drawn)
    (folder / "wanted.csv").write_text("married\n" + write, encoding="utf-8")
    assert dgm("sample married --condition wanted.csv --out again.csv", folder).returncode == 0
    assert table(folder / "again.csv") == drawn


def test_columns_of_a_condition_that_no_model_has_are_left_out_aloud(folder: Path) -> None:
    done = dgm("train gmm --data bank.csv --condition-columns married --steps 1 --out alone", folder)
    assert done.returncode == 0, done.stderr
    assert "left out: married; with --conditional" in done.stdout + done.stderr
    assert dgm("sample alone -n 2 --out alone.csv", folder).returncode == 0
    assert list(table(folder / "alone.csv")[0]) == [name for name in table(folder / "bank.csv")[0] if name != "married"]


def test_holes_are_filled_and_all_else_stays(folder: Path) -> None:
    """Of several draws, each row so often; the same seed gives the same file, another one other values."""
    for run, how in (("made", "one after another in the order of the model"), ("gmm", "by importance sampling")):
        done = dgm(f"edit impute {run} --data holes.csv --draws 3 --out {run}.csv", folder)
        assert done.returncode == 0, done.stderr
        assert how in done.stdout
        filled, holes = table(folder / f"{run}.csv"), table(folder / "holes.csv")
        assert [row.pop("draw") for row in filled[:4]] == ["1", "2", "3", "1"]
        assert len(filled) == 90
        for k, row in enumerate(filled):
            for name, cell in holes[k // 3].items():
                assert row[name] == cell or (not cell and row[name])
        assert dgm(f"edit impute {run} --data holes.csv --draws 3 --seed 1 --out {run}1.csv", folder).returncode == 0
        assert (folder / f"{run}1.csv").read_bytes() != (folder / f"{run}.csv").read_bytes()
        assert dgm(f"edit impute {run} --data {run}.csv --out {run}2.csv", folder).returncode == 2  # the column draw


def test_imputed_values_are_those_of_the_column_types(folder: Path) -> None:
    columns = "job,balance [EUR]"
    (folder / "few.csv").write_text(f"{columns}\nstudent,\n,1200\nnurse,NA\n", encoding="utf-8")
    assert dgm("edit impute gmm --data few.csv --out few-filled.csv", folder).returncode == 0
    filled = table(folder / "few-filled.csv")
    assert list(filled[0]) == ["job", "balance [EUR]", "age", "income [kEUR]", "married", "joined", "visits"]
    assert filled[1]["balance [EUR]"] == "1200"
    assert all(18 <= int(row["age"]) <= 99 and row["married"] in ("yes", "no") for row in filled)
    whole = arrow_csv.read_csv(folder / "few.csv")
    parquet.write_table(whole, folder / "few.parquet")
    assert dgm("edit impute gmm --data few.parquet --out same.csv", folder).returncode == 0
    assert (folder / "same.csv").read_bytes() == (folder / "few-filled.csv").read_bytes()
    (folder / "semicolons.csv").write_text("job;age\nstudent;\n;44\n", encoding="utf-8")
    assert dgm("edit impute gmm --data semicolons.csv --out semi.csv", folder).returncode == 0
    assert table(folder / "semi.csv", ";")[1]["age"] == "44"


def test_columns_that_the_model_does_not_generate_stay(folder: Path) -> None:
    done = dgm("edit impute married --data holes.csv --label yes --out married.csv", folder)
    assert done.returncode == 0, done.stderr
    for filled, held in zip(table(folder / "married.csv"), table(folder / "holes.csv"), strict=True):
        assert (filled["visits"], filled["married"]) == (held["visits"], held["married"])
    assert dgm("edit impute married --data holes.csv --out of_columns.csv", folder).returncode == 0
    (folder / "unmarried.csv").write_text("age\n40\n\n41\n", encoding="utf-8")
    done = dgm("edit impute married --data unmarried.csv --out none.csv", folder)
    assert (done.returncode, "this model needs a" in done.stderr) == (2, True)


def test_samples_have_the_values_that_are_given(folder: Path) -> None:
    for run in ("made", "gmm"):
        command = f"sample {run} -n 40 --where job=student,visits=3 --out {run}-where.csv"
        done = dgm(command, folder)
        assert done.returncode == 0, done.stderr
        found = table(folder / f"{run}-where.csv")
        assert len(found) == 40
        assert {(row["job"], row["visits"]) for row in found} == {("student", "3")}
        assert len({row["age"] for row in found}) > 5
        assert any(not row["joined"] or not row["income [kEUR]"] for row in found)
    assert dgm("sample gmm -n 20 --where job= --out gap.csv", folder).returncode == 0
    assert {row["job"] for row in table(folder / "gap.csv")} == {""}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("sample gmm -n 2 --where jobb=nurse", "no column of this run is called 'jobb'; did you mean 'job'?"),
        ("sample gmm -n 2 --where job=nurze", "no value of the column 'job' is called 'nurze'; did you mean 'nurse'?"),
        ("sample gmm -n 2 --where age=400", "'400' is not a value of the column 'age', expected a whole number from 1"),
        ("sample gmm -n 2 --where joined=yesterday", "expected a date such as 2020-12-31 from 20"),
        ("sample gmm -n 2 --where age=", "no value of 'age' was missing in the training data"),
        ("sample gmm -n 2 --where nurse", "'nurse' gives no column a value"),
        ("sample gmm -n 2 --where age=40 --solver heun", "both --where and --solver"),
        ("sample made -n 2 --where age=40 --temperature 0.5", "decoding options such as the temperature, and --where"),
        ("sample digits -n 2 --where age=40", "rows belong to a table, and this run is of levels 1×8×8"),
        ("edit impute digits --data holes.csv", "rows belong to a table"),
        ("edit impute gmm --data nothing.csv", "there is no file nothing.csv"),
        ("edit impute gmm --data bad.csv", "bad.csv, row 3: 'old' is not a value of the column 'age'"),
        ("edit impute gmm --data odd.csv", "no column of this run is called 'aje'; did you mean 'age'?"),
        ("edit impute gmm --data short.csv", "short.csv: row 3 has 1 fields, expected 2"),
    ],
)
def test_what_is_no_row_of_the_table_is_refused_in_one_line(folder: Path, command: str, said: str) -> None:
    (folder / "bad.csv").write_text("age,job\n40,nurse\nold,nurse\n", encoding="utf-8")
    (folder / "odd.csv").write_text("aje,job\n40,nurse\n", encoding="utf-8")
    (folder / "short.csv").write_text("age,job\n40,nurse\n40\n", encoding="utf-8")
    done = dgm(f"{command} --out refused.csv", folder)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (folder / "refused.csv").exists()


def test_texts_are_the_inverse_of_numbers() -> None:
    """Of each type of column, for every value."""
    for column, space in (
        (Column(name="n", type="integer", offset=-3), Space.levels((), 7)),
        (Column(name="d", type="date", offset=19_000), Space.levels((), 40)),
        (Column(name="m", type="time", offset=1_400, unit=60_000), Space.levels((), 40)),
        (Column(name="s", type="time", offset=30_600, unit=1_000), Space.levels((), 90)),
        (Column(name="c", type="category", values=("a", "b", "1.0")), Space.categories(3)),
        (Column(name="b", type="boolean", values=("false", "true")), Space.binary(())),
        (Column(name="z", type="boolean", values=("0", "1")), Space.binary(())),
    ):
        numbers = [float(k) for k in range(space.values or 0)]
        assert [column.number_of(text, space) for text in column.texts_of(numbers)] == numbers
    real = Column(name="r")
    assert real.number_of(" -1.5e3 ", Space.continuous(())) == -1500
    assert real.number_of("n/a", Space.continuous(())) != real.number_of("n/a", Space.continuous(()))
    with pytest.raises(BadInput, match="expected a number from 0 to 1"):
        real.number_of("2", Space.continuous((), low=0.0, high=1.0))
    with pytest.raises(BadInput, match="'inf' is not a value"):
        real.number_of("inf", Space.continuous(()))
    with pytest.raises(BadInput, match="'1e400' is not a value"):
        Column(name="n", type="integer").number_of("1e400", Space.levels((), 7))
    minutes = Column(name="m", type="time", offset=480, unit=60_000)
    for wrong in ("07:59", "08:01:30", "noon"):
        with pytest.raises(BadInput, match="expected a time of the day such as 08:30 from 08:00 to 08:59"):
            minutes.number_of(wrong, Space.levels((), 60))
    with pytest.raises(UnknownName, match="no value of the column 'c'"):
        Column(name="c", type="category", values=("a",)).number_of("q", Space.categories(1))


def test_a_vector_of_real_numbers_has_given_values_too() -> None:
    columns = [Column(name="x"), Column(name="y, z")]
    x, given = rows.of_words('"y, z=2.5"', columns, Space.continuous((2,)))
    assert (x.tolist(), given.tolist()) == ([0.0, 2.5], [False, True])
    assert torch.is_tensor(x)


def test_each_draw_of_a_row_fills_its_own_gaps(tmp_path: Path) -> None:
    """Two draws of each of two rows. Kills: the draws of another row, given values replaced, numbers from zero."""
    table = rows.Rows(tmp_path / "in.csv", ["a", "note"], [["1.0", "x"], ["?", "y"]], [2, 3])
    x = torch.tensor([[[1.0, 10], [1, 11]], [[20, 30], [21, 31]]])
    rows.write_completed(table, x, [Column(name="a"), Column(name="b")], tmp_path / "out.csv")
    written = (tmp_path / "out.csv").read_text(encoding="utf-8").split()
    assert written == ["a,note,b,draw", "1.0,x,10,1", "1.0,x,11,2", "20,y,30,1", "21,y,31,2"]
