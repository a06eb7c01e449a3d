"""Evaluations made by hand, so that every number of a table is known beforehand."""

from typing import Any

import pytest

from dgm.report.table import Trained


def likelihood(
    kind: str, bits: float, draws: int = 1, se: float = 0.01, condition: str | None = None
) -> dict[str, Any]:
    return {
        "kind": kind,
        "method": f"method of {kind}",
        "nats": -44.36 * bits,
        "nats_se": 44.36 * se,
        "bits_per_dim": bits,
        "bits_per_dim_se": se,
        "condition": condition,
        "n": 497,
        "split": "test",
        "draws": draws,
    }


def metric(
    name: str, value: float, half: float, features: str = "classifier", reference: float = 0.5
) -> dict[str, Any]:
    sizes = {"n_real": 497, "n_generated": 500, "split": "test"}
    return {"name": name, "value": value, "low": value - half, "high": value + half, "interval": "jackknife"} | {
        "features": features,
        "reference": {"value": reference, "low": reference - 0.1, "high": reference + 0.1},
        **sizes,
    }


def evaluation(likelihoods: list[Any] = (), metrics: list[Any] = (), per_second: float = 100.0) -> dict[str, Any]:
    return {
        "format": 2,
        "likelihood": list(likelihoods),
        "metrics": list(metrics),
        "samples": {"n": 500, "seed": 0, "seconds": 1.0, "per_second": per_second, "device": "cpu", "threads": 2},
        "reference": {"real": "497 of the test split", "n": 500, "of": "300 of the validation split", "draws": 20},
        "skipped": [],
        "features": {"classifier": {"dim": 64, "hash": "abc"}, "pixels": {"dim": 64}},
        "memorisation": {"share": 0.01, "held_out_share": 0.002, "rule": "nearer than a third", "nearest": [1, 2, 3]},
        "modes": {"found": 9, "of": 10, "rule": "labels with more than a tenth"},
        "provenance": {"machine": "x86_64", "torch": "2.13", "dgm": "0.1.0", "time": "2026-01-01T00:00:00Z"},
    }


def trained(model: str, document: dict[str, Any], seed: int = 0) -> Trained:
    training = {"budget": 25.0, "batch": 100, "select": "best", "seed": seed}
    return Trained(
        model=model,
        seed=seed,
        path=f"runs/{model}/seed-{seed}",
        evaluation=document,
        steps=1000,
        seconds=25.0,
        parameters=12345,
        config={"model": {"name": model, "config": {"latent": 16}}, "training": training, "data": {"sha256": "d"}},
        weights="0" * 64,
        metrics=[
            {"step": 1, "seconds": 0.1, "losses": {"model": 100.0}},
            {"step": 1000, "seconds": 25.0, "losses": {"model": 80.0}, "validation": 81.0},
        ],
    )


@pytest.fixture
def runs() -> list[Trained]:
    """One model a kind of likelihood, with quality and coverage in two feature spaces."""
    kinds = {"made": "exact", "vae": "lower_bound", "flow_matching": "estimate", "ebm": "unnormalised", "gan": None}
    found = []
    for k, (name, kind) in enumerate(kinds.items()):
        metrics = [
            metric(column, value * (1 + k), 0.01, features)
            for features in ("classifier", "pixels")
            for column, value in (("frechet", 10.0), ("kernel", 0.1), ("recall", 0.1), ("coverage", 0.11))
        ]
        found.append(trained(name, evaluation([likelihood(kind, 2.0 + k)] if kind else [], metrics, 10.0**k)))
    return found
