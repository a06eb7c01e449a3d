"""DDIM: codes of Gaussian data, where each point keeps its standard score on the way to noise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dgm.models.diffusion.ddim import DDIM
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
    """Kills: a grid that is not turned round, a start that forgets alpha."""
    model, x = ddim(steps=1000, sampling_steps=1000), torch.randn(6, 2, dtype=torch.float64)
    code = model.encode(x)
    torch.testing.assert_close(code, (x - M) / S, atol=2e-2, rtol=0)
    torch.testing.assert_close(model.decode(code), x, atol=1e-2, rtol=0)


def test_reconstruction_gains_from_steps() -> None:
    """Table 2 of the paper: the error falls with the steps."""
    x = torch.randn(6, 2, dtype=torch.float64)
    errors = []
    for steps in (10, 40, 160):
        model = ddim(steps=1000, sampling_steps=steps)
        errors.append((model.decode(model.encode(x)) - x).square().mean().item())
    assert errors[0] > 4 * errors[1] > 16 * errors[2]


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_samples_follow_the_data_whatever_eta(eta: float) -> None:
    x = ddim(eta=eta, sampling_steps=200, steps=400).sample(4000, seed=0).double()
    assert x.mean().item() == pytest.approx(M, abs=4 * S / 8000**0.5)
    assert x.std().item() == pytest.approx(S, rel=0.04)


def test_without_noise_a_sample_is_a_function_of_its_first_noise() -> None:
    model = ddim(sampling_steps=20)
    from dgm.seeds import streams

    noise = streams(3, 0).normal((2,)).double() * model.path.sigma(torch.tensor(1.0))
    torch.testing.assert_close(model.sample(3, seed=0), model.decode(noise), atol=1e-5, rtol=1e-5)
