"""The table against evaluations made by hand."""

import csv
import io
import math

import pytest

from dgm.models.table import MODELS
from dgm.report.table import (
    COLUMNS,
    KINDS,
    MEASURES,
    UNNORMALISED,
    Cell,
    as_csv,
    columns_of,
    fixed,
    flat,
    flat_reference,
    interval,
    leaders,
    number,
    over_seeds,
    reference,
    rows,
)

from .conftest import evaluation, likelihood, metric, trained

BY_KEY = {column.key: column for column in COLUMNS}


def test_kinds_of_likelihood_never_share_a_column(runs):
    for row in rows(runs, "classifier"):
        kinds = {entry["kind"] for run in row.runs for entry in run.evaluation["likelihood"]}
        assert set(row.cells) & set(KINDS) == kinds


def test_a_bound_of_more_draws_has_a_column_of_its_own():
    both = [likelihood("lower_bound", 2.0), likelihood("lower_bound", 1.9, draws=16)]
    (row,) = rows([trained("vae", evaluation(both))], "classifier")
    assert row.cells["lower_bound"].value == 2.0
    assert row.cells["tighter_bound"].value == 1.9


def test_an_exact_likelihood_is_exact_however_many_draws_were_asked_for():
    (row,) = rows([trained("made", evaluation([likelihood("exact", 2.0, draws=16)]))], "classifier")
    assert row.cells["exact"].value == 2.0
    assert not set(row.cells) & {"lower_bound", "tighter_bound"}


def test_the_interval_of_a_likelihood_is_that_of_95_percent():
    (row,) = rows([trained("made", evaluation([likelihood("exact", 2.0, se=0.1)]))], "classifier")
    assert (row.cells["exact"].low, row.cells["exact"].high) == pytest.approx((2 - 0.196, 2 + 0.196))
    assert row.cells["exact"].note.startswith("-88.72 ± 4.44 nats; method of exact; test, N = 497")
    assert "N = 497" in row.cells["exact"].note


def test_seeds_are_averaged_with_their_standard_deviation():
    values = (1.0, 2.0, 6.0)
    seeds = [trained("vae", evaluation([likelihood("lower_bound", v)]), seed=k) for k, v in enumerate(values)]
    (row,) = rows(seeds, "classifier")
    cell = row.cells["lower_bound"]
    assert cell.value == pytest.approx(3.0)
    assert cell.high - cell.value == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert cell.value - cell.low == pytest.approx(cell.high - cell.value)
    assert interval(cell, fixed) == "± 2.646"


def test_seeds_that_lack_a_number_do_not_count():
    assert over_seeds([None, Cell(1, 0, 2), None]) == Cell(1, 0, 2)
    assert over_seeds([None, None]) is None
    assert over_seeds([Cell.plain(1), None, Cell.plain(3)]).seeds == 2


def test_a_number_is_of_its_feature_space():
    both = [metric("frechet", 5.0, 1.0, "classifier"), metric("frechet", 50.0, 2.0, "pixels")]
    run = trained("vae", evaluation(metrics=both))
    for features, value in (("classifier", 5.0), ("pixels", 50.0)):
        (row,) = rows([run], features)
        assert row.cells["frechet"].value == value
        assert row.cells["frechet"].note.startswith(f"{features} features")


def test_rows_come_in_the_order_of_the_registry_and_others_models_last(runs):
    others = trained("package.module:Mine", evaluation())
    names = [row.model for row in rows([others, *reversed(runs)], "classifier")]
    assert names == ["made", "vae", "gan", "ebm", "flow_matching", "package.module:Mine"]


def test_the_reference_is_that_of_held_out_examples_with_its_interval(runs):
    found = reference(runs, "classifier")
    assert (found["frechet"].value, found["frechet"].low, found["frechet"].high) == (0.5, 0.4, 0.6)
    assert found["memorised"] == Cell.plain(0.002)
    assert reference(runs, "no such space") == {}
    line = flat_reference(found)
    assert (line["frechet"], line["frechet_low"], line["memorised"]) == (0.5, 0.4, 0.002)
    assert "memorised_low" not in line


def table_of(name: str, **cells: Cell):
    runs = [trained(model, evaluation()) for model in cells]
    found = rows(runs, "classifier")
    return [type(row)(row.model, "", "", {name: cells[row.model]}, row.runs) for row in found]


