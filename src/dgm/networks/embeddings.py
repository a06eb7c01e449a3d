"""Embeddings of times and labels."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dgm.errors import BadInput, Unsupported
from dgm.seeds import Streams


class Sinusoidal(nn.Module):
    """cos and sin of t at geometrically spaced frequencies, (...) to (..., width).

    Source: Attention Is All You Need (Vaswani et al., 2017), arXiv:1706.03762, section 3.5; t in [0, 1] is stretched
    to [0, 1000] as diffusion models count their steps.
    """

    frequencies: Tensor

    def __init__(self, width: int, *, stretch: float = 1000.0, period: float = 10_000.0) -> None:
        super().__init__()
        half = width // 2
        frequencies = stretch * torch.exp(-math.log(period) * torch.arange(half) / half)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        angles = t[..., None].to(self.frequencies) * self.frequencies
        return torch.cat([angles.cos(), angles.sin()], dim=-1)


def check_labels(y: Tensor | None, classes: int) -> Tensor | None:
    """``y`` itself, once it is known to fit a model of ``classes`` labels; 0 classes is an unconditional model.

    Raises:
        Unsupported: For a label where none were trained, or none where one is needed.
        BadInput: For a label out of range.
    """
    if classes == 0:
        if y is not None:
            raise Unsupported(
                "this model was trained without labels", "leave the label out, or train with --conditional"
            )
        return None
    if y is None:
        raise Unsupported("this model needs a label for each example", f"give y, (B,) integers from 0 to {classes - 1}")
    if len(y) and not (y.min() >= 0 and y.max() < classes):
        wrong = f"labels go from 0 to {classes - 1}, got {int(y.min())} to {int(y.max())}"
        raise BadInput(wrong, "choose another label")
    return y


def sampled_labels(y: Tensor | None, classes: int, noise: Streams) -> Tensor | None:
    """The labels to sample: those given, one a sample, else uniform ones from the samples' own streams.

    Raises:
        BadInput: For another number of labels than of samples.
    """
    if y is not None and len(y) != len(noise):
        raise BadInput(f"expected {len(noise)} labels, one a sample, got {len(y)}", "give as many as samples")
    if classes and y is None:
        y = (noise.uniform(()) * classes).long()
    return check_labels(y, classes)


def hidden_labels(y: Tensor | None, classes: int, share: float) -> Tensor | None:
    """The labels with a share of them, drawn anew each time, replaced by ``classes``, which says that there is none.

    A network that learns from these has a density with each label and one without, which classifier-free guidance sets
    against each other. Source: arXiv:2207.12598, algorithm 1.
    """
    if y is None:
        return None
    return torch.where(torch.rand(len(y), device=y.device) < share, classes, y)
