"""tasksd: durable history, a bounded pool and commit policy for Claude Code agents.

Nothing is imported here: the command line starts in milliseconds because of it.
"""


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version("tasksd")
