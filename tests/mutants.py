"""Breaks one formula at a time and says which broken ones the tests do not notice.

    python tests/mutants.py src/dgm/seeds.py --tests tests/test_foundation.py
    python tests/mutants.py src/dgm/models/energy src/dgm/samplers --sample 20 --seed 1
    python tests/mutants.py src/dgm/likelihood.py --swap "self.dim * math.log(2)" "self.dim"

Each mutant is one change of a file: a sign or a comparison turned, a factor, a term or a function left out, a sum for a
mean, a number doubled, a statement skipped. The tests run on a copy of the tree, in a process of their own, until the
first fails; at the end, all that failed have to pass on the unbroken tree. Without ``--tests`` they are those that
import the file, its doctests, those in tests/models that have its name in quotes, its model's contracts, then the same
of the modules that import the file, and the recorded numbers.
A survivor is a missing test, or a change that means the same; which of the two, a person decides.
"""

from __future__ import annotations

import argparse
import ast
import collections
import contextlib
import functools
import importlib
import multiprocessing
import os
import random
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
TURNED = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "/"}
COMPARED = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "=="}
RENAMED = {
    **{"mean": "sum", "sum": "mean", "min": "max", "max": "min", "amin": "amax", "amax": "amin", "minimum": "maximum"},
    **{"argmin": "argmax", "argmax": "argmin", "logsumexp": "amax", "zeros": "ones", "ones": "zeros"},
    **{"rand": "randn", "randn": "rand", "rand_like": "randn_like", "randn_like": "rand_like"},
    **{"normal": "uniform", "uniform": "normal", "maximum": "minimum"},
}
LEFT_OUT = {
    *("log", "exp", "square", "sqrt", "abs", "clamp", "clamp_min", "clamp_max", "round", "floor", "cumsum", "norm"),
    *("tanh", "sigmoid", "relu", "silu", "gelu", "softplus", "softmax", "log_softmax", "logit", "detach"),
}
NONE_FOUND = 5  # pytest's exit code
UNSEEN = (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom)


class Mutant(NamedTuple):
    line: int
    old: str
    new: str
    text: str  # the whole file


def mutants(source: str) -> Iterator[Mutant]:
    """Every change of ``source`` by the table above, in the order of the lines."""
    lines = source.encode().splitlines(keepends=True)
    starts = [sum(map(len, lines[:k])) for k in range(len(lines))]

    def where(node: Any) -> tuple[int, int]:
        return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset

    seen = set()
    for node, news in changes(ast.parse(source), lambda node: source.encode()[slice(*where(node))].decode()):
        begin, end = where(node)
        old = source.encode()[begin:end].decode()
        for new in news:
            text = (source.encode()[:begin] + new.encode() + source.encode()[end:]).decode()
            if text not in seen and text != source:
                seen.add(text)
                yield Mutant(node.lineno, old, new, text)


