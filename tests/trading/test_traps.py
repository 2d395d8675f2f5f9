"""What a real TWS does that bites bots, each as bytes on the wire: messages lost, late, doubled, out of order, or plainly wrong."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from executor.core import exits, planning
from executor.core.policy import Policy
from executor.desk import snapshots, watch
from executor.tws import connection

from .harness import House, leg_of
from .test_trading import LONG, SHORT

BOUND = 3  # seconds; by default it is 10. A bracket that comes to rest needs a tenth of it, so that no alarm is a race
pytestmark = pytest.mark.house(policy=Policy(protect_seconds=BOUND, inflight_seconds=0.5))  # type: ignore[arg-type]  # a fraction, to be quick
CLOSED = {"knob": "closed_market", "symbols": ["EURUSD"]}
# Codes after which the client libraries call a working order cancelled; source: measured with both.
CODES = (103, 104, 105, 135, 161, 200, 201, 321, 322, 436, 460, 463, 481, 10052, 10089, 10147, 10148, 10149, 10197, 10268,
         10311, 10318, 10329, 10349)  # fmt: skip


@pytest.fixture(autouse=True)
def quick(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests do not wait seconds: every pause is a fraction, and their proportions stay."""
    for module, name in ((exits, "OCA_GRACE"), (planning, "OCA_GRACE"), (snapshots, "SETTLE"), (watch, "MISMATCH")):
        monkeypatch.setattr(module, name, timedelta(seconds=0.15))
    monkeypatch.setattr(connection, "SETTLE_SECONDS", 0.15)
    monkeypatch.setattr(connection, "_SNAPSHOT_GAP", 0.05)
    monkeypatch.setattr(connection, "_LATER_PAUSES", (0.05,) * 6)


@pytest.fixture
def quick_pulse(monkeypatch: pytest.MonkeyPatch) -> None:
    """A TWS that does not answer is noticed within a fraction of a second."""
    monkeypatch.setattr(connection, "PROBE_EVERY", 0.1)
    monkeypatch.setattr(connection, "PROBE_SECONDS", 0.2)


def filled(house: House) -> list[str]:
    return [leg_of(entry) for entry in house.truth("filled")]


def fault(house: House, knob: str, **given: Any) -> None:
    house.paper("fault", knob=knob, **given)


def row(house: House, leg: str) -> dict[str, Any]:
    return house.rows("SELECT * FROM orders WHERE leg = ? ORDER BY rowid DESC", leg)[0]


async def taken_profit(house: House) -> dict[str, Any]:
    """Let the market reach the take-profit; the trade, which must know how it ended."""
    house.price("EURUSD", "1.2005")
    trade = await house.closed()
    assert (trade["tp_hit"], trade["exit_reason"], house.position()) == (1, "take-profit", 0)
    return trade


# ---- errors and warnings that are no rejections ----


async def test_no_error_makes_a_working_order_dead(house: House) -> None:
    fault(house, **CLOSED)
    house.buy(**LONG)
    await house.until(lambda: house.trade().get("state") == "working")
    floor = house.server.exchange.floor
    entry = next(o for o in floor.book.live.values() if o.role == "entry")
    for code in CODES:
        floor.refuse(entry, code, "Error processing request")
    house.server.gateway.pump()
    await house.stays(lambda: house.trade()["state"] == "working" and len(house.truth("accepted")) == 3, 0.4)
    house.paper("clear", knob="closed_market")
    await house.until(lambda: house.trade()["state"] == "open" and house.orders().keys() == {"T", "S"})
    assert len(house.truth("accepted")) == 3 and house.position() == 10000 and not house.alarms()


@pytest.mark.parametrize(("knob", "given"), [("preset_tif", {}), ("warn", {"code": 399}), ("locate", {"seconds": 0.3})])
async def test_warning_on_an_entry_is_no_rejection(house: House, knob: str, given: dict[str, Any]) -> None:
    """399, 404 and 10349 hold an order back, or tell of it; it works, and fills."""
    fault(house, knob, role="entry", **given)
    await house.entered(house.sell(**SHORT))
    assert house.position() == -10000 and len(house.truth("accepted")) == 3
    assert house.rows("SELECT 1 FROM events WHERE kind = 'TWS says'")


@pytest.mark.parametrize("leg", ["entry", "take_profit", "stop_loss"])
async def test_leg_refused_by_tws_itself_says_nothing_more(house: House, leg: str) -> None:
    """110 on a new order: an error and no status. Whatever leg it is, no position stands without its stop."""
    fault(house, "reject", role=leg, code=110, then="")
    signal = house.buy(**LONG)
    await house.until(lambda: house.trade().get("closed") or house.trade().get("state") == "open")
    if leg == "take_profit":
        await house.until(lambda: house.orders().keys() == {"S"} and house.position() == 10000)
        await house.until(lambda: "take-profit lost" in house.alarms())
    else:
        await house.closed()
        assert house.position() == 0 and house.outcome(signal)[0] == "refused" and not filled(house)


