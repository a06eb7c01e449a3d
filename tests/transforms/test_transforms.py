"""Laws of every transform: the inverse inverts, the log-determinant is autodiff's, a composition's is a sum."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import AffineTransform, ExpTransform, SigmoidTransform

from dgm.contracts import perturbed
from dgm.errors import BadInput
from dgm.networks.conv import ConvNet
from dgm.networks.mlp import mlp
from dgm.space import Space
from dgm.transforms import (
    ActNorm,
    Affine,
    AffineCoupling,
    Autoregressive,
    CausalAffine,
    ChannelCoupling,
    Composition,
    Conditioned,
    Exp,
    FirstHalf,
    Flattened,
    Inverse,
    InvertibleLinear,
    Logit,
    NormalScores,
    Patches,
    Permutation,
    Planar,
    Radial,
    RationalQuadratic,
    Scaled,
    Shift,
    Squeeze,
    Transform,
    VectorCoupling,
    checkerboard,
    multi_scale,
    to_real_numbers,
)
from dgm.transforms.coupling import beside

ROW, PICTURE = (3,), (2, 4, 6)
STANDARDISED = Space.continuous(ROW, loc=(1.0, -2.0, 0.5), scale=(3.0, 0.5, 2.0))


def coupling(shape: tuple[int, ...], width: int = 0) -> AffineCoupling:
    sizes = [shape[0] + width, 8, 2 * shape[0]]
    return AffineCoupling(checkerboard(shape), mlp(sizes) if len(shape) == 1 else ConvNet(*sizes))


def causal(*, reverse: bool = False, condition: int = 0) -> CausalAffine:
    return CausalAffine((4, 3), reverse=reverse, width=8, layers=1, heads=1, condition=condition, fixed_point=True)


def halves(swapped: bool = False, *, width: int = 0, spline: bool = False) -> ChannelCoupling:
    f = RationalQuadratic(4) if spline else Affine(2.0)
    return ChannelCoupling(ConvNet(2 + width, 8, 2 * f.parameters), f, swapped=swapped)


def scales() -> Composition:
    """Of (1, 4, 8): squeezed to (4, 2, 4), of which (2, 2, 4) goes on and is squeezed to (8, 1, 2)."""
    step = lambda shape: [  # noqa: E731
        InvertibleLinear(shape[0]),
        ChannelCoupling(nn.Conv2d(shape[0] // 2, shape[0], 3, padding=1)),
    ]
    prior = lambda shape: ChannelCoupling(nn.Conv2d(shape[0] // 2, shape[0], 1))  # noqa: E731
    board = lambda shape: [coupling(shape)]  # noqa: E731
    return Composition(multi_scale((1, 4, 8), 3, before=board, after=step, prior=prior))


def scores() -> NormalScores:
    """Of a skewed, a bounded and a normal dimension; x reaches beyond the knots of the last."""
    made, x = NormalScores(3, 9), torch.rand(400, 3, dtype=torch.float64)
    x[:, 0], x[:, 2] = x[:, 0] ** 3, 0.5 + 0.02 * torch.randn(400)
    made.fit(x)
    return made


def composition() -> Composition:
    return Composition(
        [ActNorm(2), coupling(PICTURE), Squeeze(2), Permutation([7, 0, 1, 2, 3, 4, 5, 6]), coupling((8, 2, 3))]
    )


# name: (a transform, the shape of x, the width of its condition; x is drawn from (0, 1) for all)
CASES: dict[str, tuple[Callable[[], Transform], tuple[int, ...], int]] = {
    "coupling of a row": (lambda: coupling(ROW), ROW, 0),
    "coupling of a picture": (lambda: coupling(PICTURE), PICTURE, 0),
    "coupling of a row, conditional": (lambda: coupling(ROW, 5), ROW, 5),
    "coupling of a picture, conditional": (lambda: coupling(PICTURE, 5), PICTURE, 5),
    "conditioned": (lambda: Conditioned(coupling(ROW, 4), nn.Linear(5, 4)), ROW, 5),
    "autoregressive": (lambda: Autoregressive(3, hidden=[8, 9]), ROW, 0),
    "autoregressive in one dimension": (lambda: Autoregressive(1, hidden=[8]), (1,), 0),
    "autoregressive in one dimension, conditional": (lambda: Autoregressive(1, hidden=[8], context=5), (1,), 5),
    "autoregressive in several blocks": (lambda: Autoregressive(19, hidden=[40, 12], size=8), (19,), 0),
    "autoregressive in several blocks, conditional": (lambda: Autoregressive(19, hidden=[40], context=5), (19,), 5),
    "autoregressive shift": (lambda: Autoregressive(3, Shift(), hidden=[8]), ROW, 0),
    "autoregressive spline": (lambda: Autoregressive(11, RationalQuadratic(), hidden=[24], size=4), (11,), 0),
    "autoregressive spline of one bin": (lambda: Autoregressive(3, RationalQuadratic(1), hidden=[8]), ROW, 0),
    "vector coupling": (lambda: VectorCoupling(checkerboard((5,)), hidden=[8]), (5,), 0),
    "vector coupling, conditional": (lambda: VectorCoupling(checkerboard(ROW), hidden=[8], context=5), ROW, 5),
    "vector coupling of one dimension": (lambda: VectorCoupling(torch.tensor([False]), hidden=[8]), (1,), 0),
    "vector coupling by splines": (lambda: VectorCoupling(checkerboard((5,)), RationalQuadratic(4)), (5,), 0),
    "flattened": (lambda: Flattened(Autoregressive(48, hidden=[48])), PICTURE, 0),
    "coupling of channels": (halves, (4, 2, 3), 0),
    "coupling of channels, swapped": (lambda: halves(True), (4, 2, 3), 0),
    "coupling of channels, conditional": (lambda: halves(width=5), (4, 2, 3), 5),
    "coupling of channels by splines": (lambda: halves(spline=True), (4, 2, 3), 0),
    "invertible linear map": (lambda: InvertibleLinear(3), ROW, 0),
    "invertible 1×1 convolution": (lambda: InvertibleLinear(2), PICTURE, 0),
    "first half": (lambda: FirstHalf(ActNorm(2)), (4, 2, 3), 0),
    "several scales": (scales, (1, 4, 8), 0),
    "permutation": (lambda: Permutation([2, 0, 1]), ROW, 0),
    "permutation of channels": (lambda: Permutation([1, 0]), PICTURE, 0),
    "actnorm of a row": (lambda: ActNorm(3), ROW, 0),
    "actnorm of a picture": (lambda: ActNorm(2), PICTURE, 0),
    "squeeze": (lambda: Squeeze(2), PICTURE, 0),
    "scaled": (lambda: Scaled(STANDARDISED), ROW, 0),
    "scaled from bounds": (lambda: Scaled(Space.continuous(PICTURE, low=-1.0, high=17.0)), PICTURE, 0),
    "logit": (lambda: Logit(0.05), PICTURE, 0),
    "exp": (Exp, ROW, 0),
    "normal scores": (scores, ROW, 0),
    "normal scores before the fit": (lambda: NormalScores(3, 5), ROW, 0),
    "planar": (lambda: Planar(3), ROW, 0),
    "planar of a picture": (lambda: Planar(48), PICTURE, 0),
    "planar, conditional": (lambda: Planar(3, 5), ROW, 5),
    "radial": (lambda: Radial(3), ROW, 0),
    "radial of a picture": (lambda: Radial(48), PICTURE, 0),
    "radial, conditional": (lambda: Radial(3, 5), ROW, 5),
    "causal": (lambda: causal(), (4, 3), 0),
    "causal, reversed and conditional": (lambda: causal(reverse=True, condition=5), (4, 3), 5),
    "patches": (lambda: Patches(PICTURE, 2), PICTURE, 0),
    "inverse": (lambda: Inverse(coupling(ROW)), ROW, 0),
    "inverse of exp": (lambda: Inverse(Exp()), ROW, 0),
    "composition": (composition, PICTURE, 0),
    "composition within one": (lambda: Composition([Logit(0.2), composition(), Inverse(Squeeze(2))]), PICTURE, 0),
    "composition of nothing": (Composition, ROW, 0),
    "composition, conditional": (
        lambda: Composition([coupling(ROW, 5), Permutation([2, 0, 1]), coupling(ROW, 5)]),
        ROW,
        5,
    ),
}


def case(name: str, n: int = 3) -> tuple[Transform, Tensor, Tensor | None]:
    make, shape, width = CASES[name]
    transform = perturbed(make()).double()
    x = torch.rand(n, *shape, dtype=torch.float64) * 0.8 + 0.1
    return transform, x, torch.randn(n, width, dtype=torch.float64) if width else None


@pytest.mark.parametrize("name", CASES)
def test_the_inverse_inverts(name: str) -> None:
    """From both sides, in float64. Kills: an inverse of another order, another mask, another condition."""
    transform, x, c = case(name)
    z, ladj = transform(x, c)
    back, minus_ladj = transform.inverse(z, c)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-9)
    torch.testing.assert_close(minus_ladj, -ladj, rtol=0, atol=1e-9)
    torch.testing.assert_close(transform(back, c)[0], z, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_the_log_determinant_is_autodiffs(name: str) -> None:
    """Of forward and of inverse. Kills: a sign, a factor for the places of a picture, a scale left out."""
    transform, x, c = case(name)
    z, ladj = transform(x, c)
    _, minus_ladj = transform.inverse(z, c)
    for k in range(len(x)):
        row = None if c is None else c[k : k + 1]
        for apply, at, found in ((transform, x, ladj), (transform.inverse, z, minus_ladj)):
            jacobian = torch.autograd.functional.jacobian(lambda v, f=apply, r=row: f(v[None], r)[0][0], at[k])
            expected = torch.linalg.slogdet(jacobian.reshape(x[0].numel(), x[0].numel()))[1]
            assert found[k].item() == pytest.approx(expected.item(), abs=1e-9)


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name][2]])
def test_the_condition_moves_what_it_should(name: str) -> None:
    """An example's map depends on its own condition alone. Kills: a condition left out or taken of another row."""
    transform, x, c = case(name)
    assert c is not None
    x, other = x[:1].expand_as(x), c.clone()
    other[1] += 1
    before, after = transform(x, c)[0], transform(x, other)[0]
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert (before[1] - after[1]).abs().max() > 1e-3
    assert (before[0] - before[2]).abs().max() > 1e-3


