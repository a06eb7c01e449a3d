"""Errors, signal-to-noise ratios and structural similarity of images against torchmetrics and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from dgm.errors import BadInput, Unsupported
from dgm.evaluation.fidelity import beside_truth, mse, psnr, range_of, ssim
from dgm.space import Space


@pytest.mark.parametrize(
    ("channels", "height", "width", "data_range"), [(1, 28, 28, 255.0), (3, 32, 20, 2.0), (1, 8, 8, 16.0)]
)
def test_similarity_is_torchmetrics(channels: int, height: int, width: int, data_range: float) -> None:
    truth = torch.rand(4, channels, height, width, dtype=torch.float64) * data_range
    x = truth * 0.8 + 0.1 * data_range * torch.randn_like(truth)
    expected = structural_similarity_index_measure(x, truth, data_range=data_range, reduction="none")
    torch.testing.assert_close(ssim(x, truth, data_range), expected, rtol=1e-9, atol=1e-9)


def test_similarity_of_a_constant_image_is_that_of_its_luminance() -> None:
    """Also of images of less than the window."""
    expected = (2 * 0.5 * 0.7 + 1e-4) / (0.5**2 + 0.7**2 + 1e-4)
    for height, width in ((16, 16), (8, 8), (4, 4), (1, 1), (9, 3), (3, 9)):
        constant = torch.full((1, 1, height, width), 0.5)
        assert ssim(constant, constant + 0.2, 1.0).item() == pytest.approx(expected)


def test_similarity_is_one_of_equal_images_symmetric_and_negative_of_inverted_ones() -> None:
    x, y = torch.rand(2, 2, 3, 16, 16)
    assert ssim(x, x, 1.0).tolist() == pytest.approx([1, 1])
    assert ssim(x, y, 1.0).tolist() == pytest.approx(ssim(y, x, 1.0).tolist())
    assert (ssim(x, 1 - x, 1.0) < -0.5).all()


def test_errors_and_ratios_are_torchmetrics_and_of_the_given_pixels() -> None:
    x, truth = 255 * torch.rand(2, 3, 2, 6, 5)
    expected = [peak_signal_noise_ratio(a, b, data_range=255.0).item() for a, b in zip(x, truth, strict=True)]
    assert psnr(mse(x, truth), 255.0).tolist() == pytest.approx(expected, rel=1e-5)
    where = torch.zeros(6, 5, dtype=torch.bool)
    where[2, 3] = True
    assert mse(x, truth, where).tolist() == pytest.approx((x - truth)[:, :, 2, 3].square().mean(1).tolist(), rel=1e-5)
    assert psnr(mse(x, x), 255.0)[0] == math.inf


def test_the_mean_of_samples_has_half_the_error_of_one() -> None:
    """Truth and results are draws of one posterior, N(m, 1): their errors are 2 and 1 + 1 / n."""
    space = Space.levels((1, 12, 12), 256)
    centre = 128 + 40 * torch.randn(60, 1, 12, 12)
    truth, results = centre + torch.randn_like(centre), centre[:, None] + torch.randn(60, 8, 1, 12, 12)
    one, mean = beside_truth(results, truth, space)
    assert one["mse"] == pytest.approx(2, rel=0.06)  # four standard errors of 60 · 144 true values
    assert mean["mse"] == pytest.approx(1 + 1 / 8, rel=0.06)
    assert (one["n"], mean["n"], mean["name"]) == (480, 60, "mean of 8 results")
    assert mean["psnr"] == pytest.approx(10 * math.log10(255**2 / mean["mse"]))
    assert mean["ssim"] > one["ssim"]
    assert [row["name"] for row in beside_truth(results[:, :1], truth, space)] == ["one result"]
    where = torch.zeros(12, 12, dtype=torch.bool)
    where[3, 4] = True
    by_hand = [results - truth[:, None], results.mean(1) - truth]
    found = [row["mse"] for row in beside_truth(results, truth, space, where)]
    assert found == pytest.approx([off[..., 3, 4].square().mean().item() for off in by_hand], rel=1e-4)


def test_only_images_with_a_range_have_one() -> None:
    assert range_of(Space.levels((1, 8, 8), 17)) == 16
    assert range_of(Space.binary((1, 8, 8))) == 1
    assert range_of(Space.continuous((1, 8, 8), low=-1.0, high=3.0)) == 4
    for space in (Space.continuous((3,)), Space.continuous((1, 4, 4)), Space.tokens(4, vocabulary=3)):
        with pytest.raises(Unsupported, match="has no range of pixels"):
            range_of(space)
    with pytest.raises(BadInput, match=r"images of one shape, got \(1, 1, 8, 8\) and \(1, 1, 8, 7\)"):
        ssim(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 7), 1.0)
