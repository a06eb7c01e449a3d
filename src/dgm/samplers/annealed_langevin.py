"""Annealed Langevin dynamics: from noise to data through smaller and smaller perturbations of the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from torch import Tensor

from dgm.samplers.langevin import langevin


def annealed_langevin(
    score: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    sigmas: Tensor,
    *,
    steps: int,
    step_size: float,
    noise: Callable[[], Tensor],
) -> Iterator[Tensor]:
    r"""Langevin steps on each perturbed density in turn, their size in proportion to its variance.

    .. math:: x \leftarrow x + \tfrac{\alpha_i}{2} s(x, \sigma_i) + \sqrt{\alpha_i} z, \qquad \alpha_i = r \sigma_i^2

    Source: Generative Modeling by Estimating Gradients of the Data Distribution (Song & Ermon, 2019),
    arXiv:1907.05600, algorithm 1, whose step size is epsilon = r sigma_L².

    Args:
        score: Of a state (n, ...) and its level, a scalar.
        x: A state at the first level.
        sigmas: (levels,), falling.
        steps: Of each level.
        step_size: r, the step over the level's variance.
        noise: Gives a standard normal of x's shape.

    Yields:
        The state after each step, levels · steps of them.
    """
    for sigma in sigmas:
        size = step_size * sigma.item() ** 2
        chain = langevin(partial(_at, score, sigma), x, steps=steps, step_size=size, noise=noise)
        for state in chain:
            x = state
            yield x


def _at(score: Callable[[Tensor, Tensor], Tensor], sigma: Tensor, x: Tensor) -> Tensor:
    return score(x, sigma)
