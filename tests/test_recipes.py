"""The recipes that come with dgm: each is complete, and each figure that docs quote was measured by one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from dgm.cli import train
from dgm.data.table import SETS
from dgm.errors import UnknownName

RESULTS = Path(__file__).parents[1] / "results"
RECIPES = sorted(f"{path.parent.name}/{path.stem}" for path in train.RECIPES.glob("*/*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_option_of_a_recipe_is_one(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        train.main(["--config", recipe, "--print-config"])
    assert ended.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    written = yaml.safe_load((train.RECIPES / f"{recipe}.yaml").read_text(encoding="utf-8"))
    for key in written.keys() - {"name", "model"}:
        assert printed[key] == written[key]
    for key, value in written.get("model", {}).items():
        assert printed["model"][key] == value
    assert written["name"] == re.split("[/-]", recipe)[1]
    assert written["data"] in SETS


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'binarized_mnist/fvsbn'"):
        train.with_bundled_recipe(["--config", "binarized_mnist/fvsbm"])


def test_a_file_of_the_same_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "binarized_mnist").mkdir()
    (tmp_path / "binarized_mnist" / "fvsbn").write_text("name: made\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert train.with_bundled_recipe(["--config", "binarized_mnist/fvsbn"])[1] == "binarized_mnist/fvsbn"


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_with_a_result_was_trained_with_its_settings(recipe: str) -> None:
    path = RESULTS / f"{recipe.replace('/', '-')}.json"
    if not path.exists():
        pytest.skip("not measured yet")
    kept = json.loads(path.read_text(encoding="utf-8"))["settings"]
    written = yaml.safe_load((train.RECIPES / f"{recipe}.yaml").read_text(encoding="utf-8"))
    for key, value in (written.get("model") or {}).items():
        assert kept["model"][key] == value
    for key in ("lr", "batch", "weight_decay"):
        if key in written:
            assert kept["training"][key] == written[key]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_says_whether_it_was_measured(recipe: str) -> None:
    text = (train.RECIPES / f"{recipe}.yaml").read_text(encoding="utf-8")
    named = re.findall(r"results/([\w-]+\.json)", text)
    assert all((RESULTS / name).exists() for name in named)
    assert ("Not measured yet" in text) == (not named)


@pytest.mark.results
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_reaches_its_figure_again(recipe: str, tmp_path: Path, data_root: Path) -> None:
    """Trains for as long as the recipe says, up to two hours."""
    from dgm import runs
    from dgm.evaluation.likelihoods import likelihoods

    path = RESULTS / f"{recipe.replace('/', '-')}.json"
    if not path.exists():
        pytest.skip("not measured yet")
    measured = json.loads(path.read_text(encoding="utf-8"))
    assert train.main(["--config", recipe, "--out", str(tmp_path / "run")]) == 0
    run = runs.Run(tmp_path / "run")
    test = run.dataset().test
    again = next(likelihoods(runs.load(tmp_path / "run"), test.x, test.y, "test", 1))
    found = measured["likelihood"]["test"] if "likelihood" in measured else measured["evaluation"]["likelihood"][0]
    assert again["bits_per_dim"] == pytest.approx(found["bits_per_dim"], rel=0.02)
