"""Priors, posteriors, the warm-up and the free bits of a VAE."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from dgm import contracts
from dgm.models.vae.vae import VAE, with_free_bits
from dgm.space import Space

BITS = Space.binary((1, 2, 2))
OPTIONS = [
    {"prior": "vamp", "pseudo_inputs": 3},
    {"prior": "flow"},
    {"posterior": "iaf"},
    {"prior": "vamp", "posterior": "iaf"},
]


def small(condition: Space | None = None, **options: object) -> VAE:
    torch.manual_seed(0)
    return contracts.perturbed(VAE(BITS, VAE.Config(latent=2, hidden=8, layers=1, **options), condition))  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(
    "condition", [None, pytest.param(Space.categories(3), marks=pytest.mark.slow)], ids=["free", "label"]
)
def test_every_law_holds_of_each_option(options: dict[str, object], condition: Space | None) -> None:
    """Kills: a log-determinant of another sign, a context of another example, a prior under another condition."""
    results = contracts.check(small(condition, **options))
    assert not [f"{r.law}: {r.detail}" for r in results if r.outcome is contracts.Outcome.BROKEN]


@pytest.mark.parametrize("options", OPTIONS[:2], ids=str)
def test_the_prior_is_a_density_that_its_samples_follow(options: dict[str, object]) -> None:
    """On a grid, and by the mean log-density of samples. Kills: a component without its share, an inverse for a map."""
    vae = small(**options).double()
    side = torch.linspace(-12, 12, 401, dtype=torch.float64)
    z, area = torch.cartesian_prod(side, side), float(side[1] - side[0]) ** 2
    with torch.no_grad():
        log_p = torch.cat([vae.log_prior(part) for part in z.split(20_000)])
        assert float(log_p.exp().sum() * area) == pytest.approx(1, abs=2e-3)
        mean = float((log_p.exp() * log_p).sum() * area)
        from dgm.seeds import streams

        drawn = vae.log_prior(vae.prior_code(streams(4000, 0), None))
    assert abs(float(drawn.mean()) - mean) < 5 * float(drawn.std()) / math.sqrt(4000)


def test_the_vampprior_is_the_mixture_of_the_pseudo_inputs_posteriors() -> None:
    vae, z = small(prior="vamp", pseudo_inputs=3), torch.randn(5, 2)
    mu, log_sigma = vae.encoder(vae.pseudo).chunk(2, -1)
    mixture = MixtureSameFamily(Categorical(torch.ones(3)), Independent(Normal(mu, log_sigma.clamp(-7, 3).exp()), 1))
    torch.testing.assert_close(vae.log_prior(z), mixture.log_prob(z))


def test_the_flows_density_is_the_normal_ones_over_the_jacobian() -> None:
    """By autodiff. Kills: a log-determinant added for one taken off, a context that is not the example's own."""
    vae, x = small(posterior="iaf").double(), torch.tensor([[[[0, 1], [1, 0]]], [[[1, 1], [0, 0]]]], dtype=torch.uint8)
    eps = torch.randn(2, 2, dtype=torch.float64)
    _, log_q = vae.code_at(eps, x)
    for k in range(2):

        def code(e: Tensor, k: int = k) -> Tensor:
            return vae.code_at(e[None], x[k : k + 1])[0][0]

        jacobian: Tensor = torch.autograd.functional.jacobian(code, eps[k])  # type: ignore[assignment]
        expected = Normal(0.0, 1.0).log_prob(eps[k]).sum() - torch.linalg.slogdet(jacobian)[1]
        torch.testing.assert_close(log_q[k], expected)


@pytest.mark.parametrize("options", [{}, *OPTIONS], ids=str)
def test_the_divergence_is_what_the_bound_takes_off(options: dict[str, object]) -> None:
    """log p(x|z) less the bound at the same draw. Kills: another sign, a divergence of another draw's z."""
    vae, x = small(**options).double(), torch.randint(2, (6, 1, 2, 2)).to(torch.uint8)
    torch.manual_seed(1)
    divergence = vae.divergence(x).sum(1)
    torch.manual_seed(1)
    reconstruction, _ = vae.terms(x)
    torch.manual_seed(1)
    torch.testing.assert_close(divergence, reconstruction - vae.elbo(x))


def test_free_bits_are_a_constant_where_the_batch_has_less() -> None:
    """Equation 15 of arXiv:1606.04934. Kills: a floor for each example, or one of the sum."""
    kl = torch.tensor([[0.1, 2.0, 0.9], [0.3, 0.0, 0.5]], requires_grad=True)
    found = with_free_bits(kl, 0.5)
    assert found.mean(0).tolist() == pytest.approx([0.5, 1.0, 0.7])
    found.sum().backward()
    assert kl.grad is not None
    assert kl.grad.tolist() == [[0, 1, 1], [0, 1, 1]]


def test_the_warm_up_and_the_free_bits_are_of_training_alone() -> None:
    """Kills: a validation loss that changes its meaning as training goes on."""
    vae, x = small(warmup=10, free_bits=3.0), torch.randint(2, (6, 1, 2, 2)).to(torch.uint8)
    losses = []
    for training in (True, False):
        torch.manual_seed(1)
        losses.append(vae.train(training).loss(x))
    torch.manual_seed(1)
    reconstruction, kl = vae.terms(x)
    torch.testing.assert_close(losses, [-reconstruction, kl.sum(-1) - reconstruction])
    whole = small(prior="flow", free_bits=3.0).train()  # one divergence, with the bits of both dimensions
    torch.manual_seed(1)
    log_p, of_all = whole.terms(x)
    torch.manual_seed(1)
    torch.testing.assert_close(whole.loss(x), with_free_bits(of_all, 6.0).sum(-1) - log_p)
    vae.train().trained.fill_(5.0)
    torch.manual_seed(1)
    expected = 0.5 * with_free_bits(kl, 3.0).sum(-1) - reconstruction
    torch.testing.assert_close(vae.loss(x), expected)
