"""Sound: companding against its formula, PCM of every width, resampling, and what is refused."""

from __future__ import annotations

import math
import wave
from pathlib import Path

import numpy
import pytest
import torch

from dgm import data
from dgm.data import sound
from dgm.errors import BadInput


def tone(frequency: float, seconds: float, rate: int, loudness: float = 0.5) -> numpy.ndarray:
    return loudness * numpy.sin(2 * math.pi * frequency * numpy.arange(round(seconds * rate)) / rate)


def save(path: Path, x: numpy.ndarray, rate: int, width: int = 2, channels: int = 1) -> None:
    scaled = numpy.repeat((x * (2 ** (8 * width - 1) - 1)).round().astype(numpy.int64), channels)
    if width == 1:
        raw = (scaled + 128).astype(numpy.uint8).tobytes()
    else:
        raw = scaled.astype("<i8").view(numpy.uint8).reshape(-1, 8)[:, :width].tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(raw)


def test_companding_is_the_formula_and_comes_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(torch.from_numpy(sound.compress(sound.expand(levels))), levels)
    x = numpy.linspace(-1, 1, 4001)
    f = numpy.sign(x) * numpy.log(1 + 255 * numpy.abs(x)) / math.log(256)
    back = sound.expand(torch.from_numpy(sound.compress(x)))
    again = numpy.sign(back) * numpy.log(1 + 255 * numpy.abs(back)) / math.log(256)
    assert numpy.abs(again - f).max() <= 1 / 255 + 1e-9, "off by more than half a level"
    assert sound.compress(numpy.array([-1.0, 0.0, 1.0])).tolist() == [0, 128, 255]


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_width_is_read(width: int, channels: int, tmp_path: Path) -> None:
    x = tone(440, 0.1, 8000)
    save(tmp_path / "a.wav", x, 8000, width, channels)
    assert numpy.abs(sound.read(tmp_path / "a.wav", 8000) - x).max() < 1.01 / 2 ** (8 * width - 1)


@pytest.mark.parametrize("rate", [11025, 16000, 44100])
def test_resampling_keeps_a_tone(rate: int, tmp_path: Path) -> None:
    save(tmp_path / "a.wav", tone(1000, 0.5, rate), rate)
    x = sound.read(tmp_path / "a.wav", 8000)
    assert abs(len(x) - 4000) <= 1
    loudest = numpy.abs(numpy.fft.rfft(x * numpy.hanning(len(x)))).argmax() * 8000 / len(x)
    assert abs(loudest - 1000) < 5
    assert abs(numpy.sqrt((x[500:-500] ** 2).mean()) - 0.5 / math.sqrt(2)) < 0.01


def test_channels_are_averaged_and_resampling_stays_in_bounds(tmp_path: Path) -> None:
    left, right = tone(440, 0.1, 8000), tone(700, 0.1, 8000)
    both = (numpy.stack([left, right], 1) * 32767).round().astype("<i2")
    square = (numpy.sign(tone(50, 0.5, 16000)) * 32767).astype("<i2")
    for name, channels, rate, samples in (("both", 2, 8000, both), ("square", 1, 16000, square)):
        with wave.open(str(tmp_path / f"{name}.wav"), "wb") as file:
            file.setparams((channels, 2, rate, 0, "NONE", ""))
            file.writeframes(samples.tobytes())
    assert numpy.abs(sound.read(tmp_path / "both.wav", 8000) - (left + right) / 2).max() < 1e-4
    assert numpy.abs(sound.read(tmp_path / "square.wav", 8000)).max() <= 1  # its edges ring beyond


def test_a_recording_at_another_rate_is_as_many_pieces_as_its_time(tmp_path: Path) -> None:
    """Of half a second at 8 kHz, where nothing else is asked; the last is filled up with silence."""
    for k in range(10):
        save(tmp_path / f"{k}.wav", tone(300, 1.2, 16000), 16000)
    dataset = data.load(str(tmp_path))
    assert (dataset.space.shape, dataset.rate) == ((1, 4000), 8000)
    assert [len(split) for split in dataset.splits.values()] == [24, 3, 3]
    third = dataset.train.x[2, 0]
    assert (third[1700:] == 128).all()
    assert (third[:1500] != 128).double().mean() > 0.9


def test_a_folder_is_cut_and_labelled(tmp_path: Path) -> None:
    for k in range(12):
        save(tmp_path / ("low" if k % 2 else "high") / f"{k}.wav", tone(100 + 50 * k, 0.25 + 0.05 * k, 8000), 8000)
    dataset = data.load(str(tmp_path), seconds=0.2)
    assert dataset.space.shape == (1, 1600)
    assert dataset.labels == ("high", "low")
    assert dataset.describe()["rate"] == 8000
    pieces = sum(math.ceil(round((0.25 + 0.05 * k) * 8000) / 1600) for k in range(12))
    assert sum(len(split) for split in dataset.splits.values()) == pieces
    assert all(len(split) for split in dataset.splits.values())
    x = torch.cat([split.x for split in dataset.splits.values()])
    assert x.dtype == torch.uint8
    assert (x[:, 0, 0] != 128).sum() < len(x), "no piece begins in silence or at a crossing"


def test_all_pieces_of_a_recording_are_in_one_split_under_its_label(tmp_path: Path) -> None:
    """Recordings of constant levels and of different lengths. Kills: splits that cut a recording, labels of others."""
    for k in range(12):
        save(tmp_path / ("low" if k % 2 else "high") / f"{k}.wav", numpy.full(1000 * (k + 1), (k + 1) / 16), 8000)
    expected = {int(sound.compress(numpy.array((k + 1) / 16))): ("low" if k % 2 else "high", k) for k in range(12)}
    dataset = data.load(str(tmp_path), seconds=0.1)
    seen = []
    for split in dataset.splits.values():
        assert split.y is not None
        found = [expected[level] for level in split.x[:, 0, 0].tolist()]
        assert [dataset.labels[label] for label in split.y] == [label for label, _ in found]
        seen += sorted({k for _, k in found})
        assert all(sum(k == other for _, other in found) == math.ceil(1000 * (k + 1) / 800) for _, k in found)
    assert sorted(seen) == list(range(12))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    levels = torch.randint(256, (1, 500))
    sound.write(levels, 8000, tmp_path / "x.wav")
    assert torch.equal(torch.from_numpy(sound.compress(sound.read(tmp_path / "x.wav", 8000))).long(), levels[0])


def test_what_is_refused(tmp_path: Path) -> None:
    for k in range(12):
        save(tmp_path / f"{k}.wav", tone(300, 0.3, 8000), 8000)
    with pytest.raises(BadInput, match="expected at least 16"):
        data.load(str(tmp_path), seconds=0.001)
    whole = (tmp_path / "3.wav").read_bytes()
    (tmp_path / "3.wav").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match=r"3\.wav ends after \d+ of \d+ bytes"):
        data.load(str(tmp_path))
    (tmp_path / "3.wav").write_bytes(b"RIFF")
    with pytest.raises(BadInput, match=r"3\.wav cannot be read as PCM sound: it ends too early"):
        data.load(str(tmp_path))


def test_spoken_digits(data_root: Path) -> None:
    dataset = data.load("fsdd", root=data_root)
    assert [len(split) for split in dataset.splits.values()] == [2400, 300, 300]
    assert dataset.test.y is not None
    assert dataset.test.y.bincount().tolist() == [30] * 10
    assert len(data.load("fsdd_speakers", root=data_root).labels) == 6
