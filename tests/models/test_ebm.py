"""Langevin's stationary law in closed form, and the energy-based model's training signal."""

from __future__ import annotations

import math
import weakref

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn.functional import conv2d

from dgm.models.energy import base as module
from dgm.models.energy.ebm import EBM
from dgm.networks.energy import EnergyNetwork
from dgm.samplers.langevin import langevin
from dgm.space import Space


@pytest.mark.parametrize(
    ("std", "eta", "temperature"), [(1.0, 0.5, 1.0), (2.0, 1.0, 1.0), (0.5, 0.1, 1.0), (1.0, 0.5, 0.25)]
)
def test_the_stationary_variance_is_the_discretised_ones(std: float, eta: float, temperature: float) -> None:
    """x' = (1 - eta / 2s²) x + sqrt(eta tau) e has variance tau s² / (1 - eta / 4s²)."""
    x, n = torch.zeros(8_000, dtype=torch.float64), 8_000
    noise = lambda: torch.randn(n, dtype=torch.float64)  # noqa: E731
    for state in langevin(
        lambda v: -v / std**2, x, langevin_steps=200, step_size=eta, noise=noise, temperature=temperature
    ):
        x = state
    expected = temperature * std**2 / (1 - eta / (4 * std**2))
    assert float(x.var()) == pytest.approx(expected, rel=5 * math.sqrt(2 / n))
    assert abs(float(x.mean())) < 5 * math.sqrt(expected / n)


def test_each_step_is_one_state() -> None:
    states = list(langevin(lambda v: -v, torch.ones(1), langevin_steps=3, step_size=0.2, noise=lambda: torch.zeros(1)))
    assert [round(s.item(), 6) for s in states] == [0.9, 0.81, 0.729]


def test_a_chain_of_sixty_steps_keeps_no_state_but_the_last() -> None:
    """No graph and no list holds the states before. Kills: a score that is not detached."""
    model = EBM(Space.continuous((2,)), EBM.Config(width=1))
    states = []
    for z in model.chain(torch.zeros(5, 2), None, 60, lambda: torch.randn(5, 2)):
        states.append(weakref.ref(z))
        assert sum(state() is not None for state in states) <= 2
        assert not z.requires_grad
    assert len(states) == 60


def test_descending_the_loss_lowers_data_and_lifts_chains() -> None:
    ebm = EBM(Space.continuous((2,)), EBM.Config(regularisation=0.0, langevin_steps=1))
    x = torch.full((64, 2), 0.7)
    optimiser = torch.optim.SGD(ebm.parameters(), lr=0.02)
    before = ebm.temperature * (ebm.energy(x) - ebm.energy(torch.rand(64, 2) * 2 - 1)).mean()
    for _ in range(20):
        optimiser.zero_grad()
        ebm.loss(x).mean().backward()
        optimiser.step()
    after = ebm.temperature * (ebm.energy(x) - ebm.energy(torch.rand(64, 2) * 2 - 1)).mean()
    assert after < before - 0.01


