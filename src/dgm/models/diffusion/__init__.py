"""Denoising diffusion models."""

from dgm.models.spec import Spec, family

MODELS = family(
    "diffusion",
    ddpm=Spec(
        "DDPM", "lower_bound", "Ho et al. 2020, arXiv:2006.11239", "denoising diffusion, ancestral and DDIM sampling"
    ),
    ddim=Spec(
        "DDIM",
        "lower_bound",
        "Song et al. 2020, arXiv:2010.02502",
        "trained as DDPM, deterministic sampling, a code for each image",
    ),
    vdm=Spec(
        "VDM",
        "lower_bound",
        "Kingma et al. 2021, arXiv:2107.00630",
        "diffusion with a learnt noise schedule, trained on its bound",
    ),
    edm=Spec(
        "EDM",
        "estimate",
        "Karras et al. 2022, arXiv:2206.00364",
        "preconditioned denoiser, sampled with few steps of Heun's method",
    ),
)
