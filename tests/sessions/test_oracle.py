"""Each law of the oracle says no to records in which it is broken on purpose, and all say yes to clean ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.sessions.oracle import ALWAYS, SETTLED, Post, Records, Row, broken

LAWS = (*ALWAYS, *SETTLED)
MINUTE = "2026-11-30T15:{:02}:00.000000Z"


class Book:
    """Records of one bought trade with both exits, and of a second signal, that are changed a little by each test."""

    def __init__(self) -> None:
        asked = {"action": "open", "symbol": "EURUSD", "side": "buy", "quantity": 100, "tp": "12", "sl": "9"}
        self.first, self.second = Post(asked, [(202, {"id": "a"})]), Post({**asked}, [(202, {"id": "b"})])
        self.truth: list[Row] = []
        self.r = Records([self.first], self.truth)
        for number, (leg, action) in enumerate((("E", "BUY"), ("T", "SELL"), ("S", "SELL")), 1):
            self.accept(self.first, leg, action, number)
        self.fill(self.first, "E", "BUY", 1, "10")
        self.r.inbox.append(self.signal("a", "entered"))
        self.r.trades.append(
            {"id": 1, "symbol": "EURUSD", "signal_id": "a", "state": "open", "closed": 0, "entry_price": 10, "exit_price": None,
             "tp_hit": 0, "evidence": None}
        )  # fmt: skip

    def signal(self, signal_id: str, outcome: str, **more: Any) -> Row:
        row = {
            "signal_id": signal_id,
            "symbol": "EURUSD",
            "action": "open",
            "state": "done",
            "outcome": outcome,
            "reason": "",
        }
        return {**row, "decided_at": MINUTE.format(len(self.truth)), **more}

    def note(
        self, event: str, post: Post, leg: str, action: str, perm_id: int, quantity: int = 100, **more: Any
    ) -> None:
        ref = f"sx1:{post.key}{leg}1"
        entry = {
            "event": event,
            "orderRef": ref,
            "action": action,
            "quantity": str(quantity),
            "conId": 5,
            "permId": perm_id,
        }
        self.truth.append({**entry, "at": MINUTE.format(len(self.truth)), **more})

    def accept(self, post: Post, leg: str, action: str, perm_id: int, quantity: int = 100) -> None:
        self.note("accepted", post, leg, action, perm_id, quantity)

    def fill(self, post: Post, leg: str, action: str, perm_id: int, price: str, quantity: int = 100) -> None:
        exec_id = f"x{len(self.truth)}"
        self.note("filled", post, leg, action, perm_id, quantity, price=price, execId=exec_id)
        held = sum(
            int(e["quantity"]) * (1 if e["action"] == "BUY" else -1) for e in self.truth if e["event"] == "filled"
        )
        self.truth.append({"event": "position", "conId": 5, "quantity": str(held)})
        self.r.fills.append(
            {"exec_id": exec_id, "order_ref": self.truth[-2]["orderRef"], "con_id": 5, "trade_id": 1, "side": action.lower(),
             "quantity": str(quantity), "price": price}
        )  # fmt: skip

    def alarm(self, kind: str, level: str = "page", **more: Any) -> None:
        row = {"symbol": "EURUSD", "kind": kind, "level": level, "cleared_at": None, "trade_id": 1, "text": ""}
        self.r.alarms.append({**row, **more})

    def end(self, leg: str, perm_id: int) -> None:
        self.note("cancelled", self.first, leg, "SELL", perm_id)

    def take_profit(self) -> None:
        """Not wrong: the take-profit filled, and all of it is written down."""
        self.fill(self.first, "T", "SELL", 2, "12")
        self.end("S", 3)
        self.r.trades[0].update(state="closed", closed=1, exit_price=12, tp_hit=1)

    def reduce(self, to: int = 40) -> None:
        """Not wrong: the strategy comes down, the exits shrink, and the reduction fills."""
        body = {"action": "strategy", "symbol": "EURUSD", "market_position": "long", "market_position_size": to}
        self.second = Post(body, [(202, {"id": "b"})])
        self.r.posts.append(self.second)
        self.r.inbox.append(self.signal("b", "reduced"))
        for leg, perm_id in (("T", 2), ("S", 3)):
            self.note("modified", self.first, leg, "SELL", perm_id, to)
        self.accept(self.second, "X", "SELL", 9, 100 - to)
        self.fill(self.second, "X", "SELL", 9, "11", 100 - to)

    def again(self, action: str = "BUY") -> None:
        """A second signal enters, after the first trade."""
        self.second.body["side"] = action.lower()
        self.r.posts.append(self.second)
        self.r.inbox.append(self.signal("b", "entered"))
        self.accept(self.second, "E", action, 9)


def accepted_again(b: Book) -> None:
    b.accept(b.first, "S", "SELL", 8)


def of_nobody(b: Book) -> None:
    b.accept(b.second, "E", "BUY", 8)


def entered_too_much(b: Book) -> None:
    b.first.body["quantity"] = 99


def entered_on_the_wrong_side(b: Book) -> None:
    b.first.body["side"] = "sell"


def entered_beside(b: Book) -> None:
    b.again()


def entered_while_blocked(b: Book) -> None:
    b.take_profit()
    b.again()


def close_beside_its_exits(b: Book) -> None:
    b.accept(b.first, "C", "SELL", 8)


def resend_is_new(b: Book) -> None:
    b.first.answers.append((202, {"id": "c"}))


def signal_lost(b: Book) -> None:
    b.r.inbox.clear()


def signal_stuck(b: Book) -> None:
    b.r.inbox[0].update(state="waiting", outcome=None)


def entry_never_sent(b: Book) -> None:
    b.r.posts.append(b.second)
    b.r.inbox.append(b.signal("b", "entered"))


def refused_and_sent(b: Book) -> None:
    b.r.inbox[0]["outcome"] = "refused"


def stop_gone(b: Book) -> None:
    b.end("S", 3)


def stop_too_small(b: Book) -> None:
    b.note("modified", b.first, "S", "SELL", 3, 40)


def stop_too_small_and_another_thing_told(b: Book) -> None:
    stop_too_small(b)
    b.alarm("size differs")


def exit_left_behind(b: Book) -> None:
    b.fill(b.first, "T", "SELL", 2, "12")


def exit_too_large(b: Book) -> None:
    b.note("modified", b.first, "T", "SELL", 2, 150)


def fill_missed(b: Book) -> None:
    b.r.fills.clear()


def fill_wrong(b: Book) -> None:
    b.r.fills[0]["quantity"] = "90"


def position_wrong(b: Book) -> None:
    b.truth[-1]["quantity"] = "90"


def closed_and_held(b: Book) -> None:
    b.r.posts.append(Post({"action": "close", "symbol": "EURUSD"}, [(202, {"id": "c"})]))


def hold_untold(b: Book) -> None:
    b.r.trades[0].update(state="hold", evidence="{}")


def hold_without_evidence(b: Book) -> None:
    b.r.trades[0].update(state="hold")
    b.alarm("hold")


def take_profit_not_noted(b: Book) -> None:
    b.take_profit()
    b.r.trades[0]["tp_hit"] = 0


def entry_price_wrong(b: Book) -> None:
    b.r.trades[0]["entry_price"] = 10.1


def page_left_open(b: Book) -> None:
    b.alarm("unprotected")


def reduced_before_its_exits(b: Book) -> None:
    b.reduce()
    accepted = next(e for e in b.truth if e.get("orderRef", "")[20:21] == "X")
    b.truth.remove(accepted)
    b.truth.insert(6, accepted)


def reduced_by_too_much(b: Book) -> None:
    b.reduce(30)
    b.second.body["market_position_size"] = 40


def reduced_for_an_entry(b: Book) -> None:
    b.reduce()
    b.second.body.update(action="open", side="buy", quantity=40)


def reduced_the_wrong_way(b: Book) -> None:
    b.reduce()
    b.fill(b.second, "X", "BUY", 9, "11", 1)


def reduction_resized(b: Book) -> None:
    b.reduce()
    b.note("modified", b.second, "X", "SELL", 9, 50)


def not_reduced_in_silence(b: Book) -> None:
    b.reduce(40)
    b.second.body["market_position_size"] = 30


PLANTED: list[tuple[Callable[[Book], None], str]] = [
    (reduced_before_its_exits, "exits_shrink_first"), (reduced_by_too_much, "reduced_as_asked"),
    (reduced_for_an_entry, "reduced_as_asked"), (reduced_the_wrong_way, "reduced_as_asked"),
    (reduction_resized, "one_size_an_order"), (not_reduced_in_silence, "as_large_as_its_strategy"),
    (accepted_again, "accepted_once"), (of_nobody, "accepted_once"), (entered_too_much, "entered_as_asked"),
    (entered_on_the_wrong_side, "entered_as_asked"), (entered_beside, "one_trade_a_symbol"),
    (entered_while_blocked, "blocked_side_stays_out"), (close_beside_its_exits, "exits_gone_before_a_close"),
    (resend_is_new, "one_answer_a_signal"), (signal_lost, "every_signal_has_one_outcome"),
    (signal_stuck, "every_signal_has_one_outcome"), (entry_never_sent, "entered_means_entered"),
    (refused_and_sent, "entered_means_entered"), (stop_gone, "protected"), (stop_too_small, "protected"),
    (stop_too_small_and_another_thing_told, "protected"),
    (exit_left_behind, "no_exit_is_too_large"), (exit_too_large, "no_exit_is_too_large"), (fill_missed, "same_executions"),
    (fill_wrong, "same_executions"), (position_wrong, "same_position"), (closed_and_held, "a_close_ends_flat"),
    (hold_untold, "every_hold_is_told"), (hold_without_evidence, "every_hold_is_told"),
    (take_profit_not_noted, "written_as_it_was"), (entry_price_wrong, "written_as_it_was"),
    (page_left_open, "nobody_is_asked_needlessly"),
]  # fmt: skip


@pytest.mark.parametrize("plant, law", PLANTED, ids=lambda each: getattr(each, "__name__", each))
def test_a_planted_violation_is_found_by_its_law(plant: Callable[[Book], None], law: str) -> None:
    book = Book()
    plant(book)
    assert [text for text in broken(book.r, LAWS) if text.startswith(f"{law}: ")]


def test_each_law_is_shown_to_say_no() -> None:
    assert {law.__name__ for law in LAWS} == {law for _, law in PLANTED}


def released(b: Book) -> None:
    b.take_profit()
    b.r.inbox.append(b.signal("r", "reset"))
    b.r.posts.append(Post({"action": "reset", "symbol": "EURUSD"}, [(202, {"id": "r"})]))
    b.again()


def opposite_side(b: Book) -> None:
    b.take_profit()
    b.again("SELL")


@pytest.mark.parametrize("change", [lambda b: None, Book.take_profit, Book.reduce, released, opposite_side],
                         ids=["open", "took profit", "reduced", "released", "opposite side"])  # fmt: skip
def test_clean_records_break_no_law(change: Callable[[Book], None]) -> None:
    book = Book()
    change(book)
    assert broken(book.r, LAWS) == []


def test_a_missing_stop_that_an_alarm_names_is_told() -> None:
    book = Book()
    stop_gone(book)
    book.alarm("unprotected", level="warn")
    assert broken(book.r, LAWS) == []
