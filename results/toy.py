"""The ODE's density of models in the plane beside the true one, how straight their paths are and what few steps cost.

Kept in results/toy-DATA.json.

python results/toy.py moons                    trains each model
python results/toy.py moons --runs runs/toy    takes runs/toy/moons-MODEL where it is there
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dgm import files, runs
from dgm.cli import train
from dgm.models.flow_matching.mean_flow import MeanFlow
from dgm.models.flow_matching.ot_cfm import pairs
from dgm.models.flow_matching.rectified_flow import straightness
from dgm.processes.gaussian import Straight
from dgm.samplers import diffusion
from dgm.samplers.diffusion import SamplerConfig

HERE = Path(__file__).parent
MODELS = ("score_sde", "flow_matching", "ot_cfm", "rectified_flow", "mean_flow")
SETTINGS = {"rectified_flow": " --model.reflow_after 3000"}
STEPS = 6000
FEW = (1, 2, 4, 50)
SIDE, CELLS = 4.0, 160  # of the square that the density is integrated over


def wasserstein(x: Tensor, y: Tensor) -> float:
    """The root of the least mean squared distance of pairs of x and y, as many of each."""
    return (x - y[pairs(x, y)]).double().square().sum(1).mean().sqrt().item()


def sampled(model: Any, n: int, steps: int) -> Tensor:
    if isinstance(model, MeanFlow):
        model.config = replace(model.config, sampling_steps=steps)
        return model.sample(n, seed=0)
    return diffusion.sample(model, n, seed=0, sampler=SamplerConfig(solver="euler", sampling_steps=steps))


@torch.no_grad()
def measured(run: runs.Run) -> dict[str, Any]:
    """In nats of the test split: the model's mean log p, the truth's, and how far apart they are on average."""
    dataset, model = run.dataset(), runs.load(run.path)
    assert dataset.log_prob is not None
    x = dataset.test.x
    log_p, truth = model.log_prob_estimate(x).double(), dataset.log_prob(x)
    side = (torch.arange(CELLS) + 0.5) / CELLS * 2 * SIDE - SIDE
    cells = torch.cartesian_prod(side, side)
    density = torch.cat([model.log_prob_estimate(part) for part in cells.split(6400)]).double().exp()
    return {
        "log_p": log_p.mean().item(),
        "true_log_p": truth.mean().item(),
        "mean_absolute_difference": (log_p - truth).abs().mean().item(),
        "mean_absolute_difference_se": ((log_p - truth).abs().std() / len(x) ** 0.5).item(),
        "integral": density.sum().item() * (2 * SIDE / CELLS) ** 2,
        "n": len(x),
        "method": model.likelihood_method,
        # the velocity of a score model is not known where its path begins
        "straightness": straightness(model) if isinstance(model.path, Straight) else None,
        "wasserstein": {str(steps): wasserstein(sampled(model, len(x), steps), x) for steps in FEW},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=("moons", "checkerboard"))
    parser.add_argument("--runs", default="runs/toy", help="where the runs are or will be")
    chosen = parser.parse_args()
    document: dict[str, Any] = {}
    for name in MODELS:
        out = Path(chosen.runs) / f"{chosen.data}-{name}"
        options = f"--steps {STEPS}{SETTINGS.get(name, '')}"
        command = f"dgm train {name} --data toy/{chosen.data} {options} --out runs/toy/{out.name}"
        if not out.exists() and train.main([*command.split()[2:-1], str(out)]):
            sys.exit(2)
        document[name] = {"command": command, **measured(runs.Run(out))}
        print(name, json.dumps(document[name]), flush=True)
    dataset = runs.Run(out).dataset()
    document["of_training_data"] = wasserstein(dataset.train.x[: len(dataset.test.x)], dataset.test.x)
    document["machine"] = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    files.write_json(document, HERE / f"toy-{chosen.data}.json")


if __name__ == "__main__":
    main()
