r"""Variational autoencoder with a Gaussian posterior."""

from __future__ import annotations

from dataclasses import dataclass

from dgm.models.vae.base import DecoderConfig, GaussianVAE


class VAE(GaussianVAE):
    r"""Variational autoencoder; its likelihood is a lower bound.

    .. math::
        \log p(x) \ge E_{q(z|x)}[\log p(x|z)] - KL(q(z|x) \| N(0, I)), \quad q(z|x) = N(\mu(x), \sigma(x)^2)

    The decoder p(x|z) is Bernoulli on binary data, a discretised logistic on levels and a normal on real numbers; of a
    record, each column's own, a softmax on categories, with a probability of being missing, and with scales that depend
    on z.
    Bounds are in nats about x in the data's own numbers. `log_weight` is one term of the importance-weighted bound.

    Source: Auto-Encoding Variational Bayes (Kingma & Welling, 2013), arXiv:1312.6114, equations 7 and 10 and appendix
    B; Importance Weighted Autoencoders (Burda et al., 2015), arXiv:1509.00519, equation 8.
    Differs from them: SiLU in place of tanh; the scale of grey levels and real numbers is one parameter for each
        dimension,
    whose logarithm has ten times the learning rate: its initial value is far above that of a good decoder, and
    an optimiser with steps of constant length would need thousands of steps (Simple and Effective VAE Training
    with Calibrated Decoders, Rybkin et al., 2021, arXiv:2006.13202, section 3, where it is solved for in each batch;
    here it is a number of the model, the same in a bound and in training).

    Args:
        space: Any space but tokens.

    Example:
        >>> from dgm.space import Space
        >>> vae = VAE(Space.binary((1, 4, 4)), VAE.Config(latent=2))
        >>> vae.sample(3, seed=0).shape
        torch.Size([3, 1, 4, 4])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(DecoderConfig): ...