async def test_take_profit_rejected_by_ib_leaves_the_stop_and_is_said(house: House) -> None:
    fault(house, "reject", role="take_profit", code=201)
    house.buy(**LONG)
    await house.until(lambda: "take-profit lost" in house.alarms() and house.orders().keys() == {"S"})
    assert house.trade()["state"] == "open" and house.position() == 10000


# ---- statuses and executions ----


@pytest.mark.parametrize("role", ["entry", "take_profit"])
async def test_status_before_its_execution_decides_nothing(house: House, role: str) -> None:
    fault(house, "status_first", role=role, seconds=0.4)
    await house.entered(house.buy(**LONG))
    await taken_profit(house)
    assert filled(house) == ["E", "T"] and not house.alarms()


@pytest.mark.parametrize("knob", ["skip_status", "duplicate_status"])
async def test_skipped_and_repeated_statuses_change_nothing(house: House, knob: str) -> None:
    for role in ("entry", "take_profit"):
        fault(house, knob, role=role)
    await house.entered(house.buy(**LONG))
    trade = await taken_profit(house)
    assert (trade["entry_price"], len(house.rows("SELECT 1 FROM fills"))) == (
        float(house.truth("filled")[0]["price"]),
        2,
    )


@pytest.mark.parametrize(
    ("knob", "known"), [("commission_delay", True), ("commission_unset", False), ("no_commission", False)]
)
async def test_commission_is_unknown_until_it_is_told(house: House, knob: str, known: bool) -> None:
    fault(house, knob, role="entry", **({"seconds": 0.3} if knob == "commission_delay" else {}))
    await house.entered(house.buy(**LONG))
    assert house.rows("SELECT commission FROM fills") == [{"commission": None}]
    if known:
        await house.until(lambda: house.rows("SELECT commission FROM fills WHERE commission > 0"))


async def test_corrected_price_replaces_the_execution(house: House) -> None:
    await house.entered(house.buy(**LONG))
    house.paper("correct_execution", price="1.1911")
    await house.until(lambda: house.trade()["entry_price"] == 1.1911)
    assert len(house.rows("SELECT 1 FROM fills")) == 1 and house.trade()["position_size"] == 10000


async def test_corrected_quantity_resizes_the_exits(house: House) -> None:
    """An execution of 10,000 that was one of 9,000: exits of 10,000 would turn the position over."""
    await house.entered(house.buy(**LONG))
    house.paper("correct_execution", quantity="9000")
    await house.until(lambda: {o["remaining"] for o in house.orders().values()} == {"9000"})
    await taken_profit(house)


# ---- answers that are lost, connections that break ----


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "number", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)]
)
async def test_connection_breaks_around_a_leg_of_the_bracket(house: House, number: int, when: str) -> None:
    fault(house, "drop", direction="in", when=when, kind="placeOrder", n=number)
    signal = house.buy(**LONG)
    await house.entered(signal)
    assert house.position() == 10000 and filled(house) == ["E"] and not house.alarms()
    assert len(house.truth("accepted")) == 3


@pytest.mark.parametrize("answer", [pytest.param("openOrder", marks=pytest.mark.slow), "orderStatus", "execDetails"])
async def test_connection_breaks_around_an_answer(house: House, answer: str) -> None:
    fault(house, "drop", direction="out", when="before", kind=answer, n=1)
    await house.entered(house.buy(**LONG))
    await taken_profit(house)
    assert filled(house) == ["E", "T"]


async def test_close_whose_acknowledgement_is_lost_is_not_sent_twice(house: House) -> None:
    await house.entered(house.buy(**LONG))
    fault(house, "lost_ack", order_ref="C1")
    signal = house.signal("close")
    assert (await house.decided(signal, 10))[0] == "closed"
    assert house.position() == 0 and filled(house) == ["E", "C"]


async def test_restart_of_tws_that_gives_out_old_ids_again(house: House) -> None:
    """The nightly restart forgets the last orders and their ids; ours only ever rise."""
    fault(house, **CLOSED)
    house.buy(**LONG)
    await house.until(lambda: house.trade().get("state") == "working")
    house.paper("restart", down_seconds=0.1, lose_last_n=3, rollback_ids=True)
    await house.until(lambda: not house.desk.can_send)
    house.paper("clear", knob="closed_market")
    await house.until(lambda: house.desk.can_send)
    await house.until(lambda: house.trade()["closed"] or house.trade()["state"] == "hold")
    second = house.buy("1000", "AAPL")
    await house.until(lambda: house.outcome(second)[0] == "entered" and house.position("AAPL") == 1000)
    ids = [row["order_id"] for row in house.rows("SELECT order_id FROM orders ORDER BY rowid")]
    assert ids == sorted(set(ids)) and house.position() == 0 and not house.orders()


