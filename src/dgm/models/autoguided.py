r"""Autoguidance as a model: a composite of a denoising model and a weak model; samples, no likelihood.

.. math:: \hat x_0 = \hat x_0^{\mathrm{weak}}(x_t, y) + s \, (\hat x_0(x_t, y) - \hat x_0^{\mathrm{weak}}(x_t, y))

The prediction is not the score of a density of x, so it has samples and no likelihood. `dgm.Guidance` guides a single
call of `dgm.sample`; this composite stores the guidance with the model.

Source: Guiding a Diffusion Model with a Bad Version of Itself (Karras et al., 2024), arXiv:2406.02507, equation 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from dgm.distributions.scaling import Scaling
from dgm.processes.gaussian import GaussianPath
from dgm.processes.parameterisation import Prediction
from dgm.protocols import (
    Batch,
    Conditions,
    Denoising,
    Model,
    PartlyHidden,
    PerExample,
    Progressive,
    Samplable,
    State,
    condition_of,
)
from dgm.samplers import diffusion
from dgm.samplers.diffusion import SamplerConfig
from dgm.samplers.guidance import extrapolated, refuse_other_path
from dgm.samplers.options import refuse_other_model
from dgm.seeds import Seed
from dgm.settings import setting
from dgm.space import Space


class Autoguided(nn.Module):
    """A denoising model, guided away from a weak one.

    Args:
        space: That of both.
        condition: That of both.
        model: A `dgm.protocols.Denoising`.
        weak: One of the same data, condition and path, smaller or trained for fewer steps.

    Example:
        >>> from dgm.registry import create
        >>> strong, weak = (create("ddpm", Space.continuous((2,)), width=width) for width in (16, 8))
        >>> Autoguided.of(strong, weak, scale=2.0).sample(3, seed=0).shape
        torch.Size([3, 2])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        scale: float = setting(2.0, "s: 1 is the model itself, more leads further away from the weak one", low=0.0)

    capabilities = frozenset({Samplable, Progressive, Denoising})
    likelihood_method = "the guided prediction is not the score of a density of x"

    def __init__(
        self, space: Space, config: Config, condition: Space | None = None, *, model: Model, weak: Model
    ) -> None:
        super().__init__()
        refuse_other_model(weak, model)
        refuse_other_path(weak, model)
        self.space, self.config, self.condition = space, config, condition
        self.model, self.weak = model, weak

    @classmethod
    def of(cls, model: Model, weak: Model, *, scale: float = 2.0) -> Autoguided:
        condition = condition_of(model)
        return cls(model.space, cls.Config(scale=scale), condition, model=model, weak=weak)

    @property
    def parts(self) -> dict[str, Model]:
        return {"model": self.model, "weak": self.weak}

    @property
    def path(self) -> GaussianPath:
        return self.model.path

    @property
    def scaling(self) -> Scaling:
        return self.model.scaling

    @property
    def t_min(self) -> float:
        return self.model.t_min

    @property
    def sampler(self) -> SamplerConfig:
        return self.model.sampler

    def predict(self, x_t: Tensor, t: PerExample, y: Conditions | PartlyHidden | None = None) -> Prediction:
        weak, strong = (Prediction(*model.predict(x_t, t, y)) for model in (self.weak, self.model))
        return extrapolated(weak, strong, self.config.scale)

    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        return diffusion.sample(self, n, y, seed=seed)

    def trajectory(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Iterator[State]:
        return diffusion.trajectory(self, n, y, seed=seed)
