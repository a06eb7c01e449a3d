"""Arrays of one's own: their shapes, kinds, moments and splits, value by value."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch

from dgm import data
from dgm.data import Dataset, arrays, order
from dgm.errors import BadInput
from dgm.space import Space


def loaded(folder: Path, **named: numpy.ndarray) -> Dataset:
    numpy.savez(folder / "a.npz", **named)
    return data.load(str(folder / "a.npz"))


def numbered(n: int, first: int = 0) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Images of 2 × 5 pixels that hold their number, and labels that follow from it."""
    k = numpy.arange(first, first + n)
    return numpy.broadcast_to(k[:, None, None], (n, 2, 5)).astype(numpy.uint8), k * 7 % 3


def agree(dataset: Dataset) -> bool:
    """Whether each label is still that of its image."""
    return all(
        split.y is not None and torch.equal(split.y, split.x.flatten(1)[:, 0].long() * 7 % 3)
        for split in dataset.splits.values()
    )


def test_one_array_is_split_in_a_seeded_order_with_its_labels(tmp_path: Path) -> None:
    x, y = numbered(50)
    found = loaded(tmp_path, x=x, y=y)
    assert [len(split) for split in found.splits.values()] == [40, 5, 5]
    everything = torch.cat([split.x for split in found.splits.values()])[:, 0, 0, 0]
    assert torch.equal(everything, data.order(50, 0, 0).to(torch.uint8))
    assert agree(found)


@pytest.mark.parametrize("given", [True, False])
def test_splits_that_are_there_are_kept_and_a_tenth_of_training_validates_where_none_does(
    tmp_path: Path, given: bool
) -> None:
    (x, y), (v, w), (t, u) = numbered(50), numbered(10, 60), numbered(20, 80)
    parts = {"x_train": x, "y_train": y, "x_test": t, "y_test": u}
    found = loaded(tmp_path, **parts, **({"x_validation": v, "y_validation": w} if given else {}))
    sizes = [50, 10, 20] if given else [45, 5, 20]
    assert [len(split) for split in found.splits.values()] == sizes
    assert agree(found)
    first = [split.x[:, 0, 0, 0].tolist() for split in found.splits.values()]
    assert first[2] == list(range(80, 100))
    if given:
        assert first[:2] == [list(range(50)), list(range(60, 70))]
    else:
        assert first[0] + first[1] == data.order(50, 0, 0).tolist()


def test_channels_come_first() -> None:
    grey, colour = numpy.random.default_rng(0).random((10, 4, 6)), numpy.random.default_rng(0).random((10, 4, 6, 3))
    assert (arrays.channels_first(grey) == grey.reshape(10, 1, 4, 6)).all()
    assert (arrays.channels_first(colour) == colour.transpose(0, 3, 1, 2)).all()
    one = colour[..., :1]
    assert (arrays.channels_first(one) == one.transpose(0, 3, 1, 2)).all()
    planes = colour.transpose(0, 3, 1, 2)
    assert arrays.channels_first(planes) is planes
    narrow = colour[:, :3, :, :]  # (10, 3, 6, 3): three planes as it stands
    assert arrays.channels_first(narrow) is narrow
    assert arrays.channels_first(grey[0]) is not None


@pytest.mark.parametrize(
    ("high", "dtype", "space"),
    [
        (1, numpy.uint8, Space.binary((3,))),
        (2, numpy.uint8, Space.levels((3,), 256)),
        (2, numpy.int64, Space.levels((3,), 3)),
        (300, numpy.int32, Space.levels((3,), 301)),
    ],
)
def test_integers_are_levels_up_to_the_greatest(tmp_path: Path, high: int, dtype: type, space: Space) -> None:
    x = numpy.zeros((20, 3), dtype)
    x[7, 1] = high
    assert loaded(tmp_path, x=x).space == space


