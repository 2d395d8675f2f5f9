"""The owner's buttons when a trade went wrong: each does what it says, and never turns a position over."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from executor.core.commands import Command, CommandKind, CommandRefused
from executor.core.outcomes import Outcome
from executor.core.ports import Ticket

from .fakes import EURUSD, FakeBroker, House
from .test_desk import BRACKET, entered

PRICE = Decimal("1.19")
ADOPT, FLATTEN, DISMISS = CommandKind.ADOPT, CommandKind.FLATTEN, CommandKind.DISMISS


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "trade_state.db")


@pytest.fixture
def house() -> House:
    house = House.build().connect()
    house.clock.advance(1)
    return house


def press(house: House, kind: CommandKind, trade_id: int = 1) -> str:
    """Press a button of the page; where it says to press again, do so after a while."""
    for _ in range(4):
        try:
            return house.command(Command(kind, trade_id=trade_id))
        except CommandRefused as refused:
            assert "again" in str(refused)
        house.pass_time(4)
    raise AssertionError(f"{kind.value} did nothing for 16 seconds")


def by_hand(house: House, signed: int) -> None:
    house.broker.by_hand(EURUSD, Decimal(signed), PRICE)


def held(house: House) -> Decimal:
    return house.broker.quantity[EURUSD.con_id]


def doubted(house: House) -> None:
    """Put the trade on hold."""
    house.desk.life.hold(house.desk.book.trade(1), "a doubt")


# ---- a position that turned over ----


def test_flatten_ends_a_stop_that_goes_on_filling(house: House) -> None:
    """Take-profit and stop both filled: the button said "choose flatten", and the rest of the stop sold on."""
    entered(house)
    house.broker.hit("T", siblings=False)
    house.broker.hit("S", Decimal(4000), siblings=False)
    house.pass_time(3)
    press(house, FLATTEN)
    house.pass_time(10)
    if house.journal.unfinished():
        press(house, FLATTEN)
        house.pass_time(10)
    assert house.working() == {} and held(house) == 0


def test_choice_on_hold_waits_for_the_position_after_an_execution(house: House) -> None:
    """The stop filled, and the position was told later: adopted was a trade of 10000 that were gone."""
    entered(house)
    doubted(house)
    house.broker.unheard = frozenset({"on_position"})
    house.broker.hit("S")
    with pytest.raises(CommandRefused, match="press again"):
        house.command(Command(ADOPT, trade_id=1))
    house.pass_time(6)
    press(house, ADOPT)
    assert (house.state, house.trades()[0]["exit_reason"]) == ("closed", "stop-loss")


# ---- adopt ----


@pytest.mark.parametrize("kind", [ADOPT, FLATTEN])
def test_entry_that_filled_without_a_trace_is_adopted_or_flattened(path: str, kind: CommandKind) -> None:
    """No execution tells of it: the buttons said that they act, and 10000 stayed without a stop however often they were pressed."""
    house = House.build(path).connect()
    house.clock.advance(1)
    house.broker.deaf = True
    entered(house)
    by_hand(house, 10000)
    later = house.restart(path).connect()
    assert later.state == "hold"
    later.broker.deaf = False
    later.clock.advance(1)
    press(later, kind)
    later.pass_time(15)
    assert (later.state, held(later)) == (("open", Decimal(10000)) if kind is ADOPT else ("closed", Decimal(0)))


def test_adopted_entry_without_a_trace_gets_its_stop_and_closes(path: str) -> None:
    """Its stop never arrived: "cancelled by hand" it stayed away, and its close was "a bug in this program"."""
    house = House.build(path).connect()
    house.clock.advance(1)
    house.broker.deaf = True
    entered(house)
    by_hand(house, 10000)
    later = house.restart(path).connect()
    later.broker.deaf = False
    later.clock.advance(1)
    press(later, ADOPT)
    later.pass_time(15)
    assert later.working() == {"R1": 10000}
    later.signal("close")
    later.pass_time(5)
    assert later.state == "closed" and held(later) == 0 and not later.desk.gate.causes


def test_adopted_entry_that_the_owner_sells_while_its_close_waits_is_over(path: str) -> None:
    """Nothing came by an execution and nothing is left: that was "a bug in this program", and a hold."""
    house = House.build(path).connect()
    house.clock.advance(1)
    house.broker.deaf = True
    entered(house)
    by_hand(house, 10000)
    later = house.restart(path).connect()
    later.broker.deaf = later.broker.fill_entries = False
    later.clock.advance(1)
    press(later, ADOPT)
    later.pass_time(8)
    later.signal("close")
    later.pass_time(2)
    by_hand(later, -10000)
    later.pass_time(12)
    assert later.state == "closed" and later.working() == {}


class Losing(FakeBroker):
    """Loses the take-profit on its way."""

    def send(self, ticket: Ticket) -> None:
        if ticket.order_ref[20] != "T":
            super().send(ticket)


def test_adopted_trade_whose_entry_still_works_does_not_enter_late(house: House) -> None:
    """It was long expired, and filled whenever the market opened: 10000 on top of what had been adopted."""
    house = House.build(broker=Losing(house.clock)).connect()
    house.broker.fill_entries = False
    entered(house)
    by_hand(house, 500)
    house.pass_time(15)
    assert house.state == "hold"
    press(house, ADOPT)
    house.pass_time(2)
    assert "E1" not in house.working()


def closing_on_hold(house: House) -> None:
    """The trade's close hangs; a trade of the owner himself puts it on hold, and all is as before."""
    house.signal("close")
    house.pass_time(3)
    with house.desk.book.change():
        for row in house.desk.book.undone():
            house.desk.book.finish_signal(row, Outcome.CLOSED, "the signal is settled: only the orders count here")
    by_hand(house, -15000)
    house.pass_time(12)
    assert house.state == "hold"
    by_hand(house, 15000)
    house.pass_time(3)


