"""The discrete VAE against the sum over all of its codes: likelihood, bound, and both gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from dgm import contracts
from dgm.models.vae import discrete_vae
from dgm.models.vae.discrete_vae import DiscreteVAE, drawn, gumbel_like
from dgm.registry import create
from dgm.seeds import streams
from dgm.space import Space

BITS = Space.binary((1, 2, 2))
DRAWS = 20_000


def small(categories: int = 3, **settings: Any) -> DiscreteVAE:
    """Two latents, so that all codes are few, in float64 and with a prior that is not uniform."""
    torch.manual_seed(1)
    made: Any = create("discrete_vae", BITS, latent=2, categories=categories, hidden=8, layers=1, **settings)
    made = contracts.perturbed(made.double())
    with torch.no_grad():
        made.prior.normal_()
    return made


def all_codes(model: DiscreteVAE) -> Tensor:
    return torch.cartesian_prod(*[torch.arange(model.config.categories)] * 2)


def terms(model: DiscreteVAE, x: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log p(x|z), log p(z) and log q(z|x) of every code, each (codes, B)."""
    z = all_codes(model)
    log_p = torch.stack([model.likelihood(x, one.expand(len(x), 2), None) for one in z])
    prior = model.prior.log_softmax(-1)
    log_prior = (prior[0, z[:, 0]] + prior[1, z[:, 1]])[:, None].expand_as(log_p)
    return log_p, log_prior, (log_q[:, 0, z[:, 0]] + log_q[:, 1, z[:, 1]]).T


def exact_bound(model: DiscreteVAE, x: Tensor, log_q: Tensor) -> Tensor:
    log_p, log_prior, log_of_code = terms(model, x, log_q)
    return (log_of_code.exp() * (log_p + log_prior - log_of_code)).sum(0)


@pytest.mark.parametrize("categories", [2, 3])
def test_the_bound_is_its_expectation_over_all_codes_and_weights_average_to_the_likelihood(categories: int) -> None:
    """Kills: each term of the bound and of the weight, and a divergence that is not of the prior."""
    model, x = small(categories), contracts.all_examples(BITS)
    with torch.no_grad():
        log_q = model.log_posterior(x)
        log_p, log_prior, _ = terms(model, x, log_q)
        likelihood = (log_p + log_prior).logsumexp(0)
        rows = x.repeat(2000, 1, 1, 1)
        bounds, weights = model.elbo(rows).view(2000, -1), model.log_weight(rows).view(2000, -1).exp()
    assert likelihood.exp().sum().item() == pytest.approx(1)
    for found, expected in ((bounds, exact_bound(model, x, log_q)), (weights, likelihood.exp())):
        error = found.std(0) / math.sqrt(2000)
        assert ((found.mean(0) - expected).abs() < 5 * error).all()
        assert (error < 0.1 * expected.abs()).all(), "the draws say too little"


def drawn_gradients(model: DiscreteVAE, x: Tensor, n: int = DRAWS) -> Tensor:
    """The gradient of the loss of x with respect to the logits of q, (n, latent * K), one row for each draw."""
    seen: list[Tensor] = []
    handle = model.encoder.register_forward_hook(lambda module, given, out: seen.append(out))
    loss = model.train().loss(x.repeat(n, 1, 1, 1))
    handle.remove()
    return torch.autograd.grad(loss.sum(), seen[0])[0]


def exact_gradient(model: DiscreteVAE, x: Tensor) -> Tensor:
    logits = model.encoder(model.reader(x).flatten(1)).detach().requires_grad_()
    bound = exact_bound(model, x, logits.unflatten(1, model.prior.shape).log_softmax(-1))
    return torch.autograd.grad(-bound.sum(), logits)[0][0]


X = torch.tensor([[[[1, 0], [0, 1]]]], dtype=torch.uint8)


@pytest.mark.parametrize("draws", [2, 5])
def test_reinforce_is_unbiased_and_its_baseline_reduces_the_variance(draws: int) -> None:
    """Kills: a baseline with the draw itself, the score's sign, a sum over draws for their mean."""
    model = small(gradient="reinforce", draws=draws)
    expected, found = exact_gradient(model, X), drawn_gradients(model, X)
    error = found.std(0) / math.sqrt(DRAWS)
    assert ((found.mean(0) - expected).abs() < 5 * error).all()
    assert error.max() < 0.1 * expected.abs().max()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(discrete_vae, "others", lambda log_p: torch.zeros_like(log_p))
        without = drawn_gradients(model, X)
    assert ((without.mean(0) - expected).abs() < 5 * without.std(0) / math.sqrt(DRAWS)).all()
    assert found.var(0).sum() < 0.5 * without.var(0).sum()


def test_the_decoders_gradient_is_unbiased_too() -> None:
    model = small(gradient="reinforce")
    parameter = model.decoder[-1].bias
    (expected,) = torch.autograd.grad(-exact_bound(model, X, model.log_posterior(X)).sum(), parameter)
    losses = model.train().loss(X.repeat(DRAWS, 1, 1, 1))
    (found,) = torch.autograd.grad(losses.mean(), parameter)
    # the bias moves four logits, each of whose gradients is x less a probability
    assert (found - expected).abs().max() < 5 * 0.5 / math.sqrt(2 * DRAWS)


