"""The run directory: whole files or none, and one line for whatever is not as it was written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

import dgm
from dgm import files, registry, runs, tensor_files
from dgm.errors import BadInput, DamagedRun
from dgm.space import Space


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run of a VAE on digits, put together by hand."""
    model = dgm.create("vae", Space.levels((1, 8, 8), 17), latent=2)
    config = {"format": runs.FORMAT, "model": registry.describe(model), "training": {}}
    files.write_json(config | {"data": {"name": "digits", "options": {}}}, tmp_path / "config.json")
    tensor_files.write_weights(model.state_dict(), tmp_path / "weights.safetensors")
    tensor_files.write_manifest(tmp_path, ["weights.safetensors"])
    return tmp_path


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"parts": {}}, "KeyError|missing"),
        ({"parts": {"model": 5}}, "model.parts.model must be an object, got 5"),
        ({"parts": {"inner": None}}, "model.parts.inner must be an object"),
        ({"space": {"shape": [2], "kind": "levels", "values": 5}}, "cannot be dequantised"),
        ({"name": "vae"}, "no option of vae is called .noise."),
    ],
)
def test_parts_that_do_not_fit_are_refused(wrong: dict[str, Any], told: str, tmp_path: Path) -> None:
    model = registry.create("realnvp", Space.levels((2,), 3), layers=2)
    config = {"format": runs.FORMAT, "model": registry.describe(model) | wrong, "training": {}}
    files.write_json(config | {"data": {"name": "digits", "options": {}}}, tmp_path / "config.json")
    with pytest.raises(DamagedRun, match=told):
        runs.Run(tmp_path).untrained()


