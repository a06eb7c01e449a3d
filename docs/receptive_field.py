"""Makes docs/blind_spot.png: the pixels that the conditional of one pixel depends on, by autodiff, in two models."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import torch

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.colors import ListedColormap

import dgm
from dgm import Space
from dgm.contracts import perturbed

SIDE, ROW, COLUMN, LAYERS = 15, 10, 6, 20
COLOURS = ListedColormap(["#f1f1ee", "#d1495b", "#2e5aac", "#1b1b1b"])  # later, hidden, seen, the pixel itself


def shown(name: str) -> torch.Tensor:
    """0 for later pixels, 1 for earlier ones outside of the receptive field, 2 for those inside, 3 for the pixel."""
    torch.manual_seed(0)
    model = perturbed(dgm.create(name, Space.continuous((1, SIDE, SIDE)), width=8, layers=LAYERS))
    x = torch.randn(1, 1, SIDE, SIDE, requires_grad=True)
    (gradient,) = torch.autograd.grad(model.conditionals(x)[0, 0, ROW, COLUMN].sum(), x)
    earlier = (torch.arange(SIDE * SIDE) < ROW * SIDE + COLUMN).view(SIDE, SIDE)
    picture = earlier.int() + (gradient[0, 0] != 0).int()
    picture[ROW, COLUMN] = 3
    return picture


def main() -> None:
    figure, axes = pyplot.subplots(1, 2, figsize=(8, 4.4), layout="constrained")
    for axis, name in zip(axes, ("pixelcnn", "gated_pixelcnn"), strict=True):
        axis.imshow(shown(name), cmap=COLOURS, vmin=0, vmax=3)
        axis.set_title(name)
        axis.set_xticks(torch.arange(SIDE + 1) - 0.5, labels=[])
        axis.set_yticks(torch.arange(SIDE + 1) - 0.5, labels=[])
        axis.tick_params(length=0)
        axis.grid(color="white")
    figure.suptitle(
        "Earlier pixels inside (blue) and outside (red) of the receptive field of the black pixel's conditional"
    )
    figure.savefig(Path(__file__).parent / "blind_spot.png", dpi=120)


if __name__ == "__main__":
    main()
