"""Sounds as pictures: log-magnitude spectrograms in a grid."""

from __future__ import annotations

import io
import math

import numpy
from matplotlib.figure import Figure
from PIL import Image
from scipy.signal import stft
from torch import Tensor

from dgm.data.mel import to_levels
from dgm.data.sound import expand

WINDOW_SECONDS = 0.016
FLOOR = -80.0  # decibels below the loudest, where the colours end


def spectrograms(x: Tensor, rate: int, columns: int | None = None) -> Image.Image:
    """Levels (B, 1, L), or log-mel frames, as B spectrograms: kHz against seconds, relative to the loudest moment of
    each.
    """
    x = to_levels(x, rate)
    columns = columns or min(len(x), math.ceil(math.sqrt(len(x))))
    rows = math.ceil(len(x) / columns)
    figure = Figure(figsize=(2.6 * columns, 1.9 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
    for axes, levels in zip(panels, x, strict=False):
        axes.imshow(
            decibels(expand(levels.flatten()), rate),
            origin="lower",
            aspect="auto",
            extent=(0, x[0].numel() / rate, 0, rate / 2000),
            vmin=FLOOR,
            vmax=0,
            cmap="magma",
        )
    for axes in panels[len(x) :]:
        axes.axis("off")
    figure.supxlabel("s", fontsize=8)
    figure.supylabel("kHz", fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return Image.open(buffer)


def decibels(sound: numpy.ndarray, rate: int) -> numpy.ndarray:
    """(frequencies, times), 0 at the loudest."""
    size = min(len(sound), max(16, round(WINDOW_SECONDS * rate)))
    _, _, z = stft(sound, rate, nperseg=size)
    power = numpy.abs(z)
    return 20 * numpy.log10(numpy.maximum(power / max(power.max(), 1e-12), 10 ** (FLOOR / 20)))
