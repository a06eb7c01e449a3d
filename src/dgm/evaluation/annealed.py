r"""log p(x) by annealed importance sampling: of a model with a continuous code, and of one with an unknown log Z.

The path leads from the prior to the posterior, f_beta(z) = p(z) p(x|z)^beta, whose constants are Z_0 = 1 and Z_1 =
p(x). Of data that was simulated from the model, z is an exact sample of the posterior, and the way back bounds log p(x)
from above.

The log Z of an energy-based model does not depend on x: its estimates from both ends are given with their intervals.

Source: On the quantitative analysis of decoder-based generative models (Wu et al., 2017), arXiv:1611.04273, section 4.
Differs from it: step sizes are tuned by chains of their own, and an expensive decoder gets fewer examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from dgm.errors import Unsupported
from dgm.likelihood import Kind, Likelihood
from dgm.modes import device_of, evaluating
from dgm.networks.conditions import marginal_of, name_of
from dgm.progress import Progress, Remaining, silent
from dgm.protocols import (
    AnnealedConstant,
    BaseModel,
    Batch,
    Conditions,
    JointDensity,
    JointModel,
    Model,
    PerExample,
    condition_of,
    has,
    nested,
)
from dgm.samplers.ais import annealed_importance, geometric, log_mean, sigmoid_schedule
from dgm.samplers.hmc import HMC, Density, tuned
from dgm.seeds import Streams

CHAINS, LEAPFROGS = 8, 10
EXAMPLES, FEWEST = 100, 5  # held-out examples, and as many simulated ones, at most and at least
WORK = 1e13  # floating-point operations within which the examples are at most that many: ten minutes of a core or less
PASSES = 3  # of the chains of each example: held-out, and simulated from both ends
TUNING = 100  # chains for the tuning of step sizes, about
TOGETHER = 800  # chains in one batch
Z = 1.96  # half the width of a 95 % interval, in standard errors


class Bracket(NamedTuple):
    """A lower and an upper bound on log p(x) of simulated x, each (B,), in nats; both hold in expectation."""

    x: Batch
    lower: PerExample
    upper: PerExample


class Path:
    """The path from the prior to the posterior of each x, with ``chains`` chains for each.

    Args:
        x: (B, *shape).
        y: The conditions of x, or None.
        temperatures: K, steps of the path.
        done: Called with the number of chains after each gradient of them.
    """

    def __init__(
        self,
        model: JointModel,
        x: Batch,
        y: Conditions | None,
        *,
        temperatures: int,
        chains: int,
        done: Callable[[int], None] = lambda chains: None,
    ) -> None:
        self.model, self.chains, self.betas, self.done = model, chains, sigmoid_schedule(temperatures), done
        self.x = x.repeat_interleave(chains, 0)
        self.y = None if y is None else y.repeat_interleave(chains, 0)
        rows = range(len(self.x))
        self.start, other = (self.prior_codes(Streams(int(torch.randint(2**62, ())), rows, x.device)) for _ in range(2))
        few = for_tuning(len(rows))
        step_sizes = tuned(self.log_density_of(few), other[few], self.betas, leapfrogs=LEAPFROGS).step_sizes
        self.transition = HMC(self.log_density_of(slice(None)), step_sizes, leapfrogs=LEAPFROGS)

    def prior_codes(self, noise: Streams) -> Tensor:
        z: Tensor = self.model.prior_code(noise, self.y)
        return z.detach()

    def log_likelihood(self, z: Tensor, rows: slice = slice(None)) -> Tensor:
        with torch.set_grad_enabled(z.requires_grad):
            return self.model.likelihood(self.x[rows], z, self.given(rows))

    def given(self, rows: slice) -> Conditions | None:
        return None if self.y is None else self.y[rows]

    def log_density_of(self, rows: slice) -> Density:
        """log f_beta of some of the chains."""

        def log_density(z: Tensor, beta: float) -> Tensor:
            self.done(len(z))
            return self.model.log_prior(z, self.given(rows)) + beta * self.log_likelihood(z, rows)

        return log_density

    def log_mean_weight(self, z: Tensor, betas: list[float]) -> PerExample:
        """The log of the mean weight of the chains of each x, (B,)."""
        step = geometric(self.log_likelihood, self.transition)
        for state in annealed_importance(z, step, betas):
            log_weight = state.log_weight
        return log_mean(log_weight.view(-1, self.chains))

    def lower(self) -> PerExample:
        return self.log_mean_weight(self.start, self.betas)

    def upper(self, posterior: Tensor) -> PerExample:
        """From exact samples of the posterior (B, latent), one of each x."""
        return -self.log_mean_weight(posterior.repeat_interleave(self.chains, 0), self.betas[::-1])


def for_tuning(chains: int) -> slice:
    """The chains that step sizes are tuned by: some of each example, if there are more than enough."""
    return slice(None, None, max(1, chains // TUNING))


def annealed_log_prob(
    model: JointModel,
    x: Batch,
    y: Conditions | None,
    *,
    temperatures: int,
    chains: int = CHAINS,
    progress: Progress = silent,
) -> PerExample:
    """A stochastic lower bound on log p(x) in nats, (B,), that is tighter the more temperatures there are."""
    return in_batches(model, x, y, Path.lower, 1, temperatures=temperatures, chains=chains, progress=progress)


def bracket(
    model: JointModel, n: int, *, temperatures: int, seed: int, chains: int = CHAINS, progress: Progress = silent
) -> Bracket:
    """A lower and an upper bound on log p(x) of ``n`` examples that are simulated from the model."""
    with evaluating(model), torch.no_grad():
        noise = Streams(seed, range(n), device_of(model))
        y = None if condition_of(model) is None else marginal_of(model).draw(noise)
        z = model.prior_code(noise, y)
        x = model.sample_given_code(z, y, seed=noise)
    codes = iter(z.split(together(chains)))

    def both(path: Path) -> Tensor:
        return torch.stack([path.lower(), path.upper(next(codes))], 1)

    found = in_batches(model, x, y, both, 2, temperatures=temperatures, chains=chains, progress=progress)
    return Bracket(x, *found.unbind(1))


def in_batches(
    model: JointModel,
    x: Batch,
    y: Conditions | None,
    of: Callable[[Path], Tensor],
    passes: int,
    *,
    temperatures: int,
    chains: int,
    progress: Progress,
) -> Tensor:
    """The results of ``of``, which makes ``passes`` passes along the paths, for one block of examples after another."""
    device, size = device_of(model), together(chains)
    rows = torch.arange(len(x)).split(size)
    total = sum(gradients(len(part) * chains, temperatures, passes) for part in rows)
    work = Remaining(progress, total, f"annealing {len(x)} examples at {temperatures} temperatures")
    found = []
    with evaluating(model):
        for part in rows:
            given = None if y is None else y[part].to(device)
            path = Path(model, x[part].to(device), given, temperatures=temperatures, chains=chains, done=work.done)
            found.append(of(path).cpu())
    return torch.cat(found)


def together(chains: int) -> int:
    """The number of examples in one batch."""
    return max(1, TOGETHER // chains)


def gradients(chains: int, temperatures: int, passes: int) -> int:
    """The number of gradients of one chain that the paths of one batch take."""
    tuning = len(range(chains)[for_tuning(chains)])
    return (LEAPFROGS + 1) * (tuning * (temperatures + 1) + passes * chains * temperatures)


class Operations(TorchDispatchMode):
    """Counts the floating-point operations of matrix products and convolutions; torch's own mode refuses gradients."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **kwargs or {})
        if (count := flop_registry.get(func._overloadpacket)) is not None:
            self.total += count(*args, **kwargs or {}, out_val=out)
        return out


