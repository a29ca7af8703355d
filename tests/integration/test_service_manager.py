"""The rendered unit under a real systemd user manager, in namespaces of its own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

SYSTEMD = next((p for p in ("/usr/lib/systemd/systemd", "/lib/systemd/systemd") if Path(p).exists()), None)

#: Stands for the daemon: notes what it was given, starts something that should outlive it, and obeys.
DAEMON = """#!{python}
import sys
sys.path[:] = {path!r}
import json, os, signal, subprocess
from pathlib import Path
from tasks.notify import Notifier
inherited = sorted(set(os.environ) & {{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}})
notifier = Notifier.from_environment()
agent = subprocess.Popen(["sleep", "600"], start_new_session=True, stdin=subprocess.DEVNULL)
told = {{
    "argv": sys.argv, "environ": dict(os.environ), "inherited": inherited, "pid": os.getpid(), "agent": agent.pid,
    "watchdog": notifier.watchdog_interval, "umask": os.umask(0o77), "safe_path": sys.flags.safe_path,
}}
data = Path(os.environ["TASKSD_DATA_DIR"])
data.mkdir(exist_ok=True)
number = len(list(data.iterdir()))
(data / "new").write_text(json.dumps(told))
(data / "new").rename(data / str(number))
def reload(*_):
    notifier.reloading()
    notifier.ready("reloaded")
def stop(*_):
    notifier.stopping()
    sys.exit(0)
signal.signal(signal.SIGHUP, reload)
signal.signal(signal.SIGTERM, stop)
notifier.ready("ok 0 sessions")
while True:
    signal.pause()
"""

SCRIPT = """
import sys
sys.path[:] = {path!r}
import json, os, subprocess, time
from pathlib import Path
from tasks.config import load
from tasks.install.service import install, plan, status, uninstall

root = Path({root!r})
if subprocess.run(["mount", "-t", "tmpfs", "none", "/run"]).returncode:
    print(json.dumps({{"skip": "mount is not permitted"}})); raise SystemExit
os.makedirs("/run/systemd/system")
runtime = f"/run/user/{{os.getuid()}}"
os.makedirs(runtime, mode=0o700)
environ = {{"HOME": str(root / "home"), "PATH": f"{{root}}/tools:/usr/bin:/bin", "XDG_RUNTIME_DIR": runtime}}
log = open(root / "log", "w")
manager = subprocess.Popen([{systemd!r}, "--user", "--log-target=console"], env=environ, stdout=log, stderr=log)
def systemctl(*arguments):
    done = subprocess.run(["systemctl", "--user", *arguments], env=environ, capture_output=True, text=True)
    return done.stdout.strip()
def wait_for(condition, what):
    end = time.monotonic() + 20
    while not condition():
        if manager.poll() is not None or time.monotonic() > end:
            print(json.dumps({{"skip": what + ": " + (root / "log").read_text()[-300:]}})); raise SystemExit
        time.sleep(0.05)
wait_for(lambda: systemctl("show", "--property=Version"), "no user manager starts here")

def planned(data):
    settings = load(data_dir=root / data, environ=environ)
    return plan(settings, environ=environ, executable=str(root / {folder!r} / "python"))
def summary(outcome):
    return [outcome.change, list(outcome.remaining), list(outcome.warnings)]
def alive(pid):
    return subprocess.run(["kill", "-0", str(pid)], capture_output=True).returncode == 0
def notes(data, number=0):
    return json.loads((root / data / str(number)).read_text())
def seen(found):
    return [found.installed, found.ours, found.current, found.state.enabled, found.state.active]
def state(*names):
    said = systemctl("show", "tasksd.service", *["-p" + name for name in names])
    return dict(line.split("=", 1) for line in said.splitlines())

