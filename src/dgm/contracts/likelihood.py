"""Laws of likelihoods: normalisation of densities and bounds, agreement with the samples, checks of the input."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dgm.contracts.examples import (
    all_examples,
    all_examples_or_skip,
    is_dequantised,
    is_plane,
    is_small,
    plane_grid,
    random_examples,
    support,
    with_condition,
)
from dgm.contracts.outcome import Broken, Skipped, require
from dgm.errors import BadInput
from dgm.likelihood import kind_of, log_likelihood
from dgm.protocols import Model, Samplable, has

DRAWS = 4000  # log-weights that are drawn, of all x together
MOST_DRAWS = 1 << 18  # bounds that may be drawn, of all x together, before the law is skipped
BATCH = 1 << 12  # examples in a batch of them
LARGEST_VARIANCE = 0.1  # of the mean of the bound, averaged over x, for which its exponential can be corrected
ESTIMATES = 2  # draws of an estimate for each x, since each of them needs the solution of an ODE
FALSE_ALARMS = 5.0  # standard errors that a statistic may be off: one false alarm in a million


@torch.no_grad()
def density_sums_to_one(model: Model) -> str:
    """The density sums to one, or integrates to one."""
    x, area = support(model.space)
    total = float((model.log_prob(*with_condition(model, x)).double().exp() * area).sum())
    if model.space.discrete:
        return require(abs(total - 1) < 1e-4, f"sum of p(x) over all x = {total:.6f}")
    if model.space.bounds is None:
        if is_plane(model.space) and abs(total - 1) >= 1e-2:  # a narrow peak needs a finer grid
            x, area = plane_grid(model.space, finer=3)
            total = float((model.log_prob(*with_condition(model, x)).double().exp() * area).sum())
        return require(abs(total - 1) < 1e-2, f"integral of p(x) over a grid = {total:.4f}")
    # samples outside the bounds of the space are clamped to them
    beyond, error = clamped_share(model)
    found = f"integral of p(x) within the bounds = {total:.4f}, share of the samples on the bounds = {beyond:.4f}"
    return require(abs(total + beyond - 1) < 1e-2 + FALSE_ALARMS * error, found)


def clamped_share(model: Model, n: int = 4000) -> tuple[float, float]:
    """The share of samples on the bounds of the space, and its standard error; 0 for a model that cannot sample."""
    low, high = model.space.bounds or (-math.inf, math.inf)
    if not has(model, Samplable):
        return 0.0, 0.0
    x = model.sample(*with_condition(model, n), seed=1)
    share = float(((x <= low) | (x >= high)).flatten(1).any(1).double().mean())
    return share, math.sqrt(max(share, 1 / n) / n)


@torch.no_grad()
def weights_sum_to_one(model: Model) -> str:
    """The importance weights of all x sum to one on average."""
    x = all_examples_or_skip(model.space)
    return average_to_one(model, [model.log_weight(*with_condition(model, x)) for _ in range(repeats(x))])


def repeats(x: Tensor) -> int:
    """The number of draws of the weights of all x."""
    return max(4, DRAWS // len(x))


def average_to_one(model: Model, draws: Sequence[Tensor]) -> str:
    """The sum over all x of E[w(x)], from draws of log w of every x."""
    measure = support(model.space)[1]
    totals = torch.stack([(log_weight.double().exp() * measure).sum() for log_weight in draws])
    mean, error = float(totals.mean()), float(totals.std() / math.sqrt(len(draws)))
    # a dequantised model may have mass outside the range of the levels, to which its samples are clamped; and with
    # heavy-tailed weights a part of the mean comes from rare large weights, which may not have been drawn
    unseen = is_dequantised(model) or error > mean / 100
    least = 0.0 if unseen else 1 - FALSE_ALARMS * error - 1e-3
    return require(least <= mean <= 1 + FALSE_ALARMS * error + 1e-3, f"sum of E[w(x)] = {mean:.4f} ± {error:.4f}")


@torch.no_grad()
def bound_sums_to_at_most_one(model: Model) -> str:
    """The exponential of the bound sums to at most one."""
    x, measure = all_examples_or_skip(model.space), support(model.space)[1]
    drawn = bounds(model, x, max(8, DRAWS // len(x)))
    while mean_variance(drawn) > LARGEST_VARIANCE:
        needed = math.ceil(1.1 * len(drawn) * mean_variance(drawn) / LARGEST_VARIANCE)
        if needed * len(x) > MOST_DRAWS:
            raise Skipped(f"the mean of the bound needs {needed:,} draws for each of {len(x):,} examples")
        drawn = torch.cat([drawn, bounds(model, x, needed - len(drawn))])
    return sums_to_at_most_one(drawn, measure)


def bounds(model: Model, x: Tensor, n: int) -> Tensor:
    """``n`` draws of the bound of each x, (n, len(x))."""
    found = []
    for part in torch.arange(n).split(max(1, BATCH // len(x))):
        copies = x.repeat(len(part), *[1] * len(model.space.shape))
        found.append(model.elbo(*with_condition(model, copies)).view(len(part), len(x)))
    return torch.cat(found)


@torch.no_grad()
def estimate_sums_to_at_most_one(model: Model) -> str:
    """The exponential of the estimate of a discrete x, whose mean is a bound, sums to at most one."""
    if not model.space.discrete or model.space.dim > 1:
        raise Skipped("the law is checked for a single discrete dimension only")
    x = all_examples(model.space)
    together = model.log_prob_estimate(*with_condition(model, x.repeat(ESTIMATES, *[1] * len(model.space.shape))))
    return sums_to_at_most_one(together.view(ESTIMATES, len(x)))


def mean_variance(draws: Tensor) -> float:
    """The variance of the mean of draws of l(x), averaged over x with weights in proportion to exp E[l(x)]."""
    of_each = draws.double()
    return float((of_each.mean(0).softmax(0) * of_each.var(0)).sum() / len(draws))


def sums_to_at_most_one(draws: Tensor, measure: Tensor | float = 1.0) -> str:
    """Checks the sum over all x of exp E[l(x)] times their measure, from draws of l of every x."""
    of_each = draws.double()
    variance = of_each.var(0) / len(of_each)  # of each mean m; log E[exp m] is above E[m] by half of it
    each = (of_each.mean(0) - variance / 2).exp() * measure
    total, error = float(each.sum()), float((each.square() * variance).sum().sqrt())
    return require(total <= 1.02, f"sum of exp(E l(x)) = {total:.4f} ± {error:.4f}")


@torch.no_grad()
def samples_follow_density(model: Model) -> str:
    """Samples follow the density, by their frequencies or by their mean log-density."""
    n = 4000
    x = model.sample(*with_condition(model, n), seed=1)
    if model.space.kind == "record":
        return record_follows(model, x)
    if is_small(model.space):
        place = (model.space.values or 0) ** torch.arange(model.space.dim - 1, -1, -1)
        seen = (x.flatten(1).long() * place).sum(1).bincount(minlength=len(all_examples(model.space))).double()
        expected = n * model.log_prob(*with_condition(model, all_examples(model.space))).double().exp()
        return frequencies_agree(seen, expected)
    if is_plane(model.space):
        points, area = plane_grid(model.space)
        log_p = model.log_prob(*with_condition(model, points)).double()
        expected_mean = float((log_p.exp() * log_p.clamp_min(-1e3)).sum() * area)
        low, high = model.space.bounds or (-math.inf, math.inf)  # samples on the bounds were clamped to them
        found = torch.where(((x > low) & (x < high)).all(1), model.log_prob(*with_condition(model, x)).double(), 0.0)
        error = float(found.std() / math.sqrt(n))
        off = float(found.mean()) - expected_mean
        return require(
            abs(off) < FALSE_ALARMS * error + 0.02, f"mean log p of samples is off by {off:+.4f} ± {error:.4f}"
        )
    raise Skipped("the space is too large to compare")


def frequencies_agree(seen: Tensor, expected: Tensor) -> str:
    """A chi-square test; cells with less than five expected samples are pooled into one."""
    frequent, n = expected >= 5, int(seen.sum())
    seen, expected = pooled(seen, frequent), pooled(expected, frequent)
    squares = float(((seen - expected).square() / expected.clamp_min(1e-9)).sum())
    free = len(expected) - 1
    limit = free + FALSE_ALARMS * math.sqrt(2 * max(free, 1)) + 10
    return require(squares <= limit, f"chi-square of {n} samples = {squares:.1f} on {free} degrees of freedom")


def record_follows(model: Model, x: Tensor) -> str:
    """Compares the frequencies of a record's discrete and missing values, and the mean log-density."""
    points, measure = support(model.space)
    log_p = model.log_prob(*with_condition(model, points)).double()
    mass = log_p.exp() * measure
    real = torch.tensor([not part.discrete for _, part in model.space.parts])
    number = lambda rows: rows.masked_fill(real & ~rows.isnan(), 0.0).nan_to_num(-1.0)  # noqa: E731
    groups, cell = torch.cat([number(points), number(x)]).unique(dim=0, return_inverse=True)
    expected = torch.zeros(len(groups), dtype=torch.float64).index_add_(0, cell[: len(points)], mass * len(x))
    said = frequencies_agree(cell[len(points) :].bincount(minlength=len(groups)).double(), expected)
    found = model.log_prob(*with_condition(model, x)).double()
    off, error = float(found.mean() - (mass * log_p.clamp_min(-1e3)).sum()), float(found.std() / math.sqrt(len(x)))
    require(abs(off) < FALSE_ALARMS * error + 0.02, f"mean log p of samples is off by {off:+.4f} ± {error:.4f}")
    return said


