"""Embeddings of times, and labels: which fit a model, which are drawn, which are hidden."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dgm.errors import BadInput, Unsupported
from dgm.inputs import brief
from dgm.networks.conditions import Marginal, given_condition, labels_of, marginal_of, sampled_condition
from dgm.protocols import Labels, Model
from dgm.seeds import Streams
from dgm.space import Space


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
    return labels_of(model) or int(getattr(getattr(model, "config", None), "classes", 0))


def given_labels(model: Model, y: Any, n: int) -> Labels | None:
    return given_condition(as_new(model), y, n)


def sampled_labels(y: Tensor | None, model: Model, noise: Streams) -> Tensor | None:
    return sampled_condition(y, as_new(model), noise)


def as_new(model: Model) -> Model:
    if getattr(model, "condition", None) is None and classes_of(model):
        model.condition = Space.categories(classes_of(model))
    if getattr(model, "condition", None) is not None and not any(isinstance(m, Marginal) for m in model.modules()):
        model.marginal = Marginal(model.condition)
    return model


def label_shares(model: Model) -> Tensor:
    return marginal_of(as_new(model)).shares


def set_label_shares(model: Model, shares: Sequence[float]) -> None:
    if classes_of(model) and sum(shares) > 0:
        known = torch.tensor([*shares, *[0.0] * (classes_of(model) - len(shares))], dtype=torch.float64)
        as_new(model)
        for part in model.modules():
            if isinstance(part, Marginal):
                part.shares.copy_(known / known.sum())


def hidden_labels(y: Tensor | None, classes: int, share: float) -> Tensor | None:
    """The labels with a share of them, drawn anew each time, replaced by ``classes``, which says that there is none.

    A network that learns from these has a density with each label and one without, which classifier-free guidance sets
    against each other. Source: arXiv:2207.12598, algorithm 1.
    """
    if y is None:
        return None
    return torch.where(torch.rand(len(y), device=y.device) < share, classes, y)
