"""The page over HTTP, and in Chromium as people use it."""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import CHROMIUM, Browser, Page
from studies import session_of, study_of

import dgm
from dgm.data import sound
from dgm.errors import BadInput
from dgm.study.analysis import analyse
from dgm.study.answers import REAL, read
from dgm.study.opening import open_study
from dgm.study.server import listening, serve
from dgm.study.session import Session

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
# keeps the sha256 of each example that the page fetches, by which a rater of these tests knows its source
SPY = """
window.digests = {};
const fetched = window.fetch;
window.fetch = async (name, ...more) => {
  const response = await fetched(name, ...more);
  if (String(name).startsWith("example/")) {
    const digest = await crypto.subtle.digest("SHA-256", await response.clone().arrayBuffer());
    digests[name.slice(8)] = Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
  }
  return response;
};
"""
STATE = "document.body?.dataset.state"


def served(session: Session) -> int:
    """The port at which a study is served until the tests end."""
    where = listening("127.0.0.1", 0)
    threading.Thread(target=serve, args=(session, where), daemon=True).start()
    return int(where.getsockname()[1])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs of digits."""
    torch.manual_seed(0)
    folder, digits = tmp_path_factory.mktemp("runs"), dgm.data.load("digits")
    dgm.save(dgm.create("nice", digits.space), folder / "nice", digits)
    dgm.save(dgm.create("vae", digits.space, latent=2, hidden=8), folder / "vae", digits)
    return [folder / "nice", folder / "vae"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("chromium"))
    yield opened
    opened.close()


def asked(port: int, path: str, content: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    body = None if content is None else json.dumps(content)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    kind = {} if content is None else {"Content-Type": "application/json"}
    connection.request("GET" if content is None else "POST", path, body, kind | headers)
    response = connection.getresponse()
    found = response.status, dict(response.getheaders()), response.read()
    connection.close()
    return found


def test_nothing_in_a_response_tells_real_from_generated(runs: list[Path], tmp_path: Path) -> None:
    """All that differs is the picture itself, the date and a random ticket. Kills: compressed pictures."""
    session = open_study(runs, tmp_path / "study.jsonl", trials=20, pairs=6)
    port = served(session)
    _, _, begun = asked(port, "/begin", {})
    page, (rater,) = json.loads(begun), session.raters.values()
    alike: dict[bool, set[str]] = {True: set(), False: set()}
    for trial in rater.trials[:40]:
        (ticket,) = page["trial"]["tickets"]
        status, headers, content = asked(port, f"/example/{ticket}")
        headers.pop("date")
        described = page["trial"] | {"tickets": len(ticket), "number": 0, "exposure": 0}
        alike[trial.stimulus[0] == REAL].add(json.dumps([status, headers, len(content), content[:41].hex(), described]))
        answer = {"number": page["trial"]["number"], "choice": "real", "seconds": 1.0, "shown": 500}
        _, _, found = asked(port, "/answer", {"token": page["token"], "tab": page["tab"], **answer})
        page |= json.loads(found)
    assert alike[True] == alike[False]
    assert len(alike[True]) == 1


@pytest.mark.parametrize(
    ("path", "content", "headers", "status"),
    [
        ("/begin", None, {}, 405),
        ("/begin", [], {}, 400),
        ("/begin", {}, {"Host": "example.org"}, 400),
        ("/begin", {"x": "y" * 5000}, {}, 400),
        ("/begin", {}, {"Content_Type": "text/plain"}, 400),
        ("/resume", {"token": "nobody"}, {}, 410),
        ("/resume", {"token": 1}, {}, 400),
        ("/answer", {"token": "nobody"}, {}, 400),
        ("/example/none", None, {}, 400),
        ("/example/..%2f..%2fetc%2fpasswd", None, {}, 404),
        ("/study.jsonl", None, {}, 404),
    ],
)
def test_a_request_that_is_not_the_page_s_is_refused(
    tmp_path: Path, path: str, content: Any, headers: dict[str, str], status: int
) -> None:
    session = session_of(tmp_path / "study.jsonl", study_of())
    found, _, said = asked(served(session), path, content, **headers)
    assert found == status
    assert b"Traceback" not in said
    assert not session.raters


def test_a_port_in_use_is_said() -> None:
    with listening("127.0.0.1", 0) as where, pytest.raises(BadInput, match=r"is in use; choose another --port"):
        listening("127.0.0.1", where.getsockname()[1])
    with pytest.raises(BadInput, match=r"192\.0\.2\.1:0 cannot be served"):
        listening("192.0.2.1", 0)


class Person:
    """A rater in the browser, who answers by keys and knows the source of an example by its bytes."""

    def __init__(self, page: Page, session: Session, port: int, choose: Callable[[list[str]], int]) -> None:
        self.page, self.choose = page, choose
        self.sources = {
            hashlib.sha256(content).hexdigest(): name for name, held in session.examples.items() for content in held
        }
        page.before(SPY)
        page.open(f"http://127.0.0.1:{port}/")

    def step(self) -> bool:
        """One action, if the page waits for one; False at the end."""
        state = self.go_on()
        if state == "asking":
            self.page.press("FJ"[self.choose(self.seen())])
        return state != "done"

    def go_on(self) -> str:
        """Leaves the instructions; the state of the page before."""
        state = self.page.get(STATE)
        if state in ("welcome", "instructions"):
            self.page.press("Enter")
        return str(state)

    def seen(self) -> list[str]:
        return [self.sources[digest] for digest in self.page.get("trial.tickets.map((ticket) => digests[ticket])")]

    def until_asked(self) -> None:
        while self.go_on() != "asking":
            time.sleep(0.02)


def oracle(sources: list[str]) -> int:
    return int(REAL in (sources[0], *sources)) if len(sources) == 1 else sources.index(REAL) if REAL in sources else 0


def console(*people: Person) -> list[dict[str, Any]]:
    """The errors and messages of the pages."""
    methods = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
    sessions = {person.page.session for person in people}
    events = people[0].page.browser.events
    return [event for event in events if event.get("method") in methods and event.get("sessionId") in sessions]


@needs_chromium
def test_an_oracle_in_chromium_is_always_right(runs: list[Path], tmp_path: Path, browser: Browser) -> None:
    session = open_study(runs[:1], tmp_path / "study.jsonl", trials=2, pairs=2)
    person = Person(browser.person(), session, served(session), oracle)
    while person.step():
        pass
    held = session.file.held.answers
    assert len(held) == 4
    for answer in held:
        if answer["task"] == "real or fake":
            assert (answer["choice"] == "real") == (answer["source"] == REAL)
            assert answer["exposure"] is not None
            assert answer["shown"] == pytest.approx(answer["exposure"], abs=150)  # a busy machine drops frames
        else:
            assert answer[answer["choice"]] == REAL or REAL not in (answer["left"], answer["right"])
    assert console(person) == []


@needs_chromium
def test_the_answers_are_on_a_narrow_page(runs: list[Path], tmp_path: Path, browser: Browser) -> None:
    """320 pixels, a small phone or a page at 400 %. Kills: a smallest width of the two buttons."""
    session = open_study(runs, tmp_path / "study.jsonl", trials=0, pairs=2, timed=False)
    person = Person(browser.person(), session, served(session), lambda _: 0)
    person.page.resize(320, 568)
    person.until_asked()
    assert person.page.get("document.documentElement.scrollWidth") <= 320
    assert person.page.get("at('choices').firstChild.getBoundingClientRect().left") >= 0


@needs_chromium
def test_reload_back_and_a_second_tab(runs: list[Path], tmp_path: Path, browser: Browser) -> None:
    session = open_study(runs, tmp_path / "study.jsonl", trials=4, pairs=0, timed=False)
    port = served(session)
    person = Person(browser.person(), session, port, lambda _: 0)
    person.until_asked()
    person.page.get(
        "dispatchEvent(new KeyboardEvent('keydown', {key: 'f'})); "
        "dispatchEvent(new KeyboardEvent('keydown', {key: 'f'})); true"
    )
    person.page.wait("trial.number === 1")
    person.until_asked()
    assert len(session.file.held.answers) == 1  # of two presses at once
    person.page.call("Page.reload")
    person.until_asked()
    assert person.page.get("trial.number") == 1
    person.page.open("about:blank")
    person.page.get("setTimeout(() => history.back()); true")
    person.page.wait(f"{STATE} === 'instructions'")
    person.until_asked()
    second = Person(person.page.tab(), session, port, lambda _: 1)
    second.until_asked()
    assert second.page.get("trial.number") == 1
    person.step()
    person.page.wait(f"{STATE} === 'elsewhere'")
    assert len(session.file.held.answers) == 1
    second.step()
    second.page.wait("trial.number === 2")
    assert [answer["choice"] for answer in session.file.held.answers] == ["fake", "real"]
    person.page.press("Enter")  # go on here
    person.until_asked()
    assert person.page.get("trial.number") == 2
    assert len(session.raters) == 1


def lapsing(seed: int, lapse: float) -> Callable[[list[str]], int]:
    """A rater who sees the truth, and answers by chance with a probability: a coin with 1, a sleepy one between."""
    chance = random.Random(seed)
    return lambda sources: chance.randrange(2) if chance.random() < lapse else oracle(sources)


@needs_chromium
@pytest.mark.slow
def test_three_people_at_once_have_their_true_rates(runs: list[Path], tmp_path: Path, browser: Browser) -> None:
    """An oracle, a sleepy rater and a coin, each in a browser context of their own, on one server."""
    session = open_study(runs, tmp_path / "study.jsonl", trials=28, pairs=12, timed=False)
    port, lapses = served(session), (0, 0.5, 1)
    people = [Person(browser.person(), session, port, lapsing(7, lapse)) for lapse in lapses]
    waiting = list(people)
    while waiting:
        waiting = [person for person in waiting if person.step()]
    found = analyse(session.file.path)
    assert [(judge.answers, judge.finished) for judge in found.raters] == [(68, True)] * 3
    errors = sorted((judge.error for judge in found.raters if judge.error), key=lambda error: error.value)
    for error, lapse in zip(errors, lapses, strict=True):
        assert error.low <= lapse / 2 <= error.high
    assert found.ranks[0].source == REAL
    assert [row.compared for row in found.ranks] == [24] * 3
    assert console(*people) == []


@needs_chromium
@pytest.mark.slow
def test_a_killed_server_is_started_again_under_an_open_page(
    runs: list[Path], tmp_path: Path, browser: Browser
) -> None:
    """The real command. Kills: a page that gives up, and an answer that is counted twice."""
    out, command = tmp_path / "study.jsonl", [sys.executable, "-m", "dgm", "study", *map(str, runs)]

    def start(port: int) -> tuple[subprocess.Popen[str], int]:
        options = ["--untimed", "--trials", "4", "--pairs", "0", "--port", str(port), "--out", str(out)]
        process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        return process, int(process.stdout.readline().partition("127.0.0.1:")[2].partition("/")[0])

    process, port = start(0)
    page = browser.person()
    page.open(f"http://127.0.0.1:{port}/")
    for state in ("welcome", "instructions"):
        page.wait(f"{STATE} === '{state}'")
        page.press("Enter")
    for number in range(3):
        page.wait(f"{STATE} === 'asking' && trial.number === {number}")
        page.press("J")
    page.wait(f"{STATE} === 'asking' && trial.number === 3")
    process.kill()
    process.communicate()
    page.press("J")
    page.wait("document.getElementById('status').textContent.startsWith('The server does not answer')")
    process, _ = start(port)
    for number in range(4, 8):
        page.wait(f"{STATE} === 'asking' && trial.number === {number}")
        page.press("J")
    page.wait(f"{STATE} === 'done'")
    process.terminate()
    said, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert said == f"8 answers of 1 people in {out}; see: dgm study --analyse {out}\n"
    assert [answer["trial"] for answer in read(out).answers] == list(range(8))


def tone(name: str, k: int) -> bytes:
    return sound.wav(torch.randint(0, 256, (800,), generator=torch.Generator().manual_seed(k)), 8000)


@needs_chromium
def test_texts_are_shown_and_sounds_are_played(tmp_path: Path, browser: Browser) -> None:
    """A text is no markup."""
    study = study_of(("made",), trials=2, pairs=2, timed=False)
    written = session_of(tmp_path / "text.jsonl", study, "text", lambda name, k: f"<i>{name}</i>\n  {k}".encode())
    person = Person(browser.person(), written, served(written), lambda _: 0)
    person.until_asked()
    shown = person.page.get("document.querySelector('pre').textContent")
    assert shown.encode() in {content for held in written.examples.values() for content in held}
    heard = session_of(tmp_path / "sound.jsonl", study, "sound", tone)
    person = Person(browser.person(), heard, served(heard), lambda _: 0)
    person.until_asked()
    assert person.page.get("sounds.length === 1 && sounds[0].ended && sounds[0].duration") == pytest.approx(0.1)
    person.page.press("P")
    while person.step():
        pass
    assert len(heard.file.held.answers) == 4
    assert console(person) == []
