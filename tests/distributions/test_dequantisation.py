"""Dequantisation against densities whose cells have known masses, and the capabilities that the wrapper passes on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.distributions import Beta

from dgm import contracts, protocols, registry
from dgm.distributions.dequantisation import Dequantised
from dgm.distributions.variational_dequantisation import LearntUnitCells
from dgm.errors import BadInput
from dgm.likelihood import Kind, kind_of, log_likelihood
from dgm.samplers import flow_density
from dgm.space import Space
from dgm.transforms.coupling import AffineCoupling

LEVELS = Space.levels((2,), 3)
BOX = Space.continuous((2,), low=0.0, high=3.0)
PLAYERS = ("generator", "discriminator")


@dataclass(frozen=True)
class Config:
    pass


class Bare(nn.Module):
    """A model of the box that can do nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.space, self.config = BOX, Config()


def beta(x: Tensor) -> Tensor:
    """log-density of x with x / 3 ~ Beta(2, 3) in each dimension: supported on the cells and nowhere else."""
    return (Beta(2.0, 3.0, validate_args=False).log_prob(x / 3) - math.log(3)).sum(1)


class Exact(Bare):
    likelihood_method = "closed form"

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return beta(x)


class Weighted(Bare):
    """Weights of the same density, each off by a factor of mean 1; its bound is below it by 1/8."""

    def log_weight(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return beta(x) + 0.5 * torch.randn(len(x)) - 0.125

    def elbo(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return beta(x) - 0.125


class Tilted(Bare):
    """log p(x) = a x + c, of which the mean over a cell is the value at its centre."""

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return (0.7 * x - math.log(math.expm1(2.1) / 0.7)).sum(1)


class Game(Bare):
    def __init__(self) -> None:
        super().__init__()
        self.generator, self.discriminator = nn.Linear(2, 2), nn.Linear(2, 1)

    def losses(self, x: Tensor, y: Tensor | None = None) -> Iterator[tuple[str, Tensor]]:
        for player in PLAYERS:
            yield player, self.get_submodule(player)(x).sum(1)


class Recorder(Bare):
    """What every other method of the protocols is given comes back."""

    def loss(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return x[:, 0]

    def fit(self, batches: Any) -> Iterator[Any]:
        for _ in range(2):
            yield [x for x, _ in batches]

    def sample(self, n: int, y: Tensor | None = None, *, seed: Any = None) -> Tensor:
        return torch.tensor([[-0.5, 0.0], [0.999, 1.0], [2.999, 3.0]])[:n]

    def trajectory(self, n: int, y: Tensor | None = None, *, seed: Any = None) -> Iterator[protocols.State]:
        yield protocols.State(self.sample(n), 1, 1)

    def log_prob_estimate(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return x[:, 0]

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return x.sum(1)

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return x

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return z


def dequantise(model: Any, space: Space) -> Dequantised:
    model.space = Space.continuous((2,), low=0.0, high=float(space.values or 0))
    return Dequantised(space, Dequantised.Config(), model=model)


def capabilities(model: Any) -> set[str]:
    return {capability.__name__ for capability in protocols.CAPABILITIES if protocols.has(model, capability)}


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        (Bare, set()),
        (Exact, {"BoundedLikelihood", "ImportanceWeighted"}),
        (Weighted, {"BoundedLikelihood", "ImportanceWeighted"}),
        (Game, {"MultiPlayer"}),
        (
            Recorder,
            {"Trainable", "Fittable", "Samplable", "Progressive", "EstimatedLikelihood", "Unnormalised", "Latent"},
        ),
    ],
)
def test_the_wrapper_can_do_what_the_model_within_allows(inner: type[Bare], expected: set[str]) -> None:
    assert capabilities(dequantise(inner(), LEVELS)) == expected


@pytest.mark.parametrize("inner", [Exact, Weighted])
def test_weights_average_to_the_masses_of_the_cells(inner: type[Bare]) -> None:
    model, x, repeats = dequantise(inner(), LEVELS), contracts.all_examples(LEVELS), 20_000
    w = model.log_weight(x.repeat(repeats, 1)).view(repeats, -1).exp()
    cdf = torch.from_numpy(stats.beta(2, 3).cdf([0, 1 / 3, 2 / 3, 1])).float()
    mass = cdf.diff()[x.long()].prod(1)
    error = w.std(0) / math.sqrt(repeats)
    assert ((w.mean(0) - mass).abs() < 5 * error).all()
    assert abs(w.sum(1).mean() - 1) < 5 * w.sum(1).std() / math.sqrt(repeats)


def test_the_bound_is_the_mean_over_the_cell() -> None:
    model, x, repeats = dequantise(Tilted(), LEVELS), contracts.all_examples(LEVELS), 4000
    draws = model.elbo(x.repeat(repeats, 1)).view(repeats, -1)
    expected = Tilted().log_prob(x + 0.5)
    assert ((draws.mean(0) - expected).abs() < 5 * draws.std(0) / math.sqrt(repeats)).all()


def test_a_model_with_a_bound_alone_keeps_its_gap() -> None:
    x = contracts.all_examples(LEVELS)
    bound, exact = (dequantise(inner, LEVELS).elbo(x.repeat(4000, 1)).view(4000, -1) for inner in (Weighted(), Exact()))
    error = math.hypot(float(bound.std(0).max()), float(exact.std(0).max())) / math.sqrt(4000)
    assert ((exact.mean(0) - bound.mean(0) - 0.125).abs() < 5 * error).all()


def test_its_likelihood_says_what_it_is() -> None:
    model = dequantise(Exact(), LEVELS)
    likelihood = log_likelihood(model, contracts.all_examples(LEVELS))
    assert likelihood.kind is Kind.LOWER_BOUND
    assert likelihood.method == "closed form, uniform dequantisation, 1 draw"
    assert kind_of(dequantise(Recorder(), LEVELS)) is Kind.ESTIMATE


def test_noise_never_leaves_its_cell() -> None:
    """In float32 65535 + u rounds to 65536 for one u in 512."""
    space = Space.levels((2,), 65536)
    x = torch.full((20_000, 2), 65535)
    lifted = dequantise(Recorder(), space).lift(x)
    assert torch.equal(lifted.floor().long(), x)


def test_learnt_noise_never_leaves_its_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the sigmoid is rounded to 1."""
    cells, x = learnt().cells, torch.tensor([[0, 2], [1, 1]])
    monkeypatch.setattr(cells.flow, "forward", lambda e, c: (torch.full_like(e, 90.0), torch.zeros(len(e))))
    v, _ = cells.lift(x)
    assert torch.equal(v.floor().long(), x)


def test_samples_are_floored_and_clamped() -> None:
    model = dequantise(Recorder(), LEVELS)
    expected = torch.tensor([[0, 0], [0, 1], [2, 2]], dtype=torch.uint8)
    assert torch.equal(model.sample(3), expected)
    assert torch.equal(next(model.trajectory(3)).x, expected)


def test_codes_and_energies_are_the_centres() -> None:
    model, x = dequantise(Recorder(), LEVELS), contracts.all_examples(LEVELS)
    assert torch.equal(model.decode(model.encode(x)), x)
    assert torch.equal(model.encode(x), x + 0.5)
    assert torch.equal(model.energy(x), x.sum(1) + 1.0)


def test_training_sees_new_noise_each_time() -> None:
    model, x = dequantise(Recorder(), LEVELS), torch.ones(500, 2, dtype=torch.uint8)
    for first, second in ((model.loss(x), model.loss(x)), next(zip(*model.fit([(x, None)]), strict=True))):
        assert (first.floor() == 1).all()
        assert (second.floor() == 1).all()
        assert not torch.equal(first, second)


def test_players_are_found_in_the_wrapper() -> None:
    model = dequantise(Game(), LEVELS)
    for (player, loss), own in zip(model.losses(contracts.all_examples(LEVELS)), PLAYERS, strict=True):
        assert model.get_submodule(player) is model.model.get_submodule(own)
        assert torch.autograd.grad(loss.sum(), model.get_submodule(player).weight)[0].any()


def test_noise_is_uniform_on_the_cell() -> None:
    lifted = dequantise(Recorder(), LEVELS).lift(torch.full((10_000, 2), 2, dtype=torch.uint8))
    assert stats.kstest(lifted.flatten().numpy(), stats.uniform(2, 1).cdf).pvalue > 1e-6


def test_labels_reach_the_model_within() -> None:
    x, y = torch.ones(4, 2, dtype=torch.uint8), torch.tensor([0, 1, 1, 0])

    class Told(Bare):
        def loss(self, x: Tensor, y: Tensor | None = None) -> Tensor:
            assert y is not None
            return x[:, 0] * 0 + y

        log_prob = log_prob_estimate = energy = loss

        def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
            return x + y[:, None]  # type: ignore[index]

        def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
            return z - y[:, None]  # type: ignore[index]

    torch.manual_seed(0)
    learnt = Dequantised(LEVELS, Dequantised.Config(noise="variational"), model=Told()).loss(x, y)
    torch.manual_seed(0)
    of_label_0 = Dequantised(LEVELS, Dequantised.Config(noise="variational"), model=Told()).loss(x, 0 * y)
    torch.testing.assert_close(of_label_0 - learnt, y.float(), rtol=0, atol=1e-5)  # it adds log p(v|y), which is y
    model = dequantise(Told(), LEVELS)
    for method in (model.loss, model.elbo, model.log_weight, model.log_prob_estimate, model.energy):
        assert method(x, y).tolist() == y.tolist()
    assert torch.equal(model.decode(model.encode(x, y), y), x)


def test_observed_integers_are_completed_from_the_centres_of_their_cells() -> None:
    class Centred(Bare):
        def impute(self, x: Tensor, observed: Tensor, y: Tensor | None = None, *, seed: Any = None) -> Tensor:
            assert x.tolist() == [[0.5, 2.5]]
            return torch.full_like(x, 1.9)

    found = dequantise(Centred(), LEVELS).impute(torch.tensor([[0, 2]]).byte(), torch.tensor([[True, False]]))
    assert found.tolist() == [[0, 1]]


def test_its_description_has_the_model_as_a_part() -> None:
    model = registry.create("realnvp", LEVELS, Space.categories(4), layers=2)
    described = registry.describe(model)
    assert (described["name"], described["config"]) == ("dequantised", {"noise": "uniform", "knots": 0})
    assert described["parts"]["model"]["space"] == BOX.to_json()
    assert registry.describe(registry.from_description(described)) == described


def test_a_model_of_another_box_is_refused() -> None:
    with pytest.raises(BadInput, match="cannot be dequantised"):
        Dequantised(Space.levels((2,), 4), Dequantised.Config(), model=Exact())


def test_buffers_and_penalties_of_the_model_within_are_the_wrappers() -> None:
    """On the same x + u that the loss sees, or one like it. Kills: outputs lost, a penalty of x itself."""

    class Within(Bare):
        def loss(self, x: Tensor, y: Tensor | None = None) -> Tensor:
            return x[:, 0]

        def loss_and_outputs(self, x: Tensor, y: Tensor | None = None) -> Any:
            return x[:, 0], (x,)

        def after_step(self, *outputs: Tensor) -> None:
            self.kept = outputs[0]

        def regularisers(self) -> Any:
            return [protocols.Regulariser("model", 4, lambda x, y: x[:, 1])]

    model, x = dequantise(Within(), LEVELS), torch.tensor([[0, 1], [2, 0]], dtype=torch.uint8)
    loss, outputs = model.loss_and_outputs(x)
    model.after_step(*outputs)
    assert torch.equal(model.model.kept[:, 0], loss)
    assert torch.equal(model.model.kept.floor(), x.float())
    (found,) = model.regularisers()
    assert (found.player, found.interval) == ("model", 4)
    penalty = found.penalty(x, None)
    assert torch.equal(penalty.floor(), x[:, 1].float())
    assert (penalty != x[:, 1]).all()
    assert {"Stateful", "Regularised"} <= capabilities(model)


def test_the_estimate_of_a_record_has_the_chosen_solver() -> None:
    """Kills: the solver of the model's default, the noise's density left out."""
    space = Space.record(age=Space.levels((), 9), pay=Space.continuous((), optional=True))
    model = contracts.perturbed(registry.create("flow_matching", space, width=8))
    x = torch.tensor([[3.0, 0.5], [8.0, math.nan]]).double()
    found = log_likelihood(model, x, solver="euler", solver_steps=3)
    assert "ODE by euler in 3 steps" in found.method
    default = log_likelihood(model, x, kind=Kind.ESTIMATE)
    assert "euler" not in default.method
    inner, drawn = model.model, model.cells.lift(x)
    model.cells.lift = lambda x: drawn
    v, log_q = drawn
    expected = flow_density.log_prob(inner, v, ode=flow_density.ODE(solver="euler", solver_steps=3)) - log_q
    again = log_likelihood(model, x, solver="euler", solver_steps=3)
    torch.testing.assert_close(again.nats.double(), expected, rtol=1e-5, atol=1e-5)  # float32


class Peaked(Bare):
    """v / 3 ~ Beta(a, b) in each dimension, which is steep within a cell."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return (Beta(8.0, 20.0, validate_args=False).log_prob(x / 3) - math.log(3)).sum(1)

    def loss(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return -self.log_prob(x)


def learnt() -> Dequantised:
    torch.manual_seed(0)
    return Dequantised(LEVELS, Dequantised.Config(noise="variational"), model=Peaked())


def random_weights(model: nn.Module, std: float) -> None:
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=std)


def test_the_ratio_of_a_code_and_its_prior_are_the_weight() -> None:
    """log N(z; 0, I) + log |dz/dv| - log q(v|x) of one v. Kills: the noise's density left out, which is not 1 here."""
    space = Space.record(a=Space.levels((), 5, optional=True), b=Space.continuous((), scale=(3.0,), loc=(0.0,)))
    model = contracts.perturbed(registry.create("realnvp", space, layers=2, hidden=8))
    x = torch.tensor([[2.0, 0.7], [math.nan, -4.0]]).double()
    torch.manual_seed(3)
    z, log_ratio = model.code_and_log_ratio(x)
    torch.manual_seed(3)
    torch.testing.assert_close(torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1) + log_ratio, model.log_weight(x))


def test_density_of_learnt_noise_is_that_of_the_change_of_variables() -> None:
    """Kills: the sign of the couplings' log-determinant; the slope of the sigmoid left out."""
    cells = learnt().cells.double()
    random_weights(cells.flow, 0.5)
    x = torch.tensor([[0, 2], [1, 1]]).double()
    torch.manual_seed(5)
    v, log_q = cells.lift(x)
    torch.manual_seed(5)
    epsilon = torch.randn(2, 2, dtype=torch.float64)

    def noise(e: Tensor, k: int) -> Tensor:
        return cells.flow(e[None], cells.scaling(x[k : k + 1]))[0][0].sigmoid()

    for k in range(2):
        jacobian = torch.autograd.functional.jacobian(lambda e, k=k: noise(e, k), epsilon[k])
        expected = torch.distributions.Normal(0, 1).log_prob(epsilon[k]).sum() - jacobian.det().abs().log()
        torch.testing.assert_close(log_q[k], expected)
        torch.testing.assert_close(v[k] - x[k], noise(epsilon[k], k))


def test_weights_of_learnt_noise_have_the_mass_of_the_cell_as_their_mean() -> None:
    """For any q, trained or not; kills: log q added in place of subtracted."""
    model = learnt()
    random_weights(model.cells.flow, 0.15)
    x = torch.tensor([[0, 1]]).expand(40_000, 2)
    masses = [stats.beta(8, 20).cdf((k + 1) / 3) - stats.beta(8, 20).cdf(k / 3) for k in (0, 1)]
    with torch.no_grad():
        weights = model.log_weight(x).double().exp()
    error = weights.std() / math.sqrt(len(weights))
    assert abs(weights.mean() - math.prod(masses)) < 4 * error < 0.1 * math.prod(masses)


def test_trained_noise_closes_the_gap_of_the_bound() -> None:
    """The gap to log P(x) in closed form: of uniform noise by quadrature, of learnt noise a tenth of it or less."""
    model = learnt()
    optimiser = torch.optim.Adam(model.cells.parameters(), lr=0.03)
    x = torch.tensor([[0, 1]])
    for _ in range(100):
        optimiser.zero_grad()
        model.loss(x.expand(128, 2)).mean().backward()
        optimiser.step()
    beta = stats.beta(8, 20)
    exact = sum(math.log(beta.cdf((k + 1) / 3) - beta.cdf(k / 3)) for k in (0, 1))
    grid = (torch.arange(2000) + 0.5) / 2000
    uniform = sum(float(Beta(8.0, 20.0).log_prob((k + grid) / 3).mean()) - math.log(3) for k in (0, 1))
    with torch.no_grad():
        bound = float(model.elbo(x.expand(4000, 2)).mean())
    assert bound < exact + 0.01
    assert exact - bound < 0.1 * (exact - uniform)


def test_what_has_no_variational_dequantisation_is_refused() -> None:
    with pytest.raises(BadInput, match="needs a flow, got a Game"):
        Dequantised(LEVELS, Dequantised.Config(noise="variational"), model=Game())
    with pytest.raises(BadInput, match="char_gpt does not dequantise a tokens space"):
        registry.create("char_gpt", Space.tokens(8, 5), dequantisation="variational")
    table = Space.record(age=Space.levels((), 9), pay=Space.continuous(()))
    with pytest.raises(BadInput, match="is of integers, got a table"):
        registry.create("realnvp", table, dequantisation="variational")


def test_a_model_with_learnt_noise_is_described() -> None:
    model = registry.create("realnvp", Space.levels((1, 4, 4), 5), dequantisation="variational")
    again = registry.from_description(registry.describe(model))
    assert again.likelihood_method == "change of variables; logit with alpha = 0.05, variational dequantisation"
    assert {name: p.shape for name, p in again.named_parameters()} == {n: p.shape for n, p in model.named_parameters()}


@pytest.mark.parametrize("shape", [(5,), (2, 4, 6), (1, 3, 5)])
def test_couplings_of_learnt_noise_move_all_dimensions_then_each_half_in_turn(shape: tuple[int, ...]) -> None:
    """Kills: one half moved twice in a row, a half never, a first coupling that keeps anything."""
    cells = LearntUnitCells(Space.levels(shape, 3))
    first, *others = [part.mask for part in cells.flow.modules() if isinstance(part, AffineCoupling)]
    assert not first.any()
    assert len(others) == 4
    assert all(torch.equal(one, ~following) for one, following in pairwise(others))
    kept = others[0].flatten()
    assert bool(kept[0]) != bool(kept[1])


def test_learnt_noise_of_images_is_convolutional() -> None:
    """As many weights for an image of any size; of a vector more for a longer one."""
    x = torch.randint(3, (5, 1, 4, 4))
    v, _ = LearntUnitCells(Space.levels((1, 4, 4), 3)).lift(x)
    assert torch.equal(v.floor(), x.float())
    sizes = [sum(p.numel() for p in LearntUnitCells(Space.levels((1, s, s), 3)).parameters()) for s in (4, 8)]
    assert sizes[0] == sizes[1]
    longer = [sum(p.numel() for p in LearntUnitCells(Space.levels((d,), 3)).parameters()) for d in (4, 8)]
    assert longer[0] < longer[1]
