"""The tasks of `dgm edit` that need codes: encode, reconstruct, interpolate, traverse, arithmetic."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgm.cli.edit_task import Edited, Task, refuse_no_picture
from dgm.cli.images import EXAMPLES, examples
from dgm.cli.values import MOST_STEPS, real, whole
from dgm.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

    from dgm.protocols import Model
    from dgm.space import Space


def coding_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sampling-steps",
        type=whole(1, MOST_STEPS),
        default=100,
        help="of a denoising model: sampling steps from data to noise, and as many back (100)",
    )


def interpolating_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", type=whole(2), default=8, help="results of an interpolation, including both ends (8)")
    parser.add_argument(
        "--path",
        choices=("linear", "spherical"),
        help="the path of the codes (spherical for denoising models, else linear)",
    )
    coding_options(parser)


def traversing_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", type=whole(2), default=8, help="values of each dimension (8)")
    parser.add_argument(
        "--dimensions", type=whole(1, 100_000), default=10, help="rows, the most important dimension first (10)"
    )
    parser.add_argument(
        "--width", type=real(0, 100), default=2.0, help="range, in standard deviations on each side of the mean (2)"
    )
    coding_options(parser)


def arithmetic_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--expression",
        required=True,
        help='sum of mean codes by label or attribute, and of an example\'s own code x: "7 - 1 + 4", "x - 4 + 7"',
    )
    coding_options(parser)


def inverting_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=whole(1, MOST_STEPS), default=300, help="steps of descent (300)")
    parser.add_argument("--starts", type=whole(1, 1000), default=4, help="random codes to descend from (4)")


def encode(args: argparse.Namespace, model: Model, about: Mapping[str, Any]) -> Edited:
    from dgm import edit

    if Path(args.out).suffix != ".npz":
        raise BadInput(f"codes are numbers, got --out {args.out}", "end it in .npz, or view them with `reconstruct`")
    x, y = pairs(args, model, about)
    return Edited("z", edit.encode(model, x, y, **coding(args), seed=args.seed)[:, None])


def reconstruct(args: argparse.Namespace, model: Model, about: Mapping[str, Any]) -> Edited:
    from dgm import edit
    from dgm.protocols import Denoising, has

    x, y = pairs(args, model, about)
    again, z, error = edit.reconstruct(model, x, y, **coding(args), seed=args.seed)
    print(error_in_words(error, model.space))
    if not has(model, Denoising):
        return Edited("x", again[:, None], (x,))
    return Edited("x", again[:, None], (x, model.scaling.inverse(z / 2)))  # black and white: two standard deviations


def error_in_words(error: float, space: Space) -> str:
    if space.kind in ("tokens", "categories", "record"):
        return f"share of different values in the reconstructions: {error:.4f}"
    unit = "with black 0 and white 1" if space.discrete or space.bounds else "in standard deviations of the data"
    return f"root mean squared error of the reconstructions: {error:.4f}, {unit}"


def interpolate(args: argparse.Namespace, model: Model, about: Mapping[str, Any]) -> Edited:
    """Interpolates between consecutive examples, or drawn codes, one row for each pair."""
    from dgm import edit
    from dgm.editing.codes import ends, has_encoder

    if has_encoder(model):
        x, y = pairs(args, model, about)
        results = edit.interpolate(model, x, y, n=args.n, path=args.path, **coding(args), seed=args.seed)
        return Edited("x", results, (x[:-1:2],), (x[1::2],))
    codes, y = drawn_codes(args, model, EXAMPLES)
    z = edit.between(model, codes, n=args.n, path=args.path)
    y = y if args.y is not None else ends(y, args.n)
    return Edited("x", edit.decode(model, z.flatten(0, 1), y).unflatten(0, z.shape[:2]))


def traverse(args: argparse.Namespace, model: Model, about: Mapping[str, Any]) -> Edited:
    """Varies the code of each example, or a drawn code, one row for each dimension."""
    import torch

    from dgm import edit
    from dgm.editing.codes import has_encoder
    from dgm.runs import Run

    args.examples = args.examples or (None if args.given else 1)
    of = edit.spread(model, Run(args.run).dataset(args.data).train)
    if has_encoder(model):
        x, y = pairs(args, model, about)
        z = edit.encode(model, x, y, **coding(args), seed=args.seed)
    else:
        z, y = drawn_codes(args, model, 1)
    each_y = [y] * len(z) if y is None or args.y is not None else list(y)
    how = {"dimensions": args.dimensions, "n": args.n, "width": args.width, **coding(args)}
    rows = [edit.traverse(model, one, of, its, **how) for one, its in zip(z, each_y, strict=True)]
    print(f"dimensions from the top: {', '.join(map(str, rows[0].dimensions.tolist()))}")
    return Edited("x", torch.cat([row.x for row in rows]))


def arithmetic(args: argparse.Namespace, model: Model, about: Mapping[str, Any]) -> Edited:
    """One row for each example if the expression has x, and one row else: x, the means, the result."""
    from dgm import edit
    from dgm.editing.codes import OWN
    from dgm.editing.expressions import terms_of
    from dgm.runs import Run

    own = OWN in (term.name for term in terms_of(args.expression))
    x, y = with_conditions(args, model, about) if own else (None, None if args.y is None else args.y[0])
    dataset = Run(args.run).dataset(args.data)
    found = edit.arithmetic(model, args.expression, dataset, x, y, **coding(args), seed=args.seed)
    means = tuple(mean.expand_as(found.x) for mean in found.terms)
    return Edited("x", found.x[:, None], (*(() if x is None else (x,)), *means))


def invert(args: argparse.Namespace, model: Model, about: Mapping[str, Any]) -> Edited:
    from dgm import edit

    refuse_no_picture(args, model)
    x, y = with_conditions(args, model, about)
    again, z, error = edit.invert(model, x, y, steps=args.steps, starts=args.starts, seed=args.seed)
    print(error_in_words(error, model.space))
    return Edited("z", z[:, None]) if Path(args.out).suffix == ".npz" else Edited("x", again[:, None], (x,))


def pairs(args: argparse.Namespace, model: Model, about: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
    """The examples and their conditions, of a model with an encoder."""
    from dgm.editing.codes import refuse_without_encoder

    refuse_without_encoder(model)
    return with_conditions(args, model, about)


def with_conditions(args: argparse.Namespace, model: Model, about: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
    """The examples and their conditions: the chosen one, or those in the data if the model cannot do without."""
    from dgm.protocols import Denoising, condition_of, has
    from dgm.runs import Run

    x = examples(args, model.space, about)
    if args.y is not None or args.given or condition_of(model) is None or has(model, Denoising):
        return x, None if args.y is None else args.y[0]
    y = Run(args.run).dataset(args.data).splits[args.split].y
    return x, None if y is None else y[: len(x)]


def drawn_codes(args: argparse.Namespace, model: Model, n: int) -> tuple[Tensor, Tensor | None]:
    """Codes of N(0, I), and the chosen condition or one drawn for each."""
    from dgm import edit
    from dgm.networks.conditions import conditions_to_draw

    if args.given:
        raise BadInput(f"{type(model).__name__} has a decoder alone, and --given has no code", "leave it out")
    z = edit.drawn(model, args.examples or n, seed=args.seed)
    if args.y is not None:
        return z, args.y[0]
    return z, conditions_to_draw(model, len(z), args.seed)


def coding(args: argparse.Namespace) -> dict[str, Any]:
    return {"sampling_steps": args.sampling_steps}


TASKS: Mapping[str, Task] = {
    "encode": Task("Write the codes of examples.", coding_options, encode, codes=True),
    "reconstruct": Task("Show examples and their decoded codes.", coding_options, reconstruct, codes=True),
    "interpolate": Task("Interpolate between examples by their codes.", interpolating_options, interpolate, codes=True),
    "traverse": Task("Vary one dimension of a code in each row.", traversing_options, traverse, codes=True),
    "invert": Task("Find the codes of examples under a GAN.", inverting_options, invert, codes=True),
    "arithmetic": Task("Add and subtract codes.", arithmetic_options, arithmetic, codes=True),
}
