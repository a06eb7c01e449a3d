"""The results of a study as a user sees them: in the terminal, as JSON and in the report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from commands import dgm as command
from studies import answer_of, study_of

import dgm
from dgm.data import Dataset
from dgm.data.dataset import fingerprint
from dgm.errors import BadInput
from dgm.report.study import of_runs, section
from dgm.report.table import Trained
from dgm.study.analysis import Analysis, Block, Estimate, Judge, Ranked
from dgm.study.answers import REAL, AnswerFile, StudyPart
from dgm.study.tables import tables

NASTY = "<b>vae</b>"


@pytest.fixture
def digits() -> Dataset:
    return dgm.data.load("digits")


def answered(out: Path, study: StudyPart) -> Path:
    """Two raters, who are wrong at 3 and at 1 of 4 examples; and a pair."""
    file, name = AnswerFile(out, study), study["runs"][0]["name"]
    for rater, wrong in ((1, 3), (2, 1)):
        file.add_rater({"rater": rater, "token": str(rater), "time": ""})
        for trial in range(4):
            source, choice = (REAL, "fake" if trial < wrong else "real")
            file.add_answer(
                answer_of(trial, rater=rater, run=name, source=source, stimulus=trial, choice=choice, exposure=None)
            )
        pair = {"task": "pairs", "pair": 0, "left": name, "right": REAL, "choice": "right", "seconds": 3.0, "time": ""}
        file.add_answer({"rater": rater, "trial": 4, **pair})  # type: ignore[typeddict-item]
    file.close()
    return out


def test_the_command_prints_the_results(tmp_path: Path) -> None:
    answered(tmp_path / "study.jsonl", study_of(("vae",), trials=4, pairs=1, timed=False))
    done = command("study --analyse study.jsonl", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "50.0 %" in done.stdout
    assert "[21.5, 78.5]" in done.stdout  # Wilson's interval of 4 of 8
    assert "[30.1, 95.4]" in done.stdout
    assert "Fewer than 5 raters" in done.stdout
    assert "│ real or generated │" in done.stdout  # of the agreement: the name that the page has too
    found = json.loads(command("study --analyse study.jsonl --json", tmp_path).stdout)
    assert found["blocks"][0]["error"]["value"] == 0.5
    assert found["blocks"][0]["fakes"] is None
    assert [row["source"] for row in found["ranks"]] == [REAL, "vae"]
    assert [judge["finished"] for judge in found["raters"]] == [True, True]


def test_each_number_is_under_its_heading() -> None:
    """Of rates that all differ. Kills: two rates exchanged, a share for an exposure, one rank for two."""
    study = study_of(("vae",))
    rates = [Estimate(value, None, None) for value in (0.4, 0.1, 0.7)]
    block = Block("vae", 1234, 5, *rates, exposure=Estimate(455.4, 400, 500.6))
    ranks = [Ranked("vae", 3, 12, Estimate(0.5, 0.25, 0.75), 1, 2), Ranked(REAL, 9, 12, Estimate(0, -1, 1), 2, 2)]
    raters = [Judge(1, 20, 0, True, rates[0], 0.25, 1.5), Judge(2, 3, 1, False, None, None, None)]
    found = Analysis(study, raters, [block], ranks, {})
    blocks, ranked, judges = ([[text for text, _ in row] for row in table.rows] for table in tables(found))
    assert blocks == [["vae", "455 ms", "10.0 %", "70.0 %", "1,234", "5"]]
    assert ranked == [["vae", "1–2", "25 % of 12", "0.50"], [REAL, "2", "75 % of 12", "0.00"]]
    assert judges == [["1", "20", "40.0 %", "25.0 %", "1.50", "yes"], ["2", "3", "–", "", "", "no"]]
    assert tables(replace(found, study=study_of(("vae",), timed=False)))[0].rows[0][1] == ("40.0 %", "")


def test_a_report_has_a_section_on_the_study(tmp_path: Path, digits: Dataset) -> None:
    study = study_of((NASTY,), trials=4, pairs=1, timed=False, sha256=fingerprint(digits.train.x))
    found = of_runs(answered(tmp_path / "study.jsonl", study), digits, [])
    assert found.notes[-1] == f"Studied, and not in this report with the same weights: {NASTY}."
    run = Trained("vae", 0, "", {}, 0, 0.0, 0, weights=study["runs"][0]["weights"])
    same = of_runs(tmp_path / "study.jsonl", digits, [run])
    assert not [note for note in same.notes if "same weights" in note]
    page = section(found)
    assert NASTY not in page
    assert "&lt;b&gt;vae" in page
    assert "<td>50.0 %<small>[21.5, 78.5]</small></td>" in page


def test_a_study_of_other_data_is_no_part_of_a_report(tmp_path: Path, digits: Dataset) -> None:
    with pytest.raises(BadInput, match="is a study of digits, the report is of digits; name a study of the same data"):
        of_runs(answered(tmp_path / "study.jsonl", study_of(("vae",))), digits, [])
