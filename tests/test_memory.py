"""Freed memory is used again, which the system counts: pages that a process touches for the first time."""

from __future__ import annotations

import subprocess
import sys

import pytest

# a training's steps: each takes and frees 40 tensors of 20 MB
STEPS = """
import resource, torch
torch.set_num_threads(1)
{first}
def step():
    kept = [torch.ones(5_000_000) for _ in range(40)]
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(first: str) -> int:
    done = subprocess.run([sys.executable, "-c", STEPS.format(first=first)], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the thresholds are those of glibc")
@pytest.mark.parametrize(
    "first",
    [
        "from dgm.memory import keep_freed; keep_freed()",
        "import dgm; [*dgm.fit(dgm.create('fvsbn', dgm.Space.binary((4,))), torch.ones(8, 4, dtype=torch.uint8), steps=1)]",
        "import dgm; x = dgm.data.load('digits'); dgm.evaluate(dgm.create('fvsbn', x.space), x, samples=50)",
        "import dgm; dgm.sample(dgm.create('fvsbn', dgm.Space.binary((4,))), 1)",
    ],
)
def test_the_memory_of_a_step_serves_the_next(first: str) -> None:
    assert faults(first) < faults("") / 50
