"""The networks of generator and discriminator, as one table; any goes with any objective and any penalty."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from torch import Tensor, nn
from torch.nn.functional import relu
from torch.nn.utils.parametrizations import spectral_norm

from dgm.networks.conditioning import ConditionFeatures, condition_vector
from dgm.networks.conv import Discriminator, Generator
from dgm.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from dgm.networks.mlp import mlp
from dgm.networks.progressive import Equalised, ProgressiveDiscriminator, ProgressiveGenerator
from dgm.networks.r3gan import R3GANDiscriminator, R3GANGenerator
from dgm.protocols import Conditions, PerExample
from dgm.space import Space
from dgm.transforms.coupling import beside

NetworkName: TypeAlias = Literal["upsampling", "dcgan", "residual", "progressive", "dense"]
Shape: TypeAlias = tuple[int, ...]
HIDDEN = 3  # layers of a perceptron
DENSE = 4  # times the width, of a perceptron


class Networks(NamedTuple):
    """A pair of networks.

    Attributes:
        generator: Made from the width of its input, the setting ``width``, the shape of x, and the channels ``maps`` of
            maps of a condition; its output is (B, *shape) without an activation.
        discriminator: Made from the number of its input channels, the width, the shape of x, and whether a penalty or
            spectral normalisation asks that examples be independent; its output is ``features`` numbers an example.
    """

    generator: Callable[..., nn.Module]
    discriminator: Callable[[int, int, Shape, bool], Any]


class DenseGenerator(nn.Module):
    """A perceptron from (B, inputs) to (B, *shape).

    Its units and the discriminator's are ReLUs: the sharp edges of the 25 modes of a grid are then learnt in a few
    thousand steps, which smoother units do not learn.
    """

    def __init__(self, inputs: int, width: int, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.layers = mlp([inputs, *[DENSE * width] * HIDDEN, math.prod(shape)], activation=nn.ReLU)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z).unflatten(1, self.shape)


class DenseDiscriminator(nn.Module):
    """A perceptron from (B, inputs) to (B, features)."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.features = DENSE * width
        self.layers = mlp([inputs, *[self.features] * HIDDEN], activation=nn.ReLU)

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.layers(x))


NETWORKS: Mapping[str, Networks] = {
    "upsampling": Networks(Generator, lambda inputs, width, shape, independent: Discriminator(inputs, width, shape)),
    "dcgan": Networks(
        DCGANGenerator,
        lambda inputs, width, shape, independent: DCGANDiscriminator(inputs, width, shape, batch_norm=not independent),
    ),
    "residual": Networks(
        R3GANGenerator, lambda inputs, width, shape, independent: R3GANDiscriminator(inputs, width, shape)
    ),
    "progressive": Networks(
        ProgressiveGenerator,
        lambda inputs, width, shape, independent: ProgressiveDiscriminator(inputs, width, shape),
    ),
    "dense": Networks(DenseGenerator, lambda inputs, width, shape, independent: DenseDiscriminator(inputs, width)),
}


class ConditionalGenerator(nn.Module):
    """G(z, y): the features of the condition are concatenated with z. Those of an image are maps, which enter the
    network at each of its sizes.

    Source: Conditional Generative Adversarial Nets (Mirza & Osindero, 2014), arXiv:1411.1784, section 3.2.

    Args:
        make: Makes the network from the number of its inputs and, if there are maps, the number of their channels.
    """

    def __init__(self, make: Callable[..., nn.Module], latent: int, condition: ConditionFeatures) -> None:
        super().__init__()
        self.condition = condition
        self.network = make(latent, maps=condition.width) if condition.has_maps else make(latent + condition.width)

    def forward(self, z: Tensor, y: Conditions | None = None) -> Tensor:
        if y is None:
            return self.network(z)
        c = self.condition(y, z)
        return self.network(z, c) if self.condition.has_maps else self.network(beside(z, c))


class ConcatenatingDiscriminator(nn.Module):
    """V(x, y): the features of the condition are concatenated with x; for images they are maps, or constant planes.

    Args:
        make: Makes the network from its number of input channels, of which x has ``inputs``.
    """

    def __init__(self, make: Callable[[int], Any], inputs: int, condition: ConditionFeatures) -> None:
        super().__init__()
        self.condition = condition
        self.network = make(inputs + condition.width)
        self.last = nn.Linear(self.network.features, 1)

    def forward(self, x: Tensor, y: Conditions | None = None) -> PerExample:
        return self.last(self.network(x if y is None else beside(x, self.condition(y, x))))[:, 0]


class ProjectionDiscriminator(nn.Module):
    r"""V(x, y) = u^T phi(x) + b + (W y)^T phi(x), for a condition of any kind.

    Source: cGANs with Projection Discriminator (Miyato & Koyama, 2018), arXiv:1802.05637, equation 3. Differs from it:
    the inner product is divided by the root of the number of features; images of the condition are also concatenated
    with x, so that phi depends on each of their pixels.
    """

    def __init__(
        self, make: Callable[[int], Any], inputs: int, condition: ConditionFeatures, space: Space | None
    ) -> None:
        super().__init__()
        self.images = condition if condition.has_images else None
        self.network = make(inputs + (condition.width if condition.has_images else 0))
        self.last = nn.Linear(self.network.features, 1)
        self.embedding = condition_vector(space, self.network.features)

    def forward(self, x: Tensor, y: Conditions | None = None) -> PerExample:
        features = self.network(x if self.images is None or y is None else beside(x, self.images(y, x)))
        v = self.last(features)[:, 0]
        if self.embedding is None:
            return v
        return v + (self.embedding(y) * features).sum(1) / math.sqrt(features.shape[1])


def normalise_spectrally(network: nn.Module) -> None:
    """Divides each weight matrix by its largest singular value, estimated by one power iteration in each forward pass.

    Source: Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018), arXiv:1802.05957,
    equation 8 and algorithm 1.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.Embedding, Equalised)):
            if not module.weight.any():  # 0 / 0 otherwise; the scale does not matter
                nn.init.normal_(module.weight)
            spectral_norm(module)
