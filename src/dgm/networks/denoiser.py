"""The network of the Gaussian diffusion families: a noisy x, its time and a condition in, numbers of its shape out."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, silu

from dgm.errors import BadInput
from dgm.networks.conditioning import TimedConditioning
from dgm.networks.dit import DiT
from dgm.networks.unet import UNet
from dgm.protocols import Conditions, PartlyHidden
from dgm.space import Space


class Denoiser(nn.Module):
    """A U-Net or a DiT for images (C, H, W), a residual perceptron for any shape. An untrained one says 0.

    A condition is part of the vector that scales and shifts every layer; tokens are attended to besides, and images
    stand beside x as further channels, where x is an image. It may be hidden, all of it (``y`` None) or some rows
    (`dgm.protocols.PartlyHidden`): the null embedding takes its place, as classifier-free guidance needs
    (arXiv:2207.12598, section 3.2).

    Args:
        shape: Of one example.
        width: Channels of the U-Net at full resolution, a multiple of 8; the others are four times as wide.
        condition: The space of y; None for none.
        condition_dropout: The share of the conditions that training hides.
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
        condition: Space | None = None,
        condition_dropout: float = 0.0,
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
        channels, *size = shape
        self.conditioning = TimedConditioning(
            4 * width,
            condition,
            dropout=condition_dropout,
            size=None if network == "mlp" else (size[0], size[1]),
            times=times,
        )
        if network != "mlp" and self.conditioning.has_sequence:
            options["context"] = 4 * width
        self.body: nn.Module = NETWORKS[network](
            tuple(size),
            (channels if inputs is None else inputs) + self.conditioning.channels,
            channels if outputs is None else outputs,
            width=width if network == "unet" else 4 * width,
            condition=4 * width,
            **options,
        )

    def forward(self, x: Tensor, t: Tensor, y: Conditions | PartlyHidden | None = None) -> Tensor:
        """(B, inputs, ...) and times (B,), or (B, times), to (B, outputs, ...)."""
        vector, sequence, maps = self.conditioning(t, y)
        if maps is not None:
            x = torch.cat([x, maps.to(x)], 1)
        return self.body(x, vector, sequence)


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

    def forward(self, x: Tensor, condition: Tensor, sequence: Tensor | None = None) -> Tensor:
        """(B, inputs, *size) and (B, condition) to (B, outputs, *size); a sequence is not attended to."""
        h = self.stem(x.flatten(1))
        for layer, norm, modulation in zip(self.layers, self.norms, self.conditions, strict=True):
            scale, shift = modulation(condition).chunk(2, dim=-1)
            h = h + layer(dropout(silu(norm(h) * (1 + scale) + shift), self.dropout, self.training))
        return self.head(silu(h)).unflatten(1, self.shape)


NETWORKS: dict[str, type[nn.Module]] = {"unet": UNet, "dit": DiT, "mlp": TimedMLP}
