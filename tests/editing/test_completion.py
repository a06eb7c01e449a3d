"""What is not observed is drawn given what is: every means against the model's own samples, or its density."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import dgm
from dgm import contracts
from dgm.editing import completion, particles, proposals
from dgm.editing.completion import ByImportance, ByInpainting, ByOrders, ByParticles, BySamples, InClosedForm, std
from dgm.editing.proposals import Proposal, Representation
from dgm.errors import BadInput, Unsupported
from dgm.seeds import Streams
from dgm.space import Space

NAN = math.nan
SMALL = Space.record(
    age=Space.levels((), 3, optional=True), job=Space.categories(3, optional=True), rich=Space.binary(())
)
EVERY = torch.tensor([[a, b, c] for a in (0, 1, 2, NAN) for b in (0, 1, 2, NAN) for c in (0, 1)], dtype=torch.float64)


def sharp(name: str, space: Space, scale: float = 3.0, **config: Any) -> Any:
    """A model whose weights are drawn and large, so that its columns depend on each other."""
    torch.manual_seed(0)
    model = dgm.create(name, space, **config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(
                scale * torch.randn(parameter.shape, generator=generator) / max(1, parameter.shape[-1]) ** 0.5
            )
    return model.eval()


def shares(x: Tensor) -> Tensor:
    """Of each of the rows of `EVERY` among the rows of x."""
    same = ((x[:, None] == EVERY) | (x[:, None].isnan() & EVERY.isnan())).all(2)
    return same.double().mean(0)


def test_particles_follow_the_quotient_of_probabilities() -> None:
    """p(x_m | x_o) and p(x_o) by the sum over all tables, for every pattern of what is observed.

    Kills: weights without the first factor, without the factor of what is present, or of the dimensions that are drawn;
    a resampling that forgets the mean weight.
    """
    configs = {"made": {"hidden": 16}, "nade": {"hidden": 8}, "orderless_made": {"hidden": 16, "orders": 4}}
    for name, config in configs.items():
        model = sharp(name, SMALL, **config)
        p = model.log_prob(EVERY).detach().double().exp()
        assert float(p.sum()) == pytest.approx(1, abs=1e-5)
        rows = [EVERY[5], EVERY[9], EVERY[31]]
        for k, observed in enumerate([(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 1, 1), (1, 0, 1), (0, 0, 1)]):
            row, seen, present, n = rows[k % 3], torch.tensor(observed).bool(), k % 2 == 0, 800
            fits = ((row == EVERY) | (row.isnan() & EVERY.isnan()) | ~seen).all(1)
            fits &= ~(EVERY.isnan() & ~seen).any(1) if present else True
            by = completion.completer(model, 3)
            x, mask = row.nan_to_num(0.0).where(~seen, row).expand(n, 3), seen.expand(n, 3)
            drawn = by(x, mask, None, range(n), present=present)
            expected = torch.where(fits, p, 0.0) / p[fits].sum()
            error = 4.5 * (expected * (1 - expected) / n).sqrt() + 0.02  # and of few particles
            assert ((shares(drawn.x) - expected).abs() < error).all(), (name, observed, present)
            weights = drawn.log_p.exp()
            off = abs(float(weights.mean()) - float(p[fits].sum()))
            assert off < 5 * float(weights.std()) / n**0.5 + 1e-6, (name, observed, present)


def test_what_comes_first_needs_one_particle() -> None:
    """The draw is that of ancestral sampling, and log p(x_o) is exact."""
    model = sharp("made", SMALL, hidden=16)
    x = torch.tensor([[2.0, 1.0, 0.0]]).double().expand(40, 3)
    seen = torch.tensor([True, True, False]).expand(40, 3)
    drawn = completion.completer(model, 3)(x, seen, None, range(40), present=False)
    both = torch.tensor([[2.0, 1, 0], [2, 1, 1]]).double()
    assert drawn.log_p.tolist() == pytest.approx([float(model.log_prob(both).logsumexp(0).detach())] * 40, abs=1e-5)
    assert drawn.effective.isinf().all()


def test_systematic_resampling_keeps_particles_by_their_weights() -> None:
    log_w = torch.tensor([[0.1, 0.6, 0.05, 0.25]]).double().log()
    u = torch.linspace(0, 1 - 1e-6, 4001)
    kept = particles.systematic(log_w.expand(4001, 4), u)
    counts = torch.nn.functional.one_hot(kept, 4).sum(1).double()
    assert counts.mean(0).tolist() == pytest.approx([0.4, 2.4, 0.2, 1.0], abs=1e-3)
    assert ((counts - torch.tensor([0.4, 2.4, 0.2, 1.0])).abs() <= 1).all()
    assert float(particles.worth(log_w)) == pytest.approx(1 / (0.01 + 0.36 + 0.0025 + 0.0625))


def test_rows_are_resampled_below_half_of_their_particles_and_keep_their_mean_weight() -> None:
    """Two rows of four: worth 2.1 and 1.9. Kills: another share, a mean weight lost or counted twice."""
    rows = []
    for worth in (2.1, 1.9):  # weights p, (1 - p) / 3 thrice: p² + (1 - p)² / 3 = 1 / worth
        p = 0.25 + (3 / 4 * (1 / worth - 1 / 4)) ** 0.5
        rows.append([p, *[(1 - p) / 3] * 3])
    log_w = torch.tensor(rows, dtype=torch.float64).log() + 2.0
    cloud = particles.Cloud(torch.arange(4.0)[None, :, None].repeat(2, 1, 1), torch.tensor([-1.0, -1.0]).double())
    cloud.log_w = log_w.clone()
    assert particles.worth(log_w).tolist() == pytest.approx([2.1, 1.9])
    cloud.resample(torch.tensor([0.5, 0.5]))
    assert cloud.x[0, :, 0].tolist() == [0, 1, 2, 3]
    assert cloud.x[1, :, 0].tolist().count(0) == 3  # of a weight of 0.71, at the points 1/8, 3/8, 5/8, 7/8
    assert torch.equal(cloud.log_w, torch.stack([log_w[0], torch.zeros(4).double()]))
    assert cloud.log_p.tolist() == pytest.approx([-1.0, -1.0 + 2.0 - math.log(4)])
    cloud.choose(torch.tensor([0.0, 0.0]))
    assert cloud.log_p.tolist() == pytest.approx([1.0 - math.log(4)] * 2)
    assert cloud.effective.tolist() == pytest.approx([2.1, 1.9])


def test_a_proposal_has_a_broad_part_and_its_density_is_of_the_datas_units() -> None:
    """A tenth with four times the covariance of all samples. Kills: a share or a factor left out, log q of scaled v."""
    torch.manual_seed(0)
    v = torch.randn(100, 2).double() * torch.tensor([3.0, 0.5]) + torch.tensor([1.0, -2.0])
    proposal = Proposal(v, 0)
    q = proposal.gaussians
    assert float(q.log_weights.exp().sum()) == pytest.approx(1)
    assert float(q.log_weights[-1].exp()) == pytest.approx(0.1)
    s = (v - v.mean(0)) / v.std(0)
    torch.testing.assert_close(q.roots[-1] @ q.roots[-1].mT, 4 * (s.mT.cov() + 0.01 * torch.eye(2).double()))
    nothing = torch.zeros(100, 2, dtype=torch.bool)
    drawn, log_q = proposal.completed(v, nothing, Streams(0, range(100)))
    expected = q.log_prob((drawn - v.mean(0)) / v.std(0)) - v.std(0).log().sum()
    torch.testing.assert_close(log_q, expected)
    first = torch.tensor([True, False]).expand(100, 2)
    drawn, log_q = proposal.completed(v, first, Streams(0, range(100)))
    assert torch.equal(drawn[:, 0], v[:, 0])
    z = (drawn - v.mean(0)) / v.std(0)
    torch.testing.assert_close(log_q, q.log_prob(z) - q.log_prob_observed(z, first) - v.std(0)[1].log())


MIXED = Space.record(
    age=Space.levels((), 4, optional=True), job=Space.categories(3), pay=Space.continuous((), loc=(5.0,), scale=(2.0,))
)


def covered(model: Representation, v: Tensor, given: Tensor, known: Tensor) -> Tensor:
    """Which v are in the noise of the observed values: the middle half of the cell of a bit, the whole of another."""
    cells, (c_0, hidden) = model.cells, model.cells.coordinates(given[None])  # type: ignore[union-attr]
    share = torch.where(cells.bit & (model.part.space != model.space), 0.5, 1.0)  # type: ignore[union-attr]
    within = (cells.unscored(v)[0] * cells.scale + cells.loc - c_0 - 0.5).abs() <= share / 2  # type: ignore[union-attr]
    return (within | hidden | ~model.spread(known[None], present=False)).all(1)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("nsf", "vae")]


@pytest.mark.parametrize("name", ["gmm", *SLOW])
def test_importance_sampling_follows_the_models_own_samples(name: str) -> None:
    """Of samples of the model with the observed age and job, pay and the other column have the distribution of draws.

    Kills: log q of the proposal or of the noise with the other sign or left out, the proposal without its scale in its
    density, draws chosen without weights.
    """
    config = {
        "gmm": {"components": 3},
        "nsf": {"layers": 1, "hidden": 8, "bins": 4},
        "vae": {"hidden": 16, "latent": 2},
    }
    model = sharp(name, MIXED, 1.0, **config[name])
    by = completion.completer(model, 3)
    assert isinstance(by, ByImportance)
    v = by.representation.samples(40_000, 8)
    samples = by.representation.floor(v)
    for seen, row in (((1, 0, 0), [1.0, 0, 0]), ((0, 1, 0), [0, 2.0, 0]), ((1, 1, 0), [NAN, 0.0, 0])):
        known, given = torch.tensor(seen).bool(), torch.tensor(row).double()
        fits = covered(by.representation, v, given, known)
        expected, n = samples[fits], 600
        drawn = by(given.expand(n, 3), known.expand(n, 3), None, range(n), present=False)
        assert float(drawn.log_p.exp().mean()) == pytest.approx(float(fits.double().mean()), rel=0.15)
        assert float(drawn.effective.median()) > 3
        for k in (k for k in range(2) if not known[k]):
            for value in (*range(4), NAN):
                share, other = (
                    float((x[:, k].isnan() if math.isnan(value) else x[:, k] == value).double().mean())
                    for x in (drawn.x, expected)
                )
                error = 4 * (max(other, 0.01) * (1 / n + 1 / len(expected))) ** 0.5
                assert abs(share - other) < error + 0.015, (seen, k, value)  # and of 128 draws
        for share in (0.1, 0.5, 0.9):
            t = expected[:, 2].quantile(share)
            below = float((drawn.x[:, 2] <= t).double().mean())
            assert abs(below - share) < 4 * 0.5 * (1 / n + 1 / len(expected)) ** 0.5 + 0.015


def test_importance_sampling_agrees_with_the_closed_form() -> None:
    """Of a mixture of Gaussians in the units of its data: the conditional distribution and log p(x_o)."""
    model = dgm.create("gmm", Space.continuous((3,), loc=(1.0, -1.0, 50.0), scale=(2.0, 0.5, 20.0)), components=3)
    exact = completion.completer(model, 0)
    assert isinstance(exact, InClosedForm)
    n = 1000
    x, seen = torch.tensor([2.0, -1.2, 0.0]).expand(n, 3), torch.tensor([True, True, False]).expand(n, 3)
    drawn = ByImportance(model, 0)(x, seen, None, range(n), present=True)
    expected = exact(x, seen, None, range(n), present=True).x
    quantiles = torch.linspace(0.1, 0.9, 9)
    ours, theirs = (values[:, 2].float().quantile(quantiles) for values in (drawn.x, expected))
    assert torch.allclose(ours, theirs, atol=0.2 * float(expected[:, 2].std()))
    scaled = model.scaled(x[:1])
    log_p = float(model.gaussians.marginal(seen[0]).log_prob(scaled[:, :2])) - math.log(2.0 * 0.5)
    assert float(drawn.log_p.double().exp().mean().log()) == pytest.approx(log_p, abs=0.02)


@pytest.mark.parametrize("name", ["gmm", "made", "orderless_made", pytest.param("ddpm", marks=pytest.mark.slow), "gan"])
def test_a_draw_depends_on_its_row_and_key_alone_and_keeps_what_is_given(name: str) -> None:
    config = {"gmm": {"components": 2}, "made": {"hidden": 8}, "orderless_made": {"hidden": 8, "orders": 2}}
    config |= {"ddpm": {"width": 8, "timesteps": 50}, "gan": {}}
    torch.manual_seed(0)
    model = dgm.create(name, MIXED, **config[name])
    x = torch.tensor([[3, NAN, 5.5], [NAN, 1, NAN], [NAN, NAN, NAN], [0, 2, 1.25]]).double()
    found = dgm.edit.impute(model, x, n=2, seed=4)
    assert found.x.shape == (4, 2, 3)
    held = ~x.isnan()[:, None].expand(4, 2, 3)
    assert torch.equal(found.x[held], x[:, None].expand(4, 2, 3)[held])
    assert not found.x.isnan().any()
    MIXED.check(found.x.flatten(0, 1))
    alone = dgm.edit.impute(model, x[:2], n=2, seed=4)
    assert torch.allclose(alone.x, found.x[:2], rtol=1e-4)
    other = dgm.edit.impute(model, x[2:3], n=4, seed=4).x[0]
    assert len(other.unique(dim=0)) > 1


def test_each_model_has_its_best_means() -> None:
    plane = Space.continuous((2,))
    of = {
        ("gmm", plane): InClosedForm,
        ("ppca", plane): InClosedForm,
        ("kde", plane): InClosedForm,
        ("gmm", MIXED): ByImportance,
        ("made", MIXED): ByParticles,
        ("orderless_made", MIXED): ByOrders,
        ("vae", MIXED): ByImportance,
        ("nsf", plane): ByImportance,
        ("ebm", MIXED): ByImportance,
        ("flow_matching", MIXED): ByInpainting,
        ("ddpm", plane): ByInpainting,
        ("gan", MIXED): BySamples,
    }
    for (name, space), expected in of.items():
        assert completion.best(dgm.create(name, space)) is expected, name


SMALLEST = [
    ("made", SMALL, {"hidden": 8}),
    ("orderless_made", SMALL, {"hidden": 8, "orders": 2}),
    ("realnvp", Space.continuous((3,)), {"layers": 2, "hidden": 8}),
]


@pytest.mark.parametrize(("name", "space", "config"), SMALLEST)
def test_each_row_has_its_own_condition(
    name: str, space: Space, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the first value alone is observed, and one after a gap. Kills: the condition of another row, or none."""
    monkeypatch.setattr(proposals, "SAMPLES", 256)
    torch.manual_seed(0)
    model = contracts.perturbed(dgm.create(name, space, Space.categories(2), **config)).eval()
    by, y = completion.completer(model, 3), torch.tensor([0, 1])
    x = torch.tensor([[1.0, 0.0, 1.0]]).to(space.dtype)
    for pattern in ([True, False, False], [False, True, False], [True, False, True]):
        seen = torch.tensor([pattern])
        both = by(x.expand(2, 3), seen.expand(2, 3), y, [0, 0], present=True)
        alone = [by(x, seen, y[k : k + 1], [0], present=True).log_p for k in range(2)]
        torch.testing.assert_close(both.log_p, torch.cat(alone), rtol=1e-4, atol=1e-4)
        assert (alone[0] - alone[1]).abs() > 1e-3


