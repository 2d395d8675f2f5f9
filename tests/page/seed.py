"""A journal as a busy morning leaves it, made from schema.sql; for tests and for the pictures in the docs.

`python tests/page/seed.py FILE PORT` writes one and serves its page, to look at.
"""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from common.clock import utc_text

# The rows of tables, each on a line where it fits.
# fmt: off
SCHEMA = Path(__file__).parents[2] / "executor" / "journal" / "schema.sql"
NOW = datetime(2026, 11, 23, 14, 32, 8, 250_000, tzinfo=UTC)
ACCOUNT = "DU1234567"
EURUSD, USDJPY, AAPL, GBPUSD, MSFT, NVDA = 12087792, 15016059, 265598, 12087797, 272093, 4815747
BLOCKED = (
    "re-entry blocked: the last buy trade in GBPUSD took profit;"
    " an opposite trade, a reset signal or the button on the page releases it"
)
HOSTILE = "<script>alert(1)</script>"


class Seed:
    """Writes rows; every instant is given in seconds before `now`."""

    def __init__(self, path: Path, now: datetime = NOW) -> None:
        self.now = now
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = OFF")
        if not self.db.execute("SELECT 1 FROM sqlite_master").fetchone():
            self.db.executescript(SCHEMA.read_text(encoding="utf-8"))
        self.fills = 0
        self.later: list[tuple[float, str, dict[str, Any]]] = []

    def ago(self, seconds: float | None) -> str | None:
        return None if seconds is None else utc_text(self.now - timedelta(seconds=seconds))

    def row(self, table: str, **values: Any) -> int:
        marks = ", ".join("?" * len(values))
        sql = f"INSERT OR REPLACE INTO {table} ({', '.join(values)}) VALUES ({marks})"
        return self.db.execute(sql, tuple(values.values())).lastrowid or 0

    def live(self, key: str, value: object, ago: float = 0.4) -> None:
        self.row("live", key=key, value=json.dumps(value), at=self.ago(ago))

    def trade(self, symbol: str, con_id: int, side: str, size: str, received: float, **more: Any) -> int:
        """Write a trade that was received so many seconds ago, ordered 7 ms and filled 48 ms after that."""
        values = {
            "timestamp": self.ago(received - 0.004), "symbol": symbol, "signal": side, "position_size": size,
            "state": "open", "signal_id": f"01SEED{received:.3f}", "account": ACCOUNT, "con_id": con_id, "asked": size,
            "received_at": self.ago(received), "valid_until": self.ago(received - 90),
            "sent_at": self.ago(received - 0.0071), "filled_at": self.ago(received - 0.0553),
        } | more
        return self.row("trades", **values)

    def order(self, trade: int, leg: str, side: str, quantity: str, state: str, price: str | None = None,
              attempt: int = 1, **more: Any) -> None:
        filled = quantity if state == "filled" else "0"
        kind = {"E": "MKT", "T": "LMT", "S": "STP", "R": "STP", "C": "MKT"}[leg]
        ref = f"sx1:{trade:016d}{leg}{attempt}"
        self.row("orders", order_ref=ref, trade_id=trade, leg=leg, attempt=attempt, account=ACCOUNT,
                 con_id=0, side=side, kind=kind, quantity=quantity, state=state, **{"filled": filled,
                     "price": price} | more)

    def fill(self, trade: int, leg: str, side: str, quantity: str, price: str, ago: float,
             commission: str | None) -> None:
        self.fills += 1
        self.row("fills", exec_root=f"0000e0d5.{self.fills:08x}.01", exec_id=f"0000e0d5.{self.fills:08x}.01.01",
                 order_ref=f"sx1:{trade:016d}{leg}1", trade_id=trade, account=ACCOUNT, con_id=0, side=side,
                 quantity=quantity, price=price, at=self.ago(ago), commission=commission)

    def signal(self, symbol: str, received: float, action: str = "open", **more: Any) -> None:
        values = {"signal_id": f"01SIGNAL{received:.3f}", "payload": "{}", "received_at": self.ago(received),
                  "arrived_at": self.ago(received - 0.003), "action": action, "symbol": symbol, "state": "done",
                  "decided_at": self.ago(received - 0.005)} | more
        self.later.append((received, "inbox", values))

    def event(self, ago: float, symbol: str, kind: str, details: str, trade: int | None = None) -> None:
        values = {"at": self.ago(ago), "kind": kind, "symbol": symbol, "trade_id": trade, "details": details}
        self.later.append((ago, "events", values))

    def write(self) -> None:
        """Write the signals and events that were told so far, in the order of time."""
        for _, table, values in sorted(self.later, key=lambda one: -one[0]):
            self.row(table, **values)
        self.later.clear()

    def alarm(self, kind: str, level: str, text: str, ago: float, symbol: str = "",
              trade: int | None = None) -> int:
        return self.row("alarms", key=f"{kind}:{trade or ''}", kind=kind, level=level, symbol=symbol, text=text,
                        trade_id=trade, raised_at=self.ago(ago), told_at=self.ago(ago - 1))


