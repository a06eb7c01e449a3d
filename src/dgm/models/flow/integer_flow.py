r"""Integer discrete flow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from dgm.distributions.output import Bernoulli
from dgm.distributions.wrapped_logistics import WrappedLogistics
from dgm.modes import device_of, evaluated
from dgm.networks.conditioning import ConditionFeatures
from dgm.networks.conditions import EVERY_KIND, Marginal, check_condition, sampled_condition
from dgm.networks.conv import ConvNet
from dgm.networks.maps import Projection, resized
from dgm.networks.mlp import mlp
from dgm.protocols import Batch, Conditions, PerExample
from dgm.seeds import Seed, streams
from dgm.settings import setting
from dgm.space import Space
from dgm.transforms import checkerboard
from dgm.transforms.coupling import beside

Network: TypeAlias = Callable[[tuple[int, ...], int], nn.Module]

GAIN = 1 / 30  # of a network's outputs: shifts must change slower than the priors can follow


class IntegerFlow(nn.Module):
    r"""Integer discrete flow, exact log-probability.

    .. math:: P(x) = P(z_L) \prod_{l < L} P(z_l | z_{l+1}), \qquad (z_1, \dots, z_L) = f(x)

    f is a bijection of the integers 0 … K - 1 in each dimension, so there is no log-determinant. A coupling shifts the
    dimensions where b = 0 by the integers that a network predicts from the others,

    .. math:: z = x + (1 - b) \lfloor t(b x) \rceil \mod K

    and the gradient of rounding is taken as 1, the straight-through estimator. At each resolution an image is squeezed
    to half the side and four times the channels, couplings shift a quarter of the channels in turn, and half of the
    channels are factored out, with a prior given the others. Priors are mixtures of discretised logistics modulo K, of
    bits Bernoulli. Log-probabilities are in nats: a file's ideal length is -log2 P(x) bits, and z is coded in place of
    x, the last z first, in as many passes as there are resolutions.

    Source: Integer Discrete Flows and Lossless Compression (Hoogeboom et al., 2019), arXiv:1905.07376, section 4.
    Differs from it: arithmetic modulo K, so that P sums to 1 over images and every sample is one, where the source's z
    are all integers; t is within half a turn, K / 2 tanh; convolutional residual networks in place of DenseNets; no
    permutations, since masks alternate; priors start like the first batch.

    Args:
        space: Ordered integers, of any shape; a shape other than (C, H, W) has one resolution.

    Example:
        >>> flow = IntegerFlow(Space.levels((1, 4, 4), 256), IntegerFlow.Config(hidden=8))
        >>> x = flow.sample(2, seed=0)
        >>> bool((flow.decode(flow.encode(x)) == x).all())
        True
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        resolutions: int = setting(2, "resolutions of an image, each half of the one before", low=1, high=10)
        layers: int = setting(8, "couplings at each resolution", low=1, high=1000)
        hidden: int = setting(32, "width, or channels, of the networks", low=1)
        blocks: int = setting(1, "residual blocks, or hidden layers, of each network", low=1, high=1000)
        components: int = setting(5, "logistics in the mixture of each prior", low=1, high=1000)

    started: Tensor

    spaces: ClassVar[set[str]] = {"binary", "levels"}
    conditions: ClassVar[frozenset[str]] = EVERY_KIND
    defaults: ClassVar[dict[str, Any]] = {"batch": 64, "lr": 2e-3, "warmup": 100, "ema": 0.999, "clip": 10.0}
    likelihood_method = "bijection of integers"

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__()
        self.space, self.config, self.condition = space, config, condition
        self.marginal = None if condition is None else Marginal(condition)
        self.features = ConditionFeatures(condition, space.shape[1:] if len(space.shape) == 3 else None)
        self.observed = Bernoulli() if space.kind == "binary" else WrappedLogistics(space, config.components)
        shape = space.shape
        self.resolutions: Any = nn.ModuleList()
        self.priors: Any = nn.ModuleList()
        shape = space.shape if len(space.shape) == 3 else (space.dim,)
        for k in range(config.resolutions):
            if k and not squeezes(shape):
                break
            if k:
                part, shape = shape[0] // 2, (shape[0] - shape[0] // 2, *shape[1:])
                self.priors.append(self.network(shape, part * self.observed.outputs))
            self.resolutions.append(Resolution(self.network, shape, config.layers, space.values or 0))
            shape = squeezed(shape)
        self.last = nn.Parameter(torch.randn(*shape, self.observed.outputs) / 2)
        width = self.features.width
        outputs = shape[0] * self.observed.outputs if self.features.has_maps else self.last.numel()
        self.last_of_condition = Projection(width, outputs, bias=False) if width else None
        self.register_buffer("started", torch.tensor(False))

    @torch.no_grad()
    def initialise(self, x: Batch, y: Conditions | None = None) -> None:
        """Priors of independent dimensions like those of the batch: a step of Adam changes an output by little."""
        if self.started:
            return
        self.started.fill_(True)
        (z, _), *factored_out = self.conditionals(x, y)
        self.last.copy_(self.observed.fit(z.flatten(1)).view_as(self.last))
        if self.last_of_condition is not None:
            nn.init.zeros_(self.last_of_condition.weight)
        for network, (part, _) in zip(self.priors[::-1], factored_out, strict=True):
            of_channels = part.movedim(1, -1).reshape(-1, part.shape[1])
            output = last_layer(network)
            nn.init.zeros_(output.weight)
            output.bias.copy_(self.observed.fit(of_channels).flatten())

    def network(self, shape: tuple[int, ...], outputs: int) -> nn.Module:
        """A network of z of this shape, beside the condition, to z's size with ``outputs`` channels."""
        config, inputs = self.config, shape[0] + self.features.width
        if len(shape) == 3:
            return ConvNet(inputs, config.hidden, outputs, blocks=config.blocks)
        return mlp([inputs, *[config.hidden] * config.blocks, outputs])

    def log_prob(self, x: Batch, y: Conditions | None = None) -> PerExample:
        log_p = [self.observed.log_prob(outputs, part).flatten(1).sum(1) for part, outputs in self.conditionals(x, y)]
        return torch.stack(log_p).sum(0)

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        return -self.log_prob(x, y)

    @evaluated
    @torch.no_grad()
    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        noise = streams(n, seed, device_of(self))
        y = sampled_condition(y, self, noise)

        def draw(outputs: Tensor) -> Tensor:
            return self.observed.sample(outputs, noise.uniform((*outputs.shape[1:-1], 2)).to(outputs))

        return self.build(draw, n, y)

    def conditionals(self, x: Batch, y: Conditions | None = None) -> list[tuple[Tensor, Tensor]]:
        """Each part of z, (B, *part), and its prior's outputs, (B, *part, outputs), that of the last resolution first.

        A coder writes the parts in this order, and reads them by `build`.
        """
        c, found = self.features_of(y), []
        z = self.whole(x)
        for k, resolution in enumerate(self.resolutions):
            if k:
                part, z = halves(z)
                found.append((part, self.outputs(k, z, c)))
            z = resolution(z, c)
        return [(z, self.last_outputs(len(z), c)), *reversed(found)]

    def build(self, draw: Callable[[Tensor], Tensor], n: int, y: Conditions | None = None) -> Batch:
        """The n examples whose parts of z are ``draw`` of their prior's outputs, in the order of `conditionals`."""
        c = self.features_of(y)
        z = draw(self.last_outputs(n, c)).to(self.last)
        for k, resolution in reversed(list(enumerate(self.resolutions))):
            z = resolution.inverse(z, c)
            if k:
                z = torch.cat([draw(self.outputs(k, z, c)).to(z), z], 1)
        return z.reshape(n, *self.space.shape).to(self.space.dtype)

    def outputs(self, k: int, z: Tensor, c: Tensor | None) -> Tensor:
        """The prior's outputs of the part that is factored out before resolution k, given the rest z."""
        given = scaled(z, self.space.values or 0)
        found = self.priors[k - 1](given if c is None else beside(given, c))
        return found.unflatten(1, (-1, self.observed.outputs)).movedim(2, -1)

    def last_outputs(self, n: int, c: Tensor | None) -> Tensor:
        if self.last_of_condition is None:
            return self.last.expand(n, *self.last.shape)
        if c is None or c.ndim == 2:
            return self.last + self.last_of_condition(c).view(n, *self.last.shape)
        maps = self.last_of_condition(resized(c, self.last.shape[1:3]))
        return self.last + maps.unflatten(1, (-1, self.observed.outputs)).movedim(2, -1)

    # -- codes

    @property
    def latent_space(self) -> Space:
        return replace(self.space, loc=(), scale=())

    @torch.no_grad()
    def encode(self, x: Batch, y: Conditions | None = None) -> Tensor:
        """z = f(x), integers of the shape of x, whose squeezed channels are put back into their places."""
        z, *others = (part for part, _ in self.conditionals(x, y))
        for k, resolution in reversed(list(enumerate(self.resolutions))):
            z = resolution.unsqueezed(z)
            z = torch.cat([others[len(self.resolutions) - 1 - k], z], 1) if k else z
        return z.reshape(x.shape).to(self.space.dtype)

    @torch.no_grad()
    def decode(self, z: Tensor, y: Conditions | None = None) -> Batch:
        """x = f^-1(z)."""
        parts, rest = [], self.whole(z)
        for k, resolution in enumerate(self.resolutions):
            if k:
                part, rest = halves(rest)
                parts.append(part)
            rest = resolution.squeezed(rest)
        order = iter([rest, *reversed(parts)])
        return self.build(lambda _: next(order), len(z), y)

    def encode_and_ladj(self, x: Batch, y: Conditions | None = None) -> tuple[Tensor, PerExample]:
        """f(x), and 0, since x and z are counted."""
        return self.encode(x, y), self.last.new_zeros(len(x))

    def whole(self, x: Batch) -> Tensor:
        """x in float, images as they are and other shapes flattened."""
        return (x if x.ndim == 4 else x.flatten(1)).to(self.last)

    def features_of(self, y: Conditions | None) -> Tensor | None:
        """The condition's features, (B, K), or maps of them, (B, K, H, W)."""
        y = check_condition(y, self.condition)
        return None if y is None else self.features(y, self.last)


