"""The restricted Boltzmann machine beside sums over all states, a mixture of Gaussians, and its exact gradient."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from dgm.contracts.likelihood import frequencies_agree
from dgm.distributions.dequantisation import Dequantised
from dgm.distributions.units import Draws
from dgm.evaluation.annealed import annealed_at, constant_in_words, interval
from dgm.models.energy.rbm import RBM
from dgm.registry import create
from dgm.samplers.ais import log_mean
from dgm.space import Space

BITS = Space.binary((5,))
PLANE = Space.continuous((2,), loc=(3.0, -1.0), scale=(2.0, 0.5))


def test_a_batch_of_one_has_no_deviation() -> None:
    """Kills: the NaN of a deviation of one number."""
    model = RBM(PLANE, RBM.Config(hidden=2))
    model.initialise(torch.tensor([[3.5, -1.0]]))
    torch.testing.assert_close(model.visible.log_sigma, torch.full((2,), math.log(0.05)))


def rbm(space: Space = BITS, condition: Space | None = None, spread: float = 1.0, **config: Any) -> RBM:
    """With large weights, in float64."""
    torch.manual_seed(0)
    model = RBM(space, RBM.Config(**{"hidden": 4, **config}), condition).double()
    for parameter in (model.W, model.a, model.b, model.base):
        parameter.data.normal_(0, spread)
    if not space.discrete:
        model.visible.log_sigma.data.copy_(torch.tensor([-0.5, 0.3]))
    return model.eval()


def states(n: int) -> Tensor:
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=n)), dtype=torch.float64)


def test_the_density_is_the_sum_over_all_states_of_the_joint_energy() -> None:
    """Written out for each pair (v, h). Kills: a bias or W of another sign, a free energy without its softplus."""
    model = rbm()
    v, h = states(5), states(4)
    joint = torch.stack([torch.stack([v_k @ model.a + h_k @ model.b + v_k @ model.W @ h_k for h_k in h]) for v_k in v])
    expected = joint.logsumexp(1) - joint.flatten().logsumexp(0)
    assert torch.allclose(model.log_prob(v.to(torch.uint8)), expected)
    assert torch.allclose(-model.energy(v.to(torch.uint8)), joint.logsumexp(1))


def test_gaussian_visible_units_are_a_mixture_of_gaussians() -> None:
    """Of 2^H components with means a + W h, in the units of the data. Kills: sigma for sigma², log sigma left out."""
    model = rbm(PLANE)
    h, sigma = states(4), 0.05 + torch.tensor([-0.5, 0.3], dtype=torch.float64).exp()
    mean = model.a + h @ model.W.mT
    log_weight = h @ model.b + (mean.square() / (2 * sigma**2)).sum(1)
    loc, scale = torch.tensor([3.0, -1.0]), torch.tensor([2.0, 0.5])
    components = Independent(Normal(loc + scale * mean, (scale * sigma).expand_as(mean)), 1)
    mixture = MixtureSameFamily(Categorical(logits=log_weight), components)
    x = mixture.sample((50,))
    assert torch.allclose(model.log_prob(x), mixture.log_prob(x))


def test_the_gradient_is_that_of_the_likelihood_where_chains_end_in_exact_samples() -> None:
    """E over p(v') of the loss's gradient is -d log p(x). Kills: the loss's sign, a gradient through the chain."""
    model = rbm()
    v, x = states(5).to(torch.uint8), torch.tensor([[1, 0, 0, 1, 1]], dtype=torch.uint8)
    exact = torch.autograd.grad(-model.log_prob(x).sum(), [model.W, model.a, model.b])
    model.after_sweeps = lambda start, *_: v.double()  # type: ignore[method-assign]
    loss = model.loss(x.expand(32, -1))
    assert torch.allclose(loss, model.energy(x) - model.energy(v))
    found = torch.autograd.grad((loss * model.log_prob(v).exp().detach()).sum(), [model.W, model.a, model.b])
    for one, other in zip(found, exact, strict=True):
        assert torch.allclose(one, other, atol=1e-10)


@pytest.mark.parametrize("space", [BITS, PLANE])
def test_a_sweep_leaves_the_model_invariant(space: Space) -> None:
    """From exact samples, by k sweeps of training. Kills: a conditional without its bias, u above the probability."""
    model, n = rbm(space), 20_000
    torch.manual_seed(1)
    noise = Draws(n, torch.device("cpu"))
    h = states(4)
    log_weight = h @ model.b + model.visible.log_partition(model.a + h @ model.W.mT)
    v = model.visible.draw(model.a + h[log_weight.softmax(0).multinomial(n, replacement=True)] @ model.W.mT, noise)
    end = model.after_sweeps(v, model.b[None], noise, 3).detach()
    if space.discrete:
        seen = (end @ 2.0 ** torch.arange(4, -1, -1, dtype=torch.float64)).long().bincount(minlength=32).double()
        frequencies_agree(seen, n * model.log_prob(states(5).to(torch.uint8)).exp().detach())
        return
    log_p = [model.log_prob(model.visible.decode(state)).detach() for state in (v, end)]
    error = math.sqrt(2 * float(log_p[0].var()) / n)
    assert abs(float(log_p[0].mean() - log_p[1].mean())) < 5 * error
    assert (end.mean(0) - v.mean(0)).abs().max() < 5 * float(v.detach().std(0).max()) * math.sqrt(2 / n)


@pytest.mark.parametrize("space", [BITS, PLANE])
def test_annealing_forward_and_backward_agrees_with_the_sum(space: Space) -> None:
    """Unbiased at 30 temperatures. Kills: a weight after the transition, base biases left out, H log 2 left out."""
    model = rbm(space, sampling_steps=100)
    exact = float(model.log_z(model.b[None]).detach())
    for backward, sign in ((False, 1), (True, -1)):
        log_w = torch.cat([seeded(model, 30, backward, seed) for seed in range(20)])
        w = (log_w - sign * exact).exp()
        assert abs(float(w.mean()) - 1) < 5 * float(w.std()) / math.sqrt(len(w))
        assert float(log_w.mean()) < sign * exact < float(log_w.mean()) + 2
    found = constant_in_words(model, None)
    assert found["forward"]["low"] - 0.05 < exact < found["forward"]["high"] + 0.05
    assert abs(found["gap"]) < 0.1
    assert found["rule"].endswith("1,000 temperatures, 100 chains")


def seeded(model: RBM, temperatures: int, backward: bool, seed: int) -> Tensor:
    with torch.no_grad():
        return model.annealed_for(model.b, temperatures, 100, backward, seed)


def test_the_estimate_of_many_hidden_units_is_the_likelihood_of_the_annealed_constant() -> None:
    """And as a multiple of temperatures says, for a while; a dequantised model passes them on."""
    model = rbm(hidden=25, spread=0.2)
    x = states(5).to(torch.uint8)
    with torch.no_grad():
        assert float(model.log_prob_estimate(x).exp().sum()) == pytest.approx(1, abs=0.01)
        expected = -model.energy(x) - log_mean(model.log_z_weights(temperatures=20))
        with annealed_at(model, 20):
            assert torch.allclose(model.log_prob_estimate(x), expected)
            assert "20 temperatures, 100 chains" in model.likelihood_method
    assert model.temperatures == 1000
    digits: Any = create("rbm", Space.levels((1, 4, 4), 5), hidden=30)
    assert isinstance(digits, Dequantised)
    with annealed_at(digits, 7):
        assert "7 temperatures" in digits.likelihood_method


def test_the_interval_of_a_constant_is_the_delta_methods() -> None:
    w = torch.tensor([[1.0, 2.0, 4.0, 1.0]], dtype=torch.float64)
    half = 1.96 * float(w.std()) / 2 / 2  # standard error of the mean, over the mean
    found = interval(w.log() + 900, -1)
    assert found["log_z"] == pytest.approx(-900 - math.log(2))
    assert (found["high"] - found["log_z"], found["log_z"] - found["low"]) == pytest.approx((half, half))


def test_the_constant_is_computed_anew_where_the_weights_have_changed() -> None:
    model, x = rbm(), states(5).to(torch.uint8)
    calls: list[int] = []
    compute = model.log_z
    model.log_z = lambda b: calls.append(len(b)) or compute(b)  # type: ignore[method-assign, func-returns-value]
    with torch.no_grad():
        first = model.log_prob(x)
        assert torch.equal(model.log_prob(x), first)
        assert calls == [1]
        model.W.data.mul_(1.5)
        assert float(model.log_prob(x).exp().sum()) == pytest.approx(1)
    assert not torch.equal(model.log_prob(x), first)


@pytest.mark.parametrize("hidden", [4, 25])
def test_a_condition_shifts_the_hidden_biases(hidden: int) -> None:
    """p(x|y) is the model with b + U y. Kills: U left out of the chain, of log Z, or one condition's log Z for all."""
    torch.manual_seed(0)
    model = rbm(condition=Space.categories(3), hidden=hidden, spread=0.5)
    model.temperatures = 300
    x, y = states(5).to(torch.uint8), torch.arange(32) % 3
    alone = rbm(hidden=hidden, spread=0.5)
    alone.temperatures, log_prob = 300, "log_prob" if hidden == 4 else "log_prob_estimate"
    with torch.no_grad():
        found = getattr(model, log_prob)(x, y)
        for label in range(3):
            alone.load_state_dict(model.state_dict(), strict=False)
            alone.b.copy_(model.b + model.U.weight[label])  # type: ignore[union-attr, operator, index]
            assert torch.allclose(found[y == label], getattr(alone, log_prob)(x)[y == label])
    assert not torch.allclose(found, getattr(alone, log_prob)(x), atol=0.1)


def test_persistent_chains_go_on_in_turn_and_others_start_at_the_data() -> None:
    """Kills: chains that start anew, one sweep too many, hidden states of the start, the same chains at each step."""
    model, x = rbm(chains=7, gibbs_steps=3), states(5)[:6].to(torch.uint8)
    before, seen = model.persistent.clone(), []
    model.visible_given = lambda h, noise, beta=1.0: seen.append(h) or torch.ones(6, 5).double()  # type: ignore[method-assign, func-returns-value]
    with torch.no_grad():
        model.b.copy_(torch.tensor([90.0, -90.0, 90.0, -90.0]))  # of which every h but the first is
    _, (ends,) = model.loss_and_outputs(x)
    assert torch.equal(model.persistent, before)
    assert torch.equal(seen[0], before[:6])
    assert [h.tolist() for h in (*seen[1:], ends)] == [[[1, 0, 1, 0]] * 6] * 3
    model.after_step(ends)
    assert torch.equal(model.persistent, torch.cat([before[6:], ends]))
    model.after_step(torch.cat([ends, before]))
    assert torch.equal(model.persistent, before), "the last ones of more examples than chains"
    assert torch.equal(model.next_chains(12), torch.cat([before, before[:5]]))
    contrastive = rbm(chains=0)
    contrastive.W.data.copy_(80 * torch.eye(5)[:, :4] - 40 / 5)
    contrastive.b.data.fill_(0)
    contrastive.visible_given = model.visible_given  # type: ignore[method-assign]
    assert contrastive.loss_and_outputs(x)[1] == ()
    assert torch.equal(seen[-1][1:5, 3], x[1:5, 3].double()), "h is drawn given the data"


def test_a_persistent_chain_keeps_hidden_states_given_its_own_end() -> None:
    """From data of zeros, chains that end in ones. Kills: hidden states given the data."""
    model = rbm(chains=6)
    model.W.data.fill_(40)
    model.b.data.fill_(-90)
    model.visible_given = lambda h, noise, beta=1.0: torch.ones(6, 5).double()  # type: ignore[method-assign]
    _, (ends,) = model.loss_and_outputs(torch.zeros(6, 5, dtype=torch.uint8))
    assert (ends == 1).all()


def test_biases_start_from_the_moments_of_the_data_once() -> None:
    model, x = RBM(BITS, RBM.Config()), torch.tensor([[1, 0, 1, 0, 0]] * 3 + [[0, 0, 1, 1, 0]], dtype=torch.uint8)
    model.initialise(x)
    assert model.a.sigmoid().tolist() == pytest.approx([0.75, 0.01, 0.99, 0.25, 0.01])
    assert torch.equal(model.base, model.a)
    model.initialise(1 - x)
    assert model.a.sigmoid()[0].tolist() == pytest.approx(0.75)
    plane = RBM(Space.continuous((2,)), RBM.Config())
    z = torch.randn(100, 2) * torch.tensor([2.0, 0.01]) + 1
    plane.initialise(z)
    assert torch.allclose(plane.a, z.mean(0))
    assert plane.visible.sigma.tolist() == pytest.approx([0.05 + z[:, 0].std().item(), 0.1])  # type: ignore[attr-defined]


def bars() -> Tensor:
    """The 14 images of 3 by 3 whose rows, or whose columns, are all equal."""
    rows = states(3)[:, :, None].expand(-1, 3, 3)
    return torch.cat([rows, rows.mT]).unique(dim=0)[:, None].to(torch.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "lr", "most"), [({"chains": 100}, 0.05, 3.3), ({"chains": 0, "gibbs_steps": 10}, 0.1, 2.8)]
)
def test_it_learns_bars_and_stripes(config: dict[str, int], lr: float, most: float) -> None:
    """Of log 14 = 2.64 nats; independent pixels have 9 log 2 = 6.24. Ours are 2.90 to 3.17 (six seeds) and 2.70."""
    torch.manual_seed(0)
    x = bars()
    model = RBM(Space.binary((1, 3, 3)), RBM.Config(hidden=16, **config)).train()
    model.initialise(x)
    optimiser = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    for step in range(2000):
        optimiser.param_groups[0]["lr"] = lr * (1 - step / 2000)
        loss, outputs = model.loss_and_outputs(x[torch.randint(len(x), (100,))])
        optimiser.zero_grad()
        loss.mean().backward()
        optimiser.step()
        if outputs:
            model.after_step(*outputs)
    with torch.no_grad():
        assert -float(model.log_prob(x).mean()) < most


