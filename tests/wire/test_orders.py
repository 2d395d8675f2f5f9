"""Orders out, facts in: what TWS says is heard as it said it, whatever the library makes of it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from common.signals import Side
from executor.core.ports import Contract, Status
from executor.tws.client import Tws
from executor.tws.lookup import MOST_LINES
from executor.tws.prices import STALE_SECONDS
from tests.wire.harness import (
    AAPL,
    ACCOUNT,
    EURUSD,
    SEEN,
    between,
    bracket,
    client,
    on_loop,
    paper,
    ticket,
    until,
    working,
)  # fmt: skip

# Codes that the library takes for the death of an order, which the broker works on all the same.
NOT_DEATHS = [
    103, 104, 105, 135, 161, 200, 201, 321, 322, 436, 460, 463, 481, 10052, 10089, 10147, 10148, 10149, 10197,
    10268, 10311, 10318, 10329, 10349, 110, 399, 404, 2109,
]  # fmt: skip


@on_loop
async def test_bracket_arrives_as_it_was_meant() -> None:
    async with paper() as server, client(server) as (tws, ear):
        for each in bracket(11):
            tws.send(each)
        await until(lambda: ear.all("fill"))
        orders = sorted(server.exchange.floor.book.orders.values(), key=lambda order: order.order_id)
        forms = [order.form for order in orders]
        assert [(f.action, f.order_type, f.limit_price, f.aux_price) for f in forms] == [
            ("BUY", "MKT", None, None),
            ("SELL", "LMT", Decimal("1.20"), None),
            ("SELL", "STP", None, Decimal("1.18")),
        ]
        assert [(f.tif, f.parent_id, f.oca_group, f.oca_type, f.transmit) for f in forms] == [
            ("DAY", 0, "", 0, False),
            ("GTC", 11, "group", 2, False),
            ("GTC", 11, "group", 2, True),
        ]
        assert {(f.account, f.outside_rth, f.quantity) for f in forms} == {(ACCOUNT, False, Decimal(20000))}
        assert [f.order_ref for f in forms] == [f"sx1:ABCDEFGHIJKLMNOPE{number}" for number in (11, 12, 13)]


@on_loop
async def test_facts_of_a_bracket_in_the_order_of_the_wire() -> None:
    async with paper() as server, client(server) as (tws, ear):
        await tws.snapshot()
        for each in bracket(1):
            tws.send(each)
        await until(lambda: ear.all("commission") and ear.all("position"))
        assert ear.statuses(1) == ["working", "filled"]
        assert ear.statuses(3)[:2] == ["working", "pending"]  # asleep until the fill
        await until(lambda: ear.statuses(3)[-1] == "working")
        fill = ear.all("fill")[0]
        assert (fill.order_ref, fill.side, fill.quantity) == ("sx1:ABCDEFGHIJKLMNOPE1", Side.BUY, Decimal(20000))
        assert (fill.order_id, fill.client_id, fill.con_id, fill.account) == (1, 1, EURUSD.con_id, ACCOUNT)
        assert fill.commission is None and ear.all("commission") == [(fill.exec_id, Decimal(2))]
        assert abs((fill.at - datetime.now(UTC)).total_seconds()) < 3
        said = {report.order_id: report for report in ear.all("order") if report.order_ref}
        assert (said[3].price, said[3].parent_id, said[3].kind, said[3].tif) == (Decimal("1.18"), 1, "STP", "GTC")
        assert {report.why_held for report in ear.all("order")} == {""}  # "child" and "trigger" are no news


@on_loop
async def test_same_id_modifies() -> None:
    async with paper() as server, client(server) as (tws, ear):
        tws.send(working(1))
        await until(lambda: ear.statuses(1))
        tws.send(working(1, quantity=Decimal(15000)))
        await until(lambda: ear.all("order")[-2].quantity == Decimal(15000))
        assert len(server.exchange.floor.book.orders) == 1 and ear.statuses(1) == ["working"]


@on_loop
async def test_exact_decimals_reach_the_wire() -> None:
    async with paper() as server, client(server) as (tws, ear):
        tws.send(working(1, quantity=Decimal("1E+4")))
        await until(lambda: ear.statuses(1))
        form = server.exchange.floor.book.orders[next(iter(server.exchange.floor.book.orders))].form
        assert (form.quantity, form.limit_price) == (Decimal(10000), Decimal("1.10"))


@pytest.mark.parametrize("code", NOT_DEATHS)
@on_loop
async def test_error_about_an_order_is_a_refusal_and_no_state(code: int) -> None:
    """Reliability 2.8: the library marks the order cancelled; here it stays what the broker says."""
    async with paper() as server, client(server) as (tws, ear):
        server.fault("warn", code=code, words="something")
        tws.send(working(1))
        await until(lambda: ear.all("refusal") and ear.statuses(1))
        assert [(r.order_id, r.code) for r in ear.all("refusal")] == [(1, code)]
        assert ear.statuses(1) == ["working"]
        assert [r.status for r in (await tws.snapshot()).open_orders] == [Status.WORKING]


@on_loop
async def test_rejection_is_an_error_and_then_inactive() -> None:
    async with paper() as server, client(server) as (tws, ear):
        server.fault("reject", code=201, words="no margin")
        tws.send(ticket(1))
        await until(lambda: ear.statuses(1))
        assert ear.all("refusal")[0].text == "no margin" and ear.statuses(1)[-1] == "inactive"


@on_loop
async def test_shares_to_be_located_may_still_fill() -> None:
    async with paper() as server, client(server) as (tws, ear):
        server.fault("locate", seconds=0.2)
        sell = ticket(1, contract=AAPL, side=Side.SELL, quantity=Decimal(1))
        tws.send(sell)
        await until(lambda: any(report.why_held == "locate" for report in ear.all("order")))
        assert all(report.status.is_live for report in ear.all("order"))
        await until(lambda: ear.all("fill"))


@on_loop
async def test_cancel_is_told_by_status_not_by_202() -> None:
    async with paper() as server, client(server) as (tws, ear):
        tws.send(working(1))
        await until(lambda: ear.statuses(1))
        tws.cancel(1)
        await until(lambda: ear.statuses(1)[-1] == "cancelled")
        tws.cancel(1)
        await until(lambda: any(r.code in (10147, 10148, 161) for r in ear.all("refusal")))
        assert ear.statuses(1)[-1] == "cancelled"


@on_loop
async def test_partial_fills_and_a_correction() -> None:
    async with paper() as server, client(server) as (tws, ear):
        server.fault("partials", sizes=[5000, 15000])
        tws.send(ticket(1))
        await until(lambda: len(ear.all("fill")) == 2)
        assert [fill.quantity for fill in ear.all("fill")] == [Decimal(5000), Decimal(15000)]
        server.owner.correct("", price="1.191")
        await until(lambda: len(ear.all("fill")) == 3)
        corrected = ear.all("fill")[2]
        roots = {fill.exec_root for fill in ear.all("fill")}
        assert len(roots) == 2 and corrected.price == Decimal("1.191")
        seen = await tws.snapshot()
        assert len(seen.fills) == 2 and corrected.exec_id in {fill.exec_id for fill in seen.fills}


@pytest.mark.parametrize(
    "knob", ["status_first", "skip_status", "duplicate_status", "commission_unset", "no_commission"]
)
@on_loop
async def test_whatever_the_order_of_messages_the_fill_is_heard_once(knob: str) -> None:
    async with paper() as server, client(server) as (tws, ear):
        server.fault(knob)
        tws.send(ticket(1))
        await until(lambda: ear.all("fill") and (knob == "skip_status" or "filled" in ear.statuses(1)))
        await tws.probe()
        assert len(ear.all("fill")) == 1
        if knob in ("commission_unset", "no_commission"):
            assert ear.all("commission") == []


@on_loop
async def test_lost_acknowledgement_is_found_by_a_snapshot() -> None:
    async with paper() as server, client(server) as (tws, ear):
        server.fault("lost_ack")
        tws.send(working(1))
        await tws.probe()
        assert ear.statuses(1) == []
        assert [report.order_id for report in (await tws.snapshot()).open_orders] == [1]


@on_loop
async def test_fill_of_an_order_this_connection_never_saw_is_heard() -> None:
    """The library fires no event for it."""

    def only_fills(frame: list[str]) -> list[list[str]]:
        return [] if frame[0] in ("3", "5") else [frame]

    async with paper() as server, between(server, only_fills) as port, client(port) as (tws, ear):
        tws.send(ticket(1))
        await until(lambda: ear.all("fill"))
        assert ear.all("order") == []


@on_loop
async def test_every_fact_is_heard_in_pieces_of_one_byte() -> None:
    async with paper() as server, client(server) as (tws, ear):
        receive = tws._client.conn.data_received
        tws._client.conn.data_received = lambda data: [receive(data[n : n + 1]) for n in range(len(data))]
        for each in bracket(1):
            tws.send(each)
        await until(lambda: ear.all("commission"))
        assert len(ear.all("fill")) == 1 and ear.statuses(2)[-1] == "working"


TIMES = {
    "20260413  10:30:05": datetime(2026, 4, 13, 15, 30, 5, tzinfo=UTC),  # TWS's zone: Chicago, by its handshake
    "20260413-15:30:05": datetime(2026, 4, 13, 15, 30, 5, tzinfo=UTC),
    "20260413 11:30:05 US/Eastern": datetime(2026, 4, 13, 15, 30, 5, tzinfo=UTC),
    "20260413 10:30:05 Zentralzeit": datetime(2026, 4, 13, 15, 30, 5, tzinfo=UTC),
    "1776094205": datetime(2026, 4, 13, 15, 30, 5, tzinfo=UTC),
}


@pytest.mark.parametrize("text", TIMES)
@on_loop
async def test_time_of_an_execution_in_every_form(text: str) -> None:
    def edit(frame: list[str]) -> list[list[str]]:
        if len(frame) == 2 and frame[0] == "176":
            return [["176", "20260413 10:30:00 CST"]]
        if frame[0] == "49":
            return [["49", "1", str(int(datetime(2026, 4, 13, 15, 30, 2, tzinfo=UTC).timestamp()))]]
        return [[*frame[:15], text, *frame[16:]]] if frame[0] == "11" else [frame]

    async with paper() as server, between(server, edit) as port, client(port) as (tws, ear):
        tws.send(ticket(1))
        await until(lambda: ear.all("fill"))
        assert ear.all("fill")[0].at == TIMES[text]
        seen = await tws.snapshot()
        assert seen.fills[0].at == TIMES[text] and seen.day == "2026-04-13"


@on_loop
async def test_execution_with_an_unreadable_time_is_not_lost() -> None:
    def edit(frame: list[str]) -> list[list[str]]:
        return [[*frame[:15], "gestern", *frame[16:]]] if frame[0] == "11" else [frame]

    async with paper() as server, between(server, edit) as port, client(port) as (tws, ear):
        troubles: list[str] = []
        tws.wire.on_trouble = lambda error, text, ours: troubles.append(text)
        tws.send(ticket(1))
        await until(lambda: ear.all("fill"))
        assert "gestern" in troubles[0]


@on_loop
async def test_burst_is_paced_below_ibkrs_limit_and_arrives_in_order() -> None:
    async with paper() as server, client(server) as (tws, ear):
        connection, loop, left = tws._client.conn, asyncio.get_running_loop(), list[float]()
        write = connection.sendMsg
        connection.sendMsg = lambda message: (left.append(loop.time()), write(message))
        for number in range(1, 61):
            tws.send(working(number))
        assert tws.is_paced and ear.all("unpaced") == []
        await tws.probe(50)  # the probe waits behind the orders: its answer proves that all have left
        assert not tws.is_paced
        # By when they were written: a busy computer may let TWS read those of two seconds in one.
        assert len(left) == 61 and all(later - first >= 1 for first, later in zip(left, left[50:], strict=False))
        arrived = [order.order_id for order in server.exchange.floor.book.orders.values()]
        assert arrived == list(range(1, 61)) and ear.all("refusal") == []
        assert len(ear.all("unpaced")) == 1


@on_loop
async def test_listener_that_sends_at_the_end_of_pacing_is_told_again_at_the_next() -> None:
    """The library says it in the midst of sending; is_paced is false by the time that the listener hears it."""
    async with paper() as server, client(server) as (tws, ear):
        seen: list[bool] = []

        def more() -> None:
            seen.append(tws.is_paced)
            if len(seen) == 1:
                for number in range(61, 121):
                    tws.send(working(number))
                assert tws.is_paced

        ear.on_unpaced = more  # type: ignore[method-assign]
        for number in range(1, 61):
            tws.send(working(number))
        await until(lambda: len(seen) == 2)
        await tws.probe(50)
        arrived = [order.order_id for order in server.exchange.floor.book.orders.values()]
        assert arrived == list(range(1, 121)) and seen == [False, False]


@on_loop
async def test_end_of_pacing_is_not_told_of_a_connection_that_is_gone() -> None:
    async with paper() as server, client(server) as (tws, ear):
        for number in range(1, 61):
            tws.send(working(number))
        tws.disconnect()
        await tws.connect("127.0.0.1", server.port, 1)
        tws.use_account(ACCOUNT, ear)  # type: ignore[arg-type]
        assert not tws.is_paced
        await asyncio.sleep(2)  # the old connection's pause of 1.25 s is over
        assert ear.all("unpaced") == []


@on_loop
async def test_order_id_floor_follows_own_orders_and_never_falls() -> None:
    async with paper() as server, client(server) as (tws, ear):
        tws.send(working(500))
        await until(lambda: ear.statuses(500))
        assert tws.order_id_floor() == 501


# --- contracts and prices ---------------------------------------------------------------------------------------


async def looked_up(tws: Tws, ear: Any, symbol: str, con_id: int = 0) -> Any:
    tws.request_contract(symbol, con_id)
    return (await until(lambda: [one[1] for one in ear.all("contract") if (one[0], one[2]) == (symbol, con_id)]))[0]


@on_loop
async def test_forex_pair_is_qualified_with_steps_and_price() -> None:
    async with paper() as server, client(server) as (tws, ear):
        found = await looked_up(tws, ear, "EURUSD")
        assert isinstance(found, Contract)
        assert (found.con_id, found.exchange, found.size_step) == (12087792, "IDEALPRO", 1)
        assert [(step.low, step.increment) for step in found.price_steps] == [(0, Decimal("0.00005"))]
        assert tws.price(found.con_id) == Decimal("1.19")
        server.exchange.set_price("EURUSD", Decimal("1.2"))
        await until(lambda: tws.price(found.con_id) == Decimal("1.2"))


@on_loop
async def test_contract_is_asked_for_once() -> None:
    async with paper() as server, client(server) as (tws, ear):
        first = await looked_up(tws, ear, "AAPL")
        asked = SEEN["reqContractDetails"]
        tws.request_contract("AAPL")
        await until(lambda: len(ear.all("contract")) == 2)
        assert ear.all("contract")[1][1] == first and SEEN["reqContractDetails"] == asked


@pytest.mark.parametrize("symbol", ["GBPUSD", "ES1!"])
@on_loop
async def test_contract_is_told_by_its_number_whatever_its_symbol_means_now(symbol: str) -> None:
    async with paper() as server, client(server) as (tws, ear):
        found = await looked_up(tws, ear, symbol, EURUSD.con_id)
        assert (found.con_id, found.local, found.exchange) == (EURUSD.con_id, "EUR", "IDEALPRO")


@pytest.mark.parametrize(("symbol", "words"), [("ZZZZZ", "TWS knows no contract for ZZZZZ"), ("ES1!", "executor.toml")])
@on_loop
async def test_unknown_symbol_is_answered_in_words(symbol: str, words: str) -> None:
    async with paper() as server, client(server) as (tws, ear):
        assert words in await looked_up(tws, ear, symbol)


@on_loop
async def test_ambiguous_symbol_is_answered_with_the_choices() -> None:
    def double(frame: list[str]) -> list[list[str]]:
        return [frame, [*frame[:12], "999", *frame[13:]]] if frame[0] == "10" else [frame]

    async with paper() as server, between(server, double) as port, client(port) as (tws, ear):
        answer = await looked_up(tws, ear, "AAPL")
        assert "AAPL is ambiguous: AAPL (STK" in answer and 'executor.toml: [contracts."AAPL"]' in answer


@on_loop
async def test_similar_symbols_are_offered() -> None:
    async with paper() as server, client(server) as (tws, ear):
        assert "Similar: AAPL (STK" in await looked_up(tws, ear, "AAP")


@on_loop
async def test_question_survives_the_connection() -> None:
    async with paper() as server, client(server) as (tws, ear):
        server.gateway.freeze()
        tws.request_contract("AAPL")
        await asyncio.sleep(0.05)
        tws.disconnect()
        server.gateway.thaw()
        await until(lambda: not server.gateway.sessions)
        await tws.connect("127.0.0.1", server.port, 1)
        tws.use_account(ACCOUNT, ear)  # type: ignore[arg-type]
        await until(lambda: ear.all("contract"))
        assert isinstance(ear.all("contract")[0][1], Contract)
        await asyncio.sleep(0.05)
        assert len(ear.all("contract")) == 1


@on_loop
async def test_prices_are_subscribed_to_again_after_a_reconnect() -> None:
    async with paper() as server, client(server) as (tws, ear):
        found = await looked_up(tws, ear, "EURUSD")
        tws.disconnect()
        assert tws.price(found.con_id) is None
        await tws.connect("127.0.0.1", server.port, 1)
        tws.use_account(ACCOUNT, ear)  # type: ignore[arg-type]
        await until(lambda: tws.price(found.con_id) == Decimal("1.19"))


@pytest.mark.parametrize("code", ["354", "10089", "10168", "10197"])
@on_loop
async def test_no_market_data_is_no_price_and_no_obstacle(code: str) -> None:
    async with paper() as server, client(server) as (tws, ear):
        server.fault("mktdata", mode=code)
        found = await looked_up(tws, ear, "AAPL")
        assert isinstance(found, Contract) and tws.price(found.con_id) is None


@on_loop
async def test_delayed_prices_are_asked_for_where_live_ones_are_refused() -> None:
    async with paper() as server, client(server) as (tws, ear):
        server.fault("mktdata", mode="delayed")
        found = await looked_up(tws, ear, "AAPL")
        assert tws.price(found.con_id) == Decimal("200")


@on_loop
async def test_price_that_went_stale_is_asked_for_anew() -> None:
    """No tick came for 61 s: an entry's stop was then checked against nothing."""
    async with paper() as server, client(server) as (tws, ear):
        found = await looked_up(tws, ear, "EURUSD")
        tws._prices._quotes[found.con_id].heard_at -= STALE_SECONDS + 1
        assert tws.price(found.con_id) is None
        tws.request_contract("EURUSD")
        await until(lambda: len(ear.all("contract")) == 2 and tws.price(found.con_id) == Decimal("1.19"))


