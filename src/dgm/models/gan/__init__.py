"""Generators without a density: adversarial networks, and one that follows a drifting field."""

from dgm.models.spec import Spec, family

MODELS = family(
    "gan",
    gan=Spec(
        "GAN", "none", "Goodfellow et al. 2014, arXiv:1406.2661", "generator against discriminator, non-saturating loss"
    ),
    dcgan=Spec(
        "DCGAN", "none", "Radford et al. 2015, arXiv:1511.06434", "transposed convolutions, batch normalisation"
    ),
    lsgan=Spec("LSGAN", "none", "Mao et al. 2016, arXiv:1611.04076", "least squares in place of the cross-entropy"),
    f_gan=Spec("FGAN", "none", "Nowozin et al. 2016, arXiv:1606.00709", "a game for any of five f-divergences"),
    wgan=Spec("WGAN", "none", "Arjovsky et al. 2017, arXiv:1701.07875", "Wasserstein distance, clipped weights"),
    wgan_gp=Spec("WGANGP", "none", "Gulrajani et al. 2017, arXiv:1704.00028", "Wasserstein distance, gradient penalty"),
    progressive_gan=Spec(
        "ProgressiveGAN", "none", "Karras et al. 2017, arXiv:1710.10196", "the resolution rises in training"
    ),
    sngan=Spec("SNGAN", "none", "Miyato et al. 2018, arXiv:1802.05957", "hinge loss, spectral normalisation"),
    r3gan=Spec("R3GAN", "none", "Huang et al. 2024, arXiv:2501.05441", "relativistic pairs, R1 and R2, residual"),
    drifting=Spec(
        "Drifting", "none", "Deng et al. 2026, arXiv:2602.04770", "no opponent: samples drift towards data in training"
    ),
)