def connected(seed: Seed) -> None:
    """The executor reports: connected to the paper account, as it does once a second."""
    seed.live("connection", {"status": "connected", "text": "TWS at 127.0.0.1:7497", "account": ACCOUNT,
              "mode": "ready",
                             "since": utc_text(seed.now - timedelta(hours=6, minutes=1))})
    seed.live("account", {"NetLiquidation": "1004217.36", "TotalCashValue": "978420.11", "BuyingPower": "3913680.44",
                          "UnrealizedPnL": "195.92", "RealizedPnL": "-41.85", "GrossPositionValue": "25797.25",
                          "AvailableFunds": "996106.90", "MaintMarginReq": "8110.46", "Cushion": "0.9919",
                              "Currency": "USD"})


def position(symbol: str, con_id: int, quantity: str, cost: str, market: str, unrealized: str) -> dict[str, Any]:
    return {"symbol": symbol, "con_id": con_id, "account": ACCOUNT, "position": quantity, "avgCost": cost,
            "market_price": market, "unrealized": unrealized, "currency": "JPY" if symbol.endswith("JPY") else "USD"}


def open_eurusd(seed: Seed, received: float = 1520) -> int:
    """A bracket that stands: entry filled, both exits working."""
    trade = seed.trade("EURUSD", EURUSD, "buy", "10000", received, entry_price="1.18912", tp_price="1.2",
                       sl_price="1.18",
                       stop_wanted=1)
    seed.order(trade, "E", "buy", "10000", "filled")
    seed.order(trade, "T", "sell", "10000", "working", "1.2")
    seed.order(trade, "S", "sell", "10000", "working", "1.18")
    seed.fill(trade, "E", "buy", "10000", "1.18912", received - 0.055, "2.0")
    seed.signal("EURUSD", received, side="buy", quantity="10000", tp="1.20", sl="1.18", outcome="entered",
                trade_id=trade,
                reason="buy 10000 EURUSD: all rules allow it", note="London breakout, 5 min")
    return trade


def closed_trade(seed: Seed, symbol: str, con_id: int, side: str, size: str, prices: tuple[str, str], received: float,
                 closed: float, **more: Any) -> int:
    """A round trip that ended so many seconds ago."""
    entry, exit_ = prices
    trade = seed.trade(symbol, con_id, side, size, received, entry_price=entry, exit_price=exit_,
                       state="closed", closed=1,
                       closed_at=seed.ago(closed), **more)
    back = "sell" if side == "buy" else "buy"
    leg = {"take-profit": "T", "stop-loss": "S"}.get(more.get("exit_reason", ""), "C")
    seed.order(trade, "E", side, size, "filled")
    seed.order(trade, leg, back, size, "filled")
    seed.fill(trade, "E", side, size, entry, received, "1.0")
    seed.fill(trade, leg, back, size, exit_, closed, "1.0")
    return trade


def morning(path: Path, now: datetime = NOW, troubled: bool = True) -> None:
    """Write a morning: bracket, reversal, block, every verdict; a troubled one has hold, alarms, hostile text too."""
    seed = Seed(path, now)
    connected(seed)
    _earlier(seed)
    euro = open_eurusd(seed)
    _euro_log(seed, euro)
    _reversed_yen(seed)
    if troubled:
        _held_apple(seed)
        _hostile(seed)
    else:
        _quiet_apple(seed)
    seed.live("contracts", {name: {"multiplier": "1", "currency": "USD"} for name in ("AAPL", "MSFT", "NVDA")})
    seed.live("positions", [
        position("EURUSD", EURUSD, "10000", "1.18912", "1.19243", "33.10"),
        position("USDJPY", USDJPY, "-25000", "154.218", "154.102", "2900.00"),
        position("AAPL", AAPL, "40", "231.4125", "234.19", "111.10"),
        position("MSFT", MSFT, "15", "418.2", "421.04", "42.60"),
        position("NVDA", NVDA, "8", "140.31", "139.10", "-9.68"),
    ])
    seed.row("ignored_holdings", account=ACCOUNT, con_id=MSFT, symbol="MSFT", quantity="15", chosen_at=seed.ago(90000))
    seed.row("blocks", account=ACCOUNT, con_id=GBPUSD, symbol="GBPUSD", side="buy", since=seed.ago(3980),
             reason="the last trade took profit")
    seed.write()
    seed.db.close()


