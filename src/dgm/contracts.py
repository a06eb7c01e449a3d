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

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor

from dgm import registry
from dgm.errors import BadInput, DgmError
from dgm.inputs import model_given
from dgm.likelihood import kind_of, log_likelihood
from dgm.networks.embeddings import classes_of
from dgm.networks.raster import reading_order, to_sequence
from dgm.protocols import (
    Autoregressive,
    BoundedLikelihood,
    Denoising,
    EstimatedLikelihood,
    ExactLikelihood,
    Fittable,
    ImportanceWeighted,
    Latent,
    Model,
    MultiPlayer,
    Progressive,
    Samplable,
    Trainable,
    Unnormalised,
)
from dgm.samplers import diffusion
from dgm.samplers.diffusion import Solving
from dgm.sampling import sample
from dgm.seeds import Streams
from dgm.space import Space

DRAWS = 4000  # of stochastic weights, a whole table of examples each
MANY = 2048  # of a bound, before its law gives up
SETTLED = 0.1  # of the bound's mean: the largest variance, averaged over all x, that exp of it can be corrected for
FEW = 2  # of what takes an ODE's solution each
ROUNDING = 1e-6  # of the largest gradient: in float32 what should cancel leaves about a tenth of that
FALSE_ALARMS = 5.0  # standard errors that a statistic may be off: a false alarm in a million
PLANE = Space.continuous((2,))
SMALL: tuple[Space, ...] = (
    Space.binary((1, 3, 3)),
    Space.levels((1, 2, 2), 3),
    Space.levels((1,), 256),  # as fine as a picture's: what holds of three levels may fail of many
    Space.tokens(3, 3),
    PLANE,
    Space.continuous((2,), low=0.0, high=4.0),
)


class Broken(Exception):
    """What a law found, with the numbers."""


class Skipped(Exception):
    """Why a law had nothing to look at."""


class Outcome(StrEnum):
    HOLDS = "holds"
    BROKEN = "broken"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Result:
    """What came of one law: ``detail`` has the numbers, or the reason why the law was skipped."""

    law: str
    outcome: Outcome
    detail: str
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether the law looked, and found that it holds."""
        return self.outcome is Outcome.HOLDS


def check(model: Model) -> Iterator[Result]:
    """Runs every law that is about the capabilities of ``model``."""
    model_given(model)
    for law, about in LAWS.items():
        if all(isinstance(model, capability) for capability in about):
            yield run(law, model)


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
    return Result(name, outcome, detail, time.perf_counter() - started)


def small_models(name: str, **config: Any) -> Iterator[tuple[Space, Model]]:
    """A model on each small space that it takes, its parameters moved off their start, where zeros hide mistakes."""
    for space in SMALL:
        try:
            torch.manual_seed(0)
            model = registry.create(name, space, **config)
        except BadInput:
            continue
        yield space, jolted(model)


@torch.no_grad()
def jolted(model: Model) -> Model:
    for parameter in model.parameters():
        # wide layers sum many of these: as much as moves them, and not so much that scales overflow
        parameter.add_(torch.randn_like(parameter) * min(0.1, 2 / math.sqrt(math.prod(parameter.shape[1:]) or 1)))
    return model.eval()


def require(holds: bool, detail: str) -> str:
    if not holds:
        raise Broken(detail)
    return detail


def everything(space: Space) -> Tensor:
    """All examples of a small discrete space."""
    values = range(space.values or 0)
    rows = torch.tensor(list(itertools.product(values, repeat=space.dim)))
    return rows.reshape(-1, *space.shape).to(space.dtype)


def some(space: Space, n: int = 8) -> Tensor:
    """Examples spread over a space."""
    if space.discrete:
        return torch.randint(space.values or 2, (n, *space.shape)).to(space.dtype)
    x = torch.randn(n, *space.shape)
    if space.bounds is not None:
        low, high = space.bounds
        return low + (high - low) * (x / 2).sigmoid()
    return x


def plane(space: Space = PLANE) -> tuple[Tensor, float]:
    """The midpoints of a grid on the space's own square, or on [-12, 12]², and the area of a cell."""
    (low, high), cells = (space.bounds, 200) if space.bounds else ((-12.0, 12.0), 400)
    side = torch.linspace(low, high, cells + 1)
    middle = (side[1:] + side[:-1]) / 2
    return torch.cartesian_prod(middle, middle), float(side[1] - side[0]) ** 2


def is_plane(space: Space) -> bool:
    return space.kind == "continuous" and space.shape == (2,)


