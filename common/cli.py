"""What the command lines have in common: `--version`, and a program with commands that has one by default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, TypeVar

import click

from common.version import VERSION

F = TypeVar("F", bound=Callable[..., Any])


def version_option(program: str) -> Callable[[F], F]:
    """Return a decorator that gives a command `--version`, which prints the program's name and its version."""
    return click.version_option(VERSION, prog_name=program, message="%(prog)s %(version)s")


class CommandGroup(click.Group):
    """A program whose commands are imported when they are used; flags without a command belong to the default one."""

    def __init__(
        self,
        *args: Any,
        commands_in: Mapping[str, tuple[str, str]],
        default: str,
        own_flags: tuple[str, ...] = ("--version",),
        **kwargs: Any,
    ) -> None:
        """Args:
        commands_in: command → the module and the name in it; beside those added as with any group.
        own_flags: Flags of the program itself, rather than of its default command.
        """
        super().__init__(*args, **kwargs)
        self._commands_in, self._default, self._own_flags = commands_in, default, own_flags

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.commands, *self._commands_in]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._commands_in:
            return super().get_command(ctx, cmd_name)
        module, name = self._commands_in[cmd_name]
        command: click.Command = getattr(import_module(module), name)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in self._own_flags):
            args = [self._default, *args]
        return super().parse_args(ctx, args)