def test_leaders_are_all_whose_intervals_meet_that_of_the_best():
    cells = {"made": Cell(5, 4, 6), "vae": Cell(7, 5.5, 8.5), "gan": Cell(9, 7, 11)}
    assert leaders(table_of("frechet", **cells), BY_KEY["frechet"]) == {"made", "vae"}
    assert leaders(table_of("coverage", **cells), BY_KEY["coverage"]) == {"vae", "gan"}
    narrow = {"made": Cell(10, 5, 15), "vae": Cell(9, 8.9, 9.1), "gan": Cell(7, 6, 8), "nade": Cell(2, 1, 3)}
    assert leaders(table_of("coverage", **narrow), BY_KEY["coverage"]) == {"made", "vae", "gan"}


def test_each_column_says_in_which_direction_it_is_better():
    """Lower for codes' lengths and distances, higher for shares and scores, neither for sizes, costs and copies."""
    bits = {f"{kind}{given}" for kind in KINDS for given in ("", "_given_label")} - set(UNNORMALISED)
    distances = {"kernel", "frechet", "frechet_infinity"}
    of_columns = {"total_variation", "kolmogorov_smirnov", "correlation", "cramers_v"}
    scores = {"precision", "recall", "density", "coverage", "labels", "agreement", "utility", "probe", *MEASURES}
    scores |= {"inception_score", "sharpness", "diversity", "per_second"}
    assert {column.key for column in COLUMNS if column.better < 0} == bits | distances | of_columns
    assert {column.key for column in COLUMNS if column.better > 0} == scores


def test_models_within_the_noise_of_real_data_are_tied():
    """A model below real data is no better than one beside it; one that is worse than both is not tied."""
    cells = {"made": Cell(5, 4, 6), "vae": Cell(7, 6.5, 7.5), "gan": Cell(20, 18, 22)}
    table = table_of("frechet", **cells)
    assert leaders(table, BY_KEY["frechet"]) == {"made"}
    assert leaders(table, BY_KEY["frechet"], Cell(6.8, 6.2, 7)) == {"made", "vae"}
    assert leaders(table, BY_KEY["frechet"], Cell(1, 0, 2)) == {"made"}
    up = {"made": Cell(0.9, 0.85, 0.95), "vae": Cell(0.8, 0.78, 0.82), "gan": Cell(0.1, 0.0, 0.2)}
    assert leaders(table_of("coverage", **up), BY_KEY["coverage"], Cell(0.83, 0.81, 0.85)) == {"made", "vae"}


def test_where_all_are_tied_none_is_best():
    cells = {"made": Cell(5, 4, 6), "vae": Cell(7, 5.5, 8.5)}
    assert leaders(table_of("frechet", **cells), BY_KEY["frechet"]) == set()
    worse = cells | {"gan": Cell(9, 8.7, 11)}
    assert leaders(table_of("frechet", **worse), BY_KEY["frechet"], Cell(9, 8, 10)) == set()


@pytest.mark.parametrize(("n", "keys"), [(4999, ["kernel", "frechet"]), (5000, ["frechet", "kernel"])])
def test_of_few_samples_the_unbiased_distance_comes_first(n, keys):
    both = [metric(name, 1.0, 0.1) | {"n_generated": n} for name in ("frechet", "kernel")]
    found = [column.key for column in columns_of(rows([trained("vae", evaluation(metrics=both))], "classifier"))]
    assert [key for key in found if key in keys] == keys


def test_likelihoods_of_a_given_label_have_columns_of_their_own():
    """log p(x|y) may be higher by the information in y: it is not ranked against log p(x)."""
    given = trained("ddpm", evaluation([likelihood("lower_bound", 1.5, condition="label")]))
    plain = trained("vae", evaluation([likelihood("lower_bound", 2.0)]))
    table = rows([given, plain], "classifier")
    assert [set(row.cells) & {"lower_bound", "lower_bound_given_label"} for row in table] == [
        {"lower_bound"},
        {"lower_bound_given_label"},
    ]
    assert table[1].cells["lower_bound_given_label"].note.startswith("log p(x|y)")
    assert [line["lower_bound"] for line in flat(table)] == [2.0, None]
    assert BY_KEY["lower_bound_given_label"].group != BY_KEY["lower_bound"].group


@pytest.mark.parametrize("model", [*MODELS, "package.module:Mine"])
def test_every_model_has_a_family(model):
    (row,) = rows([trained(model, evaluation())], "classifier")
    assert row.family
    assert flat([row])[0]["family"] == row.family


def test_no_model_leads_alone_in_a_column_nor_in_one_that_has_no_better(runs):
    assert leaders(table_of("exact", made=Cell(2, 1.9, 2.1)), BY_KEY["exact"]) == set()
    assert leaders(table_of("memorised", made=Cell.plain(0), vae=Cell.plain(1)), BY_KEY["memorised"]) == set()


def test_only_columns_with_a_number_are_shown(runs):
    shown = {column.key for column in columns_of(rows(runs[:1], "classifier"))}
    assert "exact" in shown
    assert not shown & {"lower_bound", "estimate", "unnormalised", "precision"}


