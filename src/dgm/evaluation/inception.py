r"""The 2,048 features of the Inception network of the Fréchet Inception distance, by the extra ``pretrained``.

The network is that of TensorFlow's inception-2015-12-05, by which published values are computed. It differs from the
Inception v3 of other libraries in its weights and in three poolings: an average over a window at the border is of the
pixels inside the image alone, and the last block has a maximum in the place of the average.

Images are resized to 299 × 299 by a bilinear filter without antialiasing, as pytorch-fid does; grey ones have three
equal colours.

Source: the network, Rethinking the Inception Architecture for Computer Vision (Szegedy et al., 2015), arXiv:1512.00567;
the distance, GANs Trained by a Two Time-Scale Update Rule (Heusel et al., 2017), arXiv:1706.08500. The weights are
those of pytorch-fid as safetensors.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, batch_norm, conv2d, interpolate, max_pool2d

from dgm.data import Dataset
from dgm.distributions.scaling import Scaling
from dgm.evaluation.features import Features, in_blocks
from dgm.evaluation.weights import Weights, read

WEIGHTS = Weights(
    "nikhilr01/sen-bridge-weights",
    "main",
    "fid_inception.safetensors",
    "b7a528bf4051f62c057bc14657865abf180a23eb1748d00ff0933d84698202ed",
)
SIDE, BATCH = 299, 16
EPSILON = 1e-3  # of the batch normalisations
STRIDE = "/2"
# the branches of each kind of block: convolutions and poolings in order, those of stride 2 with a mark
A = [
    "branch1x1",
    "branch5x5_1 branch5x5_2",
    "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3",
    "mean branch_pool",
]
B = ["branch3x3/2", "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3/2", "max/2"]
C = [
    "branch1x1",
    "branch7x7_1 branch7x7_2 branch7x7_3",
    "branch7x7dbl_1 branch7x7dbl_2 branch7x7dbl_3 branch7x7dbl_4 branch7x7dbl_5",
    "mean branch_pool",
]
D = ["branch3x3_1 branch3x3_2/2", "branch7x7x3_1 branch7x7x3_2 branch7x7x3_3 branch7x7x3_4/2", "max/2"]
E = [
    "branch1x1",
    "branch3x3_1 branch3x3_2a",
    "branch3x3_1 branch3x3_2b",
    "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3a",
    "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3b",
    "mean branch_pool",
]
BLOCKS: Mapping[str, list[str]] = {
    "Mixed_5b": A,
    "Mixed_5c": A,
    "Mixed_5d": A,
    "Mixed_6a": B,
    "Mixed_6b": C,
    "Mixed_6c": C,
    "Mixed_6d": C,
    "Mixed_6e": C,
    "Mixed_7a": D,
    "Mixed_7b": E,
    "Mixed_7c": [*E[:-1], "max branch_pool"],
}


class Inception:
    """The network up to the average over pixels.

    Args:
        weights: By the names of torchvision's Inception v3. The numbers of channels are theirs.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.weights = weights

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """(B, features) of images (B, 3, 299, 299) in [-1, 1]."""
        x = self.convolution("Conv2d_1a_3x3", x, stride=2)
        x = self.convolution("Conv2d_2a_3x3", x, padded=False)
        x = max_pool2d(self.convolution("Conv2d_2b_3x3", x), 3, 2)
        x = self.convolution("Conv2d_3b_1x1", x)
        x = max_pool2d(self.convolution("Conv2d_4a_3x3", x, padded=False), 3, 2)
        for block, branches in BLOCKS.items():
            x = torch.cat([self.branch(block, names.split(), x) for names in branches], 1)
        return x.mean((2, 3))

    def branch(self, block: str, names: list[str], x: Tensor) -> Tensor:
        for marked in names:
            name, stride = marked.removesuffix(STRIDE), 2 if marked.endswith(STRIDE) else 1
            if name == "mean":
                x = avg_pool2d(x, 3, 1, 1, count_include_pad=False)
            elif name == "max":
                x = max_pool2d(x, 3, stride, padding=1 if stride == 1 else 0)
            else:
                x = self.convolution(f"{block}.{name}", x, stride)
        return x

    def convolution(self, name: str, x: Tensor, stride: int = 1, *, padded: bool = True) -> Tensor:
        """A convolution, a batch normalisation and a rectifier; one of stride 2 has no padding."""
        kernel = self.weights[f"{name}.conv.weight"]
        padding = (kernel.shape[2] // 2, kernel.shape[3] // 2) if padded and stride == 1 else 0
        x = conv2d(x, kernel, None, stride, padding)
        mean, var, scale, shift = (
            self.weights[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return batch_norm(x, mean, var, scale, shift, eps=EPSILON).relu()


def inception(dataset: Dataset) -> Features:
    """The features, with the sha256 of the weights in the description."""
    network, scaling = Inception(read("the feature space inception", WEIGHTS)), Scaling(dataset.space)

    def of(x: Tensor) -> Tensor:
        images = interpolate(scaling(x).float(), (SIDE, SIDE), mode="bilinear", align_corners=False)
        return network(images.expand(-1, 3, -1, -1)).double()

    about = {"weights": WEIGHTS.repository, "sha256": WEIGHTS.sha256, "fitted_on": "other images"}
    return Features("inception", in_blocks(of, BATCH), about)
