"""How long a command takes before it does anything, beside an interpreter that imports torch."""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

from timing import in_turn, seconds

ROUNDS = 7
TRAINING_ROUNDS = 3


def of(command: list[str]) -> float:
    return seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))


def until_training(folder: Path) -> list[str]:
    """A whole process that loads digits, trains one step and leaves."""
    return [sys.executable, "-m", "dgm", "train", "vae", "--data", "digits", "--steps", "1", "--out", str(folder)]


def main() -> None:
    torch, fabric = ([sys.executable, "-c", f"import {module}"] for module in ("torch", "lightning_fabric"))
    of(torch), of(fabric)
    for verb in ("--help", "models"):
        command = [sys.executable, "-m", "dgm", verb]
        of(command)
        in_turn(
            f"dgm {verb}; peer: import torch", lambda command=command: of(command), lambda: of(torch), rounds=ROUNDS
        )
    name = "digits loaded, one step trained, run written; peer: import lightning_fabric"
    with tempfile.TemporaryDirectory() as folder:
        free = (Path(folder) / str(k) for k in itertools.count())
        of(until_training(next(free)))
        in_turn(name, lambda: of(until_training(next(free))), lambda: of(fabric), rounds=TRAINING_ROUNDS)


if __name__ == "__main__":
    main()
