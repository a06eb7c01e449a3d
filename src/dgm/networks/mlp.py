"""Multilayer perceptrons."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def mlp(sizes: Sequence[int], *, dropout: float = 0.0) -> nn.Sequential:
    """Linear layers of these sizes, SiLU and dropout between them."""
    layers: list[nn.Module] = []
    for k, (before, after) in enumerate(pairwise(sizes)):
        layers.append(nn.Linear(before, after))
        if k < len(sizes) - 2:
            layers.append(nn.SiLU())
            layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers)
