"""The raters who take part: whose turn it is to see which trial, and the record of their answers.

A rater is known by a random token that the page keeps, so that a reload and a restarted server continue where they
were. Only the last page that a rater opened is in use. Examples are fetched by random tickets, made new for each
presentation: nothing in them depends on the example.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from dgm.errors import BadInput
from dgm.study import staircase
from dgm.study.answers import REAL, Answer, AnswerFile, RealOrFakeAnswer
from dgm.study.plan import Pair, Plan, RealOrFake, Stimulus

CHOICES = {RealOrFake: ("real", "fake"), Pair: ("left", "right")}
MEDIA_TYPES = {"image": "image/png", "sound": "audio/wav", "text": "text/plain; charset=utf-8"}


class UnknownRater(BadInput):
    """A token of another study, or of none."""


class OtherTab(BadInput):
    """An answer from a page that the rater has opened again elsewhere."""


@dataclass
class Rater:
    """One rater: the trials in their order, the exposures so far, and the present state of the page."""

    number: int
    token: str
    trials: list[RealOrFake | Pair]
    exposures: dict[str, int]  # the next one of each run
    done: int = 0
    tab: str | None = None
    tickets: list[str] = field(default_factory=list)
    was_shown: bool = False

    @property
    def trial(self) -> RealOrFake | Pair:
        return self.trials[self.done]


@dataclass
class Session:
    """The study while it is served.

    Attributes:
        medium: ``image``, ``sound`` or ``text``.
        examples: The file of each example of each source, all made by one encoder.
    """

    file: AnswerFile
    medium: str
    examples: Mapping[str, list[bytes]]

    def __post_init__(self) -> None:
        self.plan, self.timed = Plan.of(self.file.held.study), self.file.held.study["timed"]
        self.raters: dict[str, Rater] = {}
        self.tickets: dict[str, tuple[Rater, Stimulus]] = {}
        for line in self.file.held.raters:
            self._meet(line["rater"], line["token"])
        of_number = {rater.number: rater for rater in self.raters.values()}
        for answer in self.file.held.answers:
            self._count(of_number[answer["rater"]], answer)

    def begin(self) -> dict[str, Any]:
        """A new rater; the first page."""
        number, token = len(self.raters) + 1, secrets.token_urlsafe(16)
        self.file.add_rater({"rater": number, "token": token, "time": now()})
        self._meet(number, token)
        return self.resume(token)

    def resume(self, token: str) -> dict[str, Any]:
        """A page of a rater who has begun, from now on the only one. A timed image that was shown before is lost."""
        rater = self._rater(token)
        if rater.was_shown and self._exposure(rater) is not None:
            self._record(rater, None, None, None)
        self._forget(rater)
        rater.tab = secrets.token_urlsafe(8)
        return {"token": token, "tab": rater.tab, "trial": self._present(rater)}

    def answer(
        self, token: str, tab: str, number: int, choice: str, seconds: float, shown: float | None
    ) -> dict[str, Any]:
        """The next trial. An answer to a trial that is answered already, as by a double key press, is not recorded."""
        rater = self._rater(token)
        if rater.tab not in (None, tab):
            raise OtherTab("this study was opened in another tab or window", "go on there, or reload this page")
        rater.tab = tab
        if number == rater.done < len(rater.trials):
            if choice not in CHOICES[type(rater.trial)]:
                raise BadInput(f"an answer must be one of {CHOICES[type(rater.trial)]}, got {choice:.20}", "answer so")
            if min(seconds, shown or 0) < 0:
                raise BadInput(f"times must be positive, got {seconds} s and {shown} ms", "measure them")
            self._record(rater, choice, seconds, shown)
        return {"trial": self._present(rater)}

    def example(self, ticket: str) -> bytes:
        """The file of a ticket that the rater's page was given for the present trial."""
        if ticket not in self.tickets:
            raise BadInput("this ticket is not of the present trial", "reload the page")
        rater, (source, index) = self.tickets[ticket]
        rater.was_shown = True
        return self.examples[source][index]

    def _rater(self, token: str) -> Rater:
        if token not in self.raters:
            raise UnknownRater("this study has no such rater", "begin it")
        return self.raters[token]

    def _meet(self, number: int, token: str) -> None:
        exposures = dict.fromkeys(self.plan.runs, staircase.FIRST)
        self.raters[token] = Rater(number, token, self.plan.of_rater(number), exposures)

    def _present(self, rater: Rater) -> dict[str, Any]:
        """The description of the present trial: its examples by ticket, and nothing of their sources."""
        if rater.done >= len(rater.trials):
            return {"task": "done", "of": len(rater.trials)}
        trial = rater.trial
        stimuli = [trial.stimulus] if isinstance(trial, RealOrFake) else [trial.left, trial.right]
        if not rater.tickets:
            rater.tickets = [secrets.token_urlsafe(16) for _ in stimuli]
            for ticket, stimulus in zip(rater.tickets, stimuli, strict=True):
                self.tickets[ticket] = rater, stimulus
        return {
            "task": task_of(trial),
            "number": rater.done,
            "of": len(rater.trials),
            "medium": self.medium,
            "exposure": self._exposure(rater),
            "tickets": rater.tickets,
        }

    def _exposure(self, rater: Rater) -> int | None:
        trial = rater.trial
        return rater.exposures[trial.run] if self.timed and isinstance(trial, RealOrFake) else None

    def _record(self, rater: Rater, choice: str | None, seconds: float | None, shown: float | None) -> None:
        trial = rater.trial
        line: dict[str, Any] = {"rater": rater.number, "trial": rater.done, "task": task_of(trial)}
        if isinstance(trial, RealOrFake):
            source, stimulus = trial.stimulus
            line |= {"run": trial.run, "source": source, "stimulus": stimulus}
            line |= {"exposure": self._exposure(rater), "shown": shown}
        else:
            line |= {"pair": trial.number, "left": trial.left[0], "right": trial.right[0]}
        answer = cast(Answer, line | {"choice": choice, "seconds": seconds, "time": now()})
        self.file.add_answer(answer)
        self._count(rater, answer)

    def _count(self, rater: Rater, answer: Answer) -> None:
        """Advances a rater by an answer: to the next trial, and the staircase of its run to the next exposure."""
        if answer["task"] == "real or fake" and answer["exposure"] is not None and answer["choice"] is not None:
            rater.exposures[answer["run"]] = staircase.following(answer["exposure"], is_correct(answer))
        rater.done += 1
        self._forget(rater)

    def _forget(self, rater: Rater) -> None:
        for ticket in rater.tickets:
            del self.tickets[ticket]
        rater.tickets, rater.was_shown = [], False


def task_of(trial: RealOrFake | Pair) -> str:
    return "real or fake" if isinstance(trial, RealOrFake) else "pairs"


def is_correct(answer: RealOrFakeAnswer) -> bool:
    """Whether the answer is the truth."""
    return (answer["choice"] == "real") == (answer["source"] == REAL)


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
