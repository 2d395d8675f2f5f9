"""The rules of one trade after another, on a real wire: open, close, ignore, reverse, re-enter."""

from __future__ import annotations

from decimal import Decimal

import pytest

from .harness import House

LONG = {"tp": "1.20", "sl": "1.18"}
SHORT = {"tp": "1.18", "sl": "1.20"}


def exits(side: str, which: str) -> dict[str, str]:
    whole = LONG if side == "buy" else SHORT
    return {name: price for name, price in whole.items() if name in which.split()}


@pytest.mark.parametrize("side", ["buy", "sell"])
@pytest.mark.parametrize("which", ["", "tp", "sl", "tp sl"])
async def test_open_with_any_exits(house: House, side: str, which: str) -> None:
    """F1"""
    wanted = exits(side, which)
    signal = house.signal("open", side=side, size="10000", **wanted)
    trade = await house.entered(signal, "".join(name[0].upper() for name in wanted))
    assert house.outcome(signal)[0] == "entered"
    assert house.position() == (10000 if side == "buy" else -10000)
    assert (trade["signal"], trade["tp_price"], trade["sl_price"]) == (
        side, *(float(wanted[n]) if n in wanted else None for n in ("tp", "sl")))  # fmt: skip


async def test_close(house: House) -> None:
    """F2, F7"""
    await house.entered(house.buy(**LONG))
    house.price("EURUSD", "1.195")
    signal = house.signal("close")
    trade = await house.closed()
    assert (await house.decided(signal))[0] == "closed" and house.position() == 0
    assert (trade["exit_reason"], trade["tp_hit"]) == ("close signal", 0)


async def test_close_without_a_trade(house: House) -> None:
    assert (await house.decided(house.signal("close")))[0] == "nothing to do"


async def test_order_types_and_one_group_with_the_stop_last(house: House) -> None:
    """F3, rule 4"""
    await house.entered(house.buy(**LONG))
    sent = {e["orderRef"][20]: e for e in house.truth("accepted")}
    assert [(leg, o["orderType"], o["tif"]) for leg, o in sent.items()] == [
        ("E", "MKT", "DAY"), ("T", "LMT", "GTC"), ("S", "STP", "GTC")]  # fmt: skip
    assert (sent["T"]["lmtPrice"], sent["S"]["auxPrice"]) == ("1.2", "1.18")
    assert sent["T"]["ocaGroup"] and sent["T"]["ocaGroup"] == sent["S"]["ocaGroup"]
    assert sent["T"]["parentId"] == sent["S"]["parentId"] == sent["E"]["orderId"]
    assert {o["account"] for o in sent.values()} == {"DU1234567"}


@pytest.mark.parametrize(("price", "hit", "left"), [("1.2005", "T", "S"), ("1.1795", "S", "T")])
async def test_an_exit_that_fills_cancels_the_other_at_the_broker(
    house: House, price: str, hit: str, left: str
) -> None:
    """F3, F7"""
    await house.entered(house.buy(**LONG))
    house.price("EURUSD", price)
    trade = await house.closed()
    assert house.story()[-2:] == [f"filled {hit}", f"cancelled {left}"]
    assert trade["tp_hit"] == (hit == "T") and house.position() == 0
    assert trade["exit_reason"] == ("take-profit" if hit == "T" else "stop-loss")


async def test_same_side_is_ignored_and_says_why(house: House) -> None:
    """F4"""
    await house.entered(house.buy(**LONG))
    outcome, reason = await house.decided(house.buy(**LONG))
    assert outcome == "ignored" and "already open" in reason
    assert house.position() == 10000 and len(house.trades()) == 1


async def test_reversal_without_exits(house: House) -> None:
    """F5, F7"""
    await house.entered(house.buy(), "")
    await house.entered(house.sell("7000"), "")
    first, second = house.trades()
    assert (first["closed"], first["exit_reason"], first["tp_hit"]) == (1, "reversal", 0)
    assert (second["signal"], second["position_size"], house.position()) == ("sell", 7000, -7000)


