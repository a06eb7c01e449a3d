"""How well scores tell other data from a model's own, by AUROC: pictures against pictures, and data against itself with
every dimension shuffled, in results/anomaly.json.

python results/anomaly.py                  trains every model, about 25 minutes of a core
python results/anomaly.py --data digits    one data set alone
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import dgm
from dgm.evaluation.anomaly import PERMUTED, anomaly, permuted

HERE = Path(__file__).parent
SEED = 0
# data -> the other data; "omniglot" is a file of handwritten letters, letters.npz in the working directory
OTHERS: dict[str, tuple[str, ...]] = {
    "digits": (PERMUTED,),
    "mnist": ("fashion_mnist", "omniglot", PERMUTED),
    "fashion_mnist": ("mnist", "omniglot", PERMUTED),
    "uci/concrete": (PERMUTED,),
}
# model -> its settings, its steps, and whether it is conditional on the label
IMAGES: dict[str, tuple[dict[str, Any], int, bool]] = {
    "realnvp": ({}, 1500, False),
    "pixelcnn": ({"layers": 5}, 800, False),
    "vae": ({}, 3000, False),
    "autoencoder": ({}, 3000, False),
    "ebm": ({"width": 16}, 800, False),
    "jem": ({"width": 16}, 800, True),
}
TABLES: dict[str, tuple[dict[str, Any], int, bool]] = {
    "gmm": ({}, 50, False),
    "maf": ({}, 3000, False),
    "vae": ({}, 3000, False),
    "ebm": ({"trainer": "denoising"}, 3000, False),
}


def other_data(name: str, dataset: Any) -> Tensor:
    if name == PERMUTED:
        return permuted(dataset.test.x, SEED)
    if name == "omniglot":
        import numpy

        return torch.from_numpy(numpy.load("letters.npz", allow_pickle=False)["x"])[:, None]
    return dgm.data.load(name).test.x


def trained(name: str, dataset: Any, settings: dict[str, Any], steps: int, conditional: bool) -> Any:
    torch.manual_seed(SEED)
    model = dgm.create(name, dataset.space, dataset.condition if conditional else None, **settings)
    for _ in dgm.fit(model, dataset, steps=steps, seed=SEED, precision="32-true"):
        pass
    return model


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
        dataset = dgm.data.load(name)
        of_data = document["data"].setdefault(name, {})
        for model_name, (settings, steps, conditional) in (TABLES if name.startswith("uci") else IMAGES).items():
            model = trained(model_name, dataset, settings, steps, conditional)
            found = {o: anomaly(model, dataset, other_data(o, dataset), o, seed=SEED) for o in OTHERS[name]}
            of_data[model_name] = {"settings": settings, "steps": steps, "others": found}
            print(
                name,
                model_name,
                {o: {k: round(v["auroc"], 3) for k, v in d["scores"].items()} for o, d in found.items()},
            )
            path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
