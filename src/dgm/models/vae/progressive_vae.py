r"""Variational autoencoder whose levels of latents are learnt one after the other, from the highest to the lowest."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from dgm.models.vae.base import LOG_SIGMAS, DecoderConfig, GaussianVAE
from dgm.networks.mlp import scaled
from dgm.protocols import Batch, Conditions, PerExample
from dgm.settings import setting
from dgm.space import Space


class ProgressiveVAE(GaussianVAE):
    r"""Progressive variational ladder autoencoder; its likelihood is a lower bound.

    .. math::
        h_l &= f_l(h_{l-1}), \quad h_0 = x, & q(z_l|x) &= N(\mu_l(\alpha_l h_l), \sigma_l(\alpha_l h_l)^2) \\
        g_l &= d_l([g_{l+1}, \alpha_l z_l]), & p(x|z) &= p(x|d_0(g_1)), \quad p(z) = N(0, I)

    Level L, the highest, is learnt first, with alpha 1. Then one level after the other, the next lower one each
    ``stage`` steps, is faded in: its alpha rises from 0 to 1 over ``fade`` steps. The loss is

    .. math:: -E_q[\log p(x|z)] + \beta \sum_{l: \alpha_l > 0} KL(q(z_l|x) \| N(0, I))
        + \gamma \sum_{l: \alpha_l = 0} KL(q(z_l|x) \| N(0, I))

    `elbo` and `log_weight` have every divergence with weight 1: they are of the model at its present alpha, in nats
    about x in the data's own numbers. The code is that of all levels, the highest first.

    Source: Progressive Learning and Disentanglement of Hierarchical Representations (Li et al., 2020),
    arXiv:2002.10549, sections 3.2 and 3.3; without progression it is the variational ladder autoencoder of Learning
    Hierarchical Features from Generative Models (Zhao et al., 2017), arXiv:1702.08396.
    Differs from them: one dense layer between two levels; the output distributions of `VAE`.

    Args:
        space: Any space but tokens.

    Example:
        >>> model = ProgressiveVAE(Space.binary((1, 4, 4)), ProgressiveVAE.Config(levels=3, latent=2))
        >>> model.latent_space.shape, model.alpha.tolist()
        ((6,), [1.0, 0.0, 0.0])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(DecoderConfig):
        latent: int = setting(3, "dimensions of the code of each level", low=1)
        levels: int = setting(3, "L, the number of levels", low=1, high=100)
        stage: int = setting(500, "steps before the next level is faded in", low=1)
        fade: int = setting(250, "steps over which a level is faded in", low=1)
        beta: float = setting(1.0, "weight of the divergence of the levels that are learnt", low=0.0)
        gamma: float = setting(0.5, "weight of the divergence of the levels that are not learnt yet", low=0.0)

    config: Config
    trained: Tensor

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super(GaussianVAE, self).__init__(space, config, condition, code=config.levels * config.latent)
        self.register_buffer("trained", torch.tensor(0))

    def build(self) -> None:
        width, latent, levels = self.config.hidden, self.config.latent, self.config.levels
        self.encoder = self.encoding(width)
        self.upwards = nn.ModuleList(nn.Linear(width, width) for _ in range(levels - 1))
        self.downwards = nn.ModuleList(nn.Linear(a, width) for a in [latent] + [width + latent] * (levels - 1))
        self.decoder = self.decoding(width)
        for net in (self.encoder, self.upwards, self.downwards, self.decoder):
            scaled(net)  # else little of x reaches the highest level, whose divergence then falls to 0
        self.heads = nn.Parameter(torch.empty(levels, width, 2 * latent).uniform_(-1, 1) / math.sqrt(width))
        self.biases = nn.Parameter(torch.zeros(levels, 1, 2 * latent))

    @property
    def alpha(self) -> Tensor:
        """alpha of each level, the highest first."""
        starts = self.config.stage * torch.arange(self.config.levels, device=self.trained.device)
        rising = (self.trained - starts) / self.config.fade
        return torch.where(starts == 0, 1.0, rising.clamp(0, 1)).to(self.heads)

    def moments(self, h: Tensor, y: Conditions | None) -> tuple[Tensor, Tensor]:
        levels = [silu(self.conditional(self.encoder, h, y))]
        for f in self.upwards:
            levels.append(silu(f(levels[-1])))
        faded = self.alpha[:, None, None] * torch.stack(levels[::-1])
        mu, log_sigma = (faded @ self.heads + self.biases).movedim(0, 1).chunk(2, -1)
        return mu.flatten(1), log_sigma.flatten(1).clamp(*LOG_SIGMAS)

    def decoded(self, z: Tensor, y: Conditions | None) -> Tensor:
        """g_1."""
        levels = (self.alpha[:, None] * z.unflatten(1, (self.config.levels, -1))).unbind(1)
        g = silu(self.downwards[0](levels[0]))
        for d, z_l in zip(self.downwards[1:], levels[1:], strict=True):
            g = silu(d(torch.cat([g, z_l], 1)))
        return g

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        reconstruction, kl = self.terms(x, y)
        weight = torch.where(self.alpha > 0, self.config.beta, self.config.gamma)
        return (weight * kl.unflatten(1, (self.config.levels, -1)).sum(2)).sum(1) - reconstruction

    def after_step(self, *outputs: Tensor) -> None:
        """Counts the steps of the progression."""
        self.trained += 1
