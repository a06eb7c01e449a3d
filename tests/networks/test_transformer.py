"""The transformer against torch's own layer with the same weights."""

from __future__ import annotations

import torch
from torch import nn

from dgm.networks.transformer import Layer, Transformer


def test_layer_is_torchs_encoder_layer() -> None:
    torch.manual_seed(0)
    ours, h = Layer(16, 4).double().eval(), torch.randn(2, 5, 16, dtype=torch.float64)
    theirs = nn.TransformerEncoderLayer(16, 4, 64, 0.0, "gelu", batch_first=True, norm_first=True).double()
    names = {
        "self_attn.in_proj_": "qkv.",
        "self_attn.out_proj.": "out.",
        "linear1.": "mlp.0.",
        "linear2.": "mlp.2.",
        "norm1.": "norm_1.",
        "norm2.": "norm_2.",
    }
    weights = ours.state_dict()
    theirs.load_state_dict({a + part: weights[b + part] for a, b in names.items() for part in ("weight", "bias")})
    torch.testing.assert_close(ours(h), theirs(h))


def test_without_positions_the_order_of_tokens_is_the_order_of_outputs() -> None:
    torch.manual_seed(0)
    net, tokens = Transformer(6, 5, 4, width=8, layers=2, heads=2), torch.randint(5, (1, 6))
    nn.init.normal_(net.head.weight)
    order = torch.randperm(6)
    assert (net(tokens[:, order]) - net(tokens)[:, order]).abs().max() > 1e-3
    nn.init.zeros_(net.positions)
    torch.testing.assert_close(net(tokens[:, order]), net(tokens)[:, order])


def test_condition_reaches_every_position() -> None:
    torch.manual_seed(0)
    net, tokens = Transformer(3, 5, 4, width=8, layers=1, heads=2), torch.randint(5, (1, 3))
    nn.init.normal_(net.head.weight)
    assert ((net(tokens, torch.randn(1, 8)) - net(tokens)).abs().amax(-1) > 1e-3).all()
