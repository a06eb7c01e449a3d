r"""The affine scaling of data for networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dgm.errors import BadInput, Unsupported
from dgm.space import Space


def refuse_discrete(space: Space) -> None:
    """Checks that samples of a space can have a gradient.

    Raises:
        Unsupported: If the space is discrete.
    """
    if space.discrete or space.kind == "record":
        wrong = f"samples of {space} are rounded, and no gradient passes through them"
        raise Unsupported(wrong, "use sample, or a model of real numbers")


class Scaling(nn.Module):
    r"""The affine map z = (x - loc) / scale of a space.

    Ordered integers 0 … K - 1 and bounded numbers are mapped to [-1, 1]; unbounded ones, and integers whose space has a
    ``scale``, are standardised by the ``loc`` and ``scale`` of the space.

    Args:
        space: Any space of ordered values. Tokens have no order and are embedded instead.

    Example:
        >>> scaling = Scaling(Space.levels((2,), 3))
        >>> scaling(torch.tensor([[0, 2]]))
        tensor([[-1.,  1.]])
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, space: Space) -> None:
        super().__init__()
        if space.kind == "tokens":
            raise BadInput("tokens have no order and cannot be scaled", "choose a model that embeds them")
        self.space = space
        levels = (0.0, float((space.values or 0) - 1)) if not space.scale else None
        bounds = levels if space.discrete else space.bounds
        if bounds is not None:
            loc, scale = torch.tensor(sum(bounds) / 2), torch.tensor((bounds[1] - bounds[0]) / 2)
        else:
            loc = torch.tensor(space.loc).reshape(space.shape) if space.loc else torch.tensor(0.0)
            scale = torch.tensor(space.scale).reshape(space.shape) if space.scale else torch.tensor(1.0)
        self.register_buffer("loc", loc, persistent=False)
        self.register_buffer("scale", scale, persistent=False)

    @property
    def ladj(self) -> Tensor:
        """log |det dz/dx| of one example, a scalar; 0 for discrete x, whose probabilities are of counting measure."""
        if self.space.discrete:
            return torch.zeros_like(self.loc)
        return -self.scale.log().expand(self.space.shape).sum()

    def ladj_of(self, observed: Tensor) -> Tensor:
        """Of the observed dimensions alone, (B,), of a bool mask (B, *shape)."""
        if self.space.discrete:
            return observed.new_zeros(len(observed), dtype=self.scale.dtype)
        return -(self.scale.log().expand(self.space.shape) * observed).flatten(1).sum(1)

    def forward(self, x: Tensor, dim: int | None = None) -> Tensor:
        """z of (B, *shape) values, or of (B,) values of the one flattened dimension ``dim``."""
        loc, scale = self.at(dim)
        return (x.to(loc) - loc) / scale

    def of_part(self, x: Tensor, *place: int | slice) -> Tensor:
        """z of the part x[:, :, *place] of images (B, C, H, W), such as one pixel, (B, C)."""
        loc, scale = (v[:, *place] if v.ndim else v for v in (self.loc, self.scale))
        return (x[:, :, *place].to(loc) - loc) / scale

    def inverse(self, z: Tensor, dim: int | None = None) -> Tensor:
        """x in the dtype of the data: rounded and clamped to the levels, or clamped to the bounds."""
        loc, scale = self.at(dim)
        x = z.to(torch.promote_types(z.dtype, scale.dtype)) * scale + loc  # a tensor of shape () promotes no other one
        if self.space.discrete:
            return x.round().clamp(0, (self.space.values or 0) - 1).to(self.space.dtype)
        return x if self.space.bounds is None else x.clamp(*self.space.bounds)

    def at(self, dim: int | None) -> tuple[Tensor, Tensor]:
        if dim is None or self.loc.ndim == self.scale.ndim == 0:
            return self.loc, self.scale
        loc, scale = (v.expand(self.space.shape).flatten()[dim] for v in (self.loc, self.scale))
        return loc, scale
