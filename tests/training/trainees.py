"""Small models of every kind that the loop trains, and data for them; importable, so that a run can name them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dgm.data import Dataset, Split
from dgm.settings import setting
from dgm.space import Space

SPACE = Space.continuous((4,))


def points(n: int = 64) -> Dataset:
    x = torch.randn(2 * n, 4, generator=torch.Generator().manual_seed(1)) * torch.tensor([1.0, 2.0, 0.5, 1.0]) + 1
    y = torch.arange(2 * n) % 3
    splits = (Split(x[rows], y[rows]) for rows in (slice(n), slice(n, n + n // 2), slice(n + n // 2, 2 * n)))
    train, validation, test = splits
    return Dataset(name="points", space=SPACE, train=train, validation=validation, test=test, split="by position")


class Normal(nn.Module):
    """A diagonal Gaussian, fitted by gradients. It draws nothing."""

    @dataclass(frozen=True, kw_only=True)
    class Config: ...

    conditions: ClassVar[set[str]] = {"categories"}

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__()
        self.space, self.config, self.condition = space, config, condition
        self.mean = nn.Parameter(torch.zeros(space.dim))
        self.log_scale = nn.Parameter(torch.zeros(space.dim))
        self.seen: list[tuple[Tensor, Tensor | None]] = []

    def loss(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        if self.training:
            self.seen.append((x, y))
        z = (x - self.mean) * (-self.log_scale).exp()
        return (0.5 * z.square() + self.log_scale + 0.5 * math.log(2 * math.pi)).sum(1)


class Point(nn.Module):
    """One point, drawn to the mean of the data: Adam at a constant rate moves it by that rate a step at first."""

    @dataclass(frozen=True, kw_only=True)
    class Config: ...

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__()
        self.space, self.config = space, config
        self.mean = nn.Parameter(torch.zeros(space.dim))

    def loss(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return (x - self.mean).square().sum(1)


class Drawn(Point):
    """The same with noise on the data. Gradient descent with a rate above 1 / 2 moves the point ever farther away."""

    remedy = "calm it"

    def loss(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return super().loss(x + torch.randn_like(x))


class Noisy(nn.Module):
    """Draws from torch's generator in every step, by dropout and by itself, and counts in a buffer."""

    @dataclass(frozen=True, kw_only=True)
    class Config: ...

    defaults: ClassVar[dict[str, Any]] = {"ema": 0.9, "clip": 1.0, "batch": 16}

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__()
        self.space, self.config = space, config
        self.network = nn.Sequential(nn.Linear(space.dim, 16), nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, space.dim))
        self.register_buffer("visited", torch.tensor(0))

    def loss(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.loss_and_outputs(x, y)[0]

    def loss_and_outputs(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        return (self.network(x + torch.randn_like(x)) - x).square().sum(1), (x,)

    def after_step(self, *outputs: Tensor) -> None:
        self.visited += len(outputs[0])


class Duel(nn.Module):
    """A game: the critic tells x from noise, and the forger sees the critic as it is after its step."""

    @dataclass(frozen=True, kw_only=True)
    class Config: ...

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__()
        self.space, self.config = space, config
        self.players = ("critic", "forger")
        self.critic = nn.Linear(space.dim, 1)
        self.forger = nn.Linear(2, space.dim)

    def losses(self, x: Tensor, y: Tensor | None = None) -> Iterator[tuple[str, Tensor]]:
        forged = self.forger(torch.randn(len(x), 2))
        yield "critic", (self.critic(forged.detach()) - self.critic(x) + self.critic(x).square())[:, 0]
        yield "forger", -self.critic(forged)[:, 0] + forged.square().sum(1)


class Creeping(nn.Module):
    """Fitted by passes: its mean goes half of the way to the data's in each, and noise is added to the loss."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        tolerance: float = setting(1e-6, "stop when the mean moves less", low=0.0)

    mean: Tensor
    moved: Tensor

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__()
        self.space, self.config = space, config
        self.register_buffer("mean", torch.zeros(space.dim, dtype=torch.float64))
        self.register_buffer("moved", torch.tensor(math.inf, dtype=torch.float64))

    def fit(self, batches: Iterable[tuple[Tensor, Tensor | None]]) -> Iterator[float]:
        while self.moved > self.config.tolerance:
            x = torch.cat([x for x, _ in batches]).double()
            step = 0.5 * (x.mean(0) - self.mean) * (1 + 0.1 * torch.rand(()))
            self.mean += step
            self.moved.copy_(step.norm())
            yield float((x - self.mean).square().sum(1).mean())


MODELS = {"noisy": Noisy, "duel": Duel, "creeping": Creeping}

COUNTS = Space.levels((4,), 8)
IMAGES = Space.levels((1, 4, 4), 8)
# models whose losses draw: normal, uniform, stratified and integer numbers, dropout, hidden labels, a mask of weights,
# a permutation of a buffer, and the noise of two players. Without batch normalisation, which is of a process's rows
DRAWING: dict[str, dict[str, Any]] = {
    "vae": {"hidden": 16, "latent": 3},
    "ddpm": {"width": 16},
    "vdm": {"width": 16},
    "masked_diffusion": {"width": 16},
    "made": {"hidden": 16, "masks": 4},
    "ebm": {"width": 8, "langevin_steps": 2},
    "rbm": {"hidden": 8, "chains": 20},
    "duel": {},
    "dequantised": {},
    "two_stage": {"width": 16},
}


def noisy_losses(strategy: str, *names: str) -> dict[str, Tensor]:
    """The losses of each of `DRAWING` by name, of all processes together."""
    from dgm import create
    from dgm.distributions.dequantisation import Dequantised, box
    from dgm.training import fit
    from dgm.training.codes import two_stage

    torch.manual_seed(1)
    x, y = torch.randint(8, (48, 1, 4, 4)).to(torch.uint8), torch.arange(48) % 3
    data = Dataset(
        name="noise",
        space=IMAGES,
        condition=Space.categories(3),
        train=Split(x, y),
        validation=Split(x[:8], y[:8]),
        test=Split(x[:0], y[:0]),
        split="none",
    )
    losses = {}
    for name in names:
        torch.manual_seed(7)
        own, config = data, DRAWING[name]
        match name:
            case "duel":
                model, own = made(name), points()
            case "dequantised":
                own = replace(
                    data, space=COUNTS, condition=None, train=Split(x[:, 0, 0]), validation=Split(x[:8, 0, 0])
                )
                model = Dequantised(COUNTS, Dequantised.Config(), model=Duel(box(COUNTS), Duel.Config()))
            case "two_stage":
                first_stage = create("vae", IMAGES, hidden=16, latent=4)
                model = two_stage("ddpm", first_stage, data, data.condition, **config)
            case _:
                model = create(name, IMAGES, data.condition, **config)
        steps = fit(model, own, steps=3, batch=16, strategy=strategy, precision="32-true")
        losses[name] = torch.tensor([[*step.losses.values()] for step in steps])
    return losses


def made(name: str) -> Any:
    torch.manual_seed(7)
    cls = MODELS[name]
    return cls(SPACE, cls.Config())
