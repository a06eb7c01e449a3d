"""The game of a generator and a discriminator, and the settings that all generative adversarial networks share."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterator, Sequence
from dataclasses import Field, dataclass, field, fields
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from dgm.distributions.scaling import Scaling, refuse_discrete
from dgm.models.gan.networks import (
    NETWORKS,
    ConcatenatingDiscriminator,
    ConditionalGenerator,
    NetworkName,
    ProjectionDiscriminator,
    normalise_spectrally,
)
from dgm.models.gan.objectives import OBJECTIVES, ObjectiveName
from dgm.models.gan.penalties import PENALTIES
from dgm.modes import device_of, evaluated
from dgm.networks.conditioning import ConditionFeatures
from dgm.networks.conditions import EVERY_KIND, Marginal, check_condition, sampled_condition
from dgm.protocols import Batch, Conditions, PerExample, Regulariser, Symptom
from dgm.seeds import Seed, streams
from dgm.settings import setting
from dgm.space import Space

# the settings of DCGAN's training, arXiv:1511.06434, section 4, with an average of the weights
GAME: dict[str, Any] = {
    "batch": 64,
    "lr": 2e-4,
    "betas": (0.5, 0.999),
    "ema": 0.998,
    "schedule": "constant",
    "select": "last",
}
FLAT = 0.01  # of the discriminator's loss: a slope below this teaches it nothing
NEAR = 0.1  # times the median distance between nearest real examples: a generated one that is nearer is a copy
SATURATED, COLLAPSED = 0.9, 0.5  # shares of a batch
REMEDY = "train with --model.objective relativistic --model.r1 1 --model.r2 1"
OF_REMEDIED = "train longer, with a larger --batch or a smaller --lr"  # of a game that has those settings


@dataclass(frozen=True, kw_only=True)
class Options:
    """The settings of a game; a model's own `Config` has other defaults."""

    latent: int = setting(32, "dimensions of z", low=1)
    width: int = setting(48, "channels at full resolution, doubled at each halving; of perceptrons, a quarter", low=1)
    network: NetworkName = setting("upsampling", "networks for images; points and tables have perceptrons")
    objective: ObjectiveName = setting("non_saturating", "the losses of both players")
    critic_steps: int = setting(1, "discriminator's steps for each step of the generator", low=1, high=1000)
    spectral_norm: bool = setting(False, "spectral normalisation of the discriminator")
    r1: float = setting(0.0, "gamma of the penalty gamma/2 |dV/dx|² at real examples", low=0.0)
    r2: float = setting(0.0, "gamma of the same penalty at generated examples", low=0.0)
    gradient_penalty: float = setting(0.0, "weight of (|dV/dx| - 1)² between real and generated examples", low=0.0)
    one_sided_penalty: float = setting(0.0, "weight of the same where the slope is above 1", low=0.0)
    drift: float = setting(0.0, "weight of V² at real examples", low=0.0)
    penalty_every: int = setting(
        1, "interval of the penalties in steps; they are multiplied by it", low=1, high=100_000
    )
    weight_clip: float = setting(0.0, "bound of the discriminator's weights; 0 for none", low=0.0)
    conditioning: Literal["concatenation", "projection"] = setting(
        "concatenation", "how the discriminator gets the condition"
    )


def preset(name: str, default: Any) -> Any:
    """The field ``name`` of `Options` with another default."""
    options: dict[str, Field[Any]] = {option.name: option for option in fields(Options)}
    return field(default=default, metadata=options[name].metadata)


