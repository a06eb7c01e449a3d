"""Score-based models."""

from dgm.models.spec import Spec, family

MODELS = family(
    "score",
    score_matching=Spec(
        "ScoreMatching",
        "none",
        "Hyvärinen 2005; Vincent 2011; Song et al. 2019, arXiv:1905.07088",
        "score at one noise scale: explicit, implicit, sliced or denoising, Langevin dynamics",
    ),
    ncsn=Spec(
        "NCSN",
        "estimate",
        "Song & Ermon 2019, arXiv:1907.05600",
        "score at many noise scales, annealed Langevin dynamics, density by the ODE",
    ),
    score_sde=Spec(
        "ScoreSDE",
        "estimate",
        "Song et al. 2020, arXiv:2011.13456",
        "score in continuous time along an SDE, predictor and corrector, density by the ODE",
    ),
)
