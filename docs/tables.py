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


def main() -> None:
    documents = [json.loads(path.read_text()) for path in sorted((HERE.parent / "results").glob("compare-*.json"))]
    text = "# Results\n\nMade by `make docs` from the files in `results/`.\n\n" + "\n".join(map(section, documents))
    (HERE / "results.md").write_text(text)


if __name__ == "__main__":
    main()
