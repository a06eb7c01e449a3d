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
    tc_vae=Spec(
        "TCVAE",
        "lower_bound",
        "Chen et al. 2018, arXiv:1802.04942",
        "beta-TCVAE: VAE with a weighted total correlation, estimated in each batch",
    ),
    factor_vae=Spec(
        "FactorVAE",
        "lower_bound",
        "Kim & Mnih 2018, arXiv:1802.05983",
        "VAE with a weighted total correlation, estimated by a discriminator",
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
    hierarchical_vae=Spec(
        "HierarchicalVAE",
        "lower_bound",
        "Burda et al. 2015, arXiv:1509.00519",
        "VAE whose latent variables are a Markov chain of T levels",
    ),
    ladder_vae=Spec(
        "LadderVAE",
        "lower_bound",
        "Sønderby et al. 2016, arXiv:1602.02282",
        "hierarchical VAE with top-down inference, weighted by precision",
    ),
    discrete_vae=Spec(
        "DiscreteVAE",
        "lower_bound",
        "Jang et al. 2016, arXiv:1611.01144; Maddison et al. 2016, arXiv:1611.00712",
        "categorical or Bernoulli latents, by Gumbel-softmax or REINFORCE",
    ),
    td_vae=Spec(
        "TDVAE",
        "lower_bound",
        "Gregor et al. 2019, arXiv:1806.03107",
        "beliefs and jumps in time, for clips; an image is the sequence of its rows",
    ),
    progressive_vae=Spec(
        "ProgressiveVAE",
        "lower_bound",
        "Li et al. 2020, arXiv:2002.10549",
        "levels of latents that are faded in, from the highest to the lowest",
    ),
)
