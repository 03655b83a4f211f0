"""A headless Chromium that tests look through and press keys in, without any further package.

It is driven by Chrome's DevTools protocol over two pipes: requests and answers are JSON objects
that end in a zero byte, https://chromedevtools.github.io/devtools-protocol/.
"""

from __future__ import annotations

import base64
import json
import os
import pathlib
import select
import shutil
import subprocess
import time
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None
)

# Keys of the browser tests: what the browser calls the place, the sign, and the old number.
KEYS = {
    "ArrowLeft": ("ArrowLeft", 37), "ArrowUp": ("ArrowUp", 38), "ArrowRight": ("ArrowRight", 39),
    "ArrowDown": ("ArrowDown", 40), "Space": (" ", 32), "Enter": ("Enter", 13), "Minus": ("-", 189),
}  # fmt: skip


class Browser:
    """One page in a browser of its own; a context manager."""

    def __init__(self, folder: pathlib.Path, size: tuple[int, int] = (1280, 800)) -> None:
        assert CHROMIUM is not None
        to_browser, self._send = os.pipe()
        self._receive, from_browser = os.pipe()
        self._process = subprocess.Popen(
            # The browser reads from 3 and writes to 4, whatever the numbers are here.
            ["bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{from_browser}', "bash", CHROMIUM,
             "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
             "--no-first-run", f"--user-data-dir={folder}", f"--window-size={size[0]},{size[1]}"],
            pass_fds=(to_browser, from_browser), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self.call("Page.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=size[0], height=size[1],
                  deviceScaleFactor=1, mobile=False)  # fmt: skip

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *args: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        os.close(self._send)
        os.close(self._receive)

    def call(self, method: str, **params: Any) -> Any:
        """Call a method of the protocol and return its result."""
        self._number += 1
        request = {"id": self._number, "method": method, "params": params}
        if self._session:
            request["sessionId"] = self._session
        os.write(self._send, json.dumps(request).encode() + b"\0")
        deadline = time.monotonic() + 60
        while True:
            while b"\0" not in self._buffer:
                left = deadline - time.monotonic()
                if not select.select([self._receive], [], [], max(left, 0))[0]:
                    raise TimeoutError(f"the browser does not answer {method}")
                data = os.read(self._receive, 1 << 20)
                if not data:
                    raise EOFError("the browser has ended")
                self._buffer += data
            text, _, self._buffer = self._buffer.partition(b"\0")
            answer = json.loads(text)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def open(self, url: str) -> None:
        """Go to a page and wait until it is there."""
        self.call("Page.navigate", url=url)
        self.wait('location.href !== "about:blank" && document.readyState === "complete"')

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, expression: str, timeout: float = 20.0) -> Any:
        """Wait until a JavaScript expression is true, and return its value."""
        deadline = time.monotonic() + timeout
        while True:
            value = self.evaluate(expression)
            if value:
                return value
            if time.monotonic() > deadline:
                text = self.evaluate("document.body?.innerText")
                raise TimeoutError(f"{expression} has not become true; the page says:\n{text}")
            time.sleep(0.02)

    def key(self, code: str, kind: str = "press") -> None:
        """Press a key, down and up, or do one of the two."""
        name, number = KEYS.get(code, (code[-1].lower(), ord(code[-1])))
        event = {"code": code, "key": name, "windowsVirtualKeyCode": number}
        if kind in ("press", "down"):
            self.call("Input.dispatchKeyEvent", type="rawKeyDown", **event)
        if kind in ("press", "up"):
            self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def mouse(self, kind: str, selector: str) -> None:
        """Press or release the mouse over the middle of an element."""
        x, y = self.evaluate(
            f"(() => {{ const b = document.querySelector({json.dumps(selector)})"
            ".getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        self.call("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, button="left",
                  clickCount=1)  # fmt: skip

    def screenshot(self, path: pathlib.Path) -> None:
        """Write what the page looks like as a PNG file."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))