def test_the_score_is_minus_the_energys_gradient_and_chains_go_downhill() -> None:
    ebm = EBM(Space.continuous((2,)), EBM.Config(noise=0.0))
    z = torch.randn(5, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(ebm.energy(z).sum(), z)
    with torch.no_grad():
        assert torch.allclose(ebm.score(z), -gradient, atol=1e-6)
        ends = list(ebm.chain(z, None, 30, lambda: torch.zeros(5, 2)))[-1]
        assert (ebm.energy(ends) < ebm.energy(z)).all()


class Bowl(nn.Module):
    """f(z) = |z|² / (2 s²)."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, z: Tensor, y: None = None) -> Tensor:
        return z.square().sum(1) / (2 * self.std**2)


@pytest.mark.parametrize("config", [{}, {"noise": 0.1}, {"noise": 0.02, "step_size": 0.05}])
def test_the_chains_sample_the_density_of_the_energy(config: dict[str, float]) -> None:
    """exp(-E) is a normal of variance v = 1 / E''; steps of length eta' = noise² widen it to v / (1 - eta' / (4 v)).

    Kills: an energy at temperature 1, T = noise / step_size, T = noise² / 2 step_size.
    """
    n, ebm = 8_000, EBM(Space.continuous((1,)), EBM.Config(sampling_steps=300, **config))
    ebm.network = Bowl(1.0)
    z = torch.zeros(3, 1, dtype=torch.float64)
    energies = ebm.energy(z + torch.tensor([[0.0], [1.0], [-1.0]], dtype=torch.float64))
    v = 1 / float(energies[1] + energies[2] - 2 * energies[0])
    assert float(energies[0]) == 0
    torch.manual_seed(0)
    noise = lambda: torch.randn(n, 1, dtype=torch.float64)  # noqa: E731
    *_, z = ebm.chain(torch.zeros(n, 1, dtype=torch.float64), None, 300, noise)
    assert float(z.var()) == pytest.approx(v / (1 - ebm.noise**2 / (4 * v)), rel=5 * math.sqrt(2 / n))


def test_the_ends_of_chains_replace_their_starts_after_the_step() -> None:
    ebm = EBM(Space.continuous((2,)), EBM.Config(langevin_steps=1)).train()
    before = ebm.replay.clone()
    _, (rows, ends) = ebm.loss_and_outputs(torch.randn(8, 2))
    assert torch.equal(ebm.replay, before)
    ebm.after_step(rows, ends)
    assert torch.equal(ebm.replay[rows], ends)
    assert int((ebm.replay != before).any(1).sum()) == 8


class Linear(nn.Module):
    """E(z) = w · z, flattened: its gradient is w everywhere."""

    def __init__(self, *w: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w))

    def forward(self, z: Tensor, y: None = None) -> Tensor:
        return z.flatten(1) @ self.w


def known(*w: float, **config: float) -> EBM:
    ebm = EBM(Space.continuous((len(w),)), EBM.Config(**config)).eval()  # type: ignore[arg-type]
    ebm.network = Linear(*w)
    return ebm


def test_the_loss_is_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: alpha's sign or a square left out, one energy left out of it, negative and positive exchanged."""
    ebm, x = known(2.0, data_noise=0.0, regularisation=0.3), torch.tensor([[1.0], [-3.0]])
    ends = torch.tensor([[0.5], [4.0]])
    monkeypatch.setattr(ebm, "chain", lambda z, y, steps, noise: iter([torch.zeros(2, 1), ends]))
    expected = [2 - 1 + 0.3 * (2**2 + 1**2), -6 - 8 + 0.3 * (6**2 + 8**2)]
    assert ebm.loss(x).tolist() == pytest.approx(expected)


def test_the_noise_on_data_and_on_chains_is_what_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: a variance for a standard deviation, noise that is not centred, a step's noise that depends on eta."""
    n = 20_000
    ebm = known(0.3, data_noise=0.2, regularisation=0.0, noise=0.1, step_size=0.4)
    *_, ends = ebm.chain(torch.zeros(n, 1), None, 3, lambda: torch.randn(n, 1))
    assert ends.mean().item() == pytest.approx(
        -3 * 0.3 * 0.4 / 2, abs=5 * 0.1 * math.sqrt(3 / n)
    )  # 3 steps of -eta / 2
    assert ends.std().item() == pytest.approx(0.1 * math.sqrt(3), rel=5 / math.sqrt(2 * n))
    monkeypatch.setattr(ebm, "chain", lambda z, y, steps, noise: iter([torch.zeros(n, 1)]))
    energies = ebm.loss(torch.ones(n, 1)) / 0.3
    assert energies.mean().item() == pytest.approx(1, abs=5 * 0.2 / math.sqrt(n))
    assert energies.std().item() == pytest.approx(0.2, rel=5 / math.sqrt(2 * n))
    assert (energies - energies.mean()).pow(4).mean().item() == pytest.approx(
        3 * 0.2**4, rel=0.15
    )  # normal, not uniform