@on_loop
async def test_line_of_a_contract_that_is_not_needed_any_more_is_cancelled() -> None:
    async with paper() as server, client(server) as (tws, ear):
        tws.lookup.most_lines = 1
        for symbol in ("EURUSD", "AAPL", "AAPL"):
            found = await looked_up(tws, ear, symbol)
            (session,) = server.gateway.sessions
            await until(lambda: {one.con_id for one, *_ in session.feeds.quotes.values()} == {found.con_id})  # noqa: B023 - within its turn


@on_loop
async def test_no_line_left_at_tws_gives_up_one_of_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code 101 was not heard: the contract's price stayed unknown for good."""
    from executor.paper import answers

    monkeypatch.setattr(answers, "MAX_TICKERS", 1)
    async with paper() as server, client(server) as (tws, ear):
        for symbol in ("EURUSD", "AAPL"):
            found = await looked_up(tws, ear, symbol)
            await until(lambda: tws.price(found.con_id) is not None)  # noqa: B023 - within its turn
        assert tws.lookup.most_lines == 1
        tws.lookup.resume()  # as on the next connection
        assert tws.lookup.most_lines == MOST_LINES


def test_old_and_senseless_prices_are_none() -> None:
    from common.clock import FakeClock
    from executor.tws.prices import Prices

    clock = FakeClock(datetime(2026, 1, 1, tzinfo=UTC))
    prices = Prices(clock)
    for tick_type, price in ((1, -1.0), (2, 0.0), (4, float("nan")), (9, 100.0), (14, 5.0)):
        prices.tick(1, tick_type, price)
    assert prices.price(1) == Decimal(100) and prices.price(2) is None
    prices.tick(1, 4, 101.0)
    assert prices.price(1) == Decimal(101)
    prices.tick(1, 1, 101.0)
    prices.tick(1, 2, 102.0)
    assert prices.price(1) == Decimal("101.5")
    clock.advance(STALE_SECONDS + 1)
    assert prices.price(1) is None
