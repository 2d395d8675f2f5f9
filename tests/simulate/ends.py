"""How a finished trade must stand in the journal: each is judged once, when all has come to rest, by the broker's log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

from common.clock import parse_utc
from tests.simulate.records import ZERO, BrokerSide, JournalSide, Row, leg_of

CENT = Decimal("0.000001")  # the journal's prices are numbers of at most ten decimals


@dataclass
class Ends:
    """Judges ends. `say` takes a rule and what is wrong; `doubtful` are the trades whose past was in doubt."""

    journal: JournalSide
    broker: BrokerSide
    say: Callable[[str, str], None]
    doubtful: set[int] = field(default_factory=set)  # the owner took them out of a hold, or adopted something into them
    _judged: set[int] = field(default_factory=set)

    def exits(self, trade: Row) -> list[Row]:
        """Return the executions that took a trade out, in the order in which they happened."""
        return sorted(self._executions(trade, "leg NOT IN ('E', 'A')"), key=lambda entry: (entry["at"], entry["n"]))

    def net(self, trade_id: int) -> Decimal:
        """Return what the executions of a trade's orders add up to, below zero for sales."""
        refs = self.journal.rows("SELECT order_ref FROM orders WHERE trade_id = ?", trade_id)
        return sum((self.broker.filled(row["order_ref"]) for row in refs), ZERO)

    def _executions(self, trade: Row, legs: str) -> list[Row]:
        refs = self.journal.rows(f"SELECT order_ref FROM orders WHERE trade_id = ? AND {legs}", trade["id"])
        return [entry for row in refs for entry in self.broker.of_ref.get(row["order_ref"], ())]

    def judge(self, trade: Row) -> None:
        """Say what is wrong with a trade that the journal calls finished."""
        if not trade["closed"] or trade["state"] == "hold" or trade["id"] in self._judged:
            return
        self._judged.add(trade["id"])
        self._reason(trade)
        if trade["id"] in self.doubtful:
            return
        net = self.net(trade["id"])
        if trade["state"] == "void":
            if net:
                self.say("fills", f"trade {trade['id']} is void, and {net} filled")
        elif trade["exit_reason"] != "unknown":
            self._priced(trade, "entry_price", self._executions(trade, "leg IN ('E', 'A')"))
            self._flat(trade, net)
            if not Decimal(trade["reduced"]):  # what the owner took out has a price too
                self._priced(trade, "exit_price", self._seen(trade, self.exits(trade)))

    def _reason(self, trade: Row) -> None:
        """The end is known unless a midnight hid it; a take-profit is one if the last execution was its."""
        exits = self.exits(trade)
        last_t = bool(exits) and leg_of(exits[-1]["orderRef"]) == "T"
        if trade["exit_reason"] == "unknown":
            if not self._was_hidden(trade):
                self.say("known-exit", f"trade {trade['id']} ended unknown, and no midnight hid its executions")
        elif bool(trade["tp_hit"]) is not last_t and not Decimal(trade["reduced"]) and trade["id"] not in self.doubtful:
            last = exits[-1]["orderRef"] if exits else "none"
            self.say("tp-hit", f"trade {trade['id']} has tp_hit {trade['tp_hit']}, its last exit is {last}")

    def _flat(self, trade: Row, net: Decimal) -> None:
        """What came in went out again: by its own orders, or by the owner's hand as the journal has it."""
        direction = 1 if trade["signal"] == "buy" else -1
        adopted = not self.journal.rows("SELECT 1 FROM orders WHERE trade_id = ? AND leg = 'E'", trade["id"])
        left = net * direction + (Decimal(trade["asked"]) if adopted else ZERO) - Decimal(trade["reduced"])
        if left and not self._was_hidden(trade):
            self.say("flat", f"trade {trade['id']} is closed, and {left} of it are left")

    def _priced(self, trade: Row, column: str, executions: list[Row]) -> None:
        """A price is the average over its executions, as far as none was corrected."""
        if not executions or any(not entry["execId"].endswith(".01") for entry in executions):
            return
        paid = [(Decimal(entry["quantity"]), Decimal(entry["price"])) for entry in executions]
        if column == "entry_price" and trade["adopted_price"] is not None:
            paid.append((Decimal(trade["asked"]), Decimal(trade["adopted_price"])))
        average = sum((size * price for size, price in paid), ZERO) / sum((size for size, _ in paid), ZERO)
        if trade[column] is None or abs(Decimal(str(trade[column])) - average) > CENT:
            word = column.replace("_", "-")
            self.say(word, f"trade {trade['id']} has {column} {trade[column]}, its executions average {average}")

    def _seen(self, trade: Row, executions: list[Row]) -> list[Row]:
        """Return the executions without those that a midnight took before the journal had them: they have no price there."""
        closed = parse_utc(trade["closed_at"])
        midnight = max((at for at in self.broker.midnights if at <= closed), default=None)
        known = {
            row["exec_id"] for row in self.journal.rows("SELECT exec_id FROM fills WHERE trade_id = ?", trade["id"])
        }
        return [e for e in executions if e["execId"] in known or midnight is None or parse_utc(e["at"]) > midnight]

    def _was_hidden(self, trade: Row) -> bool:
        first, closed = parse_utc(trade["timestamp"]), parse_utc(trade["closed_at"])
        traded = self.broker.by_hand.get(trade["con_id"])  # the owner's executions need not add up to what is gone
        if trade["id"] in self.doubtful or traded is not None and traded >= first:
            return True
        return any(first <= at <= closed for at in self.broker.midnights)
