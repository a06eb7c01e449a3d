r"""Images beside the true ones: mean squared error, peak signal-to-noise ratio and structural similarity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from dgm.distributions.scaling import Scaling
from dgm.errors import BadInput, Unsupported
from dgm.space import Space

Perceptual: TypeAlias = Callable[[Tensor, Tensor], Tensor]
HALF, SIGMA = 5, 1.5  # of the window
K_1, K_2 = 0.01, 0.03


def range_of(space: Space) -> float:
    """The difference between the largest and the smallest value of a pixel.

    Raises:
        Unsupported: For anything but images with bounds.
    """
    if len(space.shape) == 3 and space.kind in ("binary", "levels"):
        return (space.values or 2) - 1.0
    if len(space.shape) != 3 or space.bounds is None:
        raise Unsupported(f"{space} has no range of pixels", "take images, with bounds if they are real numbers")
    return space.bounds[1] - space.bounds[0]


def mse(x: Tensor, truth: Tensor, where: Tensor | None = None) -> Tensor:
    """Mean squared error of each image, (B,) float64.

    Args:
        x: (B, C, H, W)
        truth: (B, C, H, W)
        where: bool, broadcastable to x: the pixels that count; None for all.
    """
    squared = (x.double() - truth.double()).square()
    counted = torch.ones_like(squared) if where is None else where.expand_as(squared).double()
    return (squared * counted).flatten(1).sum(1) / counted.flatten(1).sum(1)


def psnr(squared_error: Tensor, data_range: float) -> Tensor:
    """10 log10(L² / MSE) in decibels, infinite where there is no error.

    >>> psnr(torch.tensor([1.0, 100.0]), 10.0)
    tensor([20.,  0.])
    """
    return 10 * (data_range**2 / squared_error).log10()


def ssim(x: Tensor, truth: Tensor, data_range: float) -> Tensor:
    r"""Mean structural similarity of each image, (B,) float64 of at most 1.

    .. math::
        \frac{(2 \mu_x \mu_y + c_1)(2 \sigma_{xy} + c_2)}
        {(\mu_x^2 + \mu_y^2 + c_1)(\sigma_x^2 + \sigma_y^2 + c_2)}, \qquad c_i = (K_i L)^2

    with moments under a Gaussian window of 11 × 11 pixels and standard deviation 1.5; the mean over all pixels.

    Source: Image Quality Assessment: From Error Visibility to Structural Similarity (Wang et al., 2004), equations 13
    to 16. Differs from it, as torchmetrics does: windows at the border have the reflected image. Of less than 6 pixels
    a side the window is smaller.

    Args:
        x: (B, C, H, W)
        truth: (B, C, H, W)
        data_range: L.
    """
    if x.shape != truth.shape or x.ndim != 4:
        raise BadInput(f"expected images of one shape, got {tuple(x.shape)} and {tuple(truth.shape)}", "give pairs")
    a, b = (v.double().flatten(0, 1)[:, None] for v in (x, truth))
    half = min(HALF, min(x.shape[2:]) - 1)
    a, b = (pad(v, (half,) * 4, "reflect") for v in (a, b))
    window = window_of(half)
    mean_a, mean_b, aa, bb, ab = (conv2d(v, window) for v in (a, b, a * a, b * b, a * b))
    c_1, c_2 = (K_1 * data_range) ** 2, (K_2 * data_range) ** 2
    covariance = ab - mean_a * mean_b
    variances = aa - mean_a.square() + bb - mean_b.square()
    luminance = (2 * mean_a * mean_b + c_1) / (mean_a.square() + mean_b.square() + c_1)
    structure = (2 * covariance + c_2) / (variances + c_2)
    return (luminance * structure).mean((1, 2, 3)).unflatten(0, x.shape[:2]).mean(1)


def window_of(half: int) -> Tensor:
    """(1, 1, w, w) of w = 2 half + 1, the sum of which is 1."""
    line = (-(torch.arange(-half, half + 1, dtype=torch.float64) ** 2) / (2 * SIGMA**2)).exp()
    window = line[:, None] * line
    return (window / window.sum())[None, None]


def beside_truth(
    results: Tensor,
    truth: Tensor,
    space: Space,
    where: Tensor | None = None,
    *,
    perceptual: Perceptual | None = None,
) -> list[dict[str, Any]]:
    """The measures of single results, and of the mean of the results of each image.

    The mean has the smallest squared error and is blurred; a single result is sharp, and its squared error is up to
    twice as large where the results are samples of the posterior.

    Args:
        results: (B, n, C, H, W)
        truth: (B, C, H, W)
        where: Pixels that count in the error; the similarities are of the whole image.
        perceptual: `dgm.evaluation.lpips.lpips`, for this measure too.
    """
    of_all = truth[:, None].expand_as(results).flatten(0, 1)
    rows = [row("one result", results.flatten(0, 1), of_all, space, where, perceptual=perceptual)]
    if results.shape[1] > 1:
        mean = results.double().mean(1)
        rows.append(row(f"mean of {results.shape[1]} results", mean, truth, space, where, perceptual=perceptual))
    return rows


def row(
    name: str,
    x: Tensor,
    truth: Tensor,
    space: Space,
    where: Tensor | None = None,
    *,
    perceptual: Perceptual | None = None,
) -> dict[str, Any]:
    data_range = range_of(space)
    error = mse(x, truth, where)
    similarity = ssim(x, truth, data_range)
    # of the mean error: the ratio of one image without error is infinite
    means = {"mse": error.mean(), "psnr": psnr(error.mean(), data_range), "ssim": similarity.mean()}
    if perceptual is not None:
        scaling = Scaling(space)
        means["lpips"] = perceptual(scaling(x), scaling(truth)).mean()
    return {"name": name, "n": len(x), **{key: float(value) for key, value in means.items()}}
