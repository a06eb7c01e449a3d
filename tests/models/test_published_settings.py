"""Defaults that are a source's numbers or that published figures were measured with, and the constants of formulas."""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
from typing import Any

import pytest

from dgm.evaluation.features import CLASSIFIER
from dgm.models.energy.ebm import EBM
from dgm.models.energy.trainers import TRAINERS
from dgm.models.table import MODELS
from dgm.networks.causal_conv import CausalConv2d
from dgm.registry import create, model_class
from dgm.space import Space
from dgm.training.settings import Settings

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
            {"latent": 32, "belief": 256, "hidden": 256, "jump": 4, "warmup": 0},
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
        ("realnvp", {"layers": 8, "hidden": 32, "blocks": 1, "dropout": 0.0, "scales": 2}),
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
        # a source's numbers, or ours where it has none
        (
            "denoising_ae",
            {"latent": 32, "hidden": 256, "layers": 1, "amount": 0.25},
        ),  # Vincent et al.: a quarter masked
        ("sparse_ae", {"latent": 128, "penalty": "kl", "weight": 0.1, "sparsity": 0.05}),  # Ng: rho = 0.05
        ("contractive_ae", {"latent": 64, "hidden": 256, "layers": 0, "weight": 0.1}),  # Rifai et al.: lambda
        ("stacked_ae", {"latent": 12, "widths": (256, 128), "pretraining": 500}),
        ("beta_vae", {"beta": 4.0, "latent": 16}),  # Higgins et al.
        ("tc_vae", {"beta": 6.0, "estimator": "weighted", "examples": 50_000}),  # Chen et al.
        ("factor_vae", {"gamma": 10.0, "width": 256, "depth": 4}),  # Kim & Mnih
        ("iwae", {"samples": 5, "gradient": "plain"}),  # Burda et al.
        ("hierarchical_vae", {"latents": (16, 8), "warmup": 0}),
        ("ladder_vae", {"latents": (16, 8), "warmup": 0}),
        ("ppca", {"latent": 16, "fitting": "closed_form", "tolerance": 1e-6}),
        ("kde", {"kernel": "gaussian", "bandwidth": "cv"}),
        ("char_gpt", {"width": 128, "layers": 4, "heads": 4, "dropout": 0.0}),
        ("ffjord", {"hidden": 64, "layers": 3, "ode_steps": 4, "tolerance": 1e-5, "kinetic": 0.0, "jacobian": 0.0}),
        ("integer_flow", {"resolutions": 2, "layers": 8, "hidden": 32, "blocks": 1, "components": 5}),
        ("nice", {"layers": 4, "hidden": 128, "blocks": 2, "dropout": 0.0}),
        ("planar", {"layers": 16}),
        ("radial", {"layers": 16}),
        ("glow", {"scales": 2, "layers": 8, "hidden": 64}),
        ("iaf", {"layers": 5, "hidden": 64, "blocks": 2}),
        ("maf", {"layers": 5, "hidden": 128, "blocks": 2}),  # Papamakarios et al.: five layers
        (
            "nsf",
            {"layers": 3, "hidden": 64, "blocks": 2, "bins": 8, "bound": 5.0, "scales": 2},
        ),  # Durkan et al.: 8 bins
        ("residual_flow", {"blocks": 4, "hidden": 48, "layers": 2, "coefficient": 0.97}),
        (
            "tarflow",
            {"blocks": 4, "layers": 2, "width": 32, "heads": 2, "noise": 0.0, "denoise": False, "dropout": 0.0},
        ),
        ("rbm", {"hidden": 500, "gibbs_steps": 1, "chains": 0, "sampling_steps": 500}),  # Hinton: CD-1
        (
            "energy_matching",
            {"width": 32, "spread": 2.0, "step_size": 0.01, "langevin_steps": 30, "sampling_steps": 300},
        ),
        ("hopfield", {"patterns": 8, "rule": "hebb", "sampling_steps": 20}),
        (
            "jem",
            {
                **{"langevin_steps": 20, "sampling_steps": 300, "step_size": 0.2, "noise": 0.005, "data_noise": 0.03},
                **{"regularisation": 0.1, "buffer": 1024, "width": 32},
            },
        ),
        ("drifting", {"latent": 32, "width": 32}),
        ("edm", {"sampling_steps": 18, "condition_dropout": 0.1}),  # Karras et al., of 32 × 32 pixels
        ("dcgan", {"latent": 100, "width": 32, "network": "dcgan"}),  # Radford et al.
        ("wgan", {"critic_steps": 5, "weight_clip": 0.01, "objective": "wasserstein"}),  # Arjovsky et al., algorithm 1
        ("wgan_gp", {"critic_steps": 5, "gradient_penalty": 10.0, "objective": "wasserstein"}),  # Gulrajani et al.
        ("sngan", {"critic_steps": 5, "spectral_norm": True, "objective": "hinge"}),  # Miyato et al.
        ("r3gan", {"r1": 1.0, "r2": 1.0, "objective": "relativistic", "latent": 64, "width": 16}),
        (
            "progressive_gan",  # Karras et al.: the drift
            {"gradient_penalty": 10.0, "drift": 1e-3, "critic_steps": 1, "steps_per_stage": 500, "latent": 64},
        ),
    ],
)
def test_settings(name: str, expected: dict[str, Any]) -> None:
    config = model_class(name).Config()
    assert {key: getattr(config, key) for key in expected} == expected