def test_adopted_trade_is_not_closed_by_the_old_close(house: House) -> None:
    """The close order stayed alive beside the stop put back: it would have sold what had just been adopted."""
    entered(house)
    house.broker.fill_entries = False
    closing_on_hold(house)
    press(house, ADOPT)
    house.pass_time(10)
    assert "C1" not in house.working() and house.state == "open"


def test_adopted_trade_counts_its_working_stop(house: House) -> None:
    """Its cancel had been asked once: the stop that stood did not count, and the trade was held again for ever."""
    entered(house)
    house.broker.takes_cancels = False
    closing_on_hold(house)
    house.broker.takes_cancels = True
    press(house, ADOPT)
    house.pass_time(15)
    assert house.state == "open" and house.alarms() == [] and house.working()["S1"] == 10000


# ---- what never was ----


def never_seen(house: House) -> None:
    """Send an entry three times that never arrives."""
    house.broker.deaf = True
    entered(house)
    for _ in range(5):
        house.clock.advance(9)
        house.pass_time(1)


@pytest.mark.parametrize("kind", [DISMISS, FLATTEN])
def test_entry_never_seen_is_cancelled_by_its_id_when_the_owner_ends_it(house: House, kind: CommandKind) -> None:
    """A parent that TWS held back, and did not list, could be released by a click later: bought, and naked."""
    never_seen(house)
    assert house.state == "hold"
    house.broker.cancels.clear()
    press(house, kind)
    assert 1 in house.broker.cancels


def test_dismissed_entry_that_never_filled_sets_no_block(house: House) -> None:
    """How it ended was "unknown", so the side was blocked: the next entries were refused for nothing."""
    never_seen(house)
    press(house, DISMISS)
    assert house.desk.book.block(EURUSD.con_id, "EURUSD") is None and house.alarms() == []


def ending(house: House) -> str:
    (row,) = house.journal._rows("SELECT details FROM events WHERE kind = 'closed' ORDER BY id DESC LIMIT 1")
    return str(row["details"])


def test_dismissed_trade_that_held_something_was_settled_by_its_owner(house: House) -> None:
    """He was paged: "cannot tell how the trade closed, TWS no longer lists its executions", of what he had just said himself."""
    entered(house)
    house.broker.cancel_by_hand("T")
    house.broker.cancel_by_hand("S")
    doubted(house)
    press(house, DISMISS)
    trade = house.trades()[0]
    assert (trade["exit_reason"], trade["tp_hit"], trade["exit_price"]) == ("settled by you", 0, None)
    assert ending(house) == "EURUSD buy 10000 closed at an unknown price by you, outside this program"
    assert "unknown exit" not in house.alarms()
    block = house.desk.book.block(EURUSD.con_id, "EURUSD")
    assert block is not None and "may have hit its take-profit" in block.reason  # he may have settled it after that


def test_dismissed_trade_without_a_take_profit_sets_no_block(house: House) -> None:
    house.signal("open", side="buy", size="10000")
    doubted(house)
    press(house, DISMISS)
    assert house.trades()[0]["exit_reason"] == "settled by you"
    assert house.desk.book.block(EURUSD.con_id, "EURUSD") is None and "unknown exit" not in house.alarms()


def test_flatten_of_a_finished_trade_does_not_touch_the_one_that_is_open(house: House) -> None:
    """Its stop filled behind its cancel; the button said "10000 closed", meant the other trade's, and did nothing."""
    entered(house)
    stop = house.broker.id_of("S1")
    house.broker.hit("T", siblings=False)
    house.pass_time(4)
    house.signal("reset")
    house.signal("open", side="buy", size="20000", **BRACKET)
    house.broker.execute(stop, Decimal(10000), Decimal("1.18"))
    house.pass_time(5)
    with pytest.raises(CommandRefused, match="another trade in EURUSD is open"):
        house.command(Command(ADOPT, trade_id=1))
    assert "the account holds none of the trade" in press(house, FLATTEN)
    house.pass_time(10)
    assert [t["state"] for t in house.trades()] == ["closed", "open"] and held(house) == 10000
    assert house.desk.book.trade(2).held == 10000 and set(house.working().values()) == {Decimal(10000)}


