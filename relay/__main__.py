"""`python -m relay`: serve, or one of the owner's commands. Each command is imported when it is used."""

from __future__ import annotations

import click

from common.cli import CommandGroup, version_option

# command -> the module and the name in it
COMMANDS = {
    "serve": ("relay.serving", "serve"),
    "send": ("relay.send", "send"),
    "alert-message": ("relay.alert_message", "alert_message"),
    "refused": ("relay.admin", "refused"),
    "dead": ("relay.admin", "dead"),
    "requeue": ("relay.admin", "requeue"),
    "purge": ("relay.admin", "purge"),
    "pause": ("relay.admin", "pause"),
    "close-only": ("relay.admin", "close_only"),
    "resume": ("relay.admin", "resume"),
    "backup": ("relay.backup", "backup"),
    "doctor": ("relay.doctor", "doctor"),
}


@click.group(cls=CommandGroup, commands_in=COMMANDS, default="serve", own_flags=("--help", "--version"))
@version_option("signal-relay")
def main() -> None:
    """Take alerts, keep them safe, hand them to the executor at home.

    Without a command it serves: `python -m relay --port 8080`; its settings: `python -m relay serve --help`.
    """


if __name__ == "__main__":
    main(prog_name="python -m relay")
