"""A model of data in other units is the same model: its densities move with the units, and its samples and codes do."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from dgm import contracts
from dgm.errors import BadInput
from dgm.likelihood import Kind, kinds_of, log_likelihood
from dgm.models.table import MODELS
from dgm.protocols import Denoising, Latent, Samplable, has
from dgm.registry import create, model_class
from dgm.space import Space

LOC, SCALE = (8.0, -3.0, 0.5, 0.0), (16.0, 0.25, 2.0, 1.0)  # of which sums and products are rounded little
NAMES = [name for name in MODELS if "continuous" in getattr(model_class(name), "spaces", {"continuous"})]
DENOISERS = ("score_sde", "ddpm", "ddim", "vdm", "edm", "flow_matching", "ot_cfm", "rectified_flow", "mean_flow")
SMALL: dict[str, dict[str, Any]] = {
    "rbm": {"hidden": 6, "sampling_steps": 20},
    "ncsn": {"noise_scales": 3, "langevin_steps": 1},
} | {name: {"sampling_steps": 6} for name in ("ebm", "jem", "energy_matching", "score_matching", *DENOISERS)}


def made(name: str, **units: Any) -> Any:
    """With the same weights in any units, of four numbers or of an image of four pixels."""
    for shape in ((4,), (1, 2, 2), (1, 4, 1)):
        torch.manual_seed(0)
        try:
            model = create(name, Space.continuous(shape, **units), **SMALL.get(name, {}))
        except BadInput:
            continue
        return contracts.perturbed(model)
    raise AssertionError(name)


@pytest.mark.parametrize("name", NAMES)
def test_in_other_units_a_density_is_divided_by_them_and_samples_are_multiplied(name: str) -> None:
    """log p(loc + scale z) = log p(z) - log |scale|, of every kind of likelihood. Kills: any part in the wrong units, a
    log-determinant left out or of the other sign.
    """
    plain, other = made(name), made(name, loc=LOC, scale=SCALE)
    loc, scale = (torch.tensor(v, dtype=torch.float32).view(plain.space.shape) for v in (LOC, SCALE))
    z = torch.randn(5, *plain.space.shape)
    x = loc + scale * z
    few_steps: dict[str, Any] = {"solver": "heun", "solver_steps": 2} if has(plain, Denoising) else {}
    for kind in kinds_of(plain):
        nats = []
        for model, given in ((plain, z), (other, x)):
            torch.manual_seed(1)
            ode = few_steps if kind is Kind.ESTIMATE else {}
            nats.append(log_likelihood(model, given, kind=kind, **ode).nats)
        torch.testing.assert_close(nats[1], nats[0] - math.log(math.prod(SCALE)), rtol=1e-5, atol=1e-2)
    if has(plain, Samplable):
        drawn = [model.sample(4, seed=3) for model in (plain, other)]
        torch.testing.assert_close(drawn[1], loc + scale * drawn[0], rtol=1e-3, atol=1e-2)
    if has(plain, Latent):
        torch.testing.assert_close(other.encode(x), plain.encode(z), rtol=1e-3, atol=1e-3)
