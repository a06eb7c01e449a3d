"""The published files' formats and splits, from small files written by hand."""

from __future__ import annotations

import gzip
import wave
from pathlib import Path

import numpy
import pytest
import torch

from dgm.data import images, sound
from dgm.data.dataset import Split


def write_idx(path: Path, values: numpy.ndarray) -> None:
    header = bytes([0, 0, 8, values.ndim]) + b"".join(n.to_bytes(4, "big") for n in values.shape)
    path.write_bytes(gzip.compress(header + values.astype(numpy.uint8).tobytes()))


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    """12 images to train on and 3 to test on, of 2 × 3 pixels; each has its number as its first pixel and label."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    for part, n, first in (("train", 12, 0), ("t10k", 3, 100)):
        x = numpy.full((n, 2, 3), 255)
        x[:, 0, 0] = numpy.arange(n) + first
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", x)
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", (numpy.arange(n) + first) % 10)
    return folder


def test_the_last_sixth_of_mnist_validates_and_labels_stay_with_their_images(mnist: Path) -> None:
    found = images.mnist(mnist)
    for split, numbers in ((found.train, range(10)), (found.validation, (10, 11)), (found.test, (100, 101, 102))):
        assert split.x[:, 0, 0, 0].tolist() == list(numbers)
        assert split.y is not None
        assert split.y.tolist() == [number % 10 for number in numbers]
    assert found.space.shape == (1, 2, 3)
    assert found.space.values == 256


def test_dynamic_mnist_draws_held_out_images_once_under_its_seed(mnist: Path) -> None:
    found, grey = images.dynamic_mnist(mnist), images.mnist(mnist)
    generator = torch.Generator().manual_seed(1)
    for name in ("validation", "test"):  # in this order
        drawn = torch.rand(grey.splits[name].x.shape, generator=generator)
        assert torch.equal(found.splits[name].x, (255 * drawn < grey.splits[name].x).to(torch.uint8))
    first, again = (found.train.batch(torch.arange(10), torch.Generator().manual_seed(k))[0] for k in (3, 3))
    assert torch.equal(first, again)
    assert (first[:, 0, 1:] == 1).all()


def test_black_is_never_drawn_white(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even by a random number that is 0."""
    monkeypatch.setattr(torch, "rand", lambda *shape, generator=None: torch.zeros(*shape))
    assert images.binarise(torch.tensor([[0, 1]], dtype=torch.uint8)).tolist() == [[0, 1]]


def test_cifars_batches_are_labels_and_planes(tmp_path: Path) -> None:
    """Two pictures a batch, whose label is the batch's number and whose red, green and blue are told apart."""
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for k, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        rows = numpy.zeros((2, 3073), numpy.uint8)
        rows[:, 0] = k
        rows[:, 1:1025], rows[:, 1025:2049], rows[:, 2049:] = 10, 20, 30
        rows[:, 1 + 32 * 5 + 7] = 99  # red, in row 5 and column 7
        (folder / f"{name}.bin").write_bytes(rows.tobytes())
    found = images.cifar10(tmp_path)
    labels = [split.y.tolist() for split in found.splits.values() if split.y is not None]
    assert labels == [[0, 0, 1, 1, 2, 2, 3, 3], [4, 4], [5, 5]]
    expected = torch.tensor([10, 20, 30], dtype=torch.uint8)[:, None, None].repeat(1, 32, 32)
    expected[0, 5, 7] = 99
    assert torch.equal(found.train.x[3], expected)


def test_spoken_digits_are_split_by_take_and_labelled_by_name(tmp_path: Path) -> None:
    takes = (0, 4, 5, 9, 10, 49)
    for digit in (3, 7):
        for speaker in ("ann", "bob"):
            for take in takes:
                with wave.open(str(tmp_path / f"{digit}_{speaker}_{take}.wav"), "wb") as file:
                    file.setparams((1, 2, 8000, 0, "NONE", ""))
                    file.writeframes(numpy.full(800, 1000 * digit, "<i2").tobytes())
    digits, speakers = sound.fsdd(tmp_path), sound.fsdd_speakers(tmp_path)
    assert [len(split) for split in digits.splits.values()] == [8, 8, 8]
    assert (digits.labels, speakers.labels) == (("3", "7"), ("ann", "bob"))
    assert digits.space.shape == (1, 4000)  # half a second at 8 kHz
    quiet, loud = (int(sound.compress(numpy.array(1000 * digit / 2**15))) for digit in (3, 7))
    for split in digits.splits.values():
        assert split.y is not None
        assert split.x[:, 0, 799].tolist() == [(quiet, loud)[label] for label in split.y.tolist()]
        assert (split.x[:, 0, 800:] == 128).all()  # silence
    assert speakers.test.y is not None
    assert speakers.test.y.bincount().tolist() == [4, 4]


def test_a_transform_gets_the_generator_that_it_is_given() -> None:
    seen = []
    split = Split(
        torch.arange(5), torch.arange(5) * 2, transform=lambda x, generator: (seen.append(generator), x + 1)[1]
    )
    generator = torch.Generator()
    x, y = split.batch(torch.tensor([4, 0]), generator)
    assert seen == [generator]
    assert (x.tolist(), y.tolist() if y is not None else None) == ([5, 1], [8, 0])
