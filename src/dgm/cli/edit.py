"""Edit with a trained model, without further training.

Images, with a diffusion, score or flow-matching model, or one of the codes of a vae or an autoencoder:

dgm edit inpaint RUN --mask bottom --out out.png         generate a masked part of an image
dgm edit superres RUN --factor 4 --out out.png           super-resolution
dgm edit colourise RUN --out out.png                     colourise a grey image
dgm edit deblur RUN --blur 1.5 --out out.png             sharpen a blurred image

By codes, also with a vae, an autoencoder or a flow; interpolate, traverse and arithmetic with a gan too:
dgm edit encode RUN --out codes.npz                      the codes z
dgm edit reconstruct RUN --out out.png                   an image and the reconstruction from its code
dgm edit interpolate RUN --out out.png                   interpolate between images by their codes
dgm edit traverse RUN --out out.png                      vary one dimension of a code in each row
dgm edit arithmetic RUN --expression "x - 4 + 7" --out out.png    add and subtract codes
dgm edit invert RUN --out out.png                        the codes of images under a gan, found by descent
dgm edit embed RUN --out out.png                         the codes in the plane, by PCA and t-SNE, beside the data

The rows of a table:
dgm edit impute RUN --data holes.csv --out filled.csv    draw the missing values of each row, given its others

Of energies, or of diffusion, score or flow-matching models:
dgm edit compose RUN --and B --not C --out out.png       samples of a product, a mixture or a quotient of densities

`dgm edit TASK --help` lists the options of a task. The examples are held-out ones of the run's data, or a file that
--given names.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dgm.cli import condition, edit_codes, edit_compose, edit_embed, edit_rows, out, own
from dgm.cli.edit_task import Edited, Task, common_options, show_truth, write
from dgm.cli.images import examples, missing
from dgm.cli.parser import Parser
from dgm.cli.terminal import Progress
from dgm.cli.values import MOST_STEPS, real, whole
from dgm.errors import BadInput, UnknownName, Unsupported

if TYPE_CHECKING:
    from dgm.editing.operators import Operator
    from dgm.evaluation.lpips import LPIPS
    from dgm.protocols import Model


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: dgm edit TASK RUN --out FILE …\n\n{__doc__}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in TASKS:
        raise UnknownName.of("task of dgm edit", name, TASKS)
    task = TASKS[name]
    parser = Parser(prog=f"dgm edit {name}", description=task.line)
    if task.rows is None:
        common_options(parser)
    task.options(parser)
    return run(task, parser.parse_args(rest))


def sampling_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", type=whole(1), default=8, help="results for each example (8)")
    parser.add_argument(
        "--sampling-steps", type=whole(1, MOST_STEPS), default=50, help="sampling steps from noise to data (50)"
    )
    parser.add_argument("--jump", type=whole(1, MOST_STEPS), default=5, help="steps between resamplings (5)")
    parser.add_argument(
        "--resamplings", type=whole(1, MOST_STEPS), help="how often these steps are taken (5; in a space of codes 1)"
    )
    parser.add_argument(
        "--lpips", action="store_true", help="also LPIPS beside the truth, by the extra 'pretrained' and a download"
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


def run(task: Task, args: argparse.Namespace) -> int:
    if task.rows is not None:
        return task.rows(args)
    path = out.new(args.out)
    if path.suffix not in (".png", ".npz"):
        raise BadInput(f"--out cannot be a '{path.suffix}' file", "end it in .png or .npz")
    import dgm
    from dgm import memory
    from dgm.edit import refuse_other_models
    from dgm.editing.codes import refuse_without_codes
    from dgm.runs import Run

    own.trust(args, args.run)
    model = dgm.load(args.run)
    if not task.any_model:
        (refuse_without_codes if task.codes else refuse_other_models)(model)
    memory.refuse_too_many((args.examples or 1) * getattr(args, "n", 1), model.space)
    about = Run(args.run).config["data"]
    args.y = condition.from_arguments(args, model, most=1)
    perceptual = learned_similarity() if getattr(args, "lpips", False) else None
    assert task.edit is not None
    edited = task.edit(args, model, about)
    path.parent.mkdir(parents=True, exist_ok=True)
    write(edited, model.space, path)
    count, each = edited.result.shape[:2]
    print(f"{count} × {each} results in {path}")
    show_truth(edited, model.space, perceptual)
    return 0


def learned_similarity() -> LPIPS:
    from dgm.evaluation.lpips import lpips

    return lpips()


def inpaint(args: argparse.Namespace, model: Model, about: Mapping[str, Any]) -> Edited:
    import torch

    from dgm import edit
    from dgm.distributions.scaling import Scaling

    scaling = Scaling(model.space)
    x, known = examples(args, model.space, about), ~missing(args.mask, model.space)
    masked = scaling.inverse(torch.where(known, scaling(x), 0.0))
    with editing(args, len(x)) as how:
        result = edit.inpaint(model, x, known, **how)
    return Edited("x", result, (x, masked), truth=None if args.given else x, where=~known)


def restored(operator: Operator, args: argparse.Namespace, model: Model, about: Mapping[str, Any]) -> Edited:
    """Restores images. The operator is applied to held-out examples; the user's file already is a measurement."""
    import torch

    from dgm import edit
    from dgm.distributions.scaling import Scaling

    scaling = Scaling(model.space)
    seen = tuple(operator(torch.zeros(1, *model.space.shape)).shape[1:])
    x = examples(args, replace(model.space, shape=seen) if args.given else model.space, about)
    how = {"noise": args.noise, "seed": args.seed}
    measured = scaling(x) if args.given else edit.measure(model, x, operator, **how)
    measurement = scaling.inverse(measured if seen == model.space.shape else operator.pinv(measured))
    with editing(args, len(x)) as how:
        result = edit.restore(model, measured, operator, noise=args.noise, **how)
    if args.given:
        return Edited("x", result, (measurement,))
    return Edited("x", result, (x, measurement), truth=x)


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
    **edit_codes.TASKS,
    **edit_compose.TASKS,
    **edit_embed.TASKS,
    **edit_rows.TASKS,
}
