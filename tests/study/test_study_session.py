"""Raters, tabs, reloads and restarts, without a browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from studies import session_of, study_of

from dgm.errors import BadInput
from dgm.study import staircase
from dgm.study.answers import REAL, read
from dgm.study.plan import Pair, RealOrFake
from dgm.study.session import OtherTab, Session, UnknownRater


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return session_of(tmp_path / "study.jsonl", study_of())


def answered(session: Session, page: dict, choice: str) -> dict:
    """The page after an answer to its trial."""
    number = page["trial"]["number"]
    return page | session.answer(page["token"], page["tab"], number, choice, 0.5, None)


def test_a_rater_answers_all_and_the_file_has_the_truth_beside_each(session: Session) -> None:
    page = session.begin()
    (rater,) = session.raters.values()
    for trial in rater.trials:
        page = answered(session, page, "real" if isinstance(trial, RealOrFake) else "left")
    assert page["trial"] == {"task": "done", "of": 26}
    held = read(session.file.path).answers
    assert [answer["trial"] for answer in held] == list(range(26))
    for answer, trial in zip(held, rater.trials, strict=True):
        if isinstance(trial, RealOrFake):
            assert answer["task"] == "real or fake"
            assert (answer["run"], answer["source"], answer["stimulus"]) == (trial.run, *trial.stimulus)
        else:
            assert answer["task"] == "pairs"
            assert (answer["pair"], answer["left"], answer["right"]) == (trial.number, trial.left[0], trial.right[0])


def test_each_run_has_a_staircase_of_its_own(session: Session) -> None:
    """Kills: one staircase of all runs, and an exposure that follows from a wrong truth."""
    page, expected = session.begin(), dict.fromkeys(("vae", "gmm"), staircase.FIRST)
    (rater,) = session.raters.values()
    for trial in rater.trials:
        if isinstance(trial, Pair):
            assert page["trial"]["exposure"] is None
            break
        assert page["trial"]["exposure"] == expected[trial.run]
        correct = page["trial"]["number"] % 3 > 0
        expected[trial.run] += -10 if correct else 30
        page = answered(session, page, "real" if correct == (trial.stimulus[0] == REAL) else "fake")
    assert expected["vae"] != expected["gmm"]


def test_a_double_key_press_is_one_answer(session: Session) -> None:
    page = session.begin()
    first = answered(session, page, "real")
    second = answered(session, page, "fake")
    assert first["trial"] == second["trial"]
    assert first["trial"]["number"] == 1
    assert [answer["choice"] for answer in session.file.held.answers] == ["real"]


@pytest.mark.parametrize(("seconds", "shown"), [(-0.1, 500.0), (0.5, -1.0)])
def test_a_negative_time_is_refused(session: Session, seconds: float, shown: float) -> None:
    page = session.begin()
    with pytest.raises(BadInput, match="times must be positive"):
        session.answer(page["token"], page["tab"], 0, "real", seconds, shown)
    session.answer(page["token"], page["tab"], 0, "real", 0.0, 0.0)
    (answer,) = session.file.held.answers
    assert (answer["exposure"], answer["shown"], answer["seconds"]) == (500, 0.0, 0.0)


def test_an_answer_is_one_of_its_own_trial(session: Session) -> None:
    page = session.begin()
    with pytest.raises(BadInput, match="must be one of"):
        answered(session, page, "left")


def test_only_the_last_tab_is_in_use(session: Session) -> None:
    old = session.begin()
    new = session.resume(old["token"])
    with pytest.raises(OtherTab, match="another tab"):
        answered(session, old, "real")
    assert not session.file.held.answers
    assert answered(session, new, "real")["trial"]["number"] == 1


def test_a_reload_shows_no_timed_image_again(session: Session) -> None:
    """A second look would make the exposure longer than it says. Kills: a reload that keeps the trial."""
    page = session.begin()
    assert session.resume(page["token"])["trial"]["number"] == 0  # it was not shown yet
    page = session.resume(page["token"])
    session.example(page["trial"]["tickets"][0])
    page = session.resume(page["token"])
    assert page["trial"]["number"] == 1
    (lost,) = session.file.held.answers
    assert lost["choice"] is None
    rater = session.raters[page["token"]]
    assert rater.exposures == dict.fromkeys(("vae", "gmm"), staircase.FIRST)


def test_a_reload_after_an_answer_loses_nothing(session: Session) -> None:
    page = session.begin()
    session.example(page["trial"]["tickets"][0])
    page = answered(session, page, "real")
    assert session.resume(page["token"])["trial"]["number"] == 1
    assert len(session.file.held.answers) == 1


def test_the_first_ticket_of_a_pair_is_its_left_side(tmp_path: Path) -> None:
    session = session_of(tmp_path / "study.jsonl", study_of(trials=0))
    page = session.begin()
    (rater,) = session.raters.values()
    assert isinstance(rater.trial, Pair)
    sides = [f"{source} {k}".encode() for source, k in (rater.trial.left, rater.trial.right)]
    assert [session.example(ticket) for ticket in page["trial"]["tickets"]] == sides


def test_a_reload_without_a_limit_of_time_keeps_the_trial(tmp_path: Path) -> None:
    session = session_of(tmp_path / "study.jsonl", study_of(timed=False))
    page = session.begin()
    session.example(page["trial"]["tickets"][0])
    again = session.resume(page["token"])
    assert again["trial"]["number"] == 0
    assert again["trial"]["tickets"] != page["trial"]["tickets"]
    assert not session.file.held.answers


def test_a_server_that_was_killed_goes_on_where_it_was(session: Session) -> None:
    """The page that is open goes on too. Kills: exposures that begin anew; a tab of before that is refused."""
    pages = [session.begin(), session.begin()]
    for choices in (["real", "fake", "real"], ["fake"]):
        page = pages.pop(0)
        for choice in choices:
            page = answered(session, page, choice)
        pages.append(page)
    before = {token: (rater.done, rater.exposures, rater.trials) for token, rater in session.raters.items()}
    session.file.close()
    restarted = session_of(session.file.path, study_of())
    after = {token: (rater.done, rater.exposures, rater.trials) for token, rater in restarted.raters.items()}
    assert after == before
    assert answered(restarted, pages[0], "real")["trial"]["number"] == 4
    assert restarted.begin()["token"] not in before
    assert [line["rater"] for line in restarted.file.held.raters] == [1, 2, 3]


def test_two_raters_at_once_do_not_meet(session: Session) -> None:
    first, second = session.begin(), session.begin()
    for _ in range(3):
        first = answered(session, first, "real")
    assert answered(session, second, "fake")["trial"]["number"] == 1
    assert answered(session, first, "real")["trial"]["number"] == 4
    assert [answer["rater"] for answer in session.file.held.answers] == [1, 1, 1, 2, 1]


def test_the_token_of_another_study_is_unknown(session: Session) -> None:
    with pytest.raises(UnknownRater):
        session.resume("nobody")


def test_a_ticket_is_of_one_presentation_and_says_nothing(session: Session) -> None:
    """Tickets are random and of one length; a trial is described alike whatever its source."""
    page = session.begin()
    (rater,) = session.raters.values()
    kinds, lengths = set(), set()
    for trial in rater.trials[:20]:
        assert isinstance(trial, RealOrFake)
        (ticket,) = page["trial"]["tickets"]
        source, k = trial.stimulus
        assert session.example(ticket) == f"{source} {k}".encode()
        kinds.add(tuple(page["trial"]))
        lengths.add(len(ticket))
        page = answered(session, page, "real")
        with pytest.raises(Exception, match="not of the present trial"):
            session.example(ticket)
    assert len(kinds) == len(lengths) == 1
    again = session_of(session.file.path.with_name("again.jsonl"), study_of()).begin()
    assert again["trial"]["tickets"] != page["trial"]["tickets"]
