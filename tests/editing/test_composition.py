"""Products, mixtures and quotients of normal densities, known in closed form: of energies and of scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from correlated import Correlated
from torch import Tensor, nn

import dgm
from dgm import contracts
from dgm.cli.main import main
from dgm.editing.composition import ComposedEnergy, Composition, Term, composed, sampled
from dgm.errors import BadInput, Unsupported
from dgm.models.energy.ebm import EBM
from dgm.processes.gaussian import CosineVP, GaussianPath, Straight, VarianceExploding
from dgm.samplers.annealed_langevin import annealed_langevin
from dgm.samplers.composition import Factor, evidence, one_of, product
from dgm.samplers.times import times
from dgm.space import Space

LINE, PLANE = Space.continuous((1,)), Space.continuous((2,))


class Bowl(nn.Module):
    """f = scale ((z - m)² / (2 v) + c)."""

    def __init__(self, m: float, v: float, c: float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.m, self.v, self.c, self.scale = m, v, c, scale

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        shift = 0 if y is None else y.to(z)
        return self.scale * ((z[:, 0] - self.m - shift).square() / (2 * self.v) + self.c)


def energy(m: float, v: float, c: float = 0.0, temperature: float = 1.0, condition: Space | None = None) -> Term:
    config = EBM.Config(width=1, step_size=0.01, noise=math.sqrt(0.01 * temperature), sampling_steps=400)
    ebm = EBM(LINE, config, condition)
    ebm.network = Bowl(m, v, c, temperature)
    return Term(ebm.eval(), None if condition is None else torch.tensor([2]))


Z = torch.tensor([[-0.7], [0.1], [1.4]])


def quadratic(m: float, v: float, c: float = 0.0) -> Tensor:
    return (Z[:, 0] - m).square() / (2 * v) + c


def test_energies_are_composed_in_nats() -> None:
    """Whatever their temperatures. Kills: f in place of f / T, each sign, a mean for the mixture's sum, the weight."""
    a, b, c, d = energy(0.2, 0.5, 0.3, 2.0), energy(-1.0, 2.0), energy(0.0, 1.0, 0.0, 0.5), energy(0.5, 4.0, -1.0)
    mixed = -torch.stack([-quadratic(0.2, 0.5, 0.3), -quadratic(-1.0, 2.0)]).logsumexp(0)
    expected = mixed + quadratic(0.0, 1.0) - 0.3 * quadratic(0.5, 4.0, -1.0)
    module = ComposedEnergy(Composition([a, b], [c], [d], 0.3), None)
    assert module.temperature == pytest.approx(2)
    torch.testing.assert_close(module.potential(Z) / module.temperature, expected)


def test_an_energy_is_composed_under_its_condition() -> None:
    a, b = energy(0.0, 1.0, condition=Space.categories(4)), energy(0.0, 1.0)
    torch.testing.assert_close(
        ComposedEnergy(Composition([b], [a]), None).potential(Z), quadratic(0.0, 1.0) + quadratic(2.0, 1.0)
    )
    with pytest.raises(BadInput, match="the energy of EBM needs a condition of its own"):
        composed(Composition([Term(a.model)]))


def test_a_composition_is_on_the_device_of_its_models_and_has_the_density_of_all_labels() -> None:
    """JEM has an E(x) beside E(x, y). Kills: a scaling of the composition's own, a condition for every energy."""
    jem = dgm.create("jem", PLANE, Space.categories(3), width=1)
    module = composed(Composition([Term(jem)], [Term(jem, torch.tensor([2]))]))
    z = torch.randn(4, 2)
    label = torch.full((4,), 2)
    torch.testing.assert_close(module.potential(z), jem.potential(z) + jem.potential(z, label))  # type: ignore[operator]
    there = composed(Composition([Term(jem.to("meta"), torch.tensor([2]))]))
    *_, last = there.trajectory(2, seed=0)  # type: ignore[operator]
    assert last.x.device.type == "meta"


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_samples_of_a_product_of_normal_energies(weight: float) -> None:
    """N(m1, v1) N(m2, v2) / N(m3, v3)^w is normal with the sum of precisions; chains widen it by 1 / (1 - eta / 4v)."""
    parts = [(0.5, 0.5, 1.0), (-0.4, 0.2, 1.0), (1.0, 0.4, -weight)]
    precision = sum(w / v for _, v, w in parts)
    mean, v, n = sum(w * m / v for m, v, w in parts) / precision, 1 / precision, 8_000
    a, b, c = (energy(m, v) for m, v, _ in parts)
    x = sampled(Composition([a], [b], [c], weight), n)
    assert x.mean().item() == pytest.approx(mean, abs=5 * math.sqrt(v / n))
    assert x.var().item() == pytest.approx(v / (1 - 0.01 / (4 * v)), rel=5 * math.sqrt(2 / n))


