"""Quality against network evaluations, for every solver of one trained model: results/solvers-DATASET.json.

python results/solvers.py runs/ddpm                 Fréchet distance of each solver at 5 to 100 evaluations
python results/solvers.py runs/ddpm --samples 300

The table of DDIM (arXiv:2010.02502, table 1) is in it: its eta from 0 to 1, and DDPM's larger variance, at each number
of steps.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import torch

from dgm import files, runs
from dgm.evaluation.distances import DRAWS
from dgm.evaluation.features import default_features, features
from dgm.evaluation.frechet import frechet_distance
from dgm.evaluation.held_out import HeldOut, drawn_rows
from dgm.protocols import Model
from dgm.samplers import diffusion
from dgm.samplers.diffusion import SamplerConfig
from dgm.samplers.solvers import SOLVERS
from dgm.seeds import Streams

HERE = Path(__file__).parent
EVALUATIONS = (5, 10, 20, 50, 100)
CHUNK = 250  # samples drawn at a time
# label -> solver, its options, and the times that its paper takes
ROWS: dict[str, tuple[str, dict[str, Any], str]] = {
    "ddim, eta 0": ("ddim", {"eta": 0.0}, "uniform"),
    "ddim, eta 0.2": ("ddim", {"eta": 0.2}, "uniform"),
    "ddim, eta 0.5": ("ddim", {"eta": 0.5}, "uniform"),
    "ddim, eta 1": ("ddim", {"eta": 1.0}, "uniform"),
    "ancestral, forward variance": ("ancestral", {"variance": "forward"}, "uniform"),
    "euler": ("euler", {}, "uniform"),
    "heun, karras": ("heun", {}, "karras"),
    "dpmpp_2m": ("dpmpp_2m", {}, "log_snr"),
    "dpmpp_2m_sde": ("dpmpp_2m_sde", {}, "log_snr"),
    "unipc": ("unipc", {}, "log_snr"),
    "euler_maruyama": ("euler_maruyama", {}, "uniform"),
    "predictor_corrector": ("predictor_corrector", {}, "uniform"),
    "annealed_langevin": ("annealed_langevin", {"langevin_steps": 5}, "log_snr"),
}


def drawn(model: Model, n: int, sampler: SamplerConfig) -> torch.Tensor:
    chunks = (range(first, min(first + CHUNK, n)) for first in range(0, n, CHUNK))
    return torch.cat([diffusion.sample(model, len(keys), seed=Streams(0, keys), sampler=sampler) for keys in chunks])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--features", help="pixels, pca or classifier; by default the best that the data allows")
    parser.add_argument("--evaluations", type=int, nargs="*", default=EVALUATIONS)
    chosen = parser.parse_args()
    run, model = runs.Run(chosen.run), runs.load(chosen.run)
    dataset, model_name = run.dataset(), run.config["model"]["name"]
    name = chosen.features or default_features(dataset)[0]
    space = features(name, dataset)
    pool = HeldOut(dataset)
    beside = min(chosen.samples, len(dataset.test))
    real = space.of(dataset.test.x[drawn_rows(dataset.test.y, len(dataset.test), beside, 0)])
    levels = [float(frechet_distance(real, space.of(pool.draw(chosen.samples, draw)))) for draw in range(DRAWS)]
    found: list[dict[str, Any]] = []
    for label, (solver, options, spacing) in ROWS.items():
        each = SOLVERS[solver].evaluations
        for evaluations in chosen.evaluations:
            steps = evaluations // each
            if steps < 2:
                continue
            sampler = SamplerConfig(
                solver=solver, sampling_steps=steps, spacing=spacing, clamp=model.sampler.clamp, options=options
            )
            started = time.perf_counter()
            x = drawn(model, chosen.samples, sampler)
            seconds = time.perf_counter() - started
            distance = float(frechet_distance(real, space.of(x)))
            found.append({"label": label, "evaluations": steps * each, "frechet": distance, "seconds": seconds})
            print(json.dumps(found[-1]), flush=True)
    document = {
        "solvers": found,
        "model": model_name,
        "data": dataset.name,
        "command": f"python results/solvers.py runs/{model_name} --samples {chosen.samples} --features {name}",
        "training": run.config["training"],
        "features": name,
        "samples": chosen.samples,
        "reference": sum(levels) / DRAWS,
        "of": f"{DRAWS} draws of {chosen.samples} out of {pool.description()}",
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
    }
    files.write_json(document, HERE / f"solvers-{dataset.name}.json")


if __name__ == "__main__":
    main()
