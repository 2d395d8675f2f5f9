"""The desk with a fake broker: each rule of trading, each leg of a trade's life."""

from __future__ import annotations

from decimal import Decimal

import pytest

from executor.core.commands import Command, CommandKind, CommandRefused
from executor.core.ports import Contract, Refusal

from .books import check_at_rest
from .fakes import AAPL, EURUSD, House

BRACKET = {"tp": "1.20", "sl": "1.18"}


@pytest.fixture
def house():
    return House.build().connect()


def entered(house, side="buy", **kw):
    return house.signal("open", side=side, size="10000", **(kw or BRACKET))


def test_entry_goes_out_as_a_bracket_with_the_stop_last(house):
    entered(house)
    legs = [(t.order_ref[20], t.kind.value, t.transmit) for t in house.broker.sent]
    assert legs == [("E", "MKT", False), ("T", "LMT", False), ("S", "STP", True)]
    trade = house.trades()[0]
    assert (trade["state"], trade["entry_price"], trade["tp_price"], trade["sl_price"]) == ("open", 1.19, 1.2, 1.18)
    assert not house.alarms()


def test_same_side_is_ignored_and_says_why(house):
    entered(house)
    outcome, reason = house.outcome(entered(house))
    assert outcome == "ignored" and "already open (since 15:00" in reason
    assert len(house.broker.sent) == 3


def test_take_profit_closes_blocks_and_is_journaled(house):
    entered(house)
    house.broker.hit("T")
    trade = house.trades()[0]
    assert (trade["closed"], trade["tp_hit"], trade["exit_price"], trade["exit_reason"]) == (1, 1, 1.2, "take-profit")
    outcome, reason = house.outcome(entered(house))
    assert outcome == "refused" and "re-entry blocked" in reason


def test_stop_loss_closes_and_does_not_block(house):
    entered(house)
    house.broker.hit("S")
    assert (house.trades()[0]["tp_hit"], house.trades()[0]["exit_price"]) == (0, 1.18)
    assert house.outcome(entered(house))[0] == "entered"


@pytest.mark.parametrize("release", ["opposite", "reset", "button"])
def test_block_is_released(house, release):
    entered(house)
    house.broker.hit("T")
    if release == "opposite":
        entered(house, "sell", tp="1.18", sl="1.20")
        house.signal("close")
    elif release == "reset":
        assert house.outcome(house.signal("reset"))[0] == "reset"
    else:
        house.command(Command(CommandKind.RESET, symbol="EURUSD"))
    assert house.outcome(entered(house))[0] == "entered"


def test_close_cancels_the_exits_first_then_closes_its_own_quantity(house):
    entered(house)
    signal = house.signal("close")
    assert house.outcome(signal)[0] == "closed"
    trade = house.trades()[0]
    assert (trade["closed"], trade["exit_reason"], trade["tp_hit"]) == (1, "close signal", 0)
    assert house.broker.quantity[EURUSD.con_id] == 0
    assert not [r for r in house.broker.orders.values() if r.status.is_live]


def test_close_without_trade_is_nothing_to_do(house):
    assert house.outcome(house.signal("close"))[0] == "nothing to do"


def test_opposite_side_reverses(house):
    entered(house)
    assert house.outcome(entered(house, "sell", tp="1.18", sl="1.20"))[0] == "entered"
    first, second = house.trades()
    assert (first["closed"], first["exit_reason"], second["signal"], second["state"]) == (1, "reversal", "sell", "open")
    assert house.broker.quantity[EURUSD.con_id] == -10000


def test_expired_opposite_signal_closes_and_enters_nothing(house):
    entered(house)
    house.desk.disconnected("TWS is away")
    signal = entered(house, "sell", tp="1.18", sl="1.20")
    house.clock.advance(100)
    house.connect()
    assert house.outcome(signal)[0] == "expired" and "is being closed" in house.outcome(signal)[1]
    assert house.trades()[0]["closed"] == 1 and len(house.trades()) == 1
    assert "expired signal" in house.alarms()


def test_signal_waits_for_tws_and_expires(house):
    house.desk.disconnected("TWS is away")
    signal = entered(house)
    assert house.outcome(signal) == (None, "waiting: TWS is away")
    house.clock.advance(91)
    house.connect()
    assert house.outcome(signal)[0] == "expired" and not house.broker.sent


@pytest.mark.parametrize(
    ("prices", "words"),
    [
        ({"tp": "1.18"}, "wrong side of the market"),
        ({"sl": "1.20"}, "wrong side of the market"),
        ({"tp": "1.19004", "sl": "1.19001"}, "coincide or cross"),
    ],
)
def test_exits_that_cannot_stand_refuse_the_whole_entry(house, prices, words):
    outcome, reason = house.outcome(entered(house, **prices))
    assert outcome == "refused" and words in reason and not house.broker.sent