def test_settings_of_a_family() -> None:
    """The width of the networks that denoise and the share of hidden conditions, and the networks of VAEs."""
    of_denoising = {"width": 24, "condition_dropout": 0.1}
    unconditional = {"width": 24}
    of_vaes = {"hidden": 256, "layers": 2, "components": 1, "scale": 0.0}
    of_hierarchies = {**of_vaes, "warmup": 0}
    expected: dict[str, dict[str, Any]] = {
        **dict.fromkeys(["ncsn", "score_sde", "ddpm", "ddim", "edm"], of_denoising),
        **dict.fromkeys(["flow_matching", "ot_cfm", "rectified_flow", "mean_flow"], of_denoising),
        **dict.fromkeys(["score_matching", "vdm"], unconditional),
        **dict.fromkeys(["vae", "beta_vae", "tc_vae", "factor_vae", "iwae"], of_vaes),
        **dict.fromkeys(["hierarchical_vae", "ladder_vae"], of_hierarchies),
    }
    for name, settings in expected.items():
        config = model_class(name).Config()
        assert {key: getattr(config, key) for key in settings} == settings, name


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("gan", {"spectral_norm": True}),
        ("dcgan", {"latent": 100, "width": 32}),
        ("lsgan", {}),
        ("f_gan", {}),
        ("wgan", {"critic_steps": 5, "weight_clip": 0.01}),
        ("wgan_gp", {"critic_steps": 5, "gradient_penalty": 10.0}),
        ("sngan", {"critic_steps": 5, "spectral_norm": True}),
        ("r3gan", {"latent": 64, "width": 16, "r1": 1.0, "r2": 1.0}),
        (
            "progressive_gan",
            {"latent": 64, "width": 16, "gradient_penalty": 10.0, "drift": 1e-3, "steps_per_stage": 500},
        ),
    ],
)
def test_a_game_has_only_the_penalties_of_its_paper(name: str, own: dict[str, Any]) -> None:
    shared = {
        **{"latent": 32, "width": 48, "critic_steps": 1, "spectral_norm": False, "r1": 0.0, "r2": 0.0},
        **{"gradient_penalty": 0.0, "one_sided_penalty": 0.0, "drift": 0.0, "penalty_every": 1, "weight_clip": 0.0},
    }
    config = vars(model_class(name).Config())
    assert {key: value for key, value in config.items() if not isinstance(value, str)} == shared | own


