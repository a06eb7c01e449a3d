r"""GAN whose resolution grows in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from dgm.models.gan.base import GAME, AdversarialModel, Options, preset
from dgm.models.gan.networks import NetworkName
from dgm.models.gan.objectives import ObjectiveName
from dgm.networks.progressive import Growing
from dgm.networks.step_count import CountsSteps
from dgm.settings import setting
from dgm.space import Space


class ProgressiveGAN(CountsSteps, AdversarialModel):
    r"""Progressively grown GAN; no likelihood.

    .. math::
        L_D = V(G(z)) - V(x) + \lambda (|\nabla V(\hat x)| - 1)^2 + \epsilon_{drift} V(x)^2, \qquad L_G = -V(G(z))

    Both networks begin at the smallest size, 4×4 of an image whose sides are powers of two. After each
    ``steps_per_stage`` steps a stage of twice the size fades in during as many steps, its weight alpha from 0 to 1, and
    then it is trained for as many again. Weights are scaled at run time, the generator's features normalised at each
    pixel. Real examples are of the full size, and the discriminator averages them to the size of its stages. Until the
    network is grown samples are images of the size so far, interpolated.

    Source: Progressive Growing of GANs for Improved Quality, Stability, and Variation (Karras et al., 2017),
    arXiv:1710.10196, sections 2 to 4 and appendix A.1. Differs from it: stages are counted in steps, not in images;
    real images are not blended while a stage fades in; one batch size for all stages.

    Args:
        space: Any space but tokens; points have perceptrons, which do not grow.

    Example:
        >>> from dgm.space import Space
        >>> gan = ProgressiveGAN(Space.levels((1, 16, 16), 17), ProgressiveGAN.Config(width=8, steps_per_stage=10))
        >>> for _ in range(15):
        ...     gan.after_step()
        >>> gan.generator.network.sizes, float(gan.generator.network.grown)
        ([(4, 4), (8, 8), (16, 16)], 0.5)
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Options):
        latent: int = preset("latent", 64)
        width: int = preset("width", 16)
        network: NetworkName = preset("network", "progressive")
        objective: ObjectiveName = preset("objective", "wasserstein")
        gradient_penalty: float = preset("gradient_penalty", 10.0)
        drift: float = preset("drift", 0.001)
        conditioning: Literal["concatenation", "projection"] = preset("conditioning", "projection")
        steps_per_stage: int = setting(500, "steps in which a stage fades in, and is trained after that", low=1)

    defaults: ClassVar[dict[str, Any]] = GAME | {"lr": 1e-3, "betas": (0.0, 0.99), "ema": 0.999}
    counter: ClassVar[str] = "steps"
    steps: Tensor

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__(space, config, condition)
        self.register_counter()
        self.grow()

    def after_step(self, *outputs: Tensor) -> None:
        self.steps += 1
        self.grow()

    def grow(self) -> None:
        """Sets the stages of both networks: trained in even phases of ``steps_per_stage``, fading in in odd ones."""
        phase, fraction = divmod(float(self.steps) / self.config.steps_per_stage, 1)
        grown = phase // 2 + (fraction if phase % 2 else 0.0)
        for network in self.modules():
            if isinstance(network, Growing):
                network.grown.fill_(min(grown, len(network.sizes) - 1))
