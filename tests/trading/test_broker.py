"""What the broker, the owner's hand and the time do to a trade, on a real wire."""

from __future__ import annotations

import pytest

from executor.core.policy import Policy

from .harness import QUICK, House
from .test_trading import LONG, SHORT

SHORT_LIVED = Policy(validity_seconds=2, protect_seconds=2, inflight_seconds=2)
CLOSED = {"knob": "closed_market", "symbols": ["EURUSD"], "until": "2026-11-23 17:15:00 US/Eastern"}


@pytest.mark.house(policy=SHORT_LIVED)
async def test_entry_held_by_a_closed_market_expires_and_is_cancelled(house: House) -> None:
    """Rules 5 and 8"""
    house.paper("fault", **CLOSED)
    signal = house.buy(**LONG)
    await house.until(lambda: "E" in house.orders())
    await house.until(lambda: house.trade()["state"] == "working")
    trade = await house.closed()
    outcome, reason = house.outcome(signal)
    assert outcome == "expired" and "nothing was entered" in reason
    assert (trade["entry_price"], trade["exit_price"], trade["tp_hit"]) == (None, None, 0)
    assert not house.truth("filled", "rejected")


async def test_close_cancels_an_entry_that_still_waits(house: House) -> None:
    """Rule 5"""
    house.paper("fault", **CLOSED)
    await house.until(lambda: house.desk.can_send)
    entry = house.buy(**LONG)
    await house.until(lambda: house.trade().get("state") == "working")
    close = house.signal("close")
    assert (await house.decided(close))[0] == "closed"
    await house.closed()
    assert house.outcome(entry)[0] != "entered" and not house.truth("filled")


async def test_opposite_signal_closes_what_a_working_entry_filled(house: House) -> None:
    """Rule 5"""
    house.paper("fault", knob="partials", sizes=[3000], then="rest", role="entry")
    house.buy(**LONG)
    await house.until(lambda: house.position() == 3000 and house.trade()["state"] == "working")
    await house.entered(house.sell(**SHORT))
    first = house.trades()[0]
    assert (first["position_size"], first["exit_reason"], house.position()) == (3000, "reversal", -10000)


@pytest.mark.house(policy=SHORT_LIVED)
async def test_entry_filled_in_part_is_kept_and_protected_at_expiry(house: House) -> None:
    """Rule 5"""
    house.paper("fault", knob="partials", sizes=[3000], then="rest", role="entry")
    house.buy(**LONG)
    await house.until(lambda: house.trade().get("state") == "open")
    await house.until(lambda: {leg: o["quantity"] for leg, o in house.orders().items()} == {"T": "3000", "S": "3000"})
    assert house.position() == 3000 and house.trade()["position_size"] == 3000


async def test_close_waits_for_the_market_and_fills_when_it_opens(house: House) -> None:
    """Rule 5"""
    await house.entered(house.buy(**LONG))
    house.paper("fault", **CLOSED)
    signal = house.signal("close")
    await house.until(lambda: house.orders().keys() == {"C"})
    assert house.outcome(signal)[0] is None and house.position() == 10000
    await house.until(lambda: house.rows("SELECT 1 FROM events WHERE details LIKE '%close order%will not be placed%'"))
    house.paper("clear", knob="closed_market")
    assert (await house.decided(signal))[0] == "closed"
    assert (await house.closed())["exit_reason"] == "close signal" and house.position() == 0


async def test_partial_take_profit_keeps_its_stop_for_the_rest(house: House) -> None:
    """Rules 4 and 6"""
    await house.entered(house.buy(**LONG))
    house.paper("fill", role="take_profit", quantity=4000, price="1.20")
    await house.until(lambda: house.position() == 6000)
    await house.until(lambda: house.orders().get("S", {}).get("remaining") == "6000")
    await house.stays(lambda: house.orders()["S"]["remaining"] == "6000" and not house.alarms(), 0.5)
    house.price("EURUSD", "1.1795")
    assert (await house.closed())["tp_hit"] == 0 and house.position() == 0


