"""The distance of GANs' samples of MNIST, Fashion-MNIST and CIFAR-10 to real examples, in results/gans.json.

python results/gans.py                              trains four GANs on each, about two hours of a core
python results/gans.py --data mnist --games 2       the first two of them on MNIST alone
python results/gans.py --pictures PICTURES          keeps 64 samples of each as a picture

All have the networks of DCGAN, but that only its own discriminator normalises batches, which penalties of single
examples and spectral normalisation exclude. All have the same time of a core: the number of steps follows from the cost
of one. The steps of the critic, the learning rate and the decay rates are those of the paper of the game, but for what
`GAMES` says. Games that the file has of the same protocol are kept.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from modes import kept, trained

import dgm
from dgm.evaluation.evaluate import evaluate
from dgm.files import write_json
from dgm.registry import model_class
from dgm.report.pictures import grid

HERE = Path(__file__).parent
DATA, SAMPLES, EMA, BATCH, MINUTES = ("mnist", "fashion_mnist", "cifar10"), 10_000, 0.995, 32, 6
NETWORKS: dict[str, Any] = {"network": "dcgan", "width": 16}


class Game(NamedTuple):
    """A model, the steps of the generator, and settings of the training in place of the model's defaults."""

    model: str
    steps: int
    training: Mapping[str, Any]


GAMES = {
    "DCGAN": Game("dcgan", 14_000, {}),
    # the paper has 1e-4 and twenty times the steps
    "WGAN-GP": Game("wgan_gp", 2200, {"lr": 5e-4}),
    "hinge, spectral normalisation": Game("sngan", 3800, {}),
    "R3GAN's objective and penalties": Game("r3gan", 7000, {}),
}
KEPT = ("frechet", "frechet_infinity", "kernel", "precision", "recall", "density", "coverage")


def measured(dataset: Any, game: Game, picture: Path | None) -> dict[str, Any]:
    """The distances of one trained game, or why it stopped."""
    torch.manual_seed(0)
    model = dgm.create(game.model, dataset.space, **NETWORKS)
    run = trained(model, dataset, steps=game.steps, batch=BATCH, ema=EMA, **game.training)
    if "stopped" in run:
        return run
    if picture is not None:
        grid(dgm.sample(model, 64, seed=0), dataset.space).save(picture)
    found = evaluate(model, dataset, samples=SAMPLES, spaces=["classifier"])
    distances = {row["name"]: row for row in found["metrics"] if row["name"] in KEPT}
    return run | {"metrics": distances, "modes": found["modes"]}


def rules(game: Game) -> dict[str, Any]:
    """The steps and all settings of a game, by which one that the file has is compared."""
    training = model_class(game.model).defaults | {"batch": BATCH, "ema": EMA} | game.training
    return json.loads(json.dumps({"steps": game.steps, "settings": NETWORKS, "training": training}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=DATA, default=DATA)
    parser.add_argument("--games", type=int, default=len(GAMES), help="how many of the games, from the first on")
    parser.add_argument("--pictures", type=Path, help="folder of the pictures")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    path = HERE / "gans.json"
    document: dict[str, Any] = {
        "command": f"python results/{Path(sys.argv[0]).name}",
        "protocol": f"networks of DCGAN of width {NETWORKS['width']}, whose discriminator "
        f"normalises batches for DCGAN alone, batches of {BATCH}, seed 0, EMA {EMA}, as many "
        f"steps of the generator as take about {MINUTES} minutes of a core; {SAMPLES:,} samples and the 10,000 "
        "examples of the test split; features of a classifier that was trained on other examples of the training split",
        "machine": f"{platform.machine()}, one thread, torch {torch.__version__}",
    }
    games = document["games"] = kept(path, document["protocol"])
    for data in chosen.data:
        dataset = dgm.data.load(data)
        for title, game in list(GAMES.items())[: chosen.games]:
            found = games.setdefault(title, {})
            if rules(game).items() <= found.get(data, {}).items():
                continue
            picture = chosen.pictures and chosen.pictures / f"{data}-{game.model}.png"
            found[data] = rules(game) | measured(dataset, game, picture)
            write_json(document, path)
            row = found[data].get("metrics", {}).get("frechet", found[data])
            print(data, title, row.get("value", row), found[data].get("seconds"), flush=True)


if __name__ == "__main__":
    main()
