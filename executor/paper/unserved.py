"""Requests for what a paper TWS does not have: refused in TWS's words, answered as empty, or ignored.

Every kind of request is in one of four tables: the three of this module and `answers.ANSWERS`.
"""

from __future__ import annotations

from executor.paper import replies
from executor.paper.requests import Request
from executor.paper.session import Answer, Session
from executor.paper.validation import NO_ADVISOR, invalid
from executor.paper.wire import whole

NO_REQUEST = 2**31 - 1  # what an error about a request without an id carries (source: deepentropy/ibx, issue 481)
DISPLAY_GROUPS = range(1, 8)  # source: ibkr-go, display_groups

# refusals of what a paper TWS does not offer: kind -> (code, words); source: IBKR Message Codes, recordings
REFUSED: dict[str, tuple[int, str]] = {
    "reqTickByTickData": (10189, "Failed to request tick-by-tick data:No market data permissions"),
    "reqHistoricalData": (162, "Historical Market Data Service error message:No market data permissions"),
    "reqHistoricalTicks": (162, "Historical Market Data Service error message:No market data permissions"),
    "reqHeadTimeStamp": (162, "Historical Market Data Service error message:No head time stamp"),
    "reqHistogramData": (162, "Historical Market Data Service error message:No market data permissions"),
    "reqRealTimeBars": (10089, "Requested market data requires additional subscription for API."),
    "reqMktDepth": (10092, "Deep market data is not supported for this combination of security type/exchange"),
    "reqScannerSubscription": (162, "Historical Market Data Service error message:No scanner permissions"),
    "reqFundamentalData": (430, "The fundamentals data for the security specified is not available."),
    "calculateImpliedVolatility": invalid("No option calculations"),
    "calculateOptionPrice": invalid("No option calculations"),
    "exerciseOptions": invalid("No options"),
    "reqNewsArticle": (10276, "News is not allowed."),
    "reqHistoricalNews": (10276, "News is not allowed."),
    "reqWshMetaData": (10276, "News is not allowed."),
    "reqWshEventData": (10276, "News is not allowed."),
    "replaceFA": NO_ADVISOR,
    # what was never begun cannot be cancelled
    "cancelMktDepth": (310, "Can't find the subscribed market depth with tickerId:{id}"),
    "cancelScannerSubscription": (365, "No scanner subscription found for ticker id:{id}"),
    "cancelHistoricalData": (366, "No historical data query found for ticker id:{id}"),
}
# empty but well-formed answers: kind -> message number and what follows the request id
EMPTY: dict[str, tuple[int, bool, tuple[object, ...]]] = {
    "reqSecDefOptParams": (76, True, ()),
    "reqSoftDollarTiers": (77, True, (0,)),
    "reqFamilyCodes": (78, False, (0,)),
    "reqMktDepthExchanges": (80, False, (0,)),
    "reqSmartComponents": (82, True, (0,)),
    "reqNewsProviders": (85, False, (0,)),
    "reqUserInfo": (107, True, ("",)),
}
# taken without an answer, as by TWS: settings, subscriptions that say something when there is something, cancels
SILENT = frozenset({
    "reqNewsBulletins", "cancelNewsBulletins", "cancelRealTimeBars", "cancelFundamentalData",
    "cancelCalculateImpliedVolatility", "cancelCalculateOptionPrice", "cancelHistogramData", "cancelHeadTimeStamp",
    "cancelTickByTickData", "cancelWshMetaData", "cancelWshEventData",
})  # fmt: skip


def answer(session: Session, request: Request) -> None:
    """Answer a request of this module's tables; one of `SILENT` is taken without an answer, as TWS does."""
    if request.kind in REFUSED:
        code, said = REFUSED[request.kind]
        session.error(request.req_id, code, said.format(id=request.req_id))
    elif request.kind in EMPTY:
        number, numbered, rest = EMPTY[request.kind]
        session.put([number, *([request.req_id] if numbered else []), *rest])


def log_level(session: Session, request: Request) -> None:
    if request.args["level"] not in ("1", "2", "3", "4", "5"):
        session.error(NO_REQUEST, 319, f"Invalid log level {request.args['level'][:40]}")


# -- display groups, financial advisors, signed programs ------------------------------------------------------


def display_groups(session: Session, request: Request) -> None:
    session.put(replies.display_groups(request.req_id, DISPLAY_GROUPS))


def subscribe_to_group(session: Session, request: Request) -> None:
    group = whole(request.args["group"])
    if group not in DISPLAY_GROUPS:
        session.error(request.req_id, *invalid("Invalid display group id"))
        return
    session.feeds.groups[request.req_id] = group
    session.put(replies.display_group(request.req_id, "none"))


def update_group(session: Session, request: Request) -> None:
    """Send a display group's new contract to every client that subscribes to that group."""
    group = session.feeds.groups.get(request.req_id)
    if group is None:
        session.error(request.req_id, *invalid("No display group subscription has this id"))
        return
    for other in session.gateway.sessions:
        for req_id in [one for one, followed in other.feeds.groups.items() if followed == group]:
            other.put(replies.display_group(req_id, request.args["contract_info"]))


def request_fa(session: Session, request: Request) -> None:
    session.error(NO_REQUEST, *NO_ADVISOR)


def verify(number: int) -> Answer:
    def refuse(session: Session, request: Request) -> None:
        session.put(replies.not_verified(number, "Verification is not offered"))

    return refuse
