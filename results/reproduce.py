"""Trains a bundled recipe and keeps what it measured beside the published figure, in results/DATASET-MODEL.json.

python results/reproduce.py binarized_mnist/fvsbn                    trains the recipe
python results/reproduce.py binarized_mnist/fvsbn --run runs/fvsbn   takes a run that was trained by it

Exact likelihoods are of the validation and the test split. A model without one is measured as `dgm evaluate` does it,
with 500 samples, or by the bound of as many importance-weighted samples as the published one has; an evaluation that
lies in the run and is of its last weights is taken. An RBM is annealed with as many temperatures as published, and
log Z is stated from both directions.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from dgm import files, registry, runs
from dgm.cli import train
from dgm.data import Dataset
from dgm.evaluation.evaluate import evaluate
from dgm.evaluation.likelihoods import likelihoods
from dgm.likelihood import Kind, kind_of
from dgm.report.collect import is_evaluated

HERE = Path(__file__).parent
SAMPLES = 500
MADE = "MADE, arXiv:1502.03509, table 6"
IWAE = "Importance weighted autoencoders, arXiv:1509.00519"
FFJORD = "as quoted by FFJORD, arXiv:1810.01367, table 2"
PIXELRNN = "Pixel recurrent neural networks, arXiv:1601.06759, table 4"
# recipe -> the published figure, its unit and its source; None where nobody published one
PUBLISHED: dict[str, tuple[float, str, str] | None] = {
    "binarized_mnist/fvsbn": (97.45, "nats", MADE),
    "binarized_mnist/nade": (88.33, "nats", MADE),
    "binarized_mnist/made": (88.40, "nats", f"{MADE}, one mask"),
    "binarized_mnist/rbm": (
        86.34,
        "nats",
        "Salakhutdinov & Murray 2008, table 1, 500 hidden units, CD-25, forward AIS",
    ),
    "binarized_mnist/pixelcnn": (81.30, "nats", PIXELRNN),
    "binarized_mnist/gated_pixelcnn": None,
    "binarized_mnist/pixelrnn": (79.20, "nats", PIXELRNN),
    "cifar10/gated_pixelcnn": (3.03, "bits/dim", "Gated PixelCNN, arXiv:1606.05328, table 1"),
    "cifar10/pixelcnn_pp": (2.92, "bits/dim", "PixelCNN++, arXiv:1701.05517, table 1"),
    "cifar10/ddpm": (3.70, "bits/dim", "DDPM, arXiv:2006.11239, table 1, a bound; 3.75 with the loss of this recipe"),
    "mnist/ddpm": None,
    "mnist/vdm": None,
    "mnist/flow_matching": None,
    "mnist/ncsn": None,
    "mnist/realnvp": (1.06, "bits/dim", f"RealNVP, {FFJORD}"),
    "mnist/glow": (1.05, "bits/dim", f"Glow, {FFJORD}"),
    "mnist/integer_flow": None,
    "cifar10/realnvp": (3.49, "bits/dim", "RealNVP, arXiv:1605.08803, table 1"),
    "cifar10/glow": (3.35, "bits/dim", "Glow, arXiv:1807.03039, table 2"),
    "cifar10/integer_flow": (3.34, "bits/dim", "Integer discrete flows, arXiv:1905.07376, table 1"),
    "tinyshakespeare/char_gpt": (1.88, "nats a character", "nanoGPT's character-level CPU run, validation loss"),
    "fsdd/wavenet": None,
    "binarized_mnist/vae": (88.71, "nats", f"{IWAE}, appendix D, VAE, k = 1, 3,280 epochs"),
    "binarized_mnist/iwae": (87.63, "nats", f"{IWAE}, appendix D, IWAE, k = 5, 3,280 epochs"),
    "mnist_dynamic/vae": (86.76, "nats", f"{IWAE}, table 1, VAE, k = 1, one stochastic layer, 3,280 epochs"),
    "mnist_dynamic/iwae": (85.54, "nats", f"{IWAE}, table 1, IWAE, k = 5, one stochastic layer, 3,280 epochs"),
    "binarized_mnist/iwae-50": (87.10, "nats", f"{IWAE}, appendix D, IWAE, k = 50, 3,280 epochs"),
    "mnist_dynamic/iwae-50": (84.78, "nats", f"{IWAE}, table 1, IWAE, k = 50, one stochastic layer, 3,280 epochs"),
    "mnist_dynamic/hierarchical_vae": (82.90, "nats", f"{IWAE}, table 1, IWAE, k = 50, two stochastic layers"),
    "mnist_dynamic/ladder_vae": (81.74, "nats", "Ladder VAE, arXiv:1602.02282, the best of the paper, five layers"),
}
BOUNDED = ("vae", "iwae", "iwae-50", "hierarchical_vae", "ladder_vae")
# recipe -> K of the importance-weighted bound that is published
DRAWS = {recipe: 5000 for recipe in PUBLISHED if recipe.split("/")[1] in BOUNDED}

# recipe -> temperatures of annealed importance sampling
ANNEALED = {"binarized_mnist/rbm": 14_500}


def progress_of(run: runs.Run) -> dict[str, Any]:
    """How long it trained, where the kept weights were, and what the last tenth of the time still gained."""
    rows = run.metrics()
    held_out = [(row["progress"], row["validation"], row["step"]) for row in rows if "validation" in row]
    best = min(held_out, key=lambda row: row[1], default=(1.0, None, rows[-1]["step"]))
    before = min((loss for progress, loss, _ in held_out if progress < 0.9), default=None)
    return {
        "steps": rows[-1]["step"],
        "seconds": rows[-1]["seconds"],
        "epochs": rows[-1]["examples"] / run.config["data"]["sizes"]["train"],
        "best_step": best[2],
        "gained_in_the_last_tenth": None if before is None or best[1] is None else before - best[1],
    }


def measured(run: runs.Run, dataset: Dataset, draws: int, annealed: int) -> dict[str, Any]:
    model = runs.load(run.path)
    held_out = {name: split for name, split in dataset.splits.items() if name != "train"}
    if kind_of(model) is Kind.EXACT:
        of = {name: next(likelihoods(model, split.x, split.y, name, 1)) for name, split in held_out.items()}
        return {"likelihood": of}
    if draws:
        torch.manual_seed(0)
        test = held_out["test"]
        return {"likelihood": {"test": next(likelihoods(model, test.x, test.y, "test", draws))}}
    path = run.path / "evaluation.json"
    if not is_evaluated(run):
        files.write_json(evaluate(model, dataset, samples=SAMPLES, annealed=annealed), path)
    found = runs.read_json(path)
    if annealed:
        return {"likelihood": {"test": found["likelihood"][0]}, "constant": found["constant"]}
    return {"evaluation": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=PUBLISHED)
    parser.add_argument("--run", help="a finished run of the recipe; trained anew without")
    chosen = parser.parse_args()
    command = f"dgm train --config {chosen.recipe} --out runs/{chosen.recipe}"
    path = chosen.run or f"runs/{chosen.recipe}"
    if chosen.run is None and train.main(command.split()[2:]):
        sys.exit(2)
    run, published = runs.Run(Path(path)), PUBLISHED[chosen.recipe]
    dataset, described = run.dataset(), run.config["model"]
    # a flow of images is a part of its dequantisation
    model_settings = registry.trained(described)["config"] | described["config"]
    document = {
        "recipe": chosen.recipe,
        "command": command,
        "published": published and dict(zip(("value", "unit", "source"), published, strict=True)),
        **measured(run, dataset, DRAWS.get(chosen.recipe, 0), ANNEALED.get(chosen.recipe, 0)),
        "training": progress_of(run),
        "settings": {"model": model_settings, "training": run.config["training"]},
        "dim": dataset.space.dim,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
    }
    files.write_json(document, HERE / f"{chosen.recipe.replace('/', '-')}.json")
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
