"""A task of `dgm edit`: its options, its result, and the picture or the file of the result."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgm.cli import condition, own
from dgm.cli.values import seed, whole
from dgm.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

    from dgm.evaluation.fidelity import Perceptual
    from dgm.protocols import Model
    from dgm.space import Space


@dataclass(frozen=True)
class Task:
    """One task of `dgm edit`: its description in one line, its own options, and its function.

    Attributes:
        edit: Maps the arguments, the model and the run's description of its data to the result.
        codes: Whether the model must have codes, and need not be a denoising model.
        any_model: Whether the task itself checks the model.
        rows: Of a task on tables, which has its own options only: does all of it, and returns the exit code.
    """

    line: str
    options: Callable[[argparse.ArgumentParser], None]
    edit: Callable[[argparse.Namespace, Model, Mapping[str, Any]], Edited] | None = None
    codes: bool = False
    any_model: bool = False
    rows: Callable[[argparse.Namespace], int] | None = None


@dataclass(frozen=True)
class Edited:
    """The result, (rows, n, ...), with its name in an .npz file, and the images to show before and after it.

    Attributes:
        truth: (rows, ...), the images that the results restore, where they are known; ``before`` has the input last.
        where: bool, the pixels that are restored; None for all.
    """

    name: str
    result: Tensor
    before: tuple[Tensor, ...] = ()
    after: tuple[Tensor, ...] = ()
    truth: Tensor | None = None
    where: Tensor | None = None


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


def refuse_no_picture(args: argparse.Namespace, model: Model) -> None:
    """
    Raises:
        BadInput: If a picture is asked for, and examples are none.
    """
    if Path(args.out).suffix == ".png" and len(model.space.shape) != 3:
        raise BadInput(f"examples of {model.space} are no pictures, got --out {args.out}", "end it in .npz")


def write(edited: Edited, space: Space, out: Path) -> None:
    """Writes one row for each example: the original if it is known, the input, and the results; or an array of the
    results alone.
    """
    import numpy
    import torch

    from dgm.files import replacing
    from dgm.report.pictures import grid

    with replacing(out) as temporary:
        if out.suffix == ".npz":
            with temporary.open("wb") as file:
                numpy.savez_compressed(file, allow_pickle=False, **{edited.name: edited.result.flatten(0, 1).numpy()})
            return
        before, after = ([x[:, None] for x in images] for images in (edited.before, edited.after))
        columns = torch.cat([*before, edited.result, *after], 1)
        grid(columns.flatten(0, 1), space, columns=columns.shape[1]).save(temporary, format="PNG")


def show_truth(edited: Edited, space: Space, perceptual: Perceptual | None = None) -> None:
    """Prints the error and the similarity of the input and of the results beside the truth, where it is known."""
    from dgm.evaluation.fidelity import beside_truth, row

    if edited.truth is None:
        return
    rows = [row("the input", edited.before[-1], edited.truth, space, edited.where, perceptual=perceptual)]
    rows += beside_truth(edited.result, edited.truth, space, edited.where, perceptual=perceptual)
    of = "" if edited.where is None else ", error of the generated pixels"
    print(f"beside the truth{of}:")
    print(f"  {'':<20}{'MSE':>10}{'PSNR [dB]':>11}{'SSIM':>8}" + (f"{'LPIPS':>8}" if perceptual else ""))
    for found in rows:
        learned = f"{found['lpips']:>8.4f}" if perceptual else ""
        print(f"  {found['name']:<20}{found['mse']:>10.4g}{found['psnr']:>11.2f}{found['ssim']:>8.4f}{learned}")