def pooled(counts: Tensor, kept: Tensor) -> Tensor:
    """The counts of the kept cells, and the total of all others."""
    return torch.cat([counts[kept], counts[~kept].sum()[None]]) if (~kept).any() else counts[kept]


@torch.no_grad()
def invalid_data_is_refused(model: Model) -> str:
    """A batch outside the space is refused with an error of one line."""
    if kind_of(model) is None:
        raise Skipped("the model has no likelihood")
    x = random_examples(model.space)
    wrong = {"another shape": x[..., None], "another type": x.float() if model.space.discrete else x.long()}
    if model.space.discrete and (model.space.values or 0) <= torch.iinfo(model.space.dtype).max:
        wrong["a value too large"] = torch.full_like(x, model.space.values or 0)
    else:
        wrong["NaN"] = x * math.nan
    for what, batch in wrong.items():
        try:
            log_likelihood(model, batch)
        except BadInput:
            continue
        raise Broken(f"{what} was accepted")
    return ", ".join(wrong)


def energy_depends_on_x(model: Model) -> str:
    """The energy is finite and depends on x."""
    with torch.no_grad():
        x = random_examples(model.space, 16)
        energy = model.energy(*with_condition(model, x))
        require(bool(energy.isfinite().all()) and energy.shape == (16,), f"energies {energy.tolist()[:3]}")
        return require(float(energy.std()) > 0, f"standard deviation of the energy = {float(energy.std()):.3g}")
