r"""Variational dequantisation: the noise of integers is drawn from a flow that is conditional on them.

.. math:: \log P(x) \ge E_{q(u|x)} [\log p(x + u) - \log q(u|x)], \qquad
    u = \sigma(g(\epsilon; x)), \quad \epsilon \sim N(0, I)

Uniform noise makes a smooth density p fill the unit cube of every x evenly. With a learnt q the bound can be tight:
its gap is the KL divergence of q from p(u|x).

Source: Flow++ (Ho et al., 2019), arXiv:1902.00275, equations 11 and 12. Differs from it: couplings are affine.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from dgm.distributions.cells import UnitCells
from dgm.distributions.scaling import Scaling
from dgm.networks.conv import ConvNet
from dgm.networks.mlp import mlp
from dgm.protocols import Batch, PerExample
from dgm.space import Space
from dgm.transforms.coupling import AffineCoupling, checkerboard
from dgm.transforms.transform import Composition

COUPLINGS, HIDDEN = 4, 32


class LearntUnitCells(UnitCells):
    """The cell of the integer x is [x, x + 1), and q(v|x) is a flow. Source: see the module.

    The first coupling moves all dimensions by functions of x alone; the others move every second dimension, the even
    and the odd ones in turn, by functions of x and of the rest. At first u is the sigmoid of normal noise.

    Example:
        >>> v, log_q = LearntUnitCells(Space.levels((1, 4, 4), 3)).lift(torch.zeros(5, 1, 4, 4, dtype=torch.uint8))
        >>> v.shape, log_q.shape
        (torch.Size([5, 1, 4, 4]), torch.Size([5]))
    """

    method = "variational dequantisation"

    def __init__(self, space: Space) -> None:
        super().__init__(space)
        self.scaling, image = Scaling(space), len(space.shape) == 3
        shape, width = (space.shape, space.shape[0]) if image else ((space.dim,), space.dim)
        mask = checkerboard(shape)
        masks = [torch.zeros_like(mask), *(mask ^ bool(k % 2) for k in range(COUPLINGS))]
        self.flow = Composition(
            AffineCoupling(
                one, ConvNet(2 * width, HIDDEN, 2 * width) if image else mlp([2 * width, HIDDEN, HIDDEN, 2 * width])
            )
            for one in masks
        )

    def lift(self, x: Batch) -> tuple[Tensor, PerExample | float]:
        c = self.scaling(x)
        x = x.to(c)
        epsilon = torch.randn_like(c)
        if len(self.space.shape) != 3:
            c, epsilon = c.flatten(1), epsilon.flatten(1)
        z, ladj = self.flow(epsilon, c)
        log_slopes = logsigmoid(z) + logsigmoid(-z)  # du/dz = u (1 - u)
        log_q = (
            -0.5 * (epsilon.square() + math.log(2 * math.pi)).flatten(1).sum(1) - ladj - log_slopes.flatten(1).sum(1)
        )
        return torch.minimum(x + z.sigmoid().view_as(x), torch.nextafter(x + 1, x)), log_q
