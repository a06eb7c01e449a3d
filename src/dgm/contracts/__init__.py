"""The mathematical contract of a model, as a set of laws that are checked.

A law is a property that every model with a certain capability must have on every space, for example: the density sums
to one over all images, samples have the frequencies of the density, a conditional depends on earlier dimensions only.
The laws are checked on small spaces, where all examples can be enumerated.

>>> from dgm.registry import create
>>> from dgm.space import Space
>>> made = create("made", Space.binary((1, 2, 2)), hidden=16)
>>> print(next(result for result in check(made) if "sums to one" in result.law).outcome)
holds
"""

from __future__ import annotations

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
from dgm.contracts.conditions import every_dimension_of_the_condition_has_an_effect
from dgm.contracts.denoising import estimate_integrates_to_one, predictions_reconstruct_x_t
from dgm.contracts.examples import (
    PLANE,
    SMALL,
    all_examples,
    all_examples_or_skip,
    is_plane,
    is_small,
    plane_grid,
    random_conditions,
    random_examples,
    support,
    with_condition,
)
from dgm.contracts.laws import LAWS, check, perturbed, run, small_models
from dgm.contracts.likelihood import (
    bound_sums_to_at_most_one,
    density_sums_to_one,
    energy_depends_on_x,
    estimate_sums_to_at_most_one,
    invalid_data_is_refused,
    samples_follow_density,
    weights_sum_to_one,
)
from dgm.contracts.outcome import Broken, Outcome, Result, Skipped, require
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

__all__ = [
    "LAWS",
    "PLANE",
    "SMALL",
    "Broken",
    "Outcome",
    "Result",
    "Skipped",
    "all_examples",
    "all_examples_or_skip",
    "bound_sums_to_at_most_one",
    "check",
    "codes_lie_in_the_latent_space",
    "conditionals_are_autoregressive",
    "decode_inverts_encode",
    "density_is_the_product_of_conditionals",
    "density_sums_to_one",
    "description_rebuilds_the_model",
    "energy_depends_on_x",
    "estimate_integrates_to_one",
    "estimate_sums_to_at_most_one",
    "every_dimension_of_the_condition_has_an_effect",
    "every_parameter_has_a_gradient",
    "fitting_increases_the_likelihood",
    "gradients_pass_through_samples",
    "invalid_conditions_are_refused",
    "invalid_data_is_refused",
    "is_plane",
    "is_small",
    "log_determinant_matches_the_jacobian",
    "loss_has_no_side_effects",
    "perturbed",
    "plane_grid",
    "players_reach_their_own_parameters",
    "predictions_reconstruct_x_t",
    "random_conditions",
    "random_examples",
    "require",
    "run",
    "sample_depends_on_seed_and_index_alone",
    "samples_follow_density",
    "samples_lie_in_the_space",
    "sequential_conditionals_agree",
    "small_models",
    "support",
    "trajectory_ends_in_the_sample",
    "weights_sum_to_one",
    "weights_under_any_prior_sum_to_one",
    "with_condition",
]
