"""The causal transformer: relative positions, no view of what comes later, the same a position at a time."""

from __future__ import annotations

import pytest
import torch

from dgm.errors import BadInput
from dgm.networks import causal_transformer
from dgm.networks.causal_transformer import CausalTransformer, rotated


def network(positions: int = 12) -> CausalTransformer:
    model = CausalTransformer(positions, width=16, layers=3, heads=2)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def test_dropout_is_of_what_attention_and_the_perceptron_add() -> None:
    """Left out altogether, a layer adds nothing, in training alone. Kills: one of the two that is never left out."""
    model, h = CausalTransformer(5, width=8, layers=1, heads=2, dropout=1.0), torch.randn(3, 5, 8)
    assert torch.equal(model.train().through(h), h)
    assert not torch.equal(model.eval().through(h), h)


def test_products_of_turned_vectors_depend_on_the_distance_alone() -> None:
    """Kills: a sign of the sine, sine and cosine exchanged, queries rotated and keys not."""
    model = network(40)
    q, k = torch.randn(2, 8)
    at = [rotated(v.expand(40, 8), model.rotary) for v in (q, k)]
    products = at[0] @ at[1].mT
    for distance in (-7, 0, 1, 5):
        diagonal = products.diagonal(distance)
        assert torch.allclose(diagonal, diagonal[0].expand_as(diagonal), atol=1e-4)
    assert torch.allclose(products.diagonal(0), (q @ k).expand(40), atol=1e-4)
    assert (products[0] - products[0, 0]).abs()[1:].min() > 1e-4, "another distance makes no difference"


def test_turning_is_the_complex_exponential() -> None:
    model = network(9)
    x = torch.randn(9, 8)
    angles = torch.arange(9)[:, None] * 10_000.0 ** (-torch.arange(4) / 4)
    z = torch.complex(x[:, ::2], x[:, 1::2]) * torch.polar(torch.ones(9, 4), angles)
    assert torch.allclose(rotated(x, model.rotary), torch.stack([z.real, z.imag], 2).flatten(1), atol=1e-5)


def test_the_jacobian_is_lower_triangular_and_full() -> None:
    model = network(6)
    jacobian = torch.autograd.functional.jacobian(lambda h: model(h[None])[0].square().sum(-1), torch.randn(6, 16))
    seen = jacobian.abs().amax(-1) > 0
    assert torch.equal(seen, torch.ones(6, 6).tril().bool())


def test_steps_with_their_cache_are_the_whole() -> None:
    model, h = network(), torch.randn(4, 12, 16)
    with torch.no_grad():
        parallel, cache = model(h), model.cache(4)
        one_by_one = torch.stack([model.step(h[:, t], cache) for t in range(12)], 1)
    assert torch.allclose(one_by_one, parallel, atol=1e-5)
    assert cache.length == 12


def test_what_is_added_to_the_stream_starts_smaller_with_the_depth() -> None:
    """GPT-2, section 2.3: by 1 / sqrt(N) with N residual layers, two a block."""
    model = CausalTransformer(5, width=64, layers=8, heads=2)
    for name, weight in model.named_parameters():
        if weight.ndim == 2:
            expected = 0.02 / 4 if name.endswith(("attended.weight", "down.weight")) else 0.02
            assert abs(weight.std().item() / expected - 1) < 0.06  # five standard errors of the 64² of the smallest


def test_dropout_is_for_training_alone() -> None:
    model, h = CausalTransformer(5, width=8, layers=1, heads=2, dropout=0.5), torch.randn(1, 5, 8)
    assert not torch.equal(model(h), model(h))
    assert torch.equal(model.eval()(h), model(h))


def test_a_width_that_the_heads_do_not_divide() -> None:
    with pytest.raises(BadInput, match="multiple of twice the heads, got 10 and 4"):
        CausalTransformer(5, width=10, layers=1, heads=4)


def test_pieces_of_a_batch_are_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model, h = network(), torch.randn(5, 12, 16)
    parallel = model(h)
    monkeypatch.setattr(causal_transformer, "CACHE", 2 * 12 * 16)
    assert torch.allclose(model(h), parallel, atol=1e-5)
