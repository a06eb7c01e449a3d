"""Codes of the sprites beside their factors: four autoencoders, and a sweep of beta, with five seeds each.

python results/disentanglement.py                       adds the trainings that results/sprites-codes.json lacks
python results/disentanglement.py --draw                draws the picture of docs/latent.md from it

Every training has the same steps and network. Kept for each: the measures of `dgm evaluate`, those of k-means beside
the shapes, and on the test split the mean of -log p(x|z) and of the divergence, in nats.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import torch
from matplotlib import pyplot

import dgm
from dgm.data import Dataset
from dgm.evaluation.representation import judged
from dgm.files import write_json

HERE = Path(__file__).parent
PATH, PICTURE = HERE / "sprites-codes.json", HERE.parent / "docs" / "disentanglement.png"
STEPS, SEEDS, LR = 2500, 5, 2e-3
NETWORK = {"latent": 8, "hidden": 256}
BETAS = (1.0, 2.0, 4.0, 8.0, 16.0)
# name in the table -> model and its own settings; beta_vae with beta = 1 is the vae
MODELS: dict[str, tuple[str, dict[str, float]]] = {
    **{f"beta_vae, beta {beta:g}" if beta > 1 else "vae": ("beta_vae", {"beta": beta}) for beta in BETAS},
    "tc_vae, beta 6": ("tc_vae", {"beta": 6.0, "examples": 20_736}),
    "factor_vae, gamma 10": ("factor_vae", {"gamma": 10.0}),
}
SCALARS = ("ari", "nmi", "mig", "sap", "disentanglement", "completeness", "informativeness", "factor_vae")


def trained(name: str, settings: dict[str, Any], dataset: Dataset, seed: int) -> Any:
    torch.manual_seed(seed)
    model = dgm.create(name, dataset.space, **NETWORK, **settings)
    for _ in dgm.fit(model, dataset, steps=STEPS, lr=LR, seed=seed, precision="32-true", validate_every=STEPS):
        pass
    return model.eval()


@torch.no_grad()
def measured(model: Any, dataset: Dataset, shapes: Dataset, seed: int) -> dict[str, Any]:
    torch.manual_seed(seed)
    vae, x = getattr(model, "vae", model), dataset.test.x
    reconstruction, kl = vae.terms(x)
    found = judged(model, dataset, "test", seed)
    of_shapes = judged(model, shapes, "test", seed)
    assert found is not None
    assert of_shapes is not None
    return {
        **{name: value for name, value in (of_shapes | found).items() if name in (*SCALARS, "probe")},
        "reconstruction": -float(reconstruction.mean()),
        "divergence": float(kl.sum(1).mean()),
    }


def draw(document: dict[str, Any]) -> None:
    figure, axis = pyplot.subplots(figsize=(6.4, 4.4))
    for name in MODELS:
        runs = [run for run in document["runs"] if run["model"] == name]
        marker = "o" if name.startswith(("vae", "beta")) else "^"
        axis.plot([r["reconstruction"] for r in runs], [r["mig"] for r in runs], marker, label=name, markersize=6)
    axis.set(xlabel="reconstruction, -log p(x|z) of a test image in nats", ylabel="mutual information gap (MIG)")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, fontsize=8)
    figure.savefig(PICTURE, dpi=90, bbox_inches="tight")


def complete(document: dict[str, Any]) -> None:
    dataset, shapes = dgm.data.load("sprites"), dgm.data.load("sprites/shape")
    document |= {
        "command": "python results/disentanglement.py",
        "protocol": f"sprites, {STEPS} steps of batch 100, lr {LR}, {NETWORK}; measures of 2,000 test codes, fitted to "
        "2,000 training codes; ari and nmi of k-means with three clusters beside the shapes; nats of the test split",
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
    }
    for seed in range(SEEDS):
        for name, (model, settings) in MODELS.items():
            if any((run["model"], run["seed"]) == (name, seed) for run in document["runs"]):
                continue
            started = time.process_time()
            found = measured(trained(model, settings, dataset, seed), dataset, shapes, seed)
            document["runs"].append({"model": name, "seed": seed, **found, "seconds": time.process_time() - started})
            write_json(document, PATH)
            print(name, seed, json.dumps(document["runs"][-1]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", action="store_true", help="draw the picture, train nothing")
    chosen = parser.parse_args()
    document = json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {"runs": []}
    if not chosen.draw:
        complete(document)
    draw(document)


if __name__ == "__main__":
    main()
