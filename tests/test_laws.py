"""Each law of the contract between a model that just breaks it and one that just holds it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dgm import contracts
from dgm.contracts import Outcome
from dgm.errors import BadInput
from dgm.protocols import Model, State
from dgm.registry import create
from dgm.space import Space

BITS, PLANE = Space.binary((1, 2, 3)), Space.continuous((2,))
ZEROS = torch.zeros(4, *BITS.shape, dtype=torch.uint8)
Broken = Callable[[Any], Callable[..., Any]]  # of the right method


class Bits(nn.Module):
    """Independent bits that can do everything that a law is about."""

    @dataclass(frozen=True, kw_only=True)
    class Config: ...

    def __init__(self) -> None:
        super().__init__()
        self.space, self.config = BITS, self.Config()
        self.logits = nn.Parameter(torch.linspace(-1, 1, 6).reshape(1, 2, 3))

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return (x * self.logits - nn.functional.softplus(self.logits)).flatten(1).sum(1)

    log_weight = elbo = log_prob

    def loss(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return -self.log_prob(x)

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return -self.log_prob(x)

    @torch.no_grad()
    def sample(self, n: int, y: Tensor | None = None, *, seed: Any = None) -> Tensor:
        from dgm.seeds import streams

        return (streams(n, seed).uniform(BITS.shape) < self.logits.sigmoid()).to(torch.uint8)

    def trajectory(self, n: int, y: Tensor | None = None, *, seed: Any = None) -> Iterator[State]:
        yield State(torch.zeros(n, *BITS.shape), 1, 2)
        yield State(self.sample(n, seed=seed), 2, 2)

    def fit(self, batches: Any) -> Iterator[float]:
        yield from (2.0, 1.5, 1.54, 1.4)


class Coded(Bits):
    """The bits, with codes from N(0, I) that say nothing of them."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_space = Space.continuous((4,))

    def code_and_log_ratio(self, x: Tensor, y: Tensor | None = None, mean: float = 0.0) -> tuple[Tensor, Tensor]:
        z = mean + torch.randn(len(x), 4)
        return z, self.log_prob(x) - torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)