def test_the_bias_of_gumbel_softmax_falls_and_its_variance_grows_with_a_falling_temperature() -> None:
    model = small()
    expected = exact_gradient(model, X)
    bias, variance = [], []
    for temperature in (2.0, 0.5, 0.1):
        model = small(temperature=temperature)
        found = drawn_gradients(model, X, 100_000)
        bias.append(float((found.mean(0) - expected).norm()))
        variance.append(float(found.var(0).sum()))
    assert bias[0] > bias[1] > bias[2]
    assert bias[2] < 0.1 * float(expected.norm()) + 5 * math.sqrt(variance[2] / 100_000)
    assert variance[0] < variance[1] < variance[2]


def test_training_measures_the_variance_of_both_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: a sum over examples for their mean, one estimator in the other's place, a standard deviation."""
    monkeypatch.setattr(discrete_vae, "DRAWS", 5000)
    found = {name: symptom.value for name, symptom in small().eval().diagnose(X.repeat(2, 1, 1, 1)).items()}
    for name, gradient in (("Gumbel-softmax", "gumbel"), ("REINFORCE", "reinforce")):
        expected = float(drawn_gradients(small(gradient=gradient), X).var(0).sum())
        # the variance of 10,000 draws, whose fourth moment is some ten times that of a normal, has an error of 4 %
        assert found[f"variance of {name}"] == pytest.approx(expected, rel=0.15)
    model, seen = small(), []
    monkeypatch.setattr(model, "gradients", lambda way, x, y, n: seen.append(len(x)) or torch.zeros(2, len(x), 2, 3))
    model.diagnose(X.repeat(40, 1, 1, 1))
    assert seen == [16, 16]


def test_the_variance_of_the_gradients_is_that_given_each_examples_own_condition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Kills: no condition, one of another example."""
    model: Any = create("discrete_vae", BITS, Space.categories(20), latent=2, categories=3, hidden=4)
    x, y, seen = torch.randint(2, (20, *BITS.shape)).to(torch.uint8), torch.arange(20), []
    for name in ("log_posterior", "likelihood"):
        monkeypatch.setattr(model, name, recorded(getattr(model, name), seen))
    monkeypatch.setattr(discrete_vae, "DRAWS", 3)
    model.diagnose(x, y)
    assert len(seen) == 2 + 1 + model.config.draws  # a posterior for each gradient, and a likelihood for each draw
    for examples, labels in seen:
        assert torch.equal(labels, y[:16].repeat(3))
        assert torch.equal(examples, x[:16].repeat(3, 1, 1, 1))


def recorded(of: Callable[..., Tensor], seen: list[tuple[Tensor, Tensor]]) -> Callable[..., Tensor]:
    def function(x: Tensor, *rest: Tensor) -> Tensor:
        seen.append((x, rest[-1]))
        return of(x, *rest)

    return function


def test_gumbel_softmax_becomes_the_draw_itself() -> None:
    """The largest of log q + g is a draw of q, and the softmax at a low temperature its one-hot vector."""
    log_q = torch.tensor([0.5, 0.2, 0.3]).log().expand(DRAWS, 1, 3)
    shares = drawn(log_q).flatten().bincount() / DRAWS
    assert (shares - log_q[0, 0].exp()).abs().max() < 5 * 0.5 / math.sqrt(DRAWS)
    noisy = (log_q + gumbel_like(log_q)).double()
    relaxed = (noisy / 1e-6).softmax(-1)
    assert (relaxed - torch.nn.functional.one_hot(noisy.argmax(-1), 3)).abs().mean() < 1e-4


def test_the_loss_in_evaluation_mode_is_the_bound_of_discrete_codes() -> None:
    model, x = small(temperature=5.0).eval(), contracts.all_examples(BITS)
    torch.manual_seed(0)
    loss = model.loss(x)
    torch.manual_seed(0)
    torch.testing.assert_close(loss, -model.elbo(x))


def test_codes_of_the_prior_have_its_probabilities() -> None:
    """Kills: a uniform prior in samples, one latent's in another's place."""
    model = small()
    z = model.prior_code(streams(DRAWS, 0), None).long()
    expected = model.prior.detach().softmax(-1)
    seen = torch.stack([z[:, i].bincount(minlength=3) for i in range(2)]) / DRAWS
    assert ((seen - expected).abs() < 5 * (expected / DRAWS).sqrt()).all()
    assert (expected[0] - expected[1]).abs().max() > 0.1


def test_samples_have_the_frequencies_of_the_sum_over_codes() -> None:
    model, x = small(), contracts.all_examples(BITS)
    with torch.no_grad():
        log_p, log_prior, _ = terms(model, x, model.log_posterior(x))
    expected = (log_p + log_prior).logsumexp(0).exp()
    place = 2 ** torch.arange(3, -1, -1)
    seen = (model.sample(DRAWS, seed=0).flatten(1).long() * place).sum(1).bincount(minlength=16) / DRAWS
    assert ((seen - expected).abs() < 5 * (expected / DRAWS).sqrt() + 1e-4).all()
