"""The page: what it costs to draw, to keep open, and to carry.

First paint of `now`, with many stored calls against an empty database: the answer of the daemon, and the first paint in
Chromium (where it is installed). Fifty open pages at 20 events a second: processor time of the daemon against the same
without anybody looking, and the time to drain a backlog. Page weight: all bytes that a browser gets for a page.
Run: python tests/benchmarks/bench_web.py [calls] [--filled FOLDER]   (10,000,000 calls take 10 minutes and 10 GB)
"""

import argparse
import http.client
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filled import fill  # type: ignore[import-not-found]

TICKS = os.sysconf("SC_CLK_TCK")
PAGES, RATE, SPAN = 50, 20, 20.0  # open pages, events a second, seconds
BACKLOG = 10_000
PASSWORD = "quite a long password"
PATHS = ("/", "/tasks", "/sessions", "/tools", "/costs", "/files", "/pool", "/settings")
#: Waits for it, without what the page's policy forbids.
PAINTED = """new Promise((resolve) => new PerformanceObserver((list) => {
    for (const one of list.getEntries()) if (one.name === "first-contentful-paint") resolve(one.startTime);
}).observe({ type: "paint", buffered: true }))"""
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@dataclass
class Site:
    process: "subprocess.Popen[bytes]"
    data: Path
    port: int
    cookie: str = ""

    def get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path, headers={"Cookie": self.cookie, "Accept": "text/html"})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, body

    def log_in(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/login", f"username=ada&password={PASSWORD.replace(' ', '+')}", headers)
        answer = connection.getresponse()
        answer.read()
        self.cookie = (answer.getheader("set-cookie") or "").split(";")[0]
        connection.close()

    def processor_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def record(self, number: int, *, at: str = "live") -> None:
        """One event in the spool, as hooks/record leaves it."""
        payload = {
            "session_id": f"bench-{number % 8}", "hook_event_name": "PreToolUse", "cwd": "/srv/bench", "tool_name": "Bash",
            "transcript_path": "/nowhere.jsonl", "tool_use_id": f"{at}{number}",
            "tool_input": {"command": f"make test-{number}"},
        }  # fmt: skip
        file = (
            self.data
            / "spool"
            / f"-.{os.getpid()}.{os.getpid()}.{at}{number}.json".replace(at, str(abs(hash(at)) % 1000))
        )
        file.write_text(json.dumps(payload))
        file.chmod(0o600)

    def stored(self) -> int:
        connection = http.client.HTTPConnection("tasksd", timeout=60)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.data / "tasksd.sock"))
        connection.request("GET", "/v1/status")
        number = json.loads(connection.getresponse().read())["ingest"]["events_total"]
        connection.close()
        return int(number)


