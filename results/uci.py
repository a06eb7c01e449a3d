"""Fits a density to the UCI tables and keeps what it measured, in results/uci-MODEL.json.

python results/uci.py gmm             all sixteen
python results/uci.py kde yacht       one of them
python results/uci.py gaussian        a normal with a full covariance, the mixture of one component
python results/uci.py nsf yacht --seeds 5

The settings of each table, components or kernel and bandwidth, are those with the best likelihood of its validation
split. A flow has one setting for all tables, and the weights with the best likelihood of the validation split among its
steps. Nats, exact, of the same splits for all.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch

import dgm
from dgm.data import Dataset
from dgm.data.table import UCI
from dgm.evaluation.likelihoods import likelihoods
from dgm.files import write_json
from dgm.protocols import Model

HERE = Path(__file__).parent
PASSES = 60
# of flows; training stops sooner, after 30 epochs and a fifth of the steps without a better validation likelihood
STEPS = {"realnvp": 3000, "maf": 3000, "nsf": 2000, "ffjord": 1000}
RATES = {"ffjord": 8e-3}  # where the model's own learning rate is too small for so few steps
COMPONENTS = (1, 2, 5, 10, 20, 40)
BANDWIDTHS = torch.logspace(-2, 0.5, 14, dtype=torch.float64)  # of Scott's
CANDIDATES: dict[str, list[dict[str, Any]]] = {
    "gaussian": [{"components": 1, "shrinkage": 0.0, "ridge": 1e-6}],
    "gmm": [
        {"components": k, "covariance": form, "ridge": 1e-3}
        for k in COMPONENTS
        for form in ("full", "diagonal")
        if k > 1 or form == "full"
    ],
    "kde": [{"bandwidth": float(factor)} for factor in BANDWIDTHS],
    "realnvp": [{"dropout": 0.1}],
    "maf": [{}],
    "nsf": [{}],
    "ffjord": [{}],
}


def candidates(name: str, dataset: Dataset) -> list[dict[str, Any]]:
    """The settings to choose from; bandwidths are relative to Scott's of this table."""
    if name != "kde":
        return CANDIDATES[name]
    scott = len(dataset.train) ** (-1 / (dataset.space.dim + 4))
    return [{"bandwidth": scott * chosen["bandwidth"]} for chosen in CANDIDATES[name]]


def fitted(name: str, dataset: Dataset, config: dict[str, Any], seed: int = 0) -> Model:
    torch.manual_seed(seed)
    model = dgm.create("gmm" if name == "gaussian" else name, dataset.space, **config)
    rate: dict[str, Any] = {"lr": RATES[name]} if name in RATES else {}
    for _ in dgm.fit(model, dataset, steps=STEPS.get(name, PASSES), seed=seed, **rate):
        pass
    return model


def validated(model: Model, dataset: Dataset) -> float:
    return float(dgm.log_likelihood(model, dataset.validation.x).nats.double().mean())


def measured(name: str, of: str, seeds: int) -> dict[str, Any]:
    dataset = dgm.data.load(f"uci/{of}")
    started = time.perf_counter()
    config, *others = candidates(name, dataset)
    if others:
        tried = [(validated(fitted(name, dataset, one), dataset), one) for one in (config, *others)]
        _, config = max(tried, key=lambda pair: pair[0])
    found = [likelihood(fitted(name, dataset, config, seed), dataset) for seed in range(seeds)]
    of_seeds = [one["test"]["nats"] for one in found]
    return {
        "variables": dataset.space.dim,
        "rows": {split: len(part) for split, part in dataset.splits.items()},
        "chosen": config,
        "likelihood": found[0],
        "test_of_seeds": {"mean": statistics.mean(of_seeds), "each": of_seeds},
        "seconds": time.perf_counter() - started,
    }


def likelihood(model: Model, dataset: Dataset) -> dict[str, Any]:
    return {
        split: next(iter(likelihoods(model, dataset.splits[split].x, None, split, 1)))
        for split in ("validation", "test")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=CANDIDATES)
    parser.add_argument("tables", nargs="*", help="which of them; all sixteen without")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each table, whose test figures are averaged")
    chosen = parser.parse_args()
    path = HERE / f"uci-{chosen.model}.json"
    document = {
        "densities": json.loads(path.read_text(encoding="utf-8"))["densities"] if path.exists() else {},
        "model": chosen.model,
        "command": f"python results/uci.py {chosen.model}",
        "candidates": CANDIDATES[chosen.model],
        "passes": PASSES,
        "steps": STEPS.get(chosen.model),
        "lr": RATES.get(chosen.model),
        "protocol": "log p(x) of all columns, the target too, in nats of the standardised-back units of the file; "
        "80/10/10 % of the rows, seed 0; settings by the validation split",
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
    }
    for of in chosen.tables or UCI:
        document["densities"][of] = found = measured(chosen.model, of, chosen.seeds)
        write_json(document, path)
        nats = {split: round(row["nats"], 3) for split, row in found["likelihood"].items()}
        print(of, nats, found["chosen"], f"{found['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