def test_reversal_with_impossible_exits_still_closes(house):
    entered(house)
    assert house.outcome(entered(house, "sell", tp="1.25"))[0] == "refused"
    assert house.trades()[0]["closed"] == 1 and house.broker.quantity[EURUSD.con_id] == 0


def test_fractional_shares_are_refused(house):
    house.broker.market = Decimal(200)
    outcome, reason = house.outcome(house.signal("open", "AAPL", "buy", "1.5"))
    assert outcome == "refused" and "whole shares" in reason


def test_unknown_symbol_is_refused_with_the_reason(house):
    assert house.outcome(house.signal("open", "NOPE", "buy", "1")) == ("refused", "NOPE is not known to IBKR")


def test_own_shares_beside_the_bot_are_not_touched(house):
    house.broker.market = Decimal(200)
    house.broker.by_hand(AAPL, Decimal(70), Decimal(190))
    outcome, reason = house.outcome(house.signal("open", "AAPL", "buy", "10"))
    assert outcome == "refused" and "does not know" in reason
    house.command(Command(CommandKind.IGNORE_POSITION, symbol="AAPL"))
    assert house.outcome(house.signal("open", "AAPL", "buy", "10", tp="210", sl="190"))[0] == "entered"
    house.signal("close", "AAPL")
    assert house.broker.quantity[AAPL.con_id] == 70


def test_adopted_position_becomes_a_trade_that_can_be_closed(house):
    house.broker.by_hand(AAPL, Decimal(70), Decimal(190))
    house.broker.market = Decimal(200)
    house.command(Command(CommandKind.ADOPT_POSITION, symbol="AAPL"))
    house.desk.on_contract("AAPL", AAPL)
    assert house.outcome(house.signal("close", "AAPL"))[0] == "closed"
    assert house.broker.quantity[AAPL.con_id] == 0 and house.trades()[0]["exit_price"] == 200


def test_entry_waits_while_messages_wait_and_expires_if_they_wait_too_long(house):
    house.broker.is_paced = True
    early, late = entered(house), house.signal("open", "AAPL", "sell", "5")
    house.pass_time(60)
    assert not house.broker.sent
    house.broker.is_paced = False
    house.pass_time(1)
    assert {t.order_ref[20:] for t in house.broker.sent} == {"E1", "T1", "S1"} and house.trades()[0]["state"] == "open"
    house.broker.is_paced = True
    house.signal("close")
    assert house.trades()[0]["closed"] == 1  # a close does not wait
    assert {house.outcome(each)[0] for each in (early, late)} == {"entered"}
    expired = house.signal("open", "EURUSD", "sell", "5")
    house.pass_time(100)
    assert house.outcome(expired)[0] == "expired"


def test_entry_that_waited_for_pacing_goes_out_when_it_ends_and_not_at_a_tick(house):
    house.broker.is_paced = True
    entered(house)
    house.signal("open", "AAPL", "sell", "5")
    house.clock.advance(0.2)
    check_at_rest(house.desk)
    house.broker.unpace()
    assert [t.contract.symbol for t in house.broker.sent] == ["EURUSD", "EURUSD", "EURUSD", "AAPL"]
    check_at_rest(house.desk)


def rolled(house, path):
    """A trade in December's future, and an executor started again after the configuration went on to March's."""
    december, march = (Contract(n, "ES", "FUT", "ES", "USD", "CME", Decimal(50)) for n in (1, 2))
    house.broker.contracts["ES"], house.broker.market = december, Decimal(6300)
    assert house.outcome(house.signal("open", "ES", "buy", "1", tp="6400", sl="6200"))[0] == "entered"
    house.broker.contracts["ES"] = march
    return house.restart(path), december, march


def test_trade_in_a_future_that_rolled_on_is_reversed_in_its_own_contract(tmp_path):
    path = str(tmp_path / "trade_state.db")
    later, december, _ = rolled(House.build(path).connect(), path)
    later.broker.by_number[1] = december
    later.connect()
    assert later.outcome(later.signal("open", "ES", "buy", "1"))[0] == "ignored"
    assert later.outcome(later.signal("open", "ES", "sell", "2"))[0] == "entered"
    assert later.broker.quantity == {1: Decimal(0), 2: Decimal(-2)} and not later.alarms()


