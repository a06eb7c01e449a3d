r"""Codes of images: the noise that the deterministic sampler makes them of, and ways between two of them.

.. math:: x_{s} = \alpha_s \hat x_0(x_t, t) + \sigma_s \hat\epsilon(x_t, t)

from data to noise for the code, and from noise to data back. Both are first-order solutions of one ODE, so what is
encoded and decoded again differs from the image by O(1 / steps).

Source: Denoising Diffusion Implicit Models (Song et al., 2020), arXiv:2010.02502, sections 4.3 and 5.4 (codes),
equation 67 (interpolation on a sphere).
Differs from it: data is taken as the state at the network's earliest time, at which nothing has to be known of t = 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dgm.networks.embeddings import check_labels
from dgm.protocols import Batch, Labels, Model
from dgm.samplers.ddim import ddim
from dgm.samplers.diffusion import denoiser

STEPS = 100
EARLIEST = 1e-3  # where a network knows t = 0 too


def encode(model: Model, x: Batch, y: Labels | None = None, *, steps: int = STEPS) -> Tensor:
    """(n, *shape), about N(0, I) where the model is a good one.

    Args:
        model: A `dgm.protocols.Denoising`.
        y: (n,) labels; None asks for none, of any model.
    """
    grid = _times(model, steps)
    return _last(model, model.scaling(x.to(model.scaling.loc.device)), y, grid) / _noise(model)


def decode(model: Model, z: Tensor, y: Labels | None = None, *, steps: int = STEPS) -> Batch:
    """What a code is the code of, in the data's own space."""
    grid = _times(model, steps).flip(0)
    return model.scaling.inverse(_last(model, z.to(model.scaling.loc) * _noise(model), y, grid))


def interpolate(z: Tensor, other: Tensor, weight: Tensor) -> Tensor:
    r"""Codes on the arc from one to another, so that they are as long as codes are.

    .. math:: \frac{\sin((1 - w)\theta)}{\sin\theta} z + \frac{\sin(w\theta)}{\sin\theta} z',
        \qquad \cos\theta = \frac{z \cdot z'}{\|z\| \|z'\|}

    Args:
        z, other: Of one shape.
        weight: (n,), 0 for ``z`` and 1 for ``other``.

    Returns:
        (n, *shape).
    """
    w = weight.reshape(-1, *[1] * z.dim()).to(z)
    theta = torch.acos((z.flatten() @ other.flatten() / (z.norm() * other.norm())).clamp(-1, 1))
    if theta.sin() < 1e-6:
        return torch.lerp(z[None], other[None], w)
    return (((1 - w) * theta).sin() * z + (w * theta).sin() * other) / theta.sin()


def _times(model: Model, steps: int) -> Tensor:
    """(steps + 1,), rising."""
    return torch.linspace(max(model.t_min, EARLIEST), 1, steps + 1, dtype=torch.float64).to(model.scaling.loc.device)


def _noise(model: Model) -> float:
    return float(model.path.sigma(torch.ones((), dtype=torch.float64)))


@torch.no_grad()
def _last(model: Model, x: Tensor, y: Labels | None, grid: Tensor) -> Tensor:
    denoise = denoiser(model, y if y is None else check_labels(y, model.config.classes))
    for state in ddim(denoise, model.path, x, grid.to(x)):
        x = state
    return x
