r"""Ladder variational autoencoder: top-down inference, weighted by precision."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from dgm.models.vae.base import gaussian_kl
from dgm.models.vae.hierarchy import Draw, Hierarchy, HierarchyConfig, Level, drawn, moments
from dgm.protocols import Batch, Conditions


class LadderVAE(Hierarchy):
    r"""Ladder variational autoencoder; its likelihood is a lower bound.

    The posterior runs downwards as the model does. At each level it multiplies the prior given the level above by a
    normal factor from a deterministic pass upwards, d_t = f_t(d_{t-1}) with d_0 = x:

    .. math::
        q(z_t|z_{t+1}, x) = N\Big(\frac{\hat\mu_t \hat\sigma_t^{-2} + \mu_t \sigma_t^{-2}}
        {\hat\sigma_t^{-2} + \sigma_t^{-2}}, \frac1{\hat\sigma_t^{-2} + \sigma_t^{-2}}\Big), \quad
        q(z_T|x) = N(\hat\mu_T, \hat\sigma_T^2)

    The divergence of each level is in closed form. Bounds are in nats about x in the data's own numbers.

    Source: Ladder Variational Autoencoders (Sønderby et al., 2016), arXiv:1602.02282, equations 13-19; the warm-up of
    section 2.3. Differs from it: no batch normalisation, so that the examples of a batch are independent; SiLU in place
    of leaky rectifiers; the output distributions of `VAE`; codes are whitened.

    Args:
        space: Any space but tokens.

    Example:
        >>> from dgm.space import Space
        >>> model = LadderVAE(Space.binary((1, 4, 4)), LadderVAE.Config(latents=(4, 3, 2)))
        >>> model.sample(3, seed=0).shape
        torch.Size([3, 1, 4, 4])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(HierarchyConfig): ...

    first_inferred = "top"

    def build(self) -> None:
        super().build()
        levels = len(self.config.latents)
        width = self.config.hidden
        self.encoder = self.encoding(width)
        self.upwards = nn.ModuleList(self.between(width, width) for _ in range(levels - 1))
        self.factors = nn.ModuleList(nn.Linear(width, 2 * size) for size in self.config.latents)

    def levels(self, evidence: list[tuple[Tensor, Tensor]], y: Conditions | None, draw: Draw = drawn) -> list[Level]:
        levels: list[Level] = []
        for k, (mu, log_sigma) in enumerate(evidence):
            if k == 0:
                prior = torch.zeros_like(mu), torch.zeros_like(mu)
            else:
                prior = self.prior(k - 1, levels[-1].z, y)
                mu, log_sigma = product(mu, log_sigma, *prior)
            levels.append(Level(draw(mu, log_sigma), mu, log_sigma, *prior))
        return levels

    def evidence(self, x: Batch, y: Conditions | None) -> list[tuple[Tensor, Tensor]]:
        """The moments of the factors of all levels, the top one first."""
        d = silu(self.conditional(self.encoder, self.reader(x).flatten(1), y))
        factors = [moments(self.factors[0](d))]
        for network, factor in zip(self.upwards, self.factors[1:], strict=True):
            d = silu(network(self.beside(d, y)))
            factors.append(moments(factor(d)))
        return factors[::-1]

    def divergences(self, levels: list[Level]) -> Tensor:
        """KL(q || p) of each dimension of every level, given the z of the levels above it, (B, code)."""
        each = [gaussian_kl((v.q_mu - v.p_mu) / v.p_log_sigma.exp(), v.q_log_sigma - v.p_log_sigma) for v in levels]
        return torch.cat(each, -1)


def product(mu: Tensor, log_sigma: Tensor, mu_p: Tensor, log_sigma_p: Tensor) -> tuple[Tensor, Tensor]:
    """The moments of the normalised product of two normal densities (equations 17 and 18)."""
    log_precision = torch.logaddexp(-2 * log_sigma, -2 * log_sigma_p)
    share = (-2 * log_sigma - log_precision).exp()
    return share * mu + (1 - share) * mu_p, -0.5 * log_precision