def test_take_profit_in_a_future_blocks_the_symbol_after_it_rolled_on(tmp_path):
    path = str(tmp_path / "trade_state.db")
    later, _, _ = rolled(House.build(path).connect(), path)
    later.connect()
    later.broker.hit("T")
    refused = later.signal("open", "ES", "buy", "1")
    assert "re-entry blocked" in later.outcome(refused)[1]
    later.signal("reset", "ES")
    assert later.outcome(later.signal("open", "ES", "buy", "1"))[0] == "entered"


def test_open_trade_whose_contract_tws_does_not_tell_is_said(tmp_path):
    path = str(tmp_path / "trade_state.db")
    later, december, _ = rolled(House.build(path).connect(), path)
    later.connect()
    later.signal("close", "ES")
    later.pass_time(5)
    assert later.alarms() == ["contract"] and later.broker.quantity == {1: Decimal(1)}
    later.broker.by_number[1] = december
    later.desk.disconnected("TWS is gone")
    later.connect()
    assert later.broker.quantity == {1: Decimal(0)} and not later.alarms()


def test_partial_take_profit_keeps_a_stop_of_what_is_left(house):
    entered(house)
    house.broker.hit("T", Decimal(4000))
    house.pass_time(5)
    resized = house.broker.sent[-1]
    assert (resized.order_ref[20], resized.quantity, resized.parent_id) == ("S", Decimal(6000), 0)
    assert not house.alarms()
    house.broker.hit("S")
    assert house.broker.quantity[EURUSD.con_id] == 0 and house.trades()[0]["closed"] == 1


def test_refused_stop_is_put_back_once_and_then_held(house):
    house.broker.refuse["S"] = (201, "Order rejected - reason: margin")
    entered(house)
    house.pass_time(4)
    assert len(house.broker.sent) == 3
    house.broker.refuse["R"] = (201, "Order rejected - reason: margin")
    house.pass_time(8)
    assert [t.order_ref[20:] for t in house.broker.sent] == ["E1", "T1", "S1", "R1"]
    assert {"unprotected", "hold"} <= set(house.alarms()) and house.trades()[0]["state"] == "hold"


def test_stop_put_back_protects_again(house):
    house.broker.refuse["S"] = (201, "Order rejected - reason: margin")
    entered(house)
    house.pass_time(12)
    assert house.broker.sent[-1].order_ref[20:] == "R1" and house.trades()[0]["state"] == "open"
    assert not house.alarms()
    house.broker.hit("R")
    assert house.trades()[0]["exit_reason"] == "stop-loss"


def test_stop_cancelled_by_hand_is_paged_and_not_put_back(house):
    entered(house)
    house.broker.cancel_by_hand("S")
    house.pass_time(15)
    assert "unprotected" in house.alarms() and len(house.broker.sent) == 3
    assert house.trades()[0]["state"] == "open"


def test_closed_by_hand_is_noticed_and_leaves_no_order(house):
    entered(house)
    house.broker.by_hand(EURUSD, Decimal(-10000), Decimal("1.195"))
    house.pass_time(12)
    trade = house.trades()[0]
    assert (trade["closed"], trade["exit_reason"], trade["exit_price"]) == (1, "by hand", 1.195)
    assert not [r for r in house.broker.orders.values() if r.status.is_live]


def test_reduced_by_hand_shrinks_the_exits(house):
    entered(house)
    house.broker.by_hand(EURUSD, Decimal(-4000), Decimal("1.195"))
    house.pass_time(12)
    assert {t.order_ref[20]: t.quantity for t in house.broker.sent[-2:]} == {"T": Decimal(6000), "S": Decimal(6000)}
    assert house.outcome(house.signal("close"))[0] == "closed" and house.broker.quantity[EURUSD.con_id] == 0


def test_entry_refused_by_the_broker_ends_void_and_the_signal_says_so(house):
    house.broker.refuse["E"] = (201, "Order rejected - reason: margin")
    house.broker.fill_entries = False
    signal = entered(house)
    house.pass_time(8)
    trade = house.trades()[0]
    assert (trade["closed"], trade["entry_price"], trade["exit_price"]) == (1, None, None)
    assert house.outcome(signal)[0] == "refused" and "margin" in house.outcome(signal)[1]
    assert not [r for r in house.broker.orders.values() if r.status.is_live]


def test_entry_not_filled_at_expiry_is_cancelled(house):
    house.broker.fill_entries = False
    signal = entered(house)
    house.pass_time(95)
    assert house.outcome(signal)[0] == "expired" and house.trades()[0]["closed"] == 1
    assert not [r for r in house.broker.orders.values() if r.status.is_live]


