r"""beta-VAE: a variational autoencoder whose Kullback-Leibler term is weighted."""

from __future__ import annotations

from dataclasses import dataclass

from dgm.models.vae.base import DecoderConfig, GaussianVAE
from dgm.protocols import Batch, Conditions, PerExample
from dgm.settings import setting


class BetaVAE(GaussianVAE):
    r"""beta-VAE; its likelihood is a lower bound.

    .. math:: L(x) = -E_{q(z|x)}[\log p(x|z)] + \beta \, KL(q(z|x) \| N(0, I))

    With beta above 1 the dimensions of z that carry little about x are switched off, and the others tend to one factor
    of the data each. The loss is then no likelihood; `elbo` and `log_weight` have the divergence with weight 1, and are
    in nats about x in the data's own numbers.

    Source: beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework (Higgins et al., 2017),
    ICLR, equation 4. Differs from it: the output distributions and networks of `VAE`.

    Args:
        space: Any space but tokens.

    Example:
        >>> from dgm.space import Space
        >>> BetaVAE(Space.binary((1, 4, 4)), BetaVAE.Config(latent=2)).sample(3, seed=0).shape
        torch.Size([3, 1, 4, 4])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(DecoderConfig):
        beta: float = setting(4.0, "weight of the Kullback-Leibler divergence", low=0.0)

    config: Config

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        reconstruction, kl = self.terms(x, y)
        return self.config.beta * kl.sum(-1) - reconstruction
