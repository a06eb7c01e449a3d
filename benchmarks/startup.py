"""How long a command takes before it does anything, beside an interpreter that imports torch.

python benchmarks/startup.py
python benchmarks/startup.py --before CHECKOUT   user and system time beside another checkout, such as an older commit
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from timing import in_turn, seconds

ROUNDS = 7
ROUNDS_BESIDE = 21
TRAINING_ROUNDS = 3


def of(command: list[str], checkout: Path | None = None) -> float:
    path = {} if checkout is None else {"PYTHONPATH": str(checkout / "src")}
    return seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | path))


def processor_time(command: list[str], checkout: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    of(command, checkout)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def beside(before: Path) -> None:
    """Both checkouts in turn."""
    now = Path(__file__).parents[1]
    for name, words in {
        "dgm --help": ["-m", "dgm", "--help"],
        "dgm models": ["-m", "dgm", "models"],
        "import dgm": ["-c", "import dgm"],
    }.items():
        command = [sys.executable, *words]
        of(command, now), of(command, before)
        sides = (lambda command=command, at=at: processor_time(command, at) for at in (now, before))
        in_turn(f"{name}; peer: {before.name}", *sides, rounds=ROUNDS_BESIDE, unit="ms")


def until_training(folder: Path) -> list[str]:
    """A whole process that loads digits, trains one step and leaves."""
    return [sys.executable, "-m", "dgm", "train", "vae", "--data", "digits", "--steps", "1", "--out", str(folder)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="another checkout, to compare with it alone")
    before = parser.parse_args().before
    if before is None:
        beside_imports()
    else:
        beside(before.resolve())


def beside_imports() -> None:
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
