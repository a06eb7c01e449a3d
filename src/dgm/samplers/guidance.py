r"""Guidance: the prediction of a model, moved towards a condition or away from the prediction of a weak model.

Each guided prediction is a `Denoise` itself, so every solver can use it. x_0 and eps are extrapolated together and keep
:math:`x_t = \alpha_t x_0 + \sigma_t \epsilon`; the same holds for the scores, score = -eps / sigma. A scale of 1 gives
the unguided conditional model, except in `classifier`, where a scale of 0 does.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dgm.errors import BadInput, Unsupported
from dgm.processes.gaussian import GaussianPath
from dgm.processes.parameterisation import Denoise, Prediction
from dgm.protocols import Conditions, DenoisingModel, PartlyHidden, PerExample
from dgm.samplers.diffusion import denoiser

Interval = tuple[float, float]
ALWAYS: Interval = (0.0, 1.0)


def classifier_free(
    model: DenoisingModel, y: Conditions | None, *, scale: float, interval: Interval = ALWAYS
) -> Denoise:
    r"""Classifier-free guidance: extrapolates from the unconditional to the conditional prediction.

    .. math:: \hat\epsilon = \hat\epsilon(x_t) + s \, (\hat\epsilon(x_t, y) - \hat\epsilon(x_t))

    A scale of 0 is unconditional and 1 conditional; above 1 samples are more typical of their condition and less
    diverse.

    Source: Classifier-Free Diffusion Guidance (Ho & Salimans, 2022), arXiv:2207.12598, equation 6, where s = 1 + w;
    limited interval, Applying Guidance in a Limited Interval (Kynkäänniemi et al., 2024), arXiv:2404.07724, equation 6.

    Args:
        model: A `dgm.protocols.Denoising` that was trained with condition dropout.
        y: (n, *condition).
        interval: The times with guidance; at other times the conditional prediction is used, at half the cost. In the
            paper the interval is in sigma.
    """
    if model.condition is None or y is None:
        raise Unsupported("guidance needs a condition, and this model was trained without one", "leave guidance out")
    if not getattr(model.config, "condition_dropout", 0):
        wrong = "guidance needs a model that was trained with condition dropout, and this one was not"
        raise Unsupported(wrong, "train it with --model.condition-dropout 0.1")
    both = PartlyHidden(torch.cat([y, y]), torch.arange(2 * len(y), device=y.device) >= len(y))
    conditional = denoiser(model, y)

    def guided(x: Tensor, t: Tensor) -> Prediction:
        if scale == 1 or not inside(t, interval):
            return conditional(x, t)
        predicted = model.predict(torch.cat([x, x]), t.expand(2 * len(x)), both)
        (x_0, base_x_0), (eps, base_eps) = predicted.x_0.chunk(2), predicted.eps.chunk(2)
        variance = None if predicted.variance is None else predicted.variance.chunk(2)[0]
        return extrapolated(Prediction(base_x_0, base_eps), Prediction(x_0, eps, variance), scale)

    return guided


def autoguidance(
    model: DenoisingModel, y: Conditions | None, *, weak: DenoisingModel, scale: float, interval: Interval = ALWAYS
) -> Denoise:
    r"""Autoguidance: away from the prediction of a weak model, which is smaller or was trained for fewer steps.

    .. math:: \hat x_0 = \hat x_0^{\mathrm{weak}}(x_t, y) + s \, (\hat x_0(x_t, y) - \hat x_0^{\mathrm{weak}}(x_t, y))

    Source: Guiding a Diffusion Model with a Bad Version of Itself (Karras et al., 2024), arXiv:2406.02507, equation 2.

    Args:
        weak: A `dgm.protocols.Denoising` of the same data, on the same path.
        interval: The times with guidance; at other times the model alone is used.
    """
    refuse_other_path(weak, model)
    predict_strong, predict_weak = denoiser(model, y), denoiser(weak, y)

    def guided(x: Tensor, t: Tensor) -> Prediction:
        if scale == 1 or not inside(t, interval):
            return predict_strong(x, t)
        return extrapolated(predict_weak(x, t), predict_strong(x, t), scale)

    return guided


def classifier(
    model: DenoisingModel, y: Conditions | None, *, log_p: Callable[[Tensor, Tensor], PerExample], scale: float = 1.0
) -> Denoise:
    r"""Classifier guidance: adds the gradient of the log-probability of a classifier of noisy states.

    .. math:: \hat\epsilon = \hat\epsilon(x_t) - s \, \sigma_t \nabla_{x_t} \log p(y | x_t)

    With scale 1 and the true p(y | x_t) it samples from p(x | y); above 1 from p(x) p(y | x)^s, renormalised at each t.

    Source: Diffusion Models Beat GANs on Image Synthesis (Dhariwal & Nichol, 2021), arXiv:2105.05233, equation 14 and
    algorithm 2.

    Args:
        y: The condition of the model itself, if it has one; ``log_p`` contains the condition of the guidance.
        log_p: log p(y | x_t), (n,), of states (n, ...) in the path's units and a time, a scalar; has a gradient.
    """
    denoise, path = denoiser(model, y), model.path

    def guided(x: Tensor, t: Tensor) -> Prediction:
        x_0, eps, variance = denoise(x, t)
        with torch.inference_mode(False), torch.enable_grad():
            leaf = x.detach().clone().requires_grad_()
            (gradient,) = torch.autograd.grad(log_p(leaf, t).sum(), leaf)
        alpha, sigma = path.alpha(t), path.sigma(t)
        # where alpha is 0 the state is independent of y, and the gradient is 0
        of_x_0 = torch.where(alpha > 0, sigma.square() / alpha, 0.0)
        return Prediction(x_0 + scale * of_x_0 * gradient, eps - scale * sigma * gradient, variance)

    return guided


def extrapolated(base: Prediction, predicted: Prediction, scale: float) -> Prediction:
    """Extrapolates linearly: ``base`` at scale 0, ``predicted`` at 1."""
    x_0, eps = torch.lerp(base.x_0, predicted.x_0, scale), torch.lerp(base.eps, predicted.eps, scale)
    return Prediction(x_0, eps, predicted.variance)


def refuse_other_path(weak: DenoisingModel, model: DenoisingModel) -> None:
    """
    Raises:
        BadInput: If the models have different paths.
    """
    if type(weak.path) is not type(model.path) or not same_coefficients(weak.path, model.path):
        names = f"{type(model.path).__name__} and {type(weak.path).__name__}"
        raise BadInput(f"autoguidance needs two models on one path, got {names}", "take a weaker run of the same model")


def same_coefficients(path: GaussianPath, other: GaussianPath) -> bool:
    """Whether alpha and sigma of two paths are equal, also where they are networks."""
    t = torch.linspace(0, 1, 65, dtype=torch.float64)
    return torch.equal(path.alpha(t), other.alpha(t)) and torch.equal(path.sigma(t), other.sigma(t))


def inside(t: Tensor, interval: Interval) -> bool:
    return interval == ALWAYS or interval[0] <= t.item() <= interval[1]
