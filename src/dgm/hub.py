"""Runs on the Hugging Face hub: safetensors and JSON files only, with a model card of the evaluation."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, Protocol

from dgm import registry
from dgm.data import SETS
from dgm.data.memory import ARRAY, TABLE
from dgm.data.storage import cache
from dgm.errors import BadInput, DgmError, MissingExtra, in_one_line
from dgm.files import replacing, write_json
from dgm.inputs import place
from dgm.runs import UNSTATED, Run
from dgm.tensor_files import WEIGHTS, check_manifest

NEEDED = ("config.json", "manifest.json", *WEIGHTS)
CARD, MEASURED = "README.md", "evaluation.json"
NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
SCHEME = "hf://"


class Hub(Protocol):
    """The methods of `huggingface_hub.HfApi` that are used."""

    def create_repo(self, repo_id: str, *, private: bool | None = None, exist_ok: bool = False) -> Any: ...
    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> Any: ...
    def snapshot_download(
        self, repo_id: str, *, revision: str | None, local_dir: str, allow_patterns: list[str]
    ) -> Any: ...


def push(run: str | Path, name: str, *, private: bool = False, hub: Hub | None = None) -> str:
    """Uploads a finished run: its config, its weights, its evaluation if there is one, and a model card.

    Args:
        name: ``user/name`` of the repository, which is created if it does not exist.
        hub: A client for another hub than huggingface.co; by default with the token of `hf auth login`.

    Returns:
        The address for `load` and `pull`.

    Raises:
        BadInput: If the name has another form, training has not ended, or the hub rejects the upload.
        MissingExtra: If the extra ``hub`` is not installed.
    """
    trained = Run(run)
    refuse_name(name)
    if not trained.finished:
        raise BadInput(f"{run} has not ended its training", f"go on with: dgm train --resume {run}")
    check_manifest(trained.path, WEIGHTS)
    hub = hub or the_hub()
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), trained, name)
        with refusals(name):
            hub.create_repo(name, private=private, exist_ok=True)
            hub.upload_folder(repo_id=name, folder_path=folder, commit_message="A model trained with dgm")
    return SCHEME + name


def pull(name: str, out: str | Path, *, revision: str | None = None, hub: Hub | None = None) -> Path:
    """Downloads a run into a new directory. The directory is created only if all files match the run's manifest.

    Args:
        name: ``user/name``, or ``hf://user/name``.
        revision: A branch, a tag or a commit; by default the newest commit.

    Raises:
        BadInput: If the name has another form, ``out`` exists, or the hub rejects the download.
        DamagedRun: If the repository is not a run of dgm, or a file does not match the manifest.
    """
    name, out = name.removeprefix(SCHEME), place("out", out)
    refuse_name(name)
    if out.exists():
        raise BadInput(f"{out} exists", "choose another folder, or remove it first")
    hub = hub or the_hub()
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as temporary:
        with refusals(name):
            hub.snapshot_download(
                name, revision=revision, local_dir=str(temporary), allow_patterns=[*NEEDED, CARD, MEASURED]
            )
        shutil.rmtree(temporary / ".cache", ignore_errors=True)  # of the download
        check_manifest(Run(temporary).path, WEIGHTS)
    return out


def cached(address: str, hub: Hub | None = None) -> Path:
    """The path of the run ``hf://user/name`` in the user's cache; it is downloaded if it is not there."""
    name = address.removeprefix(SCHEME)
    refuse_name(name)
    where = cache() / "hub" / name.replace("/", "--")
    return where if where.is_dir() else pull(name, where, hub=hub)


def the_hub() -> Hub:
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise MissingExtra.of("the Hugging Face hub", "hub") from error
    hub: Hub = HfApi(library_name="dgm")
    return hub


def refuse_name(name: str) -> None:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise BadInput(f"a repository is named user/name, got {name!r:.60}", "give one such as ada/digits-vae")


class refusals:  # noqa: N801 - a context, read as a word
    """A context in which an error of the hub or of the network is raised as an error of one line."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, DgmError):
            reason = in_one_line(error)[:200]
            raise BadInput(
                f"the hub refuses {self.name}: {type(error).__name__}: {reason}",
                "look at the name, the network, and `hf auth login`",
            ) from error


def fill(folder: Path, trained: Run, name: str) -> None:
    """Copies the files to upload. The path of the user's own data is removed from the config, since it is private."""
    config = json.loads((trained.path / "config.json").read_text(encoding="utf-8"))
    if config["data"]["name"] not in (*SETS, ARRAY, TABLE):
        config["data"] = {key: value for key, value in config["data"].items() if key != "sha256"} | {"name": UNSTATED}
    write_json(config, folder / "config.json")
    for part in ("manifest.json", *WEIGHTS):
        shutil.copyfile(trained.path / part, folder / part)
    measured = None
    if (trained.path / MEASURED).is_file():
        measured = trained.evaluation()
        shutil.copyfile(trained.path / MEASURED, folder / MEASURED)
    (folder / CARD).write_text(card(config, measured, name), encoding="utf-8")


def card(config: dict[str, Any], measured: Any, name: str) -> str:
    """The model card, in Markdown."""
    model, data = config["model"], config["data"]
    of = "private data" if data["name"] == UNSTATED else data["name"]
    lines = ["---", "library_name: dgm", "tags: [generative-model]", "---", f"# {registry.title(model)} of {of}", ""]
    lines += ["```python", "import dgm", f'model = dgm.load("{SCHEME}{name}")', "x = dgm.sample(model, 16)", "```", ""]
    lines += [f"- {key}: {value}" for key, value in registry.trained(model)["config"].items()]
    if measured is None:
        return "\n".join([*lines, "", "The model has not been evaluated yet; `dgm evaluate` does this.", ""])
    lines += ["", "| measure | value | 95 % interval | method |", "|---|---|---|---|", *map(row, rows(measured)), ""]
    return "\n".join([*lines, "Kinds of likelihood must not be ranked against one another.", ""])


def rows(measured: Any) -> list[tuple[str, float, float, float, str]]:
    """The table of the evaluation: measures with their values, confidence intervals and methods."""
    found = []
    for one in measured["likelihood"]:
        half = 1.96 * one["bits_per_dim_se"]
        low, high = one["bits_per_dim"] - half, one["bits_per_dim"] + half
        how = f"{one['method']}; {one['split']}, N = {one['n']:,}"
        found.append((f"bits/dim, {one['kind'].replace('_', ' ')}", one["bits_per_dim"], low, high, how))
    for one in measured["metrics"]:
        how = f"{one['features']}; {one['split']}, N = {one['n_generated']:,}"
        found.append((one["name"].replace("_", " "), one["value"], one["low"], one["high"], how))
    return found


def row(cells: tuple[str, float, float, float, str]) -> str:
    what, value, low, high, how = cells
    return f"| {what} | {value:.4g} | {low:.4g} … {high:.4g} | {how.replace('|', '/')} |"
