"""Glow: the data-dependent start, the channels that leave early, and the temperature."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.distributions import Normal
from torch.nn import Linear

import dgm
from dgm.contracts import perturbed
from dgm.data import Dataset
from dgm.models.flow.glow import Glow
from dgm.space import Space
from dgm.transforms import ActNorm, VectorCoupling, convolutional_prior

IMAGE = Space.continuous((1, 4, 4), loc=(3.0,) * 16, scale=(0.5,) * 16)


def flow_of(space: Space = IMAGE, **config: int) -> Glow:
    torch.manual_seed(0)
    return Glow(space, Glow.Config(layers=2, hidden=8, **config))


def test_the_first_batch_is_standardised_before_each_step() -> None:
    """Kills: actnorms that start from x, and not from what they get."""
    flow, x, found = flow_of(), 5 + 2 * torch.randn(64, 1, 4, 4), []
    flow.initialise(x)
    norms = [part for part in flow.modules() if isinstance(part, ActNorm)]
    for norm in norms:
        norm.register_forward_hook(lambda norm, args, out: found.append(out[0].transpose(0, 1).flatten(1)))
    flow.encode(x)
    assert len(found) == len(norms) == 4
    for z in found:
        assert z.mean(1).abs().max() < 1e-4
        assert (z.std(1, correction=0) - 1).abs().max() < 1e-4
    # what leaves and what stays is white, so that the density is near that of the white noise that x is
    assert flow.log_prob(x).mean().item() == pytest.approx(-Normal(0.0, 2.0).entropy().item() * 16, abs=1.5)


def test_training_starts_from_the_first_batch() -> None:
    """Through a dequantised model, once. Kills: a start that is not called, or that a second training repeats."""
    digits: Dataset = dgm.data.load("digits")
    model = dgm.create("glow", digits.space, layers=1, hidden=8)
    list(dgm.fit(model, digits, steps=1, batch=64, lr=1e-9))
    norm = next(part for part in model.modules() if isinstance(part, ActNorm))
    assert norm.initialised
    assert norm.log_scale.abs().max() > 0.1
    before = norm.log_scale.clone()
    list(dgm.fit(model, digits, steps=1, batch=32, lr=1e-9))
    torch.testing.assert_close(norm.log_scale, before, rtol=0, atol=1e-6)


def test_a_temperature_scales_the_noise_of_every_scale() -> None:
    """Of the channels that leave early too. Kills: T squared, T of the last scale alone."""
    flow = perturbed(flow_of())
    z, cold = (flow.encode(flow.sample_tempered(16, seed=0, temperature=t)) for t in (1.0, 0.7))
    torch.testing.assert_close(cold, 0.7 * z, rtol=0, atol=1e-4)
    torch.testing.assert_close(flow.sample(16, seed=0), flow.sample_tempered(16, seed=0, temperature=1.0))
    chosen = flow.encode(dgm.sample(flow, 16, seed=0, decoding=dgm.DecodingOptions(temperature=0.7)))
    torch.testing.assert_close(chosen, cold, rtol=0, atol=1e-4)


def test_a_step_is_an_actnorm_a_linear_map_and_a_coupling_whose_network_is_the_papers() -> None:
    """Section 3 and figure 2: 3×3, 1×1 and 3×3 convolutions; of vectors two hidden layers. Kills: another order of the
    maps, a rectifier or a layer left out.
    """
    flow: Any = perturbed(flow_of(scales=1)).double()
    for part in flow.modules():
        if isinstance(part, ActNorm):
            part.loc.data.normal_()
    squeeze, *steps, _ = list(flow.transform)[1:]
    assert [type(part).__name__ for part in steps] == ["ActNorm", "InvertibleLinear", "ChannelCoupling"] * 2
    x = z = torch.randn(3, 1, 4, 4, dtype=torch.float64)
    z = squeeze((x - 3) / 0.5)[0]
    for norm, linear, coupling in (steps[:3], steps[3:]):
        z = linear((z - norm.loc[:, None, None]) / norm.log_scale.exp()[:, None, None])[0]
        first, _, second, _, third = coupling.network
        h = first(z[:, :2]).clamp_min(0)
        a, t = third(second(h).clamp_min(0)).unflatten(1, (2, 2)).unbind(2)
        z = torch.cat([z[:, :2], z[:, 2:] * (a / (1 + a.abs() / 3)).exp() + t], 1)
        assert [conv.kernel_size for conv in (first, second, third)] == [(3, 3), (1, 1), (3, 3)]
    torch.testing.assert_close(flow.encode(x), squeeze.inverse(z)[0])
    of_vectors = [
        part.network for part in flow_of(Space.continuous((5,))).modules() if isinstance(part, VectorCoupling)
    ]
    widths = [[layer.out_features for layer in network if isinstance(layer, Linear)] for network in of_vectors]
    assert widths == [[8, 8, 4], [8, 8, 6]]  # a scale and a shift for each of two and of three moved dimensions


def test_the_channels_that_leave_are_normals_given_their_neighbourhood_in_those_that_stay() -> None:
    """A 3×3 convolution of the first half and of the condition. Kills: a 1×1 one, a condition left out."""
    prior: Any = perturbed(convolutional_prior(4, 1)).double()
    x, c = torch.randn(1, 4, 5, 5).double().requires_grad_(), torch.randn(1, 1, 5, 5).double().requires_grad_()
    z, ladj = prior(x, c)
    assert torch.equal(z[:, :2], x[:, :2])
    a, t = prior.network(torch.cat([x[:, :2], c], 1)).unflatten(1, (2, 2)).unbind(2)
    s = a / (1 + a.abs() / 3)
    torch.testing.assert_close(z[:, 2:], x[:, 2:] * s.exp() + t)
    torch.testing.assert_close(ladj, s.sum((1, 2, 3)))
    for gradient in torch.autograd.grad(z[0, 2, 2, 2], (x, c)):
        assert (gradient[0, 0].nonzero() == torch.cartesian_prod(*[torch.arange(1, 4)] * 2)).all()


@pytest.mark.parametrize(("name", "settings"), [("glow", {}), ("nsf", {"kind": "coupling", "bins": 4, "blocks": 1})])
def test_an_image_at_two_scales_has_the_jacobian_of_autodiff(name: str, settings: dict[str, Any]) -> None:
    """Under a condition; kills: a half that leaves early without its log-determinant, a spline of the wrong channel."""
    torch.manual_seed(0)
    space = Space.continuous((1, 8, 4))
    flow: Any = perturbed(dgm.create(name, space, Space.categories(3), layers=1, hidden=4, **settings)).double()
    x, y = 2 * torch.randn(2, 1, 8, 4, dtype=torch.float64), torch.tensor([0, 2])
    z, ladj = flow.encode_and_ladj(x, y)
    torch.testing.assert_close(flow.decode(z, y), x)
    for k in range(2):
        rows = torch.autograd.functional.jacobian(lambda v, k=k: flow.encode(v[None], y[k : k + 1]).flatten(), x[k])
        torch.testing.assert_close(ladj[k], torch.linalg.slogdet(rows.reshape(32, 32)).logabsdet)
