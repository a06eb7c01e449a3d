r"""Learned perceptual image patch similarity, LPIPS, with the features of VGG-16, by the extra ``pretrained``.

.. math:: d(x, x_0) = \sum_l \frac{1}{H_l W_l} \sum_{h,w} w_l^T (\hat{y}^l_{hw} - \hat{y}^l_{0hw})^2

where y^l are the features of layer l, divided by their norm over channels at each pixel, and w_l >= 0.

Source: The Unreasonable Effectiveness of Deep Features as a Perceptual Metric (Zhang et al., 2018), arXiv:1801.03924,
equation 1; version 0.1 of the weights. The weights of VGG-16 are torchvision's, downloaded once. The 1,472 numbers w_l
are in lpips_vgg.safetensors: Copyright (c) 2018, Richard Zhang, Phillip Isola, Alexei A. Efros, Eli Shechtman, Oliver
Wang, BSD 2-clause licence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, max_pool2d

from dgm.errors import BadInput
from dgm.evaluation.weights import Weights, read

VGG = Weights(
    "timm/vgg16.tv_in1k",
    "3394518cba29aee1ea82a49d971be90d2dd1dab7",
    "model.safetensors",
    "57b026918159a6bf9faf8405c3a551903768e7138989d9c6224a14227203fad8",
)
HEADS = Path(__file__).with_name("lpips_vgg.safetensors")
STAGES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))  # the convolutions before each pooling
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of each colour in [-1, 1]
SMALLEST = 16  # pixels a side: four poolings halve it
EPSILON = 1e-8
BATCH = 16


class LPIPS:
    """The distance of pairs of images.

    Args:
        vgg: The weights of the convolutions by the names of torchvision's VGG-16.
        heads: w_l of the five layers.
    """

    def __init__(self, vgg: Mapping[str, Tensor], heads: Mapping[str, Tensor]) -> None:
        self.vgg, self.heads = vgg, heads

    @torch.no_grad()
    def __call__(self, x: Tensor, truth: Tensor) -> Tensor:
        """(B,), of images (B, 3, H, W) in [-1, 1]. Smaller ones than 16 × 16 are enlarged."""
        if x.shape != truth.shape or x.ndim != 4 or x.shape[1] not in (1, 3):
            raise BadInput(f"expected images of one shape, got {tuple(x.shape)} and {tuple(truth.shape)}", "give pairs")
        pairs = zip(x.split(BATCH), truth.split(BATCH), strict=True)
        return torch.cat([self.distance(*pair) for pair in pairs])

    def distance(self, x: Tensor, truth: Tensor) -> Tensor:
        each = zip(self.features(x), self.features(truth), self.heads.values(), strict=True)
        return torch.stack([conv2d((a - b).square(), w).mean((1, 2, 3)) for a, b, w in each]).sum(0)

    def features(self, x: Tensor) -> Iterator[Tensor]:
        """Those of each layer, of norm 1 over channels."""
        shift, scale = (torch.tensor(numbers)[:, None, None] for numbers in (SHIFT, SCALE))
        x = (enlarged(x.float()).expand(-1, 3, -1, -1) - shift) / scale
        for k, convolutions in enumerate(STAGES):
            x = max_pool2d(x, 2) if k else x
            for number in convolutions:
                name = f"features.{number}"
                x = conv2d(x, self.vgg[f"{name}.weight"], self.vgg[f"{name}.bias"], padding=1).relu()
            yield x / (x.square().sum(1, keepdim=True) + EPSILON).sqrt()


def enlarged(x: Tensor) -> Tensor:
    factor = SMALLEST / min(x.shape[2:])
    return interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False) if factor > 1 else x


def lpips() -> LPIPS:
    """With the published weights."""
    return LPIPS(read("LPIPS", VGG), safetensors.torch.load_file(HEADS))