def test_how_many_levels_there_may_be(tmp_path: Path) -> None:
    x = numpy.zeros((20, 3), numpy.int64)
    x[0, 0] = 65_535
    assert loaded(tmp_path, x=x).space.values == 65_536
    for wrong in (65_536, -1):
        x[0, 0] = wrong
        with pytest.raises(BadInput, match="expected levels from 0 to 65535"):
            loaded(tmp_path, x=x)


def test_vectors_are_standardised_by_the_training_splits_moments_and_images_have_bounds(tmp_path: Path) -> None:
    x = numpy.random.default_rng(0).normal([5, -2, 4], [3, 0.1, 1], (40, 3)).astype(numpy.float32)
    found = loaded(tmp_path, x=x)
    train = found.train.x.double()
    assert len(train) == 32
    torch.testing.assert_close(torch.tensor(found.space.loc).double(), train.mean(0))
    torch.testing.assert_close(torch.tensor(found.space.scale).double(), train.std(0))
    pictures = loaded(tmp_path, x=x.reshape(10, 3, 4))
    assert pictures.space.shape == (1, 3, 4)
    assert pictures.space.bounds == (float(x.min()), float(x.max()))


def test_a_column_that_never_changes_is_refused(tmp_path: Path) -> None:
    """Its density has no bound. One that changes in a held-out row alone is not standardised."""
    x = numpy.random.default_rng(0).normal(size=(100, 3))
    x[:, 1] = 2.5
    with pytest.raises(BadInput, match=r"column 1 of x never changes, it is 2\.5 in every row; leave it out"):
        loaded(tmp_path, x=x)
    held_out = int(order(100, 0, 0)[-1])
    x[held_out, 1] = 3
    assert loaded(tmp_path, x=x).space.scale[1] == 1


def test_nan_is_named_by_its_place_in_the_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "BLOCK_BYTES", 4 * 8)
    x = numpy.zeros((20, 1, 1))
    x[13, 0, 0] = numpy.inf
    with pytest.raises(BadInput, match=r"\(13, 0, 0, 0\)"):
        loaded(tmp_path, x=x)


def test_limits_are_those_of_all_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read four rows at a time. Kills: the limits of the last block; a byte for 256."""
    monkeypatch.setattr(arrays, "BLOCK_BYTES", 8)
    x = numpy.full((20, 2), 7, numpy.int16)[:, None]
    x[0, 0, 0], x[5, 0, 1] = 256, 0
    found = loaded(tmp_path, x=x)
    assert found.space.values == 257
    assert max(int(split.x.max()) for split in found.splits.values()) == 256


def test_a_column_that_changes_only_at_first_is_not_constant(tmp_path: Path) -> None:
    """Columns are looked at in blocks of 65,536 rows. Kills: the last block's answer for all."""
    x = torch.zeros(70_000, 2)
    x[1] = 1
    x[-5:, 1] = 2
    arrays.refuse_constant(tmp_path, x)
    x[:, 1] = 3
    with pytest.raises(BadInput, match="column 1 of x never changes, it is 3"):
        arrays.refuse_constant(tmp_path, x)


def test_a_column_that_is_constant_in_the_training_split_has_a_scale_of_one(tmp_path: Path) -> None:
    train = numpy.stack([numpy.full(20, 3.0), numpy.arange(20.0)], 1).astype(numpy.float32)
    space = loaded(tmp_path, x_train=train, x_validation=train, x_test=train + 1).space
    assert space.loc == (3.0, 9.5)
    assert space.scale == pytest.approx((1.0, train[:, 1].std(ddof=1)))


def test_one_real_number_each_is_a_vector_and_one_whole_number_a_label(tmp_path: Path) -> None:
    x, y = numbered(20)
    assert loaded(tmp_path, x=x, y=y[:, None].astype(numpy.float32)).condition.shape == (1,)
    assert loaded(tmp_path, x=x, y=y[:, None]).condition == Space.categories(3)
