"""Features of networks that were trained on other images, by the extra ``pretrained``: DINOv2, CLIP and Inception.

Inception is in `dgm.evaluation.inception`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from dgm.data import Dataset
from dgm.distributions.scaling import Scaling
from dgm.errors import MissingExtra, Unsupported
from dgm.evaluation.features import Features, in_blocks
from dgm.evaluation.inception import inception
from dgm.evaluation.weights import hub, unreachable
from dgm.space import Space

INCEPTION = "inception"
SIDE = 224  # pixels of the networks' input
BATCH = 32


@dataclass(frozen=True)
class Pretrained:
    """A network, read from safetensors.

    Attributes:
        address: The publisher's repository on the Hugging Face hub.
        revision: Of the repository, which fixes the weights; of "main" the sha256 in the evaluation tells which they
            were.
        network: The class in transformers.
        output: The name of the features among its outputs.
        mean: Of each colour between 0 and 1, by which the network's images were normalised.
        std:
    """

    address: str
    revision: str
    network: str
    output: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


# DINOv2 (arXiv:2304.07193), as features: Exposing flaws of generative model evaluation metrics (Stein et al., 2023),
# arXiv:2306.04675, which takes a larger network. CLIP (arXiv:2103.00020), as features: The Role of ImageNet Classes in
# Fréchet Inception Distance (Kynkäänniemi et al., 2023), arXiv:2203.06026
PRETRAINED: Mapping[str, Pretrained] = {
    "dinov2": Pretrained(
        "facebook/dinov2-small",
        "ed25f3a31f01632728cabb09d1542f84ab7b0056",
        "Dinov2Model",
        "pooler_output",
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
    ),
    "clip": Pretrained(
        "openai/clip-vit-base-patch32",
        "main",
        "CLIPVisionModelWithProjection",
        "image_embeds",
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
        BadInput: If the weights cannot be loaded.
    """
    space = dataset.space
    if len(space.shape) != 3 or space.shape[0] not in (1, 3) or space.kind in ("tokens", "categories"):
        raise Unsupported(f"{name} features are of grey or colour images, not of {space}", "choose pca or pixels")
    if name == INCEPTION:
        return inception(dataset)
    spec = PRETRAINED[name]
    network = loaded(name, spec)

    def of(x: Tensor) -> Tensor:
        return network(pixel_values=normalised(space, spec, x))[spec.output].double()

    about = {"weights": spec.address, "sha256": digest(network.state_dict()), "fitted_on": "other images"}
    return Features(name, in_blocks(of, BATCH), about)


def loaded(name: str, spec: Pretrained) -> Any:
    cls = getattr(extra(name), spec.network)
    try:
        network = cls.from_pretrained(spec.address, revision=spec.revision, use_safetensors=True)
    except OSError as error:
        raise unreachable(spec.address, error) from error
    return network.eval()


def extra(name: str) -> Any:
    """The module transformers, by which the features are computed."""
    try:
        import transformers
    except Exception as error:  # one that does not fit to this torch fails with errors of any class
        raise MissingExtra.of(f"{name} features", "pretrained") from error
    return transformers


def refuse_without_extra(names: Iterable[str]) -> None:
    """Checks the extra of feature spaces before samples are drawn.

    Raises:
        MissingExtra: If one of them needs it and it is not installed.
    """
    for name in names:
        if name in PRETRAINED:
            extra(name)
        elif name == INCEPTION:
            hub(f"{name} features")


def normalised(space: Space, spec: Pretrained, x: Tensor) -> Tensor:
    """(B, 3, 224, 224), each colour with the mean and the deviation of the network's training."""
    between = (Scaling(space)(x).float() + 1) / 2
    images = interpolate(between, (SIDE, SIDE), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (spec.mean, spec.std))
    return (images.expand(-1, 3, -1, -1) - mean) / std


def digest(weights: Mapping[str, Tensor]) -> str:
    """The sha256 of all tensors in the order of their names."""
    found = hashlib.sha256()
    for name in sorted(weights):
        found.update(name.encode() + weights[name].contiguous().numpy(force=True).tobytes())
    return found.hexdigest()
