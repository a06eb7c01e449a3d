"""WaveNet's receptive field, its gate written out, and what its layers keep."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import conv1d, pad

from dgm import contracts
from dgm.models.autoregressive.wavenet import Layer, WaveNet
from dgm.networks.conditioning import ConditionProjections
from dgm.networks.raster import to_sequence
from dgm.samplers import sequential
from dgm.space import Space


@pytest.mark.parametrize(("layers", "cycles"), [(1, 1), (3, 1), (2, 3), (4, 2)])
def test_the_receptive_field_is_what_autodiff_finds(layers: int, cycles: int) -> None:
    """Kills: a dilation that does not double, a shift left out."""
    space = Space.continuous((48,))
    model = contracts.perturbed(WaveNet(space, WaveNet.Config(width=8, skip=8, layers=layers, cycles=cycles)))
    x = torch.randn(1, 48, requires_grad=True)
    (gradient,) = torch.autograd.grad(model.conditionals(x)[0, 40].sum(), x)
    seen = gradient[0].nonzero()[:, 0]
    assert seen.tolist() == list(range(40 - model.receptive_field, 40))


@pytest.mark.parametrize("dilation", [1, 4])
def test_a_layer_is_the_papers_convolution(dilation: int) -> None:
    """Equation 3 with torch's own dilated convolution. Kills: the two taps exchanged, tanh and sigmoid exchanged."""
    layer, before, y = (
        Layer(6, 5, dilation, ConditionProjections(Space.categories(3))),
        torch.randn(2, 20, 11),
        torch.tensor([2, 0]),
    )
    h = before[..., :6]
    after = layer(before, h, pad(h[:, :-dilation], (0, 0, dilation, 0)), y)
    weight = torch.stack([layer.taps.weight[:, :6], layer.taps.weight[:, 6:]], -1)
    ungated = (
        conv1d(pad(h.mT, (dilation, 0)), weight, layer.taps.bias, dilation=dilation).mT
        + layer.condition_bias(y)[:, None]
    )
    z = torch.tanh(ungated[..., :6]) * torch.sigmoid(ungated[..., 6:])
    assert torch.allclose(after[..., :6], h + z @ layer.out.weight[:6].T + layer.out.bias[:6], atol=1e-5)
    assert torch.allclose(after[..., 6:] - before[..., 6:], z @ layer.out.weight[6:].T + layer.out.bias[6:], atol=1e-5)


def test_the_outputs_are_the_papers_composition() -> None:
    """Figure 4, term by term. Kills: a rectifier left out, the label or a skip lost, a cycle not repeated."""
    space, y = Space.levels((1, 24), 256), torch.tensor([1, 0])
    model = contracts.perturbed(
        WaveNet(space, WaveNet.Config(width=6, skip=5, layers=3, cycles=2), Space.categories(2))
    )
    x = torch.randint(256, (2, 1, 24), dtype=torch.uint8)
    h, skipped = pad(model.entrance.weight[x[:, 0, :-1].long()], (0, 0, 1, 0)).mT, torch.zeros(2, 5, 24)
    for layer, dilation in zip(model.layers, [1, 2, 4, 1, 2, 4], strict=True):
        taps = torch.stack(layer.taps.weight.split(6, 1), -1)
        ungated = (
            conv1d(pad(h, (dilation, 0)), taps, layer.taps.bias, dilation=dilation) + layer.condition_bias(y)[..., None]
        )
        out = conv1d(torch.tanh(ungated[:, :6]) * torch.sigmoid(ungated[:, 6:]), layer.out.weight[..., None])
        out = out + layer.out.bias[:, None]
        h, skipped = h + out[:, :6], skipped + out[:, 6:]
    hidden = conv1d(skipped.clamp_min(0), model.hidden.weight[..., None], model.hidden.bias).clamp_min(0)
    outputs = conv1d(hidden, model.output.weight[..., None], model.output.bias).mT
    assert torch.allclose(model.conditionals(x, y)[:, 0], outputs, atol=1e-5)
    log_p = outputs.log_softmax(-1).gather(-1, x[:, 0, :, None].long())[..., 0].sum(1)
    assert torch.allclose(model.log_prob(x, y), log_p, atol=1e-3)


@pytest.mark.parametrize(
    ("space", "components"),
    [(Space.levels((1, 40), 256), 0), (Space.levels((1, 40), 65_536), 3), (Space.continuous((40,)), 2)],
    ids=str,
)
def test_what_is_cached_equals_full_passes(space: Space, components: int) -> None:
    """Within 1e-5 and the same samples. Kills: a queue one too long, the label or a bias lost in a cell."""
    config = WaveNet.Config(width=8, skip=8, layers=4, cycles=2, components=components)
    model, y = contracts.perturbed(WaveNet(space, config, Space.categories(3))).double(), torch.tensor([2, 0, 1])
    *_, (cached, _, _) = sequential.trajectory(model, 3, y, seed=0)
    *_, (naive, _, _) = sequential.trajectory(model, 3, y, seed=0, cached=False)
    assert torch.allclose(cached.double(), naive.double(), atol=1e-5)
    with torch.no_grad():
        parallel = to_sequence(model.conditionals(cached, y), space)
        for i, outputs in enumerate(model.sequential_conditionals(cached, y)):
            assert torch.allclose(outputs, parallel[:, i], atol=1e-5)


def test_a_sample_is_conditional_on_its_label() -> None:
    """Equation 3: every layer's gate has a term of the label, in both ways of computing."""
    space = Space.levels((1, 8), 16)
    model = contracts.perturbed(
        WaveNet(space, WaveNet.Config(width=8, skip=8, layers=2, cycles=1), Space.categories(2))
    )
    x = torch.randint(16, (1, 1, 8), dtype=torch.uint8)
    with torch.no_grad():
        for outputs in (lambda y: model.conditionals(x, y), lambda y: next(iter(model.sequential_conditionals(x, y)))):
            assert (outputs(torch.tensor([0])) - outputs(torch.tensor([1]))).abs().max() > 1e-3


@pytest.mark.parametrize("space", [Space.levels((1, 40), 256), Space.continuous((40,))], ids=str)
def test_queues_hold_what_was_a_dilation_ago(space: Space) -> None:
    model = contracts.perturbed(WaveNet(space, WaveNet.Config(width=8, skip=8, layers=4, cycles=2)))
    for law in (contracts.sequential_conditionals_agree, contracts.conditionals_are_autoregressive):
        result = contracts.run(law, model)
        assert result.passed, result.detail
