"""The density of a generator's noisy samples, against a linear generator, whose density is a normal distribution."""

from __future__ import annotations

import importlib
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

import dgm
from dgm.data import Dataset, Split
from dgm.evaluation import evaluate
from dgm.evaluation.annealed import annealed_log_prob, bracket, examples_within
from dgm.evaluation.observation import Observed, chosen_noise, kernel_density, means_of
from dgm.space import Space

A = torch.tensor([[1.0, 0.0], [0.5, 0.8], [-0.3, 0.4]])
SHIFT, SIGMA = torch.tensor([0.5, -1.0, 0.0]), 0.5
SPACE = Space.continuous((3,), loc=(1.0, 2.0, 3.0), scale=(2.0, 2.0, 4.0))
EXACT = MultivariateNormal(SHIFT, A @ A.mT + SIGMA**2 * torch.eye(3))


@pytest.fixture
def gan(monkeypatch: pytest.MonkeyPatch) -> Any:
    model: Any = dgm.create("gan", SPACE, latent=2, width=2)
    monkeypatch.setattr(type(model), "generated", lambda self, z, y: z @ A.mT.to(z) + SHIFT.to(z))
    return model


def in_units(nats: Tensor) -> Tensor:
    """The log-density of scaled x, about x."""
    return nats - math.log(2 * 2 * 4)


def test_annealing_finds_the_density_of_noisy_samples(gan: Any) -> None:
    """Kills: sigma in place of its square, the log-determinant of the scaling with the other sign or left out."""
    torch.manual_seed(0)
    x = EXACT.sample((10,))
    found = annealed_log_prob(Observed(gan, SIGMA), x, None, temperatures=60)
    torch.testing.assert_close(found.mean().float(), in_units(EXACT.log_prob(x)).mean(), atol=0.1, rtol=0)
    held = bracket(Observed(gan, SIGMA), 10, temperatures=60, seed=0)
    exact = in_units(EXACT.log_prob(held.x)).mean()
    assert held.lower.mean() - 0.1 < exact < held.upper.mean() + 0.1
    assert held.upper.mean() - held.lower.mean() < 0.2


def test_kernel_density_of_samples_is_a_mean_over_codes(gan: Any) -> None:
    """Kills: the number of samples left out, a kernel of another dimension; the choice of the smallest noise."""
    torch.manual_seed(0)
    x, samples = EXACT.sample((300,)), means_of(gan, 10_000, 0)
    found = kernel_density(gan, x, torch.tensor([SIGMA], dtype=torch.float64), samples)[0]
    torch.testing.assert_close(found.mean().float(), in_units(EXACT.log_prob(x)).mean(), atol=0.03, rtol=0)
    assert chosen_noise(gan, x[:100], samples[:4000]) == pytest.approx(SIGMA, rel=0.25)


def test_levels_have_the_mass_of_their_cells() -> None:
    """Of uniform noise the mean of exp is P(x) itself. Kills: a cell of two widths, the sign of its logarithm."""
    torch.manual_seed(0)
    space = Space.levels((1,), 5)  # -1, -0.5, 0, 0.5, 1
    model: Any = dgm.create("gan", space, latent=1, width=2)
    x = torch.arange(5, dtype=torch.uint8)[:, None].repeat(20_000, 1)
    noise = torch.tensor([0.3], dtype=torch.float64)
    mass = kernel_density(model, model.dequantised(x), noise, torch.zeros(1, 1))[0].exp().view(-1, 5).mean(0)
    walls = Normal(0.0, 0.3).cdf(torch.linspace(-1.25, 1.25, 6))
    torch.testing.assert_close(mass.float(), walls.diff(), atol=2e-3, rtol=0)


