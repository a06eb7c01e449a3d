"""Imports point downwards, and nothing that is read is executed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "src" / "dgm"
FILES = sorted(ROOT.rglob("*.py"))
# the lowest layer first; a module may import its own layer and those before it
LAYERS = [
    {"errors", "documents", "files", "settings", "seeds", "space", "protocols", "inputs", "modes", "memory"},
    {"distributions", "networks", "processes"},
    {"samplers", "sampling", "likelihood"},
    {"models"},
    {"registry"},
    {"data"},
    {"runs"},
    {"training", "evaluation", "editing", "contracts"},
    {"report"},
    {"cli"},
]
# `create` and an error's hint need the table of models by name, and `dgm` itself only its version
DOWNWARDS_ANYWAY = {("likelihood", "registry"), ("registry", "distributions")}


def layer(part: str) -> int:
    return next(k for k, parts in enumerate(LAYERS) if part in parts)


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dgm."):
            yield str(node.module).split(".")[1]
        if isinstance(node, ast.ImportFrom) and node.module == "dgm":
            yield from (alias.name for alias in node.names if alias.name != "__version__")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if part in ("__init__", "__main__"):
        return
    upwards = [name for name in imports(path) if layer(name) > layer(part) and (part, name) not in DOWNWARDS_ANYWAY]
    assert not upwards, f"{path.name} imports {upwards}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_is_read_is_executed(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("torch.load", "torch.save", "eval", "exec", "pickle.load", "pickle.loads"), called
            for keyword in node.keywords:
                assert keyword.arg != "allow_pickle" or ast.unparse(keyword.value) == "False"
        if isinstance(node, ast.Import):
            assert not {alias.name for alias in node.names} & {"pickle", "joblib", "dill", "shelve"}
