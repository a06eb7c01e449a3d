"""The cells of a record: every value is in its own, and the density of the noise is that of the noise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from dgm.distributions.cells import RecordCells, binary, bits_of, cells, number, reflected
from dgm.distributions.dequantisation import Dequantised, box
from dgm.likelihood import log_likelihood
from dgm.space import Space

NAN = math.nan
MIXED = Space.record(
    flag=Space.binary((), optional=True),
    job=Space.categories(5, optional=True),
    age=Space.levels((), 40, loc=(11.0,), scale=(6.0,), optional=True),
    pay=Space.continuous((), loc=(1e6,), scale=(0.5,), optional=True),
    share=Space.continuous((), low=-1.0, high=3.0),
    code=Space.categories(50_000),
    point=Space.continuous((2,), loc=(1.0, 2.0), scale=(3.0, 4.0)),
)
ROWS = torch.tensor(
    [
        [1, 4, 39, 1e6 + 0.123456789, -1.0, 49_999, 0.5, -3.0],
        [0, 0, 0, 1e6, 3.0, 0, 1.0, 2.0],
        [NAN, NAN, NAN, NAN, 0.25, 1234, 7.0, 8.0],
        [NAN, 3, 12, NAN, 2.0, 33_000, -1.0, 0.0],
    ],
    dtype=torch.float64,
)


@dataclass(frozen=True)
class Config:
    pass


class Normal(nn.Module):
    """N(mean, std²) in each dimension of the box of a record."""

    likelihood_method = "closed form"

    def __init__(self, space: Space, mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__()
        self.space, self.config = box(space), Config()
        self.mean, self.std = mean, std

    def log_prob(self, v: Tensor, y: Tensor | None = None) -> Tensor:
        return torch.distributions.Normal(self.mean, self.std).log_prob(v.double()).sum(1)

    def sample(self, n: int, y: Tensor | None = None, *, seed: Any = None) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return self.mean + self.std * torch.randn(n, self.space.dim, generator=generator)


def wrapped(space: Space, mean: float = 0.0, std: float = 1.0) -> Dequantised:
    return Dequantised(space, Dequantised.Config(), model=Normal(space, mean, std))


def test_dimensions_are_bits_numbers_and_flags_of_what_is_missing() -> None:
    assert [bits_of(Space.categories(k)) for k in (1, 2, 3, 4, 5, 256, 257)] == [0, 1, 2, 2, 3, 8, 9]
    assert box(MIXED) == Space.continuous((2 + (1 + 3) + 2 + 2 + 1 + 16 + 2,))
    codes = torch.arange(12).reshape(4, 3)
    assert torch.equal(number(binary(codes, 4), 4, 3), codes)
    assert torch.equal(number(binary(codes * 0, 0), 0, 3), codes * 0)


def test_a_value_is_in_its_own_cell_under_any_noise() -> None:
    """Kills: a location without the half cell, a bit or a flag in another's place, a float32 on the way."""
    own = cells(MIXED)
    for seed in range(20):
        torch.manual_seed(seed)
        back = own.floor(own.lift(ROWS)[0])
        assert torch.equal(back.isnan(), ROWS.isnan())
        assert torch.allclose(back.nan_to_num(), ROWS.nan_to_num(), rtol=0, atol=1e-6)
    assert torch.allclose(own.floor(own.centre(ROWS)).nan_to_num(), ROWS.nan_to_num(), rtol=0, atol=1e-6)


def test_what_lies_a_little_outside_is_reflected() -> None:
    """Kills: the first or the last value for all of it, a mirror in the last value and not in the end of its cell."""
    space = Space.record(
        count=Space.levels((), 5), share=Space.continuous((), low=1.0, high=3.0), flag=Space.binary(())
    )
    own = cells(space)
    c = torch.tensor([[-1.2, 0.9, -0.4], [5.3, 3.5, 2.9], [6.1, 1.0, 3.1], [2.5, 2.0, 0.5]]).double()
    x = own.floor((c - own.loc) / own.scale)
    expected = torch.tensor([[1.0, 1.1, 0.0], [4.0, 2.5, 1.0], [3.0, 1.0, 1.0], [2.0, 2.0, 0.0]]).double()
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-12)  # float64


def test_what_lies_far_outside_belongs_to_the_nearest_value() -> None:
    own = cells(MIXED)
    far = own.floor(torch.full((1, own.box.dim), 1e4))[0]
    assert far.isnan().tolist() == [True] * 4 + [False] * 4
    assert far[4:6].tolist() == [3.0, 49_999]
    # flags at 0, all else far above: the code 7 of five categories is the last one
    v = torch.full((1, own.box.dim), 1e4)
    v[:, [0, 2, 6, 8]] = -1e4
    assert own.floor(v)[0, :3].tolist() == [1, 4, 39]
    MIXED.check(own.floor(50 * torch.randn(1000, own.box.dim)))


