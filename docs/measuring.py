"""Makes docs/measuring.md from measuring.txt's text and the figures in results/, so that no figure is typed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from layout import table

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results"


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    return found


def cases(document: dict[str, Any]) -> str:
    heads = [
        "",
        "log p, test [nats]",
        "bits/dim",
        "Fréchet, N → ∞",
        "precision",
        "recall",
        "distinguished from real",
        "memorised",
    ]
    rows = [row_of(case["name"], case) for case in document["cases"]]
    return table(heads, [*rows, row_of("*held-out digits*", document["real"])])


def row_of(name: str, case: dict[str, Any]) -> list[str]:
    known = "nats" in case
    low, high = case["two_sample_interval"]
    return [
        name,
        f"{case['nats']:.1f} ± {1.96 * case['nats_se']:.1f}" if known else "–",
        f"{case['bits_per_dim']:.2f}" if known else "–",
        f"{case['frechet_infinity']:.1f}",
        f"{case['precision']:.2f}",
        f"{case['recall']:.2f}",
        f"{case['two_sample_accuracy']:.1%} ({low:.0%} … {high:.0%})",
        f"{case['memorised']:.0%}" if known else "–",
    ]


def windows(document: dict[str, Any]) -> str:
    rows = [[name, f"{found['nats']:.1f}", f"{found['bandwidth']:.2f}"] for name, found in document["parzen"].items()]
    return table(["Parzen windows around", "log-density, test [nats]", "bandwidth"], rows)


def trilemma(document: dict[str, Any]) -> str:
    found = document["tables"]["classifier"]
    keys = ("frechet_infinity", "precision", "recall")
    rows = []
    for row in sorted(found["rows"], key=lambda row: row["frechet_infinity"]):
        rows.append([f"`{row['model']}`", *(f"{row[key]:.2f}" for key in keys), f"{row['per_second']:,.0f}"])
    rows.append(["*held-out digits*", *(f"{found['reference'][key]:.2f}" for key in keys), "–"])
    return table(["", "Fréchet, N → ∞ ↓", "precision ↑", "recall ↑", "samples/s ↑"], rows)


def page() -> str:
    theis, compared = read("theis-digits.json"), read("compare-digits.json")
    text = (HERE / "measuring.txt").read_text(encoding="utf-8")
    about = f"`{theis['command']}` on {theis['machine']}: {theis['protocol']}."
    return text.format(cases=cases(theis), windows=windows(theis), trilemma=trilemma(compared), theis=about)


if __name__ == "__main__":
    (HERE / "measuring.md").write_text(page(), encoding="utf-8")
