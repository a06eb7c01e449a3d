"""Columns of a record: each density in closed form, the chain rule over all of them, samples that invert uniforms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy import stats

from dgm.distributions.columns import RANK, WIDE, ColumnFeatures, Columns, Embedded, Missing, column
from dgm.errors import BadInput
from dgm.registry import create
from dgm.space import Space

NAN = math.nan
PAY = Space.continuous((), loc=(1e9,), scale=(2.0,), optional=True)
SPACE = Space.record(
    flag=Space.binary((), optional=True),
    job=Space.categories(5),
    age=Space.levels((), 40, loc=(11.0,), scale=(6.0,), optional=True),
    pay=PAY,
    code=Space.categories(WIDE + 1, optional=True),
)


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


class TestDensities:
    """Of outputs that are written out."""

    def test_a_missing_truth_value(self) -> None:
        flag = column(SPACE.parts[0][1], 1)
        outputs = torch.tensor([[0.7, -0.4]]).expand(3, 2)
        log_p = flag.log_prob(outputs, torch.tensor([NAN, 1.0, 0.0], dtype=torch.float64))  # type: ignore[operator]
        known = 1 - sigmoid(0.7)
        expected = [sigmoid(0.7), known * sigmoid(-0.4), known * sigmoid(0.4)]
        assert log_p.exp().tolist() == pytest.approx(expected)

    def test_an_integer_has_the_mass_of_its_cell_on_its_own_scale(self) -> None:
        """Kills: levels on [-1, 1] in place of the column's scale, half a cell of another width."""
        age = column(Space.levels((), 40, loc=(11.0,), scale=(6.0,)), 1)
        outputs = torch.tensor([[0.0, 0.5, -0.3]], dtype=torch.float64).expand(3, 3)
        log_p = age.log_prob(outputs, torch.tensor([0.0, 13, 39]))  # type: ignore[operator]
        law = stats.logistic(11 + 6 * 0.5, 6 * math.exp(-0.3))
        expected = [law.cdf(0.5), law.cdf(13.5) - law.cdf(12.5), law.sf(38.5)]
        assert log_p.exp().tolist() == pytest.approx(expected, rel=1e-5)

    def test_a_real_number_far_from_zero_keeps_its_digits(self) -> None:
        """Kills: float32 on the way, the scale's logarithm left out or added."""
        pay = column(PAY, 1)
        outputs = torch.tensor([[-0.2, 0.0, 0.25, -1.0]], dtype=torch.float64).expand(2, 4)
        log_p = pay.log_prob(outputs, torch.tensor([1e9 + 0.375, NAN], dtype=torch.float64))  # type: ignore[operator]
        law = stats.norm(0.25 * 2, 2 * math.exp(-1))
        assert log_p[0] == pytest.approx(math.log(1 - sigmoid(-0.2)) + law.logpdf(0.375), rel=1e-6)
        assert log_p[1] == pytest.approx(math.log(sigmoid(-0.2)))

    def test_many_categories_by_their_embeddings(self) -> None:
        code = column(Space.categories(WIDE + 1), 1)
        assert isinstance(code, Embedded)
        assert not isinstance(column(Space.categories(WIDE), 1), Embedded)
        outputs, k = torch.randn(1, RANK), torch.arange(WIDE + 1).double()
        p = code.log_prob(outputs.expand(len(k), -1), k).exp()
        logits = code.logits.weight @ outputs[0]
        assert torch.allclose(p, logits.softmax(0), atol=1e-6)
        tempered = code.log_prob(code.tempered(outputs, 0.5).expand(len(k), -1), k).exp()
        assert torch.allclose(tempered, (2 * logits).softmax(0), atol=1e-6)

    def test_each_number_of_a_part_has_its_own_location_and_scale(self) -> None:
        columns = Columns(Space.record(xy=Space.continuous((2,), loc=(3.0, -5.0), scale=(2.0, 0.5))), 1)
        log_p = columns.log_prob(torch.zeros(1, 2, 3), torch.tensor([[4.0, -5.5]], dtype=torch.float64))
        assert log_p[0].tolist() == pytest.approx([stats.norm(3, 2).logpdf(4), stats.norm(-5, 0.5).logpdf(-5.5)])

    def test_a_temperature_is_of_what_is_missing_and_of_the_value(self) -> None:
        job = column(Space.categories(3, optional=True), 1)
        outputs, x = torch.tensor([[0.4, 1.0, -0.5, 0.2]]), torch.tensor([NAN, 0.0, 1.0, 2.0], dtype=torch.float64)
        warm = job.tempered(outputs, 2.0).expand(4, -1)  # type: ignore[operator]
        p = job.log_prob(warm, x).exp()  # type: ignore[operator]
        known = (outputs[0, 1:] / 2).softmax(0).double() * (1 - sigmoid(0.2))
        assert p.tolist() == pytest.approx([sigmoid(0.2), *known.tolist()])

    def test_a_temperature_of_a_whole_row_is_that_of_each_column(self) -> None:
        """P(x)^(1/T) over its sum, of five categories by hand. Kills: outputs of another column."""
        torch.manual_seed(0)
        columns, x = Columns(SPACE, 1), torch.tensor([[1.0, 3, NAN, 1e9, 64]], dtype=torch.float64)
        outputs = torch.randn(1, 5, columns.outputs)
        together = columns.log_prob(columns.tempered(outputs, 2.0), x)[0]
        for k in range(5):
            alone = columns.log_prob(columns.tempered(outputs[:, k], 2.0, k), x[:, k], k)
            assert together[k].item() == pytest.approx(alone.item())
        cold = columns.log_prob(outputs[:, 1].expand(5, -1), torch.arange(5.0, dtype=torch.float64), 1).double()
        assert together[1].item() == pytest.approx((cold / 2).log_softmax(0)[3].item(), rel=1e-5)

    def test_the_likeliest_values(self) -> None:
        columns = Columns(SPACE, 1)
        outputs = torch.zeros(1, 5, columns.outputs)
        outputs[0, :, 0] = torch.tensor([0.1, 0.0, -0.1, -1.0, -1.0])
        outputs[0, 1, 3], outputs[0, 2, 2], outputs[0, 3, 2] = 2.0, 0.5, -1.5
        outputs[0, 4, 1 : 1 + RANK] = columns.each[4].known.logits.weight[17].detach() * 50  # type: ignore[union-attr, index, operator]
        found = SPACE.check(columns(outputs))[0]
        assert found[0].isnan()
        assert found[1:].tolist() == [3, 14, 1e9 - 3, 17]

    def test_each_column_reads_its_own_outputs(self) -> None:
        """The sum over a row is that of the columns by themselves, and no column reads another's outputs."""
        columns, x = Columns(SPACE, 2), torch.tensor([[1.0, 3, NAN, 1e9, 64]], dtype=torch.float64)
        outputs = torch.randn(1, 5, columns.outputs)
        log_p = columns.log_prob(outputs, x)
        for k in range(5):
            assert log_p[0, k] == columns.log_prob(outputs[:, k], x[:, k], k)
            other = outputs.clone()
            other[:, k, 0] += 1  # all of them together would leave a softmax as it is
            moved = (columns.log_prob(other, x) != log_p)[0]
            assert moved.tolist() == [j == k for j in range(5)]

    def test_a_value_that_is_missing_together_with_others_is_refused(self) -> None:
        with pytest.raises(BadInput, match="'xy' has 2 numbers that are missing together"):
            Columns(Space.record(xy=Space.continuous((2,), optional=True)))


