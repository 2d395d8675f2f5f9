"""The connection to TWS, kept alive without a person: connect, check the account, read everything, watch, again.

The desk may send only between a complete snapshot and the first sign of trouble. Trouble is anything that leaves a
doubt: no answer to a probe, a closed socket, a part of a snapshot that did not end, a computer that slept.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from common.clock import Clock, utc_text
from common.errors import BridgeError, BrokerUnavailable, JournalError
from common.logs import get_logger
from executor.core.accounts import AccountRefused, AccountRules, refuse_other_client
from executor.core.conditions import AlarmKind
from executor.core.outcomes import Link, StopCause
from executor.core.ports import Snapshot
from executor.desk.desk import Desk
from executor.tws.client import Tws
from executor.tws.reading import same_picture
from executor.tws.wire import ClientIdInUse

log = get_logger(__name__)

FIRST_TRIES = 3
_FIRST_PAUSE = 5.0
_FIRST_PAUSES = (_FIRST_PAUSE,) * FIRST_TRIES + (10.0, 20.0, 30.0)
_LATER_PAUSES = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)  # after a connection that stood
_REFUSED_PAUSE = 30.0
PROBE_EVERY, PROBE_SECONDS = 2.0, 2.0
SETTLE_SECONDS = 3.0
_SNAPSHOT_GAP = 1.0  # at least so long between two snapshots that the desk asked for
_LINK_LOST_SECONDS = 120.0
_SLEPT_SECONDS = 6.0


@dataclass(slots=True)
class Connection:
    """What the page shows of the connection."""

    status: Link = Link.DISCONNECTED
    text: str = "starting"
    since: datetime | None = None
    account: str = ""
    mode: str = ""

    def shown(self) -> dict[str, str]:
        since = utc_text(self.since) if self.since else ""
        return {
            "status": self.status,
            "text": self.text,
            "since": since,
            "account": self.account,
            "mode": self.mode,
        }


class SleepWatch:
    """Notices that this computer slept, or that its clock was set: the two clocks went on by different amounts."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._now, self._elapsed = clock.now(), clock.monotonic()

    def look(self) -> str | None:
        """Return what happened since the last call, in words; None if nothing did."""
        now, elapsed = self._clock.now(), self._clock.monotonic()
        wall, run = (now - self._now).total_seconds(), elapsed - self._elapsed
        self._now, self._elapsed = now, elapsed
        if max(wall, run) > _SLEPT_SECONDS:
            return f"this computer, or this program, was suspended for {max(wall, run):.0f} s"
        if wall < -_SLEPT_SECONDS:
            return f"this computer's clock was set back by {-wall:.0f} s"
        return None


