"""Samples and evaluations of several processes are those of one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

import dgm
from dgm.cli.main import main

COMMANDS = """
import sys
import torch
from dgm.cli.main import main

torch.set_num_threads(1)
out = sys.argv[1]
sys.exit(main(["sample", out, "-n", "600", "--out", out + "/three.npz"]) or main(["evaluate", out, "--samples", "300"]))
"""


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def by_torchrun(processes: int, script: str, *arguments: str) -> None:
    """In the environment that torchrun gives each of its processes."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "TORCHELASTIC_RUN_ID": "test"}
    shared |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    found = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0] * processes, found
    assert not any(out for out, _ in found[1:]), "only the first process prints"


def measured(run: Path) -> Any:
    """What an evaluation says, without times and machines."""
    document = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    return {name: document[name] for name in ("likelihood", "metrics", "memorisation", "modes")}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["made", "vae"])
def test_three_processes_sample_and_measure_what_one_does(name: str, tmp_path: Path) -> None:
    """An exact likelihood is shared, a bound is not. Kills: chunks in another order, noise drawn by each process."""
    digits, run = dgm.data.load("digits"), tmp_path / "run"
    torch.manual_seed(0)
    model = dgm.create(name, digits.space, hidden=16)
    list(dgm.fit(model, digits, out=run, steps=5, batch=32))
    assert main(["sample", str(run), "-n", "600", "--out", str(run / "one.npz")]) == 0
    assert main(["evaluate", str(run), "--samples", "300"]) == 0
    expected = measured(run)
    by_torchrun(3, COMMANDS, str(run))
    one, three = (numpy.load(run / f"{which}.npz", allow_pickle=False)["x"] for which in ("one", "three"))
    assert (one == three).all()
    assert measured(run) == expected
