"""`python -m relay`: serve, or one of the owner's commands. Each command is imported when it is used."""

from __future__ import annotations

import click

from common.cli import CommandGroup, version_option

# command -> the module and the name in it
COMMANDS = {
    "serve": ("relay.commands.serve", "serve"),
    "send": ("relay.commands.send", "send"),
    "alert-message": ("relay.commands.alert_message", "alert_message"),
    "refused": ("relay.commands.queue", "refused"),
    "dead": ("relay.commands.queue", "dead"),
    "requeue": ("relay.commands.queue", "requeue"),
    "purge": ("relay.commands.queue", "purge"),
    "pause": ("relay.commands.queue", "pause"),
    "close-only": ("relay.commands.queue", "close_only"),
    "resume": ("relay.commands.queue", "resume"),
    "backup": ("relay.commands.backup", "backup"),
    "doctor": ("relay.commands.doctor", "doctor"),
}


@click.group(cls=CommandGroup, commands_in=COMMANDS, default="serve", own_flags=("--help", "--version"))
@version_option("signal-relay")
def main() -> None:
    """Take alerts, keep them safe, hand them to the executor at home.

    Without a command it serves: `python -m relay --port 8080`; its settings: `python -m relay serve --help`.
    """


if __name__ == "__main__":
    main(prog_name="python -m relay")
