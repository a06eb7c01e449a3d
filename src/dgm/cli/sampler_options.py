"""The options of `dgm sample` for diffusion, score and flow models: the sampler and the guidance."""

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
    from dgm.samplers.diffusion import SamplerConfig

SAMPLER = ("solver", "sampling_steps", "spacing", "eta")
GUIDANCE = ("guidance", "guidance_interval", "autoguidance")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("diffusion, score and flow models")
    group.add_argument("--solver", help="ddim, ancestral, heun, … (the model's own)")
    group.add_argument("--sampling-steps", type=whole(1, MOST_STEPS), help="number of sampling steps (the model's own)")
    group.add_argument("--spacing", help="of the steps: uniform, quadratic, log_snr or karras (the model's own)")
    group.add_argument("--eta", type=real(0, 1), help="noise of a DDIM step, from 0 to ancestral sampling's 1 (0)")
    group.add_argument(
        "--guidance",
        type=real(0, 100),
        help="scale of the guidance towards the condition, or away from the weak run (1: none)",
    )
    group.add_argument("--guidance-interval", type=real(0, 1), nargs=2, help="times within which it guides (0 1)")
    group.add_argument(
        "--autoguidance", metavar="RUN", help="the run of a weak model of the same data, to guide away from"
    )


def options(args: argparse.Namespace, model: Model) -> dict[str, Any]:
    """Keyword arguments for `dgm.samplers.diffusion.trajectory`; empty where no option is given.

    A model with its own sampler accepts the number of steps and no other option.

    Raises:
        Unsupported: If the model or the solver does not support an option.
    """
    from dgm.protocols import Denoising, has

    given = [name for name in SAMPLER + GUIDANCE if getattr(args, name) is not None]
    if not given:
        return {}
    if given == ["sampling_steps"] and not has(model, Denoising) and hasattr(model.config, "sampling_steps"):
        configured: Any = model
        configured.config = replace(model.config, sampling_steps=args.sampling_steps)
        return {}
    if not has(model, Denoising):
        wrong = f"{type(model).__name__} undoes no noise and takes no --{given[0].replace('_', '-')}"
        raise Unsupported(wrong, "leave it out, or sample a diffusion, score or flow-matching model of `dgm models`")
    return {"sampler": sampler_config(args, model)} | guidance_options(args, model)


def sampler_config(args: argparse.Namespace, model: Model) -> SamplerConfig:
    """The model's sampler with the given options replaced; another solver starts from its own defaults."""
    from dgm.samplers.solvers import SOLVERS

    chosen = {name: getattr(args, name) for name in ("sampling_steps", "spacing") if getattr(args, name) is not None}
    if args.solver not in (None, model.sampler.solver):
        chosen |= {"solver": args.solver, "options": {}}
    found: SamplerConfig = replace(model.sampler, **chosen)
    if args.eta is None:
        return found
    if "eta" not in inspect.signature(SOLVERS[found.solver].solve).parameters:
        having = [name for name, solver in SOLVERS.items() if "eta" in inspect.signature(solver.solve).parameters]
        raise Unsupported(f"the solver '{found.solver}' takes no --eta", f"leave it out, or take {' or '.join(having)}")
    return replace(found, options={**found.options, "eta": args.eta})


def guidance_options(args: argparse.Namespace, model: Model) -> dict[str, Any]:
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
        return {"guide": partial(guidance.autoguidance, weak=weak_model(args.autoguidance, model), **how)}
    if model.condition is None:
        wrong = "this model was trained without a condition, which --guidance would lead to"
        raise Unsupported(wrong, "leave it out, give --autoguidance, or train with --conditional")
    if args.label is None and args.condition is None:
        wrong = "--guidance leads towards a condition, and none is named"
        raise BadInput(wrong, "add --label or --condition, or leave it out")
    return {"guide": partial(guidance.classifier_free, **how)}


def weak_model(path: str, model: Model) -> Model:
    """The weak model of autoguidance, trained on the same data and condition."""
    import dgm
    from dgm.protocols import Denoising, has

    found = dgm.load(path)
    if not has(found, Denoising):
        wrong = f"{path} is of {type(found).__name__}, which undoes no noise"
    elif found.space != model.space:
        wrong = f"{path} is of {found.space}, this run of {model.space}"
    elif found.condition != model.condition:
        wrong = f"{path} has the condition {found.condition or 'none'}, this run {model.condition or 'none'}"
    else:
        return found
    raise BadInput(wrong, "name a weaker run of this model")
