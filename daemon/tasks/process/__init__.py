"""Processes of the operating system: who one is and whether it lives, starting an agent, watching it, ending it.

The only package that looks at processes or signals them.
"""

from tasks.process.ending import Graces, StopReport, stop, sweep
from tasks.process.environment import RUN_VARIABLE, TASK_VARIABLE, scrubbed
from tasks.process.identity import (
    PID_MAX,
    Liveness,
    ProcessIdentity,
    boot_id,
    command_line,
    identify,
    probe,
    started_at_ms,
)
from tasks.process.runfiles import RunFiles
from tasks.process.shim import spawn
from tasks.process.signalling import signal_process
from tasks.process.table import cpu_seconds, marked
from tasks.process.watch import Watch, reap

__all__ = [
    "PID_MAX",
    "RUN_VARIABLE",
    "TASK_VARIABLE",
    "Graces",
    "Liveness",
    "ProcessIdentity",
    "RunFiles",
    "StopReport",
    "Watch",
    "boot_id",
    "command_line",
    "cpu_seconds",
    "identify",
    "marked",
    "probe",
    "reap",
    "scrubbed",
    "signal_process",
    "spawn",
    "started_at_ms",
    "stop",
    "sweep",
]
