"""One energy in the plane, trained in each way: the divergence of exp(-E) / Z from the true density, on a grid.

Kept in results/energies.json.

python results/energies.py                    three seeds of each trainer, about 20 minutes of a core
python results/energies.py --trainers nce     one trainer alone
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import dgm

HERE = Path(__file__).parent
DATA, SEEDS, STEPS = "toy/moons", 3, 3000
SIDE, CELLS = 3.0, 300  # of the square that densities are normalised on
COMMON = {"width": 32}
CHAINS = {"step_size": 0.01, "noise": 0.1}  # T = 1
TRAINERS: dict[str, dict[str, Any]] = {
    "pcd": {**CHAINS, "regularisation": 0.01},
    "cd": {**CHAINS, "regularisation": 0.01},
    "nce": {},
    "explicit": {"data_noise": 0.05},
    "implicit": {"data_noise": 0.05},
    "sliced": {"data_noise": 0.05},
    "denoising": {"data_noise": 0.05},
    "energy_matching": {},  # a model of its own
}


def grid() -> tuple[Tensor, float]:
    """The middles of the cells and the area of one."""
    middle = (torch.arange(CELLS) + 0.5) / CELLS * 2 * SIDE - SIDE
    return torch.cartesian_prod(middle, middle), (2 * SIDE / CELLS) ** 2


@torch.no_grad()
def measured(model: Any, dataset: Any) -> dict[str, float]:
    """In nats: KL(p || q) and KL(q || p) of the truth p and the model's q, both normalised on the grid, and log Z."""
    cells, area = grid()
    log_q = torch.cat([-model.energy(part) for part in cells.split(10_000)]).double()
    log_z = float(log_q.logsumexp(0)) + math.log(area)
    log_q, log_p = log_q - log_z, dataset.log_prob(cells).double()
    log_p = log_p - (log_p.logsumexp(0) + math.log(area))
    p, q = log_p.exp() * area, log_q.exp() * area
    return {
        "kl_true_to_model": float((p * (log_p - log_q)).sum()),
        "kl_model_to_true": float((q * (log_q - log_p)).sum()),
        "total_variation": float((p - q).abs().sum() / 2),
        "log_z": log_z,
    }


def trained(trainer: str, seed: int) -> dict[str, Any]:
    dataset = dgm.data.load(DATA)
    torch.manual_seed(seed)
    name, settings = (trainer, {}) if trainer in dgm.MODELS else ("ebm", {"trainer": trainer})
    model = dgm.create(name, dataset.space, **settings, **COMMON, **TRAINERS[trainer])
    how = {"steps": STEPS, "batch": 256, "lr": 1e-3, "betas": (0.9, 0.999), "clip": 1.0, "ema": 0.995, "seed": seed}
    began = time.process_time()
    try:
        for _ in dgm.fit(model, dataset, precision="32-true", schedule="cosine", **how):
            pass
    except dgm.errors.TrainingStopped as stopped:
        return {"stopped": str(stopped)}
    return measured(model, dataset) | {"seconds": round(time.process_time() - began, 1)}


def kept() -> dict[str, Any]:
    """The results of other trainers so far."""
    path = HERE / "energies.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))["trainers"]) if path.is_file() else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainers", nargs="+", choices=TRAINERS, default=list(TRAINERS))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    document: dict[str, Any] = {
        "command": f"python results/{Path(sys.argv[0]).name}",
        "protocol": f"{STEPS:,} steps of 256 points of {DATA}, three layers of 128, learning rate 1e-3, "
        f"cosine schedule, EMA 0.995; densities normalised on {CELLS} × {CELLS} cells of [-{SIDE:g}, {SIDE:g}]²",
        "seeds": list(range(chosen.seeds)),
        "machine": f"{platform.machine()}, one thread, torch {torch.__version__}",
        "trainers": kept(),
    }
    for trainer in chosen.trainers:
        found = [trained(trainer, seed) for seed in range(chosen.seeds)]
        document["trainers"][trainer] = {"settings": TRAINERS[trainer], "runs": found}
        print(trainer, json.dumps(found), flush=True)
        (HERE / "energies.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
