"""The README's code and the example run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_readmes_python_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "tensor(" in done.stdout


def test_the_readmes_commands_are_commands() -> None:
    from dgm.cli.main import VERBS

    verbs = re.findall(r"^dgm (\w+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(verbs) >= 5
    assert set(verbs) <= set(VERBS)


def test_the_example_of_ones_own_model_keeps_the_contract() -> None:
    command = [sys.executable, "-m", "dgm", "check", "own_model:Independent"]
    done = subprocess.run(command, cwd=ROOT / "examples", env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_relative_link_leads_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
