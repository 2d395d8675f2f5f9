"""One turn of polling: the order of its steps, and what happens when the relay, a signal or the journal is bad."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from common.clock import utc_text
from common.errors import JournalError
from common.signals import Action, Envelope, Side, Signal, payload_text
from executor.relay.client import Answer, Delivery, Notice, RelayUnavailable, SecondExecutor
from executor.relay.polling import Poller
from tests.executor.fakes import House


class FakeClient:
    """A relay that answers what it is given, in turn; what was asked of it is written down."""

    def __init__(self, steps: list[str]) -> None:
        self.answers: list[Answer | Exception] = []
        self.steps = steps
        self.ack_fails = False

    def lease(self, wait_seconds: float) -> Answer:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def ack(self, deliveries: list[Delivery]) -> list[str]:
        if self.ack_fails:
            raise RelayUnavailable("gone")
        self.steps += [f"ack {delivery.id}" for delivery in deliveries]
        return []

    def heard(self, ids: list[str]) -> None:
        self.steps.append(f"heard {','.join(ids)}")

    def nack(self, delivery: Delivery, reason: str, retry_seconds: int) -> None:
        self.steps.append(f"nack {delivery.id}: {reason}")


class Desktop:
    """A house with an intake."""

    def __init__(self) -> None:
        self.house = House.build().connect()
        self.steps: list[str] = []
        self.client = FakeClient(self.steps)
        self.held_back: str | None = None
        desk = self.house.desk
        self.intake = Poller(self.client, desk, self.house.clock, lambda: self.held_back)  # type: ignore[arg-type]
        self._trace("transaction", self.house.journal, "commit")
        self._trace("send", self.house.broker, "act")

    def _trace(self, name: str, owner: Any, word: str) -> None:
        real = getattr(owner, name)

        def traced(*args: Any) -> Any:
            self.steps.append(word)
            return real(*args)

        setattr(owner, name, traced)

    def turn(
        self,
        *deliveries: Delivery,
        skew: float | None = None,
        notices: tuple[Notice, ...] = (),
        mode: str | None = "open",
    ) -> float:
        self.client.answers = [Answer(deliveries, skew, notices, mode)]
        return asyncio.run(self.intake.turn())

    def fail(self, error: Exception | None = None) -> float:
        self.client.answers = [error or RelayUnavailable("the relay is away")]
        return asyncio.run(self.intake.turn())


@pytest.fixture
def desk() -> Desktop:
    return Desktop()


def delivery(id: str = "S1", symbol: str = "EURUSD", side: Side = Side.BUY, **changes: Any) -> Delivery:
    at = House.build().clock.now()
    signal = Signal(Action.OPEN, symbol, side, Decimal(20000))
    envelope = Envelope(id, at, at + timedelta(seconds=90), signal)
    return Delivery(**{"id": id, "lease": f"L{id}", "payload": payload_text(envelope), "envelope": envelope, **changes})


def test_commit_then_act_then_ack(desk: Desktop) -> None:
    assert desk.turn(delivery("S1"), delivery("S2", "AAPL")) == 0
    assert [step for step in desk.steps if step.startswith("ack")] == ["ack S1", "ack S2"]
    assert desk.steps.index("commit") < desk.steps.index("act") < desk.steps.index("ack S1")
    assert len(desk.house.broker.sent) == 2


def test_delivered_again_is_acked_again_and_not_acted_on(desk: Desktop) -> None:
    desk.turn(delivery())
    sent = len(desk.house.broker.sent)
    desk.turn(delivery())
    assert desk.steps.count("ack S1") == 2 and len(desk.house.broker.sent) == sent


def test_ack_that_fails_loses_nothing(desk: Desktop) -> None:
    desk.client.ack_fails = True
    assert desk.turn(delivery()) == 0
    assert len(desk.house.trades()) == 1


def test_journal_that_cannot_be_written_acks_nothing(desk: Desktop) -> None:
    def fail(*_: Any) -> Any:
        raise JournalError("disk full")

    desk.house.journal.receive = fail  # type: ignore[method-assign]
    assert desk.turn(delivery()) == 5
    assert not any(step.startswith("ack") for step in desk.steps) and not desk.house.desk.can_send


def test_forged_signal_is_an_alarm_and_never_acked(desk: Desktop) -> None:
    desk.turn(delivery(envelope=None, forged=True, problem="no signature matches"), delivery("S2"))
    assert desk.house.alarms() == ["forged signal"] and len(desk.house.trades()) == 1
    assert [step for step in desk.steps if "S1" in step] == []


def test_unreadable_signal_is_given_back_with_the_reason(desk: Desktop) -> None:
    desk.turn(delivery(envelope=None, problem="data: must be an object"))
    assert desk.house.alarms() == ["dead letter"] and "nack S1: data: must be an object" in desk.steps


def test_good_signals_are_acked_before_bad_ones_are_given_back(desk: Desktop) -> None:
    """Each bad one may take the relay seconds; meanwhile the leases of the good ones ran out, and they came again."""
    desk.turn(delivery("S1", envelope=None, problem="data: must be an object"), delivery("S2"))
    assert [step.split(":")[0] for step in desk.steps if "ack" in step] == ["ack S2", "nack S1"]


def test_alarms_about_bad_signals_end_after_an_hour(desk: Desktop) -> None:
    desk.turn(delivery(envelope=None, forged=True, problem="x"))
    desk.house.desk.tick()
    assert desk.house.alarms() == ["forged signal"]
    desk.house.clock.advance(3601)
    desk.house.desk.tick()
    assert desk.house.alarms() == []


def test_relay_that_is_away_is_said_once_and_once_when_back(desk: Desktop, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        desk.turn()
        pauses = [desk.fail() for _ in range(6)]
        desk.turn()
        desk.turn()
    said = [record.getMessage() for record in caplog.records if record.name == "executor.relay.polling"]
    assert pauses == [0.5, 1.0, 2.0, 5.0, 5.0, 5.0] and said == ["relay_polled", "relay_away", "relay_back"]


def test_relay_asks_for_patience(desk: Desktop) -> None:
    assert desk.fail(RelayUnavailable("busy", retry_after=7)) == 7
    assert desk.fail(TimeoutError()) == 1.0


def test_relay_that_is_away_for_a_minute_is_an_alarm(desk: Desktop) -> None:
    desk.fail()
    desk.house.clock.advance(61)
    desk.fail()
    assert desk.house.alarms() == ["relay"]
    desk.turn()
    assert desk.house.alarms() == []


def test_second_executor_is_an_alarm_at_once_and_until_it_may_fetch(desk: Desktop) -> None:
    for _ in range(2):
        assert desk.fail(SecondExecutor("another executor fetches: home", retry_after=60)) == 60
    (alarm,) = desk.house.journal.standing_alarms()
    assert (
        alarm["kind"] == "second executor" and "home" in alarm["text"] and "No signal is fetched here" in alarm["text"]
    )
    desk.turn()
    assert desk.house.journal.standing_alarms() == []


def test_first_executor_hears_of_a_second(desk: Desktop) -> None:
    desk.turn(notices=(Notice("second-executor", "x", "", "a second executor (laptop) was refused"),))
    (alarm,) = desk.house.journal.standing_alarms()
    assert alarm["kind"] == "second executor" and "laptop" in alarm["text"]


def test_nothing_is_fetched_while_the_account_is_wrong(desk: Desktop) -> None:
    desk.held_back = "this journal belongs to another account"
    desk.client.answers = [AssertionError("asked")]
    assert asyncio.run(desk.intake.turn()) == 1.0 and len(desk.client.answers) == 1


# --- clocks -----------------------------------------------------------------------------------------------------


def test_small_and_single_differences_are_delays(desk: Desktop) -> None:
    for skew in (1.9, -1.9, 4.0, 4.0, 4.0, 4.0, 0.1):
        desk.turn(skew=skew)
    assert desk.house.alarms() == []


def test_wrong_clock_is_an_alarm_until_it_is_right(desk: Desktop) -> None:
    for _ in range(5):
        desk.turn(skew=-3.0)
    assert (
        desk.house.alarms() == ["clock"] and "ahead of the relay's" in desk.house.journal.standing_alarms()[0]["text"]
    )
    desk.turn(delivery(), skew=-3.0)
    assert len(desk.house.trades()) == 1  # entries go on below 30 s
    desk.turn(skew=0.0)
    assert desk.house.alarms() == []


@pytest.mark.parametrize("sign", [1, -1])
def test_clock_wrong_by_half_a_minute_refuses_entries_only(desk: Desktop, sign: int) -> None:
    desk.turn(skew=sign * 31.0)
    desk.turn(delivery())
    assert desk.house.trades() == [] and desk.house.outcome("S1")[0] == "refused"
    assert desk.house.desk.can_send  # closing and protecting go on
    desk.turn(skew=0.0)
    desk.turn(delivery("S2"))
    assert len(desk.house.trades()) == 1


@pytest.mark.parametrize("skew", [3600.0, -3600.0])
def test_entry_after_the_clock_was_set_waits_until_it_was_compared(desk: Desktop, skew: float) -> None:
    """It was set back an hour while the executor ran, and the next entry went out: two comparisons were asked for."""
    for _ in range(3):
        desk.turn(skew=0.0)
    desk.house.desk.clock_doubted("this computer's clock was set back by 3600 s")
    desk.turn(delivery(), skew=None)
    desk.house.pass_time(3)
    assert desk.house.outcome("S1")[0] is None and desk.house.broker.sent == []
    desk.turn(skew=skew)
    outcome, reason = desk.house.outcome("S1")
    assert outcome == "refused" and "clock is 3600.0 s" in str(reason) and desk.house.broker.sent == []


def test_entry_goes_out_once_the_clock_was_found_right(desk: Desktop) -> None:
    desk.house.desk.clock_doubted("this computer was suspended for 3600 s")
    desk.turn(delivery(), skew=None)
    desk.turn(skew=0.1)
    desk.house.pass_time(1)
    assert desk.house.outcome("S1")[0] == "entered"


def test_poll_during_which_this_computer_slept_compares_nothing(desk: Desktop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer had waited at home for an hour: the clock "was wrong" by that hour, and an entry was refused."""
    lease, waits = desk.client.lease, []

    def sleeps(wait_seconds: float) -> Answer:
        waits.append(wait_seconds)
        if len(waits) == 1:
            desk.house.desk.clock_doubted("this computer was suspended for 3600 s")
        return lease(wait_seconds)

    monkeypatch.setattr(desk.client, "lease", sleeps)
    desk.turn(delivery(), skew=-3600.0)
    assert desk.house.alarms() == [] and desk.house.outcome("S1")[0] is None
    desk.turn(skew=0.1)
    assert desk.house.outcome("S1")[0] == "entered" and waits == [20.0, 0.0], "no entry waits for a long poll"


