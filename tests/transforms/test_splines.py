"""Rational-quadratic splines: the paper's formula, the tails, float32, gradients, and zuko's with its parameters."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from dgm.errors import BadInput
from dgm.transforms import RationalQuadratic
from dgm.transforms.splines import SMALLEST

K, B = 5, 3.0


def case(
    n: int = 200, dtype: torch.dtype = torch.float64, size: float = 2.0
) -> tuple[RationalQuadratic, Tensor, Tensor]:
    spline = RationalQuadratic(K, B)
    x = torch.linspace(-1.3 * B, 1.3 * B, n, dtype=dtype).expand(3, n)
    return spline, x, size * torch.randn(3, 3 * K - 1, n, dtype=dtype)


def test_the_spline_is_the_papers() -> None:
    """Equations 4 and 5 written out, one number at a time, with knots by cumulative sums."""
    spline, x, parameters = case(40)
    z, log_slope = spline.forward(x, parameters)
    for row in range(3):
        for n in range(0, 40, 3):
            theta, at = parameters[row, :, n], x[row, n].item()
            widths, heights = (2 * B * (SMALLEST + (1 - K * SMALLEST) * t.softmax(0)) for t in theta[: 2 * K].chunk(2))
            knots, values = ((pad(sizes.cumsum(0), (1, 0)) - B).tolist() for sizes in (widths, heights))
            slopes = [1.0, *(SMALLEST + (1 + (a.exp() * math.expm1(1 - SMALLEST))).log() for a in theta[2 * K :]), 1.0]
            if abs(at) > B:
                assert z[row, n] == at
                assert log_slope[row, n] == 0
                continue
            k = max(j for j in range(K) if knots[j] <= at)
            xi, s = (at - knots[k]) / widths[k].item(), (heights[k] / widths[k]).item()
            d, d_next = float(slopes[k]), float(slopes[k + 1])
            below = s + (d_next + d - 2 * s) * xi * (1 - xi)
            expected = values[k] + heights[k].item() * (s * xi**2 + d * xi * (1 - xi)) / below
            slope = s**2 * (d_next * xi**2 + 2 * s * xi * (1 - xi) + d * (1 - xi) ** 2) / below**2
            assert z[row, n].item() == pytest.approx(expected, abs=1e-10)
            assert log_slope[row, n].item() == pytest.approx(math.log(slope), abs=1e-10)


def test_parameters_of_zero_give_the_identity() -> None:
    spline, x, parameters = case()
    z, log_slope = spline.forward(x, 0 * parameters)
    torch.testing.assert_close(z, x, rtol=0, atol=1e-12)
    torch.testing.assert_close(log_slope, 0 * x, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize("size", [0.5, 2.0, 20.0])
def test_the_spline_inverts(dtype: torch.dtype, tolerance: float, size: float) -> None:
    """With parameters up to 60, which give bins and slopes of the smallest size; the knots and the ends too.

    Where a spline is that flat many float32 x have one z, which their x must have too.
    """
    spline, x, parameters = case(dtype=dtype, size=size)
    x = x.clone()
    x[:, :4] = torch.tensor([-B, B, 0.0, B * (1 - 1e-7)])
    z, log_slope = spline.forward(x, parameters)
    back, minus = spline.inverse(z, parameters)
    torch.testing.assert_close(spline.forward(back, parameters)[0], z, rtol=0, atol=tolerance)
    if size == 0.5:
        torch.testing.assert_close(back, x, rtol=0, atol=tolerance)
    if size < 20 and dtype == torch.float64:
        torch.testing.assert_close(minus, -log_slope, rtol=0, atol=1e-9)


def test_gradients_are_those_of_finite_differences() -> None:
    """Of the map, its inverse and both log-slopes. Kills: left ends for right ones, a share's mean left out."""
    spline, x, parameters = case(7)
    x = (x + 0.01).requires_grad_()
    assert torch.autograd.gradcheck(spline.forward, (x, parameters.requires_grad_()), fast_mode=True)
    assert torch.autograd.gradcheck(spline.inverse, (x, parameters), fast_mode=True)


