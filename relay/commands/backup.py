"""`python -m relay backup FILE`: copy the queue while the relay runs."""

from __future__ import annotations

from pathlib import Path

import click

from common.backup import BackupFailed, copy_database
from common.settings import click_options, speaking
from relay.commands.queue import QueueSettings
from relay.pending import sqlite_file


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click_options(QueueSettings)
@speaking
def backup(file: Path, queue_url: str | None) -> None:
    """Copy the whole queue into FILE while the relay runs (SQLite; for PostgreSQL use pg_dump)."""
    url = QueueSettings.load({"queue_url": queue_url}).queue_url
    source = sqlite_file(url)
    if not source:
        raise click.ClickException("the queue is PostgreSQL: pg_dump --format=custom --file=FILE DATABASE-URL")
    try:
        size = copy_database(Path(source), file)
    except BackupFailed as exc:
        raise click.ClickException(str(exc)) from exc
    click.echo(f"{file}: {size} bytes, checked and intact")
