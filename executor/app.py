"""The composition root: one event loop that owns the connection, the scheduler and the journal's writes.

Everything that blocks runs in a thread; the page is another thread that reads the journal by itself and hands the
owner's wishes over here. One thing going wrong never ends the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import platform
import signal
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import TimeoutError as NotInTime
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from common import garbage
from common.channels import Channels
from common.clock import Clock, SystemClock
from common.errors import BridgeError, JournalError
from common.logs import get_logger
from common.version import VERSION
from executor.core.accounts import AccountRules
from executor.core.commands import Command
from executor.core.outcomes import StopCause
from executor.desk.desk import Desk
from executor.journal.journal import Journal
from executor.journal.lock import JournalLock
from executor.notify import Heartbeat, Notifier
from executor.paper_child import PaperChild
from executor.publisher import Publisher
from executor.relay.client import RelayClient, consumer_of
from executor.relay.polling import Poller
from executor.settings import Choices, ExecutorSettings
from executor.status import PageServer, PageSettings, create_app, serve
from executor.tws.client import LIBRARY, Tws
from executor.tws.connection import SleepWatch, Supervisor

log = get_logger(__name__)

TICK_SECONDS, PUBLISH_SECONDS, NOTIFY_SECONDS, TIDY_SECONDS = 0.5, 0.5, 1.0, 60.0
_COMMAND_SECONDS = 10.0
_READ_SECONDS = 8.0  # how long a button may wait for TWS to be read anew
_AGAIN_SECONDS = 5.0


@dataclass(slots=True)
class Parts:
    """What the executor is made of, put together."""

    desk: Desk
    supervisor: Supervisor
    poller: Poller
    notifier: Notifier
    heartbeat: Heartbeat
    publisher: Publisher
    tws: Tws
    child: PaperChild | None


def run(settings: ExecutorSettings, choices: Choices, ready: Callable[[list[str]], None]) -> None:
    """Trade until stopped. `ready` is called with the page's addresses once the page answers: this machine's
    own first, then those for other devices.

    Raises:
        AlreadyRunning: Another executor holds this journal.
        ConfigError: The page cannot be served as configured.
        JournalError: The journal cannot be opened.
    """
    log.info("starting", version=VERSION, library=LIBRARY, python=platform.python_version())
    clock = SystemClock()
    lock = JournalLock(settings.journal_path)
    lock.take(clock)
    try:
        journal = Journal.open(settings.journal_path, clock)
        try:
            asyncio.run(_trade(settings, choices, journal, clock, ready))
        finally:
            journal.close()
    finally:
        lock.release()


async def _trade(
    settings: ExecutorSettings, choices: Choices, journal: Journal, clock: Clock, ready: Callable[[list[str]], None]
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_say_loop_error)
    parts = compose(settings, choices, journal, clock)
    page = _serve_page(settings, parts, loop, ready)
    over = _stop_signals(loop)
    scheduler = _schedule(parts, clock)
    garbage.keep()
    tasks = [
        asyncio.ensure_future(_for_ever("connection", parts.supervisor.run)),
        asyncio.ensure_future(_for_ever("clock", lambda: _watch_clock(parts, scheduler, clock))),
    ]
    try:
        await over.wait()
        log.info("stopping", then="orders at the broker stay there, stops included")
    finally:
        scheduler.shutdown(wait=False)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        page.close()
        with contextlib.suppress(JournalError):
            parts.publisher.say_stopped()
        if parts.child:
            parts.child.end()


def compose(settings: ExecutorSettings, choices: Choices, journal: Journal, clock: Clock) -> Parts:
    """Put the executor together; nothing is started yet."""
    tws = Tws(clock, choices.contracts)
    account = settings.account or settings.live or journal.account() or ""
    client_id = settings.ib_client_id
    desk = Desk(journal, tws, clock, choices.policy, account, client_id, lambda why: None)
    child = PaperChild(settings.journal_path) if settings.paper else None
    supervisor = Supervisor(
        tws, desk, clock,
        AccountRules(settings.account, settings.live, built_in=settings.paper),
        client_id, child.address if child else _fixed(settings.ib_host, settings.ib_port),
    )  # fmt: skip
    desk.gate.want_snapshot = supervisor.want_snapshot  # each needs the other
    client = RelayClient(
        settings.relay_url, settings.relay_token, settings.signing_secrets, clock, settings.relay_ca,
        consumer_of(settings.journal_path),
    )  # fmt: skip
    held_back = lambda: supervisor.refused or desk.gate.why(StopCause.STORAGE)  # noqa: E731 - what cannot be kept is not fetched
    poller = Poller(client, desk, clock, held_back)
    channels = Channels(settings.notify_urls, "EXECUTOR_NOTIFY_URLS")
    notifier = Notifier(journal, channels, clock, lambda: desk.watch.unwritten)
    heartbeat = Heartbeat(settings.heartbeat_url, clock)
    publisher = Publisher(journal, tws, desk, supervisor.connection, clock)
    return Parts(desk, supervisor, poller, notifier, heartbeat, publisher, tws, child)


def _fixed(host: str, port: int) -> Callable[[], Awaitable[tuple[str, int]]]:
    async def address() -> tuple[str, int]:
        return host, port

    return address


# --- the page ---------------------------------------------------------------------------------------


def _serve_page(
    settings: ExecutorSettings, parts: Parts, loop: asyncio.AbstractEventLoop, ready: Callable[[list[str]], None]
) -> PageServer:
    desk, supervisor = parts.desk, parts.supervisor

    def submit(command: Command) -> str:
        """Pass a command from the page's thread to the loop, and its answer back."""

        async def obey() -> str:
            if command.kind.acts_on_positions:
                await supervisor.read_anew(_READ_SECONDS)
            return desk.command(command)

        answer = asyncio.run_coroutine_threadsafe(obey(), loop)
        try:
            return answer.result(_COMMAND_SECONDS)
        except NotInTime:
            answer.cancel()
            raise TimeoutError("the trading loop did not answer in time") from None

    def tell(what: str, words: str | None) -> None:
        """Pass a failure of the page from its thread to the loop, which raises the alarm or ends it."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(_guard, desk, partial(desk.watch.tell_page, what, words))

    page_settings = PageSettings(
        host=settings.flask_host,
        port=settings.flask_port,
        login_token=settings.page_token.reveal() if settings.page_token else None,
        templates=str(settings.templates) if settings.templates else None,
        relay_url=settings.relay_url,
        hosts=settings.page_hosts,
    )
    app = create_app(settings.journal_path, submit, page_settings, tell=tell)
    server = serve(app, settings.flask_host, settings.flask_port)
    bound = replace(page_settings, port=server.port)
    ready([bound.login_link, *bound.links_from_outside])
    return server


# --- the jobs ---------------------------------------------------------------------------------------


def _schedule(parts: Parts, clock: Clock) -> AsyncIOScheduler:
    """Start the jobs. Each runs on the loop, one at a time; a poll that ends plans the next one."""
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    scheduler = AsyncIOScheduler(
        timezone="UTC", job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
    )

    async def tick() -> None:
        _guard(parts.desk, parts.desk.tick)
        garbage.rest()

    async def publish() -> None:
        _guard(parts.desk, parts.publisher.publish)

    async def tidy() -> None:
        _guard(parts.desk, parts.desk.tidy)
        garbage.rest(long=True)
        if parts.desk.gate.is_well:
            await parts.heartbeat.turn(parts.poller.last_poll)

    for job, seconds in (
        (tick, TICK_SECONDS),
        (publish, PUBLISH_SECONDS),
        (parts.notifier.turn, NOTIFY_SECONDS),
        (tidy, TIDY_SECONDS),
    ):
        scheduler.add_job(job, "interval", seconds=seconds)
    scheduler.add_job(_poll, args=(parts.poller, scheduler, clock), id="poll")
    scheduler.start()
    return scheduler


async def _watch_clock(parts: Parts, scheduler: AsyncIOScheduler, clock: Clock) -> None:
    """Notice a sleep or a clock change: the scheduler waits by that clock, so its jobs must be woken."""
    sleep_watch = SleepWatch(clock)

    def look() -> None:
        if noticed := sleep_watch.look():
            for job in scheduler.get_jobs():
                job.modify(next_run_time=clock.now())
            parts.desk.clock_doubted(noticed)
            parts.supervisor.drop(f"{noticed}; reconnecting")

    parts.desk.before_turn = look  # before any timer is held against a time in which nothing was seen
    while True:
        await asyncio.sleep(TICK_SECONDS)
        look()


async def _poll(poller: Poller, scheduler: AsyncIOScheduler, clock: Clock) -> None:
    """Poll for as long as the relay answers; after a failure come back by the scheduler, after a pause."""
    pause = 0.0
    while pause <= 0.0:  # a job that plans itself for now would be skipped, as it still counts as running
        try:
            pause = await poller.turn()
        except asyncio.CancelledError:  # the end of the program; what is leased comes again
            return
        except Exception:
            log.exception("poll_failed")
            pause = _AGAIN_SECONDS
    at = clock.now() + timedelta(seconds=pause)
    scheduler.add_job(_poll, "date", run_date=at, args=(poller, scheduler, clock), id="poll", replace_existing=True)


def _guard(desk: Desk, step: Callable[[], None]) -> None:
    """Take a step; whatever it raises stops the sending of orders, and nothing else."""
    try:
        step()
    except Exception as exc:
        log.exception("step_failed")
        desk.stopped_by(exc)


async def _for_ever(name: str, task: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await task()
        except Exception:
            log.exception("task_failed", task=name, then=f"again in {_AGAIN_SECONDS:.0f} s")
        await asyncio.sleep(_AGAIN_SECONDS)


# --- the end ----------------------------------------------------------------------------------------


def _stop_signals(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    """Return an event that Ctrl-C or the system's request to stop sets."""
    over = asyncio.Event()
    names = ("SIGINT", "SIGTERM", "SIGBREAK")  # the last is Windows's own
    for number in [getattr(signal, name) for name in names if hasattr(signal, name)]:
        if sys.platform == "win32":
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(over.set))
        else:
            loop.add_signal_handler(number, over.set)
    return over


def _say_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """One line for what the loop complains of, such as bytes on the TWS socket that are no message."""
    error = context.get("exception")
    words = f"{type(error).__name__}: {error}" if error and not isinstance(error, BridgeError) else str(error or "")
    log.warning("loop_complained", text=str(context.get("message", "")), error=words)
