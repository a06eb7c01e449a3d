"""Pushing and pulling of runs, with a local folder in the hub's place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import dgm
from dgm import hub, registry
from dgm.errors import BadInput, DamagedRun
from dgm.files import write_json
from dgm.runs import UNSTATED, Run


class Local:
    """A folder of repositories, with what of `huggingface_hub.HfApi` is used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create_repo(self, repo_id: str, *, private: bool | None = None, exist_ok: bool = False) -> None:
        (self.folder / repo_id).mkdir(parents=True, exist_ok=exist_ok)

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        shutil.copytree(folder_path, self.folder / repo_id, dirs_exist_ok=True)

    def snapshot_download(
        self, repo_id: str, *, revision: str | None, local_dir: str, allow_patterns: list[str]
    ) -> None:
        if not (self.folder / repo_id).is_dir():
            raise FileNotFoundError(f"404: no repository {repo_id}")
        Path(local_dir).mkdir()
        for name in allow_patterns:
            if (self.folder / repo_id / name).is_file():
                shutil.copyfile(self.folder / repo_id / name, Path(local_dir) / name)


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Local:
    found = Local(tmp_path / "hub")
    monkeypatch.setattr(hub, "the_hub", lambda: found)
    monkeypatch.setenv("DGM_CACHE", str(tmp_path / "cache"))
    return found


@pytest.fixture
def run(tmp_path: Path) -> Path:
    digits = dgm.data.load("digits")
    return dgm.save(dgm.create("made", digits.space, hidden=8), tmp_path / "run", digits)


def test_what_is_pulled_is_what_was_pushed(local: Local, run: Path, tmp_path: Path) -> None:
    document = dgm.evaluate(dgm.load(run), dgm.data.load("digits"), samples=50, spaces=["pixels"])
    write_json(document, run / "evaluation.json")
    address = dgm.push(run, "ada/made")
    assert address == "hf://ada/made"
    files = ["README.md", "config.json", "evaluation.json", "manifest.json", "weights.safetensors"]
    assert sorted(path.name for path in (local.folder / "ada/made").iterdir()) == files
    out = dgm.pull("ada/made", tmp_path / "pulled")
    assert Run(out).evaluation() == Run(run).evaluation()
    x = dgm.sample(dgm.load(run), 3)
    for where in (out, address, address):  # once from the hub, once from the cache
        assert torch.equal(dgm.sample(dgm.load(where), 3), x)
    text = (out / "README.md").read_text(encoding="utf-8")
    row = document["likelihood"][0]
    assert f"| bits/dim, exact | {row['bits_per_dim']:.4g} |" in text
    metric = document["metrics"][0]
    name, values = metric["name"].replace("_", " "), f"{metric['low']:.4g} … {metric['high']:.4g}"
    assert f"| {name} | {metric['value']:.4g} | {values} |" in text


def test_no_code_and_no_path_of_ones_own_is_pushed(local: Local, run: Path) -> None:
    (run / "model.py").write_text("raise SystemExit", encoding="utf-8")
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    config["data"]["name"] = "/home/ada/secret.csv"
    write_json(config, run / "config.json")
    dgm.push(run, "ada/made")
    pushed = {path.name: path.read_bytes() for path in (local.folder / "ada/made").iterdir()}
    assert "model.py" not in pushed
    assert not [name for name, content in pushed.items() if b"secret" in content]
    assert json.loads(pushed["config.json"])["data"]["name"] == UNSTATED
    assert "has not been evaluated yet" in pushed["README.md"].decode()


def test_what_is_damaged_or_no_run_leaves_nothing(local: Local, run: Path, tmp_path: Path) -> None:
    dgm.push(run, "ada/made")
    weights = local.folder / "ada/made/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    (local.folder / "ada/none").mkdir()
    for name in ("ada/made", "ada/none"):
        with pytest.raises(DamagedRun):
            dgm.pull(name, tmp_path / "pulled")
        assert not (tmp_path / "pulled").exists()
    with pytest.raises(BadInput, match="the hub refuses ada/nowhere: FileNotFoundError: 404"):
        dgm.pull("ada/nowhere", tmp_path / "pulled")


@pytest.mark.parametrize("name", ["made", "../made", "ada/../../x", "ada/made/x", "", 3])
def test_a_name_of_another_form_is_refused(local: Local, run: Path, tmp_path: Path, name: Any) -> None:
    with pytest.raises(BadInput, match="is named user/name"):
        dgm.push(run, name)
    if isinstance(name, str):
        with pytest.raises(BadInput, match="is named user/name"):
            dgm.load(f"hf://{name}")


def test_the_card_of_two_stages_names_both_and_the_settings_of_the_prior() -> None:
    digits = dgm.data.load("digits")
    pair = dgm.two_stage("gmm", dgm.create("autoencoder", digits.space, latent=2), digits, components=3)
    text = hub.card({"model": registry.describe(pair), "data": {"name": "digits"}}, None, "ada/pair")
    assert "# gmm on autoencoder of digits\n" in text
    assert "- components: 3\n" in text
