"""Autoregressive models of 28 x 28 binary images: a training step at batch size 64, and sampling 16 images.

The peer of a training step is the usual way to write these networks: square kernels, a mask multiplied into every one,
channels first. The peer of sampling is the full pass for every pixel with the same weights; its time is that of some
passes, times 784.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from timing import in_turn, no_arguments, seconds
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, relu

import dgm
from dgm import Space

SPACE = Space.binary((1, 28, 28))
ROUNDS, PASSES = 3, 4


class Masked(nn.Conv2d):
    """A square kernel under a mask; ``hidden`` is how many of its taps, from the end, are hidden."""

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, size: tuple[int, int], hidden: int) -> None:
        super().__init__(inputs, outputs, size, padding=(size[0] // 2, size[1] // 2))
        mask = torch.ones(size[0] * size[1])
        mask[len(mask) - hidden :] = 0
        self.register_buffer("mask", mask.view(size))

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight * self.mask, self.bias)


class PlainPixelCNN(nn.Module):
    def __init__(self, h: int, layers: int, head: int) -> None:
        super().__init__()
        self.first = Masked(1, 2 * h, (7, 7), 25)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(), nn.Conv2d(2 * h, h, 1), nn.ReLU(), Masked(h, h, (3, 3), 4), nn.ReLU(), nn.Conv2d(h, 2 * h, 1)
            )
            for _ in range(layers)
        )
        self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(2 * h, head, 1), nn.ReLU(), nn.Conv2d(head, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        for block in self.blocks:
            h = h + block(h)
        return self.head(h)


class PlainGated(nn.Module):
    def __init__(self, width: int, layers: int, head: int) -> None:
        super().__init__()
        inputs = [1] + [width] * (layers - 1)
        # the first vertical kernel hides its middle row as well; later ones show it whole, as there it holds rows above
        sizes = [7] + [3] * (layers - 1)
        self.vertical = nn.ModuleList(
            Masked(i, 2 * width, (s, s), s * (s // 2 + (i == 1))) for i, s in zip(inputs, sizes, strict=True)
        )
        self.link = nn.ModuleList(nn.Conv2d(2 * width, 2 * width, 1) for _ in inputs)
        self.horizontal = nn.ModuleList(
            Masked(i, 2 * width, (1, s), s // 2 + (i == 1)) for i, s in zip(inputs, sizes, strict=True)
        )
        self.residual = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in inputs)
        self.hidden, self.output = nn.Conv2d(width, head, 1), nn.Conv2d(head, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        v = h = x
        for k, (vertical, link, horizontal, residual) in enumerate(
            zip(self.vertical, self.link, self.horizontal, self.residual, strict=True)
        ):
            ungated = vertical(v)
            f, g = ungated.chunk(2, 1)
            v = f.tanh() * g.sigmoid()
            f, g = (horizontal(h) + link(ungated)).chunk(2, 1)
            out = residual(f.tanh() * g.sigmoid())
            h = h + out if k else out
        return self.output(relu(self.hidden(relu(h))))


class PlainImageGPT(nn.Module):
    """A causal transformer over pixels: 1x1 convolutions, a softmax written out over a masked square, learnt places."""

    future: Tensor

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first = Masked(1, width, (3, 3), 5)
        self.places = nn.Parameter(torch.zeros(1, width, 28, 28))
        self.norms = nn.ModuleList(nn.GroupNorm(1, width) for _ in range(2 * layers))
        self.projections = nn.ModuleList(nn.Conv2d(width, 3 * width, 1) for _ in range(layers))
        self.joins = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(layers))
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, 4 * width, 1), nn.GELU(), nn.Conv2d(4 * width, width, 1))
            for _ in range(layers)
        )
        self.output = nn.Conv2d(width, 1, 1)
        self.register_buffer("future", torch.ones(784, 784, dtype=torch.bool).triu(1))

    def attention(self, qkv: Tensor) -> Tensor:
        q, k, v = qkv.flatten(2).unflatten(1, (3, self.heads, -1)).mT.unbind(1)
        scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(self.future, -torch.inf)
        return (scores.softmax(-1) @ v).mT.flatten(1, 2).unflatten(2, (28, 28))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x) + self.places
        for before, after, project, join, mlp in zip(
            self.norms[::2], self.norms[1::2], self.projections, self.joins, self.mlps, strict=True
        ):
            h = h + join(self.attention(project(before(h))))
            h = h + mlp(after(h))
        return self.output(h)


class PlainFVSBN:
    """One linear layer a pixel, as it is usually written."""

    def __init__(self) -> None:
        self.layers = [nn.Linear(max(d, 1), 1) for d in range(784)]
        self.x = torch.zeros(16, 784)

    @torch.no_grad()
    def times(self) -> None:
        for _ in range(PASSES):
            torch.cat([layer(self.x[:, : max(d, 1)]) for d, layer in enumerate(self.layers)], 1)


class PlainNADE:
    """The recursion of the hidden layer's sum, pixel by pixel, as it is usually written."""

    def __init__(self, hidden: int = 500) -> None:
        self.W, self.V, self.c = torch.randn(784, hidden), torch.randn(784, hidden), torch.zeros(hidden)
        self.x = torch.zeros(16, 784)

    @torch.no_grad()
    def times(self) -> None:
        for _ in range(PASSES):
            a, logits = self.c.expand(16, -1), []
            for d in range(784):
                logits.append(a.sigmoid() @ self.V[d])
                a = a + self.x[:, d, None] * self.W[d]
            torch.stack(logits, 1)


