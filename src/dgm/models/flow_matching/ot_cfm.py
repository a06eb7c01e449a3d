r"""Flow matching with minibatch optimal transport, an estimate of the likelihood.

In each batch noise and data are paired by the optimal assignment,

.. math:: \pi = \arg\min_\pi \sum_i \| x_i - \epsilon_{\pi(i)} \|^2,

and `FlowMatching` is trained on the straight lines between the pairs, which rarely cross, so that its paths are
straighter and need fewer steps. Each example and each noise vector is used once, so the marginals are those of
independent pairs. Density and samples are those of `FlowMatching`, in nats.

Source: Improving and Generalizing Flow-Based Generative Models with Minibatch Optimal Transport (Tong et al., 2023),
arXiv:2302.00482, section 3.2.3 and algorithm 3 with sigma = 0; Multisample Flow Matching (Pooladian et al., 2023),
arXiv:2304.14772, section 3.
Differs from them: pairs are the assignment itself, not draws from the transport plan; labelled examples are paired
within their label, since otherwise the noise would depend on the label.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from dgm.models.flow_matching.flow_matching import FlowMatching
from dgm.models.gaussian_denoiser import GaussianDenoiser
from dgm.processes.parameterisation import Prediction
from dgm.protocols import Batch, Conditions, PartlyHidden, PerExample
from dgm.samplers import flow_density
from dgm.samplers.diffusion import SamplerConfig
from dgm.settings import setting
from dgm.space import Space

# entropic regularisation of Sinkhorn's algorithm, annealed, in standard deviations of the gains; iterations of each
ENTROPIC, ITERATIONS = (0.2, 0.05), 8


class OTCFM(GaussianDenoiser):
    """Predicts the velocity between paired data and noise.

    Example:
        >>> model = OTCFM(Space.continuous((2,)), OTCFM.Config())
        >>> model.loss(torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        width: int = setting(24, "channels of the network, a multiple of 8", low=8)
        sampling_steps: int = setting(15, "sampling steps of Heun's method", low=1, high=100_000)
        condition_dropout: float = setting(
            0.1, "dropout rate of conditions in training, for guidance", low=0.0, high=1.0
        )

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__(space, config, condition)
        chosen = FlowMatching.Config(width=config.width, condition_dropout=config.condition_dropout)
        self.matching = FlowMatching(space, chosen, condition)
        self.matching.marginal = None  # conditions are drawn by the outer model
        self.path, self.t_min = self.matching.path, self.matching.t_min
        self.sampler = SamplerConfig(solver="heun", sampling_steps=config.sampling_steps)
        self.likelihood_method = flow_density.method(self)

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """||v(x_t, t) - (eps - x_0)||² / D for the pairs."""
        x_0, y = self.scaling(x), self.checked(y)
        eps = torch.randn_like(x_0)
        eps = eps[pairs(x_0, eps) if y is None else pairs_within(x_0, eps, y)]
        return self.matching.loss_of_pairs(x_0, eps, self.partly_hidden(y))

    def predict(self, x_t: Tensor, t: PerExample, y: Conditions | PartlyHidden | None = None) -> Prediction:
        return self.matching.predict(x_t, t, y)


@torch.no_grad()
def pairs(x: Tensor, z: Tensor) -> Tensor:
    """The assignment of rows of z to the n rows of x that minimises the sum of squared distances.

    The squared norms are the same in every assignment, so it maximises the sum of <x, z>. A number added to a whole row
    or column changes nothing either: the dual variables of a few iterations of Sinkhorn's algorithm (arXiv:1306.0895,
    algorithm 1) are added, which leaves the exact solver a third of its work.

    Args:
        x, z: (n, ...).

    Returns:
        int64 (n,), a permutation.
    """
    with torch.autocast(x.device.type, enabled=False):  # the exact solver has no bfloat16
        return assignment(x.flatten(1).float() @ z.flatten(1).float().T)


def assignment(gain: Tensor) -> Tensor:
    """The columns of the rows of a square matrix, which is overwritten, that maximise the sum."""
    deviation = gain.std(correction=0).clamp_min(torch.finfo(gain.dtype).tiny)
    gain -= gain.amax(1, keepdim=True)
    gain /= deviation
    for entropic in ENTROPIC:
        kernel = (gain / entropic).clamp_min_(-30).exp_()  # smaller values underflow in float32
        v = torch.ones_like(gain[0])
        for _ in range(ITERATIONS):
            u = 1 / (kernel @ v)
            v = 1 / (u @ kernel)
        gain += entropic * u.log()[:, None]
        gain += entropic * v.log()
    _, columns = linear_sum_assignment(gain.cpu().numpy(), maximize=True)
    return torch.from_numpy(columns).to(gain.device)


def pairs_within(x: Tensor, z: Tensor, y: Conditions) -> Tensor:
    """As `pairs`, within the examples of each condition; an example with a unique condition keeps its noise."""
    _, group = y.flatten(1).unique(dim=0, return_inverse=True) if y.ndim > 1 else y.unique(return_inverse=True)
    chosen = torch.empty_like(group)
    for number in group.unique():
        (rows,) = (group == number).nonzero(as_tuple=True)
        chosen[rows] = rows[pairs(x[rows], z[rows])]
    return chosen
