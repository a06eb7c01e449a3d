"""Transformers and WaveNet a value at a time, beside the full pass for each and beside GPT-2 of transformers."""

from __future__ import annotations

from typing import Any

import torch
from timing import in_turn, no_arguments, seconds
from transformers import GPT2Config, GPT2LMHeadModel

import dgm
from dgm import Space

ROUNDS = 3
IMAGES = Space.binary((1, 28, 28))


def beside_full_passes(name: str, model: Any, n: int, passes: int) -> None:
    model.eval()
    x = torch.zeros(n, *model.space.shape, dtype=model.space.dtype)

    @torch.no_grad()
    def full() -> None:
        for _ in range(passes):
            model.conditionals(x)

    times = model.space.dim / passes
    what = f"{name}; peer: a full pass for each value ({passes} passes, × {times:g})"
    in_turn(what, lambda: seconds(lambda: model.sample(n, seed=0)), lambda: seconds(full) * times, rounds=1)


def beside_transformers(length: int, n: int, width: int, layers: int, heads: int) -> None:
    """Both draw ``length`` tokens of 256 from untrained weights, with their caches."""
    config = GPT2Config(vocab_size=256, n_positions=length + 1, n_embd=width, n_layer=layers, n_head=heads)
    gpt2 = GPT2LMHeadModel(config).eval()
    space = Space.tokens(length, 256)
    ours = dgm.create("image_gpt", space, width=width, layers=layers, heads=heads).eval()
    start = torch.zeros(n, 1, dtype=torch.long)
    mask = torch.ones_like(start)

    @torch.no_grad()
    def theirs() -> None:
        gpt2.generate(
            start,
            attention_mask=mask,
            do_sample=True,
            top_k=0,
            max_new_tokens=length,
            min_new_tokens=length,
            pad_token_id=0,
            eos_token_id=None,
        )

    name = f"{n} sequences of {length} tokens, {layers} layers, width {width}; peer: transformers' GPT-2 with its cache"
    in_turn(name, lambda: seconds(lambda: ours.sample(n, seed=0)), lambda: seconds(theirs), rounds=ROUNDS)


def main() -> None:
    torch.manual_seed(0)
    model = dgm.create("image_gpt", IMAGES, width=64, layers=8, heads=2)
    beside_full_passes("image GPT (8 blocks, 2 heads, width 64), sampling 16 images of 28×28", model, 16, passes=2)
    beside_transformers(length=784, n=16, width=256, layers=4, heads=4)
    wavenet = dgm.create("wavenet", Space.levels((1, 8000), 256))
    for threads in (torch.get_num_threads(), 1):  # one sound a sample at a time has no use for a second
        torch.set_num_threads(threads)
        beside_full_passes(
            f"WaveNet (18 layers, width 32), one second at 8 kHz, {threads} thread(s)", wavenet, 1, passes=2
        )


if __name__ == "__main__":
    no_arguments(__doc__)
    main()
