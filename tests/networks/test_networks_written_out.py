"""Whole networks against their formulas, part by part and with torch's own layers where there are some."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, group_norm, layer_norm, linear, pad

from dgm.networks.attention import CrossAttention
from dgm.networks.causal_transformer import NextToken
from dgm.networks.conditioning import TimedConditioning
from dgm.networks.denoiser import Denoiser, TimedMLP
from dgm.networks.dit import DiT, sincos_positions
from dgm.networks.transformer import Transformer
from dgm.networks.unet import ResidualBlock, UNet, usual_multipliers
from dgm.protocols import PartlyHidden
from dgm.space import Space


def moved(net: nn.Module) -> Any:
    """In float64, with all weights at random, as zeros and ones hide what they multiply."""
    torch.manual_seed(0)
    for parameter in net.parameters():
        parameter.data = 0.3 * torch.randn_like(parameter)
    return net.double().eval()


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def silu(h: Tensor) -> Tensor:
    return h * h.sigmoid()


def gelu(h: Tensor) -> Tensor:
    return 0.5 * h * (1 + torch.erf(h / math.sqrt(2)))


def attended(q: Tensor, k: Tensor, v: Tensor, heads: int, *, causal: bool = False) -> Tensor:
    """softmax(q k^T / d^(1/2)) v, head by head, of (B, L, width) each."""
    d, parts = q.shape[-1] // heads, []
    for h in range(heads):
        of = slice(h * d, (h + 1) * d)
        products = torch.einsum("bid,bjd->bij", q[..., of], k[..., of]) / math.sqrt(d)
        if causal:
            products = products.masked_fill(torch.ones(products.shape[1:]).triu(1).bool(), -math.inf)
        parts.append(torch.einsum("bij,bjd->bid", products.softmax(-1), v[..., of]))
    return torch.cat(parts, -1)


def test_the_conditioning_vector_is_of_the_times_and_of_the_label() -> None:
    told = moved(TimedConditioning(6, Space.categories(3), dropout=0.1, times=2))
    t, y = torch.rand(4, 2, dtype=torch.float64), torch.tensor([0, 1, 2, 0])
    frequencies = 1000 * 10_000 ** (-torch.arange(3, dtype=torch.float64) / 3)
    waves = torch.cat([f(t[:, k, None] * frequencies) for k in range(2) for f in (torch.cos, torch.sin)], 1)
    first, last = told.time[0], told.time[2]
    (label,) = told.parts
    time = linear(silu(linear(waves, first.weight, first.bias)), last.weight, last.bias)
    vectors = torch.cat([label.embedding.table.weight[y[:3]], label.null[None]])  # the last label is hidden
    found = told(t, PartlyHidden(y, torch.arange(4) == 3)).vector
    torch.testing.assert_close(found, silu(time + vectors), atol=1e-6, rtol=0)  # frequencies are kept in float32


def test_cross_attention() -> None:
    """Of six places to three others, two heads. Kills: keys and values exchanged, the norm or the sum left out."""
    net, h, sequence = moved(CrossAttention(8, 5, heads=2)), randn(2, 6, 8), randn(2, 3, 5)
    k, v = linear(sequence, net.kv.weight, net.kv.bias).split(8, -1)
    q = linear(layer_norm(h, (8,)), net.q.weight, net.q.bias)
    expected = h + linear(attended(q, k, v, 2), net.out.weight, net.out.bias)
    torch.testing.assert_close(net(h, sequence), expected)
    assert torch.equal(CrossAttention(8, 5)(h.float(), sequence.float()), h.float()), "untrained it is the identity"


def test_the_residual_perceptron() -> None:
    net, x, c = moved(TimedMLP((3,), 2, 4, width=5, condition=6, blocks=2)), randn(2, 2, 3), randn(2, 6)
    h = linear(x.flatten(1), net.stem.weight, net.stem.bias)
    for layer, norm, told in zip(net.layers, net.norms, net.conditions, strict=True):
        scale, shift = linear(c, told.weight, told.bias).split(5, 1)
        inner = layer_norm(h, (5,), norm.weight, norm.bias, eps=1e-5) * (1 + scale) + shift
        h = h + linear(silu(inner), layer.weight, layer.bias)
    expected = linear(silu(h), net.head.weight, net.head.bias).view(2, 4, 3)
    torch.testing.assert_close(net(x, c), expected)


def test_a_denoiser_has_the_widths_it_says() -> None:
    """The condition and a perceptron are four times as wide as ``width``, a U-Net's first level is as wide."""
    unet, mlp, dit = (Denoiser((3, 8, 8), width=8, network=name) for name in ("unet", "mlp", "dit"))
    assert [net.conditioning.embedding.frequencies.numel() for net in (unet, mlp, dit)] == [16] * 3
    assert unet.body.stem.out_channels == 8  # type: ignore[union-attr]
    assert mlp.body.stem.weight.shape == (32, 192)  # type: ignore[union-attr]
    assert len(mlp.body.layers) == 3  # type: ignore[arg-type]
    assert dit.body.stem.out_features == 32  # type: ignore[union-attr]
    assert [type(Denoiser(shape, width=8).body) for shape in ((5,), (5, 5), (1, 5, 5))] == [TimedMLP, TimedMLP, UNet]


