"""Weights of published networks: safetensors on the Hugging Face hub, checked by the hash of the file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from dgm.errors import BadInput, MissingExtra, one_line


@dataclass(frozen=True)
class Weights:
    """A file of weights.

    Attributes:
        repository: On the hub.
        revision: Of the repository.
        file: Its name in the repository.
        sha256: Of the file.
    """

    repository: str
    revision: str
    file: str
    sha256: str


def hub(what: str) -> Any:
    """The module huggingface_hub."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtra.of(what, "pretrained") from error
    return huggingface_hub


def unreachable(weights: Weights, error: OSError) -> BadInput:
    """The error of weights that cannot be downloaded and are not in the cache."""
    wrong = f"the weights {weights.repository}/{weights.file} cannot be loaded: {one_line(error).rstrip('.')}"
    command = f"hf download {weights.repository} {weights.file} --revision {weights.revision}"
    return BadInput(wrong, f"look at the connection, or fill the cache of Hugging Face: {command}")


def read(what: str, weights: Weights) -> dict[str, Tensor]:
    """The tensors of a file by their names; for the arguments and errors see `path_of`."""
    return safetensors.torch.load_file(path_of(what, weights))


def path_of(what: str, weights: Weights) -> Path:
    """The published file; it is downloaded once, into the cache of Hugging Face.

    Args:
        what: What needs them, in words.

    Raises:
        MissingExtra: Without the extra ``pretrained``.
        BadInput: If the file cannot be downloaded, or is not the published one.
    """
    downloaded = hub(what).hf_hub_download
    try:
        path = Path(downloaded(weights.repository, weights.file, revision=weights.revision))
    except OSError as error:
        raise unreachable(weights, error) from error
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != weights.sha256:
        wrong = f"{weights.repository}/{weights.file} has the sha256 {found}, the published file has {weights.sha256}"
        raise BadInput(wrong, f"remove {path}, and it is downloaded again")
    return path
