r"""Vector-quantised variational autoencoder, a lower bound on the likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu

from dgm.distributions.output import output_distribution
from dgm.distributions.scaling import Scaling
from dgm.errors import BadInput
from dgm.networks.conditioning import ConditionMaps, condition_vector, has_images
from dgm.networks.conditions import EVERY_KIND, Marginal, check_condition, sampled_condition
from dgm.networks.maps import MapsAtSizes, per_channel
from dgm.protocols import Batch, Conditions, PerExample
from dgm.seeds import Seed, Streams, streams
from dgm.settings import setting
from dgm.space import Space

NEVER = 1e-6  # an average count below it has lost its precision, and the entry is left as it is


class VQVAE(nn.Module):
    r"""Vector-quantised variational autoencoder; its likelihood is a lower bound.

    .. math::
        z_i = \arg\min_k \|z_e(x)_i - e_k\|^2, \qquad
        L = -\log p(x|z_q) + n \log K + \beta \sum_i \|z_e(x)_i - sg[e_{z_i}]\|^2

    The encoder maps an image to a grid of vectors, each of which is replaced by the nearest of the K entries of a
    codebook; the gradient passes the replacement unchanged (straight-through). q(z|x) is a point mass on the n codes of
    the grid, so log p(x) >= log p(x|z(x)) + log p(z(x)). The prior is uniform, log p(z) = -n log K, until a second
    stage replaces it by a model of the codes (`dgm.models.two_stage`).

    The decoder p(x|z) is Bernoulli on binary data, a mixture of discretised logistics on levels and of normals on real
    numbers. Bounds are in nats about x in the data's own numbers; the loss is L over the number of dimensions of x.

    Source: Neural Discrete Representation Learning (van den Oord et al., 2017), arXiv:1711.00937, equations 1 to 3,
    sections 3.2, 3.3 and 4.1, and appendix A.1.
    Differs from it: the scales of p(x|z) are outputs of the decoder; the codebook has a moving average of the encoder's
    outputs, as in the appendix, and no loss of its own; an entry that is hardly used is replaced by an output of the
    encoder (Jukebox, Dhariwal et al., 2020, arXiv:2005.00341, section 3.1), which also initialises the codebook.

    Args:
        space: Images (C, H, W).
        condition: The decoder's; the code depends on x alone.

    Example:
        >>> model = VQVAE(Space.binary((1, 8, 8)), VQVAE.Config(codes=16, hidden=8))
        >>> model.latent_space, model.encode(model.sample(3, seed=0)).shape
        (Space(shape=(1, 2, 2), kind='tokens', values=16, ...), torch.Size([3, 1, 2, 2]))
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        codes: int = setting(512, "K, entries of the codebook", low=2)
        width: int = setting(16, "dimensions of an entry", low=1)
        fields: int = setting(1, "codes at each position of the grid", low=1)
        halvings: int = setting(2, "how often the resolution is halved", low=1, high=10)
        hidden: int = setting(64, "channels of the hidden layers", low=1)
        blocks: int = setting(2, "residual blocks of the encoder and of the decoder", low=0, high=1000)
        components: int = setting(1, "components of the mixture of each pixel", low=1)
        commitment: float = setting(0.25, "beta, the weight of the commitment loss", low=0.0)
        decay: float = setting(0.99, "decay of the moving average of the codebook", low=0.0, high=1.0)
        revival: float = setting(
            0.03, "an entry used less than this share of the mean use is replaced; 0 for none", low=0.0, high=1.0
        )

    spaces: ClassVar[set[str]] = {"binary", "levels", "continuous"}
    conditions: ClassVar[frozenset[str]] = EVERY_KIND
    defaults: ClassVar[dict[str, Any]] = {"batch": 128, "lr": 1e-3}
    deterministic_codes = True
    likelihood_method = "bound at the nearest codes, uniform prior"
    loss_unit = "nats a dimension"

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__()
        if len(space.shape) != 3:
            raise BadInput(f"vq_vae takes images (C, H, W), got {space}", "use discrete_vae for points and tables")
        self.space, self.config, self.condition = space, config, condition
        self.marginal = None if condition is None else Marginal(condition)
        self.scaling, self.observed = Scaling(space), output_distribution(space, config.components)
        channels, (height, across) = space.shape[0], space.shape[1:]
        step = 2**config.halvings
        self.grid = (-(-height // step), -(-across // step))
        self.padding = (0, step * self.grid[1] - across, 0, step * self.grid[0] - height)
        inner = config.fields * config.width
        self.encoder = encoder(channels, inner, config)
        self.codebook = Codebook(config)
        self.bias = condition_vector(condition, config.hidden)
        self.maps = ConditionMaps(condition, space.shape[1:]) if has_images(condition) else None
        self.first = nn.Conv2d(inner, config.hidden, 3, padding=1)
        outputs = channels * self.observed.outputs
        self.decoder = decoder(outputs, config)
        widths = [config.hidden] * config.halvings + [outputs]
        sizes = [(self.grid[0] << k, self.grid[1] << k) for k in range(len(widths))]
        self.maps_at = MapsAtSizes(self.maps.width if self.maps else 0, widths, sizes)

    @property
    def latent_space(self) -> Space:
        return Space.tokens((self.config.fields, *self.grid), self.config.codes)

    # -- codes

    def vectors(self, x: Batch) -> Tensor:
        """z_e(x), (B, fields, h, w, width)."""
        z_e = self.encoder(pad(self.scaling(x), self.padding))
        return z_e.unflatten(1, (self.config.fields, -1)).movedim(2, -1)

    def encode(self, x: Batch, y: Conditions | None = None) -> Tensor:
        check_condition(y, self.condition)
        return self.codebook.nearest(self.vectors(x))

    sample_code = encode

    def code_and_log_ratio(self, x: Batch, y: Conditions | None = None) -> tuple[Tensor, PerExample]:
        z = self.encode(x, y)
        return z, self.likelihood(x, self.codebook(z), y)

    # -- the likelihood

    def outputs(self, z_q: Tensor, y: Conditions | None) -> Tensor:
        """The parameters of p(x|z), (B, *shape, outputs), of the entries z_q (B, fields, h, w, width)."""
        h, y = self.first(z_q.movedim(-1, 2).flatten(1, 2)), check_condition(y, self.condition)
        if self.bias is not None:
            h = h + per_channel(self.bias(y), h)
        out = self.decoded(h, None if self.maps is None else pad(self.maps(y, len(h)), self.padding))
        _, height, across = self.space.shape
        return out[..., :height, :across].unflatten(1, (self.space.shape[0], -1)).movedim(2, -1)

    def decoded(self, h: Tensor, maps: Tensor | None) -> Tensor:
        """The decoder of h, with the maps of the condition at each size."""
        h, k = self.maps_at(h, 0, maps), 0
        for layer in self.decoder:
            h = layer(h)
            if isinstance(layer, nn.ConvTranspose2d):
                k += 1
                h = self.maps_at(h, k, maps)
        return h

    def likelihood(self, x: Batch, z_q: Tensor, y: Conditions | None) -> PerExample:
        """log p(x|z_q)."""
        return self.observed.log_prob(self.outputs(z_q, y), x).flatten(1).sum(1)

    @property
    def log_prior(self) -> float:
        """log p(z) of the uniform prior."""
        return -self.latent_space.dim * math.log(self.config.codes)

    def elbo(self, x: Batch, y: Conditions | None = None) -> PerExample:
        return self.code_and_log_ratio(x, y)[1] + self.log_prior

    # -- training

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        return self.loss_and_outputs(x, y)[0]

    def loss_and_outputs(self, x: Batch, y: Conditions | None = None) -> tuple[PerExample, tuple[Tensor, ...]]:
        """The loss (equation 3), the outputs of the encoder and their codes."""
        z_e = self.vectors(x)
        z = self.codebook.nearest(z_e)
        e = self.codebook(z)
        bound = self.likelihood(x, straight_through(z_e, e), y) + self.log_prior
        committed = (z_e - e).square().flatten(1).sum(1)
        loss = (self.config.commitment * committed - bound) / self.space.dim
        return loss, (z_e.detach().flatten(1, 3), z.flatten(1))

    def after_step(self, *outputs: Tensor) -> None:
        self.codebook.update(*outputs)

    # -- samples

    @torch.no_grad()
    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        """x ~ p(x|z) of uniform codes."""
        noise = streams(n, seed, self.codebook.entries.device)
        z, y = self.drawn(noise, y)
        return self.sample_given_code(z, y, seed=noise)

    def drawn(self, noise: Streams, y: Conditions | None) -> tuple[Tensor, Conditions | None]:
        """Codes of the uniform prior, and conditions."""
        y = sampled_condition(y, self, noise)
        return (noise.uniform(self.latent_space.shape).double() * self.config.codes).long(), y

    @torch.no_grad()
    def sample_given_code(self, z: Tensor, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        noise = streams(len(z), seed, self.codebook.entries.device)
        return self.observed.sample(self.outputs(self.codebook(z), y), noise.uniform((*self.space.shape, 2)))

    def decode(self, z: Tensor, y: Conditions | None = None) -> Batch:
        """The decoder's mean, or most likely value."""
        return self.observed(self.outputs(self.codebook(z), y))


class Codebook(nn.Module):
    r"""K vectors, each the moving average of the encoder's outputs that are nearest to it.

    .. math:: N_k \leftarrow \gamma N_k + (1 - \gamma) n_k, \quad m_k \leftarrow \gamma m_k + (1 - \gamma)
        \sum_{i: z_i = k} z_{e,i}, \quad e_k = m_k / N_k

    Source: arXiv:1711.00937, appendix A.1. Differs from it: N and m are 0 at first, so that e is a mean of outputs of
    the encoder alone; entries that are hardly used are replaced.
    """

    entries: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, config: VQVAE.Config) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("entries", torch.randn(config.codes, config.width))
        self.register_buffer("counts", torch.zeros(config.codes))
        self.register_buffer("sums", torch.zeros(config.codes, config.width))

    def forward(self, z: Tensor) -> Tensor:
        """The entries (..., width) of codes."""
        return self.entries[z]

    @torch.no_grad()
    def nearest(self, z_e: Tensor) -> Tensor:
        """The code of the nearest entry of each vector (..., width)."""
        e = self.entries.to(z_e)
        return (
            torch.addmm(e.square().sum(1), z_e.reshape(-1, e.shape[1]), e.mT, alpha=-2).argmin(1).view(z_e.shape[:-1])
        )

    @torch.no_grad()
    def update(self, z_e: Tensor, z: Tensor) -> None:
        """Takes the vectors of a batch (B, n, width) and their codes (B, n) into the averages."""
        z_e, z, rate = z_e.flatten(0, 1).to(self.sums), z.flatten(), 1 - self.config.decay
        self.counts.lerp_(z.bincount(minlength=self.config.codes).to(self.counts), rate)
        self.sums.lerp_(torch.zeros_like(self.sums).index_add_(0, z, z_e), rate)
        self.revive(z_e)
        used = self.counts > NEVER
        self.entries[used] = self.sums[used] / self.counts[used, None]

    def revive(self, z_e: Tensor) -> None:
        """Replaces each entry that is hardly used by a vector of the batch, with the mean use."""
        mean = self.counts.mean()
        unused = self.counts < self.config.revival * mean
        rows = torch.linspace(0, len(z_e) - 1, int(unused.sum()), device=z_e.device).long()
        self.counts[unused], self.sums[unused] = mean, mean * z_e[rows]


def straight_through(z_e: Tensor, e: Tensor) -> Tensor:
    """e, with the gradient of z_e (section 3.2)."""
    return z_e + (e - z_e).detach()


class Residual(nn.Module):
    """ReLU, 3×3 convolution, ReLU, 1×1 convolution (section 4.1)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(hidden, hidden, 3, padding=1), nn.Conv2d(hidden, hidden, 1)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.last(relu(self.conv(relu(h))))


def encoder(channels: int, outputs: int, config: VQVAE.Config) -> nn.Sequential:
    """Strided 4×4 convolutions, residual blocks and a 1×1 convolution."""
    layers: list[nn.Module] = []
    for k in range(config.halvings):
        layers += [nn.ReLU()] if k else []
        layers.append(nn.Conv2d(config.hidden if k else channels, config.hidden, 4, stride=2, padding=1))
    layers += [Residual(config.hidden) for _ in range(config.blocks)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(config.hidden, outputs, 1))


def decoder(outputs: int, config: VQVAE.Config) -> nn.Sequential:
    """Residual blocks and transposed 4×4 convolutions."""
    layers: list[nn.Module] = [Residual(config.hidden) for _ in range(config.blocks)]
    for k in reversed(range(config.halvings)):
        layers += [nn.ReLU(), nn.ConvTranspose2d(config.hidden, config.hidden if k else outputs, 4, 2, 1)]
    return nn.Sequential(*layers)
