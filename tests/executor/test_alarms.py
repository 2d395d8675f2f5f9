"""Alarms that time or a later look ends, and those that only time raises."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

import executor
from common.errors import IllegalTransition
from executor.core.commands import Command, CommandKind
from executor.core.conditions import CONDITIONS, AlarmKind
from executor.core.ports import Status

from .fakes import House
from .test_desk import entered

SOURCE = Path(executor.__file__).parent


@pytest.fixture
def house() -> House:
    return House.build().connect()


def ended(house: House, kind: str) -> list[str]:
    return [
        r["cleared_text"] for r in house.journal._rows("SELECT * FROM alarms WHERE kind = ?", kind) if r["cleared_at"]
    ]


def test_refused_take_profit_is_said_while_the_stop_stands(house: House) -> None:
    house.broker.refuse["T"] = (110, "The price does not conform to the minimum price variation")
    entered(house)
    house.pass_time(8)
    assert house.alarms() == []
    house.pass_time(4)
    assert house.alarms() == ["take-profit lost"] and house.trades()[0]["state"] == "open"
    assert "minimum price variation" in house.journal.standing_alarms()[0]["text"]
    house.broker.hit("S")
    assert house.alarms() == []


def test_take_profit_that_the_owner_cancelled_is_no_alarm(house: House) -> None:
    entered(house)
    house.broker.cancel_by_hand("T")
    house.pass_time(15)
    assert house.alarms() == [] and house.trades()[0]["state"] == "open"


def test_orphan_is_over_when_the_broker_shows_it_no_more(house: House) -> None:
    entered(house)
    house.broker.hit("T")
    stop = next(r for r in house.broker.orders.values() if r.order_ref and r.order_ref[20] == "S")
    orphan = replace(stop, status=Status.WORKING, client_id=5)
    house.desk.reconciled(replace(house.broker.snapshot(), open_orders=(orphan,)))
    assert house.alarms() == ["orphan"]
    house.desk.reconciled(house.broker.snapshot())
    assert house.alarms() == [] and "no longer at the broker" in ended(house, "orphan")[0]


def unknown_exit(house: House) -> None:
    entered(house)
    house.broker.silent = True
    house.broker.hit("T")
    house.broker.silent = False
    house.broker.fills.clear()
    house.broker.orders.clear()
    house.broker.day = "2026-11-24"
    house.desk.reconciled(house.broker.snapshot())
    house.pass_time(5)
    assert house.alarms() == ["unknown exit"]


def test_unknown_exit_without_a_take_profit_blocks_nothing(house: House) -> None:
    """What never had a take-profit cannot have hit it."""
    house.signal("open", side="buy", size="10000", sl="1.18")
    house.broker.silent = True
    house.broker.hit("S")
    house.broker.silent = False
    house.broker.fills.clear()
    house.broker.orders.clear()
    house.broker.day = "2026-11-24"
    house.desk.reconciled(house.broker.snapshot())
    house.pass_time(5)
    assert house.alarms() == ["unknown exit"] and house.trades()[0]["exit_reason"] == "unknown"
    assert not house.journal._rows("SELECT * FROM blocks")


def test_unknown_exit_is_said_until_its_block_is_released(house: House) -> None:
    unknown_exit(house)
    house.pass_time(16 * 60)
    assert house.alarms() == ["unknown exit"]
    house.signal("reset")
    house.pass_time(1)
    assert house.alarms() == []


def test_unknown_exit_is_over_though_a_later_trade_blocks_its_own_side(house: House) -> None:
    unknown_exit(house)
    house.broker.tickets.clear()
    house.signal("open", side="sell", size="10000", tp="1.18", sl="1.20")  # its fill releases the buy side
    house.broker.hit("T")  # and its take-profit blocks the sell side
    assert [row["side"] for row in house.journal._rows("SELECT side FROM blocks")] == ["sell"]
    house.pass_time(16 * 60)
    assert "unknown exit" not in house.alarms()


def test_expired_signal_is_said_for_a_while(house: House) -> None:
    house.desk.disconnected("TWS is closed")
    house.signal("open", side="buy", size="1000")
    house.clock.advance(100)
    house.connect()
    assert house.alarms() == ["expired signal"]
    house.pass_time(16 * 60)
    assert house.alarms() == []


def test_bug_of_ours_is_over_when_the_program_runs_again(tmp_path: Path) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path).connect()
    house.desk.stopped_by(IllegalTransition("a trade that is void cannot take the event 'close'"))
    house.connect()
    assert house.alarms() == ["program"] and not house.desk.can_send
    assert house.restart(path).connect().alarms() == []


def test_page_that_fails_is_an_alarm_until_it_works_and_stops_no_order(house: House) -> None:
    for _ in range(2):
        house.desk.watch.tell_page("/", "a bug in this program: KeyError: 7")
    house.desk.watch.tell_page("/metrics", "a bug in this program: KeyError: 8")
    assert house.alarms() == ["program", "program"] and house.desk.can_send
    assert "KeyError: 7" in house.journal.standing_alarms()[0]["text"]
    house.desk.watch.tell_page("/", None)
    house.desk.watch.tell_page("/metrics", None)
    house.desk.watch.tell_page("/metrics", None)
    assert house.alarms() == []


def test_failed_button_is_over_after_a_restart_unless_it_fails_again(tmp_path: Path) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path).connect()
    for what in ("/trades", "/symbols"):
        house.desk.watch.tell_page(what, "a bug in this program: KeyError: 7")
    assert house.connect().alarms() == ["program", "program"]
    house = house.restart(path)
    house.desk.watch.tell_page("/symbols", "a bug in this program: KeyError: 7")
    assert [alarm["key"] for alarm in house.connect().journal.standing_alarms()] == ["program:page /symbols"]


def test_every_kind_is_raised_somewhere() -> None:
    source = "".join(path.read_text("utf-8") for path in SOURCE.rglob("*.py"))
    used = set(re.findall(r"AlarmKind\.([A-Z_]+)(?!: Condition)\b", source))
    assert {kind.name for kind in CONDITIONS} == {kind.name for kind in AlarmKind} == used


def test_every_kind_is_documented() -> None:
    page = (SOURCE.parent / "docs" / "reference" / "alarms.md").read_text("utf-8")
    rows = {
        f"| `{kind.value}` | {condition.level.value} | {condition.raised} | {condition.ends} |"
        for kind, condition in CONDITIONS.items()
    }
    assert set(re.findall(r"^\| `.*$", page, re.MULTILINE)) == rows


def test_hold_is_committed_with_its_alarm(monkeypatch: pytest.MonkeyPatch, house: House) -> None:
    """The program may die between a fact and the turn that acts on it: a hold without an alarm would stay behind."""
    entered(house)
    stop = house.broker.id_of("S1")
    house.broker.hit("T")
    assert house.state == "closed" and house.alarms() == []
    monkeypatch.setattr(house.desk, "advance", lambda: None)
    house.broker.execute(stop, Decimal(10000), Decimal("1.17"))
    assert house.state == "hold" and house.alarms() == ["hold"]


def test_end_of_a_trade_is_committed_with_the_end_of_its_alarms(monkeypatch: pytest.MonkeyPatch, house: House) -> None:
    """After a restart nothing checks a finished trade: an alarm left behind would be repeated for ever."""
    house.broker.refuse["T"] = (110, "The price does not conform to the minimum price variation")
    entered(house)
    house.pass_time(12)
    assert house.alarms() == ["take-profit lost"]
    monkeypatch.setattr(house.desk, "advance", lambda: None)
    house.broker.hit("S")
    assert house.state == "closed" and house.alarms() == []


def test_dismissed_trade_is_committed_with_the_end_of_its_hold(monkeypatch: pytest.MonkeyPatch, house: House) -> None:
    entered(house)
    house.broker.hit("S")
    house.desk.life.freeze(1, "a bug in this program")
    assert house.state == "hold" and house.alarms() == ["hold"]
    monkeypatch.setattr(house.desk, "advance", lambda: None)
    house.command(Command(CommandKind.DISMISS, trade_id=1))
    assert house.state == "closed" and house.alarms() == []
