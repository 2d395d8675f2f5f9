"""`python -m executor backup FILE`: copy the journal while the executor runs."""

from __future__ import annotations

from pathlib import Path

import click

from common.backup import BackupFailed, copy_database


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--db", default="trade_state.db", show_default=True, type=click.Path(path_type=Path), help="The journal.")
def backup(file: Path, db: Path) -> None:
    """Copy the journal into FILE, whole, while the executor runs."""
    try:
        size = copy_database(db, file)
    except BackupFailed as exc:
        raise click.ClickException(str(exc)) from exc
    click.echo(f"{file}: {size} bytes, checked and intact")