def test_chains_of_samples_are_in_float64_and_persistent_ones_start_as_coins() -> None:
    """A rounding error that flips one unit would change all later states. Kills: float32, states of zeros."""
    model, seen = RBM(BITS, RBM.Config(hidden=40, chains=500, sampling_steps=2)), list[torch.dtype]()
    share = float(model.persistent.mean())
    assert set(model.persistent.unique().tolist()) == {0.0, 1.0}
    assert abs(share - 0.5) < 5 * 0.5 / math.sqrt(40 * 500)
    inputs = RBM.inputs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RBM, "inputs", lambda self, v, b: seen.append(self.W.dtype) or inputs(self, v, b))  # type: ignore[func-returns-value]
        model.sample(3, seed=0)
    assert set(seen) == {torch.float64}


def test_weights_start_small_and_a_samples_chain_is_annealed_in_its_first_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: another deviation than a hundredth, a chain that is annealed to its end or not at all."""
    model, betas = RBM(Space.binary((100,)), RBM.Config(hidden=100, sampling_steps=4)), list[float]()
    assert float(model.W.detach().std()) == pytest.approx(0.01, rel=5 / math.sqrt(2 * 100**2))
    monkeypatch.setattr(RBM, "after_sweeps", lambda self, v, b, noise, sweeps, beta=1.0: betas.append(beta) or v)  # type: ignore[func-returns-value]
    model.sample(2, seed=0)
    assert betas == [0.5, 1.0, 1.0, 1.0]
