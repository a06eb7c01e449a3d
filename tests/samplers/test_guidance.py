"""Guidance of mixtures of normals, where each density, score and posterior is known in closed form."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, Normal

from dgm.errors import BadInput, Unsupported
from dgm.models.diffusion.vdm import LearntVP
from dgm.processes.gaussian import CosineVP, GaussianPath, LinearVE, LinearVP, Straight
from dgm.processes.parameterisation import Prediction, prediction
from dgm.protocols import PartlyHidden
from dgm.samplers.ddim import ddim
from dgm.samplers.diffusion import denoiser
from dgm.samplers.guidance import autoguidance, classifier, classifier_free
from dgm.samplers.options import Guidance
from dgm.space import Space

from .gaussian import float64, path_name

MEANS, STDS, SHARES = float64(-1.0, 0.5, 2.0), float64(0.3, 0.5, 0.2), float64(0.5, 0.2, 0.3)
X, Y = torch.linspace(-3, 3, 9, dtype=torch.float64), torch.arange(9) % 3
each_path = pytest.mark.parametrize("path", [LinearVP(), CosineVP(), Straight()], ids=path_name)
each_time = pytest.mark.parametrize("t", [0.1, 0.5, 0.9])


class Mixture:
    """The best of models: p(x_t | y) is normal, p(x_t) their mixture. Counts the rows that it was asked of."""

    def __init__(self, path: GaussianPath, widened: float = 1.0) -> None:
        self.path, self.widened, self.rows = path, widened, 0
        self.space, self.condition = Space.continuous((1,)), Space.categories(3)
        self.config = SimpleNamespace(condition_dropout=0.1)

    def parts(self, t: Tensor) -> Normal:
        return Normal(
            self.path.alpha(t) * MEANS,
            ((self.path.alpha(t) * self.widened * STDS) ** 2 + self.path.sigma(t) ** 2) ** 0.5,
        )

    def log_prob(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """log p(x_t | y) of (B,) states, log p(x_t) where y is 3."""
        parts = self.parts(t)
        labelled = parts.log_prob(x[:, None]).gather(1, y.clamp_max(2)[:, None])[:, 0]
        return torch.where(y == 3, MixtureSameFamily(Categorical(SHARES), parts).log_prob(x), labelled)

    def score(self, x: Tensor, t: Tensor, y: Tensor | PartlyHidden | None) -> Tensor:
        y = (
            y.y.masked_fill(y.hidden, 3)
            if isinstance(y, PartlyHidden)
            else torch.full((len(x),), 3)
            if y is None
            else y
        )
        return torch.func.grad(lambda x: self.log_prob(x, t, y).sum())(x)

    def predict(self, x: Tensor, t: Tensor, y: Tensor | PartlyHidden | None = None) -> Prediction:
        self.rows += len(x)
        assert t.shape == (len(x),)
        return prediction("score", self.path, self.score(x, t[0], y), x, t)

    def log_posterior(self, x: Tensor, t: Tensor) -> Tensor:
        """log p(Y | x_t) by Bayes' rule."""
        return self.log_prob(x, t, Y) + SHARES[Y].log() - self.log_prob(x, t, torch.full((len(x),), 3))


def score_of(predicted: Prediction, path: GaussianPath, t: Tensor) -> Tensor:
    """That of eps, once x_0 is seen to agree with it."""
    torch.testing.assert_close(path.alpha(t) * predicted.x_0 + path.sigma(t) * predicted.eps, X)
    return -predicted.eps / path.sigma(t)


@each_path
@each_time
@pytest.mark.parametrize("w", [-1.0, -0.5, 0.0, 0.5, 3.0])
def test_classifier_free_guidance_is_ho_and_salimans(path: GaussianPath, t: float, w: float) -> None:
    """Equation 6: (1 + w) score(x | y) - w score(x), where a scale is 1 + w."""
    model, at = Mixture(path), torch.tensor(t, dtype=torch.float64)
    predicted = classifier_free(model, Y, scale=1 + w)(X, at)
    expected = (1 + w) * model.score(X, at, Y) - w * model.score(X, at, None)
    torch.testing.assert_close(score_of(predicted, path, at), expected)


def test_conditional_and_unconditional_are_asked_in_one_batch() -> None:
    model, calls = Mixture(CosineVP()), []
    asked = model.predict
    model.predict = lambda x, t, y: (calls.append(len(x)), asked(x, t, y))[1]  # type: ignore[assignment, misc]
    denoise = classifier_free(model, Y, scale=2.0, interval=(0.2, 0.6))
    for t in (0.1, 0.2, 0.4, 0.6, 0.7):
        denoise(X, torch.tensor(t, dtype=torch.float64))
    assert calls == [9, 18, 18, 18, 9]


@each_path
def test_outside_its_interval_guidance_is_conditional(path: GaussianPath) -> None:
    model, weak = Mixture(path), Mixture(path, widened=1.5)
    for guided in (
        classifier_free(model, Y, scale=3.0, interval=(0.3, 0.6)),
        autoguidance(model, Y, weak=weak, scale=3.0, interval=(0.3, 0.6)),
        Guidance(scale=3.0, interval=(0.3, 0.6)).guide(model)(model, Y),
        Guidance(scale=3.0, interval=(0.3, 0.6), weak=weak).guide(model)(model, Y),
    ):
        for t, same in ((0.2, True), (0.45, False), (0.7, True)):
            at = torch.tensor(t, dtype=torch.float64)
            plain = denoiser(model, Y)(X, at)
            assert torch.allclose(guided(X, at).eps, plain.eps) == same