async def test_stop_that_a_restart_of_tws_lost_is_put_back(house: House) -> None:
    await house.entered(house.buy(**LONG))
    house.paper("restart", down_seconds=0.1, lose_last_n=1, rollback_ids=True)
    await house.until(lambda: "R" in house.orders(), 10)
    assert house.orders()["R"]["remaining"] == "10000" and house.position() == 10000


# ---- TWS without IBKR, TWS that is frozen ----


@pytest.mark.parametrize("code", [1101, 1102])
@pytest.mark.parametrize("told_later", [False, True])
async def test_take_profit_fills_while_tws_has_lost_ibkr(house: House, told_later: bool, code: int) -> None:
    """Fills go on while 1100 stands: told at once, or only when it is over. Nothing is sent meanwhile."""
    await house.entered(house.buy(**LONG))
    house.paper("lose_connection", times=3, hold_events=told_later)
    await house.until(lambda: not house.desk.can_send)
    sent = len(house.truth("accepted"))
    house.price("EURUSD", "1.2005")
    signal = house.sell(tp="1.19", sl="1.21")
    await house.stays(lambda: house.outcome(signal)[0] is None and len(house.truth("accepted")) == sent, 0.3)
    house.paper("restore_connection", code=code)
    await house.until(lambda: house.trades()[0]["closed"])
    assert (house.trades()[0]["tp_hit"], house.trades()[0]["exit_reason"]) == (1, "take-profit")
    await house.entered(signal)
    assert house.position() == -10000


async def test_frozen_tws_is_noticed_and_what_filled_meanwhile_is_found(house: House, quick_pulse: None) -> None:
    await house.entered(house.buy(**LONG))
    house.paper("freeze")
    house.price("EURUSD", "1.2005")
    await house.until(lambda: not house.desk.can_send)
    signal = house.sell(tp="1.19", sl="1.21")
    sent = len(house.truth("accepted"))
    house.paper("thaw")
    await house.until(lambda: house.trades()[0]["closed"] and house.trades()[0]["tp_hit"])
    await house.entered(signal)
    assert house.position() == -10000 and len(house.truth("accepted")) == sent + 3


async def test_order_written_into_a_frozen_tws_fills_once(house: House, quick_pulse: None) -> None:
    """It left before the freeze was noticed, and is obeyed after it, when a new connection already asks."""
    await house.decided(house.buy(sl="1.25"))  # refused; from now on the contract is known
    house.paper("freeze")
    signal = house.buy(**LONG)
    assert house.trade()["state"] == "sending"
    await house.until(lambda: not house.desk.can_send)
    house.paper("thaw")
    await house.entered(signal)
    assert house.position() == 10000 and filled(house) == ["E"] and len(house.truth("accepted")) == 3


async def test_exit_that_midnight_hid_is_said_to_be_unknown(house: House) -> None:
    """Executions reach back to midnight: what filled before cannot be named any more, and is not guessed."""
    await house.entered(house.buy(**LONG))

    def night() -> None:
        house.price("EURUSD", "1.2005")
        house.paper("midnight")

    await house.restart(night)
    trade = await house.closed()
    assert (trade["tp_hit"], trade["exit_price"], trade["exit_reason"]) == (0, None, "unknown")
    assert "unknown exit" in house.alarms()
    assert "may have hit its take-profit" in str(house.rows("SELECT reason FROM blocks")) and house.position() == 0


# ---- exits ----


async def test_exit_that_the_broker_does_not_cancel_is_cancelled(house: House) -> None:
    """OCA is asked for and not relied on."""
    for role in ("take_profit", "stop_loss"):
        fault(house, "oca_ignored", role=role)
    await house.entered(house.buy(**LONG))
    await taken_profit(house)
    assert house.story()[-1] == "cancelled S" and not house.orders() and "hold" not in house.alarms()


async def test_both_exits_fill_and_the_owner_is_told(house: House) -> None:
    fault(house, "oca_double_fill", role="take_profit")
    await house.entered(house.buy(**LONG))
    sent = len(house.truth("accepted"))
    house.price("EURUSD", "1.2005")
    await house.until(lambda: "hold" in house.alarms())
    assert house.position() == -10000 and house.trade()["state"] == "hold"
    await house.stays(lambda: len(house.truth("accepted")) == sent, 0.3)


