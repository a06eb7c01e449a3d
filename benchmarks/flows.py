"""Flows beside zuko, and beside nflows and normflows where they are installed: steps, densities and samples.

Five transforms with networks of [256, 256] on one thread: a training step of 512 examples, the log-density of 4,096 and
4,096 samples, or 512 where 4,096 take a peer half a minute. A ratio is to the fastest of the peers, timed in turn with
ours. Glow's step is beside that of its convolutions alone.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from typing import Any

import torch
import zuko
from timing import figure, no_arguments, seconds
from torch import Tensor, nn

import dgm
from dgm.memory import keep_freed
from dgm.models.flow.glow import Glow
from dgm.space import Space
from dgm.transforms import alternating

ROUNDS, TRAINED, DRAWN = 5, 512, 4096
LAYERS, HIDDEN, BINS = 5, [256, 256], 8
Times = dict[str, Callable[[], Any]]  # what is timed, by its name


class Zuko(nn.Module):
    def __init__(self, name: str, dim: int) -> None:
        super().__init__()
        coupled = zuko.flows.coupling.GeneralCouplingTransform
        spline = {
            "univariate": zuko.transforms.MonotonicRQSTransform,
            "shapes": [(BINS,), (BINS,), (BINS - 1,)],
        }
        masks = [torch.arange(dim) % 2 == k % 2 for k in range(LAYERS)]
        how: dict[str, Any] = {"transforms": LAYERS, "hidden_features": HIDDEN}
        self.flow = {
            "MAF": lambda: zuko.flows.MAF(dim, **how),
            "affine coupling": lambda: zuko.flows.RealNVP(dim, **how),
            "NSF autoregressive": lambda: zuko.flows.NSF(dim, bins=BINS, **how),
            "NSF coupling": lambda: zuko.flows.Flow(
                [coupled(dim, mask=mask, hidden_features=HIDDEN, **spline) for mask in masks],
                zuko.lazy.UnconditionalDistribution(
                    zuko.distributions.DiagNormal, torch.zeros(dim), torch.ones(dim), buffer=True
                ),
            ),
        }[name]()

    def log_prob(self, x: Tensor) -> Tensor:
        return self.flow().log_prob(x)

    def draw(self, n: int) -> Tensor:
        return self.flow().sample((n,))


class NFlows(nn.Module):
    def __init__(self, name: str, dim: int) -> None:
        super().__init__()
        from nflows import distributions, flows, transforms

        made: dict[str, Any] = {"hidden_features": HIDDEN[0], "num_blocks": 1, "use_residual_blocks": False}
        spline: dict[str, Any] = {"num_bins": BINS, "tails": "linear", "tail_bound": 5.0}
        masks = [(~alternating(dim, k)).int() for k in range(LAYERS)]
        splined = transforms.MaskedPiecewiseRationalQuadraticAutoregressiveTransform
        layers = {
            "MAF": lambda k: transforms.MaskedAffineAutoregressiveTransform(dim, **made),
            "affine coupling": lambda k: transforms.AffineCouplingTransform(masks[k], perceptron),
            "NSF autoregressive": lambda k: splined(features=dim, **made, **spline),
            "NSF coupling": lambda k: transforms.PiecewiseRationalQuadraticCouplingTransform(
                masks[k], perceptron, **spline
            ),
        }[name]
        between = [] if "coupling" in name else [transforms.ReversePermutation(dim)]
        parts = [part for k in range(LAYERS) for part in (layers(k), *between)]
        self.flow = flows.Flow(transforms.CompositeTransform(parts), distributions.StandardNormal([dim]))

    def log_prob(self, x: Tensor) -> Tensor:
        return self.flow.log_prob(x)

    def draw(self, n: int) -> Tensor:
        return self.flow.sample(n)


class NormFlows(nn.Module):
    """Its couplings and splines; its masked affine flow runs the other way, from z to x, and is no peer of MAF."""

    def __init__(self, name: str, dim: int) -> None:
        super().__init__()
        import normflows

        spline: dict[str, Any] = {"num_bins": BINS, "tail_bound": 5.0}
        half = dim // 2
        between = [normflows.flows.Permute(dim, "swap")] if name == "affine coupling" else []
        layers: dict[str, Callable[[int], nn.Module]] = {
            "affine coupling": lambda k: normflows.flows.AffineCouplingBlock(
                normflows.nets.MLP([half, *HIDDEN, 2 * half])
            ),
            "NSF autoregressive": lambda k: normflows.flows.AutoregressiveRationalQuadraticSpline(
                dim, 1, HIDDEN[0], **spline
            ),
            "NSF coupling": lambda k: normflows.flows.CoupledRationalQuadraticSpline(
                dim, 1, HIDDEN[0], reverse_mask=bool(k % 2), **spline
            ),
        }
        parts = [part for k in range(LAYERS) for part in (layers[name](k), *between)]
        self.flow = normflows.NormalizingFlow(normflows.distributions.DiagGaussian(dim, trainable=False), parts)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.flow.log_prob(x)

    def draw(self, n: int) -> Tensor:
        return self.flow.sample(n)[0]


class Perceptron(nn.Sequential):
    def forward(self, x: Tensor, context: Any = None) -> Tensor:
        return super().forward(x)


def perceptron(inputs: int, outputs: int) -> nn.Module:
    sizes = [inputs, *HIDDEN]
    hidden = [part for a, b in zip(sizes, HIDDEN, strict=False) for part in (nn.Linear(a, b), nn.ReLU())]
    return Perceptron(*hidden, nn.Linear(HIDDEN[-1], outputs))


class Ours(nn.Module):
    """A model with the networks of the peers; its data is standardised already."""

    def __init__(self, name: str, dim: int) -> None:
        super().__init__()
        model, bins = {
            "MAF": ("maf", {}),
            "affine coupling": ("realnvp", {}),
            "NSF autoregressive": ("nsf", {"bins": BINS}),
            "NSF coupling": ("nsf", {"bins": BINS, "kind": "coupling"}),
        }[name]
        blocks = len(HIDDEN) - (model == "realnvp")  # whose first hidden layer belongs to no block
        self.flow: Any = dgm.create(
            model, Space.continuous((dim,)), layers=LAYERS, hidden=HIDDEN[0], blocks=blocks, **bins
        )

    def log_prob(self, x: Tensor) -> Tensor:
        return self.flow.log_prob(x)

    def draw(self, n: int) -> Tensor:
        return self.flow.sample(n)


def peers(name: str, dim: int) -> Iterator[tuple[str, nn.Module]]:
    yield "zuko", Zuko(name, dim)
    for library, made in {"nflows": NFlows, "normflows": NormFlows}.items():
        if (library, name) == ("normflows", "MAF"):
            continue
        try:
            yield library, made(name, dim)
        except ImportError:
            print(f"{library} is not installed and left out", file=sys.stderr)


def step_of(loss: Callable[[], Tensor], module: nn.Module) -> Callable[[], None]:
    optimiser = torch.optim.Adam(module.parameters(), fused=True)

    def step() -> None:
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()

    return step


def works(flow: Any, dim: int, slow: bool) -> Times:
    """The three that are timed; of samples that take tens of seconds, fewer."""
    drawn = DRAWN if dim == 6 or not slow else TRAINED
    few, many = torch.randn(TRAINED, dim), torch.randn(DRAWN, dim)
    return {
        f"a step of {TRAINED}": step_of(lambda: -flow.log_prob(few).mean(), flow),
        f"the log-density of {DRAWN}": partial(without_gradients, flow.log_prob, many),
        f"{drawn} samples": partial(without_gradients, flow.draw, drawn),
    }


@torch.no_grad()
def without_gradients(work: Callable[..., Any], *arguments: Any) -> None:
    work(*arguments)


def compare(what: str, mine: Callable[[], Any], others: Times, rounds: int) -> None:
    """Medians of the thread's own times in turn, without its waiting for a processor; a first round is not counted."""
    sides = {"ours": mine, **others}
    times: dict[str, list[float]] = {name: [] for name in sides}
    warm_up = rounds > 1
    for k in range(rounds + warm_up):
        for name, work in sides.items():
            if k >= warm_up:
                times[name].append(seconds(work, time.thread_time))
            else:
                work()
    medians = {name: 1e3 * statistics.median(found) for name, found in times.items()}
    fastest = min(others, key=medians.__getitem__)
    figure(f"{what}; peer: {fastest}", medians["ours"], medians[fastest], "ms")


