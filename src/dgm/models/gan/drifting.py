r"""Drifting: a generator in one step, whose samples are moved by the field between them and the data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from dgm.errors import BadInput
from dgm.models.gan.base import Implicit, duplicates
from dgm.models.gan.networks import DenseGenerator
from dgm.networks.conditions import check_condition, is_label
from dgm.networks.conv import ConvDecoder
from dgm.networks.masked_autoencoder import MaskedAutoencoder, random_patches
from dgm.protocols import Batch, Conditions, PerExample, Symptom
from dgm.settings import setting
from dgm.space import Space

TEMPERATURES = (0.02, 0.05, 0.2)  # tau, times the mean distance of generated and other examples
MOST_LOCATIONS = 64  # of a map whose locations are features each
OF_LABELS = 0.1  # weight of the classifier in the loss of the encoder
TINY = 1e-12
COLLAPSED = 0.5  # share of a batch
REMEDY = "train with a larger --batch or a smaller --lr"


class Drifting(Implicit):
    r"""A generator x = f(z, y) trained to reproduce its own samples after a drift V; no likelihood.

    .. math::
        L = \sum_j E \frac1{C_j} \| \phi_j(x) - \operatorname{sg}(\phi_j(x) + V_j(\phi_j(x))) \|^2, \qquad
        V(x) = E_{p, q}[\tilde k(x, y^+) \tilde k(x, y^-) (y^+ - y^-)]

    The field attracts a sample to data y+ ~ p, and repels it from other samples y- ~ q. It changes its sign where p and
    q are exchanged, so that it vanishes at p = q. The kernel k(x, y) = exp(-|x - y| / tau) is normalised over all y and
    over all x; the fields of three temperatures are added, each with a mean square of 1, and distances are in units of
    their mean: `drift`. With labels y+ and y- are those with the label of x.

    phi_j are features of images: the image itself, its mean square, and of each map of an encoder the mean, the
    standard deviation and, up to 64 of them, the vectors of its locations. The encoder learns to restore masked images
    and to classify the labels, at the same time as the generator. Points and tables are their own features.

    Source: Generative Modeling via Drifting (Deng et al., 2026), arXiv:2602.04770, equations 6 and 10-12, algorithms 1
    and 2, appendices A.3, A.5 and A.6. Differs from it: the encoder is not trained beforehand, and it is small; no
    features of patches; a convolutional generator; positives are the batch's, without a queue; no guidance.

    Args:
        space: Any space but tokens.
        condition: A label.

    Example:
        >>> model = Drifting(Space.continuous((2,)), Drifting.Config())
        >>> model.loss(torch.zeros(5, 2)).shape
        torch.Size([5])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        latent: int = setting(32, "dimensions of z", low=1)
        width: int = setting(
            32, "channels at full resolution, doubled at each halving; of perceptrons, a quarter", low=1
        )

    conditions: ClassVar[frozenset[str]] = frozenset({"categories"})
    defaults: ClassVar[dict[str, Any]] = {"batch": 256, "lr": 1e-3, "ema": 0.99, "select": "last"}

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        if condition is not None and not is_label(condition):
            raise BadInput(f"drifting compares examples of one label, got {condition}", "leave the condition out")
        super().__init__(space, config, condition, generator_of(space, config.width))
        labels = 0 if condition is None else condition.values or 0
        is_image = len(space.shape) == 3
        self.encoder = MaskedAutoencoder(space.shape, config.width, labels) if is_image else None

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """The mean squared drift of all features, whose value says little, and the encoder's loss; no likelihood."""
        y, real = check_condition(y, self.condition), self.scaling(x)
        fake = self.generated_like(real, y)
        with torch.no_grad():
            of_real = self.features(real)
        losses = [drift_loss(mine, theirs, y) for mine, theirs in zip(self.features(fake), of_real, strict=True)]
        total = torch.stack(losses).sum(0)
        return total if self.encoder is None else total + encoder_loss(self.encoder, real, y)

    def features(self, z: Tensor) -> list[Tensor]:
        """phi_j of scaled examples, each (locations, B, C_j); the encoder's weights get no gradient."""
        found = [z.flatten(1)[None]]
        if self.encoder is None:
            return found
        weights = {name: weight.detach() for name, weight in self.encoder.named_parameters()}
        maps = functional_call(self.encoder, weights, z)
        return [*found, z.square().mean((2, 3))[None], *(feature for h in maps for feature in features_of_map(h))]

    @torch.no_grad()
    def diagnose(self, x: Batch, y: Conditions | None = None) -> dict[str, Symptom]:
        """The size of the drift in the space of the data, 0 where samples and data agree, and copies among samples."""
        y, real = check_condition(y, self.condition), self.scaling(x)
        fake = self.generated_like(real, y)
        sizes = [field.square().mean() for field in drifts(fake.flatten(1)[None], real.flatten(1)[None], y)[1]]
        copies = duplicates(real, fake)
        warning = f"{copies:.0%} of a batch are copies of one another: {REMEDY}"
        return {
            "drift": Symptom(float(torch.stack(sizes).sum().sqrt())),
            "duplicates": Symptom(copies, COLLAPSED, warning),
        }


