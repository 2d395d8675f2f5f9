"""Make the pictures of the documents anew, in a headless chromium: `python -m tests.page.pictures`."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from selenium import webdriver

from common.clock import FakeClock, SystemClock
from executor.status import PageServer, PageSettings, create_app, serve
from tests.page import seed
from tests.page.browser import browser

FOLDER = Path(__file__).parents[2] / "docs" / "images"


@dataclass(frozen=True)
class Picture:
    """One picture: of which morning, how large, and what is opened first."""

    name: str
    width: int
    height: int
    scale: float = 1
    dark: bool = False
    troubled: bool = False
    script: str = ""


# What stands open in the browser of somebody who decides: the evidence and the orders of the first trade.
_OPENED = "document.querySelectorAll('#live article, #live .trade')[0].querySelectorAll('details').forEach(d => d.open = true)"
PICTURES = (
    Picture("status-page.png", 1280, 1010),
    Picture("status-hold.png", 1280, 1110, troubled=True, script=_OPENED),
    Picture("status-phone.png", 390, 844, scale=1.5, dark=True),
)


@contextmanager
def page(folder: Path, troubled: bool, now: datetime) -> Iterator[PageServer]:
    path = Path(tempfile.mkdtemp(dir=folder), "trade_state.db")
    seed.morning(path, now, troubled)
    settings = PageSettings(relay_url="https://relay.example.net")
    server = serve(create_app(path, lambda command: "", settings, FakeClock(now)), "127.0.0.1", 0)
    try:
        yield server
    finally:
        server.close()


def take(driver: webdriver.Chrome, picture: Picture, port: int) -> bytes:
    metrics = {"width": picture.width, "height": picture.height, "deviceScaleFactor": picture.scale, "mobile": False}
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if picture.dark else "light"}]
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
    driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "UTC"})
    driver.get(f"http://127.0.0.1:{port}/")
    driver.execute_script(picture.script)
    return base64.b64decode(driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"])


def main() -> None:
    """Write every picture. The morning is today's: the page writes the date of an older instant."""
    now = datetime.combine(SystemClock().now().date(), seed.NOW.timetz())
    with tempfile.TemporaryDirectory() as folder:
        driver = browser(Path(folder, "chromium"))
        try:
            for picture in PICTURES:
                with page(Path(folder), picture.troubled, now) as server:
                    (FOLDER / picture.name).write_bytes(take(driver, picture, server.port))
                print(FOLDER / picture.name)
        finally:
            driver.quit()


if __name__ == "__main__":
    main()
