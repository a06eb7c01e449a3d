"""The command line beside mistakes: labels, forms of output, a run that goes on, an interruption."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
from commands import dgm
from pyarrow import parquet

from dgm.cli.parser import Parser
from dgm.errors import BadInput
from dgm.runs import Run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of three labels, of a table, of a text and of points, hardly trained."""
    folder = tmp_path_factory.mktemp("line")
    generator = numpy.random.default_rng(0)
    x = generator.integers(0, 2, (60, 1, 4, 4))
    numpy.savez(folder / "animals.npz", images=x, labels=numpy.array(["cat", "dog", "7"])[numpy.arange(60) % 3])
    numpy.savetxt(folder / "t.csv", generator.normal(size=(60, 3)), delimiter=",", header="a,b,c", comments="")
    (folder / "words.txt").write_text("to be or not to be, that is the question\n" * 60, encoding="utf-8")
    for arguments, hint in (
        ("made --conditional --data animals.npz --steps 5 --out animals", "animals -n 64 --out grid.png"),
        ("gmm --data t.csv --model.components 2 --out table", "table -n 1000 --out samples.csv"),
        ("char_gpt --data words.txt --context 16 --steps 2 --model.layers 1 --out text", "text -n 1 --out -"),
        ("gmm --data toy/moons --steps 2 --out points", "points -n 1000 --out points.png"),
    ):
        done = dgm(f"train {arguments}", folder)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"trained; look at it with: dgm sample {hint}\n"
        assert (" nats a dimension  " in done.stderr) == arguments.startswith("char_gpt")  # as it states
    return folder


def sampled(runs: Path, options: str) -> numpy.ndarray:
    done = dgm(f"sample {options} --out sampled.npz", runs)
    assert done.returncode == 0, done.stderr
    x = numpy.load(runs / "sampled.npz")["x"]
    (runs / "sampled.npz").unlink()
    return x


def test_a_label_has_a_name_and_a_number(runs: Path) -> None:
    """Labels are the sorted values: 7, cat, dog. A name that is a number is a name. Kills: the number first."""
    by_name = {label: sampled(runs, f"animals -n 9 --label {label}") for label in ("7", "cat", "dog")}
    assert (by_name["dog"] == sampled(runs, "animals -n 9 --label 2")).all()
    assert (by_name["7"] == sampled(runs, "animals -n 9 --label 0")).all()
    assert (by_name["7"] != by_name["cat"]).any()
    done = dgm("sample animals --label dgo --out none.png", runs)
    assert done.stderr == "dgm: no label of this run is called 'dgo'; did you mean 'dog'?\n"


def test_a_table_of_samples_is_the_same_as_parquet(runs: Path) -> None:
    assert dgm("sample table -n 20 --out a.parquet", runs).returncode == 0
    table = parquet.read_table(runs / "a.parquet")
    assert table.column_names == ["a", "b", "c"]
    assert (numpy.stack([column.to_numpy() for column in table.columns], 1) == sampled(runs, "table -n 20")).all()


def test_a_folder_of_mixed_sizes_says_what_becomes_of_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from PIL import Image

    for k in range(12):
        Image.new("L", (9 + k, 12)).save(tmp_path / f"{k}.png")
    assert dgm("data .", tmp_path).returncode == 0
    assert "12 images have 12 sizes: each becomes 32×32" in caplog.text
    caplog.clear()
    for k in range(12):
        Image.new("L", (9, 12)).save(tmp_path / f"{k}.png")
    assert dgm("data .", tmp_path).returncode == 0
    assert caplog.text == ""


def test_a_run_that_its_patience_ended_goes_on_without_it(runs: Path) -> None:
    """A learning rate of 0 gains nothing after the first epoch."""
    command = "train vae --data t.csv --steps 60 --lr 0 --patience 1 --model.hidden 8 --out patient"
    assert dgm(command, runs).returncode == 0
    steps = Run(runs / "patient").metrics()[-1]["step"]
    assert steps < 60
    done = dgm("train --resume patient --data t.csv --steps 70", runs)
    assert done.returncode == 2
    assert "stopped: the validation loss was lowest after step" in done.stderr
    assert done.stderr.endswith("add --patience 0 to train it longer all the same\n")
    assert dgm(f"train --resume patient --data t.csv --steps {steps + 2} --patience 0", runs).returncode == 0
    assert Run(runs / "patient").metrics()[-1]["step"] == steps + 2


