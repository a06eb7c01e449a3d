"""Runs every benchmark beside this file, or those named, and renders the table of docs/benchmarks.md.

python benchmarks/run.py                    all: what `make bench` does
python benchmarks/run.py diffusion frechet  these; the others' figures stay

Each benchmark is a script that prints one JSON line a figure: name, ours, peer, ratio, unit. Both sides are timed in
turn in one process tree and the medians are quoted, so the ratio holds where absolute times drift. Figures are kept by
processor: a run on another one adds a column to the table.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any, TypeAlias

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "benchmarks.json"
TABLE = HERE.parent / "docs" / "benchmarks.md"
Machines: TypeAlias = dict[str, dict[str, Any]]  # what is known of each, and its figures

INTRODUCTION = (
    "# Benchmarks",
    "",
    "Made by `make bench`, one table for each script in `benchmarks/`. Each cell has the value of dgm, the value of",
    "the peer (another implementation, or another method), and the first divided by the second. Values are medians;",
    "dgm and the peer are timed in turn. If the unit is a time, lower is better, and a ratio below 1 means that dgm is",
    "faster. Each processor that was measured has one column; a dash means not measured.",
    "",
)
REPORTED = (
    "## Reported on another processor",
    "",
    "On an Intel Xeon with avx512_bf16 and without AMX, a training step of the U-Net takes 575 ms in float32 and 794",
    "in bf16, 265 and 410 without attention: bf16 is slower there. The Fréchet distance is 8.1 times as fast as",
    "scipy's, sampling 2.45 times as fast as GPT-2 with its cache, the U-Net in float32 1.68 and 1.90 times as fast as",
    "that of diffusers.",
)


def figures(script: Path) -> list[dict[str, Any]]:
    done = subprocess.run([sys.executable, script], check=True, stdout=subprocess.PIPE, text=True)
    print(done.stdout, end="", flush=True)
    return [{"script": script.stem, **json.loads(line)} for line in done.stdout.splitlines()]


def processor() -> str:
    """Its name and, since virtual machines hide that, its family and model."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    about = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    if "model name" not in about:
        return platform.processor() or platform.machine()
    return f"{about['model name']} (family {about.get('cpu family', '?')}, model {about.get('model', '?')})"


def render(machines: Machines) -> str:
    """A table for each script, with one row for each benchmark and one column for each processor."""
    found = {name: {row["name"]: row for row in machine["figures"]} for name, machine in machines.items()}
    named = {row["name"]: row for rows in found.values() for row in rows.values()}
    blocks = []
    for script in sorted({row["script"] for row in named.values()}):
        there = {name: row for name, row in named.items() if row["script"] == script}
        measured = {machine: rows for machine, rows in found.items() if there.keys() & rows.keys()}
        heads = ["benchmark", "unit", *measured]
        rows = [
            [
                name.replace("|", r"\|"),
                row["unit"],
                *(cell(of[name]) if name in of else "–" for of in measured.values()),
            ]
            for name, row in there.items()
        ]
        lines = [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]
        blocks += [f"## {script}", "", f"`python benchmarks/run.py {script}`", "", *lines, ""]
    machine_lines = [f"- {name}: {machine['about']}." for name, machine in machines.items()]
    return "\n".join([*INTRODUCTION, *machine_lines, "", *blocks, *REPORTED]) + "\n"


def cell(row: dict[str, Any]) -> str:
    return f"{row['ours']:.4g} / {row['peer']:.4g}, {row['ratio']:.3g}"


def chosen(scripts: list[Path]) -> list[Path]:
    """Those that the command line names; all if it names none."""
    names = [script.stem for script in scripts]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scripts", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; default: all")
    wanted = parser.parse_args().scripts
    if unknown := [name for name in wanted if name not in names]:
        parser.exit(2, f"no benchmark is called {unknown[0]!r}; choose from {', '.join(names)}\n")
    return [script for script in scripts if script.stem in wanted] or scripts


def main() -> None:
    scripts = sorted(path for path in HERE.glob("*.py") if path.stem not in ("run", "timing"))
    named = chosen(scripts)
    import torch

    machines: Machines = json.loads(RESULTS.read_text(encoding="utf-8"))["machines"]
    kept = machines.get(processor(), {"figures": []})["figures"] if named != scripts else []
    rows = [row for row in kept if row["script"] not in {script.stem for script in named}]
    rows = sorted([*rows, *(row for script in named for row in figures(script))], key=lambda row: row["script"])
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    about = f"{platform.machine()}, {torch.get_num_threads()} threads, {versions}"
    machines[processor()] = {"about": about, "figures": rows}
    document = json.dumps({"command": "make bench", "machines": machines}, indent=2)
    RESULTS.write_text(document + "\n", encoding="utf-8")
    TABLE.write_text(render(machines), encoding="utf-8")


if __name__ == "__main__":
    main()
