"""WaveNet's receptive field, its gate written out, and what its layers keep."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import conv1d, pad

from dgm import contracts
from dgm.models.autoregressive.wavenet import Layer, WaveNet
from dgm.space import Space


@pytest.mark.parametrize(("layers", "cycles"), [(1, 1), (3, 1), (2, 3), (4, 2)])
def test_the_receptive_field_is_what_autodiff_finds(layers: int, cycles: int) -> None:
    """Kills: a dilation that does not double, a shift left out."""
    space = Space.continuous((48,))
    model = contracts.jolted(WaveNet(space, WaveNet.Config(width=8, skip=8, layers=layers, cycles=cycles)))
    x = torch.randn(1, 48, requires_grad=True)
    (gradient,) = torch.autograd.grad(model.conditionals(x)[0, 40].sum(), x)
    seen = gradient[0].nonzero()[:, 0]
    assert seen.tolist() == list(range(40 - model.receptive_field, 40))


@pytest.mark.parametrize("dilation", [1, 4])
def test_a_layer_is_the_papers_convolution(dilation: int) -> None:
    """Equation 3 with torch's own dilated convolution. Kills: the two taps exchanged, tanh and sigmoid exchanged."""
    layer, before, y = Layer(6, 5, dilation, 3), torch.randn(2, 20, 11), torch.tensor([2, 0])
    h = before[..., :6]
    after = layer(before, h, pad(h[:, :-dilation], (0, 0, dilation, 0)), y)
    weight = torch.stack([layer.taps.weight[:, :6], layer.taps.weight[:, 6:]], -1)
    ungated = conv1d(pad(h.mT, (dilation, 0)), weight, layer.taps.bias, dilation=dilation).mT + layer.label(y)[:, None]
    z = torch.tanh(ungated[..., :6]) * torch.sigmoid(ungated[..., 6:])
    assert torch.allclose(after[..., :6], h + z @ layer.out.weight[:6].T + layer.out.bias[:6], atol=1e-5)
    assert torch.allclose(after[..., 6:] - before[..., 6:], z @ layer.out.weight[6:].T + layer.out.bias[6:], atol=1e-5)


@pytest.mark.parametrize("space", [Space.levels((1, 40), 256), Space.continuous((40,))], ids=str)
def test_queues_hold_what_was_a_dilation_ago(space: Space) -> None:
    model = contracts.jolted(WaveNet(space, WaveNet.Config(width=8, skip=8, layers=4, cycles=2)))
    for law in (contracts.steps_are_the_conditionals, contracts.no_dimension_sees_its_future):
        result = contracts.run(law, model)
        assert result.passed, result.detail