def test_the_bidirectional_transformer() -> None:
    net = moved(Transformer(5, 7, 3, width=8, layers=2, heads=2))
    tokens, c = torch.randint(7, (2, 5)), randn(2, 8)
    h = net.embedding.weight[tokens] + net.positions + c[:, None]
    for layer in net.layers:
        q, k, v = layer.qkv(layer_norm(h, (8,), layer.norm_1.weight, layer.norm_1.bias)).split(8, -1)
        h = h + layer.out(attended(q, k, v, 2))
        up, _, down = layer.mlp
        h = h + down(gelu(up(layer_norm(h, (8,), layer.norm_2.weight, layer.norm_2.bias))))
    expected = net.head(layer_norm(h, (8,), net.norm.weight, net.norm.bias))
    torch.testing.assert_close(net(tokens, c), expected)


def test_transformers_start_where_their_sources_say() -> None:
    """Embeddings and positions of standard deviation 0.02, a last layer of zeros."""
    for net in (
        Transformer(60, 50, 3, width=64, layers=1, heads=2),
        NextToken(50, 60, 3, width=64, layers=1, heads=2, dropout=0.0, condition=Space.categories(40), learned=True),
    ):
        for name, parameter in net.named_parameters():
            if name in ("embedding.weight", "positions", "start.weight", "tokens.weight", "positions.weight"):
                assert parameter.std().item() == pytest.approx(0.02, rel=0.06)  # of 2560 numbers and more
        assert not net.head.weight.any()
        assert not net.head.bias.any()


@pytest.mark.parametrize(("learned", "condition"), [(True, Space.categories(3)), (False, None)])
def test_the_next_token(learned: bool, condition: Space | None) -> None:
    """GPT-2 with rotated queries and keys. Kills: a token or a position one off, another base, a norm left out."""
    net = moved(NextToken(7, 6, 4, width=8, layers=2, heads=2, dropout=0.0, condition=condition, learned=learned))
    tokens, y = torch.randint(7, (2, 6)), torch.tensor([2, 0]) if condition else None
    start = net.start.weight[[2, 0] if condition else [0, 0]]
    h = torch.cat([start[:, None], net.tokens.weight[tokens[:, :-1]]], 1)
    if learned:
        h = h + net.positions.weight

    def rotated(v: Tensor) -> Tensor:
        """Each head's pair i at position t by the angle t / 10000^(i / 2), as two heads of two pairs."""
        out = v.clone()
        for t in range(6):
            for pair in range(4):
                angle = t * 10_000 ** (-(pair % 2) / 2)
                a, b = v[:, t, 2 * pair], v[:, t, 2 * pair + 1]
                out[:, t, 2 * pair] = math.cos(angle) * a - math.sin(angle) * b
                out[:, t, 2 * pair + 1] = math.sin(angle) * a + math.cos(angle) * b
        return out

    for layer in net.body.layers:
        q, k, v = layer.qkv(layer_norm(h, (8,), layer.norm_1.weight)).split(8, -1)
        h = h + layer.attended(attended(rotated(q), rotated(k), v, 2, causal=True))
        h = h + layer.down(gelu(layer.up(layer_norm(h, (8,), layer.norm_2.weight))))
    expected = net.head(layer_norm(h, (8,), net.body.norm.weight))
    torch.testing.assert_close(net(tokens, y), expected, atol=1e-6, rtol=0)  # angles are kept in float32


