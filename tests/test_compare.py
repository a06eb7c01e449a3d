"""``dgm compare`` from the command line: what is done stays done, one model's failure is its own."""

import csv
import itertools
import json
import shutil
import signal

import pytest
import torch

import dgm
import dgm.cli.compare
from dgm import comparison
from dgm.cli.main import main
from dgm.documents import read as read_json
from dgm.errors import BadInput, Interrupted
from dgm.runs import Run


@pytest.fixture
def table(tmp_path, monkeypatch):
    """The path of a table of 300 rows, with one thread and a cache of the test's own."""
    monkeypatch.setenv("DGM_CACHE", str(tmp_path / "cache"))
    torch.set_num_threads(1)
    rows = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "table.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["a", "b"], *rows.tolist()])
    return path


def compare(table, *options):
    out = table.parent / "out"
    settings = {"--budget": "0.3s", "--samples": "30", "--out": str(out)}
    given = [word for name, value in settings.items() if name not in options for word in (name, value)]
    return main(["compare", "--data", str(table), *given, *options]), out


def test_it_trains_measures_and_reports_and_does_nothing_twice(table, capsys):
    code, out = compare(table, "--models", "gmm,vae", "--json")
    assert code == 0
    rows = {row["model"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["gmm"]["exact"] is not None
    assert rows["vae"]["exact"] is None
    assert rows["vae"]["lower_bound"] is not None
    assert {"report.html", "report.json", "report.csv"} <= {path.name for path in out.iterdir()}
    made = sorted([*out.rglob("weights.safetensors"), *out.rglob("evaluation.json")])
    before = [path.stat().st_mtime_ns for path in made]
    code, _ = compare(table, "--models", "gmm,vae,gan")
    assert code == 0
    assert [path.stat().st_mtime_ns for path in made] == before
    assert "gan" in (out / "report.csv").read_text(encoding="utf-8")


def test_interrupted_it_goes_on_from_the_step_where_it_was(table, monkeypatch, capsys):
    # a budget of 300 readings of the clock, so that two steps on a busy machine are not the whole of it
    monkeypatch.setattr("time.monotonic", itertools.count(0.0, 0.001).__next__)

    class Impatient(dgm.cli.compare.Progress):
        asked = 0

        def update(self, fraction, text=""):
            Impatient.asked += 1
            if Impatient.asked == 2:
                signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(dgm.cli.compare, "Progress", Impatient)
        code, out = compare(table, "--models", "vae,gan")
    assert code == 128 + signal.SIGINT
    assert "run the same command to continue" in capsys.readouterr().err
    stopped = Run(out / "vae" / "seed-0").newest_checkpoint()[1]["step"]
    assert stopped == 2
    assert not (out / "report.html").exists()
    assert not (out / "gan").exists()

    resumed = []

    class Watching(dgm.cli.compare.Progress):
        def update(self, fraction, text=""):
            resumed.append(text)

    monkeypatch.setattr(dgm.cli.compare, "Progress", Watching)
    code, _ = compare(table, "--models", "vae,gan")
    assert code == 0
    assert resumed[0] == f"vae, seed 0: step {stopped + 1}"


def test_killed_before_the_first_file_it_starts_again(table):
    _, out = compare(table, "--models", "gmm")
    (out / "vae" / "seed-0").mkdir(parents=True)
    (out / "vae" / "seed-0" / ".lock").touch()
    code, _ = compare(table, "--models", "vae")
    assert code == 0


def test_a_model_that_does_not_take_the_data_is_skipped(table, capsys):
    code, out = compare(table, "--models", "masked_diffusion,gmm")
    assert code == 0
    assert "masked_diffusion is skipped: masked_diffusion takes" in capsys.readouterr().err
    assert "masked_diffusion" in (out / "report.html").read_text(encoding="utf-8")


def test_a_model_that_fails_costs_no_other_its_work(table, monkeypatch, capsys):
    import dgm.evaluation

    whole = dgm.evaluation.evaluate

    def failing(model, *arguments, **options):
        if type(model).__name__ == "VAE":
            raise RuntimeError("no such\nluck")
        return whole(model, *arguments, **options)

    monkeypatch.setattr(dgm.evaluation, "evaluate", failing)
    code, out = compare(table, "--models", "vae,gmm")
    assert code == 1
    assert "vae failed under seed 0: RuntimeError: no such luck" in capsys.readouterr().err
    (left,) = read_json(out / "report.json")["left_out"]
    assert left == {"model": "vae", "why": "failed under seed 0", "reason": "RuntimeError: no such luck"}
    assert [row["model"] for row in read_json(out / "report.json")["tables"]["pixels"]["rows"]] == ["gmm"]
    monkeypatch.setattr(dgm.evaluation, "evaluate", whole)
    assert compare(table, "--models", "vae,gmm")[0] == 0


def test_equal_seeds_give_equal_weights_at_the_start(table, monkeypatch):
    started, seeds = [], []

    def caught(model, *arguments, **options):
        started.append([p.clone() for p in model.parameters()])
        seeds.append(options["seed"])
        raise KeyError("enough")

    monkeypatch.setattr("dgm.training.fit", caught)
    for _ in range(2):
        assert compare(table, "--models", "vae", "--seeds", "2")[0] == 2
    assert seeds == [0, 1, 0, 1]
    first, second, again, _ = started
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any((a != b).any() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--models", "vea"], "no model is called 'vea'; did you mean 'vae'?"),
        (["--budget", "fast"], "'fast' is not a duration; write it like 60s, 5m or 2h"),
        (["--budget", "0s"], "a time must be above 0 and at most a year, got '0s'"),
        (["--seeds", "0"], "--seeds must be from 1 to 1000, got 0"),
        (["--samples", "3"], "--samples must be from 20 to 100000, got 3"),
        (
            ["--model", "vae", "--bugdet", "3s"],
            "no option of dgm compare is called '--bugdet'; did you mean '--budget'?",
        ),
    ],
)
def test_bad_input_gets_a_line_and_leaves_nothing(table, capsys, options, line):
    code, out = compare(table, *options)
    assert code == 2
    assert line in capsys.readouterr().err
    assert not out.exists()


def test_another_comparison_in_the_same_folder_is_refused(table, capsys):
    assert compare(table, "--models", "gmm")[0] == 0
    assert compare(table, "--models", "gmm", "--samples", "40")[0] == 2
    assert "holds a comparison with other samples; choose another folder" in capsys.readouterr().err
    (table.parent / "full").mkdir()
    (table.parent / "full" / "thesis.tex").touch()
    assert main(["compare", "--data", str(table), "--out", str(table.parent / "full")]) == 2
    assert "holds something else" in capsys.readouterr().err


@pytest.fixture
def grouped(tmp_path):
    """Points of the plane with a label each."""
    table = tmp_path / "grouped.csv"
    table.write_text("a,b,group\n" + "".join(f"{k % 7},{k % 5},{'xy'[k % 2]}\n" for k in range(40)), encoding="utf-8")
    return dgm.data.load(table, types="a=real,b=real", condition_columns="group")


@pytest.mark.parametrize(
    "other", [{"budget": 6.0}, {"samples": 30}, {"target": "a"}, {"conditional": True}, {"condition": "x"}]
)
def test_each_setting_makes_another_comparison(other, grouped, tmp_path, monkeypatch):
    """Given anew or left out. Kills: a setting that is not kept, one that is forgotten when it is left out."""

    def stopped(*arguments, **options):
        raise Interrupted("stopped", "go on", signal.SIGINT)

    monkeypatch.setattr(comparison, "make", stopped)
    usual = {"budget": 5.0, "samples": 20}
    for first, second in ((usual, usual | other), (usual | other, usual)):
        out = tmp_path / f"out {len(first)}"
        for settings, wrong in ((first, Interrupted), (second, BadInput), (first, Interrupted)):
            with pytest.raises(wrong, match=None if wrong is Interrupted else f"other .*{next(iter(other))}"):
                comparison.compare(grouped, out, ["vae"], **settings)
        shutil.rmtree(out)


def test_each_model_is_made_with_each_seed_and_its_share_of_the_progress(grouped, tmp_path, monkeypatch):
    made, shares = [], []

    def make(name, dataset, folder, *, seed, progress, **how):
        made.append((name, seed, folder.name))
        progress(0.5, "half")
        if len(made) == 4:
            raise Interrupted("stopped", "go on", signal.SIGINT)

    monkeypatch.setattr(comparison, "make", make)
    with pytest.raises(Interrupted):
        comparison.compare(
            grouped, tmp_path / "out", ["vae", "gmm"], seeds=2, progress=lambda share, text: shares.append(share)
        )
    assert made == [(name, seed, f"seed-{seed}") for name in ("vae", "gmm") for seed in (0, 1)]
    assert shares == [1 / 8, 3 / 8, 5 / 8, 7 / 8]


def test_report_renders_what_is_there_without_training(table, capsys):
    _, out = compare(table, "--models", "gmm,vae")
    page = table.parent / "again" / "page.html"
    assert main(["report", str(out), "--data", str(table), "--out", str(page)]) == 0
    assert (page.with_suffix(".csv")).read_text(encoding="utf-8") == (out / "report.csv").read_text(encoding="utf-8")
    assert main(["report", str(table.parent), "--out", "page.pdf"]) == 2
    (table.parent / "empty").mkdir()
    assert main(["report", str(table.parent / "empty"), "--out", str(page)]) == 2
    assert "is not a run directory and contains none" in capsys.readouterr().err


@pytest.mark.parametrize(
    "damaged",
    [
        "[]",
        "{",
        '{"data": 3, "budget": 0.3, "samples": 30}',
        '{"budget": 0.3}',
        '{"data": {"name": "t", "options": {}}, "budget": "x", "samples": 1}',
    ],
)
def test_a_comparison_that_is_damaged_is_refused_in_one_line(table, capsys, damaged):
    out = table.parent / "out"
    out.mkdir()
    (out / "comparison.json").write_text(damaged, encoding="utf-8")
    code, _ = compare(table, "--models", "gmm")
    assert code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"dgm: {out / 'comparison.json'}")
    assert said.count("\n") == 1


