"""The network of the Gaussian diffusion families: a function of a noisy x, its time and a condition, of x's shape."""

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
    """A U-Net or a DiT for images (C, H, W), or a residual perceptron for any shape. Untrained, its output is 0.

    The embedding of a condition is part of the vector that scales and shifts every layer. Tokens are also attended to,
    and if x is an image, images of the condition are concatenated with x as further channels. The condition may be
    hidden, for the whole batch (``y`` None) or for some rows (`dgm.protocols.PartlyHidden`). The null embedding then
    replaces it, as classifier-free guidance requires (arXiv:2207.12598, section 3.2).

    Args:
        shape: The shape of one example.
        width: The channels of the U-Net at full resolution, a multiple of 8; the other networks are four times as wide.
        condition: The space of y; None for a model without a condition.
        condition_dropout: The probability with which training hides a condition.
        network: One of `NETWORKS`; by default the U-Net for images and the perceptron for other shapes.
        inputs, outputs: The size of the first dimension of the input and of the output; by default ``shape[0]``. There
            are more inputs for an image as a condition or for Fourier features, and more outputs for a variance.
        times: The number of real numbers to condition on, such as a time, each roughly between -1 and 1.
        options: The options of the network: see `UNet`, `DiT` and `TimedMLP`.

    Example:
        >>> Denoiser((1, 8, 8), width=8)(torch.zeros(3, 1, 8, 8), torch.rand(3)).shape
        torch.Size([3, 1, 8, 8])
    """

    # the training settings, see `dgm.training.Settings`, of every model that does not override them
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
        """Maps x (B, inputs, ...) and times (B,), or (B, times), to (B, outputs, ...)."""
        vector, sequence, maps = self.conditioning(t, y)
        if maps is not None:
            x = torch.cat([x, maps.to(x)], 1)
        return self.body(x, vector, sequence)


class TimedMLP(nn.Module):
    """Residual layers over the flattened example, each scaled and shifted by the condition.

    Args:
        size: The shape of an example without its first dimension; may be ().
        inputs, outputs: The size of the first dimension of the input and of the output.
        width: The width of every layer.
        condition: The width of the conditioning vector.
        blocks: The number of layers.
        dropout: The dropout probability of each layer's input.
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
        """Maps x (B, inputs, *size) and the condition (B, condition) to (B, outputs, *size); ignores the sequence."""
        h = self.stem(x.flatten(1))
        for layer, norm, modulation in zip(self.layers, self.norms, self.conditions, strict=True):
            scale, shift = modulation(condition).chunk(2, dim=-1)
            h = h + layer(dropout(silu(norm(h) * (1 + scale) + shift), self.dropout, self.training))
        return self.head(silu(h)).unflatten(1, self.shape)


NETWORKS: dict[str, type[nn.Module]] = {"unet": UNet, "dit": DiT, "mlp": TimedMLP}
