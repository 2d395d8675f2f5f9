"""All connections of one TWS: client ids, message boundaries, freezes, and the way of an event to its clients."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from datetime import datetime, timedelta

from executor.paper import answers, shown
from executor.paper.events import (
    Commissioned,
    Event,
    Executed,
    Notice,
    OrderShown,
    PositionMoved,
    PricesMoved,
    Refused,
    StatusShown,
)
from executor.paper.exchange import Exchange
from executor.paper.orders import Execution, Order
from executor.paper.owner import Owner
from executor.paper.session import Session

OnMessage = Callable[[str, str, int], None]
PUSH_SECONDS = 3.0  # how often moving prices reach the account values


class Gateway:
    """The TWS between the clients and the exchange."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.owner = Owner(exchange)
        self.sessions: list[Session] = []
        self.accepting = True
        self.frozen = False
        self.hooks: list[OnMessage] = []  # called with direction, kind, running number of that direction
        self.counts: Counter[str] = Counter()  # direction -> messages so far
        self.notes: deque[str] = deque(maxlen=100)  # what a log would want to know
        self.on_note: Callable[[str], None] = lambda text: None
        self.stopped: dict[str, object] | None = None  # the boundary at which `stop_at` froze everything
        self.chores: list[Callable[[], None]] = []  # done between two messages, never in the middle of one
        self._pumping = False
        self._held_ids: dict[int, datetime] = {}  # clientId -> until when it stays taken
        self._pushed_at = exchange.floor.now
        self._quiet: list[Event] | None = None  # events held back while 1100 lasts, if asked
        exchange.on_event = self._route

    # -- connections ------------------------------------------------------------------------------------------

    def attach(self, write: Callable[[bytes], None], on_close: Callable[[], None] = lambda: None) -> Session:
        """Connect a client by functions instead of a socket.

        Raises:
            ConnectionRefusedError: TWS is down, as it is while it restarts.
        """
        if not self.accepting or self.exchange.floor.faults.standing("refuse_connections"):
            raise ConnectionRefusedError("the paper TWS is down")
        session = Session(self, answers.answer, write, on_close)
        session.paused = self.frozen
        self.sessions.append(session)
        return session

    def pump(self) -> None:
        """Handle all waiting messages, one at a time, also when a client answers from within a write."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while any([self._do_chores(), *(session.handle_next() for session in list(self.sessions))]):
                pass
        finally:
            self._pumping = False

    def _do_chores(self) -> bool:
        chores, self.chores = self.chores, []
        for chore in chores:
            chore()
        return bool(chores)

    def claim(self, session: Session, client_id: int) -> bool:
        """Give a client id to a session; False if another has it, or a dead one still holds it."""
        floor = self.exchange.floor
        if any(one.client_id == client_id for one in self.sessions if one is not session):
            return False
        until = self._held_ids.get(client_id)
        if until is not None and until > floor.now:
            return False
        for order in floor.book.orders.values():
            order.muted = order.muted and order.client_id != client_id
        self.exchange.lose_at_login(client_id)
        floor.truth.add(floor.now, "connected", clientId=client_id)
        return True

    def left(self, session: Session) -> None:
        self.sessions.remove(session)
        if session.client_id is None:
            return
        floor = self.exchange.floor
        floor.truth.add(floor.now, "disconnected", clientId=session.client_id)
        fault = floor.faults.standing("hold_client_id")
        if fault:
            self._held_ids[session.client_id] = floor.now + timedelta(seconds=fault.seconds() or 0.0)

    def close_all(self) -> None:
        for session in list(self.sessions):
            session.cut()

    def note(self, text: str) -> None:
        self.notes.append(text)
        self.on_note(text)

    # -- the boundary of every message ------------------------------------------------------------------------

    def count(self, direction: str, kind: str) -> None:
        self.counts[direction] += 1
        for hook in self.hooks:
            hook(direction, kind, self.counts[direction])

    def boundary(self, session: Session, direction: str, when: str, kind: str) -> bool:
        """Let the faults `drop` and `stop_at` act at this boundary; False if the message must not pass."""
        faults = self.exchange.floor.faults
        if faults.take_message("drop", when, direction, kind):
            session.cut()
            return False
        if faults.take_message("stop_at", when, direction, kind):
            self.stopped = {"direction": direction, "when": when, "kind": kind}
            self.freeze()
            return False
        return True

    def freeze(self) -> None:
        """Stay connected and do nothing: nothing is read, nothing is written."""
        self.frozen = True
        for session in self.sessions:
            session.paused = True

    def thaw(self) -> None:
        """Go on after a freeze."""
        self.stopped, self.frozen = None, False
        for session in list(self.sessions):
            if not self.frozen:  # another `stop_at` may lie in what waited
                session.resume()
        self.pump()

    # -- events -----------------------------------------------------------------------------------------------

    def of(self, client_id: int) -> Session | None:
        return next((one for one in self.sessions if one.client_id == client_id), None)

    def tick(self) -> None:
        """Move time: what is due in the exchange, then the account values if prices moved them."""
        self.exchange.tick()
        now = self.exchange.floor.now
        if (now - self._pushed_at).total_seconds() >= PUSH_SECONDS:
            self._pushed_at = now
            for session in [one for one in self.sessions if not one.is_paused()]:
                session.put_all(session.feeds.values_moved())
                session.put_all(session.feeds.portfolio_moved())
        self.pump()

    def hold_events(self) -> None:
        """Keep every order event back until `release_events`; what is asked meanwhile is answered from before."""
        self._quiet = [] if self._quiet is None else self._quiet
        self.exchange.floor.look_away()

    def forget_events(self) -> None:
        """Lose what was kept back, as a restart of TWS does; it asks IB's servers again."""
        self._quiet = self.exchange.floor.stale = None

    def lose_order_events(self) -> None:
        """Lose what was kept back of orders and executions; of positions TWS learns when it is connected again."""
        if self._quiet is not None:
            self._quiet = [event for event in self._quiet if isinstance(event, (PositionMoved, PricesMoved))]

    def release_events(self) -> None:
        held, self._quiet = self._quiet or [], None
        self.exchange.floor.stale = None
        for event in held:
            self._route(event)

    def _route(self, event: Event) -> None:
        if self._quiet is not None and not isinstance(event, Notice):
            self._quiet.append(event)
            return
        match event:
            case OrderShown() | StatusShown():
                self._order(event)
            case Refused():
                self._refused(event)
            case Executed() | Commissioned():
                self._executed(event)
            case PositionMoved() | PricesMoved():
                self._moved(event)
            case Notice():
                for session in list(self.sessions):
                    session.error(-1, event.code, event.words)

    def _order(self, event: OrderShown | StatusShown) -> None:
        order = event.order
        session = self._owner(order)
        if session and not order.muted:
            if isinstance(event, OrderShown):
                session.put(shown.open_order(self.exchange.floor, order, session.version))
            if not (isinstance(event, OrderShown) and event.alone):
                session.put(shown.order_status(order))
        other = self.of(event.to) if event.to is not None else None
        if other and other is not session:  # the canceller hears of it under its own id (source: recorded)
            mine = order.copy()
            mine.client_id = event.to or 0
            other.put(shown.order_status(mine))

    def _owner(self, order: Order | Execution) -> Session | None:
        session = self.of(order.client_id)
        if order.order_id <= 0 and session and not session.auto_bind:
            return None
        return session

    def _refused(self, event: Refused) -> None:
        session = self.of(event.client_id)
        if session and not event.muted and event.order_id:
            session.error(event.order_id, event.code, event.words)

    def _executed(self, event: Executed | Commissioned) -> None:
        session = self._owner(event.execution)
        if session is None or event.muted:
            return
        if isinstance(event, Executed):
            session.put(shown.execution(self.exchange.floor, -1, event.execution))
        else:
            session.put(shown.commission(event.execution, unset=event.amount is None))

    def _moved(self, event: PositionMoved | PricesMoved) -> None:
        for session in list(self.sessions):
            if isinstance(event, PositionMoved):
                session.put_all(session.feeds.position_moved(event.account, event.con_id))
            else:
                session.put_all(session.feeds.prices_moved(event.con_ids))