def test_an_expensive_generator_gets_fewer_examples(gan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: chains, leapfrog steps, temperatures or one of the three passes left out of the count."""
    layer = torch.nn.Linear(2, 3)
    monkeypatch.setattr(type(gan), "generated", lambda self, z, y: layer(z))
    each = 2 * (2 * 2 * 3)  # operations of a product of 2 numbers with the weights, there and back
    x = EXACT.sample((50,))
    for examples, n in ((13, 13), (1, 5), (90, 50)):
        monkeypatch.setattr("dgm.evaluation.annealed.WORK", examples * each * (3 * 8) * (10 + 1) * 20)
        assert examples_within(Observed(gan, SIGMA), x, None, 20) == n


def test_annealing_counts_its_gradients(gan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: the tuning left out, a pass too many, batches of one size, a chain of tuning that has another's x."""
    monkeypatch.setattr("dgm.evaluation.annealed.TOGETHER", 24)
    monkeypatch.setattr("dgm.evaluation.annealed.TUNING", 5)
    shares: list[float] = []
    annealed_log_prob(
        Observed(gan, SIGMA), EXACT.sample((7,)), None, temperatures=3, progress=lambda s, _: shares.append(s)
    )
    bracket(Observed(gan, SIGMA), 7, temperatures=3, seed=0, progress=lambda s, _: shares.append(s))
    ends = [share for share, after in zip(shares, [*shares[1:], 0.0], strict=True) if after < share]
    assert ends == [1.0, 1.0]


def test_the_noise_is_chosen_by_validation_examples(gan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or by training examples where there are none."""
    train, validation, test = (Split(EXACT.sample((n,))) for n in (30, 20, 10))
    seen: list[int] = []

    def chosen(model: Any, x: Tensor, samples: Tensor) -> float:
        seen.append(len(x))
        raise ZeroDivisionError

    module = importlib.import_module("dgm.evaluation.evaluate")
    monkeypatch.setattr(module, "chosen_noise", chosen)
    for held in (validation, Split(validation.x[:0])):
        points = Dataset(name="p", space=SPACE, split="", train=train, validation=held, test=test)
        with pytest.raises(ZeroDivisionError):
            module.anneal({"likelihood": []}, gan, points, test, "test", 0, 3, lambda share, text: None)
    assert seen == [20, 30]


def test_annealed_examples_are_of_the_whole_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """A split may be sorted. Kills: its first examples, conditions of other ones."""
    seen: list[tuple[Tensor, Tensor]] = []

    def annealed(model: Any, x: Tensor, y: Tensor, **_: Any) -> Any:
        seen.append((x, y))
        raise ZeroDivisionError

    module = importlib.import_module("dgm.evaluation.evaluate")
    monkeypatch.setattr(module, "annealed_likelihood", annealed)
    rows = torch.arange(1000)
    vae = dgm.create("vae", Space.binary((2,)), Space.categories(1000), latent=1, hidden=2)
    one = Split((rows[:, None] % torch.tensor([2, 1000]) > 0).to(torch.uint8), rows)
    points = Dataset(name="p", space=vae.space, split="", train=one, validation=one, test=one, condition=vae.condition)
    with pytest.raises(ZeroDivisionError):
        module.anneal({"likelihood": []}, vae, points, one, "test", 0, 3, lambda share, text: None)
    ((x, y),) = seen
    assert len(x) == 100 == len(y.unique())
    assert 300 < y.double().mean() < 700
    assert torch.equal(x, one.x[y])


def test_an_interrupted_annealing_leaves_all_other_measures(gan: Any) -> None:
    points = Dataset(
        name="points",
        space=SPACE,
        split="drawn",
        **dict.fromkeys(("train", "validation", "test"), Split(EXACT.sample((60,)))),
    )
    kept: list[dict[str, Any]] = []

    def interrupt(share: float, text: str) -> None:
        if "annealing 60 examples" in text and share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(gan, points, samples=20, annealed=3, progress=interrupt, on_interrupt=kept.append)
    assert {row["name"] for row in kept[0]["metrics"]} >= {"precision", "recall"}
    assert [row["method"][:6] for row in kept[0]["observed"]["likelihood"]] == ["kernel", "anneal"]
