r"""Vision transformers as functions of published weights: the features are of the first token.

.. math:: x_0 = [c; E p_1; \ldots; E p_N] + P, \quad
    x' = x + \lambda_1 \text{MSA}(\text{LN}(x)), \quad x'' = x' + \lambda_2 \text{MLP}(\text{LN}(x'))

Each head has 64 features. CLIP's has a normalisation before the first block, a projection after the last normalisation,
and the activation x sigma(1.702 x); DINOv2's has the factors lambda, and positions on another grid are interpolated.

Source: An Image is Worth 16x16 Words (Dosovitskiy et al., 2021), arXiv:2010.11929, equations 1-4; DINOv2 (Oquab et al.,
2023), arXiv:2304.07193; CLIP (Radford et al., 2021), arXiv:2103.00020. The names of the tensors are those of the files
on the Hugging Face hub.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor
from torch.nn.functional import conv2d, gelu, interpolate, layer_norm, linear, scaled_dot_product_attention

HEAD = 64  # features of a head


def quick_gelu(x: Tensor) -> Tensor:
    return x * (1.702 * x).sigmoid()


@dataclass(frozen=True)
class Architecture:
    """How a publisher's network differs from others.

    Attributes:
        names: Parts of the names of its tensors, and the corresponding names here.
        activation: Of the perceptrons.
        epsilon: Of the normalisations.
    """

    names: Mapping[str, str]
    activation: Callable[[Tensor], Tensor]
    epsilon: float


DINOV2 = Architecture(
    {
        "embeddings.patch_embeddings.projection": "patches",
        "embeddings.cls_token": "first",
        "embeddings.position_embeddings": "positions",
        "encoder.layer.": "",
        "attention.attention.": "",
        "attention.output.dense": "out",
        "layer_scale1.lambda1": "lambda1",
        "layer_scale2.lambda1": "lambda2",
        "mlp.": "",
        "layernorm": "last",
    },
    gelu,
    1e-6,
)
CLIP = Architecture(
    {
        "vision_model.": "",
        "embeddings.patch_embedding.": "patches.",
        "embeddings.class_embedding": "first",
        "embeddings.position_embedding.weight": "positions",
        "encoder.layers.": "",
        "self_attn.q_proj": "query",
        "self_attn.k_proj": "key",
        "self_attn.v_proj": "value",
        "self_attn.out_proj": "out",
        "layer_norm": "norm",
        "mlp.": "",
        "pre_layrnorm": "before",
        "post_layernorm": "last",
        "visual_projection": "projection",
    },
    quick_gelu,
    1e-5,
)


class VisionTransformer:
    """The features of images, by a function of a file's tensors.

    Args:
        weights: By the publisher's names.
        architecture: Of the publisher.
    """

    def __init__(self, weights: Mapping[str, Tensor], architecture: Architecture) -> None:
        self.activation, self.epsilon = architecture.activation, architecture.epsilon
        self.weights = {renamed(name, architecture.names): value for name, value in weights.items()}
        self.blocks = sum(name.endswith(".norm1.weight") and name[0].isdigit() for name in self.weights)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """(B, features) of images (B, 3, height, width)."""
        kernel = self.weights["patches.weight"]
        patches = conv2d(images, kernel, self.weights.get("patches.bias"), stride=kernel.shape[-1])
        first = self.weights["first"].view(1, 1, -1).expand(len(images), -1, -1)
        x = torch.cat([first, patches.flatten(2).mT], 1) + self.positions(*patches.shape[2:])
        x = self.norm("before", x) if "before.weight" in self.weights else x
        for k in range(self.blocks):
            x = x + self.weights.get(f"{k}.lambda1", 1) * self.attention(k, self.norm(f"{k}.norm1", x))
            x = x + self.weights.get(f"{k}.lambda2", 1) * self.perceptron(k, self.norm(f"{k}.norm2", x))
        features = self.norm("last", x[:, 0])
        return self.linear("projection", features) if "projection.weight" in self.weights else features

    def positions(self, height: int, width: int) -> Tensor:
        """Of the first token, and of a grid of patches: if it is another than the network was trained with, bicubic."""
        table = self.weights["positions"].flatten(0, -2)
        side = isqrt(len(table) - 1)
        if (height, width) == (side, side):
            return table
        grid = interpolate(table[1:].mT.view(1, -1, side, side), (height, width), mode="bicubic", align_corners=False)
        return torch.cat([table[:1], grid[0].flatten(1).mT])

    def attention(self, block: int, x: Tensor) -> Tensor:
        heads = (self.linear(f"{block}.{name}", x).unflatten(-1, (-1, HEAD)) for name in ("query", "key", "value"))
        mixed = scaled_dot_product_attention(*(v.transpose(1, 2) for v in heads))
        return self.linear(f"{block}.out", mixed.transpose(1, 2).flatten(2))

    def perceptron(self, block: int, x: Tensor) -> Tensor:
        return self.linear(f"{block}.fc2", self.activation(self.linear(f"{block}.fc1", x)))

    def norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return layer_norm(x, x.shape[-1:], weight, bias, self.epsilon)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return linear(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))


def renamed(name: str, names: Mapping[str, str]) -> str:
    for theirs, ours in names.items():
        name = name.replace(theirs, ours)
    return name
