r"""Autoencoder, dense or convolutional."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from dgm.models.autoencoder.base import CodeAndReconstruction
from dgm.networks.conv import ConvDecoder, ConvEncoder
from dgm.networks.mlp import mlp
from dgm.protocols import PerExample
from dgm.settings import setting
from dgm.space import Space


class Autoencoder(CodeAndReconstruction):
    r"""Autoencoder; no likelihood.

    .. math:: L(x) = -\log p(x | g(f(x)))

    The reconstruction loss is in nats: a cross-entropy for binary data, a squared error with unit variance otherwise.
    The code layer is linear. With ``widths`` of [1000, 500, 250] and ``latent`` of 2 it is the source's network of its
    figure 3, 784-1000-500-250-2 on MNIST.

    Source: Reducing the Dimensionality of Data with Neural Networks (Hinton & Salakhutdinov, 2006).
    Differs from it: SiLU in place of logistic units; trained end to end without pre-training, which `StackedAE` has;
    a squared error of grey levels in place of their cross-entropy.

    Args:
        space: Any space but tokens, categories and records; an image where the network is convolutional.

    Example:
        >>> import torch
        >>> model = Autoencoder(Space.binary((1, 4, 4)), Autoencoder.Config(latent=2))
        >>> model.encode(torch.zeros(3, 1, 4, 4, dtype=torch.uint8)).shape
        torch.Size([3, 2])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        latent: int = setting(12, "dimensions of the code", low=1, high=100_000)
        network: Literal["dense", "conv"] = setting("dense", "kind of the encoder and of the decoder")
        hidden: int = setting(256, "width of the hidden layers of the dense network", low=1, high=100_000)
        layers: int = setting(2, "hidden layers of the dense encoder and of the decoder", low=1, high=1000)
        widths: tuple[int, ...] = setting(
            (),
            "widths of the dense encoder's hidden layers, in place of hidden and layers; reversed in the decoder",
            low=1,
        )
        channels: int = setting(
            32, "channels of the convolutional network at the images' own size", low=1, high=100_000
        )

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__(space, config, config.latent)
        self.encoder, self.decoder = self.networks()

    def networks(self) -> tuple[nn.Module, nn.Module]:
        space, config = self.space, self.config
        if config.network == "conv":
            encoder = ConvEncoder(space.shape, config.channels, config.latent)
            return encoder, ConvDecoder(config.latent, config.channels, space.shape)
        sizes = [space.dim, *(config.widths or [config.hidden] * config.layers), config.latent]
        return mlp(sizes), mlp(sizes[::-1])

    def loss_and_codes(self, x: Tensor) -> tuple[PerExample, Tensor]:
        z = self.encode(x)
        return self.reconstruction_loss(self.decoder(z), x), z
