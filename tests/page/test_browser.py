"""The page in a real headless browser: what it shows, how it updates, how its buttons ask, and for whom it is readable.

Skipped, with a notice, where the machine has no chromium or chromedriver.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
from page_seed import HOSTILE, open_eurusd

from executor.core.commands import Command, CommandKind, CommandRefused
from executor.status import PageServer, serve
from tests.page.browser import CHROMEDRIVER, CHROMIUM, browser

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

# selenium is imported where it is used: every process that collects tests would wait for it
pytestmark = [
    pytest.mark.skipif(
        find_spec("selenium") is None,
        reason="NOTICE: selenium is not installed, the page is not tried in a browser",
    ),
    pytest.mark.skipif(
        not (CHROMIUM and CHROMEDRIVER),
        reason="NOTICE: no chromium and chromedriver here, the page is not tried in a browser",
    ),
]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory) -> Iterator[Chrome]:
    driver = browser(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


class Reader:
    """Somebody before a browser."""

    def __init__(self, driver: Chrome, server: PageServer, eventually) -> None:
        self.driver, self.server, self.eventually = driver, server, eventually

    def open(self, width: int = 1280, dark: bool = False, zone: str = "UTC", host: str = "127.0.0.1") -> Reader:
        cdp = self.driver.execute_cdp_cmd
        cdp(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": False},
        )
        cdp(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]},
        )
        cdp("Emulation.setTimezoneOverride", {"timezoneId": zone})
        self.driver.get_log("browser")
        self.driver.get(f"http://{host}:{self.server.port}/")
        return self

    def js(self, script: str, *arguments: object) -> object:
        return self.driver.execute_script(script, *arguments)

    def sees(self, text: str, seconds: float = 8) -> bool:
        return bool(self.eventually(lambda: text in self.js("return document.body.innerText"), seconds=seconds))

    def find(self, css: str):
        return self.driver.find_element("css selector", css)

    def focused(self) -> str:
        return self.js("return document.activeElement.id")

    def press(self, key: str) -> None:
        from selenium.webdriver import ActionChains, Keys

        ActionChains(self.driver).send_keys(getattr(Keys, key)).perform()


@pytest.fixture
def reader(busy, chromium, eventually) -> Iterator[Reader]:
    server = serve(busy.app(), "127.0.0.1", 0)
    yield Reader(chromium, server, eventually)
    chromium.get("about:blank")
    server.close()


def test_page_loads_without_a_complaint_of_the_browser(reader):
    reader.open()
    assert reader.sees("stop-loss for 10,000 working at the broker")
    assert reader.driver.get_log("browser") == []


def test_hostile_text_is_shown_and_does_nothing(reader):
    reader.open()
    assert reader.sees(HOSTILE)
    assert reader.js("return document.querySelectorAll('#live script, #live img').length") == 0


def test_new_trade_appears_without_reloading_and_is_announced(reader, busy):
    reader.open()
    reader.js(
        "window.sameDocument = true; document.querySelector('#all-values').open = true;"
        "document.querySelector('#close-4').focus()"
    )
    seed = busy.seed()
    trade = seed.trade("CHFJPY", 14321010, "buy", "7000", 1, entry_price="171.15")
    seed.event(0, "CHFJPY", "entry filled", "bought 7,000 at 171.15", trade)
    seed.write()
    assert reader.sees("bought 7,000 at 171.15")
    assert reader.js("return window.sameDocument && document.querySelector('#all-values').open") is True
    assert reader.focused() == "close-4"
    assert "CHFJPY entry filled bought 7,000" in reader.find("#news").get_attribute("textContent")


def test_page_says_when_it_lost_the_executor_and_when_it_is_back(reader, busy):
    reader.open()
    reader.sees("Open trades")
    reader.server.close()
    assert not reader.find("#lost").is_displayed(), "it may be back in a moment"
    reader.js("const now = Date.now; Date.now = () => now() + 5000")  # five seconds of silence, without the wait
    assert reader.sees("This page has lost the executor", seconds=50)
    assert reader.driver.title.startswith("LOST")
    reader.server = serve(busy.app(), "127.0.0.1", reader.server.port)
    reader.eventually(lambda: not reader.find("#lost").is_displayed(), seconds=50)
    assert not reader.driver.title.startswith("LOST")


@pytest.mark.parametrize("times", [1, 2])
def test_title_comes_back_after_a_break_in_which_nothing_changed(reader, times):
    """The page is told that its version is still the newest, and nothing is rendered anew."""
    reader.open()
    assert reader.sees("Open trades")
    cdp, title = reader.driver.execute_cdp_cmd, reader.driver.title
    quiet = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    cdp("Network.enable", {})
    for _ in range(times):
        cdp("Network.emulateNetworkConditions", {"offline": True, **quiet})
        reader.js("const now = Date.now; Date.now = () => now() + 5000")
        assert reader.eventually(lambda: reader.driver.title == f"LOST · {title}", seconds=50)
        cdp("Network.emulateNetworkConditions", {"offline": False, **quiet})
        assert reader.eventually(lambda: not reader.find("#lost").is_displayed(), seconds=50)
        assert reader.driver.title == title
        assert reader.js("return document.documentElement.classList.contains('lost')") is False


def test_close_asks_first_then_acts(reader, busy):
    reader.open()
    reader.find("#close-4").click()
    assert reader.find("#ask").is_displayed()
    assert "Close the EURUSD trade?" in reader.find("#ask").text
    assert busy.desk.commands == []
    reader.find("#ask-yes").click()
    assert reader.sees("the close of trade 4 is under way")
    assert busy.desk.commands == [Command(CommandKind.CLOSE, trade_id=4)]
    assert reader.focused() == "close-4"


def test_cancelled_question_does_nothing(reader, busy):
    reader.open()
    reader.find("#reset-GBPUSD").click()
    reader.find("#ask button[value=no]").click()
    reader.find("#flatten-7").click()
    reader.press("ESCAPE")
    assert not reader.find("#ask").is_displayed()
    assert busy.desk.commands == []


@pytest.mark.parametrize("wish", ["adopt", "flatten", "dismiss"])
def test_choices_in_hold(reader, busy, wish):
    reader.open()
    reader.find(f"#{wish}-7").click()
    reader.find("#ask-yes").click()
    reader.eventually(lambda: busy.desk.commands == [Command(CommandKind(wish), trade_id=7)])


def test_refusal_is_said_with_its_reason(reader, busy):
    busy.desk.answer = CommandRefused("NVDA is settling: try again in a moment")
    reader.open()
    reader.find("#ignore-4815747").click()
    reader.find("#ask-yes").click()
    assert reader.sees("NVDA is settling: try again in a moment")


def test_forged_token_is_refused(reader, busy):
    reader.open()
    reader.js("document.querySelector('#close-4').form.elements.csrf_token.value = 'forged'")
    reader.find("#close-4").click()
    reader.find("#ask-yes").click()
    assert reader.sees("This button is from an old page")
    assert busy.desk.commands == []


def test_page_is_not_served_under_a_name_that_was_bent_here(reader):
    reader.open(host="evil.example")
    assert reader.sees("This page does not answer to that name")
    assert "DU1234567" not in reader.driver.page_source


def test_without_scripts_a_button_asks_on_a_page_of_its_own(reader, busy):
    reader.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        reader.open()
        reader.find("#close-4").click()
        reader.eventually(lambda: reader.driver.title == "Close the EURUSD trade?")
        assert busy.desk.commands == []
        reader.find("button.grave").click()
        reader.eventually(lambda: reader.driver.title == "Accepted")
    finally:
        reader.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert busy.desk.commands == [Command(CommandKind.CLOSE, trade_id=4)]


def test_keyboard_alone_is_enough(reader, busy):
    reader.open()
    reader.press("TAB")
    assert reader.js("return document.activeElement.className") == "skip"
    reader.press("ENTER")
    assert reader.eventually(lambda: reader.focused() == "trades")
    for _ in range(12):
        if reader.focused() == "close-6":
            break
        reader.press("TAB")
    reader.press("ENTER")
    assert reader.js("return document.activeElement.value") == "no"  # the safe answer is the first
    reader.press("TAB")
    reader.press("ENTER")
    reader.eventually(lambda: busy.desk.commands == [Command(CommandKind.CLOSE, trade_id=6)])


def test_times_are_in_the_readers_zone_with_utc_on_hover(reader):
    reader.open(zone="America/New_York")
    assert reader.eventually(lambda: reader.find("#trade-4 footer time").text.endswith("09:06:48"))
    assert reader.find("#trade-4 footer time").get_attribute("title").startswith("2026-11-23 14:06:48")


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_runs_out_of_the_window(reader, width):
    reader.open(width=width)
    assert reader.sees(HOSTILE)
    assert reader.js("return document.documentElement.scrollWidth") <= width


CONTRASTS = """
const channel = (v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
const light = ([r, g, b]) => .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b);
const colour = (text) => text.match(/[\\d.]+/g).map(Number);
const ground = (node) => {
  for (; node; node = node.parentElement) {
    const found = colour(getComputedStyle(node).backgroundColor);
    if (found.length < 4 || found[3] === 1) return found;
  }
  return [255, 255, 255];
};
const faint = [];
for (const node of document.querySelectorAll("body *")) {
  const says = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
  if (!says || !node.checkVisibility()) continue;
  const [a, b] = [light(colour(getComputedStyle(node).color)), light(ground(node))].sort((x, y) => y - x);
  const ratio = (a + .05) / (b + .05);
  if (ratio < 4.5) faint.push(`${ratio.toFixed(2)} ${node.tagName}.${node.className}: ${node.textContent.trim()}`);
}
return faint;
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_stands_out_from_its_ground(reader, dark):
    reader.open(dark=dark)
    assert reader.sees("Open trades")
    assert reader.js("return getComputedStyle(document.body).backgroundColor") == (
        "rgb(13, 17, 22)" if dark else "rgb(243, 244, 247)"
    )
    assert reader.js(CONTRASTS) == []