def test_close_that_waits_for_tws_names_tws(desk: Desktop) -> None:
    """The relay was in close-only mode: that was named as the reason why a close waited."""
    desk.turn(delivery("A1"))
    desk.turn(mode="close-only")
    desk.house.desk.disconnected("TWS is away")
    close = desk.house.signal("close")
    assert desk.house.outcome(close) == (None, "waiting: TWS is away")


def test_close_does_not_wait_for_the_clock(desk: Desktop) -> None:
    desk.turn(delivery("A1"))
    desk.house.desk.clock_doubted("this computer's clock was set back by 3600 s")
    close = desk.house.signal("close")
    desk.house.pass_time(5)
    assert desk.house.outcome(close)[0] == "closed"


def test_answer_without_a_clock_changes_nothing(desk: Desktop, free_port: Callable[[], int]) -> None:
    desk.turn(skew=31.0)
    desk.turn(skew=None)
    assert desk.house.alarms() == ["clock"]


# --- what the relay noticed -------------------------------------------------------------------------

MISSED = Notice("alert-missed", "AAPL 2026-11-23T09:00:00Z", "AAPL", "An alert for AAPL was missed: it held long 5.")


def test_missed_alert_is_an_alarm_once_however_often_it_is_told(desk: Desktop) -> None:
    for _ in range(3):
        desk.turn(delivery(), notices=(MISSED,))
    assert desk.house.alarms() == ["missed alert"]
    (alarm,) = desk.house.journal.standing_alarms()
    assert (alarm["symbol"], alarm["text"]) == ("AAPL", MISSED.text)
    said = desk.house.journal._rows("SELECT * FROM events WHERE kind = 'alarm'")
    assert len(said) == 1 and MISSED.text in repr(dict(said[0]))