async def test_rejected_stop_is_put_back_once(house: House) -> None:
    """Rule 6"""
    house.paper("fault", knob="reject", role="stop_loss", code=201, words="Order rejected - reason: margin")
    house.buy(**LONG)
    await house.until(lambda: "R" in house.orders())
    await house.until(lambda: house.trade()["state"] == "open" and not house.alarms())
    assert house.orders()["R"]["auxPrice"] == "1.18" and house.orders()["R"]["quantity"] == "10000"
    house.price("EURUSD", "1.1795")
    assert (await house.closed())["exit_reason"] == "stop-loss" and house.position() == 0


async def test_stop_that_is_rejected_again_is_held_and_paged(house: House) -> None:
    """Rule 6"""
    house.paper("fault", knob="reject", role="stop_loss", count=2)
    house.buy(**LONG)
    await house.until(lambda: {"unprotected", "hold"} <= house.alarms())
    assert house.trade()["state"] == "hold" and house.position() == 10000
    assert len(house.truth("rejected")) == 2


async def test_stop_cancelled_by_hand_is_paged_and_not_put_back(house: House) -> None:
    """Rule 6"""
    await house.entered(house.buy(**LONG))
    house.paper("manual_cancel", order_ref=house.orders()["S"]["orderRef"])
    await house.until(lambda: "unprotected" in house.alarms())
    await house.stays(lambda: house.orders().keys() <= {"T"} and house.trade()["state"] == "open", 1.5)


async def test_position_closed_by_hand_ends_the_trade_and_its_orders(house: House) -> None:
    await house.entered(house.buy(**LONG))
    house.paper("manual_close", symbol="EURUSD")
    trade = await house.closed()
    assert (trade["exit_reason"], trade["tp_hit"], house.position()) == ("by hand", 0, 0)
    assert trade["exit_price"] == float(house.truth("filled")[-1]["price"])


async def test_entry_refused_by_the_broker_leaves_nothing(house: House) -> None:
    house.paper("fault", knob="reject", role="entry", code=201, words="Order rejected - reason: margin")
    signal = house.buy(**LONG)
    trade = await house.closed()
    outcome, reason = house.outcome(signal)
    assert outcome == "refused" and "margin" in reason and house.position() == 0
    assert (trade["entry_price"], trade["exit_price"]) == (None, None)


@pytest.mark.parametrize("role", ["entry", "stop_loss"])
async def test_lost_acknowledgement_is_looked_up_and_nothing_is_sent_twice(house: House, role: str) -> None:
    """Rule 7"""
    house.paper("fault", knob="lost_ack", role=role)
    house.buy(**LONG)
    await house.until(lambda: house.trade().get("state") == "open" and house.orders().keys() == {"T", "S"})
    await house.stays(lambda: house.position() == 10000 and not house.alarms(), 0.5)
    assert len(house.truth("accepted")) == 3
    house.signal("close")
    await house.closed()
    assert house.position() == 0


# ---- the connection ----


@pytest.mark.parametrize("cut", ["disconnect", "restart"])
async def test_connection_comes_back_by_itself(house: House, cut: str) -> None:
    """F11: cut by TWS, or TWS started again and its port shut for a while"""
    await house.entered(house.buy(**LONG))
    house.paper(cut, **({"down_seconds": 0.5} if cut == "restart" else {}))
    await house.until(lambda: not house.desk.can_send)
    signal = house.signal("close")
    assert house.outcome(signal)[0] is None
    await house.until(lambda: house.desk.can_send)
    assert (await house.decided(signal))[0] == "closed" and (await house.closed())["exit_reason"] == "close signal"
    assert house.position() == 0
    assert house.supervisor.connection.status == "connected"


