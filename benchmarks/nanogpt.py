"""char_gpt beside the plain form of nanoGPT's character-level run on a CPU, at equal size and time.

nanoGPT's run: 4 layers, 4 heads, width 128, context 64, batch 12, 2,000 steps of AdamW at 1e-3, 100 steps of warm-up,
cosine to 1e-4, beta 0.99, weight decay 0.1 on matrices, gradients clipped at 1, no dropout, no biases, the embedding
is the head's matrix. Ours has its defaults and as many steps as the same processor time holds. Both take turns, twenty
steps each, on one thread; both are scored on the same held-out windows, every character but a window's first.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from itertools import islice
from time import process_time
from typing import Any

import torch
from timing import figure, no_arguments
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, layer_norm, scaled_dot_product_attention

import dgm
from dgm.data import Dataset

LAYERS, HEADS, WIDTH, CONTEXT, BATCH, STEPS = 4, 4, 128, 64, 12, 2000
LR, LEAST, WARMUP = 1e-3, 1e-4, 100
TURN, TRIALS = 20, 8  # steps of a turn, and turns of the trial that says how many steps ours has


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scales = nn.ParameterList(nn.Parameter(torch.ones(WIDTH)) for _ in range(2))
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(2, (HEADS, -1)).transpose(1, 2)
            for part in self.qkv(layer_norm(h, (WIDTH,), self.scales[0])).split(WIDTH, 2)
        )
        h = h + self.out(scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        return h + self.down(gelu(self.up(layer_norm(h, (WIDTH,), self.scales[1]))))


class NanoGPT(nn.Module):
    def __init__(self, symbols: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(symbols, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.scale = nn.Parameter(torch.ones(WIDTH))
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                nn.init.normal_(
                    parameter, std=0.02 / math.sqrt(2 * LAYERS if name.endswith(("out.weight", "down.weight")) else 1)
                )

    def forward(self, s: Tensor) -> Tensor:
        """(B, L) tokens to the logits of what follows each, (B, L, symbols)."""
        h = self.blocks(self.tokens(s) + self.positions.weight[: s.shape[1]])
        return layer_norm(h, (WIDTH,), self.scale) @ self.tokens.weight.mT


def steps_of(model: NanoGPT, text: Tensor, steps: int) -> Iterator[int]:
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.99), fused=True)
    for step in range(steps):
        cosine = 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP)))
        rate = LR * (step + 1) / (WARMUP + 1) if step < WARMUP else LEAST + cosine * (LR - LEAST)
        for group in optimiser.param_groups:
            group["lr"] = rate
        starts = torch.randint(len(text) - CONTEXT, (BATCH, 1))
        rows = text[starts + torch.arange(CONTEXT + 1)].long()
        loss = cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        yield step


def timed(steps: Iterator[Any], n: int) -> tuple[float, int]:
    """Processor seconds of the next ``n`` steps, and how many there were."""
    started = process_time()
    done = sum(1 for _ in islice(steps, n))
    return (process_time() - started, done) if done else (0.0, 0)


@torch.no_grad()
def score(logits: Tensor, x: Tensor) -> float:
    """Nats a character, of all characters but the first."""
    return cross_entropy(logits.flatten(0, 1), x[:, 1:].flatten()).item()


def ours(dataset: Dataset, steps: int) -> tuple[Any, Iterator[Any]]:
    torch.manual_seed(0)
    model = dgm.create("char_gpt", dataset.space, layers=LAYERS, heads=HEADS, width=WIDTH)
    return model, dgm.fit(model, dataset, steps=steps, select="last")


def theirs(dataset: Dataset, text: Tensor) -> tuple[NanoGPT, Iterator[int]]:
    torch.manual_seed(0)
    model = NanoGPT(dataset.space.values or 0)
    return model, steps_of(model, text, STEPS)


def main() -> None:
    torch.set_num_threads(1)
    dataset = dgm.data.load("tinyshakespeare", context=CONTEXT)
    x = dataset.train.x
    text = torch.cat([x[0], x[1:, -1]])
    (_, first), (_, second) = ours(dataset, STEPS), theirs(dataset, text)
    trials = [(timed(first, TURN)[0], timed(second, TURN)[0]) for _ in range(TRIALS)]
    faster = statistics.median(b / a for a, b in trials[1:])
    (model, first), (peer, second) = ours(dataset, round(STEPS * faster)), theirs(dataset, text)
    turns: list[tuple[tuple[float, int], tuple[float, int]]] = []
    while not turns or turns[-1] != ((0.0, 0), (0.0, 0)):
        turns.append((timed(first, TURN), timed(second, TURN)))
    (our_time, our_steps), (time, steps) = (map(sum, zip(*side, strict=True)) for side in zip(*turns, strict=True))
    held_out = dataset.validation.x.long()
    model.eval()
    with torch.no_grad():
        losses = score(model.conditionals(held_out)[:, 1:], held_out), score(peer(held_out[:, :-1]), held_out)
    what = f"char_gpt, 4 layers, width 128, context 64, loss after {our_time:.0f} s on one thread, {our_steps:,} steps"
    name = f"{what}; peer: nanoGPT's CPU run, {time:.0f} s, {steps:,} steps"
    figure(name, *losses, "nats per character")


if __name__ == "__main__":
    no_arguments(__doc__)
    main()
