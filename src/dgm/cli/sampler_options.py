"""The options of `dgm sample` for diffusion, score and flow models: the sampler and the guidance."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from dgm.cli.values import MOST_STEPS, real, whole
from dgm.errors import BadInput

if TYPE_CHECKING:
    from dgm.protocols import Model

SAMPLER = ("solver", "sampling_steps", "spacing", "eta")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("diffusion, score and flow models")
    group.add_argument("--solver", help="ddim, ancestral, heun, … (the model's own)")
    group.add_argument("--sampling-steps", type=whole(1, MOST_STEPS), help="number of sampling steps (the model's own)")
    group.add_argument(
        "--spacing", help="spacing of the times: uniform, quadratic, log_snr or karras (the model's own)"
    )
    group.add_argument("--eta", type=real(0, 1), help="noise of DDIM steps, from 0 to 1 for ancestral sampling (0)")
    group.add_argument(
        "--guidance",
        type=real(0, 100),
        help="scale of the guidance towards the condition, or away from the weak run (1: none)",
    )
    group.add_argument("--guidance-interval", type=real(0, 1), nargs=2, help="interval of times with guidance (0 1)")
    group.add_argument(
        "--autoguidance", metavar="RUN", help="the run of a weak model of the same data, to guide away from"
    )


def arguments(args: argparse.Namespace, model: Model) -> dict[str, Any]:
    """The arguments of `dgm.sample`; empty if no option is given."""
    options = {name: getattr(args, name) for name in SAMPLER if getattr(args, name) is not None}
    return options | guidance(args, model)


def guidance(args: argparse.Namespace, model: Model) -> dict[str, Any]:
    if args.guidance is None:
        if args.guidance_interval or args.autoguidance:
            raise BadInput("an option of guidance without --guidance", "give --guidance too, such as 2")
        return {}
    import dgm

    how = {"interval": tuple(args.guidance_interval)} if args.guidance_interval else {}
    weak = dgm.load(args.autoguidance) if args.autoguidance else None
    guidance = dgm.Guidance(scale=args.guidance, weak=weak, **how)
    if not args.autoguidance and model.condition is not None and args.label is None and args.condition is None:
        wrong = "--guidance needs a condition, and none is given"
        raise BadInput(wrong, "add --label or --condition, or leave it out")
    return {"guidance": guidance}
