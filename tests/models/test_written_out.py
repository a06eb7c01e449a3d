"""Autoregressive networks against their papers' formulas term by term, on oblong images in colour and with labels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dgm import contracts
from dgm.models.autoregressive import pixelcnn_pp
from dgm.models.autoregressive.fvsbn import FVSBN
from dgm.models.autoregressive.gated_pixelcnn import GatedPixelCNN
from dgm.models.autoregressive.made import MADE, degrees
from dgm.models.autoregressive.orderless_made import OrderlessMADE
from dgm.models.autoregressive.pixelcnn import PixelCNN
from dgm.models.autoregressive.pixelrnn import PixelRNN
from dgm.models.table import MODELS
from dgm.networks import causal_transformer
from dgm.networks.raster import raster_order, to_sequence
from dgm.protocols import Autoregressive, Model
from dgm.registry import create, model_class
from dgm.space import Space

COLOUR = Space.levels((3, 3, 4), 5)
Y = torch.tensor([2, 0, 1])
LABELLED = [
    name
    for name in MODELS
    if issubclass(model_class(name), Autoregressive) and "levels" in getattr(model_class(name), "spaces", {"levels"})
]


def examples() -> tuple[Tensor, Tensor]:
    """Levels, and where the levels lie on [-1, 1]."""
    x = contracts.random_examples(COLOUR, 3)
    return x, x.double() / 2 - 1


def moved(model: nn.Module) -> Model:
    for parameter in model.parameters():
        parameter.data = torch.randn_like(parameter) / max(1, parameter[0].numel()) ** 0.5
    return model.double().eval()


def by_channel(outputs: Tensor) -> Tensor:
    """(B, C * K, H, W) to (B, C, H, W, K)."""
    return torch.stack([part.movedim(1, -1) for part in outputs.chunk(3, 1)], 1)


def test_the_pixelcnn() -> None:
    """Figure 5 of the paper. Kills: a rectifier or a residual connection left out, a label lost."""
    model = moved(PixelCNN(COLOUR, PixelCNN.Config(width=4, layers=2, head=6), Space.categories(3)))
    (x, z), net = examples(), model.network
    assert [net.first.side, *(block.conv.side for block in net.blocks), net.hidden.side] == [3, 1, 1, 0]
    h = net.first(z) + net.condition_bias.weight[Y][:, :, None, None]
    for block in net.blocks:
        h = h + block.up(block.conv(block.down(h.clamp_min(0)).clamp_min(0)).clamp_min(0))
    outputs = net.output(net.hidden(h.clamp_min(0)).clamp_min(0))
    assert torch.allclose(model.conditionals(x, Y), by_channel(outputs))


def test_the_gated_pixelcnn() -> None:
    """Figure 2 and equations 2 and 4. Kills: one stack's label in the other, gates exchanged, a link after the gate."""
    model = moved(GatedPixelCNN(COLOUR, GatedPixelCNN.Config(width=6, layers=3, head=6), Space.categories(3)))
    (x, z) = examples()
    assert [layer.vertical.side for layer in model.layers] == [3, 1, 1]

    def gated(h: Tensor) -> Tensor:
        return torch.tanh(h[:, :6]) * torch.sigmoid(h[:, 6:])

    v = h = z
    for k, layer in enumerate(model.layers):
        of_v, of_h = layer.condition_bias.weight[Y][:, :, None, None].split(12, 1)
        rows = layer.vertical(v)
        link = torch.einsum("oi,bihw->bohw", layer.link.weight[..., 0, 0], rows) + layer.link.bias[:, None, None]
        out = layer.residual(gated(layer.horizontal(h) + link + of_h))
        v, h = gated(rows + of_v), out if k == 0 else h + out
    outputs = model.output(model.hidden(h.clamp_min(0)).clamp_min(0))
    assert torch.allclose(model.conditionals(x, Y), by_channel(outputs))


