r"""Restoration by a diffusion of codes: samples of images given a linear measurement of the decoded image.

.. math:: y = A x + \sigma_y n, \qquad x | z \sim (\mu(z), v(z)), \qquad z \sim p(z)

The state of the sampler is a noisy code z_t. At each step a clean code is drawn given both the state and the
measurement, and gets the noise of the next time,

.. math:: z_0 \sim q(z_0 | z_t, y) \propto N(z_0; \hat z_0(z_t), r_t^2 I) \,
    N(y; A \mu(z_0), \sigma_y^2 + A^{\circ 2} v(z_0)), \qquad z_s = \alpha_s z_0 + \sigma_s \epsilon

where each number of y has its own variance, from the squared elements of A and the variances v of the decoder. Of
standard normal codes r_t² = sigma_t² / (alpha_t² + sigma_t²) is their variance given z_t. q is replaced by the normal
distribution at its mode: two steps of Gauss and Newton from the predicted code find the mode, and the precision I /
r_t² + J^T V^-1 J has the Jacobian J of A mu, which takes one derivative of the decoder for each dimension of the code.
The method is exact for standard normal codes and a linear decoder with independent numbers of y, for any number of
steps. Otherwise it is an approximation.

Source: Improving Diffusion Inverse Problem Solving with Decoupled Noise Annealing (Zhang et al., 2024),
arXiv:2407.01521, algorithm 1 and section 3.3, for latent diffusion. Differs from it: the normal distribution at the
mode in place of Langevin steps; one prediction in place of the steps of an ODE; r_t is the standard deviation above in
place of sigma_t; the variance of the decoder is part of the noise. It is at least `MISFIT`², also in a decoder without
a variance, such as that of an autoencoder, since no code decodes to x exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dgm.distributions.scaling import Scaling
from dgm.editing.operators import Masked, Operator
from dgm.editing.resampling import Resampling
from dgm.editing.restore import Step, prior, sample_states
from dgm.models.two_stage import TwoStage, taken
from dgm.processes.gaussian import GaussianPath
from dgm.processes.parameterisation import Denoise
from dgm.protocols import Conditions, State
from dgm.seeds import Seed, streams

MISFIT = 0.1  # the least standard deviation of x around a decoded code, of images in [-1, 1]
NEWTON_STEPS = 2
SMALLEST = 1e-8  # a variance; that of a masked pixel is 0

# from codes in the units of the path to A mu and its variances, (B, m)
Measured = Callable[[Tensor], tuple[Tensor, Tensor]]


def restore(
    model: TwoStage,
    measured: Tensor,
    operator: Operator,
    y: Conditions | None = None,
    *,
    noise_std: float = 0.0,
    seed: Seed = None,
    resampling: Resampling | None = None,
) -> Iterator[State]:
    """Samples of x given ``measured`` = A x + noise, as states from noise to data; arguments as
    `dgm.editing.restore.restore`.

    Args:
        model: Of a prior that is a `dgm.protocols.Denoising` and a first stage that is a `dgm.protocols.CodeMoments`.
    """
    of_codes, loc = model.prior, model.prior.scaling.loc
    draw, target = streams(len(measured), seed, loc.device), measured.to(loc).flatten(1)

    def noise() -> Tensor:
        return draw.normal(of_codes.space.shape).to(loc)

    def measurement(z: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance = model.first_stage.moments_given_code(of_codes.scaling.inverse(z), taken(model.first_stage, y))
        spread = operator.variance(variance.clamp_min(MISFIT**2)).flatten(1)
        return operator(mean).flatten(1), spread.clamp_min(SMALLEST) + noise_std**2

    step = conditioned_step(prior(of_codes, taken(of_codes, y)), of_codes.path, target, measurement, noise)
    for state in sample_states(of_codes, step, noise, (resampling or Resampling()).with_default(1)):
        yield state._replace(x=model.decode(state.x, y))


def inpaint(
    model: TwoStage,
    x: Tensor,
    known: Tensor,
    y: Conditions | None = None,
    *,
    seed: Seed = None,
    resampling: Resampling | None = None,
) -> Iterator[State]:
    """Samples of the unknown pixels of ``x`` given the known ones, which keep their values."""
    loc = model.prior.scaling.loc
    x, known = x.to(loc.device), known.to(loc.device)
    given = Scaling(model.space).to(loc)(x)
    for state in restore(model, given * known, Masked(known), y, seed=seed, resampling=resampling):
        yield state._replace(x=torch.where(known, x, state.x))


def conditioned_step(
    denoise: Denoise, path: GaussianPath, target: Tensor, measurement: Measured, noise: Callable[[], Tensor]
) -> Step:
    """The step of the formulas above; ``target`` is y, (B, m)."""

    def step(z_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
        alpha, sigma = path.alpha(t), path.sigma(t)
        variance = (sigma.square() / (alpha.square() + sigma.square())).clamp_min(SMALLEST)
        z_0 = given_measurement(denoise(z_t, t).x_0, variance, target, measurement, noise())
        return path.alpha(s) * z_0 + path.sigma(s) * noise() if path.sigma(s) > 0 else z_0

    return step


def given_measurement(mean: Tensor, variance: Tensor, target: Tensor, measurement: Measured, eps: Tensor) -> Tensor:
    """A draw of N(z; mean, variance I) N(y; f(z), v(z)), by its normal approximation at the mode."""
    z = mean
    for _ in range(NEWTON_STEPS):
        (f, v), jacobian = measurement(z), derivative(lambda at: measurement(at)[0], z)
        moved = (jacobian @ z.flatten(1)[..., None])[..., 0]
        towards = mean.flatten(1) / variance + (jacobian.mT @ ((target - f + moved) / v)[..., None])[..., 0]
        precision = jacobian.mT @ (jacobian / v[..., None]) + torch.eye(jacobian.shape[2]).to(z) / variance
        factor = torch.linalg.cholesky(precision)
        z = torch.cholesky_solve(towards[..., None], factor)[..., 0].view_as(mean)
    spread = torch.linalg.solve_triangular(factor.mT, eps.flatten(1)[..., None], upper=True)
    return z + spread[..., 0].view_as(mean)


def derivative(f: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """The Jacobian (B, m, d) of a function of independent examples, one derivative for each dimension of z."""
    directions = torch.eye(z[0].numel()).to(z).view(-1, 1, *z.shape[1:])

    def column(direction: Tensor) -> Tensor:
        return torch.func.jvp(f, (z,), (direction.expand_as(z),))[1]

    columns: Tensor = torch.func.vmap(column, out_dims=2)(directions)
    return columns
