"""Edit images with a trained diffusion, score or flow-matching model, or a GAN, without further training.

dgm edit inpaint RUN --mask bottom --out out.png         generate a masked part of an image
dgm edit superres RUN --factor 4 --out out.png           super-resolution
dgm edit colourise RUN --out out.png                     colourise a grey image
dgm edit deblur RUN --blur 1.5 --out out.png             sharpen a blurred image
dgm edit reconstruct RUN --out out.png                   an image, its code and the reconstruction
dgm edit encode RUN --out codes.npz                      the codes z
dgm edit interpolate RUN --out out.png                   interpolate between images by their codes
dgm edit invert RUN --out out.png                        the codes of images under a GAN, found by descent

`dgm edit TASK --help` lists the options of a task. The images are held-out examples of the run's data, or a file that
--given names.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgm.cli import condition, out, own
from dgm.cli.images import examples, missing
from dgm.cli.parser import Parser
from dgm.cli.terminal import Progress
from dgm.cli.values import MOST_STEPS, real, seed, whole
from dgm.errors import BadInput, UnknownName, Unsupported

if TYPE_CHECKING:
    from torch import Tensor

    from dgm.editing.operators import Operator
    from dgm.protocols import Model
    from dgm.space import Space


@dataclass(frozen=True)
class Task:
    """One task of `dgm edit`: its description in one line, its own options, and its function.

    Attributes:
        edit: Maps the arguments, the model and the run's description of its data to the result.
        denoises: Whether the model must be a denoising model of images.
    """

    line: str
    options: Callable[[argparse.ArgumentParser], None]
    edit: Callable[[argparse.Namespace, Model, Mapping[str, Any]], Edited]
    denoises: bool = True


@dataclass(frozen=True)
class Edited:
    """The result, (rows, n, ...), with its name in an .npz file, and the images to show before and after it."""

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
    parser.add_argument(
        "--split", choices=("train", "validation", "test"), default="test", help="split of the data (test)"
    )
    parser.add_argument("--examples", type=whole(1), help="number of examples, one row each (8, or all of a file)")
    condition.add_arguments(parser, "all results")
    parser.add_argument(
        "--seed", type=seed(), default=0, help="random seed; result k depends on the seed and on k alone (0)"
    )
    parser.add_argument("--out", required=True, help="a .png, or an .npz file of the results alone")
    own.add_data(parser)
    own.add_trust(parser)


def sampling_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", type=whole(1), default=8, help="results for each example (8)")
    parser.add_argument(
        "--sampling-steps", type=whole(1, MOST_STEPS), default=50, help="sampling steps from noise to data (50)"
    )
    parser.add_argument("--jump", type=whole(1, MOST_STEPS), default=5, help="steps between resamplings (5)")
    parser.add_argument(
        "--resamplings", type=whole(1, MOST_STEPS), default=5, help="number of resamplings of these steps (5)"
    )


def inpainting_options(parser: argparse.ArgumentParser) -> None:
    masks = (
        "the masked part, which is generated: top, bottom, left, right, centre, or a picture with all but white masked"
    )
    parser.add_argument("--mask", required=True, help=masks)
    sampling_options(parser)


def restoring_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--noise",
        type=real(0, 10),
        default=0.0,
        help="standard deviation of the measurement noise, with black 0 and white 1 (0)",
    )
    sampling_options(parser)


def superres_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--factor", type=whole(2), default=2, help="factor of the resolution (2)")
    restoring_options(parser)


def deblurring_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--blur", type=real(0, 100), default=1.0, help="standard deviation of the Gaussian blur in pixels (1)"
    )
    restoring_options(parser)


def coding_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sampling-steps",
        type=whole(1, MOST_STEPS),
        default=100,
        help="sampling steps from data to noise, and as many back (100)",
    )


def inverting_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=whole(1, MOST_STEPS), default=300, help="steps of descent (300)")
    parser.add_argument("--starts", type=whole(1, 1000), default=4, help="random codes to descend from (4)")


def interpolating_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", type=whole(2), default=8, help="images of an interpolation, including both ends (8)")
    coding_options(parser)


def run(task: Task, args: argparse.Namespace) -> int:
    path = out.new(args.out)
    if path.suffix not in (".png", ".npz"):
        raise BadInput(f"--out cannot be a '{path.suffix}' file", "end it in .png or .npz")
    import dgm
    from dgm import memory
    from dgm.edit import refuse_other_models
    from dgm.runs import Run

    own.trust(args, args.run)
    model = dgm.load(args.run)
    if task.denoises:
        refuse_other_models(model)
    memory.refuse_too_many((args.examples or 1) * getattr(args, "n", 1), model.space)
    about = Run(args.run).config["data"]
    args.y = condition.from_arguments(args, model, most=1)
    edited = task.edit(args, model, about)
    path.parent.mkdir(parents=True, exist_ok=True)
    write(edited, model.space, path)
    count, each = edited.result.shape[:2]
    print(f"{count} × {each} results in {path}")
    return 0


def write(edited: Edited, space: Space, out: Path) -> None:
    """Writes one row for each example: the original if it is known, the input, and the results; or an array of the
    results alone.
    """
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

    from dgm import edit

    x, known = examples(args, model.space, about), ~missing(args.mask, model.space)
    masked = model.scaling.inverse(torch.where(known, model.scaling(x), 0.0))
    with editing(args, len(x)) as how:
        return Edited("x", edit.inpaint(model, x, known, **how), (x, masked))


def restored(operator: Operator, args: argparse.Namespace, model: Model, about: Mapping[str, Any]) -> Edited:
    """Restores images. The operator is applied to held-out examples; the user's file already is a measurement."""
    import torch

    from dgm import edit

    seen = tuple(operator(torch.zeros(1, *model.space.shape)).shape[1:])
    x = examples(args, replace(model.space, shape=seen) if args.given else model.space, about)
    how = {"noise": args.noise, "seed": args.seed}
    measured = model.scaling(x) if args.given else edit.measure(model, x, operator, **how)
    measurement = model.scaling.inverse(measured if seen == model.space.shape else operator.pinv(measured))
    with editing(args, len(x)) as how:
        result = edit.restore(model, measured, operator, noise=args.noise, **how)
    return Edited("x", result, (measurement,) if args.given else (x, measurement))


