"""Runs every benchmark beside this file, or those named, and renders the table of docs/benchmarks.md.

python benchmarks/run.py                    all: what `make bench` does
python benchmarks/run.py diffusion frechet  these; the others' figures stay

Each benchmark is a script that prints one JSON line a figure: name, ours, peer, ratio, unit. Both sides are timed in
turn in one process tree and the medians are quoted, so the ratio holds where absolute times drift.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "benchmarks.json"
TABLE = HERE.parent / "docs" / "benchmarks.md"


def figures(script: Path) -> list[dict[str, object]]:
    done = subprocess.run([sys.executable, script], check=True, stdout=subprocess.PIPE, text=True)
    print(done.stdout, end="", flush=True)
    return [{"script": script.stem, **json.loads(line)} for line in done.stdout.splitlines()]


def render(rows: list[dict[str, object]], machine: str) -> str:
    lines = [
        "# Benchmarks",
        "",
        f"Made by `make bench` on {machine}. Medians, both sides timed in turn in one process tree.",
        "A ratio under 1 says that dgm is the faster one, where the unit is a time.",
        "",
        "| what | dgm | peer | ratio | unit |",
        "|---|---|---|---|---|",
        *(f"| {r['name']} | {r['ours']:.4g} | {r['peer']:.4g} | {r['ratio']:.3g} | {r['unit']} |" for r in rows),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    import torch

    scripts = sorted(path for path in HERE.glob("*.py") if path.stem not in ("run", "timing"))
    named = [path for path in scripts if path.stem in sys.argv[1:]] or scripts
    kept = json.loads(RESULTS.read_text(encoding="utf-8"))["figures"] if named != scripts else []
    rows = [row for row in kept if row["script"] not in {script.stem for script in named}]
    rows = sorted([*rows, *(row for script in named for row in figures(script))], key=lambda row: row["script"])
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, {versions}"
    RESULTS.write_text(
        json.dumps({"machine": machine, "command": "make bench", "figures": rows}, indent=2) + "\n", encoding="utf-8"
    )
    TABLE.write_text(render(rows, machine), encoding="utf-8")


if __name__ == "__main__":
    main()
