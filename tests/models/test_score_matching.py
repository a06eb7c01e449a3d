"""The four forms of score matching: one minimum, and the same but for a number that no score changes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dgm.models.score.objectives import OBJECTIVES, denoising, explicit, implicit, sliced
from dgm.models.score.score_matching import ScoreMatching
from dgm.space import Space

M, S = 0.3, 0.6
SIGMA = 0.5


class Linear(nn.Module):
    """A score of -slope (x - M) / (S² + sigma²), in the units in which the network is asked; slope 1 is the truth."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma, self.slope, self.shift = sigma, nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        noisy = x * (1 + self.sigma**2) ** 0.5
        return self.sigma * self.slope * (noisy - M - self.shift) / (S**2 + self.sigma**2)


def score_matching(space: Space | None = None, **config: object) -> ScoreMatching:
    chosen = ScoreMatching.Config(width=8, **config)  # type: ignore[arg-type]
    return ScoreMatching(space or Space.continuous((1,)), chosen).double()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_true_score_makes_the_gradient_of_the_loss_zero(objective: str) -> None:
    """But for the windows' own score, which is that of the batch: 2000 of them are near enough."""
    model = score_matching(Space.continuous((2,)), objective=objective, sigma=SIGMA)
    model.network = network = Linear(SIGMA)  # type: ignore[assignment]
    size, gradients = (2000 if objective == "explicit" else 5000), []
    for _ in range(40):
        loss = model.loss(M + S * torch.randn(size, 2, dtype=torch.float64)).mean()
        gradients.append(torch.stack(torch.autograd.grad(loss, [network.slope, network.shift])))
    drawn = torch.stack(gradients)
    # windows are steeper than what they stand for, on average by 1 / size
    assert (drawn.mean(0).abs() < 4 * drawn.std(0) / 40**0.5 + 2 / size * (objective == "explicit")).all()
    assert (drawn.std(0) < 0.02).all()
    with torch.no_grad():
        network.slope.fill_(0.8)
    loss = model.loss(M + S * torch.randn(size, 2, dtype=torch.float64)).mean()
    assert torch.autograd.grad(loss, network.slope)[0] < -0.01


DATA = torch.tensor([[-0.8, 0.1], [0.2, 0.9], [0.5, -0.4]], dtype=torch.float64)


def perturbed_data(sigma: float, nodes: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    """x_0, x~ and weights that integrate over the noise, by Gauss and Hermite's rule in the plane."""
    at, weight = np.polynomial.hermite_e.hermegauss(nodes)
    eps = torch.from_numpy(np.array(list(itertools.product(at, at))))
    w = torch.from_numpy(np.outer(weight, weight).ravel() / weight.sum() ** 2)
    x_0 = DATA.repeat_interleave(len(eps), 0)
    return x_0, x_0 + sigma * eps.repeat(len(DATA), 1), w.repeat(len(DATA)) / len(DATA)


def a_score(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2)).double()


@pytest.mark.parametrize("sigma", [0.3, 0.7])
def test_forms_differ_by_a_number(sigma: float) -> None:
    """Vincent's equation 10 and Hyvärinen's theorem 1, of the windows on three points, by quadrature."""
    x_0, noisy, w = perturbed_data(sigma)
    means = []
    for seed in range(3):
        score = a_score(seed)
        means.append(
            torch.stack(
                [
                    (w * explicit(score, DATA, noisy, sigma)).sum(),
                    (w * denoising(score, x_0, noisy, sigma)).sum(),
                    (w * implicit(score, x_0, noisy, sigma)).sum(),
                ]
            )
        )
    found = torch.stack(means)
    apart = found - found[:, :1]
    assert found.std(0).min() > 0.05  # the scores are not alike
    torch.testing.assert_close(apart[1:], apart[:1].expand(2, 3), rtol=0, atol=1e-5)
    assert apart[0, 1] > 0.1


