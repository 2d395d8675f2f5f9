"""Records in which a rule is broken on purpose: before the checker says that all is well, it shows that it can say no."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

from tests.crash import relay_run
from tests.crash.checker import RULES, Records, violations

ENTRY, TARGET, STOP = "sx1:AAAAAAAAAAAAAAAAE1", "sx1:AAAAAAAAAAAAAAAAT1", "sx1:AAAAAAAAAAAAAAAAS1"
REDUCTION = "sx1:CCCCCCCCCCCCCCCCX1"


def order(number: int, ref: str, action: str) -> dict[str, Any]:
    return {
        "event": "accepted", "clientId": 1, "orderId": number, "permId": number, "parentId": 0 if number == 1 else 1,
        "orderRef": ref, "action": action, "quantity": "100", "conId": 5,
    }  # fmt: skip


def clean() -> Records:
    """A long trade with take-profit and stop-loss, open."""
    fill = order(1, ENTRY, "BUY") | {"event": "filled", "execId": "x.01", "price": "10"}
    shown = {"event": "position", "conId": 5, "quantity": "100"}
    truth = [order(1, ENTRY, "BUY"), order(2, TARGET, "SELL"), order(3, STOP, "SELL"), fill, shown]
    trade = {
        "id": 1, "signal_id": "s", "symbol": "EURUSD", "con_id": 5, "state": "open", "closed": 0, "stop_wanted": 1,
        "evidence": None, "entry_price": 10, "exit_price": None, "tp_hit": 0, "shrink_to": None,
    }  # fmt: skip
    refs = (ENTRY, TARGET, STOP)
    orders = [{"order_ref": r, "trade_id": 1, "leg": r[-2], "state": "working", "quantity": "100"} for r in refs]
    row = {"exec_id": "x.01", "order_ref": ENTRY, "trade_id": 1, "side": "buy", "quantity": "100", "price": "10"}
    inbox = [
        {"signal_id": "s", "symbol": "EURUSD", "state": "done", "outcome": "entered", "quantity": "100", "reason": ""}
    ]
    return Records(truth, inbox, [trade], orders, [row], [])


def stop_gone(r: Records) -> None:
    r.truth.append(order(3, STOP, "SELL") | {"event": "cancelled"})


def stop_too_small(r: Records) -> None:
    r.truth.append(order(3, STOP, "SELL") | {"event": "modified", "quantity": "40"})


def stop_too_small_and_another_thing_told(r: Records) -> None:
    stop_too_small(r)
    r.alarms.append({**alarm_of_hold(1), "kind": "not reduced"})


def stop_on_the_wrong_side(r: Records) -> None:
    r.truth[2]["action"] = "BUY"


def accepted_again(r: Records) -> None:
    r.truth.append(order(9, TARGET, "SELL"))


def id_used_again(r: Records) -> None:
    r.truth.append(order(2, TARGET + "x", "SELL") | {"permId": 9})


def signal_lost(r: Records) -> None:
    r.inbox.clear()


def signal_stuck(r: Records) -> None:
    r.inbox[0].update(state="waiting", outcome=None)


def silent_hold(r: Records) -> None:
    r.trades[0].update(state="hold", evidence="{}")


def alarm_of_hold(trade_id: int) -> dict[str, Any]:
    return {"key": f"hold:{trade_id}", "symbol": "EURUSD", "kind": "hold", "level": "page", "cleared_at": None}


def hold_without_evidence(r: Records) -> None:
    r.trades[0].update(state="hold")
    r.alarms.append(alarm_of_hold(1))


def only_another_hold_is_told(r: Records) -> None:
    r.trades[0].update(state="hold", evidence="{}")
    r.alarms.append(alarm_of_hold(2))


def fill_missed(r: Records) -> None:
    r.fills.clear()


def fill_invented(r: Records) -> None:
    r.fills.append(r.fills[0] | {"exec_id": "y.01"})


def fill_wrong(r: Records) -> None:
    r.fills[0]["quantity"] = "90"


def position_unlike_executions(r: Records) -> None:
    r.truth[-1]["quantity"] = "90"


def closed_while_held(r: Records) -> None:
    r.trades[0].update(state="closed", closed=1)


def exit_left_behind(r: Records) -> None:
    for trade in r.trades:
        trade.update(closed=1, state="closed")


def doubled(r: Records) -> None:
    second = "sx1:AAAAAAAAAAAAAAAAE2"
    r.orders.append({"order_ref": second, "trade_id": 1, "leg": "E", "state": "filled", "quantity": "100"})
    r.truth.append(order(4, second, "BUY"))


def unknown_order(r: Records) -> None:
    r.truth.append(order(4, "sx1:BBBBBBBBBBBBBBBBE1", "BUY"))


def position_unlike_trades(r: Records) -> None:
    r.trades.clear()


def more_entered_than_asked(r: Records) -> None:
    r.inbox[0]["quantity"] = "90"


def id_gone_back(r: Records) -> None:
    r.truth[2] = order(3, STOP, "SELL") | {"orderId": 0}


def take_profit(r: Records) -> None:
    """Not wrong: the take-profit filled, and all of it is written down."""
    fill = order(2, TARGET, "SELL") | {"event": "filled", "execId": "z.01", "price": "12"}
    gone, flat = order(3, STOP, "SELL") | {"event": "cancelled"}, {"event": "position", "conId": 5, "quantity": "0"}
    r.truth.extend([fill, gone, flat])
    row = {"exec_id": "z.01", "order_ref": TARGET, "trade_id": 1, "side": "sell", "quantity": "100", "price": "12"}
    r.fills.append(row)
    r.trades[0].update(state="closed", closed=1, tp_hit=1, exit_price=12)


def take_profit_not_noted(r: Records) -> None:
    take_profit(r)
    r.trades[0]["tp_hit"] = 0


def exit_unknown(r: Records) -> None:
    take_profit(r)
    r.trades[0]["exit_price"] = None


def entry_price_wrong(r: Records) -> None:
    r.trades[0]["entry_price"] = 10.1


def reduction(r: Records) -> None:
    """Not wrong: the exits shrink, the reduction goes out, fills, and all of it is written down."""
    r.truth.extend(
        order(n, ref, "SELL") | {"event": "modified", "quantity": "40"} for n, ref in ((2, TARGET), (3, STOP))
    )
    out = order(4, REDUCTION, "SELL") | {"quantity": "60"}
    r.truth.extend([out, out | {"event": "filled", "execId": "r.01", "price": "11"}, {**r.truth[4], "quantity": "40"}])
    r.orders.append({"order_ref": REDUCTION, "trade_id": 1, "leg": "X", "state": "filled", "quantity": "60"})
    row = {"exec_id": "r.01", "order_ref": REDUCTION, "trade_id": 1, "side": "sell", "quantity": "60", "price": "11"}
    r.fills.append(row)


def reduction_before_its_exits(r: Records) -> None:
    reduction(r)
    r.truth.insert(5, r.truth.pop(7))


def reduction_of_another_size(r: Records) -> None:
    reduction(r)
    r.orders[-1]["quantity"] = "50"


def reduction_modified(r: Records) -> None:
    reduction(r)
    r.truth.insert(8, r.truth[7] | {"event": "modified", "quantity": "50"})


PLANTED: list[tuple[Callable[[Records], None], str]] = [
    (reduction_before_its_exits, "exits_shrink_first"), (reduction_of_another_size, "sized_as_committed"),
    (reduction_modified, "sized_as_committed"),
    (accepted_again, "once_accepted"), (id_used_again, "once_accepted"),
    (signal_lost, "every_signal_has_its_outcome"), (signal_stuck, "every_signal_has_its_outcome"),
    (silent_hold, "every_signal_has_its_outcome"), (hold_without_evidence, "every_signal_has_its_outcome"),
    (only_another_hold_is_told, "every_signal_has_its_outcome"),
    (stop_gone, "protected"), (stop_too_small, "protected"),
    (stop_too_small_and_another_thing_told, "protected"), (stop_on_the_wrong_side, "protected"),
    (fill_missed, "same_fills"), (fill_invented, "same_fills"), (fill_wrong, "same_fills"),
    (position_unlike_executions, "same_position"), (closed_while_held, "same_position"),
    (position_unlike_trades, "same_position"), (exit_left_behind, "nothing_left_behind"), (doubled, "entered_once"),
    (more_entered_than_asked, "entered_once"), (unknown_order, "entered_once"), (id_gone_back, "ids_rise"),
    (take_profit_not_noted, "told_as_it_was"), (exit_unknown, "told_as_it_was"), (entry_price_wrong, "told_as_it_was"),
]  # fmt: skip


# ---- the relay's part ----


def heard(*, more: tuple[tuple[str, ...], ...] = ()) -> relay_run.Heard:
    """What is heard when two signals of one sender come through, the first answer sent again; then more."""
    return [
        ("answered", "0-0", "A", "queued"), ("answered", "0-0", "A", "duplicate"), ("answered", "0-1", "B", "queued"),
        ("delivered", "0-0", "A"), ("delivered", "0-1", "B"), ("acked", "A"), ("acked", "B"), *more,
    ]  # fmt: skip


PLANTED_AT_THE_RELAY: list[tuple[tuple[tuple[str, ...], ...], str]] = [
    ((("answered", "0-2", "C", "queued"),), "nothing_lost"),
    ((("delivered", "0-1", "B"),), "nothing_after_its_ack"),
    ((("answered", "0-1", "B", "queued"),), "one_signal_a_key"),
    ((("delivered", "0-1", "C"),), "one_signal_a_key"),
    ((("delivered", "0-3", "D"), ("delivered", "0-2", "C")), "in_order"),
]


# ---- what is caught ----


def uncaught() -> Iterator[str]:
    """Name every planted violation that is not found by its rule, every clean record that is faulted, every rule untried."""
    closed, reduced = clean(), clean()
    take_profit(closed)
    reduction(reduced)
    if any(violations(records, signals=1) for records in (clean(), closed, reduced)) or relay_run.violations(heard()):
        yield "a clean record is faulted"
    for plant, rule in PLANTED:
        records = deepcopy(clean())
        plant(records)
        if not any(text.startswith(f"{rule}: ") for text in violations(records, signals=1)):
            yield f"{plant.__name__} is not found by {rule}"
    for more, rule in PLANTED_AT_THE_RELAY:
        if not any(text.startswith(f"{rule}: ") for text in relay_run.violations(heard(more=more))):
            yield f"{more} is not found by {rule}"
    tried = {rule for _, rule in (*PLANTED, *PLANTED_AT_THE_RELAY)}
    yield from (
        f"no violation of {r.__name__} is planted" for r in (*RULES, *relay_run.RULES) if r.__name__ not in tried
    )