OF_DENOISING = {"batch": 128, "lr": 2e-3, "warmup": 50, "clip": 1.0, "ema": 0.995}
OF_FLOWS = {"batch": 256, "ema": 0.995, "clip": 10.0, "warmup": 100}
OF_VAES = {"batch": 100, "ema": 0.999, "weight_decay": 0.01}
OF_GAMES = {"batch": 64, "ema": 0.998, "schedule": "constant", "select": "last"}
OF_AUTOENCODERS = {"batch": 100, "weight_decay": 0.01}
LEARNING: dict[str, dict[str, Any]] = {
    **dict.fromkeys(["ncsn", "score_sde", "score_matching", "ddpm", "ddim", "vdm", "edm"], OF_DENOISING),
    **dict.fromkeys(["flow_matching", "ot_cfm", "rectified_flow", "mean_flow", "masked_diffusion"], OF_DENOISING),
    **dict.fromkeys(["nice", "iaf", "maf"], OF_FLOWS),
    "nsf": {**OF_FLOWS, "precision": "32-true"},
    **{name: {**OF_FLOWS, "lr": 0.005} for name in ["planar", "radial"]},
    **dict.fromkeys(["vae", "beta_vae", "tc_vae", "iwae", "hierarchical_vae", "ladder_vae", "discrete_vae"], OF_VAES),
    **dict.fromkeys(["autoencoder", "sparse_ae", "stacked_ae", "denoising_ae", "contractive_ae"], OF_AUTOENCODERS),
    "gmm": {"batch": 2048},
    **{name: {"batch": 1024} for name in ["ppca", "kde"]},
    **{name: {"batch": 100, "weight_decay": 0.1, "ema": 0.999} for name in ["made", "orderless_made"]},
    **{name: {"batch": 100, "lr": 0.001, "ema": 0.999} for name in ["nade", "fvsbn"]},
    **{name: {"batch": 64, "lr": 0.001, "ema": 0.999, "clip": 1.0} for name in ["pixelcnn", "gated_pixelcnn"]},
    "pixelrnn": {"batch": 16, "lr": 1e-3, "ema": 0.999, "clip": 1.0},
    "pixelcnn_pp": {"batch": 32, "lr": 1e-3, "ema": 0.999, "clip": 1.0},
    "wavenet": {"batch": 4, "lr": 2e-3, "ema": 0.995, "clip": 1.0, "warmup": 50},
    # Chen et al.'s momenta; nanoGPT's for characters
    "image_gpt": {"batch": 32, "lr": 1e-3, "betas": (0.9, 0.95), "warmup": 100, "clip": 1.0, "ema": 0.995},
    "char_gpt": {
        **{"batch": 32, "lr": 2e-3, "betas": (0.9, 0.99), "weight_decay": 0.1},
        **{"warmup": 100, "clip": 1.0, "ema": 0.99},
    },
    "factor_vae": {  # Kim & Mnih, of the discriminator
        **{"batch": 64, "lr": 1e-3, "ema": 0.999, "select": "last"},
        "players": {"discriminator": {"lr": 1e-4, "betas": (0.5, 0.9)}},
    },
    "vq_vae": {"batch": 128, "lr": 1e-3},
    "progressive_vae": OF_VAES,
    "energy_matching": {"batch": 128, "lr": 2e-3, "ema": 0.99, "clip": 1.0, "select": "last"},
    "td_vae": {"batch": 64, "lr": 1e-3, "ema": 0.999, "clip": 10.0},
    "ffjord": {"batch": 128, "lr": 2e-3, "warmup": 100, "ema": 0.995, "clip": 1.0},
    "integer_flow": {"batch": 64, "lr": 2e-3, "warmup": 100, "ema": 0.999, "clip": 10.0},
    "realnvp": {"batch": 100, "ema": 0.999, "clip": 50.0, "warmup": 100, "weight_decay": 0.01},
    "glow": {"batch": 64, "ema": 0.999, "clip": 50.0, "warmup": 200},
    "residual_flow": {"batch": 128, "lr": 2e-3, "warmup": 100, "ema": 0.999, "clip": 10.0},
    "tarflow": {"batch": 64, "lr": 1e-3, "warmup": 100, "ema": 0.999, "clip": 10.0},
    # the momenta are those of Radford, Gulrajani, Miyato, Karras and Du & Mordatch; the step of wgan is its algorithm's
    "gan": {**OF_GAMES, "lr": 4e-4, "betas": (0.5, 0.999)},
    **{name: {**OF_GAMES, "lr": 0.0002, "betas": (0.5, 0.999)} for name in ["dcgan", "lsgan", "f_gan"]},
    "wgan": {**OF_GAMES, "lr": 5e-5, "betas": (0.0, 0.99), "optimiser": "rmsprop"},
    "wgan_gp": {**OF_GAMES, "lr": 1e-4, "betas": (0.0, 0.9)},
    "sngan": {**OF_GAMES, "lr": 2e-4, "betas": (0.0, 0.9)},
    "progressive_gan": {**OF_GAMES, "lr": 1e-3, "betas": (0.0, 0.99), "ema": 0.999},
    "r3gan": {**OF_GAMES, "lr": 2e-4, "betas": (0.0, 0.99), "ema": 0.999},
    "drifting": {"batch": 256, "lr": 1e-3, "ema": 0.99, "select": "last"},
    "rbm": {"batch": 100, "lr": 2e-3, "select": "last"},
    **{
        name: {"batch": 64, "lr": 0.0005, "betas": (0.0, 0.999), "ema": 0.99, "clip": 0.1, "select": "last"}
        for name in ["ebm", "jem"]
    },
}


def test_settings_of_a_training_that_nobody_chose() -> None:
    expected = {
        **{"steps": None, "budget": None, "batch": 128, "optimiser": "adamw", "lr": 1e-3, "betas": (0.9, 0.999)},
        **{"weight_decay": 0.0, "warmup": 0, "schedule": "cosine", "clip": 0.0, "ema": 0.0, "select": "best"},
        **{"validate_every": 0, "patience": "auto", "checkpoint_every": 60.0, "keep": 2, "precision": "auto"},
        **{"compile": False, "accelerator": "auto", "devices": 1, "strategy": "ddp", "seed": 0},
        **{"tensorboard": False, "players": None},
    }
    assert vars(Settings()) == expected


@pytest.mark.parametrize("name", MODELS)
def test_settings_of_the_optimiser(name: str) -> None:
    assert getattr(model_class(name), "defaults", {}) == LEARNING.get(name, {})


