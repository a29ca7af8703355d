"""The command `tasksd`. Nothing is imported here that a quick answer does not need."""

import sys


def main() -> int:
    """Run the command line in `sys.argv`; returns the exit code (see tasks.errors)."""
    arguments = sys.argv[1:]
    try:
        from tasks.cli import quick

        if arguments and arguments[0] in quick.READERS and (code := quick.answer(arguments)) is not None:
            return code
        from tasks.cli.app import run

        return run(arguments)
    except KeyboardInterrupt:
        return 130  # what a shell reports for a process that SIGINT ended