def test_the_csv_holds_what_the_table_shows(runs):
    table = rows(runs, "classifier")
    lines = {line["model"]: line for line in csv.DictReader(io.StringIO(as_csv(table)))}
    assert float(lines["vae"]["lower_bound"]) == 3.0
    assert lines["vae"]["exact"] == ""
    assert float(lines["gan"]["frechet_low"]) == pytest.approx(49.99)
    for line, row in zip(flat(table), table, strict=True):
        for column in COLUMNS:
            if column.key != "unnormalised":
                assert (line[column.key] is None) == (column.key not in row.cells)


def test_an_energy_is_no_number_to_compare(runs):
    (row,) = [row for row in rows(runs, "classifier") if row.model == "ebm"]
    assert BY_KEY["unnormalised"].show(row.cells["unnormalised"].value) == "log Z unknown"
    assert all(line["unnormalised"] is None for line in flat([row]))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234567, "1,234,567"),
        (99.96, "100.0"),
        (1.2345, "1.23"),
        (-0.0456, "-0.0456"),
        (3e-6, "3.0e-06"),
        (1e999, "–"),
        (1e-4, "0.000100"),
        (-1.5e-4, "-0.000150"),
        (9.9e-5, "9.9e-05"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


def test_an_interval_is_in_brackets():
    assert interval(Cell(1.234, 1.1, 1.38), number) == "[1.10, 1.38]"
    assert interval(Cell.plain(3), number) == ""


def test_a_bound_and_an_estimate_of_one_model_stand_apart():
    both = [likelihood("lower_bound", 2.0), likelihood("estimate", 1.8) | {"n": 500}]
    table = rows([trained("ddpm", evaluation(both)), trained("vae", evaluation([likelihood("lower_bound", 1.9)]))], "x")
    ddpm = next(row for row in table if row.model == "ddpm")
    assert (ddpm.cells["lower_bound"].value, ddpm.cells["estimate"].value) == (2.0, 1.8)
    assert "N = 500" in ddpm.cells["estimate"].note
    assert leaders(table, BY_KEY["lower_bound"]) == {"vae"}
    assert leaders(table, BY_KEY["estimate"]) == set()


def test_intervals_that_touch_are_tied():
    cells = {"made": Cell(5, 4, 6), "vae": Cell(7, 6, 8), "gan": Cell(9, 7, 11)}
    assert leaders(table_of("frechet", **cells), BY_KEY["frechet"]) == {"made", "vae"}
    up = {"made": Cell(0.9, 0.8, 1.0), "vae": Cell(0.7, 0.6, 0.8), "gan": Cell(0.1, 0.0, 0.2)}
    assert leaders(table_of("coverage", **up), BY_KEY["coverage"]) == {"made", "vae"}


def test_a_number_without_a_level_of_real_data_leaves_the_others_theirs():
    both = [metric("frechet", 5.0, 1.0), metric("inception_score", 3.0, 0.1) | {"reference": None}]
    found = reference([trained("vae", evaluation(metrics=both))], "classifier")
    assert found.keys() == {"frechet", "memorised"}


def test_codes_have_the_measures_that_evaluate_prints() -> None:
    """Kills: the mean of the KL for its sum, and a probe of one attribute for that of all."""
    document = evaluation() | {
        "codes": {"kl": [1.5, 0.25], "active_units": 1, "of": 2, "mutual_information": 1.25, "n": 300, "rule": "r"},
        "mixing": {"r_hat": 1.25, "effective": 40.0, "rule": "rank-normalised"},
        "codebook": {"entries": 8, "used": 6, "perplexity": 5.0, "codes": 100, "split": "test"},
        "representation": {
            "probe": {"size": 0.5, "shape": 1.0},
            "most_frequent": {"size": 0.25, "shape": 0.5},
            "n": 200,
            "rule": "r",
            "mig": 0.125,
        },
    }
    (row,) = rows([trained("vae", document)], "classifier")
    found = {key: cell.value for key, cell in row.cells.items()}
    expected = {
        "r_hat": 1.25,
        "effective": 40,
        "active_units": 1,
        "code_kl": 1.75,
        "code_information": 1.25,
        "codebook_used": 0.75,
        "probe": 0.75,
    }
    assert expected.items() <= found.items()
    assert (found["codebook_perplexity"], found["mig"]) == (5.0, 0.125)
    assert "ari" not in found
    assert "size: 25.0%" in row.cells["probe"].note
    groups = {column.key: column.group for column in columns_of([row])}
    assert groups["probe"] == groups["mig"] == "codes beside the condition"
