"""DDIM: codes of Gaussian data, where each point keeps its standard score on the way to noise."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from dgm.models.diffusion.ddim import DDIM
from dgm.models.diffusion.ddpm import DDPM
from dgm.processes.gaussian import over
from dgm.space import Space

M, S = 0.3, 0.6


class Optimal(nn.Module):
    def __init__(self, model: DDIM) -> None:
        super().__init__()
        self.path = model.path

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        alpha, sigma = self.path.alpha(over(t, x_t)), self.path.sigma(over(t, x_t))
        return sigma * (x_t - alpha * M) / (alpha**2 * S**2 + sigma**2)


def ddim(**config: object) -> DDIM:
    model = DDIM(Space.continuous((2,)), DDIM.Config(width=8, **config)).double()  # type: ignore[arg-type]
    model.ddpm.network = Optimal(model)  # type: ignore[assignment]
    return model


def test_code_is_the_standard_score_and_comes_back() -> None:
    """Kills: a grid that is not turned round."""
    model, x = ddim(timesteps=1000, sampling_steps=1000), torch.randn(6, 2, dtype=torch.float64)
    code = model.encode(x)
    torch.testing.assert_close(code, (x - M) / S, atol=2e-2, rtol=0)
    torch.testing.assert_close(model.decode(code), x, atol=1e-2, rtol=0)


class Labelled(Optimal):
    """Of data N(M + y, S²)."""

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        assert y is not None
        return super().forward(x_t - self.path.alpha(over(t, x_t)) * y[:, None], t)


def test_codes_are_equation_14_step_by_step() -> None:
    """In four long steps, of data in other units, under labels. Kills: a start that forgets alpha, the bound's T for
    the sampler's steps, labels or units left out.
    """
    space = Space.continuous((2,), loc=(5.0, 5.0), scale=(2.0, 2.0))
    model = DDIM(space, DDIM.Config(width=8, timesteps=10, sampling_steps=4), Space.categories(2)).double()
    model.ddpm.network = network = Labelled(model)  # type: ignore[assignment]
    alpha, sigma = model.path.alpha, model.path.sigma
    x, y = 5 + 2 * torch.randn(3, 2, dtype=torch.float64), torch.tensor([0, 1, 1])

    def moved(state: Tensor, t: Tensor, s: Tensor) -> Tensor:
        eps = network(state, t.expand(3), y)
        x_0 = (state - sigma(t) * eps) / alpha(t)
        return alpha(s) * x_0 + sigma(s) * eps

    times = torch.tensor([0.25, 0.5, 0.75, 1.0], dtype=torch.float64)  # the network knows none before 1 / T = 0.1
    code = alpha(times[0]) * (x - 5) / 2
    for t, s in pairwise(times):
        code = moved(code, t, s)
    torch.testing.assert_close(model.encode(x, y), code, rtol=1e-5, atol=1e-6)  # the model's times are float32
    down = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0], dtype=torch.float64)
    state = code
    for t, s in pairwise(down):
        state = moved(state, t, s)
    torch.testing.assert_close(model.decode(code, y), 5 + 2 * state, rtol=1e-5, atol=1e-6)


def test_the_networks_earliest_time_bounds_the_grid() -> None:
    """Where there are more steps of the sampler than of T."""
    grid = ddim(timesteps=10, sampling_steps=50).grid()
    assert grid[-2].item() == pytest.approx(0.1)
    assert grid[-1] == 0


def test_training_is_that_of_the_ddpm_with_the_same_settings() -> None:
    shared = {"timesteps": 7, "schedule": "linear", "width": 16, "condition_dropout": 0.7}
    model = DDIM(Space.continuous((2,)), DDIM.Config(**shared))  # type: ignore[arg-type]
    assert model.ddpm.config == DDPM.Config(**shared)  # type: ignore[arg-type]


def test_reconstruction_gains_from_steps() -> None:
    """Table 2 of the paper: the error falls with the steps."""
    x = torch.randn(6, 2, dtype=torch.float64)
    errors = []
    for steps in (10, 40, 160):
        model = ddim(timesteps=1000, sampling_steps=steps)
        errors.append((model.decode(model.encode(x)) - x).square().mean().item())
    assert errors[0] > 4 * errors[1] > 16 * errors[2]


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_samples_follow_the_data_whatever_eta(eta: float) -> None:
    x = ddim(eta=eta, sampling_steps=200, timesteps=400).sample(4000, seed=0).double()
    assert x.mean().item() == pytest.approx(M, abs=4 * S / 8000**0.5)
    assert x.std().item() == pytest.approx(S, rel=0.04)


def test_without_noise_a_sample_is_a_function_of_its_first_noise() -> None:
    model = ddim(sampling_steps=20)
    from dgm.seeds import streams

    noise = streams(3, 0).normal((2,)).double() * model.path.sigma(torch.tensor(1.0))
    torch.testing.assert_close(model.sample(3, seed=0), model.decode(noise), atol=1e-5, rtol=1e-5)
