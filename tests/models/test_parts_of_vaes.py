"""Parts of latent-variable models on their own: warm-up, priors, initial values, gates and the order of levels."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import dgm
from dgm.models.vae import factor_vae
from dgm.models.vae.base import repeated
from dgm.models.vae.td_vae import Gated
from dgm.space import Space

BITS = Space.binary((1, 2, 2))


@pytest.mark.parametrize("name", ["vae", "hierarchical_vae", "ladder_vae", "td_vae"])
def test_the_weight_of_the_divergence_rises_by_a_step_at_a_time_to_one(name: str) -> None:
    """Kills: two steps counted as one, a weight beyond 1, a weight that the loss ignores."""
    model: Any = dgm.create(name, Space.binary((4, 1, 1, 1)) if name == "td_vae" else BITS, hidden=4, warmup=4).train()
    x, early = torch.zeros(3, *model.space.shape, dtype=torch.uint8), name != "td_vae"
    found = []
    for _ in range(6):
        found.append(float(model.kl_weight if early else model.weight))
        model.after_step()
    assert found == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1] if early else [0.25, 0.5, 0.75, 1, 1, 1])
    model.trained.zero_()
    torch.manual_seed(1)
    first = model.loss(x)
    torch.manual_seed(1)
    assert not torch.allclose(first, model.eval().loss(x), atol=1e-7)


def test_convolutions_have_their_widest_layer_at_the_lowest_resolution() -> None:
    """32 channels at 4 × 4, half of them at 8 × 8. Kills: one halving too many."""
    model: Any = dgm.create("vae", Space.binary((1, 8, 8)), network="conv", hidden=32, latent=2)
    assert model.encoder.first.out_channels == 16
    assert model.encoder.convs[-1].out_channels == 32


def test_a_component_and_its_value_are_drawn_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = dgm.create("vae", Space.levels((3,), 9), components=2, hidden=4, latent=2)
    seen: list[Tensor] = []
    monkeypatch.setattr(model.observed, "sample", lambda outputs, u: seen.append(u) or torch.zeros(4, 3))
    model.sample(4, seed=0)
    assert seen[0].shape == (4, 3, 2)
    assert not (seen[0][..., 0] == seen[0][..., 1]).any()


def test_pseudo_inputs_are_normal_and_all_of_them_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """N(0, 1/4), each with the same share. Kills: uniform ones, another scale, the last one never drawn."""
    vae: Any = dgm.create("vae", BITS, prior="vamp", pseudo_inputs=4000, hidden=4, latent=1)
    u = vae.pseudo.detach()
    assert float(u.std()) == pytest.approx(0.5, rel=5 / math.sqrt(2 * u.numel()))
    assert abs(float(u.mean())) < 5 * 0.5 / math.sqrt(u.numel())
    few: Any = dgm.create("vae", BITS, prior="vamp", pseudo_inputs=3, hidden=4, latent=1)
    with torch.no_grad():
        few.pseudo.copy_(torch.tensor([0.0, 1.0, 2.0])[:, None].expand(3, 4))
    read: list[Tensor] = []
    moments = few.moments
    monkeypatch.setattr(few, "moments", lambda h, y: read.append(h[:, 0]) or moments(h, y))
    few.sample(3000, seed=0)
    counts = torch.cat(read).long().bincount(minlength=3)
    assert (counts - 1000).abs().max() < 5 * 26  # a standard deviation of (3000 · 2 / 9)^(1/2)


def test_each_condition_has_the_components_of_its_own() -> None:
    """Kills: pseudo-inputs and conditions paired in another order."""
    vae: Any = dgm.create("vae", BITS, Space.categories(3), prior="vamp", pseudo_inputs=2, hidden=4, latent=2)
    y = torch.tensor([2, 0, 2])
    mu, log_sigma = vae.components(y)
    for k, label in enumerate(y):
        expected = vae.moments(vae.pseudo, label.expand(2))
        torch.testing.assert_close((mu[k], log_sigma[k]), expected)


def test_the_order_of_dimensions_is_reversed_between_autoregressive_transforms() -> None:
    """So that with two of them the first and the last dimension depend on all. Kills: no permutation between them."""
    vae: Any = dgm.create("vae", BITS, prior="flow", hidden=4, latent=3).double()
    for parameter in vae.prior_flow.parameters():
        parameter.data = 0.5 * torch.randn_like(parameter)
    jacobian = torch.autograd.functional.jacobian(
        lambda z: vae.prior_flow(z[None], None)[0][0], torch.randn(3).double()
    )
    assert int((jacobian.abs() > 1e-12).sum()) > 6


def test_a_discrete_prior_is_uniform_at_first() -> None:
    model: Any = dgm.create("discrete_vae", BITS, latent=3, categories=5, hidden=4)
    z = torch.tensor([[0, 4, 2], [1, 1, 1]])
    torch.testing.assert_close(model.log_prior(z), torch.full((2,), -3 * math.log(5)))


def test_the_discriminator_of_codes_reaches_no_encoder_and_sees_other_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: codes with a gradient, the same codes permuted, half of the loss."""
    model: Any = dgm.create("factor_vae", BITS, latent=2, hidden=4, width=4)
    seen: list[Tensor] = []
    permuted = factor_vae.permuted_dimensions
    monkeypatch.setattr(factor_vae, "permuted_dimensions", lambda z: seen.append(z) or permuted(z))
    judged: list[Tensor] = []
    logit = model.logit
    monkeypatch.setattr(model, "logit", lambda z: judged.append(z) or logit(z))
    player, loss = next(model.losses(torch.zeros(5, 1, 2, 2, dtype=torch.uint8)))
    torch.testing.assert_close(loss, (1 + (-logit(judged[0])).exp()).log() + (1 + logit(judged[1]).exp()).log())
    loss.sum().backward()
    assert player == "discriminator"
    assert all(parameter.grad is None for parameter in model.vae.parameters())
    assert not (judged[0] == seen[0]).any()