def test_missed_alert_is_said_for_a_day(desk: Desktop) -> None:
    desk.turn(notices=(MISSED,))
    desk.house.clock.advance(23 * 3600)
    desk.house.desk.tick()
    assert desk.house.alarms() == ["missed alert"]
    desk.house.clock.advance(3600)
    desk.house.desk.tick()
    assert desk.house.alarms() == []


def test_signal_that_the_relay_gave_up_is_an_alarm(desk: Desktop) -> None:
    desk.turn(notices=(Notice("dead-letter", "AAPL 2026-11-23T09:00:00Z", "AAPL", "The relay gave up the open."),))
    assert desk.house.alarms() == ["dead letter"]


def test_two_missed_alerts_are_two_alarms_and_an_unknown_notice_none(desk: Desktop) -> None:
    later = Notice("alert-missed", "AAPL 2026-11-23T10:00:00Z", "AAPL", "Another one.")
    desk.turn(notices=(MISSED, later, Notice("news", "x", "AAPL", "Something else.")))
    assert desk.house.alarms() == ["missed alert", "missed alert"]


NOTICES = [
    ("exit-refused", "refused exit", "page"),
    ("alert-refused", "refused alert", "warn"),
    ("id-used", "used id", "warn"),
]


@pytest.mark.parametrize("kind, alarm, level", NOTICES)
def test_what_the_relay_refused_is_an_alarm_at_home(desk: Desktop, kind: str, alarm: str, level: str) -> None:
    desk.turn(notices=(Notice(kind, "AAPL 2026-11-23T09:00:00Z", "AAPL", "It was refused.", "7"),))
    (found,) = desk.house.journal.standing_alarms()
    assert (found["kind"], found["level"], found["symbol"]) == (alarm, level, "AAPL")


