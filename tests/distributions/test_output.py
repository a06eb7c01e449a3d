"""One-dimensional distributions: masses that sum to one, parity with torch and scipy, samples that follow them."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, Normal

from dgm.distributions import discretised_normal
from dgm.distributions.output import LOG_SCALES, DiscretisedLogistics, output_distribution
from dgm.seeds import streams
from dgm.space import Space

DISCRETE = [Space.binary((1,)), Space.tokens(1, 6), Space.levels((1,), 17)]
N = 20_000


def all_values(space: Space) -> Tensor:
    return torch.arange(space.values or 0).to(space.dtype)[:, None]


@pytest.mark.parametrize("space", [*DISCRETE, Space.continuous((1,))], ids=str)
def test_outputs_of_half_precision_give_a_likelihood_of_single(space: Space) -> None:
    """Kills: logarithms rounded to bfloat16 before they are summed."""
    observed = output_distribution(space, 3)
    outputs, x = torch.randn(2, 1, observed.outputs).bfloat16(), torch.zeros(2, 1, dtype=space.dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        log_p = observed.log_prob(outputs, x)
    assert log_p.dtype == torch.float32
    assert torch.equal(log_p, observed.log_prob(outputs.float(), x))


@pytest.mark.parametrize("space", DISCRETE, ids=str)
def test_masses_sum_to_one_and_samples_have_them(space: Space) -> None:
    observed = output_distribution(space, 3)
    outputs = torch.randn(1, 1, observed.outputs)
    x = all_values(space)
    p = observed.log_prob(outputs.expand(len(x), -1, -1), x)[:, 0].exp().double()
    assert p.sum().item() == pytest.approx(1, abs=1e-5)
    drawn = observed.sample(outputs.expand(N, -1, -1), streams(N, 0).uniform((*space.shape, 2)))
    assert drawn.dtype == space.dtype
    seen = drawn[:, 0].long().bincount(minlength=len(p))
    rare = p * N < 5  # a chi-square needs at least some five expected in each cell
    assert stats.chisquare(seen[~rare], p[~rare] / p[~rare].sum() * seen[~rare].sum()).pvalue > 1e-6
    assert seen[rare].sum() < 5 * int(rare.sum()) + 20


def test_logistic_cells_are_differences_of_the_sigmoid() -> None:
    space = Space.levels((1,), 17)
    observed, x = DiscretisedLogistics(space, 2), all_values(space)
    outputs = torch.tensor([0.3, -0.4, 0.2, -0.9, -1.5, 0.4], dtype=torch.float64)
    edges = torch.linspace(-1 - 1 / 16, 1 + 1 / 16, 18, dtype=torch.float64)
    edges[0], edges[-1] = -math.inf, math.inf
    logits, mu, log_s = outputs.chunk(2 + 1)
    masses = torch.sigmoid((edges[:, None] - mu) / log_s.exp()).diff(dim=0)
    expected = (logits.softmax(0) * masses).sum(1).log()
    assert torch.allclose(observed.log_prob(outputs.expand(17, 1, 6), x)[:, 0], expected, atol=1e-9)


@pytest.mark.parametrize("mu", [0.0, 1.0, -3.0, 1e4])
@pytest.mark.parametrize("log_s", [-100.0, -7.0, 0.0, 20.0, 100.0])
@pytest.mark.parametrize("values", [2, 256, 65536])
def test_logistic_cells_hold_in_float32(mu: float, log_s: float, values: int) -> None:
    """Whatever a network puts out, in training too: masses sum to one and gradients are finite."""
    space = Space.levels((1,), values)
    x = all_values(space)
    outputs = torch.tensor([0.0, mu, log_s]).expand(values, 1, 3).clone().requires_grad_()
    log_p = DiscretisedLogistics(space).log_prob(outputs, x)
    (gradient,) = torch.autograd.grad(log_p.sum(), outputs)
    assert log_p.isfinite().all()
    assert gradient.isfinite().all()
    assert log_p.detach().double().exp().sum().item() == pytest.approx(1, abs=1e-3)


def test_normals_are_torchs_mixture_in_the_datas_units() -> None:
    space = Space.continuous((2,), loc=(5.0, -1.0), scale=(10.0, 0.1))
    observed = output_distribution(space, 3)
    outputs = torch.randn(1, 2, 9)
    logits, mu, log_s = outputs[0].chunk(3, -1)
    loc, scale = torch.tensor(space.loc)[:, None], torch.tensor(space.scale)[:, None]
    theirs = MixtureSameFamily(Categorical(logits=logits), Normal(mu * scale + loc, log_s.exp() * scale))
    x = torch.tensor([[5.0, -1.0], [20.0, -1.1], [-3.0, -0.7]])
    assert torch.allclose(observed.log_prob(outputs.expand(3, -1, -1), x), theirs.log_prob(x), atol=1e-4)
    drawn = observed.sample(outputs.expand(N, -1, -1), streams(N, 0).uniform((*space.shape, 2)))
    assert ((drawn.mean(0) - theirs.mean).abs() < 5 * theirs.stddev / math.sqrt(N)).all()
    assert torch.allclose(observed(outputs), theirs.mean[None], atol=1e-4)
    for d in range(2):
        one = observed.log_prob(outputs[:, d].expand(3, -1), x[:, d], d)
        assert torch.allclose(one, theirs.log_prob(x)[:, d], atol=1e-4), "a single dimension has another's scale"
        u = theirs.cdf(drawn)[:, d]
        assert stats.kstest(u.numpy(), "uniform").pvalue > 1e-6


@pytest.mark.parametrize("logit", [-200.0, -1.0, 0.5, 200.0])
def test_bernoulli_is_torchs(logit: float) -> None:
    observed, x = output_distribution(Space.binary((1,))), torch.tensor([[0], [1]], dtype=torch.uint8)
    expected = torch.distributions.Bernoulli(logits=torch.tensor(logit)).log_prob(x.float())
    assert torch.allclose(observed.log_prob(torch.full((2, 1, 1), logit), x), expected)
    assert observed(torch.full((1, 1, 1), logit)).item() == (logit > 0)


def test_normal_cells_are_scipys() -> None:
    """Masses on both sides of the mean, where differences of the distribution function lose their digits, too."""
    x = torch.arange(17)
    edges = torch.linspace(-1 - 1 / 16, 1 + 1 / 16, 18, dtype=torch.float64)
    edges[0], edges[-1] = -math.inf, math.inf
    for mean, std in ((0.1, 0.3), (-0.9, 0.05), (2.0, 1.0)):
        masses = stats.norm(mean, std).cdf(edges.numpy())
        found = discretised_normal.log_prob(x, torch.tensor(mean), torch.tensor(std), 17).exp()
        assert torch.allclose(found, torch.from_numpy(masses).diff(), atol=1e-7)
        assert found.sum().item() == pytest.approx(1, abs=1e-9)


def test_normal_cells_hold_far_from_the_mean() -> None:
    mean, std = torch.tensor([-1.0, 1.0, 0.0, 5.0, -5.0]), torch.tensor(1e-3)
    mean.requires_grad_()
    x = torch.arange(256)[:, None]
    log_p = discretised_normal.log_prob(x, mean, std, 256)
    assert log_p.isfinite().all()
    assert torch.autograd.grad(log_p.sum(), mean)[0].isfinite().all()
    assert torch.allclose(log_p.exp().sum(0), torch.ones(5, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(log_p[:, 0], log_p[:, 1].flip(0)), "one tail is not the other's mirror image"


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperature_is_a_power_of_a_density_of_normals(temperature: float) -> None:
    """Of normals that lie far apart, of unlike widths: log q = log p / T + c. Kills: scales times T for T^(1/2)."""
    space = Space.continuous((1,), loc=(3.0,), scale=(2.0,))
    observed = output_distribution(space, 2)
    outputs = torch.tensor([0.4, -0.9, -300.0, 200.0, 0.3, -1.7], dtype=torch.float64)
    near = torch.tensor([-302.0, -300.5, -299.0, 199.8, 200.0, 200.3], dtype=torch.float64)
    x = (near * 2 + 3)[:, None]
    p, q = (observed.log_prob(o.expand(6, 1, 6), x)[:, 0] for o in (outputs, observed.tempered(outputs, temperature)))
    difference = q - p / temperature
    assert torch.allclose(difference, difference[0].expand(6), atol=1e-9)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperature_is_a_power_of_a_logistics_tails_and_of_weights(temperature: float) -> None:
    """From cell to cell log P falls by a gap over s, and at a temperature by a T-th of that."""
    space = Space.levels((1,), 256)
    observed, x = DiscretisedLogistics(space, 2), torch.tensor([[30], [40], [215], [225]], dtype=torch.uint8)
    outputs = torch.tensor([0.7, -0.2, -0.9, 0.9, -5.0, -4.5], dtype=torch.float64)
    p, q = (observed.log_prob(o.expand(4, 1, 6), x)[:, 0] for o in (outputs, observed.tempered(outputs, temperature)))
    assert (p[1] - p[0]).item() == pytest.approx(-10 * 2 / 255 * math.exp(5), rel=1e-4)
    # at twice the temperature the nearest cell is e^-6 of a tail away from one
    assert torch.allclose(q.diff()[[0, 2]], p.diff()[[0, 2]] / temperature, rtol=1e-2)
    sides = torch.tensor([0.7, -0.2], dtype=torch.float64).div(temperature).softmax(0)
    levels = all_values(space)
    mass = observed.log_prob(observed.tempered(outputs, temperature).expand(256, 1, 6), levels)[:, 0].exp()
    assert mass[:128].sum().item() == pytest.approx(sides[0].item(), abs=1e-6)


@pytest.mark.parametrize("space", [Space.levels((1,), 17), Space.continuous((1,))], ids=str)
def test_scales_are_bounded_on_both_sides(space: Space) -> None:
    assert LOG_SCALES == (-7.0, 7.0)
    observed, x = output_distribution(space), torch.zeros(1, 1, dtype=space.dtype)
    for bound in LOG_SCALES:
        at, beyond = (torch.tensor([[[0.0, -1.0, bound * times]]]) for times in (1, 2))
        assert torch.equal(observed.log_prob(at, x), observed.log_prob(beyond, x))
        assert torch.equal(observed.tempered(at, 2.0), observed.tempered(beyond, 2.0))


def test_a_picture_shows_the_mean_or_the_most_likely() -> None:
    levels = DiscretisedLogistics(Space.levels((1,), 256), 2)
    outputs = torch.tensor([[[math.log(3.0), 0.0, -0.6, 0.4, 0.0, 0.0]]])
    assert levels(outputs).item() == round((0.75 * -0.6 + 0.25 * 0.4 + 1) * 255 / 2)
    tokens = output_distribution(Space.tokens(1, 4))
    assert tokens(torch.tensor([[[0.1, 0.7, -0.2, 0.6]]])).item() == 1
    binary = output_distribution(Space.binary((1,)))
    assert [binary(torch.full((1, 1, 1), logit)).item() for logit in (-0.1, 0.1)] == [0, 1]


@pytest.mark.parametrize("space", [Space.levels((1,), 17), Space.continuous((1,))], ids=str)
def test_a_draw_inverts_the_distribution_function(space: Space) -> None:
    """Of one component, at quantiles by scipy. Kills: another quantile function, the scale left out."""
    observed, u = output_distribution(space), torch.tensor([0.03, 0.2, 0.5, 0.9, 0.99])
    outputs = torch.tensor([0.0, 0.1, -1.2]).expand(5, 1, 3)
    drawn = observed.sample(outputs, torch.stack([torch.full((5,), 0.3), u], -1)[:, None])[:, 0]
    law = stats.logistic if space.discrete else stats.norm
    z = torch.from_numpy(law(0.1, math.exp(-1.2)).ppf(u.numpy())).float()
    expected = ((z + 1) * 8).round().clamp(0, 16) if space.discrete else z
    assert torch.allclose(drawn.float(), expected, atol=1e-4)
    ends = observed.sample(outputs[:2], torch.tensor([[[0.3, 0.0]], [[0.3, 1.0]]]))
    assert ends.isfinite().all()


@pytest.mark.parametrize(
    ("space", "components", "outputs"),
    [
        (Space.binary((1,)), 3, 1),
        (Space.tokens(1, 6), 3, 6),
        (Space.levels((1,), 17), 0, 17),
        (Space.levels((1,), 17), 3, 9),
        (Space.continuous((1,)), 0, 3),
        (Space.continuous((1,)), 3, 9),
    ],
    ids=str,
)
def test_a_space_has_the_distribution_that_fits_it(space: Space, components: int, outputs: int) -> None:
    observed = output_distribution(space, components)
    assert observed.outputs == outputs
    assert isinstance(observed, DiscretisedLogistics) == (space.kind == "levels" and components > 0)


def test_a_bit_of_no_probability_is_never_drawn() -> None:
    """At the ends of u. Kills: <= for <."""
    observed, u = output_distribution(Space.binary((1,))), torch.tensor([[[0.0, 0.0]], [[1 - 2**-24, 0.0]]])
    for logit, bit in ((-200.0, 0), (200.0, 1)):
        assert observed.sample(torch.full((2, 1, 1), logit), u).flatten().tolist() == [bit, bit]


def test_draws_reach_far_into_the_tails_and_a_narrow_logistic_has_its_variance() -> None:
    """The quantiles at 1/1000 and 999/1000; pi² s² / 3 in the middle of the levels. Kills: tails that are cut off."""
    u = torch.tensor([[0.5, 1e-3], [0.5, 1 - 1e-3]])
    outputs = torch.tensor([0.0, 0.0, math.log(0.05)]).expand(2, 3)
    normal = output_distribution(Space.continuous(())).sample(outputs, u)
    assert normal.tolist() == pytest.approx([-0.05 * 3.0902, 0.05 * 3.0902], rel=1e-3)
    levels = output_distribution(Space.levels((), 201), 1)
    off = 100 * 0.05 * math.log(999)
    assert levels.sample(outputs, u).tolist() == [round(100 - off), round(100 + off)]
    variance = levels.moments(outputs)[1]  # type: ignore[attr-defined]
    assert variance.tolist() == pytest.approx([math.pi**2 / 3 * 0.05**2] * 2, rel=1e-3)