class Supervisor:
    """Owns the connection; `run` goes on until it is cancelled."""

    def __init__(
        self,
        tws: Tws,
        desk: Desk,
        clock: Clock,
        rules: AccountRules,
        client_id: int,
        address: Callable[[], Awaitable[tuple[str, int]]],
    ) -> None:
        """Args:
        address: tells host and port before each try; it may start a paper TWS for that.
        """
        self._tws, self._desk = tws, desk
        self._clock, self._rules, self._client_id, self._address = clock, rules, client_id, address
        self._wanted, self._handed = asyncio.Event(), asyncio.Event()
        self._stood = False  # whether a connection ever stood
        self._said = ""
        self._trouble: asyncio.Future[str] | None = None
        self.connection = Connection(since=clock.now())
        self.refused: str | None = None  # why the account may not be traded; signals are not fetched meanwhile

    def want_snapshot(self, why: str) -> None:
        """Request a complete snapshot soon; several requests are one snapshot."""
        log.debug("snapshot_wanted", why=why)
        self._wanted.set()

    async def read_anew(self, seconds: float) -> None:
        """Return once the desk has everything as it was read after now; or after so many seconds, or where TWS is away."""
        asked_at = self._clock.now()
        self.want_snapshot("the owner chose")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._desk.ready_since is not None and not self._desk.sight.was_read_since(asked_at):
                    self._handed.clear()
                    await self._handed.wait()

    def drop(self, why: str) -> None:
        """Drop the current connection at once, and reconnect."""
        if self._trouble is not None and not self._trouble.done():
            self._desk.disconnected(why)
            self._trouble.set_result(why)

    async def run(self) -> None:
        """Keep a connection forever: retry after each failure, with a pause."""
        failures = 0
        while True:
            try:
                await self._session()
            except BridgeError as exc:
                failures = 1 if self.connection.status is Link.CONNECTED else failures + 1
                self._over(exc, failures)
            except Exception as exc:  # a bug of ours: nothing more is sent, and the owner is alerted
                log.exception("connection_failed")
                self._set_down(f"a bug in this program: {exc!r}")
                self._desk.stopped_by(exc)
            finally:
                self._tws.disconnect()
            pauses = _LATER_PAUSES if self._stood else _FIRST_PAUSES
            await asyncio.sleep(_REFUSED_PAUSE if self.refused else pauses[min(failures, len(pauses)) - 1])

    def _over(self, error: BridgeError, failures: int) -> None:
        if isinstance(error, AccountRefused):
            self._refuse(str(error))
        else:
            self._down(error, failures)

    # --- one connection -----------------------------------------------------------------------------

    async def _session(self) -> None:
        """Connect and stay connected; ends only by raising what ended it."""
        host, port = await self._address()
        self._desk.gate.connecting(f"connecting to TWS at {host}:{port}")
        await self._tws.connect(host, port, self._client_id)
        account = self._rules.choose(self._tws.accounts, self._desk.book.bound_account)
        refuse_other_client(self._client_id, self._desk.book.other_clients(self._client_id))
        self._accept(account, host, port)
        self._trouble = asyncio.get_running_loop().create_future()
        tasks = [asyncio.ensure_future(each) for each in (self._ended(), self._heartbeat(), self._snapshots())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    async def _ended(self) -> None:
        """Raise why the connection ended, once it has, or once somebody gave it up."""
        assert self._trouble is not None  # noqa: S101 - made by the only caller
        lost = asyncio.ensure_future(self._tws.lost())
        try:
            done, _ = await asyncio.wait({lost, self._trouble}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            lost.cancel()
        raise BrokerUnavailable(done.pop().result())

    async def _heartbeat(self) -> None:
        lost_at: float | None = None
        while True:
            await asyncio.sleep(PROBE_EVERY)
            await self._tws.probe(PROBE_SECONDS)
            lost_at = (lost_at or self._clock.monotonic()) if self._tws.wire.link_lost else None
            if lost_at is not None and self._clock.monotonic() - lost_at > _LINK_LOST_SECONDS:
                raise BrokerUnavailable("TWS has been without IBKR for two minutes; reconnecting")

    async def _snapshots(self) -> None:
        """Hand the desk a snapshot now, and whenever one is wanted."""
        while True:
            self._wanted.clear()
            snapshot = await self._settled() if self._must_settle() else await self._tws.snapshot()
            self._desk.reconciled(snapshot)
            self._handed.set()
            if self._desk.ready_since is not None:  # else TWS is without IBKR, or the snapshot was too old
                self._up()
            await asyncio.sleep(_SNAPSHOT_GAP)
            await self._wanted.wait()

    def _must_settle(self) -> bool:
        return self._desk.ready_since is None and self._desk.needs_settling()

    async def _settled(self) -> Snapshot:
        """Return a snapshot that agrees with one some seconds older: nothing is still in flight."""
        before = await self._tws.snapshot()
        while True:
            await asyncio.sleep(SETTLE_SECONDS)
            after = await self._tws.snapshot()
            if same_picture(before, after, {trade.con_id for trade in self._desk.book.unfinished()}):
                return after
            before = after

    # --- reporting ----------------------------------------------------------------------------------

    def _accept(self, account: str, host: str, port: int) -> None:
        self._desk.book.bind_account(account)
        if self.refused:
            self._desk.gate.forbid(StopCause.ACCOUNT, None)
            self.refused = None
        self._desk.alarms.state(AlarmKind.ACCOUNT, None, over=f"account {account} may be traded")
        self._desk.gate.forbid(
            StopCause.LINK, None
        )  # what the last connection reported about IBKR; this one reports again
        self._watch_wire()
        self._tws.use_account(account, self._desk)
        self.connection.account, self.connection.mode = account, self._rules.mode(account)
        log.info("tws_connected", host=host, port=port, account=account, mode=self.connection.mode)

    def _watch_wire(self) -> None:
        wire = self._tws.wire
        wire.on_notice, wire.on_trouble = self._notice, self._wire_trouble

    def _notice(self, code: int, text: str) -> None:
        quiet = 2100 <= code < 2200 and code != 2110
        (log.debug if quiet else log.warning)("tws_said", code=code, text=text)

    def _wire_trouble(self, error: BaseException | None, text: str, ours: bool) -> None:
        """A message that could not be read or processed: read everything again; a bug of ours stops the desk."""
        log.error("message_not_taken_in", text=text, error=repr(error) if error else None)
        if ours and isinstance(error, Exception):
            self._desk.stopped_by(error)
        self.want_snapshot("a message from TWS could not be processed")

    def _up(self) -> None:
        self._stood = True
        if self.connection.status is not Link.CONNECTED:
            self._said = ""
            connection = self.connection
            connection.status, connection.since = Link.CONNECTED, self._clock.now()
            connection.text = f"TWS, {connection.mode} account {connection.account}"
            log.info("trading_ready", account=connection.account)

    def _down(self, error: BridgeError, failures: int) -> None:
        text = str(error)
        if isinstance(error, ClientIdInUse):
            text = (
                f"client id {self._client_id} is in use at TWS ({text}); waiting until it is free, since our orders "
                "belong to it. Stop the other program that uses it"
            )
        self._set_down(text)
        if not self._stood and failures <= FIRST_TRIES:
            more = f"next try in {_FIRST_PAUSE:.0f} s" if failures < FIRST_TRIES else "retrying in the background"
            log.error("tws_not_connected", attempt=f"{failures} of {FIRST_TRIES}", reason=text, then=more)
        elif text != self._said:
            log.warning("tws_disconnected", reason=text, then="retrying in the background")
        self._said = text

    def _refuse(self, text: str) -> None:
        """The account may not be traded: nothing is sent, no signal is fetched, until TWS shows the right one."""
        if self.refused != text:
            log.error("account_refused", reason=text)
        self.refused = text
        self._desk.gate.forbid(StopCause.ACCOUNT, text)
        self._set_down(text)
        with contextlib.suppress(JournalError):  # logged above; the desk reports what is wrong with the journal
            self._desk.alarms.state(AlarmKind.ACCOUNT, text)

    def _set_down(self, text: str) -> None:
        if self.connection.status is Link.CONNECTED or not self.connection.since:
            self.connection.since = self._clock.now()
        self.connection.status, self.connection.text = Link.DISCONNECTED, text
        self._desk.disconnected(text)
