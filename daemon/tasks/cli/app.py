"""The tree of commands, and the one place where errors become exit codes."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from tasks.errors import EXIT_FAILED, EXIT_OK, TasksError
from tasks.text import printable

#: What a shell reports for a process that SIGINT, or SIGPIPE, ended.
EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 130, 141

#: Command → the module that has it under the same name; loaded when it is used.
_COMMANDS = {
    "status": "tasks.cli.readers",
    "sessions": "tasks.cli.readers",
    "session": "tasks.cli.readers",
    "tools": "tasks.cli.readers",
    "errors": "tasks.cli.readers",
    "costs": "tasks.cli.costs",
    "events": "tasks.cli.readers",
    "stats": "tasks.cli.stats",
    "submit": "tasks.cli.submit",
    "tasks": "tasks.cli.tasks",
    "show": "tasks.cli.tasks",
    "logs": "tasks.cli.logs",
    "cancel": "tasks.cli.orders",
    "retry": "tasks.cli.orders",
    "merge": "tasks.cli.orders",
    "clean": "tasks.cli.orders",
    "pool": "tasks.cli.pool",
    "doctor": "tasks.cli.doctor",
    "demo": "tasks.cli.demo",
    "up": "tasks.cli.up",
    "dashboard": "tasks.cli.dashboard",
    "hooks": "tasks.cli.hooks",
    "service": "tasks.cli.service",
    "backfill": "tasks.cli.backfill",
    "quarantine": "tasks.cli.quarantine",
    "export": "tasks.cli.export",
    "db": "tasks.cli.store",
    "users": "tasks.cli.users",
    "purge": "tasks.cli.purge",
    "completion": "tasks.cli.completion",
}


class _Commands(click.Group):
    """Loads the module of a command on first use, so that none pays for the imports of another."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = _COMMANDS.get(cmd_name)
        return None if module is None else getattr(import_module(module), cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        # Before click sees them: it would end the process itself, with exit codes of its own.
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED
        except OSError as error:
            return failed_output(error)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False),
    metavar="FOLDER",
    help="Where the database, the spool and the socket are (default: TASKSD_DATA_DIR, the config file, "
    "$XDG_STATE_HOME/tasksd or ~/.local/state/tasksd).",
)
@click.version_option(package_name="tasksd", message="tasksd %(version)s")
@click.pass_context
def tasksd(context: click.Context, data_dir: str | None) -> None:
    """Durable history of Claude Code agents, and a pool that works off tasks with them.

    \b
    Start here:  tasksd hooks install     record what agents do
                 tasksd service install   keep the daemon running (or: tasksd up)
                 tasksd submit "…"        hand over work; tasksd tasks shows where it stands
                 tasksd status            see how everything is
                 tasksd dashboard         see it in a browser
                 tasksd doctor            see what is wrong, and what to do about it

    Exit codes: 0 ok, 1 failed, 2 wrong usage, 69 daemon not running, 75 another daemon is running, 78 wrong configuration.
    """
    context.obj = data_dir


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code. Errors are said in one line on stderr."""
    try:
        code = tasksd.main(list(arguments), prog_name="tasksd", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code if isinstance(code, int) else EXIT_OK
    except TasksError as error:
        say(f"tasksd: {error}")
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except OSError as error:
        return failed_output(error)


def failed_output(error: OSError) -> int:
    """The exit code after our output could not be written. A reader that has left has what it wanted."""
    # The interpreter must not fail on what is left once more at its end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if isinstance(error, BrokenPipeError):
        return EXIT_BROKEN_PIPE
    say(f"tasksd: {error}")
    return EXIT_FAILED


def say(line: str) -> None:
    """Something for the person, on stderr."""
    print("\n".join(printable(part) for part in line.split("\n")), file=sys.stderr)
