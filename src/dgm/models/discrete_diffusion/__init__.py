"""Diffusion over discrete values."""

from dgm.models.spec import Spec, family

MODELS = family(
    "discrete_diffusion",
    masked_diffusion=Spec(
        "MaskedDiffusion",
        "lower_bound",
        "Sahoo et al. 2024, arXiv:2406.07524",
        "values masked at random and predicted all at once",
    ),
)
