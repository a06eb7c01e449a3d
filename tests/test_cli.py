"""The real command, as a user types it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import commands
import numpy
import pytest
from PIL import Image


def dgm(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return commands.dgm([str(argument) for argument in arguments], cwd)


def real(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "dgm", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs/vae in it."""
    folder = tmp_path_factory.mktemp("user")
    done = real("train", "vae", "--steps", "150", "--model.latent", "8", "--out", "runs/vae", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_help_names_every_verb(tmp_path: Path) -> None:
    from dgm.cli.main import VERBS

    done = real("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert all(f"  {verb} " in done.stdout for verb in VERBS)
    for verb in VERBS:
        shown = dgm(verb, "--help", cwd=tmp_path)
        assert shown.returncode == 0, shown.stderr
        assert f"dgm {verb}" in shown.stdout


def test_a_working_directory_that_is_gone_has_its_line(tmp_path: Path) -> None:
    """Where torch's libraries would abort the process."""
    gone = tmp_path / "gone"
    gone.mkdir()
    command = f'rmdir "{gone}" && "{sys.executable}" -m dgm train vae --data digits --out x'
    done = subprocess.run(command, shell=True, cwd=gone, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        2,
        "dgm: the working directory has been removed; change to another one\n",
    )


def test_models_and_data_are_listed(tmp_path: Path) -> None:
    from dgm.data.table import SETS
    from dgm.models.table import MODELS

    assert [row["name"] for row in json.loads(dgm("models", "--json", cwd=tmp_path).stdout)][: len(MODELS)] == list(
        MODELS
    )
    assert [row["name"] for row in json.loads(dgm("data", "--json", cwd=tmp_path).stdout)] == list(SETS)
    assert "latent" in dgm("models", "vae", cwd=tmp_path).stdout
    score = json.loads(dgm("models", "score", "--json", cwd=tmp_path).stdout)
    assert [row["name"] for row in score] == [name for name, spec in MODELS.items() if spec.family == "score"]
    assert "beta_vae" in dgm("models", "vae", cwd=tmp_path).stdout.splitlines()[-1]  # of the family of this name
    assert "1,000 / 300 / 497" in dgm("data", "digits", cwd=tmp_path).stdout


def test_samples_are_the_same_in_every_form(trained: Path) -> None:
    for out in ("a.npz", "a.csv", "a", "a.png"):
        assert dgm("sample", "runs/vae", "-n", "9", "--out", out, cwd=trained).returncode == 0
    x = numpy.load(trained / "a.npz")["x"]
    assert x.shape == (9, 1, 8, 8)
    with (trained / "a.csv").open(encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    assert numpy.array_equal(numpy.array(rows, float), x.reshape(9, 64))
    pictures = numpy.stack([numpy.asarray(Image.open(path)) for path in sorted((trained / "a").iterdir())])
    assert numpy.abs(pictures - x[:, 0] / 16 * 255).max() <= 0.5
    with Image.open(trained / "a.png") as picture:
        assert picture.width >= 100


def test_a_model_that_knows_no_labels_refuses_one(trained: Path) -> None:
    assert dgm("train", "gmm", "--steps", "3", "--out", "runs/gmm", cwd=trained).returncode == 0
    done = dgm("sample", "runs/gmm", "--label", "3", "--out", "three.png", cwd=trained)
    assert done.returncode == 2
    assert "trained without a condition" in done.stderr


def test_a_label_is_sampled_where_it_was_trained(trained: Path) -> None:
    train = dgm("train", "made", "--conditional", "--steps", "5", "--out", "runs/made", cwd=trained)
    assert train.returncode == 0, train.stderr
    assert dgm("sample", "runs/made", "-n", "2", "--label", "3", "--out", "three.npz", cwd=trained).returncode == 0
    done = dgm("sample", "runs/made", "--label", "10", "--out", "ten.npz", cwd=trained)
    assert done.returncode == 2
    assert "no label of this run is called '10'" in done.stderr
    measured = []
    for more in ([], ["--marginal"]):
        done = dgm("evaluate", "runs/made", "--samples", "20", "--features", "pixels", "--json", *more, cwd=trained)
        assert done.returncode == 0, done.stderr
        measured += json.loads(done.stdout)["likelihood"]
    given, alone = measured
    assert (given["condition"], alone["condition"]) == ("label", None)
    assert given["nats"] - alone["nats"] < 2.31  # p(x) >= p(y) p(x|y), and the ten labels come equally often


def test_training_goes_on_for_longer(trained: Path) -> None:
    done = dgm("train", "vae", "--steps", "30", "--out", "runs/short", cwd=trained)
    assert done.returncode == 0, done.stderr
    assert dgm("train", "--resume", "runs/short", "--steps", "40", cwd=trained).returncode == 0
    lines = (trained / "runs/short/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == sorted(set(steps))
    assert steps[-1] == 40


def test_a_printed_recipe_trains_the_same(trained: Path) -> None:
    options = "--model.latent 3 --model.free_bits=0.5 --weight_decay 0.1 --steps 7"  # underscores, as in Python
    printed = dgm("train", "vae", *options.split(), "--print-config", cwd=trained)
    assert printed.returncode == 0, printed.stderr
    (trained / "recipe.yaml").write_text(printed.stdout, encoding="utf-8")
    done = dgm("train", "--config", "recipe.yaml", "--out", "runs/recipe", cwd=trained)
    assert done.returncode == 0, done.stderr
    config = json.loads((trained / "runs/recipe/config.json").read_text(encoding="utf-8"))
    assert (config["model"]["config"]["latent"], config["model"]["config"]["free_bits"]) == (3, 0.5)
    assert (config["training"]["steps"], config["training"]["weight_decay"]) == (7, 0.1)


def test_a_length_on_the_command_line_replaces_that_of_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: gmm\nbudget: 90s\n", encoding="utf-8")
    done = dgm("train", "--config", "recipe.yaml", "--steps", "2", "--out", "short", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("--steps 2 replaces --budget 90s of the recipe\n")
    training = json.loads((tmp_path / "short/config.json").read_text(encoding="utf-8"))["training"]
    assert (training["steps"], training["budget"]) == (2, None)
    done = dgm("train", "--config", "recipe.yaml", "--steps", "2", "--budget", "1s", "--out", "both", cwd=tmp_path)
    assert "both steps and a budget are given" in done.stderr


def test_evaluate_and_report(trained: Path) -> None:
    done = dgm("evaluate", "runs/vae", "--samples", "60", "--features", "pixels", "--json", cwd=trained)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document == json.loads((trained / "runs/vae/evaluation.json").read_text(encoding="utf-8"))
    assert {entry["kind"] for entry in document["likelihood"]} == {"lower_bound"}
    assert dgm("report", "runs/vae", "--out", "page.html", cwd=trained).returncode == 0
    assert "vae" in (trained / "page.html").read_text(encoding="utf-8")


def test_check_a_run_and_a_class_of_ones_own(trained: Path) -> None:
    done = dgm("check", "runs/vae", cwd=trained)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    (skipped,) = (line for line in lines if "The importance weights of all x sum to one on average" in line)
    assert skipped.startswith("- levels 1×8×8, 17 values")
    assert "the space is too large to sum over" in skipped
    marks = [line[0] for line in lines[:-1]]
    assert lines[-1] == f"{marks.count('✓')} laws hold, 0 are broken, {marks.count('-')} are skipped"
    source = (Path(__file__).parent / "plugin_package" / "uniform_model" / "__init__.py").read_text(encoding="utf-8")
    (trained / "mine.py").write_text(source, encoding="utf-8")
    assert dgm("check", "mine:Uniform", cwd=trained).returncode == 0
    broken = source.replace("-self.space.dim * math.log", "-0.9 * self.space.dim * math.log")
    (trained / "broken.py").write_text(broken, encoding="utf-8")
    done = dgm("check", "broken:Uniform", cwd=trained)
    assert done.returncode == 1
    assert "✗" in done.stdout


def test_samples_of_a_table_have_its_columns(tmp_path: Path) -> None:
    rows = "\n".join(f"{k},{k * k % 7 / 7}" for k in range(40))
    (tmp_path / "table.csv").write_text(f"height,width\n{rows}\n", encoding="utf-8")
    trained = dgm("train", "gmm", "--data", "table.csv", "--out", "run", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert dgm("sample", "run", "-n", "5", "--out", "rows.csv", cwd=tmp_path).returncode == 0
    lines = (tmp_path / "rows.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "height,width"
    assert len(lines) == 6


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("frobnicate", "no verb of dgm is called 'frobnicate'"),
        ("train vaee --out new", "did you mean 'vae'?"),
        ("train vae", "no run directory is named"),
        ("train vae --out new --model.latnt 3", "did you mean '--model.latent'?"),
        ("train vae --out new --model.latent 0", "must be at least 1, got 0"),
        ("train vae --out new --model.latent many", "--model.latent"),
        ("train vae --out new --data mnits", "did you mean 'mnist'?"),
        ("train vae --out new --steps 5 --budget 5s", "give one of the two"),
        ("train vae --out new --budget soon", "60s, 5m or 2h"),
        ("train vae --out runs/vae", "exists"),
        ("train --config missing.yaml", "missing.yaml"),
        ("train --resume nowhere", "not a run directory"),
        ("train gmm --conditional --out new", "gmm takes no condition"),
        ("train vae --conditional --data toy/moons --out new", "this data has no condition"),
        ("sample nowhere --out new.png", "not a run directory"),
        ("sample runs/vae --out new.gif", "there are no steps to show"),
        ("sample runs/vae --out new.bmp", "end it in .png, .gif, .npz, .csv, .parquet, .txt, .wav, or name a folder"),
        ("sample runs/vae --out new.png --label 3", "trained without a condition"),
        ("sample runs/vae --out new.png -n 0", "at least 1"),
        ("sample runs/vae --out new.png -n 99999999999", "GiB of memory"),
        ("sample runs/vae --out runs", "exists"),
        ("evaluate runs/vae --marginal", "this model has no labels"),
        ("evaluate runs/vae --samples 3", "from 20 to 100000, got 3"),
        ("check nobody", "no model is called 'nobody'"),
        ("compare --models vae,nobody", "no model is called 'nobody'"),
        ("models --jsn", "did you mean '--json'?"),
    ],
)
def test_a_mistake_gets_one_line_and_leaves_nothing(trained: Path, command: str, said: str) -> None:
    before = sorted(path.name for path in trained.iterdir())
    done = dgm(*command.split(), cwd=trained)
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr
    assert done.stderr.startswith("dgm: ")
    assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in trained.iterdir()) == before


def test_a_damaged_run_is_named(trained: Path, tmp_path: Path) -> None:
    import shutil

    run = tmp_path / "run"
    shutil.copytree(trained / "runs" / "vae", run)
    weights = bytearray((run / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (run / "weights.safetensors").write_bytes(weights)
    done = dgm("sample", run, "--out", tmp_path / "a.png", cwd=tmp_path)
    assert done.returncode == 2
    assert "weights.safetensors is damaged" in done.stderr
    (run / "config.json").write_text("{", encoding="utf-8")
    assert "not valid JSON" in dgm("sample", run, "--out", tmp_path / "a.png", cwd=tmp_path).stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    assert "Traceback" in real("check", "nobody", "--debug", cwd=tmp_path).stderr
