"""Each autoencoder's penalty or noise by its formula, and the gradients that it must and must not pass."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from dgm.errors import BadInput
from dgm.models.autoencoder.contractive_ae import ContractiveAE
from dgm.models.autoencoder.denoising_ae import DenoisingAE
from dgm.models.autoencoder.sparse_ae import SparseAE
from dgm.models.autoencoder.stacked_ae import StackedAE
from dgm.space import Space

GREY, ROW = Space.levels((1, 4, 4), 256), Space.continuous((5,))


# -- corruption


@pytest.mark.parametrize("corruption", ["masking", "salt_and_pepper"])
def test_a_share_of_the_dimensions_is_destroyed(corruption: str) -> None:
    """A quarter, to black, or half of them to white. Kills: the kept share for the destroyed one, one value alone."""
    model = DenoisingAE(GREY, DenoisingAE.Config(corruption=corruption, amount=0.25))  # type: ignore[arg-type]
    x = torch.full((4000, 16), 0.3)
    noisy = model.corrupted(x)
    n, white = x.numel(), 0.125 if corruption == "salt_and_pepper" else 0.0
    for value, share in ((0.3, 0.75), (1.0, white), (-1.0, 0.25 - white)):
        assert abs(float((noisy == value).double().mean()) - share) <= 5 * math.sqrt(share * (1 - share) / n)


def test_gaussian_corruption_and_the_mean_of_unbounded_numbers() -> None:
    noisy = DenoisingAE(ROW, DenoisingAE.Config(corruption="gaussian", amount=0.5)).corrupted(torch.ones(8000, 5))
    assert float(noisy.std()) == pytest.approx(0.5, rel=5 / math.sqrt(2 * 40_000))
    masked = DenoisingAE(ROW, DenoisingAE.Config(amount=1.0)).corrupted(torch.ones(2, 5))
    assert torch.equal(masked, torch.zeros(2, 5))
    unit = DenoisingAE(Space.continuous((5,), low=0.0, high=1.0), DenoisingAE.Config(amount=1.0))
    assert torch.equal(unit.corrupted(torch.ones(2, 5)), -torch.ones(2, 5))  # black, where x has bounds
    with pytest.raises(BadInput, match="salt and pepper need bounds"):
        DenoisingAE(ROW, DenoisingAE.Config(corruption="salt_and_pepper"))
    with pytest.raises(BadInput, match="at most 1"):
        DenoisingAE(ROW, DenoisingAE.Config(amount=2.0))


def test_the_clean_example_is_what_is_reconstructed() -> None:
    """With all of x destroyed a linear one gives the mean of the data. Kills: the noisy x as the target."""
    model = DenoisingAE(ROW, DenoisingAE.Config(amount=1.0))
    x = torch.randn(6, 5)
    outputs = model.decoder(model.encoder(torch.zeros(6, 5)))
    assert torch.allclose(model.loss(x), 0.5 * (outputs - x).square().sum(1), atol=1e-6)
    assert torch.equal(model.encode(x), model.encoder(x))


# -- sparsity


def test_the_divergence_of_mean_activations() -> None:
    """Against torch's own of two Bernoulli distributions. Kills: the divergence the other way round."""
    model = SparseAE(ROW, SparseAE.Config(latent=3, sparsity=0.1, weight=2.0))
    x = torch.randn(7, 5)
    z = model.encode(x)
    bernoulli = torch.distributions.Bernoulli
    expected = torch.distributions.kl_divergence(bernoulli(torch.tensor(0.1)), bernoulli(z.mean(0))).sum()
    assert torch.allclose(model.penalty(z), expected, atol=1e-6)
    error = 0.5 * (model.decoder(z) - x).square().sum(1)
    assert torch.allclose(model.loss(x), error + 2 * expected, atol=1e-5)


def test_the_divergence_is_finite_where_no_unit_is_active_or_all_are() -> None:
    """Mean activations are at least a millionth from 0 and 1. Kills: a larger bound, none, a bound of rho."""
    model = SparseAE(ROW, SparseAE.Config(latent=4, sparsity=0.3)).double()
    for mean in (1e-6, 1 - 1e-6):
        z = torch.full((7, 4), round(mean), dtype=torch.float64)
        each = 0.3 * math.log(0.3 / mean) + 0.7 * math.log(0.7 / (1 - mean))
        assert float(model.penalty(z)) == pytest.approx(4 * each, rel=1e-9)
        assert float(model.penalty(torch.full_like(z, 0.01))) == pytest.approx(
            4 * (0.3 * math.log(30) + 0.7 * math.log(0.7 / 0.99))
        )


def test_absolute_values_cannot_be_traded_for_longer_columns() -> None:
    """A decoder of any scale is the same. Kills: columns that are not scaled, rows scaled in their place."""
    model = SparseAE(ROW, SparseAE.Config(latent=8, penalty="l1", weight=0.5))
    x = torch.randn(7, 5)
    before, z = model.loss(x), model.encode(x)
    assert torch.allclose(before, 0.5 * (model.decoder(z) - x).square().sum(1) + 0.5 * z.sum(1), atol=1e-6)
    assert (z >= 0).all()
    assert (z == 0).any()
    with torch.no_grad():
        model.decoder[1].layer.weight.mul_(torch.arange(1.0, 9.0))
    assert torch.allclose(model.loss(x), before, atol=1e-6)
    unit = model.decoder(torch.eye(8)) - model.decoder(torch.zeros(1, 8))
    assert torch.allclose(unit.square().sum(1), torch.ones(8), atol=1e-6)


