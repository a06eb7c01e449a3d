"""Draw samples from a trained model.

dgm sample runs/vae -n 64 --out grid.png       one picture
dgm sample runs/vae -n 1000 --out samples/     a folder of pictures, or of .wav files
dgm sample runs/vae -n 1000 --out samples.npz  an array x, in the units of the data
dgm sample runs/table -n 1000 --out rows.csv   a table, or rows.parquet
dgm sample runs/ddpm --label 7 --out sevens.png  a label by its name or number
dgm sample runs/faces --condition "smiling=1,glasses=0" --out faces.png  or a picture, a text, a .csv of conditions
dgm sample runs/table -n 100 --where "age=40,job=student" --out students.csv  rows with these values

The steps of a sampler can be shown, and diffusion, score and flow models take a solver and guidance:

dgm sample runs/ddpm --out denoising.gif
dgm sample runs/ddpm -n 6 --show-steps 8 --out denoising.png
dgm sample runs/ddpm --solver heun --sampling-steps 20 --spacing karras --label 7 --guidance 2 --out sevens.png

An autoregressive model completes a given first part of a picture, a text or a sound:

dgm sample runs/pixelcnn --given half.png --observed 0.5 --out completions.png
dgm sample runs/shakespeare -n 1 --prompt "ROMEO:" --length 500 --temperature 0.8 --out -
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgm import torchrun
from dgm.cli import condition, edit_rows, own, sampler_options
from dgm.cli import out as output
from dgm.cli.given import start
from dgm.cli.terminal import Progress
from dgm.cli.values import real, seed, whole
from dgm.cli.writing import refuse_format, write_animation, write_strip, writer
from dgm.errors import BadInput, Unsupported
from dgm.inputs import how_many

if TYPE_CHECKING:
    from torch import Tensor

    from dgm.protocols import Model, State
    from dgm.samplers.sequential import DecodingOptions

FRAMES = 40  # frames of an animation
TABLES = (".csv", ".parquet")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="a run directory, as `dgm train` writes it")
    parser.add_argument("-n", type=whole(1), help="number of samples (64, or as many as a file of conditions has)")
    parser.add_argument(
        "--seed", type=seed(), default=0, help="random seed; sample k depends on the seed and on k alone (0)"
    )
    condition.add_arguments(parser, "all samples", many=True)
    parser.add_argument(
        "--where", help='a table: the given values of some columns, as in "age=40,job=student"; an empty one is missing'
    )
    parser.add_argument(
        "--out", required=True, help="a .png, .gif, .npz, .csv, .parquet, .txt or .wav file, or a folder; - prints text"
    )
    parser.add_argument(
        "--show-steps", type=whole(2, 1000), help="number of sampler states in a .png or .gif (gif: 40)"
    )
    parser.add_argument(
        "--mean", action="store_true", help="the mean of the decoder of a VAE, without observation noise"
    )
    parser.add_argument(
        "--truncation", type=real(0, 100), help="largest magnitude of each number of a GAN's z, such as 1 (none)"
    )
    group = parser.add_argument_group("autoregressive models")
    group.add_argument(
        "--temperature",
        type=real(0, 1000),
        default=1.0,
        help="sampling temperature; below 1 favours likely values, 0 takes the most likely one (1)",
    )
    group.add_argument("--top-k", type=whole(0), default=0, help="sample from the k most likely values (0: all)")
    group.add_argument(
        "--top-p", type=real(0, 1), default=1.0, help="sample from the most likely values of this total probability (1)"
    )
    group.add_argument("--given", help="a picture, .npz, .txt or .wav file whose first part is observed")
    group.add_argument(
        "--observed", type=real(0, 1), help="observed share of it, in raster order (0.5; all of text and sound)"
    )
    group.add_argument("--prompt", help="a text to continue; of a long text the end is used")
    group.add_argument("--length", type=whole(1), help="length of the text in characters (the context of the model)")
    sampler_options.add_arguments(parser)
    own.add_trust(parser)


def run(args: argparse.Namespace) -> int:
    out = Path(args.out) if args.out == "-" else output.new(args.out)
    write = writer(out)
    import dgm
    from dgm import memory
    from dgm.networks.conditions import conditions_to_draw
    from dgm.runs import Run

    own.trust(args, args.run, *filter(None, [args.autoguidance]))
    model, about = dgm.load(args.run), Run(args.run).config["data"]
    y = condition.from_arguments(args, model)
    args.n = n = condition.number_of_samples(args.n, y)
    if y is None and args.where is None and conditions_of_rows(about, out):
        y = conditions_to_draw(model, n, args.seed)
    if args.where is not None:
        return write_where(args, model, about, y, out)
    shown = shown_states(args, model)
    memory.refuse_too_many(n * shown, model.space)
    given, observed = start(args, model.space, about)
    how = sampler_options.arguments(args, model) | {"seed": args.seed, "decoding": decoding(args), "mean": args.mean}
    how |= {} if given is None else {"given": given, "observed": observed}
    how |= {} if y is None else {"condition": y.expand(n, *y.shape[1:])}
    refuse_format(args.out, model.space, about)
    if shown > 1:
        states = evenly_spaced(dgm.trajectory(model, n, **how), shown)
    else:
        with Progress(f"sampling {n}", quiet=args.out == "-" or not torchrun.is_first()) as progress:
            how |= {"length": args.length, "truncation": args.truncation}
            states = [dgm.sample(model, n, progress=progress.update, **how)]
    if not torchrun.is_first():
        return 0
    if args.out != "-":
        out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".gif":
        write_animation(states, model.space, out, about)
    elif shown > 1:
        write_strip(states, model.space, out, about)
    else:
        x, about = with_conditions(states[-1], y, model, about, out)
        write(x, model.space, out, about)
    if args.out != "-":
        print(f"{how_many(n, 'sample')} in {out}")
    return 0


def write_where(args: argparse.Namespace, model: Model, about: dict[str, Any], y: Tensor | None, out: Path) -> int:
    """Writes samples given the values of some columns."""
    others = ("given", "prompt", "observed", "length", "mean", "truncation", "show_steps", "guidance")
    for name in (*others, *sampler_options.SAMPLER):
        if getattr(args, name) not in (None, False):
            raise BadInput(f"both --where and --{name.replace('_', '-')}", "leave one of the two out")
    if decoding(args) is not None:
        raise BadInput("decoding options such as the temperature, and --where", "leave one of the two out")
    refuse_format(args.out, model.space, about)
    x, about = with_conditions(edit_rows.where(args, model, about, y), y, model, about, out)
    out.parent.mkdir(parents=True, exist_ok=True)
    writer(out)(x, model.space, out, about)
    print(f"{how_many(args.n, 'sample')} in {out}")
    return 0


def conditions_of_rows(about: dict[str, Any], out: Path) -> list[str]:
    """The names of the columns of a table that are the condition of the others, if a table is written."""
    from dgm.data.tables import names_in

    return names_in(str(about.get("options", {}).get("condition_columns", ""))) if out.suffix in TABLES else []


def with_conditions(
    x: Tensor, y: Tensor | None, model: Model, about: dict[str, Any], out: Path
) -> tuple[Tensor, dict[str, Any]]:
    """Rows and the description of their data, with the columns of their condition after the others."""
    names = conditions_of_rows(about, out)
    if y is None or model.condition is None or not names:
        return x, about
    import torch

    from dgm.data.columns import of_condition

    more = [column.to_json() for column in of_condition(model.condition, model.names, names)]
    y = y.expand(len(x), *y.shape[1:]).reshape(len(x), -1)
    return torch.cat([x.flatten(1).double(), y.double()], 1), about | {"columns": [*about["columns"], *more]}


def decoding(args: argparse.Namespace) -> DecodingOptions | None:
    from dgm.samplers.sequential import DEFAULT, DecodingOptions

    decoding = DecodingOptions(temperature=args.temperature, top_k=args.top_k, top_p=args.top_p)
    return None if decoding == DEFAULT else decoding


def shown_states(args: argparse.Namespace, model: Model) -> int:
    """The number of a sampler's states to show; 1, the last state, unless intermediate steps are shown."""
    from dgm.protocols import Autoregressive, Progressive, has

    suffix = Path(args.out).suffix
    if args.show_steps is not None and suffix not in (".png", ".gif"):
        raise BadInput(f"--show-steps needs a .png or .gif, got --out {args.out}", "change --out, or leave it out")
    if args.show_steps is None and suffix != ".gif":
        return 1
    if not (has(model, Autoregressive) or has(model, Progressive)):
        wrong = f"{type(model).__name__} draws all values at once: there are no steps to show"
        raise Unsupported(wrong, "write a .png, or sample a diffusion or an autoregressive model")
    if args.length is not None or (len(model.space.shape) != 3 and model.space.dim != 2):
        raise Unsupported(f"the steps of images and of points can be shown, got {model.space}", "write the samples")
    return args.show_steps or FRAMES


def evenly_spaced(states: Iterator[State], shown: int) -> list[Tensor]:
    """``shown`` evenly spaced states, including the last; some are repeated if there are fewer states."""
    import torch

    tensors = [state.x.cpu().clone() for state in states]  # a sampler may reuse one tensor for all states
    return [tensors[k] for k in torch.linspace(0, len(tensors) - 1, shown).round().long()]