def test_chains_go_on_from_the_buffer_but_for_one_in_twenty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Algorithm 1: with a probability of 95 % from the buffer, else from uniform noise, whole examples at once."""
    n, starts = 20_000, []
    ebm = EBM(Space.continuous((1, 2, 2)), EBM.Config(buffer=n)).eval()
    ebm.replay.fill_(7.0)
    monkeypatch.setattr(ebm, "chain", lambda z, y, steps, noise: iter([starts.append(z) or z]))  # type: ignore[func-returns-value]
    ebm.loss(torch.zeros(n, 1, 2, 2))
    fresh = starts[0].flatten(1) != 7
    assert (fresh.all(1) == fresh.any(1)).all()
    assert abs(fresh.all(1).float().mean().item() - 0.05) < 5 * math.sqrt(0.05 * 0.95 / n)
    assert uniform(starts[0][fresh.all(1)])
    assert uniform(EBM(Space.continuous((10,)), EBM.Config()).replay)


def uniform(z: Tensor) -> bool:
    return stats.kstest(z.flatten().numpy(), stats.uniform(-1, 2).cdf).pvalue > 1e-6


def test_as_many_chains_as_examples_each_from_a_row_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a buffer larger and smaller than the batch."""
    monkeypatch.setattr(module, "RESTARTED", 0.0)
    for buffer, n in ((50, 20), (7, 20)):
        ebm, starts = EBM(Space.continuous((1,)), EBM.Config(buffer=buffer)), []
        ebm.replay.copy_(torch.arange(buffer)[:, None])
        monkeypatch.setattr(ebm, "chain", lambda z, y, steps, noise, to=starts: iter([to.append(z) or z + 100]))
        ebm.after_step(*ebm.loss_and_outputs(torch.zeros(n, 1))[1])
        rows = starts[0].flatten().long().bincount(minlength=buffer)
        assert rows.sum() == n
        assert rows.max() - rows.min() <= 1
        assert torch.equal(ebm.replay.flatten() >= 100, rows > 0), "an end is not where its start was"


def test_a_sample_starts_from_uniform_noise() -> None:
    ebm = known(0.0, 0.0, sampling_steps=4, noise=0.0)
    states = list(ebm.trajectory(500, seed=0))
    assert [(state.sampling_step, state.sampling_steps) for state in states] == [(k, 4) for k in (1, 2, 3, 4)]
    assert uniform(states[0].x)
    assert torch.equal(states[0].x, ebm.sample(500, seed=0)), "without energy and noise nothing moves"


def test_images_are_read_by_strided_convolutions() -> None:
    """Written out for 5 × 9 pixels and a label. Kills: a nonlinearity, a stride or a layer left out, V y alone."""
    net = EnergyNetwork((2, 5, 9), 3, Space.categories(4), bias=True)
    x, y = torch.randn(2, 2, 5, 9), torch.tensor([3, 1])
    layers = [layer for layer in net.features.layers if isinstance(layer, (nn.Conv2d, nn.Linear))]
    first, second, hidden = layers
    assert second.weight.shape[:2] == (6, 3)
    h = conv2d(x, first.weight, first.bias, padding=1)
    h = conv2d(h * h.sigmoid(), second.weight, second.bias, stride=2, padding=1)
    h = hidden((h * h.sigmoid()).flatten(1))
    w = net.last.weight + net.projection.weight[y]  # type: ignore[union-attr, index]
    assert torch.allclose(net(x, y), (w * h * h.sigmoid()).sum(1) + net.last.bias, atol=1e-6)


def test_only_a_model_of_noisy_data_removes_the_noise_of_its_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tweedie's formula: of a standard normal, whose score is -z, z becomes (1 - sigma²) z. Kills: the score left out,
    sigma for its square, the sign, the step for other trainers.
    """
    z = torch.tensor([[1.0, -2.0]])
    for trainer, expected in (("denoising", (1 - 0.3**2) * z), ("sliced", z)):
        ebm = EBM(Space.continuous((2,)), EBM.Config(trainer=trainer))
        monkeypatch.setattr(ebm, "score", lambda z, y: -z)
        torch.testing.assert_close(ebm.finished(z, None), expected)


def test_the_last_state_of_a_chain_alone_loses_its_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: a sample that is not denoised, states before it that are, the temperature left out."""
    config = EBM.Config(trainer="denoising", step_size=0.02, noise=0.2, sampling_steps=2)
    ebm = EBM(Space.continuous((2,)), config)
    ebm.network = Bowl(1.0)  # f = |z|² / 2 at T = 2
    monkeypatch.setattr(ebm, "chain", lambda z, y, steps, noise: iter([torch.ones(3, 2), 2 * torch.ones(3, 2)]))
    first, last = (state.x for state in ebm.trajectory(3, seed=0))
    torch.testing.assert_close(first, torch.ones(3, 2))
    torch.testing.assert_close(last, 2 * torch.ones(3, 2) * (1 - 0.3**2 / 2))


def test_noise_contrastive_estimation_has_no_deviation_of_zero() -> None:
    """Of a dimension that does not vary the noise of nce has a deviation of a thousandth."""
    ebm = EBM(Space.continuous((2,)), EBM.Config(trainer="nce", data_noise=0.0))
    ebm.initialise(torch.tensor([[1.0, 4.0], [3.0, 4.0]]))
    assert ebm.noise_std.tolist() == pytest.approx([1.0, 1e-3])
