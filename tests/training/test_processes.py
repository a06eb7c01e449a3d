"""Two processes do what one does: the same examples in each step, and the same weights after it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from trainees import DRAWING, SPACE, Duel, Normal, noisy_losses, points

from dgm import create, runs, tensor_files
from dgm.errors import BadInput, Unsupported
from dgm.training import fit

SETTINGS: dict[str, Any] = {"steps": 11, "batch": 16, "lr": 0.1, "clip": 0.5, "ema": 0.9, "warmup": 3}

SCRIPT = f"""
import os, sys
import torch
from safetensors.torch import save_file
from trainees import SPACE, Normal, points
from dgm.training import fit

torch.set_num_threads(1)
model = Normal(SPACE, Normal.Config())
steps = fit(model, points(), out=sys.argv[1], devices=int(sys.argv[2]), strategy="ddp", **{SETTINGS})
losses = torch.tensor([step.losses["model"] for step in steps])
rank = os.environ.get("RANK") or os.environ.get("LOCAL_RANK", "0")
save_file({{"seen": torch.stack([x for x, _ in model.seen]), "losses": losses}}, sys.argv[1] + rank)
"""

ENDED = """
import atexit, glob, os
names = lambda: [open(path).read() for path in glob.glob("/proc/self/task/*/comm")]
atexit.register(lambda: os._exit(3) if "gloo" in str(names()) else None)
"""

RESUMED = """
import os, sys
import torch
from trainees import made, points
from dgm.training import fit

torch.set_num_threads(1)
settings = {"steps": 9, "batch": 16, "checkpoint_every": 0.0, "strategy": "ddp"}
if sys.argv[2] == "whole":
    list(fit(made("noisy"), points(), out=sys.argv[1] + "/whole", **settings))
    os._exit(0)
if sys.argv[2] == "begin":
    for step in fit(made("noisy"), points(), out=sys.argv[1] + "/cut", **settings):
        if step.step == 5:
            os._exit(0)
list(fit(made("noisy"), points(), out=sys.argv[1] + "/cut", resume=True))
"""


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | more


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def by_torchrun(out: Path, script: str = SCRIPT, *, processes: int = 2, argument: str = "1") -> list[int]:
    """In the environment that torchrun gives each of its processes; their exit codes."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "TORCHELASTIC_RUN_ID": "test"}
    shared |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "GROUP_RANK": "0"}
    shared |= {"TORCHELASTIC_USE_AGENT_STORE": "False"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(out), argument],
            env=environment(**shared, RANK=str(rank), LOCAL_RANK=str(rank)),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    errors = [process.communicate(timeout=300)[1] for process in started]
    print(*errors)
    return [process.returncode for process in started]


def by_devices(out: Path) -> None:
    """The first process starts the second."""
    script = out.with_suffix(".py")
    script.write_text(SCRIPT, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script, str(out), "2"], env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def as_two(out: Path, strategy: str) -> None:
    """No thread of gloo may outlive the interpreter, which it would abort; a sharded model keeps its group."""
    script = SCRIPT.replace('"ddp"', f'"{strategy}"')
    assert by_torchrun(out, ENDED + script if strategy == "ddp" else script) == [0, 0]


@pytest.mark.parametrize(
    "start",
    [
        lambda out: as_two(out, "ddp"),
        pytest.param(lambda out: as_two(out, "fsdp"), marks=pytest.mark.slow),
        pytest.param(by_devices, marks=pytest.mark.slow),
    ],
    ids=["ddp", "fsdp", "devices"],
)
def test_two_processes_do_what_one_does(start: Any, tmp_path: Path) -> None:
    """Kills: gradients summed or not shared, a contiguous share of another batch, clipping before the sharing, a group
    that is not destroyed at the end, or that the training still refers to.
    """
    model = Normal(SPACE, Normal.Config())
    steps = list(fit(model, points(), out=tmp_path / "one", **SETTINGS))
    start(tmp_path / "two")
    one, two = (tensor_files.read_weights(tmp_path / name / "weights.safetensors") for name in ("one", "two"))
    torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-6)  # a mean of two means rounds in another order
    shares = [tensor_files.read_weights(tmp_path / f"two{rank}") for rank in (0, 1)]
    seen = torch.stack([share["seen"] for share in shares], 2).flatten(1, 2)
    assert torch.equal(seen, torch.stack([x for x, _ in model.seen]))
    assert torch.equal(shares[0]["losses"], shares[1]["losses"])
    assert shares[0]["losses"].tolist() == pytest.approx([step.losses["model"] for step in steps], rel=1e-5)
    lines = [line["step"] for line in runs.Run(tmp_path / "two").metrics()]
    assert lines == [line["step"] for line in runs.Run(tmp_path / "one").metrics()]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_go_on_to_the_same_bits(strategy: str, tmp_path: Path) -> None:
    """Each has its own noise. Kills: only the first process's random state saved, or given to both."""
    script = RESUMED.replace('"ddp"', f'"{strategy}"')
    for argument in ("whole", "begin", "go on"):
        assert by_torchrun(tmp_path, script, argument=argument) == [0, 0]
    whole, cut = (tensor_files.sha256(tmp_path / name / "weights.safetensors") for name in ("whole", "cut"))
    assert whole == cut


