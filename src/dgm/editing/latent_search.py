r"""The code of an example under a generator without an encoder, by descent.

.. math:: \hat z = \arg\min_z \frac1D |G(z) - x|^2 + \frac{\lambda}{d} (|z| - \sqrt d)^2

in scaled units, -1 to 1 for images. The second term holds the code where z ~ N(0, I) of d dimensions lies, a shell of
radius sqrt(d): elsewhere a generator was never trained, and neither interpolations nor edits of the code mean anything.

Source: Generative Visual Manipulation on the Natural Image Manifold (Zhu et al., 2016), arXiv:1609.03552, equation 4,
and Inverting The Generator Of A Generative Adversarial Network (Creswell & Bharath, 2016), arXiv:1611.05644, section
III. Differs from them: several starts for each example, of which the best is kept; the penalty of the norm.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dgm.models.gan.base import AdversarialModel
from dgm.modes import evaluated
from dgm.protocols import Batch, Conditions
from dgm.seeds import Seed, streams

STEPS, STARTS, LR = 300, 4, 0.1
PRIOR = 0.01  # lambda


@evaluated
def invert(
    model: AdversarialModel,
    x: Batch,
    y: Conditions | None = None,
    *,
    steps: int = STEPS,
    starts: int = STARTS,
    seed: Seed = 0,
) -> Tensor:
    """Codes z, (n, d), with G(z, y) near x.

    Args:
        model: Any GAN.
        starts: Random codes that each example is descended from.
    """
    like = next(model.parameters())
    target, (d,) = model.scaling(x.to(like.device)).repeat_interleave(starts, 0), model.latent_space.shape
    y = None if y is None else y.to(like.device).repeat_interleave(starts, 0)
    z = streams(len(x), seed, like.device).normal((starts, d)).flatten(0, 1).to(like).requires_grad_()
    optimiser = torch.optim.Adam([z], lr=LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    with torch.enable_grad():
        for _ in range(steps):
            objective = misfit(model, z, target, y)
            optimiser.zero_grad()
            torch.autograd.backward(objective.sum(), inputs=[z])
            optimiser.step()
            schedule.step()
    with torch.no_grad():
        best = misfit(model, z, target, y).view(-1, starts).argmin(1)
    return z.detach().view(-1, starts, d)[torch.arange(len(x)), best]


def misfit(model: AdversarialModel, z: Tensor, target: Tensor, y: Conditions | None) -> Tensor:
    """The objective of each code, (n,)."""
    error = (model.generated(z, y) - target).square().flatten(1).mean(1)
    return error + PRIOR / z.shape[1] * (z.norm(dim=1) - math.sqrt(z.shape[1])).square()
