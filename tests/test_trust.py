"""A run from elsewhere chooses no code: what its files name is not imported, whatever lies beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import dgm

import dgm as library
from dgm import files, registry, runs, tensor_files
from dgm.errors import BadInput, DgmError
from dgm.evaluation.evaluate import FORMAT
from dgm.space import Space

EVIL = """
from pathlib import Path
Path(__file__).with_name("executed").touch()
class Model:
    class Config: pass
"""
NAMES = (
    "evil:Model",
    "evil.Model",
    "evil",
    "beside.evil:Model",
    "dgm.runs.evil:Model",
    "subprocess:Popen",
    "evil:",
    ":",
)
VERBS = {
    "check": "check run",
    "sample": "sample run --out x.png",
    "evaluate": "evaluate run",
    "report": "report run --out page.html",
    "edit": "edit inpaint run --mask top --out x.png",
    "resume": "train --resume run",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A downloaded folder: a run, and beside it a module that says when it is executed."""
    (tmp_path / "beside").mkdir()
    for path in (tmp_path / "evil.py", tmp_path / "beside" / "evil.py", tmp_path / "beside" / "__init__.py"):
        path.write_text(EVIL, encoding="utf-8")
    model = library.create("vae", Space.levels((1, 8, 8), 17), latent=2)
    run = tmp_path / "run"
    run.mkdir()
    about = {"format": runs.FORMAT, "model": registry.describe(model), "training": {}}
    files.write_json(about | {"data": {"name": "digits", "options": {}}}, run / "config.json")
    files.write_json({"format": FORMAT, "likelihood": [], "metrics": []}, run / "evaluation.json")
    tensor_files.write_weights(model.state_dict(), run / "weights.safetensors")
    tensor_files.write_manifest(run, ["weights.safetensors"])
    (run / "evaluation.json").touch()
    monkeypatch.syspath_prepend(tmp_path)  # as `python -m` and `python -c` have it
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] in ("evil", "beside")]:
        del sys.modules[name]


def rename(folder: Path, name: object) -> None:
    document = json.loads((folder / "run/config.json").read_text(encoding="utf-8"))
    document["model"]["name"] = name
    (folder / "run/config.json").write_text(json.dumps(document), encoding="utf-8")


def executed(folder: Path) -> list[Path]:
    return list(folder.rglob("executed"))


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_executes_what_config_json_names(verb: str, folder: Path) -> None:
    rename(folder, "evil:Model")
    done = dgm(VERBS[verb], cwd=folder)
    assert done.returncode == 2, done.stdout
    assert "'evil:Model'" in done.stderr
    assert "--trust" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not executed(folder)


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_executes_what_a_part_names(verb: str, folder: Path) -> None:
    document = json.loads((folder / "run/config.json").read_text(encoding="utf-8"))
    outer = document["model"] | {"name": "dequantised", "config": {}}
    document["model"] = outer | {"parts": {"model": document["model"] | {"name": "evil:Model"}}}
    (folder / "run/config.json").write_text(json.dumps(document), encoding="utf-8")
    done = dgm(VERBS[verb], cwd=folder)
    assert done.returncode == 2, done.stdout
    assert "'evil:Model'" in done.stderr
    assert "--trust" in done.stderr
    assert not executed(folder)


@pytest.mark.parametrize("name", [*NAMES, "", "\0:x", "x" * 10_000])
def test_no_name_is_imported(name: object, folder: Path) -> None:
    rename(folder, name)
    before = set(sys.modules)
    with pytest.raises(DgmError):
        library.load(folder / "run")
    assert set(sys.modules) == before
    assert not executed(folder)


def test_the_real_command_beside_modules_of_wellknown_names(folder: Path) -> None:
    """`python -m` looks for modules where one stands first, an entry point there included."""
    rename(folder, "innocent")
    for name in ("yaml", "torch", "numpy", "rich", "importlib_metadata"):
        (folder / f"{name}.py").write_text(EVIL, encoding="utf-8")
    info = folder / "innocent-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: innocent\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[dgm.models]\ninnocent = evil:Model\n", encoding="utf-8")
    load = "import dgm; dgm.load('run')"
    command = [sys.executable, "-m", "dgm", "sample", "run", "--out", "x.png"]
    done = subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no model is called 'innocent'" in done.stderr
    assert not executed(folder)
    for name in ("yaml", "torch", "numpy", "rich", "importlib_metadata"):
        (folder / f"{name}.py").unlink()  # they are `python -c`'s own doing
    done = subprocess.run([sys.executable, "-c", load], cwd=folder, capture_output=True, text=True, check=False)
    assert "no model is called 'innocent'" in done.stderr
    assert not executed(folder)