TWICE = f"""
import sys
import torch
from trainees import SPACE, Normal, points
from dgm.training import fit

torch.set_num_threads(1)
for k in range(2):
    list(fit(Normal(SPACE, Normal.Config()), points(), out=sys.argv[1] + "/" + str(k), strategy="ddp", **{SETTINGS}))
"""


@pytest.mark.slow
def test_two_trainings_in_one_process_run_to_their_end(tmp_path: Path) -> None:
    """With their runs, whose files one process writes. Kills: a group of processes that the first training closes."""
    assert by_torchrun(tmp_path, TWICE) == [0, 0]
    first, second = (tensor_files.sha256(tmp_path / str(k) / "weights.safetensors") for k in range(2))
    assert first == second
    assert [line["step"] for line in runs.Run(tmp_path / "1").metrics()][-1] == SETTINGS["steps"]


NOISY = """
import os, sys
import torch
from safetensors.torch import save_file
from trainees import noisy_losses

torch.set_num_threads(1)
losses = noisy_losses(*sys.argv[2].split())
if os.environ["RANK"] == "1":
    save_file(losses, sys.argv[1] + "/losses")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "names"),
    [
        ("ddp", list(DRAWING)),
        ("fsdp", [name for name in DRAWING if name != "vdm"]),
    ],
    ids=["ddp", "fsdp"],
)
def test_noise_is_drawn_for_the_whole_batch(strategy: str, names: list[str], tmp_path: Path) -> None:
    """The processes train one model after the other, in the same process group.

    Kills: a stream of each process, NumPy's among them, rows in another order, strata of a share, a mask or a
    permutation of each process, a group that is made again.
    """
    expected = noisy_losses("ddp", *names)
    assert by_torchrun(tmp_path, NOISY, argument=" ".join([strategy, *names])) == [0, 0]
    found = tensor_files.read_weights(tmp_path / "losses")
    assert set(found) == set(names)
    for name, losses in expected.items():  # float32 sums in another order, and Adam's first steps divide by small ones
        said = lambda error, name=name: f"{name}: {error}"  # noqa: E731
        torch.testing.assert_close(found[name], losses, rtol=1e-5, atol=1e-5, msg=said)


KILLED = f"""
import os, signal, sys
import torch
from trainees import SPACE, Normal, points
from dgm.training import fit

torch.set_num_threads(1)
out, resume = sys.argv[1], sys.argv[2] != "4"
settings = {{}} if resume else {SETTINGS | {"checkpoint_every": 0.0, "strategy": "fsdp"}}
for step in fit(Normal(SPACE, Normal.Config()), points(), out=out, resume=resume, **settings):
    if [os.environ["RANK"], str(step.step)] == ["1", sys.argv[2]]:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_sharded_training_outlives_a_killed_process_and_another_number_of_them(tmp_path: Path) -> None:
    """Two processes, one of them killed; four, one of them killed; then one: the curve of one process.

    Kills: an average or an optimiser's state that is not whole again, rows in another order.
    """
    model = Normal(SPACE, Normal.Config())
    list(fit(model, points(), out=tmp_path / "one", **SETTINGS))
    out = tmp_path / "run"
    assert -signal.SIGKILL in by_torchrun(out, KILLED, processes=2, argument="4")
    assert list(out.glob("checkpoints/step-*/state-00001-of-00002.safetensors"))
    assert -signal.SIGKILL in by_torchrun(out, KILLED, processes=4, argument="7")
    assert list(out.glob("checkpoints/step-*/state-00003-of-00004.safetensors"))
    runs.Run(out).weights()  # a run that has not ended can be looked at by one process
    list(fit(Normal(SPACE, Normal.Config()), points(), out=out, resume=True))
    one, several = (tensor_files.read_weights(path / "weights.safetensors") for path in (tmp_path / "one", out))
    torch.testing.assert_close(several, one, rtol=1e-5, atol=1e-6)
    found, expected = (runs.Run(path).metrics() for path in (out, tmp_path / "one"))
    assert [line["losses"]["model"] for line in found] == pytest.approx(
        [line["losses"]["model"] for line in expected], rel=1e-5
    )


def unnamed() -> Duel:
    model = Duel(SPACE, Duel.Config())
    del model.players
    return model


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda: create("vdm", SPACE, width=8), "the weight 'path.w' of VDM is a single number and cannot be sharded"),
        (unnamed, "Duel does not name its players"),
    ],
)
def test_a_model_that_cannot_be_sharded_is_refused_before_a_process_is_started(model: Any, said: str) -> None:
    with pytest.raises(Unsupported, match=f"{said}; use --strategy ddp"):
        fit(model(), points(), steps=1, strategy="fsdp")


def test_a_batch_that_cannot_be_shared() -> None:
    from dgm.training.batches import Batches

    with pytest.raises(BadInput, match="a batch of 15 cannot be shared by 2 devices; make it a multiple of 2"):
        Batches(points().train, 15, 0, rank=0, world=2, device=torch.device("cpu"))
