"""Energy-based models."""

from dgm.models.spec import Spec, family

MODELS = family(
    "energy",
    ebm=Spec(
        "EBM",
        "unnormalised",
        "Du & Mordatch 2019, arXiv:1903.08689",
        "energy network, trained by Langevin chains (CD, PCD), noise-contrastive estimation or score matching",
    ),
    jem=Spec(
        "JEM",
        "unnormalised",
        "Grathwohl et al. 2020, arXiv:1912.03263",
        "classifier whose logits are the energies of x with each label",
    ),
)
