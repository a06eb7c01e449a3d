"""Modes that a GAN of each objective and penalty covers of a ring and a grid of Gaussians, in results/modes.json.

Games that the file has of the same protocol are kept, so that an interrupted run goes on.

python results/modes.py                 trains each game with three seeds, about 80 minutes of a core
python results/modes.py --games 2       the first two games alone
python results/modes.py --only drifting   those whose title has this word, in results/modes-drifting.json
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch

import dgm
from dgm.documents import read_object
from dgm.files import write_json

HERE = Path(__file__).parent
DATA, SEEDS, STEPS, SAMPLES = ("ring", "grid"), 3, 3000, 2500
PLAIN = {"spectral_norm": False, "conditioning": "concatenation"}
LOGISTIC = {"lr": 2e-3, "betas": (0.0, 0.99)}
SMALL = {"width": 32, "latent": 2}  # perceptrons of three layers of 128 ReLUs
# title -> model, its settings and the training's, besides those that all have
GAMES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "non-saturating": ("gan", PLAIN, LOGISTIC),
    "relativistic, R1 and R2": ("r3gan", {"r1": 0.1, "r2": 0.1}, LOGISTIC),
    "relativistic, R1": ("r3gan", {"r1": 0.1, "r2": 0.0}, LOGISTIC),
    "non-saturating, R1 and R2": ("gan", PLAIN | {"r1": 0.1, "r2": 0.1}, LOGISTIC),
    "non-saturating, R1": ("gan", PLAIN | {"r1": 0.1}, LOGISTIC),
    "relativistic": ("gan", PLAIN | {"objective": "relativistic"}, LOGISTIC),
    "relativistic, R1 and R2 every 16 steps": ("r3gan", {"r1": 0.1, "r2": 0.1, "penalty_every": 16}, LOGISTIC),
    "minimax": ("gan", PLAIN | {"objective": "minimax"}, LOGISTIC),
    "least squares": ("lsgan", {}, LOGISTIC),
    "hinge": ("gan", PLAIN | {"objective": "hinge"}, LOGISTIC),
    "hinge, spectral normalisation": ("sngan", {"critic_steps": 1}, LOGISTIC),
    "Wasserstein, gradient penalty": ("wgan_gp", {"gradient_penalty": 1.0}, {"lr": 2e-3}),
    "Wasserstein, clipping": ("wgan", {}, {}),
    "f-GAN, KL": ("f_gan", {"objective": "kl"}, LOGISTIC),
    "f-GAN, reverse KL": ("f_gan", {"objective": "reverse_kl"}, LOGISTIC),
    "f-GAN, Pearson": ("f_gan", {"objective": "pearson"}, LOGISTIC),
    "f-GAN, squared Hellinger": ("f_gan", {"objective": "squared_hellinger"}, LOGISTIC),
    "f-GAN, Jensen-Shannon": ("f_gan", {"objective": "jensen_shannon"}, LOGISTIC),
    "drifting, no game": ("drifting", {}, {"lr": 2e-3}),
}


def covered(name: str, settings: dict[str, Any], training: dict[str, Any], data: str, seed: int) -> dict[str, Any]:
    """What the samples of one trained game cover of the modes; or why it stopped."""
    dataset = dgm.data.load(f"toy/{data}")
    assert dataset.modes is not None
    torch.manual_seed(seed)
    model = dgm.create(name, dataset.space, **SMALL, **settings)
    how = {"steps": STEPS, "batch": 128, "seed": seed, "schedule": "cosine", "ema": 0.99}
    run = trained(model, dataset, **how, **training)
    if "stopped" in run:
        return run
    found = dataset.modes.describe(dgm.sample(model, SAMPLES, seed=seed))
    kept = {name: found[name] for name in ("found", "of", "kl", "outside", "n")}
    return kept | run


def trained(model: Any, dataset: Any, **how: Any) -> dict[str, Any]:
    """The last symptoms, the alarms and the processor's seconds of the training of a game; or why it stopped."""
    began = time.process_time()
    try:
        steps = list(dgm.fit(model, dataset, precision="32-true", **how))
    except dgm.errors.TrainingStopped as stopped:
        return {"stopped": str(stopped)}
    seconds = time.process_time() - began
    alarms = [step.note for step in steps if step.note.startswith("alarm")]
    return {"symptoms": dict(steps[-1].symptoms), "alarms": alarms, "seconds": round(seconds, 1)}


def kept(path: Path, protocol: str) -> dict[str, Any]:
    """The games that the file has of the protocol, so that an interrupted run goes on."""
    before = read_object(path) if path.is_file() else {}
    return before["games"] if before.get("protocol") == protocol else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", type=int, default=len(GAMES), help="how many of the games, from the first on")
    parser.add_argument("--only", default="", help="a word of the titles of the games, which get a file of their own")
    chosen = parser.parse_args()
    path = HERE / (f"modes-{chosen.only}.json" if chosen.only else "modes.json")
    torch.set_num_threads(1)
    document: dict[str, Any] = {
        "command": f"python results/{Path(sys.argv[0]).name}" + (f" --only {chosen.only}" if chosen.only else ""),
        "protocol": f"{STEPS:,} steps of 128 points, perceptrons of three layers of 128 ReLUs, z in the plane, cosine "
        f"schedule, EMA 0.99; {SAMPLES:,} samples; a mode is covered by a sample within three standard deviations of "
        "its centre",
        "seeds": list(range(SEEDS)),
        "machine": f"{platform.machine()}, one thread, torch {torch.__version__}",
    }
    document["games"] = kept(path, document["protocol"])
    for title in (title for title in list(GAMES)[: chosen.games] if chosen.only in title):
        if title in document["games"]:
            continue
        name, settings, training = GAMES[title]
        runs = {data: [covered(name, settings, training, data, seed) for seed in range(SEEDS)] for data in DATA}
        document["games"][title] = {"model": name, "settings": settings, "training": training} | runs
        print(title, {data: [run.get("found") for run in found] for data, found in runs.items()}, flush=True)
        write_json(document, path)


if __name__ == "__main__":
    main()
