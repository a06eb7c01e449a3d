"""The input features of linear layers for every kind of space."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from dgm.distributions.columns import ColumnFeatures
from dgm.distributions.scaling import Scaling
from dgm.space import Space


class Features(nn.Module):
    """Input features: ordered values are scaled, unordered ones are one-hot encoded.

    Attributes:
        width: Number of features of a value.

    Example:
        >>> Features(Space.tokens(2, 3))(torch.tensor([[2, 0]]))
        tensor([[[0., 0., 1.],
                 [1., 0., 0.]]])
    """

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.scaling = None if space.kind in ("tokens", "categories") else Scaling(space)
        self.width = (space.values or 0) if self.scaling is None else 1

    def forward(self, x: Tensor, dim: int | None = None) -> Tensor:
        """(B, *shape) to (B, *shape, width); (B,) values of the one flattened dimension ``dim`` to (B, width)."""
        if self.scaling is None:
            return one_hot(x.long(), self.width).to(torch.get_default_dtype())
        return self.scaling(x, dim)[..., None]


def features(space: Space) -> Features | ColumnFeatures:
    """The input features of a space; of a record column by column."""
    return ColumnFeatures(space) if space.kind == "record" else Features(space)


class ChannelFeatures(nn.Module):
    """The input features of convolutions over images: ordered values are scaled, tokens have learnt vectors.

    Attributes:
        width: Number of features of all channels; those of one channel are consecutive.
    """

    def __init__(self, space: Space, of_token: int) -> None:
        super().__init__()
        is_tokens = space.kind == "tokens"
        self.scaling = None if is_tokens else Scaling(space)
        self.vectors = nn.Embedding(space.values or 0, of_token) if is_tokens else None
        self.width = space.shape[0] * (of_token if is_tokens else 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, width, H, W)."""
        return self.of_part(x, slice(None))

    def of_part(self, x: Tensor, *place: int | slice) -> Tensor:
        """Those of the part x[:, :, *place], such as one pixel, (B, width)."""
        if self.vectors is not None:
            return self.vectors(x[:, :, *place]).movedim(-1, 2).flatten(1, 2)
        assert self.scaling is not None
        return self.scaling.of_part(x, *place)
