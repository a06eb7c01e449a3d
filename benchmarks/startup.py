"""How long a command takes before it does anything, beside an interpreter that imports torch."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 7
TRAINING_ROUNDS = 3


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def until_training(folder: Path) -> list[str]:
    """A whole process that loads digits, trains one step and leaves."""
    return [sys.executable, "-m", "dgm", "train", "vae", "--data", "digits", "--steps", "1", "--out", str(folder)]


def report(name: str, ours: list[float], peer: list[float]) -> None:
    a, b = statistics.median(ours), statistics.median(peer)
    print(json.dumps({"name": name, "ours": a, "peer": b, "ratio": a / b, "unit": "s"}))


def main() -> None:
    torch = [sys.executable, "-c", "import torch"]
    for verb in ("--help", "models"):
        command = [sys.executable, "-m", "dgm", verb]
        pairs = [(seconds(command), seconds(torch)) for _ in range(ROUNDS + 1)][1:]
        report(f"dgm {verb}; peer: import torch", *map(list, zip(*pairs, strict=True)))
    with tempfile.TemporaryDirectory() as folder:
        pairs = [
            (seconds(until_training(Path(folder) / str(k))), seconds([sys.executable, "-c", "import lightning_fabric"]))
            for k in range(TRAINING_ROUNDS + 1)
        ][1:]
    name = "digits loaded, one step trained, run written; peer: import lightning_fabric"
    report(name, *map(list, zip(*pairs, strict=True)))


if __name__ == "__main__":
    main()
