"""Conditions of one's own data: attributes, categories, numbers, texts and images beside the examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

from dgm import data
from dgm.condition import decode, encode
from dgm.data import Dataset, attributes, tables
from dgm.data.columns import of_condition
from dgm.errors import BadInput, DgmError
from dgm.space import Space

N = 30


def pictures(folder: Path, n: int = N, side: int = 4) -> None:
    """Pictures that are all of one shade, their number."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(n):
        Image.new("L", (side, side), k).save(folder / f"{k:03d}.png")


def table(folder: Path, header: str, row: str, n: int = N, name: str = "attributes.csv") -> None:
    """A row a picture, in the opposite order; ``row`` is formatted with its number k."""
    lines = [eval_format(row, k) for k in reversed(range(n))]
    (folder / name).write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")


def eval_format(row: str, k: int) -> str:
    known = {"k": f"{k:03d}", "odd": k % 2, "big": int(k > 15), "sign": 1 if k % 2 else -1, "age": k + 0.5}
    return row.format(**known, name=("seven" if k % 2 else "two"), pet=("cat" if k % 3 else "dog"))


def numbers(dataset: Dataset) -> list[tuple[int, str]]:
    """The picture's number and its condition in words, of every example."""
    assert dataset.condition is not None
    found = []
    for split in dataset.splits.values():
        assert split.y is not None
        dataset.condition.check(split.y)
        for x, y in zip(split.x, split.y, strict=True):
            found.append((int(x.flatten()[0]), decode(y, dataset.condition, dataset.names)))
    return sorted(found)


@pytest.mark.parametrize(
    ("header", "row", "space", "written"),
    [
        ("file,odd,big", "{k}.png,{odd},{big}", "binary 2", "odd={odd},big={big}"),
        ("odd,image_id,big", "{odd},{k}.png,{big}", "binary 2", "odd={odd},big={big}"),
        ("id,odd", "{k},{sign}", "binary 1", "odd={odd}"),
        ("whatever,odd,big", "{k},{sign},{big}", "binary 2", "odd={odd},big={big}"),
        ("filename,caption", "{k}.png,a {name} here", "tokens 3, 6 values", "a {name} here"),
        ("filename,pet", "{k}.png,{pet}", "categories, 2 values", "{pet}"),
        ("filename,label", "{k}.png,{odd}", "categories, 2 values", "{odd}"),
        ("filename,age", "{k}.png,{age}", "continuous 1", "age={age}"),
        ("filename,age,odd", "{k}.png,{age},{odd}", "record of age, odd", "age={age},odd={odd}"),
        ("file,caption,pet", "{k}.png,a {name},{pet}", "record of caption, pet", "caption=a {name},pet={pet}"),
    ],
)
def test_a_table_beside_pictures_is_their_condition(
    tmp_path: Path, header: str, row: str, space: str, written: str
) -> None:
    """Kills: rows in the table's order, -1 taken for 1, another split's rows."""
    pictures(tmp_path)
    table(tmp_path, header, row)
    found = data.load(str(tmp_path))
    assert str(found.condition) == space
    assert numbers(found) == [(k, eval_format(written, k)) for k in range(N)]


def test_empty_cells_are_missing_values_of_a_record(tmp_path: Path) -> None:
    """Kills: a gap that moves the values below it, moments of another split's rows."""
    pictures(tmp_path)
    lines = [f"{k:03d}.png,{k % 2 if k % 5 else ''},{k if k % 3 else ''},{'a b' if k % 2 else ''}" for k in range(N)]
    (tmp_path / "t.csv").write_text("\n".join(["file,odd,size,note", *lines]), encoding="utf-8")
    found = data.load(str(tmp_path))
    assert found.condition is not None
    assert found.train.y is not None
    parts = dict(found.condition.parts)
    assert [(part.kind, part.optional) for part in parts.values()] == [
        ("binary", True),
        ("continuous", True),
        ("tokens", False),
    ]
    for k, written in numbers(found):
        wanted = [f"odd={k % 2}"] * (k % 5 > 0) + [f"size={k}"] * (k % 3 > 0) + [f"note={'a b' if k % 2 else ''}"]
        assert written == ",".join(wanted)
        assert decode(encode(written, found.condition, found.names), found.condition, found.names) == written
    size = found.condition.split(found.train.y)["size"]
    known = size[~size.isnan()]
    assert (*parts["size"].loc, *parts["size"].scale) == pytest.approx((float(known.mean()), float(known.std())))


def test_a_gap_in_the_only_column_makes_a_record() -> None:
    found = attributes.inferred(attributes.Rows(Path("a.csv"), ["age"], [["1.5", "", "4", "3"]], [2, 3, 4, 5]), [0, 2])
    assert found.space.kind == "record"
    assert torch.equal(found.y.isnan()[:, 0], torch.tensor([False, True, False, False]))


