"""Features of networks that were trained on other images, by the extra ``pretrained``: DINOv2, CLIP and Inception.

Inception is in `dgm.evaluation.inception`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from dgm.data import Dataset
from dgm.distributions.scaling import Scaling
from dgm.errors import Unsupported
from dgm.evaluation import inception
from dgm.evaluation.features import Features, in_blocks
from dgm.evaluation.vision_transformer import CLIP, DINOV2, Architecture, VisionTransformer
from dgm.evaluation.weights import Weights, path_of, read
from dgm.space import Space

INCEPTION = "inception"
SIDE = 224  # pixels of the networks' input
BATCH = 32


@dataclass(frozen=True)
class Pretrained:
    """A network, read from safetensors.

    Attributes:
        weights: The file.
        architecture: Of its network.
        mean: Of each colour between 0 and 1, by which the network's images were normalised.
        std:
    """

    weights: Weights
    architecture: Architecture
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


# DINOv2 (arXiv:2304.07193), as features: Exposing flaws of generative model evaluation metrics (Stein et al., 2023),
# arXiv:2306.04675, which takes a larger network. CLIP (arXiv:2103.00020), as features: The Role of ImageNet Classes in
# Fréchet Inception Distance (Kynkäänniemi et al., 2023), arXiv:2203.06026. OpenAI's repository of ViT-B/32 has
# safetensors in a revision beside its main branch alone
PRETRAINED: Mapping[str, Pretrained] = {
    "dinov2": Pretrained(
        Weights(
            "facebook/dinov2-small",
            "ed25f3a31f01632728cabb09d1542f84ab7b0056",
            "model.safetensors",
            "ae1e99fcefd534ed978cdeb8326f08030c96e28b7a81ffcbc98a857c84d14be1",
        ),
        DINOV2,
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
    ),
    "clip": Pretrained(
        Weights(
            "openai/clip-vit-base-patch32",
            "b33cedfd0df4e43b8238760678fcc89e1a0d38b3",
            "model.safetensors",
            "99d28a652e6ec46629ab7047a0ac82c69b1fe11e0ce672c43af65d3a9a3fc05d",
        ),
        CLIP,
        (0.48145466, 0.4578275, 0.40821073),
        (0.26862954, 0.26130258, 0.27577711),
    ),
}


def pretrained(name: str, dataset: Dataset) -> Features:
    """The features of a network that was trained on other images, with the sha256 of its weights in the description.

    Images are resized to 224 × 224 by an antialiased bicubic filter; grey ones have three equal colours.

    Raises:
        Unsupported: For data that is no grey or colour images.
        MissingExtra: Without the extra.
        BadInput: If the weights cannot be loaded, or are not the published ones.
    """
    space = dataset.space
    refuse_other_than_images(name, space)
    if name == INCEPTION:
        return inception.inception(dataset)
    spec = PRETRAINED[name]
    network = VisionTransformer(read(f"the feature space {name}", spec.weights), spec.architecture)

    def of(x: Tensor) -> Tensor:
        return network(normalised(space, spec, x)).double()

    about = {"weights": spec.weights.repository, "sha256": spec.weights.sha256, "fitted_on": "other images"}
    return Features(name, in_blocks(of, BATCH), about)


def refuse_without_weights(name: str, space: Space) -> None:
    """Raises the errors of `pretrained` before samples are drawn; the weights are downloaded."""
    refuse_other_than_images(name, space)
    weights = inception.WEIGHTS if name == INCEPTION else PRETRAINED[name].weights
    path_of(f"the feature space {name}", weights)


def refuse_other_than_images(name: str, space: Space) -> None:
    if len(space.shape) != 3 or space.shape[0] not in (1, 3) or space.kind in ("tokens", "categories"):
        raise Unsupported(f"{name} features are of grey or colour images, not of {space}", "choose pca or pixels")


def normalised(space: Space, spec: Pretrained, x: Tensor) -> Tensor:
    """(B, 3, 224, 224), each colour with the mean and the deviation of the network's training."""
    between = (Scaling(space)(x).float() + 1) / 2
    images = interpolate(between, (SIDE, SIDE), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (spec.mean, spec.std))
    return (images.expand(-1, 3, -1, -1) - mean) / std
