"""The network of the Gaussian diffusion families: a noisy x, its time and a label in, one number a dimension out."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn.functional import silu

from dgm.networks.embeddings import Sinusoidal
from dgm.networks.unet import UNet


class Denoiser(nn.Module):
    """A U-Net for images (C, H, W) and a residual perceptron for all else. An untrained one says 0.

    Args:
        shape: Of one example.
        width: Channels of the U-Net at full resolution, a multiple of 8; the perceptron is four times as wide.
        classes: Labels that can be given; 0 for none.
    """

    def __init__(self, shape: tuple[int, ...], *, width: int, classes: int) -> None:
        super().__init__()
        told = 4 * width
        self.condition = Condition(told, classes)
        self.body: UNet | TimedMLP = (
            UNet((shape[1], shape[2]), shape[0], shape[0], width=width, condition=told)
            if len(shape) == 3
            else TimedMLP(shape, width=told, condition=told)
        )

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """(B, *shape) and times (B,) in [0, 1] to (B, *shape)."""
        return self.body(x, self.condition(t, y))


class Condition(nn.Module):
    """What every block is told: the time, and the label where there is one, as one vector."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.time = nn.Sequential(Sinusoidal(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(classes, width) if classes else None

    def forward(self, t: Tensor, y: Tensor | None) -> Tensor:
        told = self.time(t)
        return silu(told if self.label is None else told + self.label(y))


class TimedMLP(nn.Module):
    """Residual layers over the flattened example, each scaled and shifted by the condition."""

    def __init__(self, shape: tuple[int, ...], *, width: int, condition: int, layers: int = 3) -> None:
        super().__init__()
        self.stem = nn.Linear(math.prod(shape), width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.conditions = nn.ModuleList(nn.Linear(condition, 2 * width) for _ in range(layers))
        self.head = nn.Linear(width, math.prod(shape))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.stem(x.flatten(1))
        for layer, norm, told in zip(self.layers, self.norms, self.conditions, strict=True):
            scale, shift = told(condition).chunk(2, dim=-1)
            h = h + layer(silu(norm(h) * (1 + scale) + shift))
        return self.head(silu(h)).view_as(x)