def test_all_models_are_compared_under_one_condition(table, capsys):
    """Likelihoods are of the examples with the condition, and samples, those of the report too, are drawn given it."""
    rows = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    group = ["left" if row[0] < 0 else "right" for row in rows]
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [["a", "b", "group"], *([*row.tolist(), g] for row, g in zip(rows, group, strict=True))]
        )
    how = ["--models", "gmm,vae", "--condition-columns", "group", "--label"]
    code, out = compare(table, *how, "right")
    assert code == 0
    assert "gmm is skipped: gmm takes no condition" in capsys.readouterr().err
    run = Run(out / "vae" / "seed-0")
    dataset = dgm.data.load(table, condition_columns="group")
    right = dataset.names.labels.index("right")
    document = read_json(run.path / "evaluation.json")
    assert document["samples"]["condition"] == right
    assert document["likelihood"][0]["of"] == int((dataset.test.y == right).sum())
    kept = next((run.path / "samples").glob("report-seed-0-*.safetensors"))
    shown = dgm.runs.read_weights(kept)["x"]
    y = torch.tensor(right).expand(len(shown))
    assert torch.equal(shown, dgm.sample(dgm.load(run.path), len(shown), y, seed=0))
    assert compare(table, *how, "left")[0] == 2
    assert "other condition" in capsys.readouterr().err
