"""A run whose files were changed in any way is used or refused in one line: no traceback, nothing run, nothing left."""

from __future__ import annotations

import json
import random
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import dgm
from dgm import memory, runs, tensor_files
from dgm.cli.main import one_line
from dgm.errors import DamagedRun
from dgm.evaluation.evaluate import evaluate
from dgm.files import write_json
from dgm.report import collect, table
from dgm.report.render import write_report

HANG_SECONDS = 120  # a hundred times what the slowest of them takes
GROWTH = 1 << 30  # bytes of memory that 250 damaged runs may take on top; a load takes some ten megabytes
ALL, PART = 1000, 250
ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    3,
    10**6,
    10**12,
    10**30,
    -(10**30),
    0.5,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
]
ODD += [
    "..",
    "/",
    ":",
    "evil:Model",
    "/etc/passwd",
    "\0",
    "\ud800",
    "x" * 10_000,
    [],
    {},
    [1, [2]],
    {"a": {"b": 1}},
    [10**9] * 3,
]
ODD += [[0] * 1000, ["digits"], "1", "-1", "vae", "gmm", "ddpm", "mnist", "continuous", "tokens"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a checkpoint, an evaluation and its report's samples."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    digits = dgm.data.load("digits")
    model = dgm.create("vae", digits.space, latent=2)
    run = tmp_path_factory.mktemp("whole") / "run"
    for _ in dgm.fit(model, digits, out=run, steps=3, batch=32, ema=0.9):
        pass
    write_json(evaluate(model, digits, samples=30, spaces=["pixels"]), run / "evaluation.json")
    write_report([run], run.parent / "page.html")
    return run


def files(run: Path) -> list[str]:
    return sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file() and path.name != ".lock")


# -- mutations


