"""Defaults that are a source's numbers or that published figures were measured with, and the constants of formulas."""

from __future__ import annotations

import math
from typing import Any

import pytest

from dgm.models.autoencoder import base as autoencoder
from dgm.models.energy import base as energy
from dgm.models.energy.trainers import TRAINERS
from dgm.models.mixture import gmm
from dgm.networks import norm
from dgm.networks.causal_conv import CausalConv2d
from dgm.registry import create, model_class
from dgm.space import Space
from dgm.transforms import elementwise

IMAGE = Space.levels((1, 8, 8), 256)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nade", {"hidden": 500}),  # Larochelle & Murray, on MNIST
        ("pixelcnn", {"layers": 15}),  # van den Oord et al.
        ("pixelrnn", {"layers": 7, "width": 16}),  # the same, on MNIST
        # what follows is ours, and the figures of docs and recipes are of it
        (
            "ebm",
            {
                **{"trainer": "pcd", "regularisation": 0.1},
                **{"langevin_steps": 20, "sampling_steps": 300, "buffer": 1024, "width": 32},
            },
        ),
        ("gmm", {"components": 20, "ridge": 1e-3, "shrinkage": 30.0, "tolerance": 1e-4}),
        ("made", {"hidden": 512, "layers": 1, "masks": 1, "direct": False, "components": 5, "dropout": 0.2}),
        ("orderless_made", {"hidden": 512, "layers": 1, "orders": 16, "components": 5, "dropout": 0.2}),
        ("fvsbn", {"components": 5}),
        ("pixelcnn_pp", {"width": 32, "layers": 2, "resolutions": 3, "components": 5, "dropout": 0.1}),
        ("gated_pixelcnn", {"width": 32, "layers": 8, "head": 64, "components": 0}),
        ("wavenet", {"width": 32, "skip": 128, "layers": 9, "cycles": 2, "components": 0}),
        ("image_gpt", {"width": 64, "layers": 8, "heads": 2, "dropout": 0.0}),
        (
            "progressive_vae",
            {
                **{"latent": 3, "levels": 3, "stage": 500, "fade": 250, "beta": 1.0, "gamma": 0.5},
                **{"hidden": 256, "layers": 2},
            },
        ),
        (
            "td_vae",
            {"latent": 32, "belief": 256, "hidden": 256, "jump": 4},
        ),  # the jump is Gregor et al.'s
        (
            "discrete_vae",
            {
                **{"latent": 20, "categories": 10, "gradient": "gumbel", "temperature": 0.5, "draws": 2},
                **{"hidden": 256, "layers": 2},
            },
        ),
        (
            "vq_vae",  # codes and commitment are van den Oord et al.'s
            {
                **{"codes": 512, "commitment": 0.25, "decay": 0.99, "width": 16, "fields": 1, "halvings": 2},
                **{"hidden": 64, "blocks": 2, "components": 1, "revival": 0.03},
            },
        ),
        ("vae", {"latent": 16, "hidden": 256, "layers": 2}),
        ("autoencoder", {"latent": 12, "hidden": 256, "layers": 2}),
        ("gan", {"latent": 32, "width": 48}),
        ("realnvp", {"layers": 8, "hidden": 32, "blocks": 1, "dropout": 0.0}),
        ("ncsn", {"sigma_max": 5.0, "sigma_min": 0.05, "noise_scales": 20, "langevin_steps": 5, "step_size": 0.6}),
        ("score_sde", {"sigma_max": 50.0, "sigma_min": 0.01, "sampling_steps": 200}),  # Song et al., of images
        ("score_matching", {"sigma": 0.3, "sampling_steps": 200, "step_size": 0.2}),
        ("ddpm", {"timesteps": 100, "schedule": "cosine", "variance": "forward", "sampling_steps": 50}),
        ("ddim", {"timesteps": 100, "schedule": "cosine", "eta": 0.0, "sampling_steps": 50}),
        ("vdm", {"sampling_steps": 50, "condition_dropout": 0.0}),
        ("flow_matching", {"path": "straight", "solver": "heun", "sampling_steps": 30}),
        ("ot_cfm", {"sampling_steps": 15}),
        ("rectified_flow", {"reflow_after": 1000, "sampling_steps": 4}),
        ("mean_flow", {"apart": 0.25, "sampling_steps": 1}),
        ("masked_diffusion", {"width": 24, "layers": 4, "schedule": "linear", "sampling_steps": 64}),
    ],
)
def test_settings(name: str, expected: dict[str, Any]) -> None:
    config = model_class(name).Config()
    assert {key: getattr(config, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("name", "betas"),
    [
        ("gan", (0.5, 0.999)),  # Radford et al.
        ("ebm", (0.0, 0.999)),  # Du & Mordatch
        ("image_gpt", (0.9, 0.95)),  # Chen et al.
        ("char_gpt", (0.9, 0.99)),  # nanoGPT's for characters
    ],
)
def test_momenta_of_adam(name: str, betas: tuple[float, float]) -> None:
    assert model_class(name).defaults["betas"] == betas


def test_constants_of_formulas() -> None:
    assert elementwise.ALPHA == 0.05  # section 4.1
    assert energy.RESTARTED == 0.05  # algorithm 1
    assert TRAINERS["pcd"][1:] == TRAINERS["cd"][1:] == (0.2, 1.25e-4, 0.03)  # ours: noise of 0.005 in a step
    assert norm.EPS == 1e-5  # torch's own
    assert (gmm.PRESENT, autoencoder.MOMENTUM) == (1e-8, 0.02)


def test_first_layers_of_pixelcnns_are_seven_pixels_wide() -> None:
    """Table 1 of van den Oord et al. (2016)."""
    for name in ("pixelcnn", "gated_pixelcnn", "pixelrnn"):
        first = next(m for m in create(name, IMAGE).modules() if isinstance(m, CausalConv2d))
        assert (first.side, first.above) == (3, 3)


def test_vdms_noise_ends_at_a_standard_deviation_of_almost_all() -> None:
    """gamma from a sixth of the gap between two levels to 5, where alpha² is sigmoid(-5), as in its published code."""
    ends = create("vdm", IMAGE).path.ends
    assert ends.tolist() == pytest.approx([2 * math.log(2 / 255 / 6), 5.0])
