"""Multilayer perceptrons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
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


def scaled(net: nn.Module, last: float = 1.0) -> None:
    """He's initialisation of all linear layers, since PyTorch's shrinks the signal by a factor of three in each.

    Args:
        last: A factor of the weights of the last layer.
    """
    layers = [module for module in net.modules() if isinstance(module, nn.Linear)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    with torch.no_grad():
        for layer in layers[-1:]:
            layer.weight *= last