def of_bit(low: float) -> Callable[[Any], Any]:
    """The distribution function of the noise of a bit: uniform on the middle half of its cell."""
    return stats.uniform(low + 0.25, 0.5).cdf


def test_noise_is_uniform_on_the_cell_and_normal_where_a_value_is_missing() -> None:
    own, n = cells(MIXED), 4000
    assert isinstance(own, RecordCells)
    v = own.lift(ROWS[2:3].expand(n, -1))[0].double()
    c = v * own.scale + own.loc
    for dim in (0, 2, 6, 8):  # the flags of missing values: [1, 2)
        assert stats.kstest(c[:, dim].numpy(), of_bit(1)).pvalue > 1e-6
    for dim in (1, 3, 4, 5, 7, 9):
        assert stats.kstest(v[:, dim].numpy(), stats.norm.cdf).pvalue > 1e-6
    v = own.lift(ROWS[:1].expand(n, -1))[0].double()
    c = v * own.scale + own.loc
    for dim, low in ((0, 0), (1, 1), (3, 0), (4, 0), (5, 1)):  # 4 is 001, the lowest bit first
        assert stats.kstest(c[:, dim].numpy(), of_bit(low)).pvalue > 1e-6
    assert stats.kstest(c[:, 7].numpy(), stats.uniform(39, 1).cdf).pvalue > 1e-6
    assert float(v[:, 9].std()) < 1e-6, "a real number has no noise"


def test_the_density_of_the_noise_in_closed_form() -> None:
    """Kills: a scale left out or turned upside down, the scale of a hidden dimension counted, a normal's constant, the
    height of a bit's noise.
    """
    own = cells(MIXED)
    assert isinstance(own, RecordCells)
    v, log_q = own.lift(ROWS)
    hidden = {0: [], 1: [], 2: [1, 3, 4, 5, 7, 9], 3: [1, 9]}
    scales = {7: 6.0, 9: 0.5, 10: 2.0, 27: 3.0, 28: 4.0}  # all others are bits
    for k, row in enumerate(v):
        expected = 0.0
        for dim in range(own.box.dim):
            if dim in hidden[k % 4]:
                expected += stats.norm.logpdf(float(row[dim]))
            elif dim in scales:
                expected += math.log(scales[dim])
            else:
                expected += math.log(2) + math.log(1 / math.sqrt(3))
        assert float(log_q[k]) == pytest.approx(expected, abs=1e-4)


SMALL = Space.record(
    flag=Space.binary((), optional=True),
    job=Space.categories(3),
    pay=Space.continuous((), loc=(5.0,), scale=(2.0,), optional=True),
)


def masses(mean: float, std: float) -> dict[str, Any]:
    """Of N(mean, std²) in each dimension: the mass of a bit's cells, and the density of pay."""
    one = float(stats.norm(mean, std).sf(0))  # of a bit from its middle on
    pay = stats.norm(5 + 2 * mean, 2 * std)
    return {"one": one, "pay": pay}


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.4, 0.7)])
def test_weights_average_to_the_probability_of_the_mask_and_the_density_of_what_is_observed(
    mean: float, std: float
) -> None:
    """E[w] is P(mask) p(observed | mask), over the middle of the cells of bits.

    Kills: the noise's density added instead of subtracted, 1 / scale of a real number, a flag of missing for present.
    """
    model, found = wrapped(SMALL, mean, std), masses(mean, std)
    near, far = 0.25 * math.sqrt(3), 0.75 * math.sqrt(3)  # the middle of a bit's cells, from the wall between them
    normal = stats.norm(mean, std)
    cell = {0: normal.cdf(-near) - normal.cdf(-far), 1: normal.cdf(far) - normal.cdf(near)}
    # cells beyond which samples are clamped are infinite, and their noise is in the middle alone
    job = {0: cell[0] * cell[0], 1: cell[1] * cell[0], 2: cell[0] * cell[1]}
    repeats = 40_000
    for flag, k, pay in itertools.product((0.0, 1.0, NAN), (0, 1, 2), (4.0, 7.5, NAN)):
        x = torch.tensor([[flag, k, pay]], dtype=torch.float64).expand(repeats, -1)
        w = model.log_weight(x).exp()
        of_flag = cell[1] if math.isnan(flag) else cell[0] * cell[int(flag)]
        of_pay = cell[1] if math.isnan(pay) else cell[0] * found["pay"].pdf(pay)
        expected = of_flag * job[k] * of_pay
        error = float(w.std()) / math.sqrt(repeats)
        assert abs(float(w.mean()) - expected) < 5 * error, (flag, k, pay)


