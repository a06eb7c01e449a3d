r"""Deep convolutional GAN."""

from __future__ import annotations

from dataclasses import dataclass

from dgm.models.gan.base import AdversarialModel, Options, preset
from dgm.models.gan.networks import NetworkName


class DCGAN(AdversarialModel):
    r"""Deep convolutional GAN: strided and transposed convolutions with batch normalisation; no likelihood.

    .. math::
        L_D = -\log D(x) - \log(1 - D(G(z))), \qquad L_G = -\log D(G(z))

    The discriminator has leaky ReLU and no pooling, the generator ReLU and tanh; real and generated examples are
    normalised as batches of their own. With a penalty of its gradient or spectral normalisation the discriminator has
    no batch normalisation, since it makes the examples of a batch depend on each other.

    Source: Unsupervised Representation Learning with Deep Convolutional GANs (Radford et al., 2015), arXiv:1511.06434,
    sections 3 and 4. Differs from it: z is normal; the number of halvings follows the size of the data; the weights
    of samples are averaged (EMA).

    Args:
        space: Any space but tokens; points have perceptrons.

    Example:
        >>> import torch
        >>> from dgm.space import Space
        >>> DCGAN(Space.levels((3, 32, 32), 256), DCGAN.Config(width=8)).sample(2, seed=0).shape
        torch.Size([2, 3, 32, 32])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Options):
        latent: int = preset("latent", 100)
        width: int = preset("width", 32)
        network: NetworkName = preset("network", "dcgan")
