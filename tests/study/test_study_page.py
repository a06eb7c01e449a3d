"""The page over HTTP, and in Chromium as people use it."""

from __future__ import annotations

import hashlib
import http.client
import json
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
from dgm.errors import BadInput
from dgm.study.answers import REAL
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


def quiet(browser: Browser) -> list[dict[str, Any]]:
    """What the pages said in the console."""
    told = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
    return [event for event in browser.events if event.get("method") in told]


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
    assert quiet(browser) == []


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
    person.page.get("history.back()")
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