def _earlier(seed: Seed) -> None:
    closed_trade(seed, "NVDA", NVDA, "buy", "20", ("139.42", "137.9"), 17200, 15800, exit_reason="stop-loss",
                 stop_wanted=1)
    seed.signal("NVDA", 17200, side="buy", quantity="20", sl="137.90", outcome="entered",
                reason="buy 20 NVDA: all rules allow it", trade_id=1)
    seed.event(15800.1, "NVDA", "stop-loss filled", "sell 20 NVDA at 137.9", 1)
    seed.event(15800, "NVDA", "closed", "NVDA buy 20 closed at 137.9 by stop-loss: -30.40 USD before commissions", 1)
    trade = closed_trade(seed, "GBPUSD", GBPUSD, "buy", "15000", ("1.26114", "1.26402"), 6400, 3980,
                         exit_reason="take-profit",
                         tp_hit=1, stop_wanted=1)
    seed.signal("GBPUSD", 6400, side="buy", quantity="15000", tp="1.264", outcome="entered",
                reason="buy 15000 GBPUSD: all rules allow it", trade_id=trade)
    seed.event(3980.2, "GBPUSD", "take-profit filled", "sell 15000 GBPUSD at 1.26402", trade)
    seed.event(3980.1, "GBPUSD", "closed",
               "GBPUSD buy 15000 closed at 1.26402 by take-profit: +43.20 USD before commissions", trade)
    seed.event(3980, "GBPUSD", "block set", "no new buy in GBPUSD: the last trade took profit", trade)
    seed.signal("GBPUSD", 2890, side="buy", quantity="15000", tp="1.27", outcome="refused",
                reason=BLOCKED)
    seed.event(2890, "GBPUSD", "refused", BLOCKED)
    seed.trade("AMD", 4391, "buy", "12", 12600, state="void", closed=1, closed_at=seed.ago(12510), filled_at=None,
               exit_reason=None, position_size="12")
    seed.signal("AMD", 12600, side="buy", quantity="12", outcome="expired",
                reason="the market was closed; the entry was cancelled after 90 s")


def _euro_log(seed: Seed, trade: int) -> None:
    seed.event(1519.996, "EURUSD", "signal", "open buy 10000 EURUSD take-profit 1.2 stop-loss 1.18", trade)
    seed.event(1519.993, "EURUSD", "entry sent", "buy 10000 EURUSD at market, take-profit 1.2, stop-loss 1.18", trade)
    seed.event(1519.945, "EURUSD", "entry filled", "buy 10000 EURUSD at 1.18912", trade)
    seed.event(1519.94, "EURUSD", "opened", "buy 10000 EURUSD at 1.18912", trade)
    seed.signal("EURUSD", 610, side="buy", quantity="10000", outcome="ignored",
                reason="a buy trade in EURUSD is already open (since 14:06 UTC)")
    seed.event(610, "EURUSD", "ignored", "a buy trade in EURUSD is already open (since 14:06 UTC)")


def _reversed_yen(seed: Seed) -> None:
    old = closed_trade(seed, "USDJPY", USDJPY, "buy", "25000", ("154.301", "154.219"), 5200, 931,
                       exit_reason="reversal", stop_wanted=1)
    new = seed.trade("USDJPY", USDJPY, "sell", "25000", 932, entry_price="154.218", sl_price="154.9",
                     tp_price="153.4", stop_wanted=1,
                     sent_at=seed.ago(931.62), filled_at=seed.ago(931.57))
    seed.order(new, "E", "sell", "25000", "filled")
    seed.order(new, "T", "buy", "25000", "working", "153.4")
    seed.order(new, "S", "buy", "25000", "working", "154.9")
    seed.fill(new, "E", "sell", "25000", "154.218", 931, "2.0")
    seed.signal("USDJPY", 932, side="sell", quantity="25000", tp="153.40", sl="154.90", outcome="entered", trade_id=new,
                reason="sell 25000 USDJPY: all rules allow it")
    seed.event(931.9, "USDJPY", "close requested", "reversal", old)
    seed.event(931.7, "USDJPY", "closed", "USDJPY buy 25000 closed at 154.219 by a reversal: -2050.00 JPY before commissions", old)
    seed.event(931.57, "USDJPY", "entry filled", "sell 25000 USDJPY at 154.218", new)


