r"""Neural spline flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from dgm.models.flow.base import Flow
from dgm.networks.conditioning import ConditionFeatures
from dgm.networks.conv import ConvNet
from dgm.settings import setting
from dgm.space import Space
from dgm.transforms import (
    Autoregressive,
    ChannelCoupling,
    Composition,
    Flattened,
    Permutation,
    RationalQuadratic,
    Transform,
    VectorCoupling,
    alternating,
    convolutional_prior,
    glow_steps,
    multi_scale,
    to_real_numbers,
)


class NSF(Flow):
    r"""Flow of rational-quadratic splines, exact log-density.

    .. math:: \log p(x) = \log p(z) + \sum_l \sum_d \log g'_{l,d}(u_d^{(l-1)}), \qquad
        u_d^{(l)} = g_{l,d}(u_d^{(l-1)})

    with u^(0) = x, and g a monotone spline whose knots and slopes are functions of the dimensions before d
    (autoregressive) or of the half that a coupling keeps. It is the identity outside [-bound, bound]. With
    couplings, an image goes through the scales of `Glow`, with splines of half of the channels. Density with respect
    to Lebesgue measure in the units of the data; `log_prob` in nats, summed over dimensions.

    Training is in float32 unless ``--precision`` says otherwise: with knots from products in bfloat16 the likelihood of
    tables is up to a nat worse.

    Source: Neural spline flows (Durkan et al., 2019), arXiv:1906.04032, sections 3 and 5.3 and appendix A. Differs from
    it: the dimensions of a vector are reversed between autoregressive layers and the halves alternate between
    couplings, in place of linear layers; networks of vectors have no residual blocks; bounded x goes through a logit.

    Args:
        space: Continuous, of any shape, which is flattened; with couplings, an image of even sides is not.

    Example:
        >>> import torch
        >>> flow = NSF(Space.continuous((2,)), NSF.Config(layers=2, hidden=16))
        >>> flow.log_prob(torch.zeros(5, 2)).shape
        torch.Size([5])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        kind: Literal["autoregressive", "coupling"] = setting("autoregressive", "networks of the splines' parameters")
        layers: int = setting(3, "layers of splines, of an image at each scale", low=1, high=1000)
        scales: int = setting(2, "couplings: squeezes of an image, as far as its sides are even", low=1, high=10)
        hidden: int = setting(64, "width, or channels, of the hidden layers of each network", low=1)
        blocks: int = setting(2, "hidden layers, or residual blocks, of each network", low=1, high=1000)
        bins: int = setting(8, "bins of each spline", low=1, high=200)
        bound: float = setting(5.0, "the splines map [-bound, bound] onto itself", low=0.1, high=1000)
        base: Literal["normal", "mixture", "resampled"] = setting("normal", "distribution of z, see docs/flows.md")

    defaults: ClassVar[dict[str, Any]] = {
        "batch": 256,
        "ema": 0.995,
        "clip": 10.0,
        "warmup": 100,
        "precision": "32-true",
    }

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__(space, config, condition)
        shape = space.shape
        in_scales = config.kind == "coupling" and len(shape) == 3 and shape[1] % 2 == shape[2] % 2 == 0
        self.features = ConditionFeatures(condition, shape[1:] if in_scales else None)
        if in_scales:
            parts = multi_scale(shape, config.scales, before=lambda _: [], after=self.steps, prior=self.prior)
        else:
            layers = [part for layer in range(config.layers) for part in self.layer(layer)]
            parts = [Flattened(Composition(layers))]
        self.transform = Composition([*to_real_numbers(space), *parts])

    def steps(self, shape: tuple[int, ...]) -> list[Transform]:
        """The steps of one scale of an image."""
        return glow_steps(shape[0], self.config.layers, self.image_coupling)

    def image_coupling(self, channels: int) -> Transform:
        spline, config = RationalQuadratic(self.config.bins, self.config.bound), self.config
        inputs, outputs = channels // 2 + self.features.width, channels // 2 * spline.parameters
        return ChannelCoupling(ConvNet(inputs, config.hidden, outputs, blocks=config.blocks), spline)

    def prior(self, shape: tuple[int, ...]) -> Transform:
        return convolutional_prior(shape[0], self.features.width)

    def layer(self, layer: int) -> list[Transform]:
        config, dim = self.config, self.space.dim
        spline = RationalQuadratic(config.bins, config.bound)
        how: dict[str, Any] = {"hidden": [config.hidden] * config.blocks, "context": self.features.width}
        if config.kind == "coupling":
            return [VectorCoupling(alternating(dim, layer), spline, **how)]
        return [Autoregressive(dim, spline, **how), Permutation(range(dim)[::-1])]
