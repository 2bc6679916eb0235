"""A headless Chromium, driven through chromedriver (W3C WebDriver): what a person waits for, in seconds."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

WIDTH, HEIGHT = 1440, 900
POLL_SECONDS = 0.2  # to look is work for the page too


class Browser:
    """One window with a profile of its own. Needs `chromium` and `chromedriver` on the PATH."""

    def __init__(self) -> None:
        self._port = free_port()
        driver = shutil.which("chromedriver")
        if driver is None:
            raise SystemExit("chromedriver is not on the PATH; on Debian: apt-get install chromium chromium-driver")
        self._driver = subprocess.Popen([driver, f"--port={self._port}", "--silent"])
        arguments = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--window-size={WIDTH},{HEIGHT}"]
        wanted = {"browserName": "chrome", "goog:chromeOptions": {"args": arguments}}
        await_port(self._port, 30)
        self._session = self._call("session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, _kind: type | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        try:
            self._send("DELETE", f"session/{self._session}")
        finally:
            self._driver.kill()  # it may wait for ever when asked to end
            self._driver.wait()

    def seconds_until(self, url: str, texts: Sequence[str], patience: float = 120) -> float:
        """Opens a page and gives the seconds until all texts are on it."""
        started = time.perf_counter()
        self._call(self._of_session("url"), {"url": url})
        return self._await_texts(texts, started, patience)

    def _await_texts(self, texts: Sequence[str], started: float, patience: float) -> float:
        """Seconds from `started` until all texts are on the page."""
        while True:
            shown = self._script("return document.body.innerText;") or ""
            missing = [text for text in texts if text not in shown]
            if not missing:
                return time.perf_counter() - started
            if time.perf_counter() - started > patience:
                raise SystemExit(f"after {patience:.0f} s the page lacks {missing}; it says:\n{shown[:2000]}")
            time.sleep(POLL_SECONDS)

    def _script(self, text: str, *arguments: Any) -> Any:
        """What JavaScript returns."""
        return self._call(self._of_session("execute/sync"), {"script": text, "args": list(arguments)})

    def picture(self, path: Path) -> None:
        """The window as a PNG."""
        path.write_bytes(base64.b64decode(self._send("GET", self._of_session("screenshot"))))

    def _of_session(self, command: str) -> str:
        return f"session/{self._session}/{command}"

    def _call(self, command: str, body: dict[str, Any]) -> Any:
        return self._send("POST", command, body)

    def _send(self, method: str, command: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"http://127.0.0.1:{self._port}/{command}", data=data, method=method)
        with urlopen(request, timeout=600) as answer:
            return json.load(answer)["value"]


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def await_port(port: int, patience: float) -> None:
    """Waits until something answers HTTP on a port of this machine."""
    until = time.monotonic() + patience
    while True:
        try:
            urlopen(f"http://127.0.0.1:{port}/status", timeout=5).close()
            return
        except (URLError, OSError):
            if time.monotonic() > until:
                raise SystemExit(f"nothing answers on port {port} after {patience:.0f} s") from None
            time.sleep(POLL_SECONDS)
