"""The instruments that can be traded, and how a client's description of a contract finds them.

EURUSD (12087792), AAPL (265598), MSFT (272093), AMZN (3691937) and QQQ, SPY carry IBKR's own conIds; the
others keep the number written here forever, so that journals stay valid.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from common.texts import read_text

ONE = Decimal(1)
OWN_RULES = 1_000_000_000  # the numbers of price rules that are made from a tick begin here; IBKR's are far below
LARGEST_RULE = 2**31 - 1

Rules = tuple[tuple[Decimal, Decimal], ...]  # (from price, tick) in rising order


class ContractError(Exception):
    """A contract of the configuration cannot be used; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """One thing to trade. `rules`: (from price, tick) in rising order; `commission` is per contract."""

    con_id: int
    symbol: str
    sec_type: str
    exchange: str
    currency: str
    price: Decimal
    primary: str = ""
    local_symbol: str = ""
    trading_class: str = ""
    multiplier: Decimal = ONE
    expiry: str = ""
    long_name: str = ""
    rule_id: int = 26
    rules: Rules = ((Decimal(0), Decimal("0.01")),)
    commission: Decimal = Decimal("0.85")
    margin: Decimal = Decimal("0.25")
    isin: str = ""
    kind: str = ""  # TWS's stockType: COMMON, ETF

    @property
    def name(self) -> str:
        """Return the spelling that people use: EURUSD, AAPL, BRK B, MESM6."""
        return self.symbol + self.currency if self.sec_type == "CASH" else self.local_symbol or self.symbol

    @property
    def multiplier_text(self) -> str:
        return "" if self.multiplier == 1 else format(self.multiplier.normalize(), "f")

    def tick(self, price: Decimal) -> Decimal:
        """Return the smallest price step at this price."""
        return [step for edge, step in self.rules if edge <= max(price, self.rules[0][0])][-1]

    def on_tick(self, price: Decimal) -> bool:
        return price % self.tick(price) == 0


def _fx(con_id: int, pair: str, price: str, tick: str = "0.00005", rule: int = 239) -> Instrument:
    base, quote = pair[:3], pair[3:]
    name = (
        "European Monetary Union Euro" if base == "EUR" else f"{base}/{quote}"
    )  # source: ibkr-go, contract_details_eurusd_cash
    return Instrument(con_id, base, "CASH", "IDEALPRO", quote, Decimal(price), "", f"{base}.{quote}",
                      f"{base}.{quote}", long_name=name, rule_id=rule,
                      rules=((Decimal(0), Decimal(tick)),), margin=Decimal("0.0334"))  # fmt: skip


def _stock(con_id: int, symbol: str, primary: str, price: str, name: str, isin: str, currency: str = "USD", *,
           kind: str = "COMMON") -> Instrument:  # fmt: skip
    return Instrument(con_id, symbol, "STK", "SMART", currency, Decimal(price), primary, symbol,
                      "NMS" if primary == "NASDAQ" else symbol, long_name=name, isin=isin, kind=kind)  # fmt: skip


