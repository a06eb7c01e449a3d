"""Energy matching in closed form: its two losses, the temperature of its chains and their stationary density."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dgm.models.energy import energy_matching as module
from dgm.models.energy.energy_matching import EnergyMatching, rise
from dgm.models.flow_matching.ot_cfm import pairs
from dgm.space import Space

PLANE = Space.continuous((2,))
SLOPE = torch.tensor([0.5, -2.0], dtype=torch.float64)


class Bowl(nn.Module):
    """V = a |z|² / 2 + b · z."""

    def __init__(self, a: float = 0.8, b: Tensor = SLOPE) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(a, dtype=torch.float64)), b

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.a * z.square().sum(1) / 2 + z @ self.b


def known(a: float = 0.8, b: Tensor = SLOPE, **config: Any) -> EnergyMatching:
    model = EnergyMatching(PLANE, EnergyMatching.Config(width=1, **config)).double()
    model.network = Bowl(a, b)
    return model


def test_the_transport_is_along_minus_the_gradient() -> None:
    """||a x_t + b + x_1 - x_0||² / D at x_t = (1 - t) x_0 + t x_1. Kills: each sign, time the other way round."""
    model, t = known(), torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    x_0, x_1 = torch.randn(2, 3, 2, dtype=torch.float64)
    x_t = (1 - t)[:, None] * x_0 + t[:, None] * x_1
    expected = (0.8 * x_t + SLOPE + x_1 - x_0).square().mean(1)
    torch.testing.assert_close(model.transport_error(x_0, x_1, t, None), expected)


def test_noise_is_paired_with_data_by_optimal_transport() -> None:
    """With V = 0 the loss is the squared distance of the pairs."""
    x, model = torch.randn(16, 2).double(), known(0.0, 0 * SLOPE)
    torch.manual_seed(3)
    found = model.loss(x)
    torch.manual_seed(3)
    noise = 2 * torch.randn_like(x)
    torch.testing.assert_close(found.detach(), (x - noise[pairs(x, noise)]).square().mean(1))


def test_after_the_warm_up_the_loss_has_a_contrast(monkeypatch: pytest.MonkeyPatch) -> None:
    """(1 - rise) L_OT + lambda (V(x_1) - V(x^-)). Kills: the two exchanged, a weight that rises, an endless warm-up."""
    model, x = known(warmup=2, contrast=0.3), torch.randn(5, 2).double()
    ends, t = torch.randn(5, 2).double(), torch.tensor([0.1, 0.9, 0.95, 0.975, 1.0]).double()
    monkeypatch.setattr(model, "negatives", lambda x_1, y: ends)
    monkeypatch.setattr(module.torch, "rand", lambda *size, device=None: t)
    monkeypatch.setattr(model, "transport_error", lambda x_0, x_1, t, y: torch.full((5,), 2.0).double())
    assert model.loss(x).tolist() == [2.0] * 5
    model.after_step()
    assert model.loss(x).tolist() == [2.0] * 5
    model.after_step()
    fall = torch.tensor([1, 1, 0.5, 0.25, 0.0]).double()
    expected = 2 * fall + 0.3 * (model.potential(x) - model.potential(ends))
    torch.testing.assert_close(model.loss(x), expected, rtol=1e-5, atol=1e-6)  # t is float32


def test_the_energy_is_that_of_the_highest_temperature() -> None:
    assert rise(torch.tensor([0.0, 0.9, 0.925, 1.0, 3.0])).tolist() == pytest.approx([0, 0, 0.25, 1, 1], abs=1e-6)
    model, x = known(temperature=0.2), torch.randn(3, 2).double()
    torch.testing.assert_close(model.energy(x), model.potential(x) / 0.2)


def test_images_have_defaults_of_their_own() -> None:
    image = EnergyMatching(Space.levels((1, 2, 2), 5), EnergyMatching.Config(contrast=3.0))
    assert image.weights == module.IMAGES._replace(contrast=3.0)
    assert image.temperature == pytest.approx(image.weights.temperature)
    assert known().weights == module.POINTS


def test_chains_have_no_noise_up_to_the_switch_and_all_of_it_at_the_data() -> None:
    """x - dt grad V + sqrt(2 dt epsilon) z. Kills: dt / 2, a variance for a deviation, noise at t = 0, one dt."""
    model, t = known(temperature=0.2, step_size=0.01), torch.tensor([0.0, 1.0]).double()
    states = list(model.dynamics(torch.zeros(2, 2).double(), None, t, 19, lambda: torch.ones(2, 2).double()))
    full = math.sqrt(2 * 0.01 * 0.2)
    torch.testing.assert_close(states[0], torch.stack([-0.05 * SLOPE, -0.01 * SLOPE + full]))
    before = states[17]
    drift = -0.01 * (0.8 * before + SLOPE)
    partly = math.sqrt(2 * 0.01 * 0.2 * 0.1)  # t = 0.91 of the first
    torch.testing.assert_close(states[18] - before - drift, torch.tensor([partly, full]).double()[:, None].expand(2, 2))


def test_a_chain_of_a_composition_takes_the_steps_at_the_data() -> None:
    """Kills: eta for 2 eta, which `langevin` halves; a buffer, whose chains no loss has."""
    model, z = known(temperature=0.2, step_size=0.01), torch.randn(3, 2).double()
    (after,) = model.chain(z, None, 1, lambda: torch.ones(3, 2).double())
    torch.testing.assert_close(after, z - 0.01 * (0.8 * z + SLOPE) + math.sqrt(2 * 0.01 * 0.2))
    assert model.diagnose(z) == {}


def test_a_quarter_of_the_chains_starts_from_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen, x = known(spread=0.5), [], torch.full((8, 2), 9.0).double()

    def dynamics(z: Tensor, y: None, t: Tensor, steps: int, noise: Any) -> Any:
        seen.append((z, t, steps))
        yield z

    monkeypatch.setattr(model, "dynamics", dynamics)
    model.negatives(x, None)
    ((start, t, steps),) = seen
    assert (t.tolist(), steps) == ([0.0] * 2 + [1.0] * 6, 30)
    assert (start[2:] == 9).all()
    assert (start[:2].abs() < 3).all()


def test_samples_end_in_the_density_of_the_energy() -> None:
    """exp(-V / epsilon) = N(-b / a, epsilon / a), widened by 1 / (1 - dt a / 2); of the start exp(-a t) is left."""
    n = 8000
    model = known(2.0, SLOPE / 2, temperature=0.3, step_size=0.02, sampling_steps=180)
    x = model.sample(n, seed=0)
    v = 0.3 / 2 / (1 - 0.02 * 2 / 2)
    assert (x.mean(0) + SLOPE / 4).abs().max() < 5 * math.sqrt(v / n) + 3 * math.exp(-8)
    assert x.var(0).tolist() == pytest.approx([v, v], rel=5 * math.sqrt(2 / n))
