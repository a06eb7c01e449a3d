"""Imports point downwards, and nothing that is read is executed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from dgm import protocols

ROOT = Path(__file__).parent.parent / "src" / "dgm"
FILES = sorted(ROOT.rglob("*.py"))
# the lowest layer first; a module may import its own layer and those before it
LAYERS = [
    {
        "errors",
        "torchrun",
        "documents",
        "tensor_files",
        "files",
        "settings",
        "seeds",
        "space",
        "protocols",
        "composite",
        "inputs",
        "modes",
        "memory",
        "progress",
        "time_of_day",
    }
    | {"condition", "composite"},
    {"distributions", "networks", "processes", "transforms"},
    {"samplers", "sampling", "likelihood"},
    {"models"},
    {"registry"},
    {"data"},
    {"runs", "saving", "hub"},
    {"training", "evaluation", "editing", "edit", "compression", "contracts"},
    {"report", "comparison", "study"},
    {"cli"},
]
# `create` and an error's hint need the table of models by name, and `dgm` itself only its version
DOWNWARDS_ANYWAY = {("likelihood", "models"), ("registry", "distributions"), ("registry", "networks")}
# the types of a model's attributes
DOWNWARDS_ANYWAY |= {("protocols", "distributions"), ("protocols", "processes"), ("protocols", "samplers")}


def layer(part: str) -> int:
    return next(k for k, parts in enumerate(LAYERS) if part in parts)


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
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
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("torch.load", "torch.save", "eval", "exec", "pickle.load", "pickle.loads"), called
            for keyword in node.keywords:
                assert keyword.arg != "allow_pickle" or ast.unparse(keyword.value) == "False"
        if isinstance(node, ast.Import):
            assert not {alias.name for alias in node.names} & {"pickle", "joblib", "dill", "shelve"}


CAPABILITIES = {capability.__name__ for capability in protocols.CAPABILITIES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_model_is_asked_for_its_capabilities(path: Path) -> None:
    """`protocols.has` knows of composites, whose methods say nothing."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
            named = {part.id for part in ast.walk(node.args[1]) if isinstance(part, ast.Name)}
            assert not named & CAPABILITIES, f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_class_is_made_at_run_time(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("type", "types.new_class"):
            assert len(node.args) == 1, f"line {node.lineno}: {ast.unparse(node)}"
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert not [inner for inner in ast.walk(node) if isinstance(inner, ast.ClassDef)], node.name


REPOSITORY = ROOT.parents[1]
SCRIPTS = [
    path
    for part in ("benchmarks", "docs", "examples", "results", "src", "tests")
    for path in (REPOSITORY / part).rglob("*.py")
]


def test_files_of_tests_have_names_of_their_own() -> None:
    """pytest imports them by name: of two of one name in folders without a package, it refuses the second."""
    names = [path.name for path in (REPOSITORY / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_text_is_read_and_written_in_a_stated_encoding(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and is_of_text(node):
            assert "encoding" in {word.arg for word in node.keywords}, f"line {node.lineno}: {ast.unparse(node)}"


def is_of_text(call: ast.Call) -> bool:
    """Whether it is read_text, write_text or an open whose mode, first of Path's and second of others', is of text."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name != "open":
        return name in ("read_text", "write_text")
    if isinstance(call.func, ast.Attribute) and not call.args:
        return True
    modes = [part.value for part in call.args[:2] if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    return any(set(mode) <= set("rwaxt+") and (mode != "w" or len(call.args) == 1) for mode in modes)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("path.open()", True),
        ("path.open('w', newline='')", True),
        ("gzip.open(path, 'rt')", True),
        ("open(path, 'a')", True),
        ("path.read_text()", True),
        ("path.open('rb')", False),
        ("Image.open(path)", False),
        ("wave.open(path, 'wb')", False),
        ("packed.open('x.npy', 'w')", False),
        ("path.read_bytes()", False),
    ],
)
def test_what_opens_text_is_known(code: str, text: bool) -> None:
    call = ast.parse(code, mode="eval").body
    assert isinstance(call, ast.Call)
    assert is_of_text(call) == text
