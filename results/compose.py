"""Conjunctions of concepts: of a sprite's shape and its column, by two diffusion models, and of labels of digits.

In results/compose.json. A sample of a composition has the factors of the nearest of all 25,920 sprites, or, of digits,
the label that the evaluation's classifier finds. The share of samples that have both factors is the figure.

python results/compose.py                   trains the three diffusion models, about 45 minutes of a core
python results/compose.py --parts digits    one of the two alone
python results/compose.py --runs runs       keeps the trained models in this folder, and takes those that it has
"""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import dgm
from dgm.data import sprites
from dgm.documents import read_object
from dgm.editing.composition import Composition, Term, sampled
from dgm.evaluation.features import features
from dgm.files import write_json
from dgm.report.pictures import grid
from dgm.runs import Run

HERE = Path(__file__).parent
SEED, SAMPLES = 0, 8
COLUMNS = (0, 5, 11)  # values of x that are composed with each shape
WIDTH, SAMPLER = 16, {"sampling_steps": 50, "langevin_steps": 4}
SPRITES: dict[str, Any] = {"steps": 6000, "batch": 32, "ema": 0.995, "select": "last"}
DIGITS: dict[str, Any] = {"steps": 3000}


def trained(name: str, dataset: Any, condition: Any, runs: Path | None, settings: Any, training: Any) -> Any:
    """A model of the data, under a condition or None, in evaluation mode."""
    out = runs and runs / f"{name}-{dataset.name.replace('/', '-')}"
    began = out is not None and out.is_dir()
    if out and began and Run(out).finished:
        return dgm.load(out).eval()
    torch.manual_seed(SEED)
    model = dgm.create(name, dataset.space, condition, **settings)
    for _ in dgm.fit(model, dataset, out=out, resume=began, seed=SEED, precision="32-true", **training):
        pass
    return model.eval()


def diffusion(data: str, runs: Path | None, width: int, training: dict[str, Any]) -> Any:
    """A diffusion model of the data under its condition."""
    dataset = dgm.data.load(data)
    return trained("ddpm", dataset, dataset.condition, runs, {"width": width}, training)


def continued(path: Path) -> dict[str, Any]:
    """The document of a script's results, with the parts that it has, and what is said of this run."""
    return (read_object(path) if path.is_file() else {}) | {
        "command": f"python results/{Path(sys.argv[0]).name}",
        "seed": SEED,
        "machine": f"{platform.machine()}, one thread, torch {torch.__version__}",
    }


def nearest(x: Tensor) -> tuple[Tensor, Tensor]:
    """The factors of the nearest of all sprites, (N, 5), and the pixels in which it differs, (N,)."""
    whole = sprites.load()
    every, factors = (torch.cat([getattr(split, which) for split in whole.splits.values()]) for which in ("x", "y"))
    distance, row = torch.cdist(x.flatten(1).float(), every.flatten(1).float(), p=1).min(1)
    return factors[row].long(), distance


def sprites_composed(document: dict[str, Any], out: Path, runs: Path | None) -> None:
    of_shape, of_column = (diffusion(f"sprites/{factor}", runs, WIDTH, SPRITES) for factor in ("shape", "x"))
    rows, found = [], {}
    for shape, name in enumerate(sprites.SHAPES):
        for column in COLUMNS:
            of = Composition([Term(of_shape, torch.tensor([shape]))], [Term(of_column, torch.tensor([column]))])
            x = sampled(of, SAMPLES, seed=SEED, **SAMPLER)
            read, off = nearest(x)
            right, near = read[:, 0] == shape, (read[:, 3] - column).abs() <= 1
            found[f"{name}, x = {column}"] = {
                "shape": float(right.double().mean()),
                "x_within_one": float(near.double().mean()),
                "both": float((right & near).double().mean()),
                "pixels_off": float(off.median()),
            }
            rows.append(x)
            print(name, column, found[f"{name}, x = {column}"], flush=True)
    grid(torch.cat(rows), dgm.data.load("sprites").space, columns=SAMPLES).save(out / "compose-sprites.png")
    places = sprites.SIZES["x"]
    within = sum(abs(x - column) <= 1 for x in range(places) for column in COLUMNS) / places / len(COLUMNS)
    document["sprites"] = {
        "width": WIDTH,
        "training": SPRITES,
        "sampler": SAMPLER,
        "n": SAMPLES * len(found),
        "both": sum(row["both"] for row in found.values()) / len(found),
        "chance": within / len(sprites.SHAPES),
        "pairs": found,
    }


def digits_composed(document: dict[str, Any], out: Path, runs: Path | None) -> None:
    """Either of two labels, and a label of which another is negated."""
    dataset = dgm.data.load("digits")
    model = diffusion("digits", runs, 24, DIGITS)
    guess = features("classifier", dataset).guess
    assert guess is not None
    label = lambda k: Term(model, torch.tensor([k]))  # noqa: E731
    compositions = {
        "3": Composition([label(3)]),
        "1 or 7": Composition([label(1), label(7)]),
        "3 and 8": Composition([label(3)], [label(8)]),
        "any, not 3": Composition([Term(model)], without=[label(3)]),
    }
    rows, found = [], {}
    for name, of in compositions.items():
        x = sampled(of, 4 * SAMPLES, seed=SEED)
        found[name] = guess(x).bincount(minlength=10).tolist()
        rows.append(x[: 2 * SAMPLES])
        print(name, found[name], flush=True)
    grid(torch.cat(rows), dataset.space, columns=2 * SAMPLES).save(out / "compose-digits.png")
    document["digits"] = DIGITS | {"n": 4 * SAMPLES, "labels": found}


PARTS = {"digits": digits_composed, "sprites": sprites_composed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--pictures", default=".", help="folder of the pictures")
    parser.add_argument("--runs", type=Path, help="folder that keeps the trained models")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    path = HERE / "compose.json"
    document = continued(path)
    for part in chosen.parts:
        PARTS[part](document, Path(chosen.pictures), chosen.runs)
        write_json(document, path)


if __name__ == "__main__":
    main()
