"""Each way to train an energy, against closed forms of the energy of a normal distribution."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dgm import contracts
from dgm.errors import BadInput
from dgm.models.energy import base
from dgm.models.energy.ebm import EBM
from dgm.models.energy.trainers import TRAINERS
from dgm.models.score.objectives import OBJECTIVES
from dgm.protocols import DataDependent, Stateful, has
from dgm.space import Space

PLANE = Space.continuous((2,))
M, V = 0.3, 0.5  # of the quadratic energy


class Quadratic(nn.Module):
    """f(z) = scale (sum_d (z_d - m)² / (2 v) + tilt z_0 z_1 + c)."""

    def __init__(self, m: float = M, v: float = V, c: float = 0.0, tilt: float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.m, self.v, self.c = (nn.Parameter(torch.tensor(value, dtype=torch.float64)) for value in (m, v, c))
        self.tilt, self.scale = tilt, scale

    def forward(self, z: Tensor, y: None = None) -> Tensor:
        tilted = self.tilt * z[:, 0] * z[:, -1]
        return self.scale * ((z - self.m).square().sum(1) / (2 * self.v) + tilted + self.c)


def quadratic(trainer: Any, space: Space = PLANE, network: dict[str, float] | None = None, **config: Any) -> EBM:
    ebm = EBM(space, EBM.Config(trainer=trainer, width=1, **config)).double()
    ebm.network = Quadratic(**network or {})
    return ebm


def test_implicit_score_matching_is_hyvaerinens_formula() -> None:
    """tr of the Hessian of log p and half the squared score: -D / v + |z - m|² / (2 v²), over D, at T = 2 as well.

    Kills: the trace's or the score's sign, the temperature left out, the half, the division by D.
    """
    z = torch.randn(7, 2, dtype=torch.float64)
    expected = (-2 / V + (z - M).square().sum(1) / (2 * V**2)) / 2
    for config, scale in (({}, 1.0), ({"step_size": 0.02, "noise": 0.2}, 2.0)):
        ebm = quadratic("implicit", network={"scale": scale}, data_noise=0.0, **config)
        torch.testing.assert_close(ebm.loss(z), expected)


def test_sliced_score_matching_is_implicit_on_average(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all signs of the direction; a tilted energy, of which the slices differ."""
    z, found = torch.randn(5, 2, dtype=torch.float64), []
    network = {"tilt": 0.7}
    for signs in itertools.product([0.0, 1.0], repeat=2):
        drawn = torch.tensor(signs, dtype=torch.float64).expand(5, 2)
        monkeypatch.setattr(torch, "randint_like", lambda x, high, drawn=drawn: drawn)
        found.append(quadratic("sliced", network=network, data_noise=0.0).loss(z))
    expected = quadratic("implicit", network=network, data_noise=0.0).loss(z)
    torch.testing.assert_close(torch.stack(found).mean(0), expected)
    assert torch.stack(found).std(0).min() > 0.1


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_objectives_get_the_score_of_the_energy_at_noisy_data(objective: str) -> None:
    """Scaled by sigma² / D, at T = 2. Kills: E for -E, the noise's variance for its deviation, noise on the target."""
    config = {"data_noise": 0.4, "step_size": 0.02, "noise": 0.2}
    ebm, z = quadratic(objective, network={"scale": 2.0, "tilt": 0.3}, **config), torch.randn(6, 2).double()

    def score(at: Tensor) -> Tensor:
        return -(at - M) / V - 0.3 * at.flip(1)

    torch.manual_seed(1)
    noisy = z + 0.4 * torch.randn_like(z)
    expected = OBJECTIVES[objective](score, z, noisy, 0.4) * 0.4**2 / 2
    torch.manual_seed(1)
    torch.testing.assert_close(ebm.loss(z), expected)


@pytest.mark.parametrize("v", [0.2, 0.45, 1.5])
def test_denoising_loss_in_closed_form_and_its_minimum(v: float) -> None:
    """sigma²/2 (s²/v² + (1/sigma - sigma/v)²), minimal at v = s² + sigma² = 0.45."""
    s, sigma, n = 0.6, 0.3, 50_000
    torch.manual_seed(0)
    loss = quadratic("denoising", network={"v": v}, data_noise=sigma).loss(M + s * torch.randn(n, 2).double()).detach()
    expected = sigma**2 / 2 * (s**2 / v**2 + (1 / sigma - sigma / v) ** 2)
    assert loss.mean().item() == pytest.approx(expected, abs=5 * float(loss.std()) / math.sqrt(n))
    gradient = sigma**2 * (-(s**2) / v**3 + (1 / sigma - sigma / v) * sigma / v**2)
    assert (abs(gradient) < 1e-12) == (v == 0.45)


