"""The command `tasksd`. Nothing is imported here that a quick answer does not need."""

import sys


def main() -> int:
    """Run the command line in `sys.argv`; returns the exit code (see tasks.errors)."""
    from tasks.cli.app import run

    return run(sys.argv[1:])