BUILT_IN: tuple[Instrument, ...] = (
    _fx(12087792, "EURUSD", "1.19"), _fx(12087797, "GBPUSD", "1.34"), _fx(14433401, "AUDUSD", "0.655"),
    _fx(39453441, "NZDUSD", "0.595"), _fx(15016062, "USDCAD", "1.395"), _fx(12087820, "USDCHF", "0.805"),
    _fx(15016059, "USDJPY", "155", "0.005", 59), _fx(12087807, "EURGBP", "0.888"),
    _fx(14321016, "EURJPY", "184.45", "0.005", 59), _fx(14321010, "GBPJPY", "207.7", "0.005", 59),
    _fx(12087817, "EURCHF", "0.958"), _fx(37893488, "USDSEK", "9.5"), _fx(28027110, "USDNOK", "10.1"),
    _stock(265598, "AAPL", "NASDAQ", "263.5", "APPLE INC", "US0378331005"),
    _stock(272093, "MSFT", "NASDAQ", "408.5", "MICROSOFT CORP", "US5949181045"),
    _stock(3691937, "AMZN", "NASDAQ", "220", "AMAZON.COM INC", "US0231351067"),
    _stock(208813719, "GOOGL", "NASDAQ", "300", "ALPHABET INC-CL A", "US02079K3059"),
    _stock(208813720, "GOOG", "NASDAQ", "301", "ALPHABET INC-CL C", "US02079K1079"),
    _stock(107113386, "META", "NASDAQ", "600", "META PLATFORMS INC-CLASS A", "US30303M1027"),
    _stock(4815747, "NVDA", "NASDAQ", "180", "NVIDIA CORP", "US67066G1040"),
    _stock(76792991, "TSLA", "NASDAQ", "400", "TESLA INC", "US88160R1014"),
    _stock(15124833, "NFLX", "NASDAQ", "110", "NETFLIX INC", "US64110L1061"),
    _stock(4391, "AMD", "NASDAQ", "210", "ADVANCED MICRO DEVICES", "US0079031078"),
    _stock(270639, "INTC", "NASDAQ", "36", "INTEL CORP", "US4581401001"),
    _stock(268084, "CSCO", "NASDAQ", "76", "CISCO SYSTEMS INC", "US17275R1023"),
    _stock(11017, "PEP", "NASDAQ", "147", "PEPSICO INC", "US7134481081"),
    _stock(274105, "QCOM", "NASDAQ", "165", "QUALCOMM INC", "US7475251036"),
    _stock(266093, "ADBE", "NASDAQ", "325", "ADOBE INC", "US00724F1012"),
    _stock(272800, "ORCL", "NYSE", "200", "ORACLE CORP", "US68389X1054"),
    _stock(8314, "IBM", "NYSE", "300", "INTL BUSINESS MACHINES CORP", "US4592001014"),
    _stock(1520593, "JPM", "NYSE", "300", "JPMORGAN CHASE & CO", "US46625H1005"),
    _stock(10098, "BAC", "NYSE", "52", "BANK OF AMERICA CORP", "US0605051046"),
    _stock(72063691, "BRK B", "NYSE", "505", "BERKSHIRE HATHAWAY INC-CL B", "US0846707026"),
    _stock(49462172, "V", "NYSE", "330", "VISA INC-CLASS A SHARES", "US92826C8394"),
    _stock(8719, "JNJ", "NYSE", "205", "JOHNSON & JOHNSON", "US4781601046"),
    _stock(13824, "PG", "NYSE", "148", "PROCTER & GAMBLE CO/THE", "US7427181091"),
    _stock(13977, "XOM", "NYSE", "117", "EXXON MOBIL CORP", "US30231G1022"),
    _stock(8894, "KO", "NYSE", "72", "COCA-COLA CO/THE", "US1912161007"),
    _stock(6459, "DIS", "NYSE", "104", "WALT DISNEY CO/THE", "US2546871060"),
    _stock(7930, "HD", "NYSE", "345", "HOME DEPOT INC", "US4370761029"),
    _stock(9408, "MCD", "NYSE", "310", "MCDONALD'S CORP", "US5801351017"),
    _stock(13272, "WMT", "NYSE", "105", "WALMART INC", "US9311421039"),
    _stock(9599491, "F", "NYSE", "13", "FORD MOTOR CO", "US3453708600"),
    _stock(756733, "SPY", "ARCA", "660", "SPDR S&P 500 ETF TRUST", "US78462F1030", kind="ETF"),
    _stock(320227571, "QQQ", "NASDAQ", "590", "INVESCO QQQ TRUST SERIES 1", "US46090E1038", kind="ETF"),
    _stock(195014116, "SHOP", "NASDAQ", "145", "SHOPIFY INC - CLASS A", "CA82509L1076"),
    _stock(195014119, "SHOP", "TSE", "202", "SHOPIFY INC - CLASS A", "CA82509L1076", "CAD"),
)  # fmt: skip


