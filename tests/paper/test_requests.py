"""Every request that a client can send has an answer, or is one that TWS takes in silence; none leaves a client waiting."""

from __future__ import annotations

import pytest

from executor.paper.answers import ANSWERS
from executor.paper.requests import CONTRACT, TABLE
from executor.paper.unserved import EMPTY, NO_REQUEST, REFUSED, SILENT
from executor.paper.wire import Receiver, frame
from tests.paper.harness import AAPL, Api, Tws

KINDS = {name: number for number, (name, _) in TABLE.items() if name != "startApi"}
APPLE = dict.fromkeys(CONTRACT, "") | {"symbol": "AAPL", "sec_type": "STK", "exchange": "SMART", "currency": "USD"}
RIGHT = {"v": "1", "req_id": "77", "hedge": "0", "account": "DU1234567", "con_id": "265598", "group": "1", "level": "5",
         "bind": "1", "subscribe": "1", "tags": "All", "pattern": "AAPL", "type": "1", "snapshot": "0"}  # fmt: skip
WRONG = RIGHT | {"account": "DU9", "con_id": "424242", "group": "99", "level": "9"}
# what nobody waits for: silent when all is well, an error when not
QUIET = {"setServerLogLevel", "reqMarketDataType", "reqAutoOpenOrders"}


def ask(api: Api, kind: str, given: dict[str, str]) -> list[list[str]]:
    """Send a request with these fields and return the messages that came back."""
    fields: list[str] = []
    for name in TABLE[KINDS[kind]][1].split():
        contract = APPLE | {"con_id": given["con_id"]}
        fields += contract.values() if name == "contract" else [] if name == "legs" else [given.get(name, "")]
    heard: list[bytes] = []
    api.session._write = heard.append
    api.session.receive(frame([KINDS[kind], *fields]))
    receiver = Receiver()
    return [fields for data in [b"API\0", *heard] for fields in receiver.feed(data)]


def test_every_kind_is_in_just_one_table() -> None:
    tables = [ANSWERS, REFUSED, EMPTY, SILENT]
    assert {kind: sum(kind in table for table in tables) for kind in KINDS} == dict.fromkeys(KINDS, 1)
    assert set().union(*tables) == set(KINDS)


@pytest.mark.parametrize("given", [RIGHT, WRONG], ids=["right", "wrong"])
@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"placeOrder"}))
def test_no_request_leaves_its_client_waiting(kind: str, given: dict[str, str]) -> None:
    heard = ask(Tws().connect(0), kind, given)
    cancels = kind.startswith(("cancel", "unsubscribe"))
    silent = kind in SILENT or kind == "reqGlobalCancel" or (kind in QUIET and given is RIGHT)
    if not cancels:
        assert bool(heard) != silent or kind in QUIET
    errors = [fields for fields in heard if fields[0] == "4"]
    if "req_id" in TABLE[KINDS[kind]][1] and kind != "reqMarketRule":
        assert {fields[2] for fields in errors} <= {"77"}


def test_every_wrong_account_or_contract_is_an_error_of_its_request() -> None:
    asked = [kind for kind, number in KINDS.items()
             if {"account", "con_id", "contract"} & set(TABLE[number][1].split())]  # fmt: skip
    for kind in asked:
        if kind != "reqExecutions":  # there it is a filter
            assert [fields[0] for fields in ask(Tws().connect(0), kind, WRONG)] == ["4"], kind


def test_financial_advisor_request_has_no_id_and_is_refused(api: Api) -> None:
    api.requestFA(1)
    api.replaceFA(5, 1, "<xml/>")
    said = "Error validating request.-'bN' : cause - FA data operations ignored for non FA customers."
    assert api.take() == [("error", (NO_REQUEST, 321, said, "")), ("error", (5, 321, said, ""))]


def test_display_group_is_shared_by_those_who_follow_it(tws: Tws, api: Api) -> None:
    second, third = tws.connect(2), tws.connect(3)
    for one, group in ((api, 1), (second, 1), (third, 2)):
        one.subscribeToGroupEvents(9, group)
        assert one.take() == [("displayGroupUpdated", (9, "none"))]
    api.updateDisplayGroup(9, "265598@SMART")
    second.unsubscribeFromGroupEvents(9)
    api.updateDisplayGroup(9, "12087792@IDEALPRO")
    api.updateDisplayGroup(10, "265598@SMART")
    assert [args[1] for _, args in second.take()] == ["265598@SMART"] and third.take() == []
    assert [args[1] for _, args in api.take()] == ["265598@SMART", "12087792@IDEALPRO", 321]


def test_cancel_of_what_was_never_begun_says_so(api: Api) -> None:
    """300 after a subscription that was refused is what every log of a real TWS is full of (nautilus_trader)."""
    api.cancelMktData(5)
    api.reqMktData(6, AAPL, "", False, False, [])
    api.take()
    api.cancelMktData(6)
    api.cancelMktDepth(7, False)
    api.cancelHistoricalData(8)
    api.cancelScannerSubscription(9)
    assert [args[:2] for _, args in api.take()] == [(7, 310), (8, 366), (9, 365)]
    api.cancelMktData(6)
    assert api.take()[0][1][:3] == (6, 300, "Can't find EId with tickerId:6")
