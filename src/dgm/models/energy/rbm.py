r"""Restricted Boltzmann machine, trained by contrastive divergence."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, logsigmoid
from torch.utils.checkpoint import checkpoint

from dgm.distributions.units import Draws, Noise, bernoulli, visible_units
from dgm.networks.conditioning import condition_vector
from dgm.networks.conditions import EVERY_KIND, Marginal, check_condition, is_label, sampled_condition
from dgm.protocols import (
    AnnealedConstant,
    Batch,
    Conditions,
    DataDependent,
    EstimatedLikelihood,
    ExactLikelihood,
    PerExample,
    Progressive,
    Samplable,
    State,
    Stateful,
    Trainable,
    Unnormalised,
)
from dgm.samplers.ais import annealed_importance, late_schedule, log_mean
from dgm.samplers.gibbs import block_gibbs
from dgm.seeds import Seed, in_turn, streams
from dgm.settings import setting
from dgm.space import Space

ENUMERATED = 20  # hidden units, at most, whose states are summed over
TOGETHER = 1 << 12  # states of the hidden units in one block of the sum
# of annealed importance sampling: temperatures by default, chains, and chains of each condition that is not a label
TEMPERATURES, CHAINS, OF_EACH = 1000, 100, 10


class RBM(nn.Module):
    r"""Restricted Boltzmann machine; an exact log-likelihood with up to 20 hidden units, an estimate with more.

    .. math::
        E(v, h) = -\log m(v) - t(v)^T (a + W h) - b^T h, \qquad
        F(v) = -\log m(v) - t(v)^T a - \sum_j \operatorname{softplus}(b_j + t(v)^T W_j), \qquad
        p(v) = e^{-F(v)} / Z

    h is binary. v is binary with t(v) = v and m(v) = 1, or a scaled real number with t(v) = v / sigma² and Gaussian
    p(v|h) = N(a + W h, sigma²). The loss of an example is F(v) - F(v'), whose gradient is that of contrastive
    divergence. v' is the state after k sweeps of block Gibbs sampling, from v itself or, with ``chains`` of them,
    from a persistent chain. The loss is no likelihood. A persistent chain is kept as its h, drawn given the last v'.

    With up to 20 hidden units, log Z is a sum over their 2^H states. With more, it is estimated by annealed importance
    sampling from independent units, with fixed random numbers, so that equal weights have equal estimates; the estimate
    of log Z is a lower bound in expectation, so that log p(x) is overstated. `log_z_weights` anneals backward too.

    A condition y shifts the hidden biases, b(y) = b + U y, and Z(y) follows: log p(x|y). A persistent chain goes on
    under the condition of the example that it is used for.

    Source: Training products of experts by minimizing contrastive divergence (Hinton, 2002), equation 5; persistent
    chains, Tieleman, 2008; log Z, On the quantitative analysis of deep belief networks (Salakhutdinov & Murray, 2008),
    equations 12-17 and, for the temperatures, section 4.1; conditions, Larochelle & Bengio, 2008, equation 1.
    Differs from them: a sample's chain is annealed from independent units in the first half of its sweeps; the loss
    given a label is that of p(x|y), not of p(x, y).

    Args:
        space: Binary or continuous. Other data is dequantised by `dgm.create`.

    Example:
        >>> rbm = RBM(Space.binary((6,)), RBM.Config(hidden=4))
        >>> rbm.log_prob(torch.zeros(2, 6, dtype=torch.uint8)).shape
        torch.Size([2])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        hidden: int = setting(500, "H, hidden units; up to 20, the likelihood is exact", low=1)
        gibbs_steps: int = setting(1, "k, Gibbs sweeps of the chains in each training step", low=1, high=100_000)
        chains: int = setting(
            0, "persistent chains; 0 for chains that start at the data, contrastive divergence", low=0, high=100_000
        )
        sampling_steps: int = setting(500, "Gibbs sweeps of a sample", low=2, high=1_000_000)

    spaces: ClassVar[set[str]] = {"binary", "continuous"}
    conditions: ClassVar[frozenset[str]] = EVERY_KIND
    defaults: ClassVar[dict[str, Any]] = {"batch": 100, "lr": 2e-3, "select": "last"}

    base: Tensor
    started: Tensor
    persistent: Tensor

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__()
        self.space, self.config, self.condition = space, config, condition
        self.visible = visible_units(space)
        self.W = nn.Parameter(0.01 * torch.randn(space.dim, config.hidden))
        self.a, self.b = nn.Parameter(torch.zeros(space.dim)), nn.Parameter(torch.zeros(config.hidden))
        self.U = condition_vector(condition, config.hidden)
        self.marginal = None if condition is None else Marginal(condition)
        self.register_buffer("base", torch.zeros(space.dim))  # a of the independent units that annealing starts from
        self.register_buffer("started", torch.tensor(False))
        likelihood = ExactLikelihood if self.is_exact else EstimatedLikelihood
        has: set[type] = {Trainable, DataDependent, Samplable, Progressive, Unnormalised, AnnealedConstant, likelihood}
        if config.chains:
            start = torch.randint(2, (config.chains, config.hidden), generator=torch.Generator().manual_seed(0))
            self.register_buffer("persistent", start.to(self.base))
            has.add(Stateful)
        self.capabilities = frozenset(has)
        self.constants = Remembered()
        self.temperatures = TEMPERATURES

    @property
    def is_exact(self) -> bool:
        return self.config.hidden <= ENUMERATED

    @property
    def likelihood_method(self) -> str:
        if self.is_exact:
            return f"log Z by a sum over 2^{self.config.hidden} hidden states"
        chains = CHAINS if self.condition is None or is_label(self.condition) else OF_EACH
        return f"log Z by annealed importance sampling, {self.temperatures:,} temperatures, {chains} chains"

    # -- energies

    def hidden_bias(self, y: Conditions | None) -> Tensor:
        """b(y): (B, H), or (1, H) without a condition."""
        y = check_condition(y, self.condition)
        return self.b[None] if self.U is None else self.b + self.U(y)

    def scaled(self, x: Batch) -> Tensor:
        """v, (B, D)."""
        return self.visible.encode(x).to(self.a)

    def inputs(self, v: Tensor, b: Tensor) -> Tensor:
        """b + t(v) W, the inputs of the hidden units, (n, H)."""
        return torch.addmm(b, self.visible.statistic(v), self.W).to(self.b)  # also where autocast multiplies in bf16

    def free_energy(self, v: Tensor, inputs: Tensor) -> PerExample:
        by_units = (self.visible.statistic(v) * self.a).sum(1)  # a product with a vector is slow in bf16
        return logsigmoid(-inputs).sum(1) - by_units - self.visible.log_measure(v)

    def energy(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """F of the scaled x, minus the log-determinant of the scaling."""
        v = self.scaled(x)
        return self.free_energy(v, self.inputs(v, self.hidden_bias(y))) - self.visible.ladj

    def log_prob(self, x: Batch, y: Conditions | None = None) -> PerExample:
        return self.normalised(x, y, self.log_z)

    def log_prob_estimate(self, x: Batch, y: Conditions | None = None) -> PerExample:
        return self.normalised(x, y, self.log_z_estimate)

    def normalised(self, x: Batch, y: Conditions | None, log_z: Callable[[Tensor], Tensor]) -> PerExample:
        v, b = self.scaled(x), self.hidden_bias(y)
        of_b = log_z(b) if torch.is_grad_enabled() else self.constants(self, b, log_z)
        return self.visible.ladj - self.free_energy(v, self.inputs(v, b)) - of_b

    # -- training

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """The difference of the free energy between data and the ends of the chains."""
        return self.loss_and_outputs(x, y)[0]

    def loss_and_outputs(self, x: Batch, y: Conditions | None = None) -> tuple[PerExample, tuple[Tensor, ...]]:
        """The loss and, with persistent chains, the hidden states that they end in."""
        v, b = self.scaled(x), self.hidden_bias(y)
        noise = Draws(len(v), v.device)
        with torch.no_grad():
            h = self.next_chains(len(v)) if self.config.chains else bernoulli(self.inputs(v, b), noise)
            end = self.after_sweeps(self.visible_given(h, noise), b, noise, self.config.gibbs_steps - 1)
        both = torch.cat([v, end])  # one product for the gradient of W is faster than two
        inputs = self.inputs(both, b if len(b) == 1 else torch.cat([b, b]))
        of_data, of_ends = self.free_energy(both, inputs).chunk(2)
        ends = inputs.detach()[len(v) :]
        return of_data - of_ends, (bernoulli(ends, noise),) if self.config.chains else ()

    def next_chains(self, n: int) -> Tensor:
        """The hidden states of the n persistent chains whose turn it is, (n, H)."""
        return self.persistent[in_turn(n, self.config.chains, self.persistent.device)]

    @torch.no_grad()
    def initialise(self, x: Batch, y: Conditions | None = None) -> None:
        """The visible biases of independent units with the moments of the batch."""
        if self.started:
            return
        self.base.copy_(self.visible.fit(self.scaled(x)))
        self.a.copy_(self.base)
        self.started.fill_(True)

    def after_step(self, *outputs: Tensor) -> None:
        """The persistent chains that went on come last, with their new hidden states."""
        (ends,) = outputs
        self.persistent.copy_(torch.cat([self.persistent[len(ends) :], ends])[-self.config.chains :])

    # -- sampling

    def conditionals(self, b: Tensor, noise: Noise, beta: float = 1.0) -> Sequence[Callable[[Tensor, Tensor], Tensor]]:
        """The draws of h given v, and of v given h, at an inverse temperature beta; see `annealing_step`."""
        return (
            lambda h, v: bernoulli(beta * self.inputs(v, b), noise),
            lambda h, v: self.visible_given(h, noise, beta),
        )

    def visible_given(self, h: Tensor, noise: Noise, beta: float = 1.0) -> Tensor:
        eta = torch.addmm(self.base.lerp(self.a, beta), h, self.W.mT, alpha=beta)
        return self.visible.draw(eta.to(self.a), noise)

    def independent(self, noise: Noise) -> Tensor:
        """Draws of the independent units at beta = 0."""
        return self.visible.draw(self.base[None], noise)

    def after_sweeps(self, v: Tensor, b: Tensor, noise: Noise, sweeps: int, beta: float = 1.0) -> Tensor:
        """v after sweeps that draw h, then v."""
        for _, state in block_gibbs([v, v], self.conditionals(b, noise, beta), sweeps=sweeps):
            v = state
        return v

    @torch.no_grad()
    def trajectory(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Iterator[State]:
        """A chain from the independent units; beta rises from 0 to 1 in its first half.

        In float64: a rounding error that flips one unit changes all later states, and it depends on the batch.
        """
        noise, exact = streams(n, seed, self.a.device), copy.deepcopy(self).double()
        b = exact.hidden_bias(sampled_condition(y, self, noise))
        for k, v in enumerate(exact.chain(b, noise), 1):
            yield State(self.visible.decode(v), k, self.config.sampling_steps)

    def chain(self, b: Tensor, noise: Noise) -> Iterator[Tensor]:
        v, sweeps = self.independent(noise), self.config.sampling_steps
        for k in range(1, sweeps + 1):
            v = self.after_sweeps(v, b, noise, 1, min(1.0, 2 * k / sweeps))
            yield v

    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        for state in self.trajectory(n, y, seed=seed):
            x = state.x
        return x

    # -- the normalising constant

    def log_z(self, b: Tensor) -> Tensor:
        """log Z of each row of hidden biases (n, H), by a sum over the states of the hidden units."""

        def of(states: Tensor) -> Tensor:
            h = (states[:, None] >> torch.arange(self.config.hidden, device=b.device) & 1).to(b)
            return (b @ h.mT + self.visible.log_partition(linear(h, self.W, self.a))).logsumexp(1)

        blocks = torch.arange(1 << self.config.hidden, device=b.device).split(TOGETHER)
        parts = [checkpoint(of, states, use_reentrant=False) for states in blocks]  # so that no block is stored
        return torch.stack(parts).logsumexp(0)

    def log_z_estimate(self, b: Tensor) -> Tensor:
        """log Z of each row of hidden biases, the log of the mean weight of the annealed chains."""
        return log_mean(self.annealed(b, self.temperatures)).to(b)

    def log_z_weights(
        self, y: Conditions | None = None, *, temperatures: int | None = None, backward: bool = False
    ) -> Tensor:
        return self.annealed(self.hidden_bias(y), temperatures or self.temperatures, backward=backward)

    @torch.no_grad()
    def annealed(self, b: Tensor, temperatures: int, *, backward: bool = False) -> Tensor:
        """log w of annealed chains for each row of hidden biases, (n, chains) float64, with E[w] = Z, or 1 / Z.

        Forward chains start from independent units, backward ones where the chains of samples end, which is a sample of
        the model only as far as these have converged.
        """
        chains = CHAINS if self.condition is None or is_label(self.condition) else OF_EACH
        with torch.random.fork_rng([b.device] if b.is_cuda else []):
            return torch.stack([self.annealed_for(row, temperatures, chains, backward) for row in b])

    def annealed_for(self, b: Tensor, temperatures: int, chains: int, backward: bool, seed: int = 0) -> Tensor:
        """Those of one row of hidden biases, (chains,), with random numbers that do not depend on other rows."""
        torch.manual_seed(seed)
        noise, betas = Draws(chains, b.device), late_schedule(temperatures)
        v = self.independent(noise)
        if backward:
            *_, v = self.chain(b.expand(chains, -1), noise)
        for state in annealed_importance(v, self.annealing_step(b, noise), betas[::-1] if backward else betas):
            log_weight = state.log_weight
        log_z_0 = self.config.hidden * math.log(2) + float(self.visible.log_partition(self.base))
        return log_weight - log_z_0 if backward else log_weight + log_z_0

    def annealing_step(self, b: Tensor, noise: Noise) -> Callable[[Tensor, float, float], tuple[Tensor, Tensor]]:
        r"""The step of annealing along a path from independent units with the biases a_0 to the model.

        .. math:: \log f_\beta(v) = \log m(v) + t(v)^T ((1 - \beta) a_0 + \beta a) + \sum_j
            \operatorname{softplus}(\beta (b_j + t(v)^T W_j))
        """
        towards = self.a - self.base

        def step(v: Tensor, before: float, after: float) -> tuple[Tensor, Tensor]:
            inputs = self.inputs(v, b)
            of_hidden = (logsigmoid(-before * inputs) - logsigmoid(-after * inputs)).sum(1)
            log_ratio = of_hidden + (after - before) * (self.visible.statistic(v) @ towards)
            return log_ratio, self.visible_given(bernoulli(after * inputs, noise), noise, after)

        return step


class Remembered:
    """Values of rows of hidden biases, for as long as the weights stay as they are."""

    def __init__(self) -> None:
        self.weights: list[Tensor] = []
        self.values: dict[bytes, Tensor] = {}

    def __call__(self, model: RBM, b: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """``compute`` of each row of ``b``, (n,)."""
        now = [tensor for name, tensor in model.state_dict().items() if name != "persistent"]
        now.append(torch.tensor(model.temperatures))
        if [t.device for t in now] != [t.device for t in self.weights] or not all(map(torch.equal, now, self.weights)):
            self.weights, self.values = [tensor.clone() for tensor in now], {}
        rows, which = b.unique(dim=0, return_inverse=True)
        keys = [row.cpu().numpy().tobytes() for row in rows]
        if new := [k for k, key in enumerate(keys) if key not in self.values]:
            self.values |= dict(zip([keys[k] for k in new], compute(rows[new]), strict=True))
        return torch.stack([self.values[key] for key in keys])[which]
