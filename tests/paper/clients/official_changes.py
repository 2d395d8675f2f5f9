"""Changes and their faults as the official client sees them: `official_changes.py PORT CONTROL`; prints what happened as JSON."""

import json

from official_app import APPLE, App, order, say


def limit(price=200, size=10, **fields):
    return order("BUY", "LMT", lmtPrice=price, totalQuantity=size, orderRef="L", **fields)


def stop(price=250, size=10, **fields):
    return order("SELL", "STP", auxPrice=price, totalQuantity=size, orderRef="S", **fields)


app = App()
codes = []


def change(order_id, form, *expected):
    """Send an order again and return once it was answered like this."""
    app.mark()
    app.placeOrder(order_id, APPLE, form)
    found = app.wait(*expected)
    codes.append(found[2]) if found[0] == "error" else None


one, two, three = app.first, app.first + 1, app.first + 2
say(do="set_price", symbol="AAPL", price="263.5")
change(one, limit(), "status", one, "Submitted")
change(one, limit(201), "openOrder", one, 201.0, 10.0)
change(one, limit(201, 4), "openOrder", one, 201.0, 4.0)
change(one, limit(199, 12), "openOrder", one, 199.0, 12.0)
change(one, limit(199, 12, tif="FOK"), "error", one, 462)
change(one, limit(199, 12, ocaGroup="g"), "error", one, 10326)
change(one, limit(199, 12, ocaType=1), "error", one, 10327)
say(do="reject_modify")
change(one, limit(198), "error", one, 201)
app.wait("openOrder", one, 199.0, 12.0)  # the terms that stand
for kind, other in (("openOrder", "status"), ("orderStatus", "openOrder")):
    say(do="modify_ack", kind=kind)
    change(one, limit(197), *(("openOrder", one, 197.0) if kind == "openOrder" else ("status", one)))
    app.reqCurrentTime()
    assert not app.since(other, one), app.heard
say(do="modify_delay", seconds=None)
app.mark()
app.placeOrder(one, APPLE, limit(150))
app.reqOpenOrders()
app.wait("openOrderEnd")
assert app.since("openOrder", one)[0][2] == 197, app.heard  # neither answered nor taken
change(two, stop(), "status", two, "PreSubmitted")
say(do="modify_race", quantity="4")
change(two, stop(245), "openOrder", two, 245.0)
app.wait("status", two, "PreSubmitted", 4.0)
change(two, stop(245, 3), "error", two, 201)  # below what is filled
say(do="set_price", symbol="AAPL", price="244")
app.wait("status", two, "Filled", 10.0)
change(two, stop(240), "error", two, 104)
change(three, order("SELL", "TRAIL", auxPrice=2), "openOrder", three, 242.0)
say(do="lose_at_reconnect", order_type="TRAIL")
app.leave()
again = App(4)  # another client's login takes nothing away
again.leave()
again = App()
again.mark()
again.reqAllOpenOrders()
again.wait("openOrderEnd")
print(json.dumps({
    "codes": codes, "left": sorted(found[1] - one for found in again.since("openOrder")),
    "lost": [entry["orderType"] for entry in say(do="truth") if entry["event"] == "lost"],
}))  # fmt: skip
again.disconnect()