def test_numbers_are_standardised_by_the_training_split(tmp_path: Path) -> None:
    pictures(tmp_path)
    table(tmp_path, "file,age,size", "{k}.png,{age},{age}0")
    found = data.load(str(tmp_path))
    y = found.train.y
    assert y is not None
    assert found.condition is not None
    assert found.condition.loc == pytest.approx(y.double().mean(0).tolist())
    assert found.condition.scale == pytest.approx(y.double().std(0).tolist())


def test_words_that_occur_twice_on_average_are_categories_and_numbers_are_in_their_order() -> None:
    def kind(words: str) -> str:
        cells = words.split()
        return attributes.kind_of(attributes.Rows(Path("a.csv"), ["colour"], [cells], list(range(len(cells)))), 0)

    assert kind("a b c d e a b c d e") == "category"
    assert kind("a b c d e a b c d f") == "text"
    assert attributes.categories(["10", "9", "10"]).names.labels == ("9", "10")
    assert attributes.categories(["b", "10", "9"]).names.labels == ("10", "9", "b")


def test_pictures_in_folders_are_named_by_their_path_or_their_name(tmp_path: Path) -> None:
    pictures(tmp_path / "a", 15)
    for k in range(15, N):
        (tmp_path / "b").mkdir(exist_ok=True)
        Image.new("L", (4, 4), k).save(tmp_path / "b" / f"{k:03d}.png")
    lines = [f"{'a/' if k < 15 else ''}{k:03d}.png,{k % 2}" for k in range(N)]
    (tmp_path / "t.csv").write_text("\n".join(["file,odd", *lines]), encoding="utf-8")
    assert numbers(data.load(str(tmp_path))) == [(k, f"odd={k % 2}") for k in range(N)]


def test_the_rarest_words_are_one_token_and_long_texts_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dgm.data import attributes

    monkeypatch.setattr(attributes, "MOST_WORDS", 4)
    monkeypatch.setattr(attributes, "LONGEST_TEXT", 3)
    found = attributes.texts(["a b c", "a b c d", "a b d e f"])
    assert found.names.words == ("a", "b")
    assert found.y.tolist() == [[2, 3, 1]] * 3


@pytest.mark.parametrize(
    ("header", "rows", "said"),
    [
        ("file,odd", ["{k}.png,{odd}"] * (N - 1), r"has no row of the picture 029\.png; add it"),
        ("file,odd", ["{k}.png,{odd}"] * N + ["x.png,1"], "row 32 names 'x.png', and there is no such picture"),
        ("file,odd", ["{k}.png,{odd}"] * N + ["003.png,1"], "row 32 names '003.png' a second time"),
        ("file,odd", ["{k}.png,{odd}"] * N + ["003,1"], "row 32 names '003', and there is no such picture"),
        ("file,odd", ["{k}.png,"] * N, "column 'odd' is empty; drop it"),
        ("file,odd", ["{k}.png,1,2"] * N, "row 2 has 3 fields, expected 2"),
        ("file,odd,odd", ["{k}.png,1,2"] * N, "two columns named 'odd'"),
        ("file", ["{k}.png"] * N, "has one column"),
        ("file,age", ["{k}.png,7.5"] * N, "column 'age' never changes"),
        ("file,odd", ['{k}.png,"1'] * N, "cannot be read as a table|fields, expected"),
    ],
)
def test_a_bad_table_is_said_in_one_line(tmp_path: Path, header: str, rows: list[str], said: str) -> None:
    pictures(tmp_path)
    lines = [eval_format(row, k) for k, row in enumerate(rows)]
    (tmp_path / "t.csv").write_text("\n".join([header, *lines]), encoding="utf-8")
    with pytest.raises(DgmError, match=said) as error:
        data.load(str(tmp_path))
    assert "\n" not in str(error.value)


def test_two_tables_and_a_table_that_is_none(tmp_path: Path) -> None:
    pictures(tmp_path)
    (tmp_path / "a.csv").write_bytes(b"file,odd\n\xff,1\n")
    with pytest.raises(BadInput, match="is not a text"):
        data.load(str(tmp_path))
    (tmp_path / "b.csv").touch()
    with pytest.raises(BadInput, match=r"holds 2 tables beside its pictures: a\.csv, b\.csv; keep one of them there"):
        data.load(str(tmp_path))


