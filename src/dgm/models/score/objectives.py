r"""Four objectives of score matching; they are equal up to constants that do not depend on the score.

With q_sigma the density of x~ = x + sigma eps and s a function:

=============  ==========================================================================  =======================
objective      expectation over x~                                                         source
=============  ==========================================================================  =======================
``explicit``   ½ ||s(x~) - grad log q_sigma(x~)||², by a Parzen estimate on the batch       Vincent, equation 9
``denoising``  ½ ||s(x~) - (x - x~) / sigma²||²                                             Vincent, equation 11
``implicit``   tr grad s(x~) + ½ ||s(x~)||²                                                 Hyvärinen, equation 4
``sliced``     v' grad s(x~) v + ½ ||s(x~)||², v random signs                               Song, equation 8
=============  ==========================================================================  =======================

Source: Estimation of Non-Normalized Statistical Models by Score Matching (Hyvärinen, 2005), theorem 1; A Connection
Between Score Matching and Denoising Autoencoders (Vincent, 2011); Sliced Score Matching (Song et al., 2019),
arXiv:1905.07088.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from dgm.protocols import PerExample

Score: TypeAlias = Callable[[Tensor], Tensor]


def explicit(score: Score, x_0: Tensor, noisy: Tensor, sigma: float) -> PerExample:
    """Explicit score matching with the Parzen density of x_0, (N, ...), at ``noisy``, (B, ...)."""
    apart = (x_0 - noisy[:, None]).flatten(2) / sigma
    windows = (-apart.square().sum(2) / 2).softmax(1)
    target = torch.einsum("bn,bnd->bd", windows, apart) / sigma
    return (score(noisy).flatten(1) - target).square().sum(1) / 2


def denoising(score: Score, x_0: Tensor, noisy: Tensor, sigma: float) -> PerExample:
    return (score(noisy) - (x_0 - noisy) / sigma**2).square().flatten(1).sum(1) / 2


def implicit(score: Score, x_0: Tensor, noisy: Tensor, sigma: float) -> PerExample:
    with torch.enable_grad():
        noisy = noisy.detach().requires_grad_()
        s = score(noisy)
        trace = torch.zeros_like(s.flatten(1)[:, 0])
        for d, component in enumerate(s.flatten(1).unbind(1)):
            (row,) = torch.autograd.grad(component.sum(), noisy, create_graph=True)
            trace = trace + row.flatten(1)[:, d]
        return trace + s.square().flatten(1).sum(1) / 2


def sliced(score: Score, x_0: Tensor, noisy: Tensor, sigma: float) -> PerExample:
    v = torch.randint_like(noisy, 2) * 2 - 1
    with torch.enable_grad():
        noisy = noisy.detach().requires_grad_()
        s = score(noisy)
        (row,) = torch.autograd.grad(s, noisy, v, create_graph=True)
        return ((row * v) + s.square() / 2).flatten(1).sum(1)


OBJECTIVES: Mapping[str, Callable[[Score, Tensor, Tensor, float], PerExample]] = {
    "explicit": explicit,
    "denoising": denoising,
    "implicit": implicit,
    "sliced": sliced,
}