@pytest.mark.parametrize(
    ("module", "constants"),
    [
        ("transforms.elementwise", {"ALPHA": 0.05}),  # section 4.1 of RealNVP
        ("transforms.splines", {"SMALLEST": 1e-3}),  # Durkan et al.'s code
        ("transforms.residual", {"TERMS": {True: 2, False: 20}, "STOP": 0.5}),  # Chen et al.
        ("transforms.normal_scores", {"CLOSEST": 1e-3, "REACH": 2.5, "BEYOND": 5}),
        ("models.energy.base", {"RESTARTED": 0.05, "LARGEST_DRIFT": 0.1, "APART": 4.0}),  # algorithm 1
        ("models.energy.ebm", {"SMALLEST": 1e-3}),
        ("models.energy.hopfield", {"ROUNDING": 1e-9}),
        ("models.energy.rbm", {"ENUMERATED": 20, "TEMPERATURES": 1000, "CHAINS": 100, "OF_EACH": 10}),
        ("models.diffusion.edm", {"SIGMA_MIN": 0.002, "SIGMA_MAX": 80.0, "P_MEAN": -1.2, "P_STD": 1.2}),  # table 1
        ("models.diffusion.ddpm", {"HYBRID": 1e-3}),  # Nichol & Dhariwal
        ("models.gan.base", {"FLAT": 0.01, "NEAR": 0.1, "SATURATED": 0.9, "COLLAPSED": 0.5}),
        ("models.gan.drifting", {"TEMPERATURES": (0.02, 0.05, 0.2), "MOST_LOCATIONS": 64, "OF_LABELS": 0.1}),
        ("models.vae.base", {"QUICK": 10.0, "LOG_SIGMAS": (-7.0, 3.0)}),
        ("models.vae.hierarchy", {"LOG_SIGMAS": (-3.0, 3.0)}),
        ("models.vae.td_vae", {"CAUTIOUS": 0.1, "LOG_SIGMAS": (-4.0, 3.0)}),
        ("models.flow_matching.rectified_flow", {"TEACHER_STEPS": 8, "USES": 4, "DECAY": 0.995}),
        ("models.flow_matching.mean_flow", {"SMALLEST": 1e-3}),  # Geng et al.: c
        ("models.flow.realnvp", {"BOUND": 2.0}),
        ("models.flow.integer_flow", {"GAIN": 1 / 30}),
        ("models.mixture.gmm", {"PRESENT": 1e-8}),
        ("models.mixture.ppca", {"LEAST": 1e-9}),
        ("models.autoencoder.base", {"MOMENTUM": 0.02}),
        ("models.autoencoder.sparse_ae", {"LEAST": 1e-6}),
        ("networks.norm", {"EPS": 1e-5}),  # torch's own
        ("networks.dcgan", {"STD": 0.02}),  # Radford et al.
        ("networks.progressive", {"SLOPE": 0.2, "EPS": 1e-8}),  # Karras et al.
        ("networks.r3gan", {"SLOPE": 0.2, "EXPANSION": 2, "GROUP": 16}),  # Huang et al.
        ("distributions.base", {"ATTEMPTS": 100, "COMPONENTS": 16, "DRAWS": 1024}),  # Stimper et al.: T
        ("distributions.cells", {"MIDDLE": 0.5}),
        ("distributions.units", {"NARROWEST": 0.05, "RAREST": 0.01}),
        ("distributions.output", {"LOG_SCALES": (-7.0, 7.0)}),
        ("distributions.discrete_decoder", {"REACH": 6.0}),
        ("samplers.times", {"EARLIEST": 1e-9, "RHO": 7.0, "SIGMA_MAX": 80.0, "SIGMA_MIN": 0.002}),  # Karras et al.
        ("samplers.ais", {"SHARPNESS": 4.0}),  # Wu et al.
        ("samplers.hmc", {"TARGET": 0.65, "GAIN": 0.1}),  # Neal
        ("samplers.flow_density", {"EXACT_TRACE": 16, "TOLERANCE": 1e-4, "DEQUANTISING": 1 / 4}),
        ("samplers.ode", {"SAFETY": 0.9, "SMALLEST_FACTOR": 0.2, "LARGEST_FACTOR": 10.0}),
        ("evaluation.fidelity", {"HALF": 5, "SIGMA": 1.5, "K_1": 0.01, "K_2": 0.03}),  # Wang et al.
        ("evaluation.calibration", {"DRAWS": 19, "LEVELS": (0.5, 0.9)}),
        ("evaluation.collapse", {"ACTIVE": 0.01}),  # Burda et al.
        ("evaluation.classification", {"BINS": 15}),  # Guo et al.
        (
            "evaluation.disentanglement",
            {"TREES": 20, "BINS": 20, "VOTES": 500, "DRAWS": 100, "COLLAPSED": 0.02},
        ),  # Locatello et al.
        ("evaluation.annealed", {"CHAINS": 8, "LEAPFROGS": 10, "Z": 1.96}),
        ("evaluation.anomaly", {"Z": 1.96}),
        ("evaluation.against", {"Z": 1.96, "MARGIN": 0.5}),
        ("evaluation.jackknife", {"FOLDS": 10, "LEVEL": 0.95}),
        ("evaluation.modes", {"MODE_SHARE": 0.1, "NEAR": 0.1}),
        ("evaluation.distances", {"DRAWS": 20}),
        ("evaluation.divergences", {"NEIGHBOURS": 5}),
        ("evaluation.inception", {"SIDE": 299, "EPSILON": 1e-3}),
        (
            "evaluation.lpips",
            {"SHIFT": (-0.03, -0.088, -0.188), "SCALE": (0.458, 0.448, 0.45), "SMALLEST": 16, "EPSILON": 1e-8},
        ),
        ("evaluation.likelihoods", {"IMPORTANCE_DRAWS": 16, "ESTIMATED": 250, "ESTIMATED_NUMBERS": 16_000}),
        ("evaluation.samples", {"FEWEST": 20}),
        ("editing.latent_restore", {"MISFIT": 0.1, "NEWTON_STEPS": 2}),
        ("editing.latent_search", {"STEPS": 300, "STARTS": 4, "LR": 0.1, "PRIOR": 0.01}),
        ("editing.particles", {"FEW": 0.5}),
        ("editing.proposals", {"COMPONENTS": 16, "BROAD": 0.1, "TIMES": 4.0}),
        ("editing.completion", {"PARTICLES": 64, "OF_AN_ORDER": 16, "DRAWS": 128, "NEAREST": 5}),
        ("editing.inversion", {"EARLIEST": 1e-4, "STEPS": 100, "SHARE": 1 / 8}),
        (
            "training.validation",
            {
                "COST": 1 / 3,
                "SHARE": 0.1,
                "PARTS": 20,
                "GROWTH": 1 / 4,
                "FINE_GROWTH": 1 / 16,
                "EPOCHS": 30,
                "WAIT": 0.2,
            },
        ),
        ("training.diagnosis", {"WAIT": 0.1, "PARTS": 40, "SAMPLES": 1000, "MISSED": 0.5}),
        (
            "evaluation.cautions",
            {
                "FALLING": 0.1,
                "FIRST": 0.05,
                "LAST": 0.8,
                "ALIVE": 0.9,
                "ENOUGH": 10,
                "HIGH": 0.5,
                "LOW": 0.1,
                "PASSES": 3,
                "COPIES": 0.05,
                "MODES": 0.9,
                "APART": 1.0,
            },
        ),
        ("evaluation.neighbours", {"K_PRECISION": 3, "K_COVERAGE": 5}),  # Kynkäänniemi et al., Naeem et al.
        ("evaluation.kernel", {"OF_BANDWIDTH": 1000, "PERMUTATIONS": 500}),
        ("evaluation.frechet", {"PIECES": 4, "LEAST": 10}),
        ("evaluation.columns", {"TRAINING": 20_000, "DRAWS": 5, "MOST": 50, "CLOSE": 0.05}),
        ("evaluation.transport", {"DIRECTIONS": 500, "MOST": 2000}),
        ("evaluation.two_sample", {"HIDDEN": 64, "RATE": 5e-3, "EPOCHS": 60}),
        ("evaluation.observation", {"SAMPLES": 10_000}),
        ("evaluation.representation", {"WIDEST": 512, "MOST_VALUES": 50, "EXAMPLES": 2000}),
        ("training.loop", {"EXPLAINED": 3, "SLOWER": 0.1, "MARKS": 10}),
        ("models.energy.energy_matching", {"SWITCH": 0.9, "TRANSPORTED": 0.05}),
        ("models.vae.vae", {"CONTEXT": 64}),
        ("networks.masked_autoencoder", {"CHANNELS": 8}),
        ("distributions.gaussian_mixture", {"RIDGE": 1e-9}),
        ("distributions.variational_dequantisation", {"COUPLINGS": 4, "HIDDEN": 32}),
        ("evaluation.memorisation", {"TRAINING": 20_000, "NEAREST_SHOWN": 10}),
        ("editing.composition", {"STEP_SIZE": 0.6}),
        ("editing.embedding", {"PERPLEXITY": 30.0}),  # van der Maaten & Hinton
        ("compression.archive", {"MANY": 256, "VALUES": 2**16}),
        ("compression.bits_back", {"INTERVALS": 2**12, "DRAWN": 1000, "INITIAL_BITS": 24}),
        ("compression.frequencies", {"STEPS_A_NAT": 64}),
        ("compression.container", {"VERSION": 2}),
        ("training.precision", {"CLEARLY": 1.2, "SECONDS": 1.0, "SHARE": 0.02, "ROUNDS": (2, 10)}),
        ("data.toy", {"SEED": 2026, "POINTS": 400}),
        ("data.sprites", {"SIDE": 32, "LEAST": 5.0, "MOST": 10.0}),
        ("data.digits", {"SPLIT_SEED": 1797, "SIZES": {"train": 1000, "validation": 300, "test": 497}}),
        ("data.sound", {"MU": 255, "LEVELS": 256}),  # ITU-T G.711
        ("data.mel", {"MOMENTUM": 0.99, "ITERATIONS": 64, "FLOOR": 1e-5}),  # Perraudin et al.
        # limits and sizes that decide what a figure is of
        ("models.energy.trainers", {"COLD": 1.25e-4}),
        ("models.energy.energy_matching", {"POINTS": (200, 120.0, 0.3), "IMAGES": (700, 1.0, 0.05)}),
        ("models.flow.ffjord", {"EXACT": 16}),
        ("models.flow.residual_flow", {"EXACT": 16}),
        ("models.flow_matching.mean_flow", {"TIME_SCALE": 0.01}),
        ("models.flow_matching.ot_cfm", {"ENTROPIC": (0.2, 0.05), "ITERATIONS": 8}),
        ("models.gan.networks", {"HIDDEN": 3, "DENSE": 4}),
        ("models.mixture.kde", {"ROWS": 2000}),
        ("models.vae.discrete_vae", {"EXAMPLES": 16, "DRAWS": 32}),
        ("models.vae.vae", {"WIDTH": 64}),
        ("models.vae.vq_vae", {"NEVER": 1e-6}),
        ("distributions.base", {"HIDDEN": 128, "POINTS": 2**14, "LARGEST": 2**24}),
        ("distributions.columns", {"WIDE": 64, "RANK": 32}),
        ("distributions.wrapped_logistics", {"SHARE": 0.1}),
        ("samplers.convergence", {"FEWEST": 4}),
        ("samplers.ode", {"SHORTEST": 1e-7}),
        ("transforms.causal", {"CONVERGED": 8}),
        ("transforms.planar", {"ITERATIONS": 100}),
        ("transforms.residual", {"ITERATIONS": 5000}),
        ("networks.condition_embedding", {"TEXT_LAYERS": 2, "SMALLEST": 4}),
        ("networks.conditioning", {"WIDTH": 64}),
        ("networks.lipschitz", {"ITERATIONS": 20}),
        ("networks.masked_autoencoder", {"PATCH": 2, "HIDDEN": 0.5}),
        ("likelihood", {"WEIGHTS": 8, "ODES": 50}),
        ("evaluation.against", {"FORMAT": 1, "POINTS": 400}),
        ("evaluation.annealed", {"EXAMPLES": 100, "FEWEST": 5, "WORK": 1e13, "PASSES": 3, "TUNING": 100}),
        ("evaluation.anomaly", {"MOST": 1000}),
        ("evaluation.calibration", {"EXAMPLES": 200, "COLUMNS": 30}),
        ("evaluation.cautions", {"SHOWN": 10}),
        ("evaluation.classification", {"EXAMPLES": 500}),
        ("evaluation.collapse", {"EXAMPLES": 2000}),
        ("evaluation.columns", {"NATIVE": 254}),  # scikit-learn's most
        ("evaluation.distances", {"VERSION": 2}),
        ("evaluation.evaluate", {"LIKELIHOODS": 0.3, "UNANNEALED": 0.2, "FORMAT": 2}),
        ("evaluation.features", {"COMPONENTS": 32, "WIDE": 4096, "NUMBERS": 2**27, "ONES": 32, "LARGEST": 32}),
        ("evaluation.held_out", {"ENOUGH": 10_000, "SEED": 0}),
        ("evaluation.mixing", {"CHAINS": 32}),
        ("evaluation.pretrained", {"SIDE": 224}),
        ("evaluation.rows", {"DRAWS": 16}),
        ("evaluation.sides", {"OTHERS": 5}),
        ("evaluation.two_sample", {"FEWEST": 40}),
        ("evaluation.vision_transformer", {"HEAD": 64}),
        ("evaluation.transport", {"SEED": 0}),
        ("evaluation.jackknife", {"SEED": 0}),
        ("networks.conditions", {"KEPT": 256}),
        ("networks.masked_mlp", {"ALIGNED": 256}),
        ("transforms.planar", {"ROUNDING": 4}),
        ("transforms.residual", {"ROUNDING": 64}),
        ("models.autoregressive.gated_pixelcnn", {"OF_TOKEN": 16}),
        ("models.gan.drifting", {"COLLAPSED": 0.5}),
        ("distributions.discretised_normal", {"_FAR": 1e4}),
        ("editing.embedding", {"FEWEST": 4}),
        ("editing.latent_restore", {"SMALLEST": 1e-8}),
        ("editing.proposals", {"SAMPLES": 4096, "PASSES": 40}),
        ("editing.resampling", {"OF_IMAGES": 5}),
        ("evaluation.divergences", {"LARGEST": 700.0}),
        ("evaluation.frechet", {"FAR": 1e6}),
        ("evaluation.samples", {"BLOCKS": 100_000, "COPIES": 64}),
        ("training.batches", {"SHARE_OF_MEMORY": 0.25}),
        ("training.codes", {"MOMENTS": 50_000, "NEGLIGIBLE": 1e-12}),
        ("training.diagnosis", {"ROUNDING": 1e-9}),
        ("training.loop", {"LOGGED": 200}),
        ("training.settings", {"STEPS": 2000}),
        ("training.validation", {"SMALL": 10_000, "SEED": 0}),
        ("compression.archive", {"CLAIMED": 1000}),
    ],
)
def test_constants_of_formulas(module: str, constants: dict[str, Any]) -> None:
    found = importlib.import_module(f"dgm.{module}")
    assert {name: getattr(found, name) for name in constants} == constants


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("samplers.edm:edm", {"s_churn": 40.0, "s_tmin": 0.05, "s_tmax": 50.0, "s_noise": 1.003}),  # Karras et al.
        ("samplers.predictor_corrector:predictor_corrector", {"snr": 0.16, "corrections": 1}),  # Song et al.
        ("samplers.annealed_langevin:annealed_langevin", {"langevin_steps": 5, "step_size": 0.6}),
        ("samplers.ddim:ddim", {"eta": 0.0}),
        ("samplers.unipc:unipc", {"order": 2}),
        ("samplers.langevin:langevin", {"temperature": 1.0}),
        ("samplers.hmc:HMC", {"leapfrogs": 10}),
        ("samplers.hmc:tuned", {"leapfrogs": 10, "step_size": 0.1}),
        ("samplers.times:times", {"spacing": "uniform", "t_min": 1e-3}),
        ("samplers.probability_flow:adaptive", {"rtol": 1e-5, "atol": 1e-5}),
        ("samplers.convergence:split_r_hat", {"ranked": True}),
        ("samplers.convergence:effective_sample_size", {"ranked": True}),
        ("models.autoguided:Autoguided.of", {"scale": 2.0}),
        ("models.discrete_diffusion.masked_diffusion:MaskedDiffusion.guided", {"scale": 1.0}),
        ("models.flow_matching.rectified_flow:straightness", {"n": 1000, "seed": 0, "sampling_steps": 50}),
        ("networks.embeddings:Sinusoidal", {"stretch": 1000.0, "period": 10_000.0}),
        ("networks.denoiser:TimedMLP", {"blocks": 3, "dropout": 0.0}),
        ("networks.dit:DiT", {"context": 0, "blocks": 6, "dropout": 0.0}),
        ("networks.unet:UNet", {"context": 0, "blocks": 1, "dropout": 0.0}),
        ("likelihood:log_likelihood", {"draws": 1, "marginal": False}),
        ("evaluation.against:against", {"samples": 1000}),
        ("evaluation.anomaly:anomaly", {"split": "test", "draws": 1, "seed": 0}),
        ("evaluation.evaluate:evaluate", {"samples": 1000, "draws": 1, "seed": 0, "marginal": False, "annealed": 0}),
        ("evaluation.disentanglement:dci", {"seed": 0}),
        ("evaluation.disentanglement:factor_vae_score", {"seed": 0}),
        ("evaluation.disentanglement:clustering", {"seed": 0}),
        ("evaluation.neighbours:memorised", {"threshold": 1 / 3}),  # Yoon et al.
        # of what users call
        ("samplers.flow_density:ODE", {"solver": "dopri5", "tolerance": 1e-4, "solver_steps": 100, "trace": "auto"}),
        ("samplers.diffusion:SamplerConfig", {"solver": "ddim", "sampling_steps": 50, "spacing": "uniform"}),
        ("samplers.options:Guidance", {"interval": (0.0, 1.0), "weak": None}),
        ("samplers.sequential:DecodingOptions", {"temperature": 1.0, "top_k": 0, "top_p": 1.0}),
        ("sampling:sample", {"seed": 0, "length": None}),
        ("editing.resampling:Resampling", {"sampling_steps": 50, "jump": 5, "resamplings": None}),
        ("edit:superres", {"factor": 2}),
        ("edit:deblur", {"blur": 1.0}),
        ("edit:restore", {"noise": 0.0, "n": 1, "seed": 0}),
        ("edit:inpaint", {"n": 1, "seed": 0}),
        ("edit:impute", {"present": True, "n": 1, "seed": 0}),
        ("edit:invert", {"steps": 300, "starts": 4, "seed": 0}),
        ("editing.codes:interpolate", {"n": 8, "path": None, "seed": 0}),
        ("editing.codes:traverse", {"dimensions": 10, "n": 8, "width": 2.0}),
        ("editing.operators:Blur", {"smallest": 0.01}),
        ("editing.composition:composed", {"langevin_steps": 10}),
        ("compression.archive:compress", {"verify": True}),
        ("compression.archive:decompress", {"salvage": False}),
        ("comparison:compare", {"conditional": False, "budget": 25.0, "seeds": 1, "samples": 500}),
        ("evaluation.kernel:permutation_p", {"permutations": 500, "seed": 0}),
        ("evaluation.transport:wasserstein", {"p": 2}),
        ("evaluation.rows:scores", {"draws": 16, "seed": 0}),
        ("data.text:load", {"context": 64, "bytes": False}),
        ("data.sound:load", {"seconds": 0.5, "rate": 8000, "seed": 0}),
        # of parts that models take as they are
        ("transforms.univariate:Affine", {"bound": 3.0}),
        ("transforms.splines:RationalQuadratic", {"bins": 8, "bound": 5.0}),
        ("transforms.normal_scores:NormalScores", {"knots": 21}),
        ("networks.norm:NormSiLU", {"groups": 8}),
        ("networks.progressive:Equalised", {"kernel": 0, "gain": 2**0.5}),  # He's
        ("networks.conv:ConvNet", {"blocks": 1, "dropout": 0.0}),
        ("models.diffusion.vdm:LearntVP", {"last": 5.0, "hidden": 256}),
        ("samplers.ode:integrate_each", {"rtol": 1e-5, "atol": 1e-5}),
        ("samplers.ode:integrate_adaptive", {"rtol": 1e-5, "atol": 1e-5}),
        ("processes.gaussian:LinearVP", {"beta_min": 0.1, "beta_max": 20.0}),  # Song et al., after Ho et al.
        ("processes.gaussian:CosineVP", {"offset": 0.008}),  # Nichol & Dhariwal
        ("samplers.flow_density:first_time", {"share": 0.25}),
        ("samplers.guidance:classifier", {"scale": 1.0}),
        ("networks.mlp:scaled", {"last": 1.0}),
        ("networks.dcgan:DCGANDiscriminator", {"batch_norm": True}),
        ("transforms.linear:Squeeze", {"factor": 2}),
        ("models.energy.rbm:RBM.conditionals", {"beta": 1.0}),
        ("models.energy.rbm:RBM.visible_given", {"beta": 1.0}),
        ("models.energy.rbm:RBM.after_sweeps", {"beta": 1.0}),
        ("models.vae.base:GaussianVAE.log_weights_at", {"kl_weight": 1.0}),
        ("models.vae.hierarchy:Hierarchy.log_weights", {"kl_weight": 1.0}),
        ("models.discrete_diffusion.masked_diffusion:MaskedDiffusion.logits", {"scale": 1.0}),
        ("models.discrete_diffusion.masked_diffusion:MaskedDiffusion.states", {"scale": 1.0}),
        ("models.vae.td_vae:TDVAE.forecast", {"jump": 1}),
        ("models.gan.objectives:Objective", {"paired": False}),
        ("distributions.base:Mixture", {"components": 16}),
        ("distributions.base:Resampled", {"attempts": 100, "hidden": 128}),
        ("distributions.cells:RecordCells.noisy", {"share": 0.5}),
        ("distributions.output:output_distribution", {"components": 1}),
        ("editing.codes:encode", {"sampling_steps": 100}),
        ("editing.codes:decode", {"sampling_steps": 100}),
        ("editing.codes:reconstruct", {"sampling_steps": 100}),
        ("editing.codes:interpolate", {"sampling_steps": 100}),
        ("editing.codes:traverse", {"sampling_steps": 100}),
        ("editing.codes:arithmetic", {"sampling_steps": 100}),
        ("evaluation.annealed:annealed_log_prob", {"chains": 8}),
        ("evaluation.annealed:bracket", {"chains": 8}),
        ("evaluation.calibration:uniformity_p", {"bins": 10}),
        ("evaluation.divergences:by_quadrature", {"cell": 1.0}),
        ("evaluation.divergences:neighbour_kl", {"k": 5}),
        ("evaluation.inception:Inception.convolution", {"padded": True}),
        ("evaluation.transport:sliced_wasserstein", {"p": 2, "directions": 500}),
        ("training.players:refuse_too_large", {"shards": 1}),
        ("evaluation.evaluate:evaluate", {"downstream": False}),
    ],
)
def test_defaults_of_arguments(function: str, expected: dict[str, Any]) -> None:
    module, _, name = function.partition(":")
    found: Any = importlib.import_module(f"dgm.{module}")
    for part in name.split("."):
        found = getattr(found, part)
    parameters = inspect.signature(found).parameters
    assert {key: parameters[key].default for key in expected} == expected


