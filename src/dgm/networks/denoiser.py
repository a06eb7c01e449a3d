"""The network of the Gaussian diffusion families: a noisy x, its time and a label in, numbers of its shape out."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, silu

from dgm.errors import BadInput
from dgm.networks.dit import DiT
from dgm.networks.embeddings import Sinusoidal
from dgm.networks.unet import UNet


class Denoiser(nn.Module):
    """A U-Net or a DiT for images (C, H, W), a residual perceptron for any shape. An untrained one says 0.

    A label may be missing, all of them (``y`` None) or some (entries equal to ``classes``): both are one learnt vector,
    as classifier-free guidance needs (arXiv:2207.12598, section 3.2).

    Args:
        shape: Of one example.
        width: Channels of the U-Net at full resolution, a multiple of 8; the others are four times as wide.
        classes: Labels that can be given; 0 for none.
        network: One of `NETWORKS`; as a rule the U-Net for images and the perceptron for all else.
        inputs, outputs: Of the first dimension, in and out, where they are not ``shape[0]``: more of them in for an
            image to condition on or for Fourier features, more out for a variance.
        times: Real numbers to condition on, each between -1 and 1 or thereabouts.
        options: Of the network itself: see `UNet`, `DiT` and `TimedMLP`.

    Example:
        >>> Denoiser((1, 8, 8), width=8)(torch.zeros(3, 1, 8, 8), torch.rand(3)).shape
        torch.Size([3, 1, 8, 8])
    """

    # how it is trained, in the words of `dgm.training.Settings`, by every model that has no reason of its own
    defaults: ClassVar[dict[str, Any]] = {"lr": 2e-3, "warmup": 50, "clip": 1.0, "ema": 0.995, "batch": 128}

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        width: int,
        classes: int = 0,
        network: str | None = None,
        inputs: int | None = None,
        outputs: int | None = None,
        times: int = 1,
        **options: Any,
    ) -> None:
        super().__init__()
        network = network or ("unet" if len(shape) == 3 else "mlp")
        if network != "mlp" and len(shape) != 3:
            raise BadInput(f"the network '{network}' is for images, got the shape {shape}", "take 'mlp'")
        conditioning, (channels, *size) = 4 * width, shape
        self.condition = Condition(conditioning, classes, times)
        self.body: nn.Module = NETWORKS[network](
            tuple(size),
            channels if inputs is None else inputs,
            channels if outputs is None else outputs,
            width=width if network == "unet" else 4 * width,
            condition=conditioning,
            **options,
        )

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """(B, inputs, ...) and times (B,), or (B, times), to (B, outputs, ...)."""
        return self.body(x, self.condition(t, y))


class Condition(nn.Module):
    """The conditioning vector of every block: embeddings of the times and of the label, where there is one."""

    def __init__(self, width: int, classes: int, times: int = 1) -> None:
        super().__init__()
        self.classes = classes
        self.embedding = Sinusoidal(width)
        self.time = nn.Sequential(nn.Linear(times * width, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(classes + 1, width) if classes else None  # the last one is of no label

    def forward(self, t: Tensor, y: Tensor | None) -> Tensor:
        embedded = self.time(self.embedding(t.reshape(len(t), -1)).flatten(1))
        if self.label is not None:
            embedded = embedded + self.label(t.new_full((len(t),), self.classes, dtype=torch.long) if y is None else y)
        return silu(embedded)


class TimedMLP(nn.Module):
    """Residual layers over the flattened example, each scaled and shifted by the condition.

    Args:
        size: Of an example, but for its first dimension; may be ().
        inputs, outputs: Of the first dimension, in and out.
        width: Of every layer.
        condition: Width of the conditioning vector.
        blocks: How many layers.
        dropout: Of each layer's input.
    """

    def __init__(
        self,
        size: tuple[int, ...],
        inputs: int,
        outputs: int,
        *,
        width: int,
        condition: int,
        blocks: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.shape, self.dropout = (outputs, *size), dropout
        self.stem = nn.Linear(inputs * math.prod(size), width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(blocks))
        self.conditions = nn.ModuleList(nn.Linear(condition, 2 * width) for _ in range(blocks))
        self.head = nn.Linear(width, math.prod(self.shape))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, inputs, *size) and (B, condition) to (B, outputs, *size)."""
        h = self.stem(x.flatten(1))
        for layer, norm, modulation in zip(self.layers, self.norms, self.conditions, strict=True):
            scale, shift = modulation(condition).chunk(2, dim=-1)
            h = h + layer(dropout(silu(norm(h) * (1 + scale) + shift), self.dropout, self.training))
        return self.head(silu(h)).unflatten(1, self.shape)


NETWORKS: dict[str, type[nn.Module]] = {"unet": UNet, "dit": DiT, "mlp": TimedMLP}