def examples_within(model: JointModel, x: Batch, y: Conditions | None, temperatures: int) -> int:
    """The number of examples whose annealing, with that of as many simulated ones, takes at most `WORK` operations."""
    device = device_of(model)
    given = None if y is None or condition_of(model) is None else y[:1].to(device)
    with Operations() as counter, evaluating(model):
        Path(model, x[:1].to(device), given, temperatures=1, chains=1)
    each = counter.total / gradients(1, 1, 0)
    within = WORK / max(1, each * (LEAPFROGS + 1) * PASSES * CHAINS * temperatures)
    return min(len(x), max(FEWEST, min(EXAMPLES, int(within))))


def annealed_likelihood(
    model: JointModel, x: Batch, y: Conditions | None, *, temperatures: int, progress: Progress = silent
) -> Likelihood:
    """`annealed_log_prob` with its kind."""
    if not has(model, JointDensity):
        raise no_densities(model)
    given = None if y is None or condition_of(model) is None else y
    nats = annealed_log_prob(model, x, given, temperatures=temperatures, progress=progress)
    condition = None if given is None or model.condition is None else name_of(model.condition)
    return Likelihood(
        nats, Kind.LOWER_BOUND, f"annealed importance sampling, {stated(temperatures)}", model.space.dim, condition
    )