class Resolution(nn.Module):
    """Couplings at one resolution, after a squeeze of images with even sides.

    Args:
        network: Makes a network of z of a shape, and of the condition, with as many output channels.
        shape: The shape before the squeeze.
        values: K.
    """

    def __init__(self, network: Network, shape: tuple[int, ...], layers: int, values: int) -> None:
        super().__init__()
        self.squeezes = squeezes(shape)
        shape = squeezed(shape)
        masks = [moved(shape, k) for k in range(layers)]
        self.couplings: Any = nn.ModuleList(IntegerCoupling(mask, network(shape, shape[0]), values) for mask in masks)

    def squeezed(self, z: Tensor) -> Tensor:
        return pixel_unshuffle(z, 2) if self.squeezes else z

    def unsqueezed(self, z: Tensor) -> Tensor:
        return pixel_shuffle(z, 2) if self.squeezes else z

    def forward(self, z: Tensor, c: Tensor | None) -> Tensor:
        z = self.squeezed(z)
        for coupling in self.couplings:
            z = coupling(z, c)
        return z

    def inverse(self, z: Tensor, c: Tensor | None) -> Tensor:
        for coupling in reversed(self.couplings):
            z = coupling.inverse(z, c)
        return self.unsqueezed(z)


class IntegerCoupling(nn.Module):
    """z = x + (1 - b) round(t(b x)) mod K, of integers in float; at first the identity.

    Args:
        moved: 1 - b, broadcast against one example.
        network: Maps b x, scaled to [-1, 1] and beside the condition, to n in t = K / 2 tanh(n / 30).
    """

    moved: Tensor

    def __init__(self, moved: Tensor, network: nn.Module, values: int) -> None:
        super().__init__()
        self.network, self.values = network, values
        self.register_buffer("moved", moved, persistent=False)
        output = last_layer(network)
        nn.init.zeros_(output.weight)
        nn.init.zeros_(output.bias)

    def shift(self, x: Tensor, c: Tensor | None) -> Tensor:
        """The integers (1 - b) t mod K, with the gradient of t."""
        unchanged = scaled(x, self.values) * ~self.moved
        turn = torch.tanh(GAIN * self.network(unchanged if c is None else beside(unchanged, c)))
        t = self.values / 2 * turn * self.moved
        return t.round().remainder(self.values).detach() + (t - t.detach())  # the difference is 0 exactly

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        return (x + self.shift(x, c)).remainder(self.values)

    def inverse(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        return (z - self.shift(z, c)).remainder(self.values)


def last_layer(network: nn.Module) -> Any:
    return [module for module in network.modules() if isinstance(module, (nn.Linear, nn.Conv2d))][-1]


def scaled(x: Tensor, values: int) -> Tensor:
    """0 … K - 1 to [-1, 1]."""
    return x * (2 / (values - 1)) - 1


def halves(z: Tensor) -> tuple[Tensor, Tensor]:
    """The first half of the channels, rounded down, and the others."""
    half = z.shape[1] // 2
    return z[:, :half], z[:, half:]


def squeezes(shape: tuple[int, ...]) -> bool:
    """Whether an image of this shape has even sides."""
    return len(shape) == 3 and shape[1] % 2 == shape[2] % 2 == 0


def squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (4 * shape[0], shape[1] // 2, shape[2] // 2) if squeezes(shape) else shape


def moved(shape: tuple[int, ...], k: int) -> Tensor:
    """Where the k-th coupling shifts: a quarter of an image's channels in turn, or half of a checkerboard."""
    if len(shape) == 3 and shape[0] >= 4:
        return (torch.arange(shape[0]) * 4 // shape[0] == k % 4).view(-1, 1, 1)
    return checkerboard(shape) ^ bool(k % 2)
