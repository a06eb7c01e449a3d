"""Variational autoencoders."""

from dgm.models.spec import Spec, family

MODELS = family(
    "vae",
    vae=Spec(
        "VAE",
        "lower_bound",
        "Kingma & Welling 2013, arXiv:1312.6114",
        "variational autoencoder with a Gaussian posterior; a conditional VAE (CVAE) with --conditional",
    ),
    beta_vae=Spec(
        "BetaVAE",
        "lower_bound",
        "Higgins et al. 2017, ICLR",
        "VAE with a weighted Kullback-Leibler term, for disentangled codes",
    ),
    iwae=Spec(
        "IWAE",
        "lower_bound",
        "Burda et al. 2015, arXiv:1509.00519",
        "importance-weighted autoencoder: the bound of K samples, optionally with doubly reparameterised gradients",
    ),
    vq_vae=Spec(
        "VQVAE",
        "lower_bound",
        "van den Oord et al. 2017, arXiv:1711.00937",
        "codes of a learnt codebook, for a second stage to model",
    ),
)
