"""Log-mel frames and Griffin-Lim: filters and inverses in closed form, and sounds there and back."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy
import pytest
import torch
from torch import Tensor

from dgm import data
from dgm.data import sound
from dgm.data.mel import (
    BANDS,
    FLOOR,
    HOP,
    filters,
    fsdd,
    griffin_lim,
    inverse_transform,
    log_mel,
    magnitudes,
    to_levels,
    transform,
)

RATE = 8000


def sine(hertz: float, n: int = 4096) -> Tensor:
    return 0.5 * torch.sin(2 * math.pi * hertz / RATE * torch.arange(n, dtype=torch.float64))[None]


def convergence(wave: Tensor, magnitude: Tensor) -> float:
    """Spectral convergence, the relative error of the magnitudes, in decibels."""
    error = (transform(wave).abs() - magnitude).norm() / magnitude.norm()
    return 20 * math.log10(float(error))


def test_the_filters_are_triangles_evenly_spaced_in_mel() -> None:
    """Neighbours sum to 1, and the peak of each is 2595 log10(1 + f / 700) apart from the next."""
    f = filters(RATE)
    frequency = torch.linspace(0, RATE / 2, f.shape[1])
    edges = [700 * (10 ** (m / 2595) - 1) for m in numpy.linspace(0, 2595 * math.log10(1 + 4000 / 700), BANDS + 2)]
    between = (frequency >= edges[1]) & (frequency <= edges[-2])
    torch.testing.assert_close(f.sum(0)[between], torch.ones(int(between.sum())).double())
    assert (f.sum(1) > 0).all()
    peaks = frequency[f.argmax(1)]
    assert (peaks - torch.tensor(edges[1:-1])).abs().max() <= RATE / 512 / 2 + 1e-6


def test_a_tone_is_in_the_band_of_its_pitch() -> None:
    for hertz in (300.0, 1000.0, 3000.0):
        frames = log_mel(sine(hertz), RATE)[0, :, 5:-5].mean(1)
        expected = 2595 * math.log10(1 + hertz / 700) / (2595 * math.log10(1 + 4000 / 700)) * (BANDS + 1) - 1
        assert abs(int(frames.argmax()) - expected) <= 0.5
    assert (log_mel(torch.zeros(1, 1024).double(), RATE) == math.log(FLOOR)).all()


def test_the_transform_has_an_inverse() -> None:
    wave = torch.randn(2, 8 * HOP).double()
    torch.testing.assert_close(inverse_transform(transform(wave)), wave)


def test_without_momentum_the_magnitudes_come_nearer_in_every_iteration() -> None:
    """Griffin and Lim's theorem. Kills: phases of the last estimate, magnitudes that are not put back."""
    magnitude = transform(torch.randn(1, 12 * HOP).double()).abs()
    errors = [convergence(griffin_lim(magnitude, iterations=k, momentum=0.0), magnitude) for k in (0, 1, 2, 4, 8, 16)]
    assert all(b < a for a, b in pairwise(errors))


def test_a_tone_comes_back_with_its_pitch_and_loudness() -> None:
    wave = griffin_lim(transform(sine(440.0)).abs())
    spectrum = transform(wave)[0, :, 8:-8].abs().mean(1)
    assert int(spectrum.argmax()) == round(440 / RATE * 512)
    assert convergence(wave, transform(sine(440.0)).abs()) < -25  # the momentum's 64 iterations, from random phases


def test_twice_the_sound_is_louder_by_log_2_down_to_the_floor() -> None:
    """Kills: a floor that is added."""
    wave = 3e-7 * torch.randn(1, 8192, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    once, twice = log_mel(wave, RATE), log_mel(2 * wave, RATE)
    above = once > math.log(FLOOR)
    assert 0.1 < above.double().mean() < 0.9
    torch.testing.assert_close((twice - once)[above], torch.tensor(math.log(2)).double().expand(int(above.sum())))


def test_frames_of_a_sound_of_frames_are_near_them() -> None:
    """A tone through the filters and back: the band is that of the tone, at its loudness."""
    frames = log_mel(sine(1000.0), RATE)
    levels = to_levels(frames[:, None].float(), RATE)
    assert levels.dtype == torch.uint8
    again = log_mel(torch.from_numpy(sound.expand(levels[:, 0])), RATE)
    band = int(frames[0, :, 16].argmax())
    assert (again[0, band] - frames[0, band])[4:-4].abs().mean() < 0.1
    assert torch.equal(to_levels(levels, RATE), levels)


def test_silence_is_silent() -> None:
    frames = torch.full((1, 1, BANDS, 8), math.log(FLOOR))
    assert (magnitudes(frames[:, 0], RATE) == 0).all()
    assert (to_levels(frames, RATE).int() - 127.5).abs().max() < 1


def test_each_band_has_its_own_mean_and_deviation(tmp_path: Path) -> None:
    """Of noise and of tones, which differ between bands. Kills: one mean or one deviation for all bands."""
    for take, hertz in enumerate((200.0, 700.0, 1500.0, 3000.0)):
        wave = sine(hertz, 1024) + 0.1 * torch.randn(1024).double()
        levels = torch.from_numpy(sound.compress(wave.numpy()))
        for digit in (0, 1):
            sound.write(levels, RATE, tmp_path / f"{digit}_someone_{take * 4}.wav")
    frames = fsdd(tmp_path, seconds=1024 / RATE)
    loc, scale = (torch.tensor(v).view(1, BANDS, -1) for v in (frames.space.loc, frames.space.scale))
    z = (frames.train.x - loc) / scale
    assert z.mean((0, 1, 3)).abs().max() < 1e-3
    assert (z.std((0, 1, 3)) - 1).abs().max() < 1e-3
    assert loc.std() > 0.5
    assert (loc == loc[:, :, :1]).all()


@pytest.mark.slow
def test_spoken_digits_are_frames_with_their_own_scale(data_root: Path) -> None:
    frames, levels = data.load("fsdd/mel"), data.load("fsdd")
    assert frames.space.shape == (1, BANDS, 32)
    assert to_levels(frames.test.x[:1], RATE).shape == (1, 1, 31 * HOP)
    assert torch.equal(frames.test.y, levels.test.y)  # type: ignore[arg-type]
    z = (frames.train.x - torch.tensor(frames.space.loc).view(frames.space.shape)) / torch.tensor(
        frames.space.scale
    ).view(frames.space.shape)
    assert z.mean((0, 3)).abs().max() < 1e-3
    assert (z.std((0, 3)) - 1).abs().max() < 1e-3


def test_recordings_come_back(data_root: Path) -> None:
    """Of magnitudes at -20 dB and better; of log-mel frames, whose magnitudes have lost the harmonics, the frames."""
    levels = data.load("fsdd").test.x[::40]
    wave = torch.from_numpy(sound.expand(levels[:, 0]))
    magnitude = transform(wave).abs()
    found = [convergence(griffin_lim(m[None]), m[None]) for m in magnitude]
    assert sorted(found)[len(found) // 2] < -20
    frames = log_mel(wave, RATE)
    again = log_mel(torch.from_numpy(sound.expand(to_levels(frames[:, None].float(), RATE)[:, 0])), RATE)
    loud = frames > frames.amax((1, 2), keepdim=True) - 4  # 35 dB below the loudest
    assert (again - frames)[loud].abs().mean() < 0.5  # nats: 4 dB
