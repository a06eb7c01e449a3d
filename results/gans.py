"""The distance of GANs' samples of MNIST and Fashion-MNIST to real examples, in results/gans.json.

python results/gans.py                              trains four GANs on both, about 70 minutes of a core
python results/gans.py --data mnist --games 2       the first two of them on MNIST alone
python results/gans.py --pictures PICTURES          keeps 64 samples of each as a picture

All have the networks of DCGAN, so that objectives and penalties are compared, and about six minutes of a core each: a
step of the generator has as many of the discriminator as the paper of the game has. Games that the file has are kept.
"""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path
from typing import Any

import torch
from modes import trained

import dgm
from dgm.evaluation.evaluate import evaluate
from dgm.report.pictures import grid
from dgm.runs import read_object, write_json

HERE = Path(__file__).parent
DATA, SAMPLES, EMA = ("mnist", "fashion_mnist"), 10_000, 0.995
NETWORKS: dict[str, Any] = {"network": "dcgan", "width": 16}
# title -> model, its settings and the steps of the generator
GAMES: dict[str, tuple[str, dict[str, Any], int]] = {
    "DCGAN": ("dcgan", {}, 6000),
    "WGAN-GP": ("wgan_gp", {}, 1200),
    "hinge, spectral normalisation": ("sngan", {}, 2100),
    "R3GAN's objective and penalties": ("r3gan", {}, 3300),
}
KEPT = ("frechet", "frechet_infinity", "kernel", "precision", "recall", "density", "coverage")


def measured(dataset: Any, name: str, settings: dict[str, Any], steps: int, picture: Path | None) -> dict[str, Any]:
    """The distances of one trained game, or why it stopped."""
    torch.manual_seed(0)
    model = dgm.create(name, dataset.space, **NETWORKS | settings)
    run = trained(model, dataset, steps=steps, batch=64, ema=EMA)
    if "stopped" in run:
        return run
    if picture is not None:
        grid(dgm.sample(model, 64, seed=0), dataset.space).save(picture)
    found = evaluate(model, dataset, samples=SAMPLES, spaces=["classifier"])
    distances = {row["name"]: row for row in found["metrics"] if row["name"] in KEPT}
    return {"steps": steps} | run | {"metrics": distances, "modes": found["modes"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=DATA, default=DATA)
    parser.add_argument("--games", type=int, default=len(GAMES), help="how many of the games, from the first on")
    parser.add_argument("--pictures", type=Path, help="folder of the pictures")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    path = HERE / "gans.json"
    games = read_object(path)["games"] if path.is_file() else {}
    for data in chosen.data:
        dataset = dgm.data.load(data)
        for title in list(GAMES)[: chosen.games]:
            if data in games.get(title, {}):
                continue
            name, settings, steps = GAMES[title]
            picture = chosen.pictures and chosen.pictures / f"{data}-{name}.png"
            games.setdefault(title, {})[data] = measured(dataset, name, settings, steps, picture)
            document = {
                "command": f"python results/{Path(sys.argv[0]).name}",
                "protocol": f"networks of DCGAN of width 16, batches of 64, seed 0, EMA {EMA}; {SAMPLES:,} samples "
                "and the 10,000 examples of the test split; features of a classifier that was trained on other "
                "examples of the training split",
                "machine": f"{platform.machine()}, one thread, torch {torch.__version__}",
                "games": games,
            }
            write_json(document, path)
            row = games[title][data].get("metrics", {}).get("frechet", games[title][data])
            print(data, title, row.get("value", row), games[title][data].get("seconds"), flush=True)


if __name__ == "__main__":
    main()