class Copied(Bits):
    """Bits that are their own code."""

    latent_space, deterministic_codes = BITS, True

    def code_and_log_ratio(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x, torch.zeros(len(x))


class Normal(nn.Module):
    """N(0, I) in the plane, by itself as its code."""

    def __init__(self) -> None:
        super().__init__()
        self.space, self.config = PLANE, SimpleNamespace()
        self.latent_space = PLANE

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1)

    log_prob_estimate = log_prob

    def sample(self, n: int, y: Tensor | None = None, *, seed: Any = None) -> Tensor:
        from dgm.seeds import streams

        return streams(n, seed).normal((2,))

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return x

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return z

    def encode_and_ladj(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x, x.new_zeros(len(x))


def added(constant: float, noise: float = 0.0) -> Broken:
    """What a method gives, and something besides."""
    return lambda right: lambda *a, **k: (v := right(*a, **k)) + constant + noise * torch.randn_like(v)


def instead(*values: Any) -> Broken:
    return lambda right: lambda *a, **k: iter(values)


def then(change: Callable[[Tensor], Tensor]) -> Broken:
    return lambda right: lambda x, y=None: change(right(x))


def sampled(change: Callable[[Tensor], Tensor]) -> Broken:
    return lambda right: lambda n, y=None, *, seed=None: change(right(n, seed=seed))


def another_batch(right: Any) -> Any:
    return lambda n, y=None, *, seed=None: right(n, seed=seed).roll(n % 2, 0)


def one_seed(right: Any) -> Any:
    return lambda n, y=None, *, seed=None: right(n, seed=seed if not isinstance(seed, int) else 3)


def first_of_five(x: Tensor) -> Tensor:
    """One of twelve samples differs in a batch of five."""
    return x + (len(x) == 5) * (torch.arange(len(x)) == 0)[:, None]


def made() -> Model:
    return contracts.perturbed(create("made", BITS, hidden=16))


def ddpm() -> Model:
    return contracts.perturbed(create("ddpm", PLANE, width=8))


def given_ddpm() -> Model:
    return contracts.perturbed(create("ddpm", PLANE, Space.categories(3), width=8))


def integers() -> Model:
    return contracts.perturbed(create("integer_flow", Space.levels((2,), 4), hidden=8))


def off(z: float = 0.0, ladj: float = 0.0) -> Broken:
    """The code, or what stands beside it, is off."""
    return lambda right: lambda x, y=None: tuple(v + by for v, by in zip(right(x), (z, ladj), strict=True))


def leaning(right: Any) -> Any:
    """The conditionals of the last dimension move with itself, by a little."""
    return lambda x, y=None: right(x) + 1e-5 * x[..., None] * (torch.arange(6) == 5).view(1, 1, 2, 3, 1)


def once(broken: Broken) -> Broken:
    """The same of the first example alone."""

    def first(new: Any, old: Any) -> Any:
        return torch.cat([new[:1], old[1:]]) if isinstance(new, Tensor) else tuple(map(first, new, old))

    return lambda right: lambda x, y=None: first(broken(right)(x), right(x))


def all_one(right: Any) -> Any:
    """The same code for all x."""
    return lambda x, y=None: (torch.ones_like(x), right(x)[1])


def stopped(right: Any) -> Any:
    """The sample in a state that is not the last."""
    return lambda n, y=None, *, seed=None: (state._replace(sampling_step=1) for state in right(n, seed=seed))


def off_the_path(share: float, *, given: bool = False) -> Broken:
    """The predicted data is off; with ``given`` only under a condition."""

    def broken(right: Any) -> Any:
        def predict(x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Any:
            predicted = right(x_t, t, y)
            return predicted[0] * (1 + share * (y is not None or not given)), predicted[1]

        return predict

    return broken


def counting(right: Any) -> Any:
    """The loss, with its number added: the second call differs from the first."""
    calls = itertools.count()
    return lambda x, y=None: right(x) + 1e-6 * next(calls)


def moving(right: Any) -> Any:
    """The loss of a weight that it moves, which no random state puts back."""

    def loss(x: Tensor, y: Tensor | None = None) -> Tensor:
        found = right(x)
        right.__self__.logits.data += 1e-3
        return found

    return loss


def with_a_count() -> Model:
    model = Bits()
    model.register_buffer("calls", torch.zeros(()))
    return model


def remembering(right: Any) -> Any:
    """The loss, which counts its calls and does not depend on the count."""
    return lambda x, y=None: (right.__self__.calls.add_(1), right(x))[1]


def shifted_steps(by: float) -> Broken:
    return lambda right: lambda x, y=None: (outputs + by for outputs in right(x, y))


BETWEEN: list[tuple[Any, Callable[[], Any], str, Broken, Broken | None]] = [
    # law, model, the method that is changed: so that the law breaks, and so that it holds
    (contracts.density_sums_to_one, Bits, "log_prob", added(2e-4), added(5e-5)),
    (contracts.density_sums_to_one, Bits, "log_prob", added(-2e-4), added(-5e-5)),
    (contracts.density_sums_to_one, Normal, "log_prob", added(0.02), added(0.005)),
    (contracts.weights_sum_to_one, Bits, "log_weight", added(0.002), added(0.0005)),
    (contracts.weights_sum_to_one, Bits, "log_weight", added(-0.002), added(-0.0005)),
    (contracts.weights_sum_to_one, Bits, "log_weight", added(0.0, 0.3), added(-0.045, 0.3)),
    (contracts.weights_sum_to_one, Bits, "log_weight", added(-0.01), added(-6.0, 2.0)),  # weights that are rare
    (contracts.bound_sums_to_at_most_one, Bits, "elbo", added(0.03), added(0.01)),
    (contracts.bound_sums_to_at_most_one, Bits, "elbo", added(0.1, 2.0), added(-0.05, 2.0)),
    (contracts.samples_follow_density, Bits, "sample", sampled(lambda x: x.flip(-1)), sampled(lambda x: x)),
    (contracts.samples_follow_density, Bits, "log_prob", added(0.5), added(0.0)),
    (contracts.samples_follow_density, Normal, "sample", sampled(lambda x: 1.1 * x), sampled(lambda x: 1.01 * x)),
    (contracts.samples_follow_density, Normal, "sample", sampled(lambda x: 0.9 * x), sampled(lambda x: 0.99 * x)),
    (contracts.conditionals_are_autoregressive, made, "conditionals", leaning, None),
    (contracts.conditionals_are_autoregressive, made, "conditionals", once(leaning), None),
    (contracts.conditionals_are_autoregressive, made, "conditionals", then(torch.zeros_like), None),
    (contracts.density_is_the_product_of_conditionals, made, "log_prob", added(2e-4), added(5e-5)),
    (
        contracts.sequential_conditionals_agree,
        made,
        "sequential_conditionals",
        shifted_steps(3e-4),
        shifted_steps(5e-5),
    ),
    (
        contracts.sequential_conditionals_agree,
        made,
        "sequential_conditionals",
        shifted_steps(-3e-4),
        shifted_steps(-5e-5),
    ),
    (contracts.estimate_integrates_to_one, Normal, "log_prob_estimate", added(0.03), added(0.01)),
    (contracts.estimate_integrates_to_one, Normal, "log_prob_estimate", added(-0.03), added(-0.01)),
    (contracts.predictions_reconstruct_x_t, ddpm, "predict", off_the_path(1e-2), off_the_path(1e-6)),
    (contracts.predictions_reconstruct_x_t, given_ddpm, "predict", off_the_path(1e-2, given=True), None),
    (contracts.energy_depends_on_x, Bits, "energy", lambda right: lambda x, y=None: torch.ones(len(x)), None),
    (contracts.energy_depends_on_x, Bits, "energy", added(math.nan), added(1.0)),
    (contracts.energy_depends_on_x, Bits, "energy", then(lambda energy: energy[:, None]), None),
    (contracts.decode_inverts_encode, Normal, "decode", added(2e-3), added(5e-4)),
    (contracts.decode_inverts_encode, Normal, "decode", once(added(2e-3)), None),
    (contracts.log_determinant_matches_the_jacobian, Normal, "encode_and_ladj", off(ladj=2e-3), off(ladj=5e-4)),
    (contracts.log_determinant_matches_the_jacobian, Normal, "encode_and_ladj", once(off(ladj=2e-3)), None),
    (contracts.log_determinant_matches_the_jacobian, integers, "encode_and_ladj", off(ladj=1.0), None),
    (contracts.log_determinant_matches_the_jacobian, Normal, "encode_and_ladj", off(z=2e-3), off(z=5e-4)),
    (contracts.codes_lie_in_the_latent_space, Normal, "encode", added(math.inf), added(1.0)),
    (contracts.codes_lie_in_the_latent_space, Normal, "encode", then(Tensor.double), None),
    (contracts.codes_lie_in_the_latent_space, Normal, "decode", then(Tensor.double), None),
    (contracts.weights_under_any_prior_sum_to_one, Coded, "code_and_log_ratio", partial(partial, mean=0.5), None),
    (contracts.weights_under_any_prior_sum_to_one, Copied, "code_and_log_ratio", off(ladj=2e-4), off(ladj=5e-5)),
    (contracts.weights_under_any_prior_sum_to_one, Copied, "code_and_log_ratio", all_one, None),
    (contracts.weights_under_any_prior_sum_to_one, Coded, "code_and_log_ratio", off(ladj=0.2), off(z=0.0)),
    (contracts.laws.code_length_is_the_likelihood, made, "log_prob", added(1.3), added(0.8)),
    (contracts.laws.code_length_is_the_likelihood, made, "log_prob", added(-0.6), added(-0.2)),
    (contracts.samples_lie_in_the_space, Bits, "sample", sampled(lambda x: 2 * x), None),
    (contracts.samples_lie_in_the_space, Bits, "sample", sampled(lambda x: x.long()), None),
    (contracts.samples_lie_in_the_space, Bits, "sample", sampled(lambda x: x[1:]), None),
    (contracts.sample_depends_on_seed_and_index_alone, Normal, "sample", another_batch, sampled(lambda x: x + 1)),
    (contracts.sample_depends_on_seed_and_index_alone, Normal, "sample", one_seed, None),
    (contracts.sample_depends_on_seed_and_index_alone, Normal, "sample", sampled(first_of_five), None),
    (contracts.trajectory_ends_in_the_sample, Bits, "trajectory", instead(State(ZEROS, 2, 2)), None),
    (contracts.trajectory_ends_in_the_sample, Bits, "trajectory", stopped, None),
    (contracts.every_parameter_has_a_gradient, Bits, "loss", lambda right: lambda x, y=None: right(x).mean(), None),
    (contracts.every_parameter_has_a_gradient, Bits, "loss", added(math.inf), added(1.0)),
    (contracts.loss_has_no_side_effects, Bits, "loss", counting, added(0.0, 0.5)),
    (contracts.loss_has_no_side_effects, Bits, "loss", moving, None),
    (contracts.loss_has_no_side_effects, with_a_count, "loss", remembering, None),
    (contracts.fitting_increases_the_likelihood, Bits, "fit", instead(2.0, 1.5, 1.6, 1.4), instead(2.0, 1.5, 1.54)),
    (contracts.fitting_increases_the_likelihood, Bits, "fit", instead(2.0, 2.04, 2.08), instead(2.0, 2.04)),
]


@pytest.mark.parametrize(("law", "model", "method", "broken", "held"), BETWEEN)
def test_a_law_lies_between_what_breaks_it_and_what_holds_it(
    law: Any, model: Callable[[], Any], method: str, broken: Broken, held: Broken | None
) -> None:
    for change, outcome in ((lambda right: right, Outcome.HOLDS), (broken, Outcome.BROKEN), (held, Outcome.HOLDS)):
        if change is not None:
            looked_at = model()
            setattr(looked_at, method, change(getattr(looked_at, method)))
            result = contracts.run(law, looked_at)
            assert result.outcome is outcome, result.detail


@pytest.mark.parametrize("taken", ["another shape", "another type", "a value too large", "NaN"])
def test_other_data_has_to_be_refused(taken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = Normal() if taken == "NaN" else Bits()

    def careless(model: Any, x: Tensor) -> None:
        kinds = {
            "another shape": x.ndim != len(model.space.shape) + 1,
            "another type": x.is_floating_point() == model.space.discrete,
            "a value too large": not x.is_floating_point() and bool((x > 1).any()),
            "NaN": bool(x.isnan().any()),
        }
        if not kinds[taken]:
            raise BadInput("no", "go")

    assert contracts.run(contracts.invalid_data_is_refused, model).passed
    monkeypatch.setattr(contracts.likelihood, "log_likelihood", careless)
    result = contracts.run(contracts.invalid_data_is_refused, model)
    assert result.outcome is Outcome.BROKEN
    assert taken in result.detail


def test_players_have_to_reach_their_own_and_the_first_no_other() -> None:
    class Game(nn.Module):
        def __init__(self, leak: str) -> None:
            super().__init__()
            self.space, self.config, self.leak = PLANE, SimpleNamespace(), leak
            self.discriminator, self.generator = nn.Linear(2, 1), nn.Linear(2, 2)

        def losses(self, x: Tensor, y: Tensor | None = None) -> Iterator[tuple[str, Tensor]]:
            fake = self.generator(x)
            judged = self.discriminator(fake if self.leak == "first" else fake.detach())
            first = (self.discriminator(x) + judged)[:, 0]
            yield "discriminator", first.mean() if self.leak == "shape" else first
            if self.leak != "one":
                yield "generator", (x if self.leak == "none" else self.discriminator(fake)).sum(1)

    for leak in ("", "first", "shape", "one", "none"):
        result = contracts.run(contracts.players_reach_their_own_parameters, Game(leak))
        assert result.passed == (leak == ""), result.detail


def test_labels_and_descriptions_have_to_be_kept() -> None:
    careless: Any = create("made", BITS, Space.categories(3), hidden=8)
    assert contracts.run(contracts.invalid_conditions_are_refused, careless).passed
    careless.loss = lambda x, y=None: x
    assert contracts.run(contracts.invalid_conditions_are_refused, careless).outcome is Outcome.BROKEN
    assert contracts.run(contracts.invalid_conditions_are_refused, create("made", BITS, hidden=8)).passed

    forgetful: Any = contracts.perturbed(create("made", BITS, hidden=8))
    assert contracts.run(contracts.description_rebuilds_the_model, forgetful).passed
    right = forgetful.sample
    forgetful.sample = lambda n, y=None, *, seed=None: 1 - right(n, y, seed=seed)
    assert contracts.run(contracts.description_rebuilds_the_model, forgetful).outcome is Outcome.BROKEN


def test_what_laws_look_at() -> None:
    """All of a small space once, examples all over a space, a grid's midpoints and its cells' area."""
    x = contracts.all_examples(Space.levels((2, 2), 3))
    assert len({tuple(row) for row in x.flatten(1).tolist()}) == len(x) == 81
    assert (x.min(), x.max(), x.dtype) == (0, 2, torch.uint8)
    assert contracts.is_small(Space.levels((12,), 2))
    assert not contracts.is_small(Space.levels((13,), 2))
    points, area = contracts.plane_grid()
    assert (len(points), area) == (100**2, pytest.approx(0.24**2, rel=1e-4))
    assert (points.min().item(), points.max().item()) == pytest.approx((-11.88, 11.88), abs=1e-4)
    points, area = contracts.plane_grid(Space.continuous((2,), low=1.0, high=3.0))
    assert (len(points), area) == (50**2, pytest.approx(0.04**2, rel=1e-4))
    assert (points.min().item(), points.max().item()) == pytest.approx((1.02, 2.98), abs=1e-4)
    assert contracts.random_examples(Space.levels((1,), 5), 500).flatten().bincount(minlength=5).min() > 60
    bounded = contracts.random_examples(Space.continuous((1,), low=-2.0, high=6.0), 500)
    assert -2 < bounded.min() < 0
    assert 4 < bounded.max() < 6
    counts, kept = torch.tensor([1.0, 20.0, 3.0]), torch.tensor([False, True, False])
    assert contracts.likelihood.pooled(counts, kept).tolist() == [20, 4]
    assert contracts.likelihood.pooled(counts, ~kept | kept).tolist() == [1, 20, 3]
    gaps = torch.tensor([1.0, math.nan, math.nan])
    assert contracts.examples.equal_values(gaps, torch.tensor([1.0, math.nan, 0.0])).tolist() == [True, True, False]
    ternary = torch.tensor([[0], [1], [2]], dtype=torch.uint8)
    assert contracts.examples.with_changed_value(Space.levels((1,), 3), ternary, 0).flatten().tolist() == [1, 2, 0]
    missing = contracts.random_examples(Space.record(a=Space.binary((), optional=True)), 900).isnan().double().mean()
    assert missing.item() == pytest.approx(1 / 3, abs=5 * 0.47 / 30)
    for value, other in ((0.9, -1.0), (1.0, -1.0), (-1.0, 1.0)):
        moved = contracts.conditions.moved(torch.tensor([[value]]), 0, Space.continuous((1,), low=-1.0, high=1.0))
        assert moved.item() == other


def test_statistics_that_laws_use() -> None:
    """The variance of the mean bound where exp of it is; chi-square on 100 degrees of freedom up to 181."""
    draws = torch.tensor([[0.0, -20.0], [0.0, -40.0]])
    weight = math.exp(-30)
    assert contracts.likelihood.mean_variance(draws) == pytest.approx(200 * weight / (1 + weight) / 2, rel=1e-4)
    sign = torch.arange(101) % 2 * 2.0 - 1
    for squares, holds in ((150, True), (200, False)):
        seen = 100 + sign * 10 * (squares / 101) ** 0.5
        law = lambda model, seen=seen: contracts.likelihood.frequencies_agree(seen, torch.full((101,), 100.0))  # noqa: E731
        assert contracts.run(law, Bits()).passed is holds


def test_a_gradient_is_missing_beside_one_that_is_a_million_times_as_large() -> None:
    class Uneven(Bits):
        def __init__(self, share: float) -> None:
            super().__init__()
            self.idle, self.share = nn.Parameter(torch.zeros(())), share

        def loss(self, x: Tensor, y: Tensor | None = None) -> Tensor:
            return 1e6 * super().loss(x) + self.share * self.idle

    for share, holds in ((0.01, False), (100.0, True)):
        assert contracts.run(contracts.every_parameter_has_a_gradient, Uneven(share)).passed is holds


def test_parameters_are_moved_by_a_tenth_or_less_in_wide_layers() -> None:
    narrow, wide = nn.Linear(100, 200), nn.Linear(10_000, 100)
    for layer, std in ((narrow, 0.1), (wide, 0.02)):
        before = layer.weight.clone()
        moved = contracts.perturbed(layer).weight - before
        assert moved.std().item() == pytest.approx(std, rel=0.03)
        assert abs(moved.mean().item()) < 5 * std / 20_000**0.5


def test_a_model_that_is_fitted_has_no_pass_left_to_gain_by() -> None:
    model = create("gmm", PLANE, components=1)
    model.fitted.fill_(True)
    model.gain.fill_(0.0)
    assert not list(model.fit([]))
    assert contracts.run(contracts.fitting_increases_the_likelihood, model).outcome is Outcome.SKIPPED