class TestSamples:
    def test_what_is_left_of_the_first_uniform_number_draws_the_value(self) -> None:
        """Kills: the uniform number used twice, which would leave out the lower values where some are missing."""
        n = 20_000
        job = column(Space.categories(4, optional=True), 1)
        assert isinstance(job, Missing)
        outputs = torch.tensor([[0.5, 0.1, -0.7, 1.1, 0.0]]).expand(n, 5)
        u = torch.stack([(torch.arange(n) + 0.5) / n, torch.rand(n)], -1)
        x = job.sample(outputs, u)
        p = torch.tensor([0.1, -0.7, 1.1, 0.0]).softmax(0) * (1 - sigmoid(0.5))
        assert float(x.isnan().double().mean()) == pytest.approx(sigmoid(0.5), abs=2 / n)
        found = x[~x.isnan()].long().bincount(minlength=4) / n
        assert found.tolist() == pytest.approx(p.tolist(), abs=4 / n)

    def test_values_follow_their_columns(self) -> None:
        n = 4000
        columns = Columns(SPACE, 1)
        outputs = torch.zeros(1, 5, columns.outputs)
        outputs[0, :, 0] = -40.0  # nothing is missing; of job the first category is never drawn
        outputs[0, 3, 1:4] = torch.tensor([0.0, 0.25, -1.0])
        x = SPACE.check(columns.sample(outputs.expand(n, -1, -1), torch.rand(n, 5, 2)))
        assert not x.isnan().any()
        assert stats.kstest((x[:, 3] - 1e9).numpy(), stats.norm(0.5, 2 * math.exp(-1)).cdf).pvalue > 1e-6
        assert float((x[:, 1] == 0).double().mean()) == 0
        assert float(x[:, 0].mean()) == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(n))


