"""Freed memory is used again, which the system counts: pages that a process touches for the first time."""

from __future__ import annotations

import subprocess
import sys

import pytest

# a training's steps: each takes and frees 5 tensors of 40 MB, which glibc does not keep by default
STEPS = """
import resource, torch, dgm
torch.set_num_threads(1)
x = dgm.data.load('toy/moons')
model = dgm.create('gmm', x.space)
{first}
def step():
    kept = [torch.ones(10_000_000) for _ in range(5)]
for _ in range(3):  # until the heap has its shape
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
        "[*dgm.fit(model, x, steps=1)]",
        "dgm.evaluate(model, x, samples=50)",
        "dgm.sample(model, 1)",
    ],
)
def test_the_memory_of_a_step_serves_the_next(first: str) -> None:
    assert faults(first) < faults("") / 5
