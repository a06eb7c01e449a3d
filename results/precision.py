"""What bf16 costs in quality: a DDPM of digits in float32 and in bf16, equal steps, three seeds.

Kept in results/precision.json.

python results/precision.py
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import torch

import dgm
from dgm.evaluation.evaluate import evaluate
from dgm.files import write_json

HERE = Path(__file__).parent
MODEL, STEPS, SEEDS, SAMPLES = "ddpm", 500, (0, 1, 2), 500


def measured(precision: str, seed: int) -> dict[str, Any]:
    dataset = dgm.data.load("digits")
    torch.manual_seed(seed)
    model = dgm.create(MODEL, dataset.space)
    for _ in dgm.fit(model, dataset, steps=STEPS, precision=precision, seed=seed):
        pass
    found = evaluate(model.eval(), dataset, samples=SAMPLES, spaces=["classifier"], seed=seed)
    bits = {row["kind"]: row["bits_per_dim"] for row in found["likelihood"]}
    (frechet,) = (row["value"] for row in found["metrics"] if row["name"] == "frechet")
    return {"precision": precision, "seed": seed, **bits, "frechet": frechet}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    rows = []
    for seed in SEEDS:
        for precision in ("32-true", "bf16-mixed"):
            rows.append(measured(precision, seed))
            print(json.dumps(rows[-1]), flush=True)
    document = {
        "precision": rows,
        "model": MODEL,
        "steps": STEPS,
        "samples": SAMPLES,
        "command": "python results/precision.py",
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
    }
    write_json(document, HERE / "precision.json")


if __name__ == "__main__":
    main()
