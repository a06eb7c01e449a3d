"""Which dimensions of a code are in use, for codes whose answer is known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from dgm import contracts
from dgm.evaluation.cautions import collapse
from dgm.evaluation.collapse import codes_in_use, mutual_information
from dgm.models.table import MODELS
from dgm.models.vae.hierarchical_vae import HierarchicalVAE
from dgm.models.vae.vae import VAE
from dgm.protocols import CodeDivergence, has
from dgm.registry import create, model_class
from dgm.space import Space


def test_the_mutual_information_of_gaussian_codes_is_in_closed_form() -> None:
    """I = sum_j 1/2 log(1 + var(mu_j) / sigma_j²). Kills: log n left out, a transposed pair, a marginal."""
    torch.manual_seed(0)
    mu = torch.randn(2000, 2) * torch.tensor([1.5, 0.0])
    sigma = torch.tensor([0.6, 0.8])
    found = mutual_information(mu, sigma.log().expand(2000, 2))
    # 2,000 log ratios with a standard deviation below 1, and a bias of the estimate of q(z) below 0.02
    assert found == pytest.approx(0.5 * math.log(1 + (1.5 / 0.6) ** 2), abs=0.1)


def test_the_mutual_information_of_a_few_examples_is_the_entropy_of_which_it_is() -> None:
    """Of posteriors far apart log n; of two at one place, of deviations 1 and s, that of a normal beside their mixture.

    Kills: the deviation of the example itself in its density under another's posterior.
    """
    torch.manual_seed(0)
    apart = mutual_information(100.0 * torch.arange(60)[:, None], torch.zeros(60, 1))
    assert apart == pytest.approx(math.log(60), abs=1e-6)
    log_sigma = torch.tensor([0.0, -3.0]).repeat(1000)[:, None]
    z = torch.linspace(-12, 12, 240_001, dtype=torch.float64)
    each = [torch.distributions.Normal(0.0, s).log_prob(z) for s in (1.0, math.exp(-3))]
    mixture = torch.logaddexp(*each) - math.log(2)
    expected = sum(float((one.exp() * (one - mixture)).sum()) * 1e-4 for one in each) / 2
    # the log-ratios are below log 2, and their error of 2,000 is below 0.02
    assert mutual_information(torch.zeros(2000, 1), log_sigma) == pytest.approx(expected, abs=0.05)


def test_a_dimension_whose_posterior_is_the_prior_is_not_active() -> None:
    """Kills: the variance of z for that of its mean, a divergence of another dimension."""
    vae = VAE(Space.continuous((3,)), VAE.Config(latent=3))
    vae.encoder = torch.nn.Linear(3, 6)
    with torch.no_grad():
        vae.encoder.weight.zero_()
        vae.encoder.weight[0, 0] = 2.0
        vae.encoder.bias.copy_(torch.tensor([0, 0, 0.5, -1.0, 0, 0]))
    torch.manual_seed(1)
    x = torch.randn(1500, 3)
    found = codes_in_use(vae, x, None)
    first = 0.5 * (4 * float(x[:, 0].square().mean()) + math.exp(-2) - 1 + 2)
    assert found["kl"] == pytest.approx([first, 0.0, 0.125], abs=1e-4)
    assert (found["active_units"], found["of"], found["n"]) == (1, 3, 1500)
    assert found["mutual_information"] == pytest.approx(0.5 * math.log(1 + 4 * math.exp(2)), abs=0.12)
    assert collapse({"codes": found}).startswith("Posterior collapse: 2 of the 3 dimensions of the code do not depend")


def test_a_dimension_is_active_where_the_variance_of_its_mean_is_above_a_hundredth() -> None:
    """Standard deviations of 0.11 and 0.09. Kills: the standard deviation for the variance, the mean square."""
    vae = VAE(Space.continuous((2,)), VAE.Config(latent=2))
    vae.encoder = torch.nn.Linear(2, 4)
    with torch.no_grad():
        vae.encoder.weight.copy_(torch.cat([torch.tensor([0.11, 0.09]).diag(), torch.zeros(2, 2)]))
        vae.encoder.bias.copy_(torch.tensor([0.0, 1.0, 0.0, 0.0]))
    x = torch.tensor([-1.0, 1.0]).repeat(500)[:, None].expand(-1, 2)
    assert codes_in_use(vae, x, None)["active_units"] == 1


@pytest.mark.parametrize("options", [{"posterior": "iaf"}, {"prior": "vamp"}], ids=str)
def test_a_divergence_that_is_no_sum_over_dimensions_is_one_number(options: dict[str, Any]) -> None:
    found = codes_in_use(VAE(Space.binary((4,)), VAE.Config(latent=3, **options)), torch.ones(30, 4).byte(), None)
    assert len(found["kl"]) == 1
    assert (found["mutual_information"] is None) == ("posterior" in options)


def test_levels_of_a_hierarchy_are_all_counted() -> None:
    model = HierarchicalVAE(Space.binary((4,)), HierarchicalVAE.Config(latents=(3, 2)), Space.categories(2))
    found = codes_in_use(model, torch.ones(30, 4).byte(), torch.arange(30) % 2)
    assert len(found["kl"]) == found["of"] == 5
    assert collapse({"codes": {**found, "active_units": 5}}) == collapse({}) == ""


@pytest.mark.parametrize("name", [name for name in MODELS if has(model_class(name), CodeDivergence)])
@torch.no_grad()
def test_the_divergence_is_the_mean_log_ratio_of_posterior_and_prior(name: str) -> None:
    """E[log q(z|x) - log p(z)] over many draws of z, under labels. Kills: a divergence that takes no condition."""
    latent: dict[str, Any] = {"latents": (3, 2)} if name in ("hierarchical_vae", "ladder_vae") else {"latent": 3}
    model = contracts.perturbed(create(name, Space.binary((6,)), Space.categories(2), **latent))
    x, y = contracts.random_examples(model.space, 3).repeat(5000, 1), torch.arange(3).repeat(5000) % 2
    z, ratio = model.code_and_log_ratio(x, y)
    drawn = (model.likelihood(x, z, y) - ratio - model.log_prior(z, y)).view(5000, 3)
    found = model.divergence(x, y).sum(1).view(5000, 3).mean(0)
    assert (found - drawn.mean(0)).abs().max() < 6 * float(drawn.std() / 5000**0.5)
    assert found.min() > 0.02
