"""A headless Chromium, driven by its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

START_SECONDS = 30.0
PAGE_SECONDS = 30.0
GUIDE_COLORS = 128  # so that the pictures in the repository are small
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True, slots=True)
class Look:
    """How a page is looked at."""

    name: str
    width: int
    scheme: str = "light"
    is_phone: bool = False
    height: int | None = None  # of the picture; None: all of the page
    colors: int | None = None  # of the picture; None: as many as it has


LOOKS = (
    Look("light", 1100),
    Look("dark", 1100, "dark"),
    Look("phone", 390, is_phone=True),
    Look("phone-dark", 390, "dark", is_phone=True),
    Look("guide", 1100, colors=GUIDE_COLORS),  # under load: docs/guide/statusz.png
    # With faults: docs/guide/statusz-phone.png.
    Look("guide-phone", 390, is_phone=True, height=1400, colors=GUIDE_COLORS),
)


def program() -> str | None:
    """Return the path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@dataclass
class Tab:
    """One tab of the browser."""

    socket: aiohttp.ClientWebSocketResponse
    requested: list[str] = field(default_factory=list)  # URLs, since the last `show`
    logged: list[str] = field(default_factory=list)  # errors, since then
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def show(self, url: str, look: Look) -> None:
        """Load a page, and wait until it is drawn."""
        await self._send(
            "Emulation.setDeviceMetricsOverride",
            width=look.width,
            height=800,
            deviceScaleFactor=2 if look.is_phone else 1,
            mobile=look.is_phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": look.scheme}
        await self._send("Emulation.setEmulatedMedia", features=[scheme])
        for domain in ("Log", "Network", "Page"):
            await self._send(f"{domain}.enable")
        self.requested.clear()
        self.logged.clear()
        await self._send("Page.navigate", url=url)
        async with asyncio.timeout(PAGE_SECONDS):
            while (await self._receive()).get("method") != "Page.loadEventFired":
                pass

    async def value(self, script: str) -> Any:
        """Return the value of a JavaScript expression, which the page doesn't see."""
        answer = await self._send(
            "Runtime.evaluate", expression=script, returnByValue=True
        )
        return answer["result"]["value"]

    async def picture(self, look: Look) -> bytes:
        """Return the page as PNG."""
        width, whole = await self.value(
            "[innerWidth, document.documentElement.scrollHeight]"
        )
        clip = {
            "x": 0,
            "y": 0,
            "width": width,
            "height": look.height or whole,
            "scale": 1,
        }
        answer = await self._send(
            "Page.captureScreenshot", captureBeyondViewport=True, clip=clip
        )
        return base64.b64decode(answer["data"])

    async def _send(self, method: str, **parameters: Any) -> Any:
        number = next(self.numbers)
        await self.socket.send_json(
            {"id": number, "method": method, "params": parameters}
        )
        async with asyncio.timeout(PAGE_SECONDS):
            while (answer := await self._receive()).get("id") != number:
                pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    async def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await self.socket.receive_str())
        if message.get("method") == "Network.requestWillBeSent":
            self.requested.append(message["params"]["request"]["url"])
        elif message.get("method") == "Log.entryAdded":
            entry = message["params"]["entry"]
            if entry["level"] == "error":
                self.logged.append(entry["text"])
        return message


@asynccontextmanager
async def browser(chromium: str) -> AsyncIterator[Tab]:
    """Start a browser with one tab, and end it."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = await asyncio.create_subprocess_exec(
            chromium,
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *("--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            port = await _port(Path(folder) / "DevToolsActivePort")
            url = f"http://127.0.0.1:{port}/json/new"
            async with (
                aiohttp.ClientSession() as session,
                session.put(url) as opened,
                session.ws_connect(
                    (await opened.json())["webSocketDebuggerUrl"], max_msg_size=0
                ) as socket,
            ):
                yield Tab(socket)
        finally:
            process.terminate()
            await process.wait()


async def _port(file: Path) -> int:
    """Return the port that the browser has chosen and written to a file."""
    async with asyncio.timeout(START_SECONDS):
        while len(lines := _lines_of(file)) < 2:  # noqa: ASYNC110  # a file has no event
            await asyncio.sleep(0.05)
    return int(lines[0])


def _lines_of(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.is_file() else []
