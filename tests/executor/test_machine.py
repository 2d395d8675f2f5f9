"""Any sequence of signals, fills, moves of the owner, losses and restarts: the laws of the desk hold after each step."""

from __future__ import annotations

import tempfile
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from executor.core.commands import Command, CommandKind, CommandRefused
from executor.core.trades import State

from .books import check_at_rest, check_restart
from .fakes import EURUSD, House

SIDES = {"buy": {"tp": "1.20", "sl": "1.18"}, "sell": {"tp": "1.18", "sl": "1.20"}}


class DeskMachine(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = str(Path(self.folder.name) / "trade_state.db")
        self.house = House.build(self.path).connect()

    @rule(side=st.sampled_from(sorted(SIDES)), size=st.sampled_from(["10000", "30000"]))
    def open(self, side: str, size: str) -> None:
        self.house.signal("open", side=side, size=size, **SIDES[side])

    @rule()
    def close(self) -> None:
        self.house.signal("close")

    @rule()
    def reset(self) -> None:
        self.house.signal("reset")

    @precondition(lambda self: self.live("T") and self.live("S"))
    @rule(leg=st.sampled_from(["T", "S"]), part=st.booleans())
    def exit_fills(self, leg: str, part: bool) -> None:
        self.house.broker.hit(leg, Decimal(1000) if part else None)
        self.house.pass_time(6)

    @precondition(lambda self: self.live("T") and self.live("S"))
    @rule(leg=st.sampled_from(["T", "S"]))
    def exit_fills_while_down(self, leg: str) -> None:
        self.house.broker.silent = True
        self.house.broker.hit(leg)
        self.house.broker.silent = False
        self.restart()

    @rule()
    def restart(self) -> None:
        self.house = self.house.restart(self.path).connect()
        self.house.pass_time(4)

    @rule(side=st.sampled_from(sorted(SIDES)))
    def order_never_arrives(self, side: str) -> None:
        self.house.broker.deaf = True
        self.house.signal("open", side=side, size="10000", **SIDES[side])
        self.house.broker.deaf = False
        self.house.pass_time(30)

    @rule(side=st.sampled_from(sorted(SIDES)))
    def answers_are_lost(self, side: str) -> None:
        self.house.broker.silent = True
        self.house.signal("open", side=side, size="10000", **SIDES[side])
        self.house.broker.silent = False
        self.house.pass_time(30)

    @precondition(lambda self: self.held() > 2000)
    @rule()
    def owner_reduces_by_hand(self) -> None:
        trade = self.house.journal.unfinished()[0]
        self.house.broker.by_hand(EURUSD, Decimal(-1000) if trade.signed > 0 else Decimal(1000), Decimal("1.19"))
        self.house.pass_time(15)

    @rule(kind=st.sampled_from([CommandKind.CLOSE, CommandKind.FLATTEN, CommandKind.DISMISS, CommandKind.ADOPT]))
    def button(self, kind: CommandKind) -> None:
        for trade in self.house.journal.unfinished():
            try:
                self.house.command(Command(kind, trade_id=trade.id))
            except CommandRefused as refused:
                assert str(refused)
        self.house.pass_time(6)

    def held(self) -> Decimal:
        return sum((t.held for t in self.house.journal.unfinished()), Decimal(0))

    def live(self, leg: str) -> bool:
        tickets = self.house.broker.tickets.values()
        return any(t.order_ref[20] == leg and self.house.broker.orders[t.order_id].status.is_live for t in tickets)

    @invariant()
    def at_most_one_trade_and_the_position_is_its_own(self) -> None:
        if not hasattr(self, "house"):
            return
        trades = self.house.journal.unfinished()
        assert len(trades) <= 1
        if not any(t.state is State.HOLD for t in trades):
            assert self.house.broker.quantity.get(EURUSD.con_id, 0) == sum(t.signed for t in trades)

    @invariant()
    def each_reference_has_one_order_and_each_id_one_reference(self) -> None:
        if hasattr(self, "house"):
            pairs = {(t.order_id, t.order_ref) for t in self.house.broker.sent}
            assert len(pairs) == len({p[0] for p in pairs}) == len({p[1] for p in pairs})

    @invariant()
    def a_flat_symbol_has_no_order(self) -> None:
        if hasattr(self, "house") and not self.house.journal.unfinished():
            assert not any(r.status.is_live for r in self.house.broker.orders.values())

    @invariant()
    def nothing_stopped_the_desk(self) -> None:
        if hasattr(self, "house"):
            assert not self.house.desk.gate.causes

    @invariant()
    def the_book_equals_what_a_restart_would_build_and_nothing_is_left_undone(self) -> None:
        if hasattr(self, "house"):
            check_restart(self.house.desk)
            check_at_rest(self.house.desk)

    def teardown(self) -> None:
        if hasattr(self, "house"):
            self.house.journal.close()
            self.folder.cleanup()


def machine(examples: int) -> type:
    """Return the test case; thousands of durable commits: a slow disk may take its time."""

    class Case(DeskMachine.TestCase):  # type: ignore[name-defined,misc]
        settings = settings(
            max_examples=examples, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
        )
        pytestmark = [pytest.mark.timeout(10 * examples)]

    return Case


TestDesk = machine(12)
TestDeskLong = pytest.mark.slow(machine(200))