def test_screen_reader_finds_its_way(reader):
    reader.open()
    tree = reader.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    said = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node.get("ignored")]
    roles = {role for role, _ in said}
    assert {"main", "banner", "heading", "alert", "log", "status", "article", "table"} <= roles
    assert {("region", "Open trades 3"), ("region", "Trade log"), ("region", "Signals 10")} <= set(said)
    buttons = [name for role, name in said if role == "button"]
    assert "Close EURUSD, trade 4" in buttons and "" not in buttons


def test_own_template_may_borrow_the_live_update(bench, tmp_path, chromium, eventually):
    (tmp_path / "index.html").write_text(
        "<title>mine</title><script src='/static/vendor/idiomorph-0.8.0.min.js' defer></script>"
        "<script src='/static/page.js' defer></script><body><div id=live>{{ trade_log|length }} lines</div>",
        "utf-8",
    )
    open_eurusd(bench.seed())
    bench.settings = replace(bench.settings, templates=str(tmp_path))
    server = serve(bench.app(), "127.0.0.1", 0)
    try:
        reader = Reader(chromium, server, eventually).open()
        assert reader.sees("0 lines")
        seed = bench.seed()
        seed.event(0, "EURUSD", "note", "one")
        seed.write()
        assert reader.sees("1 lines", seconds=3)
    finally:
        chromium.get("about:blank")
        server.close()
