"""Energy-based models."""

from dgm.models.spec import Spec, family

MODELS = family(
    "energy",
    hopfield=Spec(
        "Hopfield", "unnormalised", "Hopfield 1982", "memory that stores examples as minima of a quadratic energy"
    ),
    rbm=Spec(
        "RBM",
        "estimate",
        "Hinton 2002; Tieleman 2008; Salakhutdinov & Murray 2008",
        "binary or Gaussian visible and binary hidden units, contrastive divergence, log Z by annealing",
    ),
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
    energy_matching=Spec(
        "EnergyMatching",
        "unnormalised",
        "Balcerak et al. 2025, arXiv:2504.10612",
        "one potential: optimal transport far from the data, the energy of the data near it",
    ),
)
