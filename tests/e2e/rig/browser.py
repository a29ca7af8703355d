"""A person at a browser: Debian's Chromium, driven by Playwright, before the page of a real daemon whose agents are shells.

Whatever a page asks of another server, says on the console as an error or fails to load is a fault, at the end of every test.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, Request, sync_playwright
from tasks import assets

from tests.integration.desk import COMMAND, TIMEOUT, Desk, until

PASSWORD = "correct horse battery"
#: name → role
PEOPLE = {"ada": "admin", "olga": "operator", "vic": "viewer"}
#: Milliseconds that anything on a page may take before it counts as missing; machines are shared.
PATIENCE = 15_000
#: No browser in a sandbox of its own under root; and nothing that it does for itself.
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--font-render-hinting=none",
)  # fmt: skip


def chromium() -> str:
    """Its path; without one the test is skipped."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("no Chromium here: apt-get install chromium")


class Site:
    """The page of a daemon, and what happens behind it."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.url = ""

    def open(self) -> None:
        """Make people, and start."""
        with (self.desk.folder / ".config/tasksd/config.toml").open("a") as config:
            config.write("[web]\nenabled = true\nport = 0\npassword_cost = 4\n")
        for name, role in PEOPLE.items():
            self.desk.run("users", "add", name, "--role", role, input=f"{PASSWORD}\n")
        self.start()

    def start(self) -> None:
        self.desk.start()
        self.url = str(self.desk.ask("GET", "/v1/status")[2]["web"])
        assert self.url.startswith("http://127.0.0.1:"), self.url

    def record(
        self, event: str, session: str = "11111111-aaaa-4bbb-8ccc-222222222222", task: str = "", **fields: Any
    ) -> None:
        """One event, through the hook as the client starts it."""
        payload = {
            "session_id": session, "transcript_path": f"{self.desk.folder}/none.jsonl", "cwd": str(self.desk.repository),
            "hook_event_name": event, **fields,
        }  # fmt: skip
        environ = {"PATH": self.desk.environ["PATH"], "TASKSD_DATA_DIR": str(self.desk.data)}
        if task:
            environ["TASKS_TASK_ID"] = task
        subprocess.run(
            [assets.path("hooks/record")], input=json.dumps(payload).encode() + b"\n", env=environ, check=True,
            timeout=TIMEOUT,
        )  # fmt: skip


class Person:
    """Somebody with a browser window of their own. `faults` is what must not have happened."""

    def __init__(self, context: BrowserContext, site: Site) -> None:
        self.site = site
        self.context = context
        self.faults: list[str] = []
        context.set_default_timeout(PATIENCE)
        context.on("request", self._look)
        self.page = self._watch(context.new_page())

    def _watch(self, page: Page) -> Page:
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        page.on("requestfailed", self._failed)
        return page

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.faults.append(f"console: {message.text}")

    def _look(self, request: Request) -> None:
        if not request.url.startswith((self.site.url + "/", "data:", "blob:", "about:")):
            self.faults.append(f"asked elsewhere: {request.url}")

    def _failed(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # a stream that was closed, a page that was left
            self.faults.append(f"failed: {request.url}: {request.failure}")

    def another_page(self) -> Page:
        return self._watch(self.context.new_page())

    def forgive(self, *parts: str) -> None:
        """What this test does on purpose: the browser reports answers of 4xx as errors."""
        self.faults = [one for one in self.faults if not any(part in one for part in parts)]

    def go(self, path: str) -> Page:
        self.page.goto(self.site.url + path)
        return self.page

    def log_in(self, name: str, password: str = PASSWORD) -> Page:
        page = self.go("/login")
        page.get_by_label("User").fill(name)
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Log in").click()
        return page

    def where(self) -> str:
        return urlsplit(self.page.url).path


def unfold(page: Page) -> None:
    """Open the form for a new task, on /tasks; an empty list has it open."""
    if not page.locator("#new").evaluate("element => element.open"):
        page.locator("#new > summary").click()


@contextmanager
def playing() -> Iterator[Browser]:
    path = chromium()
    driver: Playwright
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


@contextmanager
def site_in(folder: Path, **settings: int) -> Iterator[Site]:
    made = Site(Desk(folder, **settings))
    try:
        made.open()
        yield made
    finally:
        made.desk.close()


__all__ = [
    "COMMAND",
    "PASSWORD",
    "PATIENCE",
    "PEOPLE",
    "Person",
    "Site",
    "chromium",
    "playing",
    "site_in",
    "unfold",
    "until",
]
