"""Mixtures."""

from dgm.models.spec import Spec, family

MODELS = family(
    "mixture",
    gmm=Spec(
        "GMM", "lower_bound", "Dempster, Laird & Rubin 1977", "mixture of Gaussians, fitted by expectation maximisation"
    ),
)
