"""Where the stop of a TRAIL is: it follows the market in the order's favour, and never goes back. Pure.

Source: TWS API, Trailing Stop: the stop of an order that sells lies a fixed amount, or a share of the price, below the
market; it rises with the market and stays when the market falls. TWS Users' Guide, Trailing Stop Limit: a first stop that
is nearer to the market than that stays until the market has caught up. How a percentage is rounded is not said; here
away from the market, so that no order triggers sooner than was asked for.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from executor.paper.contracts import Instrument
from executor.paper.orders import OrderForm

HUNDRED = Decimal(100)


def level(form: OrderForm, one: Instrument, price: Decimal) -> Decimal:
    """Return the stop that lies the trailing distance away from a price, on the tick, and at least one tick above 0.

    >>> from executor.paper.contracts import BUILT_IN
    >>> aapl = next(one for one in BUILT_IN if one.symbol == "AAPL")
    >>> level(OrderForm("SELL", Decimal(1), "TRAIL", trail_percent=Decimal("1.5")), aapl, Decimal("263.5"))
    Decimal('259.54')
    >>> level(OrderForm("BUY", Decimal(1), "TRAIL", aux_price=Decimal(2)), aapl, Decimal("263.5"))
    Decimal('265.5')
    """
    distance = price * form.trail_percent / HUNDRED if form.trail_percent else form.aux_price or Decimal(0)
    raw = price + form.sign * distance
    tick = one.tick(max(raw, Decimal(0)))
    steps = (raw / tick).to_integral_value(ROUND_CEILING if form.sign > 0 else ROUND_FLOOR)
    return max(steps * tick, tick)


def follow(form: OrderForm, one: Instrument, stop: Decimal | None, price: Decimal) -> Decimal:
    """Return the better of a stop and the one that the market gives now."""
    found = level(form, one, price)
    if stop is None:
        return found
    return min(stop, found) if form.sign > 0 else max(stop, found)
