"""The generator and the discriminator of DCGAN, for images of any size."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from dgm.networks.maps import MapsAtSizes

STD = 0.02  # of the initial weights


def halvings(height: int, width: int) -> list[tuple[int, int]]:
    """The sizes of an image that is halved, rounding up, until one side is at most 4; smallest first.

    It is halved at least once, and twice from 8 pixels on.

    Example:
        >>> halvings(28, 28), halvings(8, 8)
        ([(4, 4), (7, 7), (14, 14), (28, 28)], [(2, 2), (4, 4), (8, 8)])
    """
    result, least = [(height, width)], 3 if min(height, width) >= 8 else 2
    while len(result) < least or min(result[0]) > 4:
        result.insert(0, (-(-result[0][0] // 2), -(-result[0][1] // 2)))
    return result


class DCGANGenerator(nn.Module):
    """From vectors (B, inputs) to images (B, *shape): transposed convolutions, batch normalisation and ReLU.

    Source: Unsupervised Representation Learning with Deep Convolutional GANs (Radford et al., 2015), arXiv:1511.06434,
    section 3 and figure 1. Differs from it: the size follows that of the data, and the last activation is the model's.
    """

    def __init__(self, inputs: int, width: int, shape: tuple[int, ...], *, maps: int = 0) -> None:
        super().__init__()
        path = halvings(*shape[1:])
        widths = [width * 2**k for k in reversed(range(len(path) - 1))]
        self.project = nn.Linear(inputs, widths[0] * path[0][0] * path[0][1], bias=False)
        self.start = (widths[0], *path[0])
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
        self.layers = nn.ModuleList(
            nn.ConvTranspose2d(
                *channels, 5, stride=2, padding=2, output_padding=added(*size), bias=channels[1] == shape[0]
            )
            for channels, size in zip(pairwise([*widths, shape[0]]), pairwise(path), strict=True)
        )
        self.maps = MapsAtSizes(maps, [*widths, shape[0]], path)
        self.apply(normal_weights)

    def forward(self, z: Tensor, maps: Tensor | None = None) -> Tensor:
        h = self.maps(self.project(z).view(-1, *self.start), 0, maps)
        for k, (norm, layer) in enumerate(zip(self.norms, self.layers, strict=True), 1):
            h = self.maps(layer(norm(h).relu()), k, maps)
        return h


def added(before: tuple[int, int], after: tuple[int, int]) -> tuple[int, int]:
    """The ``output_padding`` of a transposed 5×5 convolution of stride 2, which gives 2 n - 1 without it."""
    return after[0] - 2 * before[0] + 1, after[1] - 2 * before[1] + 1


class DCGANDiscriminator(nn.Module):
    """From images (B, inputs, H, W) to features (B, features): strided convolutions and leaky ReLU.

    Args:
        batch_norm: Whether all layers but the first are followed by batch normalisation, as in the source. With it the
            outputs of a batch depend on each other, so that a penalty of each example's gradient has no meaning.
    """

    def __init__(self, inputs: int, width: int, shape: tuple[int, ...], *, batch_norm: bool = True) -> None:
        super().__init__()
        path = halvings(*shape[1:])
        widths = [inputs, *(width * 2**k for k in range(len(path) - 1))]
        layers: list[nn.Module] = []
        for k, (before, after) in enumerate(pairwise(widths)):
            normalised = batch_norm and k > 0
            layers.append(nn.Conv2d(before, after, 5, stride=2, padding=2, bias=not normalised))
            layers += [nn.BatchNorm2d(after)] if normalised else []
            layers.append(nn.LeakyReLU(0.2))
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.features = widths[-1] * path[0][0] * path[0][1]
        self.apply(normal_weights)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def normal_weights(module: nn.Module) -> None:
    """Section 4 of the source: weights from N(0, 0.02²); those of batch normalisation around 1."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        nn.init.normal_(module.weight, std=STD)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, STD)
