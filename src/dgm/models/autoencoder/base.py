"""The part that all autoencoders share: code, reconstruction, and the Gaussian of the codes."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dgm.distributions.output import Bernoulli, output_distribution
from dgm.distributions.scaling import Scaling
from dgm.protocols import Batch, Conditions, PerExample
from dgm.seeds import Seed, streams
from dgm.space import Space

MOMENTUM = 0.02  # of the running moments of the codes


class CodeAndReconstruction(nn.Module):
    r"""An encoder z = f(x) and a decoder g(z); no likelihood.

    An autoencoder does not define p(x). Samples are decoded from a normal distribution with the running mean and
    covariance of the training codes, the simplest density of codes; any model of ``latent_space`` can take its place:
    see `dgm.models.two_stage`.

    Source of the density fitted afterwards: From Variational to Deterministic Autoencoders (Ghosh et al., 2019),
    arXiv:1903.12436, section 4. Differs from it: one Gaussian where Ghosh et al. have ten.

    Subclasses set ``encoder`` and ``decoder``, between (B, D) scaled x, flattened, and (B, latent) codes.

    Args:
        space: Binary, levels or continuous.
        latent: Dimensions of the code.
    """

    spaces: ClassVar[set[str]] = {"binary", "levels", "continuous"}
    defaults: ClassVar[dict[str, Any]] = {"batch": 100, "weight_decay": 0.01}
    likelihood_method = "an autoencoder does not define p(x)"

    encoder: Any
    decoder: Any
    mean: Tensor
    covariance: Tensor

    def __init__(self, space: Space, config: Any, latent: int) -> None:
        super().__init__()
        self.space, self.config, self.latent = space, config, latent
        self.scaling = Scaling(space)
        self.observed = output_distribution(space)
        self.register_buffer("mean", torch.zeros(latent))
        self.register_buffer("covariance", torch.eye(latent))

    @abstractmethod
    def loss_and_codes(self, x: Tensor) -> tuple[PerExample, Tensor]:
        """The loss of x, and the codes f(x), whose moments are followed."""

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        return self.loss_and_codes(x)[0]

    def loss_and_outputs(self, x: Batch, y: Conditions | None = None) -> tuple[PerExample, tuple[Tensor, ...]]:
        """The loss, and the codes."""
        loss, z = self.loss_and_codes(x)
        return loss, (z.detach(),)

    @torch.no_grad()
    def after_step(self, *outputs: Tensor) -> None:
        """Updates the running mean and covariance of the codes."""
        z = outputs[0].to(self.mean)  # of half precision in a mixed one
        centred = z - self.mean
        self.covariance.lerp_(centred.mT @ centred / len(z), MOMENTUM)
        self.mean.lerp_(z.mean(0), MOMENTUM)

    def flat(self, x: Batch) -> Tensor:
        """Scaled x, flattened: (B, D)."""
        return self.scaling(x).flatten(1)

    def reconstruction_loss(self, outputs: Tensor, x: Batch) -> PerExample:
        """-log p(x|z) in nats of the decoder's outputs (B, D): a cross-entropy of binary x, else half the squared error
        of scaled x, up to a constant.
        """
        outputs = outputs.unflatten(1, self.space.shape)
        if self.space.kind == "binary":
            return -self.observed.log_prob(outputs[..., None], x).flatten(1).sum(1)
        return 0.5 * (outputs - self.scaling(x)).square().flatten(1).sum(1)

    @torch.no_grad()
    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        noise = streams(n, seed, self.mean.device)
        ridge = 1e-6 * torch.eye(self.latent, device=self.mean.device)
        factor = torch.linalg.cholesky(self.covariance + ridge)
        z = self.mean + noise.normal((self.latent,)) @ factor.mT
        return self.decode(z.clamp(*self.latent_space.bounds) if self.latent_space.bounds else z)

    @property
    def latent_space(self) -> Space:
        return Space.continuous((self.latent,))

    def encode(self, x: Batch, y: Conditions | None = None) -> Tensor:
        return self.encoder(self.flat(x))

    def moments_given_code(self, z: Tensor, y: Conditions | None = None) -> tuple[Tensor, Tensor]:
        outputs = self.decoder(z).unflatten(1, self.space.shape)
        if self.space.kind == "binary":
            return Bernoulli().moments(outputs[..., None])
        return outputs, torch.zeros_like(outputs)

    def decode(self, z: Tensor, y: Conditions | None = None) -> Batch:
        """The reconstruction: the most likely value for binary data, otherwise the nearest value of the space."""
        outputs = self.decoder(z).unflatten(1, self.space.shape)
        return self.observed(outputs[..., None]) if self.space.kind == "binary" else self.scaling.inverse(outputs)
