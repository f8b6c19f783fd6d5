"""The classes of the program and of its commands: how they parse, and what their errors say."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import click

from ..errors import RequestValidationError
from .exits import Exit, ExitCode, exit_codes_help
from .options import label

_COMMON_CODES = (
    ExitCode.DONE,
    ExitCode.FAILED,
    ExitCode.USAGE,
    ExitCode.INTERRUPTED,
    ExitCode.CLOSED_PIPE,
)


class Command(click.Command):
    """A command whose errors name its own options instead of the fields of a request."""

    def __init__(
        self, name: str | None, *, exit_codes: Iterable[ExitCode] = (), **options: Any
    ) -> None:
        """Describe a command.

        Args:
            name: what a user types.
            exit_codes: those that not every command has.
            options: what click takes.
        """
        super().__init__(name, epilog=exit_codes_help({*_COMMON_CODES, *exit_codes}), **options)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments. Unlike click's own error, ours does not quote them."""
        ctx.allow_extra_args = True
        rest = super().parse_args(ctx, args)
        if rest and not ctx.resilient_parsing:
            raise Exit(ExitCode.USAGE, "Too many arguments. Try --help.")
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Errors of arguments name the options that a user typed."""
        try:
            return super().invoke(ctx)
        except RequestValidationError as error:
            labels = {parameter.name: label(parameter) for parameter in self.params}
            message = f"{labels.get(error.field, error.field)} ({error.shape}) {error.reason}"
        raise Exit(ExitCode.USAGE, message)


class Group(click.Group):
    """The program: its commands, in the order in which they are declared."""

    command_class: type[click.Command] | None = Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which they are declared."""
        del ctx
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command. An unknown name is only quoted if it looks like one of a command."""
        if args[0] not in self.commands and not ctx.resilient_parsing:
            name = f" '{args[0]}'" if re.fullmatch("[a-z-]+", args[0]) else ""
            raise Exit(ExitCode.USAGE, f"No such command{name}. Try --help.")
        return super().resolve_command(ctx, args)