def test_partly_filled_entry_is_kept_and_protected_at_expiry(house):
    house.broker.fill_entries = False
    entered(house)
    house.broker.execute(1, Decimal(3000), Decimal("1.19"))
    house.pass_time(100)
    trade = house.trades()[0]
    assert (trade["state"], trade["position_size"]) == ("open", 3000)
    assert {t.order_ref[20]: t.quantity for t in house.broker.sent[-2:]} == {"T": Decimal(3000), "S": Decimal(3000)}


def test_close_while_the_entry_works_cancels_it_and_closes_what_filled(house):
    house.broker.fill_entries = False
    entered(house)
    house.broker.execute(1, Decimal(3000), Decimal("1.19"))
    house.broker.fill_entries = True
    assert house.outcome(house.signal("close"))[0] == "closed"
    assert house.broker.quantity[EURUSD.con_id] == 0


def test_refused_close_holds_and_puts_the_stop_back(house):
    entered(house)
    house.broker.refuse["C"] = (201, "Order rejected")
    house.signal("close")
    assert house.trades()[0]["state"] == "hold" and house.legs()[-2:] == ["C1", "C2"]  # one more attempt
    house.pass_time(6)  # the position could have gone otherwise: it has not
    assert house.broker.sent[-1].order_ref[20:] == "R1"
    outcome, reason = house.outcome(entered(house))
    assert outcome is None and "waits" in (reason or "") or outcome == "refused"
    del house.broker.refuse["C"]
    house.command(Command(CommandKind.FLATTEN, trade_id=1))
    assert house.trades()[0]["closed"] == 1 and house.broker.quantity[EURUSD.con_id] == 0
    assert "hold" not in house.alarms()


def test_a_close_that_is_refused_once_is_sent_once_more(house):
    entered(house)
    send = house.broker.send
    house.broker.refuse["C"] = (201, "Order rejected")

    def send_and_take_the_next(ticket):
        again = ticket.order_ref[20:] == "C2"
        house.broker.refuse = {} if again else house.broker.refuse
        send(ticket)

    house.broker.send = send_and_take_the_next
    signal = house.signal("close")
    assert house.outcome(signal)[0] == "closed" and house.legs()[-2:] == ["C1", "C2"]
    assert house.broker.quantity[EURUSD.con_id] == 0 and house.alarms() == []


def test_a_close_that_the_owner_cancels_is_not_sent_again(house):
    entered(house)
    house.broker.fill_entries = False
    house.signal("close")
    house.broker.cancel_by_hand("C")
    assert house.trades()[0]["state"] == "hold" and house.legs()[-1] == "C1"


def test_a_take_profit_that_takes_all_that_filled_ends_the_entry(house):
    house.broker.fill_entries = False
    entered(house)
    house.broker.execute(house.broker.id_of("E1"), Decimal(4000), Decimal("1.19"))
    house.broker.hit("T", Decimal(4000))
    house.pass_time(1)
    assert house.broker.id_of("E1") in house.broker.cancels and house.broker.quantity[EURUSD.con_id] == 0
    house.pass_time(5)
    trade = house.trades()[0]
    assert (trade["closed"], trade["tp_hit"], house.working()) == (1, 1, {}) and house.alarms() == []


def test_warnings_do_not_refuse(house):
    house.broker.fill_entries = False
    entered(house)
    house.desk.on_refusal(Refusal(1, 399, "Order Message: your order will not be placed at the exchange until 09:30"))
    house.broker.execute(1, Decimal(10000), Decimal("1.19"))
    assert house.trades()[0]["state"] == "open"


def test_an_unknown_command_target_is_refused_in_words(house):
    with pytest.raises(CommandRefused, match="no trade 7"):
        house.command(Command(CommandKind.CLOSE, trade_id=7))


# ---- dying and coming back ----


def test_take_profit_while_down_is_found_afterwards(tmp_path):
    path = str(tmp_path / "trade_state.db")
    house = House.build(path).connect()
    entered(house)
    house.broker.silent = True
    house.broker.hit("T")
    house.broker.silent = False
    later = house.restart(path).connect()
    assert (later.trades()[0]["tp_hit"], later.trades()[0]["exit_price"]) == (1, 1.2)
    assert later.outcome(entered(later))[0] == "refused"


def test_an_order_that_never_arrived_is_sent_again_under_the_same_id(tmp_path):
    path = str(tmp_path / "trade_state.db")
    house = House.build(path).connect()
    house.broker.deaf = True
    entered(house)
    house.broker.deaf = False
    later = house.restart(path).connect()
    later.pass_time(3)
    ids = [t.order_id for t in house.broker.sent]
    assert ids == [1, 2, 3, 1, 2, 3] and later.trades()[0]["state"] == "open"
    assert later.broker.quantity[EURUSD.con_id] == 10000


