"""Shared by all tests: one thread a process, a cache of their own, real data where it is at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

# from here on every call of these packages checks shapes and types against its annotations
install_import_hook(
    ["dgm.models", "dgm.likelihood", "dgm.distributions", "dgm.networks", "dgm.samplers", "dgm.transforms"],
    "checked_calls.checked",
)

torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is downloaded or computed once goes where nothing of the user's lies."""
    os.environ["DGM_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets."""
    root = os.environ.get("DGM_DATA")
    if not root:
        pytest.skip("DGM_DATA is not set: real data sets are not at hand")
    return Path(root)