def changes(tree: ast.AST, text: Any) -> Iterator[tuple[Any, list[str]]]:
    """Nodes, and what may stand in their place."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, UNSEEN) or getattr(node, "name", "") in ("__str__", "__repr__"):
            continue
        if isinstance(node, ast.keyword) and node.arg in ("low", "high", "persistent"):  # what a setting may be
            continue
        if hasattr(node, "lineno"):
            yield node, list(instead(node, tree, text))
        # no operator of a type or of a decorator is a formula
        inner: list[Any] = [node.value] if isinstance(node, ast.AnnAssign) else getattr(node, "body", [])
        if isinstance(node, ast.FunctionDef):
            inner = [*node.args.kw_defaults, *inner]
        named = isinstance(node, ast.AnnAssign | ast.FunctionDef | ast.ClassDef)
        yield from changes(Inner(list(filter(None, inner))) if named else node, text)


class Inner(ast.AST):
    """A few nodes as one."""

    _fields = ("nodes",)


def instead(node: ast.AST, parent: ast.AST, text: Any) -> Iterator[str]:
    match node:
        case ast.BinOp(a, op, b):
            if type(op) in TURNED:
                yield f"(({text(a)}) {TURNED[type(op)]} ({text(b)}))"
            if isinstance(op, ast.Mult | ast.Div | ast.Pow | ast.Mod | ast.Add | ast.Sub):
                yield f"({text(a)})"
            if isinstance(op, ast.Mult | ast.Add):
                yield f"({text(b)})"
        case ast.UnaryOp(ast.USub() | ast.Invert() | ast.Not(), a) if not isinstance(a, ast.Constant):
            yield f"({text(a)})"
        case ast.Compare(a, [op], [b]) if type(op) in COMPARED:
            yield f"({text(a)} {COMPARED[type(op)]} {text(b)})"
        case ast.Constant(bool(value)):
            yield str(not value)
        case ast.Constant(int(value) | float(value)) if not is_axis(node, parent):
            yield repr(value * 2 or 1)
        case ast.IfExp(_, a, b):
            yield from (f"({text(a)})", f"({text(b)})")
        case ast.BoolOp(_, values):
            yield from (f"({text(value)})" for value in values)
        case ast.AugAssign():
            yield "pass"
        case ast.Expr(ast.Call(ast.Attribute(_, name))) if name.endswith("_") and name != "__init__":
            yield "pass"
        case ast.Call(ast.Attribute(a, "where"), [condition, b, c]):
            yield f"{text(a)}.where({text(condition)}, {text(c)}, {text(b)})"
        case ast.Call(ast.Attribute(a, name)) if name in LEFT_OUT and text(a) not in ("torch", "math"):
            yield f"({text(a)})"
        case ast.Call(ast.Name(name) | ast.Attribute(_, name), [a, *_]) if name in LEFT_OUT:
            yield f"({text(a)})"
        case ast.Attribute(a, name) if name in RENAMED:
            yield f"({text(a)}).{RENAMED[name]}"
        case ast.Name(name) if name in RENAMED:
            yield RENAMED[name]


def is_axis(node: ast.Constant, parent: ast.AST) -> bool:
    """Whole numbers that a method takes, or an index."""
    called = isinstance(parent, ast.Call) and isinstance(parent.func, ast.Attribute)
    return (
        isinstance(node.value, int)
        and not isinstance(parent, ast.BinOp | ast.Compare | Inner)
        and (called or not isinstance(parent, ast.Call | ast.Assign))
    )


def tests_of(tree: Path, file: Path) -> list[list[str]]:
    """Those that import the file, its doctests, those of models that name it, and the contracts of the model.

    Then the same of the modules which import the file: a model's formula may be in the base of its family. At last the
    recorded numbers of all models.
    """
    of = {module(file)}
    doctests, done = [str(tree / file)], list[str]()
    groups: list[list[str]] = []
    for modules in (of, importers(tree, of)):
        stems = {name.rpartition(".")[2] for name in modules}
        importing, naming = named_in_tests(tree, modules, stems)
        of_name = [path for path in importing if any(stem in Path(path).stem for stem in stems)]
        for found in ([*of_name, *doctests], importing, naming):
            groups.append([path for path in found if path not in done])
            done += found
        doctests = []
        contracts = " or ".join(f"[{stem}]" for stem in sorted(stems))
        groups.append([str(tree / "tests/test_contracts.py"), "-k", contracts] if stems else [])
    return [*groups, [str(tree / "tests/test_recorded.py")]]


def named_in_tests(tree: Path, modules: set[str], stems: set[str]) -> tuple[list[str], list[str]]:
    """The tests that import one of the modules, and those of models that have the name of one."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted((tree / "tests").rglob("test_*.py"))}
    importing = [path for path, text in texts.items() if imported(text) & modules]
    quoted = [f'"{name}"' for name in (*(name.removeprefix("dgm.") for name in modules), *stems)]
    of_models = {path: text for path, text in texts.items() if path.parent.name == "models"}
    naming = [path for path, text in of_models.items() if any(name in text for name in quoted)]
    return [str(path) for path in importing], [str(path) for path in naming]


def module(file: Path) -> str:
    return ".".join(file.relative_to("src").with_suffix("").parts).removesuffix(".__init__")


def importers(tree: Path, modules: set[str]) -> set[str]:
    files = {file.relative_to(tree) for file in (tree / "src/dgm").rglob("*.py")}
    found = {module(file) for file in files if imported((tree / file).read_text(encoding="utf-8")) & modules}
    return found - modules - {"dgm"}


