"""Operators against their matrices: the pseudo-inverse and V f(S) V^T."""

from __future__ import annotations

import pytest
import torch
from correlated import dense

from dgm.editing.operators import AveragePooling, Blur, Grey, Masked, Operator, cosines
from dgm.errors import BadInput

KNOWN = torch.tensor([[True, False, True, True]]).expand(2, 4)
OPERATORS: list[tuple[Operator, tuple[int, int, int]]] = [
    (Masked(KNOWN), (2, 2, 4)),
    (AveragePooling(2), (3, 4, 6)),
    (Grey(), (3, 2, 3)),
    (Blur((4, 5), 0.8), (2, 4, 5)),
    (Blur((6, 6), 2.0, smallest=0.05), (1, 6, 6)),
]
CASES = pytest.mark.parametrize(("operator", "shape"), OPERATORS, ids=lambda case: type(case).__name__)


@CASES
def test_the_pseudo_inverse_is_that_of_the_matrix(operator: Operator, shape: tuple[int, int, int]) -> None:
    a, x = dense(operator, shape), torch.randn(3, *shape, dtype=torch.float64)
    y = operator(x)
    torch.testing.assert_close(y.flatten(1), x.flatten(1) @ a.T)
    torch.testing.assert_close(operator(operator.pinv(y)), y)
    torch.testing.assert_close(operator.pinv(y).flatten(1), y.flatten(1) @ torch.linalg.pinv(a, rtol=1e-9).T)


@CASES
def test_functions_of_the_singular_values(operator: Operator, shape: tuple[int, int, int]) -> None:
    a, x = dense(operator, shape), torch.randn(3, *shape, dtype=torch.float64)
    for f, matrix in (
        (lambda s: s**2, a.T @ a),
        (lambda s: s**4 - 3, a.T @ a @ a.T @ a - 3 * torch.eye(a.shape[1], dtype=torch.float64)),
    ):
        torch.testing.assert_close(operator.spectral(f, x).flatten(1), x.flatten(1) @ matrix)
    values = torch.linalg.svdvals(a)
    assert operator.smallest == pytest.approx(values[values > 1e-9].min().item())


def test_a_blur_keeps_what_is_even_and_spreads_a_point_as_a_gaussian() -> None:
    blur = Blur((31, 31), 1.5, smallest=0.0)
    even = torch.full((1, 1, 31, 31), 0.7, dtype=torch.float64)
    torch.testing.assert_close(blur(even), even)
    point = torch.zeros(1, 1, 31, 31, dtype=torch.float64)
    point[..., 15, 15] = 1
    away = (torch.arange(31) - 15).double()
    expected = torch.exp(-(away[:, None] ** 2 + away**2) / (2 * 1.5**2)) / (2 * torch.pi * 1.5**2)
    torch.testing.assert_close(blur(point)[0, 0], expected, atol=1e-5, rtol=0)  # a sampled Gaussian's own aliasing


def test_what_a_blur_leaves_of_less_than_a_hundredth_is_not_brought_back() -> None:
    blur, whole = Blur((6, 9), 1.3), Blur((6, 9), 1.3, smallest=0.0)
    torch.testing.assert_close(blur.s, whole.s.where(whole.s >= 0.01, 0.0))
    assert blur.smallest == whole.s[whole.s >= 0.01].min() < 0.03


def test_cosines_are_orthonormal() -> None:
    torch.testing.assert_close(cosines(7) @ cosines(7).T, torch.eye(7, dtype=torch.float64))


def test_what_has_no_measurement_is_refused() -> None:
    with pytest.raises(BadInput, match="7 × 8 pixels cannot be divided into blocks of 2"):
        AveragePooling(2)(torch.zeros(1, 1, 7, 8))
    with pytest.raises(BadInput, match="above 0, got 0"):
        Blur((4, 4), 0.0)
