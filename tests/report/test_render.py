"""The page: what it shows, that it opens offline, and that nothing in it is taken for markup."""

import csv
import html
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from browser import CHROMIUM, Browser

import dgm
from dgm.errors import BadInput, DamagedRun
from dgm.files import write_json
from dgm.report import collect
from dgm.report.render import write_report
from dgm.runs import Run

from .conftest import evaluation, likelihood, metric

NASTY = "<script>alert('1')</script> & \"quotes\""


class Page(HTMLParser):
    """Elements with their attributes, and the first table's cells by row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if self.rows and self.open and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data + " "


def trained_run(folder: Path, name: str, dataset: dgm.data.Dataset, document: dict, **settings) -> Path:
    torch.manual_seed(0)
    for _ in dgm.fit(dgm.create(name, dataset.space), dataset, out=folder, steps=2, **settings):
        pass
    write_json(document, folder / "evaluation.json")
    return folder


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of two models on digits, whose numbers were written by hand."""
    torch.set_num_threads(1)
    folder, digits = tmp_path_factory.mktemp("report"), dgm.data.load("digits")
    metrics = [
        metric(name, value, 0.25, space)
        for space in ("classifier", "pixels")
        for name, value in (("frechet", 12.5), ("coverage", 0.875))
    ]
    bound = evaluation([likelihood("lower_bound", 2.125), likelihood("lower_bound", 2.0, draws=16)], metrics)
    exact = evaluation([likelihood("exact", 1.75)], metrics, per_second=9.0)
    paths = [
        trained_run(folder / "vae", "vae", digits, bound),
        trained_run(folder / "made", "made", digits, exact),
    ]
    left_out = [{"model": "mine<b>", "why": "failed", "reason": NASTY}]
    write_report(paths, folder / "out" / "report.html", dataset=digits, command="dgm compare", left_out=left_out)
    return folder / "out" / "report.html"


def tables_of(page: Page) -> list[list[list[str]]]:
    """Rows of each table of models, the heading first, the row of real data last."""
    found: list[list[list[str]]] = []
    whole = False
    for row in page.rows:
        if row and row[0].strip() == "model":
            found.append([])
            whole = True
        if whole and row[0].strip():
            found[-1].append(row)
            whole = not row[0].startswith("real")
    return found


def test_every_row_has_a_cell_a_column(report):
    tables = tables_of(Page(report.read_text(encoding="utf-8")))
    assert len(tables) == 4  # likelihood, quality and coverage, the rest; then the distances in pixels
    for headings, *body in tables:
        assert [row[0].split()[0] for row in body] == ["made", "vae", "real"]
        assert {len(row) for row in body} == {len(headings)}


def test_numbers_stand_under_their_heading(report):
    of_likelihood, of_quality, of_cost, _ = tables_of(Page(report.read_text(encoding="utf-8")))
    headings, made, vae, _ = of_likelihood
    place = {heading.strip(): k for k, heading in enumerate(headings)}
    assert made[place["exact ↓"]].split() == ["1.750", "[1.730,", "1.770]"]
    assert made[place["lower bound ↓"]].strip() == "–"
    assert vae[place["exact ↓"]].strip() == "–"
    assert vae[place["lower bound ↓"]].split()[0] == "2.125"
    assert vae[place["bound, K draws ↓"]].split()[0] == "2.000"
    headings, _, vae, real = of_quality
    place = {heading.strip(): k for k, heading in enumerate(headings)}
    assert vae[place["Fréchet ↓"]].split() == ["12.5", "[12.2,", "12.8]"]
    assert real[place["Fréchet ↓"]].split() == ["0.500", "[0.400,", "0.600]"]
    headings, *_, real = of_cost
    assert real[[heading.strip() for heading in headings].index("memorised")].split() == ["0.2", "%"]


def test_what_a_reader_should_hear_first_stands_before_the_numbers(tmp_path):
    moons = dgm.data.load("toy/moons")
    document = evaluation([likelihood("exact", 1.0)], [metric("coverage", 0.9, 0.1, "pixels", reference=0.95)])
    document["metrics"] += [metric("coverage", 0.0, 0.1, "pca", reference=0.95)]
    document |= {"features": {"pca": {"dim": 2}, "pixels": {"dim": 2}}, "modes": None}
    document["skipped"] = [{"what": "memorisation", "reason": "no such luck"}]
    run = trained_run(tmp_path / "vae", "vae", moons, document)
    write_report([run], tmp_path / "report.html")
    text = html.unescape((tmp_path / "report.html").read_text(encoding="utf-8"))
    sentence = text.index("Feature spaces disagree: coverage is 0.90 in pixels features and 0.00 in pca features")
    assert sentence < text.index("<table>")
    assert text.index("Not measured: memorisation: no such luck.") < text.index("<table>")
    assert "Hardly trained: 0.0" in text
    assert re.search(r"weights of step \d, epoch [\d.]+: the lowest validation loss", text)
    (kept,) = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["runs"]
    losses = [line["validation"] for line in Run(run).metrics() if "validation" in line]
    assert kept["selected"]["validation"] == min(losses)
    assert len(kept["cautions"]) >= 2


