"""The rules of trading as a table: one row, one sentence of the specification."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from common.errors import IllegalTransition
from common.signals import Action, PrevPosition, Side, Signal
from executor.core.orders import Order, OrderState
from executor.core.rules import View, decide
from executor.core.trades import LIFE, Event, State, Trade, following

from .fakes import ACCOUNT, EURUSD, START

OPEN_BUY = Signal(Action.OPEN, "EURUSD", Side.BUY, Decimal(1))
CLOSE, RESET = Signal(Action.CLOSE, "EURUSD"), Signal(Action.RESET, "EURUSD")
LONG = {"market_position": "long", "prev": PrevPosition("long", Decimal(5))}
REDUCE, GROW = replace(OPEN_BUY, action=Action.REDUCE, **LONG), replace(OPEN_BUY, quantity=Decimal(9), **LONG)
EARLIER, LATER = START - timedelta(minutes=5), START + timedelta(minutes=5)


def trade(side=Side.BUY, state=State.OPEN, received_at=EARLIER):
    held = state in (State.OPEN, State.CLOSING, State.CANCELLING, State.HOLD)
    from executor.core.orders import Leg
    from executor.core.ports import Kind

    filled = Decimal(1) if held else Decimal(0)
    entry = Order("sx1:E", Leg.ENTRY, 1, side, Kind.MARKET, Decimal(1), state=OrderState.FILLED, filled=filled)
    return Trade(
        1, "EURUSD", side, ACCOUNT, EURUSD.con_id, Decimal(1), state, "S0", received_at, LATER, EARLIER, orders=(entry,)
    )


def view(**changes):
    return View(**{"now": START, "received_at": START, "valid_until": LATER, **changes})


STALE = {"valid_until": EARLIER}

# fmt: off
ROWS = [
    # what                                             signal    situation                                     decision
    ("an open on a flat symbol enters",                OPEN_BUY, {}, "Enter"),
    ("an open that is too old has expired",            OPEN_BUY, STALE,                                        "Done expired"),
    ("the side that took profit is refused",           OPEN_BUY, {"block": Side.BUY}, "Done refused"),
    ("the other side is not blocked",                  OPEN_BUY, {"block": Side.SELL}, "Enter"),
    ("an unknown position is not traded into",         OPEN_BUY, {"unknown_position": Decimal(5)}, "Done refused"),
    ("an opposed holding of the owner is not netted", OPEN_BUY, {"opposed_holding": Decimal(-5)}, "Done refused"),
    ("what cannot be ordered is refused",              OPEN_BUY, {"objection": "only whole shares"}, "Done refused"),
    ("the same side while open is ignored",            OPEN_BUY, {"trade": trade()}, "Done ignored"),
    ("the same side while entering is ignored",        OPEN_BUY, {"trade": trade(state=State.WORKING)}, "Done ignored"),
    ("the opposite side closes first",                 OPEN_BUY, {"trade": trade(Side.SELL)}, "Close"),
    ("an expired opposite signal closes all the same", OPEN_BUY, {"trade": trade(Side.SELL), **STALE}, "Close"),
    ("after that close it has expired",                OPEN_BUY, {"closed_here": True, **STALE}, "Done expired"),
    ("an open older than the trade closes nothing",     OPEN_BUY, {"trade": trade(Side.SELL, received_at=LATER)}, "Done ignored"),
    ("a close of an earlier time closes nothing",      CLOSE,    {"trade": trade(received_at=LATER)}, "Done ignored"),
    ("a close closes",                                 CLOSE,    {"trade": trade()}, "Close"),
    ("a close never expires",                          CLOSE,    {"trade": trade(), "valid_until": None}, "Close"),
    ("a close of an entry that still works closes",    CLOSE,    {"trade": trade(state=State.WORKING)}, "Close"),
    ("a close on a flat symbol has nothing to do",     CLOSE,    {}, "Done nothing to do"),
    ("a close that did its work is closed",            CLOSE,    {"closed_here": True}, "Done closed"),
    ("an unknown entry is looked up first",            CLOSE,    {"trade": trade(state=State.SENDING)}, "Wait"),
    ("a close on hold is kept",                        CLOSE,    {"trade": trade(state=State.HOLD)}, "Wait"),
    ("an open on hold is refused",                     OPEN_BUY, {"trade": trade(state=State.HOLD)}, "Done refused"),
    ("an open waits while the old trade closes",       OPEN_BUY, {"trade": trade(Side.SELL, State.CLOSING)}, "Wait"),
    ("an old open does not wait for that", OPEN_BUY, {"trade": trade(Side.SELL, State.CLOSING), **STALE}, "Done expired"),
    ("a reduction on a flat symbol is no entry",       REDUCE,   {}, "Done ignored"),
    ("nor is one that is old",                         REDUCE,   {"valid_until": None}, "Done ignored"),
    ("nor one that does not say from where", replace(REDUCE, prev=None, market_position=None), {}, "Done ignored"),
    ("nor is what grows a position that is gone",      GROW,     {}, "Done ignored"),
    ("a reduction to what is held has nothing to do",  REDUCE,   {"trade": trade()}, "Done nothing to do"),
    ("another size on the trade's side is ignored",    GROW,     {"trade": trade()}, "Done ignored"),
    ("a reduction closes the other side's trade",      REDUCE,   {"trade": trade(Side.SELL)}, "Close"),
    ("and enters nothing after it",                    REDUCE,   {"closed_here": True}, "Done closed"),
    ("a reduction older than the trade closes nothing", REDUCE, {"trade": trade(Side.SELL, received_at=LATER)}, "Done ignored"),
    ("a reduction on hold is refused",                 REDUCE,   {"trade": trade(state=State.HOLD)}, "Done refused"),
    ("a reduction waits for a close on its way",       REDUCE,   {"trade": trade(state=State.CLOSING)}, "Wait"),
    ("a reset releases, also on hold", RESET, {"trade": trade(state=State.HOLD), "block": Side.BUY}, "Done reset"),
]
# fmt: on


@pytest.mark.parametrize(("signal", "situation", "expected"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS])
def test_rule(signal, situation, expected):
    decision = decide(signal, view(**situation))
    said = " ".join([type(decision).__name__, getattr(decision, "outcome", "")]).strip()
    assert said == expected


def test_every_cell_of_the_life_is_explicit():
    assert set(LIFE) == {(state, event) for state in State for event in Event}


@pytest.mark.parametrize("cell", [cell for cell, after in LIFE.items() if after is None], ids=str)
def test_an_impossible_event_is_an_error_of_ours(cell):
    with pytest.raises(IllegalTransition):
        following(*cell)


def test_every_state_is_reached_and_every_unfinished_one_can_end():
    reached, ends = {State.SENDING}, {State.CLOSED, State.VOID}
    for _ in State:
        reached |= {after for (state, _), after in LIFE.items() if state in reached and after}
        ends |= {state for (state, _), after in LIFE.items() if after in ends}
    assert reached == set(State) == ends


def test_a_finished_trade_leaves_its_state_only_into_hold():
    after = {to for (state, _), to in LIFE.items() if state.is_finished and to is not None and to is not state}
    assert after == {State.HOLD}