@functools.cache
def imported(source: str) -> set[str]:
    """Every module, and every name of a module, that an import states, and the modules of what dgm loads when used."""
    nodes = list(ast.walk(ast.parse(source)))
    of = {f"{node.module}.{name.name}" for node in nodes if isinstance(node, ast.ImportFrom) for name in node.names}
    used = of | {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
    return of | {name.rpartition(".")[0] for name in of} | {at for name, at in loaded_when_used() if name in used}


@functools.cache
def loaded_when_used() -> list[tuple[str, str]]:
    """The names of dgm, such as ``dgm.sample``, with the modules that they are loaded from."""
    for node in ast.parse((ROOT / "src/dgm/__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_LAZY":
            return [(f"dgm.{name}", at) for name, at in ast.literal_eval(node.value).items()]
    raise AssertionError("src/dgm/__init__.py has no _LAZY")


class Last:
    """Writes each test's name before it starts, and ends the process where one does not end."""

    def __init__(self, file: Path, limit: int) -> None:
        self.file, self.limit = file, limit

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.file.write_text(nodeid, encoding="utf-8")
        signal.alarm(self.limit)


def run(tree: Path, tests: list[list[str]], limit: int) -> None:
    """In a process of its own, where ``tree`` is the code that is imported."""
    import pytest

    os.setsid()
    os.chdir(tree)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    sys.path.insert(0, str(tree / "src"))
    marked = ["-x", "-q", "-n0", "-m", "not slow and not results"]
    codes = [0]
    while tests and codes[-1] in (0, NONE_FOUND):
        chosen = tests.pop(0)
        (tree.parent / "last").write_text("", encoding="utf-8")
        codes.append(
            int(pytest.main([*marked, *chosen], [Last(tree.parent / "last", limit)])) if chosen else NONE_FOUND
        )
    os._exit(NONE_FOUND if set(codes[1:]) == {NONE_FOUND} else codes[-1] % NONE_FOUND)


def outcome(tree: Path, tests: list[list[str]], limit: int) -> tuple[str, str]:
    """And the test that ran last."""
    (tree.parent / "last").write_text("", encoding="utf-8")
    process = multiprocessing.get_context("fork").Process(target=run, args=(tree, list(tests), limit))
    process.start()
    process.join()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid or 0, signal.SIGKILL)  # commands that a test has started
    found = {NONE_FOUND: "no test", 0: "survived", -signal.SIGALRM: "too slow"}.get(process.exitcode or 0, "killed")
    return found, (tree.parent / "last").read_text(encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", help="or folders of them")
    parser.add_argument("--tests", help="what pytest is given, such as 'tests/test_foundation.py -k seeds'")
    parser.add_argument("--lines", help="of each file, such as 20-45")
    parser.add_argument("--sample", type=int, help="so many mutants, drawn at random from those of all files")
    parser.add_argument("--seed", type=int, default=0, help="of --sample")
    parser.add_argument("--swap", nargs=2, metavar=("OLD", "NEW"), action="append", help="a change of your own")
    parser.add_argument("--limit", type=int, default=120, help="seconds that a test may take")
    parser.add_argument("--skip", type=int, default=0, help="so many that an interrupted run has done")
    args = parser.parse_args()

    paths = [path.resolve() for path in args.files]
    files = [file for path in paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]
    tried = [(file.relative_to(ROOT), mutant) for file in files for mutant in of(file, args.swap, args.lines)]
    if args.sample and args.sample < len(tried):
        tried = random.Random(args.seed).sample(tried, args.sample)

    sys.dont_write_bytecode = True  # a mutant of the same size and second would be taken for the one before
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    for once_for_all_processes in ("beartype", "pytest", "scipy.stats", "sklearn.datasets", "sympy"):
        importlib.import_module(once_for_all_processes)
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", ".venv", "__pycache__", "runs", "demo"))
        os.environ["PYTHONPATH"] = str(tree / "src")
        counts, failing = collections.Counter[str](), dict[str, None]()
        for file, mutant in tried[args.skip :]:
            tests = [shlex.split(args.tests)] if args.tests else tests_of(tree, file)
            found, last = of_mutant(tree, file, mutant, tests, args.limit)
            counts[found] += 1
            failing |= {last: None} if found in ("killed", "too slow") else {}
            print(f"{found:9} {file}:{mutant.line}  {brief(mutant.old)}  ->  {brief(mutant.new)}  {last}", flush=True)
        if failing and outcome(tree, [list(failing)], args.limit)[0] != "survived":
            raise SystemExit("one of the tests that failed fails before anything is broken")
    print(f"{counts['killed'] + counts['too slow']} of {counts.total()} killed")


def of_mutant(tree: Path, file: Path, mutant: Mutant, tests: list[list[str]], limit: int) -> tuple[str, str]:
    """The outcome, and the test that fails.

    Where none has started, the unbroken file has to be one that pytest collects.
    """
    unbroken = (tree / file).read_text(encoding="utf-8")
    (tree / file).write_text(mutant.text, encoding="utf-8")
    found, last = outcome(tree, tests, limit)
    (tree / file).write_text(unbroken, encoding="utf-8")
    if found in ("survived", "no test"):
        return found, ""
    if not last:
        collected = [["--collect-only", *group] for group in tests if group]
        if outcome(tree, collected, limit)[0] != "survived":
            raise SystemExit(f"the tests of {file} cannot be collected")
        last = str(file)
    return found, last


def of(file: Path, swaps: list[tuple[str, str]] | None, lines: str | None) -> list[Mutant]:
    source = file.read_text(encoding="utf-8")
    found = [swapped(source, *pair) for pair in swaps] if swaps else list(mutants(source))
    first, last = map(int, lines.split("-")) if lines else (0, len(source))
    return [mutant for mutant in found if first <= mutant.line <= last]


def swapped(source: str, old: str, new: str) -> Mutant:
    if source.count(old) != 1:
        raise SystemExit(f"expected {old!r} once in the file, found it {source.count(old)} times")
    return Mutant(source[: source.index(old)].count("\n") + 1, old, new, source.replace(old, new))


def brief(code: str) -> str:
    return " ".join(code.split())


if __name__ == "__main__":
    main()