class Catalog:
    """Every instrument of this server, found by conId or by description; a later one replaces one of the same conId.

    Raises:
        ContractError: Two of them give different price rules under one number.
    """

    def __init__(self, instruments: Iterable[Instrument] = BUILT_IN) -> None:
        self._by_id = {instrument.con_id: instrument for instrument in instruments}
        self._rules: dict[int, Rules] = {}  # number of a price rule -> the rule
        for one in self:
            if self._rules.setdefault(one.rule_id, one.rules) != one.rules:
                raise ContractError(f"contract {one.name}: price rule {one.rule_id} is another contract's, with other"
                                    " ticks; give it a rule_id of its own, or none")  # fmt: skip

    def rule(self, rule_id: int) -> Rules | None:
        """Return a price rule by its number, None if no instrument has it."""
        return self._rules.get(rule_id)

    def __iter__(self) -> Iterator[Instrument]:
        return iter(self._by_id.values())

    def __getitem__(self, con_id: int) -> Instrument:
        return self._by_id[con_id]

    def has(self, con_id: int) -> bool:
        return con_id in self._by_id

    def named(self, name: str) -> Instrument:
        """Return the instrument that people call this (EURUSD, EUR.USD, BRK B, BRK.B, a conId).

        Raises:
            ContractError: There is none; the text says what was asked.
        """
        wanted = name.upper().replace("/", ".")
        for one in self._by_id.values():
            spellings = {one.name, one.local_symbol, one.symbol if one.sec_type != "CASH" else "", str(one.con_id)}
            if wanted in spellings or wanted.replace(".", " ") in spellings:
                return one
        raise ContractError(f"no instrument is called {name!r}")

    def find(self, query: Mapping[str, str]) -> list[Instrument]:
        """Return what matches a client's contract fields; an empty list is TWS's error 200."""
        con_id = query.get("con_id", "")
        if con_id not in ("", "0"):
            return [one for one in self._by_id.values() if str(one.con_id) == con_id]
        if query.get("sec_id_type") and query.get("sec_id"):
            return [one for one in self._by_id.values() if _has_id(one, query)]
        if not (query.get("symbol") or query.get("local_symbol")):
            return []
        return [one for one in self._by_id.values() if _matches(one, query)]

    def samples(self, pattern: str) -> list[Instrument]:
        """Return what a search by the beginning of symbol or name finds, at most 16 as TWS does."""
        wanted = pattern.upper()
        return [one for one in self._by_id.values()
                if one.symbol.startswith(wanted) or wanted in one.long_name.upper()][:16]  # fmt: skip


def _has_id(one: Instrument, query: Mapping[str, str]) -> bool:
    """True if an instrument has this ISIN, or another identifier that is known here, and the currency, if one is given."""
    known = {"ISIN": one.isin}.get(query["sec_id_type"].upper(), "")
    return known == query["sec_id"] and query.get("currency", "") in ("", one.currency)


def _matches(one: Instrument, query: Mapping[str, str]) -> bool:
    exchanges = {"", one.exchange, one.primary} if one.sec_type == "STK" else {"", one.exchange}
    wanted = {
        "symbol": {"", one.symbol, one.symbol.replace(" ", ".")},
        "sec_type": {one.sec_type},
        "exchange": exchanges,
        "primary": {"", one.primary, one.exchange},
        "currency": {"", one.currency},
        "local_symbol": {"", one.local_symbol},
        "trading_class": {"", one.trading_class},
        "multiplier": {"", one.multiplier_text, str(one.multiplier)},
    }
    return one.expiry.startswith(query.get("expiry", "")) and all(
        query.get(name, "").upper() in allowed for name, allowed in wanted.items())  # fmt: skip