def test_denoising_is_above_implicit_by_the_noises_own_information() -> None:
    """½ E||eps / sigma||² = D / (2 sigma²)."""
    x_0, noisy, w = perturbed_data(SIGMA)
    score = a_score(0)
    above = (w * (denoising(score, x_0, noisy, SIGMA) - implicit(score, x_0, noisy, SIGMA))).sum()
    assert above.item() == pytest.approx(2 / (2 * SIGMA**2), abs=1e-6)


def test_signs_of_all_slices_make_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    score, x = a_score(0), torch.randn(5, 2, dtype=torch.float64)
    found = []
    for signs in itertools.product([0.0, 1.0], repeat=2):
        drawn = torch.tensor(signs, dtype=torch.float64).expand(5, 2)
        monkeypatch.setattr(torch, "randint_like", lambda x, high, drawn=drawn: drawn)
        found.append(sliced(score, x, x, SIGMA))
    torch.testing.assert_close(torch.stack(found).mean(0), implicit(score, x, x, SIGMA))
    assert torch.stack(found).std(0).min() > 1e-3


def test_windows_have_the_mixtures_own_score() -> None:
    noisy = torch.randn(6, 2, dtype=torch.float64).requires_grad_()
    squares = (noisy[:, None] - DATA).square().sum(2)
    (truth,) = torch.autograd.grad((-squares / (2 * SIGMA**2)).logsumexp(1).sum(), noisy)
    found = explicit(lambda x: truth, DATA, noisy.detach(), SIGMA)
    torch.testing.assert_close(found, torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-20)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_trained_for_a_while_it_finds_the_score(objective: str) -> None:
    torch.manual_seed(0)
    model = score_matching(Space.continuous((2,)), objective=objective, sigma=SIGMA)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(150):
        optimiser.zero_grad()
        model.loss(M + S * torch.randn(256, 2, dtype=torch.float64)).mean().backward()
        optimiser.step()
    std = (S**2 + SIGMA**2) ** 0.5
    x = M + std * torch.randn(500, 2, dtype=torch.float64)
    with torch.no_grad():
        error = (model.score(x) - (M - x) / std**2).square().mean().sqrt()
    assert error < 0.25 / std  # of a score whose own root mean square is 1 / std


def test_loss_is_half_untrained() -> None:
    x = torch.randn(20_000, 1, dtype=torch.float64)
    assert score_matching().loss(x).mean().item() == pytest.approx(0.5, abs=4 * 0.5 * (2 / 20_000) ** 0.5)


def test_samples_follow_langevins_own_law_and_lose_their_noise() -> None:
    """Langevin's stationary variance is s² / (1 - eta / 4 s²), and Tweedie's formula is affine here.

    Kills: eta in proportion to sigma and not to its square.
    """
    model = score_matching(sigma=SIGMA, sampling_steps=60, step_size=2.0)
    model.network = Linear(SIGMA)  # type: ignore[assignment]
    variance = S**2 + SIGMA**2
    kept = S**2 / variance  # of x~ - M
    std = kept * (variance / (1 - 2.0 * SIGMA**2 / (4 * variance))) ** 0.5
    x = model.sample(8000, seed=0).double()
    assert x.mean().item() == pytest.approx(M, abs=4 * std / 8000**0.5)
    assert x.std().item() == pytest.approx(std, rel=4 / 16_000**0.5)
    *_, before, last = model.trajectory(100, seed=0)
    assert (before.sampling_step, last.sampling_step) == (59, 60)
    assert before.x.std() > 1.2 * last.x.std()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_is_measured_where_gradients_are_off(objective: str) -> None:
    """As a validation does: the same number as in training, without touching the parameters' gradients."""
    model, x = score_matching(Space.continuous((2,)), objective=objective), torch.randn(4, 2, dtype=torch.float64)
    with torch.no_grad():
        model.network.body.head.weight.normal_()
    torch.manual_seed(1)
    expected = model.loss(x)
    torch.manual_seed(1)
    with torch.no_grad():
        torch.testing.assert_close(model.loss(x), expected)