@pytest.mark.parametrize(
    "settings", [b"axes.facecolor: red\nfont.size: 99\n", b"\xff\xfe\x00", b"no such setting: 1\n"]
)
def test_plots_take_no_settings_from_the_working_directory(settings: bytes, tmp_path: Path) -> None:
    """matplotlib evaluates some of them, warns of unknown ones and fails at what is not a text."""
    (tmp_path / "matplotlibrc").write_bytes(settings)
    module = "import dgm.report.figures, matplotlib; print(matplotlib.rcParams['axes.facecolor'])"
    done = subprocess.run([sys.executable, "-c", module], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("white\n", "")


def test_a_recipe_names_no_code(folder: Path) -> None:
    (folder / "recipe.yaml").write_text("name: evil:Model\nsteps: 1\n", encoding="utf-8")
    done = dgm("train --config recipe.yaml --out new", cwd=folder)
    assert done.returncode == 2
    assert "'evil:Model'" in done.stderr
    assert not executed(folder)


def test_a_class_that_the_user_gives_is_used(folder: Path) -> None:
    rename(folder, "evil:Model")
    model = library.load(folder / "run", model=registry.model_class("vae"))
    assert model.config.latent == 2
    assert not executed(folder)
    with pytest.raises(BadInput, match=r"dgm\.load\(path, model=Class\)"):
        library.load(folder / "run")


def test_trust_is_asked_for_and_given(tmp_path: Path) -> None:
    source = (Path(__file__).parents[1] / "examples/own_model.py").read_text(encoding="utf-8")
    (tmp_path / "trusted.py").write_text(source, encoding="utf-8")

    def command(line: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "dgm", *line.split()]
        return subprocess.run(words, cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False)

    assert command("train trusted:Independent --steps 2 --out run").returncode == 0
    refused = command("sample run -n 2 --out x.npz")
    assert refused.returncode == 2
    assert "--trust" in refused.stderr
    trusted = command("sample run -n 2 --out x.npz --trust")
    assert trusted.returncode == 0, trusted.stderr


# -- data


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A table of the user's, and a run from elsewhere that says it was trained on it."""
    path = tmp_path / "private.csv"
    path.write_text("salary,age\n" + "".join(f"{k * k % 97},{k}\n" for k in range(40)), encoding="utf-8")
    for verb in (f"train gmm --data {path} --steps 2 --out run", f"evaluate run --data {path} --samples 20"):
        assert dgm(verb, cwd=tmp_path).returncode == 0
    return path


@pytest.mark.parametrize(
    "verb", ["evaluate run --samples 20", "report run --out page.html", "train --resume run --steps 4"]
)
def test_a_path_is_named_and_read_only_where_the_user_names_it(verb: str, private: Path) -> None:
    folder = private.parent
    refused = dgm(verb, cwd=folder)
    assert refused.returncode == 2
    assert f"add: --data {private}" in refused.stderr
    assert not (folder / "page.html").exists()
    done = dgm(f"{verb} --data private.csv", cwd=folder)
    assert done.returncode == 0, done.stderr


def test_data_that_is_not_the_runs_is_not_shown(private: Path) -> None:
    folder = private.parent
    private.write_text(private.read_text(encoding="utf-8").replace("97", "96"), encoding="utf-8")
    (folder / "other.csv").write_text("a,b\n" + "".join(f"{k},{k % 3}\n" for k in range(40)), encoding="utf-8")
    done = dgm("report run --out page.html --data other.csv", cwd=folder)
    assert done.returncode == 2
    assert "its sha256 is" in done.stderr
    assert not list(folder.glob("page*"))


def test_a_named_set_needs_no_path_but_must_be_the_runs(folder: Path) -> None:
    run = runs.Run(folder / "run")
    assert run.dataset().name == "digits"
    run.config["data"]["sha256"] = "0" * 64
    with pytest.raises(BadInput, match="its sha256 is"):
        run.dataset()