@each_path
@each_time
def test_autoguidance_is_karras_et_als(path: GaussianPath, t: float) -> None:
    """Equation 2: w D_1 - (w - 1) D_0, with the weak model as D_0."""
    model, weak, w, at = Mixture(path), Mixture(path, widened=1.5), 2.5, torch.tensor(t, dtype=torch.float64)
    predicted = autoguidance(model, Y, weak=weak, scale=w)(X, at)
    expected = w * model.score(X, at, Y) - (w - 1) * weak.score(X, at, Y)
    torch.testing.assert_close(score_of(predicted, path, at), expected)
    torch.testing.assert_close(
        predicted.x_0, w * denoiser(model, Y)(X, at).x_0 - (w - 1) * denoiser(weak, Y)(X, at).x_0
    )


@each_path
@each_time
def test_a_true_classifier_makes_the_unconditional_conditional(path: GaussianPath, t: float) -> None:
    """Bayes' rule, and at another scale equation 14."""
    model, at = Mixture(path), torch.tensor(t, dtype=torch.float64)
    guided = classifier(model, None, log_p=model.log_posterior)(X, at)
    torch.testing.assert_close(score_of(guided, path, at), model.score(X, at, Y))
    twice = classifier(model, None, log_p=model.log_posterior, scale=2.0)(X, at)
    expected = 2 * model.score(X, at, Y) - model.score(X, at, None)
    torch.testing.assert_close(score_of(twice, path, at), expected)


def test_a_classifier_guides_where_all_else_runs_without_gradients() -> None:
    model, at = Mixture(CosineVP()), torch.tensor(0.5, dtype=torch.float64)
    with torch.inference_mode():
        predicted = classifier(model, None, log_p=model.log_posterior)(X.clone(), at)
    assert not predicted.eps.requires_grad
    torch.testing.assert_close(score_of(Prediction(*predicted), model.path, at), model.score(X, at, Y))


def test_a_classifier_says_nothing_where_all_is_noise() -> None:
    model, at = Mixture(Straight()), torch.tensor(1.0, dtype=torch.float64)
    model.predict = lambda x, t, y=None: Prediction(torch.zeros_like(x), x)  # type: ignore[assignment, method-assign]
    predicted = classifier(model, None, log_p=model.log_posterior)(X, at)
    torch.testing.assert_close(predicted.x_0, torch.zeros_like(X))
    torch.testing.assert_close(predicted.eps, X)


def test_learnt_variances_are_those_with_the_label() -> None:
    model = Mixture(CosineVP())
    asked = model.predict
    model.predict = lambda x, t, y: asked(x, t, y)._replace(  # type: ignore[assignment, method-assign]
        variance=y.y.masked_fill(y.hidden, 3).double()
    )
    predicted = classifier_free(model, Y, scale=2.0)(X, torch.tensor(0.5, dtype=torch.float64))
    torch.testing.assert_close(predicted.variance, Y.double())


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_guided_samples(scale: float) -> None:
    """Of one normal against a mixture, from the middle of the first: more scale, further from the others."""
    model, n = Mixture(CosineVP()), 9
    y, noise = torch.zeros(n, dtype=torch.long), Normal(0.0, 1.0).icdf((torch.arange(n).double() + 0.5) / n)
    times = torch.linspace(1, 0, 200, dtype=torch.float64)
    *_, x = ddim(classifier_free(model, y, scale=scale), model.path, noise, times)
    if scale == 1:
        assert x.mean().item() == pytest.approx(-1.0, abs=0.02)
    else:
        assert x.mean().item() < -1.05


def test_what_cannot_guide_is_refused() -> None:
    model = Mixture(CosineVP())
    with pytest.raises(Unsupported, match="trained without one"):
        classifier_free(model, None, scale=2.0)
    model.config.condition_dropout = 0.0
    with pytest.raises(Unsupported, match="trained with condition dropout"):
        classifier_free(model, Y, scale=2.0)
    model.condition = None
    with pytest.raises(Unsupported, match="trained without one"):
        classifier_free(model, Y, scale=2.0)
    for interval in ((0.3, 0.3), (0.5, 0.2), (-0.1, 0.5), (0.5, 1.1)):
        with pytest.raises(BadInput, match="two times from 0 to 1"):
            Guidance(scale=2.0, interval=interval)
    with pytest.raises(BadInput, match="one path"):
        autoguidance(model, Y, weak=Mixture(LinearVP()), scale=2.0)
    with pytest.raises(BadInput, match="one path"):
        autoguidance(Mixture(LinearVP()), Y, weak=Mixture(LinearVP(beta_max=10.0)), scale=2.0)
    with pytest.raises(BadInput, match="one path"):  # alike in alpha alone
        autoguidance(Mixture(LinearVE(80.0)), Y, weak=Mixture(LinearVE(40.0)), scale=2.0)


def test_two_learnt_paths_are_one_where_their_weights_are() -> None:
    """Kills: paths compared by what they keep, which for a network is no truth value."""
    good, weak = (LearntVP(-9.0) for _ in range(2))
    models = [SimpleNamespace(path=path, predict=lambda x, t, y: Prediction(x, x)) for path in (good, weak)]
    with torch.no_grad():
        weak.v.fill_(1.0)
    with pytest.raises(BadInput, match="two models on one path"):
        autoguidance(models[0], None, weak=models[1], scale=2.0)
    weak.load_state_dict(good.state_dict())
    assert callable(autoguidance(models[0], None, weak=models[1], scale=2.0))
