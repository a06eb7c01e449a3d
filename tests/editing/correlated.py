"""A model of Gaussian data with dependent pixels: its denoiser, its posteriors and its ODE are known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dgm.distributions.scaling import Scaling
from dgm.editing.operators import Operator
from dgm.processes.gaussian import CosineVP, GaussianPath
from dgm.processes.parameterisation import Prediction
from dgm.samplers.diffusion import SamplerConfig
from dgm.space import Space


class Correlated(nn.Module):
    """N(mean, covariance) of images (1, H, W), float64."""

    @dataclass(frozen=True)
    class Config: ...

    t_min = 1e-3

    def __init__(
        self, shape: tuple[int, int, int], covariance: Tensor, mean: float = 0.3, path: GaussianPath | None = None
    ):
        super().__init__()
        self.space, self.config, self.condition = Space.continuous(shape), self.Config(), None
        self.scaling = Scaling(self.space).double()
        self.path, self.sampler = path or CosineVP(), SamplerConfig()
        self.mean, self.covariance = torch.full((self.space.dim,), mean, dtype=torch.float64), covariance

    def predict(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Prediction:
        alpha, sigma = self.path.alpha(t[0]), self.path.sigma(t[0])
        of_x_t = alpha**2 * self.covariance + sigma**2 * torch.eye(self.space.dim, dtype=torch.float64)
        solved = torch.linalg.solve(of_x_t, (x_t.flatten(1) - alpha * self.mean).T).T
        x_0 = self.mean + alpha * solved @ self.covariance
        return Prediction(x_0.view_as(x_t), sigma * solved.view_as(x_t))

    def draw(self, n: int) -> Tensor:
        root = torch.linalg.cholesky(self.covariance)
        return (self.mean + torch.randn(n, self.space.dim, dtype=torch.float64) @ root.T).view(n, *self.space.shape)

    def posterior(self, operator: Operator, measured: Tensor, noise_std: float = 0.0) -> tuple[Tensor, Tensor]:
        """Mean and covariance of x given y = A x + noise, flattened, of one measurement (1, ...)."""
        a = dense(operator, self.space.shape)
        of_y = a @ self.covariance @ a.T + noise_std**2 * torch.eye(len(a), dtype=torch.float64)
        gain = self.covariance @ a.T @ torch.linalg.pinv(of_y, rtol=1e-12)
        mean = self.mean + gain @ (measured.flatten() - a @ self.mean)
        return mean, self.covariance - gain @ a @ self.covariance


def dense(operator: Operator, shape: tuple[int, ...]) -> Tensor:
    """The matrix of A."""
    size = torch.Size(shape).numel()
    return operator(torch.eye(size, dtype=torch.float64).view(size, *shape)).flatten(1).T


def smooth(height: int, width: int, length: float = 1.5) -> Tensor:
    """The covariance exp(-distance / length) of pixels."""
    place = torch.cartesian_prod(torch.arange(height).double(), torch.arange(width).double())
    return torch.exp(-torch.cdist(place, place) / length)
