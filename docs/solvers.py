"""Draws docs/solvers-DATASET.png from results/solvers-DATASET.json: quality against network evaluations."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.figure import Figure

HERE = Path(__file__).parent


def draw(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    curves: dict[str, list[tuple[int, float]]] = {}
    for row in document["solvers"]:
        curves.setdefault(row["label"], []).append((row["evaluations"], row["frechet"]))
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for k, (label, points) in enumerate(curves.items()):
        line = "-" if k < 10 else "--"
        axes.loglog(*zip(*points, strict=True), marker="o", ms=4, lw=1.4, color=f"C{k % 10}", ls=line, label=label)
    axes.axhline(document["reference"], color="0.5", lw=1, ls=":")
    axes.text(1.01, document["reference"], "held-out data", transform=axes.get_yaxis_transform(), va="center")
    counts = sorted({row["evaluations"] for row in document["solvers"]})
    axes.set_xticks(counts, map(str, counts), minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xlabel("network evaluations")
    axes.set_ylabel(f"Fréchet distance, in {document['features']}, N = {document['samples']:,}")
    axes.set_title(f"{document['model']} on {document['data']}: one set of weights, every solver", loc="left")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.6), frameon=False, fontsize=8)
    figure.savefig(HERE / f"{path.stem}.png", dpi=110)


def main() -> None:
    for path in sorted((HERE.parent / "results").glob("solvers-*.json")):
        draw(path)


if __name__ == "__main__":
    main()
