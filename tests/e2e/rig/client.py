"""The real Claude Code client, isolated: its own HOME, its own repository, a clean environment, a scripted API.

Nothing but loopback is needed. To make sure that nothing else is reached either, run the whole suite in a network of
its own: `unshare -rn sh -c 'ip link set lo up; exec pytest tests/e2e'`.
"""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .waiting import until

#: Set for the client and so for everything it starts: what survives the client can be found and ended.
RUN_VARIABLE = "TASKSD_E2E_RUN"
#: Bash and the edit tools may run; everything else that asks is denied, since nobody answers in print mode.
DEFAULT_ARGS = ("--model", "sonnet", "--permission-mode", "acceptEdits", "--allowedTools", "Bash")


def find_client() -> Path | None:
    """The client bundled with claude_agent_sdk, else `claude` on PATH, else None."""
    spec = importlib.util.find_spec("claude_agent_sdk")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "_bundled" / "claude"
        if bundled.is_file():
            return bundled
    found = shutil.which("claude")
    return Path(found) if found else None


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run of the client."""

    returncode: int
    pid: int
    #: the stream-json lines of its stdout, in order
    lines: Sequence[Mapping[str, Any]]
    stderr: str

    @property
    def session_id(self) -> str:
        return next(str(line["session_id"]) for line in self.lines if "session_id" in line)

    @property
    def result(self) -> Mapping[str, Any]:
        """The last `result` line."""
        return [line for line in self.lines if line.get("type") == "result"][-1]

    @property
    def tool_results(self) -> Mapping[str, Mapping[str, Any]]:
        """tool_use_id → tool_result block, as the model was told."""
        return {block["tool_use_id"]: block for line in self.lines for block in _tool_results(line)}


@dataclass
class Process:
    """A client that may still run."""

    popen: subprocess.Popen[bytes]
    output: Path
    errors: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    def lines(self) -> list[Mapping[str, Any]]:
        """The complete stdout lines so far."""
        text = self.output.read_text(encoding="utf-8", errors="replace")
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].split("\n") if line.startswith("{")]

    def session_id(self) -> str:
        """The session's id, as soon as the client has said it."""
        first = until(lambda: [line for line in self.lines() if "session_id" in line], "the client's first line")
        return str(first[0]["session_id"])

    def say(self, prompt: str) -> None:
        """Send a further prompt. Only for a client started with `conversation=True`."""
        assert self.popen.stdin is not None
        line = {"type": "user", "message": {"role": "user", "content": [{"type": "text", "text": prompt}]}}
        self.popen.stdin.write(json.dumps(line).encode() + b"\n")
        self.popen.stdin.flush()

    def wait_results(self, count: int, *, timeout: float = 60.0) -> None:
        """Return once the client has written so many `result` lines."""

        def done() -> bool:
            results = sum(line.get("type") == "result" for line in self.lines())
            return results >= count or self.popen.poll() is not None

        until(done, f"result line {count} of the client", timeout=timeout)

    def interrupt(self) -> None:
        """What Ctrl-C sends."""
        self.popen.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL: the client can tell nobody."""
        self.popen.kill()

    def finish(self, *, timeout: float = 60.0) -> Run:
        """Close its input, wait for its end and return what it said; AssertionError after `timeout` seconds."""
        if self.popen.stdin is not None:
            self.popen.stdin.close()
        try:
            returncode = self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            self.popen.wait()
            said = "\n".join(json.dumps(line)[:300] for line in self.lines()[-5:])
            raise AssertionError(f"the client did not end within {timeout:g} s; its last lines:\n{said}") from None
        return Run(returncode, self.pid, self.lines(), self.errors.read_text(encoding="utf-8", errors="replace"))


@dataclass
class Client:
    """Starts the client in `root`: `home/` is its HOME, `project/` its repository, `runs/` what it printed."""

    binary: Path
    api_url: str
    root: Path
    env: Mapping[str, str] = field(default_factory=dict)
    _marker: str = field(default_factory=lambda: uuid.uuid4().hex)
    _started: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        for directory in (self.home / ".claude", self.project, self.root / "runs", self.root / "tmp"):
            directory.mkdir(parents=True)
        git = ("git", "-C", str(self.project), "-c", "user.name=Test", "-c", "user.email=test@example.invalid")
        subprocess.run([*git, "init", "--quiet"], check=True, env=self.environment())
        commit = ["commit", "--quiet", "--allow-empty", "-m", "Start"]
        subprocess.run([*git, *commit], check=True, env=self.environment())

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def project(self) -> Path:
        return self.root / "project"

    @property
    def settings_file(self) -> Path:
        """The settings of its user."""
        return self.home / ".claude" / "settings.json"

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The whole environment of a run: nothing is inherited but PATH."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            # What its background commands print goes there, outside HOME.
            "CLAUDE_CODE_TMPDIR": str(self.root / "tmp"),
            "ANTHROPIC_BASE_URL": self.api_url,
            "ANTHROPIC_API_KEY": "scripted",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
            **({"IS_SANDBOX": "1"} if os.geteuid() == 0 else {}),
            RUN_VARIABLE: self._marker,
            **self.env,
            **(extra or {}),
        }

    def run(
        self,
        prompt: str,
        *,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
        timeout: float = 60.0,
    ) -> Run:
        """Run one prompt to its end. `args` come after DEFAULT_ARGS, `settings` add to those of its user."""
        return self.start(prompt, args=args, env=env, settings=settings).finish(timeout=timeout)

    def start(
        self,
        prompt: str,
        *,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
        conversation: bool = False,
    ) -> Process:
        """Start the client and return at once. With `conversation` it takes further prompts (`Process.say`)."""
        output = self.root / "runs" / f"{len(self._started)}.jsonl"
        errors = output.with_suffix(".stderr")
        command = [str(self.binary), "-p", "--output-format", "stream-json", "--verbose", *DEFAULT_ARGS, *args]
        if settings is not None:
            command += ["--settings", json.dumps(settings)]
        # `--` because --allowedTools takes every word that follows it.
        command += ["--input-format", "stream-json"] if conversation else ["--", prompt]
        with output.open("wb") as stdout, errors.open("wb") as stderr:
            popen = subprocess.Popen(
                command,
                cwd=self.project,
                env=self.environment(env),
                stdin=subprocess.PIPE if conversation else subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        process = Process(popen, output, errors)
        self._started.append(process)
        if conversation:
            process.say(prompt)
        return process

    def close(self) -> None:
        """End what still runs: the clients, then the hooks and Bash children that carry this client's marker."""
        for process in self._started:
            if process.popen.poll() is None:
                process.kill()
                process.popen.wait()
            if process.popen.stdin is not None:
                process.popen.stdin.close()
        for pid in self.survivors():
            _kill(pid)

    def survivors(self) -> list[int]:
        """The pids of living processes that this client's runs left behind (where /proc tells, so on Linux)."""
        mark = f"{RUN_VARIABLE}={self._marker}".encode()
        return [pid for pid, environment in _environments() if mark in environment]


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _environments() -> Iterator[tuple[int, bytes]]:
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        yield int(entry.name), environment


def _tool_results(line: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if line.get("type") != "user":
        return
    content = line["message"]["content"]
    for block in content if isinstance(content, list) else []:
        if block.get("type") == "tool_result":
            yield block