def test_a_composition_adds_up_in_its_order() -> None:
    """Kills: parts in reverse order, the last part's log-determinant alone."""
    parts = [perturbed(part()).double() for part in (Exp, lambda: coupling(ROW), lambda: Permutation([2, 0, 1]))]
    z = x = torch.rand(4, *ROW, dtype=torch.float64)
    total = torch.zeros(4, dtype=torch.float64)
    for part in parts:
        z, ladj = part(z)
        total += ladj
    found, ladj = Composition(parts)(x)
    assert torch.equal(found, z)
    assert torch.equal(ladj, total)


def test_elementwise_maps_are_torchs() -> None:
    """The log-determinants too, against torch.distributions."""
    x = torch.rand(4, *ROW, dtype=torch.float64) * 2 - 1
    to_probability = AffineTransform(0.5, 0.45)
    expected = SigmoidTransform().inv(to_probability(x))
    slope = to_probability.log_abs_det_jacobian(x, x) + SigmoidTransform().inv.log_abs_det_jacobian(
        to_probability(x), expected
    )
    for transform, value, log_slope in ((Logit(0.05), expected, slope), (Exp(), ExpTransform()(x), x)):
        z, ladj = transform(x)
        torch.testing.assert_close(z, value)
        torch.testing.assert_close(ladj, log_slope.sum(1))


