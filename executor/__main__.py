"""`python -m executor`: trade, or one of the owner's commands."""

from __future__ import annotations

import secrets
import sys
from dataclasses import replace
from pathlib import Path

import click

from common import garbage, logs
from common.cli import CommandGroup, version_option
from common.errors import BridgeError
from common.secret import Secret
from common.settings import ProgramSettings, click_options, speaking
from common.texts import add_text
from executor.settings import ExecutorSettings, load_choices

# command → the module and the name in it
COMMANDS = {
    "backup": ("executor.journal.backup", "backup"),
    "doctor": ("executor.doctor.doctor", "doctor"),
}
_TOKEN = "EXECUTOR_PAGE_TOKEN"  # noqa: S105 - a name


@click.group(cls=CommandGroup, commands_in=COMMANDS, default="run")
@version_option("signal-executor")
def main() -> None:
    """Fetch signals from the relay and trade them at TWS."""


@main.command()
@click_options(ExecutorSettings)
@speaking
def run(**flags: object) -> None:
    """Fetch signals from the relay and trade them at TWS or IB Gateway, until Ctrl-C.

    `python -m executor doctor` checks the setup instead.
    """
    settings = ExecutorSettings.load(flags)
    choices = load_choices(settings)
    logs.configure("executor", json=settings.log_json)
    settings = _with_page_token(settings)
    _hide_secrets(settings)
    logs.write_in_background()  # no order waits for the console
    garbage.collect_at_rest()
    from executor import app  # here: a mistake in the settings is reported without loading the rest

    try:
        app.run(settings, choices, _say_ready)
    except KeyboardInterrupt:
        sys.exit(130)
    except BridgeError as exc:
        if exc.code == "config":
            raise
        click.echo(f"executor: {exc}", err=True)
        sys.exit(1)


def _say_ready(links: list[str]) -> None:
    """Print the page's addresses on the console; the login token in them goes nowhere else."""
    click.echo(f"Status page: {links[0]}")
    for link in links[1:]:
        click.echo(f"From a phone or another computer in your network: {link}")


def _with_page_token(settings: ExecutorSettings) -> ExecutorSettings:
    """Return settings with a login token where the page needs one: a new one is kept in `.env` for the next start."""
    if settings.page_is_local or settings.page_token:
        return settings
    token = secrets.token_urlsafe(24)
    path = Path.cwd() / ".env"
    line = f"\n# Login token of the status page, generated at the first start.\n{_TOKEN}={token}\n"
    try:
        add_text(path, line)
    except OSError as exc:
        click.echo(f"{path} cannot be written ({exc.strerror}): the page's login token changes at each start", err=True)
    return replace(settings, page_token=Secret(token))


def _hide_secrets(settings: ProgramSettings) -> None:
    for value in vars(settings).values():
        if isinstance(value, Secret):
            logs.never_log(value.reveal(), *value.items())


if __name__ == "__main__":
    main(prog_name="python -m executor")