def test_an_order_that_never_arrived_and_expired_is_cancelled_by_id_and_void(tmp_path):
    path = str(tmp_path / "trade_state.db")
    house = House.build(path).connect()
    house.broker.deaf = True
    signal = entered(house)
    house.broker.deaf = False
    house.clock.advance(100)
    later = house.restart(path).connect()
    later.pass_time(5)
    assert later.trades()[0]["closed"] == 1 and later.outcome(signal)[0] == "expired"
    assert len(later.broker.sent) == 3


def test_fills_without_a_word_are_found_by_lookup(house):
    house.broker.silent = True
    entered(house)
    house.broker.silent = False
    house.pass_time(12)
    assert house.trades()[0]["state"] == "open" and len(house.broker.sent) == 3


def test_exit_of_yesterday_is_uncertain_and_blocks(tmp_path):
    path = str(tmp_path / "trade_state.db")
    house = House.build(path).connect()
    entered(house)
    house.broker.silent = True
    house.broker.hit("T")
    house.broker.silent = False
    house.broker.fills.clear()
    house.broker.orders = {k: v for k, v in house.broker.orders.items() if v.status.is_live}
    house.broker.day = "2026-11-24"
    house.clock.advance(12 * 3600)
    later = house.restart(path).connect()
    later.pass_time(8)
    trade = later.trades()[0]
    assert (trade["closed"], trade["tp_hit"], trade["exit_price"], trade["exit_reason"]) == (1, 0, None, "unknown")
    assert "unknown exit" in later.alarms() and later.outcome(entered(later))[0] == "refused"


def test_entry_of_yesterday_whose_fate_is_unknown_is_held(tmp_path):
    path = str(tmp_path / "trade_state.db")
    house = House.build(path).connect()
    house.broker.deaf = True
    entered(house)
    house.broker.day = "2026-11-24"
    house.clock.advance(12 * 3600)
    later = house.restart(path).connect()
    later.pass_time(3)
    assert later.trades()[0]["state"] == "hold" and "hold" in later.alarms() and len(house.broker.sent) == 3
    later.command(Command(CommandKind.DISMISS, trade_id=1))
    assert later.trades()[0]["closed"] == 1


def test_order_ids_never_go_backwards(tmp_path):
    path = str(tmp_path / "trade_state.db")
    house = House.build(path).connect()
    house.broker.floor = 40
    entered(house)
    house.signal("close")
    house.broker.floor = 1
    later = house.restart(path).connect()
    entered(later)
    assert min(t.order_id for t in house.broker.sent[4:]) > max(t.order_id for t in house.broker.sent[:4])


def test_a_cancel_noted_before_a_death_is_asked_again_before_the_entry_is_called_dead(tmp_path):
    path = str(tmp_path / "trade_state.db")
    house = House.build(path).connect()
    house.broker.deaf = True
    entered(house)
    house.clock.advance(100)
    entry = house.journal.unfinished()[0].entry
    house.change_order(entry, cancel_asked_at=house.clock.now())  # it died before the bytes left
    later = house.restart(path).connect()
    asked = later.journal._rows("SELECT 1 FROM events WHERE kind = 'cancel requested'")
    assert len(asked) == 1 and later.trades()[0]["closed"] == 0
    later.pass_time(5)
    assert later.trades()[0]["closed"] == 1


@pytest.mark.parametrize(("leg", "said"), [
    ("T", "EURUSD buy 10000 closed at 1.2 by take-profit: +100.00 USD before commissions"),
    ("S", "EURUSD buy 10000 closed at 1.18 by stop-loss: -100.00 USD before commissions"),
])  # fmt: skip
def test_end_of_a_trade_is_logged_with_its_result(house: House, leg: str, said: str) -> None:
    house.signal("open", side="buy", size="10000", tp="1.20", sl="1.18")
    house.broker.hit(leg)
    (row,) = house.journal._rows("SELECT details FROM events WHERE kind = 'closed'")
    assert row["details"] == said


def test_end_of_a_trade_at_an_unknown_price_claims_no_result(house: House) -> None:
    house.signal("open", side="buy", size="10000", sl="1.18")
    house.broker.quantity[EURUSD.con_id] = Decimal(0)
    house.broker.day = "2026-11-24"
    house.desk.disconnected("midnight")
    house.broker.fills.clear()
    house.broker.orders.clear()
    house.connect().pass_time(30)
    (row,) = house.journal._rows("SELECT details FROM events WHERE kind = 'closed'")
    assert "at an unknown price" in row["details"] and "commissions" not in row["details"]