def test_the_patch_transformer() -> None:
    """Of 5 × 7 pixels in patches of 2. Kills: patches in another order, shift and scale exchanged at the end."""
    net = moved(DiT((5, 7), 2, 3, width=8, condition=4, blocks=2, heads=2, patch=2))
    x, c = randn(2, 2, 5, 7), randn(2, 4)
    padded = pad(x, (0, 1, 0, 1), mode="replicate")
    patches = [padded[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].flatten(1) for i in range(3) for j in range(4)]
    h = net.stem(torch.stack(patches, 1)) + sincos_positions((3, 4), 8)
    for block in net.blocks:
        h = block(h, c)  # held to its formula elsewhere
    shift, scale = net.modulation(c)[:, None].split(8, -1)
    out = net.head(layer_norm(h, (8,), eps=1e-6) * (1 + scale) + shift)
    found = net(x, c)
    for i, j in itertools.product(range(5), range(7)):
        of_patch = out[:, (i // 2) * 4 + j // 2].view(2, 3, 2, 2)
        torch.testing.assert_close(found[:, :, i, j], of_patch[:, :, i % 2, j % 2])


def test_patches_and_heads_are_chosen_by_size() -> None:
    """2 pixels a side up to 16, then 4; a head for each 32 of the width; six blocks."""
    sides = [DiT((side, 3), 1, 1, width=8, condition=4, blocks=0).patch for side in (16, 17)]
    assert sides == [2, 4]
    net = DiT((4, 4), 1, 1, width=96, condition=4)
    assert [block.heads for block in net.blocks] == [3] * 6
    assert DiT((4, 4), 1, 1, width=8, condition=4, blocks=1).blocks[0].heads == 1


def residual(block: Any, x: Tensor, c: Tensor) -> Tensor:
    """x + conv(silu(scale * norm(conv(silu(norm(x)))) + shift)), and attention where the block has it."""
    scale, shift = block.norm_1.affine.chunk(2, 1)
    h = silu(group_norm(x, 8) * (1 + scale)[..., None, None] + shift[..., None, None])
    h = conv2d(h, block.conv_1.weight, block.conv_1.bias, padding=1)
    scale, shift = linear(c, block.norm_2.affine.weight, block.norm_2.affine.bias).chunk(2, 1)
    h = silu(group_norm(h, 8) * (1 + scale)[..., None, None] + shift[..., None, None])
    h = conv2d(h, block.conv_2.weight, block.conv_2.bias, padding=1)
    skip = x if isinstance(block.residual, nn.Identity) else conv2d(x, block.residual.weight, block.residual.bias)
    h = skip + h
    if isinstance(block.attention, nn.Identity):
        return h
    a, width = block.attention, h.shape[1]
    q, k, v = linear(group_norm(h, 8).flatten(2).mT, a.qkv.weight[..., 0, 0], a.qkv.bias).split(width, -1)
    return h + linear(attended(q, k, v, 1), a.out.weight[..., 0, 0], a.out.bias).mT.reshape(h.shape)


@pytest.mark.parametrize(("before", "after", "attention"), [(8, 16, True), (16, 16, False)])
def test_a_residual_block(before: int, after: int, attention: bool) -> None:
    block = moved(ResidualBlock(before, after, 4, attention=attention, resample=nn.Identity(), dropout=0.0))
    x, c = randn(2, before, 3, 5), randn(2, 4)
    torch.testing.assert_close(block(x, c), residual(block, x, c))


def test_the_u_net() -> None:
    """Down, middle and up with their skips, of 6 × 9 pixels at two levels with two blocks each."""
    net = moved(UNet((6, 9), 2, 3, width=8, condition=4, multipliers=(1, 2), blocks=2))
    x, c = randn(2, 2, 6, 9), randn(2, 4)
    h, skips = conv2d(pad(x, (0, 1, 0, 0), mode="replicate"), net.stem.weight, net.stem.bias, padding=1), []
    for k, block in enumerate(net.down):
        h = residual(block, avg_pool2d(h, 2) if k == 2 else h, c)
        skips.append(h)
    for block in net.middle:
        h = residual(block, h, c)
    for k, block in enumerate(net.up):
        h = h.repeat_interleave(2, 2).repeat_interleave(2, 3) if k == 2 else h
        h = residual(block, torch.cat([h, skips.pop()], 1), c)
    scale, shift = net.norm.affine[..., None, None].chunk(2, 1)
    h = silu(group_norm(h, 8) * (1 + scale) + shift)
    expected = conv2d(h, net.head.weight, net.head.bias, padding=1)[..., :9]
    torch.testing.assert_close(net(x, c), expected)


@pytest.mark.parametrize(
    ("size", "multipliers"),
    [((7, 3), [1]), ((3, 8), [1, 2]), ((14, 14), [1, 2]), ((15, 2), [1, 2, 2]), ((32, 32), [1, 2, 2, 2])],
)
def test_levels_are_added_until_the_longer_side_is_at_most_seven(size: tuple[int, int], multipliers: list[int]) -> None:
    assert usual_multipliers(size) == multipliers


@pytest.mark.parametrize("network", ["unet", "mlp"])
def test_dropout_leaves_out_the_share_of_a_layers_input(network: str) -> None:
    """In training alone. Kills: 1 - share, dropout in evaluation."""
    net, seen = moved(Denoiser((4, 8, 8), width=32, network=network, dropout=0.2)), []
    layer = net.body.down[0].conv_2 if network == "unet" else net.body.layers[0]
    layer.register_forward_pre_hook(lambda layer, given: seen.append(given[0] == 0))
    for training in (True, False):
        net.train(training)(randn(20, 4, 8, 8), torch.rand(20, dtype=torch.float64))
    assert abs(seen[0].float().mean().item() - 0.2) < 5 * math.sqrt(0.2 * 0.8 / seen[0].numel())
    assert not seen[1].any()


def test_dropout_is_of_what_each_part_of_a_patch_transformer_adds() -> None:
    """Left out altogether, the blocks add nothing."""
    net, x, c = moved(DiT((4, 4), 1, 1, width=8, condition=4, blocks=2, dropout=1.0)), randn(1, 1, 4, 4), randn(1, 4)
    whole, dropped = net(x, c), net.train()(x, c)
    net.blocks = nn.ModuleList()
    assert torch.equal(dropped, net(x, c))
    assert not torch.equal(dropped, whole)
