"""Modes that GANs with and without R2 cover of stacked digits or stacked MNIST, in results/stacked-CASE.json.

python results/stacked.py digits --seeds 2
python results/stacked.py perceptrons             of stacked digits, at a learning rate at which most games collapse
python results/stacked.py descent                 by plain gradient descent, the setting of the theory of these games
python results/stacked.py mnist --steps 20000     for a larger machine

Runs that the file has of the same protocol are kept.
"""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
from modes import kept, trained

import dgm
from dgm.evaluation.modes import modes
from dgm.files import write_json

HERE = Path(__file__).parent
SAMPLES = 26_000
BY = {"adamw": "", "sgd": " by gradient descent without momentum"}
# R3GAN, table 1; published on stacked MNIST: 1,000 modes and a KL of 0.078, 693 and 0.927, and divergence
GAMES: dict[str, dict[str, Any]] = {
    "relativistic, R1 and R2": {"objective": "relativistic"},
    "non-saturating, R1 and R2": {"objective": "non_saturating"},
    "relativistic, R1": {"objective": "relativistic", "r2": 0.0},
    "non-saturating, R1": {"objective": "non_saturating", "r2": 0.0},
}


class Case(NamedTuple):
    data: str
    networks: str
    settings: dict[str, Any]
    lr: float
    gamma: float
    optimiser: str = "adamw"


PERCEPTRONS, DENSE = "perceptrons of three layers of 128 ReLUs", {"network": "dense", "width": 32}
CASES = {
    "digits": Case("digits", "GAN's networks of width 12", {"network": "upsampling", "width": 12}, 1e-3, 0.02),
    "perceptrons": Case("digits", PERCEPTRONS, DENSE, 7e-3, 0.1),
    "descent": Case("digits", PERCEPTRONS, DENSE, 0.3, 1.0, "sgd"),
    "mnist": Case("mnist", "R3GAN's networks of width 16", {}, 1e-3, 0.02),
}


def covered(dataset: Any, case: Case, game: dict[str, Any], steps: int, seed: int) -> dict[str, Any]:
    torch.manual_seed(seed)
    model = dgm.create("r3gan", dataset.space, **{"r1": case.gamma, "r2": case.gamma, **case.settings, **game})
    # the first of the betas is the momentum of gradient descent too
    how = {"lr": case.lr, "optimiser": case.optimiser, "betas": (0.0, 0.99), "ema": 0.99}
    run = trained(model, dataset, steps=steps, seed=seed, **how)
    if "stopped" in run:
        return run
    found = modes(dataset, dgm.sample(model, SAMPLES, seed=seed))
    assert found is not None
    kept = {name: found[name] for name in ("found", "of", "kl", "n", "rule")}
    return kept | run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2000)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    case = CASES[chosen.case]
    dataset = dgm.data.load(f"stacked_{case.data}")
    document: dict[str, Any] = {
        "command": f"python results/{Path(sys.argv[0]).name} {' '.join(sys.argv[1:])}",
        "protocol": f"{chosen.steps} steps of 64 examples{BY[case.optimiser]}, learning rate {case.lr}, EMA 0.99, "
        f"gamma {case.gamma}, {case.networks}; "
        f"{SAMPLES:,} samples; a mode is covered by one sample of it, by the classifier; KL(samples || uniform)",
        "machine": f"{platform.machine()}, one thread, torch {torch.__version__}",
        "games": {title: [] for title in GAMES},
    }
    path = HERE / f"stacked-{chosen.case}.json"
    document["games"] |= kept(path, document["protocol"])
    for seed in range(chosen.seeds):
        for title, settings in GAMES.items():
            if len(document["games"][title]) > seed:
                continue
            run = covered(dataset, case, settings, chosen.steps, seed)
            document["games"][title].append(run)
            print(title, seed, run.get("found"), run.get("kl"), run.get("seconds"), flush=True)
            write_json(document, path)


if __name__ == "__main__":
    main()
