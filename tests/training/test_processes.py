"""Two processes do what one does: the same examples in each step, and the same weights after it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from trainees import SPACE, Normal, points

from dgm import runs
from dgm.errors import BadInput
from dgm.training import fit

SETTINGS = {"steps": 11, "batch": 16, "lr": 0.1, "clip": 0.5, "ema": 0.9, "warmup": 3}

SCRIPT = f"""
import os, sys
import torch
from safetensors.torch import save_file
from trainees import SPACE, Normal, points
from dgm.training import fit

torch.set_num_threads(1)
model = Normal(SPACE, Normal.Config())
steps = fit(model, points(), out=sys.argv[1], devices=int(sys.argv[2]), **{SETTINGS})
losses = torch.tensor([step.losses["model"] for step in steps])
rank = os.environ.get("RANK") or os.environ.get("LOCAL_RANK", "0")
save_file({{"seen": torch.stack([x for x, _ in model.seen]), "losses": losses}}, sys.argv[1] + rank)
"""

RESUMED = """
import os, sys
import torch
from trainees import made, points
from dgm.training import fit

torch.set_num_threads(1)
settings = {"steps": 9, "batch": 16, "checkpoint_every": 0.0}
list(fit(made("noisy"), points(), out=sys.argv[1] + "/whole", **settings))
steps = fit(made("noisy"), points(), out=sys.argv[1] + "/cut", **settings)
[next(steps) for _ in range(5)]
steps.close()
list(fit(made("noisy"), points(), out=sys.argv[1] + "/cut", resume=True))
"""


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | more


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def by_torchrun(out: Path, script: str = SCRIPT) -> None:
    """The environment that torchrun gives each of its processes."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    shared |= {"TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0", "TORCHELASTIC_USE_AGENT_STORE": "False"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(out), "1"],
            env=environment(**shared, RANK=str(rank), LOCAL_RANK=str(rank)),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors


def by_devices(out: Path) -> None:
    """The first process starts the second."""
    script = out.with_suffix(".py")
    script.write_text(SCRIPT, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script, str(out), "2"], env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("start", [by_torchrun, pytest.param(by_devices, marks=pytest.mark.slow)])
def test_two_processes_do_what_one_does(start: object, tmp_path: Path) -> None:
    """Kills: gradients summed or not shared, a contiguous share of another batch, clipping before the sharing."""
    model = Normal(SPACE, Normal.Config())
    steps = list(fit(model, points(), out=tmp_path / "one", **SETTINGS))
    start(tmp_path / "two")
    one, two = (runs.read_weights(tmp_path / name / "weights.safetensors") for name in ("one", "two"))
    torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-6)  # a mean of two means rounds in another order
    shares = [runs.read_weights(tmp_path / f"two{rank}") for rank in (0, 1)]
    seen = torch.stack([share["seen"] for share in shares], 2).flatten(1, 2)
    assert torch.equal(seen, torch.stack([x for x, _ in model.seen]))
    assert torch.equal(shares[0]["losses"], shares[1]["losses"])
    assert shares[0]["losses"].tolist() == pytest.approx([step.losses["model"] for step in steps], rel=1e-5)
    lines = [line["step"] for line in runs.Run(tmp_path / "two").metrics()]
    assert lines == [line["step"] for line in runs.Run(tmp_path / "one").metrics()]


@pytest.mark.slow
def test_two_processes_go_on_to_the_same_bits(tmp_path: Path) -> None:
    """Each has its own noise. Kills: only the first process's random state saved, or given to both."""
    by_torchrun(tmp_path, RESUMED)
    whole, cut = (runs.sha256(tmp_path / name / "weights.safetensors") for name in ("whole", "cut"))
    assert whole == cut


def test_a_batch_that_cannot_be_shared() -> None:
    from dgm.training.batches import Batches

    with pytest.raises(BadInput, match="a batch of 15 cannot be shared by 2 devices; make it a multiple of 2"):
        Batches(points().train, 15, 0, rank=0, world=2, device=torch.device("cpu"))
