"""Three cases in which likelihood, Parzen windows and samples disagree, on digits, in results/theis-digits.json.

python results/theis.py          trains one MADE, about two minutes of a core

Source: A note on the evaluation of generative models (Theis et al., 2016), arXiv:1511.01844, sections 3.1 to 3.3.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from pathlib import Path
from typing import Any

import torch
from sklearn.cluster import KMeans
from torch import Tensor

import dgm
from dgm.evaluation.divergences import FUNCTIONS, classifier_bound
from dgm.evaluation.features import Features, features
from dgm.evaluation.frechet import frechet_infinity
from dgm.evaluation.held_out import HeldOut
from dgm.evaluation.memorisation import memorisation
from dgm.evaluation.neighbours import precision_recall_density_coverage
from dgm.evaluation.two_sample import held_out_log_ratios, two_sample_test
from dgm.seeds import mix

HERE = Path(__file__).parent
STEPS, N, SEED = 2000, 400, 0
SHARE = 0.01  # of the model in the mixture with noise
FLIPPED = 0.01  # probability with which a pixel of the lookup table is drawn anew
BANDWIDTHS = torch.logspace(-1.5, 0.5, 30, dtype=torch.float64)


def noisy(dataset: dgm.data.Dataset, n: int) -> Tensor:
    """Uniform grey levels."""
    generator = torch.Generator().manual_seed(mix(SEED, 1) >> 1)
    return torch.randint(dataset.space.values or 2, (n, *dataset.space.shape), generator=generator).to(torch.uint8)


def log_mixture(log_p: Tensor, dataset: dgm.data.Dataset) -> Tensor:
    """One part of the model and 99 of uniform noise: at least log p + log 0.01, a loss of 4.6 nats for an image."""
    noise = -dataset.space.dim * math.log(dataset.space.values or 2)
    return torch.logaddexp(log_p + math.log(SHARE), torch.tensor(noise + math.log(1 - SHARE)).double())


def of_mixture(samples: Tensor, dataset: dgm.data.Dataset) -> Tensor:
    noise = noisy(dataset, len(samples))
    noise[: round(SHARE * len(samples))] = samples[: round(SHARE * len(samples))]
    return noise


def log_lookup(x: Tensor, dataset: dgm.data.Dataset) -> Tensor:
    """A training image, each of its pixels drawn anew with a probability of 1 %."""
    values = dataset.space.values or 2
    equal = (x.flatten(1)[:, None] == dataset.train.x.flatten(1)).double().sum(2)
    same, other = math.log(1 - FLIPPED + FLIPPED / values), math.log(FLIPPED / values)
    each = equal * same + (dataset.space.dim - equal) * other
    return each.logsumexp(1) - math.log(len(dataset.train))


def of_lookup(dataset: dgm.data.Dataset, n: int) -> Tensor:
    generator = torch.Generator().manual_seed(mix(SEED, 2) >> 1)
    x = dataset.train.x[torch.randint(len(dataset.train), (n,), generator=generator)].clone()
    again = torch.rand(x.shape, generator=generator) < FLIPPED
    x[again] = noisy(dataset, n)[again]
    return x


def case(name: str, log_p: Tensor, x: Tensor, dataset: dgm.data.Dataset, space: Features) -> dict[str, Any]:
    """The figures of one distribution: likelihood of the test split, and its samples beside it."""
    nats = float(log_p.mean())
    likelihood = {
        "nats": nats,
        "nats_se": float(log_p.std() / len(log_p) ** 0.5),
        "bits_per_dim": -nats / (dataset.space.dim * math.log(2)),
    }
    memorised = memorisation(dataset, x[:N], dataset.test.x)
    return {"name": name, **likelihood, **of_samples(x, dataset, space), "memorised": memorised["share"]}


def of_samples(x: Tensor, dataset: dgm.data.Dataset, space: Features) -> dict[str, Any]:
    real, generated = space.of(dataset.test.x[:N]), space.of(x[:N])
    at_x, at_y = held_out_log_ratios(generated, real)
    test = two_sample_test(at_x, at_y)
    return {
        "frechet_infinity": float(frechet_infinity(real, generated)),
        **{key: float(value) for key, value in precision_recall_density_coverage(real, generated)._asdict().items()},
        "two_sample_accuracy": test.accuracy,
        "two_sample_interval": [test.low, test.high],
        "jensen_shannon_bound": float(classifier_bound(FUNCTIONS["jensen_shannon"], at_x, at_y).value),
    }


def parzen(points: Tensor, dataset: dgm.data.Dataset) -> dict[str, float]:
    """The best mean log-density of the validation split over bandwidths, and that of the test split with it."""
    centres = points.double().flatten(1)
    scored = [dataset.validation.x, dataset.test.x]
    squared = [torch.cdist(x.double().flatten(1) / 16, centres / 16).square() for x in scored]
    found = [
        [
            float((-d / (2 * h**2)).logsumexp(1).mean()) - math.log(len(centres)) - 32 * math.log(2 * math.pi * h**2)
            for d in squared
        ]
        for h in BANDWIDTHS.tolist()
    ]
    best = max(range(len(found)), key=lambda k: found[k][0])
    return {"bandwidth": float(BANDWIDTHS[best]), "nats": found[best][1], "points": len(centres)}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    began = time.process_time()
    dataset = dgm.data.load("digits")
    model = dgm.create("made", dataset.space)
    for _ in dgm.fit(model, dataset, steps=STEPS, batch=64, seed=SEED):
        pass
    samples = dgm.sample(model, 1000, seed=SEED)
    log_p = dgm.log_likelihood(model, dataset.test.x).nats.double()
    space = features("classifier", dataset)
    centroids = torch.from_numpy(
        KMeans(200, n_init=1, random_state=SEED).fit(dataset.train.x.flatten(1)).cluster_centers_
    )
    document = {
        "command": "python results/theis.py",
        "protocol": f"MADE of {STEPS:,} steps of 64 digits; likelihood of the {len(dataset.test)} test digits; {N} "
        "samples beside as many test digits in the classifier's features; Parzen windows over grey levels of 0 to 1 "
        "with the bandwidth that is best on the validation split",
        "seed": SEED,
        "machine": f"{platform.machine()}, one thread, torch {torch.__version__}",
        "cases": [
            case("MADE", log_p, samples, dataset, space),
            case("1 % MADE, 99 % noise", log_mixture(log_p, dataset), of_mixture(samples, dataset), dataset, space),
            case("lookup table", log_lookup(dataset.test.x, dataset), of_lookup(dataset, 1000), dataset, space),
        ],
        "parzen": {
            "200 training digits": parzen(dataset.train.x[:200], dataset),
            "200 means of k-means": parzen(centroids, dataset),
            "200 samples of MADE": parzen(samples[:200], dataset),
            "1,000 training digits": parzen(dataset.train.x, dataset),
            "1,000 samples of MADE": parzen(samples, dataset),
        },
        "real": of_samples(HeldOut(dataset).draw(N, 0), dataset, space),
        "seconds": round(time.process_time() - began, 1),
    }
    text = json.dumps(document, indent=2) + "\n"
    (HERE / "theis-digits.json").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