def test_data_at_its_bounds_has_a_finite_density_and_gradient() -> None:
    """logit(0.05) at the bounds. Kills: a logit of 0 and 1."""
    x = torch.tensor([[2.0, 5.0]], dtype=torch.float64, requires_grad=True)
    z, ladj = Composition(to_real_numbers(Space.continuous((2,), low=2.0, high=5.0)))(x)
    assert z[0].tolist() == pytest.approx([math.log(1 / 19), math.log(19)])
    assert torch.autograd.grad(ladj.sum(), x)[0].isfinite().all()


def test_a_log_scale_is_the_output_of_the_network_near_0_and_ends_at_its_bound() -> None:
    """a / (1 + |a| / 3). Kills: another slope at 0, another bound, the magnitude in place of the number."""
    a = torch.tensor([-1e9, -3.0, 0.0, 1e-4, 3.0, 1e9], dtype=torch.float64)
    expected = torch.tensor([-3.0, -1.5, 0.0, 1e-4, 1.5, 3.0], dtype=torch.float64)
    found = Affine(3.0).log_scale(a)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)  # a / 3 of second order, and 3 / 1e9


def test_a_coupling_starts_at_the_identity_and_keeps_half() -> None:
    x = torch.rand(3, *ROW)
    start = coupling(ROW)
    assert torch.equal(start(x)[0], x)
    image = torch.rand(3, 4, 2, 3)
    assert torch.equal(halves()(image)[0], image)
    for untrained in (VectorCoupling(checkerboard(ROW), hidden=[8]), Autoregressive(3, hidden=[8])):
        assert torch.equal(untrained(x)[0], x)
    z, _ = perturbed(start)(x)
    assert torch.equal((z == x).all(0), torch.tensor([True, False, True]))


