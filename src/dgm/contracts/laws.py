"""The table of laws, and how they are run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from dgm import registry
from dgm.contracts.autoregressive import (
    conditionals_make_the_density,
    no_dimension_sees_its_future,
    sequential_conditionals_agree,
)
from dgm.contracts.codes import (
    code_inverts,
    codes_lie_in_the_latent_space,
    log_determinant_is_the_jacobians,
    weights_under_any_prior_sum_to_one,
)
from dgm.contracts.conditions import every_part_of_the_condition_counts
from dgm.contracts.denoising import estimate_integrates_to_one, predictions_lie_on_the_path
from dgm.contracts.examples import SMALL, some
from dgm.contracts.likelihood import (
    bound_is_below,
    density_sums_to_one,
    energy_is_smooth,
    estimate_is_below,
    refuses_other_data,
    samples_follow_density,
    weights_sum_to_one,
)
from dgm.contracts.outcome import Broken, Outcome, Result, Skipped
from dgm.contracts.samples import (
    gradients_pass_through_samples,
    sample_depends_on_its_number_alone,
    samples_lie_in_the_space,
    trajectory_ends_in_the_sample,
)
from dgm.contracts.training import (
    description_makes_it_again,
    labels_are_checked,
    loss_changes_nothing,
    loss_reaches_every_parameter,
    passes_gain,
    players_descend_their_own,
)
from dgm.errors import BadInput
from dgm.inputs import model_given
from dgm.networks.conditions import fit_marginals
from dgm.protocols import (
    Autoregressive,
    BoundedLikelihood,
    Denoising,
    EstimatedLikelihood,
    ExactLikelihood,
    Fittable,
    ImportanceWeighted,
    Invertible,
    Latent,
    Model,
    MultiPlayer,
    Progressive,
    Reparameterised,
    Samplable,
    Trainable,
    Unnormalised,
    Variational,
    condition_of,
    has,
)
from dgm.space import Space

# law -> the capabilities that a model must have for it
LAWS: Mapping[Callable[[Model], str], tuple[type, ...]] = {
    density_sums_to_one: (ExactLikelihood,),
    weights_sum_to_one: (ImportanceWeighted,),
    bound_is_below: (BoundedLikelihood,),
    samples_follow_density: (ExactLikelihood, Samplable),
    no_dimension_sees_its_future: (Autoregressive,),
    conditionals_make_the_density: (Autoregressive, ExactLikelihood),
    sequential_conditionals_agree: (Autoregressive,),
    estimate_integrates_to_one: (EstimatedLikelihood,),
    estimate_is_below: (EstimatedLikelihood,),
    predictions_lie_on_the_path: (Denoising,),
    code_inverts: (ExactLikelihood, Latent),
    log_determinant_is_the_jacobians: (Invertible,),
    codes_lie_in_the_latent_space: (Latent,),
    weights_under_any_prior_sum_to_one: (Variational,),
    energy_is_smooth: (Unnormalised,),
    refuses_other_data: (),
    samples_lie_in_the_space: (Samplable,),
    sample_depends_on_its_number_alone: (Samplable,),
    trajectory_ends_in_the_sample: (Samplable, Progressive),
    gradients_pass_through_samples: (Reparameterised,),
    loss_reaches_every_parameter: (Trainable,),
    loss_changes_nothing: (Trainable,),
    players_descend_their_own: (MultiPlayer,),
    passes_gain: (Fittable,),
    labels_are_checked: (),
    description_makes_it_again: (),
}


def check(model: Model | str) -> Iterator[Result]:
    """Runs every law that is about the capabilities of a model, and yields what comes of each.

    Args:
        model: One of any space; or the name of a model, as `dgm.create` takes it, which is then made anew on each small
            space that it takes.

    Raises:
        UnknownName: For a name that is no model's, with the nearest.
        BadInput: For what is no model, or a name of one that takes none of the small spaces.
    """
    if isinstance(model, str):
        registry.model_class(model)  # says what is wrong with the name
        yield from _check_small(model)
        return
    model_given(model)
    for law, about in LAWS.items():
        if has(model, *about):
            yield run(law, model)
    if condition_of(model) is not None:
        yield run(every_part_of_the_condition_counts, model)


def _check_small(name: str) -> Iterator[Result]:
    checked = False
    for _, model in small_models(name):
        checked = True
        yield from check(model)
    if not checked:
        raise BadInput(f"{name} takes none of the small spaces that laws are checked on", "see docs/own-model.md")


def run(law: Callable[[Model], str], model: Model) -> Result:
    started = time.perf_counter()
    name = (law.__doc__ or law.__name__).splitlines()[0].rstrip(".")
    model.eval()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        try:
            outcome, detail = Outcome.HOLDS, law(model)
        except Broken as broken:
            outcome, detail = Outcome.BROKEN, str(broken)
        except Skipped as skipped:
            outcome, detail = Outcome.SKIPPED, str(skipped)
        except Exception as error:  # a law that a model crashes on is broken, and the others still run
            outcome, detail = Outcome.BROKEN, f"{type(error).__name__}: {' '.join(str(error).split())}"
    return Result(name, outcome, detail, time.perf_counter() - started, str(model.space))


def small_models(
    name: str, condition: Space | None = None, spaces: Sequence[Space] = SMALL, **config: Any
) -> Iterator[tuple[Space, Model]]:
    """A model on each small space that it takes, its parameters moved off their start, where zeros hide mistakes."""
    for space in spaces:
        try:
            torch.manual_seed(0)
            model = registry.create(name, space, condition, **config)
        except BadInput:
            continue
        if condition is not None:
            fit_marginals(model, some(condition, 64))
        yield space, perturbed(model)


@torch.no_grad()
def perturbed(model: Model) -> Model:
    for parameter in model.parameters():
        # wide layers sum many of these: as much as moves them, and not so much that scales overflow
        parameter.add_(torch.randn_like(parameter) * min(0.1, 2 / math.sqrt(math.prod(parameter.shape[1:]) or 1)))
    return model.eval()
