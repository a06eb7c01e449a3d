"""The user's own data: read right, refused right."""

from __future__ import annotations

from pathlib import Path

import numpy
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from dgm import data
from dgm.cli.against import data_set
from dgm.errors import BadInput, UnknownName


def write_images(folder: Path, n: int = 20, size: tuple[int, int] = (8, 8), mode: str = "L") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(n):
        values = numpy.random.default_rng(k).integers(0, 256, (*size, 3) if mode == "RGB" else size).astype(numpy.uint8)
        Image.fromarray(values).save(folder / f"{k:03d}.png")


def everything(dataset: data.Dataset) -> torch.Tensor:
    return torch.cat([split.x for split in dataset.splits.values()])


class TestFolder:
    def test_pixels_are_the_files(self, tmp_path: Path) -> None:
        write_images(tmp_path / "a")
        write_images(tmp_path / "b", 10)
        found = data.load(str(tmp_path))
        assert found.space == data.load(str(tmp_path)).space
        assert str(found.space) == "levels 1×8×8, 256 values"
        assert found.labels == ("a", "b")
        assert (len(found.train), len(found.validation), len(found.test)) == (24, 3, 3)
        wanted = {numpy.asarray(Image.open(f)).tobytes() for f in tmp_path.rglob("*.png")}
        assert {image.numpy().tobytes() for image in everything(found)} == wanted
        in_order = [Image.open(sorted(tmp_path.rglob("*.png"))[k]) for k in data.order(30, 0, 0).tolist()]
        assert [image.numpy().tobytes() for image in everything(found)] == [image.tobytes() for image in in_order]

    def test_colour_any_size_and_grey(self, tmp_path: Path) -> None:
        write_images(tmp_path, 10, (40, 64), "RGB")
        write_images(tmp_path / "more", 10, (90, 33), "L")
        assert data.load(str(tmp_path)).space.shape == (3, 32, 32)
        assert data.load(str(tmp_path), size=16, grey=True).space.shape == (1, 16, 16)

    def test_a_crop_is_from_the_centre(self, tmp_path: Path) -> None:
        wide = numpy.zeros((8, 24), numpy.uint8)
        wide[:, 8:16] = 200
        for k in range(10):
            Image.fromarray(wide).save(tmp_path / f"{k}.png")
        assert (everything(data.load(str(tmp_path), size=8)) == 200).all()
        small = data.load(str(tmp_path), size=4)
        assert small.space.shape == (1, 4, 4)
        halved = everything(small).double()  # with what Lanczos's window rings at both edges alike
        assert torch.equal(halved, halved.flip(3))
        assert (halved - 200).abs().max() < 12

    def test_sixteen_bits_become_eight(self, tmp_path: Path) -> None:
        """65,535 is white, and k / 257 is rounded."""
        values = numpy.array([[0, 257, 65_535, 128], [129, 300, 65_406, 2570]], numpy.uint16).repeat(4, 0)
        for k in range(10):
            Image.fromarray(values.repeat(2, 1)).save(tmp_path / f"{k}.png")
        expected = [[0, 1, 255, 0], [1, 1, 254, 10]]
        found = everything(data.load(str(tmp_path)))[0, 0]
        assert found[::4, ::2].tolist() == expected

    def test_a_picture_taken_upright_stands_upright(self, tmp_path: Path) -> None:
        """Orientation 6: turned by a quarter to the right when shown. Orientations below 5 keep width and height."""
        for orientation, shape in ((6, (1, 16, 8)), (5, (1, 16, 8)), (3, (1, 8, 16))):
            folder = tmp_path / str(orientation)
            folder.mkdir()
            for k in range(10):
                values = numpy.zeros((8, 16), numpy.uint8)
                values[:, 8:] = 200
                picture = Image.fromarray(values)
                exif = picture.getexif()
                exif[0x0112] = orientation
                picture.save(folder / f"{k}.jpg", exif=exif, quality=100)
            found = data.load(str(folder))
            assert found.space.shape == shape
            upper = found.train.x[0, 0, :4, :4].double().mean().item()
            assert upper == pytest.approx(200 if orientation == 3 else 0, abs=3)

    def test_the_shorter_side_is_resized_and_the_centre_kept_both_ways(self, tmp_path: Path) -> None:
        for name, size in (("wide", (8, 24)), ("tall", (24, 8))):
            folder = tmp_path / name
            folder.mkdir()
            picture = numpy.zeros(size, numpy.uint8)
            picture[tuple(slice(side // 3, 2 * side // 3) if side == 24 else slice(None) for side in size)] = 200
            for k in range(10):
                Image.fromarray(picture.repeat(4, 0).repeat(4, 1)).save(folder / f"{k}.png")
            found = everything(data.load(str(folder), size=16)).double()
            assert found.shape[1:] == (1, 16, 16)
            assert (found[..., 3:-3, 3:-3] == 200).all()  # but for what Lanczos's window rings at the edges

    def test_an_image_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        write_images(tmp_path)
        (tmp_path / "torn.png").write_bytes((tmp_path / "000.png").read_bytes()[:30])
        with pytest.raises(BadInput, match=r"torn\.png cannot be read"):
            data.load(str(tmp_path))

    def test_too_large_for_memory_is_mapped(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_images(tmp_path)
        whole = everything(data.load(str(tmp_path)))
        monkeypatch.setattr("dgm.data.storage.SHARE_OF_MEMORY", 0.0)
        assert torch.equal(everything(data.load(str(tmp_path))), whole)

    def test_arrays_in_memory_that_are_mapped_do_not_share_a_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Kills: a file whose name does not depend on the numbers or on the seed of the splits."""
        monkeypatch.setattr("dgm.data.storage.SHARE_OF_MEMORY", 0.0)
        first, second, seeded = (
            data.load(numpy.full((20, 2), k) + numpy.arange(20)[:, None], seed=s) for k, s in ((0, 0), (5, 0), (0, 1))
        )
        assert torch.equal(second.train.x, first.train.x + 5)
        assert not torch.equal(seeded.train.x, first.train.x)

    def test_empty_and_unknown_options(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match="holds 0 images"):
            data.load(str(tmp_path))
        write_images(tmp_path)
        with pytest.raises(UnknownName, match="did you mean 'size'"):
            data.load(str(tmp_path), sise=3)

    def test_a_folder_of_other_things_is_left_before_all_is_looked_at(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As a disk's root is. Kills: a share of what was found, and not of all that was seen."""
        write_images(tmp_path / "images", 12)
        for k in range(30):
            (tmp_path / f"{k}.txt").touch()
        monkeypatch.setattr("dgm.data.walk.LOOKED_AT", 100)
        assert len(data.load(str(tmp_path)).train) == 10  # 12 of 42 are a tenth and more
        for k in range(30, 200):
            (tmp_path / f"{k}.txt").touch()
        with pytest.raises(BadInput, match="holds more than 100 files, of which"):
            data.load(str(tmp_path))


class TestMoments:
    def test_vectors_are_standardised_by_the_training_splits_moments_and_images_by_their_bounds(
        self, tmp_path: Path
    ) -> None:
        """Kills: a variance for a standard deviation, moments of all splits."""
        drawn = numpy.random.default_rng(0).normal([100, -3, 7], [20, 0.1, 1], (200, 3))
        numpy.save(tmp_path / "rows.npy", drawn)
        found = data.load(str(tmp_path / "rows.npy"))
        x = found.train.x.double()
        assert found.space.loc == pytest.approx(x.mean(0).tolist())
        assert found.space.scale == pytest.approx(x.std(0).tolist())
        numpy.save(tmp_path / "images.npy", drawn.astype(numpy.float32).reshape(50, 1, 3, 4))
        low, high = float(drawn.astype(numpy.float32).min()), float(drawn.astype(numpy.float32).max())
        assert data.load(str(tmp_path / "images.npy")).space.bounds == (low, high)


class TestTables:
    def test_raw_values_and_the_spaces_moments(self, tmp_path: Path) -> None:
        rows = numpy.random.default_rng(0).normal([100, -3], [20, 0.1], (50, 2))
        path = tmp_path / "t.csv"
        numpy.savetxt(path, rows, delimiter=",", header="height,tilt", comments="")
        found = data.load(str(path))
        assert len(found.train) == 40
        torch.testing.assert_close(torch.tensor(found.space.loc), found.train.x.mean(0), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(torch.tensor(found.space.scale), found.train.x.std(0), rtol=1e-5, atol=1e-5)
        assert sorted(everything(found)[:, 0].tolist()) == pytest.approx(sorted(rows[:, 0]), rel=1e-5)
        table = pyarrow.table({"height": rows[:, 0], "tilt": rows[:, 1]})
        pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
        assert torch.equal(data.load(str(tmp_path / "t.parquet")).train.x, found.train.x)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("a,b\n1,2\n3\n", "Row #3: Expected 2 columns, got 1"),
            ("a,b\n" + "1,2\n" * 20 + "3,inf\n", "column 'b' holds inf in row 22, expected a number that float32"),
            ("a,b\n" + "1,1e39\n2,1\n" * 20, "column 'b' holds 1e\\+39 in row 2"),
            ("", "is empty"),
            ("a,b\n" + "1,2\n" * 20, "column 'a' never changes"),
            ("a\n1\n2\n", "has 2 rows, expected at least 10"),
            ("a\n1\n", "has 1 row, expected at least 10"),
            ("a,a\n" + "1,2\n" * 20, "two columns named 'a'"),
            ("a,b\n" + ",2\n" * 20, "column 'a' holds nothing"),
            ("a" * 101 + "\n" + "1\n2\n" * 20, "a name of 101 characters"),
        ],
    )
    def test_what_is_wrong_is_named(self, tmp_path: Path, text: str, said: str) -> None:
        (tmp_path / "t.csv").write_text(text, encoding="utf-8")
        with pytest.raises(BadInput, match=said):
            data.load(str(tmp_path / "t.csv"))


class TestArrays:
    def test_kinds_of_space(self, tmp_path: Path) -> None:
        generator = numpy.random.default_rng(0)
        for array, kind in (
            (generator.integers(0, 2, (30, 4)), "binary 4"),
            (generator.integers(0, 256, (30, 1, 4, 4)).astype(numpy.uint8), "levels 1×4×4, 256 values"),
            (generator.normal(size=(30, 3)), "continuous 3"),
        ):
            numpy.save(tmp_path / "a.npy", array)
            assert str(data.load(str(tmp_path / "a.npy")).space) == kind
        numpy.savez(tmp_path / "a.npz", x=array, y=numpy.arange(30) % 3)
        assert data.load(str(tmp_path / "a.npz")).labels == ("0", "1", "2")

    @pytest.mark.parametrize(
        "names",
        [
            "x_train y_train x_validation y_validation x_test y_test",
            "train_images train_labels val_images val_labels test_images test_labels",
            "X_train Y_train X_valid Y_valid X_test Y_test",
            "train labels_train valid labels_valid test labels_test",
        ],
    )
    def test_other_names_of_the_same_arrays(self, tmp_path: Path, names: str) -> None:
        """Kills: a split or a letter taken for another, labels beside another split's examples."""
        x = [
            numpy.full((n, 2), value, numpy.uint8) + numpy.arange(n)[:, None]
            for n, value in ((20, 0), (3, 50), (4, 90))
        ]
        y = [part[:, :1] // 2 for part in x]  # a column, as some files have them
        arrays = [array for pair in zip(x, y, strict=True) for array in pair]
        numpy.savez(tmp_path / "a.npz", **dict(zip(names.split(), arrays, strict=True)), extra=numpy.zeros(3))
        found = data.load(str(tmp_path / "a.npz"))
        for part, wanted in zip(found.splits.values(), x, strict=True):
            assert (part.x.numpy() == wanted).all()
            assert [found.labels[k] for k in part.y.tolist()] == [str(row // 2) for row in wanted[:, 0]]

    def test_one_array_under_other_names(self, tmp_path: Path) -> None:
        x = numpy.random.default_rng(0).normal(size=(30, 3))
        numpy.savez(tmp_path / "x.npz", x=x, y=numpy.arange(30) % 3)
        wanted = data.load(str(tmp_path / "x.npz"))
        for names in (("X", "y"), ("images", "labels"), ("data", "target")):
            numpy.savez(tmp_path / "a.npz", **dict(zip(names, (x, numpy.arange(30) % 3), strict=True)))
            found = data.load(str(tmp_path / "a.npz"))
            assert torch.equal(everything(found), everything(wanted))
            assert torch.equal(found.train.y, wanted.train.y)

    @pytest.mark.parametrize(
        ("names", "wrong"),
        [
            ("X images", "holds 'x' under two names, 'X' and 'images'"),
            ("x X", "holds 'x' under two names, 'x' and 'X'"),
            ("images x", "holds 'x' under two names, 'images' and 'x'"),
            ("x y labels", "holds 'condition' under two names, 'y' and 'labels'"),
            ("x_train x_test test", "holds 'x_test' under two names, 'x_test' and 'test'"),
            ("x x_train x_test", "holds 'x', of all examples, and 'x_train', of one split"),
            ("x y_train", "holds 'x', of all examples, and 'condition_train', of one split"),
            ("x_train x_test y", "holds 'condition', of all examples, and 'x_train', of one split"),
        ],
    )
    def test_no_array_is_left_out_for_another(self, tmp_path: Path, names: str, wrong: str) -> None:
        numpy.savez(tmp_path / "a.npz", **dict.fromkeys(names.split(), numpy.arange(30)[:, None] % 2))
        with pytest.raises(BadInput, match=wrong):
            data.load(str(tmp_path / "a.npz"))

    def test_no_pickle_is_read(self, tmp_path: Path) -> None:
        numpy.save(tmp_path / "a.npy", numpy.array([{}] * 20, dtype=object))
        with pytest.raises(BadInput, match="cannot be read as an array"):
            data.load(str(tmp_path / "a.npy"))

    def test_nan_and_nonsense(self, tmp_path: Path) -> None:
        bad = numpy.zeros((20, 2))
        bad[3, 1] = numpy.nan
        numpy.save(tmp_path / "a.npy", bad)
        with pytest.raises(BadInput, match=r"NaN or infinity at \(3, 1\)"):
            data.load(str(tmp_path / "a.npy"))
        numpy.savez(tmp_path / "a.npz", z=bad)
        with pytest.raises(BadInput, match="neither 'x' nor"):
            data.load(str(tmp_path / "a.npz"))
        (tmp_path / "t.npy").write_text("no array", encoding="utf-8")
        with pytest.raises(BadInput, match="cannot be read"):
            data.load(str(tmp_path / "t.npy"))


def test_a_command_without_types_does_not_ask_for_them(tmp_path: Path) -> None:
    """As `dgm evaluate --against` and `--anomaly`."""
    (tmp_path / "ids.csv").write_text("id,x\n" + "".join(f"{k},{k % 7}\n" for k in range(200)), encoding="utf-8")
    with pytest.raises(BadInput, match="--types"):
        data.load(tmp_path / "ids.csv")
    with pytest.raises(BadInput, match=r"'id' numbers the rows .*; leave the column out of the file") as found:
        data_set(str(tmp_path / "ids.csv"))
    assert "--types" not in str(found.value)
    assert data_set("digits").name == "digits"
    with pytest.raises(UnknownName, match="did you mean 'digits'"):
        data_set("digts")


def test_names_and_paths_that_are_not() -> None:
    with pytest.raises(UnknownName, match="did you mean 'mnist'"):
        data.load("mnits")
    with pytest.raises(BadInput, match="no file or folder"):
        data.load("./nowhere.csv")
    with pytest.raises(UnknownName, match="option of the data set digits"):
        data.load("digits", size=3)


def test_own_data_is_loaded_again_from_its_description(tmp_path: Path) -> None:
    write_images(tmp_path, 12, (9, 9), "RGB")
    found = data.load(str(tmp_path), size=8, grey=True, seed=5)
    described = found.describe()
    again = data.load(described["name"], **described["options"])
    assert again.describe() == described
    assert torch.equal(again.test.x, found.test.x)