def test_a_column_may_have_any_name(tmp_path):
    rows = torch.randn(60, 3, generator=torch.Generator().manual_seed(0)).tolist()
    with (tmp_path / "t.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["$\\frac$", "a_b^c", "\u5b57%"], *rows])
    table = dgm.data.load(str(tmp_path / "t.csv"))
    document = evaluation([likelihood("exact", 1.0)], [metric("frechet", 1.0, 0.1, "pixels")])
    document |= {"features": {"pixels": {"dim": 3}}, "modes": None}
    write_report([trained_run(tmp_path / "gmm", "gmm", table, document)], tmp_path / "report.html", dataset=table)
    assert "A histogram of each column" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_an_evaluation_of_an_earlier_format_is_measured_anew(report, tmp_path):
    shutil.copytree(report.parents[1] / "vae", tmp_path / "vae", copy_function=shutil.copy2)
    assert collect.is_evaluated(Run(tmp_path / "vae"))
    write_json(evaluation() | {"format": 1}, tmp_path / "vae" / "evaluation.json")
    assert not collect.is_evaluated(Run(tmp_path / "vae"))


def test_what_comes_from_outside_is_no_markup(report):
    page = Page(report.read_text(encoding="utf-8"))
    assert not any(tag == "script" for tag, _ in page.elements)
    assert "mine&lt;b&gt;" in report.read_text(encoding="utf-8")
    assert "&lt;script&gt;" in report.read_text(encoding="utf-8")


def test_the_page_asks_for_nothing_from_elsewhere(report):
    for _, attributes in Page(report.read_text(encoding="utf-8")).elements:
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#"))
    assert not re.search(r"url\((?!#)|@import", report.read_text(encoding="utf-8"))


def test_everything_has_words(report):
    elements = Page(report.read_text(encoding="utf-8")).elements
    assert all(attributes.get("alt") for tag, attributes in elements if tag == "img")
    assert all(attributes.get("scope") for tag, attributes in elements if tag == "th")
    assert all(attributes.get("aria-hidden") for tag, attributes in elements if tag == "svg")


def test_ids_are_unique_and_references_are_to_them(report):
    text = report.read_text(encoding="utf-8")
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(#|href="#|labelledby=")([^")]+)', text)) <= set(ids)


def test_of_the_three_files_all_are_written_or_none(report, tmp_path):
    (tmp_path / "page.html").mkdir()  # where a file cannot be put
    with pytest.raises(BadInput, match=r"page\.html cannot be written"):
        write_report(report.parent.parent / "vae", tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == [tmp_path / "page.html"]


def test_json_and_csv_hold_the_same_numbers(report):
    document = json.loads(report.with_suffix(".json").read_text(encoding="utf-8"))
    rows = list(csv.DictReader(report.with_suffix(".csv").read_text(encoding="utf-8").splitlines()))
    for row, line in zip(document["tables"]["classifier"]["rows"], rows, strict=True):
        assert {key: "" if value is None else str(value) for key, value in row.items()}.items() <= line.items()
    (run,) = [run for run in document["runs"] if run["model"] == "vae"]
    assert run["evaluation"]["likelihood"][0]["method"] == "method of lower_bound"
    assert (
        run["weights"]
        == json.loads((Path(run["path"]) / "manifest.json").read_text(encoding="utf-8"))["weights.safetensors"]
    )


def test_a_run_is_as_long_and_as_large_as_its_training_says(report):
    run = Run(report.parents[1] / "vae")
    found, last = collect.trained(report.parents[1] / "vae"), run.metrics()[-1]
    assert (found.steps, found.seconds) == (2, last["seconds"])
    assert found.seconds > run.metrics()[0]["seconds"]
    assert found.parameters == sum(p.numel() for p in run.untrained().parameters())


def test_samples_are_those_that_were_measured_and_are_drawn_once(report):
    run, digits = collect.trained(report.parents[1] / "vae"), dgm.data.load("digits")
    x = collect.samples(run, digits)
    assert len(x) == 36
    assert (x == dgm.load(run.path).sample(collect.SHOWN, seed=run.evaluation["samples"]["seed"])).all()
    (kept,) = (Path(run.path) / "samples").iterdir()
    before = kept.stat().st_mtime_ns
    collect.samples(run, digits)
    assert kept.stat().st_mtime_ns == before
    assert (collect.nearest(run, digits) == digits.train.x[[1, 2, 3]]).all()
    nearest = {"memorisation": {"nearest": [0, 5, -1, len(digits.train)]}}
    other = replace(run, evaluation=run.evaluation | nearest | {"samples": {**run.evaluation["samples"], "seed": 3}})
    assert (collect.samples(other, digits) == dgm.load(run.path).sample(collect.SHOWN, seed=3)).all()
    assert (collect.nearest(other, digits) == digits.train.x[[0, 5]]).all()


def test_an_evaluation_of_earlier_weights_is_refused(report, tmp_path):
    shutil.copytree(report.parents[1] / "vae", tmp_path / "vae")
    (tmp_path / "vae" / "weights.safetensors").touch()
    assert not collect.is_newer(tmp_path / "vae" / "evaluation.json", Run(tmp_path / "vae"))
    with pytest.raises(DamagedRun, match=r"not been evaluated since it was trained; run: dgm evaluate"):
        collect.trained(tmp_path / "vae")


def test_runs_of_different_data_are_refused(report, tmp_path):
    shutil.copytree(report.parents[1] / "vae", tmp_path / "vae", copy_function=shutil.copy2)
    config = json.loads((tmp_path / "vae" / "config.json").read_text(encoding="utf-8"))
    config["data"]["sha256"] = "another"
    write_json(config, tmp_path / "vae" / "config.json")
    with pytest.raises(BadInput, match="trained on different data"):
        write_report([report.parents[1] / "made", tmp_path / "vae"], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_grey_and_dynamically_binarised_images_share_no_table(report, tmp_path):
    """They are stored as the same numbers. Kills: data that is told apart by its bytes alone."""
    shutil.copytree(report.parents[1] / "vae", tmp_path / "vae", copy_function=shutil.copy2)
    config = json.loads((tmp_path / "vae" / "config.json").read_text(encoding="utf-8"))
    config["model"]["space"] = {"shape": config["model"]["space"]["shape"], "kind": "binary", "values": 2}
    runs = [SimpleNamespace(path=name, config=c) for name, c in (("made", read_config(report)), ("vae", config))]
    with pytest.raises(BadInput, match="trained on different data"):
        collect.refuse_different_data(runs)


def read_config(report):
    return json.loads((report.parents[1] / "made" / "config.json").read_text(encoding="utf-8"))


def test_points_have_plots_and_the_true_density_a_place_in_the_last_row(tmp_path):
    moons = dgm.data.load("toy/moons")
    document = evaluation([likelihood("exact", 1.0)], [metric("frechet", 1.0, 0.1, "pixels")])
    document |= {"features": {"pixels": {"dim": 2}}, "modes": None}
    run = trained_run(tmp_path / "gmm", "gmm", moons, document)
    write_report([run], tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    real = tables_of(page)[0][2]
    nats = moons.log_prob(moons.test.x).double().mean().item()
    assert float(real[1]) == pytest.approx(-nats / (2 * 0.693147), abs=1e-3)
    assert len([tag for tag, _ in page.elements if tag == "img"]) == 2  # real and drawn, no neighbours


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_chromium_opens_it_without_a_word_and_sees_whole_tables(report, tmp_path):
    """At a width of 1,300 pixels, no column is beyond the edge."""
    browser = Browser(tmp_path)
    page = browser.person()
    page.resize(1300, 900)
    page.open(report.as_uri())
    page.wait("location.protocol == 'file:' && document.readyState == 'complete'")
    assert "2 generative models on digits" in page.get("document.documentElement.outerHTML")
    assert page.get("document.documentElement.scrollWidth") <= 1300
    widths = page.get("[...document.querySelectorAll('.scroll')].map(table => [table.scrollWidth, table.clientWidth])")
    browser.close()
    assert len(widths) >= 4
    assert all(of_table <= shown for of_table, shown in widths)
    said = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
    assert not [event for event in browser.events if event["method"] in said]
