"""How well scores tell other data from a model's own, by AUROC: pictures against pictures, the rows of a table against
those of another kind, and data against itself with every dimension shuffled, in results/anomaly.json.

python results/anomaly.py                  trains every model, about 40 minutes of a core
python results/anomaly.py --data digits    one data set alone

Letters are those of Omniglot, 28×28 and light on dark: a file letters.npz in the working directory, with them as x.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

import numpy
import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor

import dgm
from dgm.data import Dataset, Split, order
from dgm.evaluation.anomaly import PERMUTED, anomaly, permuted
from dgm.evaluation.classification import label_log_probs
from dgm.protocols import Classifying, has
from dgm.space import Space

HERE = Path(__file__).parent
SEED = 0
# data -> the other data
OTHERS: dict[str, tuple[str, ...]] = {
    "digits": (PERMUTED,),
    "mnist": ("fashion_mnist", "omniglot", PERMUTED),
    "fashion_mnist": ("mnist", "omniglot", PERMUTED),
    "breast_cancer": ("malignant", PERMUTED),
    "uci/concrete": (PERMUTED,),
}
# model -> its settings, its steps, and whether it is conditional on the label
Models = dict[str, tuple[dict[str, Any], int, bool]]
SMALL: Models = {
    "realnvp": ({}, 1500, False),
    "pixelcnn": ({"layers": 5}, 800, False),
    "vae": ({}, 3000, False),
    "autoencoder": ({}, 3000, False),
    "ebm": ({"width": 16}, 800, False),
    "jem": ({"width": 16}, 800, True),
}
LARGE: Models = {
    "pixelcnn": ({"layers": 3, "width": 8, "components": 5}, 150, False),
    "vae": ({}, 1000, False),
    "autoencoder": ({}, 2000, False),
    "ebm": ({"width": 16}, 300, False),
    "jem": ({"width": 16}, 500, True),
}
TABLES: Models = {
    "gmm": ({}, 50, False),
    "maf": ({}, 3000, False),
    "vae": ({}, 3000, False),
    "ebm": ({"trainer": "denoising"}, 3000, False),
}
MODELS = {"digits": SMALL, "mnist": LARGE, "fashion_mnist": LARGE, "breast_cancer": TABLES, "uci/concrete": TABLES}


def loaded(name: str) -> Dataset:
    return benign() if name == "breast_cancer" else dgm.data.load(name)


def tumours(kind: int) -> Tensor:
    """The 30 measurements of scikit-learn's tumours: 357 benign ones, of kind 1, and 212 malignant ones, of kind 0."""
    table = load_breast_cancer()
    return torch.from_numpy(table.data[table.target == kind]).float()


def benign() -> Dataset:
    """Benign tumours alone, in a random order: 207 for training, 50 for validation, 100 for the test."""
    x = tumours(1)
    train, validation, test = x[order(len(x), SEED, 0)].split([207, 50, 100])
    space = Space.continuous((30,), loc=tuple(train.mean(0).tolist()), scale=tuple(train.std(0).tolist()))
    return Dataset(
        name="breast_cancer",
        space=space,
        train=Split(train),
        validation=Split(validation),
        test=Split(test),
        split=f"random, seed {SEED}",
    )


def other_data(name: str, dataset: Dataset) -> Tensor:
    if name == PERMUTED:
        return permuted(dataset.test.x, SEED)
    if name == "malignant":
        return tumours(0)
    if name == "omniglot":
        return torch.from_numpy(numpy.load("letters.npz", allow_pickle=False)["x"])[:, None]
    return dgm.data.load(name).test.x


def trained(name: str, dataset: Any, settings: dict[str, Any], steps: int, conditional: bool) -> Any:
    torch.manual_seed(SEED)
    model = dgm.create(name, dataset.space, dataset.condition if conditional else None, **settings)
    for _ in dgm.fit(model, dataset, steps=steps, seed=SEED, precision="32-true"):
        pass
    return model


def accuracy(model: Any, dataset: Dataset) -> float:
    """The share of the test split whose likeliest label is the right one."""
    guess, y = label_log_probs(model, dataset.test.x).argmax(1), dataset.test.y
    assert y is not None
    return float((guess == y).double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=OTHERS, default=list(OTHERS))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    path = HERE / "anomaly.json"
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"data": {}}
    document |= {
        "command": f"python results/{Path(sys.argv[0]).name}",
        "protocol": "up to 1,000 examples of the test split beside up to 1,000 of other data; AUROC by ranks, its 95 % "
        "interval by DeLong's standard error; one seed",
        "seed": SEED,
        "machine": f"{platform.machine()}, one thread, torch {torch.__version__}",
    }
    for name in chosen.data:
        dataset = loaded(name)
        of_data = document["data"].setdefault(name, {})
        for model_name, (settings, steps, conditional) in MODELS[name].items():
            model = trained(model_name, dataset, settings, steps, conditional)
            found = {o: anomaly(model, dataset, other_data(o, dataset), o, seed=SEED) for o in OTHERS[name]}
            of_data[model_name] = {"settings": settings, "steps": steps, "others": found}
            if has(model, Classifying):
                of_data[model_name]["accuracy"] = accuracy(model, dataset)
            print(
                name,
                model_name,
                {o: {k: round(v["auroc"], 3) for k, v in d["scores"].items()} for o, d in found.items()},
            )
            path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
