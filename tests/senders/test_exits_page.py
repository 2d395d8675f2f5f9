"""Each example of docs/how-to/exits.md is what the page says, as a real relay takes and signs it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.relay.examples import SECRET
from tests.relay.process import ROOT, RelayProcess
from tests.senders.tradingview import post

PAGE = (ROOT / "docs/how-to/exits.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
# in the order of the page: what the executor gets of each, beside action and symbol
SIGNED: list[dict[str, Any]] = [
    {"side": "buy", "quantity": "100", "tp": "3%", "sl": "1.5%"},
    {"side": "buy", "quantity": "10000", "tp": "1.25", "trail": "0.5%", "sl": "1.17"},
    {"side": "buy", "quantity": "100", "sl": "2%", "breakeven_after_target": True,
     "targets": [{"tp": "2%", "percent": "50"}, {"tp": "4%", "percent": "25"}]},
    {"percent": "50", "id": "half-1"},
    {"quantity": "1", "time": "2026-11-23T09:15:00.000000Z"},
    {"sl": "entry"},
    {"sl": "1.185", "tp": "2%"},
    {"sl": "3%", "loosen": True},
    {"side": "buy", "quantity": "100", "sl": "2%", "market_position": "long", "prev_market_position": "flat",
     "prev_market_position_size": "0", "strategy_name": "Turtle", "price": "187.35", "time": "2026-11-23T14:30:00.000000Z"},
]  # fmt: skip


def test_every_example_has_its_row() -> None:
    assert len(EXAMPLES) == len(SIGNED)


@pytest.mark.parametrize("example, signed", list(zip(EXAMPLES, SIGNED, strict=False)))
def test_the_example_is_signed_as_the_page_says(relay: RelayProcess, example: str, signed: dict[str, Any]) -> None:
    answer = post(f"{relay.url}/webhook/{SECRET}", example)
    assert answer.status_code == 202 and "warnings" not in answer.json(), answer.text
    (leased,) = relay.call("lease", wait_seconds=2)["signals"]
    relay.call("ack", acks=[{"id": leased["id"], "lease": leased["lease"]}])
    data = json.loads(leased["payload"])["data"]
    action = "open" if "side" in data else json.loads(example)["action"]
    assert data == {"action": action, "symbol": json.loads(example)["symbol"], **signed}


# what the page says of a close whose size nobody can read
@pytest.mark.parametrize("size", ["NaN", "", "{{strategy.order.contracts}}", 0, -5])
def test_a_size_that_nobody_can_read_closes_all_with_a_warning(relay: RelayProcess, size: object) -> None:
    fields = {
        "action": "close",
        "symbol": "MSFT",
        "percent": size,
        "id": f"unreadable {str(size)[:4]}".replace("{{", ""),
    }
    answer = post(f"{relay.url}/webhook/{SECRET}", json.dumps(fields))
    assert answer.status_code == 202 and [each["field"] for each in answer.json()["warnings"]] == ["percent"]
    (leased,) = relay.call("lease", wait_seconds=2)["signals"]
    relay.call("ack", acks=[{"id": leased["id"], "lease": leased["lease"]}])
    assert "percent" not in json.loads(leased["payload"])["data"]