# -- contraction


def jacobian_norms(model: ContractiveAE, x: torch.Tensor) -> torch.Tensor:
    jacobians = torch.stack([torch.autograd.functional.jacobian(model.encoder, row) for row in x])
    return jacobians.square().sum((1, 2))


def test_the_jacobian_of_one_layer_is_exact() -> None:
    """Kills: z (1 - z) without its square, the sum over columns."""
    model = ContractiveAE(ROW, ContractiveAE.Config(latent=4, weight=3.0)).double()
    x = torch.randn(6, 5, dtype=torch.float64)
    z, norm = model.codes_and_norm(x)
    assert torch.allclose(norm, jacobian_norms(model, x), atol=1e-12)
    error = model.reconstruction_loss(model.decoder(z), x)
    assert torch.allclose(model.loss(x), error + 3 * norm, atol=1e-9)


def test_the_jacobian_of_more_layers_is_estimated_without_bias() -> None:
    """And without gradients too, as in validation; its own gradient is that of the norm on average."""
    model = ContractiveAE(ROW, ContractiveAE.Config(latent=3, hidden=6, layers=1)).double()
    x, n = torch.randn(1, 5, dtype=torch.float64), 2000
    with torch.no_grad():
        drawn = model.codes_and_norm(x.expand(n, 5))[1]
    error = 5 * float(drawn.std()) / n**0.5  # a false alarm in a million
    assert float(drawn.mean()) == pytest.approx(float(jacobian_norms(model, x)), abs=error)
    weight = model.encoder[0].weight
    (found,) = torch.autograd.grad(model.codes_and_norm(x.expand(n, 5))[1].mean(), weight)
    jacobian = torch.func.jacrev(model.encoder)(x[0])
    (expected,) = torch.autograd.grad(jacobian.square().sum(), weight)
    assert torch.allclose(found, expected, atol=0.2 * float(expected.abs().max()))


def test_the_directions_of_the_estimate_are_signs() -> None:
    """Of a code of one dimension the estimate is then exact. Kills: normal directions, which have more variance."""
    model, x = (
        ContractiveAE(ROW, ContractiveAE.Config(latent=1, hidden=6, layers=1)).double(),
        torch.randn(6, 5).double(),
    )
    assert torch.allclose(model.codes_and_norm(x)[1], jacobian_norms(model, x), atol=1e-12)


# -- layers


def test_no_gradient_passes_between_layers_in_pretraining() -> None:
    """Each layer's gradient is that of its own loss alone. Kills: a code that is not detached, a later start."""
    model = StackedAE(ROW, StackedAE.Config(latent=2, widths=(4, 3), pretraining=5)).train()
    x = torch.randn(9, 5)
    loss, (codes,) = model.loss_and_outputs(x)
    loss.sum().backward()
    assert torch.allclose(codes, model.encode(x))
    h = x
    for encode, decode in zip(model.encoder, model.decoder[::-1], strict=True):
        loss = 0.5 * (decode(encode(h)) - h).square().sum()
        own = [*encode.parameters(), *decode.parameters()]
        for parameter, expected in zip(own, torch.autograd.grad(loss, own), strict=True):
            assert parameter.grad is not None
            assert torch.allclose(parameter.grad, expected, atol=1e-5)
        h = encode(h).detach()


def test_then_the_whole_network_is_trained_and_it_is_always_what_is_validated() -> None:
    model = StackedAE(ROW, StackedAE.Config(latent=2, widths=(4,), pretraining=2))
    x = torch.randn(9, 5)
    whole = 0.5 * (model.decoder(model.encoder(x)) - x).square().sum(1)
    assert torch.allclose(model.eval().loss(x), whole, atol=1e-6)
    model.train()
    for step in range(3):
        found, outputs = model.loss_and_outputs(x)
        assert torch.allclose(found, whole, atol=1e-6) == (step == 2)
        model.after_step(*outputs)
    assert [layer[0].in_features for layer in model.decoder] == [2, 4]
    assert [isinstance(layer[-1], nn.SiLU) for layer in (*model.encoder, *model.decoder)] == [True, False, True, False]


def test_the_first_layer_is_pre_trained_by_the_likelihood_of_x() -> None:
    """A cross-entropy of binary x. Kills: the squared error of the codes in its place."""
    model = StackedAE(Space.binary((5,)), StackedAE.Config(latent=2, widths=(), pretraining=5)).train()
    x = torch.tensor([[0, 1, 1, 0, 1], [1, 1, 0, 0, 0]], dtype=torch.uint8)
    logits = model.decoder(model.encoder(2.0 * x - 1))
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, x.float(), reduction="none").sum(1)
    torch.testing.assert_close(model.loss(x), expected)
