"""Trains a model on the binary density sets at one setting and keeps what it measured, in results/debd-MODEL.json.

python results/debd.py made          all ten, minutes each
python results/debd.py nade dna      one of them

The settings were chosen by the validation splits of dna and mushrooms; each run keeps the weights that are best there.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import torch

import dgm
from dgm.data.table import DEBD
from dgm.evaluation.likelihoods import likelihoods
from dgm.files import write_json

HERE = Path(__file__).parent
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "made": (
        {"hidden": 500, "direct": True, "dropout": 0.5},
        {"steps": 6000, "lr": 1e-2, "weight_decay": 0.1},
    ),
    "orderless_made": (
        {"hidden": 500, "direct": True, "dropout": 0.5, "orders": 16},
        {"steps": 6000, "lr": 1e-2, "weight_decay": 0.1},
    ),
    "nade": ({"hidden": 300}, {"steps": 3000, "lr": 5e-3}),
}
# the paper's table of UCI sets; mushrooms' splits have the sizes of the paper's, of dna the test
# split alone has: 1,600 rows train and 400 validate here, 1,400 and 600 there
SOURCE = "MADE, arXiv:1502.03509, table 4"
PUBLISHED: dict[str, dict[str, float]] = {
    "made": {"dna": 83.63, "mushrooms": 9.68},
    "orderless_made": {"dna": 79.66, "mushrooms": 9.69},
    "nade": {"dna": 84.81, "mushrooms": 9.81},
}


def measured(name: str, of: str) -> dict[str, Any]:
    config, training = SETTINGS[name]
    dataset = dgm.data.load(f"debd/{of}")
    torch.manual_seed(0)
    model = dgm.create(name, dataset.space, **config)
    started = time.perf_counter()
    validated = [(s.validation, s.step) for s in dgm.fit(model, dataset, **training) if s.validation is not None]
    seconds = time.perf_counter() - started
    model.eval()
    with torch.no_grad():
        found = {
            split: likelihoods(model, dataset.splits[split].x, None, split, 1)[0] for split in ("validation", "test")
        }
    return {
        "variables": dataset.space.dim,
        "rows": {split: len(part) for split, part in dataset.splits.items()},
        "published": PUBLISHED[name].get(of),
        "likelihood": found,
        "best_step": min(validated)[1],
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=SETTINGS)
    parser.add_argument("sets", nargs="*", help="which of them; all ten without")
    chosen = parser.parse_args()
    path = HERE / f"debd-{chosen.model}.json"
    config, training = SETTINGS[chosen.model]
    document = {
        "sets": json.loads(path.read_text(encoding="utf-8"))["sets"] if path.exists() else {},
        "model": chosen.model,
        "command": f"python results/debd.py {chosen.model}",
        "source": SOURCE,
        "settings": {"model": config, "training": training},
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
    }
    for of in chosen.sets or DEBD:
        document["sets"][of] = found = measured(chosen.model, of)
        write_json(document, path)
        print(of, {split: round(row["nats"], 3) for split, row in found["likelihood"].items()}, flush=True)


if __name__ == "__main__":
    main()