@pytest.mark.parametrize("kind", ["row", "diagonal"])
def test_the_pixelrnn(kind: str) -> None:
    """Figure 4 around the cells, which are held to theirs elsewhere."""
    model = moved(PixelRNN(COLOUR, PixelRNN.Config(cell=kind, width=3, layers=2, head=6), Space.categories(3)))
    x, z = examples()
    assert model.first.side == 3
    h = model.first(z) + model.condition_bias.weight[Y][:, :, None, None]
    for lstm, up in zip(model.lstms, model.ups, strict=True):
        h = h + up(lstm(h))
    outputs = model.output(model.hidden(h.clamp_min(0)).clamp_min(0))
    assert torch.allclose(model.conditionals(x, Y), by_channel(outputs))


def test_states_start_at_a_scale_that_does_not_grow_with_h() -> None:
    """As torch's LSTMs: uniform within 1 over the root of the state's width, both states together."""
    weight = PixelRNN(COLOUR, PixelRNN.Config(width=12, layers=1)).lstms[0].state_to_state
    assert weight.abs().max() <= 24**-0.5
    assert weight.std().item() == pytest.approx(24**-0.5 / 3**0.5, rel=0.05)
    assert weight.min() < 0 < weight.max()


@pytest.mark.parametrize("space", [Space.binary((2, 1, 3)), Space.tokens(4, 3), Space.levels((4,), 256)], ids=str)
def test_the_sigmoid_belief_network(space: Space) -> None:
    """A regression of each dimension on those before it in raster order."""
    model = moved(FVSBN(space, FVSBN.Config(components=2), Space.categories(3))).float()
    x = contracts.random_examples(space, 3)
    s, k, v = to_sequence(x, space), model.observed.outputs, model.features.width
    z = torch.eye(3)[s] if space.kind == "tokens" else 2 * s.float()[..., None] / (space.values - 1) - 1
    weight, outputs = model.weight.view(space.dim, k, space.dim, v), []
    for d in range(space.dim):
        seen = sum((torch.einsum("kv,bv->bk", weight[d, :, j], z[:, j]) for j in range(d)), torch.zeros(3, k))
        outputs.append(seen + (model.bias + model.condition_bias.weight[Y]).view(3, space.dim, k)[:, d])
    found = to_sequence(model.conditionals(x, Y), space)
    assert torch.allclose(found, torch.stack(outputs, 1), atol=1e-5)


def test_a_sigmoid_belief_networks_components_start_apart() -> None:
    model = FVSBN(Space.levels((50,), 256), FVSBN.Config(components=3))
    assert model.bias.std().item() == pytest.approx(1, abs=5 / (2 * 450) ** 0.5)
    assert not FVSBN(Space.binary((5,)), FVSBN.Config()).bias.any()
    assert not model.weight.any()


@pytest.mark.parametrize("space", [Space.binary((5,)), Space.tokens(3, 4), Space.levels((4,), 256)], ids=str)
def test_made(space: Space) -> None:
    """Equations 8, 9, 12 and 13 with two hidden layers and direct connections."""
    config = MADE.Config(hidden=7, layers=2, masks=2, direct=True, components=2)
    model = moved(MADE(space, config, Space.categories(3))).float()
    x, d, k, v = contracts.random_examples(space, 3), space.dim, model.each.outputs, model.features.width
    z = torch.eye(4)[x] if space.kind == "tokens" else 2 * x.float() / (space.values - 1) - 1
    of_inputs, of_outputs = (torch.arange(1, d + 1).repeat_interleave(n) for n in (v, k))
    for mask in range(2):
        below, h = of_inputs, z.flatten(1)
        for number, (layer, degree) in enumerate(zip(model.hidden, model.m[mask], strict=True)):
            h = h @ (layer.weight * (degree[:, None] >= below)).T + layer.bias
            h = (h + (model.condition_bias.weight[Y] if number == 0 else 0)).clamp_min(0)
            below = degree
        outputs = h @ (model.output.weight * (of_outputs[:, None] > below)).T + model.output.bias
        outputs = outputs + z.flatten(1) @ (model.direct.weight * (of_outputs[:, None] > of_inputs)).T
        assert torch.allclose(model.outputs(x, Y, model.m[mask], model.places()), outputs.view(3, d, k), atol=1e-5)


