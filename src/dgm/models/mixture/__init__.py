"""Mixtures."""

from dgm.models.spec import Spec, family

MODELS = family(
    "mixture",
    gmm=Spec("GMM", "lower_bound", "Dempster, Laird & Rubin 1977", "mixture of Gaussians, fitted by EM or by gradient"),
    ppca=Spec(
        "PPCA", "lower_bound", "Tipping & Bishop 1999", "probabilistic principal components, in closed form or by EM"
    ),
    kde=Spec("KDE", "lower_bound", "Silverman 1986; Scott 1992", "a kernel about each training point"),
)
