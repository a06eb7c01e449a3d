"""What the denoiser is told, and that it hears it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from dgm.errors import BadInput
from dgm.networks.conditioning import TimedConditioning
from dgm.networks.denoiser import Denoiser
from dgm.networks.embeddings import Sinusoidal
from dgm.protocols import PartlyHidden
from dgm.space import Space


@pytest.mark.parametrize(
    ("shape", "network"), [((5,), None), ((6, 2), None), ((1, 4, 4), "mlp"), ((1, 4, 4), None), ((1, 5, 6), "dit")]
)
def test_untrained_it_says_zero_and_then_it_hears_time_and_label(shape: tuple[int, ...], network: str | None) -> None:
    torch.manual_seed(0)
    net, x, t = (
        Denoiser(shape, width=8, condition=Space.categories(2), network=network),
        torch.randn(3, *shape),
        torch.rand(3) / 2,
    )
    y = torch.tensor([0, 1, 1])
    torch.testing.assert_close(net(x, t, y), torch.zeros(3, *shape))
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    assert ((net(x, t, y) - net(x, t, 1 - y)).flatten(1).abs().max(1).values > 1e-4).all()
    assert ((net(x, t, y) - net(x, 1 - t, y)).flatten(1).abs().max(1).values > 1e-4).all()


def test_no_label_is_a_label_of_its_own() -> None:
    torch.manual_seed(0)
    conditioning, t = TimedConditioning(8, Space.categories(3), dropout=0.5), torch.rand(4)
    none, y = conditioning(t, None).vector, torch.tensor([0, 1, 2, 1])
    torch.testing.assert_close(conditioning(t, PartlyHidden(y, torch.ones(4).bool())).vector, none)
    mixed = conditioning(t, PartlyHidden(y, torch.tensor([False, True, False, True]))).vector
    assert ((mixed - none).abs().amax(1) > 1e-4).tolist() == [True, False, True, False]


def test_each_of_two_times_is_heard_in_its_place() -> None:
    torch.manual_seed(0)
    conditioning, t = TimedConditioning(8, times=2), torch.tensor([[0.1, 0.7]])
    for other in (t.flip(1), torch.tensor([[0.1, 0.6]]), torch.tensor([[0.2, 0.7]])):
        assert (conditioning(t, None).vector - conditioning(other, None).vector).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("shape", "network"), [((2,), "mlp"), ((2, 3), "mlp"), ((2, 3, 4), "mlp"), ((2, 3, 4), "unet"), ((2, 3, 4), "dit")]
)
def test_channels_in_and_out_are_as_many_as_asked_for(shape: tuple[int, ...], network: str) -> None:
    net = Denoiser(shape, width=8, network=network, inputs=5, outputs=7, times=2)
    assert net(torch.zeros(1, 5, *shape[1:]), torch.zeros(1, 2)).shape == (1, 7, *shape[1:])


def test_only_images_have_a_unet() -> None:
    with pytest.raises(BadInput, match="'unet' is for images"):
        Denoiser((5,), width=8, network="unet")


def test_times_are_embedded_by_the_formula() -> None:
    t = torch.tensor([0.0, 0.3, -1.0])
    angles = [[1000 * time / 10_000 ** (k / 3) for k in range(3)] for time in t.tolist()]
    expected = [[math.cos(a) for a in row] + [math.sin(a) for a in row] for row in angles]
    torch.testing.assert_close(Sinusoidal(6)(t), torch.tensor(expected), atol=1e-4, rtol=0)  # angles to 1000 in float32


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's own, at its first dual number
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("network", ["unet", "dit", "mlp"])
def test_the_forward_derivative_is_the_backward_one_and_has_a_gradient(network: str, bf16: bool) -> None:
    torch.manual_seed(0)
    net = Denoiser((1, 5, 6), width=8, network=network)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    (x, dx, dy), t = torch.randn(3, 2, 1, 5, 6), torch.rand(2)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        _, forward = torch.func.jvp(lambda x: net(x, t), (x,), (dx,))
    (forward.float() * dy).sum().backward(retain_graph=True)
    assert net.body.head.weight.grad.any()  # type: ignore[union-attr, operator]
    x.requires_grad_()
    (backward,) = torch.autograd.grad((net(x, t) * dy).sum(), x)
    expected = (backward * dx).sum()
    assert ((forward.float() * dy).sum() - expected).abs() < (0.1 if bf16 else 1e-4) * expected.abs()


@pytest.mark.parametrize("network", ["unet", "dit", "mlp"])
def test_tokens_and_images_reach_every_network(network: str) -> None:
    """Also where nothing but the sequence, or nothing but the maps, tells them apart. Kills: attention to x alone."""
    torch.manual_seed(0)
    condition = Space.record(text=Space.tokens(4, 9), low=Space.levels((2, 2, 2), 5))
    net = Denoiser((1, 6, 6), width=8, condition=condition, condition_dropout=0.1, network=network)
    x, t = torch.randn(2, 1, 6, 6), torch.rand(2)
    y = torch.tensor([[1.0, 2, 3, 4, *range(4), 4, 3, 2, 1], [1, 3, 2, 4, *range(4), 4, 3, 2, 1]], dtype=torch.float64)
    torch.testing.assert_close(net(x, t, y), torch.zeros(2, 1, 6, 6))
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    first, second = net(x[:1].expand(2, -1, -1, -1), t[:1].expand(2), y)
    assert (first - second).abs().max() > 1e-5, "the order of the tokens"
    other = y.clone()
    other[:, 4:] = y[:, 4:].flip(1)
    assert ((net(x, t, y) - net(x, t, other)).abs().amax((1, 2, 3)) > 1e-4).all(), "the image"
    partly, none = net(x, t, PartlyHidden(y, torch.tensor([True, False]))), net(x, t, None)
    torch.testing.assert_close(partly[0], none[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(partly[1], net(x, t, y)[1], atol=1e-5, rtol=1e-4)
    if network != "mlp":  # the vector alone, then the sequence alone, at the other's values of another text
        vector, sequence, maps = net.conditioning(t, y)
        inputs = x if maps is None else torch.cat([x, maps], 1)
        assert (net.body(inputs, vector, sequence) - net.body(inputs, vector, sequence.flip(0))).abs().max() > 1e-5
