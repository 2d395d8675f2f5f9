"""`python -m relay`: serve, or one of the owner's commands. Each command is imported when it is used."""

from __future__ import annotations

from importlib import import_module

import click

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


class LazyGroup(click.Group):
    """The commands of the table; without a command, or with only flags, it serves."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), name)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] != "--help"):
            args = ["serve", *args]
        return super().parse_args(ctx, args)


@click.group(cls=LazyGroup)
def main() -> None:
    """Take alerts, keep them safe, hand them to the executor at home.

    Without a command it serves: `python -m relay --port 8080`; its settings: `python -m relay serve --help`.
    """


if __name__ == "__main__":
    main(prog_name="python -m relay")
