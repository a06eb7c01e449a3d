"""The arguments for sampling from a denoising model: the solver, the number of sampling steps and the guidance."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from dgm.errors import BadInput, Unsupported
from dgm.inputs import number, of_type, whole
from dgm.processes.parameterisation import Denoise
from dgm.protocols import Conditions, Denoising, Model, condition_of, has
from dgm.samplers import guidance
from dgm.samplers.diffusion import SamplerConfig
from dgm.samplers.guidance import ALWAYS
from dgm.samplers.solvers import SOLVERS
from dgm.samplers.times import Spacing
from dgm.space import listed

Guide = Callable[[Model, Conditions | None], Denoise]


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Guidance of a denoising model: classifier-free guidance, or autoguidance if there is a weak model.

    Attributes:
        scale: 1 is no guidance; larger scales move samples further towards the condition, or away from the weak model.
        interval: The times with guidance, from 0 for data to 1 for noise.
        weak: A weaker model of the same data and condition, smaller or trained for fewer steps.
    """

    scale: float
    interval: tuple[float, float] = ALWAYS
    weak: Model | None = None

    def __post_init__(self) -> None:
        if number("the scale of guidance", self.scale) < 0:
            raise BadInput(f"the scale of guidance must be at least 0, got {self.scale}", "1 is no guidance")
        interval = [number("a time of guidance", time) for time in listed("the interval of guidance", self.interval)]
        if len(interval) != 2 or not 0 <= interval[0] < interval[1] <= 1:
            wrong = f"the interval of guidance must be two times from 0 to 1, got {' '.join(map(str, interval))}"
            raise BadInput(wrong, "0 is data, 1 noise")

    def guide(self, model: Model) -> Guide:
        """The argument ``guide`` of `dgm.samplers.diffusion.trajectory`."""
        if self.weak is None:
            if condition_of(model) is None:
                wrong = "guidance needs a condition, and this model was trained without one"
                raise Unsupported(wrong, "leave it out, guide by a weak model, or train with --conditional")
            return partial(guidance.classifier_free, scale=self.scale, interval=self.interval)
        refuse_other_model(self.weak, model)
        return partial(guidance.autoguidance, weak=self.weak, scale=self.scale, interval=self.interval)


def refuse_other_model(weak: Model, model: Model) -> None:
    """
    Raises:
        BadInput: If the weak model is not a denoising model of the same data and condition.
    """
    conditions = [condition_of(one) for one in (weak, model)]
    if not has(weak, Denoising):
        wrong = f"the weak model is a {type(weak).__name__}, which is not a denoising model"
    elif weak.space != model.space:
        wrong = f"the weak model is of {weak.space}, this one of {model.space}"
    elif conditions[0] != conditions[1]:
        found, wanted = (condition or "none" for condition in conditions)
        wrong = f"the weak model has the condition {found}, this one {wanted}"
    else:
        return
    raise BadInput(wrong, "name a weaker run of this model")


def sampler_of(
    model: Model,
    *,
    solver: str | None = None,
    sampling_steps: int | None = None,
    spacing: Spacing | None = None,
    eta: float | None = None,
) -> SamplerConfig:
    """The model's own sampler, with the given arguments replaced; another solver has its own default options."""
    own: SamplerConfig = model.sampler
    for name, value in (("solver", solver), ("spacing", spacing)):
        if value is not None:
            of_type(f"the {name}", value, str, "give its name; dgm.samplers lists them")
    found = own if solver in (None, own.solver) else replace(own, solver=solver, options={})
    if sampling_steps is not None:
        found = replace(found, sampling_steps=whole("sampling_steps", sampling_steps, low=1))
    if spacing is not None:
        found = replace(found, spacing=spacing)
    if eta is None:
        return found
    if not 0 <= number("eta", eta) <= 1:
        raise BadInput(f"eta must be from 0 to 1, got {eta}", "0 draws no noise, 1 is ancestral sampling")
    if "eta" not in inspect.signature(SOLVERS[found.solver].solve).parameters:
        having = [name for name, solver in SOLVERS.items() if "eta" in inspect.signature(solver.solve).parameters]
        raise Unsupported(f"the solver '{found.solver}' takes no eta", f"leave it out, or take {' or '.join(having)}")
    return replace(found, options={**found.options, "eta": eta})