@pytest.mark.parametrize(("by", "name"), [(ByImportance, "vae"), (BySamples, "gan")])
def test_no_two_draws_share_a_stream(by: type[Any], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the samples, their noise, the proposal and the choice. Kills: one seed for two of them."""
    used = list[tuple[int, int]]()

    class Noted(Streams):
        def __init__(self, seed: int, keys: Sequence[int], device: str = "cpu") -> None:
            used.extend((seed, key) for key in keys)
            super().__init__(seed, keys, device)

    monkeypatch.setattr(proposals, "SAMPLES", 64)
    for module in (completion, proposals):
        monkeypatch.setattr(module, "Streams", Noted)
    x, seen = torch.zeros(2, 3).double(), torch.tensor([True, False, True]).expand(2, 3)
    by(dgm.create(name, MIXED), 3)(x, seen, None, [0, 1], present=True)
    assert len(set(used)) == len(used) > 64


def test_samples_that_are_close_have_the_categories_that_are_given() -> None:
    by = BySamples(dgm.create("gan", MIXED), 0)
    by.spread = torch.ones(3)
    by.samples = torch.tensor([[0, 1, 5.0], [NAN, 1, 5.1], [1, 2, 5.0], [1, 1, 9.0]]).double().repeat(5, 1)
    x, seen = torch.tensor([[0, 1, 5.0]]).double(), torch.tensor([[False, True, True]])
    rows = {present: by(x, seen, None, [3], present=present).x[0, 0] for present in (True, False)}
    assert rows[True] == 0
    near = by.distances(x, seen)[0, :4]
    assert near[0] == 0
    assert near[2] == 1
    assert near.tolist() == pytest.approx([0, 0.01, 1, 16], abs=1e-6)
    # a gap differs by 1 from a value and by nothing from a gap, and category 0 by 1 from 1 and from 2
    gap = by.distances(torch.tensor([[NAN, 0, 5.0]]).double(), torch.ones(1, 3, dtype=torch.bool))[0, :4]
    assert gap.tolist() == pytest.approx([2, 1.01, 2, 18], abs=1e-6)


def test_deviations_are_those_of_the_known_values() -> None:
    columns = torch.tensor([[1.0, NAN, 2.0, NAN], [3.0, 5.0, 2.0, NAN], [NAN, 9.0, 2.0, NAN]], dtype=torch.float64)
    assert std(columns).tolist() == [1, 2, 1, 1]  # 1 where nothing is known, or nothing varies


def test_what_cannot_be_imputed_is_refused() -> None:
    model = dgm.create("gmm", MIXED, components=2)
    with pytest.raises(BadInput, match="expected values from 0 to 2, got 5"):
        dgm.edit.impute(model, [[NAN, 5.0, NAN]])
    with pytest.raises(BadInput, match="expected examples of shape"):
        dgm.edit.impute(model, [[NAN, 5.0]])
    with pytest.raises(BadInput, match="observed must be bool of the shape"):
        dgm.edit.impute(model, [[NAN, 1.0, NAN]], observed=[1, 0, 1])
    label = dgm.create("gan", MIXED, Space.categories(2))
    with pytest.raises(Unsupported, match="neither a density nor a denoiser"):
        dgm.edit.impute(label, [[NAN, 1.0, NAN]], 1)
