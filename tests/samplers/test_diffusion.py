"""Sampling of any denoising model: seeds, spaces, clamping, and what is asked for in vain."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from dgm.distributions.scaling import Scaling
from dgm.errors import BadInput, UnknownName
from dgm.processes.gaussian import CosineVP
from dgm.processes.parameterisation import Endpoints
from dgm.samplers.diffusion import Solving, clamped, sample, states, trajectory
from dgm.samplers.solvers import SOLVERS
from dgm.space import Space

from .gaussian import M, S, certain, float64, optimal


class Normal:
    """The best model of N(M, S²) in the path's units."""

    def __init__(self, space: Space) -> None:
        self.space, self.path, self.t_min, self.scaling = space, CosineVP(), 1e-3, Scaling(space)
        self.config, self.solving = SimpleNamespace(classes=0), Solving(steps=20)

    def endpoints(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Endpoints:
        assert t.shape == (len(x),)
        assert t.dtype == x.dtype
        return optimal(self.path)(x, t[0])


PLANE = Normal(Space.continuous((2,), loc=(5.0, -1.0), scale=(2.0, 3.0)))


@pytest.mark.parametrize("solver", [name for name in SOLVERS if name != "adaptive"])
@pytest.mark.parametrize("shape", [(2,), (3, 10, 10)])
def test_sample_k_depends_on_its_seed_alone(solver: str, shape: tuple[int, ...]) -> None:
    """With several draws at once where they are small, and one at a time where they are large."""
    model, solving = Normal(Space.continuous(shape)), Solving(solver=solver, steps=4)
    many, few = (sample(model, n, seed=3, solving=solving) for n in (9, 2))
    torch.testing.assert_close(many[:2], few)
    assert not torch.allclose(sample(model, 2, seed=4, solving=solving), few)


def test_adaptive_samples_depend_on_their_batch_within_the_tolerance() -> None:
    solving = Solving(solver="adaptive", options={"rtol": 1e-5, "atol": 1e-5})
    many, few = (sample(PLANE, n, seed=3, solving=solving) for n in (50, 2))
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
        sample(model, 30, seed=0, solving=Solving(steps=400))
    draws = torch.stack(seen).reshape(401, 60)
    assert len(draws.unique()) > 0.999 * draws.numel()  # in float32 some agree
    n = draws.numel()
    assert draws.mean().item() == pytest.approx(0, abs=4 / n**0.5)
    assert draws.var().item() == pytest.approx(1, abs=4 * (2 / n) ** 0.5)
    assert (draws[1:] * draws[:-1]).mean().item() == pytest.approx(0, abs=4 / n**0.5)


def test_states_come_in_the_datas_own_space_and_the_last_is_the_sample() -> None:
    steps = list(trajectory(PLANE, 400, seed=0))
    assert [(state.step, state.steps) for state in steps] == [(k, 20) for k in range(1, 21)]
    torch.testing.assert_close(steps[-1].x, sample(PLANE, 400, seed=0))
    *_, x_0 = states(PLANE, 400, seed=0)
    torch.testing.assert_close(steps[-1].x, x_0 * PLANE.scaling.scale + PLANE.scaling.loc)
    assert x_0.mean().item() == pytest.approx(M, abs=4 * S / 800**0.5)
    assert x_0.std().item() == pytest.approx(S, rel=0.15)  # DDIM's own 5 % for 20 steps, and 4 standard errors


def test_an_adaptive_solver_says_how_many_steps_it_took() -> None:
    steps = list(trajectory(PLANE, 3, seed=0, solving=Solving(solver="adaptive", steps=2, spacing="log_snr")))
    assert len(steps) > 2
    assert [(state.step, state.steps) for state in steps] == [(k, max(k, 2)) for k in range(1, len(steps) + 1)]


def test_levels_come_out_as_levels_and_clamping_keeps_what_is_expected_in_bounds() -> None:
    model = Normal(Space.levels((4,), 3))
    x = sample(model, 50, seed=0, solving=Solving(clamp=True))
    assert x.dtype == model.space.dtype
    assert x.min() >= 0
    assert x.max() <= 2
    path, t = CosineVP(), float64(0.4)[0]
    for x_0, within in ((1.7, 1.0), (-3.0, -1.0), (0.4, 0.4)):
        ends = clamped(certain(x_0, path), path)(float64(0.9), t)
        torch.testing.assert_close(ends.x_0, float64(within))
        torch.testing.assert_close(path.alpha(t) * ends.x_0 + path.sigma(t) * ends.eps, float64(0.9))


def test_what_cannot_be_solved_is_said_at_once() -> None:
    with pytest.raises(UnknownName, match="did you mean 'heun'"):
        Solving(solver="huen")
    with pytest.raises(BadInput, match="at least 1 step"):
        Solving(steps=0)
