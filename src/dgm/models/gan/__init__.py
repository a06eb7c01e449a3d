"""Generative adversarial networks."""

from dgm.models.spec import Spec, family

MODELS = family(
    "gan",
    gan=Spec(
        "GAN", "none", "Goodfellow et al. 2014, arXiv:1406.2661", "generator against discriminator, non-saturating loss"
    ),
)