@pytest.mark.parametrize("apply", ["forward", "inverse"])
def test_a_batch_in_the_tails_has_gradients(apply: str) -> None:
    """Kills: NaN of the branch that is not taken, gradients of it."""
    spline, _, parameters = case(4, torch.float32, 50.0)
    x = torch.tensor([-1e30, -B - 1, B + 1e-3, 1e6]).expand(3, 4).clone().requires_grad_()
    z, log_slope = getattr(spline, apply)(x, parameters.requires_grad_())
    assert torch.equal(z, x)
    assert not log_slope.any()
    of_x, of_parameters = torch.autograd.grad(z.sum() + log_slope.sum(), (x, parameters))
    assert torch.equal(of_x, torch.ones_like(x))
    assert not of_parameters.any()


def test_discriminants_stay_positive_in_float32() -> None:
    """Twenty thousand steep splines, at values that they take: of a hundred the rounded discriminant is negative.

    Kills: the root of a negative number.
    """
    torch.manual_seed(0)
    spline = RationalQuadratic(16, 1.0)
    parameters = 30 * torch.randn(20_000, 47, 4)
    z, _ = spline.forward(torch.rand(20_000, 4) * 2 - 1, parameters)
    x, slope = spline.inverse(z, parameters)
    assert x.isfinite().all()
    assert slope.isfinite().all()
    assert (x.abs() <= 1).all()


def test_slopes_are_finite_at_knots_in_float32() -> None:
    """At the knots of steep splines and at the numbers beside them: some lie outside of their bin by rounding.

    Kills: a place in the bin below 0, where the numerator of the slope may be negative.
    """
    torch.manual_seed(0)
    spline = RationalQuadratic(8, 5.0)
    parameters = 4 * torch.randn(20_000, 23, 1)
    knots = spline.bound * (2 * (SMALLEST + (1 - 8 * SMALLEST) * parameters[:, :8].softmax(1)).cumsum(1)[:, :7, 0] - 1)
    for k in range(7):
        for x in (knots[:, k], *(torch.nextafter(knots[:, k], torch.tensor(end)) for end in (-9.0, 9.0))):
            z, log_slope = spline.forward(x[:, None], parameters)
            assert z.isfinite().all()
            assert log_slope.isfinite().all()


def test_a_spline_is_zukos() -> None:
    """With bins and slopes in its way: exp of a squashed parameter, and no smallest size."""
    transforms = pytest.importorskip("zuko.transforms")

    class Zukos(RationalQuadratic):
        def slope(self, a: Tensor) -> Tensor:
            return (a / (1 + (a / math.log(SMALLEST)).abs())).exp()

    x = torch.linspace(-1.3 * B, 1.3 * B, 50, dtype=torch.float64)
    parameters = torch.randn(50, 3 * K - 1, dtype=torch.float64)
    widths, heights, slopes = parameters.split([K, K, K - 1], 1)
    theirs = transforms.MonotonicRQSTransform(widths, heights, slopes, bound=B, slope=SMALLEST)
    shares = [(a / (1 + (2 * a / math.log(SMALLEST)).abs())).softmax(1) for a in (widths, heights)]
    logits = [((share - SMALLEST) / (1 - K * SMALLEST)).log() for share in shares]
    ours = Zukos(K, B).forward(x, torch.cat([*logits, slopes], 1).mT)
    torch.testing.assert_close(ours[0], theirs(x), rtol=0, atol=1e-10)
    torch.testing.assert_close(ours[1], theirs.log_abs_det_jacobian(x, theirs(x)), rtol=0, atol=1e-10)


def test_bins_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadInput, match="1000 bins of at least"):
        RationalQuadratic(1000)


def test_no_bin_is_thinner_and_no_slope_smaller_than_a_thousandth() -> None:
    """Of extreme parameters: the first knot lies at a thousandth of the interval, with slope 0.001. Kills: another
    smallest size or slope.
    """
    parameters = torch.zeros(3 * K - 1, 1, dtype=torch.float64)
    parameters[0], parameters[2 * K] = -1000, -1000
    knot = torch.tensor([2 * B * 1e-3 * (1 + 1e-9) - B], dtype=torch.float64)
    z, log_slope = RationalQuadratic(K, B).forward(knot, parameters)
    assert z.item() == pytest.approx(2 * B / K - B, abs=1e-6)
    assert log_slope.item() == pytest.approx(math.log(1e-3), abs=1e-3)