def flipped(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 8])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def stuffed(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return (
        content[:place]
        + rng.choice([b"\0" * 9, b"\xff\xfe", b"[" * 5000, b"9" * 5000, b'"', b"}", b"1e999"])
        + content[place:]
    )


def edited(content: bytes, rng: random.Random) -> bytes:
    """A value of the JSON document, at any depth, is another, or gone, or under another name."""
    document = json.loads(content.splitlines()[0] if content.count(b'{"step"') > 1 else content)
    holder, key = rng.choice([*places({"": document})])
    how = rng.randrange(6)
    if how == 0:
        del holder[key]
    elif how == 1 and isinstance(holder, dict):
        holder[rng.choice(["", "name", "step", "x"])] = holder.pop(key)
    elif how == 2 and type(holder[key]) in (int, float):
        holder[key] *= rng.choice([-1, 2, 1000, 10**9, 10**18])
    elif how == 3 and isinstance(holder[key], (list, str)):
        holder[key] = holder[key] * rng.choice([0, 2, 100])
    else:
        holder[key] = rng.choice(ODD)
    return (json.dumps(document) + "\n").encode()


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        if value is not part and isinstance(value, (dict, list)) and key != "":
            yield value, key
        if isinstance(part, (dict, list)):
            yield from places(part)


def retensored(path: Path, rng: random.Random) -> None:
    """One tensor of a file is of another name, type, shape or content."""
    tensors = load_file(path)
    name = rng.choice(sorted(tensors))
    tensor = tensors.pop(name)
    changed = {
        "rename": lambda: {"x" + name: tensor},
        "drop": dict,
        "flat": lambda: {name: tensor.flatten()[:-1].clone()},
        "deeper": lambda: {name: tensor[None].clone()},
        "type": lambda: {name: tensor.to(rng.choice([torch.float16, torch.float64, torch.int32, torch.bool]))},
        "nan": lambda: {name: torch.full_like(tensor, float("nan"))} if tensor.is_floating_point() else {},
        "huge": lambda: {name: torch.full_like(tensor, 1e38)} if tensor.dtype == torch.float32 else {},
        "more": lambda: {name: tensor, "more": torch.zeros(3)},
    }
    save_file(tensors | changed[rng.choice(sorted(changed))](), path)


def damage(run: Path, name: str, rng: random.Random) -> str:
    """Changes one file of the run; half of the time its manifest says that this is how it should be."""
    path = run / name
    content = path.read_bytes()
    if path.suffix == ".safetensors" and rng.random() < 0.5:
        how = "retensored"
        retensored(path, rng)
    elif rng.random() < 0.03:
        how = "linked"
        (run.parent / "private").write_bytes(content)
        path.unlink()
        path.symlink_to(run.parent / "private")
    else:
        edits: list[Callable[[bytes, random.Random], bytes]] = [flipped, cut, stuffed]
        change = rng.choice([*edits, *[edited] * (9 * (path.suffix in (".json", ".jsonl")))])
        how = change.__name__
        path.write_bytes(change(content, rng))
    if rng.random() < 0.5 and (path.parent / "manifest.json").is_file() and path.name != "manifest.json":
        present = [part for part in (*tensor_files.WEIGHTS, *tensor_files.STATE) if (path.parent / part).is_file()]
        tensor_files.write_manifest(path.parent, present)
    return how


# -- use


def use(run: Path, name: str, out: Path) -> None:
    """All that reads this file."""
    if name.startswith("checkpoints"):
        (run / "manifest.json").unlink()
        dgm.load(run)
        resume(run)
    elif name.startswith(("evaluation", "metrics", "samples")):
        found = collect.trained(run)
        table.as_csv(table.rows([found], "pixels"))
        write_report([run], out / "page.html")
    else:
        model = dgm.load(run)
        memory.refuse_too_many(2, model.space)
        model.sample(2, seed=0)
        runs.Run(run).dataset()
        table.as_csv(table.rows([collect.trained(run)], "pixels"))
        if name == "config.json":
            resume(run)


def resume(run: Path) -> None:
    """One step of the training that goes on, as `dgm train --resume` does it."""
    trained = runs.Run(run)
    kept = trained.config["training"] | {"steps": 5, "budget": None, "devices": 1, "compile": False}
    training = dgm.fit(trained.untrained(), trained.dataset(), out=run, resume=True, **kept)
    next(training)
    training.close()


@contextmanager
def no_hang() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(HANG_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def attack(whole: Path, folder: Path, cases: range) -> tuple[int, int]:
    """How many damaged runs were used and how many refused."""
    names, used = files(whole), 0
    (folder / "evil.py").write_text(
        "import pathlib; pathlib.Path(__file__).with_name('executed').touch()", encoding="utf-8"
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for k in cases:
        rng, name, run = random.Random(k), names[k % len(names)], folder / "run"
        shutil.copytree(whole, run)
        how = damage(run, name, rng)
        try:
            with no_hang():
                use(run, name, folder / "out")
            used += 1
        except Exception as error:
            line = one_line(error)
            if line is None:
                raise AssertionError(f"case {k}: {name}, {how}") from error
            assert "\n" not in line, f"case {k}: {line}"
        shutil.rmtree(run)
        shutil.rmtree(folder / "out", ignore_errors=True)
        (folder / "private").unlink(missing_ok=True)
        assert [path.name for path in folder.iterdir()] == ["evil.py"], f"case {k}: {name}, {how}"
    assert "evil" not in sys.modules
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before < GROWTH
    return used, len(cases) - used


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, ALL, PART))
def test_a_thousand_damaged_runs_are_used_or_refused_in_one_line(whole: Path, tmp_path: Path, first: int) -> None:
    used, refused = attack(whole, tmp_path, range(first, first + PART))
    assert used > 0
    assert refused > PART / 4  # what no verb needs, such as an old checkpoint, may be damaged


def test_an_evaluation_without_samples_is_reported(whole: Path, tmp_path: Path) -> None:
    """Where drawing them failed, or where what was not measured is not said."""
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    document = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    for part in ("samples", "skipped"):
        del document[part]
    (run / "evaluation.json").write_text(json.dumps(document), encoding="utf-8")
    write_report([run], tmp_path / "page.html")
    assert "bits" in (tmp_path / "page.html").read_text(encoding="utf-8")
    (run / "evaluation.json").write_text(json.dumps(document | {"skipped": [{"reason": "x"}]}), encoding="utf-8")
    with pytest.raises(DamagedRun, match=r"skipped.0.what is missing"):
        write_report([run], tmp_path / "page.html")
