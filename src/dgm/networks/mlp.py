"""Multilayer perceptrons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import nn


def mlp(sizes: Sequence[int], *, dropout: float = 0.0, activation: Callable[[], nn.Module] = nn.SiLU) -> nn.Sequential:
    """Linear layers of these sizes, the activation and dropout between them."""
    layers: list[nn.Module] = []
    for k, (before, after) in enumerate(pairwise(sizes)):
        layers.append(nn.Linear(before, after))
        if k < len(sizes) - 2:
            layers.append(activation())
            layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers)