def test_a_run_that_goes_on_keeps_what_decides_its_result(runs: Path) -> None:
    assert dgm("train vae --data t.csv --steps 6 --model.hidden 8 --out vae", runs).returncode == 0
    before = {path: path.read_bytes() for path in (runs / "vae").rglob("*") if path.is_file()}
    for options, says in (
        ("--lr 0.1", "--lr cannot be changed when a run is resumed, vae keeps its own"),
        ("--data animals.npz", "is not the data of vae"),
        ("--out new", "--out cannot be changed"),
        ("--model.latent 3", "--model.latent is a model's, and no model is named"),
        ("--steps 3", "vae is at step 6 already, got --steps 3; give more than 6"),
        ("--budget 0.001", "s already, got --budget 0.001s; give more"),
    ):
        done = dgm(f"train --resume vae --data t.csv {options}", runs)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert says in done.stderr
    done = dgm("train made --resume vae", runs)
    assert "vae is a run of vae, and made was asked for" in done.stderr
    done = dgm("train --resume vae --data t.csv", runs)
    assert (done.returncode, done.stdout.split(";")[0]) == (0, "vae has ended at step 6")
    assert {path: path.read_bytes() for path in before} == before
    assert dgm("train vae --resume vae --data t.csv --steps 8 --keep 1", runs).returncode == 0
    assert Run(runs / "vae").metrics()[-1]["step"] == 8
    assert Run(runs / "vae").config["training"]["keep"] == 1
    assert len(Run(runs / "vae").checkpoints()) == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interruption_ends_with_a_word_and_leaves_nothing(
    runs: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    """As the samples are written, where a file could stay half-written."""

    def interrupted(*arguments: object, **options: object) -> None:
        Path(str(arguments[0].name)).write_bytes(b"half")  # type: ignore[attr-defined]
        signal.raise_signal(number)

    before = sorted(runs.rglob("*"))
    monkeypatch.setattr("numpy.savez_compressed", interrupted)
    done = dgm("sample table -n 20 --out never.npz", runs)
    assert done.returncode == code
    assert done.stderr.splitlines()[-1] == "dgm: interrupted"
    assert sorted(runs.rglob("*")) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_training_is_saved(runs: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    class Impatient(dgm_progress()):  # type: ignore[misc]
        def due(self) -> bool:
            signal.raise_signal(number)
            return False

    monkeypatch.setattr("dgm.cli.train.Progress", Impatient)
    done = dgm(f"train vae --data t.csv --steps 9 --model.hidden 8 --out stopped-{number}", runs)
    assert done.returncode == 128 + number
    assert f"stopped at step 1, which is saved; go on with: dgm train --resume stopped-{number}" in done.stderr


def dgm_progress() -> type:
    from dgm.cli.terminal import Progress

    return Progress


def test_an_interrupted_evaluation_keeps_what_was_measured(
    runs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """But in the place of one that came to its end. A report has it, and names the rest."""
    out, module = runs / "table" / "evaluation.json", importlib.import_module("dgm.evaluation.samples")
    with monkeypatch.context() as patch:
        patch.setattr(module, "memorisation", lambda *_: signal.raise_signal(signal.SIGINT))
        done = dgm("evaluate table --data t.csv --samples 20 --features pixels", runs)
        assert (done.returncode, done.stdout) == (130, ""), done.stderr
        assert done.stderr.splitlines()[-2:] == [
            f"dgm: the measures so far are in {Path('table/evaluation.json')}",
            "dgm: interrupted",
        ]
        part = json.loads(out.read_text(encoding="utf-8"))
        assert [row["kind"] for row in part["likelihood"]] == ["exact"]
        assert {"kernel", "frechet"} <= {row["name"] for row in part["metrics"]}
        assert part["skipped"][-1] == {"what": "all later measures", "reason": "the evaluation was interrupted"}
    reported = dgm("report table --data t.csv --out page.html", runs)
    assert reported.returncode == 0, reported.stderr
    assert "the evaluation of table was interrupted; for the other measures run: dgm evaluate table" in caplog.text
    page = (runs / "page.html").read_text(encoding="utf-8")
    assert "Not measured: all later measures: the evaluation was interrupted." in page
    assert f"{part['likelihood'][0]['bits_per_dim']:.3f}" in page
    monkeypatch.setattr("dgm.evaluation.cautions.cautions", lambda *_: ["word " * 40])
    said = dgm("evaluate table --data t.csv --samples 20 --features pixels", runs)
    assert said.returncode == 0
    assert said.stdout.count("word") == 40
    whole = out.read_text(encoding="utf-8")
    found = json.loads(whole)
    assert found["likelihood"] == part["likelihood"]
    assert found["memorisation"]["n_train"] == 48
    assert found["skipped"] == part["skipped"][:-1]
    assert max(map(len, said.stdout.splitlines())) <= 80
    for row in found["metrics"]:
        (line,) = [line for line in said.stdout.splitlines() if line.startswith(f"  {row['name']}  ")]
        assert f" {row['value']:.5g}   {row['low']:.4g} … {row['high']:.4g}" in line


@pytest.mark.parametrize(("command", "code"), [("check table", 141), ("models", 0)])
def test_laws_that_nobody_waits_for_do_not_hold(runs: Path, command: str, code: int) -> None:
    """`dgm check | head` ended with 0 after its first lines."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "dgm", *command.split()], cwd=runs, stdout=closed, stderr=subprocess.PIPE
        )
    assert (done.returncode, done.stderr) == (code, b"")


class Narrow(io.TextIOWrapper):
    """A terminal that knows ASCII alone."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="ascii", errors="strict")

    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", ["models", "data", "models vae", "data digits", "check table"])
def test_a_terminal_of_ascii_is_no_error(runs: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    from dgm.cli.main import main

    narrow = Narrow()
    monkeypatch.setattr(sys, "stdout", narrow)
    with contextlib.chdir(runs):
        assert main(command.split()) in (0, 1)  # a law may be broken, of a model that is hardly trained
    assert len(narrow.text()) > 50


def test_a_closed_stdout_or_stderr_ends_no_training(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dgm.cli.main import main

    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    with contextlib.chdir(runs):
        for name, stream in (("a", Closed()), ("b", None)):
            monkeypatch.setattr(sys, "stderr", stream)
            options = f"--data t.csv --steps 3 --model.hidden 8 --out closed-{name}"
            assert main(["train", "vae", *options.split()]) == 0
            assert Run(f"closed-{name}").finished


def test_weights_beyond_the_memory_are_refused_before_they_are_made() -> None:
    """Kills: a size that is counted after its allocation, or in numbers and not bytes."""
    from dgm import memory
    from dgm.errors import BadInput

    most = int(memory.SHARE * memory.total()) // 4
    with memory.Bounded("this"):
        assert torch.empty(3, 4).shape == (3, 4)
    for made in (
        lambda: torch.empty(most, 3),
        lambda: torch.zeros((most + 9,)),
        lambda: torch.eye(int(1.1 * most**0.5)),
        lambda: torch.arange(most // 2 + 9),  # of eight bytes each
        lambda: torch.arange(5, most + 99, 2),
    ):
        with (
            memory.Bounded("this"),
            pytest.raises(BadInput, match=r"this of these settings needs .* GiB for its weights"),
        ):
            made()
    embedding = most // 3  # each of four fits, all do not
    with pytest.raises(BadInput, match=r"this of these settings needs"):
        memory.bounded(lambda: torch.nn.ModuleList(torch.nn.Embedding(1, embedding) for _ in range(4)), "this")
    with memory.Bounded("this"), pytest.raises(BadInput, match="more than 4,000 tensors"):
        torch.nn.Sequential(*(torch.nn.Linear(1, 1) for _ in range(2001)))


def test_a_large_model_that_fits_is_made_with_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: a generator that has moved on once the model was sized up."""
    from dgm import create
    from dgm.space import Space

    def made() -> list[torch.Tensor]:
        torch.manual_seed(3)
        return list(create("vae", Space.binary((1, 4, 4))).parameters())

    usual = made()
    monkeypatch.setattr("dgm.memory.LARGE", 100)
    assert all(torch.equal(a, b) for a, b in zip(usual, made(), strict=True))


def test_an_option_that_is_there_twice_is_refused_before_one_of_them_is_ignored() -> None:
    parser = Parser(prog="dgm")
    parser.add_argument("run", nargs="?")
    parser.add_argument("--where")
    parser.add_argument("-n", type=int, default=3)
    for _ in range(2):  # nothing is remembered
        assert vars(parser.parse_args(["a", "--where", "b=1"])) == {"run": "a", "where": "b=1", "n": 3}
    for arguments, name in ((["--where", "a", "--where=b"], "--where"), (["-n", "1", "-n2"], "-n")):
        with pytest.raises(BadInput, match=f"^{name} is there twice; give it once"):
            parser.parse_args(arguments)
