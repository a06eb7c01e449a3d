"""The tables of docs/results.md: like stands beside like, and what differs is marked."""

from __future__ import annotations

import importlib.util
import json
import statistics
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "results" / f"{name}.json").read_text(encoding="utf-8"))


def row_of(text: str, name: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_published_validation_loss_stands_beside_the_validation_loss(tables: ModuleType) -> None:
    document = read("tinyshakespeare-char_gpt")
    row = row_of(tables.published([document]), "tinyshakespeare/char_gpt")
    nats = -document["likelihood"]["validation"]["nats"] / document["dim"]
    assert row[2].startswith(f"{nats:.2f} ± ")
    assert row[3] == "exact"
    assert row[5] == "validation"
    document["published"]["source"] = "a paper, table 1"
    row = row_of(tables.published([document]), "tinyshakespeare/char_gpt")
    assert row[5] == "test"
    assert row[4].startswith(f"{document['likelihood']['test']['bits_per_dim']:.4f}")


def test_a_published_bound_says_that_it_is_one(tables: ModuleType) -> None:
    row = row_of(tables.published([read("binarized_mnist-vae")]), "binarized_mnist/vae")
    assert row[3] == "lower bound, K = 5,000"


def entry(kind: str, condition: str | None) -> dict[str, Any]:
    common = {"nats": -1.0, "nats_se": 0.1, "bits_per_dim": 2.0, "bits_per_dim_se": 0.1, "n": 10, "method": "m"}
    return {"kind": kind, "condition": condition, **common}


def evaluated(condition: str | None, reference: Any, version: int = 2) -> dict[str, Any]:
    metrics = [
        {"name": name, "features": "classifier", "value": 3.0, "n_generated": 500, "reference": reference}
        for name in ("kernel", "frechet")
    ]
    likelihood = [entry("lower_bound", condition)]
    return {
        "recipe": "mnist/ddpm",
        "published": None,
        "settings": {"model": {"classes": 10}},
        "training": {"steps": 10, "epochs": 1.0, "seconds": 60},
        "evaluation": {"format": version, "likelihood": likelihood, "samples": {"n": 500}, "metrics": metrics},
    }


def test_a_likelihood_of_a_given_label_is_marked(tables: ModuleType) -> None:
    level = {"value": 0.25, "low": 0.0, "high": 1.0}
    given, plain = (tables.evaluated([evaluated(c, level)]) for c in ("label", None))
    assert row_of(given, "mnist/ddpm")[1] == "2.000 ± 0.100, *label given*"
    assert row_of(plain, "mnist/ddpm")[1] == "2.000 ± 0.100"
    assert row_of(given, "*held-out real data*")[3:5] == ["0.250", "0.250"]


def test_distances_of_the_first_format_are_left_out_and_its_likelihoods_marked_by_its_classes(
    tables: ModuleType,
) -> None:
    document, newer = evaluated(None, 0.25, version=1), evaluated("label", {"value": 0.5}) | {"recipe": "mnist/ncsn"}
    del document["evaluation"]["likelihood"][0]["condition"]
    text = tables.evaluated([document, newer])
    assert row_of(text, "mnist/ddpm")[1:6] == ["2.000 ± 0.100, *label given*", "–", "–", "–", "500"]
    assert row_of(text, "mnist/ncsn")[3:5] == ["3.00", "3.00"]
    assert row_of(text, "*held-out real data*")[3:5] == ["0.500", "0.500"]
    assert "Rows with dashes" in text
    assert "Rows with dashes" not in tables.evaluated([newer])


def test_the_kernel_distance_comes_before_the_frechet_distance(tables: ModuleType) -> None:
    keys = list(tables.COLUMNS)
    assert keys.index("kernel") < keys.index("frechet_infinity") < keys.index("frechet")


def test_each_uci_table_has_the_figures_of_all_models_in_nats(tables: ModuleType) -> None:
    """Kills: the validation split for the test split, and a model's figure in the column of another."""
    documents = [read(f"uci-{model}") for model in ("gaussian", "gmm", "kde")]
    text = tables.densities(documents)
    row = row_of(text, "gas")
    assert row[1:3] == ["129", "2,565"]
    for cell, document in zip(row[3:], documents, strict=True):
        test = document["densities"]["gas"]["likelihood"]["test"]
        assert cell == f"{test['nats']:.2f} ± {test['nats_se']:.2f}"
    each = documents[1]["densities"]["concrete"]["test_of_seeds"]["each"]
    of_seeds = row_of(text, "concrete")[4]
    assert of_seeds.startswith(f"{sum(each) / len(each):.2f} ± ")
    assert of_seeds.endswith(f" ({len(each)}: {statistics.stdev(each):.2f})")
    documents[1]["densities"].pop("keggdirected")
    assert row_of(tables.densities(documents), "keggdirected")[4] == "–"


def test_a_divergence_of_an_energy_is_the_mean_over_seeds(tables: ModuleType) -> None:
    document = read("energies")
    row = row_of(tables.energies(document), "`nce`")
    runs = [run["kl_true_to_model"] for run in document["trainers"]["nce"]["runs"]]
    assert row[1] == f"{sum(runs) / len(runs):.3f} ({', '.join(f'{v:.3f}' for v in runs)})"


def test_a_score_that_a_model_lacks_is_a_dash(tables: ModuleType) -> None:
    scores = {"log p": {"auroc": 0.25}, "gradient": {"auroc": 0.75}}
    found = {
        "ebm": {"others": {"b": {"scores": scores}}},
        "vae": {"others": {"b": {"scores": {"log p": {"auroc": 0.5}}}}},
    }
    text = tables.anomalies({"command": "c", "protocol": "p", "machine": "m", "data": {"a": found}})
    assert "| a | b | `ebm` | 0.250 | 0.750 |" in text
    assert "| a | b | `vae` | 0.500 | – |" in text


def test_games_of_images_have_their_distances_and_those_that_stopped_a_dash(tables: ModuleType) -> None:
    level = {"value": 3.0, "low": 2.5, "high": 3.5}
    real = {"value": 0.25, "low": 0.0, "high": 1.0}
    trained = {"steps": 1200, "seconds": 90.0, "metrics": {"frechet": level | {"reference": real}}}
    document = {"command": "c", "protocol": "p", "games": {"A": {"mnist": trained}, "B": {"mnist": {"stopped": "NaN"}}}}
    assert tables.is_measured(document)
    assert not tables.is_measured(read("modes"))
    rows = [line.split(" | ") for line in tables.distances(document).splitlines() if line.startswith("| mnist")]
    assert rows[0][1:4] == ["A", "–", "3 (2.5 … 3.5)"]
    assert rows[0][-2:] == ["1,200", "1.5 |"]
    assert rows[1][1:4] == ["B", "stopped", "–"]
    assert rows[2][3] == "0.25 (0 … 1)"
