"""Restorations of Gaussian images, whose posterior is known, and the resampling schedule."""

from __future__ import annotations

import pytest
import torch
from correlated import Correlated, dense, smooth
from torch import Tensor

from dgm.editing.operators import AveragePooling, Blur, Masked, Operator
from dgm.editing.resampling import OF_IMAGES, Resampling
from dgm.editing.restore import conditioned_step, inpaint, prior, restore, sample_states
from dgm.errors import BadInput
from dgm.processes.gaussian import CosineVP, GaussianPath, LinearVE, Straight
from dgm.processes.parameterisation import Prediction
from dgm.samplers.diffusion import SamplerConfig
from dgm.samplers.times import times
from dgm.space import Space

SHAPE = (1, 4, 4)
UPPER = torch.zeros(SHAPE, dtype=torch.bool)
UPPER[:, :2] = True
EVERYTHING = torch.ones(SHAPE, dtype=torch.bool)
N = 800


@pytest.fixture(scope="module")
def model() -> Correlated:
    return Correlated(SHAPE, smooth(4, 4))


def restored(model: Correlated, operator: Operator, y: Tensor, noise_std: float, resampling: Resampling) -> Tensor:
    measured = y.expand(N, *y.shape[1:])
    *_, last = restore(model, measured, operator, noise_std=noise_std, seed=0, resampling=resampling)
    return last.x


def share(model: Correlated, x: Tensor, expected: Tensor, where: Tensor) -> float:
    """How far the mean of x went from the prior's to the posterior's."""
    way, gone = ((mean - model.mean)[where.flatten()] for mean in (expected, x.flatten(1).mean(0)))
    return float(gone @ way / (way @ way))


@pytest.mark.parametrize(
    ("resamplings", "low", "high"),
    [(1, 0.3, 0.65), (5, 0.75, 0.98), (15, 0.88, 1.08)],
)
def test_in_painting_comes_to_the_posterior_the_more_it_is_resampled(
    model: Correlated, resamplings: int, low: float, high: float
) -> None:
    """The upper half is one standard deviation off its mean; a standard error is 0.05."""
    x = torch.linalg.cholesky(model.covariance) @ torch.ones(16, dtype=torch.float64) + model.mean
    x = x.view(1, *SHAPE)
    expected, covariance = model.posterior(Masked(UPPER), x * UPPER)
    *_, last = inpaint(model, x.expand(N, *SHAPE), UPPER, seed=0, resampling=Resampling(resamplings=resamplings))
    assert (last.x[UPPER.expand_as(last.x)] == x.expand_as(last.x)[UPPER.expand_as(last.x)]).all()
    assert low < share(model, last.x, expected, ~UPPER) < high
    lower = last.x.flatten(1)[:, ~UPPER.flatten()]
    ratio = lower.var(0).sum() / covariance.diagonal()[~UPPER.flatten()].sum()
    assert 0.75 < ratio < 1.1  # 50 steps of the posterior's variance spread too little


@pytest.mark.parametrize(
    ("operator", "noise_std"),
    [
        (Masked(UPPER), 0.5),
        (AveragePooling(2), 0.0),
        (AveragePooling(2), 0.2),
        (Blur((4, 4), 1.0), 0.2),
        (Masked(EVERYTHING), 0.5),
    ],
    ids=["noisy mask", "average", "noisy average", "noisy blur", "noise alone"],
)
def test_samples_follow_the_posterior(model: Correlated, operator: Operator, noise_std: float) -> None:
    x = model.draw(1)
    y = operator(x)
    y = y + noise_std * torch.randn_like(y)
    expected, covariance = model.posterior(operator, y, noise_std)
    found = restored(model, operator, y, noise_std, Resampling())
    assert share(model, found, expected, EVERYTHING) == pytest.approx(1, abs=0.12)
    assert (found.flatten(1).mean(0) - expected).square().mean().sqrt() < 0.12
    assert 0.75 < found.flatten(1).var(0).sum() / covariance.trace() < 1.1


@pytest.mark.parametrize("path", [CosineVP(), LinearVE(10.0), Straight()], ids=lambda path: type(path).__name__)
@pytest.mark.parametrize(
    "operator", [Masked(UPPER), AveragePooling(2), Blur((4, 4), 1.5)], ids=lambda a: type(a).__name__
)
def test_without_noise_what_was_measured_is_measured_again(path: GaussianPath, operator: Operator) -> None:
    model = Correlated(SHAPE, smooth(4, 4), path=path)
    y = operator(model.draw(5))
    *_, last = restore(model, y, operator, seed=0, resampling=Resampling(sampling_steps=7, jump=2, resamplings=2))
    torch.testing.assert_close(operator(last.x), y, atol=1e-9, rtol=0)
    assert last.sampling_step == last.sampling_steps