# ---- what is read before a choice is carried out ----


@pytest.mark.parametrize("kind", [ADOPT, FLATTEN])
def test_choice_is_carried_out_on_what_was_read_after_the_last_change(house: House, kind: CommandKind) -> None:
    """The position shown was old: a trade of 10000 was adopted of which 4000 were left, and more was sold than was held."""
    entered(house)
    doubted(house)
    house.broker.unheard = frozenset({"on_position", "on_fill", "on_order"})
    house.broker.hit("S", Decimal(6000), siblings=False)
    house.clock.advance(20)
    with pytest.raises(CommandRefused, match="being read"):
        house.desk.command(Command(kind, trade_id=1))
    assert house.wanted
    house.broker.unheard = frozenset()
    press(house, kind)
    house.pass_time(10)
    assert held(house) == (4000 if kind is ADOPT else 0)
    if kind is ADOPT:
        assert house.desk.book.trade(1).held == 4000 and set(house.working().values()) == {Decimal(4000)}


@pytest.mark.parametrize("kind", [ADOPT, FLATTEN])
def test_choice_counts_our_executions_that_the_position_does_not_count_yet(
    house: House, kind: CommandKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TWS tells a position seconds late, also to whoever asks anew: more was closed than was left, and it flipped."""
    entered(house)
    with monkeypatch.context() as late:
        late.setattr(house.broker, "_move", lambda *_: None)
        house.broker.hit("S", Decimal(4000), siblings=False)
        doubted(house)
        house.clock.advance(3)
        said = press(house, kind)
    assert "6000" in said
    for fill in house.broker.fills[1:]:
        house.broker._move(EURUSD, fill.signed)
    house.pass_time(10)
    assert held(house) == (6000 if kind is ADOPT else 0)


def test_what_is_missing_of_a_trade_is_not_the_owners_to_ignore(house: House) -> None:
    """Its stop had filled unseen: "your own 10000 are left alone", and a reversal then sold what nobody held."""
    entered(house)
    house.broker.unheard = frozenset({"on_fill", "on_order"})
    house.broker.hit("S")
    house.clock.advance(6)
    assert house.desk.owner.unknown_positions() == []
    with pytest.raises(CommandRefused):
        house.command(Command(CommandKind.IGNORE_POSITION, symbol="EURUSD"))


def test_position_is_adopted_or_ignored_only_as_it_was_read_a_moment_ago(house: House) -> None:
    entered(house)
    house.broker.hit("S")
    house.pass_time(6)
    by_hand(house, 500)
    house.clock.advance(30)
    with pytest.raises(CommandRefused, match="being read"):
        house.desk.command(Command(CommandKind.ADOPT_POSITION, symbol="EURUSD"))
    house.pass_time(3)
    assert "now a trade" in house.command(Command(CommandKind.ADOPT_POSITION, symbol="EURUSD"))


# ---- what a button answers: told from what happened, never from what was asked ----


@pytest.mark.parametrize("kind", [CommandKind.CLOSE, FLATTEN])
@pytest.mark.parametrize("accepts", [True, False])
def test_an_answer_says_what_is_under_way_and_the_log_says_what_came_of_it(
    house: House, kind: CommandKind, accepts: bool
) -> None:
    entered(house)
    if kind is FLATTEN:
        doubted(house)
    if not accepts:
        house.broker.refuse["C"] = (201, "the broker wants no such order")
    said = press(house, kind)
    assert "is being closed" in said or "are being cancelled, then 10000 is closed at market" in said
    assert "the trade log says when it is done, or why not" in said
    house.pass_time(10)
    log = " / ".join(row["details"] for row in house.journal._rows("SELECT details FROM events ORDER BY id"))
    assert (held(house) == 0) is accepts and ("wants no such order" in log) is not accepts


def test_flatten_of_what_is_gone_claims_no_close(house: House) -> None:
    entered(house)
    by_hand(house, -10000)
    doubted(house)
    said = press(house, FLATTEN)
    assert "the account holds none of the trade" in said and "market" not in said


@pytest.mark.parametrize("parts", [(5000, 5000), (3000, 7000), (2000, 3000, 5000)])
@pytest.mark.parametrize("told_after", [0, 1])
def test_position_that_was_told_before_its_executions_is_not_counted_twice(
    house: House, parts: tuple[int, ...], told_after: int
) -> None:
    """One report of the position counted all parts of the entry: flatten then sold 20000 of 10000."""
    house.broker.fill_entries = False
    entered(house)
    with pytest.MonkeyPatch.context() as late:
        move = house.broker._move
        late.setattr(house.broker, "_move", lambda *_: None)
        for number, part in enumerate(parts):
            if number == told_after:
                move(EURUSD, Decimal(10000))
            house.broker.execute(house.broker.id_of("E1"), Decimal(part), PRICE)
    house.pass_time(10)
    house.broker.fill_entries = True
    doubted(house)
    house.pass_time(3)
    assert "10000" in press(house, FLATTEN)
    house.pass_time(10)
    assert held(house) == 0 and house.state == "closed"
