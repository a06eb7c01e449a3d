"""Headless Chromium through its debugging pipe: pages in contexts of their own, that share no storage."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
KEYS = {"ArrowLeft": 37, "ArrowRight": 39, "Enter": 13}


class Navigated(Exception):
    """The page was left while it was asked."""


class Browser:
    """A running Chromium that reaches this machine alone."""

    def __init__(self, folder: Path) -> None:
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        command += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", f"--user-data-dir={folder}"]
        command += ["--autoplay-policy=no-user-gesture-required", "--remote-debugging-pipe", "about:blank"]
        given = (3, to_browser), (4, from_browser)

        def connect() -> None:
            kept = [os.dup(end) for _, end in given]
            for (number, _), end in zip(given, kept, strict=True):
                os.dup2(end, number)

        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(
            command, preexec_fn=connect, pass_fds=(3, 4), stdin=quiet, stdout=quiet, stderr=quiet
        )
        for end in (to_browser, from_browser):
            os.close(end)
        self._held, self._number = b"", 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message |= {} if session is None else {"sessionId": session}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._held:
                part = os.read(self._in, 1 << 20)
                assert part, "chromium ended"
                self._held += part
            line, _, self._held = self._held.partition(b"\0")
            answer: dict[str, Any] = json.loads(line)
            if answer.get("id") == self._number:
                if "navigated" in answer.get("error", {}).get("message", ""):
                    raise Navigated
                assert "error" not in answer, answer["error"]
                return dict(answer["result"])
            self.events.append(answer)

    def person(self) -> Page:
        """A page of a new person."""
        return Page(self, self.call("Target.createBrowserContext")["browserContextId"])

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._out)
        os.close(self._in)


class Page:
    """A tab."""

    def __init__(self, browser: Browser, context: str) -> None:
        self.browser, self.context = browser, context
        target = browser.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def tab(self) -> Page:
        """Another tab of the same person."""
        return Page(self.browser, self.context)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.browser.call(method, self.session, **parameters)

    def before(self, script: str) -> None:
        """Runs a script in each new document, before those of the page."""
        self.call("Page.addScriptToEvaluateOnNewDocument", source=script)

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def get(self, expression: str) -> Any:
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = 20) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(Navigated):
                if found := self.get(expression):
                    return found
            time.sleep(0.02)
        raise AssertionError(f"not within {seconds} s: {expression}; {self.get('document.body.innerText')}")

    def press(self, key: str) -> None:
        text = {"text": key.lower()} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        code = {"windowsVirtualKeyCode": KEYS.get(key) or ord(key)}
        named = {"key": key.lower() if len(key) == 1 else key}
        self.call("Input.dispatchKeyEvent", type="keyDown", **named, **code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **named, **code)

    def resize(self, width: int, height: int, dark: bool = False) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, out: Path) -> None:
        out.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
