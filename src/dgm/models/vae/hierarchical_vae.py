r"""Hierarchical variational autoencoder whose latent variables are a Markov chain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from dgm.models.vae.hierarchy import Draw, Hierarchy, HierarchyConfig, Level, drawn, moments
from dgm.protocols import Batch, Conditions, PerExample
from dgm.settings import setting


class HierarchicalVAE(Hierarchy):
    r"""Markovian hierarchical variational autoencoder; its likelihood is a lower bound.

    .. math::
        \log p(x) \ge E_q\Big[\log \frac{p(x|z_1) \prod_{t=2}^T p(z_{t-1}|z_t) \, p(z_T)}
        {q(z_1|x) \prod_{t=2}^T q(z_t|z_{t-1})}\Big]

    All conditionals are normal with independent dimensions. The posterior runs upwards, from x to z_T, and the model
    downwards. With K > 1 samples the loss is the importance-weighted bound, as `IWAE`'s. Bounds are in nats about x in
    the data's own numbers.

    Source: Importance Weighted Autoencoders (Burda et al., 2015), arXiv:1509.00519, equations 1, 4 and 8; as a
    Markovian chain, Understanding Diffusion Models (Luo, 2022), arXiv:2208.11970, equations 25-28. Differs from them:
    SiLU in place of tanh; the output distributions of `VAE`; codes are whitened.

    Args:
        space: Any space but tokens.

    Example:
        >>> from dgm.space import Space
        >>> model = HierarchicalVAE(Space.binary((1, 4, 4)), HierarchicalVAE.Config(latents=(4, 3, 2)))
        >>> model.sample(3, seed=0).shape
        torch.Size([3, 1, 4, 4])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(HierarchyConfig):
        samples: int = setting(1, "K, samples of all levels for each example in the loss", low=1, high=100_000)

    config: Config

    first_inferred = "bottom"

    def build(self) -> None:
        super().build()
        sizes = self.config.latents
        self.encoder = self.encoding(2 * sizes[0])
        self.upwards = nn.ModuleList(self.between(below, 2 * above) for below, above in pairwise(sizes))

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        draws = self.config.samples
        return math.log(draws) - self.log_weights(x, y, draws=draws, kl_weight=self.kl_weight).logsumexp(0)

    def evidence(self, x: Batch, y: Conditions | None) -> list[tuple[Tensor, Tensor]]:
        """The moments of q(z_1|x)."""
        return [moments(self.conditional(self.encoder, self.reader(x).flatten(1), y))]

    def levels(self, evidence: list[tuple[Tensor, Tensor]], y: Conditions | None, draw: Draw = drawn) -> list[Level]:
        ((mu, log_sigma),) = evidence
        found = [(draw(mu, log_sigma), mu, log_sigma)]
        for network in self.upwards:
            mu, log_sigma = moments(network(self.beside(found[-1][0], y)))
            found.append((draw(mu, log_sigma), mu, log_sigma))
        top = found.pop()
        levels = [Level(*top, *map(torch.zeros_like, top[1:]))]
        for k, posterior in enumerate(reversed(found)):
            levels.append(Level(*posterior, *self.prior(k, levels[-1].z, y)))
        return levels
