r"""Sound as levels: the user's own folder of .wav files, and spoken digits.

Samples in [-1, 1] are companded to 256 levels, as in telephony, so that quiet samples are quantised more finely:

.. math:: f(x) = sign(x) \frac{\ln(1 + \mu |x|)}{\ln(1 + \mu)}, \quad \mu = 255

Source: WaveNet (van den Oord et al., 2016), arXiv:1609.03499, section 2.2; ITU-T G.711.
"""

from __future__ import annotations

import io
import math
import struct
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy
import torch
from scipy.signal import resample_poly
from torch import Tensor

from dgm.data import walk
from dgm.data.dataset import Conditions, Dataset, Split, consecutive, labelled, shuffled
from dgm.data.storage import stamp, stored
from dgm.errors import BadInput
from dgm.inputs import how_many
from dgm.memory import refuse_too_large
from dgm.space import Space

MU = 255
LEVELS = 256
RATE = 8000
SECONDS = 0.5
HIGHEST_RATE = 768_000
LONGEST = 3600
DIGITS = tuple("0123456789")


def compress(x: numpy.ndarray) -> numpy.ndarray:
    """The levels, uint8, of samples in [-1, 1]."""
    f = numpy.sign(x) * numpy.log1p(MU * numpy.abs(x)) / math.log1p(MU)
    return numpy.floor((f + 1) / 2 * (LEVELS - 1) + 0.5).astype(numpy.uint8)


def expand(levels: Tensor) -> numpy.ndarray:
    """The samples in [-1, 1], float64, of levels."""
    f = 2 * levels.double().numpy() / (LEVELS - 1) - 1
    return numpy.sign(f) * numpy.expm1(numpy.abs(f) * math.log1p(MU)) / MU


def load(path: Path, *, seconds: float = SECONDS, rate: int = RATE, seed: int = 0) -> Dataset:
    """Pieces of ``seconds`` of a folder of .wav files, mono at ``rate``; the labels are the names of the subfolders.

    A recording is cut into pieces, and the last piece is padded with silence. All pieces of a recording are in the same
    split.

    Raises:
        BadInput: If a file cannot be read, with its name.
    """
    files = recordings(path)
    length = length_of(seconds, rate)
    if len(files) < 10:
        raise BadInput(f"{path} holds {how_many(len(files), '.wav file')}, expected at least 10", "give more")
    rows, sizes = shuffled(len(files), seed)
    files = [files[row] for row in rows.tolist()]
    counts = [math.ceil(duration(file, rate) / length) for file in files]
    x = stored(
        (sum(counts), 1, length),
        "uint8",
        lambda out: fill(out, files, counts, rate),
        stamp(path, files, (1, length, rate)),
    )
    names = [str(file.parent.relative_to(path)) for file in files]
    labels = tuple(sorted(set(names))) if len(set(names)) > 1 else ()
    y = torch.tensor([labels.index(name) for name in names]).repeat_interleave(torch.tensor(counts)) if labels else None
    conditions = None if y is None else Conditions.of_labels(y, labels)
    ends = numpy.cumsum([0, *counts])[numpy.cumsum([0, *sizes.values()])]
    pieces = {name: int(b - a) for name, a, b in zip(sizes, ends, ends[1:], strict=False)}
    split = f"recordings 80 / 10 / 10 %, seed {seed}"
    return Dataset(
        name=str(path),
        space=Space.levels((1, length), LEVELS),
        split=split,
        rate=rate,
        **consecutive(x, conditions, pieces),
    )


def fsdd(folder: Path, *, seconds: float = SECONDS) -> Dataset:
    """The free spoken digit dataset: the first ``seconds`` of each recording, padded with silence.

    Takes 0 to 4 of each speaker and digit are the test split, as its authors define it; takes 5 to 9 are the validation
    split.
    """
    return spoken(folder, seconds, by=0)


def fsdd_speakers(folder: Path, *, seconds: float = SECONDS) -> Dataset:
    return spoken(folder, seconds, by=1)


def spoken(folder: Path, seconds: float, *, by: int) -> Dataset:
    """Spoken digits with labels; ``by`` is the number of the label's part in the file name digit_speaker_take."""
    files = recordings(folder)
    parts = [file.stem.split("_") for file in files]
    if not files or any(len(part) != 3 or not part[2].isdigit() for part in parts):
        wrong = f"{folder} does not hold recordings named digit_speaker_take.wav"
        raise BadInput(wrong, "copy the published folder there")
    length = length_of(seconds, RATE)
    x = stored((len(files), 1, length), "uint8", lambda out: fill(out, files, None, RATE), stamp(folder, files, length))
    labels = tuple(sorted({part[by] for part in parts}))
    y = torch.tensor([labels.index(part[by]) for part in parts])
    take = torch.tensor([int(part[2]) for part in parts])
    return Dataset(
        name="fsdd",
        space=Space.levels((1, length), LEVELS),
        train=Split(x[take >= 10], y[take >= 10]),
        validation=Split(x[(take >= 5) & (take < 10)], y[(take >= 5) & (take < 10)]),
        test=Split(x[take < 5], y[take < 5]),
        split="by take: 10 to 49 train, 5 to 9 validate, 0 to 4 test",
        **labelled(labels),
        rate=RATE,
    )


