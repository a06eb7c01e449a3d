"""A step of training that uses freed memory again, beside one that gets it anew from the system, in processor time.

Each side is a process of its own, since the allocator's thresholds are those of the process: this script with --steps.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import statistics
import subprocess
import sys
import time
from typing import Any

import torch
from timing import in_turn

import dgm
from dgm.training import loop

ROUNDS, STEPS = 3, 12
MNIST, CIFAR = dgm.Space.levels((1, 28, 28), 256), dgm.Space.levels((3, 32, 32), 256)
BITS = dgm.Space.binary((1, 28, 28))
CASES: dict[str, tuple[str, dgm.Space, int, str, dict[str, Any]]] = {  # model, data, batch, precision, settings
    "vae": ("vae", BITS, 128, "32-true", {}),
    "iwae": ("iwae", BITS, 128, "32-true", {"samples": 50, "latent": 50, "hidden": 200}),
    "iwae-bf16": ("iwae", BITS, 128, "bf16-mixed", {"samples": 50, "latent": 50, "hidden": 200}),
    "ddpm": ("ddpm", CIFAR, 32, "32-true", {}),
    "glow": ("glow", MNIST, 32, "32-true", {}),
    "gated_pixelcnn": ("gated_pixelcnn", MNIST, 32, "32-true", {}),
    "dcgan": ("dcgan", MNIST, 64, "32-true", {}),
    "ebm": ("ebm", MNIST, 64, "32-true", {}),
}


def steps(case: str, kept: bool) -> float:
    """Seconds of processor time of a step."""
    if not kept:
        loop.keep_freed = lambda: None  # type: ignore[attr-defined]
    torch.set_num_threads(1)
    name, space, batch, precision, settings = CASES[case]
    x = torch.randint(space.values or 2, (1024, *space.shape)).to(space.dtype)
    times = []
    for _ in dgm.fit(dgm.create(name, space, **settings), x, steps=STEPS, batch=batch, precision=precision):
        times.append(time.process_time())
    return statistics.median(b - a for a, b in itertools.pairwise(times))


def side(case: str, kept: bool) -> float:
    command = [sys.executable, __file__, "--steps", case, *([] if kept else ["--default"])]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", choices=CASES, help="print the seconds of a step of this one alone")
    parser.add_argument("--default", action="store_true", help="with the allocator's default thresholds")
    chosen = parser.parse_args()
    if chosen.steps is not None:
        print(steps(chosen.steps, not chosen.default))
        return
    for case, (name, space, batch, precision, settings) in CASES.items():
        about = ", ".join([f"{name} on {' × '.join(map(str, space.shape))}", f"batch {batch}", precision])
        about += "".join(f", {key} {value}" for key, value in settings.items())
        label = f"{about}: a training step; peer: the same with the allocator's default thresholds"
        in_turn(
            label, functools.partial(side, case, True), functools.partial(side, case, False), rounds=ROUNDS, unit="ms"
        )


if __name__ == "__main__":
    main()
