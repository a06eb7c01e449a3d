"""The norm with its SiLU against the plain formula, in value and in each derivative."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.functional import group_norm, silu

from dgm.networks.norm import NormSiLU, Recomputed, norm_silu


def plain(x: Tensor, gain: Tensor, shift: Tensor, groups: int) -> Tensor:
    normalised = group_norm(x.double(), groups)
    return silu(normalised * gain.double()[..., None, None] + shift.double()[..., None, None])


def arguments(rows: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    x = (2 * torch.randn(3, 8, 2, 5) + 1).to(dtype).contiguous(memory_format=torch.channels_last)
    return x, torch.randn(rows, 8), torch.randn(rows, 8)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_is_the_plain_formula(rows: int, dtype: torch.dtype) -> None:
    x, gain, shift = arguments(rows, dtype)
    tolerance = 0.05 if dtype == torch.bfloat16 else 1e-5  # some roundings of 2^-9 of numbers up to 5
    full = torch.promote_types(dtype, torch.float32)
    found = norm_silu(x, gain.to(full), shift.to(full), 4)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), plain(x, gain, shift, 4), atol=tolerance, rtol=0)


@pytest.mark.parametrize("rows", [1, 3])
def test_recomputed_is_the_plain_formula_with_its_derivatives(rows: int) -> None:
    x, gain, shift = (v.double().requires_grad_() for v in arguments(rows))

    def recomputed(x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
        return Recomputed.apply(x, gain, shift, 4)[0]

    torch.testing.assert_close(recomputed(x, gain, shift), plain(x, gain, shift, 4), check_stride=False)
    assert gradcheck(recomputed, (x, gain, shift), check_undefined_grad=False)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's own, at its first dual number
@pytest.mark.parametrize("rows", [1, 3])
def test_derivatives_go_forward_and_twice(rows: int) -> None:
    x, gain, shift = (v.double().requires_grad_() for v in arguments(rows))
    assert gradcheck(lambda *a: norm_silu(*a, 4), (x, gain, shift), check_forward_ad=True)
    assert gradgradcheck(lambda *a: norm_silu(*a, 4), (x, gain, shift))


@pytest.mark.parametrize("rows", [1, 3])
def test_bfloat16_has_the_gradient_of_float64(rows: int) -> None:
    x, gain, shift = (v.requires_grad_() for v in arguments(rows, torch.bfloat16))
    exact = [v.detach().double().requires_grad_() for v in (x, gain, shift)]
    weight = torch.randn(3, 8, 2, 5)
    (norm_silu(x, gain, shift, 4) * weight).sum().backward()
    (plain(exact[0], exact[1], exact[2], 4) * weight).sum().backward()
    for found, expected in zip((x, gain, shift), exact, strict=True):
        error = (found.grad.double() - expected.grad).norm() / expected.grad.norm()  # type: ignore[operator, union-attr]
        assert error < 0.02  # roundings of 2^-9, a dozen of them


def test_an_untrained_norm_is_silu_of_the_normalised_and_hears_its_condition() -> None:
    torch.manual_seed(0)
    x, condition = torch.randn(3, 16, 4, 4), torch.randn(3, 5)
    torch.testing.assert_close(NormSiLU(16)(x), silu(group_norm(x, 8)))
    net = NormSiLU(16, condition=5)
    scale, shift = net.affine(condition)[..., None, None].split(16, 1)  # type: ignore[operator]
    torch.testing.assert_close(net(x, condition), silu(group_norm(x, 8) * (1 + scale) + shift))
