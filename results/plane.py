"""Draws a flow in the plane: data, density, samples, and the grid of the base as the inverse warps it.

dgm train nsf --data toy/checkerboard --out runs/nsf
python results/plane.py runs/nsf nsf.png
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dgm import runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CELLS, POINTS = 300, 3000  # of the picture of the density, in a row; of data and of samples
LINES, REACH = 25, 3.0  # of the grid of the base, each way; its half width


def side_of(x: Tensor) -> float:
    """Half the side of the square that is drawn."""
    return 1.15 * float(x.abs().quantile(0.995))


@torch.no_grad()
def density(axes: Axes, model: Any, side: float) -> None:
    middle = (torch.arange(CELLS) + 0.5) / CELLS * 2 * side - side
    cells = torch.cartesian_prod(middle, middle)
    p = torch.cat([model.log_prob(part) for part in cells.split(10_000)]).exp().view(CELLS, CELLS)
    axes.imshow(p.mT, origin="lower", extent=(-side, side, -side, side), cmap="viridis", vmax=float(p.quantile(0.999)))


@torch.no_grad()
def warped_grid(axes: Axes, model: Any) -> None:
    along, across = torch.linspace(-REACH, REACH, 400), torch.linspace(-REACH, REACH, LINES)
    for fixed in across:
        for z in (torch.stack([along, fixed.expand_as(along)], 1), torch.stack([fixed.expand_as(along), along], 1)):
            axes.plot(*model.decode(z).T, color="tab:blue", linewidth=0.5)


def draw(model: Any, x: Tensor) -> Figure:
    side, figure = side_of(x), Figure(figsize=(16, 4.3), layout="constrained")
    axes = figure.subplots(1, 4)
    axes[0].scatter(*x[:POINTS].T, s=1, color="black")
    density(axes[1], model, side)
    axes[2].scatter(*model.sample(POINTS, seed=0).T, s=1, color="tab:orange")
    warped_grid(axes[3], model)
    for one, title in zip(axes, ("data", "density", "samples", "grid of the base, warped"), strict=True):
        one.set(xlim=(-side, side), ylim=(-side, side), aspect="equal", title=title, xticks=[], yticks=[])
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="of a flow on a toy density")
    parser.add_argument("out", help="the picture")
    chosen = parser.parse_args()
    run = runs.Run(chosen.run)
    draw(runs.load(run.path), run.dataset().test.x).savefig(chosen.out, dpi=110)


if __name__ == "__main__":
    main()
