"""The executor as its own process, as it is but for shorter waits, and with one sabotage where one is asked for.

`python -m tests.sessions.child NAME [FLAG …]`; NAME is `none`, or one of the sabotages.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from executor import __main__ as program
from executor.core import exits, life, planning, rules
from executor.core.orders import EXITS, Leg
from executor.core.trades import Event, State, Trade
from executor.desk import orders
from tests.crash.child import shorten_waits


def never_resized() -> None:
    """Leave the exits as large as they were when only part of the entry, or part of the trade, is left."""
    exits.amend_one = lambda trade, moment: None


def reduced_at_once() -> None:
    """Send a reduction first, and make the exits smaller when it has filled."""
    amend = exits.amend_one
    exits._all_have_size = lambda trade, moment: True
    exits.amend_one = lambda trade, moment: amend(trade, moment) if trade.reduction is None else None


def block_ignored() -> None:
    """Enter on a side that has just taken profit."""
    judged = rules._flat
    rules._flat = lambda signal, view: judged(signal, replace(view, block=None))


def never_resent() -> None:
    """Take what was written down as sent for sent, whatever the broker says."""
    orders.Orders.send_again = lambda *args: None  # type: ignore[method-assign]


def close_beside_exits() -> None:
    """Send the close while the exits still work, and cancel them when it has filled."""
    observed, closing = life.observed, planning._when_closing

    def cleared(trade: Trade) -> Event | None:
        bare = trade.state is State.CANCELLING and trade.entry_is_done and trade.held > 0
        return Event.CLEARED if bare else observed(trade)

    def beside(trade: Trade, moment: Any, policy: Any) -> Any:
        if trade.held <= 0 or any(order.leg is Leg.CLOSE for order in trade.orders):
            return closing(trade, moment, policy)
        return closing(replace(trade, orders=tuple(o for o in trade.orders if o.leg not in EXITS)), moment, policy)

    life.observed = cleared
    planning._PLANNERS[State.CLOSING] = beside


SABOTAGES: dict[str, Callable[[], None]] = {
    each.__name__: each for each in (never_resized, reduced_at_once, block_ignored, never_resent, close_beside_exits)
}


def main(name: str, arguments: list[str]) -> None:
    """Be the executor."""
    shorten_waits()
    if name != "none":
        SABOTAGES[name]()
    program.main(arguments, prog_name="python -m executor")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