def test_a_file_is_flushed_before_it_takes_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, str]] = []

    def fsync(descriptor: int) -> None:
        done.append(("flush", Path(f"/proc/self/fd/{descriptor}").resolve().name))

    rename = Path.replace

    def replace(path: Path, target: Path) -> None:
        done.append(("rename", target.name))
        rename(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    files.write_json({}, tmp_path / "a.json")
    temporary = f".a.json.{os.getpid()}.tmp"
    assert done == [("flush", temporary), ("rename", "a.json"), ("flush", tmp_path.name)]


def test_what_fails_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    files.write_json("old", tmp_path / "a.json")
    with pytest.raises(TypeError):
        files.write_json(["half", object()], tmp_path / "a.json")
    with pytest.raises(ZeroDivisionError), files.replacing(tmp_path / "a.json") as temporary:
        temporary.write_text(f"half {1 / 0}", encoding="utf-8")
    assert runs.read_json(tmp_path / "a.json") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_weights_that_share_memory_come_back_as_they_were(tmp_path: Path) -> None:
    x = torch.arange(6.0).view(2, 3)
    weights = {"x": x, "view": x.mT, "half": x.half(), "flag": torch.tensor(True), "none": torch.empty(0, 2)}
    tensor_files.write_weights(weights, tmp_path / "w.safetensors")
    found = tensor_files.read_weights(tmp_path / "w.safetensors")
    torch.testing.assert_close(found, weights, rtol=0, atol=0)


def test_loads_the_model_and_the_data_that_the_run_names(run: Path) -> None:
    model = dgm.load(run)
    assert model.config.latent == 2
    stored = tensor_files.read_weights(run / "weights.safetensors")
    torch.testing.assert_close(model.state_dict(), stored, rtol=0, atol=0)
    assert runs.Run(run).dataset().space == model.space


def test_an_unfinished_run_has_the_best_weights_so_far() -> None:
    state = {"model/a": 1, "model/b": 2, "ema/a": 3, "best/a": 5, "best/b": 6, "optimiser/model/0/exp_avg": 7}
    assert tensor_files.weights_of(state) == {"a": 5, "b": 6}
    del state["best/a"], state["best/b"]
    assert tensor_files.weights_of(state) == {"a": 3, "b": 2}


def edited(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_a_bit_of_the_weights_flipped(run: Path) -> None:
    content = bytearray((run / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (run / "weights.safetensors").write_bytes(content)
    with pytest.raises(DamagedRun, match=r"weights.safetensors is damaged: its sha256"):
        dgm.load(run)


def test_the_weights_of_another_model(run: Path) -> None:
    other = dgm.create("vae", Space.levels((1, 8, 8), 17), latent=3)
    tensor_files.write_weights(other.state_dict(), run / "weights.safetensors")
    tensor_files.write_manifest(run, ["weights.safetensors"])
    with pytest.raises(DamagedRun, match=r"do not fit its config.json: .* size mismatch"):
        dgm.load(run)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda run: (run / "config.json").unlink(), "is not a run directory: it has no config.json"),
        (
            lambda run: (run / "config.json").write_text('{"format": 1', encoding="utf-8"),
            "config.json is not valid JSON",
        ),
        (lambda run: (run / "config.json").write_bytes(b"\xff\xfe"), "config.json is not valid JSON"),
        (lambda run: (run / "config.json").write_text("[]", encoding="utf-8"), "config.json holds no JSON object"),
        (lambda run: edited(run / "config.json", format=1), "has the run format 1, this dgm reads 2"),
        (lambda run: edited(run / "config.json", model=None), "says nothing of the model"),
        (lambda run: (run / "weights.safetensors").unlink(), "weights.safetensors is missing"),
        (
            lambda run: (run / "manifest.json").write_text("null", encoding="utf-8"),
            "manifest.json holds no JSON object",
        ),
        (lambda run: (run / "manifest.json").unlink(), "has no checkpoint yet"),
    ],
)
def test_what_is_not_as_it_was_written_is_named(harm: Any, said: str, run: Path) -> None:
    harm(run)
    with pytest.raises(DamagedRun, match=said):
        dgm.load(run)


def test_metrics_without_the_line_that_a_kill_cut(run: Path) -> None:
    (run / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st', encoding="utf-8")
    assert runs.Run(run).metrics() == [{"step": 1}, {"step": 2}]
    (run / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 2}\n', encoding="utf-8")
    with pytest.raises(DamagedRun, match="a line that is not valid JSON"):
        runs.Run(run).metrics()


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    said = "a cannot be written: No space left on device; make room there"
    with pytest.raises(BadInput, match=said), files.replacing(tmp_path / "a"):
        Path("/dev/full").write_text("x", encoding="utf-8")


@pytest.mark.parametrize(
    ("part", "key", "value", "said"),
    [
        ("model", "name", 5, r"config\.json: model\.name must be a text, got 5"),
        ("model", "config", {"latent": "2"}, "config.json describes a model that cannot be made: .*latent"),
        ("model", "config", {"latent": 10**15}, "config.json describes a model that cannot be made: .* GiB"),
        ("model", "space", {"kind": "levels", "values": 17}, "model.space.shape is missing"),
        ("model", "space", {"shape": "1x8x8", "kind": "levels"}, 'model.space.shape must be a list, got "1x8x8"'),
        ("model", "space", {"shape": [1, 10**30], "kind": "levels"}, r"model.space.shape.1 must be a whole number"),
        ("data", "name", None, "data.name must be a text, got null"),
        ("data", "alphabet", "ab", "data's alphabet has fewer characters"),
        ("data", "options", {"root": "/"}, "data's options say what is read"),
    ],
)
def test_what_config_json_says_wrong_is_named(part: str, key: str, value: Any, said: str, run: Path) -> None:
    document = runs.read_json(run / "config.json")
    document[part][key] = value
    files.write_json(document, run / "config.json")
    with pytest.raises(DamagedRun, match=said):
        dgm.load(run)


@pytest.mark.parametrize(("value", "said"), [(float("nan"), "are not finite"), (float("inf"), "are not finite")])
def test_weights_that_are_not_finite(value: float, said: str, run: Path) -> None:
    weights = tensor_files.read_weights(run / "weights.safetensors")
    name = next(iter(weights))
    weights[name].view(-1)[0] = value
    tensor_files.write_weights(weights, run / "weights.safetensors")
    tensor_files.write_manifest(run, tensor_files.WEIGHTS)
    with pytest.raises(DamagedRun, match=f"'{name}' in .* {said}"):
        dgm.load(run)


@pytest.mark.parametrize("listed", [{}, {"../config.json": "0" * 64}, {"weights.safetensors": "", "more": ""}])
def test_a_manifest_is_of_the_files_of_a_run(listed: dict[str, str], run: Path) -> None:
    files.write_json(listed, run / "manifest.json")
    with pytest.raises(DamagedRun, match=r"manifest\.json lists .*, expected weights\.safetensors"):
        dgm.load(run)


def test_a_link_does_not_lead_out_of_a_run(run: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (run / "samples").symlink_to(outside)
    with pytest.raises(DamagedRun, match="samples is a link that leads out"):
        runs.Run(run)