async def test_exit_that_fills_behind_its_cancel_is_held_and_told(house: House) -> None:
    """The trade is over by then: an execution is heard whenever it comes, and nothing is sent against it."""
    await house.entered(house.buy(**LONG))
    fault(house, "cancel_race", role="stop_loss", then="after", seconds=0.3)
    assert (await house.decided(house.signal("close")))[0] == "closed"
    await house.until(lambda: "hold" in house.alarms())
    assert house.position() == -10000 and house.trade()["state"] == "hold" and filled(house) == ["E", "C", "S"]


async def test_exits_that_stay_whole_after_a_partial_entry_are_fitted(house: House) -> None:
    for role in ("take_profit", "stop_loss"):
        fault(house, "children_stay", role=role)
    fault(house, "partials", role="entry", sizes=[4000], then="cancel")
    house.buy(**LONG)
    await house.until(
        lambda: {o["remaining"] for o in house.orders().values()} == {"4000"} and house.position() == 4000
    )
    assert house.trade()["position_size"] == 4000


async def test_exits_outlive_a_rejected_entry_and_are_cancelled(house: House) -> None:
    fault(house, "orphan_children", role="entry")
    fault(house, "reject", role="entry", code=201)
    signal = house.buy(**LONG)
    await house.closed()
    assert house.outcome(signal)[0] == "refused" and house.position() == 0 and not house.orders()


async def test_price_that_the_owner_moved_is_what_the_journal_shows(house: House) -> None:
    await house.entered(house.buy(**LONG))
    house.paper("manual_modify", order_ref=house.orders()["S"]["orderRef"], price="1.185")
    await house.until(lambda: house.trade()["sl_price"] == 1.185)
    assert not house.alarms()
    house.price("EURUSD", "1.1845")
    assert (await house.closed())["exit_reason"] == "stop-loss"


async def test_what_the_owner_buys_beside_a_trade_is_his(house: House) -> None:
    await house.entered(house.buy(**LONG))
    house.paper("manual_order", symbol="EURUSD", action="BUY", quantity=5000)
    await house.until(lambda: "position mismatch" in house.alarms())
    assert {o["remaining"] for o in house.orders().values()} == {"10000"}
    house.signal("close")
    await house.closed()
    assert house.position() == 5000


# ---- protection ----


@pytest.mark.parametrize("how", ["rejected twice", "cancelled by hand", "too small"])
async def test_position_without_its_stop_is_an_alarm_in_time(house: House, how: str) -> None:
    """The bound counts from when the position stood bare."""
    if how == "rejected twice":
        fault(house, "reject", role="stop_loss", count=2)
        house.buy(**LONG)
    else:
        await house.entered(house.buy(**LONG))
        ref = house.orders()["S"]["orderRef"]
        if how == "too small":
            fault(house, "reject_modify", role="stop_loss", count=5)
            house.paper("manual_modify", order_ref=ref, quantity="4000")
        else:
            house.paper("manual_cancel", order_ref=ref)
    await house.until(lambda: "unprotected" in house.alarms())
    bare = datetime.fromisoformat(house.trade()["unprotected_at"])
    raised = next(a["raised_at"] for a in house.journal.standing_alarms() if a["kind"] == "unprotected")
    assert (datetime.fromisoformat(raised) - bare).total_seconds() <= BOUND + 0.3
    assert Policy().protect_seconds == 10 and house.position() == Decimal(10000)


async def test_stop_that_sleeps_although_its_entry_has_filled_is_no_stop(house: House) -> None:
    """A child that the broker does not wake: PreSubmitted, held as `child`; it would never trigger."""
    fault(house, "hold_children", role="stop_loss")
    house.buy(**LONG)
    await house.until(lambda: "unprotected" in house.alarms())
    assert house.position() == 10000 and "the stop-loss is not active at the broker" in str(
        house.rows("SELECT text FROM alarms")
    )


@pytest.mark.house(policy=Policy(protect_seconds=3600))
async def test_stop_that_wakes_late_is_one(house: House) -> None:
    """It sleeps, which the journal notes, and wakes long before that is an alarm; the end of the one is the end of the other."""
    fault(house, "hold_children", role="stop_loss")
    await house.entered(house.buy(**LONG))
    await house.until(lambda: house.trade()["unprotected_at"])
    house.paper("release_child", order_ref=house.orders()["S"]["orderRef"])
    await house.until(lambda: not house.trade()["unprotected_at"])
    assert row(house, "S")["state"] == "working" and not house.rows("SELECT * FROM alarms")