def under(model: Model, x: Tensor | int) -> tuple[Any, ...]:
    """A batch, or a number of samples, with what a model with labels takes besides: the last label for each."""
    n, classes = x if isinstance(x, int) else len(x), classes_of(model)
    return (x, torch.full((n,), classes - 1)) if classes else (x,)


def is_small(space: Space) -> bool:
    return space.discrete and (space.values or 0) ** space.dim <= 4096


# -- likelihood


@torch.no_grad()
def density_sums_to_one(model: Model) -> str:
    """The density sums to one."""
    x, area = support(model.space)
    total = float(model.log_prob(*under(model, x)).double().exp().sum()) * area
    if model.space.discrete:
        return require(abs(total - 1) < 1e-4, f"sum of p(x) over all x = {total:.6f}")
    if model.space.bounds is None:
        return require(abs(total - 1) < 1e-2, f"integral of p(x) over a grid = {total:.4f}")
    # a density that reaches beyond the bounds has its samples from there moved onto them
    beyond, error = clamped_share(model)
    found = f"integral of p(x) within the bounds = {total:.4f}, share of the samples on them = {beyond:.4f}"
    return require(abs(total + beyond - 1) < 1e-2 + FALSE_ALARMS * error, found)


def support(space: Space) -> tuple[Tensor, float]:
    """All x of a small space and 1, or a grid of the plane and the area of a cell."""
    return plane(space) if is_plane(space) else (all_examples(space), 1.0)


def all_examples(space: Space) -> Tensor:
    if not is_small(space):
        raise Skipped("the space is too large to sum over")
    return everything(space)


def clamped_share(model: Model, n: int = 4000) -> tuple[float, float]:
    """The share of samples on the bounds of the space, and its standard error; 0 of a model that draws none."""
    low, high = model.space.bounds
    if not isinstance(model, Samplable):
        return 0.0, 0.0
    x = model.sample(*under(model, n), seed=1)
    share = float(((x <= low) | (x >= high)).flatten(1).any(1).double().mean())
    return share, math.sqrt(max(share, 1 / n) / n)