def test_a_result_depends_on_its_own_number_alone(model: Correlated) -> None:
    from dgm.seeds import Streams

    x = model.draw(1).expand(3, *SHAPE)
    few = Resampling(sampling_steps=5, jump=2, resamplings=2)
    *_, many = inpaint(model, x, UPPER, seed=4, resampling=few)
    *_, one = inpaint(model, x[:1], UPPER, seed=Streams(4, [2]), resampling=few)
    assert next(inpaint(model, x, UPPER)).sampling_steps == len(list(Resampling(resamplings=5).moves()))
    torch.testing.assert_close(one.x[0], many.x[2])


def test_the_schedule_repeats_steps_and_ends() -> None:
    moves = list(Resampling(sampling_steps=7, jump=3, resamplings=3).moves())
    assert [there for _, there in moves[:-1]] == [here for here, _ in moves[1:]]
    assert (moves[0][0], moves[-1]) == (0, (6, 7))
    for step in range(6):
        assert moves.count((step, step + 1)) == 3
    assert moves.count((6, 7)) == 1
    assert list(Resampling(sampling_steps=3, resamplings=1).moves()) == [(0, 1), (1, 2), (2, 3)]
    early = list(Resampling(sampling_steps=7, jump=3, resamplings=2).moves(last_resampled=5))
    assert (3, 0) in early
    assert (6, 3) not in early
    with pytest.raises(BadInput, match="jump must be at least 1, got 0"):
        Resampling(jump=0)
    plain = Resampling()  # as `dgm.editing.restore` states what it reaches with
    assert (plain.sampling_steps, plain.jump, plain.with_default(OF_IMAGES).resamplings) == (50, 5, 5)
    assert Resampling(resamplings=2).with_default(OF_IMAGES).resamplings == 2


@pytest.mark.parametrize("noise_std", [0.0, 0.1, 0.3, 2.0])
@pytest.mark.parametrize(
    "operator", [Masked(UPPER), AveragePooling(2), Blur((4, 4), 0.9)], ids=lambda a: type(a).__name__
)
def test_a_step_is_the_formulas_of_the_page_in_the_basis_of_the_operator(operator: Operator, noise_std: float) -> None:
    """Its mean and its covariance, from numpy's own decomposition of A; every step is affine in its noise.

    Kills: the measurement's noise not divided by the singular value or not scaled by alpha, what is not measured drawn
    as if it were.
    """
    path, t, s = CosineVP(), *torch.tensor([0.55, 0.5], dtype=torch.float64)
    _, values, basis = torch.linalg.svd(dense(operator, SHAPE))
    values = torch.cat([values, values.new_zeros(16 - len(values))])
    x, x_0, y = torch.randn(3, 16, dtype=torch.float64)
    back, draws = operator.pinv(operator(y.view(1, *SHAPE))), [torch.zeros(16).double(), *torch.eye(16).double()]

    def denoise(x: Tensor, t: Tensor) -> Prediction:
        return Prediction(x_0.view(1, *SHAPE), x)

    def stepped(z: Tensor) -> Tensor:
        step = conditioned_step(denoise, path, back, operator, noise_std, lambda: z.view(1, *SHAPE))
        return step(x.view(1, *SHAPE), t, s).flatten()

    mean, *ends = (stepped(z) for z in draws)
    root = torch.stack([end - mean for end in ends], 1)
    alpha, sigma = path.alpha(s), path.sigma(s)
    plain, std = path.posterior(x_0[None], x[None], s, t)
    seen = (values > 1e-9) & (alpha * noise_std <= sigma * values)
    expected = torch.where(seen, alpha * (basis @ back.flatten()), basis @ plain[0])
    left = sigma**2 - (alpha * noise_std / values.clamp_min(1e-9)) ** 2
    torch.testing.assert_close(basis @ mean, expected)
    torch.testing.assert_close(basis @ root @ basis.T, torch.where(seen, left, std**2).sqrt().diag(), atol=1e-9, rtol=0)
    assert seen.any() == (noise_std < 1)


