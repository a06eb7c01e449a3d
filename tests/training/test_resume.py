"""Training that is killed anywhere goes on to the same bits."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from trainees import MODELS, SPACE, Normal, made, points

from dgm import runs, tensor_files
from dgm.errors import BadInput, DamagedRun, Interrupted, TrainingStopped
from dgm.training import Step, checkpoint, fit, validation
from dgm.training.validation import Validation

STEPS = {"noisy": 23, "duel": 23, "creeping": 2000}


def training(name: str, out: Path, **settings: Any) -> Iterator[Step]:
    """Starts, or goes on with, what is in ``out``; the initial weights are the same each time."""
    resume = (out / "config.json").exists()
    return fit(
        made(name),
        points(),
        out=out,
        resume=resume,
        **({"steps": STEPS[name], "checkpoint_every": 0.0, "precision": "32-true"} | settings),
    )


def finish(name: str, out: Path, **settings: Any) -> str:
    for _ in training(name, out, **settings):
        pass
    return tensor_files.sha256(out / "weights.safetensors")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, Path]]:
    outs = {name: tmp_path_factory.mktemp("uninterrupted") / name for name in MODELS}
    return {name: (finish(name, out, checkpoint_every=1e9), out) for name, out in outs.items()}


def numbers(out: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, without the time they took."""
    return [{key: value for key, value in line.items() if key != "seconds"} for line in runs.Run(out).metrics()]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("at", [1, 7, 16])
def test_goes_on_to_the_same_bits(name: str, at: int, tmp_path: Path, uninterrupted: Any) -> None:
    """Kills: no optimiser state, random state, average, best weights or place in the epoch; lines written twice."""
    expected, whole = uninterrupted[name]
    steps = training(name, tmp_path / "run", checkpoint_every=0.0)
    assert [next(steps).step for _ in range(at + 1)][-1] == at + 1
    steps.close()  # as a kill after the checkpoint of step `at`, with a line of the next step
    assert finish(name, tmp_path / "run") == expected
    assert numbers(tmp_path / "run") == numbers(whole)


def test_the_best_weights_of_before_the_stop_are_kept(tmp_path: Path) -> None:
    """Too large a step: the last validation is not the best. Kills: the best weights or their loss not restored."""
    settings = {
        "steps": 40,
        "batch": 8,
        "lr": 1.0,
        "schedule": "constant",
        "validate_every": 1,
        "checkpoint_every": 0.0,
    }
    model = Normal(SPACE, Normal.Config())
    losses = [step.validation for step in fit(model, points(), out=tmp_path / "whole", **settings)]
    assert losses[38] > min(losses[:38])
    assert losses[39] > min(losses[:38])
    steps = fit(Normal(SPACE, Normal.Config()), points(), out=tmp_path / "cut", **settings)
    assert [next(steps).step for _ in range(39)][-1] == 39
    steps.close()
    resumed = Normal(SPACE, Normal.Config())
    assert len(list(fit(resumed, points(), out=tmp_path / "cut", resume=True))) == 2
    torch.testing.assert_close(resumed.state_dict(), model.state_dict(), rtol=0, atol=0)


def test_another_noise_gives_other_bits(tmp_path: Path, uninterrupted: Any) -> None:
    for name in MODELS:
        assert finish(name, tmp_path / name, seed=1) != uninterrupted[name][0]


def test_goes_on_with_its_own_settings(tmp_path: Path) -> None:
    out = tmp_path / "run"
    next(fit(made("noisy"), points(), out=out, steps=9, lr=0.125, batch=8))
    steps = list(fit(made("noisy"), points(), out=out, resume=True))
    assert (steps[-1].step, steps[-1].examples) == (9, 72)
    assert runs.Run(out).config["training"]["lr"] == 0.125
    assert [step.step for step in fit(made("noisy"), points(), out=out, resume=True, steps=11)] == [10, 11]


def test_only_its_own_model_and_data_go_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    next(training("noisy", out))
    with pytest.raises(BadInput, match="the model is not that of"):
        fit(made("duel"), points(), out=out, resume=True)
    with pytest.raises(BadInput, match="the data is not that of"):
        fit(made("noisy"), points(32), out=out, resume=True)