@torch.no_grad()
def weights_sum_to_one(model: Model) -> str:
    """The importance weights of all x sum to one on average."""
    x = all_examples(model.space)
    repeats = max(4, DRAWS // len(x))
    totals = torch.stack([model.log_weight(*under(model, x)).double().exp().sum() for _ in range(repeats)])
    mean, error = float(totals.mean()), float(totals.std() / math.sqrt(repeats))
    # a density on real numbers may leave mass outside the box of the levels, from where samples are clamped into it;
    # and of weights with heavy tails, rare large ones that these draws lack make up a part of the mean
    unseen = hasattr(model, "dequantised") or error > mean / 100
    least = 0.0 if unseen else 1 - FALSE_ALARMS * error - 1e-3
    return require(least <= mean <= 1 + FALSE_ALARMS * error + 1e-3, f"sum of E[w(x)] = {mean:.4f} ± {error:.4f}")


@torch.no_grad()
def bound_is_below(model: Model) -> str:
    """The exponentials of the bound sum to at most one."""
    x = all_examples(model.space)
    drawn = [model.elbo(*under(model, x)) for _ in range(max(8, DRAWS // len(x)))]
    while mean_variance(drawn) > SETTLED and len(drawn) < MANY:
        drawn += [model.elbo(*under(model, x)) for _ in drawn]
    if mean_variance(drawn) > SETTLED:
        raise Skipped(f"the mean of {len(drawn)} draws of the bound still has a variance of {mean_variance(drawn):.2g}")
    return sums_to_at_most_one(drawn)


@torch.no_grad()
def estimate_is_below(model: Model) -> str:
    """The exponentials of a discrete x's estimate, itself the draw of a bound, sum to at most one."""
    if not model.space.discrete or model.space.dim > 1:
        raise Skipped("the law is looked at for a single dimension of discrete values")
    x = everything(model.space)
    together = model.log_prob_estimate(*under(model, x.repeat(FEW, *[1] * len(model.space.shape))))
    return sums_to_at_most_one(together.view(FEW, len(x)))


def mean_variance(draws: Sequence[Tensor]) -> float:
    """The variance of the mean of draws of l(x), averaged over the examples x."""
    return float(torch.stack([*draws]).double().var(0).mean() / len(draws))


def sums_to_at_most_one(draws: Sequence[Tensor] | Tensor) -> str:
    """The sum over all x of exp E[l(x)], from draws of l of every x."""
    of_each = torch.stack([*draws]).double()
    variance = of_each.var(0) / len(of_each)  # of each mean; its exp is above the mean's own by half of that
    each = (of_each.mean(0) - variance / 2).exp()
    total, error = float(each.sum()), float((each.square() * variance).sum().sqrt())
    return require(total <= 1.02, f"sum of exp(E l(x)) = {total:.4f} ± {error:.4f}")


@torch.no_grad()
def samples_follow_density(model: Model) -> str:
    """Samples have the frequencies, or the mean log-density, of the density."""
    n = 4000
    x = model.sample(*under(model, n), seed=1)
    if is_small(model.space):
        place = (model.space.values or 0) ** torch.arange(model.space.dim - 1, -1, -1)
        seen = (x.flatten(1).long() * place).sum(1).bincount(minlength=len(everything(model.space))).double()
        expected = n * model.log_prob(*under(model, everything(model.space))).double().exp()
        frequent = expected >= 5
        seen, expected = pooled(seen, frequent), pooled(expected, frequent)
        squares = float(((seen - expected).square() / expected.clamp_min(1e-9)).sum())
        free = len(expected) - 1
        limit = free + FALSE_ALARMS * math.sqrt(2 * max(free, 1)) + 10
        return require(squares <= limit, f"chi-square of {n} samples = {squares:.1f} on {free} degrees of freedom")
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


@torch.no_grad()
def no_dimension_sees_its_future(model: Model) -> str:
    """Changing a dimension leaves the conditionals of it and of those before it as they were."""
    x = some(model.space, 4)
    before = to_sequence(model.conditionals(*under(model, x)), model.space)
    moved_later = 0.0
    for i, dim in enumerate(reading_order(model.space)):
        other = x.clone()
        flat = other.view(len(x), -1)
        other_value = flat[:, dim].double() + 1  # in double, since 256 is no uint8
        flat[:, dim] = (other_value % model.space.values if model.space.values else other_value).to(x.dtype)
        change = (to_sequence(model.conditionals(*under(model, other)), model.space) - before).abs().amax((0, 2))
        if change[: i + 1].any():
            raise Broken(f"dimension {int(change[: i + 1].argmax())} sees dimension {i}")
        moved_later = max(moved_later, float(change.max()))
    return require(moved_later > 0 or model.space.dim == 1, f"later conditionals move by up to {moved_later:.3g}")


@torch.no_grad()
def conditionals_make_the_density(model: Model) -> str:
    """log p(x) is the sum of the conditionals' log-probabilities."""
    x = some(model.space)
    total = model.observed.log_prob(model.conditionals(*under(model, x)), x).flatten(1).sum(1)
    error = float((model.log_prob(*under(model, x)) - total).abs().max())
    return require(error < 1e-4, f"largest difference {error:.2g} nats")


@torch.no_grad()
def steps_are_the_conditionals(model: Model) -> str:
    """What is computed one dimension at a time equals what is computed at once."""
    x = some(model.space)
    at_once = to_sequence(model.conditionals(*under(model, x)), model.space)
    seen = torch.zeros_like(x)
    worst, steps = 0.0, model.steps(*under(model, seen))
    for i, (dim, outputs) in enumerate(zip(reading_order(model.space), steps, strict=True)):
        worst = max(worst, float(((outputs - at_once[:, i]).abs() / (1 + at_once[:, i].abs())).max()))
        seen.view(len(x), -1)[:, dim] = x.flatten(1)[:, dim]
    return require(worst < 1e-4, f"largest relative difference {worst:.2g}")


@torch.no_grad()
def estimate_integrates_to_one(model: Model) -> str:
    """The exponentials of the estimate make up one."""
    if model.space.shape != (2,) or model.space.bounds is not None:
        raise Skipped("the law is looked at in the plane alone")
    # the ODE whose density it is: a solver with noise has another law where the score is no density's own
    ode = Solving(solver="heun", steps=50)
    denoises = isinstance(model, Denoising)
    labelled = under(model, 300)
    x = diffusion.sample(model, *labelled, seed=0, solving=ode) if denoises else model.sample(*labelled, seed=0)
    steps, half = torch.linspace(-1, 1, 41), 7 * x.std(0)
    points, area = x.mean(0) + torch.cartesian_prod(steps, steps) * half, float((half * (steps[1] - steps[0])).prod())
    total = float(model.log_prob_estimate(*under(model, points)).double().exp().sum() * area)
    return require(abs(total - 1) < 2e-2, f"integral of exp(estimate) over a grid = {total:.4f}")


@torch.no_grad()
def endpoints_lie_on_the_path(model: Model) -> str:
    """What is expected of data and of noise leads to x_t, with a label and without."""
    t = torch.linspace(max(model.t_min, 0.02), 0.98, 16)
    x_t, worst = torch.randn(16, *model.space.shape), 0.0
    for y in (None, labels(model, 16)):
        ends = model.endpoints(x_t, t, y)
        mean, std = model.path.marginal(ends[0], t)
        worst = max(worst, float(((mean + std * ends[1] - x_t) / (1 + x_t.abs() + mean.abs())).abs().max()))
    return require(worst < 1e-4, f"largest relative difference {worst:.2g}")


def energy_is_smooth(model: Model) -> str:
    """The energy is finite and follows x."""
    with torch.no_grad():
        x = some(model.space, 16)
        energy = model.energy(*under(model, x))
        require(bool(energy.isfinite().all()) and energy.shape == (16,), f"energies {energy.tolist()[:3]}")
        return require(float(energy.std()) > 0, f"standard deviation of the energy = {float(energy.std()):.3g}")


# -- codes and flows


def code_inverts(model: Model) -> str:
    """decode(encode(x)) is x for a model with an exact density."""
    with torch.no_grad():
        x = some(model.space, 16)
        error = float((model.decode(*under(model, model.encode(*under(model, x)))).double() - x.double()).abs().max())
    return require(error < 1e-3, f"largest error {error:.2g}")


def log_determinant_is_the_jacobians(model: Model) -> str:
    """log p(x) is log N(z; 0, I) plus the log-determinant of z's Jacobian by autodiff."""
    x = some(model.space, 4)
    jacobian = torch.stack(
        [torch.autograd.functional.jacobian(lambda v: model.encode(*under(model, v[None]))[0], row) for row in x]
    )
    with torch.no_grad():
        z, d = model.encode(*under(model, x)).flatten(1).double(), model.space.dim
        expected = -0.5 * (z.square() + math.log(2 * math.pi)).sum(1)
        expected += torch.linalg.slogdet(jacobian.reshape(4, d, d).double())[1]
        error = float((model.log_prob(*under(model, x)).double() - expected).abs().max())
    return require(error < 1e-3, f"largest difference {error:.2g} nats")


# -- samples


@torch.no_grad()
def samples_lie_in_the_space(model: Model) -> str:
    """Samples lie in the space."""
    x = model.space.check(model.sample(16, seed=0))
    return require(x.dtype == model.space.dtype and len(x) == 16, f"16 of {x.dtype}")


@torch.no_grad()
def sample_depends_on_its_number_alone(model: Model) -> str:
    """Sample k depends on the seed and on k alone."""
    together, other = model.sample(12, seed=3), model.sample(12, seed=4)
    apart = torch.cat([model.sample(5, seed=Streams(3, range(5))), model.sample(7, seed=Streams(3, range(5, 12)))])
    # networks round differently in batches of different size, and a rounded level can tip over
    same = (together.double() - apart.double()).abs() < 1e-3
    share = float(same.double().mean())
    require(share > 0.97, f"{1 - share:.1%} of the values change with the batch")
    return require(bool((together != other).any()), "batches of 12 and of 5 + 7 agree, and another seed differs")


@torch.no_grad()
def trajectory_ends_in_the_sample(model: Model) -> str:
    """The trajectory's last state is the sample."""
    states = list(model.trajectory(4, seed=5))
    x = model.sample(4, seed=5)
    require(states[-1].step == states[-1].steps, f"the last state is step {states[-1].step} of {states[-1].steps}")
    return require(bool(torch.equal(states[-1].x, x)), f"{len(states)} states")


# -- training


def loss_reaches_every_parameter(model: Model) -> str:
    """The loss is one finite value an example, and every parameter has a gradient."""
    if model.space.dim == 1:
        raise Skipped("the parameters between dimensions have nothing to do for a single one")
    model.train()
    x, y = some(model.space, 64), labels(model, 64)
    loss = model.loss(x, y)
    require(loss.shape == (64,) and bool(loss.isfinite().all()), f"a loss of shape {tuple(loss.shape)}")
    model.zero_grad()
    loss.mean().backward()
    largest = {
        name: 0.0 if p.grad is None else float(p.grad.abs().max())
        for name, p in model.named_parameters()
        if p.requires_grad
    }
    missing = [name for name, size in largest.items() if size <= ROUNDING * max(largest.values())]
    model.zero_grad()
    model.eval()
    return require(not missing, f"no gradient for {', '.join(missing)}" if missing else "all have one")


def players_descend_their_own(model: Model) -> str:
    """Each player's loss reaches its own parameters, and the discriminator's no one else's."""
    model.train()
    seen: list[str] = []
    for player, loss in model.losses(some(model.space, 16), labels(model, 16)):
        require(
            loss.shape == (16,) and bool(loss.isfinite().all()), f"{player} has a loss of shape {tuple(loss.shape)}"
        )
        parameters = [p for p in model.get_submodule(player).parameters() if p.requires_grad]
        others = [p for p in model.parameters() if all(p is not q for q in parameters)] if not seen else []
        gradients = torch.autograd.grad(loss.mean(), parameters + others, retain_graph=True, allow_unused=True)
        require(
            all(g is not None for g in gradients[: len(parameters)]), f"{player}'s loss misses some of its parameters"
        )
        require(all(g is None for g in gradients[len(parameters) :]), f"{player}'s loss reaches another player")
        seen.append(player)
    model.eval()
    return require(len(seen) > 1, f"players {', '.join(seen)}")


def passes_gain(model: Model) -> str:
    """Each pass over the data gains likelihood."""
    batches = [(some(model.space, 64), None) for _ in range(2)]
    losses = [loss for loss, _ in zip(model.fit(batches), range(6), strict=False)]
    # dequantising noise is drawn anew at each pass, and a regularised M-step may lose a little
    slack = 0.5 * model.space.dim if hasattr(model, "dequantised") else 0.05
    worst = max((b - a for a, b in itertools.pairwise(losses)), default=0.0)
    return require(worst < slack and losses[-1] <= losses[0] + slack, f"losses {', '.join(f'{v:.3f}' for v in losses)}")


def labels_are_checked(model: Model) -> str:
    """A label where none were trained, or one out of range, is refused with one line."""
    x, y = some(model.space, 2), torch.tensor([0, classes_of(model)])
    try:
        if classes_of(model) and not isinstance(model, Fittable):
            list(model.losses(x, y) if isinstance(model, MultiPlayer) else model.loss(x, y))
        elif kind_of(model) is not None:
            log_likelihood(model, x, y)
        else:
            sample(model, 2, y)
    except DgmError as error:
        return str(error)
    raise Broken(f"label {classes_of(model)} was taken by a model of {classes_of(model)} labels")


@torch.no_grad()
def description_makes_it_again(model: Model) -> str:
    """Its description and its weights make the same model again."""
    again = registry.from_description(registry.describe(model), type(getattr(model, "dequantised", model)))
    again.load_state_dict(model.state_dict())
    again.eval()
    if isinstance(model, Samplable):
        return require(bool(torch.equal(model.sample(4, seed=2), again.sample(4, seed=2))), "the same samples")
    return "the weights fit"


def labels(model: Model, n: int) -> Tensor | None:
    classes = classes_of(model)
    return torch.randint(classes, (n,)) if classes else None


# law -> the capabilities that a model must have for it
LAWS: Mapping[Callable[[Model], str], tuple[type, ...]] = {
    density_sums_to_one: (ExactLikelihood,),
    weights_sum_to_one: (ImportanceWeighted,),
    bound_is_below: (BoundedLikelihood,),
    samples_follow_density: (ExactLikelihood, Samplable),
    no_dimension_sees_its_future: (Autoregressive,),
    conditionals_make_the_density: (Autoregressive, ExactLikelihood),
    steps_are_the_conditionals: (Autoregressive,),
    estimate_integrates_to_one: (EstimatedLikelihood,),
    estimate_is_below: (EstimatedLikelihood,),
    endpoints_lie_on_the_path: (Denoising,),
    code_inverts: (ExactLikelihood, Latent),
    log_determinant_is_the_jacobians: (ExactLikelihood, Latent),
    energy_is_smooth: (Unnormalised,),
    refuses_other_data: (),
    samples_lie_in_the_space: (Samplable,),
    sample_depends_on_its_number_alone: (Samplable,),
    trajectory_ends_in_the_sample: (Samplable, Progressive),
    loss_reaches_every_parameter: (Trainable,),
    players_descend_their_own: (MultiPlayer,),
    passes_gain: (Fittable,),
    labels_are_checked: (),
    description_makes_it_again: (),
}