def step_of(model: nn.Module, loss: Callable[[Tensor], Tensor]) -> Callable[[], float]:
    optimiser = torch.optim.Adam(model.parameters())
    x = torch.randint(2, (64, 1, 28, 28)).to(torch.uint8)

    def step() -> None:
        optimiser.zero_grad()
        loss(x).mean().backward()
        optimiser.step()

    step()
    return lambda: seconds(step)


def training(name: str, settings: str, ours: Any, plain: nn.Module, usual: str = "square masked kernels") -> None:
    def peer(x: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(plain(x.float()), x.float(), reduction="none").flatten(1).sum(1)

    what = f"{name} ({settings}), a training step at batch size 64; peer: {usual}, channels first"
    in_turn(what, step_of(ours, ours.loss), step_of(plain, peer), rounds=ROUNDS)


def sampling(name: str, settings: str, model: Any) -> None:
    model.eval()
    x = torch.zeros(16, *SPACE.shape, dtype=torch.uint8)

    @torch.no_grad()
    def passes() -> None:
        for _ in range(PASSES):
            model.conditionals(x)

    usual = f"a full pass for each pixel ({PASSES} passes, × {784 // PASSES})"
    what = f"{name} ({settings}), sampling 16 images; peer: {usual}"
    in_turn(
        what,
        lambda: seconds(lambda: model.sample(16, seed=0)),
        lambda: seconds(passes) * 784 / PASSES,
        rounds=ROUNDS,
    )


def main() -> None:
    torch.manual_seed(0)
    pixelcnn = dgm.create("pixelcnn", SPACE, width=16, layers=15)
    training("PixelCNN", "15 blocks, 16 features", pixelcnn, PlainPixelCNN(16, 15, 32))
    sampling("PixelCNN", "15 blocks, 16 features", dgm.create("pixelcnn", SPACE, width=16, layers=15))
    gated = dgm.create("gated_pixelcnn", SPACE, width=128, layers=10)
    training("Gated PixelCNN", "10 layers, 128 features", gated, PlainGated(128, 10, 64))
    sampling("Gated PixelCNN", "10 layers, 128 features", dgm.create("gated_pixelcnn", SPACE, width=128, layers=10))
    gpt = dgm.create("image_gpt", SPACE, width=64, layers=8, heads=2)
    training("Image GPT", "8 blocks, 2 heads, width 64", gpt, PlainImageGPT(64, 8, 2), "softmax written out")
    for name, passes in (("fvsbn", PlainFVSBN()), ("nade", PlainNADE())):
        model = dgm.create(name, SPACE)
        sampling(name.upper(), "default settings", model)
        in_turn(
            f"{name.upper()}, sampling 16 images; peer: {PASSES} full passes pixel by pixel, × {784 // PASSES}",
            lambda model=model: seconds(lambda: model.sample(16, seed=0)),
            lambda passes=passes: seconds(passes.times) * 784 / PASSES,
            rounds=ROUNDS,
        )
    for name in ("pixelcnn_pp", "pixelrnn"):
        sampling(name, "default settings", dgm.create(name, SPACE))


if __name__ == "__main__":
    no_arguments(__doc__)
    main()
