"""Edit images with a trained diffusion, score or flow-matching model, as it is: nothing is trained for the task.

dgm edit inpaint RUN --mask bottom --out out.png         paint a part anew: its other pixels stay
dgm edit superres RUN --factor 4 --out out.png           more pixels
dgm edit colourise RUN --out out.png                     colours for a grey image
dgm edit deblur RUN --blur 1.5 --out out.png             a blurred image, sharp
dgm edit reconstruct RUN --out out.png                   an image, its code, and what that is decoded to
dgm edit encode RUN --out codes.npz                      the codes themselves, z
dgm edit interpolate RUN --out out.png                   from one image to the next, by way of their codes

`dgm edit TASK --help` says more. All take held-out examples of the run's data, or a file by --given.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgm.cli import condition, out, own
from dgm.cli.parser import Parser
from dgm.cli.terminal import Progress
from dgm.cli.values import MOST_STEPS, real, seed, whole
from dgm.errors import BadInput, UnknownName, Unsupported

if TYPE_CHECKING:
    from torch import Tensor

    from dgm.editing.operators import Operator
    from dgm.protocols import Model, State
    from dgm.seeds import Streams
    from dgm.space import Space

CHUNK = 250  # images edited at once
EXAMPLES = 8  # that are edited unless told otherwise
WHITE = 250  # of 255, from which on a mask's pixel is white


@dataclass(frozen=True)
class Task:
    """One verb of `dgm edit`: its line, its own options, and what it does.

    Attributes:
        edit: From the arguments, the model and what the run says of its data, to what is written.
    """

    line: str
    options: Callable[[argparse.ArgumentParser], None]
    edit: Callable[[argparse.Namespace, Model, Mapping[str, Any]], Edited]


@dataclass(frozen=True)
class Edited:
    """What came out, (rows, n, ...), by the name that it has in an .npz file, and the images to either side of it."""

    name: str
    result: Tensor
    before: tuple[Tensor, ...] = ()
    after: tuple[Tensor, ...] = ()


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: dgm edit TASK RUN --out FILE …\n\n{__doc__}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in TASKS:
        raise UnknownName.of("task of dgm edit", name, TASKS)
    task = TASKS[name]
    parser = Parser(prog=f"dgm edit {name}", description=task.line)
    common_options(parser)
    task.options(parser)
    return run(task, parser.parse_args(rest))


def common_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="a run directory, as `dgm train` writes it")
    parser.add_argument("--given", help="a picture or an .npz file with an array x, in place of the run's data")
    parser.add_argument("--split", choices=("train", "validation", "test"), default="test", help="of the data (test)")
    parser.add_argument("--examples", type=whole(1), help="how many of it, a row each (8, or all that there are)")
    condition.add_arguments(parser, "all results")
    parser.add_argument("--seed", type=seed(), default=0, help="result k depends on this and on k alone (0)")
    parser.add_argument("--out", required=True, help="a .png, or an .npz file of the results alone")
    own.add_data(parser)
    own.add_trust(parser)


def sampling_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", type=whole(1), default=8, help="results for each example (8)")
    parser.add_argument(
        "--sampling-steps", type=whole(1, MOST_STEPS), default=50, help="sampling steps from noise to data (50)"
    )
    parser.add_argument("--jump", type=whole(1, MOST_STEPS), default=5, help="how many steps are gone back at once (5)")
    parser.add_argument(
        "--resamplings", type=whole(1, MOST_STEPS), default=5, help="how often each of these steps is taken (5)"
    )


def inpainting_options(parser: argparse.ArgumentParser) -> None:
    whole = "what is painted anew: top, bottom, left, right, centre, or a picture of which all that is not white is"
    parser.add_argument("--mask", required=True, help=whole)
    sampling_options(parser)


def restoring_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--noise", type=real(0, 10), default=0.0, help="its standard deviation, with black 0 and white 1 (0)"
    )
    sampling_options(parser)


def superres_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--factor", type=whole(2), default=2, help="how many times as many pixels a side (2)")
    restoring_options(parser)


def deblurring_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--blur", type=real(0, 100), default=1.0, help="the Gaussian's standard deviation in pixels (1)"
    )
    restoring_options(parser)


def coding_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sampling-steps",
        type=whole(1, MOST_STEPS),
        default=100,
        help="sampling steps from data to noise, and as many back (100)",
    )


def interpolating_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", type=whole(2), default=8, help="images from one to the other, both among them (8)")
    coding_options(parser)


def run(task: Task, args: argparse.Namespace) -> int:
    path = out.new(args.out)
    if path.suffix not in (".png", ".npz"):
        raise BadInput(f"--out cannot be a '{path.suffix}' file", "end it in .png or .npz")
    import dgm
    from dgm import memory
    from dgm.runs import Run

    own.trust(args, args.run)
    model = dgm.load(args.run)
    refuse_what_cannot_be_edited(model)
    memory.refuse_too_many((args.examples or 1) * getattr(args, "n", 1), model.space)
    about = Run(args.run).config["data"]
    args.y = condition.chosen(args, model, most=1)
    edited = task.edit(args, model, about)
    path.parent.mkdir(parents=True, exist_ok=True)
    write(edited, model.space, path)
    count, each = edited.result.shape[:2]
    print(f"{count} × {each} results in {path}")
    return 0


def refuse_what_cannot_be_edited(model: Model) -> None:
    from dgm.protocols import Denoising, has

    if not has(model, Denoising):
        wrong = f"{type(model).__name__} undoes no noise, which dgm edit asks of a model"
        raise Unsupported(wrong, "take a diffusion, score or flow-matching model of `dgm models`")
    if len(model.space.shape) != 3:
        raise Unsupported(f"dgm edit is for images, this run is of {model.space}", "take a run of images")


def write(edited: Edited, space: Space, out: Path) -> None:
    """A row an example: the original where it is known, what was given, the results; or these alone, as an array."""
    import numpy
    import torch

    from dgm.report.pictures import grid
    from dgm.runs import replacing

    with replacing(out) as temporary:
        if out.suffix == ".npz":
            with temporary.open("wb") as file:
                numpy.savez_compressed(file, allow_pickle=False, **{edited.name: edited.result.flatten(0, 1).numpy()})
            return
        before, after = ([x[:, None] for x in images] for images in (edited.before, edited.after))
        columns = torch.cat([*before, edited.result, *after], 1)
        grid(columns.flatten(0, 1), space, columns=columns.shape[1]).save(temporary, format="PNG")


def inpaint(args: argparse.Namespace, model: Model, about: Mapping[str, Any]) -> Edited:
    import torch

    from dgm.editing import restore

    x, known = examples(args, model.space, about), ~missing(args.mask, model.space)
    given = model.scaling.inverse(torch.where(known, model.scaling(x), 0.0))

    def states(rows: Tensor, y: Tensor | None, noise: Streams) -> Iterator[State]:
        return restore.inpaint(model, x[rows], known, y, seed=noise, resampling=resampling(args))

    return Edited("x", sampled(args, len(x), states), (x, given))


def restored(
    operator: Callable[[argparse.Namespace, Space], Operator], args: argparse.Namespace, model: Model, about: Any
) -> Edited:
    """Held-out examples are measured here; a given file is a measurement."""
    import torch

    from dgm.editing import restore

    a, noise_std = operator(args, model.space), 2 * args.noise  # black to white is -1 to 1
    seen = a(torch.zeros(1, *model.space.shape)).shape[1:]
    x = examples(args, replace(model.space, shape=tuple(seen)) if args.given else model.space, about)
    measured = model.scaling(x)
    if not args.given:
        measured = a(measured)
        measured = measured + noise_std * torch.randn(
            measured.shape, generator=torch.Generator().manual_seed(args.seed)
        )

    def states(rows: Tensor, y: Tensor | None, noise: Streams) -> Iterator[State]:
        how = {"noise_std": noise_std, "seed": noise, "resampling": resampling(args)}
        return restore.restore(model, measured[rows], a, y, **how)

    given = model.scaling.inverse(measured if seen == model.space.shape else a.pinv(measured))
    return Edited("x", sampled(args, len(x), states), (given,) if args.given else (x, given))


def superres(args: argparse.Namespace, model: Model, about: Mapping[str, Any]) -> Edited:
    from dgm.editing.operators import AveragePooling

    return restored(lambda args, space: AveragePooling(args.factor), args, model, about)


def colourise(args: argparse.Namespace, model: Model, about: Mapping[str, Any]) -> Edited:
    from dgm.editing.operators import Grey

    if model.space.shape[0] != 3:
        raise Unsupported(f"there are no colours in {model.space}", "take a run of colour images")
    return restored(lambda args, space: Grey(), args, model, about)


def deblur(args: argparse.Namespace, model: Model, about: Mapping[str, Any]) -> Edited:
    from dgm.editing.operators import Blur

    return restored(lambda args, space: Blur((space.shape[1], space.shape[2]), args.blur), args, model, about)


def encode(args: argparse.Namespace, model: Model, about: Mapping[str, Any]) -> Edited:
    from dgm.editing import inversion

    if Path(args.out).suffix != ".npz":
        raise BadInput(f"codes are numbers, got --out {args.out}", "end it in .npz, or see them by `reconstruct`")
    x = examples(args, model.space, about)
    return Edited(
        "z",
        inversion.encode(model, x, same_condition(args, len(x)), sampling_steps=args.sampling_steps, seed=args.seed)[
            :, None
        ],
    )


def reconstruct(args: argparse.Namespace, model: Model, about: Mapping[str, Any]) -> Edited:
    from dgm.editing import inversion

    x = examples(args, model.space, about)
    y = same_condition(args, len(x))
    z = inversion.encode(model, x, y, sampling_steps=args.sampling_steps, seed=args.seed)
    again = inversion.decode(model, z, y, sampling_steps=args.sampling_steps)
    error = (model.scaling(again) - model.scaling(x)).square().mean().sqrt() / 2
    print(f"root mean squared error of the reconstructions: {error:.4f}, with black 0 and white 1")
    return Edited("x", again[:, None], (x, model.scaling.inverse(z / 2)))  # two standard deviations to black and white


def interpolate(args: argparse.Namespace, model: Model, about: Mapping[str, Any]) -> Edited:
    """A row for each two examples that follow one another."""
    import torch

    from dgm.editing import inversion

    x = examples(args, model.space, about)
    if len(x) < 2:
        raise BadInput(f"from one image to another needs 2 of them, got {len(x)}", "give more")
    z = inversion.encode(model, x, same_condition(args, len(x)), sampling_steps=args.sampling_steps, seed=args.seed)
    weight, firsts, seconds = torch.linspace(0, 1, args.n), range(0, len(x) - 1, 2), range(1, len(x), 2)
    between = torch.cat([inversion.interpolate(z[k], z[j], weight) for k, j in zip(firsts, seconds, strict=True)])
    way = inversion.decode(model, between, same_condition(args, len(between)), sampling_steps=args.sampling_steps)
    return Edited("x", way.unflatten(0, (-1, args.n)), (x[:-1:2],), (x[1::2],))


def resampling(args: argparse.Namespace) -> Any:
    from dgm.editing.resampling import Resampling

    return Resampling(sampling_steps=args.sampling_steps, jump=args.jump, resamplings=args.resamplings)


def sampled(
    args: argparse.Namespace, count: int, states: Callable[[Tensor, Tensor | None, Streams], Iterator[State]]
) -> Tensor:
    """(count, n, ...): n results of each of ``count`` examples, chunk by chunk under a progress bar.

    Args:
        states: From (B,) numbers of examples, their labels and their noise, to the states on the way to the results.
    """
    import torch

    from dgm.seeds import Streams

    total, chunks = count * args.n, []
    with Progress(f"editing {count} × {args.n}") as progress:
        for first in range(0, total, CHUNK):
            keys = range(first, min(first + CHUNK, total))
            rows = torch.tensor(keys) // args.n
            for state in states(rows, same_condition(args, len(keys)), Streams(args.seed, keys)):
                if progress.due():
                    share = state.step / state.steps * len(keys) / total
                    progress.update(first / total + share, f"step {state.step} of {state.steps}")
            chunks.append(state.x)
    return torch.cat(chunks).unflatten(0, (count, args.n))


def same_condition(args: argparse.Namespace, n: int) -> Tensor | None:
    return None if args.y is None else args.y.expand(n, *args.y.shape[1:])


def examples(args: argparse.Namespace, space: Space, about: Mapping[str, Any]) -> Tensor:
    """(B, *space.shape): the given file's, or the first of the run's data."""
    import torch

    if args.given is not None:
        return given(Path(args.given), space, dict(about))
    from dgm.runs import Run

    split = Run(args.run).dataset(args.data).splits[args.split]
    if args.examples is not None and args.examples > len(split):
        raise BadInput(
            f"the {args.split} split has {len(split):,} examples, got --examples {args.examples}", "ask for fewer"
        )
    rows = torch.arange(min(args.examples or EXAMPLES, len(split)))
    x, _ = split.batch(rows, torch.Generator().manual_seed(args.seed))
    return x


def given(path: Path, space: Space, about: dict[str, Any]) -> Tensor:
    from dgm.cli.given import array, picture
    from dgm.data.walk import IMAGES

    if not path.is_file():
        raise BadInput(f"there is no file {path}", "look at the path")
    readers = {".npz": array, **dict.fromkeys(IMAGES, picture)}
    if path.suffix.lower() not in readers:
        raise BadInput(f"--given cannot be a '{path.suffix}' file", "give a picture or an .npz file")
    return readers[path.suffix.lower()](path, space, about, 1.0)[0]


def missing(mask: str, space: Space) -> Tensor:
    """bool (H, W), True where the image is painted anew."""
    import torch

    _, height, width = space.shape
    down, across = torch.arange(height)[:, None], torch.arange(width)
    halves = {
        "top": (down < height // 2).expand(height, width),
        "bottom": (down >= height // 2).expand(height, width),
        "left": (across < width // 2).expand(height, width),
        "right": (across >= width // 2).expand(height, width),
        "centre": (abs(2 * down + 1 - height) <= height // 2) & (abs(2 * across + 1 - width) <= width // 2),
    }
    if mask in halves:
        return halves[mask]
    if not Path(mask).is_file():
        raise UnknownName.of("mask", mask, [*halves, "a picture's path"])
    return drawn(Path(mask), height, width)


def drawn(path: Path, height: int, width: int) -> Tensor:
    import numpy
    import torch
    from PIL import Image

    from dgm.data.folder import UNREADABLE

    try:
        with Image.open(path) as image:
            shades = image.convert("L").resize((width, height), Image.Resampling.NEAREST)
    except UNREADABLE as error:
        raise BadInput(f"{path} cannot be read as an image", "give another --mask") from error
    return torch.from_numpy(numpy.asarray(shades) < WHITE)


TASKS: Mapping[str, Task] = {
    "inpaint": Task("Paint a part of an image anew, by RePaint (arXiv:2201.09865).", inpainting_options, inpaint),
    "superres": Task("Make an image of more pixels, by DDRM (arXiv:2201.11793).", superres_options, superres),
    "colourise": Task("Find colours for a grey image, by DDRM (arXiv:2201.11793).", restoring_options, colourise),
    "deblur": Task("Sharpen a blurred image, by DDRM (arXiv:2201.11793).", deblurring_options, deblur),
    "encode": Task("Write the codes of images, by DDIM (arXiv:2010.02502).", coding_options, encode),
    "reconstruct": Task("Show images, their codes and what these are decoded to.", coding_options, reconstruct),
    "interpolate": Task("Go from one image to another by way of their codes.", interpolating_options, interpolate),
}
