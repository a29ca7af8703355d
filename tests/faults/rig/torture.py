"""An agent that does all it can to outlive its end: run as a program with a ledger and a list of traits.

Every process it ever makes first notes itself in the ledger, a line `pid start-ticks kind` each.
"""

import os
import signal
import sys
import time
from collections.abc import Callable

#: kinds of process, by what they do to be overlooked
TRAITS = (
    "deaf",  # a child, like the agent itself: ignores INT, TERM, HUP and QUIT
    "session",  # in a session of its own
    "orphan",  # in a session of its own, its parent gone
    "daemon",  # the same, all descriptors closed
    "cleared",  # its environment gone
    "cleared-session",  # the same, in a session of its own
    "cleared-orphan",  # the same, parent gone and descriptors closed, but in the agent's session
    "cleared-holder",  # the same, in a session of its own, but with the agent's output
    "chain",  # ends as soon as it has made its successor, again and again, in a session of its own
    "storm",  # makes children that make children, all of them for a moment only
)


def note(kind: str) -> None:
    with open("/proc/self/stat") as stat:
        started = stat.read().rpartition(")")[2].split()[19]
    ledger = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(ledger, f"{os.getpid()} {started} {kind}\n".encode())
    os.close(ledger)


def idle() -> None:
    while True:
        time.sleep(60)


def fork(then: Callable[[], None]) -> None:
    if os.fork() == 0:
        try:
            then()
        finally:
            os._exit(0)


def orphan(then: Callable[[], None]) -> None:
    fork(lambda: fork(then))


def be(kind: str) -> None:
    """Become a process of that kind, for good."""
    if kind in ("session", "chain", "orphan", "daemon", "cleared-session", "cleared-holder"):
        os.setsid()
    if kind in ("daemon", "cleared-orphan"):
        os.closerange(0, 256)
    note(kind)
    if kind.startswith("cleared"):
        os.execve("/bin/sleep", ["sleep", "600"], {})  # noqa: S606 - the environment is the point
    elif kind == "storm":
        storm()
    elif kind == "chain":
        chain()
    idle()


def storm() -> None:
    """Some 20 processes at a time, a hundred new ones a second."""
    while True:
        fork(brief)
        time.sleep(0.02)


def chain() -> None:
    """Hundreds of processes a second, one at a time; the ledger has every hundredth."""
    for number in range(1_000_000):
        # At full speed init does not keep up with reaping them.
        time.sleep(0.001)
        if os.fork() != 0:
            os._exit(0)
        if number % 100 == 99:
            note("link")


def brief() -> None:
    note("brief")
    fork(briefer)
    time.sleep(0.1)


def briefer() -> None:
    note("briefer")
    time.sleep(0.2)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)
    note("agent")
    traits = sys.argv[2].split(",")
    for kind in traits:
        start = orphan if kind in ("orphan", "daemon", "cleared-orphan", "cleared-holder") else fork
        start(lambda kind=kind: be(kind))  # type: ignore[misc]
    while True:
        with open(sys.argv[1]) as ledger:
            if {line.split()[2] for line in ledger} >= set(traits):
                break
        time.sleep(0.005)
    print("up", flush=True)
    idle()


if __name__ == "__main__":
    main()
