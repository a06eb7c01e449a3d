"""Normalizing flows."""

from dgm.models.spec import Spec, family

MODELS = family(
    "flow",
    realnvp=Spec(
        "RealNVP",
        "lower_bound",
        "Dinh et al. 2016, arXiv:1605.08803",
        "affine coupling layers, inverted in closed form",
    ),
)
