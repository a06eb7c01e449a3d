r"""Residual flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from dgm.models.flow.base import Flow
from dgm.networks.conditioning import ConditionFeatures
from dgm.networks.lipschitz import lipschitz
from dgm.settings import setting
from dgm.space import Space
from dgm.transforms import ActNorm, Composition, Flattened, Inverse, Residual, Squeeze, Transform, to_real_numbers

EXACT = 16  # numbers up to which the log-determinant is exact by default


class ResidualFlow(Flow):
    r"""Residual flow: an unbiased estimate of the log-density, exact in few dimensions.

    .. math:: \log p(x) = \log p(z) + \sum_k \log \det \Big( I + \frac{\partial g_k}{\partial x} \Big), \qquad
        z = f_K \circ \dots \circ f_1(x), \quad f_k(x) = x + g_k(x)

    Each g_k has a Lipschitz constant below 1, by spectral normalisation of its layers, so that f_k is invertible by a
    fixed-point iteration and its determinant is positive. The log-determinant is exact, by the Jacobian, of up to 16
    numbers, and otherwise, and of images, estimated by "Russian roulette", see `dgm.transforms.Residual`. Density with
    respect to Lebesgue measure in the units of the data, in nats.

    Source: Residual Flows for Invertible Generative Modeling (Chen et al., 2019), arXiv:1906.02735, sections 3.1-3.3.
    Differs from it: exact for few numbers; one squeeze in the middle of an image's blocks; the induced norm is the
    Euclidean one; the number of terms is geometric with mean 1 beyond 2 in training and 20 in evaluation.

    Args:
        space: Continuous; (C, H, W) by convolutions, any other shape as a vector.

    Example:
        >>> import torch
        >>> flow = ResidualFlow(Space.continuous((2,)), ResidualFlow.Config(blocks=2))
        >>> flow.log_prob(torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        blocks: int = setting(4, "residual maps", low=1, high=1000)
        hidden: int = setting(48, "width, or channels, of the networks", low=1)
        layers: int = setting(2, "hidden layers of each network", low=1, high=100)
        coefficient: float = setting(0.97, "bound on the norm of each layer", low=0.01, high=0.99)
        determinant: Literal["auto", "exact", "roulette"] = setting("auto", "auto is exact for up to 16 numbers")
        base: Literal["normal", "mixture", "resampled"] = setting("normal", "distribution of z, see docs/flows.md")

    defaults: ClassVar[dict[str, Any]] = {"batch": 128, "lr": 2e-3, "warmup": 100, "ema": 0.999, "clip": 10.0}
    reparameterised = False

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        image = len(space.shape) == 3
        exact = config.determinant == "exact" or (config.determinant == "auto" and not image and space.dim <= EXACT)
        super().__init__(space, config, condition, exact=exact)
        self.features, self.exact = ConditionFeatures(condition, space.shape[1:] if image else None), exact
        self.method = f"change of variables, {'exact' if exact else 'estimated'} log-determinant"
        shape = space.shape if image else (space.dim,)
        squeezes = image and shape[1] % 2 == shape[2] % 2 == 0
        first = config.blocks // 2 if squeezes else config.blocks
        maps: list[Transform] = []
        for _ in range(first):
            maps += self.block(shape)
        if squeezes:
            shape = (4 * shape[0], shape[1] // 2, shape[2] // 2)
            rest = [part for _ in range(first, config.blocks) for part in self.block(shape)]
            maps += [Squeeze(2), *rest, Inverse(Squeeze(2))]
        if not image and len(space.shape) != 1:
            maps = [Flattened(Composition(maps))]
        self.transform = Composition([*to_real_numbers(space), *maps])

    def block(self, shape: tuple[int, ...]) -> list[Transform]:
        config = self.config
        sizes = [shape[0] + self.features.width, *[config.hidden] * config.layers, shape[0]]
        network = lipschitz(sizes, shape[1:], config.coefficient)
        return [ActNorm(shape[0]), Residual(network, exact=self.exact)]