@contextmanager
def site(data: Path) -> Iterator[Site]:
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(data),
        "TASKSD_DATA_DIR": str(data),
        "TASKSD_WEB_PASSWORD_COST": "8",
    }
    program = str(Path(sys.executable).with_name("tasksd"))
    subprocess.run([program, "users", "add", "ada"], env=environ, input=f"{PASSWORD}\n", text=True, check=False,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    log = data / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen([program, "up", "--web-port", "0"], env=environ, stderr=stderr)
    try:
        deadline = time.monotonic() + 60
        while (found := re.search(r"url=http://127\.0\.0\.1:(\d+)[\s\S]* ready ", log.read_text())) is None:
            if time.monotonic() > deadline or process.poll() is not None:
                raise SystemExit(f"the daemon did not start:\n{log.read_text()}")
            time.sleep(0.05)
        made = Site(process, data, int(found[1]))
        made.log_in()
        yield made
    finally:
        process.terminate()
        process.wait(30)


def answer_ms(made: Site, path: str, tries: int = 25) -> float:
    """The median time of an answer that is not out of anything kept."""
    times = []
    for _ in range(tries):
        started = time.perf_counter()
        status, _ = made.get(path)
        times.append(time.perf_counter() - started)
        if status != 200:
            raise SystemExit(f"GET {path} answered {status}")
    return statistics.median(times) * 1e3


def first_answer_ms(made: Site, path: str) -> float:
    started = time.perf_counter()
    made.get(path)
    return (time.perf_counter() - started) * 1e3


def paint_ms(made: Site, tries: int = 9) -> float | None:
    """Median first contentful paint of `now` in Chromium."""
    if CHROMIUM is None:
        return None
    from playwright.sync_api import sync_playwright

    name, value = made.cookie.split("=", 1)
    times = []
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        context = browser.new_context()
        context.add_cookies([{"name": name, "value": value, "url": f"http://127.0.0.1:{made.port}"}])
        for _ in range(tries):
            page = context.new_page()
            page.goto(f"http://127.0.0.1:{made.port}/")
            times.append(page.evaluate(PAINTED))
            page.close()
        browser.close()
    return float(statistics.median(times))


def weight(made: Site, path: str) -> int:
    _, page = made.get(path)
    assets = {one.decode() for one in re.findall(rb'(?:src|href)="(/assets/[^"]+)"', page)}
    return len(page) + sum(len(made.get(one)[1]) for one in assets)


class Watchers:
    """Connections that follow `now` as open pages do, and throw away what they get."""

    def __init__(self, made: Site, number: int) -> None:
        self._sockets = []
        for _ in range(number):
            connection = socket.create_connection(("127.0.0.1", made.port), 30)
            host = f"Host: 127.0.0.1:{made.port}\r\nCookie: {made.cookie}"
            connection.sendall(f"GET / HTTP/1.1\r\n{host}\r\nAccept: text/event-stream\r\n\r\n".encode())
            self._sockets.append(connection)
        self.bytes = [0] * number
        self._threads = [threading.Thread(target=self._read, args=(n,), daemon=True) for n in range(number)]
        for thread in self._threads:
            thread.start()

    def _read(self, number: int) -> None:
        while piece := self._sockets[number].recv(1 << 16):
            self.bytes[number] += len(piece)

    def close(self) -> None:
        for connection in self._sockets:
            connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for connection in self._sockets:
            connection.close()


def live_percent(made: Site, at: str) -> float:
    """Processor time of the daemon at RATE events a second, in percent of a core."""
    before, started = made.processor_seconds(), time.monotonic()
    for number in range(int(RATE * SPAN)):
        time.sleep(max(0.0, started + number / RATE - time.monotonic()))
        made.record(number, at=at)
    return (made.processor_seconds() - before) / (time.monotonic() - started) * 100


def drain_seconds(made: Site, at: str) -> float:
    """From a backlog on disk to all of it stored."""
    aside = made.data / "aside"
    aside.mkdir()
    spool = made.data / "spool"
    before = made.stored()
    for number in range(BACKLOG):
        file = aside / f"-.{os.getpid()}.{abs(hash(at)) % 10_000}.{number}.json"
        file.write_text(json.dumps({"session_id": f"drain-{number % 8}", "hook_event_name": "Notification", "cwd": "/srv/bench",
                                    "transcript_path": "/nowhere.jsonl", "message": f"{at} {number}"}))  # fmt: skip
        file.chmod(0o600)
    started = time.perf_counter()
    for file in list(aside.iterdir()):
        file.rename(spool / file.name)
    while made.stored() < before + BACKLOG:
        time.sleep(0.05)
    aside.rmdir()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("calls", type=int, nargs="?", default=200_000)
    parser.add_argument("--filled", type=Path, help="a folder that tests/benchmarks/filled.py has filled")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        empty, full = Path(folder) / "empty", options.filled or Path(folder) / "full"
        empty.mkdir(mode=0o700)
        if options.filled is None:
            full.mkdir(mode=0o700)
            fill(full, options.calls)
        with site(empty) as bare:
            floor, floor_first, floor_paint = answer_ms(bare, "/"), first_answer_ms(bare, "/"), paint_ms(bare)
            _live(bare)
        with site(full) as made:
            first, usual, paint = first_answer_ms(made, "/"), answer_ms(made, "/"), paint_ms(made)
            print(
                f"`now`, answer with {options.calls:,} calls ÷ empty: {usual / floor:.2f} ({usual:.1f} ms ÷ {floor:.1f} ms)"
            )
            print(f"  the very first one after the start: {first:.0f} ms (empty: {floor_first:.0f} ms)")
            if paint and floor_paint:
                times = f"{paint:.0f} ms ÷ {floor_paint:.0f} ms"
                print(f"  first paint in Chromium ÷ empty: {paint / floor_paint:.2f} ({times}; limit 2)")
            for path in PATHS:
                print(
                    f"{path:<10} {weight(made, path) / 1000:6.1f} KB (limit 300), answered in {answer_ms(made, path, 5):.1f} ms"
                )


def _live(made: Site) -> None:
    alone, drained = live_percent(made, "a"), drain_seconds(made, "a")
    watchers = Watchers(made, PAGES)
    watched, held_up = live_percent(made, "b"), drain_seconds(made, "b")
    received = sum(watchers.bytes) / PAGES / 1000
    watchers.close()
    again = drain_seconds(made, "c")
    floor = min(drained, again)
    print(
        f"{PAGES} open pages at {RATE} events/s: {watched - alone:.1f} % of a core more (limit 10; {alone:.1f} without), "
        f"{received:.0f} KB to each"
    )
    print(
        f"draining {BACKLOG:,} events with them ÷ without: {held_up / floor:.2f} ({held_up:.2f} s ÷ {floor:.2f} s; limit 1.10)"
    )


if __name__ == "__main__":
    main()