def normal_eps(path: GaussianPath, m: float, s: float) -> Callable[[Tensor, Tensor], Tensor]:
    """E[eps | x_t] of data N(m, s²)."""

    def eps(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = path.alpha(t), path.sigma(t)
        return sigma * (x - alpha * m) / (alpha**2 * s**2 + sigma**2)

    return eps


def law(denoise: Any, path: GaussianPath, grid: Tensor, step_size: float) -> tuple[float, float]:
    """Mean and standard deviation of the last state, exact, since each step is affine in the state and its noise."""
    steps = 4
    draws = iter(range(2, 2 + steps * len(grid)))

    def one(k: int) -> Tensor:
        return torch.zeros(2 + steps * len(grid), dtype=torch.float64).index_fill(0, torch.tensor(k), 1.0)

    start = path.sigma(grid[0]) * one(1)
    how: dict[str, Any] = {"langevin_steps": steps, "step_size": step_size}
    *_, x = annealed_langevin(denoise, path, start, grid, lambda: one(next(draws)), **how)
    return x[0].item(), (x[1:] - x[0]).norm().item()


@pytest.mark.parametrize(
    "path", [CosineVP(), VarianceExploding(0.01, 50.0), Straight()], ids=lambda p: type(p).__name__
)
def test_scores_of_normal_densities_are_multiplied(path: GaussianPath) -> None:
    """p1 p2 / p3^½. Kills: a sign, the weight, x_0 that ignores the composed eps, chains of one density's step size."""
    parts = [(0.9, 0.6, 1.0), (0.4, 0.8, 1.0), (-0.6, 1.5, -0.5)]
    precision = sum(w / s**2 for _, s, w in parts)
    mean = sum(w * m / s**2 for m, s, w in parts) / precision
    factors = [Factor(normal_eps(path, m, s), w) for m, s, w in parts]
    found = law(product(factors, path), path, times(path, 200, "log_snr"), 0.6 / 2.5)
    # the chains lag behind the falling noise and widen the density, each by a few per cent at this number of steps
    assert found == pytest.approx((mean, precision**-0.5), rel=0.05)


def test_a_product_of_many_takes_steps_as_much_smaller() -> None:
    """Of eight times N(0, I). Kills: the step size of one density, with which each step multiplies x by -1.4."""
    one = Term(Correlated((1, 1, 2), torch.eye(2).double(), mean=0.0))
    walk: Any = composed(Composition([one], [one] * 7), sampling_steps=20)
    states = [state.x for state in walk.trajectory(100, seed=0)]
    assert max(x.abs().max() for x in states) < 6
    assert states[-1].std() == pytest.approx(8**-0.5, rel=0.25)


def test_a_weight_of_two_divides_by_the_density_twice() -> None:
    """Kills: the weight of ``without`` left out."""
    one, wide = (Term(Correlated((1, 1, 2), v * torch.eye(2).double(), mean=m)) for v, m in ((0.25, 0.3), (2.0, 1.0)))
    found = [
        sampled(of, 4, seed=0, sampling_steps=5, langevin_steps=2)
        for of in (Composition([one], [], [wide], 2.0), Composition([one], [], [wide, wide], 1.0))
    ]
    torch.testing.assert_close(*found)


def test_x_0_agrees_with_the_composed_noise() -> None:
    path, x, t = CosineVP(), torch.randn(5, 2, dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64)
    factors = [Factor(normal_eps(path, 0.3, 0.6), 1.0), Factor(normal_eps(path, -1.0, 0.5), -0.7)]
    x_0, eps, _ = product(factors, path)(x, t)
    torch.testing.assert_close(path.alpha(t) * x_0 + path.sigma(t) * eps, x)
    torch.testing.assert_close(eps, factors[0].eps(x, t) - 0.7 * factors[1].eps(x, t))


def test_each_sample_takes_one_alternative() -> None:
    alternatives = [lambda x, t: x, lambda x, t: -x, lambda x, t: 3 * x]
    x = torch.randn(4, 2)
    found = one_of(alternatives, torch.tensor([2, 0, 1, 2]))(x, torch.tensor(0.5))
    torch.testing.assert_close(found, torch.tensor([3.0, 1, -1, 3])[:, None] * x)


def denoising(space: Space = PLANE, condition: Space | None = None, name: str = "ddpm", **config: Any) -> Any:
    torch.manual_seed(0)
    return contracts.perturbed(dgm.create(name, space, condition, width=8, **config))


def test_evidence_is_divided_by_the_unconditional_density() -> None:
    """Where the model has one. Kills: a factor p(x) that is counted once for each condition."""
    model, y = denoising(condition=Space.categories(3), condition_dropout=0.1), torch.tensor([1, 1])
    x, t = torch.randn(2, 2), torch.tensor(0.3)
    eps = [model.predict(x, t.expand(2), of).eps for of in (y, None)]
    torch.testing.assert_close(evidence(model, y)(x, t), eps[0] - eps[1])
    torch.testing.assert_close(evidence(model, None)(x, t), eps[1])
    other = denoising(condition=Space.categories(3), condition_dropout=0.0)
    torch.testing.assert_close(evidence(other, y)(x, t), other.predict(x, t.expand(2), y).eps)


def test_a_sample_of_a_composition_depends_on_its_seed_and_number_alone() -> None:
    model = denoising()
    of = Composition([Term(model), Term(denoising())], [Term(model)])
    few, many = (sampled(of, n, seed=3, sampling_steps=4, langevin_steps=2) for n in (3, 7))
    torch.testing.assert_close(many[:3], few, rtol=1e-3, atol=1e-3)
    assert not torch.equal(sampled(of, 3, seed=4, sampling_steps=4, langevin_steps=2), few)


def test_what_cannot_be_composed_is_refused() -> None:
    model = denoising()
    refused: list[tuple[type[Exception], str, list[Any]]] = [
        (BadInput, "of one space", [model, denoising(Space.continuous((3,)))]),
        (Unsupported, "energies alone or of denoising models alone, got DDPM, EBM", [model, EBM(PLANE, EBM.Config())]),
        (BadInput, "two models on one path", [model, denoising(name="flow_matching")]),
        (
            BadInput,
            "without condition dropout and needs a condition",
            [denoising(condition=Space.categories(2), condition_dropout=0.0)],
        ),
    ]
    for error, words, (first, *others) in refused:
        with pytest.raises(error, match=words):
            composed(Composition([Term(first)], [Term(other) for other in others]))


def test_the_command_composes_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, options in (("a", []), ("b", ["--conditional"])):
        settings = ["--model.width", "2", "--model.langevin-steps", "1", "--model.sampling-steps", "3", *options]
        assert main(["train", "ebm", "--data", "digits", *settings, "--steps", "1", "--out", str(tmp_path / name)]) == 0
    a, b, out = str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "x.npz")
    command = ["edit", "compose", b, "--label", "3", "--and", "@8", "--or", f"{b}@1", "--not", a, "-n", "6"]
    assert main([*command, "--out", out]) == 0
    assert "2 × 3 results" in capsys.readouterr().out
    from numpy import load

    assert load(out, allow_pickle=False)["x"].shape == (6, 1, 8, 8)
    for wrong, words in (
        (["--and", b], "name it after the run: RUN@CONDITION"),
        (["--not", str(tmp_path / "none")], "there is no run"),
        (["--and", f"{a}@3"], "trained without a condition"),
    ):
        assert main(["edit", "compose", a, *wrong, "--out", str(tmp_path / "y.png")]) == 2
        assert words in capsys.readouterr().err


def test_points_are_no_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Kills: a refusal after all steps of the chains."""
    run = str(tmp_path / "run")
    assert main(["train", "ebm", "--data", "toy/ring", "--steps", "1", "--model.width", "2", "--out", run]) == 0
    capsys.readouterr()
    assert main(["edit", "compose", run, "--or", run, "--out", str(tmp_path / "x.png")]) == 2
    err = capsys.readouterr().err
    assert "are no pictures" in err
    assert ".npz" in err
    assert "composing" not in err
