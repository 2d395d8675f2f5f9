"""`make demo`: a short demo in which prices move, played while `make run` is running.

It posts signals to the relay like any sender, moves the paper market through its control port, and reads what
became of it from the status page. It ends with the journal's rows, and leaves no trade open.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import requests
from rich.console import Console
from rich.table import Table

from deploy.local import HOST, ROOT, RunError, answers, secrets_of
from executor.paper.control import ControlClient, ControlError

SYMBOL, SIZE = "GBPUSD", 20000
PIP = Decimal("0.0001")
COLUMNS = ("id", "signal", "position_size", "entry_price", "exit_price", "tp_price", "sl_price", "tp_hit", "closed")
WAIT_SECONDS = 20.0


class Stage:
    """The running system, as the demo needs it."""

    def __init__(self, state: dict[str, Any], secret: str, console: Console) -> None:
        self.relay, self.page = f"http://{HOST}:{state['relay']}", f"http://{HOST}:{state['page']}"
        self.journal, self.secret, self.console = Path(state["journal"]), secret, console
        self.control = ControlClient(state["control"])
        self.http = requests.Session()
        self.http.trust_env = False

    def say(self, text: str) -> None:
        """Print text for the reader."""
        self.console.print(text)

    def signal(self, action: str, **fields: object) -> dict[str, Any]:
        """Post one signal and return its row on the page once it is decided."""
        body = {"secret": self.secret, "action": action, "symbol": SYMBOL, "id": f"demo {time.time_ns()}", **fields}
        shown = {name: value for name, value in body.items() if name not in ("secret", "id")}
        self.say(f"  [dim]→ {json.dumps(shown, default=str)}[/dim]")
        answer = self.http.post(f"{self.relay}/webhook", json=body, timeout=5)
        if answer.status_code != 202:
            raise RunError(f"the relay answered {answer.status_code}: {answer.text[:300]}")
        number = answer.json()["id"]
        verdict: dict[str, Any] = self.wait("the signal's verdict", lambda: self._decided(number))
        return verdict

    def _decided(self, number: str) -> dict[str, Any] | None:
        found = [row for row in self.status()["signals"] if row["signal_id"] == number and row["outcome"]]
        return found[0] if found else None

    def status(self) -> dict[str, Any]:
        """Return what the page shows."""
        answer = self.http.get(f"{self.page}/api/status", timeout=5)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def trade(self) -> dict[str, Any] | None:
        """Return the open trade of the story's symbol."""
        return next((trade for trade in self.status()["open_trades"] if trade["symbol"] == SYMBOL), None)

    def wait_open(self, side: str) -> dict[str, Any]:
        """Wait until a trade of this side holds its whole size, with its exits working."""
        trade: dict[str, Any] = self.wait(f"a {side} trade in {SYMBOL}", lambda: _whole(self.trade(), side))
        return trade

    def wait_flat(self) -> None:
        """Wait until no trade of the symbol is open."""
        self.wait(f"no trade in {SYMBOL}", lambda: self.trade() is None)

    def wait(self, what: str, condition: Callable[[], Any]) -> Any:
        """Ask until the answer is true and return it.

        Raises:
            RunError: It did not come true in time.
        """
        deadline = time.monotonic() + WAIT_SECONDS
        while not (answer := condition()):
            if time.monotonic() > deadline:
                raise RunError(f"waited {WAIT_SECONDS:.0f} s in vain for {what}; see {self.page}/")
            time.sleep(0.05)
        return answer

    def price(self) -> Decimal:
        """Return the middle of the market."""
        return self.control.price(SYMBOL)

    def move(self, target: Decimal) -> None:
        """Walk the market to the target in steps that one can watch."""
        start = self.price()
        for step in range(1, 11):
            self.control.set_price(SYMBOL, _round(start + (target - start) * step / 10))
            time.sleep(0.15)


def _round(price: Decimal) -> Decimal:
    return price.quantize(PIP / 2)


def _whole(trade: dict[str, Any] | None, side: str) -> dict[str, Any] | None:
    if trade is None or trade["side"] != side or trade["state"] != "open" or Decimal(trade["held"]) != SIZE:
        return None
    exits = [order for order in trade["orders"] if order["leg"] in ("T", "S") and order["state"] == "working"]
    return trade if len(exits) == 2 else None


def bracket(side: str, price: Decimal) -> dict[str, object]:
    """Return an open signal's fields with exits 40 pips on either side of the price."""
    up, down = _round(price + 40 * PIP), _round(price - 40 * PIP)
    tp, sl = (up, down) if side == "buy" else (down, up)
    return {"side": side, "quantity": SIZE, "tp": str(tp), "sl": str(sl)}