def _held_apple(seed: Seed) -> None:
    evidence = {"what": "the close order was sent and TWS was lost before it answered",
        "journal": "long 40, close of 40 sent",
                "broker": {"position": "40", "open orders": [],
                    "executions today": ["bought 40 at 231.41, 14:19:22 UTC"]},
                "looked": "twice, 3 s apart, every part to its end"}
    trade = seed.trade("AAPL", AAPL, "buy", "40", 770, entry_price="231.4125", stop_wanted=1, state="hold",
                       hold_reason="The close order's fate is not known: it is neither open nor executed, "
                                   "and the position stands.",
                       evidence=json.dumps(evidence), unprotected_at=seed.ago(71))
    seed.order(trade, "E", "buy", "40", "filled")
    seed.order(trade, "S", "sell", "40", "cancelled", "228")
    seed.order(trade, "C", "sell", "40", "sending")
    seed.fill(trade, "E", "buy", "40", "231.4125", 769, "1.0")
    seed.signal("AAPL", 770, side="buy", quantity="40", sl="228", outcome="entered",
                reason="buy 40 AAPL: all rules allow it", trade_id=trade)
    seed.signal("AAPL", 82, action="close", state="closing",
                reason="AAPL is on hold: the close waits for your choice on the page", trade_id=trade)
    seed.event(80.9, "AAPL", "close sent", "sell 40 AAPL at market", trade)
    seed.event(70.2, "AAPL", "hold", "the close order's fate is not known; your choice is on this page", trade)
    seed.alarm("hold", "page",
               "the trade waits for your choice on this page: the close order's fate is not known", 70, "AAPL", trade)
    seed.alarm("unprotected", "page", "40 shares have no working stop-loss since 14:30:57 UTC", 61, "AAPL", trade)
    seed.alarm("clock", "warn",
               "this machine's clock is 3.1 s behind the relay's: set it, entries are refused above 30 s", 400)


def _quiet_apple(seed: Seed) -> None:
    """A trade whose first target has filled, so that its stops are at the entry price; the rest runs."""
    trade = seed.trade("AAPL", AAPL, "buy", "80", 770, entry_price="231.4125", stop_wanted=1, sl_price="231.42",
                       tp_price="238", signal_id="01APPLE")
    seed.order(trade, "E", "buy", "80", "filled")
    seed.order(trade, "T", "sell", "40", "filled", "234", pair=1, percent="50")
    seed.order(trade, "S", "sell", "40", "cancelled", "228", pair=1, percent="50")
    seed.order(trade, "T", "sell", "24", "working", "238", 2, pair=2, percent="30")
    seed.order(trade, "S", "sell", "24", "working", "231.42", 2, pair=2, percent="30")
    seed.order(trade, "S", "sell", "16", "working", "231.42", 3)
    seed.fill(trade, "E", "buy", "80", "231.4125", 769, "1.0")
    seed.fill(trade, "T", "sell", "40", "234", 240, "1.0")
    seed.signal("AAPL", 770, side="buy", quantity="80", sl="228", outcome="entered", trade_id=trade, signal_id="01APPLE",
                strategy_name="Opening range", reason="buy 80 AAPL: all rules allow it")
    seed.event(769.95, "AAPL", "entry filled", "buy 80 AAPL at 231.4125", trade)
    seed.event(240, "AAPL", "take-profit filled", "sell 40 AAPL at 234", trade)
    seed.event(239.99, "AAPL", "exit set", "stop-loss from 228 to 231.42 (the entry at 231.4125)", trade)


def _hostile(seed: Seed) -> None:
    seed.signal(HOSTILE, 130, side="buy", quantity="1", outcome="refused",
                note=f"\"'>{HOSTILE}<img src=x onerror=alert(1)>",
                reason=f"{HOSTILE} is no symbol that is known here; say what it is in executor.toml, [contracts], "
                       "with its type, exchange and currency. " + "A long reason has to be read whole. " * 3)
    seed.event(130, HOSTILE, "refused", f"unknown symbol {HOSTILE}")


def _main() -> None:
    import sys

    from common.clock import SystemClock
    from executor.status import PageSettings, create_app, serve

    path, port = Path(sys.argv[1]), int(sys.argv[2])
    for old in path.parent.glob(path.name + "*"):
        old.unlink()
    morning(path, SystemClock().now())
    server = serve(create_app(path, lambda command: f"done: {command.kind}", PageSettings()),
        "127.0.0.1", port)
    print(f"http://127.0.0.1:{server.port}/")
    input()


if __name__ == "__main__":
    _main()
