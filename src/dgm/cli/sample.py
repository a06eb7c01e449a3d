"""Draw samples from a trained model.

dgm sample runs/vae -n 64 --out grid.png       one picture
dgm sample runs/vae -n 1000 --out samples/     a folder of pictures
dgm sample runs/vae -n 1000 --out samples.npz  an array x, in the data's own values
dgm sample runs/table -n 1000 --out rows.csv   a table
dgm sample runs/ddpm --label 7 --out sevens.png
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgm.cli.terminal import Progress
from dgm.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

    from dgm.protocols import Model
    from dgm.space import Space

CHUNK = 250  # samples drawn at once


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="a run directory, as `dgm train` writes it")
    parser.add_argument("-n", type=int, default=64, help="how many (64)")
    parser.add_argument("--seed", type=int, default=0, help="sample k depends on this and on k alone (0)")
    parser.add_argument("--label", type=int, help="the label to sample, for a model trained with --conditional")
    parser.add_argument("--out", required=True, help="a .png, .npz or .csv file, or a folder; must not exist")


def run(args: argparse.Namespace) -> int:
    out = Path(args.out)
    write = writer(out)
    if args.n < 1:
        raise BadInput(f"-n must be at least 1, got {args.n}", "ask for one sample or more")
    if out.exists():
        raise BadInput(f"{out} exists", "choose another --out, or remove it first")
    import dgm
    from dgm.runs import Run

    model, about = dgm.load(args.run), Run(args.run).config["data"]
    refuse_what_memory_cannot_hold(args.n, model.space)
    x = draw(model, args.n, args.seed, args.label)
    out.parent.mkdir(parents=True, exist_ok=True)
    write(x, model.space, out, about)
    print(f"{args.n} samples in {out}")
    return 0


def draw(model: Model, n: int, seed: int, label: int | None) -> Tensor:
    """(n, *shape) samples, chunk by chunk under a progress bar; each depends on its own number alone."""
    import torch

    from dgm.networks.embeddings import check_labels
    from dgm.seeds import Streams

    if label is not None:  # a model that knows no labels may not look at them
        check_labels(torch.tensor([label]), getattr(model.config, "classes", 0))
    device = next(model.parameters(), torch.empty(0)).device
    chunks = []
    with Progress(f"sampling {n}") as progress:
        for start in range(0, n, CHUNK):
            keys = range(start, min(start + CHUNK, n))
            y = None if label is None else torch.full((len(keys),), label, device=device)
            chunks.append(model.sample(len(keys), y, seed=Streams(seed, keys, device)).cpu())
            progress.update(keys.stop / n, f"{keys.stop} of {n}")
    return torch.cat(chunks)


def refuse_what_memory_cannot_hold(n: int, space: Space) -> None:
    needed = 2 * n * space.dim * space.dtype.itemsize  # the chunks and their concatenation
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > available:
        most = available // (2 * space.dim * space.dtype.itemsize)
        wrong = f"{n} samples need {needed / 2**30:.1f} GiB of memory, {available / 2**30:.1f} GiB are free"
        raise BadInput(wrong, f"ask for at most {most}")


def writer(out: Path) -> Callable[[Tensor, Space, Path, dict[str, Any]], None]:
    """How ``out`` is written, by its suffix; the last argument is what the run says about its data."""
    known = {".png": write_grid, ".npz": write_array, ".csv": write_table, "": write_folder}
    if out.suffix not in known:
        raise BadInput(f"--out cannot be a '{out.suffix}' file", "end it in .png, .npz or .csv, or name a folder")
    return known[out.suffix]


def write_grid(x: Tensor, space: Space, out: Path, about: dict[str, Any]) -> None:
    from dgm.report.pictures import grid, scatter
    from dgm.runs import replacing

    picture = grid(x, space) if len(space.shape) == 3 else scatter(x, space)
    with replacing(out) as temporary:
        picture.save(temporary, format="PNG")


def write_folder(x: Tensor, space: Space, out: Path, about: dict[str, Any]) -> None:
    from dgm.report.pictures import grid
    from dgm.runs import replacing

    if len(space.shape) != 3:
        raise BadInput(f"a folder of pictures needs images, got {space}", "write a .csv or .npz")
    with replacing(out) as temporary:
        temporary.mkdir()
        mode = "L" if space.shape[0] == 1 else "RGB"  # so that the folder, read as data, has the space that was sampled
        for k, example in enumerate(x):
            grid(example[None], space, columns=1, scale=1).convert(mode).save(temporary / f"{k:06d}.png")


def write_array(x: Tensor, space: Space, out: Path, about: dict[str, Any]) -> None:
    import numpy

    from dgm.runs import replacing

    with replacing(out) as temporary, temporary.open("wb") as file:
        numpy.savez_compressed(file, x=x.numpy())


def write_table(x: Tensor, space: Space, out: Path, about: dict[str, Any]) -> None:
    from dgm.runs import replacing

    names = about.get("columns") or [f"x{k}" for k in range(space.dim)]
    with replacing(out) as temporary, temporary.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(names)
        rows.writerows(x.flatten(1).tolist())
