"""Normalizing flows."""

from dgm.models.spec import Spec, family

MODELS = family(
    "flow",
    integer_flow=Spec(
        "IntegerFlow",
        "exact",
        "Hoogeboom et al. 2019, arXiv:1905.07376",
        "a bijection of integers, for coding: exact probabilities of grey levels",
    ),
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
