"""Draw the status page at rest, under load and with faults, in light and dark.

It needs Chromium. The pictures are for people to look at. Ends with 0 if no page
requests anything but itself, logs an error, or is wider than its screen; else with 1.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from load.shooting.browser import LOOKS, Look, Tab, browser, program
from load.shooting.traffic import at_rest, under_load, with_faults

PICTURES = Path(__file__).parents[2] / "build" / "statusz"
FILES = Path("build/statusz/files")  # relative, as the page shows the paths
SCENES = {"rest": at_rest, "load": under_load, "fault": with_faults}
SECONDS = 60.0  # of load before it is drawn


async def draw(names: Sequence[str], seconds: float) -> list[str]:
    """Draw each scene in each look; return the faults."""
    chromium = program()
    if chromium is None:
        return ["Chromium isn't on PATH"]
    PICTURES.mkdir(parents=True, exist_ok=True)
    faults: list[str] = []
    async with browser(chromium) as tab:
        for name in names:
            async with SCENES[name](_empty(FILES), seconds) as served:
                url = f"http://{served.admin_address}/statusz"
                for look in LOOKS:
                    faults += await _draw(tab, url, name, look)
    return faults


def _empty(folder: Path) -> Path:
    """Return a folder after everything in it was removed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


async def _draw(tab: Tab, url: str, name: str, look: Look) -> list[str]:
    await tab.show(url, look)
    file = PICTURES / f"{name}-{look.name}.png"
    picture = await tab.picture(look)
    file.write_bytes(_reduced(picture, look.colors) if look.colors else picture)
    print(file, flush=True)  # noqa: T201  # a program for the command line
    faults = [f"it requests {each}" for each in tab.requested if each != url]
    faults += [f"it logs an error: {each}" for each in tab.logged]
    width = await tab.value("document.documentElement.scrollWidth")
    if width > look.width:
        faults.append(f"it is {width} pixels wide")
    return [f"{file.name}: {fault}" for fault in faults]


def _reduced(picture: bytes, colors: int) -> bytes:
    """Return a PNG with so many colors at most."""
    from PIL import Image  # noqa: PLC0415  # --help needs no Pillow

    reduced = BytesIO()
    image = Image.open(BytesIO(picture)).convert("RGB")
    method = Image.Quantize.MAXCOVERAGE  # keeps colors that are rare, such as red
    image.quantize(colors, method, kmeans=1).save(reduced, "PNG", optimize=True)
    return reduced.getvalue()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    parser = argparse.ArgumentParser(prog="statusz-shots", description=__doc__)
    parser.add_argument("scene", nargs="*", help=f"of {', '.join(SCENES)}; default all")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of load")
    options = parser.parse_args(arguments)
    if unknown := set(options.scene) - SCENES.keys():
        parser.error(f"no such scene: {', '.join(sorted(unknown))}")
    faults = asyncio.run(draw(options.scene or list(SCENES), options.seconds))
    print(*(faults or ["ok: see build/statusz"]), sep="\n")  # noqa: T201  # as above
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