def load(path: Path) -> list[Instrument]:
    """Return the instruments of a TOML or JSON file: a list `contract` of tables.

    Needed are symbol, sec_type, exchange, price; con_id is made from the description when absent, rule_id from the
    tick.

    Raises:
        ContractError: A table is incomplete, a value makes no sense, or two tables describe one conId.
    """
    found: dict[int, Instrument] = {}
    for one in (from_table(table) for table in tables(path, "contract", ContractError)):
        if one.con_id in found:
            raise ContractError(f"contracts {found[one.con_id].name} and {one.name}: both are conId {one.con_id}")
        found[one.con_id] = one
    return list(found.values())


def tables(path: Path, name: str, refused: type[Exception]) -> list[dict[str, Any]]:
    """Return the list of tables of that name, all that a TOML or JSON file may hold; raise `refused` with the reason."""
    try:
        raw = read_text(path)
        content = json.loads(raw) if path.suffix == ".json" else tomllib.loads(raw)
    except OSError as error:
        raise refused(f"{path.name} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise refused(f"{path.name}: {error}") from error
    if not isinstance(content, dict) or set(content) - {name}:
        raise refused(f"{path.name}: expected nothing but [[{name}]] tables")
    found = content.get(name, [])
    if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
        raise refused(f"{path.name}: expected {name} to be a list of tables, written [[{name}]]")
    return found


def from_table(table: Mapping[str, object]) -> Instrument:
    """Return the instrument of one table of the configuration. Raises ContractError with the reason."""
    values = {name: str(value) for name, value in table.items()}
    missing = [name for name in ("symbol", "sec_type", "exchange", "price") if name not in values]
    if missing:
        raise ContractError(f"contract {values.get('symbol', '?')}: missing {', '.join(missing)}")
    try:
        return _build(values)
    except (ValueError, ArithmeticError) as error:
        raise ContractError(f"contract {values['symbol']}: {error}") from error


def _build(values: dict[str, str]) -> Instrument:
    tick = Decimal(values.get("tick", "0.01"))
    sec_type = values["sec_type"]
    plain = Instrument(
        con_id=int(values.get("con_id", _stable_id(values))),
        symbol=values["symbol"], sec_type=sec_type, exchange=values["exchange"],
        currency=values.get("currency", "USD"), price=Decimal(values["price"]),
        rule_id=int(values.get("rule_id", _rule_id(tick))), rules=((Decimal(0), tick),),
        margin=Decimal(values.get("margin", "0.25" if sec_type == "STK" else "0.05")),
        kind="COMMON" if sec_type == "STK" else "",
    )  # fmt: skip
    texts = {name: values[name] for name in ("primary", "local_symbol", "trading_class", "expiry", "long_name", "isin")
             if name in values}  # fmt: skip
    numbers = {name: Decimal(values[name]) for name in ("multiplier", "commission") if name in values}
    full = replace(plain, local_symbol=plain.symbol, trading_class=plain.symbol, long_name=plain.symbol)
    return replace(full, **texts, **numbers)  # type: ignore[arg-type]


def _rule_id(tick: Decimal) -> int:
    """Return the number of the price rule of one tick, another for every tick. Raises ValueError if it has none.

    >>> _rule_id(Decimal("0.25")), _rule_id(Decimal("0.250")), _rule_id(Decimal(5))
    (1000002502, 1000002502, 1000000500)
    """
    if not tick.is_finite() or tick <= 0:
        raise ValueError(f"expected a tick above 0, found {tick}")
    places = max(0, -int(tick.normalize().as_tuple().exponent))
    number = OWN_RULES + int(tick.scaleb(places)) * 100 + places
    if number > LARGEST_RULE or places > 99:
        raise ValueError(f"expected a tick of at most seven digits, found {tick}")
    return number


def _stable_id(values: Mapping[str, str]) -> int:
    """Return a conId that depends on the description alone, so that it survives restarts."""
    key = ".".join(values.get(name, "") for name in ("symbol", "sec_type", "exchange", "currency", "expiry"))
    number = 0
    for letter in key.encode():
        number = (number * 131 + letter) % 99_999_989
    return 900_000_000 + number