def test_a_lone_mask_spreads_its_units_evenly_and_several_are_drawn() -> None:
    """Over 0 … D - 1, where a unit of degree 0 sees a label alone."""
    (lone,) = degrees(6, MADE.Config(hidden=18, layers=2))
    assert lone.tolist() == [[degree for degree in range(6) for _ in range(3)]] * 2
    for drawn in (
        degrees(4, MADE.Config(hidden=500, layers=2, masks=3)),
        OrderlessMADE(Space.binary((4,)), OrderlessMADE.Config(hidden=500, layers=2, orders=3)).m,
    ):
        assert drawn.shape == (3, 2, 500)
        shares = drawn.flatten().bincount(minlength=4) / drawn.numel()
        assert (shares - 0.25).abs().max() < 5 * (0.25 * 0.75 / 3000) ** 0.5
        assert not torch.equal(drawn[0], drawn[1])
        assert not torch.equal(drawn[0, 0], drawn[0, 1])


@pytest.mark.parametrize("name", LABELLED)
@torch.no_grad()
def test_a_label_moves_every_conditional_and_the_steps_with_it(name: str) -> None:
    """Kills: a label that is lost in one of the two ways of computing, or that the first dimensions do not see."""
    model = contracts.perturbed(create(name, COLOUR, Space.categories(3))).double()
    x, y = contracts.random_examples(COLOUR, 3), torch.tensor([2, 0, 1])
    parallel, other = (to_sequence(model.conditionals(x, labels), COLOUR) for labels in (y, y.roll(1)))
    assert ((parallel - other).abs().amax(2) > 0).all()
    seen = torch.zeros_like(x)
    for i, (dim, outputs) in enumerate(zip(raster_order(COLOUR), model.sequential_conditionals(seen, y), strict=True)):
        assert torch.allclose(outputs, parallel[:, i], atol=1e-5)  # GPTs keep their angles in float32
        seen.view(3, -1)[:, dim] = x.flatten(1)[:, dim]


@pytest.mark.parametrize("name", [*LABELLED, "orderless_made"])
def test_a_loss_is_minus_the_log_likelihood(name: str) -> None:
    """Of a picture, or of a value for WaveNet; in nats, an example at a time. Kills: a sign, a mean over the batch."""
    few = {"orders": 1} if name == "orderless_made" else {}
    model = contracts.perturbed(create(name, COLOUR, Space.categories(3), **few))
    x, y = contracts.random_examples(COLOUR, 3), torch.tensor([2, 0, 1])
    unit = COLOUR.dim if name == "wavenet" else 1
    assert torch.allclose(model.loss(x, y) * unit, -model.log_prob(x, y), rtol=1e-4)
    assert (model.log_prob(x, y) < 0).all()


@pytest.mark.parametrize("name", ["made", "orderless_made", "realnvp", "char_gpt", "image_gpt", "pixelcnn_pp"])
def test_dropout_is_of_training_alone_and_of_the_share_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: dropout that is never on, or always, and 1 - share."""
    space, seen = Space.tokens(6, 5) if name == "char_gpt" else Space.levels((1, 2, 3), 5), []

    def spy(h: Tensor, p: float = 0.5, training: bool = True, *rest: Any) -> Tensor:
        seen.append((p, training))
        return h

    for module in (nn.functional, causal_transformer, pixelcnn_pp):
        monkeypatch.setattr(module, "dropout", spy)
    model = create(name, space, dropout=0.07)
    for training in (True, False):
        seen.clear()
        model.train(training).loss(contracts.random_examples(space, 2))
        assert set(seen) == {(0.07, training)}
