"""Laws of likelihoods: densities that sum to one, bounds that lie below, samples that follow."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dgm.contracts.examples import (
    all_examples,
    everything,
    is_dequantised,
    is_plane,
    is_small,
    plane,
    some,
    support,
    under,
)
from dgm.contracts.outcome import Broken, Skipped, require
from dgm.errors import BadInput
from dgm.likelihood import kind_of, log_likelihood
from dgm.protocols import Model, Samplable, has

DRAWS = 4000  # of stochastic weights, a whole table of examples each
MANY = 1 << 18  # examples whose bounds may be drawn, all draws together, before the law gives up
TOGETHER = 1 << 12  # of them in one batch
SETTLED = 0.1  # of the bound's mean: the largest variance, averaged over x, that exp of it can be corrected for
FEW = 2  # of what takes an ODE's solution each
FALSE_ALARMS = 5.0  # standard errors that a statistic may be off: a false alarm in a million


@torch.no_grad()
def density_sums_to_one(model: Model) -> str:
    """The density sums to one."""
    x, area = support(model.space)
    total = float((model.log_prob(*under(model, x)).double().exp() * area).sum())
    if model.space.discrete:
        return require(abs(total - 1) < 1e-4, f"sum of p(x) over all x = {total:.6f}")
    if model.space.bounds is None:
        return require(abs(total - 1) < 1e-2, f"integral of p(x) over a grid = {total:.4f}")
    # a density that reaches beyond the bounds has its samples from there moved onto them
    beyond, error = clamped_share(model)
    found = f"integral of p(x) within the bounds = {total:.4f}, share of the samples on them = {beyond:.4f}"
    return require(abs(total + beyond - 1) < 1e-2 + FALSE_ALARMS * error, found)


def clamped_share(model: Model, n: int = 4000) -> tuple[float, float]:
    """The share of samples on the bounds of the space, and its standard error; 0 of a model that draws none."""
    low, high = model.space.bounds or (-math.inf, math.inf)
    if not has(model, Samplable):
        return 0.0, 0.0
    x = model.sample(*under(model, n), seed=1)
    share = float(((x <= low) | (x >= high)).flatten(1).any(1).double().mean())
    return share, math.sqrt(max(share, 1 / n) / n)


@torch.no_grad()
def weights_sum_to_one(model: Model) -> str:
    """The importance weights of all x sum to one on average."""
    x = all_examples(model.space)
    return average_to_one(model, [model.log_weight(*under(model, x)) for _ in range(repeats(x))])


def repeats(x: Tensor) -> int:
    """How many draws of the weights of all x."""
    return max(4, DRAWS // len(x))


def average_to_one(model: Model, draws: Sequence[Tensor]) -> str:
    """The sum over all x of E[w(x)], from draws of log w of every x."""
    measure = support(model.space)[1]
    totals = torch.stack([(log_weight.double().exp() * measure).sum() for log_weight in draws])
    mean, error = float(totals.mean()), float(totals.std() / math.sqrt(len(draws)))
    # a density on real numbers may leave mass outside the box of the levels, from where samples are clamped into it;
    # and of weights with heavy tails, rare large ones that these draws lack make up a part of the mean
    unseen = is_dequantised(model) or error > mean / 100
    least = 0.0 if unseen else 1 - FALSE_ALARMS * error - 1e-3
    return require(least <= mean <= 1 + FALSE_ALARMS * error + 1e-3, f"sum of E[w(x)] = {mean:.4f} ± {error:.4f}")


@torch.no_grad()
def bound_is_below(model: Model) -> str:
    """The exponentials of the bound sum to at most one."""
    x, measure = all_examples(model.space), support(model.space)[1]
    drawn = bounds(model, x, max(8, DRAWS // len(x)))
    while mean_variance(drawn) > SETTLED:
        needed = math.ceil(1.1 * len(drawn) * mean_variance(drawn) / SETTLED)
        if needed * len(x) > MANY:
            raise Skipped(f"the mean of the bound takes {needed:,} draws of each of {len(x):,} examples to settle")
        drawn = torch.cat([drawn, bounds(model, x, needed - len(drawn))])
    return sums_to_at_most_one(drawn, measure)


def bounds(model: Model, x: Tensor, n: int) -> Tensor:
    """``n`` draws of the bound of each x, (n, len(x))."""
    found = []
    for part in torch.arange(n).split(max(1, TOGETHER // len(x))):
        copies = x.repeat(len(part), *[1] * len(model.space.shape))
        found.append(model.elbo(*under(model, copies)).view(len(part), len(x)))
    return torch.cat(found)


@torch.no_grad()
def estimate_is_below(model: Model) -> str:
    """The exponentials of a discrete x's estimate, itself the draw of a bound, sum to at most one."""
    if not model.space.discrete or model.space.dim > 1:
        raise Skipped("the law is looked at for a single dimension of discrete values")
    x = everything(model.space)
    together = model.log_prob_estimate(*under(model, x.repeat(FEW, *[1] * len(model.space.shape))))
    return sums_to_at_most_one(together.view(FEW, len(x)))