def test_noise_contrastive_estimation_of_the_noise_itself_is_a_coin() -> None:
    """p = q: each of the two logits is 0, so the loss is 2 log 2 of every example. Kills: c, v or q's own Z off."""
    c = math.log(2 * math.pi * V)  # of two dimensions
    ebm = quadratic("nce", network={"c": c}, data_noise=0.0)
    ebm.noise_mean.fill_(M)
    ebm.noise_std.fill_(math.sqrt(V))
    z = torch.randn(9, 2, dtype=torch.float64)
    torch.testing.assert_close(ebm.loss(z), torch.full((9,), 2 * math.log(2), dtype=torch.float64))
    # chains at T = 2 sample exp(-f / 2): the same E has twice the f
    warm = quadratic("nce", network={"c": c, "scale": 2.0}, data_noise=0.0, step_size=0.02, noise=0.2)
    warm.load_state_dict(ebm.state_dict())
    torch.testing.assert_close(warm.loss(z), torch.full((9,), 2 * math.log(2), dtype=torch.float64))


def test_noise_contrastive_estimation_is_minimal_at_the_normalised_truth() -> None:
    """Z = 1: all gradients vanish at v = s² + sigma², c = log(2 pi v); too large a c is lowered.

    Kills: the two logits exchanged, the sign of the energy or of q, data without its noise.
    """
    s, sigma, n = 0.6, 0.3, 20_000
    v = s**2 + sigma**2
    gradients: dict[float, list[Tensor]] = {0.0: [], 0.5: []}
    torch.manual_seed(0)
    for shift, _ in itertools.product(gradients, range(20)):
        ebm = quadratic("nce", network={"v": v, "c": math.log(2 * math.pi * v) + shift}, data_noise=sigma)
        x = M + s * torch.randn(n, 2).double()
        ebm.initialise(2 * x)  # another q than p
        network = ebm.network
        gradients[shift].append(torch.stack(torch.autograd.grad(ebm.loss(x).mean(), list(network.parameters()))))
    at_truth, above = (torch.stack(found) for found in gradients.values())
    assert (at_truth.mean(0).abs() < 5 * at_truth.std(0) / math.sqrt(20)).all()
    assert at_truth.std(0).max() < 0.02
    assert above.mean(0)[2] > 0.05


def test_the_noise_of_nce_has_the_moments_of_the_first_noisy_batch() -> None:
    ebm = quadratic("nce", data_noise=0.5)
    assert has(ebm, DataDependent)
    assert not has(ebm, Stateful)
    assert not has(EBM(PLANE, EBM.Config(trainer="cd", width=1), LABELS), DataDependent)  # no chains to start
    x = torch.tensor([[1.0, 4.0], [3.0, 4.0]]).double()
    ebm.initialise(x)
    ebm.initialise(10 * x)
    assert ebm.noise_mean.tolist() == [2, 4]
    assert ebm.noise_std.tolist() == pytest.approx([math.sqrt(1 + 0.25), 0.5])


@pytest.mark.parametrize(("v", "sign"), [(0.25, 0), (0.18, -1), (0.34, 1)])
def test_contrastive_divergence_vanishes_at_the_truth(v: float, sign: int) -> None:
    """Chains from the data stay in its distribution where the energy is the truth; dL/dv has the sign of the error.

    Of normal data with variance 0.25 with its noise. Kills: chains uphill, T of the chains that is not the energy's.
    """
    n, config = 50_000, {"step_size": 0.01, "noise": 0.1, "langevin_steps": 20, "regularisation": 0.0}
    torch.manual_seed(0)
    x = M + 0.4 * torch.randn(n, 2).double()
    ebm = quadratic("cd", network={"v": v}, data_noise=0.3, **config)
    loss = ebm.loss(x)
    (gradient,) = torch.autograd.grad(loss.mean(), ebm.network.v)
    # of squares of 2 n numbers twice; at the truth the variance of chains is off by a factor 1 + eta / (4 v) at most
    error = 5 * 0.25 / (2 * v**2) * math.sqrt(2 * 2 / n) + (0.01 / 4) / v**2
    assert abs(float(gradient)) < error if sign == 0 else sign * float(gradient) > error


def test_chains_of_cd_start_from_the_noisy_data(monkeypatch: pytest.MonkeyPatch) -> None:
    ebm, starts = quadratic("cd", data_noise=0.2, regularisation=0.0), []
    monkeypatch.setattr(ebm, "chain", lambda z, y, steps, noise: iter([starts.append(z) or z + 1]))
    x = torch.zeros(4, 2, dtype=torch.float64)
    loss = ebm.loss(x)
    torch.testing.assert_close(loss, ebm.potential(starts[0]) - ebm.potential(starts[0] + 1))
    assert 0.02 < float(starts[0].abs().mean()) < 0.5
    assert not has(ebm, Stateful)


def test_a_step_of_a_chain_drifts_by_a_tenth_at_most() -> None:
    """eta / 2 times the clipped gradient. Kills: a clip that is the same for every step size."""
    for step_size in (0.2, 0.01):
        ebm = quadratic("implicit", network={"v": 1e-4}, step_size=step_size, noise=0.0)
        start = torch.tensor([[M + 1.0, M - 1e-6]], dtype=torch.float64)
        (end,) = ebm.chain(start, None, 1, lambda: torch.zeros(1, 2).double())
        expected = torch.tensor([[M + 0.9, M - 1e-6 + step_size / 2 * 1e-2]], dtype=torch.float64)
        torch.testing.assert_close(end, expected)