def test_a_trained_run_loads_and_stays_as_it_is(tmp_path: Path) -> None:
    out = tmp_path / "run"
    expected = finish("noisy", out)
    assert finish("noisy", out) == expected
    model = runs.load(out, model=MODELS["noisy"])
    stored = tensor_files.read_weights(out / "weights.safetensors")
    torch.testing.assert_close(model.state_dict(), stored, rtol=0, atol=0)
    assert not model.training


def test_keeps_the_last_checkpoints(tmp_path: Path) -> None:
    finish("noisy", tmp_path / "run", keep=3)
    kept = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    assert kept == ["step-00000021", "step-00000022", "step-00000023"]


# -- killed


def child(name: str, out: str, kill_at_call: int | None) -> None:
    """In a process of its own: trains, slowly or until that call of anything that changes the disk, which kills it."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    os.fsync = lambda descriptor: None
    calls = 0

    def killing(function: Any) -> Any:
        def called(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == kill_at_call:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return called

    if kill_at_call is not None:
        import shutil

        for module, function in [
            (os, "fsync"),
            (Path, "replace"),
            (shutil, "rmtree"),
            (Path, "mkdir"),
            (Path, "unlink"),
        ]:
            setattr(module, function, killing(getattr(module, function)))
    for _ in training(name, Path(out)):
        time.sleep(0.02 if kill_at_call is None else 0)


@pytest.fixture(scope="module")
def context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["dgm.training", "lightning_fabric", "torch._dynamo"])
    return context


def killed_at(context: Any, name: str, out: Path, call: int | None, after: float | None = None) -> int:
    process = context.Process(target=child, args=(name, str(out), call))
    process.start()
    process.join(after)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode


@pytest.mark.slow
def test_killed_inside_every_write_of_a_checkpoint(context: Any, tmp_path: Path, uninterrupted: Any) -> None:
    """Each process gets one disk call further than the last one before it is killed, and all work in one directory."""
    out, call, code = tmp_path / "run", 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        call += 1
        code = killed_at(context, "noisy", out, call)
        if call > 40:
            code = killed_at(context, "noisy", out, None)
    assert code == 0
    assert call > 20
    assert tensor_files.sha256(out / "weights.safetensors") == uninterrupted["noisy"][0]
    assert numbers(out) == numbers(uninterrupted["noisy"][1])
    assert not list(out.rglob("*.tmp"))


@pytest.mark.parametrize("name", ["duel", "creeping"])
def test_killed_at_random_moments(name: str, context: Any, tmp_path: Path, uninterrupted: Any) -> None:
    moments = random.Random(name)
    code, kills = -signal.SIGKILL, 0
    while code == -signal.SIGKILL:
        code = killed_at(context, name, tmp_path / "run", None, after=moments.uniform(0.05, 0.2) * 1.1**kills)
        kills += code != 0
    assert code == 0
    assert kills >= 3
    assert tensor_files.sha256(tmp_path / "run/weights.safetensors") == uninterrupted[name][0]


# -- asked to stop


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(number: int, tmp_path: Path, uninterrupted: Any) -> None:
    out = tmp_path / "run"
    steps = training("noisy", out, checkpoint_every=1e9)
    assert [next(steps).step for _ in range(5)][-1] == 5
    handler = signal.getsignal(number)
    signal.raise_signal(number)
    with pytest.raises(Interrupted, match=f"stopped at step 5, which is saved; go on with: dgm train --resume {out}"):
        next(steps)
    assert signal.getsignal(number) != handler
    assert next(training("noisy", out)).step == 6
    assert finish("noisy", out) == uninterrupted["noisy"][0]


@pytest.mark.parametrize("at", [11, 23])
def test_an_interrupted_validation_is_made_up_for(at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also that of the last step. Kills: that validation left out; its line or its losses lost; weights not selected
    by it; a second block after the signal.
    """
    monkeypatch.setattr(validation, "evaluation_batch", lambda model: 8)
    whole = finish("noisy", tmp_path / "whole")
    out, steps, blocks = tmp_path / "run", list[int](), list[int]()
    measure, total = Validation.measure, Validation.total

    def measured(self: Validation, step: int, stopped: Callable[[], bool]) -> float | None:
        steps.append(step)
        return measure(self, step, stopped)

    def interrupted(self: Validation, rows: torch.Tensor) -> float:
        if steps[-1] == at:
            blocks.append(len(rows))
            signal.raise_signal(signal.SIGTERM)
        return total(self, rows)

    with monkeypatch.context() as patched:
        patched.setattr(Validation, "measure", measured)
        patched.setattr(Validation, "total", interrupted)
        with pytest.raises(Interrupted, match=f"stopped at step {at}"):
            finish("noisy", out, checkpoint_every=1e9)
    assert blocks == [8]
    assert finish("noisy", out) == whole
    assert numbers(out) == numbers(tmp_path / "whole")


