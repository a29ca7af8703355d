"""The pictures of README.md, taken of a running demo. Run: python tests/screenshots.py [folder]   (docs/ if none is named)

Starts `tasksd demo` in a folder of its own, waits until its week is stored, and ends it again.
"""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

#: file → (page, width, height, colours)
PICTURES = {
    "now.png": ("/", 1280, 860, "light"),
    "costs.png": ("/costs?days=7", 1280, 900, "light"),
    "task.png": ("{conflict}", 1280, 860, "light"),
}
START = 180.0  # seconds


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "docs")
    browser_path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser_path is None:
        raise SystemExit("no Chromium here: apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="shots-") as place:
        program = Path(sys.executable).with_name("tasksd")
        demo = subprocess.Popen(
            [program, "demo", "--no-browser", "--keep", f"{place}/demo"], stdout=subprocess.PIPE, text=True
        )
        try:
            url, password = _said(demo)
            data = Path(place) / "demo/data"
            _wait_for_history(data)
            conflict = _ask(data, "/v1/status")["tasks"]["conflicts"][0]
            with sync_playwright() as driver:
                browser = driver.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
                for name, (path, width, height, scheme) in PICTURES.items():
                    context = browser.new_context(
                        viewport={"width": width, "height": height},
                        color_scheme="dark" if scheme == "dark" else "light",
                        device_scale_factor=1.5 if width > 500 else 2,
                    )
                    page = context.new_page()
                    page.goto(f"{url}/login")
                    page.get_by_label("User").fill("demo")
                    page.get_by_label("Password").fill(password)
                    page.get_by_role("button", name="Log in").click()
                    page.wait_for_selector("h1:has-text('Now')")
                    page.goto(url + path.format(conflict=f"/tasks/{conflict}?view=conflict"))
                    page.wait_for_selector("#link[data-state=live]")
                    page.wait_for_timeout(1500)  # times are told, the first change has come
                    page.screenshot(path=folder / name)
                    print(folder / name)
                    context.close()
                browser.close()
        finally:
            demo.send_signal(signal.SIGINT)
            demo.wait(60)


def _said(demo: "subprocess.Popen[str]") -> tuple[str, str]:
    """Where the page is, and the password."""
    assert demo.stdout is not None
    text = ""
    for line in demo.stdout:
        text += line
        url, password = re.search(r"(http://[^\s/]+)", text), re.search(r"demo, password (\S+)", text)
        if url and password:
            return url[1], password[1]
    raise SystemExit(f"the demo did not start: {text}")


def _ask(data: Path, path: str) -> Any:
    connection = HTTPConnection("tasksd", timeout=30)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(data / "tasksd.sock"))
    connection.request("GET", path)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer


def _wait_for_history(data: Path) -> None:
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        status = _ask(data, "/v1/status")
        running = status["tasks"]["statuses"]["running"]
        if not status["spool"]["pending"] and running and status["tasks"]["conflicts"]:
            break
        time.sleep(1)
    time.sleep(20)  # the agents get to work


if __name__ == "__main__":
    main()
