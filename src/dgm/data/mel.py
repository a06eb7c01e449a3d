r"""Log-mel frames of spoken digits as images of real numbers, and the sound of such frames by Griffin-Lim.

.. math:: m = 2595 \log_{10}(1 + f / 700), \qquad x_{bt} = \log \max\Big(\sum_k F_{bk} |S_{kt}|, 10^{-5}\Big)

S is the short-time Fourier transform with a Hann window of 64 ms at every 16 ms, F are 64 triangular filters whose
centres are evenly spaced in m. The image has time across and pitch downwards, the lowest band in the first row.

The sound of frames has the magnitudes of the pseudo-inverse of F. Its phases are found by Griffin-Lim: the transform's
inverse and the transform are applied in turn, and the magnitudes are put back each time.

Source: Signal Estimation from Modified Short-Time Fourier Transform (Griffin & Lim, 1984), section IV; with momentum,
A Fast Griffin-Lim Algorithm (Perraudin et al., 2013), algorithm 2; Tacotron (Wang et al., 2017), arXiv:1703.10135,
section 3.4, which makes speech of frames in this way.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from dgm.data import sound
from dgm.data.dataset import Dataset, Split
from dgm.space import Space

BANDS, WINDOW, HOP = 64, 512, 128  # at 8 kHz 64 and 16 ms
FLOOR = 1e-5  # of a band's magnitude: silence
MOMENTUM, ITERATIONS = 0.99, 64
LOUDEST = 0.9  # of a sound that would be clipped


def fsdd(folder: Path, _: str = "", *, seconds: float = sound.SECONDS) -> Dataset:
    """The spoken digits of `dgm.data.sound.fsdd` as log-mel frames."""
    levels = sound.fsdd(folder, seconds=seconds)
    parts = {
        name: log_mel(torch.from_numpy(sound.expand(split.x[:, 0])), levels.rate)
        for name, split in levels.splits.items()
    }
    loc = parts["train"].mean((0, 2), keepdim=True).expand(1, *parts["train"].shape[1:])
    scale = parts["train"].std((0, 2), keepdim=True).expand_as(loc)
    space = Space.continuous(
        (1, *loc.shape[1:]), loc=tuple(loc.flatten().tolist()), scale=tuple(scale.flatten().tolist())
    )
    splits: dict[str, Any] = {name: Split(x[:, None].float(), levels.splits[name].y) for name, x in parts.items()}
    return replace(levels, name="fsdd/mel", space=space, **splits)


def log_mel(wave: Tensor, rate: int) -> Tensor:
    """Log-mel frames (B, BANDS, T) of sounds (B, L) in [-1, 1]."""
    return (filters(rate).to(wave) @ transform(wave).abs()).clamp_min(FLOOR).log()


def to_levels(x: Tensor, rate: int) -> Tensor:
    """Sounds as levels, (B, 1, L) uint8: of log-mel frames (B, 1, BANDS, T) by Griffin-Lim; levels stay as they are."""
    if not x.is_floating_point():
        return x
    wave = griffin_lim(magnitudes(x[:, 0].double(), rate))
    wave = wave * (LOUDEST / wave.abs().amax(1, keepdim=True).clamp_min(LOUDEST))
    return torch.from_numpy(sound.compress(wave.numpy()))[:, None]


def magnitudes(log_mels: Tensor, rate: int) -> Tensor:
    """|S|, (B, WINDOW / 2 + 1, T), of log-mel frames (B, BANDS, T); silence is none."""
    mels = log_mels.exp()
    inverse = torch.linalg.pinv(filters(rate).to(mels))
    return (inverse @ mels.where(mels > 2 * FLOOR, 0.0)).clamp_min(0)


def griffin_lim(magnitude: Tensor, *, iterations: int = ITERATIONS, momentum: float = MOMENTUM) -> Tensor:
    """Sounds (B, L) whose transform has nearly these magnitudes (B, WINDOW / 2 + 1, T); the first phases are seeded."""
    generator = torch.Generator().manual_seed(0)
    phase = 2 * torch.pi * torch.rand(magnitude.shape[1:], generator=generator).to(magnitude)
    consistent = torch.polar(magnitude, phase.expand_as(magnitude))
    estimate = consistent
    for _ in range(iterations):
        phases = torch.polar(torch.ones_like(magnitude), estimate.angle())
        projected = transform(inverse_transform(magnitude * phases))
        estimate, consistent = projected + momentum * (projected - consistent), projected
    return inverse_transform(torch.polar(magnitude, estimate.angle()))


def transform(wave: Tensor) -> Tensor:
    return torch.stft(wave, WINDOW, HOP, window=hann(wave.dtype), return_complex=True, pad_mode="constant")


def inverse_transform(spectrum: Tensor) -> Tensor:
    length = HOP * (spectrum.shape[-1] - 1)
    return torch.istft(spectrum, WINDOW, HOP, window=hann(spectrum.real.dtype), length=length)


def hann(dtype: torch.dtype) -> Tensor:
    return torch.hann_window(WINDOW, dtype=dtype)


@cache
def filters(rate: int) -> Tensor:
    """F, (BANDS, WINDOW / 2 + 1): triangles of height 1 that end at the centres of their neighbours."""
    mel = numpy.linspace(0, 2595 * numpy.log10(1 + rate / 2 / 700), BANDS + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    frequency = numpy.linspace(0, rate / 2, WINDOW // 2 + 1)
    low, centre, high = (edges[k : k + BANDS, None] for k in range(3))
    rising, falling = (frequency - low) / (centre - low), (high - frequency) / (high - centre)
    return torch.from_numpy(numpy.minimum(rising, falling).clip(0))