def test_the_bound_is_below_by_the_divergence_of_the_noise() -> None:
    """Of a missing number under N(m, s²) the bound lacks KL(N(0, 1) || N(m, s²)) in full."""
    space = Space.record(pay=Space.continuous((), optional=True))
    mean, std, repeats = 0.6, 0.8, 100_000
    model = wrapped(space, mean, std)
    elbo = model.elbo(torch.full((repeats, 1), NAN, dtype=torch.float64))
    bit = 1 / math.sqrt(3)  # the scale; the noise of the flag is in the middle of its cell [0, 1 / bit)
    u = (0.25 + 0.5 * (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000) / bit
    flag = float(torch.distributions.Normal(mean, std).log_prob(u).mean()) - math.log(bit) - math.log(2)
    divergence = math.log(std) + (1 + mean**2) / (2 * std**2) - 0.5
    assert float(elbo.mean()) == pytest.approx(flag - divergence, abs=5 * float(elbo.std()) / math.sqrt(repeats))


def test_samples_have_the_frequencies_of_the_cells() -> None:
    model, n = wrapped(SMALL, 0.4, 0.7), 40_000
    found = masses(0.4, 0.7)
    x = SMALL.check(model.sample(n))
    one = found["one"]
    missing = x.isnan().double().mean(0)
    assert missing.tolist() == pytest.approx([one, 0, one], abs=5 * 0.5 / math.sqrt(n))
    job = x[:, 1].long().bincount(minlength=3) / n
    assert job.tolist() == pytest.approx([(1 - one) ** 2, one * (1 - one), one], abs=5 * 0.5 / math.sqrt(n))
    pay = x[:, 2][~x[:, 2].isnan()]
    assert stats.kstest(pay.numpy(), found["pay"].cdf).pvalue > 1e-6


def test_the_method_says_what_the_likelihood_is_of() -> None:
    found = log_likelihood(wrapped(SMALL), torch.tensor([[1.0, 2, 3.5]]), draws=1)
    assert found.method == ("closed form, uniform dequantisation, 1 draw, log P(missing cells) + log p(observed cells)")
    complete = Space.record(a=Space.binary(()), b=Space.continuous(()))
    found = log_likelihood(wrapped(complete), torch.tensor([[1.0, 3.5]]))
    assert found.method == "closed form, uniform dequantisation, 1 draw"


def test_noise_beyond_a_wall_of_its_cell_has_no_density() -> None:
    """The cell of k is [k, k + 1): its own lower wall is inside, the upper one outside; a real number keeps its bounds.

    Kills: a wall that belongs to two cells or to none, log q of another scale.
    """
    space = Space.record(n=Space.levels((), 4, loc=(1.5,), scale=(2.0,)), r=Space.continuous((), low=0.0, high=4.0))
    record = RecordCells(space)
    x = torch.tensor([[2.0, 1.0]]).double()
    r = (1.0 - 2.0) / 2.0
    for c, inside in ((2.0, True), (2.5, True), (3.0, False), (1.5, False)):
        v = torch.tensor([[(c - 2.0) / 2.0, r]]).double()
        expected = 2 * math.log(2.0) if inside else -math.inf
        assert float(record.log_noise(v, x)) == pytest.approx(expected)
    for end, inside in ((-1.0, True), (1.0, True), (1.001, False)):
        v = torch.tensor([[0.25, end]]).double()
        assert math.isfinite(float(record.log_noise(v, x))) == inside


def test_the_noise_of_a_missing_value_is_normal() -> None:
    """Its flag, of scale 3^(-1/2), is uniform on the whole cell [1, 2); the value beside it is a normal number."""
    record = RecordCells(Space.record(r=Space.continuous((), scale=(5.0,), loc=(0.0,), optional=True)))
    scale = 1 / math.sqrt(3)
    v = torch.tensor([[(1.5 - 1) / scale, 0.7]]).double()
    found = record.log_noise(v, torch.tensor([[NAN]]).double())
    assert found.item() == pytest.approx(math.log(scale) + stats.norm.logpdf(0.7))


def test_a_number_further_away_than_the_other_wall_stays() -> None:
    c, low, high = torch.tensor([-2.5, -1.5, 3.5, 4.5]), torch.tensor(0.0), torch.tensor(2.0)
    assert reflected(c, low, high).tolist() == [-2.5, 1.5, 0.5, 4.5]


def test_missing_values_take_no_part_in_scores_or_centres() -> None:
    """What is known to be there determines its bit. Kills: a gap read as 0, a bit that is never or always known."""
    space = Space.record(a=Space.levels((), 4, optional=True), r=Space.continuous(()))
    x = torch.tensor([[1.0, 0.3], [math.nan, 0.1], [3.0, -0.4]] * 20).double()
    record = RecordCells(space)
    assert record.centre(x)[1, 1] == 0
    nothing = torch.zeros(1, 2, dtype=torch.bool)
    assert record.spread(nothing, present=True).tolist() == [[True, False, False]]
    assert record.spread(nothing, present=False).tolist() == [[False, False, False]]