@pytest.mark.house(connect=False, accounts=("DU1234567", "DU7654321"))
async def test_login_with_two_accounts_needs_a_choice(house: House) -> None:
    """Rule 9"""
    await house.until(lambda: house.supervisor.refused)
    assert "--account" in house.supervisor.refused and "account" in house.alarms()
    signal = house.buy(**LONG)
    await house.stays(lambda: not house.desk.can_send and house.outcome(signal)[0] is None, 0.3)
    assert "placeOrder" not in house.asked


@pytest.mark.house(accounts=("DU1234567", "DU7654321"), account="DU7654321")
async def test_chosen_account_is_on_every_order(house: House) -> None:
    """Rule 9"""
    await house.entered(house.buy(**LONG))
    house.signal("close")
    await house.closed()
    assert {e["account"] for e in house.truth("accepted", "filled")} == {"DU7654321"}


@pytest.mark.house(connect=False, accounts=("U1234567",), account="U1234567")
async def test_live_account_is_not_traded_without_being_named_as_live(house: House) -> None:
    """Rule 9"""
    await house.until(lambda: house.supervisor.refused)
    assert "--live U1234567" in house.supervisor.refused
    house.buy(**LONG)
    await house.stays(lambda: not house.desk.can_send, 0.3)
    assert "placeOrder" not in house.asked


@pytest.mark.house(accounts=("U1234567",), live="U1234567")
async def test_live_account_that_was_named_is_traded(house: House) -> None:
    """Rule 9"""
    await house.entered(house.buy(**LONG))
    assert house.trade()["account"] == "U1234567"


# ---- the executor starts again ----


@pytest.mark.house(policy=QUICK)
async def test_take_profit_while_down_is_found_afterwards(house: House) -> None:
    await house.entered(house.buy(**LONG))
    await house.restart(lambda: house.price("EURUSD", "1.2005"))
    trade = await house.closed()
    assert (trade["tp_hit"], trade["exit_reason"], house.position()) == (1, "take-profit", 0)
    assert trade["exit_price"] == float(next(f["price"] for f in house.truth("filled") if f["orderRef"][20] == "T"))
    assert "re-entry blocked" in (await house.decided(house.buy()))[1]


async def test_restart_goes_on_with_the_trade(house: House) -> None:
    await house.entered(house.buy(**LONG))
    await house.restart()
    assert (await house.decided(house.buy()))[0] == "ignored"
    assert house.orders().keys() == {"T", "S"} and len(house.truth("accepted")) == 3
    await house.entered(house.sell(**SHORT))
    assert house.position() == -10000 and house.trades()[0]["exit_reason"] == "reversal"


@pytest.mark.parametrize("kind", ["placeOrder", "cancelOrder"])
async def test_killed_in_the_middle_of_a_reversal(house: House, kind: str) -> None:
    """Whatever had left by then, in the end there is one short trade, with one pair of exits."""
    await house.entered(house.buy(**LONG))
    house.asked.clear()
    signal = house.sell(**SHORT)
    await house.until(lambda: kind in house.asked)
    await house.restart()
    await house.until(lambda: house.outcome(signal)[0], 12)
    await house.entered(signal)
    assert house.position() == -10000 and house.trades()[0]["closed"] == 1
    legs = [e["orderRef"][18:] for e in house.truth("filled")]
    assert len(legs) == 3, legs


async def test_killed_before_any_answer_to_the_entry(house: House) -> None:
    """Rule 7: what was written down and may have left is looked up, and fills once."""
    house.signal("close")
    await house.decided(house.buy(sl="1.25"))  # refused; from now on the contract is known
    signal = house.buy(**LONG)
    assert house.trade()["state"] == "sending"
    await house.restart()
    await house.entered(signal)
    assert house.position() == 10000
    assert sorted(e["orderRef"][20] for e in house.truth("accepted")) == ["E", "S", "T"]


async def test_signal_taken_in_while_down_is_done_after_the_restart(house: House) -> None:
    house.paper("disconnect")
    await house.until(lambda: not house.desk.can_send)
    signal = house.buy(**LONG)
    await house.restart()
    await house.entered(signal)
    assert house.position() == 10000
