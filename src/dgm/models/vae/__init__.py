"""Variational autoencoders."""

from dgm.models.spec import Spec, family

MODELS = family(
    "vae",
    vae=Spec(
        "VAE",
        "lower_bound",
        "Kingma & Welling 2013, arXiv:1312.6114",
        "variational autoencoder with a Gaussian posterior",
    ),
)