def recordings(path: Path) -> list[Path]:
    return walk.files(path, walk.SOUNDS)


def length_of(seconds: float, rate: int) -> int:
    if not 1000 <= rate <= HIGHEST_RATE or not 0 < seconds <= LONGEST:
        wrong = f"pieces of {seconds} s at {rate} Hz were asked for"
        raise BadInput(wrong, f"give up to {LONGEST:,} --seconds, and 1,000 to {HIGHEST_RATE:,} as --rate")
    length = round(seconds * rate)
    if length < 16:
        wrong = f"pieces of {seconds} s at {rate} Hz are {length} samples, expected at least 16"
        raise BadInput(wrong, "give longer --seconds or a higher --rate")
    return length


def fill(out: numpy.ndarray, files: Sequence[Path], counts: Sequence[int] | None, rate: int) -> None:
    """Fills ``out`` with all pieces of each file, or with the first piece of each file if ``counts`` is None."""
    length, row = out.shape[-1], 0
    for k, file in enumerate(files):
        pieces = 1 if counts is None else counts[k]
        sound = numpy.zeros(pieces * length)
        heard = read(file, rate)[: len(sound)]
        sound[: len(heard)] = heard
        out[row : row + pieces, 0] = compress(sound).reshape(pieces, length)
        row += pieces


def duration(file: Path, rate: int) -> int:
    """The number of samples at ``rate``. Reads the header alone."""
    with opened(file) as sound:
        return max(1, math.ceil(sound.getnframes() * rate / sound.getframerate()))


def read(file: Path, rate: int) -> numpy.ndarray:
    """One recording as samples in [-1, 1] at ``rate``, averaged over its channels."""
    with opened(file) as sound:
        width, channels, theirs = sound.getsampwidth(), sound.getnchannels(), sound.getframerate()
        raw, expected = sound.readframes(sound.getnframes()), sound.getnframes() * width * channels
    if len(raw) != expected:
        raise BadInput(f"{file} ends after {len(raw)} of {expected} bytes", "replace or remove it")
    if width == 1:  # only samples of one byte are unsigned
        x = numpy.frombuffer(raw, numpy.uint8) / 128.0 - 1
    else:
        padded = numpy.zeros((len(raw) // width, 4), numpy.uint8)
        padded[:, 4 - width :] = numpy.frombuffer(raw, numpy.uint8).reshape(-1, width)
        x = padded.view("<i4")[:, 0] / 2.0**31
    x = x.reshape(-1, channels).mean(1)
    if theirs == rate or len(x) == 0:
        return x
    refuse_too_large(f"{file} at {rate} Hz", 24 * len(x) * rate / theirs, "give a lower --rate, or remove it")
    common = math.gcd(theirs, rate)
    return resample_poly(x, rate // common, theirs // common).clip(-1, 1)


def opened(file: Path) -> wave.Wave_read:
    try:
        sound = wave.open(str(file), "rb")  # noqa: SIM115
    except (wave.Error, EOFError, OSError, RuntimeError, struct.error) as error:
        wrong = f"{file} cannot be read as PCM sound: {str(error) or 'it ends too early'}"
        raise BadInput(wrong, "replace or remove it") from error
    said, held = sound.getnframes() * sound.getsampwidth() * sound.getnchannels(), file.stat().st_size
    if said <= held and sound.getsampwidth() <= 4 and sound.getframerate() >= 1:
        return sound
    sound.close()
    if said > held:
        raise BadInput(f"{file} ends after {held} of {said} bytes", "replace or remove it")
    wrong = f"{file} has {sound.getsampwidth()} bytes a sample at {sound.getframerate()} Hz, expected at most 4"
    raise BadInput(wrong, "replace or remove it")


def write(levels: Tensor, rate: int, out: Path) -> None:
    """Writes one sound, (1, L) or (L,) levels, as a 16-bit .wav file."""
    out.write_bytes(wav(levels, rate))


def wav(levels: Tensor, rate: int) -> bytes:
    """The content of such a file."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((expand(levels.flatten()) * 32767).round().astype("<i2").tobytes())
    return out.getvalue()