def mean_variance(draws: Tensor) -> float:
    """The variance of the mean of draws of l(x), averaged over x by each one's share of the sum of its exp."""
    of_each = draws.double()
    return float((of_each.mean(0).softmax(0) * of_each.var(0)).sum() / len(draws))


def sums_to_at_most_one(draws: Tensor, measure: Tensor | float = 1.0) -> str:
    """The sum over all x of exp E[l(x)] times their measure, from draws of l of every x."""
    of_each = draws.double()
    variance = of_each.var(0) / len(of_each)  # of each mean; its exp is above the mean's own by half of that
    each = (of_each.mean(0) - variance / 2).exp() * measure
    total, error = float(each.sum()), float((each.square() * variance).sum().sqrt())
    return require(total <= 1.02, f"sum of exp(E l(x)) = {total:.4f} ± {error:.4f}")


@torch.no_grad()
def samples_follow_density(model: Model) -> str:
    """Samples have the frequencies, or the mean log-density, of the density."""
    n = 4000
    x = model.sample(*under(model, n), seed=1)
    if model.space.kind == "record":
        return record_follows(model, x)
    if is_small(model.space):
        place = (model.space.values or 0) ** torch.arange(model.space.dim - 1, -1, -1)
        seen = (x.flatten(1).long() * place).sum(1).bincount(minlength=len(everything(model.space))).double()
        expected = n * model.log_prob(*under(model, everything(model.space))).double().exp()
        return frequencies_agree(seen, expected)
    if is_plane(model.space):
        points, area = plane(model.space)
        log_p = model.log_prob(*under(model, points)).double()
        expected_mean = float((log_p.exp() * log_p.clamp_min(-1e3)).sum() * area)
        low, high = model.space.bounds or (-math.inf, math.inf)  # on the bounds lie samples that were moved there
        found = torch.where(((x > low) & (x < high)).all(1), model.log_prob(*under(model, x)).double(), 0.0)
        error = float(found.std() / math.sqrt(n))
        off = float(found.mean()) - expected_mean
        return require(
            abs(off) < FALSE_ALARMS * error + 0.02, f"mean log p of samples is off by {off:+.4f} ± {error:.4f}"
        )
    raise Skipped("the space is too large to compare")


def frequencies_agree(seen: Tensor, expected: Tensor) -> str:
    """By a chi-square test, of which cells with less than five expected samples are one."""
    frequent, n = expected >= 5, int(seen.sum())
    seen, expected = pooled(seen, frequent), pooled(expected, frequent)
    squares = float(((seen - expected).square() / expected.clamp_min(1e-9)).sum())
    free = len(expected) - 1
    limit = free + FALSE_ALARMS * math.sqrt(2 * max(free, 1)) + 10
    return require(squares <= limit, f"chi-square of {n} samples = {squares:.1f} on {free} degrees of freedom")


def record_follows(model: Model, x: Tensor) -> str:
    """The frequencies of a record's discrete values and of what is missing, and the mean log-density."""
    points, measure = support(model.space)
    log_p = model.log_prob(*under(model, points)).double()
    mass = log_p.exp() * measure
    real = torch.tensor([not part.discrete for _, part in model.space.parts])
    number = lambda rows: rows.masked_fill(real & ~rows.isnan(), 0.0).nan_to_num(-1.0)  # noqa: E731
    groups, cell = torch.cat([number(points), number(x)]).unique(dim=0, return_inverse=True)
    expected = torch.zeros(len(groups), dtype=torch.float64).index_add_(0, cell[: len(points)], mass * len(x))
    said = frequencies_agree(cell[len(points) :].bincount(minlength=len(groups)).double(), expected)
    found = model.log_prob(*under(model, x)).double()
    off, error = float(found.mean() - (mass * log_p.clamp_min(-1e3)).sum()), float(found.std() / math.sqrt(len(x)))
    require(abs(off) < FALSE_ALARMS * error + 0.02, f"mean log p of samples is off by {off:+.4f} ± {error:.4f}")
    return said


def pooled(counts: Tensor, kept: Tensor) -> Tensor:
    """The kept cells, and all others as one."""
    return torch.cat([counts[kept], counts[~kept].sum()[None]]) if (~kept).any() else counts[kept]


@torch.no_grad()
def refuses_other_data(model: Model) -> str:
    """A batch that is not of the space is refused with one line."""
    if kind_of(model) is None:
        raise Skipped("the model has no likelihood")
    x = some(model.space)
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
        raise Broken(f"{what} was taken")
    return ", ".join(wrong)


def energy_is_smooth(model: Model) -> str:
    """The energy is finite and follows x."""
    with torch.no_grad():
        x = some(model.space, 16)
        energy = model.energy(*under(model, x))
        require(bool(energy.isfinite().all()) and energy.shape == (16,), f"energies {energy.tolist()[:3]}")
        return require(float(energy.std()) > 0, f"standard deviation of the energy = {float(energy.std()):.3g}")
