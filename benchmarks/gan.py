"""A step of a DCGAN beside its forward and backward passes and optimisers written by hand with the same layers."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch
from timing import UNITS, figure, no_arguments, seconds
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

import dgm
from dgm.data import Dataset, Split
from dgm.space import Space
from dgm.training import fit

SPACE = Space.levels((1, 28, 28), 256)
BATCH, WIDTH, LATENT, ROUNDS, STEPS = 32, 16, 100, 9, 4
LR, BETAS = 2e-4, (0.5, 0.999)


def generator() -> nn.Module:
    wide = 4 * WIDTH
    layers: list[nn.Module] = [nn.Linear(LATENT, wide * 16, bias=False), nn.Unflatten(1, (wide, 4, 4))]
    for before, after, added in ((wide, 2 * WIDTH, 0), (2 * WIDTH, WIDTH, 1), (WIDTH, 1, 1)):
        layers += [nn.BatchNorm2d(before), nn.ReLU()]
        layers.append(nn.ConvTranspose2d(before, after, 5, 2, 2, output_padding=added, bias=after == 1))
    return nn.Sequential(*layers, nn.Tanh())


def discriminator() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(1, WIDTH, 5, 2, 2), nn.LeakyReLU(0.2)]
    for before, after in ((WIDTH, 2 * WIDTH), (2 * WIDTH, 4 * WIDTH)):
        layers += [nn.Conv2d(before, after, 5, 2, 2, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * WIDTH * 16, 1))


def by_hand(x: Tensor) -> Iterator[float]:
    """Real and generated batches apart; the generator's loss has no gradient of the discriminator's weights."""
    g, d = generator(), discriminator()
    of_g, of_d = (torch.optim.AdamW(net.parameters(), lr=LR, betas=BETAS, weight_decay=0, fused=True) for net in (g, d))
    ones, zeros = torch.ones(BATCH, 1), torch.zeros(BATCH, 1)
    while True:
        for rows in torch.randperm(len(x))[: len(x) // BATCH * BATCH].split(BATCH):
            real, fake = x[rows].float() / 127.5 - 1, g(torch.randn(BATCH, LATENT))
            of_d.zero_grad(set_to_none=True)
            loss = binary_cross_entropy_with_logits(d(real), ones)
            loss = loss + binary_cross_entropy_with_logits(d(fake.detach()), zeros)
            loss.backward()
            of_d.step()
            of_g.zero_grad(set_to_none=True)
            other = binary_cross_entropy_with_logits(d(fake), ones)
            torch.autograd.backward(other, inputs=list(g.parameters()))
            of_g.step()
            yield loss.item() + other.item()


def by_dgm(data: Dataset) -> Iterator[Any]:
    model = dgm.create("dcgan", SPACE, width=WIDTH, latent=LATENT)
    return fit(model, data, steps=10**6, batch=BATCH, lr=LR, betas=BETAS, ema=0.0, precision="32-true")


def timed(steps: Iterator[Any]) -> float:
    """Milliseconds of this process's own time a step, which a busy neighbour does not lengthen much."""
    return UNITS["ms"] * seconds(lambda: [next(steps) for _ in range(STEPS)], time.process_time) / STEPS


def main() -> None:
    torch.set_num_threads(1)
    x = torch.randint(0, 256, (2048, *SPACE.shape), dtype=torch.uint8)
    data = Dataset(name="noise", space=SPACE, train=Split(x), validation=Split(x[:1]), test=Split(x[:1]), split="none")
    ours, peer = by_dgm(data), by_hand(x)
    timed(ours), timed(peer)  # warm
    times = [(timed(ours), timed(peer)) for _ in range(ROUNDS)]
    a, b = (statistics.median(column) for column in zip(*times, strict=True))
    name = f"training step of a DCGAN, 28×28, batch {BATCH}, beside one written by hand"
    figure(name, a, b, "ms per step", ratio=statistics.median(a / b for a, b in times))


if __name__ == "__main__":
    no_arguments(__doc__)
    main()
