r"""Codes of images by DDIM inversion.

.. math:: x_{s} = \alpha_s \hat x_0(x_t, t) + \sigma_s \hat\epsilon(x_t, t)

from data to noise to encode, and from noise to data to decode. Both are first-order solutions of the same ODE, so the
reconstruction error is O(1 / steps).

Source: Denoising Diffusion Implicit Models (Song et al., 2020), arXiv:2010.02502, sections 4.3 and 5.4. Differs
from it: the image gets the noise of the path at t_0, the earliest time of the network or the time with noise of an
eighth of the distance of two grey levels. Networks are not trained on clean images: without this noise the codes of
digits are constant in constant regions, and neither decode nor interpolate well. Time steps decrease with t.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dgm.networks.conditions import check_condition
from dgm.protocols import Batch, Conditions, DenoisingModel
from dgm.samplers import flow_density
from dgm.samplers.ddim import ddim
from dgm.samplers.diffusion import denoiser
from dgm.seeds import Seed, streams

STEPS = 100
EARLIEST = 1e-4  # the first time of networks with t_min = 0
SHARE = 1 / 8  # standard deviation of the noise over the distance of two grey levels, smaller than for the density


def encode(
    model: DenoisingModel, x: Batch, y: Conditions | None = None, *, sampling_steps: int = STEPS, seed: Seed = 0
) -> Tensor:
    """The codes of images, (n, *shape), approximately N(0, I) for a good model.

    Args:
        model: A `dgm.protocols.Denoising`.
        y: (n, *condition); None for the unconditional model.
        seed: The seed of the small noise that is added to the images.
    """
    draw, grid = streams(len(x), seed, model.scaling.loc.device), _times(model, sampling_steps)
    x_0 = model.scaling(x.to(draw.device))
    x_t = model.path.corrupt(x_0, draw.normal(model.space.shape).to(x_0), grid[0].to(x_0))
    return _last(model, x_t, y, grid) / _noise(model)


def decode(model: DenoisingModel, z: Tensor, y: Conditions | None = None, *, sampling_steps: int = STEPS) -> Batch:
    """The decoded codes, in the space of the data."""
    grid = _times(model, sampling_steps).flip(0)
    x_1 = z.to(model.scaling.loc) * _noise(model)
    return model.scaling.inverse(_last(model, x_1, y, torch.cat([grid, grid.new_zeros(1)])))


def _times(model: DenoisingModel, sampling_steps: int) -> Tensor:
    """(sampling_steps + 1,) increasing times from t_0."""
    first = max(float(flow_density.first_time(model, SHARE)), EARLIEST)
    return torch.linspace(first**0.5, 1, sampling_steps + 1, dtype=torch.float64).square().to(model.scaling.loc.device)


def _noise(model: DenoisingModel) -> float:
    return float(model.path.sigma(torch.ones((), dtype=torch.float64)))


@torch.no_grad()
def _last(model: DenoisingModel, x: Tensor, y: Conditions | None, grid: Tensor) -> Tensor:
    denoise = denoiser(model, y if y is None else check_condition(y, model.condition))
    for state in ddim(denoise, model.path, x, grid.to(x)):
        x = state
    return x
