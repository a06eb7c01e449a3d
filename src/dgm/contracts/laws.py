"""The table of laws, and how they are run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from dgm import registry
from dgm.contracts.autoregressive import (
    conditionals_are_autoregressive,
    density_is_the_product_of_conditionals,
    sequential_conditionals_agree,
)
from dgm.contracts.codes import (
    codes_lie_in_the_latent_space,
    decode_inverts_encode,
    log_determinant_matches_the_jacobian,
    weights_under_any_prior_sum_to_one,
)
from dgm.contracts.compression import code_length_is_the_likelihood, has_codec
from dgm.contracts.conditions import every_dimension_of_the_condition_has_an_effect
from dgm.contracts.denoising import estimate_integrates_to_one, predictions_reconstruct_x_t
from dgm.contracts.examples import SMALL, random_examples
from dgm.contracts.likelihood import (
    bound_sums_to_at_most_one,
    density_sums_to_one,
    energy_depends_on_x,
    estimate_sums_to_at_most_one,
    invalid_data_is_refused,
    samples_follow_density,
    weights_sum_to_one,
)
from dgm.contracts.outcome import Broken, Outcome, Result, Skipped
from dgm.contracts.samples import (
    gradients_pass_through_samples,
    sample_depends_on_seed_and_index_alone,
    samples_lie_in_the_space,
    trajectory_ends_in_the_sample,
)
from dgm.contracts.training import (
    description_rebuilds_the_model,
    every_parameter_has_a_gradient,
    fitting_increases_the_likelihood,
    invalid_conditions_are_refused,
    loss_has_no_side_effects,
    players_reach_their_own_parameters,
)
from dgm.errors import BadInput, in_one_line
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
    bound_sums_to_at_most_one: (BoundedLikelihood,),
    samples_follow_density: (ExactLikelihood, Samplable),
    conditionals_are_autoregressive: (Autoregressive,),
    density_is_the_product_of_conditionals: (Autoregressive, ExactLikelihood),
    sequential_conditionals_agree: (Autoregressive,),
    estimate_integrates_to_one: (EstimatedLikelihood,),
    estimate_sums_to_at_most_one: (EstimatedLikelihood,),
    predictions_reconstruct_x_t: (Denoising,),
    decode_inverts_encode: (ExactLikelihood, Latent),
    log_determinant_matches_the_jacobian: (Invertible,),
    codes_lie_in_the_latent_space: (Latent,),
    weights_under_any_prior_sum_to_one: (Variational,),
    energy_depends_on_x: (Unnormalised,),
    invalid_data_is_refused: (),
    samples_lie_in_the_space: (Samplable,),
    sample_depends_on_seed_and_index_alone: (Samplable,),
    trajectory_ends_in_the_sample: (Samplable, Progressive),
    gradients_pass_through_samples: (Reparameterised,),
    every_parameter_has_a_gradient: (Trainable,),
    loss_has_no_side_effects: (Trainable,),
    players_reach_their_own_parameters: (MultiPlayer,),
    fitting_increases_the_likelihood: (Fittable,),
    invalid_conditions_are_refused: (),
    description_rebuilds_the_model: (),
}


def check(model: Model | str) -> Iterator[Result]:
    """Checks every law that applies to the capabilities of a model, and yields the results.

    Args:
        model: A model on any space, or a name of `dgm.create`: the laws are then checked on each of the small spaces
            that the model supports.

    Raises:
        UnknownName: If no model has the name. The message has the nearest name.
        BadInput: If the argument is not a model, or the model supports none of the small spaces.
    """
    if isinstance(model, str):
        registry.model_class(model)  # raises the error for a wrong name
        yield from _check_small(model)
        return
    model_given(model)
    for law, about in LAWS.items():
        if has(model, *about):
            yield run(law, model)
    if has_codec(model):
        yield run(code_length_is_the_likelihood, model)
    if condition_of(model) is not None:
        yield run(every_dimension_of_the_condition_has_an_effect, model)


def _check_small(name: str) -> Iterator[Result]:
    checked = False
    for _, model in small_models(name):
        checked = True
        yield from check(model)
    if not checked:
        raise BadInput(f"{name} supports none of the small spaces that laws are checked on", "see docs/own-model.md")


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
        except Exception as error:  # a law is broken if the model fails with an error; the other laws still run
            outcome, detail = Outcome.BROKEN, f"{type(error).__name__}: {in_one_line(error)}"
    return Result(name, outcome, detail, time.perf_counter() - started, str(model.space))


def small_models(
    name: str, condition: Space | None = None, spaces: Sequence[Space] = SMALL, **config: Any
) -> Iterator[tuple[Space, Model]]:
    """A model on each small space that it supports, with perturbed parameters, since initial zeros can hide mistakes.

    Args:
        config: Settings of the model, as for `dgm.create`.
    """
    for space in spaces:
        try:
            torch.manual_seed(0)
            model = registry.create(name, space, condition, **config)
        except BadInput:
            continue
        if condition is not None:
            fit_marginals(model, random_examples(condition, 64))
        yield space, perturbed(model)


@torch.no_grad()
def perturbed(model: Model) -> Model:
    """The model itself, in evaluation mode, with normal noise added to its parameters."""
    for parameter in model.parameters():
        # less noise in wide layers, whose outputs are sums over many parameters, so that no scale overflows
        parameter.add_(torch.randn_like(parameter) * min(0.1, 2 / math.sqrt(math.prod(parameter.shape[1:]) or 1)))
    return model.eval()
