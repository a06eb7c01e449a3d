"""Normal scores: monotone, a density for any data, and standard normal for the data that they were fitted on."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from dgm.distributions.cells import RecordCells, fit_cells
from dgm.registry import create
from dgm.space import Space
from dgm.training import fit
from dgm.transforms import NormalScores, normal_scores

NAN = math.nan


def skewed(n: int = 4000) -> Tensor:
    """Log-normal, uniform, with one value in every third row, of few values, constant."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 5, generator=generator, dtype=torch.float64)
    atom = torch.rand(n, generator=generator) < 1 / 3
    few = (x[:, 3] > 0.5).double()
    return torch.stack(
        [x[:, 0].exp(), 3 * torch.special.ndtr(x[:, 1]), x[:, 2].masked_fill(atom, -0.5), few, 0 * few], 1
    )


def fitted(x: Tensor, knots: int = 21) -> NormalScores:
    made = NormalScores(x.shape[1], knots)
    made.fit(x)
    return made


def test_the_data_becomes_standard_normal() -> None:
    """Kills: the quantiles of another distribution, slopes that are not those of the spline's ends."""
    x = skewed()
    z = fitted(x).value(x)
    for d in (0, 1):
        assert stats.kstest(z[:, d].numpy(), "norm").statistic < 0.02
    assert torch.equal(z[:, 4], x[:, 4])


def test_it_is_monotone_and_its_density_sums_to_one() -> None:
    """N(T(x)) T'(x) over the real numbers, of a few wide bins and of values that half of the rows have."""
    for knots in (2, 5, 21):
        made = fitted(skewed(), knots)
        lines = torch.stack([torch.linspace(-60, 160, 400_001)] * 5, 1).double()
        z = made.value(lines)
        assert (z.diff(dim=0) > 0).all()
        density = torch.distributions.Normal(0.0, 1.0).log_prob(z) + made.log_slope(z)
        total = density.exp().sum(0) * 220 / 400_000
        assert total.tolist() == pytest.approx([1.0] * 5, abs=5e-3)  # a bin of the grid at the steepest slope


def test_the_slope_at_a_knot_is_the_harmonic_mean_of_the_secants() -> None:
    """So dx/dz is the mean of the secants of the inverse, and at both ends the only secant. Kills: another mean."""
    made = fitted(skewed(), 9)
    slopes = made.log_slope(made.z.mT).mT.exp()
    for d in (0, 1):
        secants = made.x[d].diff() / made.z[d].diff()
        expected = torch.cat([secants[:1], (secants[1:] + secants[:-1]) / 2, secants[-1:]])
        torch.testing.assert_close(1 / slopes[d], expected)