OFF = {
    *("dropout", "condition_dropout", "context", "condition", "maps", "halvings", "observed", "null", "normed"),
    *("fixed_point", "swapped", "graph", "backward", "mean", "marginal", "seed", "labels", "numbers"),
}
ONCE = {"stride", "gates", "times", "channels", "each", "beta", "kl_weight", "evaluations"}


@pytest.mark.parametrize(
    "part", ["networks", "transforms", "samplers", "models", "distributions", "editing", "evaluation"]
)
def test_arguments_that_add_something_are_off_by_default(part: str) -> None:
    """Of every function and every class: dropout, a context, a mask that hides; what is repeated is there once.

    A seed that nobody chose is 0, or random.
    """
    found, package = dict[str, Any](), importlib.import_module(f"dgm.{part}")
    for module in pkgutil.walk_packages(package.__path__, f"dgm.{part}."):
        for owner in vars(importlib.import_module(module.name)).values():
            if getattr(owner, "__module__", "") != module.name or not callable(owner):
                continue
            inner = [one for one in vars(owner).values() if inspect.isfunction(one)] if inspect.isclass(owner) else []
            for function in [one for one in (owner, *inner) if inspect.isfunction(one)]:
                for name, parameter in inspect.signature(function).parameters.items():
                    if name in OFF | ONCE and parameter.default not in (inspect.Parameter.empty, None):
                        found[f"{function.__qualname__} {name}"] = (name, parameter.default)
    assert found
    assert {key: default for key, (name, default) in found.items() if default != (name in ONCE)} == {}


