"""The commands and the code of README.md and of docs run as they stand; long trainings are cut to a few steps."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
# what makes a command of a page short: another budget, a few steps, a data set of small images, few samples
SHORTER = [
    (r"--budget \w+", "--budget 1s"),
    (r"^(dgm train .*--steps) \d+", r"\1 30"),
    (r"^(dgm train (?!.*--(steps|budget)).*)", r"\1 --steps 3"),
    (r"--data (mnist/dynamic|mnist|binarized_mnist|cifar10)\b", r"--data digits"),
    (r"--data moving_mnist", "--data moving_digits"),
    (r"--draws \d+", "--draws 20"),
    (r"--annealed \d+", "--annealed 3"),
    (r"^(dgm evaluate (?!.*--(?:score|anomaly) ).*)", r"\1 --samples 30 --features pixels"),
    (r"^(dgm compare .*) --samples \d+", r"\1"),
    (r"^(dgm compare .*)", r"\1 --samples 30"),
    (r" --palette 512\b", ""),
    (r"^(dgm edit compose .*)", r"\1 -n 2 --sampling-steps 3 --langevin-steps 1"),
    # its likelihood by an ODE, of 250 digits, is most of a page's time
    (r"^(dgm train ddpm (?!.*--on).*)", r"\1 --model.width 8"),
]


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text_of(page), re.DOTALL)


def commands(page: str) -> list[str]:
    """Those of the blocks, and those that stand in a line of text with all that they need."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    lines += re.findall(r"`(dgm (?:train|sample|edit|evaluate|report|check|compare) [^`]+)`", text_of(page))
    written = (" ".join(map(shlex.quote, shlex.split(line, comments=True))) for line in lines)
    return [
        line for line in written if line.startswith("dgm ") and not re.search(r"[A-Z]{3}", line.replace("ROMEO", ""))
    ]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_is_understood(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from dgm.cli import edit, main, own, train

    monkeypatch.setattr(own, "model_class", lambda name: own.registry.model_class("made" if ":" in name else name))
    for line in commands(page):
        verb, *arguments = shlex.split(line)[1:]
        if verb == "train":
            with pytest.raises(SystemExit) as ended:
                train.main([*arguments, "--print-config"])
            assert ended.value.code == 0
        elif verb == "edit":
            with monkeypatch.context() as patched:
                patched.setattr(edit, "run", lambda task, parsed: 0)
                assert edit.main(arguments) == 0
        else:
            module = main.importlib.import_module(main.VERBS[verb][0])
            with monkeypatch.context() as patched:
                patched.setattr(module, "run", lambda parsed: 0)
                assert main.dispatch([verb, *arguments]) == 0


def run(script: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A block of a page in the shell, with the installed `dgm` of this Python."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}
    command = ["sh", "-e", "-c", script]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_model_of_ones_own_is_made_as_its_page_says(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (script,) = blocks("docs/own-model.md", "sh")
    done = run(script, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "examples/mine.png").is_file()
    (code,) = blocks("docs/own-model.md", "python")
    done = run(f"cd examples\n{shlex.join([sys.executable, '-c', code])}", tmp_path)
    assert done.returncode == 0, done.stderr


RUN = ("conditions", "tables", "two-stages", "autoregressive", "diffusion", "compression", "measuring", "energy")


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", *(f"docs/{name}.md" for name in RUN)])
def test_the_commands_of_a_page_run(page: str, tmp_path: Path) -> None:
    if page == "docs/conditions.md":
        subprocess.run([sys.executable, ROOT / "examples/conditions.py"], cwd=tmp_path, check=True)
        rows = "odd,has_loop,greater_than_4\n1,0,0\n0,1,1\n"
        (tmp_path / "wanted.csv").write_text(rows, encoding="utf-8")
    (tmp_path / "plays.txt").write_text("ROMEO:\nWhat light through yonder window breaks?\n" * 100, encoding="utf-8")
    Image.new("L", (8, 4), 200).save(tmp_path / "half.png")
    assert run(f"{sys.executable} {ROOT}/examples/bank.py bank.csv --rows 400", tmp_path).returncode == 0
    blocked = [line for block in blocks(page, "sh") for line in block.splitlines() if line.startswith("dgm ")]
    without = "" if os.environ.get("DGM_DATA") else "fsdd|spoken|fashion|clothes"
    for line in blocked:
        for pattern, shorter in SHORTER:
            line = re.sub(pattern, shorter, line.partition("  #")[0].rstrip())
        if without and re.search(without, line):
            continue
        done = run(line, tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", ["README.md", "docs/conditions.md"])
def test_the_python_of_a_page_runs(page: str, tmp_path: Path) -> None:
    (code,) = blocks(page, "python")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "tensor(" in done.stdout


@pytest.mark.slow
def test_the_python_of_two_stages_runs(tmp_path: Path) -> None:
    (code,) = blocks("docs/two-stages.md", "python")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "evidence lower bound, prior: change of variables" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("code", blocks("docs/library.md", "python"))
def test_the_python_of_the_library_s_page_runs(code: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_readmes_commands_are_commands() -> None:
    from dgm.cli.main import VERBS

    verbs = re.findall(r"^dgm (\w+)", text_of("README.md"), re.MULTILINE)
    assert len(verbs) >= 5
    assert set(verbs) <= set(VERBS)


HELP = """
import runpy, sys
for script in sys.argv[1:]:
    sys.argv = [script, "--help"]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as left:
        assert not left.code, script
    else:
        raise AssertionError(script)
"""


def test_help_of_a_script_runs_no_experiment() -> None:
    """All in one process, of which PyTorch's import takes the most."""
    scripts = sorted(path.name for path in (ROOT / "results").glob("*.py"))
    done = subprocess.run(
        [sys.executable, "-c", HELP, *scripts],
        cwd=ROOT / "results",
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^usage: (\S+)", done.stdout, re.MULTILINE) == scripts


def test_the_rules_of_a_game_are_its_steps_and_all_settings() -> None:
    """Those of results/gans.py, by which a measured game is kept. Kills: a setting that is left out."""
    code = "import gans, json; print(json.dumps({name: gans.rules(game) for name, game in gans.GAMES.items()}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "results", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rules = json.loads(done.stdout)
    assert len({rule["steps"] for rule in rules.values()}) == len(rules) == 4  # the same time, and not the same steps
    assert {rule["training"]["batch"] for rule in rules.values()} == {32}
    assert rules["WGAN-GP"]["training"]["lr"] == 5e-4


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_relative_link_leads_to_a_file_and_a_heading() -> None:
    for page in PAGES:
        for name, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", text_of(page)):
            target = (ROOT / page).parent / name if name else ROOT / page
            assert target.exists(), f"{page} links to {name}"
            assert not anchor or anchor in anchors(target), f"{page} links to {name}#{anchor}"


def test_each_row_of_a_table_has_as_many_cells_as_its_head() -> None:
    """Kills: a | in a cell, such as that of p(x|y), which starts another cell."""
    for page in PAGES:
        text = re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)
        for rows in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            cells = {len(re.findall(r"(?<!\\)\|", row)) for row in rows.splitlines()}
            assert len(cells) == 1, f"{page}: {rows[:100]}"


def test_the_index_links_to_every_page_and_pages_show_every_picture() -> None:
    docs, text = ROOT / "docs", "".join(map(text_of, PAGES))
    unlinked = [page.name for page in docs.glob("*.md") if f"]({page.name}" not in text_of("docs/README.md")]
    assert unlinked == ["README.md"]
    assert [picture.name for picture in docs.glob("*.png") if f"{picture.name})" not in text] == []


@pytest.mark.slow  # it imports every model
def test_the_page_of_conditions_names_the_models_that_do_not_take_all_of_them() -> None:
    from dgm.models.table import MODELS

    kinds = {name: getattr(spec.load(), "conditions", frozenset()) for name, spec in MODELS.items()}
    (sentence,) = re.findall(r"All models take any of the conditions below, (.*?)\.\n", text_of("docs/conditions.md"))
    without, labels = (set(re.findall(r"`(\w+)`", part)) for part in sentence.split(", which take none, "))
    families = {"mixture", "autoencoder"}
    assert without == {name for name in MODELS if not kinds[name] and MODELS[name].family not in families}
    assert not any(kinds[name] for name in MODELS if MODELS[name].family in families)
    assert labels == {name for name in MODELS if kinds[name] == {"categories"}}
