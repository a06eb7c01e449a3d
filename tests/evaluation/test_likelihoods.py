"""All that a model says of log p(x): which kinds, of which examples, and with which error."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import dgm
from dgm.errors import Unsupported
from dgm.evaluation.likelihoods import likelihoods, reported_kinds, row_of
from dgm.likelihood import Kind, Likelihood, kind_of, kinds_of, log_likelihood
from dgm.space import Space

module = importlib.import_module("dgm.evaluation.likelihoods")


class Bounded(nn.Module):
    """A bound that is x's mean, an estimate that is one nat more with noise of two, and an energy."""

    likelihood_method, estimate_method = "a bound", "an ODE"

    @dataclass(frozen=True)
    class Config: ...

    def __init__(self) -> None:
        super().__init__()
        self.space, self.config = Space.continuous((4,)), self.Config()

    def elbo(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return x.mean(1)

    def log_prob_estimate(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return x.mean(1) + 1 + 2 * torch.randn(len(x))

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return -x.mean(1)


def test_a_kind_can_be_chosen() -> None:
    model, x = Bounded(), torch.randn(3, 4)
    assert kinds_of(model) == [Kind.LOWER_BOUND, Kind.ESTIMATE, Kind.UNNORMALISED]
    assert kind_of(model) is Kind.LOWER_BOUND
    assert log_likelihood(model, x).kind is Kind.LOWER_BOUND
    for kind in (Kind.ESTIMATE, "estimate"):
        found = log_likelihood(model, x, kind=kind)
        assert (found.kind, found.method) == (Kind.ESTIMATE, "an ODE, 1 draw")
    torch.testing.assert_close(log_likelihood(model, x, kind="unnormalised").nats, x.mean(1))
    with pytest.raises(Unsupported, match="Bounded has no exact; its likelihoods: lower bound, estimate, unnormalised"):
        log_likelihood(model, x, kind="exact")
    with pytest.raises(dgm.errors.UnknownName, match="no kind of likelihood is called 'estimated'"):
        log_likelihood(model, x, kind="estimated")


def test_a_bound_and_an_estimate_are_rows_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ESTIMATED", 900)
    monkeypatch.setattr(module, "ESTIMATED_NUMBERS", 4 * 800)
    x = torch.randn(3000, 4)
    bound, estimate = likelihoods(Bounded(), x, None, "test", 1)
    assert (bound["kind"], bound["method"], bound["n"], bound["of"]) == ("lower_bound", "a bound, 1 draw", 3000, 3000)
    assert (estimate["kind"], estimate["method"]) == ("estimate", "an ODE, 1 draw")
    assert (estimate["n"], estimate["of"]) == (900, 3000)
    assert bound["nats"] == pytest.approx(float(x.mean()), abs=1e-5)
    assert bound["nats_se"] == pytest.approx(0.5 / 3000**0.5, rel=0.1)
    # what varies over examples and what is drawn for each of them
    assert estimate["nats_se"] == pytest.approx(math.hypot(0.5, 2) / 900**0.5, rel=0.1)
    assert estimate["nats"] - 1 == pytest.approx(float(x.mean()), abs=4 * estimate["nats_se"])


def test_the_part_that_is_estimated_depends_on_the_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ESTIMATED", 5)
    monkeypatch.setattr(module, "ESTIMATED_NUMBERS", 0)
    monkeypatch.setattr(Bounded, "log_prob_estimate", lambda self, x, y=None: x.mean(1))
    x = torch.arange(100.0)[:, None].expand(100, 4)
    first, again, other = (list(likelihoods(Bounded(), x, None, "test", 1, seed))[1]["nats"] for seed in (0, 0, 1))
    assert first == again != other


def test_a_small_set_is_estimated_whole() -> None:
    assert list(likelihoods(Bounded(), torch.randn(2000, 4), None, "test", 1))[1]["n"] == 2000


class Labelled(Bounded):
    """A bound, weights and an estimate that are 0 for the label that the first number of x is, and less for others."""

    condition = Space.categories(50)

    def elbo(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        assert y is not None
        return -(x[:, 0] - y).abs()

    log_weight = log_prob_estimate = elbo


def test_each_example_has_its_own_label_and_importance_weights_are_sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: labels of the first examples for those of the part that is estimated, as many weights as draws."""
    monkeypatch.setattr(module, "ESTIMATED", 5)
    monkeypatch.setattr(module, "ESTIMATED_NUMBERS", 0)
    y = torch.arange(50)
    rows = list(likelihoods(Labelled(), y[:, None].float().expand(50, 4), y, "test", 3))
    assert [(row["kind"], row["n"], row["nats"]) for row in rows] == [
        ("lower_bound", 50, 0.0),
        ("lower_bound", 50, 0.0),
        ("estimate", 5, 0.0),
    ]
    assert [row["method"].split(",")[1].strip() for row in rows] == ["K = 3", "K = 16", "mean of 3 draws"]


@pytest.mark.parametrize("name", ["ddpm", "ddim", "vdm", "flow_matching"])
def test_diffusion_models_state_how_each_is_computed(name: str) -> None:
    space = Space.levels((1, 8, 8), 17)
    model = dgm.create(name, space, width=8)
    x = torch.randint(0, 17, (3, *space.shape), dtype=torch.uint8)
    rows = list(likelihoods(model, x, None, "test", 1))
    assert "ODE to 0.0001, stochastic trace" in rows[-1]["method"]
    assert [row["kind"] for row in rows] == (["estimate"] if name == "flow_matching" else ["lower_bound", "estimate"])


class Table(nn.Module):
    """log p(x) = -x_0, in nats, of three dimensions."""

    @dataclass(frozen=True)
    class Config: ...

    def __init__(self) -> None:
        super().__init__()
        self.space, self.config = Space.continuous((3,)), self.Config()

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return -x[:, 0]


def test_each_number_is_in_its_own_unit() -> None:
    """Kills: an error in nats beside bits, or not divided by D; perplexity of the whole example, of bits, or as a mean
    of exponentials; a standard deviation for a standard error.
    """
    nats = torch.tensor([6.0, 9.0, 12.0, 21.0])
    (row,) = likelihoods(Table(), nats[:, None].expand(4, 3), None, "test", 1)
    error = math.sqrt(((6 - 12) ** 2 + (9 - 12) ** 2 + (21 - 12) ** 2) / 3 / 4)
    assert row["nats"] == pytest.approx(-12)
    assert row["nats_se"] == pytest.approx(error)
    assert row["bits_per_dim"] == pytest.approx(12 / 3 / math.log(2))
    assert row["bits_per_dim_se"] == pytest.approx(error / 3 / math.log(2))
    assert row["perplexity"] == pytest.approx(math.exp(4))
    (row,) = likelihoods(Table(), 1e4 * torch.ones(4, 3), None, "test", 1)
    assert row["perplexity"] is None
    energy = Likelihood(nats, Kind.UNNORMALISED, "energy", 3)
    assert row_of(energy, 4, "test", 1)["perplexity"] is None
    found = log_likelihood(Table(), nats[:, None].expand(4, 3))
    torch.testing.assert_close(found.bits_per_dim, nats / 3 / math.log(2))
    assert found.perplexity.item() == pytest.approx(math.exp(4))


def test_a_bound_is_not_reported_beside_an_exact_likelihood() -> None:
    assert reported_kinds([Kind.EXACT, Kind.LOWER_BOUND]) == [Kind.EXACT]
