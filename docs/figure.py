"""Makes the README's picture from a comparison: `python docs/figure.py FOLDER`. The first samples, none picked."""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.figure import Figure

from dgm import data, runs
from dgm.registry import ONE_OF_EACH_FAMILY
from dgm.report.pictures import grid
from dgm.sampling import sample

SHOWN = 25


def main(folder: Path) -> None:
    digits = data.load("digits")
    panels = {"real digits": digits.test.x[:SHOWN]}
    panels |= {name: sample(runs.load(folder / name / "seed-0"), SHOWN) for name in ONE_OF_EACH_FAMILY}
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, (name, x) in zip(figure.subplots(2, 6).flatten(), panels.items(), strict=True):
        axes.imshow(grid(x, digits.space), cmap="grey")
        axes.set_title(name, fontsize=9)
        axes.axis("off")
    figure.savefig(Path(__file__).parent / "digits.png", dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
