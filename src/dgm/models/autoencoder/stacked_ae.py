r"""Stacked autoencoder: its layers are trained one by one, then all together."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from dgm.models.autoencoder.base import CodeAndReconstruction
from dgm.networks.step_count import CountsSteps
from dgm.protocols import PerExample
from dgm.settings import setting
from dgm.space import Space


class StackedAE(CountsSteps, CodeAndReconstruction):
    r"""Stacked autoencoder: layers that are trained as autoencoders of the layer below, then together; no likelihood.

    .. math:: L_l = \tfrac12 \|h_{l-1} - g_l(f_l(h_{l-1}))\|^2, \quad h_l = f_l(h_{l-1}), \quad h_0 = x, \qquad
        L(x) = -\log p(x | g_1(\dots g_L(f_L(\dots f_1(x)))))

    For ``pretraining`` steps each layer minimises its own L_l alone: no gradient passes from one layer to another. Then
    the whole network minimises L, which is also the loss that the weights are selected by.

    Source: Greedy Layer-Wise Training of Deep Networks (Bengio et al., 2006), section 3; Reducing the Dimensionality of
    Data with Neural Networks (Hinton & Salakhutdinov, 2006), which stacks RBMs.
    Differs from them: the layers are pre-trained in the same steps, each on the present codes of the layer below, as in
    Decoupled Greedy Learning of CNNs (Belilovsky et al., 2019), arXiv:1901.08164, and not one after the other.

    Example:
        >>> model = StackedAE(Space.binary((1, 4, 4)), StackedAE.Config(latent=2))
        >>> model.encode(torch.zeros(3, 1, 4, 4, dtype=torch.uint8)).shape
        torch.Size([3, 2])
    """

    step: Tensor

    @dataclass(frozen=True, kw_only=True)
    class Config:
        latent: int = setting(12, "dimensions of the code", low=1, high=100_000)
        widths: tuple[int, ...] = setting((256, 128), "widths of the encoder's hidden layers", low=1)
        pretraining: int = setting(500, "steps in which each layer is trained by itself", low=0, high=10_000_000)

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__(space, config, config.latent)
        sizes = [space.dim, *config.widths, config.latent]
        steps, top = list(pairwise(sizes)), len(config.widths)
        self.encoder = nn.Sequential(*(layer(a, b, last=k == top) for k, (a, b) in enumerate(steps)))
        self.decoder = nn.Sequential(*[layer(b, a, last=k == 0) for k, (a, b) in enumerate(steps)][::-1])
        self.register_counter()

    def loss_and_codes(self, x: Tensor) -> tuple[PerExample, Tensor]:
        if self.training and self.step < self.config.pretraining:
            return self.loss_of_layers(x)
        z = self.encode(x)
        return self.reconstruction_loss(self.decoder(z), x), z

    def loss_of_layers(self, x: Tensor) -> tuple[PerExample, Tensor]:
        """The sum of L_l, each of which has its own layer's parameters alone."""
        h, losses = self.flat(x), []
        for k, (encode, decode) in enumerate(zip(self.encoder, self.decoder[::-1], strict=True)):
            code = encode(h)
            back = decode(code)
            losses.append(self.reconstruction_loss(back, x) if k == 0 else 0.5 * (back - h).square().sum(1))
            h = code.detach()
        return torch.stack(losses).sum(0), h

    @torch.no_grad()
    def after_step(self, *outputs: Tensor) -> None:
        super().after_step(*outputs)
        self.step += 1


def layer(inputs: int, outputs: int, *, last: bool) -> nn.Sequential:
    """A linear layer, and SiLU where it is not the code or x."""
    return nn.Sequential(nn.Linear(inputs, outputs), *([] if last else [nn.SiLU()]))