async def test_reversal_cancels_the_exits_before_it_closes(house: House) -> None:
    """F5"""
    await house.entered(house.buy(**LONG))
    before = len(house.truth("accepted", "filled", "cancelled"))
    await house.entered(house.sell(**SHORT))
    told = [f"{e['event']} {e['orderRef'][20]}" for e in house.truth("accepted", "filled", "cancelled")[before:]]
    assert set(told[:2]) == {"cancelled T", "cancelled S"}
    assert told[2:4] == ["accepted C", "filled C"]
    assert told[4:7] == ["accepted E", "accepted T", "accepted S"] and told[7:] == ["filled E"]
    assert house.position() == -10000


@pytest.mark.parametrize("release", ["opposite", "reset", "button"])
async def test_take_profit_blocks_its_side_until_released(house: House, release: str) -> None:
    """F6"""
    await house.entered(house.buy(**LONG))
    house.price("EURUSD", "1.2005")
    assert (await house.closed())["tp_hit"] == 1
    outcome, reason = await house.decided(house.buy())
    assert outcome == "refused" and "re-entry blocked" in reason
    if release == "opposite":
        await house.entered(house.sell(), "")
        house.signal("close")
        await house.closed()
    elif release == "reset":
        assert (await house.decided(house.signal("reset")))[0] == "reset"
    else:
        await house.button("reset", symbol="EURUSD")
    await house.entered(house.buy(), "")


async def test_stop_loss_does_not_block(house: House) -> None:
    """F6"""
    await house.entered(house.buy(**LONG))
    house.price("EURUSD", "1.1795")
    assert (await house.closed())["exit_reason"] == "stop-loss"
    await house.entered(house.buy(), "")


async def test_columns_of_the_journal_say_what_the_broker_did(house: House) -> None:
    """F7"""
    house.paper("fault", knob="partials", sizes=[3000, 7000], role="entry", symbol="EURUSD")
    await house.entered(house.buy(**LONG))
    house.price("EURUSD", "1.2005")
    trade = await house.closed()
    fills = {leg: [f for f in house.truth("filled") if f["orderRef"][20] == leg] for leg in "ET"}
    accepted = {e["orderRef"][20]: e["orderId"] for e in house.truth("accepted")}
    assert [trade[f"{leg}_order_id"] for leg in ("entry", "tp", "sl")] == [accepted[leg] for leg in "ETS"]
    for leg, column in (("E", "entry_price"), ("T", "exit_price")):
        value = sum(Decimal(f["price"]) * Decimal(f["quantity"]) for f in fills[leg])
        assert trade[column] == pytest.approx(float(value / 10000))
    assert (trade["symbol"], trade["signal"], trade["position_size"]) == ("EURUSD", "buy", 10000)
    assert (trade["tp_price"], trade["sl_price"], trade["tp_hit"], trade["closed"]) == (1.2, 1.18, 1, 1)
    assert trade["timestamp"].endswith("Z")


async def test_own_shares_beside_the_bots_are_left_alone(house: House) -> None:
    """Rule 3"""
    house.paper("manual_order", symbol="AAPL", action="BUY", quantity=70)
    await house.until(lambda: house.desk.status()["unknown"])
    outcome, reason = await house.decided(house.buy("10", "AAPL"))
    assert outcome == "refused" and "does not know" in reason
    await house.button("ignore-position", symbol="AAPL")
    await house.entered(house.buy("10", "AAPL", tp="280", sl="250"))
    assert house.position("AAPL") == 80
    house.signal("close", "AAPL")
    await house.closed()
    assert house.position("AAPL") == 70


async def test_prices_on_the_wrong_side_send_no_byte(house: House) -> None:
    """Rule 4"""
    for wrong in ({"tp": "1.18"}, {"sl": "1.20"}):
        outcome, reason = await house.decided(house.buy(**wrong))
        assert outcome == "refused" and "wrong side of the market" in reason
    assert not house.truth("accepted", "refused", "rejected")
    assert "placeOrder" not in house.asked and "reqMktData" in house.asked


async def test_reversal_with_impossible_exits_still_closes(house: House) -> None:
    """Rule 4"""
    await house.entered(house.buy(**LONG))
    outcome, _ = await house.decided(house.sell(tp="1.25"))
    assert outcome == "refused" and (await house.closed())["exit_reason"] == "reversal"
    assert house.position() == 0 and len(house.trades()) == 1