report = {{"before": seen(status(planned("d 1%i$X"), environ=environ))}}
report["first"] = summary(install(planned("d 1%i$X"), environ=environ))
report["told"] = told = notes("d 1%i$X")
report["state"] = state("StatusText", "NRestarts", "WatchdogUSec", "KillMode")
report["status"] = seen(status(planned("d 1%i$X"), environ=environ))
report["again"] = summary(install(planned("d 1%i$X"), environ=environ))
systemctl("reload", "tasksd.service")
report["reloaded"] = state("StatusText", "MainPID")
report["runtime"] = oct(os.stat(runtime + "/tasksd").st_mode & 0o777)
os.kill(told["pid"], 9)
end = time.monotonic() + 20
while not (root / "d 1%i$X" / "1").exists() and time.monotonic() < end: time.sleep(0.05)
report["second pid"] = notes("d 1%i$X", 1)["pid"]
report["agent outlives a crash"] = alive(told["agent"])
report["update"] = summary(install(planned("d2"), environ=environ))
report["updated pid"] = notes("d2")["pid"]
report["agent outlives an update"] = alive(told["agent"]) and alive(notes("d 1%i$X", 1)["agent"])
report["removed"] = summary(uninstall(environ=environ))
report["stopped"] = not alive(notes("d2")["pid"])
report["agent outlives the removal"] = alive(notes("d2")["agent"])
report["left"] = [str(p) for p in (root / "home/.config").rglob("*") if not p.is_dir() or p.is_symlink()]
report["after"] = seen(status(planned("d2"), environ=environ))
systemctl("exit")
print(json.dumps(report))
"""


@pytest.fixture
def cgroups() -> Iterator[None]:
    """A user manager makes groups of its own beside ours and leaves them; they go with the test."""
    names = ("init.scope", "app.slice", "session.slice", "background.slice")

    def present() -> set[Path]:
        return {group for name in names for group in Path("/sys/fs/cgroup").glob(f"*/{name}")}

    before = present()
    yield
    for group in present() - before:
        for inner in [*sorted((entry for entry in group.rglob("*") if entry.is_dir()), reverse=True), group]:
            with suppress(OSError):
                inner.rmdir()


@pytest.fixture
def report(tmp_path: Path, cgroups: None) -> dict[str, Any]:
    """What a script saw that installed, updated and removed the service under a real manager."""
    if SYSTEMD is None or shutil.which("unshare") is None or shutil.which("systemctl") is None:
        pytest.skip("systemd is not installed here")
    if os.geteuid() != 0:
        pytest.skip("namespaces with a user manager need root")
    if Path("/run/systemd/system").exists():
        pytest.skip("the control groups here belong to a systemd that runs")
    folder = "a b$HOME ${HOME} 100%h ü"
    for name in (folder, "tools", "home"):
        (tmp_path / name).mkdir()
    command = tmp_path / folder / "tasksd"
    command.write_text(DAEMON.format(python=sys.executable, path=sys.path))
    command.chmod(0o755)
    (tmp_path / "tools/claude").symlink_to(shutil.which("true") or "/bin/true")
    script = SCRIPT.format(path=sys.path, root=str(tmp_path), systemd=SYSTEMD, folder=folder)
    prefix = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("namespaces are not permitted here")
    done = subprocess.run(
        [*prefix, sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if "skip" in found:
        pytest.skip(found["skip"])
    return found | {"command": str(command), "root": str(tmp_path)}


def test_a_real_user_manager_runs_restarts_updates_and_removes_the_service(report: dict[str, Any]) -> None:
    told, root = report["told"], report["root"]
    assert report["before"] == [False, False, False, False, False]
    assert report["first"] == ["installed", [], []]
    assert told["argv"] == [report["command"], "up"]
    assert told["environ"]["PATH"].split(":")[0] == f"{root}/tools"
    assert told["environ"]["TASKSD_DATA_DIR"] == f"{root}/d 1%i$X"
    assert told["environ"]["PYTHONSAFEPATH"] == "1"
    assert told["safe_path"] is True
    assert told["inherited"] == ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"]
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "PYTHONPATH"} & set(told["environ"])
    assert told["watchdog"] == 15.0
    assert told["umask"] == 0o22  # that of its user: the daemon makes its own files private itself
    assert report["state"] == {
        "StatusText": "ok 0 sessions",
        "NRestarts": "0",
        "WatchdogUSec": "30s",
        "KillMode": "process",
    }
    assert report["status"] == [True, True, True, True, True]
    assert report["again"] == ["unchanged", [], []]
    assert report["reloaded"] == {"StatusText": "reloaded", "MainPID": str(told["pid"])}
    assert report["runtime"] == "0o700"
    assert report["second pid"] != told["pid"]
    assert report["agent outlives a crash"]
    assert report["update"] == ["updated", [], []]
    assert report["updated pid"] != report["second pid"]
    assert report["agent outlives an update"]
    assert report["removed"] == ["removed", [], []]
    assert report["stopped"]
    assert report["agent outlives the removal"]
    assert report["left"] == []
    assert report["after"] == [False, False, False, False, False]