class TestFeatures:
    def test_they_are_as_wide_as_the_widest_column(self) -> None:
        """Kills: the width of categories for that of numbers, with which all categories but the first are one."""
        job, age, pay = Space.categories(3, optional=True), Space.levels((), 40), Space.continuous(())
        assert [ColumnFeatures(Space.record(a=a, b=pay)).width for a in (job, age, pay)] == [1 + 3, 1 + 1, 1 + 1]
        many, most = (ColumnFeatures(Space.record(a=Space.categories(k), job=job)) for k in (RANK + 1, RANK))
        assert many.width == most.width == 1 + RANK
        assert isinstance(many.each[0], torch.nn.Embedding)
        assert isinstance(most.each[0], torch.nn.Identity)  # ones and zeros need no more room
        read = ColumnFeatures(Space.record(job=job, pay=pay))(
            torch.tensor([[0, 2.0], [1, 2], [2, 2], [NAN, 2]]).double()
        )
        assert torch.equal(read[:, 0], torch.eye(4))
        assert (read[:, 1] == torch.tensor([2.0, 0, 0, 0])).all()

    def test_a_missing_value_is_zero_and_says_so(self) -> None:
        features = ColumnFeatures(SPACE)
        x = torch.tensor([[1.0, 3, 17, 1e9 + 2, 64], [NAN, 0, NAN, NAN, NAN]], dtype=torch.float64)
        read = features(x).detach()
        assert read.shape == (2, 5, features.width)
        assert read[:, :, -1].tolist() == [[0, 0, 0, 0, 0], [1, 0, 1, 1, 1]]
        assert read[0, 0, 0] == 1
        assert read[0, 1, :5].tolist() == [0, 0, 0, 1, 0]
        assert float(read[0, 2, 0]) == pytest.approx(1.0)
        assert float(read[0, 3, 0]) == pytest.approx(1.0), "in float64: 1e9 + 2 is no float32"
        assert torch.equal(read[0, 4, :RANK], features.each[4].weight[64])
        assert not read[1, [0, 2, 3, 4], :-1].any()
        for k in range(5):
            assert torch.equal(features(x[:, k], k).detach(), read[:, k])


@pytest.mark.parametrize("name", ["made", "nade", "orderless_made", "vae"])
def test_two_values_that_differ_are_told_apart_by_every_model(name: str) -> None:
    """A change of any column, and of whether it is there, changes what the likelihood is."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"hidden": 16} | ({"orders": 2} if name == "orderless_made" else {})
    model = create(name, SPACE, **options).eval()
    x = torch.tensor([[1.0, 3, 17, 1e9 + 2, 64]], dtype=torch.float64)
    others = [[0.0, 3, 17, 1e9 + 2, 64], [1, 2, 17, 1e9 + 2, 64], [1, 3, 18, 1e9 + 2, 64], [1, 3, 17, 1e9, 64]]
    others += [[1, 3, 17, 1e9 + 2, 2], [NAN, 3, 17, 1e9 + 2, 64], [1, 3, 17, NAN, 64], [1, 3, 17, 1e9 + 2, NAN]]
    for other in others:
        values = []
        for row in (x, torch.tensor([other], dtype=torch.float64)):
            torch.manual_seed(0)
            found = model.elbo(row) if name == "vae" else model.log_prob(row)
            values.append(found.item())
        assert abs(values[0] - values[1]) > 1e-4, other


@pytest.mark.parametrize("name", ["made", "vae", "realnvp", "ddpm"])
def test_a_column_of_fifty_thousand_categories(name: str) -> None:
    """Weights and a step's memory are of 50,000 rows of an embedding, not of rows times 50,000."""
    space = Space.record(product=Space.categories(50_000), price=Space.continuous((), optional=True))
    model = create(name, space)
    assert sum(p.numel() for p in model.parameters()) < 5_000_000
    x = torch.stack([torch.randint(50_000, (64,)).double(), torch.randn(64).double()], 1)
    model.loss(x).mean().backward()
    space.check(model.eval().sample(5, seed=0))