class TestPairs:
    def test_each_image_has_the_one_of_its_name(self, tmp_path: Path) -> None:
        """Kills: the condition's own order, another split's rows."""
        pictures(tmp_path / "x", side=8)
        for k in range(N):
            (tmp_path / "condition").mkdir(exist_ok=True)
            Image.new("RGB", (2, 2), (k, 0, 100 + k)).save(tmp_path / "condition" / f"{k:03d}.bmp")
        found = data.load(str(tmp_path))
        assert found.space == Space.levels((1, 8, 8), 256)
        assert found.condition == Space.levels((3, 2, 2), 256)
        for split in found.splits.values():
            assert split.y is not None
            assert torch.equal(split.y[:, 0, 0, 0], split.x[:, 0, 0, 0])
            assert torch.equal(split.y[:, 2, 1, 1], 100 + split.x[:, 0, 0, 0])

    def test_a_pair_without_its_other_half(self, tmp_path: Path) -> None:
        pictures(tmp_path / "x")
        pictures(tmp_path / "condition", N - 1)
        with pytest.raises(BadInput, match=r"has no image '029', which .*x has; add it"):
            data.load(str(tmp_path))
        pictures(tmp_path / "condition", N + 1)
        with pytest.raises(BadInput, match=r"has no image '030', which .*condition has"):
            data.load(str(tmp_path))


X = numpy.arange(N)[:, None].repeat(4, 1).astype(numpy.uint8)


@pytest.mark.parametrize("key", ["condition", "y", "targets"])
@pytest.mark.parametrize(
    ("y", "space"),
    [
        (numpy.arange(N) % 3, Space.categories(3)),
        (numpy.arange(N)[:, None] % 3, Space.categories(3)),
        (numpy.arange(N)[:, None] // 2 ** numpy.arange(5) % 2, Space.binary((5,))),
        (numpy.arange(N * 4 * 4).reshape(N, 4, 4).astype(numpy.uint8), Space.levels((1, 4, 4), 256)),
        (numpy.arange(N * 4).reshape(N, 4) % 11, Space.tokens(4, 11)),
    ],
)
def test_arrays_have_conditions_of_any_shape(tmp_path: Path, key: str, y: numpy.ndarray, space: Space) -> None:
    numpy.savez(tmp_path / "a.npz", x=X, **{key: y})
    found = data.load(str(tmp_path / "a.npz"))
    assert found.condition == space
    for split in found.splits.values():
        assert split.y is not None
        assert space.check(split.y).dtype == space.dtype
        rows = split.x[:, 0].long()
        assert (split.y.numpy().reshape(len(rows), -1) == y.reshape(N, -1)[rows.numpy()]).all()


@pytest.mark.parametrize("shape", [(), (2,)])
def test_real_conditions_of_arrays_are_standardised(tmp_path: Path, shape: tuple[int, ...]) -> None:
    y = numpy.random.default_rng(0).normal(5, 3, (N, *shape))
    numpy.savez(tmp_path / "a.npz", x=X, condition=y)
    found = data.load(str(tmp_path / "a.npz"))
    assert found.condition is not None
    assert found.train.y is not None
    assert found.condition.shape == shape
    assert found.condition.loc == pytest.approx(numpy.atleast_1d(found.train.y.double().mean(0).numpy()).tolist())
    assert found.condition.scale == pytest.approx(numpy.atleast_1d(found.train.y.double().std(0).numpy()).tolist())


def test_a_condition_is_taken_before_labels_and_texts_are_words(tmp_path: Path) -> None:
    captions = numpy.array([f"a {'red' if k % 2 else 'blue'} one" for k in range(N)])
    numpy.savez(tmp_path / "a.npz", x=X, condition=captions, y=numpy.arange(N))
    found = data.load(str(tmp_path / "a.npz"))
    assert numbers(found) == [(k, str(captions[k])) for k in range(N)]


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (numpy.arange(N - 1), "has 30 examples and 29 conditions"),
        (numpy.full((N, 2), numpy.nan), "holds NaN or infinity"),
        (numpy.full((N, 2), -1), "holds integers from -1 to -1"),
        (numpy.full(N, 1j), "has conditions of type complex128"),
        (numpy.full((N, 2), "a"), "has conditions of type <U1"),
    ],
)
def test_bad_conditions_of_arrays(tmp_path: Path, y: numpy.ndarray, said: str) -> None:
    numpy.savez(tmp_path / "a.npz", x=X, condition=y)
    with pytest.raises(BadInput, match=said):
        data.load(str(tmp_path / "a.npz"))


def test_conditions_of_data_in_memory() -> None:
    y = numpy.random.default_rng(0).integers(0, 2, (N, 3))
    found = data.load(torch.from_numpy(X), y=y.tolist())
    assert found.condition == Space.binary((3,))
    assert found.describe()["condition"]["space"] == {"shape": [3], "kind": "binary", "values": 2}


def test_a_labelled_set_has_its_labels_as_condition() -> None:
    digits = data.load("digits")
    assert digits.condition == Space.categories(10)
    assert digits.labels == tuple("0123456789")
    assert digits.describe()["condition"]["names"] == {"labels": list("0123456789")}
    assert data.load("toy/moons").condition is None


