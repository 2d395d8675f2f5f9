"""A trade that is made smaller, larger, moved and split into targets, on a real wire: ib_insync against the paper TWS."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from common.signals import Envelope, alert_from, payload_text
from common.strict_json import loads
from executor.core.policy import Policy

from .harness import House

LONG = {"tp": "1.20", "sl": "1.18"}
pytestmark = pytest.mark.house(policy=Policy(scale_in=True))


def post(house: House, **fields: Any) -> str:
    """Hand over an alert as a sender writes it; the signal's id."""
    number = len(house.rows("SELECT 1 FROM inbox"))
    body = loads(json.dumps({"symbol": "EURUSD", **fields}).encode())
    assert isinstance(body, dict)
    envelope = Envelope(f"A{number}", house.clock.now(), None, alert_from(body).signal)
    house.desk.receive([(envelope, payload_text(envelope))])
    return envelope.id


def strategy(house: House, position: str, size: int, was: str, before: int, **more: Any) -> str:
    now = {"market_position": position, "market_position_size": size}
    return post(house, action="strategy", **now, prev_market_position=was, prev_market_position_size=before, **more)


def exits(house: House) -> dict[str, tuple[Decimal, Decimal]]:
    """Return what works at the broker: leg and attempt → size and price."""
    found = [o for o in house.paper("orders") if o["orderRef"]]
    sizes = {o["orderRef"][20:]: (Decimal(o["quantity"]) - Decimal(o["filled"] or 0), _price(o)) for o in found}
    return {leg: told for leg, told in sizes.items() if leg[0] in "TSRKL"}


def _price(order: dict[str, Any]) -> Decimal:
    names = {"LMT": "lmtPrice", "STP": "auxPrice", "TRAIL": "trailStopPrice"}
    return Decimal(order[names[order["orderType"]]])


async def settled(house: House, held: int, wanted: dict[str, tuple[int, str]]) -> None:
    told = {leg: (Decimal(size), Decimal(price)) for leg, (size, price) in wanted.items()}
    await house.until(lambda: house.position() == held == house.trade()["held"] and exits(house) == told)
    assert house.alarms() == set()


async def test_a_strategy_scales_out_in_and_out_of_everything(house: House) -> None:
    strategy(house, "long", 10000, "flat", 0, **LONG)
    await settled(house, 10000, {"T1": (10000, "1.20"), "S1": (10000, "1.18")})
    down = strategy(house, "long", 4000, "long", 10000)
    await settled(house, 4000, {"T1": (4000, "1.20"), "S1": (4000, "1.18")})
    up = strategy(house, "long", 9000, "long", 4000)
    await settled(house, 9000, {"T1": (9000, "1.20"), "S1": (9000, "1.18")})
    assert [house.outcome(each)[0] for each in (down, up)] == ["reduced", "added"]
    strategy(house, "flat", 0, "long", 9000)
    trade = await house.closed()
    assert (trade["position_size"], trade["held"], trade["exit_reason"]) == (15000, 0, "close signal")
    assert house.position() == 0 and house.alarms() == set()


async def test_the_exits_have_shrunk_before_the_reduction_is_sent(house: House) -> None:
    await house.entered(house.buy(**LONG))
    before = len(house.truth("accepted", "modified", "filled"))
    post(house, action="close", percent=50)
    await settled(house, 5000, {"T1": (5000, "1.20"), "S1": (5000, "1.18")})
    told = [f"{e['event']} {e['orderRef'][20]}" for e in house.truth("accepted", "modified", "filled")[before:]]
    assert set(told[:2]) == {"modified T", "modified S"} and told[2:] == ["accepted X", "filled X"]
    house.price("EURUSD", "1.1795")
    trade = await house.closed()
    assert house.position() == 0 and trade["exit_reason"] == "stop-loss" and house.alarms() == set()


async def test_exits_are_moved_and_added(house: House) -> None:
    await house.entered(house.buy(sl="1.18"), "S")
    assert (await house.decided(post(house, action="protect", sl="1.185", tp="1.21")))[0] == "protected"
    await settled(house, 10000, {"S1": (10000, "1.185"), "T1": (10000, "1.21")})
    outcome, reason = await house.decided(post(house, action="protect", sl="1.17"))
    assert outcome == "ignored" and "away from the market" in reason
    house.price("EURUSD", "1.195")
    assert (await house.decided(post(house, action="protect", sl="entry")))[0] == "protected"
    await house.until(lambda: exits(house)["S1"][1] == Decimal(str(house.trade()["entry_price"])))
    house.price("EURUSD", "1.2105")
    assert (await house.closed())["tp_hit"] == 1 and house.position() == 0


