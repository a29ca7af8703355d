"""Sending a signal to one process and to no other."""

import os
import signal
import sys

from tasks.process.identity import Liveness, ProcessIdentity, probe
from tasks.process.watch import open_pidfd

if sys.platform == "linux":

    def signal_process(identity: ProcessIdentity, signum: int) -> bool:
        """Send `signum` to exactly that process. False, and nothing is sent: it is gone, or a zombie, or another has its
        pid, or we may not signal it."""
        pidfd = open_pidfd(identity)
        if pidfd is None:
            # Gone, or a kernel without pidfds.
            return _by_pid(identity, signum)
        try:
            if probe(identity) is not Liveness.ALIVE:
                return False
            signal.pidfd_send_signal(pidfd, signum)
        except (ProcessLookupError, PermissionError):
            return False
        finally:
            os.close(pidfd)
        return True

else:

    def signal_process(identity: ProcessIdentity, signum: int) -> bool:
        """Send `signum` to exactly that process; False: it is gone or we may not signal it. There are no pidfds here:
        it is looked at right before."""
        return _by_pid(identity, signum)


def _by_pid(identity: ProcessIdentity, signum: int) -> bool:
    if probe(identity) is not Liveness.ALIVE:
        return False
    try:
        os.kill(identity.pid, signum)
    except (ProcessLookupError, PermissionError):
        return False
    return True
