"""log p(x|y), log p(x) and p(y): what a likelihood is conditional on, and which labels are drawn when none is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dgm
from dgm import contracts
from dgm.data import Dataset, Split
from dgm.data.dataset import labelled
from dgm.errors import BadInput, Unsupported
from dgm.evaluation.likelihoods import likelihoods
from dgm.likelihood import Kind, log_likelihood
from dgm.models.table import MODELS
from dgm.networks.conditions import Marginal, fit_marginals, marginal_of, sampled_condition
from dgm.protocols import Autoregressive, has
from dgm.registry import create, model_class
from dgm.seeds import streams
from dgm.space import Space

SHARES = (0.9, 0.1, 0.0)
P = torch.tensor([0.2, 0.7, 0.5])  # P(x_d = 1 | y)


def labels_with(shares: Sequence[float]) -> Tensor:
    """Labels of which these are the shares, whole tenths."""
    return torch.repeat_interleave(torch.arange(len(shares)), torch.tensor(shares).mul(10).round().long())


class Coins(nn.Module):
    """Bits of one probability a label: log p(x|y) in closed form, and noise of a stated size about it."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        pass

    def __init__(self, noise: float = 0.0) -> None:
        super().__init__()
        self.space, self.config, self.noise = Space.binary((4,)), self.Config(), noise
        self.condition = Space.categories(3)
        self.marginal = Marginal(self.condition)
        self.marginal.fit(labels_with(SHARES))

    def closed(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.distributions.Bernoulli(P[y][:, None]).log_prob(x.float()).sum(1)


class Exact(Coins):
    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        assert y is not None
        return self.closed(x, y)


class Bounded(Coins):
    """A bound that is tight but for a draw's noise, which favours one label or the other."""

    def elbo(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        assert y is not None
        return self.closed(x, y) + (1 - 2 * y) * self.noise * torch.randn(len(x))


class Weighted(Bounded):
    def log_weight(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.elbo(x, y) - self.noise**2 / 2


class Estimated(Coins):
    def log_prob_estimate(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        assert y is not None
        return self.closed(x, y) + self.noise * torch.randn(len(x))


def mixture(x: Tensor) -> Tensor:
    """log p(x) = log sum_y p(y) p(x|y)."""
    ones = x.double().sum(1)[:, None]
    p = P[:2].double()
    return (torch.tensor(SHARES[:2], dtype=torch.float64) * p**ones * (1 - p) ** (4 - ones)).sum(1).log()


X_SPACE = Space.binary((4,))
X = contracts.all_examples(X_SPACE)


def test_a_likelihood_says_what_it_is_conditional_on() -> None:
    found = log_likelihood(Exact(), X, torch.ones(16, dtype=torch.int64))
    assert found.condition == "label"
    torch.testing.assert_close(found.nats, Exact().closed(X, torch.ones(16, dtype=torch.int64)))
    assert log_likelihood(Exact(), X, marginal=True).condition is None
    assert log_likelihood(create("made", X_SPACE, hidden=8), X).condition is None


def test_the_marginal_is_that_of_the_mixture() -> None:
    """Kills: uniform p(y), a sum of logarithms, a label of share 0 that brings NaN."""
    found = log_likelihood(Exact(), X, marginal=True)
    assert (found.kind, found.method) == (Kind.EXACT, "closed form, sum over 3 labels")
    torch.testing.assert_close(found.nats.double(), mixture(X), rtol=0, atol=1e-5)  # float32


def test_a_bound_stays_a_bound_whatever_its_noise() -> None:
    """Kills: the sum over noisy bounds themselves, which is 2.3 nats above log p(x) here."""
    x, model = X[5].expand(20_000, -1), Bounded(noise=4.0)
    found = log_likelihood(model, x, marginal=True)
    assert found.kind is Kind.LOWER_BOUND
    nats = found.nats.double()
    error = 5 * float(nats.std()) / len(x) ** 0.5  # a false alarm in a million
    assert float(nats.mean()) < float(mixture(x[:1])) + error
    torch.testing.assert_close(
        log_likelihood(Bounded(), X, marginal=True).nats.double(), mixture(X), rtol=0, atol=1e-5
    )  # tight where there is no noise


def test_importance_weights_are_summed() -> None:
    """E[sum_y p(y) w_y] = p(x), with one draw and with many."""
    x, model = X[5].expand(40_000, -1), Weighted(noise=1.0)
    for draws in (1, 4):
        found = log_likelihood(model, x, marginal=True, draws=draws)
        assert found.method == f"importance-weighted bound, K = {draws}, sum over 3 labels"
        w = found.nats.double().exp()
        error = 5 * float(w.std()) / len(x) ** 0.5
        assert float(w.mean()) == pytest.approx(float(mixture(x[:1]).exp()), abs=error)


def test_the_noise_of_an_estimate_does_not_choose_the_label() -> None:
    """Under one noise for all labels an estimate is unbiased; under noise of each its own it is 0.8 nats too high."""
    x, model = X[5].expand(20_000, -1), Estimated(noise=2.0)
    found = log_likelihood(model, x, marginal=True, draws=2)
    assert found.kind is Kind.ESTIMATE
    error = 5 * 2 / (2 * len(x)) ** 0.5
    assert float(found.nats.double().mean()) == pytest.approx(float(mixture(x[:1])), abs=error)
    assert float(found.nats.std()) == pytest.approx(2 / 2**0.5, rel=0.05)  # the draws are not one and the same


EXACT = [
    name for name, spec in MODELS.items() if spec.likelihood == "exact" and hasattr(model_class(name), "conditions")
]


@pytest.mark.parametrize("name", EXACT)
def test_the_marginal_sums_to_one_over_all_x(name: str) -> None:
    space = Space.tokens(3, 3) if name == "char_gpt" else Space.levels((1, 2, 2), 3)
    model = contracts.perturbed(create(name, space, Space.categories(3)))
    fit_marginals(model, labels_with((0.5, 0.2, 0.3)))
    x = contracts.all_examples(space)
    found = log_likelihood(model, x, marginal=True)
    assert found.kind is Kind.EXACT
    assert float(found.nats.double().exp().sum()) == pytest.approx(1, abs=1e-4)  # float32
    of_each = torch.stack([log_likelihood(model, x, label).nats.double() for label in range(3)])
    expected = (of_each + torch.tensor([0.5, 0.2, 0.3]).log()[:, None]).logsumexp(0)
    torch.testing.assert_close(found.nats.double(), expected, rtol=1e-5, atol=1e-5)


def test_what_has_no_marginal_says_so() -> None:
    with pytest.raises(Unsupported, match="has no labels: its likelihood is log p"):
        log_likelihood(create("made", X_SPACE, hidden=8), X, marginal=True)
    with pytest.raises(BadInput, match="the marginal is of all of them"):
        log_likelihood(Exact(), X, 1, marginal=True)
    with pytest.raises(Unsupported, match="trained without labels"):
        log_likelihood(create("made", X_SPACE, hidden=8), X, 1)
    with pytest.raises(Unsupported, match="needs a label"):
        log_likelihood(Exact(), X)


def test_an_evaluation_says_which_it_has() -> None:
    y = torch.arange(16) % 2
    (row,) = likelihoods(Exact(), X, y, "test", 1)
    assert row["condition"] == "label"
    assert row["nats"] == pytest.approx(float(Exact().closed(X, y).mean()), rel=1e-5)
    (row,) = likelihoods(Exact(), X, y, "test", 1, marginal=True)
    assert row["condition"] is None
    assert row["nats"] == pytest.approx(float(mixture(X).mean()), rel=1e-5)


# -- which labels are drawn


def test_labels_are_drawn_as_often_as_the_data_has_them() -> None:
    """Kills: labels drawn uniformly."""
    n = 20_000
    drawn = sampled_condition(None, Coins(), streams(n, 3))
    assert drawn is not None
    shares = drawn.bincount(minlength=3) / n
    assert shares[0] == pytest.approx(0.9, abs=5 * (0.09 / n) ** 0.5)  # a false alarm in a million
    assert shares[2] == 0
    model = create("made", X_SPACE, Space.categories(3), hidden=8)
    uniform = sampled_condition(None, model, streams(n, 3))
    assert uniform is not None
    assert (uniform.bincount(minlength=3) / n - 1 / 3).abs().max() < 5 * (2 / 9 / n) ** 0.5


# one of each way in which a model draws, with few steps
DRAWING: dict[str, dict[str, Any]] = {
    "made": {"hidden": 8},
    "orderless_made": {"hidden": 8, "orders": 2},
    "vae": {},
    "realnvp": {"layers": 2},
    "gan": {},
    "ddpm": {"sampling_steps": 2},
    "mean_flow": {"sampling_steps": 1},
    "masked_diffusion": {"sampling_steps": 2},
}


@pytest.mark.parametrize("name", DRAWING)
def test_every_conditional_model_draws_its_labels_so(name: str) -> None:
    """With all of the share on one label it is another sample than with all on another."""
    model = contracts.perturbed(create(name, Space.levels((1, 4, 4), 5), Space.categories(3), **DRAWING[name]))
    found = []
    for shares in ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 5.0)):
        fit_marginals(model, labels_with(shares))
        found.append(dgm.sample(model, 32, seed=1))
    assert (found[0] != found[1]).any()
    assert torch.equal(found[1], found[2])


def uneven() -> Dataset:
    """Rows of which nine in ten have label 0, the others label 1, and none label 2."""
    x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    y = (torch.arange(100) % 10 == 0).long()
    parts = {part: Split(x, y) for part in ("train", "validation", "test")}
    return Dataset(name="uneven", space=Space.continuous((2,)), split="all", **labelled("abc"), **parts)


def test_a_run_keeps_the_shares_of_its_labels(tmp_path: Path) -> None:
    data = uneven()
    model = create("realnvp", data.space, Space.categories(3), layers=2)
    list(dgm.fit(model, data, out=tmp_path / "run", steps=1))
    assert marginal_of(model).shares.tolist() == pytest.approx(SHARES)
    assert marginal_of(dgm.load(tmp_path / "run")).shares.tolist() == pytest.approx(SHARES)


def test_the_model_within_a_dequantised_one_has_them_too() -> None:
    model: Any = create("realnvp", Space.levels((4,), 5), Space.categories(3), layers=2)
    fit_marginals(model, labels_with(SHARES))
    assert marginal_of(model.model).shares.tolist() == pytest.approx(SHARES)


# -- blocks


@pytest.mark.parametrize("name", ["made", "realnvp", "gmm"])
def test_blocks_give_what_one_pass_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where an example is a batch of its own; each block is told of."""
    from dgm import likelihood

    condition = None if name == "gmm" else Space.categories(3)
    model = contracts.perturbed(create(name, Space.continuous((3,)), condition))
    x, y = torch.randn(50, 3), None if name == "gmm" else torch.arange(50) % 3
    with torch.no_grad():
        whole = model.log_prob(x, y)
    for size in (1, 7, 50):
        shares = list[float]()
        monkeypatch.setattr(likelihood, "evaluation_batch", lambda model, kind=None, size=size: size)
        found = log_likelihood(model, x, y, progress=lambda share, text, to=shares: to.append(share))
        torch.testing.assert_close(found.nats, whole, rtol=1e-5, atol=1e-5)  # networks round by the batch's size
        assert shares == [k / 50 for k in range(0, 50, size)]


def test_each_block_has_noise_of_its_own_and_the_callers_noise_goes_on_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four blocks of the same eight examples. Kills: one seed for all blocks, draws taken from the caller's noise."""
    from dgm import likelihood

    model = create("vae", Space.continuous((3,)), latent=2, hidden=8)
    monkeypatch.setattr(likelihood, "evaluation_batch", lambda model, kind=None: 8)
    x = torch.zeros(32, 3)
    blocks = log_likelihood(model, x).nats.view(4, 8)
    assert not any(torch.equal(blocks[i], blocks[j]) for i in range(4) for j in range(i))
    after = []
    for draws in (1, 3):
        torch.manual_seed(0)
        log_likelihood(model, x, draws=draws)
        after.append(torch.rand(()))
    assert after[0] == after[1]


def test_an_array_and_labels_in_a_list_are_taken() -> None:
    made = create("made", Space.levels((3,), 5), Space.categories(2)).eval()
    x, y = torch.tensor([[0, 1, 4], [2, 3, 3]], dtype=torch.uint8), torch.tensor([1, 0])
    expected = log_likelihood(made, x, y).nats
    for same in (x.numpy(), x.tolist(), x.long(), x.numpy().astype("uint16")):
        assert torch.equal(log_likelihood(made, same, y.tolist()).nats, expected)
    frozen = x.numpy().copy()
    frozen.flags.writeable = False
    assert torch.equal(log_likelihood(made, frozen, y.numpy()).nats, expected)
    assert log_likelihood(made, x[:0], []).nats.shape == (0,)


# -- samples


def test_samples_depend_on_seed_and_number_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from dgm import sampling

    made = create("made", Space.levels((3,), 5), Space.categories(2), hidden=8).eval()
    whole = dgm.sample(made, 20, seed=4)
    assert torch.equal(whole, made.sample(20, seed=4))
    monkeypatch.setattr(sampling, "CHUNK", 7)
    assert torch.equal(dgm.sample(made, 20, seed=4), whole)
    assert torch.equal(dgm.sample(made, 5, seed=4), whole[:5])
    assert not torch.equal(dgm.sample(made, 20, seed=5), whole)
    for y in (torch.ones(20, dtype=torch.int64), (torch.arange(20) > 8).long()):
        assert torch.equal(dgm.sample(made, 20, y, seed=4), made.sample(20, y, seed=4))
    assert torch.equal(dgm.sample(made, 20, 1, seed=4), dgm.sample(made, 20, torch.ones(20, dtype=torch.int64), seed=4))


def test_what_is_given_is_kept_and_the_rest_goes_on_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from dgm import sampling
    from dgm.samplers import sequential

    monkeypatch.setattr(sampling, "CHUNK", 3)
    made = contracts.perturbed(create("made", Space.levels((2, 2, 2), 5), hidden=8))
    x = contracts.random_examples(made.space, 8)
    found = dgm.sample(made, 8, given=x, observed=4, seed=2)
    *_, last = sequential.trajectory(made, 8, seed=2, given=x, observed=4)
    assert torch.equal(found, last.x)
    assert torch.equal(found[:, :, 0], x[:, :, 0])  # four dimensions in raster order are the first row of pixels
    assert (found[:, :, 1] != x[:, :, 1]).any()


def test_a_mixture_completes_each_block_by_its_own_given_part(monkeypatch: pytest.MonkeyPatch) -> None:
    from dgm import sampling

    gmm, x = create("gmm", Space.continuous((2,)), components=2), torch.randn(8, 2)
    observed = torch.arange(16).view(8, 2) % 3 == 0
    whole = gmm.impute(x, observed, seed=2)
    monkeypatch.setattr(sampling, "CHUNK", 3)
    torch.testing.assert_close(dgm.sample(gmm, 8, given=x, observed=observed, seed=2), whole)


# -- conditions of other kinds

KINDS: dict[str, Space] = {
    "attributes": Space.binary((4,)),
    "numbers": Space.continuous((2,), loc=(5.0, -1.0), scale=(2.0, 0.1)),
    "tokens": Space.tokens(4, 6),
    "image": Space.levels((1, 5, 5), 4),
    "record": Space.record(age=Space.levels((), 9, optional=True), job=Space.categories(4)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", EXACT)
def test_the_density_given_any_condition_sums_to_one(name: str, kind: str) -> None:
    """And it is another density given another condition."""
    space = Space.tokens(3, 3) if name == "char_gpt" else Space.levels((1, 2, 2), 3)
    model = contracts.perturbed(create(name, space, KINDS[kind], **FEW.get(name, {})))
    x, found = contracts.all_examples(space), []
    for y in contracts.random_examples(KINDS[kind], 2):
        log_p = log_likelihood(model, x, y).nats.double()
        assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-4)  # float32
        found.append(log_p)
    assert (found[0] - found[1]).abs().max() > 1e-3


FEW: dict[str, dict[str, Any]] = {"image_gpt": {"layers": 2, "width": 16}, "wavenet": {"layers": 3, "cycles": 1}}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [name for name in EXACT if has(model_class(name), Autoregressive)])
def test_a_dimension_at_a_time_is_the_same_under_any_condition(name: str, kind: str) -> None:
    space = Space.tokens(3, 3) if name == "char_gpt" else Space.levels((1, 2, 2), 3)
    model = contracts.perturbed(create(name, space, KINDS[kind], **FEW.get(name, {})))
    for law in (contracts.sequential_conditionals_agree, contracts.conditionals_are_autoregressive):
        result = contracts.run(law, model)
        assert result.passed, result.detail


def test_a_run_keeps_conditions_to_draw_from(tmp_path: Path) -> None:
    """Of a record with missing values, which are no numbers in a file of weights."""
    space = Space.record(age=Space.levels((), 9, optional=True), job=Space.categories(4))
    y = torch.stack([torch.arange(100.0) % 9, torch.arange(100.0) % 4], 1).double()
    y[::5, 0] = torch.nan
    parts = {part: Split(torch.randn(100, 2), y) for part in ("train", "validation", "test")}
    data = Dataset(name="people", space=Space.continuous((2,)), split="all", condition=space, **parts)
    model = create("realnvp", data.space, data.condition, layers=2)
    list(dgm.fit(model, data, out=tmp_path / "run", steps=2))
    again = dgm.load(tmp_path / "run")
    assert again.condition == space
    drawn = sampled_condition(None, again, streams(2000, 0))
    assert drawn is not None
    assert {str(row) for row in drawn.tolist()} == {str(row) for row in y.tolist()}
    assert drawn[:, 0].isnan().double().mean().item() == pytest.approx(0.2, abs=5 * (0.16 / 2000) ** 0.5)
    assert torch.equal(dgm.sample(again, 20, seed=1), dgm.sample(model, 20, seed=1))
    found = log_likelihood(again, data.train.x, y)
    assert (found.kind, found.condition) == (Kind.EXACT, "condition")
    with pytest.raises(Unsupported, match="a sum over labels"):
        log_likelihood(again, data.train.x, marginal=True)