def test_the_classifier_of_features_is_that_of_the_figures() -> None:
    expected = {"version": 2, "width": 32, "features": 64, "epochs": 30, "batch": 64, "lr": 2e-3, "seed": 0}
    assert {**expected, "most_steps": 3000} == CLASSIFIER


def test_energies_are_trained_at_the_settings_of_the_table() -> None:
    """The step size, the temperature and the noise on data of each trainer; T = 1 but for chains that descend."""
    cold, plain = (0.2, 1.25e-4, 0.03), (0.01, 1.0, 0.03)
    expected = {"pcd": cold, "cd": cold, "nce": plain, "implicit": plain, "sliced": plain}
    expected |= dict.fromkeys(["explicit", "denoising"], (0.01, 1.0, 0.3))
    assert {name: trainer[1:] for name, trainer in TRAINERS.items()} == expected
    for name, (step_size, temperature, sigma) in expected.items():
        ebm = EBM(Space.continuous((2,)), EBM.Config(trainer=name, width=1))  # type: ignore[arg-type]
        assert (ebm.step_size, ebm.sigma) == (step_size, sigma)
        assert ebm.temperature == pytest.approx(temperature)


def test_first_layers_of_pixelcnns_are_seven_pixels_wide() -> None:
    """Table 1 of van den Oord et al. (2016)."""
    for name in ("pixelcnn", "gated_pixelcnn", "pixelrnn"):
        first = next(m for m in create(name, IMAGE).modules() if isinstance(m, CausalConv2d))
        assert (first.side, first.above) == (3, 3)


def test_vdms_noise_ends_at_a_standard_deviation_of_almost_all() -> None:
    """gamma from a sixth of the gap between two levels to 5, where alpha² is sigmoid(-5), as in its published code."""
    ends = create("vdm", IMAGE).path.ends
    assert ends.tolist() == pytest.approx([2 * math.log(2 / 255 / 6), 5.0])