def test_no_number_of_reports_hides_that_the_relay_is_away_or_the_clock_wrong(desk: Desktop) -> None:
    """After twenty refused alerts the alarm "signals cannot be fetched" was counted among the reports, and not shown."""
    desk.turn(notices=tuple(replace(MISSED, key=f"AAPL {n}") for n in range(40)))
    assert desk.house.alarms().count("missed alert") == 20 and "many reports" in desk.house.alarms()
    desk.turn(skew=100.0)
    for _ in range(2):
        desk.client.answers = [RelayUnavailable("gone")]
        asyncio.run(desk.intake.turn())
        desk.house.clock.advance(61)
    assert {"clock", "relay"} <= set(desk.house.alarms())


@pytest.mark.parametrize("gap, alarms", [(0, []), (1, ["missed alert"])])
def test_a_notice_about_an_alert_that_came_late_in_the_same_answer_is_no_alarm(
    desk: Desktop, gap: int, alarms: list[str]
) -> None:
    desk.house.strategy("long 10", "flat")
    at = utc_text(desk.house.clock.now() + timedelta(seconds=gap))
    desk.house.strategy("short 10", "flat")
    desk.house.strategy("flat", "long 10")
    desk.turn(notices=(Notice("alert-missed", f"EURUSD {at}", "EURUSD", "An alert for EURUSD was missed.", "7"),))
    assert desk.house.alarms() == alarms and "heard 7" in desk.steps


def test_two_notices_of_one_instant_are_two_alarms(desk: Desktop) -> None:
    """An exit after a missed alert, with a used id: the second was taken for the first, confirmed, and never shown."""
    desk.turn(notices=(MISSED, replace(MISSED, kind="id-used"), replace(MISSED, kind="dead-letter")))
    assert sorted(desk.house.alarms()) == ["dead letter", "missed alert", "used id"]


def test_the_same_refusal_again_and_again_is_one_alarm(desk: Desktop) -> None:
    for minute in range(10, 15):
        desk.turn(
            notices=(
                Notice("exit-refused", f"AAPL 2026-11-23T09:{minute}:00Z", "AAPL", "It was refused.", str(minute)),
            )
        )
    assert desk.house.alarms() == ["refused exit"]


def test_a_notice_is_confirmed_after_it_is_committed(desk: Desktop) -> None:
    desk.turn(notices=(replace(MISSED, id="3"), Notice("news", "x", "AAPL", "Something else.", "4"), MISSED))
    assert desk.steps[-1] == "heard 3,4" and desk.steps[-2] == "commit"


def test_a_notice_that_could_not_be_committed_is_not_confirmed(desk: Desktop, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **more: Any) -> None:
        raise JournalError("the disk is full")

    monkeypatch.setattr(desk.house.desk.alarms, "_raise", broken)
    desk.turn(notices=(replace(MISSED, id="3"),))
    assert not [step for step in desk.steps if step.startswith("heard")]


# --- the relay's mode -------------------------------------------------------------------------------


def test_in_close_only_mode_a_reversal_closes_and_enters_nothing(desk: Desktop) -> None:
    desk.turn(delivery("S1"))
    desk.turn(delivery("S2", side=Side.SELL), mode="close-only")
    assert desk.house.outcome("S2") == (
        "refused", "the relay is in close-only mode: no entry is made until `python -m relay resume`"
    )  # fmt: skip
    assert [trade["exit_reason"] for trade in desk.house.trades()] == ["reversal"]
    assert not desk.house.broker.quantity[12087792]


@pytest.mark.parametrize("mode", ["close-only", "paused"])
def test_the_mode_counts_for_entries_until_the_relay_is_open_again(desk: Desktop, mode: str) -> None:
    desk.turn(mode=mode)
    desk.turn(delivery("S1"), mode=None)  # it did not look
    assert desk.house.outcome("S1")[0] == "refused"
    desk.turn(delivery("S2"))
    assert desk.house.outcome("S2")[0] == "entered"


def test_an_entry_that_waits_for_tws_is_refused_where_the_mode_changes_meanwhile(desk: Desktop) -> None:
    desk.house.desk.disconnected("TWS is away")
    desk.turn(delivery("S1"))
    desk.turn(mode="close-only")
    desk.house.connect()
    assert desk.house.outcome("S1")[0] == "refused" and not desk.house.broker.sent


def test_the_mode_is_kept_across_a_restart(tmp_path: Path) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path).connect()
    house.desk.relay_mode("close-only")
    house = house.restart(path).connect()
    assert house.outcome(house.signal("open", side="buy", size="10000"))[0] == "refused"
    house.desk.relay_mode("open")
    house = house.restart(path).connect()
    assert house.outcome(house.signal("open", side="buy", size="10000"))[0] == "entered"