# --- the story --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scene:
    """One scene, and what to watch on the page."""

    title: str
    play: Callable[[Stage], str]


def enter(stage: Stage) -> str:
    stage.signal("open", **bracket("buy", stage.price()))
    trade = stage.wait_open("buy")
    return (
        f"Positions at the broker: {SIZE} {SYMBOL} at {trade['entry_price']}, take-profit {trade['tp_price']},"
        f" stop-loss {trade['sl_price']}."
    )


def same_side(stage: Stage) -> str:
    return _verdict(stage.signal("open", **bracket("buy", stage.price())))


def take_profit(stage: Stage) -> str:
    trade = stage.wait_open("buy")
    stage.move(Decimal(trade["tp_price"]) + 3 * PIP)
    stage.wait_flat()
    return "Watch the unrealised result grow, then the take-profit fill. The stop-loss was cancelled with it."


def blocked(stage: Stage) -> str:
    return _verdict(stage.signal("open", **bracket("buy", stage.price())))


def opposite(stage: Stage) -> str:
    stage.signal("open", **bracket("sell", stage.price()))
    stage.wait_open("sell")
    return "A short trade, with its exits reversed. Its first fill released the block."


def reverse(stage: Stage) -> str:
    stage.signal("open", **bracket("buy", stage.price()))
    stage.wait_open("buy")
    return "Two rows: the short trade closed (its exits cancelled first), then a long one opened."


def close(stage: Stage) -> str:
    stage.signal("close")
    stage.wait_flat()
    return "No position and no order is left behind."


def _verdict(signal: dict[str, Any]) -> str:
    return f"Signals: [bold]{signal['outcome']}[/bold]: {signal['reason']}."


STORY = (
    Scene("An entry with take-profit and stop-loss", enter),
    Scene("The same side again", same_side),
    Scene("The price rises to the take-profit", take_profit),
    Scene("The same side, right after a take-profit", blocked),
    Scene("The opposite side", opposite),
    Scene("The opposite side once more: a reversal", reverse),
    Scene("A close", close),
)


def tell(stage: Stage) -> None:
    """Play every scene, from a flat symbol without a block."""
    stage.signal("close")
    stage.wait_flat()
    stage.signal("reset")
    for number, scene in enumerate(STORY, 1):
        stage.say(f"\n[bold]{number}. {scene.title}[/bold]")
        stage.say(f"  {scene.play(stage)}")


def rows_since(journal: Path, last: int) -> list[tuple[Any, ...]]:
    """Return the journal's trades of the story's symbol after the id `last`."""
    with closing(sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True)) as db:
        sql = f"SELECT {', '.join(COLUMNS)} FROM trades WHERE symbol = ? AND id > ? ORDER BY id"  # noqa: S608 - ours
        return db.execute(sql, (SYMBOL, last)).fetchall()


def last_row(journal: Path) -> int:
    """Return the highest id in the journal's trades."""
    with closing(sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT coalesce(max(id), 0) FROM trades").fetchone()[0])


def table(rows: list[tuple[Any, ...]]) -> Table:
    """Return the rows as they are shown."""
    shown = Table(*COLUMNS, title=f"The journal's rows: trades in {SYMBOL}")
    for row in rows:
        shown.add_row(*("" if value is None else str(value) for value in row))
    return shown


def running() -> dict[str, Any]:
    """Return what `make run` recorded about itself.

    Raises:
        RunError: None is running from this folder.
    """
    try:
        state: dict[str, Any] = json.loads((ROOT / ".run" / "state.json").read_text("utf-8"))
    except OSError:  # it is written when all run, and removed at the end
        state = {}
    if not state or not answers(f"http://{HOST}:{state['page']}/healthz"):
        raise RunError("nothing is running here: start `make run` in another terminal first")
    return state


def main() -> None:
    """Play the demo; exit 1 with one line if something is wrong."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        secret = secrets_of(ROOT / ".env")["RELAY_WEBHOOK_SECRETS"].split(",")[0].strip()
        stage = Stage(running(), secret, console)
        stage.say(f"Keep {stage.page}/ open.")
        before = last_row(stage.journal)
        tell(stage)
        console.print()
        console.print(table(rows_since(stage.journal, before)))
    except (RunError, ControlError, requests.RequestException, sqlite3.Error) as exc:
        sys.exit(f"make demo: {exc}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
