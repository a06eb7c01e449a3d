"""The training loop beside a loop written by hand for the same network, batches and optimiser."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from timing import UNITS, figure, no_arguments, seconds
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from dgm.data import Dataset, Split
from dgm.space import Space
from dgm.training import fit

ROUNDS, STEPS, BATCH, LR = 60, 50, 128, 1e-3
SPACE = Space.binary((784,))


class Network(nn.Module):
    """The variational autoencoder that is timed everywhere: 784-400-20."""

    @dataclass(frozen=True, kw_only=True)
    class Config: ...

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__()
        self.space, self.config = space, config
        self.encoder = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 40))
        self.decoder = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784))

    def loss(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = x.float()
        mean, log_var = self.encoder(x).chunk(2, 1)
        z = mean + (0.5 * log_var).exp() * torch.randn_like(mean)
        rate = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(1)
        return rate + binary_cross_entropy_with_logits(self.decoder(z), x, reduction="none").sum(1)


class Toy(nn.Module):
    """So small that a step is all loop."""

    Config = Network.Config

    def __init__(self, space: Space, config: Network.Config) -> None:
        super().__init__()
        self.space, self.config = space, config
        self.network = nn.Linear(784, 1)

    def loss(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.network(x.float())[:, 0].square()


def dataset() -> Dataset:
    x = (torch.rand(8192, 784) < 0.1).byte()
    return Dataset(name="noise", space=SPACE, train=Split(x), validation=Split(x[:1]), test=Split(x[:1]), split="none")


def by_hand(model: Network | Toy, x: Tensor) -> Iterator[float]:
    """As one would write it, looking at each loss as `fit` does."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0, fused=True)
    while True:
        for rows in torch.randperm(len(x))[: len(x) // BATCH * BATCH].split(BATCH):
            optimiser.zero_grad(set_to_none=True)
            loss = model.loss(x[rows]).mean()
            loss.backward()
            optimiser.step()
            yield loss.item()


def by_dgm(model: Network | Toy, data: Dataset) -> Iterator[object]:
    return fit(model, data, steps=10**6, batch=BATCH, lr=LR, schedule="constant", select="last")


def timed(steps: Iterator[object]) -> float:
    """Milliseconds of this process's own time a step, which a busy neighbour does not lengthen much."""
    return UNITS["ms"] * seconds(lambda: [next(steps) for _ in range(STEPS)], time.process_time) / STEPS


def compare(name: str, make: Callable[[Space, Network.Config], Network | Toy]) -> None:
    data = dataset()
    ours, peer = by_dgm(make(SPACE, Network.Config()), data), by_hand(make(SPACE, Network.Config()), data.train.x)
    timed(ours), timed(peer)  # warm
    times = [(timed(ours), timed(peer)) for _ in range(ROUNDS)]
    a, b = (statistics.median(column) for column in zip(*times, strict=True))
    figure(name, a, b, "ms per step", ratio=statistics.median(a / b for a, b in times))


def main() -> None:
    torch.set_num_threads(1)
    compare("training loop, VAE 784-400-20, batch 128, beside a hand-written loop", Network)
    compare("training loop, one linear layer, beside a hand-written loop", Toy)


if __name__ == "__main__":
    no_arguments(__doc__)
    main()