@pytest.mark.parametrize("path", [LinearVE(10.0), CosineVP()], ids=["exploding", "preserving"])
@pytest.mark.parametrize("enough", [None, 2.0, 0.3])
def test_steps_are_repeated_by_the_forward_process_while_all_that_is_measured_is_drawn(
    enough: float | None, path: GaussianPath
) -> None:
    """With steps that leave the state as it is, and 1 for every draw."""
    model, resampling = Correlated(SHAPE, smooth(4, 4), path=path), Resampling(sampling_steps=9, jump=2, resamplings=2)
    grid, taken = times(model.path, 9, t_min=model.t_min), list[tuple[float, float]]()

    def step(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        taken.append((t.item(), s.item()))
        return x

    one = torch.ones(1, *SHAPE, dtype=torch.float64)
    states = [state.x[0, 0, 0, 0].item() for state in sample_states(model, step, lambda: one, resampling, enough)]
    alpha, sigma = path.alpha(grid).tolist(), path.sigma(grid).tolist()
    expected, moves, state = [], list[tuple[int, int]](), sigma[0]
    for first in range(0, 8, 2):
        goes_back = enough is None or alpha[first + 2] / sigma[first + 2] <= enough
        for k in range(2 if goes_back else 1):
            if k:
                kept = alpha[first] / alpha[first + 2]
                state = kept * state + (sigma[first] ** 2 - (kept * sigma[first + 2]) ** 2) ** 0.5
                expected.append(state)
            moves += [(first, first + 1), (first + 1, first + 2)]
            expected += [state, state]
    assert taken == [(grid[a].item(), grid[b].item()) for a, b in [*moves, (8, 9)]]
    assert states == pytest.approx([*expected, state])
    assert (len(expected) < 20) == (enough == 0.3 or (enough == 2.0 and isinstance(path, CosineVP)))


@pytest.mark.parametrize("clamp", [False, True])
@pytest.mark.parametrize(
    ("space", "bounded"),
    [(Space.levels(SHAPE, 5), True), (Space.continuous(SHAPE, low=-1, high=1), True), (Space.continuous(SHAPE), False)],
)
def test_predictions_keep_to_the_bounds_where_the_models_own_sampler_does(
    space: Space, bounded: bool, clamp: bool
) -> None:
    model = Correlated(SHAPE, smooth(4, 4), mean=5.0)
    model.space, model.sampler = space, SamplerConfig(clamp=clamp)
    predicted = prior(model, None)(torch.zeros(1, *SHAPE, dtype=torch.float64), torch.tensor(0.9, dtype=torch.float64))
    assert (predicted.x_0.max() <= 1) == (bounded and clamp)


def test_the_unknown_is_restored_under_the_condition() -> None:
    """Each image of a class has the class's number in all pixels. Kills: the condition left out."""
    model, y = Correlated(SHAPE, smooth(4, 4)), torch.tensor([0, 2, 1])
    model.condition = Space.categories(3)  # type: ignore[assignment]

    def predict(x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Prediction:
        x_0 = torch.full_like(x_t, -5.0) if y is None else y.to(x_t).view(-1, 1, 1, 1).expand_as(x_t)
        return Prediction(x_0, (x_t - model.path.alpha(t[0]) * x_0) / model.path.sigma(t[0]))

    model.predict = predict  # type: ignore[method-assign]
    expected = y.double().view(-1, 1, 1, 1).expand(3, *SHAPE)
    *_, last = inpaint(model, expected, UPPER, y, seed=0, resampling=Resampling(sampling_steps=4))
    torch.testing.assert_close(last.x, expected, rtol=0, atol=1e-2)  # noise of the last step


def test_data_in_other_units_is_restored_alike() -> None:
    """As a table has them: the same images, moved and stretched."""
    few, found = Resampling(sampling_steps=4, jump=2, resamplings=2), []
    for loc, scale in ((0.0, 1.0), (5.0, 2.0)):
        model = Correlated(SHAPE, smooth(4, 4))
        model.scaling.loc.fill_(loc)
        model.scaling.scale.fill_(scale)
        x = torch.linspace(-1, 1, 16, dtype=torch.float64).view(1, *SHAPE) * scale + loc
        *_, last = inpaint(model, x, UPPER, seed=0, resampling=few)
        found.append((last.x - loc) / scale)
    torch.testing.assert_close(*found)


def test_how_much_noise_a_measurement_has_says_where_it_goes_back_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """alpha / sigma = s / sigma_y for the least singular value s."""
    seen, model = list[float | None](), Correlated(SHAPE, smooth(4, 4))
    monkeypatch.setattr(
        "dgm.editing.restore.sample_states", lambda *_, largest_snr: seen.append(largest_snr) or iter(())
    )
    y = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    for noise_std in (0.0, 0.2):
        list(restore(model, y, AveragePooling(2), noise_std=noise_std, seed=0))
    assert seen == [None, 0.5 / 0.2]
