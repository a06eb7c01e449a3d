"""The file of a study's answers: JSON lines, each on the disk before the next trial is shown.

The first line is the study; then there is a line for each rater who begins, and one for each answer. A killed process
leaves at most a half line at the end, which is cut off when the file is opened again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict, cast

from dgm.documents import misfit
from dgm.errors import BadInput
from dgm.files import flush, writable
from dgm.inputs import brief

FORMAT = 1
REAL = "real data"  # the source of real examples, beside the names of the runs


class RunPart(TypedDict):
    name: str
    weights: str


class StudyPart(TypedDict):
    """The first line: all that the trials follow from."""

    format: int
    seed: int
    data: str
    split: str
    sha256: str
    runs: list[RunPart]
    trials: int
    pairs: int
    timed: bool


class RaterLine(TypedDict):
    rater: int
    token: str
    time: str


class RealOrFakeAnswer(TypedDict):
    """An answer to a real-or-fake trial of the block of ``run``.

    ``choice`` is null for an image that was shown and lost, by a reload of the page. Stimulus k of a run is its sample
    k; ``exposure`` and ``shown`` are the planned and the measured milliseconds; ``seconds`` is the time of the answer.
    """

    rater: int
    trial: int
    task: Literal["real or fake"]
    run: str
    source: str
    stimulus: int
    exposure: int | None
    shown: float | None
    choice: Literal["real", "fake"] | None
    seconds: float | None
    time: str


class PairAnswer(TypedDict):
    """The better of two examples, whose sources are ``left`` and ``right``."""

    rater: int
    trial: int
    task: Literal["pairs"]
    pair: int
    left: str
    right: str
    choice: Literal["left", "right"]
    seconds: float
    time: str


Answer = RealOrFakeAnswer | PairAnswer


class Answers(NamedTuple):
    """The content of the file."""

    study: StudyPart
    raters: list[RaterLine]
    answers: list[Answer]


def parsed(content: bytes, path: Path) -> Answers:
    """The complete lines of the file.

    Raises:
        BadInput: If a line is not one of a study, with its number.
    """
    found: Answers | None = None
    for number, line in enumerate(content[: content.rfind(b"\n") + 1].split(b"\n")[:-1], 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{path}, line {number}, is not valid JSON: {error}", "take the file from a copy") from error
        kind = kind_of(row, number)
        if wrong := misfit(row, kind, ""):
            where = " is not a file of a study's answers" if number == 1 else f", line {number}: {wrong}"
            raise BadInput(f"{path}{where}", "name the file that `dgm study` wrote")
        if number == 1:
            found = Answers(cast(StudyPart, row), [], [])
        elif found is not None and kind is RaterLine:
            found.raters.append(row)
        elif found is not None:
            if not 1 <= row["rater"] <= len(found.raters):
                raise BadInput(f"{path}, line {number}: rater {row['rater']} never began", "take the file from a copy")
            found.answers.append(row)
    if found is None:
        raise BadInput(f"{path} holds no study", "name the file that `dgm study` wrote")
    return found


def kind_of(row: Any, number: int) -> type:
    if number == 1:
        return StudyPart
    if isinstance(row, dict) and "token" in row:
        return RaterLine
    return PairAnswer if isinstance(row, dict) and row.get("task") == "pairs" else RealOrFakeAnswer


def read(path: str | Path) -> Answers:
    """The answers so far, also while the study is running."""
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"there is no file {path}", "name the file that `dgm study` wrote")
    return parsed(path.read_bytes(), path)


class AnswerFile:
    """The file, open for new lines; it is created, or continued if it is of the same study.

    Raises:
        BadInput: If it is another file, is of another study or is being written to by another process.
    """

    def __init__(self, path: str | Path, study: StudyPart) -> None:
        self.path = Path(path)
        first = line_of(study)
        with writable(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self._lock()
            content = self.path.read_bytes()
            if not first.startswith(content):  # a file with a half of its first line begins again
                self.held = parsed(content, self.path)
                self._refuse_other(study)
                os.ftruncate(self._file, content.rfind(b"\n") + 1)
                return
            os.ftruncate(self._file, 0)
            self._append(first)
            flush(self.path.parent)
            self.held = Answers(study, [], [])
        except BaseException:
            self.close()
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            wrong = f"another study is writing to {self.path}"
            raise BadInput(wrong, "end it, or choose another --out") from error

    def _refuse_other(self, study: StudyPart) -> None:
        for name, value in study.items():
            if (held := cast(dict[str, Any], self.held.study)[name]) != value:
                wrong = f"{self.path} is of another study: its {name} is {brief(held)}, this one's {brief(value)}"
                raise BadInput(wrong, "choose another --out, or the options of that study")

    def add_rater(self, line: RaterLine) -> None:
        self._append(line_of(line))
        self.held.raters.append(line)

    def add_answer(self, line: Answer) -> None:
        self._append(line_of(line))
        self.held.answers.append(line)

    def _append(self, line: bytes) -> None:
        """Writes a line; none of it stays if it cannot be written, as on a full disk."""
        size = os.fstat(self._file).st_size
        with writable(self.path):
            try:
                written = 0
                while written < len(line):
                    written += os.write(self._file, line[written:])
                os.fsync(self._file)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, size)
                raise

    def close(self) -> None:
        os.close(self._file)


def line_of(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"
