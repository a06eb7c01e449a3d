"""Two numbers for each digit: principal components beside the codes of the 784-1000-500-250-2 autoencoder, on MNIST.

python results/codes.py                            trains the recipe mnist/autoencoder
python results/codes.py --run runs/autoencoder     takes a run that was trained by it

Keeps the accuracy of a k-nearest-neighbour classifier of the codes, fitted to the training split's and measured on the
test split's, in results/mnist-codes.json, and the picture of both in docs/codes.png.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy
import torch
from matplotlib import pyplot
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from dgm import files, runs
from dgm.cli import train
from dgm.data import Split

HERE = Path(__file__).parent
NEIGHBOURS = 15
SHOWN = 5000  # test digits in the picture
COMMAND = "dgm train --config mnist/autoencoder --out runs/mnist/autoencoder"


@torch.no_grad()
def encoded(model: Any, split: Split) -> numpy.ndarray:
    return torch.cat([model.encode(x) for x in split.x.split(1000)]).numpy()


def accuracy(z: dict[str, numpy.ndarray], y: dict[str, numpy.ndarray]) -> dict[str, Any]:
    """The share of test digits whose label most of their neighbours in the training split have."""
    classifier = KNeighborsClassifier(NEIGHBOURS).fit(z["train"], y["train"])
    right = float((classifier.predict(z["test"]) == y["test"]).mean())
    return {"accuracy": right, "standard_error": (right * (1 - right) / len(y["test"])) ** 0.5}


def picture(codes: dict[str, numpy.ndarray], y: numpy.ndarray, titles: dict[str, str], path: Path) -> None:
    figure, axes = pyplot.subplots(1, len(codes), figsize=(5.2 * len(codes), 5))
    for axis, (name, z) in zip(axes, codes.items(), strict=True):
        drawn = axis.scatter(z[:SHOWN, 0], z[:SHOWN, 1], c=y[:SHOWN], cmap="tab10", s=3, vmin=-0.5, vmax=9.5)
        axis.set_title(titles[name])
        axis.set_xticks([])
        axis.set_yticks([])
    figure.colorbar(drawn, ax=axes, ticks=range(10), fraction=0.02, label="digit")
    figure.savefig(path, dpi=90, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", help="a finished run of the recipe; trained anew without")
    chosen = parser.parse_args()
    path = chosen.run or "runs/mnist/autoencoder"
    if chosen.run is None and train.main(COMMAND.split()[2:]):
        sys.exit(2)
    run = runs.Run(Path(path))
    dataset, model = run.dataset(), runs.load(run.path)
    parts = {name: split for name, split in dataset.splits.items() if name != "validation"}
    y = {name: numpy.asarray(split.y) for name, split in parts.items()}
    flat = {name: split.x.flatten(1).double().numpy() / 255 for name, split in parts.items()}
    components = PCA(2, svd_solver="covariance_eigh").fit(flat["train"])
    codes = {
        "pca": {name: components.transform(x) for name, x in flat.items()},
        "autoencoder": {name: encoded(model, split) for name, split in parts.items()},
    }
    found = {name: accuracy(z, y) for name, z in codes.items()}
    x = flat["test"]
    back = {
        "pca": components.inverse_transform(codes["pca"]["test"]),
        "autoencoder": model.decode(torch.from_numpy(codes["autoencoder"]["test"])).flatten(1).double().numpy() / 255,
    }
    for name, reconstruction in back.items():
        found[name]["squared_error"] = float(((x - reconstruction) ** 2).sum(1).mean())
    last = run.metrics()[-1]
    document = {
        "command": COMMAND,
        "protocol": f"{NEIGHBOURS} neighbours of {len(y['train']):,} training digits, {len(y['test']):,} test digits; "
        "squared error of a test digit in units of [0, 1]",
        "codes": found,
        "training": {"steps": last["step"], "seconds": last["seconds"], "epochs": last["examples"] / len(y["train"])},
        "seed": run.config["training"]["seed"],
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
    }
    files.write_json(document, HERE / "mnist-codes.json")
    titles = {
        "pca": f"two principal components: {found['pca']['accuracy']:.1%}",
        "autoencoder": f"784-1000-500-250-2 autoencoder: {found['autoencoder']['accuracy']:.1%}",
    }
    picture({name: z["test"] for name, z in codes.items()}, y["test"], titles, HERE.parent / "docs" / "codes.png")
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
