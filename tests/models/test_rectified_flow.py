"""Reflow where the flow is known; straightness against quadrature; the phases of a training, also of one cut short."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import dgm
from dgm import tensor_files
from dgm.distributions.scaling import Scaling
from dgm.models.flow_matching.flow_matching import FlowMatching
from dgm.models.flow_matching.rectified_flow import USES, RectifiedFlow, straightness
from dgm.processes.gaussian import GaussianPath, LinearVE, Straight, over
from dgm.processes.parameterisation import Prediction
from dgm.space import Space

M, S = 0.3, 0.6


class Curved(nn.Module):
    """E[eps - x_0 | x_t] of independent pairs, x_0 ~ N(M, S²)."""

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        t = over(t, x_t)
        v = (1 - t) ** 2 * S**2 + t**2
        return -M + (t - (1 - t) * S**2) / v * (x_t - (1 - t) * M)


class Affine(nn.Module):
    """The straight flow from N(0, 1) to N(M, S²), which keeps standard scores, as the curved one does."""

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        t = over(t, x_t)
        z = (x_t - (1 - t) * M) / ((1 - t) * S + t)
        return z - M - S * z


def rectified_flow(space: Space | None = None, **config: Any) -> RectifiedFlow:
    return RectifiedFlow(space or Space.continuous((2,)), RectifiedFlow.Config(width=8, **config)).double()


def reflowing(space: Space | None = None, **config: Any) -> RectifiedFlow:
    """In its second phase, with the curved flow for a teacher."""
    model = rectified_flow(space, **config)
    model.teacher = Curved()
    model.step.fill_(model.config.reflow_after + 1)
    return model.eval()


def test_curved_flow_is_as_far_from_straight_as_quadrature_says() -> None:
    """x_t = m_t + s_t z with s_t² = (1 - t)² S² + t², so S = int (s_t' - (1 - S))² dt · E z²."""
    model = FlowMatching(Space.continuous((2,)), FlowMatching.Config(width=8)).double()
    model.network = Curved()  # type: ignore[assignment]
    nodes, weights = np.polynomial.legendre.leggauss(60)
    t = (nodes + 1) / 2
    speed = (t - (1 - t) * S**2) / np.sqrt((1 - t) ** 2 * S**2 + t**2)
    expected = ((speed - (1 - S)) ** 2 * weights).sum() / 2
    # E z² of 4000 pairs is 1 but for 4 standard errors
    assert straightness(model, 4000, sampling_steps=100) == pytest.approx(expected, rel=4 * (2 / 8000) ** 0.5)
    assert expected > 0.05


class Given:
    """The best model of N(M, S²) on a path, from an earliest time on."""

    def __init__(self, path: GaussianPath, t_min: float) -> None:
        self.path, self.t_min, self.space = path, t_min, Space.continuous((2,))
        self.scaling, self.config = Scaling(self.space).double(), SimpleNamespace()

    def predict(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Prediction:
        alpha, sigma = self.path.alpha(over(t, x)), self.path.sigma(over(t, x))
        standard = (x - alpha * M) / (alpha**2 * S**2 + sigma**2)
        return Prediction(M + alpha * S**2 * standard, sigma * standard)


@pytest.mark.parametrize(
    ("path", "t_min"), [(Straight(), 0.0), (Straight(), 0.3), (LinearVE(4.0), 0.2)], ids=["whole", "part", "exploding"]
)
def test_straightness_is_of_the_time_that_the_network_knows(path: GaussianPath, t_min: float) -> None:
    """x_t = m_t + s_t z with s_t² = alpha_t² S² + sigma_t², of a start N(0, sigma_1²): S by quadrature of the formula
    over [t_min, 1]. Kills: a chord, an end or a mean of another interval; a start of variance one.
    """

    def state(t: Tensor) -> tuple[Tensor, Tensor]:
        """m_t and s_t, where z is the start's own standard score, of mean off and deviation wide."""
        return path.alpha(t) * M, (path.alpha(t) ** 2 * S**2 + path.sigma(t) ** 2).sqrt()

    nodes, weights = np.polynomial.legendre.leggauss(60)
    t = torch.from_numpy(t_min + (1 - t_min) * (nodes + 1) / 2).requires_grad_()
    mean, spread = state(t)
    slopes = [torch.autograd.grad(v.sum(), t)[0] if v.grad_fn else 0 * t for v in (mean + 0 * t, spread)]
    ends = torch.tensor([t_min, 1.0], dtype=torch.float64)
    (m_0, m_1), (s_0, s_1) = state(ends)
    # z = (x_1 - m_1) / s_1 of x_1 ~ N(0, sigma_1²)
    off, wide = -m_1 / s_1, path.sigma(ends[1]) / s_1
    chord_m, chord_s = (m_1 - m_0) / (1 - t_min), (s_1 - s_0) / (1 - t_min)
    apart_m, apart_s = slopes[0].detach() - chord_m, slopes[1].detach() - chord_s
    squares = (apart_m + apart_s * off).square() + (apart_s * wide).square()
    expected = float((squares * torch.from_numpy(weights)).sum() / 2)
    # 4 standard errors of E z² of 4000 pairs
    assert straightness(Given(path, t_min), 4000, sampling_steps=100) == pytest.approx(
        expected, rel=4 * (2 / 8000) ** 0.5
    )
    assert expected > 1e-3


def test_the_teachers_average_forgets_at_most_a_two_hundredth() -> None:
    model = rectified_flow(reflow_after=10_000)
    model.step.fill_(5000)
    name, parameter = next(iter(model.matching.network.named_parameters()))
    kept = model.teacher.get_parameter(name)
    before = kept.clone()
    with torch.no_grad():
        parameter.add_(1)
    model.after_step()
    torch.testing.assert_close(kept, 0.995 * before + 0.005 * parameter.detach())


def test_pairs_are_made_in_eight_steps_of_heuns_method_under_their_labels() -> None:
    """And each serves four of a batch."""
    asked = list[tuple[float, list[int]]]()

    class Watched(Curved):
        def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
            asked.append((t[0].item(), [] if y is None else y.tolist()))
            return super().forward(x_t, t, y)

    model = reflowing()
    model.teacher = Watched()
    _, eps, _ = model.pairs(torch.randn(9, 2, dtype=torch.float64), torch.arange(9))
    assert len(eps.unique(dim=0)) == 3
    assert [labels for _, labels in asked] == [[0, 1, 2]] * 16
    times = [k / 8 for k in range(8, -1, -1)]
    assert [t for t, _ in asked] == pytest.approx([t for pair in pairwise(times) for t in pair])


def test_straight_flow_is_straight() -> None:
    model = FlowMatching(Space.continuous((2,)), FlowMatching.Config(width=8)).double()
    model.network = Affine()  # type: ignore[assignment]
    assert straightness(model, 100) < 1e-10


def test_pairs_are_the_teachers_own() -> None:
    """The exact flow takes eps to M + S eps; each pair serves four of the batch."""
    eps = torch.randn(10, 2, dtype=torch.float64)
    x_0, paired, y = reflowing().pairs(eps, torch.arange(10))
    assert y is not None
    torch.testing.assert_close(x_0, M + S * paired, atol=0.02, rtol=0)  # of Heun's method in 8 steps
    made = math.ceil(10 / USES)
    assert torch.equal(paired[:made], eps[:made])
    assert torch.equal(paired, eps[torch.arange(10) % made])
    assert torch.equal(y, torch.arange(10) % made)


def test_reflow_teaches_the_straight_flow() -> None:
    """Its loss is that of the solver's error alone, at any time; the curved flow's is its distance from straight."""
    model = reflowing()
    losses = []
    for network in (Affine(), Curved()):
        model.matching.network = network
        losses.append(model.loss(torch.zeros(2000, 2, dtype=torch.float64)).mean().item())
    assert losses[0] < 1e-3 < 0.05 < losses[1]


def test_first_phase_is_flow_matching() -> None:
    model, x = rectified_flow(reflow_after=5).train(), torch.randn(6, 2, dtype=torch.float64)
    for step in range(1, 8):
        torch.manual_seed(step)
        loss = model.loss(x)
        torch.manual_seed(step)
        assert torch.equal(loss, model.matching.loss(x)) == (step <= 5)
        assert int(model.step) == step - 1
        model.after_step()


def test_teacher_is_the_average_of_the_first_phase() -> None:
    """The network as it is when a step begins: as it started, and then after each step but the last."""
    model = rectified_flow(reflow_after=4).train()
    name, parameter = next(iter(model.matching.network.named_parameters()))
    kept = model.teacher.get_parameter(name)
    expected = kept.clone()
    for k in range(1, 6):
        with torch.no_grad():
            parameter.add_(k)
        model.after_step()
        if k <= 3:
            decay = (1 + k) / (10 + k)
            expected = decay * expected + (1 - decay) * parameter.detach()
        torch.testing.assert_close(kept, expected)


def test_training_leaves_the_teacher_where_the_first_phase_did() -> None:
    """Neither an optimiser nor the trainer's own average moves it."""
    data = dgm.data.load("toy/moons")
    model, kept = dgm.create("rectified_flow", data.space, width=8, reflow_after=4), []
    for step in dgm.fit(model, data, steps=20, batch=32, ema=0.9):
        kept += [parameter.clone() for parameter in model.teacher.parameters()] if step.step == 4 else []
    assert kept
    for before, after in zip(kept, model.teacher.parameters(), strict=True):
        assert torch.equal(before, after)
        assert not after.requires_grad


def test_a_training_cut_short_on_either_side_of_the_reflow_ends_in_the_same_bits(tmp_path: Path) -> None:
    data, settings = dgm.data.load("toy/moons"), {"steps": 8, "batch": 32, "checkpoint_every": 0.0}

    def model() -> Any:
        torch.manual_seed(0)
        return dgm.create("rectified_flow", data.space, width=8, reflow_after=4)

    list(dgm.fit(model(), data, out=tmp_path / "whole", **settings))
    whole = tensor_files.read_weights(tmp_path / "whole" / "weights.safetensors")
    for stop in (2, 4, 6):
        steps = dgm.fit(model(), data, out=tmp_path / str(stop), **settings)
        assert [next(steps).step for _ in range(stop)][-1] == stop
        steps.close()
        list(dgm.fit(model(), data, out=tmp_path / str(stop), resume=True))
        cut = tensor_files.read_weights(tmp_path / str(stop) / "weights.safetensors")
        torch.testing.assert_close(cut, whole, rtol=0, atol=0)


@pytest.mark.slow
def test_trained_past_its_reflow_it_is_straighter_and_one_step_goes_far() -> None:
    found = {}
    for reflow_after in (600, 10_000):
        torch.manual_seed(0)
        data = dgm.data.load("toy/moons")
        model = dgm.create("rectified_flow", data.space, reflow_after=reflow_after, sampling_steps=1)
        list(dgm.fit(model, data, steps=1200))
        spread = (model.sample(2000, seed=0).double().std(0) - data.test.x.double().std(0)).abs().max().item()
        found[reflow_after] = straightness(model, 500), spread
    assert found[600][0] < 0.3 * found[10_000][0]
    assert found[600][1] < 0.1 < 0.4 < found[10_000][1]  # one step of a curved flow makes the mean of all data
