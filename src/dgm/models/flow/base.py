"""The base class of flows, p(x) by a change of variables."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable
from itertools import repeat
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dgm.distributions.base import Base, Normal, base
from dgm.errors import Unsupported
from dgm.modes import device_of, evaluated
from dgm.networks.conditioning import ConditionFeatures
from dgm.networks.conditions import EVERY_KIND, Marginal, check_condition, sampled_condition
from dgm.protocols import (
    CAPABILITIES,
    Batch,
    Conditions,
    EstimatedLikelihood,
    ExactLikelihood,
    Invertible,
    PerExample,
    Reparameterised,
    has,
)
from dgm.seeds import Seed, streams
from dgm.space import Space
from dgm.transforms import ActNorm, Logit, Transform
from dgm.transforms.transform import Mapped

PART = 2048  # examples whose intermediate values stay in a cache and in memory that is used again


class Flow(nn.Module, ABC):
    r"""An abstract model of a transform z = f(x; y) and a base distribution p(z).

    .. math:: \log p(x|y) = \log p(f(x; y)) + \log |\det \partial f / \partial x|

    Density with respect to Lebesgue measure in the units of the data, in nats. It is exact if the base and the
    log-determinant are exact, and an estimate otherwise. After this class's ``__init__`` a model sets ``transform``,
    and ``features``, the embedding of its condition, unless it defines `conditioning` itself.

    Args:
        space: Continuous. Discrete data is dequantised by `dgm.create`.
        config: Its ``base`` is the name of the base distribution; without it, the base is normal.
        exact: Whether the transform's log-determinant is exact.
    """

    spaces: ClassVar[set[str]] = {"continuous"}
    conditions: ClassVar[frozenset[str]] = EVERY_KIND
    reparameterised: ClassVar[bool] = True  # whether the inverse has the derivatives of its argument and parameters
    method = "change of variables"
    transform: Transform
    features: ConditionFeatures

    def __init__(self, space: Space, config: Any, condition: Space | None = None, *, exact: bool = True) -> None:
        super().__init__()
        self.space, self.config, self.condition = space, config, condition
        self.marginal = None if condition is None else Marginal(condition)
        self.base: Base = base(getattr(config, "base", "normal"), space.shape)
        self.capabilities = frozenset(one for one in CAPABILITIES if has(type(self), one))
        self.capabilities -= {EstimatedLikelihood if exact and self.base.exact else ExactLikelihood}
        if not exact:  # of which the exact density of a prior would make no exact density of x
            self.capabilities -= {Invertible}
        if not (self.reparameterised and self.base.reparameterised):
            self.capabilities -= {Reparameterised}

    @property
    def likelihood_method(self) -> str:
        """How the density is computed, and the alpha of the logit of bounded data."""
        return "; ".join([self.method, *(str(part) for part in self.transform.modules() if isinstance(part, Logit))])

    def log_prob(self, x: Batch, y: Conditions | None = None) -> PerExample:
        z, ladj = self.encode_and_ladj(x, y)
        return self.base.log_prob(z) + ladj

    def log_prob_estimate(self, x: Batch, y: Conditions | None = None) -> PerExample:
        return self.log_prob(x, y)

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        return -self.log_prob(x, y)

    @torch.no_grad()
    def initialise(self, x: Batch, y: Conditions | None = None) -> None:
        """Standardises the inputs of each actnorm on the batch."""
        norms = [part for part in self.modules() if isinstance(part, ActNorm)]
        if norms:
            hooks = [norm.register_forward_pre_hook(lambda norm, args: norm.initialise(args[0])) for norm in norms]
            self.transform(x, self.conditioning(y))  # of the whole batch at once
            for hook in hooks:
                hook.remove()

    @evaluated
    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        with torch.no_grad():
            return self.rsample(n, y, seed=seed)

    def rsample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        noise = streams(n, seed, device_of(self))
        y = sampled_condition(y, self, noise)
        return self.decode(self.base.sample(noise).to(next(self.parameters())), y)

    @evaluated
    @torch.no_grad()
    def sample_tempered(self, n: int, y: Conditions | None = None, *, temperature: float, seed: Seed = None) -> Batch:
        """Samples whose noise is multiplied by the temperature, see arXiv:1807.03039, section 6.

        Raises:
            Unsupported: If the base is not normal.
        """
        if not isinstance(self.base, Normal):
            raise Unsupported(
                "a temperature is that of a normal base", "leave it out, or train with --model.base normal"
            )
        noise = streams(n, seed, device_of(self))
        y = sampled_condition(y, self, noise)
        return self.decode(temperature * self.base.sample(noise).to(next(self.parameters())), y)

    @property
    def latent_space(self) -> Space:
        return Space.continuous(self.space.shape)

    def encode(self, x: Batch, y: Conditions | None = None) -> Tensor:
        """z = f(x), of the shape of x."""
        return self.encode_and_ladj(x, y)[0]

    def decode(self, z: Tensor, y: Conditions | None = None) -> Batch:
        """x = f^-1(z)."""
        return in_parts(self.transform.inverse, z, self.conditioning(y))[0]

    def encode_and_ladj(self, x: Batch, y: Conditions | None = None) -> tuple[Tensor, PerExample]:
        """f(x) and log |det df/dx|, (B,)."""
        return in_parts(self.transform, x, self.conditioning(y))

    def conditioning(self, y: Conditions | None) -> Any:
        """The c of the transform: the features of the condition, (B, K)."""
        y = check_condition(y, self.condition)
        return None if y is None else self.features(y, next(self.parameters()))


def in_parts(transform: Callable[[Tensor, Tensor | None], Mapped], x: Tensor, c: Tensor | None) -> Mapped:
    """``transform(x, c)``, of `PART` examples at a time where a CPU needs no gradient."""
    if torch.is_grad_enabled() or x.device.type != "cpu" or len(x) <= PART:
        return transform(x, c)
    conditions = repeat(None) if c is None else c.split(PART)
    mapped = [transform(*part) for part in zip(x.split(PART), conditions, strict=False)]
    return torch.cat([z for z, _ in mapped]), torch.cat([ladj for _, ladj in mapped])
