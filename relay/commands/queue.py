"""The owner's commands on the queue: what was refused, what is dead, and the kill switch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from common.clock import SystemClock, utc_text
from common.errors import QueueError
from common.settings import ProgramSettings, click_options, setting, speaking
from relay.pending import open_pending, sqlite_file
from relay.pending.base import Mode, Pending
from relay.settings import RelaySettings, queue_url

LIMIT = click.IntRange(1, 100_000)
HOURS = click.IntRange(0, 24 * 365)


@dataclass(frozen=True, kw_only=True)
class QueueSettings(ProgramSettings):
    """Where the queue is; the same setting as the relay's."""

    env_prefix = "RELAY_"
    of_one_command = True
    queue_url: str = setting(
        RelaySettings.queue_url,
        help="The pending queue: sqlite:///FILE or postgresql://…",
        check=queue_url,
        secret=True,
    )


@contextmanager
def opened(flags: dict[str, Any]) -> Iterator[Pending]:
    """Open the queue for one command; an unreachable queue ends the command with one line."""
    url = QueueSettings.load(flags).queue_url
    _must_exist(url)
    pending = open_pending(url)
    try:
        yield pending
    except QueueError as exc:
        raise click.ClickException(f"the queue cannot be used: {exc.message}") from exc
    finally:
        pending.close()


def _must_exist(url: str) -> None:
    """End the command if it would create a new queue: pausing that one would stop nothing."""
    path = sqlite_file(url)
    if path and not Path(path).is_file():
        raise click.ClickException(
            f"there is no queue at {Path(path).absolute()}: run this in the relay's directory, or name its queue with "
            "--queue-url sqlite:///FILE"
        )


def queue_command(name: str) -> Callable[[Callable[..., None]], click.Command]:
    """Make a command that gets the opened queue as its first argument."""

    def decorate(function: Callable[..., None]) -> click.Command:
        @speaking
        def run(queue_url: str | None, **arguments: Any) -> None:
            with opened({"queue_url": queue_url}) as pending:
                function(pending, **arguments)

        run.__doc__ = function.__doc__
        run.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
        return click.command(name)(click_options(QueueSettings)(run))

    return decorate


@queue_command("refused")
@click.option("--limit", type=LIMIT, default=20, show_default=True, help="How many, newest first.")
def refused(pending: Pending, limit: int) -> None:
    """List authenticated alerts that were refused, and why."""
    found = pending.refused(limit)
    for each in found:
        click.echo(f"{utc_text(each.at)}  {each.code}  {each.reason}\n    {_line(each.body)}")
    click.echo(f"{len(found)} refused" if found else "No alert was refused.")


@queue_command("dead")
@click.option("--limit", type=LIMIT, default=20, show_default=True, help="How many, oldest first.")
def dead(pending: Pending, limit: int) -> None:
    """List dead letters: signals that are no longer delivered, and why."""
    found = pending.dead(limit)
    for each in found:
        times = f"received {utc_text(each.received_at)}, dead since {utc_text(each.dead_at)}"
        click.echo(f"{each.id}  {each.action} {each.symbol}  {times}, after {each.attempts} leases")
        click.echo(f"    {_line(each.reason)}")
    click.echo("Bring one back: python -m relay requeue ID" if found else "No dead letters.")


@queue_command("requeue")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
def requeue(pending: Pending, ids: tuple[str, ...]) -> None:
    """Bring dead letters back to the queue."""
    now = SystemClock().now()
    missing = [id for id in ids if not pending.requeue(id, now)]
    click.echo(f"{len(ids) - len(missing)} requeued")
    if missing:
        raise click.ClickException(f"no such dead letter: {', '.join(missing)}")


@queue_command("purge")
@click.option("--dead", "state", flag_value="dead", default="dead", help="Dead letters (the default).")
@click.option("--pending", "state", flag_value="pending", help="Waiting signals: they will not be traded.")
@click.option("--older-than", type=HOURS, default=0, metavar="HOURS", help="Only those accepted longer ago than this.")
@click.confirmation_option(prompt="Discard them for good?")
def purge(pending: Pending, state: Any, older_than: int) -> None:
    """Discard dead letters, or waiting signals."""
    now = SystemClock().now()
    click.echo(f"{pending.purge(state, now - timedelta(hours=older_than), now)} discarded")


def _switch(name: str, mode: Mode, help: str, said: str) -> click.Command:
    def run(pending: Pending) -> None:
        pending.set_mode(mode)
        click.echo(said)

    run.__doc__ = help
    return queue_command(name)(run)


pause = _switch(
    "pause", "paused", "Accept alerts and hold them: nothing is delivered.", "Paused: alerts wait. To continue: resume"
)
close_only = _switch(
    "close-only",
    "close-only",
    "Deliver closes and resets only; entries are held.",
    "Close-only: entries wait, everything else is delivered. To continue: resume",
)
resume = _switch("resume", "open", "Deliver everything again.", "Open: everything is delivered.")


def _line(text: str) -> str:
    """Return text that a stranger wrote, safe to print in one line."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
