"""What --compile does to a training step: the compiled loss beside the plain one, the same weights and batch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from timing import in_turn, no_arguments, seconds
from torch import Tensor

import dgm
from dgm import Space

ROUNDS = 7
IMAGES = Space.levels((1, 28, 28), 256)
# name -> the model's space and settings, the batch, whether in bf16
MODELS: dict[str, tuple[Space, dict[str, Any], int, bool]] = {
    "ddpm": (IMAGES, {"width": 32}, 64, False),
    "ddpm, bf16": (IMAGES, {"width": 32}, 64, True),
    "flow_matching": (Space.continuous((2,)), {}, 256, False),
    "vae": (Space.binary((1, 28, 28)), {}, 128, False),
    "realnvp": (Space.levels((1, 8, 8), 17), {}, 128, False),
    "char_gpt": (Space.tokens(64, 65), {}, 64, False),
}


def stepping(model: Any, loss: Callable[[Tensor], Tensor], x: Tensor, bf16: bool) -> Callable[[], float]:
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
            value = loss(x).mean()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()

    return lambda: seconds(step)


def main() -> None:
    for name, (space, settings, batch, bf16) in MODELS.items():
        torch.manual_seed(0)
        model: Any = dgm.create(name.split(",")[0], space, **settings)
        shape = (batch, *space.shape)
        x = torch.randint(space.values, shape).to(space.dtype) if space.discrete else torch.randn(shape)
        plain, compiled = (stepping(model, loss, x, bf16) for loss in (model.loss, torch.compile(model.loss)))
        first = compiled()
        compiled(), plain()
        step = f"a training step at batch size {batch} with --compile ({first:.0f} s of compilation)"
        what = f"{name}, {step}; peer: without --compile"
        in_turn(what, compiled, plain, rounds=ROUNDS, unit="ms")


if __name__ == "__main__":
    no_arguments(__doc__)
    main()