class Implicit(nn.Module, ABC):
    """A generator G(z, y), z ~ N(0, I), of samples without a density; no likelihood.

    Discrete data without a scale of its own is scaled to [-1, 1], and samples are rounded to the levels.

    Args:
        make: Makes the generator's network from the number of its inputs.
        flat: Whether the networks are perceptrons of the flattened x.
    """

    spaces: ClassVar[set[str]] = {"binary", "levels", "continuous"}

    def __init__(
        self, space: Space, config: Any, condition: Space | None, make: Callable[..., nn.Module], *, flat: bool = True
    ) -> None:
        super().__init__()
        self.space, self.config, self.condition = space, config, condition
        self.marginal = None if condition is None else Marginal(condition)
        self.scaling = Scaling(space)
        self.latent_space = Space.continuous((config.latent,))
        self.bounded = not space.scale if space.discrete else space.bounds is not None  # scaled x is in [-1, 1]
        self.flat = flat
        self.generator = ConditionalGenerator(make, config.latent, self.condition_features())

    def condition_features(self) -> ConditionFeatures:
        size = self.space.shape[1:] if len(self.space.shape) == 3 else None
        return ConditionFeatures(self.condition, size, flat=self.flat)

    @torch.no_grad()
    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        return self.reparameterised(n, y, seed)

    def rsample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        refuse_discrete(self.space)
        return self.reparameterised(n, y, seed)

    @torch.no_grad()
    @evaluated
    def sample_truncated(self, n: int, truncation: float, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        """Samples whose z is N(0, I) given that no number exceeds ``truncation`` in magnitude.

        Source: Large Scale GAN Training (Brock et al., 2018), arXiv:1809.11096, section 3.1.
        """
        noise = streams(n, seed, device_of(self))
        y = sampled_condition(y, self, noise)
        tail = torch.special.ndtr(torch.tensor(-truncation, dtype=torch.float64)).item()
        u = noise.uniform((self.config.latent,)).double()
        z = torch.special.ndtri(tail + (1 - 2 * tail) * u).clamp(-truncation, truncation)
        return self.decode(z.to(next(self.parameters())), y)

    @evaluated
    def reparameterised(self, n: int, y: Conditions | None, seed: Seed) -> Batch:
        like = next(self.parameters())
        noise = streams(n, seed, like.device)
        y = sampled_condition(y, self, noise)
        return self.decode(noise.normal((self.config.latent,)).to(like), y)

    def decode(self, z: Tensor, y: Conditions | None = None) -> Batch:
        """G(z, y) in the data's own numbers, for z of ``latent_space``."""
        return self.scaling.inverse(self.generated(z, check_condition(y, self.condition)))

    def generated_like(self, real: Tensor, y: Conditions | None) -> Tensor:
        """As many scaled examples, of new noise."""
        return self.generated(torch.randn(len(real), self.config.latent, device=real.device), y)

    def generated(self, z: Tensor, y: Conditions | None) -> Tensor:
        """Scaled examples from z (B, latent)."""
        x = self.generator(z, y)
        return x.tanh() if self.bounded else x

    def dequantised(self, x: Batch) -> Tensor:
        """Scaled x, with uniform noise in its cell where the data is discrete."""
        z = self.scaling(x)
        return z + (torch.rand_like(z) - 0.5) / self.scaling.scale if self.space.discrete else z


class AdversarialModel(Implicit):
    r"""A generator G(z, y), z ~ N(0, I), and a discriminator V(x, y) that learn from each other; no likelihood.

    Each step updates the discriminator ``critic_steps`` times, each time with new noise, and then the generator. Which
    losses they minimise, which penalties the discriminator has, and which networks they are, is chosen from three
    tables: `objectives`, `penalties` and `networks`. A model of the literature is a choice of them.

    The discriminator gets real discrete data with uniform noise of the width of one level, so that it cannot detect the
    grid; at the bounds of half that width, inwards.
    """

    players: ClassVar[tuple[str, ...]] = ("discriminator", "generator")
    conditions: ClassVar[frozenset[str]] = EVERY_KIND
    defaults: ClassVar[dict[str, Any]] = GAME

    def __init__(self, space: Space, config: Any, condition: Space | None = None) -> None:
        name = config.network if len(space.shape) == 3 else "dense"
        networks, shape, flat = NETWORKS[name], space.shape, name == "dense"
        make = partial(networks.generator, width=config.width, shape=shape)
        super().__init__(space, config, condition, make, flat=flat)
        self.objective = OBJECTIVES[config.objective]
        self.penalties = {name: weight for name in PENALTIES if (weight := getattr(config, name))}

        def discriminator(inputs: int) -> nn.Module:
            return networks.discriminator(inputs, config.width, shape, bool(self.penalties) or config.spectral_norm)

        inputs, features = space.dim if flat else shape[0], self.condition_features()
        self.discriminator: nn.Module
        if config.conditioning == "projection":
            self.discriminator = ProjectionDiscriminator(discriminator, inputs, features, condition)
        else:
            self.discriminator = ConcatenatingDiscriminator(discriminator, inputs, features)
        if config.spectral_norm:
            normalise_spectrally(self.discriminator)

    def losses(self, x: Batch, y: Conditions | None = None) -> Iterator[tuple[str, PerExample]]:
        y = check_condition(y, self.condition)
        real = self.lifted(x)
        for step in range(self.config.critic_steps):
            fake = self.generated_like(real, y)
            v_real, v_fake = self.judged(real, y), self.judged(fake.detach(), y)
            yield "discriminator", self.objective.discriminator(v_real, v_fake)
            self.clip_weights()
            if step < self.config.critic_steps - 1:
                real = self.lifted(x)
        v_fake = self.judged(fake, y)
        with torch.no_grad():
            v_real = self.judged(real, y) if self.objective.paired else v_fake
        yield "generator", self.objective.generator(v_real, v_fake)

    @torch.no_grad()
    def clip_weights(self) -> None:
        if c := self.config.weight_clip:
            torch._foreach_clamp_min_(list(self.discriminator.parameters()), -c)
            torch._foreach_clamp_max_(list(self.discriminator.parameters()), c)

    def regularisers(self) -> Sequence[Regulariser]:
        every = self.config.penalty_every
        return [Regulariser("discriminator", every, partial(self.penalty, name)) for name in self.penalties]

    def penalty(self, name: str, x: Batch, y: Conditions | None = None) -> PerExample:
        """One penalty of the table, times its weight."""
        y, real = check_condition(y, self.condition), self.lifted(x)
        with torch.no_grad():
            fake = real if name in ("r1", "drift") else self.generated_like(real, y)
        return self.penalties[name] * PENALTIES[name](lambda at: self.judged(at, y), real, fake)

    def diagnose(self, x: Batch, y: Conditions | None = None) -> dict[str, Symptom]:
        """Saturation: the share of examples at which the discriminator's loss has no gradient left. Duplicates: the
        share of generated examples that are copies of others in the batch.
        """
        y, real = check_condition(y, self.condition), self.lifted(x)
        fake = self.generated_like(real, y)
        copies = duplicates(real, fake)
        v = (self.judged(real, y), self.judged(fake, y))
        remedied = self.config.objective == "relativistic" and self.config.r1 and self.config.r2
        remedy = OF_REMEDIED if remedied else f"{REMEDY}, or with a smaller --lr"
        sure = f"the discriminator is sure of nearly every example, and learns nothing: {remedy}"
        alike = f"the generator has collapsed: {copies:.0%} of a batch are copies of one another: {remedy}"
        return {
            "saturation": Symptom(self.saturation(*v), SATURATED, sure),
            "duplicates": Symptom(copies, COLLAPSED, alike),
        }

    def saturation(self, v_real: Tensor, v_fake: Tensor) -> float:
        with torch.enable_grad():
            v = [v_real.detach().requires_grad_(), v_fake.detach().requires_grad_()]
            slopes = torch.autograd.grad(self.objective.discriminator(*v).sum(), v)
        return float((torch.stack(slopes).abs() < FLAT).double().mean())

    def judged(self, x: Tensor, y: Conditions | None) -> PerExample:
        """V of scaled examples."""
        return self.discriminator(x.flatten(1) if self.flat else x, y)

    def lifted(self, x: Batch) -> Tensor:
        """Dequantised x, in which the outer half of the cell at a bound is reflected inwards."""
        z = self.dequantised(x)
        return z - 2 * (z - z.clamp(-1, 1)) if self.space.discrete and self.bounded else z


def duplicates(real: Tensor, fake: Tensor) -> float:
    """The share of generated examples that are nearer to another one than `NEAR` of the real ones' median distance."""
    if len(real) < 2:
        return 0.0
    apart = [torch.cdist(x.flatten(1), x.flatten(1)).fill_diagonal_(torch.inf).min(1).values for x in (real, fake)]
    return float((apart[1] <= NEAR * apart[0].median()).double().mean())
