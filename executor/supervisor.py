"""Keeps the connection to TWS: connects, reads everything, watches, and begins again when it is lost. No person needed."""

from __future__ import annotations

import asyncio
from dataclasses import astuple

from common.clock import Clock
from common.errors import BrokerUnavailable, JournalError
from common.logs import get_logger

from .alarms import Alarms
from .broker import Snapshot
from .desk import Desk
from .journal import Journal
from .tws import SnapshotIncomplete, Tws

log = get_logger(__name__)

FIRST_TRIES, FIRST_PAUSE = 3, 5.0
PAUSES = (5.0, 10.0, 20.0, 30.0)  # after the first tries
SETTLE_SECONDS = 3.0
PROBE_EVERY, PROBE_SECONDS = 2.0, 2.0
LIVE_PREFIXES = ("DU", "DF")  # source: IBKR: paper accounts and paper advisor accounts begin so


class AccountMismatch(BrokerUnavailable):
    """The login is not the one to trade with; the text says why and what to do."""

    code = "account-mismatch"


class Supervisor:
    """One connection after another, for ever. `desk` hears when the broker is seen and when not."""

    def __init__(
        self,
        tws: Tws,
        desk: Desk,
        journal: Journal,
        alarms: Alarms,
        clock: Clock,
        where: tuple[str, int, int],
        account: str | None,
        live: str | None,
    ) -> None:
        self._tws, self._desk, self._journal, self._alarms, self._clock = tws, desk, journal, alarms, clock
        self._host, self._port, self._client_id = where
        self._wanted, self._live = account or live, live
        self._look = asyncio.Event()
        self.mismatch = False  # while True nothing is polled either

    def want_snapshot(self, why: str) -> None:
        """Take a complete snapshot soon, and hand it to the desk; asked often, taken once."""
        log.debug("snapshot_wanted", why=why)
        self._look.set()

    async def run(self) -> None:
        """Connect and serve until cancelled."""
        failures = 0
        while True:
            reason, was_ready = await self._one_connection(failures + 1)
            failures = 0 if was_ready else failures + 1
            self._tws.disconnect()
            self._desk.disconnected(reason)
            await asyncio.sleep(self._pause(failures))

    def _pause(self, failures: int) -> float:
        if failures == 0:
            return 1.0
        return FIRST_PAUSE if failures < FIRST_TRIES else PAUSES[min(failures - FIRST_TRIES, len(PAUSES) - 1)]

    async def _one_connection(self, attempt: int) -> tuple[str, bool]:
        """Return why the connection ended, and whether it had come as far as ready."""
        try:
            await self._tws.connect(self._host, self._port, self._client_id)
            account = self._account()
            await self._read_everything(account)
        except (BrokerUnavailable, JournalError) as exc:
            self._say_failure(exc, attempt)
            return str(exc), False
        log.info("tws_ready", host=self._host, port=self._port, account=account)
        try:
            return await self._serve(), True
        except (BrokerUnavailable, JournalError) as exc:
            log.warning("tws_lost", reason=str(exc))
            return str(exc), True

    def _say_failure(self, exc: Exception, attempt: int) -> None:
        if isinstance(exc, AccountMismatch | JournalError):
            self.mismatch = True
            self._alarms.raise_("account", "", str(exc))
        tries = f"{attempt} of {FIRST_TRIES}" if attempt <= FIRST_TRIES else f"{attempt}, going on"
        log.warning("tws_not_connected", attempt=tries, reason=str(exc))

    # ---- the account ----

    def _account(self) -> str:
        """Return the account to trade, and bind the journal to it.

        Raises:
            AccountMismatch: The login, the journal and the command line do not agree; the text says the mend.
        """
        accounts = [a for a in self._tws.accounts if a]
        account = self._wanted or self._journal.account() or (accounts[0] if len(accounts) == 1 else None)
        if account is None:
            raise AccountMismatch(f"this login has several accounts ({', '.join(accounts)}): say which by --account")
        if account not in accounts:
            raise AccountMismatch(
                f"account {account} is not in this login ({', '.join(accounts)}): log in to it, or --account"
            )
        if not account.startswith(LIVE_PREFIXES) and account != self._live:
            raise AccountMismatch(f"{account} is a live account: to trade real money start with --live {account}")
        self._journal.bind_account(account)
        self._desk.account = account
        self.mismatch = False
        self._alarms.clear("account", "", f"connected to account {account}")
        return account

    # ---- snapshots ----

    async def _read_everything(self, account: str) -> None:
        """Read the broker to its end; twice and equally where an order is in doubt, then tell the desk."""
        self._tws.use_account(account)
        self._tws.listener = self._desk
        self._desk.connecting("connected, reading orders and positions")
        snapshot = await self._tws.snapshot()
        while self._desk.needs_settling():
            await asyncio.sleep(SETTLE_SECONDS)
            again = await self._tws.snapshot()
            settled, snapshot = _same(snapshot, again), again
            if settled:
                break
        self._look.clear()
        self._desk.reconciled(snapshot)

    async def _serve(self) -> str:
        """Watch the connection until it ends, and return why."""
        tasks = [asyncio.ensure_future(c) for c in (self._tws.lost(), self._heartbeat(), self._snapshots())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            reason = done.pop().result()
            log.warning("tws_lost", reason=reason)
            return str(reason)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _heartbeat(self) -> str:
        """A round trip every two seconds: a frozen TWS and a half-open socket are noticed by its silence."""
        while True:
            before = self._clock.now()
            await asyncio.sleep(PROBE_EVERY)
            slept = (self._clock.now() - before).total_seconds()
            if slept > PROBE_EVERY + 30:
                return f"this machine slept for {slept:.0f} s: everything is read again"
            await self._tws.probe(PROBE_SECONDS)

    async def _snapshots(self) -> str:
        failures = 0
        while failures < FIRST_TRIES:
            await self._look.wait()
            self._look.clear()
            try:
                self._desk.reconciled(await self._tws.snapshot())
                failures = 0
            except SnapshotIncomplete as exc:
                failures += 1
                log.warning("snapshot_incomplete", reason=str(exc))
                self._look.set()
                await asyncio.sleep(1)
        return "TWS did not answer completely three times in a row"


def _same(one: Snapshot, other: Snapshot) -> bool:
    """Whether two snapshots show the same orders, executions and positions."""
    parts = [(s.open_orders, s.completed_orders, s.fills, [astuple(p)[:4] for p in s.positions]) for s in (one, other)]
    return parts[0] == parts[1]