def test_the_second_interrupt_leaves_at_once(tmp_path: Path) -> None:
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    steps = training("noisy", tmp_path / "run")
    next(steps)
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    steps.close()
    signal.signal(signal.SIGINT, inherited)


# -- damaged, locked, full


def stopped_at(out: Path, step: int) -> None:
    steps = training("noisy", out, keep=2)
    assert [next(steps).step for _ in range(step + 1)][-1] == step + 1
    steps.close()


def test_unfinished_files_are_swept_and_checkpoints_only_where_nothing_began(tmp_path: Path) -> None:
    for name in ("checkpoints/.step-00000002.1.tmp", "checkpoints/step-00000001", "samples"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / ".config.json.1.tmp").touch()
    checkpoint.sweep(tmp_path, everything=False)
    assert {path.name for path in tmp_path.rglob("*")} == {"checkpoints", "step-00000001", "samples"}
    checkpoint.sweep(tmp_path, everything=True)
    assert {path.name for path in tmp_path.rglob("*")} == {"checkpoints", "samples"}


@pytest.mark.parametrize("harm", ["flip", "truncate", "remove", "empty manifest"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(
    harm: str, tmp_path: Path, uninterrupted: Any, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "run"
    stopped_at(out, 9)
    damaged = out / "checkpoints/step-00000009" / ("manifest.json" if "manifest" in harm else "state.safetensors")
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    match harm:
        case "remove":
            damaged.unlink()
        case "flip":
            damaged.write_bytes(content)
        case _:
            damaged.write_bytes(content[: len(content) // 2 if harm == "truncate" else 0])
    with caplog.at_level(logging.WARNING, logger="dgm"):
        steps = training("noisy", out)
        assert next(steps).step == 9
    steps.close()
    assert str(damaged) in caplog.text
    assert "using" in caplog.text
    assert "step-00000008" in caplog.text
    assert finish("noisy", out, keep=1) == uninterrupted["noisy"][0]


def test_with_every_checkpoint_damaged_there_is_nothing_to_go_on_from(tmp_path: Path) -> None:
    out = tmp_path / "run"
    stopped_at(out, 3)
    for path in out.glob("checkpoints/*/state.json"):
        path.write_text("{", encoding="utf-8")
    with pytest.raises(DamagedRun, match=r"step-00000003/state.json is damaged.*step-00000002/state.json is damaged"):
        next(training("noisy", out))


def test_one_training_a_directory_at_a_time(tmp_path: Path) -> None:
    first = training("noisy", tmp_path / "run")
    next(first)
    with pytest.raises(TrainingStopped, match="another training is writing to"):
        next(training("noisy", tmp_path / "run"))
    first.close()
    assert next(training("noisy", tmp_path / "run")).step == 1


def test_a_directory_in_use_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(BadInput, match=f"{tmp_path} exists; choose another --out"):
        next(fit(made("noisy"), points(), out=tmp_path, steps=1))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_place_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        BadInput, match="file/run cannot be written: Not a directory; make room there or get permission"
    ):
        next(fit(made("noisy"), points(), out=tmp_path / "file/run", steps=1))


def test_a_full_disk_loses_nothing(tmp_path: Path, uninterrupted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    steps = training("noisy", out)
    assert [next(steps).step for _ in range(5)][-1] == 5
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))  # the kernel refuses larger files, as a full disk does
    try:
        with pytest.raises(BadInput, match=r"state.safetensors cannot be written: .*; make room there"):
            next(steps)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(out.rglob("*.tmp"))
    assert next(training("noisy", out)).step == 5
    assert finish("noisy", out) == uninterrupted["noisy"][0]
