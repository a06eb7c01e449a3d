"""Normalizing flows."""

from dgm.models.spec import Spec, family

MODELS = family(
    "flow",
    ffjord=Spec(
        "FFJORD",
        "estimate",
        "Grathwohl et al. 2018, arXiv:1810.01367",
        "a continuous flow along an ODE, exact in few dimensions",
    ),
    integer_flow=Spec(
        "IntegerFlow",
        "exact",
        "Hoogeboom et al. 2019, arXiv:1905.07376",
        "a bijection of integers, for coding: exact probabilities of grey levels",
    ),
    nice=Spec(
        "NICE",
        "lower_bound",
        "Dinh et al. 2014, arXiv:1410.8516",
        "additive coupling layers, which keep volumes",
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
    glow=Spec(
        "Glow",
        "lower_bound",
        "Kingma & Dhariwal 2018, arXiv:1807.03039",
        "invertible 1×1 convolutions and couplings at several scales",
    ),
    iaf=Spec(
        "IAF",
        "lower_bound",
        "Kingma et al. 2016, arXiv:1606.04934",
        "autoregressive layers from noise to data: fast samples, slow density",
    ),
    maf=Spec(
        "MAF",
        "lower_bound",
        "Papamakarios et al. 2017, arXiv:1705.07057",
        "autoregressive layers from data to noise: fast density, slower samples",
    ),
    nsf=Spec(
        "NSF",
        "lower_bound",
        "Durkan et al. 2019, arXiv:1906.04032",
        "rational-quadratic splines, in couplings or autoregressive layers",
    ),
    residual_flow=Spec(
        "ResidualFlow",
        "estimate",
        "Chen et al. 2019, arXiv:1906.02735",
        "contractive residual networks, whose log-determinant is estimated without bias",
    ),
    tarflow=Spec(
        "TarFlow",
        "lower_bound",
        "Zhai et al. 2024, arXiv:2412.06329",
        "causal transformers over patches, in alternating order",
    ),
)
