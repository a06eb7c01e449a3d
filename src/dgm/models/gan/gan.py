r"""Generative adversarial network with the non-saturating loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from dgm.distributions.scaling import Scaling, refuse_discrete
from dgm.modes import evaluated
from dgm.networks.conditioning import ConditionFeatures
from dgm.networks.conditions import EVERY_KIND, Marginal, check_condition, sampled_condition
from dgm.networks.conv import Discriminator, Generator
from dgm.networks.mlp import mlp
from dgm.protocols import Batch, Conditions, PerExample, Regulariser
from dgm.seeds import Seed, streams
from dgm.settings import setting
from dgm.space import Space
from dgm.transforms.coupling import beside


class GAN(nn.Module):
    r"""Generative adversarial network; no likelihood.

    .. math::
        L_D = -\log D(x) - \log(1 - D(G(z))), \qquad L_G = -\log D(G(z)), \qquad z \sim N(0, I)

    D is the sigmoid of the discriminator's output. Images have DCGAN-like networks, points and tables perceptrons.
    Discrete data is scaled to [-1, 1] and samples are rounded to the levels. The discriminator gets real data with
    uniform noise of the width of one level, so that it cannot detect the grid; at the bounds of half that width,
    inwards.

    Source: Generative Adversarial Nets (Goodfellow et al., 2014), arXiv:1406.2661, equation 1 and, for L_G, the end of
    section 3; DCGAN (Radford et al., 2015), arXiv:1511.06434, for the optimiser; for the R1 penalty, which is off by
    default, Which Training Methods for GANs do actually Converge? (Mescheder et al., 2018), arXiv:1801.04406,
    equation 9. Differs from them: spectral normalisation in the discriminator; the condition is concatenated to z
    and, as planes, to x.

    Args:
        space: Any space but tokens.

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
        r1: float = setting(0.0, "gamma of the R1 penalty on real data; 0 for none", low=0.0)
        r1_every: int = setting(
            16, "interval of the R1 penalty in steps; the penalty is multiplied by it", low=1, high=100_000
        )

    players: ClassVar[tuple[str, ...]] = ("discriminator", "generator")
    spaces: ClassVar[set[str]] = {"binary", "levels", "continuous"}
    conditions: ClassVar[frozenset[str]] = EVERY_KIND
    defaults: ClassVar[dict[str, Any]] = {
        "batch": 64,
        "lr": 4e-4,
        "betas": (0.5, 0.999),
        "ema": 0.998,
        "schedule": "constant",
        "select": "last",
    }

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__()
        self.space, self.config, self.condition = space, config, condition
        self.marginal = None if condition is None else Marginal(condition)
        self.scaling = Scaling(space)
        image, wide = len(space.shape) == 3, [4 * config.width] * 3

        def generator(inputs: int) -> nn.Module:
            if image:
                return Generator(inputs, config.width, space.shape)
            return nn.Sequential(mlp([inputs, *wide, space.dim]), nn.Unflatten(1, space.shape))

        def discriminator(inputs: int) -> nn.Module:
            if image:
                return Discriminator(inputs, config.width, space.shape)
            return nn.Sequential(mlp([inputs, *wide, 1]), nn.Flatten(0))

        self.generator = Player(generator, config.latent, condition)
        self.discriminator = Player(discriminator, space.shape[0] if image else space.dim, condition)
        self.image = image

    def losses(self, x: Batch, y: Conditions | None = None) -> Iterator[tuple[str, PerExample]]:
        y = check_condition(y, self.condition)
        fake = self.generated(torch.randn(len(x), self.config.latent, device=x.device), y)
        real = self.judged(self.lifted(x), y)
        yield "discriminator", softplus(-real) + softplus(self.judged(fake.detach(), y))
        yield "generator", softplus(-self.judged(fake, y))

    def regularisers(self) -> Sequence[Regulariser]:
        if not self.config.r1:
            return ()
        return (Regulariser("discriminator", self.config.r1_every, self.r1_penalty),)

    def r1_penalty(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """gamma / 2 |dD/dx|^2 at real x, D the logit."""
        with torch.enable_grad():
            z = self.lifted(x).requires_grad_()
            logits = self.judged(z, check_condition(y, self.condition))
            (gradient,) = torch.autograd.grad(logits.sum(), z, create_graph=True)
        return 0.5 * self.config.r1 * gradient.square().flatten(1).sum(1)

    @torch.no_grad()
    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        return self.reparameterised(n, y, seed)

    def rsample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        refuse_discrete(self.space)
        return self.reparameterised(n, y, seed)

    @evaluated
    def reparameterised(self, n: int, y: Conditions | None, seed: Seed) -> Batch:
        like = next(self.parameters())
        noise = streams(n, seed, like.device)
        y = sampled_condition(y, self, noise)
        return self.scaling.inverse(self.generated(noise.normal((self.config.latent,)).to(like), y))

    def generated(self, z: Tensor, y: Conditions | None) -> Tensor:
        """Scaled examples from z (B, latent)."""
        x = self.generator(z, y)
        return x if self.space.kind == "continuous" and self.space.bounds is None else x.tanh()

    def judged(self, x: Tensor, y: Conditions | None) -> Tensor:
        """The discriminator's logit of scaled examples."""
        return self.discriminator(x if self.image else x.flatten(1), y)

    def lifted(self, x: Batch) -> Tensor:
        z = self.scaling(x)
        if not self.space.discrete:
            return z
        z = z + (torch.rand_like(z) - 0.5) / self.scaling.scale
        return z - 2 * (z - z.clamp(-1, 1))  # the outer half of the cell at a bound is reflected inwards


class Player(nn.Module):
    """A network whose input is concatenated with an embedding of the condition.

    Args:
        network: Builds the network from its number of input channels.
        inputs: Number of channels without the condition.
    """

    def __init__(self, network: Callable[[int], nn.Module], inputs: int, condition: Space | None) -> None:
        super().__init__()
        self.features = ConditionFeatures(condition)
        self.network = network(inputs + self.features.width)

    def forward(self, x: Tensor, y: Conditions | None = None) -> Tensor:
        return self.network(x if y is None else beside(x, self.features(y, x)))
