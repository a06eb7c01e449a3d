"""The mathematical contract of a model, as laws that run.

A law holds of every model that has the capability it is about, on every small space that the model takes: a sum over
all images is 1, samples have the frequencies that the density gives them, no dimension sees its future.

>>> from dgm.registry import create
>>> from dgm.space import Space
>>> made = create("made", Space.binary((1, 2, 2)), hidden=16)
>>> print(next(result for result in check(made) if "sums to one" in result.law).outcome)
holds
"""

from __future__ import annotations

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
from dgm.contracts.examples import (
    PLANE,
    SMALL,
    all_examples,
    everything,
    is_plane,
    is_small,
    labels,
    plane,
    some,
    support,
    under,
)
from dgm.contracts.laws import LAWS, check, perturbed, run, small_models
from dgm.contracts.likelihood import (
    bound_is_below,
    density_sums_to_one,
    energy_is_smooth,
    estimate_is_below,
    refuses_other_data,
    samples_follow_density,
    weights_sum_to_one,
)
from dgm.contracts.outcome import Broken, Outcome, Result, Skipped, require
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

__all__ = [
    "LAWS",
    "PLANE",
    "SMALL",
    "Broken",
    "Outcome",
    "Result",
    "Skipped",
    "all_examples",
    "bound_is_below",
    "check",
    "code_inverts",
    "codes_lie_in_the_latent_space",
    "conditionals_make_the_density",
    "density_sums_to_one",
    "description_makes_it_again",
    "energy_is_smooth",
    "estimate_integrates_to_one",
    "estimate_is_below",
    "every_part_of_the_condition_counts",
    "everything",
    "gradients_pass_through_samples",
    "is_plane",
    "is_small",
    "labels",
    "labels_are_checked",
    "log_determinant_is_the_jacobians",
    "loss_changes_nothing",
    "loss_reaches_every_parameter",
    "no_dimension_sees_its_future",
    "passes_gain",
    "perturbed",
    "plane",
    "players_descend_their_own",
    "predictions_lie_on_the_path",
    "refuses_other_data",
    "require",
    "run",
    "sample_depends_on_its_number_alone",
    "samples_follow_density",
    "samples_lie_in_the_space",
    "sequential_conditionals_agree",
    "small_models",
    "some",
    "support",
    "trajectory_ends_in_the_sample",
    "under",
    "weights_sum_to_one",
    "weights_under_any_prior_sum_to_one",
]
