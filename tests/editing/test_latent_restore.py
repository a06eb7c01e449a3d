"""Restorations by a diffusion of codes: a linear decoder of normal codes has a known posterior."""

from __future__ import annotations

import pytest
import torch
from correlated import Correlated
from torch import Tensor, nn

import dgm
from dgm.distributions.output import Bernoulli, Categorical, DiscretisedLogistics, Gaussians
from dgm.distributions.scaling import Scaling
from dgm.editing import latent_restore
from dgm.editing.operators import AveragePooling, Blur, Grey, Masked, Operator
from dgm.editing.resampling import Resampling
from dgm.errors import Unsupported
from dgm.models.two_stage import TwoStage
from dgm.processes.gaussian import CosineVP, GaussianPath, LinearVE, Straight
from dgm.processes.parameterisation import Prediction
from dgm.seeds import Streams
from dgm.space import Space

SHAPE, CODE, N = (1, 4, 4), 3, 1500
LEFT = torch.zeros(SHAPE, dtype=torch.bool)
LEFT[..., :2] = True


class Linear(nn.Module):
    """x = W z + b with normal noise of another variance for each pixel, float64."""

    config = condition = None

    def __init__(self) -> None:
        super().__init__()
        self.space, self.latent_space = Space.continuous(SHAPE), Space.continuous((CODE,))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.weight, self.bias = torch.randn(16, CODE, dtype=torch.float64), torch.randn(16, dtype=torch.float64)
        self.variance = torch.linspace(0.04, 0.16, 16, dtype=torch.float64)

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return (x.flatten(1) - self.bias) @ torch.linalg.pinv(self.weight).mT

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return (z @ self.weight.mT + self.bias).view(-1, *SHAPE)

    def moments_given_code(self, z: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = self.decode(z)
        return x, self.variance.view(SHAPE).expand_as(x)


def latent_diffusion(path: GaussianPath) -> TwoStage:
    prior = Correlated((CODE,), torch.eye(CODE, dtype=torch.float64), mean=0.0, path=path)  # type: ignore[arg-type]
    return TwoStage.of(Linear(), prior)  # type: ignore[arg-type]


def posterior(model: TwoStage, operator: Operator, y: Tensor, noise_std: float) -> tuple[Tensor, Tensor]:
    """Mean and covariance of z given y = A (W z + b + decoder noise) + noise, with independent numbers."""
    first = model.first_stage
    columns = operator(first.weight.mT.reshape(CODE, *SHAPE)).flatten(1).mT
    a = operator(torch.eye(16, dtype=torch.float64).view(16, *SHAPE)).flatten(1).mT
    variance = a.square() @ first.variance + noise_std**2 + 1e-9  # a masked pixel has none
    precision = torch.eye(CODE, dtype=torch.float64) + columns.mT @ (columns / variance[:, None])
    offset = (y - operator(first.bias.view(1, *SHAPE))).flatten()
    covariance = torch.linalg.inv(precision)
    return covariance @ columns.mT @ (offset / variance), covariance


@pytest.mark.parametrize(
    ("operator", "noise_std", "path", "steps"),
    [
        (Masked(LEFT), 0.0, CosineVP(), 20),
        (Masked(LEFT), 0.5, LinearVE(20.0), 20),
        (AveragePooling(2), 0.3, Straight(), 4),
        (Blur((4, 4), 1.0), 0.2, CosineVP(), 4),
    ],
    ids=["mask", "noisy mask", "average", "blur"],
)
def test_codes_follow_the_posterior_of_a_linear_decoder(
    operator: Operator, noise_std: float, path: GaussianPath, steps: int
) -> None:
    """Kills: r_t² = sigma² / alpha², the decoder's variance left out or not scaled by A, a step without J z.

    Exact for any number of steps; of 1,500 draws a standard error is 0.026 standard deviations, and a variance has an
    error of 4 %.
    """
    model = latent_diffusion(path)
    y = operator(model.first_stage.decode(torch.tensor([[1.0, -0.5, 0.8]], dtype=torch.float64)) + 0.3)
    mean, covariance = posterior(model, operator, y, noise_std)
    few = Resampling(sampling_steps=steps, resamplings=1)
    states = latent_restore.restore(
        model, y.expand(N, *y.shape[1:]), operator, noise_std=noise_std, seed=1, resampling=few
    )
    *_, last = states
    z = model.encode(last.x)
    root = torch.linalg.cholesky(covariance)
    whitened = torch.linalg.solve_triangular(root, (z - mean).mT, upper=False)
    assert whitened.mean(1).abs().max() < 0.1
    torch.testing.assert_close(whitened.cov(), torch.eye(CODE, dtype=torch.float64), atol=0.15, rtol=0)


def test_the_noise_of_the_next_time_is_drawn_anew() -> None:
    """A measurement that says nothing, and a prediction of 2. Kills: the noise that the state implies, kept."""
    path, two = CosineVP(), torch.full((1, 2), 2.0, dtype=torch.float64)
    draws = iter((torch.zeros(1, 2, dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64)))
    step = latent_restore.conditioned_step(
        lambda z, t: Prediction(two, two),
        path,
        torch.zeros(1, 1, dtype=torch.float64),
        lambda z: (0 * z[:, :1], torch.ones(1, 1, dtype=torch.float64)),
        lambda: next(draws),
    )
    t, s = torch.tensor(0.6, dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64)
    torch.testing.assert_close(step(-two, t, s), path.alpha(s) * two + path.sigma(s))


def test_the_draw_at_a_mode_is_of_the_normal_distribution_of_the_formula() -> None:
    """Of a decoder that is not linear, by autograd: the mode is a fixed point, and the precision is that of J."""
    w = torch.linspace(-1, 1, 10, dtype=torch.float64).view(5, 2)
    target, mean = torch.full((1, 5), 0.2, dtype=torch.float64), torch.tensor([[0.1, -0.2]], dtype=torch.float64)
    variance = torch.tensor(0.3, dtype=torch.float64)

    def f(z: Tensor) -> Tensor:
        return torch.tanh(z @ w.mT)

    def measurement(z: Tensor) -> tuple[Tensor, Tensor]:
        return f(z), torch.full((1, 5), 0.05, dtype=torch.float64)

    def objective(z: Tensor) -> Tensor:
        return ((z - mean) ** 2).sum() / (2 * variance) + ((f(z) - target) ** 2).sum() / (2 * 0.05)

    at = latent_restore.given_measurement(mean, variance, target, measurement, torch.zeros_like(mean))
    (gradient,) = torch.autograd.grad(objective(z := at.clone().requires_grad_()), z)
    (start,) = torch.autograd.grad(objective(z := mean.clone().requires_grad_()), z)
    assert gradient.norm() < 0.02 * start.norm()  # two steps
    draws = [
        latent_restore.given_measurement(mean, variance, target, measurement, eps[None]) - at
        for eps in torch.eye(2, dtype=torch.float64)
    ]
    root = torch.cat(draws).mT
    jacobian = torch.autograd.functional.jacobian(f, at)[0, :, 0]
    precision = torch.eye(2) / variance + jacobian.mT @ jacobian / 0.05
    torch.testing.assert_close(torch.linalg.inv(root @ root.mT), precision, rtol=0.02, atol=0)


def test_given_pixels_stay_and_results_depend_on_their_own_numbers() -> None:
    model = latent_diffusion(CosineVP())
    x = torch.randn(3, *SHAPE, dtype=torch.float64)
    few = Resampling(sampling_steps=3, jump=1, resamplings=2)
    *_, many = latent_restore.inpaint(model, x, LEFT, seed=4, resampling=few)
    *_, one = latent_restore.inpaint(model, x[2:], LEFT, seed=Streams(4, [2]), resampling=few)
    torch.testing.assert_close(one.x[0], many.x[2])
    assert torch.equal(many.x[LEFT.expand_as(x)], x[LEFT.expand_as(x)])
    assert not torch.equal(many.x, x)
    assert next(latent_restore.inpaint(model, x, LEFT)).sampling_steps == 50  # none is repeated by default


def test_every_part_has_the_condition() -> None:
    """Where y moves the codes by y and x given its code by y, it moves the results by both.

    Kills: the condition left out of the prior, of the moments given a code, of the decoder.
    """
    model = latent_diffusion(Straight())
    first, prior = model.first_stage, model.prior
    decode, predict = first.decode, prior.predict

    def predict_moved(x: Tensor, t: Tensor, y: Tensor) -> Prediction:
        predicted = predict(x - prior.path.alpha(t)[:, None] * y[:, None], t)
        return predicted._replace(x_0=predicted.x_0 + y[:, None])

    def decode_moved(z: Tensor, y: Tensor) -> Tensor:
        return decode(z) + y.view(-1, 1, 1, 1)

    def moments(z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return decode_moved(z, y), first.variance.view(SHAPE).expand(len(z), *SHAPE)

    prior.predict, first.decode, first.moments_given_code = predict_moved, decode_moved, moments
    first.condition = prior.condition = Space.categories(3)
    moved = 2 + (first.weight.sum(1) * 2).view(SHAPE)
    operator, x = AveragePooling(2), torch.randn(SHAPE, dtype=torch.float64)
    measured, few = operator(torch.stack([x, x + moved])), Resampling(sampling_steps=3, resamplings=1)
    same = Streams(4, [0, 0])
    *_, last = latent_restore.restore(model, measured, operator, torch.tensor([0, 2]), seed=same, resampling=few)
    torch.testing.assert_close(last.x[1] - last.x[0], moved)


# of a distribution with so many; the single logistic is at an end of its levels
OUTPUTS = {1: [0.3], 3: [0.0, -1.2, -1.5], 5: [0.3, -0.2, -0.3, 0.4, -2.5], 6: [0.3, -0.2, -0.3, 0.4, -2.5, -2.8]}


@pytest.mark.parametrize(
    "distribution",
    [
        Bernoulli(),
        Categorical(Space.levels((), 5)),
        DiscretisedLogistics(Space.levels((), 100_001), 2),
        DiscretisedLogistics(Space.levels((), 100_001)),
        Gaussians(Space.continuous(()), 2),
    ],
    ids=lambda d: type(d).__name__,
)
def test_moments_are_those_of_samples(distribution: nn.Module) -> None:
    """Of 400,000 samples an error of 1 % of the variance is 4 standard errors. Kills: the variance of a logistic."""
    outputs = torch.tensor(OUTPUTS[int(distribution.outputs)])  # type: ignore[arg-type]
    u = torch.rand(400_000, 2, generator=torch.Generator().manual_seed(0))
    samples = distribution.sample(outputs.expand(len(u), -1), u)  # type: ignore[operator]
    kind = type(distribution).__name__
    space = {"Bernoulli": Space.binary(()), "Gaussians": Space.continuous(())}.get(kind)
    scaled = Scaling(space or distribution.space)(samples).double()  # type: ignore[arg-type]
    mean, variance = distribution.moments(outputs)  # type: ignore[operator]
    assert scaled.mean().item() == pytest.approx(mean.item(), abs=4 * (variance.item() / len(u)) ** 0.5)
    if distribution.outputs == 3:  # there the variance is an approximation, too small
        assert 1 < scaled.var() / variance < 2.5
    else:
        assert scaled.var().item() == pytest.approx(variance.item(), rel=0.01)


@pytest.mark.parametrize(
    "operator",
    [Masked(torch.ones(SHAPE, dtype=torch.bool)), AveragePooling(2), Grey(), Blur((4, 4), 0.7)],
    ids=lambda a: type(a).__name__,
)
def test_the_variance_of_a_measurement_is_that_of_the_matrix(operator: Operator) -> None:
    channels = 3 if isinstance(operator, Grey) else 1
    x = torch.eye(16 * channels, dtype=torch.float64).view(-1, channels, 4, 4)
    a = operator(x).flatten(1).mT
    v = torch.linspace(1, 2, len(x), dtype=torch.float64)
    torch.testing.assert_close(operator.variance(v.view(1, *x.shape[1:])).flatten(), a.square() @ v)


def test_other_pairs_are_refused_in_one_line() -> None:
    x = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    known = torch.ones(4, 4, dtype=torch.bool)
    vae = dgm.create("vae", Space.binary(SHAPE), latent=2)
    with pytest.raises(Unsupported, match="RealNVP is not a denoising model"):
        dgm.edit.inpaint(TwoStage.of(vae, dgm.create("realnvp", vae.latent_space, layers=2)), x, known)
    flow = dgm.create("realnvp", Space.continuous(SHAPE), layers=2)
    pair = TwoStage.of(flow, dgm.create("ddpm", flow.latent_space, width=8))
    with pytest.raises(Unsupported, match="no gradient through the decoder of RealNVP"):
        dgm.edit.inpaint(pair, x.float(), known)
