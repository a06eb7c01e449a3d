"""Embeddings of times, and labels: which fit a model, which are drawn, which are hidden."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dgm.errors import BadInput, Unsupported
from dgm.inputs import brief, tensor
from dgm.protocols import Labels, Model, nested
from dgm.seeds import Streams


class Sinusoidal(nn.Module):
    """cos and sin of t at geometrically spaced frequencies, (...) to (..., width).

    Source: Attention Is All You Need (Vaswani et al., 2017), arXiv:1706.03762, section 3.5; t in [0, 1] is stretched
    to [0, 1000] as diffusion models count their steps.
    """

    frequencies: Tensor

    def __init__(self, width: int, *, stretch: float = 1000.0, period: float = 10_000.0) -> None:
        super().__init__()
        half = width // 2
        frequencies = stretch * torch.exp(-math.log(period) * torch.arange(half) / half)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        angles = t[..., None].to(self.frequencies) * self.frequencies
        return torch.cat([angles.cos(), angles.sin()], dim=-1)


def check_labels(y: Tensor | None, classes: int) -> Tensor | None:
    """``y`` itself, once it is known to fit a model of ``classes`` labels; 0 classes is an unconditional model.

    Raises:
        Unsupported: For a label where none were trained, or none where one is needed.
        BadInput: For a label out of range, in a processor's memory.
    """
    if classes == 0:
        if y is not None:
            raise Unsupported(
                "this model was trained without labels", "leave the label out, or train with --conditional"
            )
        return None
    if y is None:
        raise Unsupported("this model needs a label for each example", f"give y, (B,) integers from 0 to {classes - 1}")
    if not isinstance(y, Tensor) or y.is_floating_point():
        raise BadInput(f"labels must be a tensor of whole numbers, got {brief(y)}", "convert them")
    # elsewhere a look at them would make each step wait; what looks them up there refuses them by itself
    if y.device.type == "cpu" and len(y) and not (y.min() >= 0 and y.max() < classes):
        wrong = f"labels go from 0 to {classes - 1}, got {int(y.min())} to {int(y.max())}"
        raise BadInput(wrong, "choose another label")
    return y


def classes_of(model: Model) -> int:
    """How many labels the model is conditional on; 0 for none."""
    condition = getattr(model, "condition", None)
    if condition is not None and (condition.kind, condition.shape) == ("categories", ()):
        return int(condition.values)
    return int(getattr(getattr(model, "config", None), "classes", 0))


def given_labels(model: Model, y: Any, n: int) -> Labels | None:
    """What a user gives as labels, (n,) whole numbers or one for all, once it is known to fit; None stays None.

    Raises:
        Unsupported: For a model without labels.
        BadInput: For what is no whole number, another count than ``n``, or a label out of range.
    """
    if y is None:
        return None
    labels = tensor("labels", y)
    if len(labels.shape) and not len(labels):
        labels = labels.long()  # numpy takes an empty list for fractions
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise BadInput(f"labels must be whole numbers, got {labels.dtype}", "convert them")
    if labels.ndim == 0:
        labels = labels.expand(n)
    if labels.shape != (n,):
        wrong = f"expected {n} labels, one an example, got {brief(y)} of shape {tuple(labels.shape)}"
        raise BadInput(wrong, "give as many as examples, or one for all")
    return check_labels(labels.long(), classes_of(model))


def sampled_labels(y: Tensor | None, model: Model, noise: Streams) -> Tensor | None:
    """The labels to sample: those given, one a sample, else drawn as `label_shares` says, by the samples' own streams.

    Raises:
        BadInput: For another number of labels than of samples.
    """
    if y is not None and len(y) != len(noise):
        raise BadInput(f"expected {len(noise)} labels, one a sample, got {len(y)}", "give as many as samples")
    classes = classes_of(model)
    if classes and y is None:
        y = noise.categorical(label_shares(model).log().to(noise.device).expand(len(noise), -1))
    return check_labels(y, classes)


def label_shares(model: Model) -> Tensor:
    """p(y), (classes,) float64: the share of each label in the training data.

    `dgm.fit` sets them and `dgm.load` reads them from the run. They are uniform for a model that has not been trained,
    and for a run that does not say them, as older ones do not.
    """
    classes = classes_of(model)
    shares = torch.tensor(getattr(model, "label_shares", None) or [1.0] * classes, dtype=torch.float64)
    return shares / shares.sum()


def set_label_shares(model: Model, shares: Sequence[float]) -> None:
    """Of a model with labels; ``shares`` may be of fewer labels than the model has, the others have none."""
    classes = classes_of(model)
    if classes and sum(shares[:classes]) > 0:
        known = [*shares[:classes], *[0.0] * (classes - len(shares))]
        for one in nested(model):  # a part may be the one that draws
            one.label_shares = known


def hidden_labels(y: Tensor | None, classes: int, share: float) -> Tensor | None:
    """The labels with a share of them, drawn anew each time, replaced by ``classes``, which says that there is none.

    A network that learns from these has a density with each label and one without, which classifier-free guidance sets
    against each other. Source: arXiv:2207.12598, algorithm 1.
    """
    if y is None:
        return None
    return torch.where(torch.rand(len(y), device=y.device) < share, classes, y)
