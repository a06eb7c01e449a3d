"""Sampling of any denoising model: seeds, spaces, clamping, and what is asked for in vain."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dgm.distributions.scaling import Scaling
from dgm.errors import BadInput, UnknownName
from dgm.processes.gaussian import CosineVP, LinearVE
from dgm.processes.parameterisation import Prediction
from dgm.samplers.diffusion import SamplerConfig, clamped, sample, states, trajectory
from dgm.samplers.options import sampler_of
from dgm.samplers.solvers import SOLVERS
from dgm.samplers.times import times
from dgm.space import Space

from .gaussian import M, S, certain, float64, optimal


class Normal(nn.Module):
    """The best model of N(M, S²) in the path's units."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space, self.path, self.t_min, self.scaling = space, CosineVP(), 1e-3, Scaling(space)
        self.config, self.sampler = SimpleNamespace(), SamplerConfig(sampling_steps=20)

    def predict(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Prediction:
        assert t.shape == (len(x),)
        assert t.dtype == x.dtype
        return optimal(self.path)(x, t[0])


PLANE = Normal(Space.continuous((2,), loc=(5.0, -1.0), scale=(2.0, 3.0)))


@pytest.mark.parametrize("solver", [name for name in SOLVERS if name != "adaptive"])
@pytest.mark.parametrize("shape", [(2,), (3, 10, 10)])
def test_sample_k_depends_on_its_seed_alone(solver: str, shape: tuple[int, ...]) -> None:
    """With several draws at once where they are small, and one at a time where they are large."""
    model, sampler = Normal(Space.continuous(shape)), SamplerConfig(solver=solver, sampling_steps=4)
    many, few = (sample(model, n, seed=3, sampler=sampler) for n in (9, 2))
    torch.testing.assert_close(many[:2], few)
    assert not torch.allclose(sample(model, 2, seed=4, sampler=sampler), few)


def test_adaptive_samples_depend_on_their_batch_within_the_tolerance() -> None:
    sampler = SamplerConfig(solver="adaptive", options={"rtol": 1e-5, "atol": 1e-5})
    many, few = (sample(PLANE, n, seed=3, sampler=sampler) for n in (50, 2))
    torch.testing.assert_close(many[:2], few, rtol=0, atol=1e-3)


def test_stochastic_draws_are_standard_and_independent() -> None:
    """The noise of a run of `ancestral`, recovered from a solver that yields it: more draws than come at once."""
    model, seen = Normal(Space.continuous((2,))), []

    def record(denoise: Any, path: Any, x: Tensor, times: Tensor, noise: Any, **_: Any) -> Any:
        seen.append(x / path.sigma(times[0]))
        for _ in times[1:]:
            seen.append(noise())
            yield x

    patched = pytest.MonkeyPatch()
    with patched.context() as patch:
        patch.setitem(SOLVERS, "ddim", SOLVERS["ddim"]._replace(solve=record))  # type: ignore[arg-type]
        sample(model, 30, seed=0, sampler=SamplerConfig(sampling_steps=400))
    draws = torch.stack(seen).reshape(401, 60)
    assert len(draws.unique()) > 0.999 * draws.numel()  # in float32 some agree
    n = draws.numel()
    assert draws.mean().item() == pytest.approx(0, abs=4 / n**0.5)
    assert draws.var().item() == pytest.approx(1, abs=4 * (2 / n) ** 0.5)
    assert (draws[1:] * draws[:-1]).mean().item() == pytest.approx(0, abs=4 / n**0.5)


def test_states_come_in_the_datas_own_space_and_the_last_is_the_sample() -> None:
    steps = list(trajectory(PLANE, 400, seed=0))
    assert [(state.sampling_step, state.sampling_steps) for state in steps] == [(k, 20) for k in range(1, 21)]
    torch.testing.assert_close(steps[-1].x, sample(PLANE, 400, seed=0))
    *_, x_0 = states(PLANE, 400, seed=0)
    torch.testing.assert_close(steps[-1].x, x_0 * PLANE.scaling.scale + PLANE.scaling.loc)
    assert x_0.mean().item() == pytest.approx(M, abs=4 * S / 800**0.5)
    assert x_0.std().item() == pytest.approx(S, rel=0.15)  # DDIM's own 5 % for 20 steps, and 4 standard errors


def test_an_adaptive_solver_says_how_many_steps_it_took() -> None:
    steps = list(
        trajectory(PLANE, 3, seed=0, sampler=SamplerConfig(solver="adaptive", sampling_steps=2, spacing="log_snr"))
    )
    assert len(steps) > 2
    assert [(state.sampling_step, state.sampling_steps) for state in steps] == [
        (k, max(k, 2)) for k in range(1, len(steps) + 1)
    ]


def test_levels_come_out_as_levels_and_clamping_keeps_what_is_expected_in_bounds() -> None:
    model = Normal(Space.levels((4,), 3))
    x = sample(model, 50, seed=0, sampler=SamplerConfig(clamp=True))
    assert x.dtype == model.space.dtype
    assert x.min() >= 0
    assert x.max() <= 2
    path, t = CosineVP(), float64(0.4)[0]
    for x_0, within in ((1.7, 1.0), (-3.0, -1.0), (0.4, 0.4)):
        predicted = clamped(certain(x_0, path), path)(float64(0.9), t)
        torch.testing.assert_close(predicted.x_0, float64(within))
        torch.testing.assert_close(path.alpha(t) * predicted.x_0 + path.sigma(t) * predicted.eps, float64(0.9))


@pytest.mark.parametrize("clamp", [False, True])
@pytest.mark.parametrize(
    ("space", "bounded"),
    [
        (Space.levels((2,), 5), True),
        (Space.continuous((2,), low=-1.0, high=1.0), True),
        (Space.continuous((2,)), False),
    ],
)
def test_predictions_are_clamped_where_asked_and_where_data_has_bounds(
    space: Space, bounded: bool, clamp: bool
) -> None:
    model = Normal(space)
    model.predict = lambda x, t, y=None: certain(3.0, model.path)(x, t[0])  # type: ignore[method-assign]
    *_, x_0 = states(model, 2, seed=0, sampler=SamplerConfig(sampling_steps=3, clamp=clamp))
    torch.testing.assert_close(x_0, torch.full_like(x_0, 1.0 if bounded and clamp else 3.0))


def test_clamping_keeps_a_learnt_variance() -> None:
    def denoise(x: Tensor, t: Tensor) -> Prediction:
        return Prediction(x, x, 0.25 * torch.ones_like(x))

    predicted = clamped(denoise, CosineVP())(float64(9.0), float64(0.4)[0])
    torch.testing.assert_close(predicted.variance, float64(0.25))


def test_a_solver_gets_the_models_path_the_settings_and_noise_as_strong_as_the_paths(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Kills: times, spacing, options or guidance left out; a start of variance one on a path that ends with more."""
    model, calls = Normal(Space.continuous((2,))), []
    model.path, model.t_min = LinearVE(20.0), 0.07

    def record(denoise: Any, path: Any, x: Tensor, times: Tensor, noise: Any, **options: Any) -> Any:
        calls.append((denoise, path, x, times, options))
        yield x

    monkeypatch.setitem(SOLVERS, "edm", SOLVERS["edm"]._replace(solve=record))  # type: ignore[arg-type]
    sampler = SamplerConfig(solver="edm", sampling_steps=9, spacing="quadratic", options={"s_churn": 3.0})
    mine = object()
    sample(model, 2000, seed=0, sampler=sampler, guide=lambda model, y: mine)
    ((denoise, path, x, grid, options),) = calls
    assert denoise is mine
    assert path is model.path
    assert options == {"s_churn": 3.0}
    torch.testing.assert_close(grid.double(), times(path, 9, "quadratic", t_min=0.07))
    assert x.std().item() == pytest.approx(20, rel=4 / 8000**0.5)


def test_what_is_asked_for_replaces_a_models_own_sampler() -> None:
    """Another solver has its own options, the same one keeps the model's."""
    own = SamplerConfig(solver="ddim", sampling_steps=7, spacing="karras", clamp=True, options={"eta": 0.3})
    model: Any = SimpleNamespace(sampler=own)
    assert sampler_of(model) == sampler_of(model, solver="ddim", sampling_steps=7) == own
    assert sampler_of(model, solver="heun") == replace(own, solver="heun", options={})
    assert sampler_of(model, eta=0.5, spacing="uniform") == replace(own, options={"eta": 0.5}, spacing="uniform")


def test_settings_left_out() -> None:
    assert SamplerConfig() == SamplerConfig(
        solver="ddim", sampling_steps=50, spacing="uniform", clamp=False, options={}
    )


def test_what_cannot_be_solved_is_said_at_once() -> None:
    with pytest.raises(UnknownName, match="did you mean 'heun'"):
        SamplerConfig(solver="huen")
    with pytest.raises(BadInput, match="at least 1 sampling step"):
        SamplerConfig(sampling_steps=0)
