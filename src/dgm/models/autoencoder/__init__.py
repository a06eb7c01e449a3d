"""Autoencoders."""

from dgm.models.spec import Spec, family

MODELS = family(
    "autoencoder",
    autoencoder=Spec(
        "Autoencoder",
        "none",
        "Hinton & Salakhutdinov 2006",
        "code and reconstruction, sampled through a Gaussian fitted to the codes",
    ),
)