def test_scores_do_not_depend_on_the_unit_nor_on_the_order_of_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: a distance of knots that is absolute, the first rows of many in place of every n-th."""
    x = skewed(1000)[:, :3]
    torch.testing.assert_close(fitted(1e-6 * x).value(1e-6 * x), fitted(x).value(x))
    monkeypatch.setattr(normal_scores, "MOST", 100)
    line = torch.linspace(0, 1, 1001, dtype=torch.float64)[:, None]
    assert fitted(line).x.mean().item() == pytest.approx(0.5, abs=0.02)


def test_knots_that_are_too_close_become_the_first_at_their_mean_score() -> None:
    x, z = torch.tensor([0.0, 0.4, 1.0, 1.3, 3.0]).double(), torch.arange(5.0).double()
    merged_x, merged_z = normal_scores.merged(x, z, 0.5)
    assert (merged_x.tolist(), merged_z.tolist()) == ([0, 1, 3], [0.5, 2.5, 4])


def test_missing_values_and_few_rows_are_no_quantiles() -> None:
    x = skewed(600)
    gaps = x.clone()
    gaps[::2] = NAN
    for a, b in zip(fitted(gaps).state_dict().values(), fitted(x[1::2]).state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(fitted(x[:8]).x, NormalScores(5).x)
    few = x[:100]
    made = fitted(few)
    assert ((few > made.x[:, -1]).sum(0)[:2] >= 5).all()  # beyond the outermost knots
    assert ((few < made.x[:, 0]).sum(0)[:2] >= 5).all()


RECORD = Space.record(
    pay=Space.continuous((), loc=(1.6,), scale=(2.0,), optional=True),
    age=Space.levels((), 4, loc=(0.5,), scale=(0.7,)),
    job=Space.categories(3),
)


def rows(n: int = 2000) -> Tensor:
    x = skewed(n)
    age = (x[:, 0] * 0.8).floor().clamp(0, 3)
    return torch.stack([x[:, 0].masked_fill(torch.arange(n) % 7 == 0, NAN), age, torch.arange(n) % 3], 1)


def test_a_record_with_scores_has_a_density() -> None:
    """The mean importance weight is P(x) of a known density of v, and sums to one over ages, jobs and a grid of pay.

    Kills: log T' with the other sign, of the standardised number and not of its score, or left out of log q.
    """
    own = RecordCells(RECORD, 11)
    own.fit(rows())
    normal = torch.distributions.Normal(0.0, 1.0)
    pay = torch.cat([torch.linspace(-8, 40, 2401).double(), torch.tensor([NAN]).double()])
    x = torch.cartesian_prod(pay, torch.arange(4).double(), torch.arange(3).double())
    torch.manual_seed(0)
    weights = []
    for _ in range(8):
        v, log_q = own.lift(x)
        weights.append((normal.log_prob(v.double()).sum(1) - log_q).exp())
        assert torch.allclose(own.floor(v), x, rtol=1e-5, atol=1e-4, equal_nan=True)
        assert torch.allclose(own.floor(own.centre(x)), x, rtol=1e-5, atol=1e-4, equal_nan=True)
    weights = torch.stack(weights).mean(0)
    gap = x[:, 0].isnan()
    total = float(weights[gap].sum() + weights[~gap].sum() * 48 / 2400)
    # the middle halves of the flag's and of two bits' cells, of which one has no category for both ones
    cell = [stats.norm.cdf([(c - 1) / (1 / 3**0.5) for c in ends]) for ends in ((0.25, 0.75), (1.25, 1.75))]
    zero, one = (float(high - low) for low, high in cell)
    categories = zero * zero + 2 * zero * one
    ages = stats.norm.cdf(
        own.scored((torch.tensor([[0, 0, 4.0, 0, 0], [0, 0, 0.0, 0, 0]]) - own.loc) / own.scale)[0][:, 2]
    )
    assert total == pytest.approx((zero + one) * categories * float(ages[0] - ages[1]), rel=0.02)
    v, log_q = own.noisy(x, torch.rand(len(x), 5).double(), torch.randn(len(x), 5).double(), 1.0)
    torch.testing.assert_close(own.log_noise(v, x), log_q.sum(1), rtol=1e-6, atol=1e-6)


def test_models_of_tables_have_scores_that_training_fits() -> None:
    from dgm.data.dataset import Dataset, Split

    x = rows(400)
    data = Dataset(
        name="t", space=RECORD, train=Split(x[:300]), validation=Split(x[300:350]), test=Split(x[350:]), split=""
    )
    model = create("gmm", RECORD, components=1)
    for _ in fit(model, data, steps=2):
        pass
    twin = create("gmm", RECORD, components=1)
    fit_cells(twin, x[:300])
    assert torch.equal(model.cells.scores.x, twin.cells.scores.x)
    assert not torch.equal(model.cells.scores.x[1], NormalScores(1).x[0])
    assert torch.equal(model.cells.scores.x[0], NormalScores(1).x[0])  # a bit
    pay = x[:300, :1]
    known = fitted((pay[~pay.isnan()][:, None] - 1.6) / 2.0, model.cells.scores.x.shape[1])
    torch.testing.assert_close(model.cells.scores.x[1], known.x[0])  # gaps are no numbers
    v = model.lift(x[:300])
    assert abs(float(v[:, 1].std()) - 1) < 0.2