TARGETS = [{"tp": "1.20", "percent": 30}, {"tp": "1.21", "percent": 30}]


async def test_targets_and_break_even(house: House) -> None:
    fields = {"action": "open", "side": "buy", "quantity": 10000, "sl": "1.18"}
    post(house, **fields, targets=TARGETS, breakeven_after_target=True)
    pairs = {
        "T1": (3000, "1.20"),
        "S1": (3000, "1.18"),
        "T2": (3000, "1.21"),
        "S2": (3000, "1.18"),
        "S3": (4000, "1.18"),
    }
    await settled(house, 10000, pairs)
    house.price("EURUSD", "1.2005")
    entry = str(house.trade()["entry_price"])
    await settled(house, 7000, {"T2": (3000, "1.21"), "S2": (3000, entry), "S3": (4000, entry)})
    house.price("EURUSD", "1.2105")
    await settled(house, 4000, {"S3": (4000, entry)})
    house.price("EURUSD", "1.185")
    trade = await house.closed()
    assert (trade["exit_reason"], trade["tp_hit"], house.position()) == ("stop-loss", 0, 0) and house.alarms() == set()


async def test_targets_are_right_while_the_executor_is_down(house: House) -> None:
    post(house, action="open", side="buy", quantity=10000, sl="1.18", targets=TARGETS)
    await house.until(lambda: len(exits(house)) == 5)
    await house.restart(lambda: house.price("EURUSD", "1.2005"))
    await settled(house, 7000, {"T2": (3000, "1.21"), "S2": (3000, "1.18"), "S3": (4000, "1.18")})


async def test_a_reduction_that_fills_while_the_executor_is_down_is_not_repeated(house: House) -> None:
    await house.entered(house.buy(**LONG))
    house.paper("fault", knob="closed_market", symbols=["EURUSD"])
    post(house, action="close", quantity=4000)
    await house.until(lambda: "X" in house.orders())
    await house.restart(lambda: house.paper("clear", knob="closed_market"))
    await settled(house, 6000, {"T1": (6000, "1.20"), "S1": (6000, "1.18")})
    assert len([e for e in house.truth("accepted") if e["orderRef"][20:21] == "X"]) == 1


@pytest.mark.house(policy=Policy())
async def test_the_owner_follows_a_strategy_up_and_into_a_position(house: House) -> None:
    """Without scale_in: the owner's word alone makes a size grow, and enters what was stopped out here."""
    strategy(house, "long", 4000, "flat", 0, **LONG)
    await settled(house, 4000, {"T1": (4000, "1.20"), "S1": (4000, "1.18")})
    strategy(house, "long", 9000, "long", 4000, sl="1.17")
    await house.until(lambda: house.alarms() == {"size differs"})
    assert "following the strategy from 4000 to 9000" in await house.button("follow", symbol="EURUSD")
    await settled(house, 9000, {"T1": (9000, "1.20"), "S1": (9000, "1.18")})
    house.price("EURUSD", "1.1795")
    assert (await house.closed())["exit_reason"] == "stop-loss"
    strategy(house, "long", 3000, "long", 9000)
    await house.until(lambda: house.alarms() == {"strategy differs"})
    assert "following the strategy into long 3000" in await house.button("follow", symbol="EURUSD")
    await settled(house, 3000, {"S1": (3000, "1.17")})


@pytest.mark.house(policy=Policy())
async def test_what_the_owner_followed_is_bought_once_though_the_executor_dies_over_it(house: House) -> None:
    strategy(house, "long", 4000, "flat", 0, **LONG)
    await settled(house, 4000, {"T1": (4000, "1.20"), "S1": (4000, "1.18")})
    strategy(house, "long", 9000, "long", 4000)
    await house.until(lambda: house.alarms() == {"size differs"})
    house.paper("fault", knob="closed_market", symbols=["EURUSD"])
    await house.button("follow", symbol="EURUSD")
    await house.until(lambda: "A" in house.orders())
    await house.restart(lambda: house.paper("clear", knob="closed_market"))
    await settled(house, 9000, {"T1": (9000, "1.20"), "S1": (9000, "1.18")})
    assert len([e for e in house.truth("accepted") if e["orderRef"][20:21] == "A"]) == 1
