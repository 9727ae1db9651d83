"""A headless Chromium, driven over its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

FOUND = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
"""Where one is installed, if one is."""


class Tab:
    """A page, and what it complained of."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._loaded = asyncio.Event()
        self.complaints: list[str] = []
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self._socket:
            body = json.loads(message.data)
            if "id" in body:
                self._waiting.pop(body["id"]).set_result(body)
            elif body["method"] == "Page.loadEventFired":
                self._loaded.set()
            elif body["method"] == "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(body["params"]["exceptionDetails"])[:600])
            elif body["method"] == "Log.entryAdded" or body["params"].get("type") in ("error", "warning"):
                self.complaints.append(json.dumps(body["params"])[:600])

    async def call(self, method: str, **given: Any) -> Any:
        self._number += 1
        self._waiting[self._number] = answer = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._number, "method": method, "params": given})
        body = await asyncio.wait_for(answer, 60)
        assert "error" not in body, body
        return body["result"]

    async def open(self, page: Path, width: int = 1400, height: int = 1000, dark: bool = False) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 800
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        self._loaded.clear()
        await self.call("Page.navigate", url=page.resolve().as_uri())
        await asyncio.wait_for(self._loaded.wait(), 60)

    async def value(self, script: str) -> Any:
        """What an expression comes to, promises awaited."""
        done = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    async def key(self, key: str) -> None:
        """A key pressed and let go."""
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, **_code(key), **text)

    async def mouse(self, kind: str, x: float, y: float, down: bool = False, clicks: int = 1) -> None:
        """``mouseMoved``, ``mousePressed`` or ``mouseReleased``."""
        held: dict[str, Any] = {"button": "left", "buttons": int(down)} if down or kind != "mouseMoved" else {}
        await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, clickCount=clicks, **held)

    async def drag(self, start: tuple[float, float], to: tuple[float, float]) -> None:
        """With the mouse."""
        await self.mouse("mouseMoved", *start)
        await self.mouse("mousePressed", *start, down=True)
        await self.mouse("mouseMoved", *to, down=True)
        await self.mouse("mouseReleased", *to)

    async def double_click(self, x: float, y: float) -> None:
        for clicks in (1, 2):
            await self.mouse("mousePressed", x, y, down=True, clicks=clicks)
            await self.mouse("mouseReleased", x, y, clicks=clicks)

    async def wheel(self, x: float, y: float, by: float, ctrl: bool = False) -> None:
        turned: dict[str, Any] = {"deltaX": 0, "deltaY": by, "modifiers": 2 if ctrl else 0}
        await self.call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, **turned)

    async def fingers(self, *moments: list[tuple[float, float]]) -> None:
        """As many as there are points, at one moment after another; then they are lifted."""
        for number, points in enumerate(moments):
            places = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
            kind = "touchMove" if number else "touchStart"
            await self.call("Input.dispatchTouchEvent", type=kind, touchPoints=places)
        await self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    async def picture(self, file: Path, whole: bool = True) -> None:
        shot = await self.call("Page.captureScreenshot", captureBeyondViewport=whole, format="png")
        file.write_bytes(base64.b64decode(shot["data"]))


def _code(key: str) -> dict[str, int]:
    codes = {"Escape": 27, "Enter": 13, "ArrowRight": 39, "ArrowLeft": 37, "Tab": 9}
    return {"windowsVirtualKeyCode": codes[key]} if key in codes else {}


@asynccontextmanager
async def tab() -> AsyncIterator[Tab]:
    """A tab of a browser of its own, which goes with it."""
    assert FOUND is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        browser = await asyncio.create_subprocess_exec(
            FOUND,
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
            *("--remote-debugging-port=0", f"--user-data-dir={home}", "about:blank"),
            stderr=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            env={**os.environ, "HOME": home},
        )
        try:
            port = await asyncio.wait_for(_port(browser), 60)
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    url = next(p["webSocketDebuggerUrl"] for p in await answer.json() if p["type"] == "page")
                async with session.ws_connect(url, max_msg_size=0) as socket:
                    page = Tab(socket)
                    for domain in ("Page", "Runtime", "Log"):
                        await page.call(f"{domain}.enable")
                    yield page
                await page._reader
        finally:
            if browser.returncode is None:
                browser.terminate()
            await browser.wait()


async def _port(browser: asyncio.subprocess.Process) -> int:
    assert browser.stderr is not None
    while line := await browser.stderr.readline():
        if found := re.search(rb"ws://127\.0\.0\.1:(\d+)/", line):
            return int(found[1])
    raise AssertionError("the browser said no address")
