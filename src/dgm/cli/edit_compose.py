"""`dgm edit compose A --and B --not C`: samples of a composition of runs."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgm.cli import condition, own
from dgm.cli.edit_task import Edited, Task, refuse_no_picture
from dgm.cli.terminal import Progress
from dgm.cli.values import MOST_STEPS, real, whole
from dgm.errors import BadInput

if TYPE_CHECKING:
    from dgm.editing.composition import Term
    from dgm.protocols import Model

TERM = "a run, RUN@CONDITION for a run with a condition, or @CONDITION for another condition of the same run"


def composing_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--and", dest="also", action="append", default=[], metavar="B", help=f"multiply by {TERM}")
    parser.add_argument(
        "--or", dest="either", action="append", default=[], metavar="B", help="mix the first run with it"
    )
    parser.add_argument("--not", dest="without", action="append", default=[], metavar="C", help="divide by it")
    parser.add_argument("--weight", type=real(0, 100), default=1.0, help="exponent of the divisors (1)")
    parser.add_argument("-n", type=whole(1), default=64, help="number of samples (64)")
    parser.add_argument(
        "--sampling-steps", type=whole(1, MOST_STEPS), help="noise scales (50), or of energies their Langevin steps"
    )
    parser.add_argument(
        "--langevin-steps", type=whole(1, MOST_STEPS), default=10, help="at each noise scale of denoising models (10)"
    )


def compose(args: argparse.Namespace, model: Model, about: Mapping[str, Any]) -> Edited:
    from dgm.editing.composition import Composition, Term, composed

    refuse_no_picture(args, model)
    either, also, without = (
        [term(text, args, model) for text in texts] for texts in (args.either, args.also, args.without)
    )
    of = Composition([Term(model, args.y), *either], also, without, args.weight)
    module: Any = composed(of, sampling_steps=args.sampling_steps, langevin_steps=args.langevin_steps)
    with Progress(f"composing {len(of.terms)} densities") as progress:
        for state in module.trajectory(args.n, seed=args.seed):
            share = state.sampling_step / state.sampling_steps
            progress.update(share, f"step {state.sampling_step} of {state.sampling_steps}")
    x = state.x.cpu()
    columns = max(k for k in range(1, math.isqrt(args.n) + 1) if args.n % k == 0)
    return Edited("x", x.unflatten(0, (columns, args.n // columns)))


def term(text: str, args: argparse.Namespace, model: Model) -> Term:
    """The model and the condition of one operand."""
    import dgm
    from dgm.editing.composition import Term

    path, _, of = text.partition("@")
    if path:
        if not Path(path).is_dir():
            raise BadInput(f"there is no run {path}", f"name {TERM}")
        own.trust(args, path)
        model = dgm.load(path)
    chosen = argparse.Namespace(label=None, condition=of or None)
    return Term(model, condition.from_arguments(chosen, model, most=1))


TASKS: Mapping[str, Task] = {
    "compose": Task(
        "Sample a product, a mixture or a quotient of the densities of runs.",
        composing_options,
        compose,
        any_model=True,
    )
}
