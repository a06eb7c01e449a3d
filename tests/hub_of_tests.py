"""A hub of published weights, of tensors that a test makes."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import safetensors.torch
from torch import Tensor


def put(weights: dict[str, Tensor], folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A hub that has these weights; their sha256."""
    safetensors.torch.save_file(weights, folder / "weights.safetensors")
    hub = SimpleNamespace(hf_hub_download=lambda *_, revision: str(folder / "weights.safetensors"))
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    return hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