def bracket_in_words(
    model: JointModel, n: int, temperatures: int, seed: int, progress: Progress = silent
) -> dict[str, Any]:
    """The bracket of simulated data, for an evaluation."""
    found = bracket(model, n, temperatures=temperatures, seed=seed, progress=progress)
    gap = found.upper - found.lower
    return {
        "n": n,
        "lower": float(found.lower.mean()),
        "upper": float(found.upper.mean()),
        "gap": float(gap.mean()),
        "gap_se": float(gap.std() / math.sqrt(n)),
        "rule": f"log p(x) of data simulated from the model, by annealing forward and back, {stated(temperatures)}",
    }


def stated(temperatures: int) -> str:
    return f"{temperatures} temperatures, {CHAINS} chains, {LEAPFROGS} leapfrog steps"


def refuse_without_densities(model: Model) -> None:
    if not has(model, JointDensity) and constant_of(model) is None:
        raise no_densities(model)


def no_densities(model: BaseModel) -> Unsupported:
    wrong = f"{type(model).__name__} of {model.space} has no p(z) and p(x|z) of a continuous code to anneal between"
    return Unsupported(wrong, "leave annealed out")


# -- an unknown log Z


def constant_of(model: Model) -> Model | None:
    """The model, or the part of it, whose log Z can be estimated by annealing."""
    return next((part for part in nested(model) if has(part, AnnealedConstant)), None)


@contextmanager
def annealed_at(model: Model, temperatures: int) -> Iterator[None]:
    """Gives the estimate of log Z so many temperatures, for a while; 0 leaves their number as it is."""
    part = constant_of(model)
    if part is None or not temperatures:
        yield
        return
    before, part.temperatures = part.temperatures, temperatures
    try:
        yield
    finally:
        part.temperatures = before


def constant_in_words(model: Model, y: Conditions | None) -> dict[str, Any]:
    """Both estimates of log Z with their 95 % intervals, for an evaluation; of conditions, their mean over ``y``."""
    part: Any = constant_of(model)
    with evaluating(model), torch.no_grad():
        forward, backward = (part.log_z_weights(y, backward=way).cpu() for way in (False, True))
    found = {"forward": interval(forward, 1), "backward": interval(backward, -1)}
    gap = found["backward"]["log_z"] - found["forward"]["log_z"]
    counted = f"{part.temperatures:,} temperatures, {forward.shape[1]} chains"
    return found | {"gap": gap, "n": len(forward), "rule": f"log Z by annealing forward and back, {counted}"}


def interval(log_weight: Tensor, sign: int) -> dict[str, float]:
    """log Z from weights (n, chains) whose mean is Z^sign, and its 95 % interval by the delta method."""
    w = log_weight.sub(log_weight.max(1, keepdim=True).values).exp()
    error = w.std(1) / w.mean(1) / math.sqrt(w.shape[1])
    log_z = sign * log_mean(log_weight).mean()
    half = Z * float(error.square().sum().sqrt()) / len(w)
    return {"log_z": float(log_z), "low": float(log_z) - half, "high": float(log_z) + half}
