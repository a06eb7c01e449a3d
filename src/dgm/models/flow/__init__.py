"""Normalizing flows."""

from dgm.models.spec import Spec, family

MODELS = family(
    "flow",
    planar=Spec(
        "PlanarFlow",
        "lower_bound",
        "Rezende & Mohamed 2015, arXiv:1505.05770",
        "maps that bend along one direction each, with a numeric inverse",
    ),
    radial=Spec(
        "RadialFlow",
        "lower_bound",
        "Rezende & Mohamed 2015, arXiv:1505.05770",
        "maps from and to one point each, inverted in closed form",
    ),
    realnvp=Spec(
        "RealNVP",
        "lower_bound",
        "Dinh et al. 2016, arXiv:1605.08803",
        "affine coupling layers, inverted in closed form",
    ),
)
