r"""Densities in the plane with a known log-density, to which the log-density of a model can be compared.

Each has a closed form: a mixture of Gaussians, a change of variables, or a checkerboard. A curve with Gaussian noise is
a mixture of 400 components for each curve; the distance between neighbours is less than half the noise's standard
deviation. The samples are drawn from the same mixture, so their log-density is exact. The mixture is also the midpoint
rule of the integral along the curve, with an error of 1e-4 nats on average and of 0.03 nats in the tail at a curve's
end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dgm.data.dataset import Dataset, Split
from dgm.data.modes import Modes, near
from dgm.space import Space

SEED = 2026
SIZES = {"train": 10_000, "validation": 2_000, "test": 2_000}
POINTS = 400


@dataclass(frozen=True)
class Density:
    """A density in the plane.

    Attributes:
        sample: Draws (n, 2) float64 from a generator.
        log_prob: log p in nats at (N, 2), float64.
        modes: The modes, if there are a few separate ones.
    """

    sample: Callable[[int, torch.Generator], Tensor]
    log_prob: Callable[[Tensor], Tensor]
    modes: Modes | None = None


def load(name: str) -> Dataset:
    density = TOYS[name]()
    generator = torch.Generator().manual_seed(SEED)
    splits: dict[str, Any] = {part: Split(density.sample(n, generator).float()) for part, n in SIZES.items()}
    return Dataset(
        name=f"toy/{name}",
        space=Space.continuous((2,)),
        split=f"10,000 / 2,000 / 2,000 drawn in this order, seed {SEED}",
        log_prob=lambda x: density.log_prob(x.double()),
        modes=density.modes,
        **splits,
    )


def mixture(centres: Tensor, std: float, *, separate: bool = False) -> Density:
    """Equal isotropic Gaussians.

    Args:
        separate: Whether each is a mode, of the points within three standard deviations of its centre.
    """

    def sample(n: int, generator: torch.Generator) -> Tensor:
        k = torch.randint(len(centres), (n,), generator=generator)
        return centres[k] + std * torch.randn(n, 2, generator=generator, dtype=torch.float64)

    def log_prob(x: Tensor) -> Tensor:
        return torch.cat([block(part) for part in x.split(1024)])

    def block(x: Tensor) -> Tensor:
        squared = torch.cdist(x, centres, compute_mode="donot_use_mm_for_euclid_dist").square()
        return (-squared / (2 * std**2)).logsumexp(1) - math.log(len(centres) * 2 * math.pi * std**2)

    return Density(sample, log_prob, near(centres, 3 * std) if separate else None)


def eight_gaussians() -> Density:
    return mixture(circle(8), 0.2, separate=True)


def ring() -> Density:
    """The same with a quarter of the standard deviation, a test of mode collapse."""
    return mixture(circle(8), 0.05, separate=True)


def circle(points: int) -> Tensor:
    """Points on the circle of radius 2, (points, 2)."""
    angle = torch.arange(points, dtype=torch.float64) * 2 * math.pi / points
    return 2 * torch.stack([angle.cos(), angle.sin()], 1)


def grid() -> Density:
    side = torch.arange(-2, 3, dtype=torch.float64)
    return mixture(torch.cartesian_prod(side, side), 0.1, separate=True)


def moons() -> Density:
    """Two half circles of radius 1, the second rotated and shifted by (1, 1/2)."""
    t = (torch.arange(POINTS, dtype=torch.float64) + 0.5) / POINTS * math.pi
    upper, lower = torch.stack([t.cos(), t.sin()], 1), torch.stack([1 - t.cos(), 0.5 - t.sin()], 1)
    return mixture(torch.cat([upper, lower]) - torch.tensor([0.5, 0.25], dtype=torch.float64), 0.1)


def spiral() -> Density:
    """Two arms r = 2 t along the angle 3 pi t, for t in [0.1, 1]."""
    t = 0.1 + 0.9 * (torch.arange(POINTS, dtype=torch.float64) + 0.5) / POINTS
    arm = 2 * t[:, None] * torch.stack([(3 * math.pi * t).cos(), (3 * math.pi * t).sin()], 1)
    return mixture(torch.cat([arm, -arm]), 0.1)


def checkerboard() -> Density:
    """Uniform on the eight squares of [-2, 2]² whose row and column are both even or both odd: log p = -log 8."""

    def sample(n: int, generator: torch.Generator) -> Tensor:
        column = torch.randint(4, (n,), generator=generator)
        row = 2 * torch.randint(2, (n,), generator=generator) + column % 2
        return torch.stack([column, row], 1) - 2 + torch.rand(n, 2, generator=generator, dtype=torch.float64)

    def log_prob(x: Tensor) -> Tensor:
        square = x.floor()
        inside = ((x >= -2) & (x < 2)).all(1) & (square.sum(1) % 2 == 0)
        return torch.where(inside, -math.log(8), -math.inf).double()

    return Density(sample, log_prob)


def pinwheel() -> Density:
    r"""Five Gaussian blades along the radius, each rotated by an angle that decreases with the radius.

    With (r, v) ~ N((1, 0), diag(0.3², 0.1²)) in the frame of blade k, x is (r, v) rotated by 2 pi k / 5 + exp(r) / 4.
    A rotation by an angle that depends on r alone has a Jacobian determinant other than 1. The angle is therefore a
    function of the radius |(r, v)|, which a rotation preserves; the map then preserves area, and log p is the
    log-density of the blades at the point rotated back.
    """
    radial, across, blades = 0.3, 0.1, 5

    def angle(x: Tensor) -> Tensor:
        return 0.25 * x.norm(dim=1).exp()

    def turned(x: Tensor, by: Tensor) -> Tensor:
        c, s = by.cos(), by.sin()
        return torch.stack([c * x[:, 0] - s * x[:, 1], s * x[:, 0] + c * x[:, 1]], 1)

    def sample(n: int, generator: torch.Generator) -> Tensor:
        blade = torch.randint(blades, (n,), generator=generator)
        scale = torch.tensor([radial, across], dtype=torch.float64)
        start = torch.randn(n, 2, generator=generator, dtype=torch.float64) * scale
        start[:, 0] += 1
        return 1.5 * turned(start, 2 * math.pi * blade / blades + angle(start))

    def log_prob(x: Tensor) -> Tensor:
        x = x / 1.5
        parts = []
        for blade in range(blades):
            back = turned(x, -(2 * math.pi * blade / blades + angle(x)))
            parts.append(-0.5 * (((back[:, 0] - 1) / radial) ** 2 + (back[:, 1] / across) ** 2))
        constant = math.log(blades * 2 * math.pi * radial * across * 1.5**2)
        return torch.stack(parts).logsumexp(0) - constant

    return Density(sample, log_prob)


TOYS: dict[str, Callable[[], Density]] = {
    "moons": moons,
    "eight_gaussians": eight_gaussians,
    "ring": ring,
    "grid": grid,
    "checkerboard": checkerboard,
    "pinwheel": pinwheel,
    "spiral": spiral,
}