def superres(args: argparse.Namespace, model: Model, about: Mapping[str, Any]) -> Edited:
    from dgm.edit import AveragePooling

    return restored(AveragePooling(args.factor), args, model, about)


def colourise(args: argparse.Namespace, model: Model, about: Mapping[str, Any]) -> Edited:
    from dgm.edit import Grey

    if model.space.shape[0] != 3:
        raise Unsupported(f"there are no colours in {model.space}", "use a run of colour images")
    return restored(Grey(), args, model, about)


def deblur(args: argparse.Namespace, model: Model, about: Mapping[str, Any]) -> Edited:
    from dgm.edit import Blur

    _, height, width = model.space.shape
    return restored(Blur((height, width), args.blur), args, model, about)


def encode(args: argparse.Namespace, model: Model, about: Mapping[str, Any]) -> Edited:
    from dgm import edit

    if Path(args.out).suffix != ".npz":
        raise BadInput(f"codes are numbers, got --out {args.out}", "end it in .npz, or view them with `reconstruct`")
    return Edited("z", edit.encode(model, examples(args, model.space, about), **coding(args))[:, None])


def reconstruct(args: argparse.Namespace, model: Model, about: Mapping[str, Any]) -> Edited:
    from dgm import edit

    x = examples(args, model.space, about)
    again, z, error = edit.reconstruct(model, x, **coding(args))
    print(f"root mean squared error of the reconstructions: {error:.4f}, with black 0 and white 1")
    return Edited("x", again[:, None], (x, model.scaling.inverse(z / 2)))  # black and white: two standard deviations


def interpolate(args: argparse.Namespace, model: Model, about: Mapping[str, Any]) -> Edited:
    """Interpolates between consecutive examples, one row for each pair."""
    from dgm import edit

    x = examples(args, model.space, about)
    return Edited("x", edit.interpolate(model, x, n=args.n, **coding(args)), (x[:-1:2],), (x[1::2],))


def invert(args: argparse.Namespace, model: Model, about: Mapping[str, Any]) -> Edited:
    from dgm import edit

    is_picture = Path(args.out).suffix == ".png"
    if is_picture and len(model.space.shape) != 3:
        raise BadInput(f"examples of {model.space} are no pictures, got --out {args.out}", "end it in .npz")
    x, y = examples(args, model.space, about), None if args.y is None else args.y[0]
    again, z, error = edit.invert(model, x, y, steps=args.steps, starts=args.starts, seed=args.seed)
    print(f"root mean squared error of the generator at the codes: {error:.4f}, with black 0 and white 1")
    return Edited("x", again[:, None], (x,)) if is_picture else Edited("z", z[:, None])


def coding(args: argparse.Namespace) -> dict[str, Any]:
    y = None if args.y is None else args.y[0]
    return {"condition": y, "sampling_steps": args.sampling_steps, "seed": args.seed}


@contextmanager
def editing(args: argparse.Namespace, count: int) -> Iterator[dict[str, Any]]:
    """A context with a progress bar that yields the arguments of the sampling functions."""
    from dgm.edit import Resampling

    resampling = Resampling(sampling_steps=args.sampling_steps, jump=args.jump, resamplings=args.resamplings)
    with Progress(f"editing {count} × {args.n}") as progress:
        y = None if args.y is None else args.y[0]
        how = {"condition": y, "n": args.n, "seed": args.seed, "resampling": resampling}
        yield how | {"progress": progress.update}


TASKS: Mapping[str, Task] = {
    "inpaint": Task("Generate a masked part of an image, by RePaint (arXiv:2201.09865).", inpainting_options, inpaint),
    "superres": Task("Increase the resolution of an image, by DDRM (arXiv:2201.11793).", superres_options, superres),
    "colourise": Task("Colourise a grey image, by DDRM (arXiv:2201.11793).", restoring_options, colourise),
    "deblur": Task("Sharpen a blurred image, by DDRM (arXiv:2201.11793).", deblurring_options, deblur),
    "encode": Task("Write the codes of images, by DDIM (arXiv:2010.02502).", coding_options, encode),
    "reconstruct": Task("Show images, their codes and the decoded codes.", coding_options, reconstruct),
    "interpolate": Task("Interpolate between images by their codes.", interpolating_options, interpolate),
    "invert": Task("Find the codes of images under a GAN.", inverting_options, invert, denoises=False),
}
