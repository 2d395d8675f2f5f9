"""What a client has subscribed to, and the messages that follow from a move of prices or positions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from executor.paper import account_values, replies
from executor.paper.contracts import Instrument
from executor.paper.floor import Floor
from executor.paper.market import Quote
from executor.paper.replies import Message

ZERO = Decimal(0)
# tick type -> delayed tick type (source: TWS API, tick types)
DELAYED = {1: 66, 2: 67, 4: 68, 6: 72, 7: 73, 9: 75, 14: 76, 8: 74}


@dataclass(slots=True)
class Feeds:
    """One client's subscriptions. `quotes`: reqId -> (instrument, last quote sent)."""

    floor: Floor
    positions: bool = False
    positions_multi: dict[int, str] = field(default_factory=dict)  # reqId -> account
    updates: str = ""  # the account of reqAccountUpdates
    updates_multi: dict[int, str] = field(default_factory=dict)
    summaries: dict[int, tuple[str, str]] = field(default_factory=dict)  # reqId -> (group, tags)
    pnls: dict[int, str] = field(default_factory=dict)
    singles: dict[int, tuple[str, int]] = field(default_factory=dict)  # reqId -> (account, conId)
    quotes: dict[int, tuple[Instrument, Quote | None]] = field(default_factory=dict)
    groups: dict[int, int] = field(default_factory=dict)  # reqId -> display group
    sent: dict[tuple[int, str, str, str], str] = field(default_factory=dict)  # values as last sent
    data_type: int = 1
    delayed: bool = False

    # -- accounts ---------------------------------------------------------------------------------------------

    def all_positions(self) -> Iterator[Message]:
        books = self.floor.shown_books
        for account in books.accounts:
            for one, position in books.open_positions(account):
                yield replies.position(account, one, position.quantity, position.average)

    def account_download(self, account: str) -> Iterator[Message]:
        books = self.floor.shown_books
        for tag, value, currency in account_values.values(books, account):
            self.sent[0, account, tag, currency] = value
            yield replies.account_value(tag, value, currency, account)
        for one, _ in books.open_positions(account):
            yield self._portfolio(account, one)
        yield replies.account_time(f"{self.floor.now:%H:%M}")
        yield replies.account_end(account)

    def multi_download(self, req_id: int, account: str) -> Iterator[Message]:
        for tag, value, currency in account_values.values(self.floor.shown_books, account):
            self.sent[req_id, account, tag, currency] = value
            yield replies.account_update_multi(req_id, account, tag, value, currency)
        yield replies.account_update_multi_end(req_id)

    def summary(self, req_id: int) -> Iterator[Message]:
        _, tags = self.summaries[req_id]
        books = self.floor.shown_books
        for account in books.accounts:
            for tag, value, currency in account_values.summary(books, account, tags):
                self.sent[req_id, account, tag, currency] = value
                yield replies.account_summary(req_id, account, tag, value, currency)
        yield replies.account_summary_end(req_id)

    def _portfolio(self, account: str, one: Instrument) -> Message:
        price = self.floor.market.quote(one.con_id).middle
        numbers = account_values.portfolio_numbers(self.floor.shown_books, account, one, price)
        return replies.portfolio(one, account, numbers)

    def position_moved(self, account: str, con_id: int) -> Iterator[Message]:
        """Yield what a changed position means for the subscriptions."""
        one, position = self.floor.catalog[con_id], self.floor.shown_books.accounts[account].positions[con_id]
        if self.positions:
            yield replies.position(account, one, position.quantity, position.average)
        for req_id, wanted in self.positions_multi.items():
            if wanted in ("", account):
                yield replies.position_multi(req_id, account, one, position.quantity, position.average)
        if self.updates == account:
            yield self._portfolio(account, one)
        yield from self.values_moved()

    def values_moved(self) -> Iterator[Message]:
        """Yield the account values that are no longer what was sent, and the P&L."""
        books = self.floor.shown_books
        if self.updates:
            for tag, value, currency in self._changed(0, self.updates):
                yield replies.account_value(tag, value, currency, self.updates)
        for req_id, account in self.updates_multi.items():
            for tag, value, currency in self._changed(req_id, account):
                yield replies.account_update_multi(req_id, account, tag, value, currency)
        for req_id, account in self.pnls.items():
            yield replies.pnl(req_id, account_values.daily_pnl(books, account))
        for req_id, (account, con_id) in self.singles.items():
            yield replies.pnl_single(req_id, account_values.pnl_single(books, account, con_id))

    def portfolio_moved(self) -> Iterator[Message]:
        if self.updates:
            for one, _ in self.floor.shown_books.open_positions(self.updates):
                yield self._portfolio(self.updates, one)

    def _changed(self, req_id: int, account: str) -> Iterator[account_values.Row]:
        for tag, value, currency in account_values.values(self.floor.shown_books, account):
            if self.sent.get((req_id, account, tag, currency)) != value:
                self.sent[req_id, account, tag, currency] = value
                yield tag, value, currency

    # -- quotes -----------------------------------------------------------------------------------------------

    def first_quote(self, req_id: int) -> Iterator[Message]:
        one, _ = self.quotes[req_id]
        yield replies.market_data_type(req_id, 3 if self.delayed else 1)
        yield replies.tick_req_params(req_id, one)
        yield from self.quote(req_id)

    def quote(self, req_id: int) -> Iterator[Message]:
        """Yield the ticks that differ from those sent last."""
        one, before = self.quotes[req_id]
        quote = self.floor.market.quote(one.con_id)
        self.quotes[req_id] = one, quote
        for tick, name in ((1, "bid"), (2, "ask"), (4, "last"), (9, "close"), (6, "high"), (7, "low")):
            price = getattr(quote, name)
            if (one.sec_type == "CASH" and tick == 4) or (before and getattr(before, name) == price):
                continue
            size = quote.size if tick in (1, 2, 4) else ZERO
            yield replies.tick_price(req_id, DELAYED[tick] if self.delayed else tick, price, size)

    def prices_moved(self, con_ids: tuple[int, ...]) -> Iterator[Message]:
        for req_id, (one, _) in list(self.quotes.items()):
            if one.con_id in con_ids:
                yield from self.quote(req_id)
