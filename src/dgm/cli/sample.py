"""Draw samples from a trained model.

dgm sample runs/vae -n 64 --out grid.png       one picture
dgm sample runs/vae -n 1000 --out samples/     a folder of pictures, or of .wav files
dgm sample runs/vae -n 1000 --out samples.npz  an array x, in the data's own values
dgm sample runs/table -n 1000 --out rows.csv   a table
dgm sample runs/ddpm --label 7 --out sevens.png

An autoregressive model goes on from what it is given, the first part of a picture, a text or a sound:

dgm sample runs/pixelcnn --given half.png --observed 0.5 --out completions.png
dgm sample runs/shakespeare -n 1 --prompt "ROMEO:" --length 500 --temperature 0.8 --out -
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgm.cli.given import start
from dgm.cli.terminal import Progress
from dgm.errors import BadInput, Unsupported

if TYPE_CHECKING:
    from torch import Tensor

    from dgm.protocols import Model
    from dgm.samplers.sequential import Choice
    from dgm.space import Space

CHUNK = 250  # samples drawn at once


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="a run directory, as `dgm train` writes it")
    parser.add_argument("-n", type=int, default=64, help="how many (64)")
    parser.add_argument("--seed", type=int, default=0, help="sample k depends on this and on k alone (0)")
    parser.add_argument("--label", type=int, help="the label to sample, for a model trained with --conditional")
    parser.add_argument(
        "--out", required=True, help="a .png, .npz, .csv, .txt or .wav file, or a folder; - prints text"
    )
    group = parser.add_argument_group("autoregressive models")
    group.add_argument("--temperature", type=float, default=1.0, help="below 1 keeps to what is likely (1)")
    group.add_argument("--top-k", type=int, default=0, help="keep the k likeliest values of a table (0: all)")
    group.add_argument("--top-p", type=float, default=1.0, help="keep the likeliest values of this probability (1)")
    group.add_argument("--given", help="a picture, .npz, .txt or .wav file whose first part is kept")
    group.add_argument("--observed", type=float, help="which part of it, in reading order (0.5; of text and sound all)")
    group.add_argument("--prompt", help="a text that is gone on with; of a long one, its end")
    group.add_argument("--length", type=int, help="characters of a text (as many as the model's context)")


def run(args: argparse.Namespace) -> int:
    out = Path(args.out)
    write = writer(out)
    if args.n < 1:
        raise BadInput(f"-n must be at least 1, got {args.n}", "ask for one sample or more")
    if args.out != "-" and out.exists():
        raise BadInput(f"{out} exists", "choose another --out, or remove it first")
    import dgm
    from dgm.runs import Run
    from dgm.samplers.sequential import Choice

    model, about = dgm.load(args.run), Run(args.run).config["data"]
    choice = Choice(temperature=args.temperature, top_k=args.top_k, top_p=args.top_p)
    given, observed = start(args, model.space, about)
    if not continues(model) and (given is not None or choice != Choice()):
        wrong = f"{type(model).__name__} draws all values at once: it goes on from nothing and has no temperature"
        raise Unsupported(wrong, "leave those options out, or sample an autoregressive model of `dgm models`")
    refuse_what_memory_cannot_hold(args.n, model.space)
    refuse_what_cannot_be_written(args.out, model.space, about)
    if args.length is not None:
        x = long_text(model, args, given, observed, choice)
    else:
        quiet = args.out == "-"
        x = draw(model, args.n, args.seed, args.label, given=given, observed=observed, choice=choice, quiet=quiet)
    if args.out != "-":
        out.parent.mkdir(parents=True, exist_ok=True)
    write(x, model.space, out, about)
    if args.out != "-":
        print(f"{args.n} samples in {out}")
    return 0


def continues(model: Model) -> bool:
    from dgm.protocols import Autoregressive

    return isinstance(model, Autoregressive)


def draw(
    model: Model,
    n: int,
    seed: int,
    label: int | None,
    *,
    given: Tensor | None = None,
    observed: int = 0,
    choice: Choice | None = None,
    quiet: bool = False,
) -> Tensor:
    """(n, *shape) samples, chunk by chunk under a progress bar; each depends on its own number alone."""
    import torch

    from dgm.networks.embeddings import check_labels
    from dgm.seeds import Streams

    if label is not None:  # a model that knows no labels may not look at them
        check_labels(torch.tensor([label]), getattr(model.config, "classes", 0))
    device = next(model.parameters(), torch.empty(0)).device
    chunks = []
    with Progress(f"sampling {n}", quiet=quiet) as progress:
        for first in range(0, n, CHUNK):
            keys = range(first, min(first + CHUNK, n))
            y = None if label is None else torch.full((len(keys),), label, device=device)
            noise = Streams(seed, keys, device)
            if continues(model):
                part = given if given is None or len(given) == 1 else given[keys.start : keys.stop]
                options = {"given": part, "observed": observed} | ({"choice": choice} if choice else {})
                chunks.append(one_by_one(model, y, noise, options, progress, first / n, len(keys) / n))
            else:
                chunks.append(model.sample(len(keys), y, seed=noise).cpu())
            progress.update(keys.stop / n, f"{keys.stop} of {n}")
    return torch.cat(chunks)


def one_by_one(
    model: Model, y: Tensor | None, noise: Any, options: dict[str, Any], progress: Progress, done: float, share: float
) -> Tensor:
    """A chunk of an autoregressive model's samples, with its speed on the bar."""
    import time

    from dgm.samplers import sequential

    began = time.perf_counter()
    for state in sequential.trajectory(model, len(noise), y, seed=noise, **options):
        if progress.due():
            rate = state.step * len(noise) / (time.perf_counter() - began)
            progress.update(done + share * state.step / state.steps, f"{rate:,.0f} values/s")
    return state.x.cpu()


