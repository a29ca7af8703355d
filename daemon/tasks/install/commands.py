"""Running the service managers' own commands, through one callable that tests replace."""

import os
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

#: `subprocess.run` or a stand-in that takes the same arguments.
Run = Callable[..., subprocess.CompletedProcess[str]]

TIMEOUT = 120.0  # seconds; a restart waits for TimeoutStopSec and then for READY=1, at most TimeoutStartSec
SETTLE_TIMEOUT = 50.0  # seconds; ExitTimeOut of the launchd agent and a little


@dataclass(frozen=True, slots=True)
class Step:
    """One command of an installation."""

    argv: tuple[str, ...]
    #: its failure changes nothing about the result
    may_fail: bool = False
    #: a command that has to fail before the next step may run
    until_fails: tuple[str, ...] = ()

    def __str__(self) -> str:
        return shlex.join(self.argv)


@dataclass(frozen=True, slots=True)
class Commands:
    """Runs commands with `environ`; never raises for one that is missing (127), hangs (124) or fails."""

    run: Run
    environ: Mapping[str, str]

    def call(self, *argv: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environ = {**self.environ, "LC_ALL": "C", **variables}
        runtime = f"/run/user/{os.getuid()}"
        if "XDG_RUNTIME_DIR" not in environ and Path(runtime).is_dir():
            environ["XDG_RUNTIME_DIR"] = runtime  # lost by `su`, and then no user manager is found
        try:
            return self.run(
                argv,
                env=environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=TIMEOUT,
                check=False,
            )
        except FileNotFoundError:
            return subprocess.CompletedProcess(argv, 127, "", f"{argv[0]}: not found")
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(argv, 124, "", f"no answer within {TIMEOUT:.0f} s")
        except OSError as error:
            return subprocess.CompletedProcess(argv, 126, "", str(error))

    def perform(self, step: Step) -> str | None:
        """Run one step; None, or what went wrong."""
        done = self.call(*step.argv)
        if step.until_fails:
            end = time.monotonic() + SETTLE_TIMEOUT
            while self.call(*step.until_fails).returncode == 0 and time.monotonic() < end:
                time.sleep(0.2)
        if done.returncode == 0 or step.may_fail:
            return None
        return done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}"
