"""`dgm evaluate --score`: the log-density of each row, of what is observed of it, and its rank."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
import torch
from commands import dgm, with_bank
from scipy import stats

from dgm import create, load
from dgm.data import rows
from dgm.data.columns import of_run
from dgm.evaluation.rows import held_out_shares, scores
from dgm.likelihood import Kind
from dgm.models.mixture.kde import KDE
from dgm.runs import Run
from dgm.space import Space

NAN = math.nan


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = with_bank(
        tmp_path_factory.mktemp("scores"),
        400,
        "train made --data bank.csv --out made --model.hidden 16 --steps 40",
        "train gan --data bank.csv --out gan --steps 2",
        "train made --out digits --model.hidden 8 --steps 2",
        "train made --data bank.csv --out given --conditional --condition-columns married --steps 3",
    )
    text = "age,job,balance [EUR],income [kEUR],married,joined,visits\n"
    text += (
        "40,nurse,2000,30.5,yes,2015-01-01,2\n,nurse,2000,30.5,yes,2015-01-01,2\n200,nurse,1,30.5,yes,2015-01-01,2\n"
    )
    (made / "rows.csv").write_text(text, encoding="utf-8")
    return made


def test_scores_are_the_models_log_densities(folder: Path) -> None:
    """Those of complete rows by log_prob, of a row without its age above it, of an age out of range minus infinity."""
    done = dgm("evaluate made --score rows.csv --data bank.csv --out scores.csv", folder)
    assert done.returncode == 0, done.stderr
    assert "1 of 3 rows has a value outside of the training data's range" in done.stderr
    with (folder / "scores.csv").open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert [(row["kind"], row["anomaly_rank"]) for row in found] == [
        ("exact", "2"),
        ("lower bound", "3"),
        ("exact", "1"),
    ]
    model, about = load(folder / "made"), Run(folder / "made").config["data"]
    x = rows.numbers(rows.read(folder / "rows.csv"), of_run(about, model.space), model.space, outside=math.inf)
    assert float(found[0]["log_density"]) == pytest.approx(float(model.eval().log_prob(x[:1]).detach()), rel=1e-4)
    ages = torch.arange(model.space.parts[0][1].values or 0)
    every = x[:1].repeat(len(ages), 1)
    every[:, 0] = ages
    marginal = float(model.log_prob(every).double().logsumexp(0).detach())
    assert float(found[1]["log_density"]) == pytest.approx(marginal, abs=0.5)  # 64 particles
    assert found[2]["log_density"] == "-inf"
    assert float(found[2]["held_out_share"]) == 0 < float(found[0]["held_out_share"]) <= 1
    printed = dgm("evaluate made --score rows.csv", folder)
    assert printed.stdout.splitlines()[0] == "row,log_density,kind,anomaly_rank"
    assert len(printed.stdout.splitlines()) == 4


def test_the_condition_of_a_row_is_in_its_columns(folder: Path) -> None:
    (folder / "yes.csv").write_text("age,married\n40,yes\n40,no\n", encoding="utf-8")
    printed = dgm("evaluate given --score yes.csv", folder)
    assert printed.returncode == 0, printed.stderr
    first, second = printed.stdout.splitlines()[1:]
    assert first.split(",")[1] != second.split(",")[1]
    label = dgm("evaluate given --score yes.csv --label yes", folder).stdout.splitlines()[1:]
    assert label[0].split(",")[1] == label[1].split(",")[1] == first.split(",")[1]


def test_anomalies_in_a_file_have_the_columns_of_the_run(folder: Path) -> None:
    """Of twelve rows in another order, whose own types would be others: seven jobs of eight, ages below 33.

    The area is that of all pairs of their log-densities and those of the test split.
    """
    with (folder / "bank.csv").open(newline="", encoding="utf-8") as file:
        table = sorted(csv.DictReader(file), key=lambda row: int(row["age"] or 99))[:12]
    with (folder / "young.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0])[::-1])
        writer.writeheader()
        writer.writerows(table)
    done = dgm("evaluate made --anomaly young.csv --data bank.csv --json", folder)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    model, run = load(folder / "made").eval(), Run(folder / "made")
    x = rows.numbers(rows.read(folder / "young.csv"), of_run(run.config["data"], model.space), model.space)
    inside = model.log_prob(run.dataset(str(folder / "bank.csv")).test.x).detach()
    below = (model.log_prob(x).detach()[:, None] < inside).double().mean()
    assert document["n_anomalies"] == 12
    assert document["scores"]["log p"]["auroc"] == pytest.approx(float(below), abs=1e-3)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("gan --score rows.csv", "has no likelihood"),
        ("digits --score rows.csv", "rows belong to a table"),
        ("made --anomaly bank.csv --data bank.csv", "bank.csv is the data of the run itself"),
        ("made --anomaly digits --data bank.csv", "has other columns"),
        ("made --score nothing.csv", "there is no file nothing.csv"),
        ("made --score rows.csv --out scores.txt", "--out cannot be a '.txt' file"),
        ("made --out scores.csv", "--out without --score"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_one_line(folder: Path, command: str, said: str) -> None:
    done = dgm(f"evaluate {command}", folder)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_ranks_start_at_the_least_likely_row_and_shares_count_held_out_ones() -> None:
    model = create("gmm", Space.continuous((1,)), components=1)
    x = torch.tensor([[0.5], [3.0], [0.5], [-9.0]]) + model.means.float()
    found = scores(model, x)
    assert found.rank.tolist() == [3, 2, 3, 1]
    shares = held_out_shares(torch.tensor([-1.0, -3.0, 0.0]), torch.tensor([-2.0, -1.0, -0.5, -4.0]))
    assert shares.tolist() == [0.75, 0.25, 1.0]


@pytest.mark.parametrize("name", ["gmm", "ppca", "kde"])
def test_missing_values_are_marginalised_in_closed_form(name: str) -> None:
    """log p(x_1) by the integral of p(x_1, x_2) over x_2, in the units of the data.

    Kills: the log-scale of all columns or of none, weights left out, a bandwidth per dimension left out.
    """
    space = Space.continuous((2,), loc=(1.0, -1.0), scale=(3.0, 0.5))
    model = create(name, space)
    x = torch.tensor([[2.5, NAN], [0.0, NAN], [NAN, -1.2], [NAN, NAN]])
    found = scores(model, x)
    assert set(found.kinds) == {Kind.EXACT}
    line = torch.linspace(-40, 40, 40_001)
    for k, (row, free) in enumerate(zip(x[:3], (1, 1, 0), strict=True)):
        points = row.repeat(len(line), 1)
        points[:, free] = line
        expected = float(model.log_prob(points).double().logsumexp(0)) + math.log(80 / 40_000)
        assert float(found.nats[k]) == pytest.approx(expected, abs=1e-3)
    assert float(found.nats[3]) == pytest.approx(0, abs=1e-6)


@torch.no_grad()
def test_a_gap_that_is_a_value_counts_beside_one_that_is_marginalised() -> None:
    """p(a missing) = sum_c p(a missing, c), of a column in whose data values were missing and of one without gaps."""
    made = create("made", Space.record(a=Space.binary((), optional=True), c=Space.binary(())), hidden=8).eval()
    every = torch.tensor([[NAN, 0.0], [NAN, 1.0]]).double()
    found = scores(made, torch.tensor([[NAN, NAN]]).double())
    assert found.nats.item() == pytest.approx(made.log_prob(every).logsumexp(0).item(), abs=1e-4)


@torch.no_grad()
def test_each_row_has_the_kind_of_all_and_bounds_as_many_draws_as_are_asked() -> None:
    """A hole in the last column is summed over exactly, and one in the first by particles."""
    made = create("made", Space.record(a=Space.binary(()), c=Space.binary(())), hidden=8).eval()
    x = torch.tensor([[1.0, NAN], [NAN, 1.0]]).double()
    assert scores(made, x[:1]).kinds == [Kind.EXACT]
    assert scores(made, x).kinds == [Kind.LOWER_BOUND] * 2
    vae = create("vae", Space.binary((4,)), latent=2, hidden=4).eval()
    assert "K = 7" in scores(vae, torch.ones(3, 4).double(), draws=7).method


def test_a_kernel_density_estimate_draws_from_its_conditional() -> None:
    """p(x_2 | x_1) = sum_i w_i N(x_2; x_i2, h^2), w_i in proportion to N(x_1; x_i1, h^2)."""
    model = KDE(Space.continuous((2,), scale=(2.0, 3.0)), KDE.Config(bandwidth=0.4))
    for _ in model.fit([(torch.tensor([[0.0, 0.0], [1.0, 6.0], [8.0, -9.0]]), None)]):
        pass
    n = 4000
    drawn = model.impute(torch.tensor([[0.6, NAN]]).expand(n, 2), torch.tensor([[True, False]]).expand(n, 2), seed=0)
    w = stats.norm.pdf(0.6, [0.0, 1.0, 8.0], 0.8)
    w = w / w.sum()
    for t in (-1.0, 0.0, 1.0, 3.0, 5.5, 6.5):
        expected = float((w * stats.norm.cdf(t, [0.0, 6.0, -9.0], 1.2)).sum())
        assert float((drawn[:, 1] <= t).double().mean()) == pytest.approx(expected, abs=4 * 0.5 / n**0.5)
