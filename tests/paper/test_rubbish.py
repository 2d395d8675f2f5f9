"""Whatever nonsense comes by socket, control port, file or command line: a clear answer, no traceback, no dead server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import sqlite3
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from ib_insync import ExecutionFilter, LimitOrder, Order, StopOrder, TagValue

from common.clock import SystemClock
from executor.paper import contracts, truth
from executor.paper import server as paper_server
from executor.paper.__main__ import main
from executor.paper.actions import ACTIONS, ActionError, check
from executor.paper.control import ControlError, ControlServer, parse_words
from executor.paper.exchange import Exchange
from executor.paper.faults import FILTERS, KNOBS
from executor.paper.scenario import ScenarioError, load, play
from executor.paper.server import LOOPBACK, PaperServer
from executor.paper.wire import frame
from tests.editors import editors
from tests.paper.harness import AAPL, EURUSD, Api, Tws
from tests.paper.processes import Paper

GREETING = b"API\0" + struct.pack(">I", 9) + b"v157..176"
NONSENSE: list[Any] = [
    None, True, 0, -1, 1.5, 10**400, float("nan"), float("inf"), "", "x", "NaN", "1e30", "-5", "AAPL", "Filled",
    "\0", [], ["a"], [1], [[1, 2, 3]], {}, {"a": 1},
]  # fmt: skip
FIELDS = ["", "0", "-1", "x", "NaN", "1e30", "9999999999999", "2147483648", "1e-20", "٣", "1_0", "9" * 5000, "1.5",
          "BAG", "SELL", "STP", "IOC", "99999999", "1000000000000", " 5"]  # fmt: skip


class _Recorder(Api):
    """A client that keeps what it sends."""

    sent: list[list[str]]

    def sendMsg(self, msg: str) -> None:
        self.sent.append(msg.split("\0")[:-1])
        super().sendMsg(msg)


def requests_of_a_client() -> list[list[str]]:
    """Return the fields of many sound requests."""
    api = _Recorder.__new__(_Recorder)
    api.sent = []
    api.__init__(Tws().server, 1)  # type: ignore[misc]
    api.reqMktData(5, EURUSD, "", False, False, [])
    api.reqExecutions(1, ExecutionFilter())
    api.reqAccountUpdates(True, "")
    api.reqAccountSummary(3, "All", "NetLiquidation,$LEDGER:ALL")
    api.reqPnLSingle(8, "DU1234567", "", 265598)
    api.reqContractDetails(11, AAPL)
    api.reqMarketRule(26)
    api.cancelOrder(1)
    api.place(AAPL, LimitOrder("BUY", 10, 200, orderId=2, whatIf=True))
    api.place(EURUSD, StopOrder("SELL", 20000, 1.18, orderId=3))
    more = {"algoStrategy": "A", "algoParams": [TagValue("p", "U")], "hedgeType": "D", "hedgeParam": "1"}
    api.place(AAPL, Order(orderId=4, action="SELL", totalQuantity=3, orderType="LMT", lmtPrice=7.5, **more))
    return api.sent


SOUND = requests_of_a_client()


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(SOUND), st.dictionaries(st.integers(0, 200), st.sampled_from(FIELDS), max_size=4), st.data())
def test_sound_request_with_a_few_wrong_fields_is_answered_or_refused(
    sound: list[str], changes: dict[int, str], data: st.DataObject
) -> None:
    tws = Tws()
    api = tws.connect()
    fields = [changes.get(at % len(sound), word) for at, word in enumerate(sound)]
    api.session.receive(frame(fields[: data.draw(st.integers(1, len(fields)))]))
    api.take()
    tws.advance(4)
    api.reqCurrentTime()
    assert "currentTime" in api.kinds()


def test_announced_fields_are_believed_up_to_a_bound(api: Api) -> None:
    api.session.receive(frame([1, 11, 5, 0, "X", "BAG", *[""] * 9, 10**12]))
    assert [args[1] for _, args in api.take()] == [320]


def test_number_that_would_be_said_again_must_be_one() -> None:
    order = next(list(one) for one in SOUND if one[0] == "3")
    order[31] = "rubbish"  # display size
    api = Tws().connect()
    api.session.receive(frame(order))
    assert [args[1] for _, args in api.take()] == [320]


def test_second_start_changes_no_client_id(tws: Tws, api: Api) -> None:
    api.session.receive(frame([71, 2, 7, ""]))
    assert api.take() == [] and tws.server.gateway.of(1) is api.session


def test_quotes_are_limited(api: Api) -> None:
    for req_id in range(101):
        api.reqMktData(1000 + req_id, EURUSD, "", False, False, [])
    assert api.errors() == [101]


def nonsense_for(name: str) -> dict[str, Any]:
    known = list(ACTIONS[name].readers) if name in ACTIONS else [*KNOBS.get(name, {}), *FILTERS]
    chosen = random.sample(known, min(len(known), random.randint(0, 3)))
    return {key: random.choice(NONSENSE) for key in [*chosen, *random.choices(["colour", "knob", "server"], k=1)]}


@pytest.mark.parametrize("name", sorted({*ACTIONS, *KNOBS, "dance"} - {"stop"}))
def test_nonsense_by_control_port_is_refused_in_words(tws: Tws, name: str) -> None:
    random.seed(name)
    control = ControlServer(tws.server)
    for _ in range(30):
        answer = json.loads(json.dumps(control.answer(json.dumps({"do": name} | nonsense_for(name)).encode())))
        assert answer["ok"] or (len(answer["error"]) > 15 and "argument" not in answer["error"])
    assert control.answer(b'{"do": "status"}')["ok"]


@pytest.mark.parametrize(("asked", "said"), [
    ({"do": "set_price", "symbol": "AAPL"}, "set_price: missing price; it takes symbol, price"),
    ({"do": "set_price", "symbol": "AAPL", "price": "NaN"}, "set_price, price: expected a number above 0, found 'NaN'"),
    ({"do": "set_quote", "symbol": "AAPL", "bid": 2, "ask": 1}, "set_quote: the bid 2 is above the ask 1"),
    ({"do": "freeze", "secs": 1}, "freeze: unknown secs; it takes seconds"),
    ({"do": "thaw", "secs": 1}, "thaw: unknown secs; it takes no parameters"),
    ({"do": "restart", "down_seconds": -1}, "expected a number of seconds, not negative, found -1"),
    ({"do": "restore_connection", "code": 5}, "restore_connection, code: expected one of 1101, 1102, found 5"),
    ({"do": "cash", "account": "DU9"}, "no account is called 'DU9'; there are DU1234567"),
    ({"do": "manual_cancel", "symbol": "AAPL"}, "manual_cancel: 0 live orders fit"),
    ({"do": "manual_order", "symbol": "AAPL", "action": "BUY", "quantity": "0.5"}, "manual_order: 10243: Fractional"),
    ({"do": "clear", "knob": "rejekt"}, "clear: no knob is called 'rejekt'"),
    ({"do": "advance", "seconds": "soon"}, "advance, seconds: expected a number of seconds"),
    ({"do": "reject", "code": "abc"}, "reject, code: expected a whole number from 1 to 99999, found 'abc'"),
    ({"do": "reject", "rôle": "entry"}, "reject has no rôle; it has code, words, then, seconds, role"),
    ({"do": "partials"}, "partials, sizes: expected a list of sizes such as [3, 2], found []"),
    ({"do": "drop", "kind": "plaseOrder"}, "drop, kind: expected one of \"\", reqMktData"),
    ({"do": "drop", "count": 3}, "drop has no count; it has direction, when, kind, n"),
    ({"do": "read_only", "role": "entry"}, "read_only has no role; it has no parameters"),
    ({"do": "fault", "knob": "locate", "status": "Lost"}, "locate, status: expected one of PreSubmitted, Inactive"),
    ({"do": 5}, "expected one JSON object a line"),
    ([1], "expected one JSON object a line"),
])  # fmt: skip
def test_refusal_says_what_would_be_right(tws: Tws, asked: Any, said: str) -> None:
    answer = ControlServer(tws.server).answer(json.dumps(asked).encode())
    assert not answer["ok"] and said in answer["error"]


@pytest.mark.parametrize(("content", "said"), [
    ('[[step]]\ndo = "dance"', "step 1: nothing is called 'dance'"),
    ('[[step]]\nwith = {}', "step 1: do: expected a text, found None"),
    ('[[step]]\ndo = "set_price"\nwith = {symbol = "AAPL"}', "step 1: set_price: missing price"),
    ('[[step]]\ndo = "reject"\nwith = {code = "x"}', "step 1: reject, code: expected a whole number"),
    ('[[step]]\ndo = "freeze"\nwhit = {}', "step 1: unknown whit; there are at, on, do, with"),
    ('[[step]]\ndo = "freeze"\nwith = 3', "step 1: expected `with` to be a table, found '3'"),
    ('[[step]]\ndo = "freeze"\nat = "soon"', "step 1: at: expected a number of seconds"),
    ('[[step]]\ndo = "freeze"\nat = nan', "step 1: at: expected a number of seconds"),
    ('[[step]]\ndo = "freeze"\non = {n = 1}', "step 1: `on` needs an event or a message"),
    ('[[step]]\ndo = "freeze"\non = {event = "filed"}', "step 1: event: expected one of connected,"),
    ('[[step]]\ndo = "freeze"\non = {event = "filled", n = 0}', "step 1: n: expected a whole number from 1"),
    ('[[step]]\ndo = "freeze"\non = {message = "openOrder"}', "step 1: message: expected one of reqMktData"),
    ('[[step]]\ndo = "freeze"\non = {message = "placeOrder", dir = "in"}', "step 1: unknown dir"),
    ('[[step]]\ndo = "freeze"\nat = 1\non = {event = "filled"}', "step 1: a step has either `at` or `on`"),
    ('[[steps]]\ndo = "freeze"', "expected nothing but [[step]] tables"),
    ("step = 3", "expected step to be a list of tables"),
    ("no toml", "story.toml: "),
])  # fmt: skip
def test_scenario_without_sense_is_refused_whole(tws: Tws, tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "story.toml"
    file.write_text(content, "utf-8")
    with pytest.raises(ScenarioError) as refused:
        play(tws.server, load(file))
    assert said in str(refused.value) and not tws.exchange.floor.faults.armed()


def test_scenario_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xff\xfe[")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    for name in ("none.toml", "a.json", "deep.json"):
        with pytest.raises(ScenarioError, match=name):
            load(tmp_path / name)


@editors
def test_files_of_scenario_and_contracts_are_read_as_any_editor_writes_them(
    tmp_path: Path, written: Callable[[str], bytes]
) -> None:
    for name, text in (("a.toml", '[[step]]\ndo = "freeze"\n'), ("a.json", '{"step": [\n{"do": "freeze"}]}\n')):
        (tmp_path / name).write_bytes(written(text))
        assert load(tmp_path / name) == [{"do": "freeze"}]
    more = '[[contract]]\nsymbol = "ES"\nsec_type = "FUT"\nexchange = "CME"\nprice = "5000"\nlong_name = "é"\n'
    (tmp_path / "more.toml").write_bytes(written(more))
    [found] = contracts.load(tmp_path / "more.toml")
    assert (found.symbol, found.long_name) == ("ES", "é")


def test_step_that_cannot_be_done_then_is_said(tws: Tws) -> None:
    said: list[str] = []
    tws.server.gateway.on_note = said.append
    play(tws.server, [{"do": "manual_close", "with": {"symbol": "AAPL"}}])
    assert said == ["step 1 of the scenario could not be done: manual_close: DU1234567 holds no AAPL"]


def test_word_without_a_place_is_refused() -> None:
    with pytest.raises(ControlError, match="set_price: write extra as name=value"):
        parse_words(["set-price", "EURUSD", "1.2", "extra"])
    with pytest.raises(ActionError, match="nothing is called"):
        check("dance", {})


# -- the program ----------------------------------------------------------------------------------------------


def rubbish_by_socket(port: int) -> None:
    starts = [b"", b"GET / HTTP/1.1\r\n\r\n", b"API\0", GREETING, GREETING + frame([71, 2, 9, ""])]
    tails = [b"\xff" * 20, b"\0\0\0\0" * 50, frame(["x"]), frame(["3", "1"]), b"\0\0\0\x05\xff\xfe\xfd\xfc\0", b"\0\0"]
    for start in starts:
        for tail in tails:
            with socket.create_connection(("127.0.0.1", port), 5) as client, contextlib.suppress(OSError):
                client.sendall(start + tail)


def rubbish_by_control_port(port: int) -> None:
    lines = [
        b"\xff\xfe",
        b"{}",
        b"[" * 50_000,
        b'{"do": "set_price"}',
        b"x" * (1 << 21),
        b'{"do": "advance", "seconds": 1}',
    ]
    for line in lines:
        with socket.create_connection(("127.0.0.1", port), 5) as client:
            client.sendall(line + b"\n")
            assert b'"ok": false' in client.makefile("rb").readline()


COMMAND = b'{"do": "set_price", "symbol": "AAPL", "price": "1"}\n'
STRANGERS = [
    b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\n\r\n",
    b"OPTIONS /x HTTP/1.1\r\nOrigin: http://a.example\r\n\r\n",
    b"GET /chat HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\n",
    b"USER anonymous\r\n",
    b"\n",
    b"[]\n",
    b'{"price": 1}\n',
    b"x" * (1 << 21) + b"\n",
]


@pytest.mark.parametrize("opening", STRANGERS, ids=lambda opening: repr(opening[:12]))
@pytest.mark.parametrize("port", ["control", "TWS"])
def test_no_command_behind_a_line_of_another_protocol_is_obeyed(opening: bytes, port: str) -> None:
    async def check() -> None:
        server = PaperServer(Exchange(SystemClock()))
        control = ControlServer(server)
        await server.start()
        await control.start()
        reader, writer = await asyncio.open_connection(LOOPBACK, control.port if port == "control" else server.port)
        with contextlib.suppress(ConnectionError):
            writer.write(opening + COMMAND * 3)
            await writer.drain()
            assert b'"ok": true' not in await reader.read()  # read to the end: the connection is over
        assert server.exchange.price("AAPL") != 1
        writer.close()
        await control.stop()
        await server.stop()

    asyncio.run(asyncio.wait_for(check(), 20))


def test_command_that_is_refused_does_not_end_the_connection(tws: Tws) -> None:
    async def check() -> None:
        control = ControlServer(tws.server)
        await control.start()
        reader, writer = await asyncio.open_connection(LOOPBACK, control.port)
        writer.write(b'{"do": "dance"}\n' + COMMAND)
        assert [json.loads(await reader.readline())["ok"] for _ in range(2)] == [False, True]
        writer.close()
        await control.stop()

    asyncio.run(asyncio.wait_for(check(), 20))


def test_program_survives_rubbish_on_both_ports(eventually: Callable[..., object]) -> None:
    paper = Paper(stderr=subprocess.PIPE)
    rubbish_by_socket(paper.port)
    rubbish_by_control_port(paper.control._port)
    eventually(lambda: not [one for one in paper.control.do("status")["clients"] if one is not None])
    assert paper.control.price("EURUSD") > 0 and paper.end() == 0
    assert "Traceback" not in paper.said and "closed a connection: " in paper.said


@pytest.mark.parametrize(("options", "said"), [
    (["--port", "99999"], "99999 is not in the range"), (["--volatility", "2"], "2.0 is not in the range"),
    (["--accounts", " , "], "at least one account"), (["--truth", "{folder}/none/truth"], "No such file"),
    (["--scenario", "{folder}/none.toml"], "none.toml cannot be read"), (["--scenario", "{folder}/text"], "text: "),
    (["--contracts", "{folder}/text"], "text: "), (["--contracts", "{folder}/x.toml"], "contract X: missing"),
    (["--state", "{folder}/text"], "not a database"), (["--state", "{folder}/other.db"], "another version's state"),
    (["--state", "{folder}/more.db"], "--contracts as before"), (["--state", "{folder}/du2.db"], "--accounts as before"),
])  # fmt: skip
def test_start_that_cannot_be_is_said_in_one_line(tmp_path: Path, options: list[str], said: str) -> None:
    (tmp_path / "text").write_text("no database " * 100)
    (tmp_path / "x.toml").write_text('[[contract]]\nsymbol = "X"\n')
    for name, kind, body in (
        ("other", "order", '{"what": 1}'),
        ("more", "account", _account(1)),
        ("du2", "order", _order()),
    ):
        with contextlib.closing(sqlite3.connect(tmp_path / f"{name}.db")) as db, db:
            db.execute("CREATE TABLE kept (kind TEXT, key TEXT, body TEXT, PRIMARY KEY (kind, key))")
            db.execute("INSERT INTO kept VALUES (?, ?, ?)", (kind, "DU1234567" if kind == "account" else "1", body))
    ended = CliRunner().invoke(main, ["--port", "0", *(one.format(folder=tmp_path) for one in options)])
    assert ended.exit_code in (1, 2) and isinstance(ended.exception, SystemExit) and said in ended.output


def _account(con_id: int) -> str:
    return json.dumps({"name": "DU1234567", "positions": {str(con_id): {"quantity": "1"}}})


def _order() -> str:
    form = {"action": "BUY", "quantity": "1", "order_type": "MKT", "account": "DU2"}
    return json.dumps({"perm_id": 1, "client_id": 1, "order_id": 1, "form": form, "con_id": 265598, "quantity": "1",
                       "placed_at": "2026-04-13T14:30:00Z"})  # fmt: skip


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
def test_full_disk_ends_the_server_before_a_client_hears_anything() -> None:
    paper = Paper("--truth", "/dev/full", stderr=subprocess.PIPE)
    with socket.create_connection(("127.0.0.1", paper.port), 5) as client:
        client.sendall(GREETING + frame([71, 2, 1, ""]))
        heard = client.makefile("rb").read()
    assert b"DU1234567" not in heard
    assert paper.wait() == 1
    assert paper.said.startswith("paper TWS: ended, ") and "No space left" in paper.said and paper.said.count("\n") == 1


# -- long runs ------------------------------------------------------------------------------------------------


def test_earlier_days_are_cleared_away_but_not_the_family_of_a_live_order(tws: Tws, api: Api) -> None:
    api.bracket(tp=1.30, sl=1.10)
    for order_id in range(4, 24):
        api.place(AAPL, LimitOrder("BUY", 1, 300, orderId=order_id))
    for _ in range(3):
        tws.exchange.midnight()
    book = tws.exchange.floor.book
    assert sorted(one.order_id for one in book.orders.values()) == [1, 2, 3] and not book.executions
    assert (1, 4) not in book.handles
    api.place(AAPL, LimitOrder("BUY", 1, 300, orderId=4))
    assert api.errors()[-1] == 103


def test_truth_in_memory_is_bounded(tws: Tws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(truth, "MOST_KEPT", 50)
    for _ in range(200):
        tws.connect().session.close()
    entries = tws.exchange.floor.truth.entries
    assert len(entries) <= 50 and entries[-1]["n"] == 400


def test_frozen_tws_heaps_up_nothing(tws: Tws, api: Api) -> None:
    api.place(AAPL, LimitOrder("BUY", 1, 300, orderId=1))
    api.reqAccountUpdates(True, "DU1234567")
    tws.server.gateway.freeze()
    for _ in range(100):
        tws.advance(5)
    assert len(api.session._outbox) == 0


def test_client_that_reads_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper_server, "MOST_UNREAD", 1000)

    async def check() -> None:
        server = PaperServer(Exchange(SystemClock()))
        await server.start()
        with socket.create_connection((LOOPBACK, server.port)) as client:
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(client, GREETING + frame([71, 2, 9, ""]) + frame([81, 1, ""]) * 10_000)
            while not server.gateway.notes:
                await asyncio.sleep(0.01)
        assert server.gateway.notes[-1] == "closed a connection: 1000 bytes wait unread"
        await server.stop()

    asyncio.run(asyncio.wait_for(check(), 50))
