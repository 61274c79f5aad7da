"""The ``regflow`` command. Each subcommand is a module of :mod:`regflow.commands`."""

from importlib import import_module
from typing import Any

import click

from regflow import __version__
from regflow.core.errors import InputError, RegistrationError, describe_machine_failure
from regflow.core.threads import limit_sums_to_one_thread

COMMANDS = (
    *("init", "check", "run", "status", "verify", "reproduce", "demo"),
    *("register", "compare", "apply", "detect", "template", "series", "mosaic", "stack"),
    *("train", "weights", "completion"),
)


class _Refusal(click.ClickException):
    """A user's mistake: one sentence, and the exit code of wrong usage."""

    exit_code = 2


def _with_lines_kept(command: click.Command) -> click.Command:
    r"""Make the marks ``\b`` of a raw docstring the characters by which click keeps a block's lines."""
    command.help = (command.help or "").replace(r"\b", "\b")
    return command


class _Commands(click.Group):
    """The subcommands, imported when asked for; expected errors become one sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"regflow.commands.{cmd_name}"), cmd_name)
        return _with_lines_kept(command)

    def invoke(self, ctx: click.Context) -> Any:
        limit_sums_to_one_thread()
        try:
            return super().invoke(ctx)
        except InputError as error:
            raise _Refusal(str(error)) from error
        except RegistrationError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            reason = describe_machine_failure(error)
            if reason is None:
                raise
            raise click.ClickException(reason) from error


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="regflow")
def main() -> None:
    r"""Bring images onto one another: a pair, or a cohort from a sample sheet to a report.

    \b
    One pair, no set-up:
      regflow register atlas.nii.gz subject.nii.gz -o aligned
    \b
    A cohort:
      regflow init study          # writes study/config/{config.yaml,samples.tsv}, commented
      cd study                    # ... name your volumes in the sheet ...
      regflow check               # what is wrong with my inputs, all at once
      regflow run                 # everything, to results/report/index.html

    Every command explains itself: regflow COMMAND --help.
    """


_with_lines_kept(main)