def test_the_weighted_logit_has_a_gradient_for_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the bound it is the only one. Kills: codes without a gradient, a logit that trains no encoder."""
    model: Any = dgm.create("factor_vae", BITS, latent=2, hidden=4, width=4)
    monkeypatch.setattr(model.vae, "elbo_at", lambda x, *rest: torch.zeros(len(x)))
    _, (player, loss) = model.losses(torch.zeros(5, 1, 2, 2, dtype=torch.uint8))
    gradients = torch.autograd.grad(loss.sum(), list(model.vae.encoder.parameters()))
    assert player == "vae"
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_a_whitened_code_begins_with_the_top_level() -> None:
    """Kills: the sizes of the levels in the order from the bottom."""
    for name in ("hierarchical_vae", "ladder_vae"):
        model: Any = dgm.create(name, BITS, latents=(3, 2), hidden=4)
        z = torch.randn(4, 5)
        mu, log_sigma = model.prior(0, z[:, :2], None)
        torch.testing.assert_close(model.decoded(z, None), mu + log_sigma.exp() * z[:, 2:])


def test_heads_of_the_progressive_one_start_around_zero() -> None:
    heads = dgm.create("progressive_vae", BITS, hidden=64, latent=8).heads.detach()  # type: ignore[attr-defined]
    n, largest = heads.numel(), 1 / 8
    assert abs(float(heads.mean())) < 5 * largest / math.sqrt(3 * n)
    assert float(heads.abs().max()) == pytest.approx(largest, rel=0.01)


def test_gates_and_lengths_of_jumps() -> None:
    """W (tanh(a) sigmoid(b)); a jump of d is the d-th unit vector. Kills: two of a kind, a length off by one."""
    gated = Gated(3, 5, 2).double()
    x = torch.randn(4, 3).double()
    h = gated.first(x)
    a, b = gated.gates(h * h.sigmoid()).chunk(2, -1)
    torch.testing.assert_close(gated(x), gated.last(torch.tanh(a) / (1 + (-b).exp())))
    wide = Gated(200, 300, 100)
    expected = 0.1 * math.sqrt(2 / 300)
    assert float(wide.last.weight.detach().std()) == pytest.approx(expected, rel=5 / math.sqrt(2 * 30_000))
    model: Any = dgm.create("td_vae", Space.binary((4, 1, 1, 1)), hidden=4, jump=3)
    assert model.length(torch.tensor([1, 3])).tolist() == [[1, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (1, 2, 3)])
def test_draws_are_copies_of_the_whole_batch_one_after_the_other(shape: tuple[int, ...]) -> None:
    of = torch.randn(4, *shape)
    assert torch.equal(repeated(of, 3), torch.cat([of, of, of]))
