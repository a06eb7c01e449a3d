r"""Generative adversarial network with the non-saturating loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, softplus

from dgm.distributions.scaling import Scaling
from dgm.modes import evaluated
from dgm.networks.conv import Downward, Upward
from dgm.networks.embeddings import check_labels, sampled_labels
from dgm.networks.mlp import mlp
from dgm.protocols import Batch, Labels, PerExample, Regulariser
from dgm.seeds import Seed, streams
from dgm.settings import setting
from dgm.space import Space


class GAN(nn.Module):
    r"""Generator against discriminator; no likelihood.

    .. math::
        L_D = -\log D(x) - \log(1 - D(G(z))), \qquad L_G = -\log D(G(z)), \qquad z \sim N(0, I)

    D is the sigmoid of the discriminator's output. Images get DCGAN-shaped networks, points and tables perceptrons.
    Discrete data is scaled to [-1, 1] and samples are rounded to the levels, so the discriminator gets real data with
    uniform noise of one level's width, or it would know it by its grid; at the edges of half a level's, inwards.

    Source: Generative Adversarial Nets (Goodfellow et al., 2014), arXiv:1406.2661, equation 1 and, for L_G, the end of
    section 3; DCGAN (Radford et al., 2015), arXiv:1511.06434, for the optimiser; for the R1 penalty, which is off by
    default, Which Training Methods for GANs do actually Converge? (Mescheder et al., 2018), arXiv:1801.04406,
    equation 9. Differs from them: spectral normalisation in the discriminator; labels are concatenated to z and, as
    planes, to x.

    Args:
        space: Any but tokens.

    Example:
        >>> gan = GAN(Space.levels((1, 8, 8), 17), GAN.Config(width=8))
        >>> [player for player, _ in gan.losses(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))]
        ['discriminator', 'generator']
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        latent: int = setting(32, "dimensions of z", low=1)
        width: int = setting(
            48, "channels at full resolution, doubled at each halving; of perceptrons, a quarter", low=1
        )
        r1: float = setting(0.0, "gamma of the R1 penalty on real data; 0 has none", low=0.0)
        r1_every: int = setting(16, "steps between two R1 penalties, each multiplied by as many", low=1)
        classes: int = setting(0, "labels to condition on; 0 trains without", low=0)

    players: ClassVar[tuple[str, ...]] = ("discriminator", "generator")
    spaces: ClassVar[set[str]] = {"binary", "levels", "continuous"}
    defaults: ClassVar[dict[str, Any]] = {
        "batch": 64,
        "lr": 4e-4,
        "betas": (0.5, 0.999),
        "ema": 0.998,
        "schedule": "constant",
        "select": "last",
    }

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__()
        self.space, self.config = space, config
        self.scaling = Scaling(space)
        inputs, image = config.latent + config.classes, len(space.shape) == 3
        wide = [4 * config.width] * 3
        if image:
            self.generator: nn.Module = Upward(inputs, config.width, space.shape)
            self.discriminator: nn.Module = Downward(space.shape[0] + config.classes, config.width, space.shape)
        else:
            self.generator = nn.Sequential(mlp([inputs, *wide, space.dim]), nn.Unflatten(1, space.shape))
            self.discriminator = nn.Sequential(mlp([space.dim + config.classes, *wide, 1]), nn.Flatten(0))
        self.image = image

    def losses(self, x: Batch, y: Labels | None = None) -> Iterator[tuple[str, PerExample]]:
        y = check_labels(y, self.config.classes)
        fake = self.generated(torch.randn(len(x), self.config.latent, device=x.device), y)
        real = self.judged(self.lifted(x), y)
        yield "discriminator", softplus(-real) + softplus(self.judged(fake.detach(), y))
        yield "generator", softplus(-self.judged(fake, y))

    def regularisers(self) -> Sequence[Regulariser]:
        if not self.config.r1:
            return ()
        return (Regulariser("discriminator", self.config.r1_every, self.r1_penalty),)

    def r1_penalty(self, x: Batch, y: Labels | None = None) -> PerExample:
        """gamma / 2 |dD/dx|^2 at real x, D the logit."""
        with torch.enable_grad():
            z = self.lifted(x).requires_grad_()
            logits = self.judged(z, check_labels(y, self.config.classes))
            (gradient,) = torch.autograd.grad(logits.sum(), z, create_graph=True)
        return 0.5 * self.config.r1 * gradient.square().flatten(1).sum(1)

    @evaluated
    def sample(self, n: int, y: Labels | None = None, *, seed: Seed = None) -> Batch:
        noise = streams(n, seed, next(self.parameters()).device)
        y = sampled_labels(y, self, noise)
        with torch.no_grad():
            return self.scaling.inverse(self.generated(noise.normal((self.config.latent,)), y))

    def generated(self, z: Tensor, y: Labels | None) -> Tensor:
        """Scaled examples from z (B, latent)."""
        x = self.generator(z if y is None else torch.cat([z, one_hot(y, self.config.classes).to(z)], 1))
        return x if self.space.kind == "continuous" and self.space.bounds is None else x.tanh()

    def judged(self, x: Tensor, y: Labels | None) -> Tensor:
        """The discriminator's logit of scaled examples."""
        if y is not None:
            label = one_hot(y, self.config.classes).to(x)
            x = torch.cat([x, label.view(*label.shape, *[1] * (x.dim() - 2)).expand(-1, -1, *x.shape[2:])], 1)
        return self.discriminator(x if self.image else x.flatten(1))

    def lifted(self, x: Batch) -> Tensor:
        z = self.scaling(x)
        if not self.space.discrete:
            return z
        z = z + (torch.rand_like(z) - 0.5) / self.scaling.scale
        return z - 2 * (z - z.clamp(-1, 1))  # the outer half of an edge level's cell is folded onto the inner one
