"""What the options of `dgm sample` say of a model that undoes noise: its solver and its guidance."""

from __future__ import annotations

import argparse
import inspect
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from dgm.cli.values import MOST_STEPS, real, whole
from dgm.errors import BadInput, Unsupported

if TYPE_CHECKING:
    from dgm.protocols import Model
    from dgm.samplers.diffusion import Solving

SOLVING = ("solver", "steps", "spacing", "eta")
GUIDING = ("guidance", "guidance_interval", "autoguidance")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("diffusion, score and flow models")
    group.add_argument("--solver", help="ddim, ancestral, heun, … (the model's own)")
    group.add_argument("--steps", type=whole(1, MOST_STEPS), help="of the sampler (the model's own)")
    group.add_argument("--spacing", help="of the steps: uniform, quadratic, log_snr or karras (the model's own)")
    group.add_argument("--eta", type=real(0, 1), help="noise of a DDIM step, from 0 to ancestral sampling's 1 (0)")
    group.add_argument(
        "--guidance", type=real(0, 100), help="how far towards the label, or away from the worse run (1: not)"
    )
    group.add_argument("--guidance-interval", type=real(0, 1), nargs=2, help="times within which it guides (0 1)")
    group.add_argument("--autoguidance", metavar="RUN", help="a run of a worse model of the same data, to go away from")


def options(args: argparse.Namespace, model: Model) -> dict[str, Any]:
    """What `dgm.samplers.diffusion.trajectory` is told besides; nothing where nothing was asked for.

    A model with a sampler of its own takes the steps, and nothing else.

    Raises:
        Unsupported: Where the model, or the solver, has no use for what was asked for.
    """
    from dgm.protocols import Denoising

    asked = [name for name in SOLVING + GUIDING if getattr(args, name) is not None]
    if not asked:
        return {}
    if asked == ["steps"] and not isinstance(model, Denoising) and hasattr(model.config, "sampling_steps"):
        model.config = replace(model.config, sampling_steps=args.steps)
        return {}
    if not isinstance(model, Denoising):
        wrong = f"{type(model).__name__} undoes no noise and takes no --{asked[0].replace('_', '-')}"
        raise Unsupported(wrong, "leave it out, or sample a diffusion, score or flow-matching model of `dgm models`")
    return {"solving": solving(args, model)} | guiding(args, model)


def solving(args: argparse.Namespace, model: Model) -> Solving:
    """The model's own way with what was asked for in its place; another solver starts from its own defaults."""
    from dgm.samplers.solvers import SOLVERS

    chosen = {name: getattr(args, name) for name in ("steps", "spacing") if getattr(args, name) is not None}
    if args.solver not in (None, model.solving.solver):
        chosen |= {"solver": args.solver, "options": {}}
    found: Solving = replace(model.solving, **chosen)
    if args.eta is None:
        return found
    if "eta" not in inspect.signature(SOLVERS[found.solver].solve).parameters:
        having = [name for name, solver in SOLVERS.items() if "eta" in inspect.signature(solver.solve).parameters]
        raise Unsupported(f"the solver '{found.solver}' takes no --eta", f"leave it out, or take {' or '.join(having)}")
    return replace(found, options={**found.options, "eta": args.eta})


def guiding(args: argparse.Namespace, model: Model) -> dict[str, Any]:
    if args.guidance is None:
        if args.guidance_interval or args.autoguidance:
            raise BadInput("guidance was asked for without its strength", "give --guidance too, such as 2")
        return {}
    from dgm.samplers import guidance

    how: dict[str, Any] = {"scale": args.guidance}
    if args.guidance_interval:
        low, high = how["interval"] = tuple(args.guidance_interval)
        if not low < high:
            raise BadInput(f"--guidance-interval must be two times from 0 to 1, got {low} {high}", "0 is data, 1 noise")
    if args.autoguidance:
        return {"guide": partial(guidance.autoguidance, worse=worse(args.autoguidance, model), **how)}
    if not getattr(model.config, "classes", 0):
        wrong = "this model was trained without labels, which --guidance would lead to"
        raise Unsupported(wrong, "leave it out, give --autoguidance, or train with --conditional")
    if args.label is None:
        raise BadInput("--guidance leads towards a label, and none is named", "add --label, or leave it out")
    return {"guide": partial(guidance.classifier_free, **how)}


def worse(path: str, model: Model) -> Model:
    """The model to go away from, of the same data and labels."""
    import dgm
    from dgm.protocols import Denoising

    found = dgm.load(path)
    if not issubclass(type(found), Denoising):
        wrong = f"{path} is of {type(found).__name__}, which undoes no noise"
    elif found.space != model.space:
        wrong = f"{path} is of {found.space}, this run of {model.space}"
    elif found.config.classes != model.config.classes:
        wrong = f"{path} knows {found.config.classes} labels, this run {model.config.classes}"
    else:
        return found
    raise BadInput(wrong, "name a worse run of this model")
