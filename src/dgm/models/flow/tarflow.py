r"""Transformer autoregressive flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from dgm.errors import BadInput
from dgm.models.flow.base import Flow
from dgm.modes import device_of, evaluated
from dgm.networks.conditioning import ConditionFeatures
from dgm.networks.conditions import sampled_condition
from dgm.protocols import Batch, Conditions, PerExample
from dgm.seeds import Seed, streams
from dgm.settings import setting
from dgm.space import Space
from dgm.transforms import CausalAffine, Composition, Inverse, Patches, Scaled


class TarFlow(Flow):
    r"""TarFlow: blocks of causal transformers over patches in alternating order, exact log-density.

    .. math:: \log p(x) = \log p(z) - \sum_{k} \sum_{t} \alpha^k_t(z^{k-1}_{<t}), \qquad
        z^k_t = (z^{k-1}_t - \mu^k_t(z^{k-1}_{<t})) \exp(-\alpha^k_t(z^{k-1}_{<t})), \quad z^0 = x

    Density with respect to Lebesgue measure in the units of the data, in nats. Two models of the paper are settings.
    For likelihoods ``noise`` is 0 and grey levels are dequantised by uniform noise; for samples the model is trained on
    x with Gaussian ``noise``, and the noise of a sample is removed by the model's own score (Tweedie's formula),

    .. math:: x = \tilde x + \sigma^2 \nabla \log p(\tilde x), \qquad \tilde x = f^{-1}(z)

    with ``denoise``. Such samples do not follow p, and the likelihood of a model with noise is that of the noisy x at
    the clean one: never rank it beside that of a model without.

    Source: Normalizing Flows are Capable Generative Models (Zhai et al., 2024), arXiv:2412.06329, sections 2.2-2.5.
    Differs from it: the first patch is transformed too; alpha is bounded by 3 tanh; the transformer has rotary besides
    learned positions; noise is added to grey levels that are dequantised; no guidance.

    Args:
        space: Continuous. An image is a sequence of patches, any other shape of single numbers.

    Example:
        >>> flow = TarFlow(Space.continuous((1, 4, 4)), TarFlow.Config(width=8))
        >>> flow.log_prob(torch.zeros(3, 1, 4, 4)).shape
        torch.Size([3])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        blocks: int = setting(4, "autoregressive maps, in alternating order", low=1, high=100)
        layers: int = setting(2, "transformer layers of each map", low=1, high=100)
        width: int = setting(32, "width of the transformers, a multiple of twice the heads", low=2)
        heads: int = setting(2, "heads of the attention", low=1)
        patch: int | None = setting(None, "side of a patch; by default 4, 2 or 1, a fifth of the image at most", low=1)
        dropout: float = setting(0.0, "dropout rate of features", low=0.0, high=0.95)
        noise: float = setting(0.0, "standard deviation of noise added to x in training, of x in [-1, 1]", low=0.0)
        denoise: bool = setting(False, "remove the noise of samples by the model's score")
        inverse: Literal["cache", "fixed_point"] = setting("cache", "how samples are computed")
        base: Literal["normal", "mixture", "resampled"] = setting("normal", "distribution of z, see docs/flows.md")

    defaults: ClassVar[dict[str, Any]] = {"batch": 64, "lr": 1e-3, "warmup": 100, "ema": 0.999, "clip": 10.0}
    reparameterised = False
    transform: Any  # a Composition, whose first part is indexed

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__(space, config, condition)
        if config.denoise and not config.noise:
            raise BadInput("denoise removes the noise of training, which is 0", "set noise too, such as 0.05")
        self.features = ConditionFeatures(condition, space.shape[1:] if len(space.shape) == 3 else None)
        patches = Patches(space.shape, patch_of(space.shape, config.patch))
        maps = [
            CausalAffine(
                patches.sequence,
                reverse=k % 2 == 1,
                width=config.width,
                layers=config.layers,
                heads=config.heads,
                dropout=config.dropout,
                condition=self.features.width * (patches.patch**2 if self.features.has_maps else 1),
                fixed_point=config.inverse == "fixed_point",
            )
            for k in range(config.blocks)
        ]
        self.transform = Composition([Scaled(space), patches, *maps, Inverse(patches)])

    def conditioning(self, y: Conditions | None) -> Any:
        """The features of the condition, (B, K), or those of each patch, (B, T, K p²)."""
        c = super().conditioning(y)
        return c if c is None or c.ndim == 2 else self.transform[1](c)[0]

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        if self.config.noise:
            x = x + self.config.noise * self.transform[0].scaling.scale * torch.randn_like(x)
        return -self.log_prob(x, y)

    @evaluated
    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        noise = streams(n, seed, device_of(self))
        y = sampled_condition(y, self, noise)
        with torch.no_grad():
            z = self.base.sample(noise).to(next(self.parameters()))
            return self.denoised(z, y) if self.config.denoise else self.decode(z, y)

    def denoised(self, z: Tensor, y: Conditions | None) -> Batch:
        """x~ + sigma² grad log p(x~) at the x~ of z, all of it before x is clamped to the bounds of its space."""
        c, (scaled, *maps) = self.conditioning(y), self.transform
        flow = Composition(maps)
        noisy = flow.inverse(z, c)[0]
        with torch.enable_grad():
            z, ladj = flow(noisy.requires_grad_(), c)
            (score,) = torch.autograd.grad((self.base.log_prob(z) + ladj).sum(), noisy)
        return scaled.inverse(noisy.detach() + self.config.noise**2 * score)[0]


def patch_of(shape: tuple[int, ...], patch: int | None) -> int:
    """The side of the patches of an image.

    Raises:
        BadInput: If it does not divide the image's sides.
    """
    sides = shape[1:] if len(shape) == 3 else (1,)
    if patch is None:
        return next(p for p in (4, 2, 1) if p == 1 or all(side % p == 0 and side >= 5 * p for side in sides))
    if any(side % patch for side in sides):
        raise BadInput(f"patches of {patch} do not divide an image of {sides}", "choose a divisor of both sides")
    return patch
