"""The file of answers: killed anywhere, it loses at most the last line; another file is left as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from studies import answer_of, study_of

from dgm.errors import BadInput
from dgm.study import answers
from dgm.study.answers import AnswerFile


def written(out: Path) -> bytes:
    file = AnswerFile(out, study_of())
    file.add_rater({"rater": 1, "token": "tökén", "time": ""})
    for trial in range(3):
        file.add_answer(answer_of(trial))
    file.close()
    return out.read_bytes()


def test_a_file_cut_anywhere_keeps_its_whole_lines_and_goes_on(tmp_path: Path) -> None:
    """Kills: a half line that stays, to which the next one is joined; a cut before the last whole line."""
    out = tmp_path / "study.jsonl"
    whole = written(out)
    ends = [k for k, byte in enumerate(whole) if byte == ord("\n")]
    for size in {0, len(whole), *(end + k for end in ends for k in (-20, 0, 1))}:
        out.write_bytes(whole[:size])
        file = AnswerFile(out, study_of())
        complete = whole[:size].count(b"\n")
        assert len(file.held.raters) + len(file.held.answers) == max(0, complete - 1)
        if complete >= 2:
            file.add_answer(answer_of(7))
        file.close()
        held = answers.read(out)
        assert [answer["trial"] for answer in held.answers] == ([*range(complete - 2), 7] if complete >= 2 else [])
        assert out.read_bytes().startswith(whole[: whole[:size].rfind(b"\n") + 1])


def test_each_line_is_on_the_disk_before_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    write, sync = answers.os.write, answers.os.fsync
    monkeypatch.setattr(answers.os, "write", lambda *given: (events.append("write"), write(*given))[1])
    monkeypatch.setattr(answers.os, "fsync", lambda *given: (events.append("sync"), sync(*given))[1])
    written(tmp_path / "study.jsonl")
    lines = [event for event in events if event != "sync"]
    assert len(lines) == 5
    assert all(events[k + 1] == "sync" for k, event in enumerate(events) if event == "write")


def test_a_line_that_does_not_fit_on_the_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "study.jsonl"
    whole = written(out)
    file, write = AnswerFile(out, study_of()), answers.os.write

    def full(number: int, content: bytes) -> int:
        write(number, content[:10])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(answers.os, "write", full)
        with pytest.raises(BadInput, match="No space left"):
            file.add_answer(answer_of(3))
    assert out.read_bytes() == whole
    file.add_answer(answer_of(3))
    file.close()
    assert [answer["trial"] for answer in answers.read(out).answers] == [0, 1, 2, 3]


@pytest.mark.parametrize("content", [b"my diary", b"my diary\n", b'{"format": 1}\n', b"[]\n{", b"\xff\n"])
def test_another_file_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    out = tmp_path / "notes.txt"
    out.write_bytes(content)
    with pytest.raises(BadInput, match=r"notes\.txt"):
        AnswerFile(out, study_of())
    assert out.read_bytes() == content


def test_the_file_of_another_study_is_refused_with_what_differs(tmp_path: Path) -> None:
    out = tmp_path / "study.jsonl"
    whole = written(out)
    with pytest.raises(BadInput, match="is of another study: its seed is 0, this one's 1; choose another --out"):
        AnswerFile(out, study_of(seed=1))
    with pytest.raises(BadInput, match="its runs is a list"):
        AnswerFile(out, study_of(("vae", "made")))
    assert out.read_bytes() == whole


def test_two_studies_do_not_write_to_one_file(tmp_path: Path) -> None:
    out = tmp_path / "study.jsonl"
    file = AnswerFile(out, study_of())
    with pytest.raises(BadInput, match="another study is writing"):
        AnswerFile(out, study_of())
    file.close()
    AnswerFile(out, study_of()).close()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 6, is not valid JSON"),
        ("[]", "line 6: it must be an object"),
        ('{"rater": 1, "trial": 3}', "line 6: task is missing"),
        (
            '{"rater": 2, "trial": 0, "task": "pairs", "pair": 0, "left": "a", "right": "b", "choice": "left", '
            '"seconds": 1, "time": ""}',
            "line 6: rater 2 never began",
        ),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    out = tmp_path / "study.jsonl"
    out.write_bytes(written(out) + line.encode() + b"\n")
    with pytest.raises(BadInput, match=said):
        answers.read(out)
