"""The bound of VQ-VAE on CIFAR-10 with a uniform and with a learnt prior, kept in results/cifar10-vq_vae.json.

python results/vq_vae.py                                              trains the recipe cifar10/vq_vae and the prior
python results/vq_vae.py --run runs/vq_vae --prior runs/prior         takes runs that were trained so
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from dgm import files, runs
from dgm.cli import train
from dgm.evaluation.likelihoods import likelihoods

HERE = Path(__file__).parent
TESTED = 1000  # test images
RUN, PRIOR = "runs/cifar10/vq_vae", "runs/cifar10/vq_vae-prior"
FIRST = f"dgm train --config cifar10/vq_vae --out {RUN}"
SECOND = f"dgm train gated_pixelcnn --on {RUN} --steps 2000 --batch 32 --precision 32-true --out {PRIOR}"


def finished(path: str | None, command: str) -> runs.Run:
    """The run at the path, or that of the command, trained if it is not there."""
    out = path or command.split()[-1]
    if not Path(out).exists() and train.main(command.split()[2:]):
        sys.exit(2)
    return runs.Run(Path(out))


def measured(run: runs.Run, of: Any) -> dict[str, Any]:
    last = run.metrics()[-1]
    torch.manual_seed(0)
    return {
        "likelihood": {"test": next(iter(likelihoods(runs.load(run.path), of, None, "test", 1)))},
        "training": {
            "steps": last["step"],
            "seconds": last["seconds"],
            "epochs": last["examples"] / run.config["data"]["sizes"]["train"],
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", help="a finished run of the recipe")
    parser.add_argument("--prior", help="a finished run of a model of its codes")
    chosen = parser.parse_args()
    first = finished(chosen.run, FIRST)
    second = finished(chosen.prior, SECOND)
    x = first.dataset().test.x[:TESTED]
    document = {
        "command": f"{FIRST} && {SECOND}",
        "published": {
            "vq_vae": 4.67,
            "vae": 4.51,
            "unit": "bits/dim",
            "source": "Neural Discrete Representation Learning, arXiv:1711.00937, section 4.1, 250,000 steps of 128",
        },
        **measured(first, x),
        "prior": measured(second, x),
        "settings": {"model": first.config["model"]["config"], "training": first.config["training"]},
        "protocol": f"the bound at the encoder's codes, the first {TESTED:,} test images",
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
    }
    files.write_json(document, HERE / "cifar10-vq_vae.json")
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