def generator_of(space: Space, width: int) -> Callable[[int], nn.Module]:
    """A perceptron, or the decoder of images, from z."""
    shape = space.shape
    if len(shape) != 3:
        return lambda inputs: DenseGenerator(inputs, width, shape)
    return lambda inputs: nn.Sequential(ConvDecoder(inputs, width, shape), nn.Unflatten(1, shape))


def features_of_map(h: Tensor) -> list[Tensor]:
    """Of a map (B, C, H, W): its mean and its standard deviation (1, B, C) each, and its locations (H W, B, C)."""
    flat = h.flatten(2)
    found = [flat.mean(2)[None], (flat.var(2, correction=0) + TINY).sqrt()[None]]
    return [*found, flat.permute(2, 0, 1)] if flat.shape[2] <= MOST_LOCATIONS else found


def encoder_loss(encoder: MaskedAutoencoder, z: Tensor, y: Conditions | None) -> PerExample:
    """The squared error of the hidden pixels, and the cross-entropy of the labels."""
    hidden = random_patches(z)
    error = (encoder.restored(z, hidden) - z).square() * hidden
    of_patches = error.flatten(1).sum(1) / (hidden.flatten(1).sum(1) * z.shape[1] + TINY)
    if y is None or encoder.classifier is None:
        return of_patches
    logits = encoder.classifier(encoder(z)[-1].mean((2, 3)))
    return (1 - OF_LABELS) * of_patches + OF_LABELS * cross_entropy(logits, y, reduction="none")


def drift_loss(fake: Tensor, real: Tensor, y: Tensor | None) -> PerExample:
    """Equation 26 of one map of features (locations, B, C), summed over its locations."""
    with torch.no_grad():
        scale, fields = drifts(fake, real, y)
        normalised = [field / field.square().mean().sqrt().clamp_min(TINY) for field in fields]
        target = fake / scale + torch.stack(normalised).sum(0)
    return (fake / scale - target).square().mean(2).sum(0)


def drifts(fake: Tensor, real: Tensor, y: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
    """The scale S of equation 21, and the field of generated features / S at each temperature, of their shape.

    Negatives are the other generated features, in the same batch; those with other labels are left out of both.
    """
    root = math.sqrt(fake.shape[2])
    to_real, to_fake = torch.cdist(fake, real), torch.cdist(fake, fake)
    scale = (torch.stack([to_real.mean(), to_fake.mean()]).mean() / root).clamp_min(TINY)
    other = torch.zeros_like(to_fake[0], dtype=torch.bool) if y is None else y[:, None] != y
    itself = torch.eye(len(other), dtype=torch.bool, device=other.device)
    to_real = (to_real / scale / root).masked_fill(other, torch.inf)
    to_fake = (to_fake / scale / root).masked_fill(other | itself, torch.inf)
    return scale, [drift(to_real, to_fake, real / scale, fake / scale, tau) for tau in TEMPERATURES]


def drift(to_positive: Tensor, to_negative: Tensor, positive: Tensor, negative: Tensor, tau: float) -> Tensor:
    r"""Algorithm 2: the field at N points, (..., N, C).

    .. math::
        V = \sum_{j k} A_j^+ A_k^- (y_j^+ - y_k^-), \qquad A = \sqrt{\operatorname{softmax}_y \operatorname{softmax}_x}

    Args:
        to_positive, to_negative: Distances (..., N, P) and (..., N, Q) from the points; infinite to leave a pair out.
        positive, negative: (..., P, C) and (..., Q, C).

    Example:
        >>> y = torch.tensor([[0.0], [1.0]])
        >>> drift(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 1.0]]), y, y, 0.1)
        tensor([[0.]])
    """
    logits = -torch.cat([to_positive, to_negative], -1) / tau
    weights = (logits.softmax(-1) * logits.softmax(-2)).nan_to_num().sqrt()  # where no point is left in a column
    of_positive, of_negative = weights.split([positive.shape[-2], negative.shape[-2]], -1)
    attraction = (of_positive * of_negative.sum(-1, keepdim=True)) @ positive
    return attraction - (of_negative * of_positive.sum(-1, keepdim=True)) @ negative
