"""Forecasts and samples of td_vae on clips of moving digits, in results/td_vae.json.

python results/td_vae.py                        trains on both sets of clips, about 25 minutes of a core
python results/td_vae.py --data moving_digits   on one of them alone
python results/td_vae.py --runs runs            keeps the trained models in this folder, and takes those that it has
python results/td_vae.py --pictures PICTURES    keeps forecasts and samples as pictures

The error of a frame is the sum of |x - forecast| divided by the sum of |x|, so that an empty forecast has 1. The change
of a clip is the difference of its last frame, moved back to the column of the first, to the first, divided by the sum
of both: 0 for a clip of the data, whose digit only moves.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from compose import SEED, continued, trained
from torch import Tensor

import dgm
from dgm.files import write_json
from dgm.report.pictures import grid

HERE = Path(__file__).parent
CLIPS, ROWS, JUMP = 200, 8, 4
TRAININGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "moving_digits": ({"warmup": 2000}, {"steps": 10_000, "batch": 32, "lr": 2e-3}),
    "moving_mnist": ({"warmup": 4000, "latent": 64}, {"steps": 12_000, "batch": 32, "lr": 5e-4}),
}


def errors(x: Tensor, forecast: Tensor) -> list[float]:
    """That of each frame of clips (N, T, C, H, W)."""
    off, of = (a.float().abs().sum((0, 2, 3, 4)) for a in (x - forecast, x))
    return (off / of).tolist()


def means(model: Any, x: Tensor, frames: int) -> Tensor:
    """The forecast in which each state is the mean of its transition."""
    without_noise = SimpleNamespace(normal=lambda shape: torch.zeros(len(x), *shape))
    b = model.beliefs(model.sequence(model.reader(x)), None)[:, -1]
    return model.observed(model.outputs(model.rolled(b, without_noise, frames, 1, None), None))


def change(x: Tensor) -> float:
    """The mean over clips, by the direction in which it is less."""
    first, last, far = x[:, 0].float(), x[:, -1].float(), x.shape[1] - 1
    off = [(last.roll(-sign * far, -1) - first).abs().sum((1, 2, 3)) for sign in (-1, 1)]
    return float((torch.minimum(*off) / (first + last).sum((1, 2, 3)).clamp(min=1)).mean())


@torch.no_grad()
def measured(dataset: Any, model: Any, pictures: Path | None) -> dict[str, Any]:
    x = dataset.test.x[:CLIPS].float()
    half = x.shape[1] // 2
    given, rest = x[:, :half], x[:, half:]
    torch.manual_seed(SEED)
    bound = torch.stack([model.elbo(x) for _ in range(8)]).mean(0).double()
    sampled = model.forecast(given, frames=len(rest[0]), seed=SEED)
    jumped = model.forecast(given, frames=1, jump=JUMP, seed=SEED)
    clips = model.sample_mean(CLIPS, seed=SEED)
    if pictures is not None:
        shown = {"forecasts": torch.cat([given, sampled], 1)[:ROWS], "clips": x[:ROWS], "samples": clips[:ROWS].float()}
        for title, frames in shown.items():
            still = dgm.Space.binary(tuple(frames.shape[2:]))
            rows = grid(frames.flatten(0, 1).round().to(still.dtype), still, columns=x.shape[1])
            rows.save(pictures / f"{dataset.name}-{title}.png")
    return {
        "bound": {"nats": float(bound.mean()), "nats_se": float(bound.std()) / len(x) ** 0.5},
        "errors": errors(rest, sampled),
        "errors_of_means": errors(rest, means(model, given, len(rest[0]))),
        "error_of_a_jump": errors(rest[:, JUMP - 1 : JUMP], jumped)[0],
        "change_of_samples": change(clips),
        "change_of_clips": change(x),
        "change_of_different_clips": change(torch.stack([x[:, 0], x[:, -1].roll(1, 0)], 1)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=TRAININGS, default=list(TRAININGS))
    parser.add_argument("--runs", type=Path, help="folder that keeps the trained models")
    parser.add_argument("--pictures", type=Path, help="folder of the pictures")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    path = HERE / "td_vae.json"
    document = continued(path) | {
        "protocol": f"{CLIPS} clips of the test split, the second half of the frames after the first; a jump of {JUMP}"
    }
    for name in chosen.data:
        settings, training = TRAININGS[name]
        dataset = dgm.data.load(name)
        model = trained("td_vae", dataset, None, chosen.runs, settings, training)
        found = measured(dataset, model, chosen.pictures)
        document[name] = {"model": settings, "training": training} | found
        print(name, document[name], flush=True)
        write_json(document, path)


if __name__ == "__main__":
    main()
