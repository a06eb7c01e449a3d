"""Defaults that are a source's numbers, and the constants of formulas: what nobody may change without saying so."""

from __future__ import annotations

from typing import Any

import pytest

from dgm.models.autoencoder import autoencoder
from dgm.models.energy import ebm
from dgm.models.flow import realnvp
from dgm.models.mixture import gmm
from dgm.networks import norm
from dgm.networks.causal_conv import CausalConv2d
from dgm.registry import create, model_class
from dgm.space import Space

IMAGE = Space.levels((1, 8, 8), 256)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nade", {"hidden": 500}),  # Larochelle & Murray, on MNIST
        ("pixelcnn", {"layers": 15}),  # van den Oord et al.
        ("pixelrnn", {"layers": 7, "width": 16}),  # the same, on MNIST
    ],
)
def test_settings(name: str, expected: dict[str, Any]) -> None:
    config = create(name, IMAGE).config
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
    assert realnvp.ALPHA == 0.05  # section 4.1
    assert ebm.RESTARTED == 0.05  # algorithm 1
    assert norm.EPS == 1e-5  # torch's own
    assert (gmm.PRESENT, autoencoder.MOMENTUM) == (1e-8, 0.02)


def test_first_layers_of_pixelcnns_are_seven_pixels_wide() -> None:
    """Table 1 of van den Oord et al. (2016)."""
    for name in ("pixelcnn", "gated_pixelcnn", "pixelrnn"):
        first = next(m for m in create(name, IMAGE).modules() if isinstance(m, CausalConv2d))
        assert (first.side, first.above) == (3, 3)
