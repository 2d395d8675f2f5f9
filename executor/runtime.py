"""The composition root: one event loop owns the broker, the scheduler and the journal; the page has its own thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from common.clock import Clock
from common.errors import JournalError
from common.logs import get_logger

from .alarms import Alarms
from .broker import Contract
from .commands import Command
from .desk import Desk
from .intake import Intake
from .journal import Journal
from .notify import Notifier
from .relay_client import RelayClient
from .settings import Choices, ExecutorSettings
from .status import PageServer, PageSettings, create_app, serve
from .supervisor import Supervisor
from .tws import Tws

log = get_logger(__name__)

TICK, PUBLISH = 0.5, 1.0
BUTTON_SECONDS = 5.0


class Executor:
    """Everything of one executor, wired together."""

    def __init__(
        self, settings: ExecutorSettings, choices: Choices, journal: Journal, ib_port: int, clock: Clock
    ) -> None:
        self._settings, self._journal, self._clock = settings, journal, clock
        self._alarms = Alarms(journal)
        self._tws = Tws(clock, choices.contracts)
        account = settings.account or settings.live or journal.account() or ""
        self.desk = Desk(
            journal, self._tws, self._alarms, clock, choices.policy, account, settings.ib_client_id, self._want_snapshot
        )
        where = (settings.ib_host, ib_port, settings.ib_client_id)
        self._supervisor = Supervisor(
            self._tws, self.desk, journal, self._alarms, clock, where, settings.account, settings.live
        )
        client = RelayClient(
            settings.relay_url, settings.relay_token, settings.signing_secrets, clock, settings.relay_ca
        )
        self._client = client
        self._intake = Intake(client, journal, self.desk, self._alarms, clock)
        self._notifier = Notifier(journal, clock, settings.notify_urls, settings.heartbeat_url)
        self._scheduler = AsyncIOScheduler(job_defaults={"coalesce": True, "max_instances": 1})
        self._since = clock.now()
        self._status = ""

    def _want_snapshot(self, why: str) -> None:
        self._supervisor.want_snapshot(why)

    async def run(self, page_token: str | None) -> None:
        """Run until told to stop."""
        stop = asyncio.Event()
        _on_signals(asyncio.get_running_loop(), stop.set)
        self._publish()
        page = self._open_page(page_token)
        connection = asyncio.ensure_future(self._supervisor.run())
        self._schedule()
        try:
            await asyncio.wait({connection, asyncio.ensure_future(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
            if connection.done():
                connection.result()
        finally:
            self._scheduler.shutdown(wait=False)
            connection.cancel()
            self._tws.disconnect()
            page.close()
            self._client.close()
            log.info("executor_stopped")

    # ---- the page ----

    def _open_page(self, token: str | None) -> PageServer:
        settings = self._settings
        loop = asyncio.get_running_loop()
        page = PageSettings(
            host=settings.flask_host, port=settings.flask_port, login_token=token,
            templates=str(settings.templates) if settings.templates else None, relay_url=settings.relay_url,
            version=_version(), hosts=tuple(settings.page_hosts),
        )  # fmt: skip

        def submit(command: Command) -> str:
            return asyncio.run_coroutine_threadsafe(self._obey(command), loop).result(BUTTON_SECONDS)

        server = serve(create_app(Path(settings.journal_path), submit, page), settings.flask_host, settings.flask_port)
        shown = PageSettings(host=page.host, port=server.port, login_token=token)
        print(f"The page: {shown.login_link}", flush=True)  # the one place where the login link is shown
        return server

    async def _obey(self, command: Command) -> str:
        return self.desk.command(command)

    # ---- the jobs ----

    def _schedule(self) -> None:
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        jobs: list[tuple[Callable[..., Any], float]] = [
            (self._tick, TICK), (self._publish_job, PUBLISH), (self._tell, PUBLISH),
        ]  # fmt: skip
        for job, seconds in jobs:
            self._scheduler.add_job(job, "interval", seconds=seconds)
        self._scheduler.add_job(self._poll)
        self._scheduler.start()

    async def _tick(self) -> None:
        self.desk.tick()

    async def _publish_job(self) -> None:
        self._publish()

    async def _tell(self) -> None:
        with contextlib.suppress(JournalError):  # the desk has stopped and said so
            await self._notifier.turn()
            await self._notifier.heartbeat(self.desk.can_send)

    async def _poll(self) -> None:
        """Poll for as long as the relay answers; after a failure come back by the scheduler, after a pause."""
        pause = 0.0
        while pause == 0.0:
            pause = 1.0 if self._supervisor.mismatch else await self._poll_once()
        self._scheduler.add_job(self._poll, "date", run_date=self._clock.now() + timedelta(seconds=pause))

    async def _poll_once(self) -> float:
        try:
            return await self._intake.turn()
        except Exception:  # one turn must not end the loop; nothing was acked that was not committed
            log.exception("poll_failed")
            return 1.0

    # ---- what the page shows of the moment ----

    def _publish(self) -> None:
        try:
            for key, value in self._moment().items():
                self._journal.publish(key, value)
        except JournalError as exc:
            self.desk.stopped_by(exc)

    def _moment(self) -> dict[str, Any]:
        desk, status = self.desk, self.desk.status()
        word = "connected" if desk.ready_since else "disconnected"
        if word != self._status:
            self._status, self._since = word, self._clock.now()
        contracts = [c for c in desk.contracts.values() if isinstance(c, Contract)]
        return {
            "connection": {
                "status": word, "text": status["text"], "account": desk.account, "mode": status["mode"],
                "since": self._since.isoformat(), "stops": status["stops"], "relay": self._intake.relay_text,
            },
            "desk": status,
            "account": dict(self._tws.account_view().values),
            "positions": [_shown(p) for p in self._tws.positions()],
            "contracts": {c.symbol: {"multiplier": str(c.multiplier), "currency": c.currency} for c in contracts},
        }  # fmt: skip


def _shown(position: Any) -> dict[str, Any]:
    return {
        "symbol": position.symbol, "con_id": position.con_id, "account": position.account, "position": position.quantity,
        "avgCost": position.avg_cost, "market_price": position.market_price, "unrealized": position.unrealized,
    }  # fmt: skip


def _version() -> str:
    try:
        return version("signal-executor")
    except PackageNotFoundError:
        return "from source"


def _on_signals(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
    """Have Ctrl-C and the system's wish to end stop the loop, also on Windows, where loops take no signals."""
    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        number = getattr(signal, name, None)
        if number is None:
            continue
        try:
            loop.add_signal_handler(number, stop)
        except (NotImplementedError, RuntimeError):
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))
