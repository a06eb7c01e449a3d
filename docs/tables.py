"""Makes docs/results.md from the JSON in results/, so that no figure is typed by hand: `make docs`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dgm.report.table import number

HERE = Path(__file__).parent
COLUMNS = {
    "exact": "exact",
    "lower_bound": "lower bound",
    "tighter_bound": "bound, K = 16",
    "estimate": "estimate",
    "frechet": "Fréchet ↓",
    "precision": "precision ↑",
    "recall": "recall ↑",
    "coverage": "coverage ↑",
    "copies": "copies",
    "per_second": "samples/s ↑",
    "steps": "steps",
}

MISSES = (
    "MADE and NADE miss their figures by 1.5 nats or so. Their budgets ended, and with them the learning rate, after "
    "14 and 19 epochs on a machine that other trainings shared, where the papers' runs take hundreds; NADE still "
    "gained 0.1 nats a thousand steps before its rate fell. FVSBN overfits from its 20th epoch on, so more time "
    "gives it nothing."
)


def section(document: dict[str, Any]) -> str:
    data, run = document["data"], document["runs"][0]["evaluation"]
    features, table = next(iter(document["tables"].items()))
    lines = [
        f"## {data['name']}",
        "",
        f"`{document['command']}` on {run['provenance']['machine']}, torch {run['provenance']['torch']}. "
        f"Split: {data['split']}. {run['samples']['n']} samples; distances in {features} features. "
        "Likelihoods in bits per dimension on the test split, a column a kind: never rank across those columns.",
        "",
        "| model | " + " | ".join(COLUMNS.values()) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for name, row in [(row["model"], row) for row in table["rows"]] + [("*training data*", table["reference"])]:
        cells = [number(float(row[key])) if row.get(key) is not None else "–" for key in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def published(documents: list[dict[str, Any]]) -> str:
    """The recipes' figures beside those of their papers."""
    lines = [
        "## Published figures",
        "",
        "Each by `python results/reproduce.py RECIPE`, on the test split, all exact. *Still gaining* is what the last "
        "tenth of the training took off the validation loss, in nats an example.",
        "",
        "| recipe | published | measured | bits/dim | training | steps | epochs | still gaining |",
        "|---" * 8 + "|",
    ]
    for d in documents:
        found, training, theirs = d["likelihood"]["test"], d["training"], d["published"]
        per = d["dim"] if theirs and theirs["unit"].endswith("a character") else 1
        cells = [
            d["recipe"],
            f"{theirs['value']:.2f} {theirs['unit']}" if theirs else "–",
            f"{-found['nats'] / per:.2f} ± {found['nats_se'] / per:.2f}",
            f"{found['bits_per_dim']:.4f}",
            f"{training['seconds'] / 60:.0f} min, {d['machine'].split(', ')[1]}",
            number(training["steps"]),
            f"{training['epochs']:.1f}",
            f"{training['gained_in_the_last_tenth']:.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    notes = [f"- {d['recipe']}: {d['published']['source']}." for d in documents if d["published"]]
    return "\n".join([*lines, "", "Sources of the published figures:", "", *notes, "", MISSES]) + "\n"


def main() -> None:
    results = HERE.parent / "results"
    documents = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
    compared, recipes = ([d for d in documents if key in d] for key in ("tables", "recipe"))
    text = "# Results\n\nMade by `make docs` from the files in `results/`.\n\n"
    (HERE / "results.md").write_text(text + "\n".join([*map(section, compared), published(recipes)]))


if __name__ == "__main__":
    main()