def glow() -> None:
    """A step of Glow on 28×28 images beside a step of the convolutions in it, on inputs of their shapes.

    Its convolutions are channels-last, which makes them faster than in PyTorch's default format; ours is beside both.
    All sides keep freed memory, as a training by `dgm.fit` does.
    """
    keep_freed()
    torch.manual_seed(0)
    flow = Glow(Space.continuous((1, 28, 28)), Glow.Config(layers=4, hidden=64))
    shapes: list[tuple[nn.Module, Tensor]] = []
    convolutions = [part for part in flow.modules() if isinstance(part, nn.Conv2d)]
    hooks = [
        part.register_forward_pre_hook(lambda part, args: shapes.append((part, torch.randn_like(args[0]))))
        for part in convolutions
    ]
    x = torch.randn(32, 1, 28, 28)
    flow.log_prob(x)
    for hook in hooks:
        hook.remove()
    inputs = [(part, h.requires_grad_()) for part, h in shapes]
    step = step_of(lambda: flow.loss(x).mean(), flow)
    channels_first = [(deepcopy(part).to(memory_format=torch.contiguous_format), h) for part, h in inputs]
    for which, parts in {"alone": inputs, "alone, channels first": channels_first}.items():
        loss = lambda parts=parts: torch.stack([part(h).mean() for part, h in parts]).sum()  # noqa: E731
        alone = step_of(loss, nn.ModuleList(part for part, _ in parts))
        compare("Glow, a step of 32 images of 28×28", step, {f"its convolutions {which}": alone}, ROUNDS)


def main() -> None:
    torch.set_num_threads(1)
    for name, dim in (
        ("MAF", 6),
        ("MAF", 43),
        ("affine coupling", 6),
        ("NSF autoregressive", 6),
        ("NSF autoregressive", 43),
        ("NSF coupling", 6),
    ):
        slow = name == "NSF autoregressive"
        mine = works(Ours(name, dim), dim, slow)
        others = {peer: works(flow, dim, slow) for peer, flow in peers(name, dim)}
        for what, work in mine.items():
            once = "samples" in what and dim > 6
            of_peers = {peer: found[what] for peer, found in others.items()}
            compare(f"{name}, D = {dim}, {what}", work, of_peers, 1 if once else ROUNDS)
    glow()


if __name__ == "__main__":
    no_arguments(__doc__)
    main()
