r"""Binary images of one shape each, of which all factors of variation are known: procedural, every combination once.

A pixel with centre p is 1 if u = R(-\theta) (p - c) / s lies in the shape: a square |u_1|, |u_2| <= 0.7; an ellipse
u_1^2 + 4 u_2^2 <= 1; or a heart (u_1^2 + u_2^2 - 1)^3 <= u_1^2 u_2^3, at u enlarged by 1.25. The centre is c, the angle
\theta, and s is 5 to 10 pixels.

Source: the factors are those of dSprites (Matthey et al., 2017; beta-VAE, Higgins et al., 2017, section 4.2): shape 3,
scale 6, angle 40, x 32, y 32, in 64×64 pixels. Differs from it: 32×32 pixels; 10 angles of a quarter turn, after
which a square repeats, so that all but 40 of the 25,920 images differ; 12 positions along x and y.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from dgm.condition import Names
from dgm.data.dataset import Conditions, Dataset, consecutive, shuffled
from dgm.space import Space

SEED = 0
SIDE = 32
SHAPES = ("square", "ellipse", "heart")
SIZES: Mapping[str, int] = {"shape": len(SHAPES), "scale": 6, "angle": 10, "x": 12, "y": 12}
LEAST, MOST = 5.0, 10.0  # s in pixels; also the smallest distance of a centre to the edge


def load(factor: str = "") -> Dataset:
    """
    Args:
        factor: The one that is the condition, as a label; by default all are, as a record.
    """
    factors = torch.cartesian_prod(*(torch.arange(size) for size in SIZES.values()))
    rows, sizes = shuffled(len(factors), SEED)
    factors = factors[rows]
    return Dataset(
        name="sprites",
        space=Space.binary((1, SIDE, SIDE)),
        split=f"{' / '.join(f'{size:,}' for size in sizes.values())} of a permutation with seed {SEED}",
        **consecutive(images(factors), one_of(factors, factor) if factor else all_of(factors), sizes),
    )


def all_of(factors: Tensor) -> Conditions:
    parts = {name: Space.levels((), size) for name, size in SIZES.items()} | {"shape": Space.categories(len(SHAPES))}
    return Conditions(Space.record(**parts), factors.double(), Names(parts={"shape": Names(labels=SHAPES)}))


def one_of(factors: Tensor, name: str) -> Conditions:
    labels = SHAPES if name == "shape" else tuple(map(str, range(SIZES[name])))
    return Conditions(Space.categories(SIZES[name]), factors[:, list(SIZES).index(name)], Names(labels=labels))


def images(factors: Tensor, block: int = 1024) -> Tensor:
    """The images (N, 1, SIDE, SIDE) uint8 of factors (N, 5), integers in the order of `SIZES`."""
    return torch.cat([drawn(part) for part in factors.split(block)])


def drawn(factors: Tensor) -> Tensor:
    shape, scale, angle, x, y = (column[:, None, None] for column in factors.unbind(1))
    s = LEAST + (MOST - LEAST) * scale / (SIZES["scale"] - 1)
    theta = math.pi / 2 * angle / SIZES["angle"]
    at = torch.arange(SIDE) + 0.5
    right, up = at - centre(x, SIZES["x"]), centre(y, SIZES["y"]) - at[:, None]
    u_1, u_2 = (right * theta.cos() + up * theta.sin()) / s, (up * theta.cos() - right * theta.sin()) / s
    inside = torch.where(shape == 0, square(u_1, u_2), torch.where(shape == 1, ellipse(u_1, u_2), heart(u_1, u_2)))
    return inside[:, None].to(torch.uint8)


def centre(position: Tensor, positions: int) -> Tensor:
    """In pixels from the left or from the top."""
    return MOST + (SIDE - 2 * MOST) * position / (positions - 1)


def square(u_1: Tensor, u_2: Tensor) -> Tensor:
    return (u_1.abs() <= 0.7) & (u_2.abs() <= 0.7)


def ellipse(u_1: Tensor, u_2: Tensor) -> Tensor:
    return u_1.square() + 4 * u_2.square() <= 1


def heart(u_1: Tensor, u_2: Tensor) -> Tensor:
    u_1, u_2 = 1.25 * u_1, 1.25 * u_2
    a, b = u_1.square(), u_2.square()
    return (a + b - 1) ** 3 <= a * b * u_2
