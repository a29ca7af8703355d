"""`tasksd up`: the daemon in the foreground."""

import logging
import os
import signal
import sys
from typing import Any, NoReturn

import click

from tasks import config
from tasks.errors import EXIT_FAILED, EXIT_OK, TasksError


@click.command()
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
@click.option("--log-format", metavar="FORMAT", help="auto, text or json.")
@click.option("--stop-agents", is_flag=True, help="End the agents of tasks together with the daemon.")
@click.option("--web", is_flag=True, help="Serve the page on loopback (as web.enabled does).")
@click.option(
    "--web-port", type=click.IntRange(0, 65535), metavar="PORT", help="Where; 0: any that is free. Implies --web."
)
@click.pass_obj
def up(
    data_dir: str | None,
    log_level: str | None,
    log_format: str | None,
    stop_agents: bool,
    web: bool,
    web_port: int | None,
) -> None:
    """Run the daemon in the foreground until SIGTERM or Ctrl-C. Agents at work go on, and the next daemon adopts them."""
    # Until the daemon handles it itself there is nothing to finish.
    signal.signal(signal.SIGTERM, lambda *_: _end(EXIT_OK))
    options = {
        "log_level": log_level,
        "log_format": log_format,
        "web_enabled": "true" if web or web_port is not None else None,
        "web_port": None if web_port is None else str(web_port),
    }
    _end(_run(data_dir, options, stop_agents=stop_agents))


def _run(data_dir: str | None, options: dict[str, str | None], *, stop_agents: bool) -> int:
    try:
        chosen: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
        settings = config.load(data_dir=data_dir, **chosen)
        from tasks import daemon

        return daemon.run(settings, stop_agents=stop_agents)
    except TasksError as error:
        from tasks.cli.app import say

        say(f"tasksd up: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_OK
    except Exception:
        logging.getLogger("tasks.cli").critical("the daemon ended by a bug", exc_info=True)
        return EXIT_FAILED


def _end(code: int) -> NoReturn:
    """End the process whatever threads may still hang in."""
    try:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