def long_text(model: Model, args: argparse.Namespace, given: Tensor | None, observed: int, choice: Choice) -> Tensor:
    """(n, length) tokens: window after window, each going on from the second half of the one before."""
    import torch

    from dgm.seeds import mix

    if model.space.kind != "tokens":
        raise BadInput(f"--length is for text, this run is of {model.space}", "leave it out")
    if args.length < 1:
        raise BadInput(f"--length must be at least 1, got {args.length}", "ask for one character or more")
    context, window = model.space.dim, 0
    text = torch.zeros(args.n, 0, dtype=torch.int64) if given is None else given[:, :observed].expand(args.n, -1)
    while text.shape[1] < args.length:
        seed = args.seed if window == 0 else mix(args.seed, window)
        x = draw(model, args.n, seed, args.label, given=given, observed=observed, choice=choice, quiet=args.out == "-")
        text, window = torch.cat([text, x[:, observed:]], 1), window + 1
        given, observed = torch.zeros_like(x), context // 2
        given[:, :observed] = x[:, context - observed :]
    return text[:, : args.length]


def refuse_what_memory_cannot_hold(n: int, space: Space) -> None:
    needed = 2 * n * space.dim * space.dtype.itemsize  # the chunks and their concatenation
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > available:
        most = available // (2 * space.dim * space.dtype.itemsize)
        wrong = f"{n} samples need {needed / 2**30:.1f} GiB of memory, {available / 2**30:.1f} GiB are free"
        raise BadInput(wrong, f"ask for at most {most}")


def refuse_what_cannot_be_written(out: str, space: Space, about: dict[str, Any]) -> None:
    """Before anything is drawn, which may take long."""
    from dgm.data.text import is_text

    suffix = ".txt" if out == "-" else Path(out).suffix
    if suffix == ".txt" and not is_text(about):
        raise BadInput(f"text was asked for, and this run is of {space}", "write a .png or .npz")
    if suffix == ".wav" and not about.get("rate"):
        raise BadInput(f"a .wav file needs sound, got {space}", "write a .png or .npz")
    if suffix == "" and not about.get("rate") and len(space.shape) != 3:
        raise BadInput(f"a folder of pictures needs images, got {space}", "write a .csv or .npz")


def writer(out: Path) -> Callable[[Tensor, Space, Path, dict[str, Any]], None]:
    """How ``out`` is written, by its suffix; the last argument is what the run says about its data."""
    known = {
        ".png": write_grid,
        ".npz": write_array,
        ".csv": write_table,
        ".txt": write_text,
        ".wav": write_sound,
        "": write_folder,
    }
    if str(out) == "-":
        return print_text
    if out.suffix not in known:
        raise BadInput(f"--out cannot be a '{out.suffix}' file", f"end it in {', '.join(known)[:-2]}, or name a folder")
    return known[out.suffix]


def write_grid(x: Tensor, space: Space, out: Path, about: dict[str, Any]) -> None:
    from dgm.data.palette import in_colour
    from dgm.data.text import is_text
    from dgm.report.pictures import grid, lines, scatter
    from dgm.runs import replacing

    if is_text(about):
        drawn = lines(list(texts(x, about)))
    elif about.get("rate"):
        from dgm.report.sound import spectrograms

        drawn = spectrograms(x, about["rate"])
    else:
        drawn = grid(*in_colour(x, space, about)) if len(space.shape) == 3 else scatter(x, space)
    with replacing(out) as temporary:
        drawn.save(temporary, format="PNG")


def write_folder(x: Tensor, space: Space, out: Path, about: dict[str, Any]) -> None:
    from dgm.data import sound
    from dgm.data.palette import in_colour
    from dgm.report.pictures import grid
    from dgm.runs import replacing

    if about.get("rate"):
        with replacing(out) as temporary:
            temporary.mkdir()
            for k, example in enumerate(x):
                sound.write(example, about["rate"], temporary / f"{k:06d}.wav")
        return
    with replacing(out) as temporary:
        temporary.mkdir()
        x, space = in_colour(x, space, about)
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


def texts(x: Tensor, about: dict[str, Any]) -> Iterator[str]:
    from dgm.data import text

    return (text.decode(tokens, about) for tokens in x)


def write_text(x: Tensor, space: Space, out: Path, about: dict[str, Any]) -> None:
    """Samples one after the other, a line of dashes between."""
    from dgm.runs import replacing

    content = "\n-----\n".join(texts(x, about))
    with replacing(out) as temporary:
        temporary.write_text(content + "\n", encoding="utf-8")


def print_text(x: Tensor, space: Space, out: Path, about: dict[str, Any]) -> None:
    sys.stdout.write("\n-----\n".join(texts(x, about)) + "\n")


def write_sound(x: Tensor, space: Space, out: Path, about: dict[str, Any]) -> None:
    """One .wav file, the samples one after the other."""
    from dgm.data import sound
    from dgm.runs import replacing

    with replacing(out) as temporary:
        sound.write(x.flatten(), about["rate"], temporary)
