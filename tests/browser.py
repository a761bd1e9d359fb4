"""Chromium without a window, driven over a pipe by its DevTools protocol: what a page asks for, says and looks like."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

CHROMIUM: Final = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
QUIET: Final = (
    "--headless=new --no-sandbox --disable-gpu --hide-scrollbars --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-extensions --remote-debugging-pipe"
)
PATIENCE: Final = 60.0
"""Seconds that an answer is waited for."""


@dataclass
class Browser:
    """One page of a running Chromium; what happened since it was opened is kept in `events`."""

    commands: int
    answers: int
    session: str = ""
    number: int = 0
    rest: bytes = b""
    events: list[dict[str, Any]] = field(default_factory=list)

    def ask(self, method: str, **given: Any) -> dict[str, Any]:
        """What a method of the protocol answers."""
        self.number += 1
        asked = {"id": self.number, "method": method, "params": given}
        if self.session:
            asked["sessionId"] = self.session
        os.write(self.commands, json.dumps(asked).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == self.number:
                assert "error" not in told, told
                return dict(told["result"])

    def open(self, page: Path, *, width: int, height: int = 900, dark: bool = False, media: str = "") -> None:
        """Loads the file at that width, in pixels, as a screen of that kind, or as `print` sees it."""
        self.events.clear()
        phone = width < 600
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.ask("Page.navigate", url=page.resolve().as_uri())
        while not any(told.get("method") == "Page.loadEventFired" for told in self.events):
            self._next()

    def value(self, expression: str) -> Any:
        """What JavaScript makes of the expression in the page."""
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"]["value"]

    def asked_for(self) -> list[str]:
        """The address of each request."""
        requests = [told for told in self.events if told.get("method") == "Network.requestWillBeSent"]
        return [told["params"]["request"]["url"] for told in requests]

    def complaints(self) -> list[str]:
        """What stands on the console, exceptions and the browser's own remarks."""
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(told["params"]) for told in self.events if told.get("method") in kinds]

    def picture(self, path: Path) -> None:
        """Saves the whole page as a PNG."""
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.answers], [], [], max(0.0, end - time.monotonic()))
            assert ready, "Chromium does not answer"
            read = os.read(self.answers, 1 << 20)
            assert read, "Chromium has ended"
            self.rest += read
        text, _, self.rest = self.rest.partition(b"\0")
        told: dict[str, Any] = json.loads(text)
        if "method" in told:
            self.events.append(told)
        return told


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A Chromium that keeps what it writes in the folder."""
    assert CHROMIUM is not None
    ours_in, theirs_out = os.pipe()
    theirs_in, ours_out = os.pipe()
    line = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
    started = subprocess.Popen(
        ["bash", "-c", line, "chromium", CHROMIUM, *QUIET.split(), f"--user-data-dir={folder}"],
        pass_fds=(theirs_in, theirs_out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"HOME": str(folder)},
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        found = Browser(commands=ours_out, answers=ours_in)
        target = found.ask("Target.createTarget", url="about:blank")["targetId"]
        found.session = found.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            found.ask(f"{domain}.enable")
        yield found
    finally:
        os.close(ours_out)
        os.close(ours_in)
        started.terminate()
        started.wait(timeout=PATIENCE)
