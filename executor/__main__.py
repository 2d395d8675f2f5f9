"""`python -m executor`: polls the relay, trades on TWS, shows the page."""

from __future__ import annotations

import asyncio
import secrets
import sys
from pathlib import Path
from time import sleep
from typing import Any

import click

from common.clock import SystemClock
from common.errors import BridgeError
from common.logs import configure, never_log
from common.settings import click_options, speaking

from .journal import Journal
from .lock import JournalLock
from .paper_child import PaperChild
from .settings import ExecutorSettings, load_choices


@click.command()
@click_options(ExecutorSettings)
@speaking
def main(**flags: Any) -> None:
    """Take signals from the relay, trade them on TWS or IB Gateway, and show what happened on a page."""
    settings = ExecutorSettings.load(flags)
    choices = load_choices(settings)
    configure("executor", json=settings.log_json)
    token = _page_token(settings)
    never_log(token or "")
    lock, paper, clock = JournalLock(settings.journal_path), PaperChild(settings.journal_path), SystemClock()
    try:
        lock.take(clock, sleep, tries=3)
        journal = Journal.open(settings.journal_path, clock)
        port = paper.start() if settings.paper else settings.ib_port
        from .runtime import Executor

        asyncio.run(_run(Executor, settings, choices, journal, port, clock, token))
    except BridgeError as exc:
        sys.exit(f"executor: {exc}")
    finally:
        paper.end()
        lock.release()


async def _run(executor: Any, *parts: Any) -> None:
    await executor(*parts[:-1]).run(parts[-1])


def _page_token(settings: ExecutorSettings) -> str | None:
    """Return the page's login token; where one is needed and none is set, a new one is put into `.env`."""
    if settings.page_is_local:
        return None
    if settings.page_token is not None:
        return next(iter(settings.page_token.items()), None)
    token = secrets.token_urlsafe(24)
    env = Path(".env")
    fresh = not env.exists()
    with env.open("a", encoding="utf-8") as file:
        file.write(f"EXECUTOR_PAGE_TOKEN={token}\n")
    if fresh:
        env.chmod(0o600)
    return token


if __name__ == "__main__":
    main(prog_name="python -m executor")