def test_samples_of_a_denoised_energy_are_posterior_means() -> None:
    """E[z | z~] = z~ + sigma² score: of N(m, v - sigma²) data with noise, at T = 2."""
    ebm = quadratic("denoising", network={"scale": 2.0}, data_noise=0.5, step_size=0.02, noise=0.2)
    z = torch.randn(4, 2).double()
    weight = 0.5**2 / V
    torch.testing.assert_close(ebm.finished(z, None), weight * M + (1 - weight) * z)
    assert torch.equal(quadratic("sliced").finished(z, None), z)


def test_an_energy_is_that_of_data_in_its_own_units() -> None:
    """exp(-E) of nce is a density of x: -log |dz/dx| is part of it."""
    space = Space.continuous((2,), loc=(1.0, 2.0), scale=(3.0, 4.0))
    x = torch.tensor([[1.0, 6.0]]).double()
    ebm = quadratic("nce", space, {"c": math.log(2 * math.pi * V)})
    z = torch.tensor([0.0, 1.0])
    log_p = torch.distributions.Normal(M, math.sqrt(V)).log_prob(z).sum().item() - math.log(12)
    assert float(ebm.energy(x).detach()) == pytest.approx(-log_p)


LABELS = Space.categories(5)


@pytest.mark.parametrize("restarted", [0.0, 1.0])
def test_chains_keep_their_condition(restarted: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for restarted ones, which have that of the batch. Kills: the data's condition for the chains' energy."""
    monkeypatch.setattr(base, "RESTARTED", restarted)
    ebm, seen = EBM(PLANE, EBM.Config(width=1, buffer=6, data_noise=0.0), LABELS), []
    assert has(ebm, DataDependent)
    ebm.initialise(torch.zeros(2, 2), torch.tensor([3, 4]))
    assert ebm.replay_y.tolist() == [3, 4] * 3
    monkeypatch.setattr(ebm, "chain", lambda z, y, steps, noise: iter([seen.append(y) or z + 1]))
    torch.manual_seed(0)
    loss, (rows, ends, y) = ebm.loss_and_outputs(torch.zeros(4, 2), torch.tensor([0, 1, 2, 0]))
    expected = torch.tensor([0, 1, 2, 0]) if restarted else 3 + rows % 2
    assert torch.equal(y, expected)
    assert torch.equal(seen[0], expected)
    f, of_chains = ebm.potential(torch.zeros(4, 2), torch.tensor([0, 1, 2, 0])), ebm.potential(ends, y)
    torch.testing.assert_close(loss, f - of_chains + 0.1 * (f.square() + of_chains.square()))
    ebm.after_step(rows, ends, y + 1 - 1)
    assert torch.equal(ebm.replay_y[rows], expected)
    assert torch.equal(ebm.replay[rows], ends)


def test_the_gap_is_how_far_the_data_lies_below_the_chains() -> None:
    ebm = quadratic("pcd", network={"m": 0.0}, buffer=4)
    ebm.replay.fill_(2.0)
    gap = ebm.diagnose(torch.ones(3, 2).double())
    assert gap["energy gap"].value == pytest.approx((4 - 1) / V)
    assert gap["size of the energy gap"].value == pytest.approx(6)
    assert gap["size of the energy gap"].limit == base.APART
    assert not quadratic("cd").diagnose(torch.ones(3, 2).double())


def test_the_gap_is_of_scaled_data_and_of_chains_under_their_own_conditions() -> None:
    """Kills: grey levels that are not scaled, the conditions of the batch for the chains."""
    space = Space.levels((2,), 9)
    ebm: Any = contracts.perturbed(EBM(space, EBM.Config(width=2, buffer=3), LABELS))
    ebm.replay_y.copy_(torch.tensor([4, 4, 2]))
    x, y = contracts.random_examples(space, 5), torch.tensor([0, 1, 3, 0, 1])
    expected = ebm.potential(ebm.replay, ebm.replay_y).mean() - ebm.potential(x / 4 - 1, y).mean()
    assert ebm.diagnose(x, y)["energy gap"].value == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_every_trainer_reaches_every_parameter(trainer: Any) -> None:
    """Of images, also with a condition where the trainer takes one."""
    space = Space.levels((1, 5, 5), 9)
    for condition in (None, LABELS) if trainer != "explicit" else (None,):
        torch.manual_seed(0)
        ebm = EBM(space, EBM.Config(trainer=trainer, width=4, langevin_steps=2), condition)
        x, y = torch.randint(9, (32, 1, 5, 5)).to(space.dtype), None if condition is None else torch.arange(32) % 5
        ebm.loss(x, y).mean().backward()
        assert all(p.grad is not None and p.grad.any() for p in ebm.parameters())


def test_trainers_refuse_settings_without_a_meaning() -> None:
    with pytest.raises(BadInput, match="denoising needs noise on the data, got data_noise 0"):
        quadratic("denoising", data_noise=0.0)
    with pytest.raises(BadInput, match="explicit estimates the score of all data together"):
        EBM(PLANE, EBM.Config(trainer="explicit"), LABELS)