class TestTables:
    """``condition_columns`` of a table are the condition of the others."""

    def loaded(self, folder: Path, columns: str, **options: str) -> Dataset:
        pets = ("dog", "cat", "dog")
        lines = [
            f"{k},{k * 1.5},{pets[k % 3]},{k % 2},{1 - k % 2},2020-02-{k % 28 + 1:02d},{100 + k % 7 if k % 5 else ''}"
            for k in reversed(range(60))
        ]
        (folder / "t.csv").write_text("k,half,pet,odd,even,day,size\n" + "\n".join(lines), encoding="utf-8")
        return data.load(str(folder / "t.csv"), condition_columns=columns, **options)

    @pytest.mark.parametrize(
        ("columns", "space", "written"),
        [
            ("pet", "categories, 2 values", lambda k: ("dog", "cat", "dog")[k % 3]),
            ("odd, even", "binary 2", lambda k: f"odd={k % 2},even={(k + 1) % 2}"),
            ("half", "continuous 1", lambda k: f"half={1.5 * k:.8g}"),
            (
                "day,pet",
                "record of pet, day",
                lambda k: f"pet={('dog', 'cat')[k % 3 == 1]},day=2020-02-{k % 28 + 1:02d}",
            ),
            ("size", "record of size", lambda k: f"size={100 + k % 7}" if k % 5 else ""),
        ],
    )
    def test_they_are_read_in_their_own_types(self, tmp_path: Path, columns: str, space: str, written: Any) -> None:
        """Kills: rows of another order, a level without its offset, a column that stays in x too."""
        found = self.loaded(tmp_path, columns)
        assert str(found.condition) == space
        assert found.condition is not None
        left = [column.name for column in found.columns]
        assert left == [name for name in ("k", "half", "pet", "odd", "even", "day", "size") if name not in columns]
        place = left.index("k")
        for split in found.splits.values():
            assert split.y is not None
            found.condition.check(split.y)
            for x, y in zip(split.x, split.y, strict=True):
                said = written(round(float(x[place])))
                assert decode(y, found.condition, found.names) == said
                again = encode(said, found.condition, found.names)
                assert torch.equal(again.nan_to_num(-1), y.nan_to_num(-1))

    @pytest.mark.parametrize("columns", ["half", "half,pet"])
    def test_they_are_standardised_by_the_training_split(self, tmp_path: Path, columns: str) -> None:
        """A vector and a record. Kills: the moments of all rows, held-out ones too."""
        found = self.loaded(tmp_path, columns)
        assert found.condition is not None
        assert found.train.y is not None
        y = found.train.y[:, 0].double()
        part = dict(found.condition.parts).get("half", found.condition)
        assert part.loc == pytest.approx((float(y.mean()),))
        assert part.scale == pytest.approx((float(y.std()),))

    @pytest.mark.parametrize("columns", ["pet", "odd, even", "half", "day,pet", "size", "half,k"])
    def test_their_columns_have_the_types_of_the_table(self, tmp_path: Path, columns: str) -> None:
        """Kills: dates as integers, levels without their offset, categories as numbers, another order."""
        found, names = self.loaded(tmp_path, columns), tables.names_in(columns)
        assert found.condition is not None
        assert found.train.y is not None
        given = of_condition(found.condition, found.names, names)
        of_table = {column.name: column for column in self.loaded(tmp_path, "").columns}
        y = found.train.y.reshape(len(found.train.y), -1).tolist()
        assert {column.name for column in given} == set(names)
        for column, numbers in zip(given, zip(*y, strict=True), strict=True):
            known = of_table[column.name]
            texts = column.texts_of(numbers)
            if column.type == "real":  # whole numbers of a vector are real
                assert [float(text) for text in texts] == pytest.approx(numbers)
            else:
                assert column == known
                assert [
                    known.texts_of([known.number_of(text, Space.levels((1,), 10**6))])[0] for text in texts
                ] == texts

    def test_what_cannot_be_a_condition(self, tmp_path: Path) -> None:
        with pytest.raises(DgmError, match="no column is called 'pets'; did you mean 'pet'"):
            self.loaded(tmp_path, "pets")
        with pytest.raises(BadInput, match="has no column beside those of the condition"):
            self.loaded(tmp_path, "k,half,pet,odd,even,day,size")

    def test_a_table_in_memory(self, tmp_path: Path) -> None:
        import pyarrow

        table = pyarrow.table({"a": [k / 7 for k in range(30)], "pet": ["cat", "dog"] * 15})
        found = data.load(table, condition_columns="pet")
        assert found.labels == ("cat", "dog")
        assert found.space.shape == (1,)
        with pytest.raises(BadInput, match="are of a table"):
            data.load(torch.zeros(20, 2), condition_columns="pet")