@pytest.mark.parametrize("shape", [ROW, PICTURE])
@pytest.mark.parametrize("transform", [ActNorm, lambda n: coupling(ROW if n == 3 else PICTURE)])
def test_a_transform_is_the_identity_at_first(transform: Callable[[int], Transform], shape: tuple[int, ...]) -> None:
    """Kills: a loc of 1."""
    x = torch.randn(5, *shape)
    z, ladj = transform(shape[0])(x)
    assert torch.equal(z, x)
    assert not ladj.any()


@pytest.mark.parametrize("shape", [ROW, PICTURE])
def test_actnorm_standardises_its_first_batch(shape: tuple[int, ...]) -> None:
    """Glow, section 3.1. Kills: numbers of places and of examples mixed up, the sample's variance."""
    norm, x = ActNorm(shape[0]), torch.randn(5, *shape) * 3 + 2
    x[:, 0] = 1e-3 * torch.randn_like(x[:, 0])  # channels that vary little are standardised too
    norm.initialise(x)
    z = norm(x)[0].transpose(0, 1).flatten(1)
    assert z.mean(1).abs().max() < 1e-6
    assert (z.std(1, correction=0) - 1).abs().max() < 1e-5


def test_a_squeeze_takes_squares() -> None:
    """arXiv:1605.08803, section 3.6: 1 x 4 x 4 to 4 x 2 x 2."""
    z, _ = Squeeze(2)(torch.arange(16.0).view(1, 1, 4, 4))
    assert z[0, :, 0, 0].tolist() == [0, 1, 4, 5]
    assert z[0, 0].tolist() == [[0, 2], [8, 10]]


@pytest.mark.parametrize(("made", "loaded"), [([2, 1, 0], [2, 0, 1]), ([2, 0, 1], [2, 1, 0])])
def test_a_permutation_is_that_of_its_weights(made: list[int], loaded: list[int]) -> None:
    """Kills: a reversal that is decided before weights are loaded."""
    permutation = Permutation(made)
    permutation.load_state_dict(Permutation(loaded).state_dict())
    z, _ = permutation(torch.tensor([[10.0, 11.0, 12.0]]))
    assert z.tolist() == [[10.0 + k for k in loaded]]
    assert permutation.inverse(z)[0].tolist() == [[10, 11, 12]]


def test_a_permutation_is_one() -> None:
    z, _ = Permutation([2, 0, 1])(torch.tensor([[10.0, 11.0, 12.0]]))
    assert z.tolist() == [[12, 10, 11]]
    with pytest.raises(BadInput, match=r"names each of 0 to 2 once, got \[0, 0, 1\]"):
        Permutation([0, 0, 1])


def test_a_condition_stands_behind_the_channels() -> None:
    x, c = torch.zeros(2, 1, 2, 2), torch.tensor([[3.0, 4.0], [5.0, 6.0]])
    assert beside(x, c)[:, :, 1, 0].tolist() == [[0, 3, 4], [0, 5, 6]]
    assert math.prod(beside(x, c).shape) == 24


def test_an_actnorm_starts_once() -> None:
    norm = ActNorm(3)
    norm.initialise(torch.randn(5, 3) + 2)
    before = norm.loc.clone()
    norm.initialise(torch.randn(5, 3))
    assert torch.equal(norm.loc, before)
    constant = ActNorm(3)
    constant.initialise(torch.ones(5, 3))
    assert constant.log_scale.exp().tolist() == pytest.approx([1e-6] * 3)


@pytest.mark.parametrize("channels", [1, 6])
def test_an_invertible_linear_map_starts_as_a_rotation(channels: int) -> None:
    """Glow, section 3.2. Kills: rows of P in the inverse order, a sign of s."""
    layer = InvertibleLinear(channels).double()
    w = layer(torch.eye(channels, dtype=torch.float64))[0].mT
    torch.testing.assert_close(w @ w.mT, torch.eye(channels, dtype=torch.float64), rtol=0, atol=1e-5)
    assert layer.log_s.sum().abs() < 1e-5


def test_half_of_the_channels_leave_after_each_scale() -> None:
    """The part that leaves early is a function of the first scale alone. Kills: the wrong half goes on."""
    flow = scales()
    squeezes = [part for part in flow.modules() if isinstance(part, Squeeze)]
    assert len(squeezes) == 4  # two scales, there and back
    x = torch.randn(2, 1, 4, 8)
    before = Squeeze(2)(flow(x)[0])[0]
    later = next(part for part in flow if isinstance(part, FirstHalf))
    with torch.no_grad():
        for parameter in later.parameters():
            parameter.add_(1)
    after = Squeeze(2)(flow(x)[0])[0]
    assert torch.equal(after[:, 2:], before[:, 2:])
    assert not torch.equal(after[:, :2], before[:, :2])
